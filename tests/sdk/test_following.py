"""A client follows its server, and keeps its flags whatever that does."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sortition
from sortition.sources import worker
from sortition.testing import FakeServer, Trouble, snapshot_with

from .conftest import until

Start = Callable[..., sortition.Client]


def on(client: sortition.Client) -> bool:
    return client.is_enabled("search", "a")


def errors(client: sortition.Client) -> dict[str, int]:
    """What went wrong, but for the questions of these tests themselves."""
    return {k: n for k, n in client.status().errors.items() if k != "flag_not_found"}


def threads() -> int:
    return sum(thread.name == "sortition" for thread in threading.enumerate())


# --- following ----------------------------------------------------------------------------------


def test_a_change_is_followed_within_a_second_and_on_one_thread(server: FakeServer, start: Start):
    before = threads()
    client = start()
    assert client.wait_ready(5)
    flag = client.flag("search")
    assert threads() == before + 1

    for share in (100, 0, 100):
        server.put({"search": share})
        began = time.monotonic()
        while not on(client) is flag("a") is (share == 100):
            assert time.monotonic() - began < 1

    assert server.asked.count("stream") == 1
    assert server.asked.count("snapshot") == 0
    assert (client.status().state, client.status().version) == ("ready", "testing.1.4")
    assert errors(client) == {}


def test_a_flag_may_come_and_go(server: FakeServer, start: Start):
    client = start()
    server.put({"search": 0, "later": 100})
    until(lambda: client.is_enabled("later", "a"))
    server.put({"search": 0})
    until(lambda: not client.is_enabled("later", "a"))


def test_after_a_gap_the_whole_is_fetched(server: FakeServer, start: Start):
    client = start()
    assert client.wait_ready(5)
    server.snapshot = snapshot_with({"search": 100}, version=7)

    server.tell("change", {**CHANGE, "from": 6, "to": 7})

    until(lambda: on(client))
    assert client.status().version == "testing.1.7"
    assert server.asked.count("snapshot") == 1


def test_a_beat_of_a_newer_version_is_a_gap_too(server: FakeServer, start: Start):
    client = start()
    assert client.wait_ready(5)
    server.snapshot = snapshot_with({"search": 100}, version=7)

    server.tell("beat", {"version": 7})

    until(lambda: on(client))


CHANGE = {"store": "testing", "epoch": 1, "from": 1, "to": 2, "flags": {}, "removed": []}


@pytest.mark.parametrize(
    "event",
    [
        ("change", {**CHANGE, "from": 0, "to": 1}),
        ("change", {**CHANGE, "from": 0, "to": 0, "removed": ["search"]}),
        ("beat", {"version": 0}),
        ("beat", {"version": 1}),
        ("unheard-of", {"removed": ["search"]}),
    ],
)
def test_what_lags_or_says_nothing_new_is_passed_over(server: FakeServer, start: Start, event: Any):
    server.be("testing", 1, {"search": 100})
    client = start()
    assert client.wait_ready(5)

    server.tell(*event)
    server.put({"search": 100, "later": 100})
    until(lambda: client.is_enabled("later", "a"))

    assert on(client)
    assert server.asked.count("snapshot") == 0
    assert errors(client) == {}


# --- what is refused ----------------------------------------------------------------------------


def test_an_older_snapshot_is_refused_and_counted(server: FakeServer, start: Start):
    server.be("testing", 5, {"search": 100})
    client = start()
    assert client.wait_ready(5)

    server.be("testing", 4, {"search": 0})
    until(lambda: errors(client) == {"older_snapshot": 1})
    assert on(client)
    server.be("testing", 6, {"search": 100, "later": 100})

    until(lambda: client.is_enabled("later", "a"))
    assert server.asked.count("stream") == 1


def test_another_store_is_refused_and_counted_and_the_flags_are_kept(
    server: FakeServer, start: Start
):
    server.be("testing", 5, {"search": 100})
    client = start()
    assert client.wait_ready(5)

    server.be("elsewhere", 900, {"search": 0})
    until(lambda: errors(client).get("other_store", 0) >= 3)
    assert on(client)
    assert set(errors(client)) == {"other_store"}
    assert client.status().version == "testing.1.5"
    server.be("testing", 6, {"search": 100, "later": 100})

    until(lambda: client.is_enabled("later", "a"))


FLAG = snapshot_with({"search": 0}).to_wire()["flags"]["search"]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (("change", {**CHANGE, "flags": {"later": FLAG, "search": {**FLAG, "share": -1}}}),
         "invalid_snapshot"),
        (("change", {**CHANGE, "flags": {"search": {
            **FLAG, "prerequisites": [{"flag": "search", "variant": "on"}]}}}), "invalid_snapshot"),
        (("snapshot", {"format": 2}), "invalid_snapshot"),
        (("snapshot", []), "invalid_snapshot"),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_refused_whole(
    server: FakeServer, start: Start, event: Any, kind: str
):
    server.be("testing", 1, {"search": 100})
    client = start()
    assert client.wait_ready(5)

    server.tell(*event)
    until(lambda: errors(client).get(kind))
    assert client.evaluate("later", "a").error is sortition.ErrorCode.FLAG_NOT_FOUND
    assert on(client)

    until(lambda: server.followers == 1)
    server.put({"search": 100, "later": 100})
    until(lambda: client.is_enabled("later", "a"))


def test_a_snapshot_that_nobody_understands_leaves_the_flags_as_they_were(
    server: FakeServer, start: Start
):
    server.be("testing", 1, {"search": 100})
    client = start(streaming=False, poll_seconds=1.0)
    assert client.wait_ready(5)

    for body in (b'{"format":1,"flags":{}}', b"[" * 100_000, b"\xff", b"NaN", b'"\\ud800"'):
        failures = Counter(errors(client)).total()
        server.troubles["snapshot"] = Trouble(200, body=body)
        client._worker._poll_seconds = 0.05  # type: ignore[union-attr]  # it is running
        while Counter(errors(client)).total() == failures:
            time.sleep(0.01)

    assert on(client)
    assert set(errors(client)) == {"garbled", "invalid_snapshot"}
    server.troubles.clear()
    server.put({"search": 0})
    until(lambda: not on(client))


# --- a server in trouble ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (Trouble(404), "status_404"),
        (Trouble(503, retry_after=100), "status_503"),
        (Trouble(301), "status_301"),
        (Trouble(raw=b"SSH-2.0-OpenSSH\r\n\r\n"), "garbled"),
        (Trouble(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nda"), "unreachable"),
        (Trouble(raw=b"HTTP/1.1 200 OK\r\n\r\n: no more\n\n"), "unreachable"),
        (Trouble(200, body=b"data: [\n\nevent: snapshot\ndata: [\n\n"), "garbled"),
        (Trouble(), "unreachable"),
        (Trouble(silent=True), "timed_out"),
    ],
)
def test_where_the_stream_fails_the_server_is_asked(
    server: FakeServer, start: Start, trouble: Trouble, kind: str
):
    server.troubles["stream"] = trouble
    client = start(poll_seconds=1.0)
    assert client.wait_ready(5)
    assert set(errors(client)) == {kind}

    client._worker._poll_seconds = 0.05  # type: ignore[union-attr]  # it is running
    server.put({"search": 100})
    until(lambda: on(client))


def test_a_stream_comes_back_when_it_works_again(server: FakeServer, start: Start):
    server.troubles["stream"] = Trouble(503)
    client = start()
    assert client.wait_ready(5)
    server.troubles.clear()

    until(lambda: server.followers == 1)
    server.put({"search": 100})
    assert until(lambda: on(client)) < 1


def test_a_server_that_asks_for_time_is_given_it(server: FakeServer, start: Start):
    server.troubles = dict.fromkeys(("stream", "snapshot"), Trouble(503, retry_after=1))
    began = time.monotonic()
    client = start()
    until(lambda: errors(client).get("status_503") == 2)
    server.troubles = {}

    assert client.wait_ready(5)
    assert 1 <= time.monotonic() - began < 3


@pytest.mark.parametrize("status", [401, 403, 400])
def test_a_refusal_slows_down_and_is_never_for_good(server: FakeServer, start: Start, status: int):
    server.troubles = dict.fromkeys(("stream", "snapshot"), Trouble(status))
    client = start()
    until(lambda: errors(client).get(f"status_{status}", 0) >= 4)
    assert not client.wait_ready(0)
    server.troubles = {}

    assert client.wait_ready(5)
    until(lambda: server.followers == 1)


def test_the_wrong_key_is_a_refusal(start: Start):
    client = start(key="srt_sdk_other")

    until(lambda: errors(client).get("status_401"))


def test_an_event_that_was_cut_is_never_taken(server: FakeServer, start: Start):
    client = start()
    assert client.wait_ready(5)

    server.send(b'event: change\ndata: {"store": "testing", "epoch": 1,')
    server.cut()

    until(lambda: errors(client) == {"unreachable": 1})
    until(lambda: server.followers == 1)
    server.put({"search": 100})
    until(lambda: on(client))


def test_a_stream_that_falls_silent_is_left(
    server: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "SILENCE_SECONDS", 0.3)
    client = start()

    until(lambda: errors(client).get("timed_out", 0) >= 2)
    assert client.wait_ready(0)
    assert server.asked.count("stream") >= 2


def test_beats_keep_it_alive(server: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "SILENCE_SECONDS", 0.5)
    client = start()
    assert client.wait_ready(5)
    for _ in range(10):
        time.sleep(0.1)
        server.tell("beat", {"version": 1})

    assert errors(client) == {}
    assert (client.status().age or 0) < 0.5


def test_a_server_that_went_away_and_came_back_is_followed_again(server: FakeServer, start: Start):
    server.be("testing", 1, {"search": 100})
    client = start()
    assert client.wait_ready(5)

    server.stop()
    until(lambda: errors(client).get("unreachable", 0) >= 3)
    assert on(client)
    server.be("testing", 2, {"search": 0})
    server.start()

    until(lambda: not on(client))
    server.put({"search": 100})
    assert until(lambda: on(client)) < 1


def test_the_server_says_how_long_its_clients_rest(server: FakeServer, start: Start):
    client = start()
    assert client.wait_ready(5)

    server.send(b"retry: 3600000\n\n")

    at_work: Any = client._worker
    until(lambda: at_work._first_backoff == worker.LONGEST_RETRY)


def test_a_client_that_hears_nothing_is_stale_and_goes_on(
    server: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sortition.client, "STALE_SECONDS", 0.1)
    server.be("testing", 1, {"search": 100})
    client = start()
    assert client.wait_ready(5)
    server.stop()

    until(lambda: client.status().state == "stale")
    assert on(client)


# --- the end ------------------------------------------------------------------------------------


def test_the_constructor_and_close_do_not_wait_for_a_black_hole(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "CALL_SECONDS", 5.0)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        began = time.monotonic()
        client = start(url=f"http://127.0.0.1:{hole.getsockname()[1]}")
        assert time.monotonic() - began < 0.5
        client.request("a").end()
        until(lambda: client._worker and client._worker._connections)

        began = time.monotonic()
        client.close(0.2)
        assert time.monotonic() - began < 1
        assert client.close() is True


def test_close_does_not_wait_for_a_name_that_is_never_found(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    found = threading.Event()
    looking = threading.Event()

    def look(*_: object, **__: object) -> Any:
        looking.set()
        found.wait(10)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look)
    client = start(url="http://flags.example")
    assert looking.wait(5)

    began = time.monotonic()
    assert client.close(0.2) is False
    assert time.monotonic() - began < 1
    found.set()


def test_a_client_in_a_context_is_closed_and_leaves_no_thread(server: FakeServer):
    before = threads()
    with sortition.Client(server.url, key=server.key) as client:
        assert client.wait_ready(5)

    assert client.status().state == "closed"
    assert client.is_enabled("search", "a") is False
    assert errors(client) == {}
    assert threads() == before
    until(lambda: server.followers == 0)
