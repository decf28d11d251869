"""One statement, timed: each case is a process of its own, and all take turns in random order.

A sample is a compiled loop of about SAMPLE_MS over 4,096 request ids, in CPU time of the thread
that runs it, less the same loop around nothing. Neighbours on the machine are mostly left out of
that, and what is left of them falls on every case alike.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WORKER = Path(__file__).with_name("loop_worker.py")
START_SECONDS = 60.0


@dataclass(frozen=True)
class Case:
    """A case of a file of `bench/subjects`, run by a Python.

    environment: the whole of its process's, but for a folder of its own for temporary files.
    """

    name: str
    python: Path
    subject: Path
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Samples:
    """Nanoseconds of one statement, one figure for each round.

    version: of the distribution that was measured.
    """

    nanoseconds: list[float]
    version: str

    @property
    def median(self) -> float:
        """Nanoseconds."""
        return statistics.median(self.nanoseconds)

    def over(self, other: Samples) -> Ratio:
        """Return how many times the other's cost this one's is, round by round."""
        return Ratio([a / b for a, b in zip(self.nanoseconds, other.nanoseconds, strict=True)])


@dataclass(frozen=True)
class Ratio:
    """One ratio for each round."""

    each: list[float]

    @property
    def median(self) -> float:
        """Of all rounds."""
        return statistics.median(self.each)

    @property
    def spread(self) -> str:
        """The middle half of the rounds, as text."""
        low, _, high = statistics.quantiles(self.each, n=4)
        return f"{low:.2f} to {high:.2f} in the middle half of {len(self.each)} rounds"


class CaseFailed(Exception):
    """A case did not start, or its statement is not what it should be; the message says why."""


def interleaved(cases: Sequence[Case], rounds: int) -> tuple[dict[str, Samples], dict[str, str]]:
    """Return samples by case, and for cases that could not be measured why not."""
    found: dict[str, list[float]] = {}
    versions: dict[str, str] = {}
    failed: dict[str, str] = {}
    with TemporaryDirectory(prefix="bench-") as scratch, ExitStack() as stack:
        workers: dict[str, _Worker] = {}
        for case in cases:
            try:
                worker = _Worker(case, Path(scratch), stack)
            except CaseFailed as error:
                failed[case.name] = str(error)
                continue
            workers[case.name], found[case.name] = worker, []
            versions[case.name] = worker.version
        order = list(workers)
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                found[name].append(workers[name].sample())
    return {name: Samples(each, versions[name]) for name, each in found.items()}, failed


class _Worker:
    """The process of one case."""

    def __init__(self, case: Case, scratch: Path, stack: ExitStack) -> None:
        self._errors = scratch / f"{case.name}.errors"
        if not case.python.exists():
            raise CaseFailed("not installed: scripts/setup bench")
        with self._errors.open("wb") as errors:
            self._process = stack.enter_context(
                subprocess.Popen(
                    [str(case.python), "-I", str(WORKER), str(case.subject), case.name],
                    env={**case.environment, "TMPDIR": str(scratch)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            )
        stack.callback(self._process.kill)
        self.version: str = self._answer()["version"]

    def sample(self) -> float:
        """Return nanoseconds of one statement."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer()["nanoseconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # Some vendors' libraries print as well.
        for line in self._process.stdout:
            if line.startswith('{"sortition-bench":'):
                answer: dict[str, Any] = json.loads(line)["sortition-bench"]
                return answer
        last = self._errors.read_text(errors="replace").strip().rpartition("\n")[2]
        raise CaseFailed(last or "ended without a word")
