"""Who wants to know is told: ready, stale, error; and nothing of theirs stops the client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sortition
from sortition.sources import worker
from sortition.testing import FakeServer, Trouble, client_with

from .conftest import until

Start = Callable[..., sortition.Client]


class Heard(list[sortition.Status]):
    """A listener that writes down what it is told, and where."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    def __call__(self, status: sortition.Status) -> None:
        self.append(status)
        self.threads.add(threading.current_thread().name)

    @property
    def states(self) -> list[str]:
        return [status.state for status in self]


def listening(client: sortition.Client) -> dict[str, Heard]:
    heard = {event: Heard() for event in ("ready", "stale", "error")}
    for event, listener in heard.items():
        client.on(event, listener)
    return heard


def test_ready_and_error_are_told_in_the_background(server: FakeServer, start: Start):
    server.troubles = dict.fromkeys(("stream", "snapshot"), Trouble(503))
    client = start()
    heard = listening(client)

    until(lambda: heard["error"])
    assert heard["error"][0].state == "starting"
    assert heard["error"][0].last_error == "status_503"
    assert not heard["ready"]
    server.troubles = {}

    until(lambda: heard["ready"])
    assert heard["ready"].states == ["ready"]
    assert heard["ready"][0].version == "testing.1.1"
    assert heard["ready"].threads == heard["error"].threads == {"sortition"}


def test_stale_is_told_when_it_comes_to_pass_and_ready_once_it_is_over(
    server: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sortition.client, "STALE_SECONDS", 0.2)
    monkeypatch.setattr(worker, "SILENCE_SECONDS", 5.0)
    # Outcomes are not what wakes the thread.
    server.snapshot = FakeServer({"search": 100}, flush_seconds=3600.0).snapshot
    client = start()
    heard = listening(client)
    until(lambda: heard["stale"])
    # The stream is open and silent all the while: nobody else noticed.
    assert client.status().errors == {}
    assert client.is_enabled("search", "a")

    server.tell("beat", {"version": 1})
    until(lambda: len(heard["ready"]) >= 1 and heard["ready"][-1].state == "ready")
    until(lambda: len(heard["stale"]) >= 2)


def test_each_state_is_told_once(server: FakeServer, start: Start):
    client = start()
    heard = listening(client)
    assert client.wait_ready(5)
    for _ in range(5):
        server.put({"search": 100})
        server.tell("beat", {"version": server.snapshot.version.version})
    until(lambda: client.status().version == "testing.1.6")

    assert heard["ready"].states == ["ready"]
    assert heard["stale"] == heard["error"] == []


def test_who_comes_late_hears_how_it_is_at_once(server: FakeServer, start: Start):
    client = start()
    early = listening(client)
    until(lambda: early["ready"])

    late = listening(client)

    assert late["ready"].states == ["ready"]
    assert late["ready"].threads == {threading.current_thread().name}
    assert late["stale"] == late["error"] == []
    fixed = listening(client_with({"search": 100}))
    assert fixed["ready"].states == ["ready"]


def test_what_a_listener_raises_is_counted_and_the_rest_goes_on(server: FakeServer, start: Start):
    def broken(status: sortition.Status) -> None:
        raise SystemExit

    client = start()
    client.on("ready", broken)
    heard = listening(client)
    until(lambda: heard["ready"])
    server.put({"search": 100})

    until(lambda: client.is_enabled("search", "a"))
    assert client.status().errors == {"listener": 1}


def test_a_listener_may_close_its_client(server: FakeServer, start: Start):
    server.troubles = dict.fromkeys(("stream", "snapshot"), Trouble(503))
    client = start()
    closed: list[bool] = []
    client.on("ready", lambda status: closed.append(client.close(5)))
    server.troubles = {}

    until(lambda: closed or client.status().state == "closed")
    until(lambda: not any(t.name == "sortition" for t in threading.enumerate()))
    assert closed == [False]
    assert "listener" not in client.status().errors


def test_a_snapshot_that_is_refused_is_an_error(server: FakeServer, start: Start):
    server.be("testing", 5, {"search": 100})
    client = start()
    heard = listening(client)
    until(lambda: heard["ready"])

    server.be("testing", 4, {"search": 0})

    until(lambda: heard["error"])
    assert [status.last_error for status in heard["error"]] == ["older_snapshot"]


@pytest.mark.parametrize(("event", "listener"), [("redy", print), ("ready", None), (None, print)])
def test_what_is_no_event_or_no_listener_is_refused(event: Any, listener: Any):
    with pytest.raises(sortition.ConfigurationError, match=r"ready, stale, error|callable"):
        client_with({}).on(event, listener)


def test_a_question_that_cannot_be_answered_is_no_error_of_following(
    server: FakeServer, start: Start
):
    client = start()
    heard = listening(client)
    until(lambda: heard["ready"])

    client.is_enabled("unknown", "a")

    assert heard["error"] == []
    assert client.status().last_error is None
