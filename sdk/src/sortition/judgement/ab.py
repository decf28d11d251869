"""How two versions differ, with intervals that hold at all times at once. Decides nothing.

A split holds one share for days, and somebody looks at it every morning. All intervals together,
of every metric and at every look, hold with probability 1 - alpha (Ville 1939, and Bonferroni over
the metrics); so whoever stops when one of them excludes 0 is wrong no more often than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .counts import Histogram, Latencies, Tally, Tick
from .design import BETA
from .intervals import Interval, quantile_interval, rate_interval

QUANTILES = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of both arms. Of a rate fractions, of a latency seconds.

    metric: its name, of a latency as in `p95 latency`.  unit: "" of a rate, "s" of a latency.
    whole: requests of the canary, of the control, that count it.
    canary, control: what was seen, None of nothing; and between what the true one lies.
    low, high: of canary less control.
    """

    metric: str
    unit: str
    whole: tuple[int, int]
    canary: float | None
    control: float | None
    canary_interval: Interval
    control_interval: Interval
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Tell whether the interval excludes that both are alike."""
        return self.low > 0 or self.high < 0

    @property
    def sentence(self) -> str:
        """Say it: what is known of the difference, and no more."""
        if not all(self.whole):
            return f"{self.metric}: one of the arms has counted nothing yet."
        between = f"{self._said(self.low)} to {self._said(self.high)}"
        if not self.differs:
            return f"{self.metric}: no difference is proven; it lies between {between}."
        more = "more" if self.low > 0 else "less"
        return f"{self.metric}: {more} in the canary, by {between}."

    def _said(self, value: float) -> str:
        if self.unit:
            return "any" if value in {float("inf"), float("-inf")} else f"{value * 1000:+,.0f} ms"
        return f"{value * 100:+.3g} points"


def differences(
    ticks: Sequence[Tick], step: int, edges: Sequence[float], alpha: float = BETA
) -> tuple[Difference, ...]:
    """Return every metric's difference within one step, in which the share stays as it is: arms
    that grow and shrink together see the same hours, and what all requests went through at night
    makes no difference between them.

    edges: of the latency's buckets (seconds).  alpha: of all intervals together.
    """
    held = [tick for tick in ticks if tick.step == step]
    names = list(dict.fromkeys(name for tick in held for name in tick.counts))
    canary, control = _latency([one for tick in held for one in tick.latency])
    quantiles = QUANTILES if canary or control else ()
    each = alpha / max(1, len(names) + len(quantiles))
    return (
        *(_of_rate(name, held, each) for name in names),
        *(_of_quantile(q, canary, control, edges, each) for q in quantiles),
    )


def _of_rate(name: str, ticks: Sequence[Tick], alpha: float) -> Difference:
    tally = Tally()
    for tick in ticks:
        tally.add(tick.counts.get(name, ()))
    canary = rate_interval(tally.canary_failed, tally.canary, alpha / 2)
    control = rate_interval(tally.control_failed, tally.control, alpha / 2)
    whole = (tally.canary, tally.control)
    seen = (tally.canary_rate, tally.control_rate)
    return _difference(name, "", whole, seen, canary, control)


def _of_quantile(
    q: float, canary: Histogram, control: Histogram, edges: Sequence[float], alpha: float
) -> Difference:
    whole = (sum(canary.values()), sum(control.values()))
    seen = (_quantile(canary, edges, q), _quantile(control, edges, q))
    intervals = (quantile_interval(arm, edges, q, alpha / 2) for arm in (canary, control))
    return _difference(f"p{q * 100:g} latency", "s", whole, seen, *intervals)


def _difference(
    metric: str,
    unit: str,
    whole: tuple[int, int],
    seen: tuple[float | None, float | None],
    canary: Interval,
    control: Interval,
) -> Difference:
    low, high = canary[0] - control[1], canary[1] - control[0]
    return Difference(metric, unit, whole, *seen, canary, control, low, high)


def _latency(strata: Sequence[Latencies]) -> tuple[dict[int, int], dict[int, int]]:
    canary: dict[int, int] = {}
    control: dict[int, int] = {}
    for one in strata:
        for into, histogram in ((canary, one.canary), (control, one.control)):
            for bucket, count in histogram.items():
                into[bucket] = into.get(bucket, 0) + count
    return canary, control


def _quantile(histogram: Histogram, edges: Sequence[float], q: float) -> float | None:
    """Return the upper edge of the bucket that holds it; None of nothing, or beyond the last."""
    whole, below = sum(histogram.values()), 0
    for bucket in sorted(histogram):
        below += histogram[bucket]
        if below and below >= q * whole:
            return edges[bucket] if bucket < len(edges) else None
    return None
