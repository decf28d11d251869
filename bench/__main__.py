"""Run every benchmark, one after the other, and write docs/reference/benchmarks.md.

python -m bench             what `make bench` does
python -m bench --check     and exit 1 when a bar is missed
python -m bench --quick     with tiny budgets, to see that all of them run; writes no page
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.harness.report import Row, facts_line, table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "benchmarks.md"
TIMEOUT_SECONDS = 900

RUNS: tuple[tuple[str, ...], ...] = (
    ("evaluate.py",),
    ("import.py",),
    ("delta.py",),
    ("propagation.py",),
    ("serving.py",),
    ("streams.py",),
    # Without another design, so it is run; the bars are for 2,000.
    ("streams.py", "--streams", "10000", "--events", "40"),
    ("herd.py",),
    ("controller.py",),
    ("split.py",),
    ("pages.py",),
    ("judgement.py",),
    ("record.py",),
    ("neutrality.py",),
)

INTRODUCTION = """\
Written by `make bench`; do not edit. Each file in `bench/` runs by itself, and with `--check` exits
1 when a bar is missed. Ratios are taken in one run, in turns, as medians; absolute figures are of
one machine, on which the clients ran as well."""

Found = Mapping[str, Any]


def main() -> None:
    """Run them all and tell what was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run every benchmark.")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    parser.add_argument("--quick", action="store_true", help="tiny budgets, no page")
    told = parser.parse_args()
    runs = RUNS if not told.quick else tuple(run for run in RUNS if len(run) == 1)
    results = [one(run, quick=told.quick) for run in runs]
    if not told.quick:
        PAGE.write_text(page(results, datetime.now(UTC)))
        print(f"Written: {PAGE.relative_to(ROOT)}")
    missed = misses(results)
    print("\n".join(["Missed:", *missed]) if missed else "Every bar was met.")
    sys.exit(1 if told.check and missed else 0)


def one(run: Sequence[str], *, quick: bool) -> Found:
    """Run one benchmark, show its table, and return what it found."""
    name, *arguments = run
    print(f"{' '.join(run)} ...", file=sys.stderr, flush=True)
    command = [sys.executable, str(ROOT / "bench" / name), *arguments, "--json"]
    done = subprocess.run(
        [*command, *(["--quick"] if quick else [])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} ended with status {done.returncode}")
    found: Found = json.loads(done.stdout)
    print(f"{heading(found)}\n{table(rows(found))}\n", flush=True)
    return found


def rows(found: Found) -> list[Row]:
    """Return the rows of one run."""
    return [Row.from_json(row) for row in found["rows"]]


def heading(found: Found) -> str:
    """Return what a run is called; what it was asked for besides stands behind."""
    asked = ", ".join(f"{number:,} {name}" for name, number in found["asked"].items())
    return f"{found['title']}: {asked}" if asked else str(found["title"])


def misses(results: Sequence[Found]) -> list[str]:
    """Return one line for each bar that was missed."""
    return [
        f"- {heading(found)}: {what}: {figure}, bar {bar}"
        for found in results
        for row in rows(found)
        if row.met is False
        for what, figure, bar, _ in [row.cells()]
    ]


def page(results: Sequence[Found], at: datetime) -> str:
    """Return the page for people."""
    missed = misses(results)
    summary = "\n".join(["Missed in this run:", "", *missed]) if missed else "Every bar was met."
    parts = ["# Benchmarks", INTRODUCTION, f"{at:%Y-%m-%d}. {summary}"]
    for found in results:
        parts += [f"## {heading(found)}", found["method"], table(rows(found))]
        parts.append(facts_line(found["facts"]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
