"""The web process: one event loop, by uvicorn; several of them share the port.

    serve       this process serves, until it is told to stop
    Workers     keeps processes that do, for more than one core

What is served is an ASGI application that lives elsewhere (`http/front.py`); here is what it
stands on: a connection that bounds a request's head in octets and time, and an end that lets
streams go one after the other.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from flagserver.processes import Child, PortInUse, ProcessError
from flagserver.services.snapshots import Snapshots
from flagserver.settings import Settings
from flagserver.supervisor import Supervisor

CONNECTION = "sortition.connection"
"""The extension of ASGI's scope that holds the transport below a request."""

HEAD_OCTETS = 64 * 1024
HEAD_SECONDS = 20.0
"""How long a request's head may be, and may take from its first octet; so long, too, may a new
connection stay silent."""

IDLE_SECONDS = 75.0
"""How long a connection is kept between requests: more than load balancers do (60)."""

DRAIN_SECONDS = 5.0
"""At a planned end, the time over which streams are closed."""

GRACE_SECONDS = 2.0
"""How long open requests may take after that."""

SWITCH_SECONDS = 0.0005
"""How long one thread may go on before another one has its turn (Python's own: 5 ms). The loop lets
go of the interpreter at each look at its connections, and would wait so long to have it back."""

MANY_FILES = 65_536
"""More open files than one process needs."""

BACKLOG = 4096
"""Connections that may wait to be accepted: a herd that comes back. The kernel has a limit too."""


class Application(Protocol):
    """What is served: an ASGI application that can let its streams go."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""

    async def drain(self, seconds: float) -> None:
        """Close streams, spread over so many seconds."""


class Connection(HttpToolsProtocol):
    """A connection whose requests know the transport below, and whose heads are bounded."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._head_octets = 0
        self._in_body = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take octets; give up on a head that is too long."""
        if not self._in_body:
            self._head_octets += len(data)
            if self._head_timer is None:
                self._expect_head()
        super().data_received(data)
        if self._head_octets > HEAD_OCTETS and not self._in_body:
            self._give_up(431, "The request's head is too long.")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self.transport}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        """Have its head."""
        self._head_octets, self._in_body = 0, True
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Have all of it."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's words)
        """Refuse what is not HTTP."""
        self._give_up(400, "This is not a request.")

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also one whose client does not read the last answer."""
        self.transport.abort()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self, status: int, detail: str) -> None:
        """Say why, unless another answer is on its way, and close."""
        self._stop_waiting()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(_problem(status, detail))
        self.transport.close()


_SAFE = (
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
)
"""What keeps an answer harmless in a browser, as those of the API have it."""


def _problem(status: int, detail: str) -> bytes:
    title, code = {
        400: ("Bad Request", "malformed_request"),
        431: ("Request Header Fields Too Large", "head_too_large"),
    }[status]
    told = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    content = json.dumps(told)
    return (
        f"HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(content)}\r\n{_SAFE}"
        f"Cache-Control: no-store\r\nConnection: close\r\n\r\n{content}"
    ).encode()


class Server(uvicorn.Server):
    """Uvicorn, configured by us and by nothing else."""

    def __init__(self, application: Application, *, drain_seconds: float = DRAIN_SECONDS) -> None:
        self._application = application
        self._drain_seconds = drain_seconds
        super().__init__(
            uvicorn.Config(
                application,
                http=Connection,
                loop="uvloop",
                ws="none",
                lifespan="on",
                interface="asgi3",
                # Requests are not logged: their addresses hold ids.
                access_log=False,
                log_config=None,
                log_level="error",
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=int(IDLE_SECONDS),
                timeout_graceful_shutdown=int(GRACE_SECONDS),
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, let streams go, then end what is left."""
        for server in self.servers:
            server.close()
        if not self.force_exit:
            await self._application.drain(self._drain_seconds)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to signals; to have ended in good order is no failure, so none is raised again."""
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens there. shared: other processes may too. Raises ProcessError."""
    made = _bound(host, port, shared=shared)
    made.listen(BACKLOG)
    return made


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port, "Stop that, or set SORTITION_PORT.") from None
        raise ProcessError(f"Cannot listen at {host}:{port}: {error.strerror}.") from None
    return made


def serve(
    application: Application,
    at: socket.socket,
    *,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT. on_ready: called once connections are accepted."""
    server = Server(application)
    # Loop and threads take turns: a thread that works must not hold up the loop, nor the other way.
    sys.setswitchinterval(SWITCH_SECONDS)

    async def life() -> None:
        waiting = asyncio.ensure_future(_once_started(server, on_ready))
        await server.serve(sockets=[at])
        waiting.cancel()

    factory = server.config.get_loop_factory()
    with closing(at), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(life())


async def _once_started(server: uvicorn.Server, on_ready: Callable[[], None]) -> None:
    while not server.started:  # noqa: ASYNC110 (the server has no event for it)
        await asyncio.sleep(0.01)
    on_ready()


def allow_many_files() -> int:
    """Let this process open as many files as it may, each connection being one; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], MANY_FILES)


def follow_in_background(
    snapshots: Snapshots, begin: Callable[[threading.Event], None] = lambda stop: None
) -> threading.Event:
    """Start the thread that keeps the mirror current; set the event to end it.

    begin: done there first; it gets the event.
    """
    stop = threading.Event()

    def follow() -> None:
        begin(stop)
        snapshots.follow(stop)

    threading.Thread(target=follow, name="sortition-mirror", daemon=True).start()
    return stop


class Workers:
    """Several processes at one port, each dying with this one and started again when it ends.

    Each binds a socket of its own, so the kernel spreads connections over those that live
    (`SO_REUSEPORT`). This process holds the port, without listening, so that nobody else gets it.

    command: serves, and writes to the open file that its last argument names once it does.
    """

    def __init__(self, settings: Settings, command: tuple[str, ...], number: int) -> None:
        self._settings = settings
        self._command = command
        self._number = number

    def run(self, on_ready: Callable[[], None]) -> None:
        """Keep them until told to stop. on_ready: called once all serve. Raises ProcessError."""
        settings = self._settings
        _bound(settings.host, settings.port, shared=False).close()
        with _bound(settings.host, settings.port, shared=True):
            children = [self._child(f"web-{i + 1}") for i in range(self._number)]
            Supervisor(children, together=True).run(on_ready)

    def _child(self, name: str) -> Child:
        mine, theirs = os.pipe()
        os.set_blocking(mine, False)
        return Child(
            name,
            (*self._command, str(theirs)),
            inherit=(theirs,),
            ready=lambda: _said_something(mine),
            start_seconds=60.0,
            stop_seconds=DRAIN_SECONDS + 2 * GRACE_SECONDS,
        )


def _said_something(pipe: int) -> bool:
    try:
        return bool(os.read(pipe, 4096))
    except BlockingIOError:
        return False
