"""A loopback server that keeps what it is sent and misbehaves as told: a double of whom we call.

    with Capturing() as server:
        server.troubles += [Trouble(429, retry_after="7"), Trouble(hang=True)]   # one per request
        ...
        server.wait_for(3)                          # three requests came
        server.requests[0].json

What it does without troubles is answer 200 with `server.body`, or with what `server.answers` makes.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.servers import wait_until


@dataclass(frozen=True)
class Captured:
    """One request as it came. headers: names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Trouble:
    """How one request is answered instead. hang: not at all, until the end.  cut: the connection
    ends after so many octets of the answer's body, whose length was told as twice as many.
    drip: seconds between octets of an endless answer.  raw: these octets and the end."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: str | None = None
    hang: bool = False
    cut: int | None = None
    drip: float | None = None
    raw: bytes | None = None


class Capturing:
    """The server; a context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Captured] = []
        self.troubles: list[Trouble] = []
        self.status = 200
        self.body = b"ok"
        self.answers: Callable[[Captured], bytes] | None = None
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        # Whoever breaks off is no news here.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._tls = tls is not None
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http{'s' * self._tls}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.requests) >= count, f"{count} requests")

    def take(self, request: Captured) -> Trouble:
        """Keep a request and return how it is answered."""
        with self._lock:
            self.requests.append(request)
            if self.troubles:
                return self.troubles.pop(0)
        made = self.answers(request) if self.answers is not None else self.body
        return Trouble(self.status, made)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Captured(self.command, self.path, headers, self.rfile.read(length))
                with suppress(ConnectionError):
                    self._answer(owner.take(request))
                self.close_connection = True

            do_GET = do_POST  # noqa: N815 (the form is the library's)

            def _answer(self, trouble: Trouble) -> None:
                if trouble.hang:
                    owner.ending.wait(60)
                    return
                if trouble.raw is not None:
                    self.wfile.write(trouble.raw)
                    return
                self.send_response(trouble.status)
                for name, value in trouble.headers.items():
                    self.send_header(name, value)
                if trouble.retry_after is not None:
                    self.send_header("Retry-After", trouble.retry_after)
                if trouble.drip is None:
                    length = len(trouble.body) if trouble.cut is None else 2 * trouble.cut
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                if trouble.drip is not None:
                    while not owner.ending.wait(trouble.drip):
                        self.wfile.write(b".")
                self.wfile.write(trouble.body if trouble.cut is None else b"." * trouble.cut)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler
