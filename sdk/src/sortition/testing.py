"""For the host's own tests: clients with fixed flags, and a server that can misbehave.

client = client_with({"new-search": 25.0})      # without network or thread

with FakeServer({"new-search": 0}) as server, Client(server.url, key=server.key) as client:
    client.wait_ready(5)
    server.put({"new-search": 100})
    server.troubles["stream"] = Trouble(503, retry_after=1)
    server.cut()
"""

from __future__ import annotations

import contextlib
import gzip
import json
import queue
import select
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from .client import Client
from .core.model import Change, Flag, Snapshot, SnapshotVersion

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self

PPM_PER_PERCENT = 10_000

Flags = Mapping[str, "float | Mapping[str, Any]"]
"""Percent of a boolean flag, or what `client_with` says of mappings."""


def client_with(flags: Flags, resource: Mapping[str, str] | None = None) -> Client:
    """Return a client that holds these flags.

    A number is the share (percent) of a boolean flag. A mapping may hold `share` (percent),
    `variants` (name -> value), `rest`, `weights` (name -> percent), `conditions`, `prerequisites`
    (both as in a snapshot), `killed`.
    """
    client = Client("", snapshot="", resource=resource or {})
    client._put(snapshot_with(flags))  # noqa: SLF001 (what a server would bring; no host may)
    client._tell_state()  # noqa: SLF001 (it has no thread that would)
    return client


def snapshot_with(flags: Flags, version: int = 1) -> Snapshot:
    """Return a snapshot of such flags."""
    return Snapshot(
        version=SnapshotVersion("testing", 1, version),
        environment="testing",
        flush_seconds=5.0,
        histogram_edges=(0.01, 0.1, 1.0, 10.0),
        flags={key: _flag(key, given) for key, given in flags.items()},
    )


@dataclass(frozen=True)
class Trouble:
    """What one of a FakeServer's doors does instead of its work.

    status, retry_after, headers, body: this answer.  raw: these octets, HTTP or not, and then the
    end.
    silent: nothing, for as long as the server lives.  Trouble() closes the door in one's face.
    """

    status: int | None = None
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    raw: bytes = b""
    silent: bool = False


class FakeServer:
    """A server of flags in the host's own process, on the loopback: everything an SDK asks for.

    tls: how it speaks TLS, if it is to.
    troubles: by door (`snapshot`, `stream`, `outcomes`), what it does for now.
    asked: the doors that were knocked at, in order.  batches: the outcomes that were taken, and
    `bodies` as they came, also those that were not.
    """

    key = "srt_sdk_fake"

    def __init__(
        self,
        flags: Flags | None = None,
        *,
        flush_seconds: float = 0.1,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self.snapshot = replace(snapshot_with(flags or {}), flush_seconds=flush_seconds)
        self.troubles: dict[str, Trouble] = {}
        self.asked: list[str] = []
        self.batches: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self._lock = threading.RLock()
        self._streams: set[queue.SimpleQueue[bytes | None]] = set()
        self._sockets: set[socket.socket] = set()
        self._ended = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._address = ("127.0.0.1", 0)
        self.start()

    @property
    def url(self) -> str:
        """Where it is; the same after a restart."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{self._address[0]}:{self._address[1]}"

    def start(self) -> None:
        """Begin to serve, again perhaps."""
        fake = self

        class Handler(_Handler):
            server_of_flags = fake

        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(self._address, Handler)
        if self._tls is not None:
            # Hands are shaken in each connection's own thread.
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._address = ("127.0.0.1", self._server.server_address[1])
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.01,), name="fake-server", daemon=True).start()

    def stop(self) -> None:
        """End at once, as if killed: connections are lost."""
        server, self._server = self._server, None
        if server is None:
            return
        self._ended.set()
        server.shutdown()
        server.server_close()
        self.cut()
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def put(self, flags: Flags) -> None:
        """Change all flags to these, and tell those who follow."""
        with self._lock:
            held = self.snapshot
            version = replace(held.version, version=held.version.version + 1)
            self.snapshot = replace(held, version=version, flags=snapshot_with(flags).flags)
            gone = tuple(key for key in held.flags if key not in flags)
            versions = (held.version.version, version.version)
            change = Change(version.store, version.epoch, *versions, self.snapshot.flags, gone)
            self.tell("change", change.to_wire())

    def be(self, store: str, version: int, flags: Flags) -> None:
        """Serve another store, or another version; those who follow are told it whole."""
        with self._lock:
            told = snapshot_with(flags, version)
            self.snapshot = replace(
                self.snapshot, version=replace(told.version, store=store), flags=told.flags
            )
            self.tell("snapshot", self.snapshot.to_wire())

    def tell(self, event: str, data: object) -> None:
        """Send any event to those who follow."""
        self.send(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

    def send(self, octets: bytes | None) -> None:
        """Send octets to those who follow, as they are."""
        with self._lock:
            for stream in self._streams:
                stream.put(octets)

    def cut(self) -> None:
        """Cut all streams where they are."""
        self.send(None)

    @property
    def followers(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What the handler asks for

    def _opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)

    def _closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)

    def _take(self, batch: dict[str, Any]) -> bool:
        """Take a batch, once: what is sent again has the same number."""
        with self._lock:
            known = [_number(each) for each in self.batches]
            accepted = _number(batch) not in known
            if accepted:
                self.batches.append(batch)
        return accepted

    def _subscribe(self) -> queue.SimpleQueue[bytes | None]:
        stream: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        with self._lock:
            stream.put(f"event: snapshot\ndata: {json.dumps(self.snapshot.to_wire())}\n\n".encode())
            self._streams.add(stream)
        return stream

    def _unsubscribe(self, stream: queue.SimpleQueue[bytes | None]) -> None:
        with self._lock:
            self._streams.discard(stream)


class _Handler(BaseHTTPRequestHandler):
    server_of_flags: FakeServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self._fake = self.server_of_flags
        self._fake._opened(self.connection)  # noqa: SLF001 (one thing in two classes)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self._fake._closed(self.connection)  # noqa: SLF001 (the same)

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing in the host's tests."""

    def do_GET(self) -> None:
        """Serve snapshot and stream."""
        self._serve(b"")

    def do_POST(self) -> None:
        """Take outcomes."""
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _serve(self, body: bytes) -> None:
        door = self.path.removeprefix("/api/v1/sdk/")
        self._fake.asked.append(door)
        if door == "outcomes":
            self._fake.bodies.append(body)
        trouble = self._fake.troubles.get(door)
        if trouble is not None:
            self._misbehave(trouble)
        elif self.headers.get("Authorization") != f"Bearer {self._fake.key}":
            self._answer(401, b"{}")
        elif door == "snapshot":
            self._snapshot()
        elif door == "stream":
            self._stream()
        elif door == "outcomes":
            accepted = self._fake._take(json.loads(body))  # noqa: SLF001 (as above)
            self._answer(202, json.dumps({"accepted": accepted}).encode())
        else:
            self._answer(404, b"{}")

    def _misbehave(self, trouble: Trouble) -> None:
        self.close_connection = True
        if trouble.silent:
            self._fake._ended.wait()  # noqa: SLF001 (as above)
        elif trouble.status is None:
            self.wfile.write(trouble.raw)
        else:
            asked = trouble.retry_after
            headers = {} if asked is None else {"Retry-After": f"{asked:g}"}
            self._answer(trouble.status, trouble.body, {**headers, **trouble.headers})

    def _snapshot(self) -> None:
        snapshot = self._fake.snapshot
        headers = {"ETag": snapshot.version.etag}
        if self.headers.get("If-None-Match") == snapshot.version.etag:
            self._answer(304, b"", headers)
            return
        body = json.dumps(snapshot.to_wire()).encode()
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body)
        self._answer(200, body, headers)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        stream = self._fake._subscribe()  # noqa: SLF001 (as above)
        try:
            while not self._left():
                with contextlib.suppress(queue.Empty):
                    octets = stream.get(timeout=0.05)
                    if octets is None:
                        return
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(octets), octets))
        finally:
            self._fake._unsubscribe(stream)  # noqa: SLF001 (as above)

    def _left(self) -> bool:
        """Tell whether the client has gone: it says nothing more while it follows."""
        return bool(select.select([self.connection], [], [], 0)[0])

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _number(batch: Mapping[str, Any]) -> tuple[Any, ...]:
    return batch["instance"], batch["started"], batch["seq"]


def _flag(key: str, given: float | Mapping[str, Any]) -> Flag:
    told: Mapping[str, Any] = given if isinstance(given, Mapping) else {"share": given}
    variants = dict(told.get("variants", {"on": True, "off": False}))
    rest = told.get("rest", "off" if "off" in variants else next(iter(variants)))
    first = next((name for name in variants if name != rest), rest)
    weights = told.get("weights", {first: 100})
    wire = {
        "revision": 1,
        "salt": key,
        "variants": variants,
        "rest": rest,
        "weights": [[name, round(part * PPM_PER_PERCENT)] for name, part in weights.items()],
        "share": round(told.get("share", 100) * PPM_PER_PERCENT),
        "conditions": list(told.get("conditions", [])),
        "prerequisites": list(told.get("prerequisites", [])),
        "killed": bool(told.get("killed", False)),
    }
    return Flag.parse(key, wire)
