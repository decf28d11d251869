"""HTTP/1.1 over sockets of our own, by h11: no wait without bound, one thread watches a stream.

TransportError
├── Unreachable     no connection, or it was lost
├── TimedOut        nothing came in time
├── TooLarge        the answer is larger than allowed
└── Garbled         what came is not HTTP
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 (a look-up would import it in a thread, where a fork may lock it)
import select
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

import h11

from sortition.core.records import dataclass

CHUNK = 64 * 1024

NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a readable socket says when it has no data after all: half a record of TLS, say."""


class TransportError(Exception):
    """A call that did not come to an answer. Its text holds no address beyond host and port."""


class Unreachable(TransportError):
    """No connection, or it was lost."""


class TimedOut(TransportError):
    """Nothing came in time."""


class TooLarge(TransportError):
    """The answer is larger than allowed."""


class Garbled(TransportError):
    """What came is not HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. headers: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Connection:
    """One connection to a server, for one request."""

    def __init__(self, url: str, *, timeout: float) -> None:
        """Connect. timeout: seconds for each step. Raises TransportError, ValueError (URL)."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the server's URL begins with http:// or https://")
        self._parts = parts
        self._timeout = timeout
        self._cut = False
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=CHUNK)
        try:
            self._socket = _connect(parts, timeout)
        except TimeoutError as error:
            raise TimedOut("no connection in time") from error
        except OSError as error:
            raise Unreachable(f"no connection ({type(error).__name__})") from error
        self._readable = _readable(self._socket)

    def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> None:
        """Send a request. path: below the URL's own path."""
        host = self._parts.netloc.rpartition("@")[2]
        names = {"Host": host, "Connection": "close", **headers}
        if body is not None:
            names["Content-Length"] = str(len(body))
        target = self._parts.path.rstrip("/") + path
        request = h11.Request(method=method, target=target, headers=list(names.items()))
        self._write(self._protocol.send(request) or b"")
        if body is not None:
            self._write(self._protocol.send(h11.Data(data=body)) or b"")
        self._write(self._protocol.send(h11.EndOfMessage()) or b"")
        # From now on it is read, when it is known to be readable: a time-out would look once more.
        self._socket.setblocking(False)

    def head(self) -> Answer:
        """Wait for status and headers. Raises TransportError."""
        deadline = time.monotonic() + self._timeout
        while True:
            event = self._next(deadline)
            if isinstance(event, h11.Response):
                headers = {name.decode().lower(): _text(value) for name, value in event.headers}
                return Answer(event.status_code, headers)
            if event is None or time.monotonic() > deadline:
                raise TimedOut("no answer in time")

    def read(self, limit: int) -> bytes:
        """Wait for the whole body. limit: octets, before and after decompression."""
        deadline = time.monotonic() + self._timeout
        parts: list[bytes] = []
        size = 0
        while True:
            event = self._next(deadline)
            if isinstance(event, h11.EndOfMessage):
                return b"".join(parts)
            if event is None or time.monotonic() > deadline:
                raise TimedOut("no whole answer in time")
            if isinstance(event, h11.Data):
                size += len(event.data)
                if size > limit:
                    raise TooLarge(f"more than {limit} octets")
                parts.append(bytes(event.data))

    def read_some(self, wait: float) -> bytes | None:
        """Return what the body brings within so many seconds, b"" if nothing did, None at its
        end."""
        event = self._next(time.monotonic() + wait)
        if event is None:
            return b""
        if isinstance(event, h11.Data):
            return bytes(event.data)
        return None if isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)) else b""

    def wake(self) -> None:
        """End the connection from another thread: whoever waits on it is told at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, also for a process that was forked meanwhile and holds it too."""
        self.wake()
        self.drop()

    def drop(self) -> None:
        """Let go of it; another process may go on with it."""
        self._socket.close()

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except TimeoutError as error:
            raise TimedOut("the request was not taken in time") from error
        except OSError as error:
            raise Unreachable(f"connection lost ({type(error).__name__})") from error

    def _next(self, deadline: float) -> object | None:
        """Return the next event, None when there is none by the deadline."""
        while True:
            try:
                event = self._protocol.next_event()
            except h11.RemoteProtocolError as error:
                if self._cut:
                    raise Unreachable("the server closed the connection") from error
                raise Garbled("the answer is not HTTP") from error
            if event is not h11.NEED_DATA:
                return event
            data = self._receive(deadline)
            if data is None:
                return None
            self._cut = not data
            self._protocol.receive_data(data)

    def _receive(self, deadline: float) -> bytes | None:
        while True:
            left = deadline - time.monotonic()
            pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
            if not pending and not self._readable(max(0.0, left)):
                return None
            try:
                return self._socket.recv(CHUNK)
            except NOT_YET:
                if left <= 0:
                    return None
            except OSError as error:
                raise Unreachable(f"connection lost ({type(error).__name__})") from error


def ask(
    connection: Connection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    *,
    body: bytes | None = None,
    limit: int,
) -> Answer:
    """Make one call and return its whole answer, unpacked. Raises TransportError."""
    connection.send(method, path, headers, body)
    head = connection.head()
    content = connection.read(limit)
    if head.headers.get("content-encoding") == "gzip":
        content = _unpacked(content, limit)
    return Answer(head.status, head.headers, content)


def _connect(parts: SplitResult, timeout: float) -> socket.socket:
    host = str(parts.hostname)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    plain = socket.create_connection((host, port), timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if parts.scheme == "http":
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _readable(watched: socket.socket) -> Callable[[float], bool]:
    """Return what waits so many seconds for a socket and tells whether it may be read."""
    if not hasattr(select, "poll"):
        return lambda wait: bool(select.select([watched], [], [], wait)[0])
    # Not `select`: it fails on file descriptors above 1023, which busy hosts have.
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    return lambda wait: bool(poll.poll(wait * 1000))


def _unpacked(data: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise Garbled("the answer is not gzip") from error
    if not unpacker.eof and len(content) <= limit:
        raise Garbled("the answer was cut")
    if len(content) > limit:
        raise TooLarge(f"more than {limit} octets unpacked")
    return content


def _text(value: bytes) -> str:
    return value.decode("latin-1")
