"""What of a rollout is compared with what, and by which design: from what services reported to the
judgement's ticks.

A traffic target is compared by cohort: whoever runs the rollout's new version, against any other. A
flag is compared by variant, among the requests that asked it, within each version of each service:
so neither is blamed for the other. A flag that is on wherever the new version runs cannot be told
apart from it, and shares its comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sortition.core.bucketing import WHOLE
from sortition.core.ticks import TICK_SECONDS
from sortition.judgement.counts import BEFORE, MOST, Counts, Latencies, Tick
from sortition.judgement.design import (
    CRITICAL_PATH,
    DATABASE,
    HTTP_ERRORS,
    USER_SESSION,
    Design,
    Latency,
    Rate,
    standard_latency,
    standard_rates,
    weighted,
)
from sortition.judgement.planning import Counted, Step, planned
from sortition.judgement.trial import Subject, Trial

from .calibration import UNCALIBRATED, Calibration, posted_dispersion
from .flags import State
from .guards import Guard, NoData, OnBreach
from .metrics import Posted, by_cohort
from .outcomes import (
    Part,
    Totals,
    added,
    cohorts,
    flag_subject,
    service_subject,
)
from .plan import NO_STEP, Relation
from .rollout import Rollout
from .signals import Measure

SOURCE, POSTED = "outcomes", "metrics"
"""Whose rates are compared: what SDKs report, and what others post of both arms."""

POSTED_SECONDS = 5
"""How long after a period's end what was counted in it may still be posted, before the tick ends in
which it is judged."""

POSTED_PAST = 7200
"""So long before anybody is exposed (seconds) is looked at for the noise of what others post: all
that is kept of it."""

BEFORE_SECONDS = 300
"""So long before anybody is exposed is the latency's reference, and the traffic that is planned
for."""

LENGTHS = ((0, TICK_SECONDS), (6 * 3600, 60), (3 * 24 * 3600, 600))
"""(seconds since it was first judged, seconds of a tick): what is kept of a rollout stays bounded,
and harm that is too small to be found within hours is found a minute later."""

STRATA = 8
"""Most versions of services within which a flag's variants are compared. Whoever comes later is not
compared; pooled with others, their differences would look like the flag's."""

LONGEST_CATCH_UP = 3600
"""Ticks of longer ago than that are not judged after all: their counts are about to end."""

MOST_OF_A_TICK = 0.75
"""A tick is of a step that was meant for so much of it. Shares rise while it lasts, so it says what
they rise to, and is compared as far as both arms met the same (`Tick.fair`)."""

SPREAD_SECONDS = 60
"""How long after a step SDKs may still draw by the share before it: they hear of it one by one."""

_METRICS = {
    "session_error": USER_SESSION,
    "critical_path": CRITICAL_PATH,
    "db_connection": DATABASE,
}
WARM_UP_PART = 0.25
"""How much of the first hold latency's warm-up takes at most."""

_OTHER = 0.05
"""What a metric that is nobody's standard has of the evidence, by either test."""

Place = tuple[str, str]
"""(service, version) within which a flag's variants are compared."""

_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a rollout.

    name: as its trial names it.  targets: what goes back when it shows harm.
    flag: its key; None: the cohorts of the service.  weight: of its evidence; together 1.
    """

    name: str
    targets: tuple[str, ...]
    flag: str | None
    weight: float

    def subject(self, rollout: Rollout) -> tuple[str, str]:
        """Return (environment, subject) of the outcomes that it is about."""
        subject = service_subject(rollout.service) if self.flag is None else flag_subject(self.flag)
        return rollout.environment, subject

    def share(self, rollout: Rollout, step: int) -> float:
        """Return the share of its canary at a step, a fraction."""
        if step == NO_STEP:
            return 0.0
        shares = rollout.plan[step].shares
        return (
            max(shares[target] for target in self.targets if target in self._moved(rollout)) / WHOLE
        )

    def _moved(self, rollout: Rollout) -> set[str]:
        of = rollout.traffic if self.flag is None else rollout.flags
        return {target.id for target in of}


def comparisons(rollout: Rollout) -> tuple[Comparison, ...]:
    """Return what is compared; nothing where no guard counts requests that SDKs report."""
    if not _counts_requests(rollout.guards):
        return ()
    found: list[tuple[str, tuple[str, ...], str | None]] = []
    traffic = tuple(target.id for target in rollout.traffic)
    tied = rollout.relation is Relation.ON_CANARY
    flags = () if tied and traffic else rollout.flags
    if traffic:
        together = tuple(target.id for target in rollout.flags) if tied else ()
        name = traffic[0] if len(traffic) == 1 else service_subject(rollout.service)
        found.append((name, (*traffic, *together), None))
    found += [(target.id, (target.id,), target.name) for target in flags]
    return tuple(Comparison(*each, 1 / len(found)) for each in found)


def blamed(rollout: Rollout, names: Sequence[str]) -> tuple[str, ...]:
    """Return the targets of the comparisons of these names."""
    guilty = {t for each in comparisons(rollout) if each.name in names for t in each.targets}
    return tuple(target.id for target in rollout.targets if target.id in guilty)


# --- the design -----------------------------------------------------------------------------------


def compares(guard: Guard) -> bool:
    """Tell whether a guard can be compared: it counts what SDKs report, and may roll back."""
    signal = guard.signal
    if signal.source != SOURCE or guard.on_breach is OnBreach.HOLD:
        return False
    if signal.measure is Measure.RATE:
        return 0 < guard.limit < 1
    return signal.measure is Measure.LATENCY and guard.limit > 0 and _quantile(guard) == P95


def answers(guard: Guard) -> bool:
    """Tell whether its comparison answers for a guard. Points that are shorter than the ticks that
    are compared are known sooner: such a guard goes by them, and its comparison shows harm."""
    return compares(guard) and guard.period >= TICK_SECONDS


def is_posted(guard: Guard) -> bool:
    """Tell whether a guard's rate is compared as far as others post it of both cohorts. Its limit
    goes on speaking for it: nobody knows beforehand whether both will be posted."""
    signal = guard.signal
    rate = signal.source == POSTED and signal.measure is Measure.RATE
    return rate and guard.on_breach is not OnBreach.HOLD and 0 < guard.limit < 1


P95 = 0.95


def _quantile(guard: Guard) -> float:
    told = guard.signal.get("quantile")
    return told if isinstance(told, float) else P95


def metrics(guards: Sequence[Guard]) -> dict[str, str | None]:
    """Return the rates that are compared, by their guard's name: of which metric, None of all
    requests. The one that counts requests is the first."""
    found = {
        guard.name: _metric(guard)
        for guard in guards
        if compares(guard) and guard.signal.measure is Measure.RATE
    }
    return dict(sorted(found.items(), key=lambda each: each[1] is not None))


def _metric(guard: Guard) -> str | None:
    told = guard.signal.get("metric")
    return None if told is None else str(told)


def posted(guards: Sequence[Guard]) -> dict[str, str]:
    """Return the rates that others post, by their guard's name: under which name a tick has them.
    The same metric by another period has other counts."""
    return {guard.name: name for guard, name in _posted(guards)}


def _posted(guards: Sequence[Guard]) -> list[tuple[Guard, str]]:
    return [(it, f"{POSTED}/{_metric(it)}/{it.period}") for it in guards if is_posted(it)]


def watches_latency(guards: Sequence[Guard]) -> bool:
    """Tell whether the latency is compared."""
    return any(compares(guard) and guard.signal.measure is Measure.LATENCY for guard in guards)


def _counts_requests(guards: Sequence[Guard]) -> bool:
    return any(metric is None for metric in metrics(guards).values())


def design(
    rollout: Rollout,
    comparison: Comparison,
    edges: tuple[float, ...],
    calibration: Calibration = UNCALIBRATED,
) -> Design:
    """Return by what a comparison is judged. edges: of the latency buckets, seconds.  calibration:
    of its service."""
    judged = _judged_steps(rollout, comparison)
    by_name = {guard.name: guard for guard in rollout.guards if compares(guard)}
    known = calibration if comparison.flag is None else calibration.within_processes()
    rates = [
        replace(_rate(by_name[name], metric), noise=known.of_rate(metric))
        for name, metric in metrics(rollout.guards).items()
    ]
    if comparison.flag is None:
        rates += [
            replace(_posted_rate(guard), noise=known.rates[name])
            for guard, name in _posted(rollout.guards)
            if name in known.rates
        ]
    latency = next(
        (_latency(g) for g in by_name.values() if g.signal.measure is Measure.LATENCY), None
    )
    if latency is not None:
        latency = replace(latency, noise=known.of_latency())
    if latency is not None and judged:
        # What is still warming up says nothing, and a step has to be judged within its hold.
        warm_up = min(latency.warm_up, judged[0][1].hold * WARM_UP_PART)
        latency = replace(latency, warm_up=warm_up)
    scaled = weighted([*rates, *([] if latency is None else [latency])])  # type: ignore[type-var]
    return Design(
        tuple(one for one in scaled if isinstance(one, Rate)),
        next((one for one in scaled if isinstance(one, Latency)), None),
        edges,
        planned_seconds=float(sum(step.hold for _, step in judged)) or BEFORE_SECONDS,
        steps=max(1, len(judged)),
        calibration=calibration.sentence,
        by_causes=True,
    )


def with_posted(
    calibration: Calibration, rollout: Rollout, points: Sequence[Posted]
) -> Calibration:
    """Return what is known of a service's noise, and what its points say of that of the rates that
    others post. points: of POSTED_PAST before anybody was exposed.

    What others post has no halves, so each period is compared with the next one. A rate that they
    say too little of is not in the design, and is judged by its limit.
    """
    mine = [point for point in points if point.subject == service_subject(rollout.service)]
    rates, said = dict(calibration.rates), [calibration.sentence]
    like = calibration.of_rate(None)
    for guard, name in _posted(rollout.guards):
        past = _periods([it for it in mine if it.metric == _metric(guard)], guard.period)
        dispersion = posted_dispersion(past, guard.period)
        if dispersion is None:
            said.append(f"{guard.name}: judged by its limit, for too little was posted before.")
        else:
            rates[name] = replace(like, dispersion=dispersion)
            said.append(f"{guard.name} scatters {dispersion:.2g} times as much as by chance.")
    return replace(calibration, rates=rates, sentence=" ".join(filter(None, said)))


def _periods(points: Sequence[Posted], period: int) -> dict[int, tuple[int, int]]:
    """Return (all, failed) of all arms together, by the period's end."""
    summed = ((end, _summed(some)) for end, some in _by_period(points, period).items())
    return {end: counts for end, counts in summed if counts is not None}


def _by_period(points: Sequence[Posted], period: int) -> dict[int, list[Posted]]:
    found: dict[int, list[Posted]] = {}
    for point in points:
        found.setdefault(-(-point.at // period) * period, []).append(point)
    return found


def _rate(guard: Guard, metric: str | None) -> Rate:
    known = HTTP_ERRORS if metric is None else _METRICS.get(metric, metric)
    standard = {rate.name: rate for rate in standard_rates()}
    like = standard.get(known, Rate(known, guard.limit, _OTHER, _OTHER))
    return replace(
        like,
        name=guard.name,
        limit=guard.limit,
        critical=answers(guard),
        optional=guard.no_data is NoData.PASS,
        minimum_sample=guard.minimum_sample or like.minimum_sample,
    )


def _posted_rate(guard: Guard) -> Rate:
    """Return one that adds its evidence, and for which no step waits."""
    return Rate(guard.name, guard.limit, _OTHER, _OTHER, critical=False, optional=True)


def _latency(guard: Guard) -> Latency:
    like = standard_latency()
    return replace(
        like,
        name=guard.name,
        limit=guard.limit,
        critical=answers(guard),
        optional=guard.no_data is NoData.PASS,
        minimum_sample=guard.minimum_sample or like.minimum_sample,
    )


def _judged_steps(rollout: Rollout, comparison: Comparison) -> list[tuple[int, Step]]:
    """Return the steps that are watched with both arms there, with their place in the plan."""
    steps = ((i, comparison.share(rollout, i)) for i in range(len(rollout.plan)))
    return [
        (i, Step(share, float(rollout.plan[i].hold)))
        for i, share in steps
        if 0 < share < 1 and rollout.plan[i].hold
    ]


def planned_design(
    rollout: Rollout,
    comparison: Comparison,
    edges: tuple[float, ...],
    before: Tick | None,
    calibration: Calibration = UNCALIBRATED,
) -> Design:
    """Return the design with what a `pass` means in each step, at the traffic there was. before:
    what the control did (`BEFORE`), None when nobody knows."""
    found = design(rollout, comparison, edges, calibration)
    judged = _judged_steps(rollout, comparison)
    if before is None or not judged:
        return found
    known = {name: _counted(strata, before.seconds) for name, strata in before.counts.items()}
    of_traffic = planned(
        found, [step for _, step in judged], {name: it for name, it in known.items() if it}
    )
    places = [i for i, _ in judged]
    rates = tuple(
        replace(rate, certified=tuple(places[i] for i in rate.certified))
        for rate in of_traffic.rates
    )
    return replace(of_traffic, rates=rates)


def _counted(strata: Sequence[Counts], seconds: float) -> Counted | None:
    whole = sum(one.control for one in strata)
    failed = sum(one.control_failed for one in strata)
    return Counted(whole / seconds, (failed + 0.5) / (whole + 1)) if whole else None


def trial(
    rollout: Rollout,
    edges: tuple[float, ...],
    before: Mapping[str, Tick | None],
    calibration: Calibration = UNCALIBRATED,
) -> Trial | None:
    """Return the trial of a rollout before the first look, None where nothing is compared. before:
    by the comparison's name."""
    subjects = [
        Subject(
            each.name,
            each.weight,
            design=planned_design(rollout, each, edges, before.get(each.name), calibration),
        )
        for each in comparisons(rollout)
    ]
    if not subjects or subjects[0].design is None:
        return None
    return Trial(subjects[0].design, subjects)


# --- ticks ----------------------------------------------------------------------------------------


def tick_seconds(age: float) -> int:
    """Return how long a tick is, of a rollout that was first judged so many seconds ago."""
    return max(length for since, length in LENGTHS if age >= since)


def ends(since: int, settled: int, began: int) -> Iterator[tuple[int, int]]:
    """Yield (end, seconds) of each tick that is to be judged in (since, settled], oldest first.

    began: unix second at which the rollout was first judged.
    """
    while True:
        length = tick_seconds(since - began)
        end = since // length * length + length
        if end > settled:
            return
        yield end, end - since
        since = end


def step_at(rollout: Rollout, begins: float, seconds: float) -> int:
    """Return of which step a tick is that begins then (unix) and is so long: of the new one where
    most of it was; BEFORE the first share was meant."""
    if rollout.step == NO_STEP or rollout.step_began is None:
        return BEFORE
    changes = begins + (1 - MOST_OF_A_TICK) * seconds
    return rollout.step if changes >= rollout.step_began else rollout.step - 1


def rises_to(
    rollout: Rollout, comparison: Comparison, begins: float, seconds: float
) -> float | None:
    """Return the share that the canary was being given in a tick that begins then (unix) and is so
    long; None where it was given before, or is still to be."""
    meant, confirmed = rollout.step_began, rollout.step_confirmed_at
    if rollout.step == NO_STEP or meant is None or begins + seconds <= meant:
        return None
    if confirmed is not None and confirmed <= begins:
        return None
    return comparison.share(rollout, rollout.step)


def draws(rollout: Rollout, state: State | None, begins: float) -> bool:
    """Tell whether a flag's assignments in a tick are lots that were drawn with its share: nobody
    is left out of the draw, and every SDK has heard of the share.

    state: of the flag, None of traffic, which a balancer deals out and does not draw.
    begins: unix second at which the tick did.
    """
    since = rollout.step_confirmed_at
    if state is None or since is None or state.conditions or state.prerequisites:
        return False
    return not state.killed and begins >= since + SPREAD_SECONDS


def placed(places: Sequence[Place], parts: Mapping[Part, Totals]) -> tuple[Place, ...]:
    """Return the places of a flag's strata: those that there were, in their order, then new ones
    while there is room."""
    new = sorted({(part.service, part.version) for part in parts} - set(places))
    return (*places, *new)[:STRATA]


def posted_parts(
    rollout: Rollout, points: Sequence[Posted], *, after: int, until: int
) -> Mapping[Part, Totals]:
    """Return what was posted of the rollout's service in the periods that are judged with a tick of
    (after, until] (unix): they ended POSTED_SECONDS before, and the canary had its share from
    their beginning to their end. What is not whole numbers, or of one arm only, is left out.
    """
    since, version = rollout.step_confirmed_at, rollout.version
    if since is None or version is None:
        return {}
    mine = [point for point in points if point.subject == service_subject(rollout.service)]
    names, span = posted(rollout.guards), (after - POSTED_SECONDS, until - POSTED_SECONDS)
    canary: dict[str, tuple[int, int]] = {}
    control: dict[str, tuple[int, int]] = {}
    for guard in rollout.guards:
        if guard.name in names:
            of_metric = [point for point in mine if point.metric == _metric(guard)]
            pairs = list(_pairs(of_metric, version, guard.period, since, span))
            if pairs:
                canary[names[guard.name]] = sum(a for a, *_ in pairs), sum(b for _, b, *_ in pairs)
                control[names[guard.name]] = sum(c for *_, c, _ in pairs), sum(d for *_, d in pairs)
    if not canary:
        return {}
    return {Part(version): Totals(metrics=canary), Part(f"not {version}"): Totals(metrics=control)}


def _pairs(
    points: Sequence[Posted], version: str, period: int, since: float, span: tuple[int, int]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield (all, failed) of the canary and of control, of each period that ended within the span
    and began after `since`, and of which both were posted."""
    for end, some in _by_period(points, period).items():
        if span[0] < end <= span[1] and end - period >= since:
            sides = by_cohort(some, version)
            canary, control = _summed(sides.canary), _summed(sides.control)
            if canary is not None and control is not None:
                yield (*canary, *control)


def _summed(points: Sequence[Posted]) -> tuple[int, int] | None:
    """Return (all, failed) of one arm's points, None where they count nothing, or no requests."""
    failed = sum((point.numerator for point in points), 0.0)
    whole = sum((point.denominator for point in points), 0.0)
    if not 0 <= failed <= whole or not whole:
        return None
    return (int(whole), int(failed)) if failed.is_integer() and whole.is_integer() else None


@dataclass(frozen=True, slots=True)
class Arm:
    """A stratum: what both arms reported. None: nothing."""

    canary: Totals | None
    control: Totals | None


def strata(
    comparison: Comparison,
    rollout: Rollout,
    parts: Mapping[Part, Totals],
    places: Sequence[Place],
    rest: str,
) -> list[Arm]:
    """Return the strata of one tick. rest: the flag's variant of who is not exposed."""
    if comparison.flag is None:
        versions = _pooled((part.variant, totals) for part, totals in parts.items())
        arms = cohorts(versions, rollout.version or "")
        return [Arm(arms.canary, arms.control)]
    return [_within(place, parts, rest) for place in places]


def _within(place: Place, parts: Mapping[Part, Totals], rest: str) -> Arm:
    here = [(p.variant, t) for p, t in parts.items() if (p.service, p.version) == place]
    drawn = [totals for variant, totals in here if variant != rest]
    control = [totals for variant, totals in here if variant == rest]
    return Arm(added(drawn) if drawn else None, added(control) if control else None)


def _pooled(parts: Iterator[tuple[_K, Totals]]) -> dict[_K, Totals]:
    found: dict[_K, list[Totals]] = {}
    for key, totals in parts:
        found.setdefault(key, []).append(totals)
    return {key: added(some) for key, some in found.items()}


def tick(
    arms: Sequence[Arm],
    of: Mapping[str, str | None],
    *,
    at: int,
    seconds: int,
    step: int,
    share: float,
    latency: bool,
    draws: bool,
    rises_to: float | None = None,
) -> Tick:
    """Return the judgement's tick.

    arms: strata.  of: `metrics`.  latency: whether it is watched.  draws: whether assignments are
    lots that were drawn with this share.  rises_to: `rises_to`.
    """
    return Tick(
        float(at),
        float(seconds),
        step,
        share,
        {name: [_counts(arm, metric) for arm in arms] for name, metric in of.items()},
        [Latencies(_histogram(arm.canary), _histogram(arm.control)) for arm in arms]
        if latency
        else (),
        _assigned(arms) if draws else None,
        rises_to,
    )


def _counts(arm: Arm, metric: str | None) -> Counts:
    canary, failed = _of(arm.canary, metric)
    control, control_failed = _of(arm.control, metric)
    return Counts(canary, failed, control, control_failed)


def _of(totals: Totals | None, metric: str | None) -> tuple[int, int]:
    """Return (all, failed), never more failed than there were, nor more than can be."""
    if totals is None:
        return 0, 0
    whole, failed = (
        (totals.requests, totals.failures) if metric is None else totals.metrics.get(metric, (0, 0))
    )
    whole = min(max(whole, 0), MOST)
    return whole, min(max(failed, 0), whole)


def _histogram(totals: Totals | None) -> Mapping[int, int]:
    return {} if totals is None else totals.durations()


def _assigned(arms: Sequence[Arm]) -> tuple[int, int]:
    def sum_of(totals: Sequence[Totals | None]) -> int:
        return min(MOST, sum(each.assignments for each in totals if each is not None))

    return sum_of([arm.canary for arm in arms]), sum_of([arm.control for arm in arms])
