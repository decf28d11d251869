"""What the benchmarks share: places, interleaved rounds, real servers, streams, tables.

Ratios are taken in one run: cases take turns in random order, so that a busy minute of the machine
falls on all of them, and medians are compared. A figure in nanoseconds is this machine's only.
"""
