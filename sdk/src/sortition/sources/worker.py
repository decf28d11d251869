"""The one background thread of a client: it follows the server and reports outcomes.

It waits on the stream and on the clock in turn, and no wait is without bound.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

from sortition import __version__
from sortition.core.model import Change, Gap, InvalidSnapshot, Snapshot, SnapshotVersion
from sortition.core.reading import read_snapshot
from sortition.core.ticks import REPORTED_WITHIN, TICK_SECONDS
from sortition.outcomes import FORMAT, Outcomes
from sortition.snapshots import Held

from . import transport
from .sse import Message, Parser, TooLong
from .transport import Connection

CALL_SECONDS = 5.0
"""For each step of a call: to connect, to be answered, to have the answer whole."""
SILENCE_SECONDS = 25.0
"""Without even a beat for this long (the server's are 10 s apart), a stream is taken for dead."""

SNAPSHOT_LIMIT = 64 * 1024 * 1024
ANSWER_LIMIT = 64 * 1024
BATCH_LIMIT = 1_000_000
"""Octets of one report; what has no room waits for the next."""

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
REFUSED_BACKOFF = 300.0
"""After a 4xx, up to this long: slower, but never for good."""
LATER = (408, 429)
"""These ask for time and refuse nothing."""
HEALTHY_SECONDS = 60.0
"""A stream that was followed for so long was a good one: its loss is a first failure again."""

LONGEST_RETRY = 30.0
LONGEST_RETRY_AFTER = 300.0
FIRST_FLUSH_SECONDS = 1.0
SURELY_ENDED = 0.01
"""Of a tick's length: after this it is over for whoever looks at another clock."""

CONNECTED = "connected"
FOLLOWING = "following"
"""How far the last stream came."""


class Refused(Exception):
    """The server answered, but not with what was asked for."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.retry_after = retry_after


class NotOurs(Exception):
    """The server speaks of another store than the one that is held; already counted."""


class Worker:
    """Follows one server for one client.

    reporter: says who reports.  prepare: called before each try to follow.
    wanted: says whether a snapshot of this version is to be read.  take: given it.
    change: given each valid change, raises Gap or InvalidSnapshot.  held: what is held.
    failed: told the kind of each failure.  heard: told that the server spoke and agrees.
    tend: called now and then (at the end with True), says when to be called again at the latest.
    points: flag -> a sample of the points drawn since last, asked before assignments.
    assignments: (flag, variant) -> evaluations since last.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        streaming: bool,
        poll_seconds: float,
        reporter: Callable[[], Mapping[str, Any]],
        outcomes: Outcomes,
        prepare: Callable[[], None],
        wanted: Callable[[SnapshotVersion], bool],
        take: Callable[[Snapshot], None],
        change: Callable[[Change], None],
        held: Callable[[], Held],
        failed: Callable[[str], None],
        heard: Callable[[], None],
        tend: Callable[[bool], float],
        points: Callable[[], Mapping[str, list[int]]],
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
        self._prepare = prepare
        self._wanted = wanted
        self._take = take
        self._change = change
        self._held = held
        self._failed = failed
        self._heard = heard
        self._tend = tend
        self._points = points
        self._assignments = assignments
        self._stop = threading.Event()
        self._ends_at = float("inf")
        self._connections: list[Connection] = []
        self._batch: _Batch | None = None
        self._seq = 0
        self._flush_at = time.monotonic() + FIRST_FLUSH_SECONDS
        # Ticks end everywhere at once; a fleet must not report in step all the same.
        self._lag = random.random()  # noqa: S311 (no secret)
        self._failures = 0
        self._stream_failures = 0
        self._stream_from = time.monotonic()
        self._stage = ""
        self._away_from = time.monotonic()
        self._first_backoff = FIRST_BACKOFF
        self._post_failures = 0
        self.thread = threading.Thread(target=self._run, name="sortition", daemon=True)

    # Ending

    def stop(self, timeout: float) -> bool:
        """Ask the thread to end and wait that long at most; tell whether it ended."""
        self._ends_at = time.monotonic() + timeout
        self._stop.set()
        for connection in tuple(self._connections):
            connection.wake()
        if threading.current_thread() is self.thread:
            # A listener closes its client: the thread ends when it is back.
            return False
        self.thread.join(max(0.0, timeout))
        return not self.thread.is_alive()

    def abandon(self) -> None:
        """In a forked child: close what was inherited; the parent's thread is not here."""
        for connection in self._connections:
            connection.drop()

    # The loop

    def _run(self) -> None:
        while not self._stop.is_set():
            self._round()
        self._flush(last=True)
        self._tend(True)

    def _round(self) -> None:
        """Follow until something fails; then wait, longer from time to time."""
        try:
            self._prepare()
            self._follow()
        except Exception as error:  # noqa: BLE001 (a guest's thread goes on; its status tells)
            self._failures += 1
            self._note(error)
            self._rest(self._pause(error, self._failures))

    def _follow(self) -> None:
        """Follow the stream until it is lost, or ask once: always, where there is no stream."""
        if self._streaming and time.monotonic() >= self._stream_from:
            began = time.monotonic()
            try:
                self._stream()
            except Exception as error:  # noqa: BLE001 (any failure of the stream: ask plainly)
                self._note(error)
                pause = self._pause_of_stream(error, time.monotonic() - began)
                self._stream_from = time.monotonic() + pause
                if self._stage != CONNECTED or isinstance(error, NotOurs):
                    # No server, or one that went away: all its clients did not lose it to come
                    # back at the same moment. Where streams do not last, ask between them.
                    lasting = self._stage == FOLLOWING
                    self._rest(min(pause, self._poll_seconds) if lasting else pause)
                    return
        if self._stop.is_set():
            return
        self._poll()
        self._failures = 0
        pause = self._poll_seconds * random.uniform(0.9, 1.1)  # noqa: S311 (no secret)
        if self._streaming:
            pause = min(pause, max(0.0, self._stream_from - time.monotonic()))
        self._rest(pause)

    def _rest(self, seconds: float) -> None:
        """Wait, and do meanwhile what is due."""
        end = time.monotonic() + seconds
        while not self._stop.is_set():
            due = min(end, self._do_what_is_due())
            if time.monotonic() >= end:
                return
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _do_what_is_due(self) -> float:
        """Report outcomes, look after the client; return when the next is due."""
        if time.monotonic() >= self._flush_at:
            self._flush()
        return min(self._flush_at, self._tend(False))

    def _note(self, error: Exception) -> None:
        """Count a failure, unless it is of our own making or counted already."""
        if not self._stop.is_set() and not isinstance(error, NotOurs):
            self._failed(_kind(error))

    def _pause_of_stream(self, error: Exception, lasted: float) -> float:
        healthy = self._stage == FOLLOWING and lasted >= HEALTHY_SECONDS
        self._stream_failures = 1 if healthy else self._stream_failures + 1
        now = time.monotonic()
        if self._stage:
            self._away_from = now
            return self._pause(error, self._stream_failures)
        return self._pause_while_away(now - self._away_from)

    def _pause_while_away(self, seconds: float) -> float:
        """Return how long to wait for a server that nobody reaches, and has not for so long: any
        time up to just as long again.

        All its clients lost it at the same moment. A bound that grew with each one's own failures
        would soon differ between them, and most of them come back before the unlucky: as a crest.
        """
        bound = min(LONGEST_BACKOFF, max(self._first_backoff, seconds))
        return random.random() * bound  # noqa: S311 (no secret)

    def _pause(self, error: Exception, failures: int) -> float:
        """Return how long to wait after so many failures in a row: any time up to a growing bound,
        and not less than the server asked for."""
        status = error.status if isinstance(error, Refused) else 500
        refused = isinstance(error, NotOurs) or (status < 500 and status not in LATER)
        longest = REFUSED_BACKOFF if refused else LONGEST_BACKOFF
        doubled = self._first_backoff * 2.0 ** min(failures - 1, 20)
        pause = random.random() * min(longest, doubled)  # noqa: S311 (no secret)
        asked = error.retry_after if isinstance(error, Refused) else None
        spread = random.uniform(1.0, 1.2)  # noqa: S311 (no secret)
        return pause if asked is None else max(pause, asked * spread)

    @contextlib.contextmanager
    def _connected(self, timeout: float, *, also_last: bool = False) -> Iterator[Connection]:
        """Open a connection that `stop` can end. also_last: also when it has."""
        connection = Connection(self._url, timeout=timeout)
        self._connections.append(connection)
        try:
            # Known to `stop` by now, or too late for it to know.
            if self._stop.is_set() and not also_last:
                raise transport.Unreachable("this client is closing")
            yield connection
        finally:
            self._connections.remove(connection)
            connection.close()

    # Flags

    def _poll(self) -> None:
        held = self._held().version
        headers = {**self._headers, "Accept-Encoding": "gzip"}
        if held is not None:
            headers["If-None-Match"] = held.etag
        with self._connected(CALL_SECONDS) as connection:
            answer = transport.ask(
                *(connection, "GET", "/api/v1/sdk/snapshot", headers), limit=SNAPSHOT_LIMIT
            )
        if answer.status not in (200, 304):
            raise Refused(answer.status, _retry_after(answer.headers))
        if answer.status == 304 or self._read(answer.body) == self._held().version:
            self._heard()

    def _read(self, text: str | bytes) -> SnapshotVersion:
        """Take a snapshot if it is wanted; return its version. Raises Garbled, InvalidSnapshot."""
        versions = []

        def known(version: SnapshotVersion) -> bool:
            versions.append(version)
            return not self._wanted(version)

        try:
            text = text if isinstance(text, str) else text.decode()
            snapshot = read_snapshot(text, known)
        except InvalidSnapshot:
            raise
        except (ValueError, RecursionError) as error:
            raise transport.Garbled("the answer is not JSON") from error
        if snapshot is not None:
            self._take(snapshot)
        return versions[-1]

    def _stream(self) -> None:
        headers = {**self._headers, "Accept": "text/event-stream"}
        self._stage = ""
        with self._connected(CALL_SECONDS) as connection:
            self._stage = CONNECTED
            connection.send("GET", "/api/v1/sdk/stream", headers)
            head = connection.head()
            if head.status != 200:
                raise Refused(head.status, _retry_after(head.headers))
            self._read_stream(connection, Parser(SNAPSHOT_LIMIT))

    def _read_stream(self, connection: Connection, parser: Parser) -> None:
        heard = time.monotonic()
        patience = CALL_SECONDS
        while not self._stop.is_set():
            wait = min(self._do_what_is_due(), heard + patience) - time.monotonic()
            data = connection.read_some(max(0.0, wait))
            if data is None:
                raise transport.Unreachable("the stream ended")
            now = time.monotonic()
            if not data:
                if now - heard >= patience:
                    raise transport.TimedOut("the stream fell silent")
                continue
            heard, patience = now, SILENCE_SECONDS
            self._hear_all(parser, data)
            if parser.retry_ms is not None:
                retry = min(parser.retry_ms / 1000, LONGEST_RETRY)
                self._first_backoff = max(FIRST_BACKOFF, retry)

    def _hear_all(self, parser: Parser, data: bytes) -> None:
        # Not where the next is waited for: a whole snapshot's text would wait along.
        for message in parser.feed(data):
            self._hear(message)

    def _hear(self, message: Message) -> None:
        if message.event == "snapshot":
            self._hear_snapshot(message.data)
        elif message.event == "change":
            self._hear_change(Change.parse(_json(message.data)))
        elif message.event == "beat":
            beat = _json(message.data)
            version = beat.get("version") if isinstance(beat, dict) else None
            self._hear_version(version if isinstance(version, int) else None)

    def _hear_snapshot(self, text: str) -> None:
        version, held = self._read(text), self._held().version
        if version == held:
            self._heard()
        elif held is not None and held.store != version.store:
            raise NotOurs
        self._stage = FOLLOWING
        self._failures = 0

    def _hear_change(self, change: Change) -> None:
        try:
            self._change(change)
        except Gap:
            self._hear_version(change.to_version)
        else:
            self._heard()

    def _hear_version(self, version: int | None) -> None:
        """Ask for the snapshot if the server has a newer one, or what it said has no meaning.

        An older one is of a server that lags behind another: it will come.
        """
        held = self._held().version
        if held is None or version is None or version > held.version:
            self._poll()
        elif version == held.version:
            self._heard()

    # Outcomes

    def _flush(self, *, last: bool = False) -> None:
        """Close a tick and report; what fails is sent again as it was. Never raises."""
        held = self._held()
        seconds = held.flush_seconds
        now = time.monotonic()
        self._flush_at = now + self._until_flush(seconds)
        try:
            points = self._points()
            self._outcomes.collect(
                self._assignments(),
                points=points,
                edges=held.histogram_edges,
                running=last or seconds < TICK_SECONDS,
            )
            while self._report() and last:
                pass
            self._post_failures = 0
        except Exception as error:  # noqa: BLE001 (following goes on, whatever reporting does)
            self._post_failures += 1
            self._failed(f"outcomes_{_kind(error)}")
            self._flush_at = now + max(seconds, self._pause(error, self._post_failures))
        if last:
            self._lose_what_is_left()

    def _until_flush(self, seconds: float) -> float:
        """Return how long to wait for the next report: it goes off a while of our own after a
        multiple of the interval by the clock; where ticks are no longer than that, soon, but not
        before the tick has surely ended."""
        soon = SURELY_ENDED + (REPORTED_WITHIN - SURELY_ENDED) * self._lag
        lag = seconds * (soon if seconds >= TICK_SECONDS else self._lag)
        return seconds - (time.time() - lag) % seconds

    def _report(self) -> bool:
        """Send the waiting batch, or the next one; tell whether there was one."""
        if self._batch is None:
            self._batch = self._next_batch()
        if self._batch is None:
            return False
        refused = self._post(self._batch.body)
        batch, self._batch = self._batch, None
        if refused is not None:
            self._outcomes.lose_rows(batch.rows)
            raise refused
        return True

    def _next_batch(self) -> _Batch | None:
        """Return as many of the waiting ticks as one report holds."""
        ticks = self._outcomes.take()
        chosen: list[str] = []
        size = rows = 0
        for i, tick in enumerate(ticks):
            text = json.dumps(tick, separators=(",", ":"))
            if size + len(text) > BATCH_LIMIT - 1000:
                if chosen:
                    self._outcomes.give_back(ticks[i:])
                    break
                # Too large even alone: the flags with the fewest requests go.
                text = self._cut(tick)
            chosen.append(text)
            size += len(text) + 1
            rows += 1 + len(tick["flags"])
        if not chosen:
            return None
        self._seq += 1
        head = json.dumps({"format": FORMAT, **self._reporter(), "seq": self._seq})
        return _Batch(f'{head[:-1]}, "ticks": [{",".join(chosen)}]}}'.encode(), rows)

    def _cut(self, tick: dict[str, Any]) -> str:
        """Leave out rows until the tick has room; count them as dropped."""
        while True:
            text = json.dumps(tick, separators=(",", ":"))
            if len(text) <= BATCH_LIMIT - 1000 or not tick["flags"]:
                return text
            rows = sorted(tick["flags"], key=lambda row: row["requests"] + row["assignments"])
            lost = -(-len(rows) // 4)
            self._outcomes.lose_rows(lost)
            tick["flags"] = rows[lost:]

    def _post(self, body: bytes) -> Refused | None:
        """Send a batch. Return why it was refused for good, None if it was taken.

        Raises Refused or TransportError when it is worth sending again.
        """
        timeout = max(0.1, min(CALL_SECONDS, self._ends_at - time.monotonic()))
        headers = {**self._headers, "Content-Type": "application/json"}
        with self._connected(timeout, also_last=True) as connection:
            answer = transport.ask(
                *(connection, "POST", "/api/v1/sdk/outcomes", headers),
                body=body,
                limit=ANSWER_LIMIT,
            )
        if 200 <= answer.status < 300:
            return None
        refused = Refused(answer.status, _retry_after(answer.headers))
        # With another token, or later, it may be taken; otherwise it will not become better.
        if 400 <= answer.status < 500 and answer.status not in (401, 403, 408, 429):
            return refused
        raise refused

    def _lose_what_is_left(self) -> None:
        if self._batch is not None:
            self._outcomes.lose_rows(self._batch.rows)
        for tick in self._outcomes.take():
            self._outcomes.lose(tick)


class _Batch(NamedTuple):
    """A report as it is sent, and how many rows it holds."""

    body: bytes
    rows: int


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks for, in bounds: a number, or a date after its own."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), LONGEST_RETRY_AFTER)
    until, now = _seconds(text), _seconds(headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max(0.0, until - now), LONGEST_RETRY_AFTER)


_DATE = re.compile(r"\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


def _seconds(text: str) -> float | None:
    """Return an HTTP date (RFC 9110, section 5.6.7) in seconds of some clock, or None."""
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    day, month, *rest = found.groups()
    year, hour, minute, second = map(int, rest)
    try:
        days = date(year, _MONTHS.index(month) // 3 + 1, int(day)).toordinal()
    except ValueError:
        return None
    return ((days * 24.0 + hour) * 60.0 + minute) * 60.0 + second


def _json(text: str) -> Any:
    """Return what JSON says. Raises Garbled."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise transport.Garbled("the answer is not JSON") from error


_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (transport.Unreachable, "unreachable"),
    (transport.TimedOut, "timed_out"),
    (transport.TooLarge, "too_large"),
    (TooLong, "too_large"),
    (transport.Garbled, "garbled"),
    (InvalidSnapshot, "invalid_snapshot"),
)


def _kind(error: Exception) -> str:
    """Return the word under which a failure is counted."""
    if isinstance(error, Refused):
        return f"status_{error.status}"
    return next((word for kind, word in _KINDS if isinstance(error, kind)), "internal")
