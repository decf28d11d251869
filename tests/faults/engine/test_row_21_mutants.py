"""The races of `test_row_21_races` find an engine that is broken: each of these is, in one place.

What they find is not shrunk: that it is found is what matters here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from flagserver.domain import decisions, rollout_flags, verbs
from flagserver.domain.errors import Refusal
from flagserver.domain.rollout import Rollout
from flagserver.domain.states import State
from flagserver.domain.verbs import Turn
from flagserver.services.steering import Steering
from flagserver.storage.redis.store import RedisStore

from .test_row_21_races import Racing

pytestmark = pytest.mark.timeout(300)

EXAMPLES = 200
"""So many runs find each of them for sure; they need from two to ten, or thirty."""

Mutant = Callable[[pytest.MonkeyPatch], None]


def no_lock_on_the_revision(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes last overwrites what he has not seen."""
    commit = RedisStore.commit

    def whatever_is_there(store: RedisStore, change: Any, **more: Any) -> Any:
        def now(write: Any) -> Any:
            kept = store.read(write.collection, write.key)
            return replace(write, expected=0 if kept is None else kept.revision, revision=None)

        return commit(store, replace(change, writes=tuple(map(now, change.writes))), **more)

    patch.setattr(RedisStore, "commit", whatever_is_there)


def an_advance_leads_out_of_a_rollback(patch: pytest.MonkeyPatch) -> None:
    advance = verbs.advance

    def whatever_its_state(rollout: Rollout, *more: Any) -> Any:
        if rollout.state is not State.ROLLING_BACK:
            return advance(rollout, *more)
        after = replace(rollout, state=State.RUNNING, rollback=None)
        return Turn(rollout, after, "rollout:step:advance")

    patch.setattr(verbs, "advance", whatever_its_state)


def a_rollback_is_believed_without_a_look(patch: pytest.MonkeyPatch) -> None:
    lower = Steering._lower

    def whatever_is_there(steering: Steering, *told: Any) -> Any:
        lower(steering, *told)
        return None, steering._now()

    patch.setattr(Steering, "_lower", whatever_is_there)


def a_rollback_leaves_the_flag_until_the_traffic_is_down(patch: pytest.MonkeyPatch) -> None:
    after = rollout_flags.after

    def as_it_was(turn: Any, state: Any, **more: Any) -> Any:
        return state if turn.action == "rollout:rollback:begin" else after(turn, state, **more)

    patch.setattr(rollout_flags, "after", as_it_was)


def the_flag_goes_up_before_the_traffic(patch: pytest.MonkeyPatch) -> None:
    move = verbs.move

    def flags_first(rollout: Rollout, step: int, now: float) -> Any:
        turn = move(rollout, step, now)
        flags = {target.id: turn.after.intended[target.id] for target in rollout.flags}
        after = replace(turn.after, confirmed={**turn.after.confirmed, **flags})
        return replace(turn, after=after)

    patch.setattr(verbs, "move", flags_first)


def a_step_sets_the_share_of_the_next(patch: pytest.MonkeyPatch) -> None:
    move = verbs.move

    def one_further(rollout: Rollout, step: int, now: float) -> Any:
        turn, last = move(rollout, step, now), len(rollout.plan) - 1
        shares = rollout.plan[min(step + 1, last)].shares
        return replace(turn, after=replace(turn.after, intended=shares))

    patch.setattr(verbs, "move", one_further)


def a_confirmation_takes_a_kill_back(patch: pytest.MonkeyPatch) -> None:
    after = rollout_flags.after
    patch.setattr(decisions, "flag_obstacle", lambda rollout, states: None)
    patch.setattr(
        rollout_flags, "after", lambda *told, **more: replace(after(*told, **more), killed=False)
    )


def an_approval_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rollout, "is_approved", True)


def an_end_gives_nothing_back(patch: pytest.MonkeyPatch) -> None:
    commit = RedisStore.commit

    def keeping(store: RedisStore, change: Any, **more: Any) -> Any:
        return commit(store, replace(change, releases={}), **more)

    patch.setattr(RedisStore, "commit", keeping)


MUTANTS: tuple[Mutant, ...] = (
    no_lock_on_the_revision,
    an_advance_leads_out_of_a_rollback,
    a_rollback_is_believed_without_a_look,
    a_rollback_leaves_the_flag_until_the_traffic_is_down,
    the_flag_goes_up_before_the_traffic,
    a_step_sets_the_share_of_the_next,
    an_end_gives_nothing_back,
)
MORE: tuple[Mutant, ...] = (a_confirmation_takes_a_kill_back, an_approval_is_not_waited_for)


def race(examples: int) -> None:
    """Run the races until one fails, and no further."""
    of_this = settings(
        Racing.TestCase.settings,
        max_examples=examples,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Racing, settings=of_this)


@pytest.mark.parametrize(
    "mutant",
    [*MUTANTS, *(pytest.param(mutant, marks=pytest.mark.slow) for mutant in MORE)],
    ids=lambda mutant: mutant.__name__,
)
def test_it_is_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)

    with pytest.raises((AssertionError, Refusal)):
        race(EXAMPLES)
