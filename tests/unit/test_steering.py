"""The engine, told as stories: what is set when, and what happens when something goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagserver.domain import verbs
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.documents import Idempotency
from flagserver.domain.errors import Conflict, Invalid, Locked, StaleRevision
from flagserver.domain.rollout import Why
from flagserver.domain.states import State
from flagserver.domain.targets import Target
from flagserver.domain.times import moment
from flagserver.services.turns import Turns
from tests.builders import ADMIN, SURE
from tests.engines import FLAG, RULE, Engine, only_flag

OTHER = Target.of("alb", "arn:other-rule", canary="arn:other-green", stable="arn:other-blue")


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(directory=tmp_path)


def at(engine: Engine) -> tuple[float, float]:
    return engine.weight, engine.share


def test_what_was_decided_of_one_that_ended_meanwhile_is_stale(engine: Engine) -> None:
    """And not refused for its flags, which did not change."""
    id = engine.start()
    turns = Turns(engine.store, engine.clock, engine.entropy)
    seen = turns.get(id)
    engine.rollouts.roll_back(id, Reasoned(), ADMIN)
    assert turns.get(id).revision > seen.revision

    with pytest.raises(StaleRevision):
        turns.commit(verbs.start(seen.rollout, moment(engine.clock.now())), seen.revision)


class TestItsWay:
    def test_weights_and_shares_are_exactly_as_the_schedule_says(self, engine: Engine) -> None:
        id = engine.start()
        seen = {}
        for minute in (0, 5, 15, 30):
            engine.run(minute * 60 + 20 - engine.clock.seconds)
            seen[minute] = at(engine)

        assert seen == {0: (5, 5), 5: (25, 25), 15: (50, 50), 30: (100, 100)}
        assert engine.rollout(id).state is State.COMPLETED
        assert engine.actions(id) == [
            "create",
            "start",
            *["step:begin", "step:confirm"] * 4,
            "complete",
        ]

    def test_no_step_begins_before_its_hold_is_over(self, engine: Engine) -> None:
        engine.start()
        engine.run(299)
        assert at(engine) == (5, 5)
        engine.run(899 - engine.clock.seconds)
        assert at(engine) == (25, 25)

    def test_the_traffic_goes_up_before_the_flag(self, engine: Engine) -> None:
        id = engine.start()
        engine.tick()
        engine.driver.faults = ["unavailable"]
        engine.tick()
        assert at(engine) == (0, 0)
        assert engine.rollout(id).is_pending_intent
        engine.run(5)
        assert at(engine) == (5, 5)

    def test_a_flag_alone(self, engine: Engine) -> None:
        id = engine.start(**only_flag(schedule="10%:3m,100%"))
        engine.run(20)
        assert engine.share == 10
        engine.run(180)
        assert (engine.share, engine.rollout(id).state) == (100, State.COMPLETED)

    def test_a_flag_that_is_tied_to_the_new_version(self, engine: Engine) -> None:
        id = engine.start(relation="on_canary", schedule="5%:3m,100%")
        engine.run(20)
        state = engine.flags.state(FLAG, "production").state
        assert (state.share, [c.values for c in state.conditions]) == (1_000_000, [("2",)])
        assert engine.weight == 5
        engine.run(180)
        state = engine.flags.state(FLAG, "production").state
        assert (state.share, state.conditions, state.rollout) == (1_000_000, (), None)
        assert engine.rollout(id).state is State.COMPLETED

    def test_when_its_time_comes(self, engine: Engine) -> None:
        id = engine.start(start_at="2026-11-23T13:00:00Z")
        engine.run(3590)
        assert (at(engine), engine.rollout(id).state) == ((0, 0), State.PENDING)
        engine.run(30)
        assert (at(engine), engine.rollout(id).state) == ((5, 5), State.RUNNING)

    def test_an_approval_is_waited_for(self, engine: Engine) -> None:
        id = engine.start(schedule="5%:3m:approve,100%")
        engine.run(240)
        waiting = engine.rollout(id).waiting
        assert waiting is not None
        assert (at(engine), waiting.why) == ((5, 5), Why.APPROVAL)
        view = engine.rollouts.get(id, ADMIN)
        engine.rollouts.approve(id, Enlarging(**SURE), view.revision, ADMIN)
        engine.run(20)
        assert at(engine) == (100, 100)

    def test_the_same_start_twice_is_the_same_rollout(self, engine: Engine) -> None:
        once = Idempotency("token:ci:deploy-7", "asked")
        assert engine.start(once) == engine.start(once)
        engine.run(20)
        assert engine.start(once) == engine.rollouts.page().views[0].rollout.id


class TestHarm:
    def test_a_canary_far_worse_than_the_stable_side_is_taken_back(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(400)
        assert at(engine) == (25, 25)
        broke = engine.clock.seconds
        engine.rates = (0.2, 0.001)
        engine.run(240)

        rollout = engine.rollout(id)
        assert (at(engine), rollout.state) == ((0, 0), State.ROLLED_BACK)
        cause = rollout.rollback
        assert cause is not None
        assert cause.row == "backstop"
        assert cause.first_bad is not None
        assert cause.first_bad < cause.detected <= (cause.applied or 0) <= (cause.confirmed or 0)
        assert (cause.confirmed or 0) - cause.detected < 30
        assert engine.clock.seconds - broke <= 300
        assert engine.driver.weights[RULE.name].alone

    def test_the_flag_goes_down_before_the_traffic(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(20)
        engine.driver.faults = ["unavailable"] * 2
        engine.rollouts.roll_back(id, Reasoned(reason="looks bad"), ADMIN)
        assert at(engine) == (5, 0)
        engine.tick()
        assert at(engine) == (5, 0)
        engine.run(10)
        assert (at(engine), engine.rollout(id).state) == ((0, 0), State.ROLLED_BACK)

    def test_a_limit_that_both_break_holds_and_pages(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(400)
        engine.rates = (0.04, 0.04)
        engine.run(240)
        rollout = engine.rollout(id)
        assert rollout.waiting is not None
        assert (at(engine), rollout.waiting.why) == ((25, 25), Why.OUTAGE)
        pages = [n for _, n in engine.store.undelivered("test") if n.severity == "page"]
        assert [page.incident for page in pages] == [rollout.name]

        engine.rates = (0.0, 0.0)
        engine.run(240)
        assert engine.rollout(id).state is State.RUNNING

    def test_no_step_goes_up_on_a_bad_newest_point(self, engine: Engine) -> None:
        id = engine.start()
        # The first bad point ends just when the step's hold is over.
        engine.run(285)
        engine.rates = (0.0556, 0.06)
        engine.run(60)
        rollout = engine.rollout(id)
        assert rollout.waiting is not None
        assert (at(engine), rollout.waiting.why) == ((5, 5), Why.DATA)
        assert "5.56 % > 1 % (1 of 2 points" in rollout.waiting.reason

        engine.rates = (0.0, 0.0)
        engine.run(60)
        assert (at(engine), engine.rollout(id).state) == ((25, 25), State.RUNNING)

    def test_missing_data_holds_and_never_advances(self, engine: Engine) -> None:
        id = engine.start()
        engine.rates = (None, None)
        engine.run(890)
        rollout = engine.rollout(id)
        assert rollout.waiting is not None
        assert (at(engine), rollout.waiting.why) == ((5, 5), Why.DATA)

        # Three times the hold: somebody is woken, once, and still nothing goes up.
        engine.run(2700)
        rollout = engine.rollout(id)
        assert rollout.waiting is not None
        assert (at(engine), rollout.waiting.why) == ((5, 5), Why.PERSON)
        pages = [n for _, n in engine.store.undelivered("test") if n.severity == "page"]
        assert [page.incident for page in pages] == [rollout.name]

    def test_a_rollback_that_cannot_be_confirmed_says_so_and_goes_on_trying(
        self, engine: Engine
    ) -> None:
        id = engine.start()
        engine.run(20)
        engine.driver.faults = ["lost"] * 20
        engine.rollouts.roll_back(id, Reasoned(), ADMIN)
        engine.run(70)
        rollout = engine.rollout(id)
        assert (engine.weight, rollout.state) == (5, State.ROLLBACK_FAILED)
        failed = [n for _, n in engine.store.undelivered("test") if n.kind.endswith("fail")]
        assert [n.by_hand for n in failed] == [("fake roll-back arn:rule",)]
        engine.run(60)
        assert (at(engine), engine.rollout(id).state) == ((0, 0), State.ROLLED_BACK)


class TestWithoutTheStore:
    def test_traffic_is_taken_back_and_the_store_told_afterwards(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(400)
        assert at(engine) == (25, 25)
        engine.rates = (0.2, 0.001)
        with engine.away():
            engine.run(240)
            assert engine.weight == 0
        engine.run(10)
        rollout = engine.rollout(id)
        assert (at(engine), rollout.state) == ((0, 0), State.ROLLED_BACK)
        assert rollout.rollback is not None
        assert rollout.rollback.row == "backstop"

    def test_nothing_goes_up_meanwhile(self, engine: Engine) -> None:
        engine.start()
        engine.run(20)
        with engine.away():
            engine.run(1800)
            assert engine.weight == 5

    def test_a_controller_that_starts_without_it_has_its_journal(self, engine: Engine) -> None:
        engine.start()
        engine.run(400)
        engine.rates = (0.2, 0.001)
        with engine.away():
            again = engine.new_controller("first")
            engine.run(240, again)
            assert engine.weight == 0


class TestControllers:
    def test_an_hour_without_any_neither_skips_a_hold_nor_bursts(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(60)
        engine.clock.seconds += 3600
        engine.let_leases_end()
        second = engine.new_controller("second")
        engine.run(200, second)
        assert at(engine) == (5, 5)
        engine.run(60, second)
        assert at(engine) == (25, 25)
        assert "gap:record" in engine.actions(id)
        engine.run(575, second)
        assert at(engine) == (25, 25)

    def test_everything_that_is_driven_is_read_in_one_call_of_a_tick(self, engine: Engine) -> None:
        engine.start()
        engine.driver.add(OTHER)
        engine.start(service="web", targets=[{**OTHER.to_body(), "mode": "drive"}])
        engine.run(20)
        engine.driver.calls.clear()
        engine.tick()
        (call,) = engine.driver.calls
        assert (call[0], set(call[1:])) == ("read_all", {RULE.name, OTHER.name})

    def test_where_one_is_gone_the_other_goes_on(self, engine: Engine) -> None:
        here = engine.start()
        engine.driver.add(OTHER)
        there = engine.start(service="web", targets=[{**OTHER.to_body(), "mode": "drive"}])
        engine.run(20)
        del engine.driver.weights[OTHER.name]
        engine.run(400)
        assert at(engine) == (25, 25)
        waiting = engine.rollout(there).waiting
        assert waiting is not None
        assert (waiting.why, engine.rollout(here).waiting) == (Why.TARGET, None)

    def test_one_at_a_time_holds_a_rollout(self, engine: Engine) -> None:
        id = engine.start()
        second = engine.new_controller("second")
        engine.tick()
        engine.tick(second)
        assert (list(engine.controller.held), list(second.held)) == ([id], [])
        engine.controller.step_down()
        engine.tick(second)
        assert list(second.held) == [id]


class TestPeople:
    def test_holding_stops_the_timer_and_resuming_goes_on(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(120)
        engine.rollouts.hold(id, Reasoned(reason="lunch"), ADMIN)
        engine.run(3600)
        assert at(engine) == (5, 5)
        view = engine.rollouts.get(id, ADMIN)
        engine.rollouts.resume(id, Enlarging(**SURE), view.revision, ADMIN)
        engine.run(170)
        assert at(engine) == (5, 5)
        engine.run(30)
        assert at(engine) == (25, 25)

    def test_a_click_that_comes_late_skips_no_other_wait(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(20)
        view = engine.rollouts.get(id, ADMIN)
        engine.rollouts.advance(id, Enlarging(**SURE), view.revision, ADMIN)
        engine.run(20)
        assert at(engine) == (25, 25)
        with pytest.raises(StaleRevision):
            engine.rollouts.advance(id, Enlarging(**SURE), view.revision, ADMIN)

    def test_a_killed_flag_holds_it_and_is_not_unkilled_by_it(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(20)
        engine.kill(FLAG, "production")
        engine.run(20)
        waiting = engine.rollout(id).waiting
        assert waiting is not None
        assert waiting.why is Why.FLAG
        with pytest.raises(Locked):
            engine.unkill(FLAG, "production", **SURE)
        view = engine.rollouts.get(id, ADMIN)
        with pytest.raises(Conflict, match="was killed"):
            engine.rollouts.resume(id, Enlarging(**SURE), view.revision, ADMIN)
        engine.run(3600)
        assert engine.share == 0

    def test_a_shrunk_flag_holds_it_and_stays_shrunk(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(20)
        engine.change(FLAG, "production", share=1)
        engine.run(20)
        engine.rollouts.hold(id, Reasoned(), ADMIN)
        engine.run(600)
        assert engine.share == 1

    def test_weights_that_somebody_else_set_are_not_fought(self, engine: Engine) -> None:
        id = engine.start()
        engine.run(20)
        engine.driver.weights[RULE.name].share = 700_000
        engine.run(600)
        waiting = engine.rollout(id).waiting
        assert waiting is not None
        assert (engine.weight, waiting.why) == (70, Why.TARGET)

    def test_a_newer_rollout_takes_over(self, engine: Engine) -> None:
        old = engine.start()
        engine.run(20)
        new = engine.start(version="3", replace=True)
        assert engine.rollout(old).state is State.SUPERSEDED
        assert engine.share == 0
        engine.run(30)
        assert (at(engine), engine.rollout(new).state) == ((5, 5), State.RUNNING)


class TestRefused:
    @pytest.mark.parametrize(
        ("told", "field"),
        [
            ({"schedule": "5%:5m,101%"}, "/schedule/steps/1/share"),
            ({"schedule": "50%:5m,25%:5m,100%"}, "/schedule/steps/1/share"),
            ({"schedule": "5%,100%"}, "/schedule/steps/0/hold"),
            ({"targets": [{"kind": "dns", "name": "x"}]}, "/targets/0/kind"),
            ({"targets": [{"kind": "alb", "name": "arn:other"}]}, "/targets/0/name"),
            ({"version": None}, "/version"),
        ],
    )
    def test_bad_input_names_its_field_and_changes_nothing(
        self, engine: Engine, told: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(Invalid) as refused:
            engine.start(**told)
        assert refused.value.field == field
        assert engine.rollouts.page().views == ()
        assert at(engine) == (0, 0)

    def test_a_flag_that_is_exposed_already(self, engine: Engine) -> None:
        engine.change(FLAG, "production", share=10, **SURE)
        with pytest.raises(Conflict, match="Set it to 0 % first"):
            engine.start()

    def test_a_flag_in_another_rollout(self, engine: Engine) -> None:
        engine.start()
        with pytest.raises(Conflict, match="in rollout"):
            engine.start(**only_flag())
