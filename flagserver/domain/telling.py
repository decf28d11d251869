"""What people are told of a rollout: a notice for each turn worth knowing of (`events.KINDS`)."""

from __future__ import annotations

from . import events
from .notices import Notice, Severity
from .rollout import Rollout, Why
from .schedule import percent_text
from .states import State
from .times import from_unix
from .verbs import Turn

SETTLING = frozenset({"rollout:rollback:confirm", "rollout:supersede"})
"""What ends the rollout's incident, should there be one."""

WAKES = frozenset({Why.OUTAGE, Why.PERSON})
"""What a rollout holds for that wakes somebody."""


def notices(turn: Turn, by_hand: tuple[str, ...] = ()) -> tuple[Notice, ...]:
    """Return what a turn is worth telling.

    by_hand: the commands that take the traffic back when we cannot.
    """
    severity = events.severity(turn.action)
    if severity is None:
        return ()
    rollout = turn.after
    outage, was_outage = _is_outage(rollout), turn.before is not None and _is_outage(turn.before)
    failed = turn.action == "rollout:rollback:fail"
    pages = outage and not was_outage
    over = was_outage and not outage and rollout.state is not State.ROLLING_BACK
    settles = over or turn.action in SETTLING
    return (
        Notice(
            id=f"{rollout.id}:{rollout.generation}:{turn.action}:{from_unix(rollout.changed)}",
            kind=turn.action,
            severity=Severity.PAGE if pages else severity,
            at=from_unix(rollout.changed),
            environment=rollout.environment,
            service=rollout.service,
            subject=rollout.name,
            title=_title(turn),
            facts=_facts(rollout),
            incident=_of_incident(turn) if pages or failed or settles else None,
            resolves=settles and not (pages or failed),
            by_hand=by_hand if failed else (),
        ),
    )


def _of_incident(turn: Turn) -> str:
    """Return whose incident it is: the older rollout's, where a newer one takes over."""
    return turn.after.name if turn.ends is None else turn.ends.name


def _is_outage(rollout: Rollout) -> bool:
    return rollout.waiting is not None and rollout.waiting.why in WAKES


def _title(turn: Turn) -> str:
    rollout = turn.after
    what = " ".join(filter(None, (rollout.service, rollout.version)))
    reason = f": {turn.reason}" if turn.reason else ""
    return f"{rollout.state.shown.words}: {what} in {rollout.environment}{reason}"


def _facts(rollout: Rollout) -> dict[str, str]:
    facts = {"Environment": rollout.environment, "Step": step_text(rollout)}
    cause = rollout.rollback
    if cause is not None:
        facts["Why"] = cause.reason
        if cause.first_bad is not None:
            facts["Found after"] = f"{max(0.0, cause.detected - cause.first_bad):.0f} s"
        if cause.confirmed is not None:
            facts["Back after"] = f"{max(0.0, cause.confirmed - cause.detected):.0f} s"
        if cause.trouble is not None:
            facts["Trouble"] = cause.trouble
    facts["Now"] = ", ".join(
        f"{target.name} {percent_text(rollout.confirmed[target.id])}"
        if target.id in rollout.confirmed
        else f"{target.name} not confirmed"
        for target in rollout.targets
    )
    return facts


def step_text(rollout: Rollout) -> str:
    """Return where a rollout stands: `2 of 4, 25 %`."""
    if rollout.step < 0:
        return f"before the first of {len(rollout.plan)}"
    shown = percent_text(rollout.plan[rollout.step].shown)
    return f"{rollout.step + 1} of {len(rollout.plan)}, {shown}"
