"""What is served, held against what a fair lot serves: from counts alone, without a single id.

The margins are those of ids that are drawn anew for each request. Where one id asks many times (a
session's token, a page that asks twice), counts come in lumps and stray further than chance does.
So what lies outside of a margin asks for a reason; it convicts nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sortition.core.bucketing import POINTS, WHOLE, threshold
from sortition.core.conditions import NON_UNIFORM_ATTRIBUTES
from sortition.core.model import Flag

from . import special
from .checks import even

ENOUGH = 1_000
"""Fewer than these say nothing."""

TAIL = 0.0005
"""How often chance alone is outside of a margin, on either side: once in a thousand looks."""

TOO_FEW, WITHIN, OUTSIDE, UNKNOWN = "too_few", "within", "outside", "unknown"
"""What counts say. Unknown: what was to be expected cannot be told, and `why` says so."""

WORDS = {
    TOO_FEW: "too few to say",
    WITHIN: "as expected",
    OUTSIDE: "outside of what chance does",
    UNKNOWN: "cannot be told",
}


@dataclass(frozen=True)
class Margin:
    """A count and what was to be expected. low, high: chance stays between, but for 1 in 1,000."""

    name: str
    count: int
    expected: float
    low: int
    high: int

    @property
    def inside(self) -> bool:
        """Whether chance explains it."""
        return self.low <= self.count <= self.high

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "name": self.name,
            "count": self.count,
            "expected": self.expected,
            "low": self.low,
            "high": self.high,
            "inside": self.inside,
        }


@dataclass(frozen=True)
class Spread:
    """Whether points are spread evenly. counts: of equal parts.  margin: of each part.

    low, high: how likely a fair lot's chi-square is at most, and at least, as large.
    """

    kind: str
    counts: tuple[int, ...]
    margin: Margin
    chi_square: float
    low: float
    high: float

    @property
    def points(self) -> int:
        """How many points there are."""
        return sum(self.counts)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "kind": self.kind,
            "words": WORDS[self.kind],
            "points": self.points,
            "counts": list(self.counts),
            "expected": self.margin.expected,
            "low": self.margin.low,
            "high": self.margin.high,
            "chi_square": self.chi_square,
            "tail": min(self.low, self.high),
        }


@dataclass(frozen=True)
class Ratio:
    """Whether variants are served as often as they were drawn for. why: what cannot be told."""

    kind: str
    assignments: int
    variants: tuple[Margin, ...]
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "kind": self.kind,
            "words": WORDS[self.kind],
            "why": self.why,
            "assignments": self.assignments,
            "variants": [margin.to_json() for margin in self.variants],
        }


def spread(counts: Sequence[int]) -> Spread:
    """Return whether points, counted in equal parts of their range, are spread evenly.

    Two-sided: a hash that is too even is no lot either.
    """
    n = sum(counts)
    figure, (low, high) = even(counts)
    told = WITHIN if min(low, high) > TAIL else OUTSIDE
    kind = told if n >= ENOUGH else TOO_FEW
    margin = _margin("part", 0, n, 1 / max(1, len(counts)))
    return Spread(kind, tuple(counts), margin, figure, low, high)


def ratio(counts: Mapping[str, int], expected: Mapping[str, float]) -> Ratio:
    """Return whether variants were served as often as expected (variant -> probability, of all).

    Each variant has its own margin, narrowed for their number (Bonferroni).
    """
    n = sum(counts.values())
    names = [*expected, *(name for name in counts if name not in expected)]
    tail = TAIL / max(1, len(names) - 1)
    rows = tuple(
        _margin(name, counts.get(name, 0), n, expected.get(name, 0.0), tail) for name in names
    )
    if n < ENOUGH:
        return Ratio(TOO_FEW, n, rows)
    return Ratio(WITHIN if all(row.inside for row in rows) else OUTSIDE, n, rows)


def untold(counts: Mapping[str, int], why: str) -> Ratio:
    """Return counts of which nobody can tell what they ought to be, and why."""
    rows = tuple(Margin(name, count, 0.0, 0, 0) for name, count in counts.items())
    return Ratio(UNKNOWN, sum(counts.values()), rows, why)


# --- what is to be expected -----------------------------------------------------------------------


class Untold(Exception):
    """What a flag's variants are to be served how often cannot be told; the words say why."""


def line(flags: Mapping[str, Flag], key: str) -> list[str]:
    """Return a flag and all that it stands on, each once: what its draws depend on."""
    found: list[str] = []
    waiting = [key]
    while waiting:
        each = waiting.pop(0)
        if each not in found:
            found.append(each)
            waiting += [prerequisite.flag for prerequisite in flags[each].prerequisites]
    return found


def departures(flags: Mapping[str, Flag], key: str) -> list[str]:
    """Return in words what picks a flag's traffic by place and not by lot."""
    told = []
    for each in line(flags, key):
        looked = {condition.attribute for condition in flags[each].conditions}
        names = " and ".join(sorted(NON_UNIFORM_ATTRIBUTES & looked))
        if names:
            whose = "This flag" if each == key else f"Its prerequisite {each}"
            told.append(f"{whose} looks at {names}: that picks traffic by place, not by lot.")
    return told


def chances(flags: Mapping[str, Flag], key: str) -> dict[str, float]:
    """Return variant -> probability that a request gets it. Raises Untold.

    Draws of different flags are independent, so along prerequisites they multiply.
    """
    flag = flags[key]
    exposed = 0.0 if flag.killed else threshold(flag.share) / POINTS
    if exposed:
        _check_told(flags, key)
        for prerequisite in flag.prerequisites:
            exposed *= chances(flags, prerequisite.flag).get(prerequisite.variant, 0.0)
    found = {flag.rest: 1 - exposed}
    for variant, weight in flag.weights:
        if weight:
            found[variant] = found.get(variant, 0.0) + exposed * weight / WHOLE
    return found


def _check_told(flags: Mapping[str, Flag], key: str) -> None:
    flag = flags[key]
    if flag.conditions:
        names = " and ".join(sorted({condition.attribute for condition in flag.conditions}))
        raise Untold(f"{key} looks at {names}, and counts do not say where they were made")
    lines = [set(line(flags, prerequisite.flag)) for prerequisite in flag.prerequisites]
    if sum(map(len, lines)) != len(set().union(*lines)):
        raise Untold(f"prerequisites of {key} stand on one flag, so their draws hang together")


def _margin(name: str, count: int, n: int, p: float, tail: float = TAIL) -> Margin:
    return Margin(name, count, n * p, *special.binomial_margin(n, p, tail))
