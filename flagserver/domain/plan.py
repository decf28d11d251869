"""What a rollout will do, step by step and target by target, known before it begins.

A schedule says how much; the relation says what of, when a rollout moves both traffic and flags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from sortition.core.bucketing import WHOLE

from .errors import Invalid
from .guards import Guard
from .schedule import Schedule, Step, duration_text, parse, percent_text
from .signals import Measure
from .targets import Target

NO_STEP = -1
"""Before the first step: nothing is exposed."""

ENOUGH_FAILURES = 3
"""A step in which fewer failures are expected right at the limit has a chance of over 5 % to see
none at all (Poisson: exp(-3) = 0.05), so its silence says little."""


class Relation(StrEnum):
    """How flags and traffic of one rollout relate."""

    LOCK_STEP = "lock_step"
    """Both get the step's share. Draws are independent: at 5 % of each, 0.25 % see both."""
    ON_CANARY = "on_canary"
    """The flag is on where `service.version` is the new one; traffic follows the schedule."""
    AFTER = "after"
    """Traffic runs the schedule; when it is complete, the flags run it."""


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step of the whole rollout. shares: target id -> parts per million, of every target.

    hold: seconds; of the last one the bake.  shown: the schedule's share that this step gives.
    kept: so much (parts per million) stays on the old version in this step, as a control.
    """

    shares: Mapping[str, int]
    hold: int
    approval: bool
    minimum_sample: int | None
    shown: int
    kept: int = 0


@lru_cache(maxsize=4096)
def expand(
    schedule: Schedule, relation: Relation, targets: tuple[Target, ...]
) -> tuple[PlanStep, ...]:
    """Return every step of a rollout. Where there is only traffic, or only flags, every relation
    comes to the same: all targets get the step's share."""
    traffic = [target.id for target in targets if not target.is_flag]
    flags = [target.id for target in targets if target.is_flag]
    stages = schedule.stages
    steps = range(len(stages))
    if not traffic or not flags or relation is Relation.LOCK_STEP:
        return tuple(_step(schedule, i, {t.id: stages[i].share for t in targets}) for i in steps)
    if relation is Relation.ON_CANARY:
        on = dict.fromkeys(flags, WHOLE)
        return tuple(
            _step(schedule, i, dict.fromkeys(traffic, stages[i].share) | on) for i in steps
        )
    first = traffic_schedule(schedule, targets)
    off, there = dict.fromkeys(flags, 0), dict.fromkeys(traffic, first.end)
    return (
        *(
            _step(first, i, dict.fromkeys(traffic, step.share) | off)
            for i, step in enumerate(first.stages)
        ),
        *(_step(schedule, i, there | dict.fromkeys(flags, stages[i].share)) for i in steps),
    )


def traffic_schedule(schedule: Schedule, targets: Sequence[Target]) -> Schedule:
    """Return by which schedule traffic moves: that of the engine where one is followed, its last
    share watched as long as the rollout's schedule says."""
    engines = engine_schedule(targets)
    return schedule if engines is None else replace(engines, bake=schedule.bake)


def engine_schedule(targets: Sequence[Target]) -> Schedule | None:
    """Return how an engine that is followed shifts its traffic, None where none is."""
    target = followed(targets)
    steps = None if target is None else target.get("steps")
    return parse(steps) if isinstance(steps, str) else None


def followed(targets: Sequence[Target]) -> Target | None:
    """Return the target that is followed, None where none is."""
    return next((target for target in targets if target.is_followed), None)


def mirrored(relation: Relation, targets: Sequence[Target], share: int) -> dict[str, int]:
    """Return the shares of a rollout whose engine gives the new version this share (ppm)."""
    on = {Relation.LOCK_STEP: share, Relation.ON_CANARY: WHOLE if share else 0, Relation.AFTER: 0}
    return {target.id: on[relation] if target.is_flag else share for target in targets}


def nothing(targets: Sequence[Target]) -> dict[str, int]:
    """Return the shares of a rollout that exposes nobody."""
    return {target.id: 0 for target in targets}


def check(relation: Relation, targets: Sequence[Target], version: str | None) -> None:
    """Raise Invalid unless these targets can be rolled out together in this way."""
    if not targets:
        raise Invalid("A rollout needs at least one target.", field="/targets")
    ids = [target.id for target in targets]
    for i, id in enumerate(ids):
        if id in ids[:i]:
            raise Invalid(f"{id} is there twice.", field=f"/targets/{i}")
    traffic = any(not target.is_flag for target in targets)
    if traffic and version is None:
        raise Invalid(
            "Traffic is moved to a new version: say which `service.version` that is.",
            field="/version",
        )
    if relation is Relation.ON_CANARY and not (
        traffic and any(target.is_flag for target in targets)
    ):
        raise Invalid(
            "`on_canary` ties flags to the traffic of the same rollout: it needs one of each.",
            field="/relation",
        )
    _check_followed(targets)


LONGEST_SPLIT = 90 * 24 * 3600
"""What a split rests on is kept so long, in seconds."""


def check_split(
    schedule: Schedule, relation: Relation, targets: tuple[Target, ...], seconds: float
) -> None:
    """Raise Invalid unless a schedule can hold a split. seconds: from its start to its end."""
    if schedule.end == WHOLE:
        raise Invalid(
            "A split keeps both versions until its end: let the schedule end below 100 %, as in "
            "50%:end.",
            field="/schedule",
        )
    if schedule.bake:
        raise Invalid(
            "How long the last share is held says either its bake or `until`.", field="/until"
        )
    if followed(targets) is not None:
        raise Invalid(
            "An engine that is followed shifts all of its traffic: it holds no split.",
            field="/until",
        )
    before = sum(step.hold for step in expand(schedule, relation, targets))
    if not before < seconds <= LONGEST_SPLIT:
        raise Invalid(
            f"is to be after the steps before the last ({duration_text(before)}) and within "
            f"{LONGEST_SPLIT // 86400} days of the start.",
            field="/until",
        )


def _check_followed(targets: Sequence[Target]) -> None:
    if followed(targets) is None:
        return
    others = [i for i, t in enumerate(targets) if not t.is_flag and t is not followed(targets)]
    if others:
        raise Invalid(
            "A rollout that follows an engine moves flags besides, and no other traffic: two would "
            "set weights, each at its own time.",
            field=f"/targets/{others[0]}",
        )


# --- shown before it begins -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exposure:
    """Who sees what at one step, as parts per million of all requests.

    canary: get the new version; None where no traffic moves.
    flags: flag -> are served its exposed variants, in either version.
    both: flag -> the same in the new version. Draws are independent, so shares multiply.
    """

    canary: int | None
    flags: Mapping[str, int] = field(default_factory=dict)
    both: Mapping[str, int] = field(default_factory=dict)

    def least(self) -> int:
        """Return the smallest share above 0 that anything rests on; 0 when nothing is exposed."""
        shares = [*self.flags.values(), *([self.canary] if self.canary else [])]
        return min((share for share in shares if share), default=0)


@dataclass(frozen=True, slots=True)
class Preview:
    """One step as it will really be.

    shares: target id -> parts per million that its driver can bring about.  kept: as of `PlanStep`.
    requests: of the most thinly exposed thing during the hold, None when the rate is not known.
    warnings: sentences.
    """

    number: int
    at: int
    hold: int
    shares: Mapping[str, int]
    exposure: Exposure
    requests: int | None
    warnings: tuple[str, ...]
    kept: int = 0


def preview(
    schedule: Schedule,
    relation: Relation,
    targets: tuple[Target, ...],
    guards: Sequence[Guard],
    *,
    requests_per_second: float | None = None,
    nearest: Callable[[Target, int], int] = lambda _, share: share,
    within: Mapping[str, int] | None = None,
    last: int = 0,
) -> tuple[Preview, ...]:
    """Return what every step will really do.

    requests_per_second: of the whole service.  nearest: what a target's driver makes of a share.
    within: flag key -> share to which its prerequisites confine it (parts per million).
    last: seconds that the last step of a split is held.
    """
    at, shown = 0, []
    steps = expand(schedule, relation, targets)
    if last:
        steps = (*steps[:-1], replace(steps[-1], hold=last))
    for i, step in enumerate(steps):
        shares = {target.id: nearest(target, step.shares[target.id]) for target in targets}
        seen = exposure(shares, relation, targets, within or {})
        requests = _requests(seen.least(), step.hold, requests_per_second)
        warnings = (
            *_coarse(targets, step.shares, shares),
            *_too_short(i, step, seen.least(), requests_per_second, guards),
        )
        shown.append(Preview(i + 1, at, step.hold, shares, seen, requests, warnings, step.kept))
        at += step.hold
    return tuple(shown)


def exposure(
    shares: Mapping[str, int],
    relation: Relation,
    targets: Sequence[Target],
    within: Mapping[str, int],
) -> Exposure:
    """Return who sees what when the targets have these shares.

    Several traffic targets of one rollout split different requests (other rules), each alike; the
    largest of their shares is what is said.
    """
    traffic = [shares[target.id] for target in targets if not target.is_flag]
    canary = max(traffic) if traffic else None
    flags, both = {}, {}
    for target in targets:
        if not target.is_flag:
            continue
        drawn = _of(shares[target.id], within.get(target.name, WHOLE))
        confined = relation is Relation.ON_CANARY and canary is not None
        flags[target.name] = _of(drawn, canary or 0) if confined else drawn
        if canary is not None:
            both[target.name] = _of(drawn, canary)
    return Exposure(canary, flags, both)


def _step(schedule: Schedule, i: int, shares: Mapping[str, int]) -> PlanStep:
    step: Step = schedule.stages[i]
    kept = schedule.keep if i == len(schedule.steps) - 1 else 0
    return PlanStep(shares, step.hold, step.approval, step.minimum_sample, step.share, kept)


def _of(share: int, other: int) -> int:
    """Return the share of requests that two independent draws both expose."""
    return share * other // WHOLE


def _requests(share: int, seconds: int, per_second: float | None) -> int | None:
    if per_second is None:
        return None
    return round(per_second * seconds * share / WHOLE)


def _coarse(
    targets: Sequence[Target], wanted: Mapping[str, int], real: Mapping[str, int]
) -> list[str]:
    return [
        f"{target.id} cannot be given {percent_text(wanted[target.id])}; it gets "
        f"{percent_text(real[target.id])}."
        for target in targets
        if wanted[target.id] != real[target.id]
    ]


def _too_short(
    i: int, step: PlanStep, share: int, per_second: float | None, guards: Sequence[Guard]
) -> list[str]:
    """Return why a step cannot be judged by its end. The last step without a bake is not meant to
    be: the rollout ends there."""
    if not step.hold or not share:
        return []
    warnings = []
    for guard in guards:
        if step.hold < guard.window:
            warnings.append(
                f"Step {i + 1} is held for {duration_text(step.hold)}, but {guard.name} needs "
                f"{duration_text(guard.window)} for its {guard.of} data points: it cannot be "
                "judged in that time, and the rollout will wait longer."
            )
        elif per_second is not None:
            warnings.extend(_too_few(i, step, share * per_second / WHOLE, guard))
    return warnings


def _too_few(i: int, step: PlanStep, per_second: float, guard: Guard) -> list[str]:
    in_window = per_second * guard.window
    if guard.minimum_sample and in_window < guard.minimum_sample:
        few = f"about {in_window:.0f} requests in {duration_text(guard.window)}"
        needs = f"{guard.name} needs {guard.minimum_sample}: the rollout will wait for more."
        return [f"Step {i + 1}: {few}, but {needs}"]
    expected = per_second * step.hold * guard.limit
    if guard.signal.measure is Measure.RATE and expected < ENOUGH_FAILURES:
        at_limit = f"even right at its limit of {percent_text(round(guard.limit * WHOLE))}"
        failures = f"about {expected:.1f} failures are to be expected"
        judged = f"Step {i + 1} is too short to judge {guard.name}"
        more = "A larger share or a longer hold sees more."
        return [f"{judged}: {at_limit}, {failures} in {duration_text(step.hold)}. {more}"]
    return []
