"""A rollout that is to be watched holds when its watcher is lost: it never runs on unseen, and
never goes back because of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from flagserver.domain import verbs
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.documents import Principal
from flagserver.domain.errors import Forbidden, Invalid, NotFound
from flagserver.domain.rollout import Rollout, Why
from flagserver.domain.rollout_commands import Watch
from flagserver.domain.states import State
from flagserver.domain.times import from_unix
from flagserver.domain.watchers import Watcher
from tests.builders import ADMIN, SURE
from tests.engines import Engine, only_flag
from tests.unit.rollouts import T0, a_rollout, at_step

CALM = Watch()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(directory=tmp_path)


def watched(engine: Engine, id: str, seconds: float, every: float = 15.0) -> None:
    """Let time pass, with a sign of life now and then."""
    end = engine.clock.seconds + seconds
    while engine.clock.seconds < end:
        engine.services.watching.heartbeat(id, CALM, ADMIN)
        engine.run(min(every, end - engine.clock.seconds))


def why(rollout: Rollout) -> Why | None:
    return None if rollout.waiting is None else rollout.waiting.why


class TestTheRule:
    @pytest.mark.parametrize(
        ("heard", "now", "lost"),
        [
            (None, T0 + 120, False),
            (None, T0 + 121, True),
            (T0 + 100, T0 + 220, False),
            (T0 + 100, T0 + 221, True),
            # Of a watch before this one: it tells nothing.
            (T0 - 900, T0 + 120, False),
            # Somebody else's clock is ahead.
            (T0 + 500, T0 + 130, False),
        ],
    )
    def test_two_minutes_without_a_sign_of_life(
        self, heard: float | None, now: float, lost: bool
    ) -> None:
        assert Watcher(T0).is_lost(heard, now) is lost

    def test_it_is_read_as_it_was_written(self) -> None:
        rollout = a_rollout(lost_after=30)
        assert rollout.watcher == Watcher(T0, 30)
        assert Rollout.from_body(rollout.to_body()) == rollout
        older = {name: part for name, part in rollout.to_body().items() if name != "watcher"}
        assert Rollout.from_body(older).watcher is None

    def test_saying_it_again_changes_nothing_and_saying_it_of_what_has_ended_neither(self) -> None:
        once = verbs.watch(at_step(0), T0)
        assert (once.action, once.after.watcher) == ("rollout:watch:begin", Watcher(T0))
        assert not verbs.watch(once.after, T0 + 60).changed
        assert verbs.watch(once.after, T0 + 60, 30).after.watcher == Watcher(T0 + 60, 30)
        ended = verbs.supersede(at_step(0), "r-2", at_step(0).targets, T0)
        assert not verbs.watch(ended, T0).changed


class TestAWatchedRollout:
    def test_it_runs_while_somebody_watches(self, engine: Engine) -> None:
        id = engine.start()
        watched(engine, id, 31 * 60)
        assert engine.rollout(id).state is State.COMPLETED
        assert engine.actions(id).count("watch:begin") == 1

    def test_it_holds_where_it_is_when_he_is_lost_and_goes_on_when_he_is_back(
        self, engine: Engine
    ) -> None:
        id = engine.start()
        watched(engine, id, 60)
        engine.run(100)
        assert engine.rollout(id).state is State.RUNNING
        engine.run(30)

        held = engine.rollout(id)
        assert (held.state, why(held)) == (State.HOLDING, Why.WATCHER)
        assert (engine.weight, engine.share) == (5, 5)
        assert held.waiting is not None
        assert held.waiting.reason.startswith("Whoever was to watch it was not heard of for 12")

        engine.run(3600)
        assert (engine.weight, engine.share) == (5, 5)

        watched(engine, id, 10)
        assert engine.rollout(id).state is State.RUNNING

    def test_harm_takes_it_back_all_the_same(self, engine: Engine) -> None:
        id = engine.start()
        watched(engine, id, 60)
        engine.run(180)
        engine.rates = (0.2, 0.0)
        engine.run(240)
        assert engine.rollout(id).state is State.ROLLED_BACK

    def test_whoever_resumes_it_answers_for_it(self, engine: Engine) -> None:
        id = engine.start()
        watched(engine, id, 60)
        engine.run(300)
        view = engine.rollouts.get(id, ADMIN)
        engine.rollouts.resume(id, Enlarging(**SURE), view.revision, ADMIN)

        engine.run(20)

        resumed = engine.rollout(id)
        assert (resumed.state, resumed.watcher) == (State.RUNNING, None)
        engine.run(31 * 60)
        assert engine.rollout(id).state is State.COMPLETED

    def test_one_that_was_paused_and_resumed_is_watched_again_by_who_lives(
        self, engine: Engine
    ) -> None:
        id = engine.start()
        watched(engine, id, 60)
        engine.rollouts.hold(id, Reasoned(), ADMIN)
        view = engine.rollouts.get(id, ADMIN)
        engine.rollouts.resume(id, Enlarging(**SURE), view.revision, ADMIN)
        watched(engine, id, 15)
        assert engine.rollout(id).watcher is not None
        engine.run(180)
        assert why(engine.rollout(id)) is Why.WATCHER

    def test_nobody_ever_came_to_watch(self, engine: Engine) -> None:
        id = engine.start(hold_if_lost="30s")
        engine.run(60)
        assert why(engine.rollout(id)) is Why.WATCHER

    def test_one_that_waits_for_its_time_does_not_begin_unseen(self, engine: Engine) -> None:
        at = engine.clock.now().timestamp() + 3600
        id = engine.start(start_at=from_unix(at), hold_if_lost="2m")
        engine.run(3700)
        held = engine.rollout(id)
        assert (held.state, why(held), held.step) == (State.HOLDING, Why.WATCHER, -1)
        assert (engine.weight, engine.share) == (0, 0)

    def test_where_the_signs_of_life_are_lost_it_holds(self, engine: Engine) -> None:
        id = engine.start()
        watched(engine, id, 150)
        engine.store._server.write("DEL", "sortition:looked")
        engine.run(10)
        assert why(engine.rollout(id)) is Why.WATCHER


class TestWhoMay:
    def test_a_token_of_another_environment_may_not(self, engine: Engine) -> None:
        id = engine.start(**only_flag())
        other = Principal("token:other", "deploy", "deploy", "staging")
        with pytest.raises(Forbidden):
            engine.services.watching.heartbeat(id, CALM, other)

    def test_what_is_not_there_cannot_be_watched(self, engine: Engine) -> None:
        with pytest.raises(NotFound):
            engine.services.watching.heartbeat("r-0000000000", CALM, ADMIN)

    @pytest.mark.parametrize("text", ["4s", "2h", "soon"])
    def test_a_time_out_of_range_is_refused(self, engine: Engine, text: str) -> None:
        id = engine.start()
        with pytest.raises(Invalid) as refused:
            engine.services.watching.heartbeat(id, Watch(hold_if_lost=text), ADMIN)
        assert refused.value.field == "/hold_if_lost"
        with pytest.raises(Invalid) as refused:
            engine.start(**only_flag(hold_if_lost=text))
        assert refused.value.field == "/hold_if_lost"

    def test_one_that_has_ended_needs_no_watcher(self, engine: Engine) -> None:
        id = engine.start()
        engine.rollouts.roll_back(id, Reasoned(), ADMIN)
        engine.run(10)
        view = engine.services.watching.heartbeat(id, CALM, ADMIN)
        assert (view.rollout.state, view.rollout.watcher) == (State.ROLLED_BACK, None)
