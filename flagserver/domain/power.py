"""What each step of a rollout can and cannot detect at the traffic there is; said before it begins.

The arithmetic is the judgement's (`sortition.judgement.planning`), of the very bets that it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sortition.core.bucketing import WHOLE
from sortition.judgement import planning
from sortition.judgement.design import Design, Latency, Rate, standard_edges
from sortition.judgement.planning import WANTED_REQUESTS, Counted, Step

from . import comparisons
from .calibration import UNCALIBRATED, Calibration
from .comparisons import Comparison
from .outcomes import Totals
from .plan import Preview
from .rollout import Rollout
from .schedule import duration_text, percent_text

ASSUMED = 0.1
"""A rate that nobody reports yet is taken to be this part of its limit, and it is said so."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What SDKs reported of a service of late.

    per_second: requests.  totals: what they came to; nothing where nobody reports.
    calibration: how noisy it is.
    """

    per_second: float
    totals: Totals = field(default_factory=Totals)
    calibration: Calibration = UNCALIBRATED


@dataclass(frozen=True, slots=True)
class Seen:
    """What one step shows by one guard of one comparison.

    target: the comparison.  requests: of the canary that count it, expected in the hold.
    detects: what is found within the hold, from that on: a rate (a fraction), or how many times as
    slow; None where nothing can be.  usual: the control's rate; None of latency.
    assumed: nobody reports that rate yet.
    certified: a `pass` means certified good; else no harm seen, minimum sample met.
    """

    target: str
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


# --- what steps show ------------------------------------------------------------------------------


def powers(rollout: Rollout, usual: Usual) -> tuple[tuple[Seen, ...], ...]:
    """Return for each step what it shows by each guard that compares; nothing of steps that are not
    held, nor of what exposes nobody in them.

    A flag is taken to be asked by every request of the service: who asks it less sees less.
    """
    found: list[list[Seen]] = [[] for _ in rollout.plan]
    known: dict[tuple[float, Step], list[Seen]] = {}
    for each in comparisons.comparisons(rollout):
        for i, planned in enumerate(rollout.plan):
            step = Step(each.share(rollout, i), float(planned.hold))
            if not step.hold or not step.share:
                continue
            if (each.weight, step) not in known:
                known[each.weight, step] = _seen(rollout, each, step, usual)
            found[i] += [_said_of(one, each, i) for one in known[each.weight, step]]
    return tuple(map(tuple, found))


def _said_of(one: Seen, comparison: Comparison, i: int) -> Seen:
    return replace(one, target=comparison.name, sentence=f"Step {i + 1}{one.sentence}")


def _seen(rollout: Rollout, comparison: Comparison, step: Step, usual: Usual) -> list[Seen]:
    design = comparisons.design(rollout, comparison, standard_edges(), usual.calibration)
    # The target's evidence is one of several: it takes as much more of it.
    design = replace(design, alpha=design.alpha * comparison.weight)
    metrics = comparisons.metrics(rollout.guards)
    found = []
    for rate in design.rates:
        # What others post has no rate that anybody knows beforehand.
        known = rate.name in metrics
        counted = _counted(rate, metrics[rate.name], usual) if known else None
        if counted is not None:
            found.append(_of_rate(design, rate, step, *counted))
    if design.latency is not None and any(usual.totals.latency.values()):
        found.append(_of_latency(design, design.latency, step, usual))
    return found


def _counted(rate: Rate, metric: str | None, usual: Usual) -> tuple[Counted, bool] | None:
    """Return how often a rate is counted and what it usually is, and whether that is assumed; None
    where nobody counts it."""
    totals = usual.totals
    if metric is None:
        if not totals.requests:
            return Counted(usual.per_second, rate.limit * ASSUMED), True
        return Counted(usual.per_second, totals.failures / totals.requests), False
    whole, failed = totals.metrics.get(metric, (0, 0))
    if not whole or not totals.requests:
        return None
    return Counted(usual.per_second * whole / totals.requests, failed / whole), False


def _of_rate(design: Design, rate: Rate, step: Step, counted: Counted, assumed: bool) -> Seen:
    (one,) = planning.power(design, rate, [step], counted.per_second, counted.baseline)
    words = one.sentence.removeprefix("Step 1")
    if step.share >= 1:
        limit = percent_text(round(rate.limit * WHOLE))
        words = f" leaves no control: {rate.name} is judged by its limit of {limit} alone."
    elif assumed:
        words += f" (Nobody reports yet: {counted.baseline * 100:.2g} % is assumed.)"
    certified = one.certified and step.share < 1
    numbers = (one.requests, one.detectable, counted.baseline)
    return Seen("", rate.name, *numbers, assumed, certified, words)


def _of_latency(design: Design, latency: Latency, step: Step, usual: Usual) -> Seen:
    name, requests = latency.name, round(usual.per_second * step.share * step.hold)
    histogram = usual.totals.latency
    slower = planning.detectable_slowdown(design, histogram, step, usual.per_second)
    if step.share >= 1:
        words = f" leaves no control: {name} is judged by its limit alone."
    elif slower is None:
        words = f": {name} cannot be judged by comparison in that time, however slow it is."
    else:
        words = f": {name} is seen from about {slower:.2g} times as slow on, not less."
    return Seen("", name, requests, slower, None, False, False, words)


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
