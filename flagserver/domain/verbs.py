"""Everything that can happen to a rollout, each as a pure function to a `Turn`.

First what people do (`start hold resume advance approve roll_back supersede`), then what a
controller does. A verb that asks for what is so already changes nothing; one that cannot be, in
the state that the rollout is in, raises Conflict and says what can be done instead.

`rolling_back` absorbs: nothing leads out of it but 0 %, confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import plan
from .documents import Fact, Principal
from .engines import Lane, Phase
from .errors import Conflict
from .guards import Guard
from .plan import NO_STEP, Relation
from .rollout import LATE_SECONDS, Approval, By, Late, Rollback, Rollout, Waiting, Why
from .schedule import Schedule, percent_text
from .states import State
from .targets import Target
from .watchers import LOST_AFTER, Watcher

CONTROLLER = Principal("controller", "controller", "controller")
"""Who acts when nobody asked: the rollout's own schedule and guards."""

UNEXPLAINED = "A responder took it back."
"""The reason of a rollback whose responder did not stop to give one."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A rollout before and after one thing that happened to it: one commit, one entry.

    action: as the record names it, `rollout:step:advance`; "" when nothing changed.
    ends: the older rollout that the same commit ends, superseded.
    """

    before: Rollout | None
    after: Rollout
    action: str
    reason: str | None = None
    ends: Rollout | None = None

    @property
    def changed(self) -> bool:
        """Tell whether there is anything to commit."""
        return bool(self.action)

    def fact(self, by: Principal = CONTROLLER) -> Fact:
        """Return what the record says of it. A new rollout is told whole, later its moving
        parts."""
        first = self.before is None
        before: Any = None if self.before is None else self.before.moving()
        if self.ends is not None:
            before = {"superseded": self.ends.id, **self.ends.moving()}
        return Fact(
            actor=by.id,
            role=by.role_in(self.after.environment),
            action=self.action,
            target=self.after.name,
            environment=self.after.environment,
            before=before,
            after=self.after.to_body() if first else self.after.moving(),
            reason=self.reason,
        )


def under(turn: Turn, fence: int, now: float) -> Turn:
    """Return a turn as whoever holds the lease of this token commits it.

    Another controller that had a step on its way may have sent it and not have heard yet.
    """
    before, after = turn.before, replace(turn.after, fence=fence)
    if before is not None and before.fence != fence and before.sending:
        after = replace(after, late=_late(before, now))
    return replace(turn, after=after)


def _late(rollout: Rollout, now: float) -> Late | None:
    """Return what may still arrive of what controllers sent until now."""
    sending = rollout.sending
    return Late(sending, rollout.fence, now + LATE_SECONDS) if sending else rollout.late


# --- people ---------------------------------------------------------------------------------------


def create(
    *,
    id: str,
    environment: str,
    service: str,
    version: str | None,
    schedule: Schedule,
    relation: Relation,
    targets: Sequence[Target],
    guards: Sequence[Guard],
    by: str,
    now: float,
    start_at: float | None = None,
    instead_of: Rollout | None = None,
    reason: str | None = None,
    lost_after: int | None = None,
    until: float | None = None,
) -> Turn:
    """Return a new rollout, pending. Raises Invalid.

    lost_after: seconds, where somebody is to watch it from the beginning (`Watcher`).
    until: of a split, unix seconds at which it is over.
    instead_of: the older rollout of the same targets that it replaces. Where that one left traffic
    is not believed: the new one first takes it to 0 %, confirmed.
    """
    targets = tuple(targets)
    plan.check(relation, targets, version)
    if until is not None:
        plan.check_split(schedule, relation, targets, until - (start_at or now))
    off = plan.nothing(targets)
    ends = None if instead_of is None else supersede(instead_of, id, targets, now)
    # What is followed is the engine's: a rollout that begins takes nothing back of it.
    sure = {target.id: 0 for target in targets if target.is_flag or target.is_followed}
    known = off if ends is None else sure
    created = Rollout(
        id=id,
        environment=environment,
        service=service,
        version=version,
        schedule=schedule,
        relation=relation,
        targets=targets,
        guards=tuple(guards),
        created=now,
        by=by,
        intended=off,
        confirmed=known,
        start_at=start_at,
        changed=now,
        late=None if instead_of is None else _late(instead_of, now),
        watcher=None if lost_after is None else Watcher(now, lost_after),
        supersedes=None if instead_of is None else instead_of.id,
        until=until,
    )
    action = "rollout:create" if ends is None else "rollout:supersede"
    return Turn(None, created, action, reason, ends)


def start(rollout: Rollout, now: float, reason: str | None = None) -> Turn:
    """Begin: from the next look on, the first step is taken."""
    if rollout.state in {State.RUNNING, State.HOLDING}:
        return _unchanged(rollout)
    if rollout.state is not State.PENDING:
        raise _refused(rollout, "cannot be started", _INSTEAD)
    after = replace(rollout, state=State.RUNNING, started=now, changed=now)
    return Turn(rollout, after, "rollout:start", reason)


def hold(rollout: Rollout, now: float, seen: float, reason: str | None = None) -> Turn:
    """Stop the timer and every move up, until somebody resumes. Guards still watch.

    seen: until when somebody watched (`Rollout.seen_until`).
    """
    if rollout.state is State.PAUSED:
        return _unchanged(rollout)
    if rollout.state not in {State.RUNNING, State.HOLDING}:
        raise _refused(rollout, "cannot be held", _INSTEAD)
    stopped = _stopped(rollout, now, seen)
    after = replace(stopped, state=State.PAUSED, waiting=None, changed=now)
    return Turn(rollout, after, "rollout:hold", reason)


def resume(
    rollout: Rollout, now: float, killed: Sequence[str] = (), reason: str | None = None
) -> Turn:
    """Go on after somebody held it, or somebody else changed a target or a flag of it: then this
    step's shares are set anew.

    killed: its flags that are killed now.
    Whoever resumes answers for it: a watcher that is not heard of holds it no longer. One that
    lives says so again.
    """
    if rollout.state is State.RUNNING:
        return _unchanged(rollout)
    why = None if rollout.waiting is None else rollout.waiting.why
    outside = why in {Why.TARGET, Why.FLAG}
    if rollout.state is not State.PAUSED and not outside and why is not Why.WATCHER:
        raise _refused(rollout, "cannot be resumed", _RESUME_INSTEAD)
    if killed:
        raise Conflict(
            f"{', '.join(killed)} was killed, and a rollout takes no kill back. Roll it back; then "
            "the flag can be un-killed, and a new rollout started."
        )
    after = replace(_counting(rollout, now), watcher=None, decided=now)
    if outside:
        after = replace(after, generation=rollout.generation + 1, confirmed={}, counting_since=None)
    return Turn(rollout, after, "rollout:resume", reason)


def advance(rollout: Rollout, now: float, reason: str | None = None) -> Turn:
    """Skip the rest of this step's wait. Whoever does so answers for data that is not there yet,
    but not for a limit that is broken, nor for an approval."""
    if rollout.is_waived and rollout.state is State.RUNNING:
        return _unchanged(rollout)
    why = None if rollout.waiting is None else rollout.waiting.why
    for_data = why in {Why.DATA, Why.PERSON}
    if rollout.state is not State.RUNNING and not for_data:
        raise _refused(rollout, "cannot be advanced", _ADVANCE_INSTEAD)
    if rollout.step == NO_STEP:
        raise Conflict(f"{rollout.name} has not begun its first step: there is no wait to skip.")
    if rollout.step_confirmed_at is None:
        raise Conflict(
            f"{rollout.name} is still moving to step {rollout.step + 1}. Wait until its shares are "
            "confirmed."
        )
    if rollout.mirrors and not rollout.at_engines_end:
        raise Conflict(
            f"{rollout.name} follows an engine, which shifts its traffic when its own time comes: "
            "nothing can skip that wait. Once all of the traffic is over, `advance` can."
        )
    after = _counting(replace(rollout, waived=rollout.step, decided=now), now)
    return Turn(rollout, after, "rollout:step:advance", reason)


def approve(rollout: Rollout, by: str, now: float, reason: str | None = None) -> Turn:
    """Approve of going on from this step. by: an opaque id."""
    if rollout.state not in {State.RUNNING, State.HOLDING, State.PAUSED}:
        raise _refused(rollout, "cannot be approved", _INSTEAD)
    if is_gated(rollout):
        return _approved(rollout, by, now, reason)
    if rollout.step == NO_STEP or not rollout.plan[rollout.step].approval:
        raise Conflict(f"{rollout.name}: step {rollout.step + 1} asks for no approval.")
    if rollout.is_approved:
        return _unchanged(rollout)
    if rollout.step_confirmed_at is None:
        raise Conflict(
            f"{rollout.name} is still moving to step {rollout.step + 1}: there is nothing to see "
            "yet that could be approved."
        )
    return _approved(rollout, by, now, reason)


def is_gated(rollout: Rollout) -> bool:
    """Tell whether the engine that is followed waits for somebody to say that it may begin, and
    nobody has."""
    ready = rollout.lane is not None and rollout.lane.phase is Phase.READY
    return ready and all(approval.step != rollout.step for approval in rollout.approvals)


def _approved(rollout: Rollout, by: str, now: float, reason: str | None) -> Turn:
    given = Approval(rollout.step, by, now)
    after = replace(rollout, approvals=(*rollout.approvals, given), changed=now, decided=now)
    if rollout.waiting is not None and rollout.waiting.why is Why.APPROVAL:
        after = _counting(after, now)
    return Turn(rollout, after, "rollout:step:approve", reason)


def watch(rollout: Rollout, now: float, lost_after: int = LOST_AFTER) -> Turn:
    """Let it hold when whoever watches is not heard of for so many seconds."""
    if rollout.state.shown.terminal or rollout.state is State.UNKNOWN:
        return _unchanged(rollout)
    if rollout.watcher is not None and rollout.watcher.lost_after == lost_after:
        return _unchanged(rollout)
    after = replace(rollout, watcher=Watcher(now, lost_after), changed=now)
    told = f"It holds when its watcher is not heard of for {lost_after} s."
    return Turn(rollout, after, "rollout:watch:begin", told)


def roll_back(rollout: Rollout, cause: Rollback, reason: str | None = None) -> Turn:
    """Take everything back to 0 %. Waits for nobody, and is right in every state that exposes
    anybody.

    In the same commit the caller sets every flag of the rollout to 0; the traffic follows.
    """
    if rollout.state in {State.ROLLING_BACK, State.ROLLBACK_FAILED, State.ROLLED_BACK}:
        return _unchanged(rollout)
    if rollout.state.shown.terminal or rollout.state is State.UNKNOWN:
        raise _refused(rollout, "cannot be rolled back", _INSTEAD)
    now = cause.detected
    after = replace(
        rollout,
        state=State.ROLLING_BACK,
        generation=rollout.generation + 1,
        intended=plan.nothing(rollout.targets),
        # An intent that was on its way may have reached the traffic: nothing of it is believed.
        confirmed={target.id: 0 for target in rollout.flags},
        counting_since=None,
        waiting=None,
        rollback=cause,
        late=_late(rollout, now),
        changed=now,
    )
    untouched = not rollout.is_pending_intent and rollout.followed is None
    if rollout.state is State.PENDING and untouched:
        # Nobody was ever exposed: there is nothing to take back.
        done = replace(cause, applied=now, confirmed=now)
        after = replace(
            after, state=State.ROLLED_BACK, confirmed=after.intended, rollback=done, ended=now
        )
    return Turn(rollout, after, "rollout:rollback:begin", reason)


def by_person(rollout: Rollout, now: float, reason: str | None) -> Rollback:
    """Return the cause when a responder rolls back."""
    return Rollback(By.PERSON, reason or UNEXPLAINED, "responder", rollout.step, now)


def is_unexplained(rollout: Rollout) -> bool:
    """Tell whether a person took it back without saying why."""
    back = rollout.rollback
    return back is not None and back.by is By.PERSON and back.reason == UNEXPLAINED


def supersede(rollout: Rollout, newer: str, targets: Sequence[Target], now: float) -> Rollout:
    """Return the rollout as a newer one ends it, taking over all its targets."""
    if rollout.state in {State.ROLLING_BACK, State.ROLLBACK_FAILED}:
        raise _refused(rollout, "cannot be replaced", _INSTEAD)
    if rollout.state.shown.terminal or rollout.state is State.UNKNOWN:
        raise _refused(rollout, "needs no replacing", _INSTEAD)
    left = {target.id for target in rollout.targets} - {target.id for target in targets}
    if left:
        raise Conflict(
            f"{rollout.name} also moves {', '.join(sorted(left))}: whoever replaces it takes over "
            "all its targets. Roll it back first, or name them too."
        )
    return replace(
        rollout,
        state=State.SUPERSEDED,
        superseded_by=newer,
        counting_since=None,
        waiting=None,
        ended=now,
        changed=now,
    )


# --- a controller ---------------------------------------------------------------------------------


def move(rollout: Rollout, step: int, now: float) -> Turn:
    """Write down what is intended, before anything is touched."""
    if rollout.state is not State.RUNNING or rollout.is_pending_intent:
        raise _refused(rollout, f"cannot move to step {step + 1}", {})
    if step != rollout.step + 1 or step >= len(rollout.plan):
        raise Conflict(f"{rollout.name} is at step {rollout.step + 1}: {step + 1} is not the next.")
    after = replace(
        rollout,
        step=step,
        generation=rollout.generation + 1,
        intended=rollout.plan[step].shares,
        step_began=now,
        step_confirmed_at=None,
        watched=0.0,
        counting_since=None,
        changed=now,
    )
    return Turn(rollout, after, "rollout:step:begin")


def mirror(rollout: Rollout, share: int, lane: Lane, now: float) -> Turn:
    """Take over the share that the engine which is followed gives the new version.

    share: parts per million as read. The flags get theirs in the same commit; nothing is intended
    before, for nothing outside is touched.
    """
    if rollout.state not in {State.RUNNING, State.HOLDING, State.PAUSED} or not rollout.mirrors:
        raise _refused(rollout, "follows nothing now", {})
    shares = plan.mirrored(rollout.relation, rollout.targets, share)
    step = _step_of(rollout, share)
    after = replace(
        rollout,
        step=step,
        generation=rollout.generation + 1,
        intended=shares,
        confirmed=shares,
        lane=lane,
        changed=now,
    )
    if step != rollout.step:
        after = replace(
            after, step_began=now, step_confirmed_at=now, watched=0.0, counting_since=None
        )
    if rollout.state is State.RUNNING:
        after = _counting(after, now)
    return Turn(rollout, after, "rollout:step:follow", lane.words)


def _step_of(rollout: Rollout, share: int) -> int:
    """Return the step that an engine's share belongs to: the last that gives no more; the first for
    whatever is below it and not nothing."""
    target = rollout.followed
    if not share or target is None:
        return NO_STEP
    reached = [
        i
        for i, step in enumerate(rollout.plan)
        if step.shares[target.id] <= share and replace(rollout, step=i).mirrors
    ]
    return max(reached, default=0)


def note(rollout: Rollout, lane: Lane, now: float) -> Turn:
    """Write down what the engine that is followed says of itself."""
    if lane == rollout.lane:
        return _unchanged(rollout)
    after = replace(rollout, lane=lane, changed=now)
    return Turn(rollout, after, "rollout:engine:note", lane.words)


def confirm(
    rollout: Rollout,
    shares: Mapping[str, int],
    now: float,
    *,
    applied: float | None = None,
    nearest: Callable[[Target, int], int] = lambda _, share: share,
    lane: Lane | None = None,
) -> Turn:
    """Write down that what is intended is so. A flag's share is what the same commit sets.

    shares: target id -> parts per million as read back, of every target.  applied: unix seconds
    when the last was set.  nearest: as `TargetDriver.nearest`; what weights cannot express exactly
    is a little less.  lane: of the engine that is followed, if it was read again.
    Raises Conflict when any target is not where it is to be.
    """
    if not rollout.may_carry_out:
        raise _refused(rollout, "carries nothing out", {})
    for target in rollout.targets:
        _check_reached(target, shares.get(target.id), rollout.intended[target.id], nearest)
    if rollout.state is not State.RUNNING:
        turn = _rolled_back(rollout, shares, now, applied)
        return replace(turn, after=replace(turn.after, lane=lane or rollout.lane))
    if not rollout.is_pending_intent:
        return _unchanged(rollout)
    after = replace(
        rollout,
        intended=dict(shares),
        confirmed=dict(shares),
        counting_since=now,
        changed=now,
    )
    if rollout.step_confirmed_at is None:
        after = replace(after, step_confirmed_at=now, watched=0.0)
    return Turn(rollout, after, "rollout:step:confirm")


def rollback_failed(rollout: Rollout, trouble: str, now: float) -> Turn:
    """Say that a rollback cannot be confirmed. It is tried again and again all the same."""
    if rollout.state is State.ROLLBACK_FAILED:
        return _unchanged(rollout)
    if rollout.state is not State.ROLLING_BACK or rollout.rollback is None:
        raise _refused(rollout, "is not rolling back", {})
    after = replace(
        rollout,
        state=State.ROLLBACK_FAILED,
        rollback=replace(rollout.rollback, trouble=trouble),
        changed=now,
    )
    return Turn(rollout, after, "rollout:rollback:fail", trouble)


def wait(rollout: Rollout, why: Why, reason: str, now: float, seen: float) -> Turn:
    """Hold: the timer stops until what it waits for is there."""
    if rollout.state not in {State.RUNNING, State.HOLDING}:
        raise _refused(rollout, "cannot wait", {})
    if rollout.waiting is not None and rollout.waiting.why is why:
        return _unchanged(rollout)
    stopped = _stopped(rollout, now, seen)
    after = replace(stopped, state=State.HOLDING, waiting=Waiting(why, reason, now), changed=now)
    changes = rollout.state is State.HOLDING
    return Turn(rollout, after, "rollout:wait:change" if changes else "rollout:wait:begin", reason)


def go_on(rollout: Rollout, now: float) -> Turn:
    """Stop waiting."""
    if rollout.state is not State.HOLDING:
        raise _refused(rollout, "does not wait", {})
    return Turn(rollout, _counting(rollout, now), "rollout:wait:end")


def note_gap(rollout: Rollout, now: float, seen: float) -> Turn:
    """Write down that nobody watched since the last look: that time does not count."""
    if rollout.counting_since is None or seen >= now:
        return _unchanged(rollout)
    gap = now - max(seen, rollout.counting_since)
    decided = rollout.undecided_since
    after = replace(
        rollout,
        watched=rollout.elapsed(seen),
        decided=None if decided is None else round(decided + gap, 3),
        counting_since=now,
        unwatched=rollout.unwatched + gap,
        changed=now,
    )
    return Turn(
        rollout,
        after,
        "rollout:gap:record",
        f"Nobody watched for {gap:.0f} s, which do not count.",
    )


def put_right(rollout: Rollout, reason: str, now: float) -> Turn:
    """Write down that a late write of another controller arrived, and was set right."""
    return Turn(rollout, replace(rollout, late=None, changed=now), "rollout:late:correct", reason)


def complete(rollout: Rollout, now: float) -> Turn:
    """End well. Where flags were tied to the new version, the same commit unties them."""
    last = rollout.step == len(rollout.plan) - 1
    if rollout.state is not State.RUNNING or rollout.is_pending_intent or not last:
        raise _refused(rollout, "cannot be complete", {})
    after = replace(rollout, state=State.COMPLETED, counting_since=None, ended=now, changed=now)
    return Turn(rollout, after, "rollout:complete")


# --- how ------------------------------------------------------------------------------------------


def _unchanged(rollout: Rollout) -> Turn:
    return Turn(rollout, rollout, "")


def _stopped(rollout: Rollout, now: float, seen: float) -> Rollout:
    """Return the rollout with its timer stopped, keeping what was watched."""
    gap = 0.0
    if rollout.counting_since is not None:
        gap = max(0.0, now - max(seen, rollout.counting_since))
    return replace(
        rollout,
        watched=rollout.elapsed(seen),
        unwatched=rollout.unwatched + gap,
        counting_since=None,
    )


def _counting(rollout: Rollout, now: float) -> Rollout:
    """Return the rollout running, its timer counting if its step is confirmed."""
    counts = rollout.step_confirmed_at is not None and not rollout.is_pending_intent
    since = rollout.counting_since
    if since is None and counts:
        since = now
    return replace(rollout, state=State.RUNNING, waiting=None, counting_since=since, changed=now)


def _check_reached(
    target: Target, share: int | None, intended: int, nearest: Callable[[Target, int], int]
) -> None:
    wanted = intended if target.is_flag else nearest(target, intended)
    if share != wanted:
        at = "in no known state" if share is None else f"at {percent_text(share)}"
        raise Conflict(f"{target.id} is {at}, not at {percent_text(wanted)}.")


def _rolled_back(
    rollout: Rollout, shares: Mapping[str, int], now: float, applied: float | None
) -> Turn:
    cause = rollout.rollback
    done = None if cause is None else replace(cause, applied=applied or now, confirmed=now)
    after = replace(
        rollout,
        state=State.ROLLED_BACK,
        confirmed=dict(shares),
        rollback=done,
        ended=now,
        changed=now,
    )
    return Turn(rollout, after, "rollout:rollback:confirm")


_INSTEAD: Mapping[State, str] = {
    State.PENDING: "It has not started: start it, or roll it back to end it.",
    State.PAUSED: "Resume it, or roll it back.",
    State.ROLLING_BACK: "Nothing leads out of a rollback but 0 %, confirmed.",
    State.ROLLBACK_FAILED: "Its rollback is tried again and again; nothing else can be done to it.",
    State.ROLLED_BACK: "It has ended. Start a new rollout.",
    State.COMPLETED: "It has ended. To go back, kill its flags, or roll out the older version.",
    State.SUPERSEDED: "A newer rollout took over. Turn to that one.",
    State.UNKNOWN: "Its state has no name here: a newer server wrote it. Upgrade this one.",
}
"""What can be done instead, by state."""

_RESUME_INSTEAD: Mapping[State, str] = {
    **_INSTEAD,
    State.HOLDING: "It goes on by itself when that is over. Roll it back if it should not.",
}
_ADVANCE_INSTEAD: Mapping[State, str] = {
    **_INSTEAD,
    State.HOLDING: "Skipping the wait does not help against that.",
}


def _refused(rollout: Rollout, what: str, instead: Mapping[State, str]) -> Conflict:
    waits = "" if rollout.waiting is None else f" ({rollout.waiting.reason})"
    words = rollout.state.shown.words.lower()
    more = instead.get(rollout.state, "")
    return Conflict(f"{rollout.name} is {words}{waits} and {what}. {more}".rstrip())
