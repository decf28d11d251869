"""A proof: every check on every flag and every shape of ids, and lots that must not pass it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from zlib import crc32

from sortition.core import bucketing
from sortition.core.evaluate import CompiledFlag
from sortition.core.model import Flag

from . import checks
from .checks import CHECKS, ONE_SIDED, SAMPLED, Finding
from .ids import SHAPES, Ids, Shape, stream
from .lots import CONTROLS, OURS, Lot
from .numbers import CELLS, Cells, Numbers, Points

ALPHA = 1e-5
"""How often a check is to fail of a fair lot: all ten of them once in ten thousand proofs."""

IDS = 1_000_000
QUICK_IDS = 100_000

SEED = "sortition"
"""What ids are made from unless told otherwise."""

FAIR, UNFAIR, BLIND = "fair", "unfair", "control_passed"
"""Kinds of a proof's end. Blind: what must not pass did."""

_EVALUATED = 2_000
"""Ids that are evaluated as an application would, at every share of a ramp."""

_FIVE_PERCENT = 50_000

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """What a check found. limit: a tail smaller than this fails; worst: the smallest there was."""

    check: str
    tests: int
    limit: float
    worst: Finding | None

    @property
    def passed(self) -> bool:
        """Whether no test of it failed."""
        return self.worst is None or self.worst.tail >= self.limit

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "check": self.check,
            "words": CHECKS[self.check],
            "passed": self.passed,
            "tests": self.tests,
            "limit": self.limit,
            "worst": None if self.worst is None else _finding_json(self.worst),
        }


@dataclass(frozen=True)
class Control:
    """What became of an unfair lot. found: check -> shapes of ids on which it was found."""

    name: str
    words: str
    found: Mapping[str, Sequence[str]]

    @property
    def caught(self) -> bool:
        """Whether each check that has to found it, on each shape."""
        return all(len(shapes) == len(SHAPES) for shapes in self.found.values())

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "control": self.name,
            "words": self.words,
            "caught": self.caught,
            "found": {check: list(shapes) for check, shapes in self.found.items()},
        }


@dataclass(frozen=True)
class Proof:
    """What was proven. salts: by flag.  histograms: by flag, over all shapes."""

    salts: Mapping[str, str]
    ids: int
    seed: str
    computed_with: str
    verdicts: tuple[Verdict, ...]
    controls: tuple[Control, ...]
    findings: tuple[Finding, ...]
    histograms: Mapping[str, Sequence[int]]

    @property
    def kind(self) -> str:
        """How it ended: one of `FAIR`, `UNFAIR`, `BLIND`. A failure stands, whatever else is."""
        if not all(verdict.passed for verdict in self.verdicts):
            return UNFAIR
        return FAIR if all(control.caught for control in self.controls) else BLIND

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "kind": self.kind,
            "ids": self.ids,
            "seed": self.seed,
            "computed_with": self.computed_with,
            "alpha": ALPHA,
            "flags": [
                {"flag": key, "salt": salt, "seed": bucketing.seed(salt)}
                for key, salt in self.salts.items()
            ],
            "shapes": [
                {
                    "shape": shape.name,
                    "words": shape.words,
                    "example": shape.make(1, self.seed)[0].decode(),
                }
                for shape in SHAPES
            ],
            "checks": [verdict.to_json() for verdict in self.verdicts],
            "controls": [control.to_json() for control in self.controls],
            "findings": [_finding_json(finding) for finding in self.findings],
            "histograms": {key: list(counts) for key, counts in self.histograms.items()},
        }


def prove(salts: Mapping[str, str], numbers: Numbers, *, ids: int, seed: str, tell: Tell) -> Proof:
    """Return the proof for flags (key -> salt), on as many ids of each shape.

    A flag alone is compared with another salt.  tell: is told what is being done, now and then.
    """
    findings: list[Finding] = []
    caught: dict[str, list[Finding]] = {control.name: [] for control in CONTROLS}
    histograms = {key: [0] * 128 for key in salts}
    for shape in SHAPES:
        tell(f"{shape.words}: making {ids:,}")
        given = shape.make(ids, seed)
        looking = _Looking(numbers, shape, given, seed)
        for at, key in enumerate(salts, 1):
            tell(f"{shape.words}: flag {at} of {len(salts)}")
            findings += looking.at_flag(OURS, key, salts[key], CHECKS)
            histograms[key] = [a + b for a, b in zip(histograms[key], looking.histogram)]  # noqa: B905
        tell(f"{shape.words}: pairs")
        if len(salts) == 1:
            looking.draw(OURS, "another salt", f"{seed}/another")
        findings += looking.at_pairs()
        for control in CONTROLS:
            tell(f"{shape.words}: control {control.name}")
            caught[control.name] += looking.at_control(control)
    return Proof(
        *(dict(salts), ids, seed, numbers.name),
        verdicts=tuple(_verdict(check, findings) for check in CHECKS),
        controls=tuple(_control(control, caught[control.name]) for control in CONTROLS),
        findings=tuple(findings),
        histograms=histograms,
    )


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "shape": finding.shape,
        "subject": finding.subject,
        "figure": finding.figure,
        "tail": finding.tail,
    }


def _limit(check: str, tests: int) -> float:
    """Bonferroni's: over all tests of a check, and both sides where there are two."""
    return ALPHA / (tests * (1 if check in ONE_SIDED else 2)) if tests else 0.0


def _verdict(check: str, findings: Iterable[Finding]) -> Verdict:
    own = [finding for finding in findings if finding.check == check]
    worst = min(own, key=lambda finding: finding.tail, default=None)
    return Verdict(check, len(own), _limit(check, len(own)), worst)


def _control(control: Lot, findings: Sequence[Finding]) -> Control:
    found: dict[str, list[str]] = {}
    for check in control.must_fail:
        own = [finding for finding in findings if finding.check == check]
        limit = _limit(check, len(own))
        failed = {finding.shape for finding in own if finding.tail < limit}
        found[check] = sorted(failed)
    return Control(control.name, control.words, found)


class _Looking:
    """One shape's ids, and what was drawn for them so far. histogram: of the last flag."""

    def __init__(self, numbers: Numbers, shape: Shape, ids: Ids, seed: str) -> None:
        self._numbers = numbers
        self._shape = shape
        self._ids = ids
        self._seed = seed
        self._sample = ids[:: max(1, len(ids) // SAMPLED)][:SAMPLED]
        self._evaluated = [id.decode() for id in ids[:: max(1, len(ids) // _EVALUATED)]]
        self._splits = [(words, numbers.marks(split)) for words, split in splits(ids, seed)]
        self._cells: dict[str, Cells] = {}
        self.histogram: Sequence[int] = ()

    def draw(self, lot: Lot, key: str, salt: str) -> Points:
        """Return a flag's points, and keep it for the pairs."""
        points = self._numbers.points(lot.first(self._ids, salt), len(self._ids))
        self._cells[key] = self._numbers.cells(points)
        return points

    def at_flag(self, lot: Lot, key: str, salt: str, wanted: Collection[str]) -> Iterator[Finding]:
        """Yield what one flag's draws show, to the wanted checks."""
        points = self.draw(lot, key, salt)
        self.histogram = self._numbers.histogram(points)
        looks: Mapping[str, Callable[[], Iterable[checks.Said]]] = {
            "uniform": lambda: [("", *checks.even(self.histogram))],
            "distance": lambda: [("", *checks.distance(self._numbers, points))],
            "shares": lambda: checks.shares(self._numbers, points),
            "ends": lambda: [("", *checks.ends(self._numbers, points))],
            "rising": lambda: [("", *checks.rising(_choosing(salt), self._evaluated))],
            "serial": lambda: [("", *checks.serial(self._numbers, points))],
            "avalanche": lambda: checks.avalanche(self._numbers, lot, self._sample, salt),
            "variants": lambda: self._variants(lot, salt, points),
            "balancer": lambda: checks.balancer(
                self._numbers, self._cells[key], self._splits_of(lot, points)
            ),
        }
        for check in (check for check in looks if check in wanted):
            for said in looks[check]():
                yield self._found(check, key, *said)

    def _variants(self, lot: Lot, salt: str, points: Points) -> Iterator[checks.Said]:
        second = self._numbers.points(lot.second(self._ids, salt), len(self._ids))
        return checks.variants(self._numbers, points, second)

    def _splits_of(self, lot: Lot, points: Points) -> Sequence[tuple[str, Cells]]:
        if not lot.follows:
            return self._splits
        edge = bucketing.threshold(_FIVE_PERCENT)
        return [("the flag's own hash", self._numbers.exposed(points, edge))]

    def at_pairs(self) -> Iterator[Finding]:
        """Yield how each two of the flags hang together that were looked at."""
        for (one, of_one), (other, of_other) in combinations(self._cells.items(), 2):
            found = checks.independent(self._numbers.pairs(of_one, of_other), CELLS)
            yield self._found("pairs", f"{one} × {other}", "", *found)
        self._cells.clear()

    def at_control(self, control: Lot) -> Iterator[Finding]:
        """Yield what an unfair lot shows to the checks that have to find it."""
        keys = ("one", "other") if "pairs" in control.must_fail else ("one",)
        for key in keys:
            yield from self.at_flag(control, key, f"control-{key}", control.must_fail)
        yield from self.at_pairs()

    def _found(
        self, check: str, key: str, said: str, figure: float, tails: tuple[float, float]
    ) -> Finding:
        subject = f"{key}, {said}" if said else key
        return Finding(check, self._shape.name, subject, figure, *tails)


def splits(ids: Ids, seed: str) -> Iterator[tuple[str, bytes]]:
    """Yield splits of 5 % as load balancers make them: (words, 1 for each id of the small part).

    How an ALB draws is not published. It knows nothing of our salts, so it is one of these or like
    them: chance, taking turns, or a hash of the same id.
    """
    n = len(ids)
    yield "chance", stream(seed, "balancer", n).translate(bytes(b < 13 for b in range(256)))
    yield "taking turns", (b"\1" + b"\0" * 19) * (n // 20) + b"\0" * (n % 20)
    yield "a hash of the id", bytes(crc32(id) % 20 == 0 for id in ids)


def _choosing(salt: str) -> checks.Choose:
    """Return how the evaluation itself chooses: the code that SDK and server run."""

    def at(share: int) -> Callable[[str], str | None]:
        weights = (("a", 500_000), ("b", 500_000))
        flag = Flag("flag", 1, salt, {"a": 1, "b": 2, "rest": 0}, "rest", weights, share)
        compiled = CompiledFlag(flag, bucketing.threshold(share), None)

        def choose(request_id: str) -> str | None:
            variant = compiled.choose(request_id).variant
            return None if variant == "rest" else variant

        return choose

    return at
