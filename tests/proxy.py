"""A TCP proxy that can misbehave, to be put between real processes.

    with Proxy(server.url) as proxy:            # a URL, a port, or the path of a Unix socket
        store = RedisStore(proxy.url)
        proxy.down.delay = 2.0                  # `up` is to the server, `down` to the client
        proxy.hole()                            # all is swallowed; new connections are taken in
        proxy.heal()                            # as if nothing had been; what lost bytes stays mute
        lost = proxy.lose_answer(b"EVALSHA")    # the effect happens, the answer never arrives
        lost.wait()

Faults hold for open connections and for new ones, and may be changed at any moment from any thread.
A *piece* is what one read brought, at most PIECE octets: on loopback one message of a stream, one
command or one answer, when they are small. One thread serves all connections of a proxy.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

PIECE = 65_536
WAIT_SECONDS = 20.0
"""How long anything here is waited for before the test fails."""

HELD_SECONDS = 0.01
"""How often what is held back looks whether it may go on."""

SLICES = 20
"""Into how many writes a second of a bounded rate is cut."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for a close that sends RST."""


class Watch:
    """Something that is to happen once: `wait` for it, or look at `happened`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._event = threading.Event()

    @property
    def happened(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float = WAIT_SECONDS) -> None:
        assert self._event.wait(seconds), f"waited {seconds:g} s for {self._what}"

    def tell(self) -> None:
        self._event.set()


@dataclass
class Way:
    """What happens to octets in one direction.

    delay: seconds that each piece takes.  rate: octets a second.  piece: octets written at once.
    hole: pieces are swallowed.  held: pieces wait until this is False again; a change that sets it
    holds the piece that it saw, too.
    cut_after: octets of each connection that pass before it is cut.  by_reset: by RST, else by FIN.
    passed: octets that went through, of all connections.
    """

    delay: float = 0.0
    rate: float = math.inf
    piece: int = PIECE
    hole: bool = False
    held: bool = False
    cut_after: int | None = None
    by_reset: bool = True
    passed: int = 0
    changes: list[tuple[Callable[[bytes], bytes | None], Watch]] = field(default_factory=list)

    def drop(self, holding: bytes) -> Watch:
        """Swallow the next piece that holds these octets, and nothing else."""
        return self.change(lambda data: b"" if holding in data else None, f"{holding!r} to drop")

    def replace(self, old: bytes, new: bytes) -> Watch:
        """Pass the next piece that holds `old` with `new` in its place."""
        return self.change(
            lambda data: data.replace(old, new, 1) if old in data else None, f"{old!r} to replace"
        )

    def change(self, change: Callable[[bytes], bytes | None], what: str) -> Watch:
        """Pass the next piece for which this returns octets in that form; None: not this one."""
        watch = Watch(what)
        self.changes.append((change, watch))
        return watch

    def changed(self, data: bytes) -> bytes:
        """Return a piece as the first change that wants it makes it."""
        for each in tuple(self.changes):
            made = each[0](data)
            if made is not None:
                self.changes.remove(each)
                each[1].tell()
                return made
        return data

    def heal(self) -> None:
        """Pass everything as it comes."""
        self.delay, self.rate, self.piece = 0.0, math.inf, PIECE
        self.hole = self.held = False
        self.cut_after = None
        self.changes.clear()


@dataclass
class _Loss:
    """An answer that is to be lost."""

    asked: bytes
    reset: bool
    watch: Watch
    then: Callable[[], None]


class Proxy:
    """Listens on a loopback port of its own and passes on to a server, as well as it is told to."""

    def __init__(self, upstream: str | int) -> None:
        """upstream: a URL (`http://…`, `redis://…`, `unix://…`), a loopback port, or a path."""
        self.upstream = upstream
        """Where new connections lead. May be changed: another server then stands at this place."""
        self.up = Way()
        self.down = Way()
        self.accepted: list[float] = []
        """When each connection came, by the monotonic clock."""
        self._losses: list[_Loss] = []
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0

    # Its life

    def __enter__(self) -> Self:
        self._thread.start()
        self.listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    @property
    def url(self) -> str:
        """This place as a URL of the upstream's form."""
        parts = urlsplit(self.upstream if isinstance(self.upstream, str) else "")
        scheme = {"unix": "redis", "": "http"}.get(parts.scheme, parts.scheme)
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    # What it can do to everybody

    def hole(self) -> None:
        """Swallow everything in both directions: a network that lost its way."""
        self.up.hole = self.down.hole = True

    def hold(self) -> None:
        """Keep everything back in both directions; `heal` lets it go on."""
        self.up.held = self.down.held = True

    def heal(self) -> None:
        """Pass everything as it comes, and listen."""
        self.up.heal()
        self.down.heal()
        self._losses.clear()
        self.listen()

    def reset(self) -> None:
        """End every open connection with RST."""
        self._do(self._each(lambda link: link.cut(reset=True)))

    def cut(self) -> None:
        """End every open connection in order, as a server that ends does."""
        self._do(self._each(lambda link: link.cut(reset=False)))

    def refuse(self) -> None:
        """Listen no more and end what is open: connecting is refused."""
        self._do(self._refuse())
        self.reset()

    def listen(self) -> None:
        """Listen (again), at the same port."""
        self._do(self._listen())

    def lose_answer(
        self, asked: bytes, *, reset: bool = False, then: Callable[[], None] = lambda: None
    ) -> Watch:
        """Let the next piece upwards that holds these octets take effect, and lose what the server
        says to it. The connection then stays mute, or ends with RST. then: happens at once."""
        loss = _Loss(asked, reset, Watch(f"the answer to {asked!r} to be lost"), then)
        self._losses.append(loss)
        return loss.watch

    # How

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._take, "127.0.0.1", self.port, backlog=4096
            )
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            # What was taken in a moment ago becomes a link that can be cut.
            await asyncio.sleep(0)

    async def _each(self, what: Callable[[_Link], None]) -> None:
        for link in tuple(self._links):
            what(link)

    async def _end(self) -> None:
        await self._refuse()
        # Who was accepted a moment ago is taken first: a task that never began closes nothing.
        await _turns()
        await self._each(lambda link: link.cut(reset=True))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await _turns()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(time.monotonic())
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        except OSError:
            # Nobody is there: as near to a refusal as somebody who has accepted can come.
            link.cut(reset=True)
        finally:
            link.cut(reset=False)
            self._links.discard(link)

    def loss_for(self, data: bytes) -> _Loss | None:
        """Return the loss that is planned for what is asked here, and forget it."""
        for loss in tuple(self._losses):
            if loss.asked in data:
                self._losses.remove(loss)
                return loss
        return None


class _Link:
    """One connection through the proxy: a client's and the one to the server."""

    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers = [writer]
        self._mute = False
        self._loss: _Loss | None = None
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Pass on until one side ends. Raises OSError when there is no server."""
        proxy = self._proxy
        reader, writer = await _open(proxy.upstream)
        self._writers.append(writer)
        pumps = (
            asyncio.create_task(self._pump(proxy.up, self._client[0], writer, self._asked)),
            asyncio.create_task(self._pump(proxy.down, reader, self._client[1], self._answered)),
            asyncio.create_task(self._ended.wait()),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def cut(self, *, reset: bool) -> None:
        """End both sides."""
        self._ended.set()
        for writer in self._writers:
            connection = writer.get_extra_info("socket")
            if reset and connection is not None and connection.fileno() >= 0:
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()
            else:
                writer.close()

    async def _pump(
        self,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        seen: Callable[[bytes], bytes],
    ) -> None:
        count = 0
        with suppress(OSError):
            while data := await reader.read(PIECE):
                await _until_let_go(way)
                if way.delay:
                    await asyncio.sleep(way.delay)
                if way.hole:
                    # What was swallowed never comes again, so nothing after it makes sense.
                    self._mute = True
                data = seen(way.changed(data))
                if self._mute:
                    continue
                # Whoever saw the piece may have held it.
                await _until_let_go(way)
                count = await self._pass(way, writer, data, count)
            if self._mute or way.hole:
                # Nor does the word that it is over get through.
                await self._ended.wait()

    async def _pass(self, way: Way, writer: asyncio.StreamWriter, data: bytes, count: int) -> int:
        """Write a piece; return how many octets this connection has passed in this direction."""
        if way.cut_after is not None:
            data = data[: max(0, way.cut_after - count)]
        step = way.piece
        if way.rate < math.inf:
            step = max(1, min(step, int(way.rate / SLICES)))
        for start in range(0, len(data), step):
            part = data[start : start + step]
            # At any rate a turn of the loop, so that small steps arrive as such.
            await asyncio.sleep(len(part) / way.rate)
            way.passed += len(part)
            writer.write(part)
            await writer.drain()
        count += len(data)
        if way.cut_after is not None and count >= way.cut_after:
            self.cut(reset=way.by_reset)
        return count

    def _asked(self, data: bytes) -> bytes:
        self._loss = self._loss or self._proxy.loss_for(data)
        return data

    def _answered(self, data: bytes) -> bytes:
        loss = self._loss
        if loss is None:
            return data
        self._mute = True
        if loss.reset:
            self.cut(reset=True)
        loss.then()
        loss.watch.tell()
        return b""


async def _until_let_go(way: Way) -> None:
    while way.held:  # noqa: ASYNC110 (another thread says when)
        await asyncio.sleep(HELD_SECONDS)


async def _open(upstream: str | int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(upstream, int):
        return await asyncio.open_connection("127.0.0.1", upstream)
    parts = urlsplit(upstream)
    if parts.scheme in ("", "unix"):
        return await asyncio.open_unix_connection(parts.path)
    return await asyncio.open_connection(parts.hostname, parts.port)


@contextmanager
def nowhere() -> Iterator[int]:
    """A loopback port where connecting is neither taken nor refused: packets are lost (Linux)."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", port))
        yield port


async def _turns() -> None:
    """Let the loop do what is due: begin tasks, close transports."""
    for _ in range(5):
        await asyncio.sleep(0)
