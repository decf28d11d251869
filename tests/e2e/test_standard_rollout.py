"""The standard rollout sixty times as fast, in real time: real `flagserver web` and `controller`
processes over a real Redis and AWS's double. The demo's tests show the same under visitors; this
one looks at the clock."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from examples.awsfake.scene import Scene
from flagserver.processes import Child, Process
from tests.awsfake.double import Double, double
from tests.faults.site import FLAG, STATE, WHY, Web
from tests.servers import STOP_SECONDS, redis_server, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server"), pytest.mark.timeout(180)]

SCHEDULE = "5%:5s,25%:10s,50%:15s,100%"
TABLE = {5: 0, 25: 5, 50: 15, 100: 30}
"""Percent -> seconds since the first share, at the earliest."""

TICK_SECONDS = 0.5
LATE_SECONDS = 3.0
"""How much later a step may be than the one before it and its hold, on a busy machine."""


@dataclass
class Cloudy(Web):
    """A `flagserver web` that reaches AWS's double, and what a controller beside it is told."""

    aws: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        tick = {"SORTITION_TICK_SECONDS": str(TICK_SECONDS)}
        return {**super().environment, **self.aws, **tick}

    def controller(self) -> Process:
        command = (sys.executable, "-m", "flagserver.main", "controller")
        return Process(Child("controller", command, self.environment), lambda _: None)


@dataclass(frozen=True)
class Site:
    web: Web
    aws: Double
    scene: Scene

    def stands(self) -> tuple[float, float]:
        """Return the percent of the balancer's weights, and of the flag."""
        weights = self.aws.weights(self.scene.rule)
        share = self.web.ask("GET", STATE).json["share"]
        return 100 * weights.get(self.scene.green, 0) / sum(weights.values()), share


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    token = f"srt_admin_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
    with ExitStack() as stack:
        aws = stack.enter_context(double(scale=60))
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        web = Cloudy(tmp_path / "web", redis.url, token, aws=aws.environment())
        stack.callback(web.kill)
        web.start()
        wait_until(lambda: bool(web.ready()["writable"]), "changes to be possible")
        controller = web.controller()
        stack.callback(controller.stop, STOP_SECONDS)
        web.create()
        yield Site(web, aws, aws.scene())


def start(site: Site) -> str:
    """Start it; return its path."""
    groups = {"canary": site.scene.green, "stable": site.scene.blue}
    body: dict[str, Any] = {
        "environment": "production",
        "service": "shop",
        "version": "2",
        "schedule": SCHEDULE,
        "guards": "none",
        "targets": [
            {"kind": "flag", "name": FLAG},
            {"kind": "alb", "name": site.scene.rule, "settings": groups},
        ],
        **WHY,
    }
    begun = site.web.ask("POST", "/api/v1/rollouts", body)
    assert begun.status == 201, begun
    return f"/api/v1/rollouts/{begun.json['id']}"


def test_weights_and_shares_by_the_clock(site: Site) -> None:
    path = start(site)
    since: dict[tuple[float, float], float] = {}
    while not site.web.ask("GET", path).json["terminal"]:
        at = time.monotonic()
        since.setdefault(site.stands(), at)
        time.sleep(0.02)
    since.setdefault(site.stands(), time.monotonic())

    # The traffic goes first: in between, the flag is where it was.
    steps = [0.0, *map(float, TABLE)]
    whole = {(percent, percent) for percent in steps}
    between = set(zip(steps[1:], steps, strict=False))
    assert whole <= set(since) <= whole | between
    seconds = {percent: since[percent, percent] - since[5, 5] for percent in TABLE}
    for number, (percent, earliest) in enumerate(TABLE.items()):
        # What is looked at every now and then was so a moment before.
        assert earliest - TICK_SECONDS <= seconds[percent] <= earliest + number * LATE_SECONDS
    assert site.web.ask("GET", path).json["state"] == "completed"
