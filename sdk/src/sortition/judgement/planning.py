"""What a step can and cannot detect at the traffic there is, known before it begins.

By the growth that is expected of the very bets that `rates` makes: about half of all rollouts take
longer. No test that keeps its budget of false alarms is much quicker (information bounds: at 10
requests a second and a share of 5 %, "1 % instead of 0.1 %" takes 443 s on average at best).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, exp, inf, log

from .counts import Histogram
from .design import ACCEPTABLE_RATIO, Design, Rate
from .latency import (
    LEAST,
    REFERENCE_SECONDS,
    TAIL_RATIOS,
    TAIL_WEIGHTS,
    Reference,
    Summed,
    requests,
)
from .rates import ABOVE, BELOW, RATIOS, limit_gain, ratio_gain
from .wealth import AT_START

WANTED_REQUESTS = 1500
"""Requests of the canary in the first step that make most of what matters visible."""

LEAST_SHARE, MOST_SHARE = 0.05, 0.25
CERTIFY_MARGIN = 2.0
"""So many times the requests that certifying takes on average, and nearly every rollout has
them."""

_HALVINGS = 50
_FEW_HALVINGS = 14
"""Enough for two decimals of a slowdown: each try of it costs a millisecond."""


def first_share(
    per_second: float, hold: float, *, least: float = LEAST_SHARE, most: float = MOST_SHARE
) -> float:
    """Return the first share (a fraction, whole percents) that gives about 1,500 canary requests.

    per_second: requests of both arms that are compared.  hold: seconds.  least, most: what a first
    share may be: with less traffic than that it gives fewer, and `power` says what they can show.
    """
    if per_second <= 0 or hold <= 0:
        return most
    share = ceil(100 * WANTED_REQUESTS / (per_second * hold) - 1e-9) / 100
    return min(most, max(least, share))


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a schedule. share: a fraction.  hold: seconds."""

    share: float
    hold: float


@dataclass(frozen=True, slots=True)
class Power:
    """What one step shows of one rate.

    requests: of the canary, expected in the hold.
    detectable: the least rate of the canary that is found within the hold, None when not even
    failing always would be.
    certifiable: requests that certifying takes when the canary is as good as the control, None when
    they never suffice.  certified: whether the hold has enough of them.
    """

    step: int
    name: str
    requests: int
    detectable: float | None
    certifiable: int | None
    certified: bool
    sentence: str


def power(
    design: Design, rate: Rate, steps: Sequence[Step], per_second: float, baseline: float
) -> tuple[Power, ...]:
    """Return what each step shows of a rate.

    per_second: requests of both arms that count it.  baseline: the control's rate.
    """
    return tuple(
        _of_step(design, rate, i, steps[i], per_second, baseline) for i in range(len(steps))
    )


def _of_step(
    design: Design, rate: Rate, i: int, step: Step, per_second: float, baseline: float
) -> Power:
    requests = round(per_second * step.share * step.hold)
    least = detectable(design, rate, step, per_second, baseline)
    needed = certifiable(design, rate, step.share, baseline)
    certified = needed is not None and CERTIFY_MARGIN * needed <= requests
    sentence = _sentence(rate, i, step, requests, baseline, least, certified)
    return Power(i, rate.name, requests, least, needed, certified, sentence)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a metric is known to have.

    per_second: requests of both arms that count it.  baseline: the control's rate.
    """

    per_second: float
    baseline: float


def planned(design: Design, steps: Sequence[Step], known: Mapping[str, Counted]) -> Design:
    """Return the design with what a `pass` means in each step, at the traffic there is.

    Certified good where the hold has the requests for it; elsewhere a minimum sample, which is not
    more than a quarter of what the shortest step is expected to bring, or healthy rollouts would
    wait for a person. Metrics that are not in `known` stay as they are.
    """
    rates = tuple(
        _planned(design, rate, steps, known[rate.name]) if rate.name in known else rate
        for rate in design.rates
    )
    return replace(design, rates=rates)


def _planned(design: Design, rate: Rate, steps: Sequence[Step], known: Counted) -> Rate:
    found = power(design, rate, steps, known.per_second, known.baseline)
    fewest = min((one.requests for one in found), default=0)
    return replace(
        rate,
        certified=tuple(one.step for one in found if one.certified),
        minimum_sample=max(1, min(rate.minimum_sample, fewest // 4)),
    )


def seconds_to_detect(
    design: Design, rate: Rate, share: float, per_second: float, baseline: float, harmed: float
) -> float:
    """Return about how long it takes to prove that `harmed` (a rate) is harm; infinity for never.

    With both arms' requests at once, and the capital that is there at the start.
    """
    if not 0 < share < 1 or per_second <= 0:
        return inf
    canary, control = per_second * share, per_second * (1 - share)
    dispersion = rate.noise.dispersion

    def worse_than(tolerated: float) -> float:
        arms = (canary, harmed), (control, baseline)
        return max(ratio_gain(tolerated, g, *arms) for g in RATIOS)

    def times(weight: float, bettors: int, gain: float) -> float:
        needed = log(design.bound / weight * bettors / AT_START) if weight else inf
        return needed / (gain / dispersion) if gain > 0 else inf

    ratio = worse_than(rate.noise.tolerated)
    above = max(limit_gain(rate.limit, g, harmed) for g in ABOVE if g * rate.limit < 1)
    beyond = min(worse_than(rate.noise.drift), canary * above)
    return min(
        times(rate.ratio_weight, len(RATIOS), ratio), times(rate.limit_weight, len(ABOVE), beyond)
    )


def detectable(
    design: Design, rate: Rate, step: Step, per_second: float, baseline: float
) -> float | None:
    """Return the least rate of the canary that is found within the hold, None when none is."""

    def found(harmed: float) -> bool:
        took = seconds_to_detect(design, rate, step.share, per_second, baseline, harmed)
        return took <= step.hold

    return _least(found, baseline, 1.0) if found(1.0) else None


def _least(
    found: Callable[[float], bool], low: float, high: float, halvings: int = _HALVINGS
) -> float:
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def certifiable(design: Design, rate: Rate, share: float, baseline: float) -> int | None:
    """Return how many requests of the canary it takes to certify that it is acceptable, when it is
    as good as the control; None for never."""
    gains = [limit_gain(rate.limit, g, baseline) for g in BELOW]
    if 0 < share < 1:
        arms = (1.0, baseline), ((1 - share) / share, baseline)
        gains += [ratio_gain(ACCEPTABLE_RATIO, g, *arms) for g in BELOW]
    gains = [gain / rate.noise.dispersion for gain in gains]
    if max(gains) <= 0:
        return None

    def enough(requests: float) -> bool:
        had = sum(exp(min(600.0, requests * gain)) for gain in gains) / (2 * len(BELOW))
        return had >= 1 / design.beta

    return ceil(_least(enough, 0.0, 1e12)) if enough(1e12) else None


def _sentence(
    rate: Rate,
    i: int,
    step: Step,
    requests: int,
    baseline: float,
    least: float | None,
    certified: bool,
) -> str:
    begin = (
        f"Step {i + 1} ({step.share * 100:.3g} % for {step.hold:,.0f} s, about {requests:,} canary "
        f"requests): {rate.name}"
    )
    if least is None:
        return f"{begin} cannot be judged by comparison in that time, whatever the canary does."
    sees = f"from about {least * 100:.2g} % on (control {baseline * 100:.2g} %), not less"
    passes = "certified good" if certified else "no harm seen, minimum sample met"
    return f"{begin} is seen {sees}; a pass means: {passes}."


# --- latency --------------------------------------------------------------------------------------

MOST_SLOWDOWN = 32.0


def seconds_to_notice(
    design: Design, usual: Histogram, share: float, per_second: float, slower: float
) -> float:
    """Return about how long it takes to prove that the canary is `slower` times as slow as control;
    infinity for never. Warm-up not counted.

    usual: the control's histogram, of as many requests as there are.  per_second: of both arms.
    """
    latency = design.latency
    if latency is None or not 0 < share < 1 or per_second <= 0 or requests(usual) < LEAST:
        return inf
    reference = Reference(design.edges)
    reference.add(REFERENCE_SECONDS, usual)
    tail, order = _slow_gains(reference, usual, share, latency.noise.slowdown, slower)
    # Half of the evidence is the order's and half the tail's, of which each quantile has a part.
    parts = [weight / len(TAIL_RATIOS) / 2 for weight in TAIL_WEIGHTS]
    bets = [(1 / len(order) / 2, max(order)), *zip(parts, tail, strict=True)]
    capital = latency.slower_weight * AT_START / design.bound
    return min(
        -log(capital * part) / (gain * per_second / latency.noise.dispersion) if gain > 0 else inf
        for part, gain in bets
    )


def _slow_gains(
    reference: Reference, usual: Histogram, share: float, tolerated: float, slower: float
) -> tuple[list[float], list[float]]:
    """Return by how much the bettors of `TailShift` (the best of each quantile) and of `Order` are
    expected to gain by one request of either arm (nats)."""
    whole = requests(usual)

    def beyond(buckets: Sequence[int], times: float) -> list[float]:
        """Return the part of requests beyond these buckets if all took so many times as long."""
        moved: dict[int, int] = {}
        for bucket, count in usual.items():
            later = reference.shifted(bucket, times)
            moved[later] = moved.get(later, 0) + count
        return [found / whole for found in Summed(moved).beyond(buckets)]

    tail = []
    for u, of_control in zip(reference.tail, beyond(reference.tail, 1.0), strict=True):
        (slow,) = beyond([reference.shifted(u, tolerated)], slower)
        arms = (share, slow), (1 - share, of_control)
        tail.append(max(ratio_gain(1.0, g, *arms) for g in TAIL_RATIOS))
    at = [reference.shifted(u, tolerated) for u in reference.order]
    canary = _between([1.0, *beyond(at, slower), 0.0])
    control = _between([1.0, *beyond(reference.order, 1.0), 0.0])
    order = [
        sum(
            share * p * log(r) - (share * p + (1 - share) * q) * log(share * r + 1 - share)
            for p, q, r in zip(canary, control, ratios, strict=True)
        )
        for ratios, _ in reference.alternatives
    ]
    return tail, order


def _between(beyond: Sequence[float]) -> list[float]:
    return [more - less for more, less in pairwise(beyond)]


def detectable_slowdown(
    design: Design, usual: Histogram, step: Step, per_second: float
) -> float | None:
    """Return from how many times as slow on the canary is found within the hold, None for never."""

    def found(slower: float) -> bool:
        took = seconds_to_notice(design, usual, step.share, per_second, slower)
        return took <= step.hold - (design.latency.warm_up if design.latency else 0.0)

    return _least(found, 1.0, MOST_SLOWDOWN, _FEW_HALVINGS) if found(MOST_SLOWDOWN) else None
