"""`sortition drill`: a rollback on purpose through everything that a real one goes through, refused
where it is critical, with a proof that the server keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sortition.cli import exits

from flagserver import bootstrap
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import Principal
from flagserver.domain.errors import Conflict, Forbidden, NotFound
from flagserver.domain.signals import Measure, Measured, Point, Signal
from flagserver.domain.states import State
from flagserver.domain.times import moment
from flagserver.signals.metrics import MetricsSource
from tests.builders import ADMIN
from tests.cli.test_rollouts import FLAG_ALONE, Desk
from tests.engines import FLAG, Engine, only_flag

STAGING = ("--env", "staging", "--flag", FLAG, "--service", "api")


class Pager:
    """`ports.Notifier` that remembers."""

    name = "pager"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, notice: Any) -> None:
        self.sent.append(notice.kind)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    engine = Engine(directory=tmp_path)
    sources: Any = engine.outside.sources
    sources["metrics"] = MetricsSource(engine.store, lambda *_: None, settle_seconds=0)
    return Desk(engine)


@pytest.fixture
def pager(desk: Desk) -> Pager:
    """Let somebody be told, at every tick."""
    made = Pager()
    engine = desk.engine
    notices = bootstrap.build_notices(engine.store, engine.store, [made], engine.clock, "first")
    (deliverer,) = notices._deliverers
    tick = engine.tick

    def tick_and_tell(controller: Any = None) -> None:
        tick(controller)
        deliverer.step()

    engine.tick = tick_and_tell  # type: ignore[method-assign]
    return made


def drill(desk: Desk, *more: str) -> Result:
    return desk.run("drill", *STAGING, *more)


def test_it_takes_itself_back_and_the_proof_is_kept(
    desk: Desk, pager: Pager, tmp_path: Path
) -> None:
    out = tmp_path / "drill.json"

    done = drill(desk, "--reason", "quarterly drill", "--out", str(out), "--json")

    assert done.exit_code == exits.DONE, done.output
    proof = json.loads(out.read_text())
    assert json.loads(done.stdout) == {"kind": "drill", **proof}
    assert (proof["environment"], proof["state"], proof["passed"]) == (
        "staging",
        "rolled_back",
        True,
    )
    assert (proof["guard"], proof["by"]) == ("drill", desk.engine.rollout(proof["rollout"]).by)
    assert 60 <= proof["seconds_to_detect"] <= 240
    assert proof["seconds_to_restore"] <= 10
    assert "50 %" in proof["reason"]
    begun = next(each for each in proof["told"] if each["kind"] == "rollout:rollback:begin")
    assert begun["notifiers"] == ["pager"]
    assert "rollout:rollback:begin" in pager.sent
    # It is in the record that it was on purpose, and why.
    entries = desk.engine.entries(proof["rollout"])
    (began,) = [each for each in entries if each["action"] == "rollout:drill:begin"]
    assert began["reason"] == "quarterly drill"
    state = desk.engine.flags.state(FLAG, "staging").state
    assert (state.share, state.killed) == (0, False)


def test_people_see_times_and_names(desk: Desk, pager: Pager) -> None:
    done = drill(desk)

    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert done.exit_code == exits.DONE
    assert "in staging: it took itself back." in lines[0]
    assert any(line.startswith("detected 2026-") and line.endswith(" s") for line in lines)
    assert any("rollout:rollback:begin pager" in line for line in lines)


def test_where_nobody_is_told_it_has_not_passed(desk: Desk) -> None:
    done = drill(desk, "--json")

    proof = json.loads(done.stdout)
    assert done.exit_code == exits.CHECK_FAILED
    assert (proof["state"], proof["passed"]) == ("rolled_back", False)
    assert [each["notifiers"] for each in proof["told"]] == [[]] * len(proof["told"])


def test_that_nobody_was_told_is_said(desk: Desk) -> None:
    assert "it took itself back, but nobody was told" in drill(desk).stdout


def test_one_that_somebody_took_back_has_shown_nothing(desk: Desk, pager: Pager) -> None:
    def by_hand() -> None:
        (it,) = desk.json("list")["rollouts"]
        desk.rollouts("rollback", it["id"], "--reason", "I could not wait")

    desk.at(30, by_hand)

    done = drill(desk)

    assert done.exit_code == exits.CHECK_FAILED
    assert "it was taken back, but not by itself." in done.stdout


def test_an_alarm_that_somebody_sets_takes_it_back(desk: Desk, pager: Pager) -> None:
    signal = Signal.of("cloudwatch", Measure.ALARM, alarms=("api-5xx",))
    desk.engine.source.answers[signal] = _alarm(desk, 0.0)
    desk.at(60, lambda: desk.engine.source.answers.update({signal: _alarm(desk, 1.0)}))

    done = drill(desk, "--alarm", "api-5xx", "--print", "--json")

    proof = json.loads(done.stdout)
    assert done.exit_code == exits.DONE, done.output
    assert proof["guard"] == "alarm api-5xx"
    assert proof["passed"]


def test_the_command_that_sets_it_is_said(desk: Desk, pager: Pager) -> None:
    signal = Signal.of("cloudwatch", Measure.ALARM, alarms=("api's",))
    desk.engine.source.answers[signal] = _alarm(desk, 0.0)
    desk.at(60, lambda: desk.engine.source.answers.update({signal: _alarm(desk, 1.0)}))

    done = drill(desk, "--alarm", "api's", "--print")

    assert (
        "aws cloudwatch set-alarm-state --alarm-name 'api'\\''s' --state-value ALARM" in done.stderr
    )


def test_nothing_is_printed_without_an_alarm(desk: Desk) -> None:
    done = drill(desk, "--print")

    assert (done.exit_code, desk.json("list")["rollouts"]) == (exits.USAGE, [])
    assert "--print goes with --alarm." in done.stderr


def _alarm(desk: Desk, value: float) -> Measured:
    return Measured((Point(moment(desk.engine.clock.now()), value),))


def test_a_critical_environment_is_refused_before_anything_is_started(desk: Desk) -> None:
    done = desk.run("drill", "--env", "production", "--flag", FLAG, "--service", "api")

    assert done.exit_code == exits.CONFLICT
    assert "production is critical" in done.stderr
    assert desk.engine.rollouts.page().views == ()


def test_what_does_not_take_itself_back_in_time_has_not_passed_and_is_not_left(
    desk: Desk, pager: Pager
) -> None:
    # A controller that is away: nothing is judged.
    desk.at(30, lambda: setattr(desk.engine, "tick", lambda *_: None))

    done = drill(desk, "--timeout", "3m", "--json")

    proof = json.loads(done.stdout)
    assert (done.exit_code, proof["passed"]) == (exits.CHECK_FAILED, False)
    it = desk.engine.rollout(proof["rollout"])
    assert it.state is State.ROLLING_BACK
    assert desk.engine.flags.state(FLAG, "staging").state.share == 0


def test_a_flag_that_is_in_use_is_left_alone(desk: Desk) -> None:
    desk.engine.change(FLAG, "staging", share=30.0)

    done = drill(desk)

    assert done.exit_code != exits.DONE
    assert desk.engine.flags.state(FLAG, "staging").state.share == 300_000


class TestTheServer:
    def test_it_refuses_a_critical_environment_by_itself(self, desk: Desk) -> None:
        id = desk.started()
        with pytest.raises(Conflict, match="production is critical"):
            desk.engine.services.drills.begin(id, Reasoned(), ADMIN)

    def test_a_rollout_that_exposes_nobody_or_has_no_guards_is_no_drill(self, desk: Desk) -> None:
        there = {"environment": "staging", "confirm_environment": "staging"}
        begin = desk.engine.services.drills.begin
        id = desk.engine.start(**only_flag(**there, guards="none"))
        with pytest.raises(Conflict, match="exposes nobody"):
            begin(id, Reasoned(), ADMIN)
        desk.sleep(20)
        with pytest.raises(Conflict, match="has no guards"):
            begin(id, Reasoned(), ADMIN)
        desk.engine.rollouts.roll_back(id, Reasoned(), ADMIN)
        desk.sleep(10)
        with pytest.raises(Conflict, match="is rolled back"):
            begin(id, Reasoned(), ADMIN)

    def test_a_token_of_another_environment_may_not(self, desk: Desk) -> None:
        id = desk.started()
        other = Principal("token:other", "deploy", "deploy", "staging")
        with pytest.raises(Forbidden):
            desk.engine.services.drills.begin(id, Reasoned(), other)

    def test_there_is_no_proof_of_what_was_no_drill(self, desk: Desk) -> None:
        id = desk.start(*FLAG_ALONE)
        with pytest.raises(NotFound, match="There was no drill"):
            desk.engine.services.drills.proof(id, ADMIN)
