"""`flagserver web --workers`: several processes at one port, over a real Redis."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from flagserver.processes import Child, Process
from tests.servers import Server, free_ports, redis_server, wait_until

pytestmark = pytest.mark.needs("redis-server")

STATUS = "/api/v1/status"
STREAM = "/api/v1/sdk/stream"
WORKERS = 2


class Web:
    """A running `flagserver web --workers 2`."""

    def __init__(self, store: Server, directory: Path) -> None:
        self.port = free_ports(1)[0]
        self.address = f"http://127.0.0.1:{self.port}"
        self.token = f"srt_admin_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
        self.environment = {
            "SORTITION_REDIS_URL": store.url,
            "SORTITION_PORT": str(self.port),
            "SORTITION_DATA_DIR": str(directory / "data"),
            "SORTITION_ADMIN_TOKEN_FILE": str(directory / "token"),
        }
        (directory / "token").write_text(self.token)
        self.process = self.another()

    def another(self) -> Process:
        """Start one (more) at the same port."""
        program = (sys.executable, "-m", "flagserver.main", "web", "--workers", str(WORKERS))
        return Process(Child("web", program, self.environment), lambda _line: None)

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that serve."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if "web-process" in child.cmdline():
                    found.append(child)
        return found

    def ask(self, path: str) -> httpx.Response | None:
        """Ask on a connection of its own; None when nobody answers."""
        try:
            headers = {"Authorization": f"Bearer {self.token}"}
            return httpx.get(f"{self.address}{path}", headers=headers)
        except httpx.TransportError:
            return None

    def has_said(self, words: str) -> bool:
        return words in "\n".join(self.process.lines)

    def serves(self) -> bool:
        answer = self.ask("/readyz")
        return answer is not None and answer.status_code == 200

    def sdk_key(self) -> str:
        made = httpx.post(
            f"{self.address}/api/v1/tokens",
            json={"scope": "sdk", "environment": "production"},
            headers={"Authorization": f"Bearer {self.token}"},
        )
        assert made.status_code == 201, made.text
        return str(made.json()["token"])

    def held_by(self, worker: psutil.Process) -> int:
        """How many connections a worker holds."""
        held = [c for c in worker.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
        return sum(c.laddr.port == self.port for c in held)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with redis_server(tmp_path / "redis", "--appendonly", "yes") as store:
        web = Web(store, tmp_path)
        try:
            wait_until(lambda: web.has_said("2 processes serve.") and web.serves(), "all to serve")
            yield web
        finally:
            web.process.stop(15)


@contextmanager
def streams(web: Web, number: int) -> Iterator[list[httpx.Response]]:
    """Open streams, each on a connection of its own."""
    key = web.sdk_key()
    with ExitStack() as stack:
        found = []
        client = stack.enter_context(
            httpx.Client(limits=httpx.Limits(max_connections=None), timeout=20)
        )
        for _ in range(number):
            stream = client.stream("GET", f"{web.address}{STREAM}", headers={"X-API-Key": key})
            found.append(stack.enter_context(stream))
            assert found[-1].status_code == 200
        yield found


def test_connections_are_spread_over_the_processes(web: Web) -> None:
    with streams(web, 60):
        held = [web.held_by(worker) for worker in web.workers]

    assert sum(held) >= 60
    assert min(held) >= 10


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_the_other_serves_meanwhile(web: Web) -> None:
    first, second = web.workers

    first.kill()
    # What the kernel had given to the dead one is refused at once, not left waiting: it is waited
    # for until it is gone, for its command line ends before its sockets do.
    first.wait(10)
    answers = [web.ask(STATUS) for _ in range(10)]

    assert [each.status_code for each in answers if each is not None] == [200] * 10
    wait_until(lambda: len(web.workers) == WORKERS, "another process")
    assert second.is_running()
    wait_until(lambda: web.has_said("web-1 is ready again"), "it to be ready")


def test_a_change_in_one_process_is_heard_from_all(web: Web) -> None:
    headers = {"Authorization": f"Bearer {web.token}"}
    with streams(web, 20) as opened:
        assert all(web.held_by(worker) for worker in web.workers)
        made = httpx.post(f"{web.address}/api/v1/flags", json={"key": "heard"}, headers=headers)
        assert made.status_code == 201
        for stream in opened:
            assert any("heard" in line for line in stream.iter_lines())


@pytest.mark.slow
def test_nothing_is_left_when_the_first_process_is_killed(web: Web) -> None:
    workers = web.workers

    os.kill(web.process.pid, signal.SIGKILL)

    wait_until(lambda: not any(each.is_running() for each in workers), "the end of all")


@pytest.mark.slow
def test_a_port_in_use_stops_the_start(web: Web) -> None:
    other = web.another()

    assert other.wait(30)
    assert other.status == 1
    assert "already" in "\n".join(other.lines)
    assert web.serves()


@pytest.mark.slow
def test_told_to_stop_it_ends_streams_in_order_and_itself_in_time(web: Web) -> None:
    with streams(web, 40) as opened:
        start = time.monotonic()
        web.process.terminate()
        # Each ends with its last chunk, or reading it would raise.
        for stream in opened:
            for _ in stream.iter_raw():
                pass
        assert web.process.wait(15)

    assert web.process.status == 0
    assert time.monotonic() - start < 9
