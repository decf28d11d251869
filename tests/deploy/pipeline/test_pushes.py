"""signals.yaml's two ways into a real server of its own process: an alarm fires at the AWS double,
and the controller, whose next look is ten seconds away, looks at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flagserver.domain.times import unix
from tests.awsfake.bus import Bus
from tests.awsfake.deploying import Stage
from tests.awsfake.double import Double, double
from tests.deploy.pipeline.server import SURE, Server
from tests.servers import wait_until

FLAG = "new-search"
ALARM = "sortition-shop"
TICK_SECONDS = 10
AT_ONCE = 7.0
"""Seconds in which it is seen with word; without it is, just after a look, nearly a tick."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def aws() -> Iterator[Double]:
    with double(scale=1.0) as found:
        found.tell("clock", now=time.time(), scale=1.0)
        yield found


@pytest.fixture(params=["queue", "destination"])
def server(request: pytest.FixtureRequest, aws: Double, tmp_path: Path) -> Iterator[Server]:
    told = {**aws.environment(), "SORTITION_TICK_SECONDS": str(TICK_SECONDS)}
    if request.param == "queue":
        told["SORTITION_SIGNALS_QUEUE_URL"] = Bus(aws).url
    made = Server(tmp_path / "server", more=told)
    made.start()
    try:
        made.ask("POST", "/api/v1/flags", {"key": FLAG})
        if request.param == "destination":
            Bus(aws, made.url, made.token("deploy", "production"))
        yield made
    finally:
        made.stop()


def test_the_controller_looks_at_once_when_an_alarm_fires(server: Server, aws: Double) -> None:
    stage = Stage(aws)
    stage.alarm(ALARM, "OK")
    body = {
        "environment": "production",
        "service": "api",
        "schedule": "5%:1h,100%",
        "targets": [{"kind": "flag", "name": FLAG}],
        "guards": "none",
        "alarms": [ALARM],
    }
    id = server.ask("POST", "/api/v1/rollouts", {**body, **SURE})["id"]
    wait_until(lambda: server.share(FLAG) == 5, "the first share", 60)
    looked = server.rollout(id)["looked"]
    wait_until(lambda: server.rollout(id)["looked"] != looked, "the next look", 30)

    fired = time.time()
    stage.alarm(ALARM, "ALARM")
    wait_until(lambda: server.rollout(id)["state"] == "rolled_back", "the rollout to go back", 30)

    assert unix(server.rollout(id)["rollback"]["detected"]) - fired < AT_ONCE
    assert ALARM in server.rollout(id)["rollback"]["reason"]
    assert server.share(FLAG) == 0
