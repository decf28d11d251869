"""What is counted of rollouts, over the whole engine; and that a collector which is away costs
nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flagserver import measures, tracing
from flagserver.domain.commands import Reasoned
from flagserver.domain.states import State
from flagserver.http import alone
from flagserver.http.rollout_measures import Standings
from flagserver.measures import BY_NAME, Board
from flagserver.services.notices import Outcome
from flagserver.telemetry import Tally, Telemetry
from tests.builders import ADMIN, FakeClock
from tests.collector import a_collector
from tests.engines import RULE, Engine, only_flag
from tests.servers import free_ports, wait_until

HERE = ("api", "production")


class Counted:
    """An engine, and what one process tells of it."""

    def __init__(self, directory: Path) -> None:
        self.telemetry = Telemetry()
        self.engine = Engine(directory=directory, telemetry=self.telemetry)
        self.standings = Standings(self.engine.rollouts)

    def told(self) -> dict[str, dict[Any, Any]]:
        """By name, then by labels."""
        both = {**self.telemetry.tally.samples(), **self.standings.samples()}
        for name, values in both.items():
            assert all(len(labels) == len(BY_NAME[name].labels) for labels in values), name
        return {name: dict(values) for name, values in both.items()}

    def states(self) -> set[str]:
        """The states that are told, of all ten."""
        told = self.told()["rollout_state"]
        assert {labels[2] for labels in told} == {str(state) for state in State}
        return {labels[2] for labels, value in told.items() if value}


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


class TestOnItsWay:
    def test_how_it_stands(self, counted: Counted):
        engine = counted.engine
        engine.start()
        assert counted.states() == {"pending"}
        assert counted.told()["rollout_step"] == {HERE: 0}
        engine.run(400)

        told = counted.told()
        assert counted.states() == {"running"}
        assert told["rollout_step"] == {HERE: 2}
        assert told["rollout_target_ratio"] == told["rollout_observed_ratio"] == {HERE: 0.25}
        rollout = next(iter(engine.controller.held.values()))
        assert rollout.step_confirmed_at is not None
        deadline = told["rollout_step_deadline_timestamp_seconds"]
        assert deadline == {HERE: rollout.step_confirmed_at + 600}
        assert told["controller_rollouts"] == {(): 1}

    def test_a_share_that_somebody_else_set_shows(self, counted: Counted):
        engine = counted.engine
        engine.start()
        engine.run(40)
        engine.driver.weights[RULE.name].share = 400_000
        engine.run(10)

        told = counted.told()
        assert told["rollout_target_ratio"] == {HERE: 0.05}
        assert told["rollout_observed_ratio"] == {HERE: 0.4}
        assert counted.states() == {"holding"}
        assert told["rollout_step_deadline_timestamp_seconds"] == {}, "its timer stands"

    def test_a_step_that_nobody_ends_is_overdue(self, counted: Counted):
        engine = counted.engine
        engine.start()
        engine.run(40)
        before = counted.told()["rollout_step_deadline_timestamp_seconds"]
        engine.clock.seconds += 3600

        assert counted.states() == {"unknown"}
        assert counted.told()["rollout_step_deadline_timestamp_seconds"] == before

    def test_a_flag_alone_has_its_share(self, counted: Counted):
        counted.engine.start(**only_flag())
        counted.engine.run(40)

        told = counted.told()
        assert told["rollout_target_ratio"] == told["rollout_observed_ratio"] == {HERE: 0.05}

    def test_of_several_the_newest_that_has_begun_is_told_and_every_state(self, counted: Counted):
        engine = counted.engine
        engine.start()
        engine.run(20)
        engine.create("other")
        engine.start(
            targets=[{"kind": "flag", "name": "other"}], start_at="2027-01-01T00:00:00Z", guards=[]
        )

        assert counted.states() == {"running", "pending"}
        assert counted.told()["rollout_step"] == {HERE: 1}

    def test_how_much_of_a_limit_is_used(self, counted: Counted):
        counted.engine.rates = (0.006, 0.002)
        counted.engine.start()
        counted.engine.run(200)

        told = counted.told()
        used = told["guardrail_used_ratio"]
        assert used[*HERE, "errors", "canary"] == pytest.approx(0.6)
        assert used[*HERE, "errors", "stable"] == pytest.approx(0.2)
        newest = told["metrics_newest_point_timestamp_seconds"]["cloudwatch",]
        assert 0 <= counted.engine.clock.now().timestamp() - newest <= 60
        verdicts = told["guardrail_evaluations"]
        assert verdicts["api", "errors", "pass"] > 0
        assert verdicts["api", "errors", "fail"] == 0

    def test_while_the_store_is_away_nothing_is_made_up(self, counted: Counted):
        counted.engine.start()
        counted.engine.run(20)
        with counted.engine.away():
            assert counted.standings.samples() == {}


class TestItsEnd:
    def test_complete(self, counted: Counted):
        engine = counted.engine
        engine.start()
        engine.run(5)
        assert counted.told()["rollouts"][*HERE, "completed", "schedule"] == 0
        engine.run(1860)

        told = counted.told()
        assert {labels for labels, n in told["rollouts"].items() if n} == {
            (*HERE, "completed", "schedule")
        }
        *buckets, seconds = told["rollout_duration_seconds"]["api", "completed"]
        assert (sum(buckets), seconds) == (1, 1810)
        # At 1,810 s it is beyond 1,800 and below 2,100.
        assert buckets[measures.ROLLOUT_SECONDS.index(2100)] == 1
        assert counted.states() == {"completed"}
        assert told["rollout_step"] == {}
        assert told["controller_rollouts"] == {(): 0}
        assert told["guardrail_used_ratio"] == {}

    def test_taken_back_by_a_guard(self, counted: Counted):
        engine = counted.engine
        id = engine.start()
        engine.run(400)
        engine.rates = (0.2, 0.001)
        engine.run(240)

        told, cause = counted.told(), engine.rollout(id).rollback
        assert cause is not None
        assert cause.first_bad is not None
        assert cause.confirmed is not None
        assert told["rollouts"][*HERE, "rolled_back", "guard"] == 1
        assert told["rollbacks"][*HERE, "guard", "errors"] == 1
        assert told["rollbacks"][*HERE, "person", ""] == 0
        detection = told["rollback_detection_seconds"]["api",]
        assert detection[-1] == cause.detected - cause.first_bad
        duration = told["rollback_duration_seconds"]["api",]
        assert duration[-1] == cause.confirmed - cause.detected
        assert counted.states() == {"rolled_back"}

    def test_by_a_person_and_by_a_newer_one(self, counted: Counted):
        engine = counted.engine
        engine.start(**only_flag())
        engine.run(20)
        newer = engine.start(**only_flag(replace=True))
        engine.rollouts.roll_back(newer, Reasoned(reason="no"), ADMIN)
        engine.run(20)

        told = counted.told()
        assert {labels for labels, n in told["rollouts"].items() if n} == {
            (*HERE, "superseded", "person"),
            (*HERE, "rolled_back", "person"),
        }
        assert {labels for labels, n in told["rollbacks"].items() if n} == {(*HERE, "person", "")}

    def test_one_that_cannot_be_confirmed_has_failed_and_ends_all_the_same(self, counted: Counted):
        engine = counted.engine
        id = engine.start()
        engine.run(40)
        engine.driver.faults = ["unavailable"] * 200
        engine.rollouts.roll_back(id, Reasoned(reason="no"), ADMIN)
        engine.run(90)

        assert counted.told()["rollouts"][*HERE, "failed", "person"] == 1
        assert counted.states() == {"rollback_failed"}
        engine.driver.faults = []
        engine.run(60)
        told = counted.told()["rollouts"]
        assert told[*HERE, "rolled_back", "person"] == told[*HERE, "failed", "person"] == 1

    def test_shares_that_a_rollout_sets_are_changes_of_its_flags(self, tmp_path: Path):
        counted = Counted(tmp_path)
        engine = counted.engine
        id = engine.start(**only_flag())
        engine.run(20)
        by_rollout = ("production", "flag:share:change", "rollout")
        assert counted.told()["flag_changes"][by_rollout] == 1

        engine.rollouts.roll_back(id, Reasoned(reason="no"), ADMIN)
        engine.run(60)
        assert counted.states() == {"rolled_back"}
        assert counted.told()["flag_changes"][by_rollout] == 2

    def test_two_controllers_count_each_thing_once(self, counted: Counted):
        engine, other = counted.engine, Telemetry()
        second = engine.new_controller("second", telemetry=other)
        engine.start()
        engine.run(400)
        engine.let_leases_end()
        engine.run(1500, second)

        ended = (*HERE, "completed", "schedule")
        assert counted.told()["rollouts"][ended] == 0
        assert other.tally.samples()["rollouts"][ended] == 1


class TestNotices:
    def test_they_are_counted_from_the_start(self):
        tally = Tally()
        tally.will_notify(["log", "slack"])
        tally.notified("slack", Outcome.FAILED)

        told = tally.samples()["notifications"]
        assert len(told) == 2 * len(Outcome)
        assert {labels for labels, n in told.items() if n} == {("slack", "failed")}


class TestAlone:
    """A controller that shows itself."""

    @pytest.fixture
    def url(self, counted: Counted) -> Iterator[str]:
        board = Board()
        board.add(counted.telemetry.tally.samples)
        counted.engine.services.snapshots.load()
        app = alone.create_app(counted.engine.services, board, public=False)
        (port,) = free_ports(1)
        server = alone.serve_in_background(app, "127.0.0.1", port)
        yield f"http://127.0.0.1:{port}"
        server.shutdown()
        server.server_close()

    def test_it_tells_whoever_may_know(self, counted: Counted, url: str):
        counted.engine.start()
        counted.engine.run(20)
        headers = {"Authorization": f"Bearer {counted.engine.admin_token}"}
        answer = httpx.get(f"{url}/metrics", headers=headers)

        names = {family.name for family in text_string_to_metric_families(answer.text)}
        assert "sortition_controller_rollouts" in names
        assert httpx.get(f"{url}/healthz").json() == {"ok": True}
        assert httpx.get(f"{url}/readyz").status_code == 200

    def test_and_nobody_else(self, url: str):
        refused = httpx.get(f"{url}/metrics")
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        assert refused.headers["X-Content-Type-Options"] == "nosniff"
        assert httpx.get(f"{url}/api/v1/flags").status_code == 404


class TestCollectorAway:
    """Whatever becomes of the collector, a tick does not wait for it."""

    @pytest.fixture(autouse=True)
    def pace(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
        yield
        # Its words belong to this test.
        wait_until(lambda: not any("Otel" in t.name for t in threading.enumerate()), "its thread")

    def run(self, directory: Path) -> tuple[Engine, Telemetry]:
        clock = FakeClock()
        telemetry = Telemetry(tracing.open_traces(["otlp"], clock))
        engine = Engine(clock=clock, directory=directory, telemetry=telemetry)
        engine.start()
        return engine, telemetry

    def test_one_that_takes_and_never_answers_holds_up_no_tick(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        with a_collector() as collector:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            collector.hangs.set()
            engine, telemetry = self.run(tmp_path)
            engine.run(20)
            wait_until(lambda: collector.requests == 1, "the collector to be stuck")
            engine.run(800)
            assert engine.weight == 25
            assert collector.requests == 1, "it was not stuck all the while"

            def hears_of_step(number: int) -> bool:
                looks = collector.named("look")
                return any(look.attributes.get("sortition.step") == number for look in looks)

            collector.hangs.clear()
            collector.free.set()
            telemetry.close()
            wait_until(lambda: hears_of_step(2), "it to hear of what was last")
            # What waits is bounded: a batch was on its way, and of the rest the oldest gave way.
            assert len(collector.spans) <= 16 + 64

    def test_one_that_is_not_there_neither(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (port,) = free_ports(1)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        engine, telemetry = self.run(tmp_path)
        engine.run(400)
        assert engine.weight == 25
        began = time.monotonic()
        telemetry.close()
        assert time.monotonic() - began < tracing.CLOSE_SECONDS + 1

    def test_one_that_is_stuck_holds_up_no_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        with a_collector() as collector:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            collector.hangs.set()
            engine, telemetry = self.run(tmp_path)
            engine.run(20)
            wait_until(lambda: collector.requests == 1, "the collector to be stuck")
            began = time.monotonic()
            telemetry.close()
            assert time.monotonic() - began < tracing.CLOSE_SECONDS + 1


def test_without_an_exporter_nothing_that_traces_is_loaded_or_begun():
    code = (
        "import sys, threading, flagserver.main, flagserver.bootstrap as b; b.open_telemetry({});"
        "tracing = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'google', 'requests');"
        "print([m for m in sys.modules if m.startswith(tracing)], threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[] 1", done.stderr
