"""What a lot is asked, one function each: figures, and how likely a fair lot has such ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from sortition.core import bucketing

from . import special
from .ids import Ids
from .lots import Lot
from .numbers import CELLS, Cells, Numbers, Points

LAGS = 8
SAMPLED = 512
"""Ids whose every bit is turned over."""

STEPS = (0, 1, 100, 10_000, 50_000, 250_000, 500_000, 750_000, 999_900, 999_999, 1_000_000)
"""Shares (parts per million) that a ramp goes through."""

SHARES = (100, 10_000, 50_000, 250_000, 500_000, 750_000, 999_900)
"""Shares (parts per million) whose size is checked."""

SMALL = 10_000
"""The share (parts per million) within which variants are counted."""

CHECKS = {
    "uniform": "Points fall evenly into 128 equal parts (chi-square).",
    "distance": "Nowhere do the points stray from an even spread (Kolmogorov-Smirnov).",
    "shares": "From 0.01 % to 99.99 %, as many are exposed as the share says (binomial).",
    "ends": "0 % exposes nobody and 100 % everybody, without exception.",
    "rising": "Whoever is exposed at a share stays so, with the same variant, at any larger one.",
    "serial": "A request's point says nothing of those after it (Ljung-Box, eight lags).",
    "avalanche": "One bit of the id or of the salt turns over half of the point's bits.",
    "pairs": "What one flag draws says nothing of what another draws, for all pairs (chi-square).",
    "variants": "Who is exposed says nothing of which variant is drawn (chi-square).",
    "balancer": "How a load balancer splits says nothing of what a flag draws (chi-square).",
}
"""Name -> what is asked."""

ONE_SIDED = frozenset({"avalanche", "ends", "rising"})
"""Nothing can be too good here. Elsewhere too even is as suspicious as too uneven."""


@dataclass(frozen=True)
class Finding:
    """One test. subject: a flag, or two.  figure: the statistic; of exact checks, exceptions.

    low, high: how likely a fair lot's figure is at most, and at least, as large.
    """

    check: str
    shape: str
    subject: str
    figure: float
    low: float
    high: float

    @property
    def tail(self) -> float:
        """The smaller probability: of figures as extreme as this, on its side."""
        return self.high if self.check in ONE_SIDED else min(self.low, self.high)


Said = tuple[str, float, special.Tails]
"""(what of the subject, figure, its tails)."""


def even(counts: Sequence[int]) -> tuple[float, special.Tails]:
    """Return the chi-square of counts that are expected to be equal, and its tails."""
    expected = sum(counts) / len(counts)
    if not expected:
        return 0.0, (1.0, 1.0)
    figure = sum((count - expected) ** 2 for count in counts) / expected
    return figure, special.chi_square(figure, len(counts) - 1)


def independent(table: Sequence[int], columns: int) -> tuple[float, special.Tails]:
    """Return the chi-square of a flat table against its own margins (Pearson 1900), and its tails.

    Empty rows and columns take no part.
    """
    rows = [table[at : at + columns] for at in range(0, len(table), columns)]
    down = [sum(column) for column in zip(*rows)]  # noqa: B905 (Python 3.10's is faster so)
    across = [sum(row) for row in rows]
    whole = sum(across)
    figure = 0.0
    for row, of_row in zip(rows, across):  # noqa: B905
        for count, of_column in zip(row, down):  # noqa: B905
            expected = of_row * of_column / whole if whole else 0.0
            if expected:
                figure += (count - expected) ** 2 / expected
    df = (sum(map(bool, across)) - 1) * (sum(map(bool, down)) - 1)
    return figure, special.chi_square(figure, df) if df > 0 else (1.0, 1.0)


def distance(numbers: Numbers, points: Points) -> tuple[float, special.Tails]:
    """Return Kolmogorov and Smirnov's distance, and its tails."""
    figure = numbers.distance(points)
    return figure, special.kolmogorov(figure, len(points))


def shares(numbers: Numbers, points: Points) -> Iterator[Said]:
    """Yield how many each share exposes."""
    n = len(points)
    for share in SHARES:
        edge = bucketing.threshold(share)
        count = numbers.below(points, edge)
        said = f"at {share / 10_000:g} %"
        yield said, count, special.binomial(count, n, edge / bucketing.POINTS)


def serial(numbers: Numbers, points: Points) -> tuple[float, special.Tails]:
    """Return how points hang together with the eight before each (Ljung, Box 1978)."""
    n = len(points)
    found = enumerate(numbers.correlations(points, LAGS), 1)
    figure = n * (n + 2) * sum(r * r / (n - lag) for lag, r in found)
    return figure, special.chi_square(figure, LAGS)


def variants(numbers: Numbers, points: Points, second: Points) -> Iterator[Said]:
    """Yield how exposure and variant hang together: everywhere, and within a small share."""
    cells = numbers.cells(second)
    yield ("", *independent(numbers.pairs(numbers.cells(points), cells), CELLS))
    exposed = numbers.where(cells, points, bucketing.threshold(SMALL))
    yield (f"within {SMALL / 10_000:g} %", *even(numbers.counted(exposed, CELLS)))


def balancer(numbers: Numbers, cells: Cells, splits: Iterable[tuple[str, Cells]]) -> Iterator[Said]:
    """Yield how a load balancer's splits hang together with what a flag draws."""
    for words, split in splits:
        table = numbers.pairs(split, cells)[: 2 * CELLS]
        yield (words, *independent(table, CELLS))


# --- exact ----------------------------------------------------------------------------------------


def ends(numbers: Numbers, points: Points) -> tuple[float, special.Tails]:
    """Return how many are exposed at 0 %, or not at 100 %."""
    none = numbers.below(points, bucketing.threshold(0))
    missing = len(points) - numbers.below(points, bucketing.threshold(bucketing.WHOLE))
    return _exact(none + missing)


Choose = Callable[[int], Callable[[str], "str | None"]]
"""Share (parts per million) -> (id -> the drawn variant, None for the rest)."""


def rising(choose: Choose, ids: Sequence[str]) -> tuple[float, special.Tails]:
    """Return how often a larger share took somebody's variant away, or an end was not exact."""
    exceptions = 0
    before: list[str | None] = [None] * len(ids)
    for share in STEPS:
        now = list(map(choose(share), ids))
        exceptions += sum(b not in {None, a} for b, a in zip(before, now))  # noqa: B905
        before = now
        if share == 0:
            exceptions += sum(drawn is not None for drawn in now)
    exceptions += before.count(None)
    return _exact(exceptions)


def _exact(exceptions: int) -> tuple[float, special.Tails]:
    return float(exceptions), (1.0, 0.0 if exceptions else 1.0)


# --- avalanche ------------------------------------------------------------------------------------


def avalanche(numbers: Numbers, lot: Lot, ids: Ids, salt: str) -> Iterator[Said]:
    """Yield how far from a half the bits are that turn over, at the worst of all.

    Each bit of the id's letters (their eighth stays 0, for text) against each of the point's 32;
    then the salt's. The figure is in standard deviations; its tail is corrected for all cells.
    """
    n = len(ids)
    base = numbers.points(lot.first(ids, salt), n)
    flipped = (_flip(ids, at, bit) for at in range(min(map(len, ids))) for bit in range(7))
    yield ("id", *_worst(numbers, base, (lot.first(each, salt) for each in flipped), n))
    salts = (
        _flip([salt.encode()], at, bit) for at in range(len(salt.encode())) for bit in range(7)
    )
    drawn = (lot.first(ids, each[0].decode(errors="replace")) for each in salts)
    yield ("salt", *_worst(numbers, base, drawn, n))


def _flip(ids: Ids, at: int, bit: int) -> list[bytes]:
    mask = 1 << bit
    return [id[:at] + bytes([id[at] ^ mask]) + id[at + 1 :] for id in ids]


def _worst(
    numbers: Numbers, base: Points, drawn: Iterable[Iterable[int]], n: int
) -> tuple[float, special.Tails]:
    turned = [numbers.flips(base, numbers.points(each, n)) for each in drawn]
    worst = max(abs(count - n / 2) for counts in turned for count in counts) / sqrt(n / 4)
    return worst, (1.0, min(1.0, 32 * len(turned) * 2 * special.normal(worst)[1]))
