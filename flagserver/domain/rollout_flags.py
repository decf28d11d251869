"""What a rollout makes of its flags: locked while it lives, at the share that its step gives.

A flag is set in the same commit that says so, so it never stands elsewhere than its rollout thinks.
"""

from __future__ import annotations

from dataclasses import replace

from sortition.core.bucketing import WHOLE
from sortition.core.conditions import Condition
from sortition.core.model import MAX_CONDITIONS

from .errors import Conflict, Invalid
from .flags import Flag, State
from .plan import Relation
from .rollout import Rollout
from .schedule import percent_text
from .states import State as RolloutState
from .targets import FLAG, Target
from .verbs import Turn

VERSION = "service.version"


def after(turn: Turn, state: State, *, at: str) -> State:
    """Return a flag's state as a turn of its rollout leaves it. at: RFC 3339.

    Only a turn that confirms another share sets one: whatever somebody lowered stays lowered.
    """
    rollout = turn.after
    share = _share(turn, state)
    changed = replace(state, rollout=rollout.id, share=share)
    if turn.ends is not None:
        changed = _untied(turn.ends, changed)
    if rollout.state.shown.terminal:
        changed = replace(changed, rollout=None)
    changed = _tied(rollout, changed) if _ties(rollout, share) else _untied(rollout, changed)
    return state if changed == state else replace(changed, changed=at)


def check(rollout: Rollout, flag: Flag, state: State, older: Rollout | None, field: str) -> None:
    """Raise unless a rollout may begin with this flag. older: the rollout that it replaces."""
    if flag.archived:
        raise Invalid(f"{flag.key} is archived.", field=f"{field}/name")
    if state.killed:
        raise Conflict(f"{flag.key} is killed in {state.environment}. Un-kill it first.")
    if state.rollout is not None and (older is None or older.id != state.rollout):
        raise Conflict(
            f"{flag.key} is in rollout {state.rollout} already. Roll that back, wait for its end, "
            "or say that this one replaces it."
        )
    if state.share and state.rollout is None:
        raise Conflict(
            f"{flag.key} is at {percent_text(state.share)} in {state.environment} already, and a "
            "rollout begins with nobody. Set it to 0 % first."
        )
    if rollout.relation is not Relation.ON_CANARY:
        return
    own = state.conditions if older is None else _untied(older, state).conditions
    if _condition(rollout) in own:
        raise Conflict(
            f"{flag.key} is on only where {VERSION} is {rollout.version} already, and this rollout "
            "would take that condition away at its end. Take it out first."
        )
    if len(own) >= MAX_CONDITIONS:
        raise Invalid(
            f"{flag.key} has no room for a condition on {VERSION}.", field=f"{field}/name"
        )


def _share(turn: Turn, state: State) -> int:
    target = Target.of(FLAG, state.flag).id
    before = {} if turn.before is None else turn.before.confirmed
    share = turn.after.confirmed.get(target)
    return state.share if share is None or share == before.get(target) else share


def _ties(rollout: Rollout, share: int) -> bool:
    """Tell whether the flag is on only where the new version runs."""
    ended = rollout.state is RolloutState.COMPLETED
    return rollout.relation is Relation.ON_CANARY and share == WHOLE and not ended


def _condition(rollout: Rollout) -> Condition:
    return Condition(VERSION, "in", (str(rollout.version),))


def _tied(rollout: Rollout, state: State) -> State:
    condition = _condition(rollout)
    if condition in state.conditions:
        return state
    return replace(state, conditions=(*state.conditions, condition))


def _untied(rollout: Rollout, state: State) -> State:
    if rollout.relation is not Relation.ON_CANARY:
        return state
    kept = tuple(each for each in state.conditions if each != _condition(rollout))
    return replace(state, conditions=kept)
