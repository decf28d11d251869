"""Behind the real server: what comes as it should not, slowly or without end, and what is answered
before Flask is asked."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask, Response

from flagserver.http import bridge
from flagserver.http.front import Front
from flagserver.http.streams import Hub
from tests.servers import free_ports
from tests.serving import serving

from .api import Api, an_api, eventually

PROGRAM = Path(__file__).with_name("serve.py")


@dataclass
class Running:
    """A process that serves as `flagserver web` does, with little patience."""

    port: int
    token: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def raw(self, head: str, *parts: bytes, pause: float = 0, token: str | None = None) -> str:
        """Send octets as they are; return what came back until the server closed."""
        token = self.token if token is None else token
        lines = f"{head}\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        with self.connected() as connection:
            connection.sendall(lines.encode())
            with suppress(OSError):
                for part in parts:
                    time.sleep(pause)
                    connection.sendall(part)
            return rest(connection)

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    port = free_ports(1)[0]
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(port)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        server = Running(port, process.stdout.readline().strip())
        eventually(lambda: answers(server), 20)
        yield server
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def answers(server: Running) -> bool:
    try:
        return httpx.get(f"{server.address}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def rest(connection: socket.socket) -> str:
    """Return what comes until the server closes."""
    found = b""
    with suppress(ConnectionResetError):
        while octets := connection.recv(65536):
            found += octets
    return found.decode()


def chunk(octets: bytes) -> bytes:
    return f"{len(octets):x}\r\n".encode() + octets + b"\r\n"


POST = "POST /api/v1/flags HTTP/1.1\r\nContent-Type: application/json"
CHUNKED = f"{POST}\r\nTransfer-Encoding: chunked"


def test_a_body_without_a_length_is_read_as_far_as_it_may_go(running: Running) -> None:
    fits = running.raw(CHUNKED, chunk(b'{"key":'), chunk(b'"chunked"}'), b"0\r\n\r\n")
    over = running.raw(CHUNKED, *[chunk(b" " * 10_000)] * 7, b"0\r\n\r\n")
    bomb = running.raw(CHUNKED, chunk(b"[" * 5000), b"0\r\n\r\n")

    assert fits.startswith("HTTP/1.1 201")
    assert over.startswith("HTTP/1.1 413")
    assert '"code": "body_too_large"' in over
    assert bomb.startswith("HTTP/1.1 400")
    assert answers(running)


def test_an_endless_body_is_cut(running: Running) -> None:
    start = time.monotonic()

    answer = running.raw(CHUNKED, *[chunk(b" " * 65536)] * 500)

    assert answer.startswith("HTTP/1.1 413") or answer == ""
    assert time.monotonic() - start < 10
    assert answers(running)


def test_a_length_that_is_a_lie_is_refused(running: Running) -> None:
    huge = running.raw(f"{POST}\r\nContent-Length: 99999999999")
    early = running.raw(CHUNKED, chunk(b'{"key":"early"}'), b"5\r\nab", b"")
    cut = running.raw(CHUNKED, chunk(b'{"key":"cut"}' + b" " * 65523), chunk(b"x"), b"0\r\n\r\n")
    both = running.raw(f"{CHUNKED}\r\nContent-Length: 5", chunk(b"{}"), b"0\r\n\r\n")

    assert huge.startswith("HTTP/1.1 413")
    assert both.startswith("HTTP/1.1 4")
    assert early.startswith("HTTP/1.1 4")
    assert cut.startswith("HTTP/1.1 413")


def test_a_slow_body_arrives_and_one_that_stops_is_given_up(running: Running) -> None:
    body = b'{"key":"slow"}'
    slow = running.raw(
        f"{POST}\r\nContent-Length: {len(body)}", *[bytes([b]) for b in body], pause=0.02
    )
    start = time.monotonic()
    stopped = running.raw(f"{POST}\r\nContent-Length: 100", b'{"key":')

    assert slow.startswith("HTTP/1.1 201")
    assert stopped.startswith("HTTP/1.1 408")
    assert '"code": "request_timeout"' in stopped
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("path", ["//api/v1/flags", "/api/v1//flags", "/./api/v1/flags", "*"])
def test_a_raw_path_is_no_way_around(running: Running, path: str) -> None:
    answer = running.raw(f"GET {path} HTTP/1.1", token="none")

    assert answer.startswith("HTTP/1.1 4")
    assert '"flags"' not in answer


def test_answers_do_not_say_which_version_serves(running: Running) -> None:
    headers = httpx.get(f"{running.address}/healthz").headers

    assert "Server" not in headers
    assert "X-Powered-By" not in headers


def test_a_connection_goes_on_after_a_refusal(running: Running) -> None:
    headers = {"Authorization": f"Bearer {running.token}", "Content-Type": "application/json"}
    with httpx.Client(base_url=running.address, headers=headers) as client:
        assert client.post("/api/v1/flags", content=b"[" * 5000).status_code == 400
        assert client.post("/api/v1/flags", content=b"{").status_code == 400
        assert client.post("/api/v1/flags", json={"key": "after"}).status_code == 201
        assert client.get("/api/v1/flags/after").json()["key"] == "after"


# Slowly


def test_a_body_that_comes_drop_by_drop_is_given_up_too(running: Running) -> None:
    start = time.monotonic()

    drops = [b" "] * 40
    answer = running.raw(f"{POST}\r\nContent-Length: 100", *drops, pause=0.05)

    assert answer.startswith("HTTP/1.1 408")
    assert time.monotonic() - start < 5


def test_who_sends_slowly_and_without_a_token_learns_that_first(running: Running) -> None:
    answer = running.raw(f"{POST}\r\nContent-Length: 100", b"{", token="none")

    assert answer.startswith("HTTP/1.1 401")


def test_slow_senders_hold_up_nobody(running: Running) -> None:
    head = (
        f"{POST}\r\nHost: x\r\nAuthorization: Bearer {running.token}\r\nContent-Length: 9\r\n\r\n"
    )
    with ExitStack() as slow:
        for _ in range(100):
            slow.enter_context(running.connected()).sendall(head.encode())
        start = time.monotonic()
        headers = {"Authorization": f"Bearer {running.token}"}
        answer = httpx.get(f"{running.address}/api/v1/flags", headers=headers)
        took = time.monotonic() - start

    assert (answer.status_code, took < 0.9) == (200, True)


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\n", b"GET /hea"])
def test_a_head_that_does_not_come_is_not_waited_for(running: Running, begun: bytes) -> None:
    with running.connected() as connection:
        connection.sendall(begun)
        start = time.monotonic()

        assert rest(connection) == ""
        assert time.monotonic() - start < 4


def test_a_second_head_that_does_not_come_is_not_waited_for(running: Running) -> None:
    with running.connected() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(9) == b"HTTP/1.1 "
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        start = time.monotonic()

        assert "HTTP/1.1" not in rest(connection)
        assert time.monotonic() - start < 4


def test_a_head_has_a_size(running: Running) -> None:
    with running.connected() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        with suppress(OSError):
            for number in range(2000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1000))
        answer = rest(connection)

    assert answer == "" or answer.startswith("HTTP/1.1 431")
    assert answers(running)


def test_what_is_no_request_is_a_problem_like_any_other(running: Running) -> None:
    with running.connected() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n")
        answer = rest(connection)

    assert answer.startswith("HTTP/1.1 400")
    assert "application/problem+json" in answer
    assert '"code": "malformed_request"' in answer


def test_requests_on_one_connection_are_answered_in_their_order(running: Running) -> None:
    ask = "GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{}\r\n"
    paths = ["/api/v1/flags", "/healthz", "/api/v1/sdk/snapshot"]
    with running.connected() as connection:
        for path, more in zip(paths, ["", "", "Connection: close\r\n"], strict=True):
            connection.sendall(ask.format(path, running.token, more).encode())
        answer = rest(connection)

    first, second, third = answer.split("HTTP/1.1 ")[1:]
    assert [each[:3] for each in (first, second, third)] == ["200", "200", "403"]
    assert '"flags"' in first
    assert '"ok"' in second


def test_a_field_that_pretends_to_be_another_is_nothing(running: Running) -> None:
    answer = running.raw(
        f"GET /api/v1/sdk/snapshot HTTP/1.1\r\nX_API_Key: {running.token}", token=""
    )

    assert answer.startswith("HTTP/1.1 401")


# What the front answers itself is what Flask would


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Api, httpx.Client, str]]:
    """An API, who asks it over the wire, and an SDK's token."""
    api = an_api()
    api.flag("new-search", share=25)
    token = api.sdk().token or ""
    with api.served() as address, httpx.Client(base_url=address) as client:
        yield api, client, token


ASKED: list[dict[str, str]] = [
    {},
    {"Accept-Encoding": "gzip"},
    {"Accept-Encoding": "br, gzip;q=0.5"},
    {"Accept-Encoding": "gzip;q=0"},
    {"Accept-Encoding": "*"},
    {"Accept-Encoding": "identity"},
    {"If-None-Match": "*"},
    {"If-None-Match": '"x"'},
    {"If-None-Match": "TAG"},
    {"If-None-Match": "W/TAG"},
    {"If-None-Match": '"x", TAG'},
    {"If-None-Match": "x, TAG"},
    {"If-None-Match": ""},
    {"Authorization": "Bearer nobody"},
    {"Authorization": ""},
    {"Authorization": "Basic TOKEN"},
    {"Authorization": "bearer TOKEN"},
    {"Authorization": "Bearer  TOKEN"},
    {"Authorization": "Bearer ADMIN"},
    {"Authorization": "Basic x", "X-API-Key": "TOKEN"},
    {"Content-Type": "application/json", "Content-Length": "0"},
    {"Last-Event-ID": "x"},
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/api/v1/sdk/snapshot", "/api/v1/sdk/snapshot?x=1"])
@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_the_front_answers_what_flask_would(
    both: tuple[Api, httpx.Client, str], method: str, path: str, asked: dict[str, str]
) -> None:
    api, client, token = both
    tag = api.services.snapshots.view("production").etag
    words = {"TAG": tag, "TOKEN": token, "ADMIN": api.admin_token}
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": ""} | asked
    for word, meant in words.items():
        headers = {name: text.replace(word, meant) for name, text in headers.items()}

    flask = api.client.open(path, method=method, headers=headers)
    with client.stream(method, path, headers=headers) as front:
        octets = b"".join(front.iter_raw())

    assert front.status_code == flask.status_code
    assert octets == flask.get_data()
    assert told(front.headers) == told(flask.headers)


def told(headers: Any) -> dict[str, str]:
    """Return what an answer's header says of it."""
    left = {name.lower(): text for name, text in headers.items()}
    left.pop("date", None)
    # How its end is found is the server's affair where there is no body.
    if left.get("content-length") == "0":
        del left["content-length"]
    return left


def test_a_large_answer_comes_whole_and_one_that_nobody_reads_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = threading.Event()

    def pages() -> Iterator[bytes]:
        try:
            for _ in range(200):
                yield b"x" * 100_000
        finally:
            closed.set()

    app = Flask("large")
    app.extensions["sortition"] = []
    app.add_url_rule("/", view_func=lambda: Response(pages()))
    monkeypatch.setattr("flagserver.http.front.SEND_SECONDS", 0.2)
    with serving(Front(app, an_api().services, Hub())) as address:
        assert len(httpx.get(address).content) == 20_000_000
        closed.clear()
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as deaf:
            deaf.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert closed.wait(10), "the application was not told"


def test_when_too_many_wait_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def wait() -> Response:
        let_go.wait(10)
        return Response("done")

    app = Flask("slow")
    app.extensions["sortition"] = []
    app.add_url_rule("/", view_func=wait)
    monkeypatch.setattr(bridge, "THREADS", 1)
    monkeypatch.setattr(bridge, "WAITING", 1)
    front = Front(app, an_api().services, Hub())
    with serving(front) as address, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(httpx.get, address) for _ in range(2)]
        eventually(lambda: front._bridge.waiting == 2)
        busy = httpx.get(address)
        let_go.set()
        done = [each.result().text for each in asked]

    assert (busy.status_code, busy.json()["code"]) == (503, "too_busy")
    assert busy.headers["Retry-After"] == "2"
    assert done == ["done", "done"]
    assert front.measures.busy == 1


def test_an_application_that_fails_says_nothing_of_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_environ: Any, _start_response: Any) -> Any:
        raise ValueError("cannot use " + "canary".upper())

    app = Flask("failing")
    app.extensions["sortition"] = []
    app.wsgi_app = fail  # type: ignore[assignment, method-assign]
    with serving(Front(app, an_api().services, Hub())) as address:
        answer = httpx.get(address)

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "CANARY" not in caplog.text
    assert "ValueError" in caplog.text


def test_what_is_answered_is_counted(both: tuple[Api, httpx.Client, str]) -> None:
    api, _, token = both
    front = Front(api.app, api.services, Hub())
    headers = {"X-API-Key": token}
    with serving(front) as address:
        tag = httpx.get(f"{address}/api/v1/sdk/snapshot", headers=headers).headers["ETag"]
        known = headers | {"If-None-Match": tag}
        httpx.get(f"{address}/api/v1/sdk/snapshot", headers=known)
        httpx.get(f"{address}/healthz")
        with httpx.stream("GET", f"{address}/api/v1/sdk/stream", headers=headers) as stream:
            octets = stream.iter_raw()
            next(octets)
            eventually(lambda: front.hub.counts.open == 1)

    found = front.measures
    assert found.requests == {
        ("snapshot", 200): 1,
        ("snapshot", 304): 1,
        ("flask", 200): 1,
        ("stream", 200): 1,
    }
    assert {who: sum(buckets) for who, buckets in found.durations.items()} == {
        "snapshot": 2,
        "flask": 1,
        "stream": 1,
    }
    assert (front.hub.counts.opened, front.hub.counts.open) == (1, 0)
