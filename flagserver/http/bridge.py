"""The bridge to the WSGI application: a request that was read whole goes over, an answer returns.

The application runs on a bounded pool of threads and holds one only while it works: the body was
read before (`intake.py`), and a large answer is taken from it piece by piece, each when the client
has room for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from flagserver.services.listening import ENVIRON, Listening

from .intake import Taken

Fields = list[tuple[bytes, bytes]]
"""Header fields as ASGI has them; names in lower case."""

THREADS = 16
"""Most wait for the store most of their time; more would only wait for each other, and the loop for
them."""

WAITING = 512
"""Requests that may wait for a thread; beyond that it is kinder to say so."""

AT_ONCE = 256 * 1024
"""Octets of an answer that are taken from the application in one go."""

Environ = dict[str, Any]


class Application(Protocol):
    """A WSGI application."""

    def __call__(self, environ: Environ, start_response: Any, /) -> Iterable[bytes]:
        """Answer a request."""


class Busy(Exception):
    """Too many requests wait already."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the application answered. listening: it is a stream, and this is its head."""

    status: int
    headers: Fields
    pieces: Pieces
    listening: Listening | None = None


class Bridge:
    """One application behind its pool of threads."""

    def __init__(self, application: Application, *, scheme: str = "http") -> None:
        self._application = application
        self._scheme = scheme
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sortition-web")
        self.waiting = 0
        """Requests that wait for a thread or hold one."""

    async def ask(self, scope: Mapping[str, Any], taken: Taken) -> Answer:
        """Return the application's answer. Raises Busy, and what the application raises."""
        if self.waiting >= THREADS + WAITING:
            raise Busy
        environ = environ_of(scope, taken, self._scheme)
        pieces = Pieces(self._run)
        self.waiting += 1
        try:
            status, headers = await pieces.begin(self._application, environ)
        finally:
            self.waiting -= 1
        return Answer(status, headers, pieces, environ.get(ENVIRON))

    def close(self) -> None:
        """Take no more requests."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class Pieces:
    """An answer's body, taken from the application in pieces on its threads.

    All of it happens in one context (`contextvars`), on whichever thread.
    """

    def __init__(self, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._run_there = run
        self._context = contextvars.copy_context()
        self._result: Iterable[bytes] = ()
        self._rest: Iterator[bytes] = iter(())
        self._head: tuple[int, Fields] | None = None
        self.first = b""
        self.more = True
        """Whether `next` has more; the application is told that it is over when there is not."""

    async def begin(self, application: Application, environ: Environ) -> tuple[int, Fields]:
        """Ask the application; return its status and headers. The first piece is in `first`."""

        def work() -> bytes:
            self._result = application(environ, self._start_response)
            self._rest = iter(self._result)
            return self._gather()

        self.first = await self._work(work)
        if self._head is None:
            raise RuntimeError("the application did not begin its answer")
        return self._head

    async def next(self) -> bytes:
        """Return the next piece."""
        octets: bytes = await self._work(self._gather)
        return octets

    async def close(self) -> None:
        """Let go of what was not taken."""
        if self.more:
            await self._work(self._let_go)

    async def _work(self, work: Callable[[], Any]) -> Any:
        return await self._run_there(lambda: self._context.run(self._safely, work))

    def _safely(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except BaseException:
            self._let_go()
            raise

    def _gather(self) -> bytes:
        found: list[bytes] = []
        size = 0
        for piece in self._rest:
            found.append(piece)
            size += len(piece)
            if size >= AT_ONCE:
                break
        else:
            self._let_go()
        return found[0] if len(found) == 1 else b"".join(found)

    def _let_go(self) -> None:
        self.more = False
        close = getattr(self._result, "close", None)
        self._result = ()
        if close is not None:
            close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], _error: Any = None
    ) -> Callable[[bytes], Any]:
        fields = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers]
        self._head = int(status[:3]), fields
        return _no_write


def _no_write(_data: bytes) -> None:
    raise NotImplementedError("an application returns its answer")


def environ_of(scope: Mapping[str, Any], taken: Taken, scheme: str) -> Environ:
    """Return the WSGI environment of a request (PEP 3333)."""
    host, port = scope.get("server") or ("localhost", 80)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": taken.stream(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    client = scope.get("client")
    if client:
        environ["REMOTE_ADDR"] = client[0]
    for name, value in scope["headers"]:
        _add_field(environ, name, value)
    # Whether it was announced or came in chunks: here it has a length.
    if taken.length or not taken.whole:
        environ["CONTENT_LENGTH"] = str(max(taken.length, 1))
    return environ


def _add_field(environ: Environ, name: bytes, value: bytes) -> None:
    # One with an underscore would pass for another one with a hyphen.
    if b"_" in name or name == b"transfer-encoding":
        return
    key = name.decode("latin-1").upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    text = value.decode("latin-1")
    # Cookies are joined by semicolons (RFC 9113, 8.2.3), all else by commas.
    glue = "; " if key == "HTTP_COOKIE" else ","
    environ[key] = f"{environ[key]}{glue}{text}" if key in environ else text
