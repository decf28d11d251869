"""A controller dies while a rollout runs: whoever serves wakes somebody, and says when one is back.

Real processes: two that serve, a controller that is killed, and whoever is told on loopback."""

from __future__ import annotations

import secrets
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flagserver.domain import silence
from flagserver.processes import Child, Process
from flagserver.services.silence import bound_seconds, look_seconds
from flagserver.storage.redis.store import RedisStore
from tests.capturing import Capturing
from tests.faults.site import FLAG, WHY, Web
from tests.servers import STOP_SECONDS, redis_server, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server"), pytest.mark.timeout(180)]

TICK_SECONDS = 0.25
BUSY_SECONDS = 30.0
"""How much later than it should somebody may be told, on a busy machine."""


@dataclass
class Telling(Web):
    """Two processes that serve, and a controller beside them, who all know whom to tell."""

    receiver: Capturing | None = None

    @property
    def environment(self) -> dict[str, str]:
        assert self.receiver is not None
        return {
            **super().environment,
            "SORTITION_TICK_SECONDS": str(TICK_SECONDS),
            "SORTITION_WEBHOOK_URL": f"{self.receiver.url}/hook",
            "SORTITION_WEBHOOK_SECRET": "whsec_3RztOw7QBH6oAU1vfVmCOypEI01A4eMZJK7NyZJw8LQ=",
            "SORTITION_EGRESS_INTERNAL_HOSTS": f"127.0.0.1:{self.receiver.port}",
        }

    def controller(self) -> Process:
        command = (sys.executable, "-m", "flagserver.main", "controller")
        return Process(Child("controller", command, self.environment), lambda _: None)

    @property
    def told(self) -> list[dict[str, Any]]:
        """What somebody was told, in order."""
        assert self.receiver is not None
        return [request.json for request in list(self.receiver.requests)]

    def until(self, kind: str, by: Process, seconds: float = BUSY_SECONDS) -> None:
        """Wait until somebody is told of a kind, by this process or another, while it lives."""

        def told() -> bool:
            assert not by.ended(), "\n".join(by.lines)
            return kind in [each["kind"] for each in self.told]

        wait_until(told, kind, seconds)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_somebody_is_woken_and_told_when_it_is_over(tmp_path: Path, stack: ExitStack) -> None:
    token = f"srt_admin_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
    receiver = stack.enter_context(Capturing())
    redis = stack.enter_context(redis_server(tmp_path / "redis"))
    web = Telling(tmp_path / "web", redis.url, token, ("--workers", "2"), receiver=receiver)
    stack.callback(web.kill)
    web.start()
    wait_until(lambda: bool(web.ready()["writable"]), "changes to be possible")
    web.create()
    first = web.controller()
    stack.callback(first.kill)
    path = _start(web)
    web.until("rollout:step:confirm", first)
    # Killed before it noted what it told, it would be told again: that is another story.
    store = stack.enter_context(RedisStore(redis.url))
    wait_until(lambda: store.undelivered("webhook") == [], "the store to know what was told")

    first.kill()
    assert web.process is not None
    web.until(silence.BEGIN, web.process, bound_seconds(TICK_SECONDS) + BUSY_SECONDS)
    # Requests are answered all the while, and what they bring about is told too.
    assert web.ask("POST", f"{path}/hold", {"reason": "nobody looks"}).status == 200
    web.until("rollout:hold", web.process)

    second = web.controller()
    stack.callback(second.stop, STOP_SECONDS)
    web.until(silence.END, second, look_seconds(TICK_SECONDS) + BUSY_SECONDS)
    assert web.ask("GET", path).json["state"] == "paused"

    page, end = [each for each in web.told if each["subject"] == silence.SUBJECT]
    assert (page["severity"], page["resolves"]) == ("page", False)
    assert (end["incident"], end["resolves"]) == (page["incident"], True)
    assert set(Counter(each["id"] for each in web.told).values()) == {1}


def _start(web: Web) -> str:
    """Start a rollout of an hour; return its path."""
    body = {
        "environment": "production",
        "service": "shop",
        "version": "2",
        "schedule": "50%:1h,100%",
        "guards": "none",
        "targets": [{"kind": "flag", "name": FLAG}],
        **WHY,
    }
    begun = web.ask("POST", "/api/v1/rollouts", body)
    assert begun.status == 201, begun
    return f"/api/v1/rollouts/{begun.json['id']}"
