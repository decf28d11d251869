"""What A/A history says of noise: how much two halves of the same version differ.

A day of it, the control's hosts split by lot into two halves, counted tick by tick. Independent
requests make every test exact; sticky sessions, retry storms and hosts that drift apart do not, and
then an exact test of counts is wrong without bound. Three things are taken from history, and each
makes the tests slower by as much as there is less information:

    dispersion  of counts within a tick: factors are tempered with their root by it
    drift       how many times a half's rate is no harm: what halves differ by over minutes
    slowdown    likewise for latency

All of them come from sums (`RateScatter`, `LatencyScatter`), and the sums of two spans of time,
added up, are those of both: a history is kept as sums of a few minutes each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp, isfinite, log, sqrt
from typing import Any, TypeVar

from .counts import Counts, Histogram, Latencies, Tally
from .latency import LEAST, Summed, requests

NORMAL_99 = 2.33
"""Standard deviations that one of a hundred windows exceeds."""

SLOW_SECONDS = (120.0, 300.0)
"""What differs for as long as this counts as drift and not as noise."""

TOLERATED, MOST_TOLERATED = 1.5, 10.0
SLOWDOWN, NOTICED, MOST_SLOWDOWN = 2 ** (9 / 16), 2 ** (5 / 16), 4.0
"""Tolerated anyway: failures 1.5 times as often; for rolling back nine buckets slower (1.48 times,
and not a hair more, which would be ten), for holding five (1.24). And at most: with more noise than
that nothing can be judged by comparison."""

MOST_DISPERSION = 50.0
"""Counts are taken to scatter so many times as much as by chance at most. What says more leaves no
comparison worth the name, and has to be said."""

_NORMAL_90 = 1.28
_QUANTILES = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class RateNoise:
    """dispersion: of independent requests 1.

    drift: how many times one half of the same version may fail as often as the other; 1 for halves
    that differ by chance alone.  tolerated: how many times the control's rate is no harm; at least
    the drift.
    """

    dispersion: float = 1.0
    drift: float = 1.0
    tolerated: float = TOLERATED


@dataclass(frozen=True, slots=True)
class LatencyNoise:
    """slowdown: tolerated before rolling back.  noticed: before holding.

    dispersion: of how many requests lie beyond a latency; of independent requests 1.
    """

    slowdown: float = SLOWDOWN
    noticed: float = NOTICED
    dispersion: float = 1.0


@dataclass(frozen=True, slots=True)
class Scatter:
    """How the failures of two halves scatter, as sums over windows of one length.

    seen: sum (A - X w)^2.  expected: sum X w (1-w), what it is of independent requests. A: failures
    of one half, X of both, w its share of requests.  failures: of both.  windows: how many there
    were, those without requests of both halves among them.
    """

    seen: float = 0.0
    expected: float = 0.0
    failures: int = 0
    windows: int = 0

    @property
    def phi(self) -> float:
        """How many times as much they scatter as those of independent requests."""
        return self.seen / self.expected if self.expected else 1.0

    @property
    def mean(self) -> float:
        """The mean failures of a half in a window; 0 where they say nothing."""
        return self.failures / 2 / self.windows if self.expected else 0.0

    def __add__(self, other: Scatter) -> Scatter:
        return Scatter(
            self.seen + other.seen,
            self.expected + other.expected,
            self.failures + other.failures,
            self.windows + other.windows,
        )

    def to_body(self) -> list[float]:
        """Return it as JSON has it."""
        return [self.seen, self.expected, self.failures, self.windows]

    @classmethod
    def from_body(cls, body: Sequence[Any]) -> Scatter:
        """Return what `to_body` wrote down. Raises ValueError or TypeError for anything else."""
        seen, expected, failures, windows = (_number(value) for value in body)
        return cls(seen, expected, int(failures), int(windows))


@dataclass(frozen=True, slots=True)
class RateScatter:
    """What is kept of a rate's A/A history. tick: of ticks.  slow: of each of SLOW_SECONDS."""

    tick: Scatter = Scatter()
    slow: tuple[Scatter, ...] = (Scatter(),) * len(SLOW_SECONDS)

    def __add__(self, other: RateScatter) -> RateScatter:
        return RateScatter(self.tick + other.tick, _each_added(self.slow, other.slow))

    def noise(self) -> RateNoise:
        """Return what a metric's A/A history says.

        phi(k) of windows of k seconds is 1 for independent requests. What it grows by from a tick
        to two or five minutes is drift, if it is more than two standard errors: the log of the
        halves' ratio has a variance of (phi_k - phi_tick) (1/mu_A + 1/mu_B), mu the mean failures
        of a half in k seconds.
        """
        dispersion = max(1.0, self.tick.phi)
        drift = min(MOST_TOLERATED, max(_drift(slow, dispersion) for slow in self.slow))
        return RateNoise(min(MOST_DISPERSION, dispersion), drift, max(TOLERATED, drift))

    def to_body(self) -> list[list[float]]:
        """Return it as JSON has it."""
        return [one.to_body() for one in (self.tick, *self.slow)]

    @classmethod
    def from_body(cls, body: Sequence[Any]) -> RateScatter:
        """Return what `to_body` wrote down. Raises ValueError or TypeError for anything else."""
        tick, *slow = (Scatter.from_body(one) for one in body)
        return cls(tick, _of_length(slow, len(SLOW_SECONDS)))


def rate_scatter(history: Sequence[Counts], tick_seconds: float) -> RateScatter:
    """Return the sums of a metric's A/A history, tick by tick."""
    slow = (_windows(history, _ticks_in(seconds, tick_seconds)) for seconds in SLOW_SECONDS)
    return RateScatter(_scattered(history), tuple(_scattered(list(windows)) for windows in slow))


def rate_noise(history: Sequence[Counts], tick_seconds: float) -> RateNoise:
    """Return what a metric's A/A history says, see `RateScatter.noise`."""
    return rate_scatter(history, tick_seconds).noise()


def _drift(slow: Scatter, dispersion: float) -> float:
    if not slow.mean:
        return 1.0
    by_chance = dispersion * (1 + 2 * sqrt(2 / slow.windows))
    differ = slow.phi > by_chance
    return exp(NORMAL_99 * sqrt(2 * (slow.phi - dispersion) / slow.mean)) if differ else 1.0


@dataclass(frozen=True, slots=True)
class LatencyScatter:
    """What is kept of the latency's A/A history, for p50 and p95.

    between: (sum of squared logs of the halves' ratio in five minutes less what sampling adds, of
    how many windows).  beyond: how many requests of a tick lie beyond it.
    """

    between: tuple[tuple[float, int], ...] = ((0.0, 0),) * len(_QUANTILES)
    beyond: tuple[Scatter, ...] = (Scatter(),) * len(_QUANTILES)

    def __add__(self, other: LatencyScatter) -> LatencyScatter:
        between = zip(self.between, other.between, strict=True)
        return LatencyScatter(
            tuple((a + b, m + n) for (a, m), (b, n) in between),
            _each_added(self.beyond, other.beyond),
        )

    def noise(self) -> LatencyNoise:
        """Return what the latency's A/A history says.

        The log of the halves' ratio at p50 and p95 in five minutes has a variance of twice an arm's
        plus that of sampling, which is taken off.
        """
        found = max((total / windows for total, windows in self.between if windows), default=0.0)
        between = sqrt(max(0.0, found))
        return LatencyNoise(
            min(MOST_SLOWDOWN, max(SLOWDOWN, exp(NORMAL_99 * between))),
            min(MOST_SLOWDOWN, max(NOTICED, exp(_NORMAL_90 * between))),
            min(MOST_DISPERSION, max(1.0, *(one.phi for one in self.beyond))),
        )

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "between": [list(one) for one in self.between],
            "beyond": [one.to_body() for one in self.beyond],
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> LatencyScatter:
        """Return what `to_body` wrote down. Raises ValueError, TypeError or KeyError for anything
        else."""
        between = tuple((_number(total), int(_number(n))) for total, n in body["between"])
        beyond = [Scatter.from_body(one) for one in body["beyond"]]
        size = len(_QUANTILES)
        return cls(_of_length(between, size), _of_length(beyond, size))


def latency_scatter(history: Sequence[Latencies], tick_seconds: float) -> LatencyScatter:
    """Return the sums of the latency's A/A history, tick by tick. A request lies beyond a quantile
    of what one half had in all of that time."""
    windows = list(_added(history, _ticks_in(SLOW_SECONDS[-1], tick_seconds)))
    whole = next(_added(history, len(history)), Latencies({}, {}))
    return LatencyScatter(
        tuple(_apart(windows, p) for p in _QUANTILES),
        tuple(_beyond(history, whole, p) for p in _QUANTILES),
    )


def latency_noise(history: Sequence[Latencies], tick_seconds: float) -> LatencyNoise:
    """Return what the latency's A/A history says, see `LatencyScatter.noise`."""
    return latency_scatter(history, tick_seconds).noise()


def _apart(windows: Sequence[Latencies], p: float) -> tuple[float, int]:
    squares = [
        (_log_quantile(one.canary, p) - _log_quantile(one.control, p)) ** 2
        - _sampling(one.canary, p)
        - _sampling(one.control, p)
        for one in windows
        if min(requests(one.canary), requests(one.control)) >= LEAST
    ]
    return sum(squares), len(squares)


def _beyond(history: Sequence[Latencies], whole: Latencies, p: float) -> Scatter:
    """Return how the requests of a tick that lie beyond the quantile of all scatter."""
    if not requests(whole.canary):
        return Scatter()
    at = [int(_log_quantile(whole.canary, p) / _LOG_GROWTH)]
    arms = [(Summed(one.canary), Summed(one.control)) for one in history]
    return _scattered(
        [Counts(a.requests, a.beyond(at)[0], b.requests, b.beyond(at)[0]) for a, b in arms]
    )


def _scattered(history: Sequence[Counts]) -> Scatter:
    seen = expected = 0.0
    failures = 0
    for n_a, x_a, n_b, x_b in history:
        if not n_a or not n_b:
            continue
        w, x = n_a / (n_a + n_b), x_a + x_b
        seen += (x_a - x * w) ** 2
        expected += x * w * (1 - w)
        failures += x
    return Scatter(seen, expected, failures, len(history))


def _each_added(some: Sequence[Scatter], others: Sequence[Scatter]) -> tuple[Scatter, ...]:
    return tuple(a + b for a, b in zip(some, others, strict=True))


def _ticks_in(seconds: float, tick_seconds: float) -> int:
    return max(1, round(seconds / tick_seconds))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return value


_Any = TypeVar("_Any")


def _of_length(some: Sequence[_Any], length: int) -> tuple[_Any, ...]:
    if len(some) != length:
        raise ValueError(f"{length} are meant, not {len(some)}")
    return tuple(some)


def _windows(history: Sequence[Counts], size: int) -> Iterator[Counts]:
    for begin in range(0, len(history) - size + 1, size):
        tally = Tally()
        tally.add(history[begin : begin + size])
        yield tally.counts()


def _added(history: Sequence[Latencies], size: int) -> Iterator[Latencies]:
    for begin in range(0, len(history) - size + 1, max(1, size)):
        halves: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for one in history[begin : begin + size]:
            for half, histogram in zip(halves, one, strict=True):
                for bucket, count in histogram.items():
                    half[bucket] = half.get(bucket, 0) + count
        yield Latencies(*halves)


_LOG_GROWTH = log(2) / 16


def _log_quantile(histogram: Histogram, p: float) -> float:
    """Return the log of a quantile but for a constant, interpolated within its bucket."""
    ordered = sorted(bucket for bucket, count in histogram.items() if count)
    sums = list(accumulate(histogram[bucket] for bucket in ordered))
    wanted = min(max(p, 0.0), 1.0) * sums[-1]
    place = min(bisect_left(sums, wanted), len(sums) - 1)
    before = sums[place - 1] if place else 0
    within = (wanted - before) / (sums[place] - before)
    return (ordered[place] + within) * _LOG_GROWTH


def _sampling(histogram: Histogram, p: float) -> float:
    """Return the variance of `_log_quantile` by sampling alone."""
    one = sqrt(p * (1 - p) / requests(histogram))
    return ((_log_quantile(histogram, p + one) - _log_quantile(histogram, p - one)) / 2) ** 2
