"""The hub: everybody hears everything in its order, and nobody holds up anybody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

from sortition.core.model import SnapshotVersion

from flagserver.http.streams import END, Hub, Limits, frame
from flagserver.services.listening import Beginning, Listening
from tests import loops


class Wire:
    """A transport whose other end reads as much as a test lets it."""

    def __init__(self, *, reads: bool = True) -> None:
        self.reads = reads
        self.octets = b""
        self.waiting = 0
        self.closed = self.aborted = False

    def write(self, octets: bytes) -> None:
        self.octets += octets
        self.waiting += 0 if self.reads else len(octets)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


def version(number: int, epoch: int = 1, store: str = "s") -> SnapshotVersion:
    return SnapshotVersion(store, epoch, number)


def listening(*topics: str, known: SnapshotVersion | None = None, **more: Any) -> Listening:
    given: dict[str, Any] = {"permit": "token", "allowed": lambda: True} | more
    return Listening(frozenset(topics), lambda: Beginning((b"first",), known), **given)


def on_the_loop(story: Callable[[Hub], Coroutine[Any, Any, None]], **limits: Any) -> Hub:
    """Run a story with a hub that lives."""
    hub = Hub(Limits(**limits))

    async def run() -> None:
        hub.start()
        await story(hub)
        hub.stop()

    loops.run(asyncio.wait_for(run(), 20))
    return hub


async def until(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110 (a hub has no event for what a test waits for)
        await asyncio.sleep(0.001)


def test_everybody_hears_every_message_in_its_order() -> None:
    wires = [Wire() for _ in range(500)]
    said = [b"message %d" % n for n in range(20)]

    async def story(hub: Hub) -> None:
        with ExitStack() as open_streams:
            for wire in wires:
                open_streams.enter_context(hub.listening(listening("a"), wire))  # type: ignore[arg-type]
            for message in said:
                hub.say("a", message)
                hub.say("b", b"of another topic")
            await until(lambda: hub.counts.sent == 500 * 20)

    on_the_loop(story)

    assert {wire.octets for wire in wires} == {b"".join(map(frame, [b"first", *said]))}


def test_what_a_stream_began_with_is_not_said_again() -> None:
    wire, other = Wire(), Wire()

    async def story(hub: Hub) -> None:
        for number in (4, 5, 6):
            hub.say("a", b"%d" % number, version(number))
        # These begin before the loop has delivered anything of it.
        with (
            hub.listening(listening("a", known=version(5)), wire),  # type: ignore[arg-type]
            hub.listening(listening("a", known=version(5, store="t")), other),  # type: ignore[arg-type]
        ):
            hub.say("a", b"epoch", version(1, epoch=2))
            await until(lambda: wire.octets.endswith(frame(b"epoch")))

    on_the_loop(story)

    assert wire.octets == frame(b"first") + frame(b"6") + frame(b"epoch")
    assert frame(b"4") in other.octets, "of another store's versions nothing is known"


def test_who_reads_nothing_of_what_waits_is_dropped_in_time() -> None:
    reader, deaf = Wire(), Wire(reads=False)

    async def story(hub: Hub) -> None:
        with (
            hub.listening(listening("a"), reader),  # type: ignore[arg-type]
            hub.listening(listening("a"), deaf),  # type: ignore[arg-type]
        ):
            await until(lambda: deaf.aborted)
            assert hub.counts.open == 1

    hub = on_the_loop(story, send_seconds=0.05)

    assert (hub.counts.dropped, reader.aborted) == (1, False)


def test_who_reads_slowly_but_reads_stays() -> None:
    slow = Wire(reads=False)

    async def story(hub: Hub) -> None:
        with hub.listening(listening("a"), slow):  # type: ignore[arg-type]
            slow.waiting = 1_000_000
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                slow.waiting -= 1
                await asyncio.sleep(0.005)
            assert not slow.aborted

    on_the_loop(story, send_seconds=0.05)


def test_not_more_waits_for_anybody_than_there_may() -> None:
    deaf = Wire(reads=False)

    async def story(hub: Hub) -> None:
        with hub.listening(listening("a"), deaf):  # type: ignore[arg-type]
            for _ in range(100):
                hub.say("a", b"x" * 1000)
            await until(lambda: deaf.aborted)

    hub = on_the_loop(story, pending_octets=10_000)

    assert hub.counts.dropped == 1
    assert 9_000 < len(deaf.octets) < 11_100


def test_a_large_message_for_somebody_who_reads_is_sent() -> None:
    wire = Wire()

    async def story(hub: Hub) -> None:
        with hub.listening(listening("a"), wire):  # type: ignore[arg-type]
            hub.say("a", b"x" * 50_000)
            await until(lambda: len(wire.octets) > 50_000)

    on_the_loop(story, pending_octets=10_000)


def test_nothing_is_said_to_who_may_not_hear_it_any_more() -> None:
    wire, other = Wire(), Wire()
    good = {"mine": True, "other": True}

    async def story(hub: Hub) -> None:
        mine = listening("a", permit="mine", allowed=lambda: good["mine"])
        others = listening("a", permit="other", allowed=lambda: good["other"])
        with hub.listening(mine, wire), hub.listening(others, other):  # type: ignore[arg-type]
            good["mine"] = False
            hub.look_soon()
            hub.say("a", b"secret")
            await until(lambda: other.octets.endswith(frame(b"secret")))

    hub = on_the_loop(story)

    assert wire.octets == frame(b"first") + END
    assert (wire.closed, hub.counts.expelled) == (True, 1)


def test_a_planned_end_is_spread_over_its_time() -> None:
    wires = [Wire() for _ in range(400)]
    closed: list[float] = []

    async def story(hub: Hub) -> None:
        with ExitStack() as open_streams:
            for wire in wires:
                wire.close = lambda: closed.append(time.monotonic())  # type: ignore[method-assign]
                open_streams.enter_context(hub.listening(listening("a"), wire))  # type: ignore[arg-type]
            await hub.drain(0.5)
            assert not hub.has_room

    on_the_loop(story)

    start = closed[0]
    tenths = [sum(start + n / 20 <= at < start + (n + 1) / 20 for at in closed) for n in range(10)]
    assert len(closed) == 400
    assert all(wire.octets.endswith(END) for wire in wires)
    assert max(tenths) < 3 * 40


def test_a_planned_end_of_few_streams_is_short() -> None:
    async def story(hub: Hub) -> None:
        with hub.listening(listening("a"), Wire()):  # type: ignore[arg-type]
            start = time.monotonic()
            await hub.drain(60)
            assert time.monotonic() - start < 1

    on_the_loop(story)


def test_what_is_said_to_a_hub_that_does_not_live_is_nothing() -> None:
    hub = Hub()
    hub.say("a", b"before")
    on_the_loop_done = on_the_loop(_nothing)
    on_the_loop_done.say("a", b"after")


async def _nothing(_hub: Hub) -> None:
    await asyncio.sleep(0)
