"""The way to a Redis: from a URL to answers in bounded time, or StoreUnavailable."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from .errors import NOTHING, UNKNOWN, is_lost, may_have_been_done, unavailable
from .scripts import Script

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 1.0
"""How long one answer may take. Nothing we ask for blocks longer than half of it."""

CONNECTIONS = 64
"""Connections per process (per node of a Cluster). Whoever finds none waits POOL_SECONDS."""

POOL_SECONDS = 1.0
IDLE_SECONDS = 15
"""A connection that was idle for so long is asked whether it still lives before it is used."""

BATCH = 100
"""Calls that are sent in one go, so that all their answers come in time."""

SCHEMES = ("redis", "rediss", "unix", "redis-cluster", "rediss-cluster", "redis-sentinel")
TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
OPTIONS = ("db", "username", "password", "client_name", *TLS)
"""What a URL's query may say. Time-outs and pools are ours to bound."""

REFRESH_SECONDS = 1.0
"""How long a call waits for a Cluster's layout to be asked for anew."""

ERRORS = (redis.RedisError, RedisClusterException)

SENTINEL_PORT = 26379
SENTINEL_SECONDS = 0.5
"""How long one Sentinel may take to say who the master is; several are asked in turn."""

Told = Callable[[str, float], None]
"""Is told of every question: a command or a script, and the seconds to its answer; of several that
are sent in one go, of the first, with the seconds to all of them."""

T = TypeVar("T")
Client = Any
"""A `redis.Redis`, `redis.RedisCluster` or `fakeredis.FakeRedis`."""


class Kind(Enum):
    """What a question does, so whether it may be asked again when its answer was lost."""

    READS = "reads"
    WRITES = "writes"
    WRITES_ONCE = "writes once"

    def again_after(self, error: Exception) -> bool:
        """Whether to ask again. A late answer is worth another wait only to learn what was done."""
        late = isinstance(error, redis.TimeoutError)
        return self is Kind.WRITES_ONCE or (self is Kind.READS and not late)


class UnusableUrl(ValueError):
    """The store's URL is not of a known form. Says which are; never quotes a password."""


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its keys and arguments."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int]


class Server:
    """Asks a Redis, single or Cluster. Connects when it is first asked; may be forked and shared.

    An attempt is bounded by CONNECT_SECONDS and ANSWER_SECONDS, and for a Cluster by another
    REFRESH_SECONDS. redis-py tries nothing again by itself; here at most one attempt follows, and
    only of what does the same thing once however often it is asked.
    """

    def __init__(self, connect: Callable[[], Client], where: str, told: Told | None = None) -> None:
        """connect: makes a client.  where: the address as messages may show it."""
        self._connect = connect
        self._where = where
        self._told = told
        self.interruptions = 0
        """How often an answer was lost or late."""
        self._client: Client = None
        self._pid = os.getpid()
        self._connecting = threading.Lock()

    @classmethod
    def at(cls, url: str, told: Told | None = None) -> Server:
        """Return the server at a URL, without connecting. Raises UnusableUrl."""
        check_url(url)
        return cls(lambda: _client(url), where(url), told)

    def read(self, *command: Any, key: str | None = None) -> Any:
        """Return the answer to a command that only reads. key: the key that it reads, where that
        is not its first argument."""
        # One that may wait for what is new says nothing of how quick the store is.
        name = "" if "BLOCK" in command else _name(command)
        return self._ask(partial(_execute, command=command, key=key), Kind.READS, name)

    def read_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the answers to commands that only read, in order."""
        answers: list[Any] = []
        for batch in _batches(commands):
            question = partial(_pipelined, commands=batch)
            answers += self._ask(question, Kind.READS, _name(batch[0]))
        return answers

    def write(self, *command: Any, key: str | None = None) -> Any:
        """Return the answer to a command that is sent once, whatever happens. key: of the node that
        it is for, where its first argument is no key."""
        question = partial(_execute, command=command, key=key)
        return self._ask(question, Kind.WRITES, _name(command))

    def look_up(self, call: Call) -> Any:
        """Return the answer of a script that only reads."""
        return self._ask(partial(_run, call=call), Kind.READS, call.script.name)

    def run(self, call: Call) -> Any:
        """Return the answer of a script that does its thing once, however often it is run.

        If it is not known whether it was run, it is run once more, which tells.
        """
        return self._ask(partial(_run, call=call), Kind.WRITES_ONCE, call.script.name)

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Return the answers of such scripts, in order. Each stands alone: after a failure some
        were run and some were not."""
        answers: list[Any] = []
        for batch in _batches(calls):
            question = partial(_run_all, calls=batch)
            answers += self._ask(question, Kind.WRITES_ONCE, batch[0].script.name)
        return answers

    def run_and_wait(self, call: Call, milliseconds: int) -> tuple[Any, int]:
        """Return the answer of such a script, and how many replicas had it, and so everything that
        was written before, within that time. It waits for the first of them only."""
        question = partial(_run_and_wait, call=call, ms=milliseconds)
        return self._ask(question, Kind.WRITES_ONCE, call.script.name)

    def replicas(self, key: str) -> int:
        """Return how many replicas the node of a key says it has; 0 where it may not be asked."""
        return self._ask(partial(_replicas, key=key), Kind.READS, "info")

    def close(self) -> None:
        """Close the connections. The next call opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def _ask(self, question: Callable[[Client], T], kind: Kind, name: str) -> T:
        """name: as it is told of; "": nobody is."""
        if self._told is None or not name:
            return self._answer(question, kind)
        began = time.perf_counter()
        try:
            return self._answer(question, kind)
        finally:
            self._told(name, time.perf_counter() - began)

    def _answer(self, question: Callable[[Client], T], kind: Kind) -> T:
        done = False
        while True:
            asked = False
            try:
                client = self._ready()
                asked = True
                return question(client)
            except ERRORS as error:
                self.interruptions += is_lost(error)
                first, done = not done, done or (asked and may_have_been_done(error))
                if not (first and done and kind.again_after(error)):
                    outcome = "" if kind is Kind.READS else UNKNOWN if done else NOTHING
                    raise unavailable(error, self._where, ANSWER_SECONDS, outcome) from error

    def _ready(self) -> Client:
        """Return this process's client. What was made before a fork is left to the parent."""
        if self._pid != os.getpid():
            self._client, self._connecting, self._pid = None, threading.Lock(), os.getpid()
        client = self._client
        if client is not None:
            return client
        # A Cluster is asked for its layout here, by one thread; the others wait as long as it may.
        if not self._connecting.acquire(timeout=CONNECT_SECONDS + ANSWER_SECONDS):
            raise redis.TimeoutError("Timeout connecting to server")
        try:
            if self._client is None:
                self._client = self._connect()
            return self._client
        finally:
            self._connecting.release()


def check_url(url: str) -> None:
    """Raise UnusableUrl unless it is one that we can use."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"{known}://" for known in SCHEMES)
        raise UnusableUrl(f"The store's URL must begin with one of {known}.")
    parts = urlsplit(url)
    unknown = sorted({name for name, _ in parse_qsl(parts.query)} - set(OPTIONS))
    if unknown:
        raise UnusableUrl(
            f"The store's URL has the option {', '.join(unknown)}. Known are {', '.join(OPTIONS)}."
        )
    if _is_sentinel(url):
        _sentinels(url)
        return
    if scheme != "unix" and not parts.hostname:
        raise UnusableUrl("The store's URL names no host.")
    if _is_cluster(url) and (parts.path.strip("/") or "db=" in parts.query):
        raise UnusableUrl("A Cluster has no numbered databases: leave the number off its URL.")


def where(url: str) -> str:
    """Return the address of a URL without user, password and options."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    if _is_sentinel(url):
        places, service = _sentinels(url)
        return f"{service} of {', '.join(f'{host}:{port}' for host, port in places)}"
    return f"{parts.hostname}:{parts.port or 6379}"


def _is_cluster(url: str) -> bool:
    return url.partition("://")[0].endswith("-cluster")


def _is_sentinel(url: str) -> bool:
    return url.partition("://")[0].endswith("-sentinel")


def _sentinels(url: str) -> tuple[list[tuple[str, int]], str]:
    """Return the Sentinels that a URL names, and the service whose master they know."""
    parts = urlsplit(url)
    service, _, number = parts.path.strip("/").partition("/")
    places = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        host, _, port = place.partition(":")
        if not host or not (port or "0").isdigit():
            raise UnusableUrl("Each Sentinel in the store's URL is host or host:port.")
        places.append((host, int(port or SENTINEL_PORT)))
    if not service or (number and not number.isdigit()):
        raise UnusableUrl(
            "The store's URL names Sentinels and no service: "
            "redis-sentinel://host:26379,host:26379/service."
        )
    return places, service


class _SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to whomever Sentinels call the master: as many as others have, and as patient."""


def _master_client(url: str, bounds: Mapping[str, Any]) -> Client:
    """Return a client of the master that Sentinels name at each new connection."""
    places, service = _sentinels(url)
    parts = urlsplit(url)
    told = dict(parse_qsl(parts.query))
    number = parts.path.strip("/").partition("/")[2] or told.get("db") or 0
    credentials = {
        "username": unquote(parts.username) if parts.username else told.get("username"),
        "password": unquote(parts.password) if parts.password else told.get("password"),
        "client_name": told.get("client_name"),
    }
    never = Retry(NoBackoff(), 0)
    quick = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
    # Neither of the two is typed.
    ask: Any = Sentinel
    pool: Any = _SentinelPool
    sentinel = ask(places, sentinel_kwargs={**quick, "protocol": 2, "retry": never})
    more = {"db": int(number), "retry": never, **credentials, **bounds}
    return redis.Redis(connection_pool=pool(service, sentinel, **more))


def _client(url: str) -> Client:
    bounds: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "protocol": 2,
        "max_connections": CONNECTIONS,
        "timeout": POOL_SECONDS,
    }
    never = Retry(NoBackoff(), 0)
    if _is_cluster(url):
        cluster = redis.RedisCluster.from_url(
            url.replace("-cluster://", "://", 1),
            connection_pool_class=redis.BlockingConnectionPool,
            retry=never,
            **bounds,
        )
        layout: Any = cluster.nodes_manager
        layout.initialize = _Refresh(layout.initialize)
        return cluster
    if _is_sentinel(url):
        return _master_client(url, bounds | {"health_check_interval": IDLE_SECONDS})
    if not url.startswith("unix"):
        bounds["socket_keepalive"] = True
    pool = redis.BlockingConnectionPool.from_url(
        url, retry=never, health_check_interval=IDLE_SECONDS, **bounds
    )
    return redis.Redis(connection_pool=pool)


class _Refresh:
    """Asks a Cluster for its layout: one thread for all who want to know, nobody waits for long.

    redis-py asks node after node in every thread that met an error, one thread after the other:
    where no node answers, the tenth waits half a minute.
    """

    def __init__(self, ask: Callable[..., None]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None

    def __call__(self, *arguments: Any, **options: Any) -> None:
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._asking = threading.Thread(
                    target=self._run, args=(arguments, options), daemon=True
                )
                self._asking.start()
            asking = self._asking
        asking.join(REFRESH_SECONDS)

    def _run(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        # The caller has an error of its own to tell.
        with suppress(*ERRORS):
            self._ask(*arguments, **options)


def _name(command: Sequence[Any]) -> str:
    return str(command[0]).lower()


def _execute(client: Client, command: Sequence[Any], key: str | None = None) -> Any:
    if key is not None and hasattr(client, "get_node_from_key"):
        # Else it would ask the server where the key stands in the command, and not any server:
        # one node, which may be down.
        return client.execute_command(*command, target_nodes=client.get_node_from_key(key))
    return client.execute_command(*command)


def _run(client: Client, call: Call) -> Any:
    rest = (len(call.keys), *call.keys, *call.arguments)
    try:
        return client.execute_command("EVALSHA", call.script.sha, *rest)
    except NoScriptError:
        return client.execute_command("EVAL", call.script.text, *rest)


def _run_all(client: Client, calls: Sequence[Call]) -> list[Any]:
    commands = [
        ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.arguments) for call in calls
    ]
    answers = _pipelined(client, commands, raising=False)
    return [_settled(client, call, answer) for call, answer in zip(calls, answers, strict=True)]


def _run_and_wait(client: Client, call: Call, ms: int) -> tuple[Any, int]:
    # WAIT waits for what was written over its own connection: both are sent over one.
    pipeline = _node_of(client, call.keys[0]).pipeline(transaction=False)
    pipeline.execute_command("EVAL", call.script.text, len(call.keys), *call.keys, *call.arguments)
    pipeline.execute_command("WAIT", 1, ms)
    answer, replicas = pipeline.execute()
    return answer, int(replicas)


def _replicas(client: Client, key: str) -> int:
    try:
        told = _node_of(client, key).execute_command("INFO", "replication")
    except ResponseError:
        return 0
    return int(told.get("connected_slaves", 0))


def _node_of(client: Client, key: str) -> Client:
    """Return a client of the node that has a key."""
    if hasattr(client, "get_node_from_key"):
        return client.get_redis_connection(client.get_node_from_key(key))
    return client


def _settled(client: Client, call: Call, answer: Any) -> Any:
    if isinstance(answer, NoScriptError):
        return _run(client, call)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _pipelined(client: Client, commands: Iterable[Sequence[Any]], raising: bool = True) -> Any:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return pipeline.execute(raise_on_error=raising)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
