"""What a rollout makes of its flags: locked while it lives, at its step's share, given back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.core.bucketing import WHOLE
from sortition.core.conditions import Condition
from sortition.core.model import MAX_CONDITIONS as ROOM

from flagserver.domain import rollout_flags, verbs
from flagserver.domain.commands import NewFlag
from flagserver.domain.errors import Conflict, Invalid
from flagserver.domain.flags import Flag, State, create, default_state
from flagserver.domain.plan import Relation
from flagserver.domain.rollout import Rollout
from flagserver.domain.verbs import Turn

from .rollouts import SEARCH, T0, a_cause, a_rollout, at_step, whole

AT = "2027-01-15T08:00:00.000Z"
FLAG: Flag = create(NewFlag(key="new-search"), salt="salt", at=AT)
TIE = Condition("service.version", "in", ("2",))
OWN = Condition("cloud.region", "in", ("eu-central-1",))


def a_state(**told: Any) -> State:
    return replace(default_state(FLAG, "production"), **told)


def created(**more: Any) -> Turn:
    """Return the turn that makes a rollout."""
    rollout = a_rollout(**more)
    return Turn(None, rollout, "rollout:create")


def confirmed(step: int, **more: Any) -> Turn:
    """Return the turn that confirms a step (from 0)."""
    before = a_rollout(**more) if step == 0 else at_step(step - 1, **more)
    moved = verbs.move(verbs.start(before, T0).after, step, T0).after
    return verbs.confirm(moved, whole(moved), T0)


def after(turn: Turn, state: State) -> State:
    return rollout_flags.after(turn, state, at=AT)


class TestItsShare:
    def test_it_is_locked_by_the_start_and_exposes_nobody(self) -> None:
        state = after(created(), a_state())

        assert (state.rollout, state.share) == ("r-1", 0)

    @pytest.mark.parametrize(("step", "share"), [(0, 5), (1, 25), (2, 50), (3, 100)])
    def test_a_step_gives_its_share(self, step: int, share: int) -> None:
        state = after(confirmed(step), a_state(rollout="r-1"))

        assert (state.share, state.rollout, state.changed) == (share * 10_000, "r-1", AT)

    def test_an_intent_that_is_not_confirmed_gives_nothing(self) -> None:
        moved = verbs.move(at_step(0), 1, T0)
        state = a_state(rollout="r-1", share=50_000)

        assert after(moved, state) is state

    def test_going_back_takes_all_at_once(self) -> None:
        begun = verbs.roll_back(at_step(2), a_cause(T0), None)
        ended = verbs.confirm(begun.after, whole(begun.after), T0)

        state = after(begun, a_state(rollout="r-1", share=500_000))
        assert (state.share, state.rollout) == (0, "r-1")
        state = after(ended, state)
        assert (state.share, state.rollout) == (0, None)

    def test_what_somebody_lowered_or_killed_stays_so(self) -> None:
        lowered = a_state(rollout="r-1", share=10_000, killed=True)

        held = verbs.hold(at_step(0), T0, T0)
        assert after(held, lowered) is lowered
        state = after(confirmed(1), lowered)
        assert (state.killed, state.share) == (True, 250_000)

    def test_its_end_gives_the_flag_back_at_the_share_it_has(self) -> None:
        state = after(verbs.complete(at_step(3), T0), a_state(rollout="r-1", share=WHOLE))

        assert (state.rollout, state.share) == (None, WHOLE)

    @given(
        steps=st.lists(st.sampled_from(["up", "hold", "resume", "back"]), max_size=8),
        killed=st.booleans(),
    )
    def test_it_stands_where_its_rollout_thinks_and_nobody_unkills_it(
        self, steps: list[str], killed: bool
    ) -> None:
        rollout = verbs.start(a_rollout(), T0).after
        state = after(created(), a_state(killed=killed))
        for what in steps:
            for turn in _turns(rollout, what):
                rollout, state = turn.after, after(turn, state)
                assert state.share == rollout.confirmed.get(SEARCH.id, state.share)
                assert (state.rollout is None) is rollout.state.shown.terminal
                assert state.killed is killed


def _turns(rollout: Rollout, what: str) -> list[Turn]:
    """Return what happens to a rollout, as far as it can."""
    try:
        if what == "hold":
            return [verbs.hold(rollout, T0, T0)]
        if what == "resume":
            return [verbs.resume(rollout, T0)]
        if what == "back":
            begun = verbs.roll_back(rollout, a_cause(T0), None)
            return [begun, verbs.confirm(begun.after, whole(begun.after), T0)]
        moved = verbs.move(rollout, rollout.step + 1, T0)
        return [moved, verbs.confirm(moved.after, whole(moved.after), T0)]
    except Conflict:
        return []


TIES: dict[str, Any] = {"relation": Relation.ON_CANARY}


class TestTied:
    def test_it_is_on_where_the_new_version_runs(self) -> None:
        state = after(confirmed(0, **TIES), a_state(rollout="r-1", conditions=(OWN,)))

        assert (state.share, state.conditions) == (WHOLE, (OWN, TIE))
        assert after(confirmed(1, **TIES), state).conditions == (OWN, TIE)

    @pytest.mark.parametrize("end", ["complete", "back"])
    def test_its_end_unties_it_and_leaves_the_rest(self, end: str) -> None:
        tied = a_state(rollout="r-1", share=WHOLE, conditions=(OWN, TIE))
        back = verbs.roll_back(at_step(3, **TIES), a_cause(T0), None)
        turn = {"complete": verbs.complete(at_step(3, **TIES), T0), "back": back}[end]

        state = after(turn, tied)

        assert state.conditions == (OWN,)
        assert state.share == (WHOLE if end == "complete" else 0)

    @pytest.mark.parametrize("relation", list(Relation))
    def test_a_newer_rollout_unties_what_the_older_one_tied(self, relation: Relation) -> None:
        older = at_step(1, **TIES)
        newer = verbs.create(
            id="r-2",
            environment="production",
            service="api",
            version="3",
            schedule=older.schedule,
            relation=relation,
            targets=older.targets,
            guards=(),
            by="token:deploy",
            now=T0,
            instead_of=older,
        )

        state = after(newer, a_state(rollout="r-1", share=WHOLE, conditions=(OWN, TIE)))

        assert (state.share, state.rollout, state.conditions) == (0, "r-2", (OWN,))

    def test_elsewhere_a_condition_on_the_version_is_nobody_elses_business(self) -> None:
        state = after(verbs.complete(at_step(3), T0), a_state(rollout="r-1", conditions=(TIE,)))

        assert state.conditions == (TIE,)


class TestMayItBegin:
    def check(
        self,
        state: State | None = None,
        flag: Flag = FLAG,
        older: Rollout | None = None,
        **rollout: Any,
    ) -> None:
        """Check whether a rollout may begin with a flag in this state."""
        rollout_flags.check(a_rollout(**rollout), flag, state or a_state(), older, "/targets/1")

    def test_a_flag_that_nobody_exposes(self) -> None:
        self.check()
        self.check(a_state(conditions=(TIE, OWN)))

    def test_an_archived_one(self) -> None:
        with pytest.raises(Invalid, match="archived") as refused:
            self.check(flag=replace(FLAG, archived=True))
        assert refused.value.field == "/targets/1/name"

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            ({"killed": True}, "Un-kill it first"),
            ({"share": 100_000}, "at 10 % in production already"),
            ({"rollout": "r-0"}, "in rollout r-0 already"),
        ],
    )
    def test_one_that_is_in_no_state_to(self, state: dict[str, Any], words: str) -> None:
        with pytest.raises(Conflict, match=words):
            self.check(a_state(**state))

    def test_one_that_the_older_rollout_gives_over(self) -> None:
        older = at_step(1)

        self.check(a_state(rollout="r-1", share=250_000), older=older, id="r-2")
        with pytest.raises(Conflict, match="in rollout r-9 already"):
            self.check(a_state(rollout="r-9"), older=older, id="r-2")

    def test_a_condition_of_its_own_on_the_same_version(self) -> None:
        with pytest.raises(Conflict, match="Take it out first"):
            self.check(a_state(conditions=(TIE,)), **TIES)
        given_over = a_state(rollout="r-1", share=WHOLE, conditions=(TIE,))
        self.check(given_over, older=at_step(0, **TIES), id="r-2", **TIES)

    def test_no_room_for_a_condition(self) -> None:
        full = a_state(conditions=tuple(replace(OWN, values=(str(i),)) for i in range(ROOM)))

        self.check(full)
        with pytest.raises(Invalid, match="no room"):
            self.check(full, **TIES)
