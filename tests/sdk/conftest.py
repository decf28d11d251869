"""A fake server, clients that are closed, and a pace for tests: waits are short, not absent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sortition
from sortition.sources import worker
from sortition.testing import FakeServer

NEVER = 10.0


def until(holds: Callable[[], object], seconds: float = NEVER) -> float:
    """Wait until something holds and return how long that took; it fails after so long."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "it never came to pass"
        time.sleep(0.002)
    return time.monotonic() - began


@pytest.fixture(autouse=True)
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CALL_SECONDS", 0.4)
    monkeypatch.setattr(worker, "FIRST_BACKOFF", 0.02)
    monkeypatch.setattr(worker, "LONGEST_BACKOFF", 0.2)
    monkeypatch.setattr(worker, "REFUSED_BACKOFF", 0.4)
    monkeypatch.setattr(worker, "FIRST_FLUSH_SECONDS", 0.05)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer({"search": 0}) as serving:
        yield serving


@pytest.fixture
def start(server: FakeServer) -> Iterator[Callable[..., sortition.Client]]:
    """Return a function that starts clients of the server; they are closed in the end."""
    clients: list[sortition.Client] = []

    def started(**arguments: Any) -> sortition.Client:
        given = {"url": server.url, "key": server.key, "resource": {}, **arguments}
        clients.append(sortition.Client(**given))
        return clients[-1]

    yield started
    for client in clients:
        client.close(1)
