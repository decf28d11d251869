"""What the SDK takes of its host: to import, in threads, in memory."""  # noqa: N999 (never imported)

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sortition.testing import FakeServer

from bench.harness import places
from bench.harness.report import Options, Row, at_most, run, say

MB = 1e6

BARE = ""
IMPORT = "import sortition"
FOLLOW = """
import gc, sortition
client = sortition.Client()
if not client.wait_ready(60):
    raise SystemExit("the client did not become ready")
while client.status().age is None:
    time.sleep(0.01)
gc.collect()
"""
TELL = """
cpu = time.process_time_ns()
rollup = dict(line.split()[:2] for line in open("/proc/self/smaps_rollup") if "kB" in line)
own = int(rollup["Private_Clean:"]) + int(rollup["Private_Dirty:"])
threads = len(os.listdir("/proc/self/task"))
print(cpu / 1e6, int(rollup["Rss:"]) * 1024, own * 1024, threads, flush=True)
os._exit(0)
"""
"""CPU time in ms since the process began; resident and private octets; threads of the system."""


class Probe:
    """A program in fresh processes, and what each of them took.

    cpu, resident, own, threads: one figure for each process, as TELL says.
    """

    def __init__(self, python: Path, program: str, server: FakeServer | None = None) -> None:
        # Every interpreter has these two already; the measuring brings no module of its own.
        self._command = [str(python), "-I", "-c", f"import os, time\n{program}\n{TELL}"]
        told = {} if server is None else {"SORTITION_URL": server.url, "SORTITION_KEY": server.key}
        self._environment = {"PATH": os.environ.get("PATH", ""), **told}
        self.cpu: list[float] = []
        self.resident: list[float] = []
        self.own: list[float] = []
        self.threads: list[float] = []

    def once(self) -> None:
        """Run it once more."""
        done = subprocess.run(
            self._command, env=self._environment, stdout=subprocess.PIPE, timeout=120, check=True
        )
        told = map(float, done.stdout.split())
        for figures, figure in zip(self.all, told, strict=True):
            figures.append(figure)

    @property
    def all(self) -> tuple[list[float], ...]:
        """Every kind of figure, as TELL tells them."""
        return self.cpu, self.resident, self.own, self.threads


def in_turns(probes: Sequence[Probe], rounds: int) -> None:
    """Run all probes so often, in random order, after a round that only warms the disk's cache."""
    for probe in probes:
        probe.once()
        for figures in probe.all:
            figures.clear()
    order = list(probes)
    for _ in range(rounds):
        random.shuffle(order)
        for probe in order:
            probe.once()


def over(more: list[float], less: list[float]) -> float:
    """Return by how much the median of one is above the other's."""
    return statistics.median(more) - statistics.median(less)


def measure(options: Options) -> Iterator[Row]:
    """Measure in fresh processes, in turns."""
    python = places.installed()
    yield from of_import(python, options.of(quick=3, whole=60))
    yield from of_flags(python, options.of(quick=1, whole=9), options.of(quick=1_001, whole=10_001))


def of_import(python: Path, rounds: int) -> Iterator[Row]:
    """Yield what `import sortition` adds to an interpreter."""
    say(f"import, {rounds} rounds")
    bare, imported = Probe(python, BARE), Probe(python, IMPORT)
    in_turns([bare, imported], rounds)
    cpu, memory = over(imported.cpu, bare.cpu), over(imported.resident, bare.resident) / MB
    note = f"the interpreter alone: {statistics.median(bare.cpu):.0f} ms"
    yield Row("import_ms", "`import sortition`, CPU time", cpu, "ms", at_most(20), note)
    yield Row("import_mb", "`import sortition`, resident memory", memory, "MB", at_most(4))


def of_flags(python: Path, rounds: int, many: int) -> Iterator[Row]:
    """Yield what a client takes that follows a stream."""
    say(f"following 1 and {many:,} flags, {rounds} rounds")
    with (
        FakeServer({"only-one": 25.0}, flush_seconds=5.0) as small,
        FakeServer({f"some-flag-{n}": 25.0 for n in range(many)}, flush_seconds=5.0) as large,
    ):
        one, all_of_them = Probe(python, FOLLOW, small), Probe(python, FOLLOW, large)
        bare = Probe(python, BARE)
        in_turns([bare, one, all_of_them], rounds)
    thousands = (many - 1) / 1000
    memory = over(all_of_them.own, one.own) / MB / thousands
    threads = max(all_of_them.threads) - max(bare.threads)
    yield Row("threads", "threads of a client that follows", threads, "", at_most(1))
    what = "a client that follows one flag, over the interpreter alone, resident memory"
    yield Row("following_mb", what, over(one.resident, bare.resident) / MB, "MB")
    what, note = "private memory for 1,000 flags", f"between 1 and {many:,} flags"
    yield Row("flags_mb", what, memory, "MB", at_most(1), note)
    cpu = over(all_of_them.cpu, one.cpu) / thousands
    yield Row("flags_ms", "CPU time to take in 1,000 flags", cpu, "ms", note=note)


if __name__ == "__main__":
    run(
        measure,
        title="What the SDK takes of its host",
        method="The installed wheel in fresh processes, in turns with a bare interpreter; CPU time "
        "and memory as the kernel counts them; differences of medians.",
    )
