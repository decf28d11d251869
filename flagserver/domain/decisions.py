"""What a look at a rollout leads to: one pure function of the rollout, what was seen, and the time.

It decides at most one thing per look, so nothing is ever made up for in a burst.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sortition.core.bucketing import WHOLE

from . import verbs
from .documents import Document
from .engines import Lane, Phase
from .flags import State as FlagState
from .guards import Action, Context, Does
from .plan import NO_STEP
from .rollout import TICK_SECONDS, By, Rollback, Rollout, Why
from .schedule import percent_text
from .states import State
from .targets import Reading, Target
from .verbs import Turn

ROLLBACK_SECONDS = 60.0
"""A rollback that is not confirmed by then has failed; it goes on being tried."""

ENGINE_ROLLBACK_SECONDS = 600.0
"""The same where an engine is followed: it goes back by a deployment of its own, which may have to
install the older version first."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What somebody else did to a target or a flag, in a sentence."""

    why: Why
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a controller saw.

    action: what the guards lead to (`guards.act` with `context`).
    seen: until when somebody watched (`Rollout.seen_until`).
    trouble: why the last attempt to carry out what is intended did not succeed.
    engine: how the target that is followed stands, None: it could not be read, or there is none.
    """

    action: Action
    seen: float
    obstacle: Obstacle | None = None
    trouble: str | None = None
    engine: Reading | None = None

    @property
    def lane(self) -> Lane | None:
        """What the engine that is followed says of itself."""
        return None if self.engine is None else self.engine.lane


# --- decisions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stay:
    """Change nothing. A pending intent is carried out."""


@dataclass(frozen=True, slots=True)
class Start:
    """Its time has come."""


@dataclass(frozen=True, slots=True)
class NoteGap:
    """Nobody watched for a while."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait, and stop the timer."""

    why: Why
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """What was waited for is there."""


@dataclass(frozen=True, slots=True)
class Move:
    """Take the next step."""

    step: int


@dataclass(frozen=True, slots=True)
class Mirror:
    """Take over what the engine that is followed did. share: parts per million."""

    share: int
    lane: Lane


@dataclass(frozen=True, slots=True)
class Note:
    """The engine that is followed says something new of itself."""

    lane: Lane


@dataclass(frozen=True, slots=True)
class RollBack:
    """Take everything back."""

    cause: Rollback


@dataclass(frozen=True, slots=True)
class RollbackFailed:
    """The rollback takes too long; say so."""

    trouble: str


@dataclass(frozen=True, slots=True)
class Complete:
    """The last share was watched long enough."""


Decision = (
    Stay
    | Start
    | NoteGap
    | Hold
    | Resume
    | Move
    | Mirror
    | Note
    | RollBack
    | RollbackFailed
    | Complete
)


def context(
    rollout: Rollout,
    now: float,
    seen: float,
    engine: Reading | None = None,
    sample: int | None = None,
    tick_seconds: float = TICK_SECONDS,
) -> Context:
    """Return what the table of guards must know of a rollout. engine: as `Look` has it.

    sample: requests of the canary in this step, None if unknown.
    """
    since = rollout.step_confirmed_at
    exposed = rollout.step != NO_STEP
    return Context(
        now=now,
        since=now if since is None else since,
        exposed=exposed,
        hold_over=_wait_is_over(rollout, seen, engine),
        waived=rollout.is_waived,
        engine=_against_it(engine),
        step=max(0, rollout.step),
        watched=rollout.elapsed(seen),
        hold=float(rollout.plan[rollout.step].hold) if exposed else 0.0,
        passed=_undecided_for(rollout, seen),
        overtime=rollout.schedule.overtime,
        whole=exposed and min(rollout.plan[rollout.step].shares.values()) == WHOLE,
        tick=tick_seconds,
        undecided=_too_few(rollout, sample),
    )


def _undecided_for(rollout: Rollout, seen: float) -> float:
    """Return for how long nobody has decided in this step. While somebody holds it, somebody has;
    and the time of an engine's step is the engine's."""
    since = rollout.undecided_since
    if since is None or rollout.state is State.PAUSED or rollout.mirrors:
        return 0.0
    return max(0.0, seen - since)


def _too_few(rollout: Rollout, sample: int | None) -> tuple[str, ...]:
    """Return what a step's minimum sample lacks, in a sentence, if it does."""
    if rollout.step == NO_STEP:
        return ()
    wanted = rollout.plan[rollout.step].minimum_sample
    if wanted is None or (sample or 0) >= wanted:
        return ()
    seen = "an unknown number" if sample is None else f"{sample:,}"
    return (f"This step needs {wanted:,} requests and has seen {seen}.",)


def _wait_is_over(rollout: Rollout, seen: float, engine: Reading | None) -> bool:
    """Tell whether it is time to go on from this step: in an engine's steps, when it has gone on
    itself, and at its last one when it is done too."""
    if not rollout.mirrors:
        return rollout.hold_is_over(seen)
    if _ahead(rollout, engine):
        return True
    done = engine is not None and engine.lane is not None and engine.lane.phase is Phase.DONE
    return done and rollout.at_engines_end and rollout.hold_is_over(seen)


def _ahead(rollout: Rollout, engine: Reading | None) -> bool:
    """Tell whether an engine gives the new version more than the rollout has taken over."""
    target = rollout.followed
    if target is None or engine is None or engine.share is None:
        return False
    return engine.share > rollout.confirmed.get(target.id, 0)


def _against_it(engine: Reading | None) -> str | None:
    """Return why an engine does not want the new version any more, None while it does."""
    lane = None if engine is None else engine.lane
    if lane is None or not lane.phase.is_against:
        return None
    return lane.reason or f"{lane.words}."


def decide(rollout: Rollout, look: Look, now: float) -> Decision:
    """Return the one thing that a look leads to.

    Harm comes first and is never held up: not by a pause, a pending step, or a gap.
    """
    match rollout.state:
        case State.ROLLING_BACK:
            return _going_back(rollout, look, now)
        case State.PENDING | State.RUNNING | State.HOLDING | State.PAUSED:
            pass
        case _:
            return Stay()
    early = rollout.start_at is None or now < rollout.start_at
    if rollout.state is State.PENDING and early:
        return Stay()
    if look.action.does is Does.ROLL_BACK:
        return RollBack(_cause(rollout, look.action, now))
    match rollout.state:
        case State.PENDING:
            return Start()
        case State.PAUSED:
            return _lowered(rollout, look) or _noted(rollout, look)
        case _ if rollout.mirrors:
            return _following(rollout, look, now)
        case _:
            return _on_its_way(rollout, look, now)


def _going_back(rollout: Rollout, look: Look, now: float) -> Decision:
    began = now if rollout.rollback is None else rollout.rollback.detected
    most = ROLLBACK_SECONDS if rollout.followed is None else ENGINE_ROLLBACK_SECONDS
    # Without trouble nobody has tried yet: a controller that was away tries before it says so.
    if look.trouble is not None and now - began > most:
        return RollbackFailed(look.trouble)
    return _noted(rollout, look)


def may_go_on(rollout: Rollout) -> bool:
    """Tell whether the engine that is followed may be told to go on: it is ready, and somebody
    approved; or all of the traffic is over, and somebody skipped the rest of the wait."""
    lane = rollout.lane
    if lane is None or not rollout.may_carry_out:
        return False
    if lane.phase is Phase.READY:
        return not verbs.is_gated(rollout)
    return lane.phase is Phase.WATCHING and rollout.at_engines_end and rollout.is_waived


def _following(rollout: Rollout, look: Look, now: float) -> Decision:
    """Return what a rollout does whose engine decides what the shares are. It cannot make the
    engine wait: what holds, holds its flags."""
    lowered = _lowered(rollout, look)
    if lowered is not None:
        return lowered
    against = _gate(rollout, look) or _against(rollout, look) or _blind(rollout, look)
    if against is not None:
        waits = rollout.waiting is not None and rollout.waiting.why is against.why
        return _noted(rollout, look) if waits else against
    if rollout.counting_since is not None and look.seen < now:
        return NoteGap()
    if rollout.state is State.HOLDING:
        return Resume()
    share = None if look.engine is None else look.engine.share
    if look.lane is not None and share is not None:
        if _ahead(rollout, look.engine) or rollout.is_pending_intent:
            return Mirror(share, look.lane)
        if look.lane == rollout.lane and _wait_is_over(rollout, look.seen, look.engine):
            following = rollout.step + 1
            return Complete() if following == len(rollout.plan) else Move(following)
    return _noted(rollout, look)


def _lowered(rollout: Rollout, look: Look) -> Mirror | None:
    """Return that an engine gives less than the rollout has: whatever holds it, that is taken
    over."""
    target, lane = rollout.followed, look.lane
    share = None if look.engine is None else look.engine.share
    if target is None or lane is None or share is None or not rollout.mirrors:
        return None
    return Mirror(share, lane) if share < rollout.confirmed.get(target.id, 0) else None


def _noted(rollout: Rollout, look: Look) -> Stay | Note:
    """Return that an engine says something new, if it does."""
    lane = look.lane
    return Stay() if lane is None or lane == rollout.lane else Note(lane)


def _blind(rollout: Rollout, look: Look) -> Hold | None:
    """Return that an engine cannot be read when nothing else is waited for."""
    target = rollout.followed
    if target is None or look.lane is not None or not rollout.at_engines_end:
        return None
    over = rollout.hold_is_over(look.seen)
    return (
        Hold(Why.DATA, f"{target.id} cannot be read: how it stands is not known.") if over else None
    )


def _gate(rollout: Rollout, look: Look) -> Hold | None:
    """Return that an engine waits to be told that it may begin."""
    lane = look.lane
    if lane is None or not verbs.is_gated(replace(rollout, lane=lane)):
        return None
    words = f"{lane.engine} {lane.deployment} is ready and waits for somebody to approve."
    return Hold(Why.APPROVAL, words)


def _on_its_way(rollout: Rollout, look: Look, now: float) -> Decision:
    """Return what a running or holding rollout does when there is no harm."""
    against = _against(rollout, look)
    if against is not None:
        waits = rollout.waiting is not None and rollout.waiting.why is against.why
        return Stay() if waits else against
    if rollout.counting_since is not None and look.seen < now:
        return NoteGap()
    if rollout.state is State.HOLDING:
        return Resume()
    if rollout.is_pending_intent or not rollout.hold_is_over(look.seen):
        return Stay()
    following = rollout.step + 1
    return Complete() if following == len(rollout.plan) else Move(following)


def _against(rollout: Rollout, look: Look) -> Hold | None:
    """Return what stands against going on, the graver first."""
    if look.obstacle is not None:
        return Hold(look.obstacle.why, look.obstacle.reason)
    if look.action.does in {Does.HOLD, Does.PAGE}:
        return Hold(_why(look.action), look.action.reason)
    over = _wait_is_over(rollout, look.seen, look.engine)
    if rollout.step == NO_STEP or rollout.is_pending_intent or not over:
        return None
    if not look.action.advances:
        return Hold(Why.DATA, look.action.reason)
    if not rollout.is_approved:
        return Hold(Why.APPROVAL, f"Step {rollout.step + 1} waits to be approved.")
    return None


def _why(action: Action) -> Why:
    if action.row == "shared outage":
        return Why.OUTAGE
    if action.does is Does.PAGE:
        return Why.PERSON
    return Why.DATA if action.row in _OF_DATA else Why.LIMIT


_OF_DATA = frozenset({"missing data", "sample-ratio mismatch"})


def _cause(rollout: Rollout, action: Action, now: float) -> Rollback:
    by = {"responder": By.PERSON, "engine": By.ENGINE}.get(action.row, By.GUARD)
    verdict = action.verdict
    return Rollback(
        by=by,
        reason=action.reason,
        row=action.row,
        step=rollout.step,
        detected=now,
        verdict=None if verdict is None else verdict.to_body(),
        first_bad=None if verdict is None else verdict.first_bad,
        culprits=action.culprits,
    )


def carry(rollout: Rollout, decision: Decision, now: float, seen: float) -> Turn:
    """Return the turn that a decision is."""
    match decision:
        case Stay():
            return Turn(rollout, rollout, "")
        case Start():
            return verbs.start(rollout, now)
        case NoteGap():
            return verbs.note_gap(rollout, now, seen)
        case Hold(why, reason):
            return verbs.wait(rollout, why, reason, now, seen)
        case Resume():
            return verbs.go_on(rollout, now)
        case Move(step):
            return verbs.move(rollout, step, now)
        case Mirror(share, lane):
            return verbs.mirror(rollout, share, lane, now)
        case Note(lane):
            return verbs.note(rollout, lane, now)
        case RollBack(cause):
            return verbs.roll_back(rollout, cause, cause.reason)
        case RollbackFailed(trouble):
            return verbs.rollback_failed(rollout, trouble, now)
        case Complete():
            return verbs.complete(rollout, now)


# --- what somebody else did -----------------------------------------------------------------------


def flag_obstacle(rollout: Rollout, states: Mapping[str, FlagState]) -> Obstacle | None:
    """Return what somebody did to a flag of the rollout since its share was confirmed.

    states: by flag key, as they are now.
    """
    for target in rollout.flags:
        if target.id not in rollout.confirmed:
            continue
        state, confirmed = states.get(target.name), rollout.confirmed[target.id]
        if state is not None and state.killed:
            return Obstacle(Why.FLAG, f"{target.name} was killed.")
        share = 0 if state is None else state.share
        if share != confirmed:
            return Obstacle(
                Why.FLAG,
                f"{target.name} was set to {percent_text(share)} from outside; the rollout had it "
                f"at {percent_text(confirmed)}.",
            )
    return None


def watcher_obstacle(rollout: Rollout, heard: float | None, now: float) -> Obstacle | None:
    """Return that whoever was to watch is lost. heard: unix seconds of the last sign of life."""
    watcher = rollout.watcher
    if watcher is None or not watcher.is_lost(heard, now):
        return None
    silent = watcher.silent(heard, now)
    reason = f"Whoever was to watch it was not heard of for {silent:.0f} s."
    return Obstacle(Why.WATCHER, reason)


def record_obstacle(doubt: Document | None) -> Obstacle | None:
    """Return that the record is in doubt (`doubts`): nothing is enlarged meanwhile."""
    if doubt is None:
        return None
    kind, words = doubt.body["kind"], doubt.body["words"]
    return Obstacle(Why.RECORD, f"The record is {kind}: {words}")


def traffic_obstacle(
    rollout: Rollout,
    readings: Mapping[str, Reading],
    nearest: Callable[[Target, int], int] = lambda _, share: share,
    late: Mapping[str, int] | None = None,
) -> Obstacle | None:
    """Return what somebody did to the rollout's traffic.

    readings: by target id, of those that could be read.  nearest: as `TargetDriver.nearest`. While
    an intent is on its way, both what was and what is to be are ours.  late: as
    `Rollout.late_writes`; what arrives of these is ours too, see `strays`.
    """
    astray = strays(rollout, readings, nearest, late or {})
    for target in rollout.traffic:
        reading = readings.get(target.id)
        if reading is None:
            continue
        if target.is_followed and reading.foreign is None:
            # Its engine owns it, and sets it as it likes: that is what we follow.
            continue
        if reading.owner is not None:
            return Obstacle(Why.TARGET, f"{target.id} is owned by {reading.owner} now.")
        if reading.foreign is not None:
            return Obstacle(Why.TARGET, f"{target.id}: {reading.foreign}")
        if target in astray or target.id not in rollout.confirmed:
            continue
        if reading.share not in _ours(rollout, target, nearest):
            told = "no share" if reading.share is None else percent_text(reading.share)
            return Obstacle(Why.TARGET, f"Somebody else set {target.id}: it is at {told}.")
    return None


def strays(
    rollout: Rollout,
    readings: Mapping[str, Reading],
    nearest: Callable[[Target, int], int],
    late: Mapping[str, int],
) -> tuple[Target, ...]:
    """Return the traffic that a late write of another controller has reached.

    It is where the rollout is not, at a share that was on its way when that one lost its lease.
    A person who sets exactly this share, within that minute, is taken for it.
    """
    return tuple(
        target
        for target in rollout.traffic
        if target.id in late
        and target.id in rollout.confirmed
        and (reading := readings.get(target.id)) is not None
        and reading.share == nearest(target, late[target.id])
        and reading.share not in _ours(rollout, target, nearest)
    )


def _ours(
    rollout: Rollout, target: Target, nearest: Callable[[Target, int], int]
) -> set[int | None]:
    return {rollout.confirmed.get(target.id), nearest(target, rollout.intended[target.id])}
