"""The one background thread of a client: it follows the server and reports outcomes.

It waits on the stream and on the clock in turn, so flags keep following while outcomes are sent, and
no wait is without bound.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from sortition import __version__
from sortition.core.model import Change, Gap, Snapshot
from sortition.outcomes import FORMAT, Outcomes

from . import transport
from .sse import Message, Parser
from .transport import Connection, TransportError

CALL_SECONDS = 5.0
SILENCE_SECONDS = 25.0
"""Without even a beat for this long (the server's are 10 s apart), a stream is taken for dead."""

SNAPSHOT_LIMIT = 64 * 1024 * 1024
ANSWER_LIMIT = 64 * 1024

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
REFUSED_BACKOFF = 60.0
"""After a 4xx, up to this long: slower, but never for good."""

LONGEST_RETRY_AFTER = 300.0
DEFAULT_FLUSH_SECONDS = 5.0
FIRST_FLUSH_SECONDS = 1.0


class Refused(Exception):
    """The server answered, but not with what was asked for."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.retry_after = retry_after


class Worker:
    """Follows one server for one client.

    take: given each valid snapshot, says whether it was taken.  held: the snapshot that is held.
    failed: told the kind of each failure.  assignments: (flag, variant) -> evaluations since last.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        streaming: bool,
        poll_seconds: float,
        reporter: Mapping[str, Any],
        outcomes: Outcomes,
        take: Callable[[Snapshot], bool],
        held: Callable[[], Snapshot | None],
        failed: Callable[[str], None],
        heard: Callable[[], None],
        assignments: Callable[[], Counter[tuple[str, str]]],
    ) -> None:
        self._url = url
        self._headers = {
            "Authorization": f"Bearer {key}",
            "User-Agent": f"sortition-python/{__version__}",
        }
        self._streaming = streaming
        self._poll_seconds = poll_seconds
        self._reporter = reporter
        self._outcomes = outcomes
        self._take = take
        self._held = held
        self._failed = failed
        self._heard = heard
        self._assignments = assignments
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._batch: bytes | None = None
        self._seq = 0
        self._tick_began = time.monotonic()
        self._flush_at = time.monotonic() + FIRST_FLUSH_SECONDS
        self._failures = 0
        self.thread = threading.Thread(target=self._run, name="sortition", daemon=True)

    # Ending

    def stop(self, timeout: float) -> bool:
        """Ask the thread to end and wait that long at most; tell whether it ended."""
        self._stop.set()
        connection = self._connection
        if connection is not None:
            connection.wake()
        self.thread.join(timeout)
        return not self.thread.is_alive()

    def abandon(self) -> None:
        """In a forked child: close what was inherited; the parent's thread is not here."""
        if self._connection is not None:
            self._connection.close()

    # The loop

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except Refused as error:
                self._fail(f"status_{error.status}")
                self._rest(self._refused_pause(error))
            except Exception as error:
                # Whatever it is, a guest's thread goes on, and tells its host by the status only.
                self._fail(_kind(error))
                self._rest(self._pause(LONGEST_BACKOFF))
        self._flush(last=True)

    def _follow(self) -> None:
        if not self._streaming:
            self._poll()
            self._succeeded()
            self._rest(self._poll_seconds * random.uniform(0.9, 1.1))
            return
        try:
            self._stream()
        except (TransportError, Refused):
            if not self._stop.is_set():
                # The stream may be what fails (a proxy that buffers, a full server): ask plainly.
                self._poll()
            raise

    def _rest(self, seconds: float) -> None:
        """Wait, flushing outcomes when they are due."""
        end = time.monotonic() + seconds
        while not self._stop.is_set():
            self._flush_if_due()
            left = min(end, self._flush_at) - time.monotonic()
            if time.monotonic() >= end:
                return
            self._stop.wait(max(0.0, left))

    def _fail(self, kind: str) -> None:
        if not self._stop.is_set():
            self._failures += 1
            self._failed(kind)

    def _succeeded(self) -> None:
        self._failures = 0

    def _pause(self, longest: float) -> float:
        doubled = FIRST_BACKOFF * 2.0 ** min(self._failures - 1, 20)
        return random.random() * min(longest, doubled)

    def _refused_pause(self, error: Refused) -> float:
        pause = self._pause(REFUSED_BACKOFF if error.status < 500 else LONGEST_BACKOFF)
        return (
            max(pause, error.retry_after * random.uniform(1.0, 1.2)) if error.retry_after else pause
        )

    # Flags

    def _poll(self) -> None:
        held = self._held()
        headers = {**self._headers, "Accept-Encoding": "gzip"}
        if held is not None:
            headers["If-None-Match"] = held.version.etag
        answer = transport.ask(
            *(self._url, "GET", "/api/v1/sdk/snapshot", headers),
            timeout=CALL_SECONDS,
            limit=SNAPSHOT_LIMIT,
        )
        if answer.status not in (200, 304):
            raise Refused(answer.status, _retry_after(answer.headers))
        self._heard()
        if answer.status == 200:
            self._take(Snapshot.parse(json.loads(answer.body)))

    def _stream(self) -> None:
        connection = self._connection = Connection(self._url, timeout=CALL_SECONDS)
        try:
            connection.send(
                "GET", "/api/v1/sdk/stream", {**self._headers, "Accept": "text/event-stream"}
            )
            head = connection.head()
            if head.status != 200:
                raise Refused(head.status, _retry_after(head.headers))
            self._read_stream(connection, Parser(SNAPSHOT_LIMIT))
        finally:
            self._connection = None
            connection.close()

    def _read_stream(self, connection: Connection, parser: Parser) -> None:
        heard = time.monotonic()
        patience = CALL_SECONDS
        while not self._stop.is_set():
            self._flush_if_due()
            wait = min(self._flush_at, heard + patience) - time.monotonic()
            data = connection.read_some(max(0.0, wait))
            if data is None:
                raise transport.Unreachable("the stream ended")
            now = time.monotonic()
            if not data:
                if now - heard >= patience:
                    raise transport.TimedOut("the stream fell silent")
                continue
            heard, patience = now, SILENCE_SECONDS
            for message in parser.feed(data):
                self._hear(message)

    def _hear(self, message: Message) -> None:
        self._heard()
        if message.event == "snapshot":
            self._take(Snapshot.parse(json.loads(message.data)))
            self._succeeded()
        elif message.event == "change":
            held = self._held()
            try:
                if held is None:
                    raise Gap
                self._take(held.apply(Change.parse(json.loads(message.data))))
            except Gap:
                self._poll()
        elif message.event == "beat":
            held = self._held()
            version = json.loads(message.data).get("version")
            if held is not None and version != held.version.version:
                self._poll()

    # Outcomes

    def _flush_if_due(self) -> None:
        if time.monotonic() >= self._flush_at:
            self._flush()

    def _flush(self, *, last: bool = False) -> None:
        held = self._held()
        seconds = held.flush_seconds if held is not None else DEFAULT_FLUSH_SECONDS
        now = time.monotonic()
        self._flush_at = now + seconds
        length = max(0.001, round(now - self._tick_began, 3))
        self._tick_began = now
        self._outcomes.collect(self._assignments(), int(time.time()), length)
        try:
            if self._batch is None:
                self._batch = self._next_batch()
            if self._batch is not None:
                self._post(self._batch)
        except TransportError as error:
            self._failed(_kind(error))
            if not last:
                self._flush_at = now + max(seconds, self._pause(LONGEST_BACKOFF))

    def _next_batch(self) -> bytes | None:
        ticks = self._outcomes.take()
        if not ticks:
            return None
        self._seq += 1
        batch = {"format": FORMAT, **self._reporter, "seq": self._seq, "ticks": ticks}
        return json.dumps(batch, separators=(",", ":")).encode()

    def _post(self, batch: bytes) -> None:
        """Send a batch; one that failed is sent again as it was, one that is refused is lost."""
        headers = {**self._headers, "Content-Type": "application/json"}
        answer = transport.ask(
            *(self._url, "POST", "/api/v1/sdk/outcomes", headers),
            body=batch,
            timeout=CALL_SECONDS,
            limit=ANSWER_LIMIT,
        )
        if 200 <= answer.status < 300:
            self._batch = None
        elif 400 <= answer.status < 500 and answer.status not in (408, 429):
            self._batch = None
            self._outcomes.lose(1)
            self._failed(f"outcomes_status_{answer.status}")
        else:
            self._failed(f"outcomes_status_{answer.status}")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "").strip()
    if not (text.isascii() and text.isdigit()):
        return None
    return min(float(text), LONGEST_RETRY_AFTER)


def _kind(error: Exception) -> str:
    name = type(error).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
