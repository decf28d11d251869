"""The hub: every event stream of this process, on its one loop, without a thread for each.

What is said is made into octets once and written to each connection as it is, some at a time with a
look at the other requests in between. Whoever reads too slowly is dropped: it begins anew with the
whole of it. Whoever may listen no longer is ended before anything else is said.

The octets go past the server, onto the transport below it, which is half the cost of the way
through it (`docs/adr/0007-serving-stack.md`). So the frames here are those of `Transfer-Encoding:
chunked`, which the server chose when it wrote the head.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sortition.core.model import SnapshotVersion

from flagserver.services.listening import Listening

log = logging.getLogger(__name__)

RETRY_SECONDS = 5
"""What somebody is told who finds no place."""

LOOK_SECONDS = 1.0
"""How often it is looked whether streams may go on, whether they are read, and whether to beat."""

AT_ONCE = 100
"""How many streams are written to before other requests have their turn: about a millisecond."""

CLOSED_PER_SECOND = 200
"""How fast streams are closed at a planned end: their clients come back just as slowly."""

LINGER_SECONDS = 1.0
"""How long a closed stream may take to be read to its end."""

LARGE = 16 * 1024
"""From this length on a message is written without being copied."""

END = b"0\r\n\r\n"


@dataclass(frozen=True)
class Limits:
    """How streams behave.

    most: of one process.  send_seconds: how long a client may read nothing of what waits for it.
    pending_octets: what may wait for it, besides what it was sent at the beginning.
    """

    most: int = 12_000
    beat_seconds: float = 10.0
    send_seconds: float = 30.0
    pending_octets: int = 256 * 1024


@dataclass
class Counts:
    """What happened to this process's streams. Numbers that only grow, but for `open`."""

    open: int = 0
    opened: int = 0
    refused: int = 0
    dropped: int = 0
    """For reading too slowly."""
    expelled: int = 0
    """For a token or a session that is no longer good."""
    sent: int = 0
    """Messages, one for each stream that got it; beats and beginnings are not among them."""


class Stream:
    """One connection that listens."""

    __slots__ = (
        "_allowance",
        "_read",
        "_read_at",
        "_transport",
        "_written",
        "beats_at",
        "ends_at",
        "known",
        "listening",
    )

    def __init__(self, listening: Listening, transport: asyncio.Transport, limits: Limits) -> None:
        now = time.monotonic()
        self.listening = listening
        self.known: SnapshotVersion | None = None
        self.beats_at = now + limits.beat_seconds
        self.ends_at = now + listening.life_seconds
        self._transport = transport
        self._allowance = limits.pending_octets
        self._written = 0
        self._read = 0
        self._read_at = now

    def begin(self) -> None:
        """Send what it is sent at once."""
        beginning = self.listening.begin()
        self.known = beginning.known
        for message in beginning.messages:
            self._allowance += len(message)
            self._write_large(message) if len(message) > LARGE else self.write(frame(message))

    def write(self, octets: bytes) -> bool:
        """Write octets as they are. Returns whether there was room for them."""
        if self._transport.is_closing():
            return True
        waiting = self._transport.get_write_buffer_size()
        if waiting and waiting + len(octets) > self._allowance:
            return False
        self._transport.write(octets)
        self._written += len(octets)
        return True

    def _write_large(self, message: bytes) -> None:
        self.write(b"%x\r\n" % len(message))
        self.write(message)
        self.write(b"\r\n")

    def has_seen(self, version: SnapshotVersion | None) -> bool:
        """Tell whether a message of that version is older than what it began with."""
        held = self.known
        if version is None or held is None or version.store != held.store:
            return False
        return (version.epoch, version.version) <= (held.epoch, held.version)

    def is_stuck(self, now: float, patience: float) -> bool:
        """Tell whether nothing of what waits for it was read for so many seconds."""
        waiting = self._transport.get_write_buffer_size()
        read = self._written - waiting
        if waiting == 0 or read != self._read:
            self._read, self._read_at = read, now
        return now - self._read_at > patience

    def finish(self, loop: asyncio.AbstractEventLoop) -> None:
        """End it in good order; whoever does not read that in time is cut off."""
        if self._transport.is_closing():
            return
        self._transport.write(END)
        self._transport.close()
        if self._transport.get_write_buffer_size():
            loop.call_later(LINGER_SECONDS, self._transport.abort)

    def drop(self) -> None:
        """Cut it off, with all that waits for it."""
        self._transport.abort()


@dataclass(frozen=True, slots=True)
class _Said:
    """A message on its way to those who listen to a topic."""

    topic: str
    frame: bytes
    version: SnapshotVersion | None


_LOOK = _Said("", b"", None)
"""Stands between messages for a look at who may still listen."""


class Hub:
    """All streams of this process. What is not said to be for any thread is called on the loop."""

    def __init__(
        self, limits: Limits | None = None, *, chance: Callable[[], float] = random.random
    ) -> None:
        self.limits = limits or Limits()
        self.counts = Counts()
        self._chance = chance
        self._streams: set[Stream] = set()
        self._by_topic: dict[str, set[Stream]] = {}
        self._said: deque[_Said] = deque()
        self._something = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    # What is said

    def say(self, topic: str, message: bytes, version: SnapshotVersion | None = None) -> None:
        """Send a message to whoever listens to a topic. From any thread; never waits."""
        self._put(_Said(topic, frame(message), version))

    def look_soon(self) -> None:
        """Look who may still listen, before anything that is said from now on. From any thread."""
        self._put(_LOOK)

    def _put(self, said: _Said) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._take, said)

    def _take(self, said: _Said) -> None:
        self._said.append(said)
        self._something.set()

    # Its own life

    def start(self) -> None:
        """Begin, on the loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [
            self._loop.create_task(self._deliver(), name="sortition-deliver"),
            self._loop.create_task(self._keep_looking(), name="sortition-look"),
        ]

    def stop(self) -> None:
        """End at once."""
        self._ending = True
        for task in self._tasks:
            task.cancel()
        for stream in tuple(self._streams):
            stream.drop()

    async def drain(self, seconds: float) -> None:
        """Take no more streams and close those there are, at moments spread over so many seconds.

        Fewer streams take less time: they are closed as fast as their clients may come back.
        """
        self._ending = True
        loop = asyncio.get_running_loop()
        streams = tuple(self._streams)
        start, spread = loop.time(), min(seconds, len(streams) / CLOSED_PER_SECOND)
        moments = sorted(self._chance() * spread for _ in streams)
        for moment, stream in zip(moments, streams, strict=True):
            await asyncio.sleep(max(0.0, start + moment - loop.time()))
            stream.finish(loop)

    # Streams

    @property
    def has_room(self) -> bool:
        """Whether one more stream may begin."""
        return not self._ending and len(self._streams) < self.limits.most

    def listeners(self, *prefixes: str) -> int:
        """Return how many listen to topics that begin like that. From any thread."""
        topics = tuple(self._by_topic.items())
        return sum(len(streams) for name, streams in topics if name.startswith(prefixes))

    @contextmanager
    def listening(self, listening: Listening, transport: asyncio.Transport) -> Iterator[None]:
        """Let a connection listen, for as long as the block lasts."""
        stream = Stream(listening, transport, self.limits)
        try:
            # Nothing comes between these two: what is said from now on, it hears.
            stream.begin()
            self._add(stream)
            yield
        finally:
            self._remove(stream)
            listening.ended()

    def _add(self, stream: Stream) -> None:
        self._streams.add(stream)
        for topic in stream.listening.topics:
            self._by_topic.setdefault(topic, set()).add(stream)
        self.counts.opened += 1
        self.counts.open = len(self._streams)

    def _remove(self, stream: Stream) -> None:
        self._streams.discard(stream)
        for topic in stream.listening.topics:
            listeners = self._by_topic.get(topic, set())
            listeners.discard(stream)
            if not listeners:
                self._by_topic.pop(topic, None)
        self.counts.open = len(self._streams)

    # On the loop

    async def _deliver(self) -> None:
        """One message after the other, so that every stream hears them in their order."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._said:
                said = self._said.popleft()
                try:
                    if said is _LOOK:
                        await self._look()
                    else:
                        await self._send(said)
                except Exception:
                    log.exception("a message did not get through")

    async def _send(self, said: _Said) -> None:
        for number, stream in enumerate(tuple(self._by_topic.get(said.topic, ())), 1):
            if not stream.has_seen(said.version):
                self._write(stream, said.frame)
                self.counts.sent += 1
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _write(self, stream: Stream, octets: bytes) -> None:
        if not stream.write(octets):
            self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        stream.drop()
        self._remove(stream)
        self.counts.dropped += 1

    async def _keep_looking(self) -> None:
        pause = min(LOOK_SECONDS, self.limits.beat_seconds, self.limits.send_seconds) / 2
        while True:
            await asyncio.sleep(pause)
            try:
                await self._look()
            except Exception:
                log.exception("looking after the streams failed; trying again")

    async def _look(self) -> None:
        """See who may go on, who reads, and for whom it is time to beat."""
        permits: dict[Hashable, bool] = {}
        for number, stream in enumerate(tuple(self._streams), 1):
            self._look_at(stream, permits)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _look_at(self, stream: Stream, permits: dict[Hashable, bool]) -> None:
        now, listening = time.monotonic(), stream.listening
        if listening.permit not in permits:
            permits[listening.permit] = listening.allowed()
        if not permits[listening.permit] or now >= stream.ends_at:
            self.counts.expelled += not permits[listening.permit]
            self._remove(stream)
            stream.finish(asyncio.get_running_loop())
        elif stream.is_stuck(now, self.limits.send_seconds):
            self._drop(stream)
        elif listening.beat is not None and now >= stream.beats_at:
            stream.beats_at = now + self.limits.beat_seconds
            self._write(stream, frame(listening.beat()))


def frame(message: bytes) -> bytes:
    """Return a message as one chunk of `Transfer-Encoding: chunked` (RFC 9112, 7.1)."""
    return b"%x\r\n%s\r\n" % (len(message), message)
