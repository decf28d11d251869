"""A server dies under two thousand clients: they come back one after another, not as a crowd.

The server is real and is killed; the clients are as many connections of one event loop, and each
waits as the SDK's own worker says.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from sortition.sources import transport, worker
from sortition.sources.sse import Parser
from sortition.sources.worker import CONNECTED, FOLLOWING, Worker

from bench.harness.server import Server, allow_many_files, serving
from tests import loops

CLIENTS = 2000
AT_ONCE = 100
RETRY = 2.0
"""Seconds: what the server asks of those who lose it."""


@pytest.fixture(autouse=True)
def pace() -> None:
    """The SDK's own pace, and not the quick one of the tests beside this."""


class Member:
    """One client: it follows, loses the server, and comes back when the SDK says so."""

    def __init__(self, server: Server) -> None:
        self._port = server.port
        head = f"GET /api/v1/sdk/stream HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        self._request = f"{head}Authorization: Bearer {server.sdk_key}\r\n\r\n".encode()
        self.worker = a_worker()
        self.following, self.lost = asyncio.Event(), asyncio.Event()
        self.came = 0.0

    async def live(self) -> None:
        while True:
            began = time.monotonic()
            self.worker._stage = ""
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._follow()
            self.following.clear()
            self.lost.set()
            lost = transport.Unreachable("lost")
            await asyncio.sleep(self.worker._pause_of_stream(lost, time.monotonic() - began))

    async def _follow(self) -> None:
        async with asyncio.timeout(worker.CALL_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            self.worker._stage, came = CONNECTED, time.monotonic()
            writer.write(self._request)
            async with asyncio.timeout(worker.CALL_SECONDS):
                told = await reader.readuntil(b"event: snapshot\n")
            parser = Parser()
            assert list(parser.feed(told)) == []
            assert parser.retry_ms is not None
            self.worker._first_backoff = parser.retry_ms / 1000
            self.worker._stage, self.came = FOLLOWING, came
            self.following.set()
            while await reader.read(65536):
                pass
        finally:
            writer.close()


def a_worker() -> Worker:
    """A worker that nobody starts: it is only asked how long to wait."""

    def never(*_: Any) -> Any:
        raise AssertionError("it was never started")

    told: dict[str, Any] = dict.fromkeys(inspect.signature(Worker).parameters, never)
    told |= {"url": "http://127.0.0.1", "key": "key", "streaming": True, "poll_seconds": 30.0}
    return Worker(**told)


def crest(came: Sequence[float]) -> float:
    """Return how many times the mean second the largest one is."""
    first, last = min(came), max(came)
    largest = max(Counter(int(at - first) for at in came).values())
    return largest / (len(came) / max(1.0, last - first))


@pytest.mark.parametrize("outage", [0.2, 0.5, 1, 2, 3, 4, 5, 7, 10, 20, 30, 60, 300])
@pytest.mark.parametrize("retry", [RETRY, 5.0])
def test_there_is_no_crest_however_long_the_server_was_away(outage: float, retry: float) -> None:
    random.seed(1)
    lost = transport.Unreachable("lost")
    came = []
    for _ in range(CLIENTS):
        member = a_worker()
        member._first_backoff = retry
        at = member._pause(lost, 1)
        while at < outage:
            at += member._pause_while_away(at)
        came.append(at)

    assert crest(came) < 3
    assert max(came) <= outage + max(retry, min(outage, worker.LONGEST_BACKOFF))


@pytest.mark.slow
def test_a_herd_comes_back_within_its_jitter() -> None:
    random.seed(1)
    allow_many_files()
    with serving(10) as server:
        came = loops.run(after_a_kill(server))

    assert len(came) == CLIENTS
    assert crest(came) < 3


async def after_a_kill(server: Server) -> list[float]:
    """Let the members follow, kill what serves, and return when each came back."""
    members = [Member(server) for _ in range(CLIENTS)]
    async with asyncio.TaskGroup() as group:
        living = []
        for begun in range(0, CLIENTS, AT_ONCE):
            batch = members[begun : begun + AT_ONCE]
            living += [group.create_task(member.live()) for member in batch]
            await asyncio.gather(*(member.following.wait() for member in batch))
        killed = time.monotonic()
        await asyncio.to_thread(server.kill_web)
        await asyncio.gather(*(member.lost.wait() for member in members))
        await asyncio.gather(*(member.following.wait() for member in members))
        for each in living:
            each.cancel()
    return [member.came - killed for member in members]
