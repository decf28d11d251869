"""Notices from a real store to whoever listens: nothing is lost and nothing doubled in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flagserver import bootstrap
from flagserver.domain.documents import Change, Fact, Write
from flagserver.domain.notices import Notice, Severity
from flagserver.services import notices as delivering
from flagserver.services.notices import Notices
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemClock
from tests.capturing import Capturing, Trouble
from tests.servers import redis_server, wait_until

pytestmark = pytest.mark.needs("redis-server")

ROOT = Path(__file__).parents[2]
SECRET = "whsec_3RztOw7QBH6oAU1vfVmCOypEI01A4eMZJK7NyZJw8LQ="

RUN = """
import sys, threading
from flagserver import bootstrap
from flagserver.services import notices
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemClock
notices.LEASE_SECONDS, notices.WAITING_SECONDS, notices.RENEW_SECONDS = 1.0, 0.1, 0.3
settings, clock = Settings.read(), SystemClock()
told = bootstrap.open_notifiers(settings, bootstrap.open_egress(settings), clock)
store = RedisStore(settings.redis_url)
bootstrap.build_notices(store, store, told, clock, sys.argv[1]).start()
print("delivering", flush=True)
threading.Event().wait(50)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisStore]:
    with redis_server(tmp_path) as server, RedisStore(server.url) as opened:
        opened.initialise("5eed5eed5eed5eed")
        opened.url = server.url  # type: ignore[attr-defined]
        yield opened


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "FIRST_BACKOFF", 0.05)
    monkeypatch.setattr(delivering, "LONGEST_BACKOFF", 0.1)
    monkeypatch.setattr(delivering, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr("flagserver.notify.posting.SEND_SECONDS", 0.5)


def happen(store: RedisStore, number: int) -> None:
    """Commit a change that is worth telling."""
    notice = Notice(
        id=f"n{number}",
        kind="rollout:hold",
        severity=Severity.PAGE,
        at=datetime.now(UTC).isoformat(),
        environment="production",
        service="shop",
        subject="rollout/r-1",
        title=f"Holding {number}",
    )
    fact = Fact("controller", "controller", "rollout:hold", "rollout/r-1")
    body = {"number": number}
    write = Write("rollouts", f"r-{number}", 0, body)
    change = Change(writes=(write,), fact=fact, notices=(notice,))
    store.commit(change, at=datetime.now(UTC), salt=f"{number:032x}")


def environ(store: RedisStore, webhook: Capturing, slack: Capturing) -> dict[str, str]:
    return {
        "SORTITION_REDIS_URL": store.url,  # type: ignore[attr-defined]
        "SORTITION_WEBHOOK_URL": f"{webhook.url}/hook",
        "SORTITION_WEBHOOK_SECRET": SECRET,
        "SORTITION_SLACK_WEBHOOK": f"{slack.url}/services/T0/B0/x",
        "SORTITION_EGRESS_INTERNAL_HOSTS": f"127.0.0.1:{webhook.port}, 127.0.0.1:{slack.port}",
    }


@contextmanager
def delivered_by(holder: str, store: RedisStore, settings: Settings) -> Iterator[Notices]:
    clock = SystemClock()
    told = bootstrap.open_notifiers(settings, bootstrap.open_egress(settings), clock)
    running = bootstrap.build_notices(store, store, told, clock, holder)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def ids(server: Capturing) -> list[str]:
    return [request.headers["webhook-id"] for request in server.requests]


def titles(server: Capturing) -> list[str]:
    return [request.json["text"] for request in server.requests]


def test_nothing_is_lost_or_doubled_while_one_is_down(store: RedisStore):
    with Capturing() as webhook, Capturing() as slack:
        settings = Settings.read(environ(store, webhook, slack))
        slack.status = 503
        with delivered_by("one", store, settings):
            for number in range(1, 11):
                happen(store, number)
            # Slack is down, and the webhook hears everything all the same.
            webhook.wait_for(10)
            slack.wait_for(3)
            assert set(titles(slack)) == {"Holding 1"}

            tried = len(slack.requests)
            slack.troubles += [Trouble(429, retry_after="0"), Trouble(cut=3), Trouble(hang=True)]
            slack.status = 200
            slack.wait_for(tried + 3)
            wait_until(lambda: titles(slack)[-1] == "Holding 10", "Slack to hear the last")

        assert ids(webhook) == [f"n{number}" for number in range(1, 11)]
        heard = titles(slack)
        assert list(dict.fromkeys(heard)) == [f"Holding {number}" for number in range(1, 11)]
        assert heard.count("Holding 10") == 1
        for name in ("log", "webhook", "slack"):
            assert store.undelivered(name) == []


def test_a_restart_tells_nothing_again(store: RedisStore):
    with Capturing() as webhook, Capturing() as slack:
        settings = Settings.read(environ(store, webhook, slack))
        for number in range(1, 4):
            happen(store, number)
        with delivered_by("one", store, settings):
            webhook.wait_for(3)
            slack.wait_for(3)
        happen(store, 4)
        with delivered_by("other", store, settings):
            webhook.wait_for(4)
            slack.wait_for(4)

        assert ids(webhook) == ["n1", "n2", "n3", "n4"]
        assert titles(slack) == [f"Holding {number}" for number in range(1, 5)]


def test_when_the_one_who_delivers_is_killed_another_goes_on(store: RedisStore):
    with Capturing() as webhook, Capturing() as slack:
        told = environ(store, webhook, slack)
        webhook.troubles += [Trouble(), Trouble(), Trouble(hang=True)]
        for number in range(1, 7):
            happen(store, number)

        with _process("one", told) as first:
            webhook.wait_for(3)
            wait_until(lambda: store.undelivered("slack") == [], "Slack to have heard all")
            with _process("other", told):
                first.send_signal(signal.SIGKILL)
                first.wait(10)
                wait_until(lambda: ids(webhook)[-1] == "n6", "the last notice")

        # The one that was under way is told again, with the same id.
        assert ids(webhook) == ["n1", "n2", "n3", "n3", "n4", "n5", "n6"]
        assert titles(slack) == [f"Holding {number}" for number in range(1, 7)]


@contextmanager
def _process(holder: str, told: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, holder],
        cwd=ROOT,
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"delivering\n"
            yield process
        finally:
            process.kill()
