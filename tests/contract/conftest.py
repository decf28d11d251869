"""The stores that the contract is tried on, each started once per worker and emptied before use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from flagserver.storage.redis.server import Server
from flagserver.storage.redis.store import RedisStore
from tests.contract.changes import STORE
from tests.servers import embedded_store, redis_cluster, redis_server

BACKENDS = (
    "fakeredis",
    "embedded",
    pytest.param("redis", marks=pytest.mark.needs("redis-server")),
    pytest.param("cluster", marks=pytest.mark.needs("redis-server")),
)

Connect = Callable[[], Any]


class Backend:
    """One kind of store, empty. `open` gives stores as so many processes would have them."""

    def __init__(self, name: str, connect: Connect, url: str | None = None) -> None:
        self.name = name
        self.connect = connect
        self._url = url
        self._opened = ExitStack()

    def open(self, **options: Any) -> RedisStore:
        """Return a store with connections, memory and locks of its own."""
        if self._url is not None:
            return self._opened.enter_context(RedisStore(self._url, **options))
        return RedisStore(Server(self.connect, "fake"), **options)

    def through(self, wrap: Callable[[Any], Any]) -> RedisStore:
        """Return a store whose client is wrapped in another."""
        client = wrap(self.raw())
        return RedisStore(Server(lambda: client, "wrapped"))

    def raw(self) -> Any:
        """Return a client of the store's server."""
        return self._opened.enter_context(closing(self.connect()))

    def empty(self) -> None:
        """Forget everything, scripts too: it is a server of ours."""
        with closing(self.connect()) as client:
            everywhere = {"target_nodes": "primaries"} if self.name == "cluster" else {}
            client.execute_command("FLUSHALL", **everywhere)
            client.execute_command("SCRIPT FLUSH", **everywhere)

    def close(self) -> None:
        """Close what was opened."""
        self._opened.close()


class Backends:
    """Starts what is asked for, once."""

    def __init__(self, directory: Callable[[str], Path]) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._started: dict[str, tuple[Connect, str | None]] = {}

    def get(self, name: str) -> Backend:
        """Return a started backend, not emptied yet."""
        if name not in self._started:
            self._started[name] = self._start(name)
        return Backend(name, *self._started[name])

    def close(self) -> None:
        """Stop what was started."""
        self._stack.close()

    def _start(self, name: str) -> tuple[Connect, str | None]:
        if name == "fakeredis":
            server = fakeredis.FakeServer()
            return lambda: fakeredis.FakeRedis(server=server), None
        place = self._directory(name)
        if name == "cluster":
            cluster = self._stack.enter_context(redis_cluster(place))
            return cluster.client, cluster.url
        if name == "embedded":
            url = self._stack.enter_context(embedded_store(place)).url
        else:
            url = self._stack.enter_context(redis_server(place)).url
        return lambda: redis.Redis.from_url(url, socket_timeout=5), url


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    made = Backends(tmp_path_factory.mktemp)
    yield made
    made.close()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, backends: Backends) -> Iterator[Backend]:
    """Each kind of store in turn, empty."""
    found = backends.get(request.param)
    found.empty()
    yield found
    found.close()


@pytest.fixture
def store(backend: Backend) -> RedisStore:
    """Each kind of store in turn, set up."""
    opened = backend.open()
    opened.initialise(STORE)
    return opened
