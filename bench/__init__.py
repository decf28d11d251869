"""What Sortition costs: each file here measures one thing against its bar and prints a table.

    .venv/bin/python bench/evaluate.py [--check] [--json] [--quick]

`make bench` runs them all and writes docs/reference/benchmarks.md.
"""
