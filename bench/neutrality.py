"""How long a proof takes that lots are fair, with NumPy and without."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sortition.neutrality.numbers import Numbers, Plain, Vector
from sortition.neutrality.proof import BLIND, FAIR, SEED, prove

from bench.harness.report import Argument, Options, Row, at_most, run, say

BAR_SECONDS = 60.0


def salts(flags: int) -> dict[str, str]:
    """Return flags with salts as the server draws them: 64 bits, in hex."""
    return {f"flag-{i}": f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in range(1, flags + 1)}


def seconds(numbers: Numbers, flags: int, ids: int) -> float:
    """Return how long a whole proof takes, which must not find our lot unfair."""
    say(f"proving {flags} flags with {ids:,} ids of each shape, with {numbers.name}")
    began = time.monotonic()
    made = prove(salts(flags), numbers, ids=ids, seed=SEED, tell=lambda _: None)
    took = time.monotonic() - began
    # A tiny budget has too few ids to find the unfair lots, and says so.
    assert made.kind == FAIR or (made.kind == BLIND and ids < 100_000), made.verdicts
    return took


def measure(options: Options) -> Iterator[Row]:
    """Prove with and without NumPy."""
    flags = options.of(quick=2, whole=options.given["flags"])
    ids = options.of(quick=1_000, whole=options.given["ids"])
    fast = seconds(Vector(), flags, ids)
    what = f"a proof for {flags} flags, {ids:,} ids of each of five shapes, with NumPy"
    yield Row("prove", what, fast, "s", at_most(BAR_SECONDS))
    # One flag instead of ten, for it takes minutes.
    slow, same = seconds(Plain(), 1, ids), seconds(Vector(), 1, ids)
    what = f"a proof for one flag, {ids:,} ids of each of five shapes, without NumPy"
    yield Row("plain", what, slow, "s", note=f"with NumPy {same:.1f} s")


if __name__ == "__main__":
    run(
        measure,
        title="How long it takes to prove that lots are fair",
        method="Whole proofs in one process and one thread: ids, draws, all checks of all flags "
        f"and pairs, and the three unfair lots. NumPy {importlib.metadata.version('numpy')}.",
        arguments=[
            Argument("flags", 10, "how many flags"),
            Argument("ids", 1_000_000, "how many ids of each shape"),
        ],
    )
