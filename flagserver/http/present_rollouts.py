"""How rollouts look on the wire. Shares in percent, times in seconds, instants in RFC 3339."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue
from sortition.judgement.policy import Pass

# pydantic asks for this TypedDict below Python 3.12, and brings it.
from typing_extensions import TypedDict

from flagserver.domain.calibration import WANTED_SECONDS, Calibration
from flagserver.domain.commands import ppm_to_percent
from flagserver.domain.plan import Preview
from flagserver.domain.power import Offer, Seen
from flagserver.domain.rollout import Rollout
from flagserver.domain.states import State
from flagserver.domain.times import from_unix
from flagserver.services.grounds import Differs
from flagserver.services.rollouts import Standing
from flagserver.services.starting import Planned
from flagserver.services.turns import RolloutView


class TargetJson(TypedDict):
    """Something with a weight. intended, confirmed: percent; confirmed null: not known."""

    kind: str
    name: str
    mode: str
    settings: dict[str, JsonValue]
    intended: float
    confirmed: float | None


class RolloutStepJson(TypedDict):
    """One step. at: `done`, `now` or `next`. shares: target -> percent. hold: seconds. kept: so
    many percent stay on the old version in this step, as a control."""

    number: int
    at: str
    share: float
    shares: dict[str, float]
    hold: int
    approval: bool
    minimum_sample: int | None
    kept: float


class WaitingJson(TypedDict):
    """What a holding rollout waits for."""

    why: str
    reason: str
    since: str


class ApprovalJson(TypedDict):
    """Who approved of going on from which step (counted from 1)."""

    step: int
    by: str
    at: str


class LaneEventJson(TypedDict):
    """One event of a deployment's lifecycle, in its engine's own words."""

    deployment: str
    name: str
    status: str
    began: str | None
    ended: str | None
    message: str | None


class LaneJson(TypedDict):
    """What the engine that is followed says of its deployment. status: its own word; phase: how far
    it is, in ours; back: the deployment by which the traffic goes back."""

    engine: str
    deployment: str
    status: str
    phase: str
    reason: str | None
    back: str | None
    back_status: str | None
    events: list[LaneEventJson]


class RollbackJson(TypedDict):
    """Why and when a rollout went back. step: from which, counted from 1; 0 before the first.
    culprits: the targets whose own comparison shows the harm, none where no comparison did."""

    by: str
    reason: str
    row: str
    step: int
    verdict: dict[str, JsonValue] | None
    first_bad: str | None
    detected: str
    applied: str | None
    confirmed: str | None
    trouble: str | None
    culprits: list[str]


class ArmJson(TypedDict):
    """One arm of a comparison since the beginning. rate: a fraction, null of nothing; low, high:
    between which rates it lies, at all times at once."""

    requests: int
    failed: int
    rate: float | None
    low: float
    high: float


class VerdictJson(TypedDict):
    """How one guard of one comparison stands. Of a latency, what failed is what took longer than
    its limit.

    says: what a pass says: `certified good`, or `no harm seen, minimum sample met`.
    difference: between which values the canary's rate less the control's lies, in this step.
    limit: a fraction.  tolerated: how many times the control's is no harm.  dispersion: how many
    times as much as by chance its counts are taken to scatter.
    evidence: of harm against no harm, with the lines at which it holds and, for this guard alone,
    rolls back.  acceptable: evidence that the canary is, with the line at which it is certified.
    needed: more requests of the canary until then, null for never at these rates.
    onset: when the harm seems to have begun.
    """

    target: str
    guard: str
    kind: str
    says: str | None
    critical: bool
    sentence: str
    limit: float
    tolerated: float
    dispersion: float
    canary: ArmJson
    control: ArmJson
    difference: list[float]
    evidence: float
    against: str
    holds_at: float
    rolls_back_at: float
    acceptable: float
    certified_at: float
    needed: int | None
    onset: str | None


class JudgementJson(TypedDict):
    """How a rollout is judged: by `comparison` of both versions, or by `thresholds` alone.

    sentence: the whole in one.  evidence: of all guards together, with the bound at which it rolls
    back, and in words.  age: seconds since the newest tick that was judged ended.
    calibration: what was known of the service's noise when it began, which it is judged by to its
    end; null where that was not kept.
    """

    by: str
    sentence: str
    evidence: float | None
    says: str | None
    bound: float | None
    age: float | None
    calibration: str | None
    guards: list[VerdictJson]


class RolloutJson(TypedDict):
    """A rollout. kind: `rollout`, or `split`, which holds its last share `until` a date.

    step: counted from 1, 0 before the first. elapsed: seconds of its hold; due: when
    it will be over, null while the timer stands; looked: when a controller looked last.
    judgement: of what both versions report; null in a list.
    state_role: of its colour. by_hand: while it goes back, the commands that do it by hand. lane:
    of the engine that is followed, null where none is."""

    id: str
    environment: str
    service: str
    version: str | None
    state: str
    state_words: str
    state_icon: str
    state_role: str
    terminal: bool
    kind: str
    until: str | None
    relation: str
    schedule: str
    schedule_name: str
    duration: int
    step: int
    steps: list[RolloutStepJson]
    elapsed: float
    due: str | None
    looked: str | None
    waiting: WaitingJson | None
    rollback: RollbackJson | None
    by_hand: list[str]
    lane: LaneJson | None
    approvals: list[ApprovalJson]
    targets: list[TargetJson]
    guards: list[dict[str, JsonValue]]
    last_look: dict[str, JsonValue] | None
    judgement: JudgementJson | None
    by: str
    created: str
    start_at: str | None
    started: str | None
    ended: str | None
    supersedes: str | None
    superseded_by: str | None
    revision: int


class RolloutsJson(TypedDict):
    """Rollouts, newest first. next: `before` of the next page; null where there is none."""

    rollouts: list[RolloutJson]
    next: str | None


class ExposureStepJson(TypedDict):
    """Who sees what, as percent of all requests: the new version, each flag, both at once."""

    canary: float | None
    flags: dict[str, float]
    both: dict[str, float]


class SeenJson(TypedDict):
    """What a step shows by one guard of one comparison, `target`. requests: of the canary that
    count it. detects: found within the hold from that on, percent or (of a latency) how many times
    as slow; null: nothing can be. usual: percent of the control's that fail, null of a latency;
    assumed where nobody reports it. passes: what a pass will say."""

    target: str
    guard: str
    requests: int
    detects: float | None
    usual: float | None
    assumed: bool
    passes: str
    sentence: str


class OfferJson(TypedDict):
    """A first share (percent) that shows more, and how many canary requests it gives."""

    share: float
    requests: int
    sentence: str


class PreviewJson(TypedDict):
    """One step as it would really be. at, hold: seconds; requests: of the most thinly exposed thing
    during the hold, null where the rate is not known. kept: as of a step. shows: what it can and
    cannot detect."""

    number: int
    at: int
    hold: int
    shares: dict[str, float]
    exposure: ExposureStepJson
    requests: int | None
    kept: float
    warnings: list[str]
    shows: list[SeenJson]


class CalibrationJson(TypedDict):
    """How noisy the service is known to be, from what two halves of one version differed by.
    seconds: of history that it is taken from, or that there is so far, of at least `wanted`; until:
    when the newest of it ended. What the plan shows is for such noise."""

    calibrated: bool
    seconds: int
    wanted: int
    until: str | None
    sentence: str


class RolloutPlanJson(TypedDict):
    """What a rollout would do. problems: what would refuse its start now; notes: what an engine
    does that is followed, and what would come nearer to what was asked for. first_share: one that
    shows more, null where none does. calibration: null where nothing is compared. until: of a
    split."""

    until: str | None
    service: str
    version: str | None
    environment: str
    relation: str
    schedule: str
    schedule_name: str
    duration: int
    requests_per_second: float | None
    steps: list[PreviewJson]
    guards: list[dict[str, JsonValue]]
    problems: list[str]
    notes: list[str]
    first_share: OfferJson | None
    calibration: CalibrationJson | None


class SampleJson(TypedDict):
    """One arm of a metric in this step. value: seen, a fraction or (of a latency) seconds, null of
    nothing; between low and high it lies, null for no bound."""

    requests: int
    value: float | None
    low: float | None
    high: float | None


class DifferenceJson(TypedDict):
    """How one metric of one comparison, `target`, differs in this step: canary less control, with
    an interval that holds at all times at once. unit: "" of a rate, "s" of a latency. differs: the
    interval excludes that both are alike. It decides nothing."""

    target: str
    metric: str
    unit: str
    canary: SampleJson
    control: SampleJson
    low: float | None
    high: float | None
    differs: bool
    sentence: str


class EvidenceJson(TypedDict):
    """What a rollout rests on: itself, what controllers saw (oldest first), its entries in the
    record (newest first), and how both versions differ. series: what `rollouts replay` reads, its
    head first; null unless it was asked for."""

    rollout: RolloutJson
    looks: list[dict[str, JsonValue]]
    entries: list[dict[str, JsonValue]]
    differences: list[DifferenceJson]
    series: list[dict[str, JsonValue]] | None


def rollout(
    view: RolloutView,
    standing: Standing,
    look: Mapping[str, Any] | None = None,
    judged: Mapping[str, Any] | None = None,
) -> RolloutJson:
    """Return a rollout as it stands. look: what a controller saw last.  judged: as
    `verdicts.told` has it, None where many are shown."""
    it = view.rollout
    shown = standing.state.shown
    return {
        "id": it.id,
        "environment": it.environment,
        "service": it.service,
        "version": it.version,
        "state": str(standing.state),
        "state_words": shown.words,
        "state_icon": shown.icon,
        "state_role": shown.role,
        "terminal": it.state.shown.terminal,
        "kind": "split" if it.is_split else "rollout",
        "until": _instant(it.until),
        "relation": str(it.relation),
        "schedule": it.schedule.text(),
        "schedule_name": it.schedule.name,
        "duration": sum(step.hold for step in it.plan),
        "step": it.step + 1,
        "steps": [_step(it, i) for i in range(len(it.plan))],
        "elapsed": round(standing.elapsed, 1),
        "due": _instant(standing.due),
        "looked": _instant(standing.looked),
        "waiting": _waiting(it),
        "rollback": _rollback(it),
        "by_hand": list(standing.by_hand),
        "lane": _lane(it),
        "approvals": [
            {"step": each.step + 1, "by": each.by, "at": from_unix(each.at)}
            for each in it.approvals
        ],
        "targets": [
            {
                **target.to_body(),  # type: ignore[typeddict-item]
                "intended": ppm_to_percent(it.intended[target.id]),
                "confirmed": _percent(it.confirmed.get(target.id)),
            }
            for target in it.targets
        ],
        "guards": [guard.to_body() for guard in it.guards],
        "last_look": None if look is None else dict(look),
        "judgement": _judgement(judged),
        "by": it.by,
        "created": from_unix(it.created),
        "start_at": _instant(it.start_at),
        "started": _instant(it.started),
        "ended": _instant(it.ended),
        "supersedes": it.supersedes,
        "superseded_by": it.superseded_by,
        "revision": view.revision,
    }


def plan(planned: Planned) -> RolloutPlanJson:
    """Return what a rollout would do."""
    it = planned.rollout
    return {
        "until": _instant(it.until),
        "service": it.service,
        "version": it.version,
        "environment": it.environment,
        "relation": str(it.relation),
        "schedule": it.schedule.text(),
        "schedule_name": it.schedule.name,
        "duration": sum(step.hold for step in it.plan),
        "requests_per_second": planned.requests_per_second,
        "steps": [
            _preview(step, planned.power[i] if planned.power else ())
            for i, step in enumerate(planned.steps)
        ],
        "guards": [guard.to_body() for guard in it.guards],
        "problems": list(planned.problems),
        "notes": list(planned.notes),
        "first_share": None if planned.offer is None else _offer(planned.offer),
        "calibration": None if planned.calibration is None else _calibration(planned.calibration),
    }


def _calibration(known: Calibration) -> CalibrationJson:
    return {
        "calibrated": known.calibrated,
        "seconds": known.seconds,
        "wanted": WANTED_SECONDS,
        "until": _instant(known.until),
        "sentence": known.sentence,
    }


def _offer(offer: Offer) -> OfferJson:
    return {
        "share": ppm_to_percent(offer.share),
        "requests": offer.requests,
        "sentence": offer.sentence,
    }


def _seen(one: Seen) -> SeenJson:
    slow = one.usual is None
    return {
        "target": one.target,
        "guard": one.guard,
        "requests": one.requests,
        "detects": one.detects if slow or one.detects is None else _figures(100 * one.detects),
        "usual": None if one.usual is None else _figures(100 * one.usual),
        "assumed": one.assumed,
        "passes": str(Pass.CERTIFIED if one.certified else Pass.NO_HARM_SEEN),
        "sentence": one.sentence,
    }


def _figures(value: float) -> float:
    """Return a number with three figures: the rest would be made up."""
    return float(f"{value:.3g}")


def difference(one: Differs) -> DifferenceJson:
    """Return how one metric differs."""
    it = one.difference
    canary, control = it.whole
    return {
        "target": one.target,
        "metric": it.metric,
        "unit": it.unit,
        "canary": _sample(canary, it.canary, it.canary_interval),
        "control": _sample(control, it.control, it.control_interval),
        "low": _finite(it.low),
        "high": _finite(it.high),
        "differs": it.differs,
        "sentence": it.sentence,
    }


def _sample(requests: int, value: float | None, interval: tuple[float, float]) -> SampleJson:
    low, high = map(_finite, interval)
    return {"requests": requests, "value": value, "low": low, "high": high}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _preview(step: Preview, shows: Sequence[Seen] = ()) -> PreviewJson:
    exposure = step.exposure
    return {
        "number": step.number,
        "at": step.at,
        "hold": step.hold,
        "shares": _percents(step.shares),
        "exposure": {
            "canary": _percent(exposure.canary),
            "flags": _percents(exposure.flags),
            "both": _percents(exposure.both),
        },
        "requests": step.requests,
        "kept": ppm_to_percent(step.kept),
        "warnings": list(step.warnings),
        "shows": [_seen(one) for one in shows],
    }


def _step(it: Rollout, i: int) -> RolloutStepJson:
    step = it.plan[i]
    done = i < it.step or (i == it.step and it.state is State.COMPLETED)
    return {
        "number": i + 1,
        "at": "done" if done else "now" if i == it.step else "next",
        "share": ppm_to_percent(step.shown),
        "shares": _percents(step.shares),
        "hold": step.hold,
        "approval": step.approval,
        "minimum_sample": step.minimum_sample,
        "kept": ppm_to_percent(step.kept),
    }


def _waiting(it: Rollout) -> WaitingJson | None:
    if it.waiting is None:
        return None
    return {
        "why": str(it.waiting.why),
        "reason": it.waiting.reason,
        "since": from_unix(it.waiting.since),
    }


def _lane(it: Rollout) -> LaneJson | None:
    shown: Any = None if it.lane is None else it.lane.to_body()
    return shown  # type: ignore[no-any-return]  # a body holds just these fields


def _rollback(it: Rollout) -> RollbackJson | None:
    if it.rollback is None:
        return None
    shown: Any = {**it.rollback.to_body(), "step": it.rollback.step + 1}
    return shown  # type: ignore[no-any-return]  # a body holds just these fields


def _judgement(judged: Mapping[str, Any] | None) -> JudgementJson | None:
    shown: Any = judged
    return shown  # type: ignore[no-any-return]  # `verdicts.told` has just these fields


def _percents(shares: Mapping[str, int]) -> dict[str, float]:
    return {name: ppm_to_percent(share) for name, share in shares.items()}


def _percent(share: int | None) -> float | None:
    return None if share is None else ppm_to_percent(share)


def _instant(at: float | None) -> str | None:
    return None if at is None else from_unix(at)
