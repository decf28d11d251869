"""What is shown beside the evidence: intervals that hold at all times at once.

Whoever looks every five seconds sees a wrong one with probability alpha at most over the whole
rollout, not at each look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import exp, expm1, inf, log, log1p

from .counts import Histogram

_STEPS = [0.02 * 2.0**i for i in range(9)]
SLOPES = (*_STEPS, *(-step for step in _STEPS))
"""Log odds ratios that the mixture bets on: from 2 % off to a factor of 167."""

_HALVINGS = 60

Interval = tuple[float, float]


def rate_interval(failed: int, whole: int, alpha: float = 0.05) -> Interval:
    """Return between which rates the mean rate so far lies. (0, 1) of nothing.

    All p with  mean over slopes l of  exp(l x - n log(1 - p + p e^l))  < 1/alpha.  For each l
    prod e^(l X_i) / (1 - p_i + p_i e^l) is a martingale, and by concavity of log(1 - p + p e^l) in
    p it is at least that with p the mean of p_1 ... p_n. So the rate may drift: what is covered is
    its running mean. Sources: Ville 1939; Howard, Ramdas, McAuliffe, Sekhon, arXiv 1810.08240.
    """
    if not whole:
        return 0.0, 1.0

    def compatible(p: float) -> bool:
        return _log_mixture(failed, whole, p) < log(1 / alpha)

    rate = failed / whole
    low = 0.0 if compatible(0.0) else _edge(compatible, rate, 0.0)
    high = 1.0 if compatible(1.0) else _edge(compatible, rate, 1.0)
    return low, high


def _log_mixture(x: int, n: int, p: float) -> float:
    logs = [
        slope * x - n * log1p(p * expm1(slope)) if p < 1 else slope * (x - n) for slope in SLOPES
    ]
    top = max(logs)
    mean: float = sum(exp(each - top) for each in logs) / len(logs)
    return top + log(mean)


def _edge(compatible: Callable[[float], bool], inside: float, outside: float) -> float:
    """Return where compatible rates end, on the far side. The set is an interval (a convex function
    of p lies below a line) that holds the observed rate."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if compatible(middle):
            inside = middle
        else:
            outside = middle
    return outside


def difference_interval(
    canary: tuple[int, int], control: tuple[int, int], alpha: float = 0.05
) -> Interval:
    """Return between which differences, canary less control, that of the mean rates lies.

    canary, control: (failed, whole). Each arm's interval has half of alpha, so nothing is assumed
    of how they hang together. Take counts of one step: where the share changes, and the baseline
    too, pooled means differ by that alone (Simpson's paradox).
    """
    low, high = rate_interval(*canary, alpha / 2)
    other_low, other_high = rate_interval(*control, alpha / 2)
    return low - other_high, high - other_low


def quantile_interval(
    histogram: Histogram, edges: Sequence[float], quantile: float, alpha: float = 0.05
) -> Interval:
    """Return between which latencies (seconds) the quantile of all so far lies; (0, inf) of
    nothing.

    An edge whose share of requests below cannot be `quantile` is none: by `rate_interval`'s
    mixture, with p the quantile, and half of alpha for either side.
    """
    ordered = sorted(bucket for bucket, count in histogram.items() if count)
    whole = sum(histogram.values())
    low, high = 0.0, inf
    bound = log(2 / alpha)
    for bucket, below in zip(
        ordered, accumulate(histogram[bucket] for bucket in ordered), strict=True
    ):
        if bucket >= len(edges) or _log_mixture(below, whole, quantile) < bound:
            continue
        if below < quantile * whole:
            low = edges[bucket]
        else:
            high = edges[bucket]
            break
    return low, high
