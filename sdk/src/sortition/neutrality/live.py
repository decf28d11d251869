"""What is served, held against what a fair lot serves: from counts alone, without a single id.

The margins are those of ids that are drawn anew for each request. Where one id asks many times (a
session's token, a page that asks twice), counts come in lumps and stray further than chance does.
So what lies outside of a margin asks for a reason; it convicts nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


def _margin(name: str, count: int, n: int, p: float, tail: float = TAIL) -> Margin:
    return Margin(name, count, n * p, *special.binomial_margin(n, p, tail))
