"""What A/A history says of noise: how much two halves of the same version differ.

A day of it, the control's hosts split by lot into two halves, counted tick by tick. Independent
requests make every test exact; sticky sessions, retry storms and hosts that drift apart do not, and
then an exact test of counts is wrong without bound. Three things are taken from history, and each
makes the tests slower by as much as there is less information:

    dispersion  of counts within a tick: factors are tempered with their root by it
    drift       how many times a half's rate is no harm: what halves differ by over minutes
    slowdown    likewise for latency
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp, log, sqrt

from .counts import Counts, Histogram, Latencies, Tally
from .latency import LEAST, Summed, requests

NORMAL_99 = 2.33
"""Standard deviations that one of a hundred windows exceeds."""

SLOW_SECONDS = (120.0, 300.0)
"""What differs for as long as this counts as drift and not as noise."""

TOLERATED, MOST_TOLERATED = 1.5, 10.0
SLOWDOWN, NOTICED, MOST_SLOWDOWN = 1.48, 1.24, 4.0
"""Tolerated anyway: failures 1.5 times as often; for rolling back nine buckets slower, for holding
five. And at most: with more noise than that nothing can be judged by comparison."""

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


def rate_noise(history: Sequence[Counts], tick_seconds: float) -> RateNoise:
    """Return what a metric's A/A history says.

    phi(k) = sum (A - X w)^2 / sum X w (1-w) over windows of k seconds, A the failures of one half,
    X of both, w its share of requests: 1 for independent requests. What phi grows by from a tick to
    two or five minutes is drift, if it is more than two standard errors: the log of the halves'
    ratio has a variance of (phi_k - phi_tick) (1/mu_A + 1/mu_B), mu the mean failures of a half in
    k seconds.
    """
    phi, _ = _dispersion(history)
    dispersion = max(1.0, phi)
    drift = max(_drift(history, dispersion, seconds, tick_seconds) for seconds in SLOW_SECONDS)
    drift = min(MOST_TOLERATED, drift)
    return RateNoise(dispersion, drift, max(TOLERATED, drift))


def _drift(
    history: Sequence[Counts], dispersion: float, seconds: float, tick_seconds: float
) -> float:
    windows = list(_windows(history, max(1, round(seconds / tick_seconds))))
    phi, mean = _dispersion(windows)
    if not mean:
        return 1.0
    by_chance = dispersion * (1 + 2 * sqrt(2 / len(windows)))
    return exp(NORMAL_99 * sqrt(2 * (phi - dispersion) / mean)) if phi > by_chance else 1.0


def latency_noise(history: Sequence[Latencies], tick_seconds: float) -> LatencyNoise:
    """Return what the latency's A/A history says.

    Per five minutes the log of the halves' ratio at p50 and p95, whose variance is twice an arm's
    plus that of sampling, which is taken off: a quantile's is p (1-p) / n over its density squared.
    """
    size = max(1, round(SLOW_SECONDS[-1] / tick_seconds))
    found = 0.0
    windows = list(_added(history, size))
    for p in _QUANTILES:
        squares = [
            (_log_quantile(one.canary, p) - _log_quantile(one.control, p)) ** 2
            - _sampling(one.canary, p)
            - _sampling(one.control, p)
            for one in windows
            if min(requests(one.canary), requests(one.control)) >= LEAST
        ]
        if squares:
            found = max(found, sum(squares) / len(squares))
    between = sqrt(found)
    whole = next(_added(history, len(history)), Latencies({}, {}))
    return LatencyNoise(
        min(MOST_SLOWDOWN, max(SLOWDOWN, exp(NORMAL_99 * between))),
        min(MOST_SLOWDOWN, max(NOTICED, exp(_NORMAL_90 * between))),
        max(1.0, *(_scatter(history, whole, p) for p in _QUANTILES)),
    )


def _scatter(history: Sequence[Latencies], whole: Latencies, p: float) -> float:
    """Return the dispersion of how many requests of a tick lie beyond the quantile of all."""
    if not whole.canary:
        return 1.0
    at = [int(_log_quantile(whole.canary, p) / _LOG_GROWTH)]
    arms = [(Summed(one.canary), Summed(one.control)) for one in history]
    counts = [Counts(a.requests, a.beyond(at)[0], b.requests, b.beyond(at)[0]) for a, b in arms]
    return _dispersion(counts)[0]


def _dispersion(history: Sequence[Counts]) -> tuple[float, float]:
    """Return the dispersion, and the mean failures of a half."""
    seen = expected = 0.0
    failures = 0
    for n_a, x_a, n_b, x_b in history:
        if not n_a or not n_b:
            continue
        w, x = n_a / (n_a + n_b), x_a + x_b
        seen += (x_a - x * w) ** 2
        expected += x * w * (1 - w)
        failures += x
    if not expected:
        return 1.0, 0.0
    return seen / expected, failures / 2 / len(history)


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
