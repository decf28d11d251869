"""The way to a Redis: from a URL to answers in bounded time, or StoreUnavailable."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException
from redis.retry import Retry

from .errors import is_lost, unavailable
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

SCHEMES = ("redis", "rediss", "unix", "redis-cluster", "rediss-cluster")
TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
OPTIONS = ("db", "username", "password", "client_name", *TLS)
"""What a URL's query may say. Time-outs and pools are ours to bound."""

T = TypeVar("T")
Client = Any
"""A `redis.Redis`, `redis.RedisCluster` or `fakeredis.FakeRedis`."""


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

    Each attempt is bounded by CONNECT_SECONDS and ANSWER_SECONDS, and redis-py tries nothing again
    by itself: what may safely be asked twice is said by each caller (`again`).
    """

    def __init__(self, connect: Callable[[], Client], where: str) -> None:
        """connect: makes a client.  where: the address as messages may show it."""
        self._connect = connect
        self._where = where
        self._client: Client = None
        self._pid = 0
        self._connecting = threading.Lock()

    @classmethod
    def at(cls, url: str) -> Server:
        """Return the server at a URL, without connecting. Raises UnusableUrl."""
        check_url(url)
        return cls(lambda: _client(url), where(url))

    def call(self, *command: Any, again: bool = True) -> Any:
        """Return a command's answer. again: ask once more if the connection was lost."""
        return self._ask(lambda client: client.execute_command(*command), again)

    def run(self, call: Call, *, again: bool = True) -> Any:
        """Return a script's answer. again: run once more if it is not known whether it was run,
        also after a time-out; so only for scripts that do the same thing once."""
        return self._ask(lambda client: _run(client, call), again, even_late=again)

    def call_all(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Return the answers of commands that only read, in order."""
        answers: list[Any] = []
        for batch in _batches(list(commands)):
            answers += self._ask(partial(_pipelined, commands=batch), again=True)
        return answers

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Return the answers of scripts, in order. They are independent of each other: a failure
        leaves some done and some not, so they must be such that may be run again."""
        answers: list[Any] = []
        for batch in _batches(calls):
            answers += self._ask(partial(_run_all, calls=batch), again=True)
        return answers

    def close(self) -> None:
        """Close the connections. The next call opens new ones."""
        with self._connecting:
            client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def _ask(self, question: Callable[[Client], T], again: bool, *, even_late: bool = False) -> T:
        try:
            try:
                return question(self._ready())
            except redis.RedisError as error:
                late = isinstance(error, redis.TimeoutError)
                if not again or not is_lost(error) or (late and not even_late):
                    raise
                return question(self._ready())
        except (redis.RedisError, RedisClusterException) as error:
            raise unavailable(error, self._where, ANSWER_SECONDS) from error

    def _ready(self) -> Client:
        """Return this process's client. What a parent made before a fork is left to the parent."""
        if self._client is None or self._pid != os.getpid():
            if self._pid != os.getpid():
                self._connecting = threading.Lock()
            with self._connecting:
                if self._client is None or self._pid != os.getpid():
                    self._client = self._connect()
                    self._pid = os.getpid()
        return self._client


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
    if scheme != "unix" and not parts.hostname:
        raise UnusableUrl("The store's URL names no host.")
    if _is_cluster(url) and (parts.path.strip("/") or "db=" in parts.query):
        raise UnusableUrl("A Cluster has no numbered databases: leave the number off its URL.")


def where(url: str) -> str:
    """Return the address of a URL without user, password and options."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname}:{parts.port or 6379}"


def _is_cluster(url: str) -> bool:
    return url.partition("://")[0].endswith("-cluster")


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
        return redis.RedisCluster.from_url(
            url.replace("-cluster://", "://", 1),
            connection_pool_class=redis.BlockingConnectionPool,
            retry=never,
            **bounds,
        )
    if not url.startswith("unix"):
        bounds["socket_keepalive"] = True
    pool = redis.BlockingConnectionPool.from_url(
        url, retry=never, health_check_interval=IDLE_SECONDS, **bounds
    )
    return redis.Redis(connection_pool=pool)


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


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
