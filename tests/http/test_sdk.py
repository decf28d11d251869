"""What SDKs use: the snapshot from memory, the stream, and outcomes."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fakeredis
import httpx
import pytest
from sortition.core.ticks import TICK_SECONDS

from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.outcomes import Part, Totals
from flagserver.http.streams import LOOK_SECONDS, Limits
from flagserver.services.snapshots import View, dump

from .api import Api, a_store, an_api, eventually
from .routes import BATCH

SNAPSHOT = "/api/v1/sdk/snapshot"
STREAM = "/api/v1/sdk/stream"
OUTCOMES = "/api/v1/sdk/outcomes"


# Snapshot


def test_a_snapshot_is_all_that_an_sdk_needs(api: Api) -> None:
    api.flag("new-search", share=25)

    answer = api.sdk().get(SNAPSHOT)

    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.json["format"] == 1
    flag = answer.json["flags"]["new-search"]
    assert (flag["share"], flag["rest"], flag["weights"]) == (250_000, "off", [["on", 1_000_000]])


def test_what_is_known_is_not_sent_again(api: Api) -> None:
    api.flag("new-search", share=25)
    sdk = api.sdk()
    tag = sdk.get(SNAPSHOT).headers["ETag"]

    known = sdk.get(SNAPSHOT, If_None_Match=tag)
    listed = sdk.get(SNAPSHOT, If_None_Match=f'"x", W/{tag}')
    api.share("new-search", 30)
    changed = sdk.get(SNAPSHOT, If_None_Match=tag)

    assert (known.status, known.text, known.headers["ETag"]) == (304, "", tag)
    assert (listed.status, changed.status) == (304, 200)
    assert changed.headers["ETag"] != tag


def test_a_snapshot_is_packed_for_those_who_can_unpack_it(api: Api) -> None:
    sdk = api.sdk()
    plain = sdk.get(SNAPSHOT)

    packed = sdk.get(SNAPSHOT, Accept_Encoding="br, gzip;q=0.5")
    refused = sdk.get(SNAPSHOT, Accept_Encoding="gzip;q=0")

    assert packed.response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.response.get_data()) == plain.response.get_data()
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert "Content-Encoding" not in refused.headers


def test_a_snapshot_of_many_changes_is_what_one_made_at_once_would_be(api: Api) -> None:
    sdk = api.sdk()
    empty = sdk.get(SNAPSHOT)
    for key in ("b", "a", "c"):
        api.flag(key, share=25, variants={"on": "\u00e9", "off": {"x": [1, 2.0]}})
    api.share("a", 30)
    api.admin.post("/api/v1/flags/c/archive", revision=1)

    view = api.services.snapshots.view("production")

    assert empty.json["flags"] == {}
    assert json.loads(view.body) == view.snapshot.to_wire()
    assert view.body == dump(view.snapshot.to_wire())


class Watcher:
    """Notes what was ready of a view when it was told of it."""

    def __init__(self) -> None:
        self.ready: list[bool] = []

    def changed(self, view: View, message: bytes) -> None:
        self.ready.append("packed" in vars(view))

    def streams(self) -> int:
        return 0


def test_who_listens_does_not_wait_for_what_others_may_ask(api: Api) -> None:
    api.flag("new-search", share=25)
    watcher, snapshots = Watcher(), api.services.snapshots
    snapshots.watch(watcher)

    api.share("new-search", 30)
    told = list(watcher.ready)
    api.follow()

    assert told == [False]
    assert "packed" in vars(snapshots.view("production")), "made when there was nothing to tell"


def test_a_snapshot_never_asks_the_store(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = api.sdk()
    api.reachable = False

    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("the store was asked")

    for door in ("read", "run", "look_up"):
        monkeypatch.setattr(api.store._server, door, asked)

    assert sdk.get(SNAPSHOT).status == 200
    assert sdk.send("HEAD", SNAPSHOT).text == ""


# Outcomes


def test_a_batch_counts_once(api: Api) -> None:
    api.flag("new-search", share=50)
    sdk = api.sdk()
    at = int(api.clock.now().timestamp())
    counts = {"requests": 30, "failures": 3, "latency": [[10, 30]], "metrics": {"cart": [4, 1]}}
    tick = {
        "at": at,
        "seconds": 5,
        "service": counts | {"requests": 120},
        "flags": [
            counts | {"flag": "new-search", "variant": "on", "assignments": 40},
            counts | {"flag": "new-search", "variant": "off", "assignments": 60},
            counts | {"flag": "unknown", "variant": "on", "assignments": 60},
        ],
    }
    batch = BATCH | {"ticks": [tick]}

    first, again = sdk.post(OUTCOMES, batch), sdk.post(OUTCOMES, batch)
    seen = api.admin.get("/api/v1/flags/new-search/environments/production/outcomes").json

    assert (first.status, first.json, again.json) == (
        *(202, {"accepted": True}),
        {"accepted": False},
    )
    assert (seen["assignments"], seen["share"]) == (100, 40.0)
    assert seen["variants"]["on"]["metrics"] == {"cart": {"total": 4, "failed": 1}}
    assert seen["services"]["shop"]["requests"] == 120


def test_a_tick_is_told_by_who_served_it_and_settles(api: Api) -> None:
    api.flag("new-search", share=50)
    sdk, outcomes = api.sdk(), api.services.outcomes
    now = int(api.clock.now().timestamp())
    at = outcomes.settled_tick(now) + TICK_SECONDS
    counts = {"requests": 30, "failures": 3}
    flags = [counts | {"flag": "new-search", "variant": "on", "assignments": 40}]
    in_time = {"at": at - 1, "seconds": 5, "service": counts | {"requests": 50}, "flags": flags}
    late = in_time | {"at": at - 5}
    told = {"service.name": "shop", "service.version": "1.5.0"}

    sdk.post(OUTCOMES, BATCH | told | {"ticks": [in_time, late]})

    span = {"since": at - TICK_SECONDS, "until": at}
    of_flag = outcomes.flag_ticks("production", "new-search", **span)
    of_service = outcomes.service_ticks("production", "shop", **span)
    assert of_flag == {at: {Part("on", "shop", "1.5.0"): Totals(40, 30, 3)}}
    assert of_service == {at: {"1.5.0": Totals(0, 50, 3)}}
    assert outcomes.rows == {"taken": 2, "late": 2, "unknown": 0, "early": 0, "old": 0}
    assert outcomes.service_ticks("production", "shop", since=at - 10, until=at - 5) == {
        at - 5: {"1.5.0": Totals(0, 50, 3, late=50)}
    }
    assert outcomes.flag_ticks("production", "other", **span) == {}
    shown = api.admin.get("/api/v1/flags/new-search/environments/production/outcomes").json
    assert (shown["variants"]["on"]["requests"], shown["variants"]["on"]["late"]) == (60, 30)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format": 2}, "/format"),
        ({"instance": "shop-1"}, "/instance"),
        ({"user": "x"}, "/user"),
        ({"service.name": ""}, "/service.name"),
        ({"ticks": [{}] * 301}, "/ticks"),
        ({"seq": -1}, "/seq"),
        ({"seq": True}, "/seq"),
    ],
    ids=str,
)
def test_a_batch_is_of_its_form(api: Api, change: dict[str, Any], field: str) -> None:
    answer = api.sdk().post(OUTCOMES, BATCH | change)

    assert (answer.status, answer.field) == (422, field)


# Stream


class Listener:
    """Reads a stream's messages as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines = response.iter_lines()

    def message(self) -> tuple[str, Any, str | None]:
        """Return (event, data, id) of the next message."""
        fields: dict[str, str] = {}
        for line in self.lines:
            if line == "" and "data" in fields:
                return fields["event"], json.loads(fields["data"]), fields.get("id")
            name, _, text = line.partition(": ")
            fields[name] = text
        raise EOFError


@contextmanager
def listening(address: str, token: str | None, *, last: str | None = None) -> Iterator[Listener]:
    headers = {"Authorization": f"Bearer {token}"}
    if last is not None:
        headers["Last-Event-ID"] = last
    with httpx.stream("GET", f"{address}{STREAM}", headers=headers, timeout=10) as response:
        assert response.status_code == 200, response.read()
        yield Listener(response)


def test_a_change_is_heard_within_a_second(api: Api) -> None:
    api.flag("new-search", share=25)
    sdk = api.sdk()
    with api.served() as address, listening(address, sdk.token) as stream:
        event, snapshot, id = stream.message()
        headers = stream.response.headers
        start = time.monotonic()
        api.share("new-search", 30)
        change = stream.message()
        took = time.monotonic() - start

    assert (event, snapshot["flags"]["new-search"]["share"]) == ("snapshot", 250_000)
    assert id == f"{snapshot['store']}.{snapshot['epoch']}.{snapshot['version']}"
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-cache, no-transform"
    assert headers["X-Accel-Buffering"] == "no"
    assert change[0] == "change"
    assert (change[1]["from"], change[1]["to"]) == (snapshot["version"], snapshot["version"] + 1)
    assert list(change[1]["flags"]) == ["new-search"]
    assert change[1]["flags"]["new-search"]["share"] == 300_000
    assert took < 1


def test_a_stream_hears_of_its_own_environment_only(api: Api) -> None:
    api.flag("new-search")
    sdk = api.sdk("staging")
    with api.served() as address, listening(address, sdk.token) as stream:
        stream.message()
        api.share("new-search", 30, "production")
        api.share("new-search", 40, "staging")
        _, change, _ = stream.message()

    assert change["flags"]["new-search"]["share"] == 400_000


def test_a_quiet_stream_beats(api: Api) -> None:
    api = an_api(limits=Limits(beat_seconds=0.05))
    with api.served() as address, listening(address, api.sdk().token) as stream:
        _, snapshot, _ = stream.message()

        assert [stream.message()[:2] for _ in range(3)] == [
            ("beat", {"version": snapshot["version"]})
        ] * 3


def test_streams_are_counted_and_given_back() -> None:
    api = an_api(limits=Limits(most=2))
    token = api.sdk().token
    with api.served() as address, listening(address, token) as first:
        first.message()
        with listening(address, token) as second:
            second.message()
            full = httpx.get(f"{address}{STREAM}", headers={"X-API-Key": token or ""})
            assert (full.status_code, full.json()["code"]) == (503, "too_many_streams")
            assert full.headers["Retry-After"] == "5"
        api.flag("wake-the-streams")

        def fits() -> bool:
            with httpx.stream(
                "GET", f"{address}{STREAM}", headers={"X-API-Key": token or ""}
            ) as response:
                return response.status_code == 200

        eventually(fits)


def test_a_stream_that_is_only_asked_about_takes_no_place() -> None:
    api = an_api(limits=Limits(most=1))
    token = api.sdk().token or ""
    with api.served() as address:
        head = httpx.head(f"{address}{STREAM}", headers={"X-API-Key": token})
        with listening(address, token) as stream:
            assert stream.message()[0] == "snapshot"

    assert (head.status_code, head.headers["Content-Type"]) == (200, "text/event-stream")
    assert api.sdk().send("HEAD", STREAM).status == 200


def test_who_holds_the_present_version_is_sent_no_snapshot(api: Api) -> None:
    api.flag("new-search", share=25)
    token = api.sdk().token
    with api.served() as address:
        with listening(address, token) as stream:
            _, snapshot, id = stream.message()
        with listening(address, token, last=id) as stream:
            first = stream.message()
            api.share("new-search", 30)
            second = stream.message()
        with listening(address, token, last=id) as stream:
            behind = stream.message()

    assert first[:2] == ("beat", {"version": snapshot["version"]})
    assert (second[0], second[1]["from"]) == ("change", snapshot["version"])
    assert (behind[0], behind[1]["version"]) == ("snapshot", snapshot["version"] + 1)


def test_a_stream_ends_with_its_token(api: Api) -> None:
    sdk = api.sdk()
    assert sdk.token is not None
    with api.served() as address, listening(address, sdk.token) as stream:
        stream.message()
        start = time.monotonic()
        api.admin.delete(f"/api/v1/tokens/{sdk.token.split('_')[2]}")
        with pytest.raises(EOFError):
            stream.message()

    assert time.monotonic() - start < 1


def expire(api: Api, id: str) -> None:
    """Let a token's time be over: its end was said when it was made."""
    api.clock.turn(3600)


def replace_at_once(api: Api, id: str) -> None:
    """Put another token in the place of one that leaked."""
    rotated = api.admin.post(f"/api/v1/tokens/{id}/rotate", {"overlap_hours": 0})
    assert rotated.status == 201


def replace(api: Api, id: str) -> None:
    """Put another token in the place of one, and let the time be over in which both are good."""
    rotated = api.admin.post(f"/api/v1/tokens/{id}/rotate", {"overlap_hours": 0.5})
    assert rotated.status == 201
    api.clock.turn(1800)


def revoke(api: Api, id: str) -> None:
    """End a token."""
    assert api.admin.delete(f"/api/v1/tokens/{id}").status == 200


@pytest.mark.parametrize("end", [revoke, expire, replace_at_once, replace])
def test_a_stream_ends_with_its_token_and_others_go_on(
    api: Api, end: Callable[[Api, str], None]
) -> None:
    """How soon: `LOOK_SECONDS` bounds it, and what is done to a token is told at once."""
    api.flag("new-search", share=25)
    wanted = {"scope": "sdk", "environment": "production", "expires": "2026-11-23T09:00:00Z"}
    ending = api.admin.post("/api/v1/tokens", wanted).json
    other = api.sdk().token
    with (
        api.served() as address,
        listening(address, ending["token"]) as stream,
        listening(address, other) as goes_on,
    ):
        assert (stream.message()[0], goes_on.message()[0]) == ("snapshot", "snapshot")
        end(api, ending["id"])
        with pytest.raises(EOFError):
            stream.message()
        api.share("new-search", 30)
        heard = goes_on.message()
        again = httpx.get(
            f"{address}{STREAM}", headers={"Authorization": f"Bearer {ending['token']}"}
        )

    assert heard[0] == "change"
    assert again.status_code == 401
    assert LOOK_SECONDS <= 1


def test_a_token_that_is_replaced_keeps_its_stream_while_both_are_good(api: Api) -> None:
    api.flag("new-search", share=25)
    token = api.sdk().token
    assert token is not None
    with api.served() as address, listening(address, token) as old:
        old.message()
        path = f"/api/v1/tokens/{token.split('_')[2]}/rotate"
        new = api.admin.post(path, {"overlap_hours": 1}).json["token"]
        with listening(address, new) as following:
            following.message()
            api.share("new-search", 30)
            heard = [old.message()[0], following.message()[0]]

    assert heard == ["change", "change"]


def test_a_stream_stays_open_while_the_store_is_away() -> None:
    server = fakeredis.FakeServer()
    api = an_api(a_store(server), limits=Limits(beat_seconds=0.1))
    api.flag("new-search", share=25)
    token = api.sdk().token
    with api.served() as address, listening(address, token) as stream:
        stream.message()
        server.connected = False
        time.sleep(0.5)
        beats = [stream.message()[0] for _ in range(8)]
        away = api.services.health()
        server.connected = True
        eventually(lambda: api.services.health().writable)
        api.reachable = False
        api.share("new-search", 30)
        heard = next(m for m in iter(stream.message, None) if m[0] == "change")

    assert (set(beats), away.writable) == ({"beat"}, False)
    assert heard[1]["flags"]["new-search"]["share"] == 300_000


def test_a_token_that_nobody_can_look_up_now_keeps_its_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = an_api(limits=Limits(beat_seconds=0.05))

    def away(text: str) -> Any:
        raise StoreUnavailable("The store is not answering.")

    with api.served() as address, listening(address, api.sdk().token) as stream:
        stream.message()
        monkeypatch.setattr(api.services.snapshots, "_tokens", {})
        monkeypatch.setattr(api.services.tokens, "authenticate", away)

        assert [stream.message()[0] for _ in range(5)] == ["beat"] * 5


def test_who_does_not_listen_is_dropped_and_finds_the_newest_when_it_comes_back() -> None:
    api = an_api(limits=Limits(most=2, send_seconds=0.3, beat_seconds=0.1))
    api.flag("large", variants={"on": "x" * 50_000, "off": ""})
    token = api.sdk().token
    with api.served() as address, deaf(address, token), listening(address, token) as stream:
        stream.message()
        api.reachable, share, heard = False, 0, {}
        while api.services.snapshots.streams() == 2:
            share += 1
            api.share("large", float(share))
            heard = next(m for m in iter(stream.message, None) if m[0] == "change")[1]
        newest = api.services.snapshots.view("production").snapshot.version.version
        with listening(address, token) as again:
            _, snapshot, _ = again.message()

    assert heard["flags"]["large"]["share"] == share * 10_000
    assert snapshot["version"] == newest


@contextmanager
def deaf(address: str, token: str | None) -> Iterator[socket.socket]:
    """Open a stream and read nothing of it."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = address.removeprefix("http://").partition(":")
        connection.connect((host, int(port)))
        request = f"GET {STREAM} HTTP/1.1\r\nHost: x\r\nX-API-Key: {token}\r\n\r\n"
        connection.sendall(request.encode())
        assert connection.recv(1)
        yield connection


# Two processes


def test_what_one_process_changes_another_serves() -> None:
    server = fakeredis.FakeServer()
    one = an_api(a_store(server))
    other = an_api(a_store(server))
    other.admin_token = one.admin_token
    one.flag("new-search", share=25)
    token = one.sdk().token
    with other.served() as address, listening(address, token) as stream:
        stream.message()
        start = time.monotonic()
        one.share("new-search", 30)
        _, change, _ = stream.message()
        took = time.monotonic() - start
        polled = httpx.get(f"{address}{SNAPSHOT}", headers={"X-API-Key": token or ""}).json()

    assert change["flags"]["new-search"]["share"] == 300_000
    assert polled["version"] == change["to"]
    assert took < 1
