"""Tests of latency, from histograms alone.

Both compare the canary, at edges that lie `slowdown` times higher, with the control at the edges of
its own quantiles in the five minutes *before* the tick: what a bet goes by is known before the
counts that decide it. Both are exact for any two distributions, at any share, however both drift
together.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from math import ceil, exp, log
from operator import add, mul, sub
from statistics import NormalDist
from typing import NamedTuple

from .counts import Counts, Histogram, Latencies
from .rates import ratio_logs
from .wealth import CAP, Wealth

REFERENCE_SECONDS = 300.0
REFRESH_SECONDS = 30.0
"""How long the control's history is, and how often its quantiles are taken anew."""

LEAST = 200
"""Fewer requests of the control than that have no quantiles worth betting on."""

TAIL_QUANTILES = (0.5, 0.9, 0.95, 0.99)
TAIL_WEIGHTS = (0.15, 0.2, 0.45, 0.2)
TAIL_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)

ORDER_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
SHIFTS = (0.15, 0.3, 0.6, 1.0, 1.6, 2.5)
SHIFTS_WEIGHT = 0.7
BUMPS = (1.0, 4.0, 12.0)
BUMPS_FROM = (0.9, 0.95)

_ROUNDING = 1e-4
"""Edges are written with six digits, so m times an edge is only nearly an edge. Elsewhere the next
edge above is taken, which is on the safe side."""

_QUANTILES = tuple(sorted({*TAIL_QUANTILES, *ORDER_QUANTILES}))


def requests(histogram: Histogram) -> int:
    """Return how many requests a histogram counts."""
    return sum(histogram.values())


class Summed:
    """A histogram, summed up: how many requests lie beyond an edge."""

    __slots__ = ("_ordered", "_sums", "requests")

    def __init__(self, histogram: Histogram) -> None:
        self._ordered = sorted(histogram)
        self._sums = [0, *accumulate([histogram[bucket] for bucket in self._ordered])]
        self.requests = self._sums[-1]

    def beyond(self, buckets: Sequence[int]) -> list[int]:
        """Return how many requests lie beyond the upper edge of each of the buckets."""
        ordered, sums, whole = self._ordered, self._sums, self.requests
        return [whole - sums[bisect_right(ordered, bucket)] for bucket in buckets]

    def between(self, buckets: Sequence[int]) -> list[int]:
        """Return how many lie up to the first bucket, up to the next, and so on, and beyond all."""
        ordered, sums = self._ordered, self._sums
        below = [sums[bisect_right(ordered, bucket)] for bucket in buckets]
        return list(map(sub, [*below, self.requests], [0, *below]))


class Stratum(NamedTuple):
    """Both arms' latency in one tick and stratum, summed up."""

    canary: Summed
    control: Summed


def summed(strata: Sequence[Latencies]) -> list[Stratum]:
    """Return the strata of a tick as the tests take them."""
    return [Stratum(Summed(one.canary), Summed(one.control)) for one in strata]


def edge_at(edges: Sequence[float], seconds: float) -> int:
    """Return the bucket that ends at `seconds`, or at the first edge above it."""
    return bisect_left(edges, seconds * (1 - _ROUNDING))


class Reference:
    """The control's history: what it took in the last five minutes, and the quantiles of it."""

    def __init__(self, edges: Sequence[float]) -> None:
        """edges: upper edges of the buckets, seconds, rising."""
        self._edges = edges
        self._ticks: deque[tuple[float, Histogram]] = deque()
        self._sum: dict[int, int] = {}
        self._whole = 0
        self._seconds = 0.0
        self._age = REFRESH_SECONDS
        self.quantiles: dict[float, int] | None = None
        """Quantile -> the bucket that it lies in; None while there is too little."""
        self.tail: list[int] = []
        self.order: list[int] = []
        """The buckets of TAIL_QUANTILES and of ORDER_QUANTILES."""
        self.alternatives: list[Alternative] = []
        """What `Order` bets on; the history's parts are smoothed by half a request each."""

    def add(self, seconds: float, control: Histogram) -> None:
        """Take in a tick, after everything that was to be compared with what came before it."""
        self._ticks.append((seconds, control))
        self._seconds += seconds
        self._count(control, 1)
        while self._seconds - self._ticks[0][0] >= REFERENCE_SECONDS:
            gone, histogram = self._ticks.popleft()
            self._seconds -= gone
            self._count(histogram, -1)
        self._age += seconds
        if self._age >= REFRESH_SECONDS or self.quantiles is None:
            self._refresh()

    def shifted(self, bucket: int, slowdown: float) -> int:
        """Return the bucket that ends `slowdown` times later than this one."""
        edges = self._edges
        return edge_at(edges, edges[bucket] * slowdown) if bucket < len(edges) else bucket

    def _count(self, histogram: Histogram, sign: int) -> None:
        held = self._sum
        for bucket, count in histogram.items():
            held[bucket] = held.get(bucket, 0) + sign * count
            self._whole += sign * count

    def _refresh(self) -> None:
        self._age = 0.0
        if self._whole < LEAST:
            self.quantiles = None
            return
        ordered = [bucket for bucket in sorted(self._sum) if self._sum[bucket]]
        sums = list(accumulate(self._sum[bucket] for bucket in ordered))
        found = {q: ordered[bisect_left(sums, ceil(q * self._whole))] for q in _QUANTILES}
        self.quantiles = found
        self.tail = [found[q] for q in TAIL_QUANTILES]
        self.order = [found[q] for q in ORDER_QUANTILES]
        parts = Summed(self._sum).between(self.order)
        smoothed = self._whole + 0.5 * len(parts)
        self.alternatives = rising([(part + 0.5) / smoothed for part in parts])


class TailShift:
    """Null: for each u, P(canary > slowdown * u) <= P(control > u), in every tick and stratum.

    u: the control's quantiles. What lies beyond is compared as failures are, with the control's own
    rate tolerated, so the guarantee is that of `rates.ratio_logs`.
    """

    def __init__(self, slowdown: float, *, dispersion: float = 1.0, cap: float = CAP) -> None:
        self.slowdown = slowdown
        self._dispersion = dispersion
        each = 1.0 / len(TAIL_RATIOS)
        self._wealth = Wealth([weight * each for weight in TAIL_WEIGHTS for _ in TAIL_RATIOS], cap)

    @property
    def value(self) -> float:
        """The evidence against the null."""
        return self._wealth.value

    def bet(
        self, strata: Sequence[Stratum], references: Sequence[Reference], injected: float
    ) -> float:
        """Take in one tick and return the evidence."""
        return self._wealth.bet(self.logs(strata, references), injected)

    def logs(
        self, strata: Sequence[Stratum], references: Sequence[Reference]
    ) -> list[float] | None:
        """Return the log factors of one tick: of each quantile, for each ratio."""
        late: list[list[Counts]] = [[] for _ in TAIL_QUANTILES]
        for one, reference in zip(strata, references, strict=True):
            if reference.quantiles is None:
                continue
            n_t, n_c = one.canary.requests, one.control.requests
            slow = one.canary.beyond([reference.shifted(u, self.slowdown) for u in reference.tail])
            of_control = one.control.beyond(reference.tail)
            for found, x_t, x_c in zip(late, slow, of_control, strict=True):
                found.append(Counts(n_t, x_t, n_c, x_c))
        logs: list[float] = []
        for counts in late:
            told = ratio_logs(counts, 1.0, TAIL_RATIOS, dispersion=self._dispersion)
            logs.extend(told or [0.0] * len(TAIL_RATIOS))
        return logs if any(logs) else None


class Order:
    """Null: the canary's latency is stochastically at most `slowdown` times the control's, in every
    tick and stratum.

    Bins between the control's quantiles u_j, for the canary between slowdown * u_j; theta_c the
    shares of the control's history; alternatives theta_t = theta_c r with r rising, sum theta_c r =
    1; theta_0 = (n_t theta_t + n_c theta_c) / (n_t + n_c). The factor is the product of theta_t /
    theta_0 over the canary's requests and theta_c / theta_0 over the control's: log E f <= n_t (E_t
    h - E_c h), h = theta_t / theta_0 rising, so at most 0 under the null, whatever theta_c is. r =
    e^(d z), z the normal score of a bin, or a bump from p90 or p95 on.
    """

    def __init__(self, slowdown: float, *, dispersion: float = 1.0, cap: float = CAP) -> None:
        self.slowdown = slowdown
        self._dispersion = dispersion
        bumps = len(BUMPS) * len(BUMPS_FROM)
        self._wealth = Wealth(
            [SHIFTS_WEIGHT / len(SHIFTS)] * len(SHIFTS) + [(1 - SHIFTS_WEIGHT) / bumps] * bumps, cap
        )

    @property
    def value(self) -> float:
        """The evidence against the null."""
        return self._wealth.value

    def bet(
        self, strata: Sequence[Stratum], references: Sequence[Reference], injected: float
    ) -> float:
        """Take in one tick and return the evidence."""
        return self._wealth.bet(self.logs(strata, references), injected)

    def logs(
        self, strata: Sequence[Stratum], references: Sequence[Reference]
    ) -> list[float] | None:
        """Return the log factors of one tick."""
        logs: list[float] | None = None
        for one, reference in zip(strata, references, strict=True):
            if reference.quantiles is None:
                continue
            shifted = [reference.shifted(u, self.slowdown) for u in reference.order]
            told = order_logs(
                one.canary.between(shifted),
                one.control.between(reference.order),
                reference.alternatives,
                self._dispersion,
            )
            if told is not None:
                logs = told if logs is None else list(map(add, logs, told))
        return logs


class Alternative(NamedTuple):
    """Ratios that rise from bin to bin, with a mean of 1 under the control's parts, and their
    logs."""

    ratios: list[float]
    logs: list[float]


def order_logs(
    canary: Sequence[int],
    control: Sequence[int],
    alternatives: Sequence[Alternative],
    dispersion: float = 1.0,
) -> list[float] | None:
    """Return the log factors of `Order` for counts in bins; None when an arm has none."""
    n_t, n_c = sum(canary), sum(control)
    if not n_t or not n_c:
        return None
    w = n_t / (n_t + n_c)
    rest = 1.0 - w
    both = list(map(add, canary, control))
    return [
        (sum(map(mul, canary, logs)) - sum(map(mul, both, [log(w * r + rest) for r in ratios])))
        / dispersion
        for ratios, logs in alternatives
    ]


def rising(parts: Sequence[float]) -> list[Alternative]:
    """Return the alternatives for bins that have these parts of the control's requests."""
    normal = NormalDist()
    ends = list(accumulate(parts))
    middles = [end - part / 2 for end, part in zip(ends, parts, strict=True)]
    scores = [normal.inv_cdf(min(max(at, 1e-4), 1 - 1e-4)) for at in middles]
    found = [[exp(d * z) for z in scores] for d in SHIFTS]
    for begin in BUMPS_FROM:
        first = ORDER_QUANTILES.index(begin) + 1
        found.extend([1.0 + bump * (j >= first) for j in range(len(parts))] for bump in BUMPS)
    return [_normed(parts, ratios) for ratios in found]


def _normed(parts: Sequence[float], ratios: Sequence[float]) -> Alternative:
    mean = sum(map(mul, parts, ratios))
    normed = [r / mean for r in ratios]
    return Alternative(normed, [log(r) for r in normed])


class Slower:
    """Null: the canary is at most `slowdown` times as slow as the control, in both senses above.

    The mean of two e-processes against nulls that hold together. `Order` is the quicker one when
    everything is slower, `TailShift` when only the slowest requests are.
    """

    def __init__(self, slowdown: float, *, dispersion: float = 1.0, cap: float = CAP) -> None:
        self.slowdown = slowdown
        self._tail = TailShift(slowdown, dispersion=dispersion, cap=cap)
        self._order = Order(slowdown, dispersion=dispersion, cap=cap)

    @property
    def value(self) -> float:
        """The evidence against the null."""
        return (self._tail.value + self._order.value) / 2

    def bet(
        self, strata: Sequence[Stratum], references: Sequence[Reference], injected: float
    ) -> float:
        """Take in one tick and return the evidence."""
        self._tail.bet(strata, references, injected)
        self._order.bet(strata, references, injected)
        return self.value


def later(strata: Sequence[Stratum], edges: Sequence[float], seconds: float) -> list[Counts]:
    """Return how many requests took longer than `seconds`, as counts of a rate."""
    at = [edge_at(edges, seconds)]
    return [
        Counts(
            one.canary.requests,
            one.canary.beyond(at)[0],
            one.control.requests,
            one.control.beyond(at)[0],
        )
        for one in strata
    ]
