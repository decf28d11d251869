"""Behind the real server: bodies without a length, raw paths, and no word too many in headers."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.servers import free_ports

from .api import eventually

PROGRAM = Path(__file__).with_name("serve.py")


@dataclass
class Running:
    """A gunicorn of ours, with the options that `flagserver web` has."""

    port: int
    token: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def raw(self, head: str, *parts: bytes, pause: float = 0, token: str | None = None) -> str:
        """Send octets as they are; return what came back until the server closed."""
        token = self.token if token is None else token
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            lines = f"{head}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            connection.sendall((lines + "Connection: close\r\n\r\n").encode())
            try:
                for part in parts:
                    time.sleep(pause)
                    connection.sendall(part)
            except OSError:
                pass
            return self._rest(connection)

    def _rest(self, connection: socket.socket) -> str:
        found = b""
        try:
            while octets := connection.recv(65536):
                found += octets
        except ConnectionResetError:
            pass
        return found.decode()


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

    assert headers.get("Server", "gunicorn") == "gunicorn"
    assert "X-Powered-By" not in headers


def test_a_connection_goes_on_after_a_refusal(running: Running) -> None:
    headers = {"Authorization": f"Bearer {running.token}", "Content-Type": "application/json"}
    with httpx.Client(base_url=running.address, headers=headers) as client:
        assert client.post("/api/v1/flags", content=b"[" * 5000).status_code == 400
        assert client.post("/api/v1/flags", content=b"{").status_code == 400
        assert client.post("/api/v1/flags", json={"key": "after"}).status_code == 201
        assert client.get("/api/v1/flags/after").json()["key"] == "after"
