"""The front: what stands before Flask and is asked first, as an ASGI application.

    GET snapshot, GET stream    answered here, from octets that are made already, when the request
                                is an ordinary one of somebody whose token is known in memory
    everything else             goes to Flask over the bridge, its body read whole before

So Flask says all refusals, and nothing is decided here that it would decide otherwise. Streams,
whoever let them in, end up at the hub (`streams.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from flask import Flask

from flagserver.domain import access, documents
from flagserver.domain.documents import Event, Principal
from flagserver.domain.errors import NotFound, Refusal, StoreUnavailable, TooMany
from flagserver.services import Services
from flagserver.services.listening import Listening
from flagserver.services.snapshots import View

from . import body, intake, ofrep, sdk
from .bridge import Answer, Bridge, Busy, Fields
from .errors import RETRY_SECONDS, Problem, from_refusal
from .intake import Gone, Receive, Taken
from .routing import SAFE_HEADERS, Route, presented
from .streams import RETRY_SECONDS as STREAM_RETRY_SECONDS
from .streams import Hub

log = logging.getLogger(__name__)

CONNECTION = "sortition.connection"
"""The extension of ASGI's scope that holds the transport below a request (`asyncio.Transport`)."""

SEND_SECONDS = 30.0
"""How long a client may leave a piece of an answer unread."""

BODIES_OCTETS = 64 * 1024 * 1024
"""Octets of all bodies that are being read, of one process."""

ONLY_TLS = {"Strict-Transport-Security": "max-age=31536000"}
"""Said where people reach the server by https: for a year, this host is asked by nothing else.
Other hosts of its domain are not ours to bind."""

DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds in seconds of the histogram of durations."""

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass
class Measures:
    """What this process answered, for `/metrics`. Written on the loop; numbers only grow.

    requests: (who answered: `snapshot`, `stream` or `flask`; status) -> count.
    durations: who answered -> requests by upper bound in DURATIONS, the last one beyond them; of a
    stream, until its head was sent.  seconds: their sum.
    busy: requests that found no thread or no room for their body.
    Streams are counted by the hub (`streams.Counts`).
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    durations: dict[str, list[int]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    busy: int = 0

    def answered(self, who: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self.requests[who, status] += 1
        self.seconds[who] += seconds  # type: ignore[assignment]  # Counter's stubs know whole numbers only
        buckets = self.durations.setdefault(who, [0] * (len(DURATIONS) + 1))
        buckets[next((i for i, edge in enumerate(DURATIONS) if seconds <= edge), -1)] += 1


class Sent:
    """The header fields of a request, by name."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Fields) -> None:
        found: dict[str, str] = {}
        for name, value in fields:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            found[key] = f"{found[key]},{text}" if key in found else text
        self._fields = found

    def get(self, name: str, default: str, /) -> str:
        """Return a field by its name, whatever its case."""
        return self._fields.get(name.lower(), default)

    @property
    def body_length(self) -> int | None:
        """How long a body is said to be: 0 where there is none, None where it is not said."""
        if "transfer-encoding" in self._fields:
            return None
        text = self._fields.get("content-length", "0")
        return int(text) if text.isascii() and text.isdigit() else None


class _Exchange:
    """One request and what was answered so far."""

    __slots__ = ("always", "begun", "receive", "scope", "send", "sent", "status", "who")

    def __init__(self, scope: Scope, receive: Receive, send: Send, always: Fields) -> None:
        """always: header fields of whatever is answered."""
        self.always = always
        self.scope = scope
        self.receive = receive
        self.send = send
        self.sent = Sent(scope["headers"])
        self.who = "flask"
        self.status = 0
        self.begun = time.perf_counter()

    @property
    def transport(self) -> asyncio.Transport:
        """The connection below."""
        found: asyncio.Transport = self.scope["extensions"][CONNECTION]
        return found

    async def head(self, status: int, headers: Fields) -> None:
        """Begin the answer."""
        self.status = status
        fields = [*headers, *self.always]
        await self.send({"type": "http.response.start", "status": status, "headers": fields})

    async def piece(self, octets: bytes, *, more: bool = False) -> None:
        """Go on with it. Raises TimeoutError when the client does not read."""
        async with asyncio.timeout(SEND_SECONDS):
            await self.send({"type": "http.response.body", "body": octets, "more_body": more})

    async def whole(self, status: int, headers: Mapping[str, str], octets: bytes) -> None:
        """Answer with octets that are there."""
        fields = [*_encoded(headers), *_SAFE]
        if status not in (204, 304):
            fields.append((b"content-length", b"%d" % len(octets)))
        await self.head(status, fields)
        await self.send({"type": "http.response.body", "body": octets, "more_body": False})


class Front:
    """The whole web application of one process."""

    def __init__(self, app: Flask, services: Services, hub: Hub, *, scheme: str = "http") -> None:
        """app: of `create_app`, with everything registered.  scheme: what callers see."""
        self.hub = hub
        self.measures = Measures()
        self._services = services
        self._bridge = Bridge(app, scheme=scheme)
        self._always = [*_encoded(ONLY_TLS)] if scheme == "https" else []
        routes: list[Route] = app.extensions["sortition"]
        self._limits = {(route.method, route.path): route.limit for route in routes}
        self._reading = 0
        services.snapshots.watch(self)
        services.snapshots.listen(self._hear)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's life."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(_Exchange(scope, receive, send, self._always))

    # The server's life

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.hub.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.hub.stop()
        self._bridge.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def drain(self, seconds: float) -> None:
        """Close the streams, spread over so many seconds at most."""
        await self.hub.drain(seconds)

    # What the mirror tells, from its thread

    def changed(self, view: View, message: bytes) -> None:
        """Pass a change on to the streams of its environment."""
        version = view.snapshot.version
        environment = view.snapshot.environment
        self.hub.say(sdk.topic(environment), message, version)
        self.hub.say(ofrep.topic(environment), ofrep.event(view), version)

    def streams(self) -> int:
        """Return how many streams follow an environment: SDKs' and OFREP's, not the admin UI's."""
        return self.hub.listeners(sdk.TOPICS, ofrep.TOPICS)

    def _hear(self, event: Event) -> None:
        if any(collection == documents.TOKENS for collection, _ in event.documents):
            self.hub.look_soon()

    # Requests

    async def _answer(self, exchange: _Exchange) -> None:
        try:
            await self._dispatch(exchange)
        except (Gone, TimeoutError):
            exchange.transport.abort()
        except TooMany as refusal:
            # Of a request without a body: the connection is kept, since a new one would cost more.
            await _say(exchange, from_refusal(refusal))
        except Problem as problem:
            await _refuse(exchange, problem)
        except Exception as error:  # noqa: BLE001 (whatever it is, it becomes an answer)
            _log(error)
            if exchange.status:
                exchange.transport.abort()
            else:
                detail = "Something went wrong here. It was logged; nothing of your request was."
                await _refuse(exchange, Problem(500, "internal_error", detail))
        finally:
            if exchange.who != "stream":
                self._count(exchange)

    def _count(self, exchange: _Exchange) -> None:
        seconds = time.perf_counter() - exchange.begun
        self.measures.answered(exchange.who, exchange.status, seconds)

    async def _dispatch(self, exchange: _Exchange) -> None:
        path = exchange.scope["raw_path"]
        if path == _SNAPSHOT and await self._snapshot(exchange):
            return
        if path == _STREAM and await self._sdk_stream(exchange):
            return
        taken = await self._take(exchange)
        answer = await self._ask(exchange.scope, taken)
        if answer.listening is not None:
            await answer.pieces.close()
            await self._stream(exchange, answer.listening, answer.headers)
        else:
            await _pass_on(exchange, answer, keep=taken.whole)

    async def _ask(self, scope: Scope, taken: Taken) -> Answer:
        try:
            return await self._bridge.ask(scope, taken)
        except Busy:
            raise self._too_busy() from None

    # What is answered here

    async def _snapshot(self, exchange: _Exchange) -> bool:
        """Answer with the snapshot, if there is no doubt about it; tell whether it did."""
        if exchange.scope["method"] not in ("GET", "HEAD"):
            return False
        principal = self._let_in(exchange)
        view = None if principal is None else self._view(principal)
        if view is None:
            return False
        exchange.who = "snapshot"
        await exchange.whole(*sdk.snapshot(view, exchange.sent))
        return True

    async def _sdk_stream(self, exchange: _Exchange) -> bool:
        """Begin an SDK's stream, if there is no doubt about it; tell whether it did."""
        if exchange.scope["method"] != "GET" or not self.hub.has_room:
            return False
        principal = self._let_in(exchange)
        if principal is None or self._view(principal) is None:
            return False
        listening = sdk.follow(self._services, principal, exchange.sent)
        await self._stream(exchange, listening, [*_encoded(sdk.STREAM_HEADERS), *_SAFE])
        return True

    def _let_in(self, exchange: _Exchange) -> Principal | None:
        """Return who asks, if that is known in memory and they may be served; else None. Raises
        TooMany: to say so here costs less than to serve them."""
        if exchange.sent.body_length != 0:
            return None
        try:
            principal = self._services.tokens.recognise(presented(exchange.sent, key=True))
            if principal is not None:
                access.check(principal, access.SERVE)
        except Refusal:
            return None
        if principal is not None:
            self._services.rates.count(principal)
        return principal

    def _view(self, principal: Principal) -> View | None:
        if principal.environment is None:
            return None
        with suppress(NotFound, StoreUnavailable):
            return self._services.snapshots.view(principal.environment)
        return None

    # Streams

    async def _stream(self, exchange: _Exchange, listening: Listening, headers: Fields) -> None:
        """Let a connection listen until it ends."""
        if not self.hub.has_room:
            self.hub.counts.refused += 1
            retry = {"Retry-After": str(STREAM_RETRY_SECONDS)}
            detail = "This process holds as many streams as it can. Poll, or try again."
            raise Problem(503, "too_many_streams", detail, headers=retry)
        # It has no length; the server announces chunks, which the hub writes.
        await exchange.head(200, [each for each in headers if each[0] != b"content-length"])
        exchange.who = "stream"
        self._count(exchange)
        with self.hub.listening(listening, exchange.transport):
            while (await exchange.receive())["type"] != "http.disconnect":
                pass

    # Bodies

    async def _take(self, exchange: _Exchange) -> Taken:
        """Read the body, if there is one. Raises Gone, Problem."""
        announced = exchange.sent.body_length
        if announced == 0:
            return intake.NOTHING
        scope = exchange.scope
        limit = self._limits.get((scope["method"], scope["path"]), body.LIMIT)
        if self._reading + limit > BODIES_OCTETS:
            raise self._too_busy()
        self._reading += limit
        try:
            return await intake.take(exchange.receive, limit, announced)
        finally:
            self._reading -= limit

    def _too_busy(self) -> Problem:
        self.measures.busy += 1
        retry = {"Retry-After": str(RETRY_SECONDS)}
        return Problem(503, "too_busy", "Too many requests wait here. Try again.", headers=retry)


async def _pass_on(exchange: _Exchange, answer: Answer, *, keep: bool) -> None:
    """Send what Flask answered. keep: the connection is good for another request."""
    pieces = answer.pieces
    headers = answer.headers if keep else [*answer.headers, (b"connection", b"close")]
    try:
        await exchange.head(answer.status, headers)
        await exchange.piece(pieces.first, more=pieces.more)
        while pieces.more and not exchange.transport.is_closing():
            octets = await pieces.next()
            await exchange.piece(octets, more=pieces.more)
    finally:
        await pieces.close()


async def _refuse(exchange: _Exchange, problem: Problem) -> None:
    """Say a problem to somebody who may still be sending a body that nobody reads."""
    await _say(exchange, problem, Connection="close")


async def _say(exchange: _Exchange, problem: Problem, **more: str) -> None:
    response = problem.response()
    headers = dict(response.headers) | more
    headers.pop("Content-Length", None)
    await exchange.whole(problem.status, headers, response.get_data())


def _encoded(headers: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    for name, text in headers.items():
        yield name.lower().encode("latin-1"), text.encode("latin-1")


def _log(error: Exception) -> None:
    """Say what failed and where in the code, and not an exception's words: they may hold what a
    caller sent."""
    told = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    log.error("a request failed\n%s\n%s", told, type(error).__qualname__)


_SNAPSHOT = sdk.SNAPSHOT.encode()
_STREAM = sdk.STREAM.encode()
_SAFE = tuple(_encoded(SAFE_HEADERS))
