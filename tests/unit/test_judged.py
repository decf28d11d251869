"""Rollouts that are judged by what both arms report, told as stories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakeredis
import pytest
from sortition.judgement.counts import Tick
from sortition.judgement.traffic import Outage
from sortition.judgement.trial import replay

from flagserver.domain.errors import Conflict
from flagserver.domain.outcomes import Row
from flagserver.domain.rollout import Why
from flagserver.domain.signals import Measure, Measured, Point, Signal
from flagserver.domain.states import State
from flagserver.domain.times import moment
from flagserver.http.present_rollouts import JudgementJson
from flagserver.services.judging import exported
from flagserver.storage.redis import keys
from tests.builders import ADMIN
from tests.engines import FLAG, RULE
from tests.http.api import conforms
from tests.judged import HEALTHY, STANDARD, Judged

DEAD = Signal.of("cloudwatch", Measure.UNHEALTHY_HOSTS)
HOSTS = {"name": "hosts", "signal": DEAD.to_body(), "limit": 1, "period": 10, "no_data": "pass"}

BEFORE = 300
"""Seconds of traffic before anything is rolled out."""


@pytest.fixture
def engine(tmp_path: Path) -> Judged:
    made = Judged(directory=tmp_path)
    made.serve(BEFORE)
    return made


def traffic_alone() -> dict[str, object]:
    return {"targets": [{**RULE.to_body(), "mode": "drive"}]}


def exposed(engine: Judged, id: str) -> None:
    engine.until(lambda: engine.rollout(id).step_confirmed_at is not None, 60)
    engine.run(60)


# --- back -----------------------------------------------------------------------------------------


def test_harm_is_proven_and_taken_back_by_evidence(engine: Judged) -> None:
    id = engine.start_judged(**traffic_alone())
    exposed(engine, id)
    engine.world = replace(HEALTHY, harm=0.2)
    began = engine.clock.seconds
    found = engine.until(engine.ended(id), 120)

    cause = engine.rollout(id).rollback
    assert cause is not None
    assert (engine.rollout(id).state, engine.weight) == (State.ROLLED_BACK, 0)
    assert (cause.row, cause.culprits) == ("harm proven", (RULE.id,))
    assert "canary requests failed" in cause.reason
    assert cause.verdict is not None
    assert (cause.verdict["proven"], cause.verdict["compared"]) == (True, True)
    assert found - began <= 30
    assert cause.first_bad is not None
    assert abs(cause.first_bad - (moment(engine.clock.now()) - (found - began))) <= 15


class OneThingFails(Judged):
    """A service whose canary's requests are well, but for half of those that count one metric."""

    metric = ""

    def _row(self, tick: Tick, version: str) -> Row:
        row = super()._row(tick, version)
        total, failed = row.metrics.get(self.metric, (0, 0))
        if version != "2" or not total:
            return row
        return replace(row, metrics={**row.metrics, self.metric: (total, max(failed, total // 2))})


@pytest.mark.parametrize(
    ("metric", "guard", "weight"),
    [
        ("critical_path", "critical path failures", 0.15),
        pytest.param("session_error", "user session errors", 0.1, marks=pytest.mark.slow),
        pytest.param("db_connection", "database connection errors", 0.05, marks=pytest.mark.slow),
    ],
)
def test_what_services_count_themselves_is_evidence_with_its_weight(
    tmp_path: Path, metric: str, guard: str, weight: float
) -> None:
    engine = OneThingFails(directory=tmp_path)
    engine.serve(60)
    id = engine.start_judged(**traffic_alone())
    exposed(engine, id)
    engine.metric = metric
    engine.until(engine.ended(id), 300)

    cause = engine.rollout(id).rollback
    assert cause is not None
    assert (cause.row, cause.culprits) == ("harm proven", (RULE.id,))
    assert guard in cause.reason
    (standing,) = [
        each for each in engine.store.standings([id])[id]["guards"] if each["guard"] == guard
    ]
    # Alone it has to reach so much, as its part of the sum is only that.
    assert standing["rolls_back"] == pytest.approx(100 / weight)


def test_of_a_version_and_a_flag_the_one_that_harms_is_named(engine: Judged) -> None:
    """Both go back: a rollout goes back whole. Which of the two it was is in the record."""
    id = engine.start_judged()
    exposed(engine, id)
    engine.flag_fails = 0.3
    engine.until(engine.ended(id), 200)

    cause = engine.rollout(id).rollback
    assert cause is not None
    assert (cause.row, cause.culprits) == ("harm proven", (f"flag/{FLAG}",))
    assert (engine.weight, engine.share) == (0, 0)


def test_of_a_version_that_harms_the_flag_is_not_blamed(engine: Judged) -> None:
    id = engine.start_judged()
    exposed(engine, id)
    engine.world = replace(HEALTHY, harm=0.3)
    engine.until(engine.ended(id), 200)

    cause = engine.rollout(id).rollback
    assert cause is not None
    assert (cause.row, cause.culprits) == ("harm proven", (RULE.id,))


def test_a_flag_that_is_on_where_the_version_runs_cannot_be_told_apart(engine: Judged) -> None:
    id = engine.start_judged(relation="on_canary")
    exposed(engine, id)
    engine.world = replace(HEALTHY, harm=0.3)
    engine.until(engine.ended(id), 200)

    cause = engine.rollout(id).rollback
    assert cause is not None
    assert set(cause.culprits) == {RULE.id, f"flag/{FLAG}"}


# --- on -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_healthy_rollout_takes_as_long_as_its_schedule_says(engine: Judged) -> None:
    id = engine.start_judged(**traffic_alone())
    engine.until(engine.ended(id), 30 * 60 + 60)

    assert engine.rollout(id).state is State.COMPLETED
    assert "wait:begin" not in engine.actions(id)


# --- held -----------------------------------------------------------------------------------------


def test_in_a_shared_outage_nobody_is_blamed_and_somebody_is_woken(engine: Judged) -> None:
    id = engine.start_judged(**traffic_alone())
    exposed(engine, id)
    engine.world = replace(HEALTHY, outage=Outage(0, 600, rate=0.3))
    engine.run(180)
    rollout = engine.rollout(id)
    assert rollout.waiting is not None
    assert (engine.weight, rollout.waiting.why) == (5, Why.OUTAGE)

    engine.world = HEALTHY
    engine.run(180)
    assert engine.rollout(id).state is State.RUNNING


def test_who_reports_nothing_any_more_is_waited_for(engine: Judged) -> None:
    id = engine.start_judged(**traffic_alone())
    exposed(engine, id)
    engine.silent = {"2"}
    engine.run(60)
    rollout = engine.rollout(id)
    assert rollout.waiting is not None
    assert (engine.weight, rollout.waiting.why) == (5, Why.DATA)
    assert "the canary should have reported" in rollout.waiting.reason


# --- who judges -----------------------------------------------------------------------------------


def test_who_takes_over_stands_where_the_other_stood(engine: Judged) -> None:
    id = engine.start_judged(**traffic_alone())
    exposed(engine, id)
    before = engine.store.standings([id])[id]
    entries = len(engine.evidence(id))

    engine.controller.step_down()
    engine.controller = engine.new_controller("second")
    engine.run(0)
    engine.run(5)

    after = engine.store.standings([id])[id]
    assert len(engine.evidence(id)) > entries
    assert after["guards"][0]["whole"][0] > before["guards"][0]["whole"][0]
    again = list(replay(exported(engine.evidence(id))))
    told = [entry["look"]["decision"] for entry in engine.evidence(id)[1:]]
    assert [(one.does.value, one.rule, one.evidence) for one in again] == [
        (one["does"], one["rule"], one["evidence"]) for one in told
    ]


def test_of_two_who_judge_one_gives_in(engine: Judged) -> None:
    """A controller that lost its lease and does not know it: what it saw is not kept, and nothing
    follows from it."""
    id = engine.start_judged(**traffic_alone())
    exposed(engine, id)
    other = engine.new_controller("second")
    engine.let_leases_end()
    engine.run(10, other)
    engine.let_leases_end()
    engine.run(30)

    looks = [entry["look"] for entry in engine.evidence(id)[1:]]
    ends = [tick["at"] for look in looks for tick in look["ticks"].get(RULE.id, [])]
    assert ends == sorted(set(ends))
    assert engine.rollout(id).state is State.RUNNING


def test_evidence_that_cannot_be_read_holds_the_rollout_and_hides_no_harm(engine: Judged) -> None:
    """Whoever takes over cannot read what is kept: nothing goes up, and a host that dies takes the
    rollout back all the same."""
    id = engine.start_judged(**traffic_alone(), guards=[*STANDARD, HOSTS])
    exposed(engine, id)
    client = fakeredis.FakeRedis(server=engine.redis)
    client.lset(keys.evidence(id), 1, "torn")
    with pytest.raises(Conflict, match="Entry 1 of its evidence is torn"):
        exported(engine.evidence(id))
    engine.controller.step_down()
    engine.controller = engine.new_controller("second")
    engine.run(400)
    rollout = engine.rollout(id)
    assert rollout.waiting is not None
    assert (engine.weight, rollout.waiting.why) == (5, Why.DATA)
    assert "What it was judged by" in rollout.waiting.reason

    engine.source.answers[DEAD] = Measured(
        canary=tuple(Point(moment(engine.clock.now()) - 10 * n, 1.0) for n in (1, 0))
    )
    engine.run(20)
    assert engine.rollout(id).state is State.ROLLED_BACK


def test_what_nobody_counts_is_judged_by_its_limits_and_says_so(engine: Judged) -> None:
    id = engine.start()
    engine.run(400)

    judged = engine.rollouts.judgement(engine.rollouts.get(id, ADMIN))
    assert judged is not None
    conforms(JudgementJson, judged)
    assert (judged["by"], judged["guards"]) == ("thresholds", [])
    assert engine.evidence(id) == []


def test_a_verdict_is_shown_with_its_numbers(engine: Judged) -> None:
    id = engine.start_judged(**traffic_alone())
    exposed(engine, id)

    judged = engine.rollouts.judgement(engine.rollouts.get(id, ADMIN))
    assert judged is not None
    conforms(JudgementJson, judged)
    errors = judged["guards"][0]
    assert (judged["by"], judged["age"] <= 10) == ("comparison", True)
    assert (errors["target"], errors["guard"]) == (RULE.id, "http errors")
    assert errors["canary"]["low"] <= errors["canary"]["rate"] <= errors["canary"]["high"]
    assert errors["control"]["requests"] > errors["canary"]["requests"] > 100
    assert errors["against"].endswith(": 1 against no harm")
    assert errors["needed"] is None or errors["needed"] >= 0
    assert judged["sentence"].startswith("No harm seen")
    # What changes nothing is no commit.
    assert engine.actions(id) == ["create", "start", "step:begin", "step:confirm"]
