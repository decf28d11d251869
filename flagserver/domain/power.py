"""What each step of a rollout can and cannot detect at the traffic there is; said before it begins.

The arithmetic is the judgement's (`sortition.judgement.planning`), of the very bets that it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sortition.core.bucketing import WHOLE
from sortition.judgement import planning
from sortition.judgement.counts import Histogram
from sortition.judgement.design import (
    HTTP_ERRORS,
    Design,
    Latency,
    Rate,
    standard_edges,
    standard_latency,
    standard_rates,
)
from sortition.judgement.planning import WANTED_REQUESTS, Counted, Step

from .guards import Guard
from .outcomes import Totals
from .plan import Preview
from .schedule import duration_text, percent_text
from .signals import Measure

ASSUMED = 0.1
"""A rate that nobody reports yet is taken to be this part of its limit, and it is said so."""

OUTCOMES = "outcomes"
OTHER_WEIGHT = 0.05
"""Of either test of a metric of somebody's own."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What SDKs reported of a service of late.

    per_second: requests.  totals: what they came to; nothing where nobody reports.
    """

    per_second: float
    totals: Totals = field(default_factory=Totals)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one step shows by one guard.

    requests: of the canary that count it, expected in the hold.
    detects: what is found within the hold, from that on: a rate (a fraction), or how many times as
    slow; None where nothing can be.  usual: the control's rate; None of latency.
    assumed: nobody reports that rate yet.
    certified: a `pass` means certified good; else no harm seen, minimum sample met.
    """

    guard: str
    requests: int
    detects: float | None
    usual: float | None
    assumed: bool
    certified: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A first share that shows more. share: parts per million.  requests: of the canary then."""

    share: int
    requests: int
    sentence: str


# --- the design -----------------------------------------------------------------------------------


def comparable(guards: Sequence[Guard]) -> list[Guard]:
    """Return the guards that a comparison of both arms can answer for: rates and p95 of what SDKs
    report."""
    return [
        guard
        for guard in guards
        if guard.signal.source == OUTCOMES
        and guard.signal.measure in {Measure.RATE, Measure.LATENCY}
    ]


_WEIGHTS = {
    None if rate.name == HTTP_ERRORS else rate.name: (rate.ratio_weight, rate.limit_weight)
    for rate in standard_rates()
}
"""Metric (None: all requests) -> weights of its tests."""


def design_of(guards: Sequence[Guard], steps: Sequence[Step]) -> Design | None:
    """Return what guards compare, each under its own name; None where none of them does."""
    found = comparable(guards)
    rates = [_rate(g) for g in found if g.signal.measure is Measure.RATE and 0 < g.limit < 1]
    slow = [g for g in found if g.signal.measure is Measure.LATENCY and g.limit > 0][:1]
    if not rates:
        return None
    usual = standard_latency()
    latency = replace(usual, name=slow[0].name, limit=slow[0].limit) if slow else None
    whole = sum(rate.weight for rate in rates) + (latency.weight if latency else 0.0)
    return Design(
        tuple(
            replace(r, ratio_weight=r.ratio_weight / whole, limit_weight=r.limit_weight / whole)
            for r in rates
        ),
        None if latency is None else _scaled(latency, 1 / whole),
        standard_edges(),
        planned_seconds=max(1.0, sum(step.hold for step in steps)),
        steps=max(1, len(steps)),
    )


def _metric(guard: Guard) -> str | None:
    metric = guard.signal.get("metric")
    return None if metric is None else str(metric)


def _rate(guard: Guard) -> Rate:
    ratio, limit = _WEIGHTS.get(_metric(guard), (OTHER_WEIGHT, OTHER_WEIGHT))
    return Rate(guard.name, guard.limit, ratio, limit)


def _scaled(latency: Latency, by: float) -> Latency:
    return replace(
        latency,
        slower_weight=latency.slower_weight * by,
        limit_weight=latency.limit_weight * by,
    )


# --- what steps show ------------------------------------------------------------------------------


def powers(
    guards: Sequence[Guard], previews: Sequence[Preview], usual: Usual
) -> tuple[tuple[Seen, ...], ...]:
    """Return for each step what it shows by each guard that compares; nothing of steps that are not
    held."""
    steps = [Step(one.exposure.least() / WHOLE, float(one.hold)) for one in previews]
    held = [step for step in steps if step.hold and step.share]
    design = design_of(guards, held)
    if design is None:
        return tuple(() for _ in previews)
    known = {
        guard.name: found
        for guard in comparable(guards)
        if (found := _counted(guard, usual)) is not None
    }
    return tuple(
        tuple(_seen(design, i, step, known, usual)) if step.hold and step.share else ()
        for i, step in enumerate(steps)
    )


def _counted(guard: Guard, usual: Usual) -> tuple[Counted, bool] | None:
    """Return how often a guard's rate is counted and what it usually is, and whether that is
    assumed; None where nobody counts it."""
    if guard.signal.measure is not Measure.RATE:
        return None
    metric, totals = _metric(guard), usual.totals
    if metric is None:
        if not totals.requests:
            return Counted(usual.per_second, guard.limit * ASSUMED), True
        return Counted(usual.per_second, totals.failures / totals.requests), False
    whole, failed = totals.metrics.get(metric, (0, 0))
    if not whole or not totals.requests:
        return None
    return Counted(usual.per_second * whole / totals.requests, failed / whole), False


def _seen(
    design: Design,
    i: int,
    step: Step,
    known: dict[str, tuple[Counted, bool]],
    usual: Usual,
) -> list[Seen]:
    found = []
    for rate in design.rates:
        if rate.name in known:
            counted, assumed = known[rate.name]
            found.append(_of_rate(design, rate, i, step, counted, assumed=assumed))
    histogram = usual.totals.latency
    if design.latency is not None and any(histogram.values()):
        found.append(_of_latency(design, i, step, histogram, usual.per_second))
    return found


def _of_rate(
    design: Design, rate: Rate, i: int, step: Step, counted: Counted, *, assumed: bool
) -> Seen:
    (one,) = planning.power(design, rate, [step], counted.per_second, counted.baseline)
    words = one.sentence.replace("Step 1 ", f"Step {i + 1} ", 1)
    if step.share >= 1:
        words = (
            f"Step {i + 1} leaves no control: {rate.name} is judged by its limit of "
            f"{rate.limit * 100:.3g} % alone."
        )
    elif assumed:
        words += f" (Nobody reports yet: {counted.baseline * 100:.2g} % is assumed.)"
    certified = one.certified and step.share < 1
    return Seen(
        *(rate.name, one.requests, one.detectable, counted.baseline, assumed, certified, words)
    )


def _of_latency(
    design: Design, i: int, step: Step, histogram: Histogram, per_second: float
) -> Seen:
    assert design.latency is not None  # noqa: S101 - asked before
    name, requests = design.latency.name, round(per_second * step.share * step.hold)
    slower = planning.detectable_slowdown(design, histogram, step, per_second)
    begin = f"Step {i + 1}: {name}"
    if step.share >= 1:
        words = f"Step {i + 1} leaves no control: {name} is judged by its limit alone."
    elif slower is None:
        words = f"{begin} cannot be judged by comparison in that time, however slow it is."
    else:
        words = f"{begin} is seen from about {slower:.2g} times as slow on, not less."
    return Seen(name, requests, slower, None, False, False, words)


# --- a first share that shows more ----------------------------------------------------------------


def offer(previews: Sequence[Preview], usual: Usual) -> Offer | None:
    """Return a first share that gives about 1,500 canary requests, None where the first step has
    them, or no larger share than it has may be offered."""
    if not previews or not previews[0].hold:
        return None
    first = previews[0]
    share, hold = first.exposure.least(), first.hold
    wanted = round(planning.first_share(usual.per_second, hold) * WHOLE)
    have = round(usual.per_second * hold * share / WHOLE)
    if have >= WANTED_REQUESTS or wanted <= share:
        return None
    gives = round(usual.per_second * hold * wanted / WHOLE)
    said = (
        f"Step 1 gives about {have:,} canary requests. A first share of {percent_text(wanted)} "
        f"gives about {gives:,} in {duration_text(hold)}"
    )
    if gives < WANTED_REQUESTS:
        needed = round(WANTED_REQUESTS / (usual.per_second * wanted / WHOLE))
        said += (
            f"; {WANTED_REQUESTS:,}, which show most of what matters, would take "
            f"{duration_text(needed)} even so"
        )
    return Offer(wanted, gives, f"{said}.")
