"""What one changed flag costs a client, among few flags and among many."""

from __future__ import annotations

import socket
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sortition.testing import FakeServer

from bench.harness import meter, places, server
from bench.harness.report import Argument, Options, Row, at_most, run, say
from bench.harness.talk import Talker

FEW = 100
HEAD = b"event: change\n"
WAIT_SECONDS = 30.0


class Listener:
    """A raw stream beside the client's: what goes over the wire."""

    def __init__(self, serving: server.Server, stack: ExitStack) -> None:
        self._socket = stack.enter_context(socket.create_connection(("127.0.0.1", serving.port)))
        self._socket.settimeout(WAIT_SECONDS)
        self._held = b""
        request = f"GET /api/v1/sdk/stream HTTP/1.1\r\nHost: {serving.url.partition('//')[2]}\r\n"
        request += f"Authorization: Bearer {serving.sdk_key}\r\n\r\n"
        self._socket.sendall(request.encode())
        self._until(b"event: snapshot\n")
        self._until(b"\n\n")

    def change(self) -> int:
        """Wait for the next change and return its octets, from its first line to the blank one."""
        self._until(HEAD)
        return len(HEAD) + self._until(b"\n\n")

    def _until(self, mark: bytes) -> int:
        """Read to the end of a mark; return how many octets that was."""
        deadline = time.monotonic() + WAIT_SECONDS
        while mark not in self._held:
            if time.monotonic() > deadline:
                sys.exit(f"{mark!r} did not come on the stream in {WAIT_SECONDS:g} s")
            part = self._socket.recv(1 << 20)
            if not part:
                sys.exit("the stream ended")
            self._held += part
        before, _, self._held = self._held.partition(mark)
        return len(before) + len(mark)


class Side:
    """One server, one metered client of it, one raw stream."""

    def __init__(self, flags: int, stack: ExitStack) -> None:
        say(f"filling and starting a server with {flags:,} flags")
        self._server = stack.enter_context(server.serving(flags))
        environment = server.sdk_environment(self._server)
        self._meter = metered(stack, environment)
        self._listener = Listener(self._server, stack)
        self._turns = 0
        self.octets: list[int] = []
        self.microseconds: list[float] = []

    def turn(self) -> None:
        """Change the flag once and take what it cost."""
        self._turns += 1
        self._meter.say("next")
        self._server.change(100 if self._turns % 2 else 0)
        self.octets.append(self._listener.change())
        self.microseconds.append(self._meter.hear() / 1000)


def metered(stack: ExitStack, environment: Mapping[str, str]) -> Talker:
    """Start a metered client and wait until it is ready."""
    talker = Talker(stack, places.installed(), Path(meter.__file__), environment=environment)
    talker.hear()
    return talker


def measure(options: Options) -> Iterator[Row]:
    """Change one flag on both sides in turns."""
    many = options.of(quick=300, whole=options.given["flags"])
    changes = options.of(quick=3, whole=60)
    with ExitStack() as stack:
        few_side, many_side = Side(FEW, stack), Side(many, stack)
        say(f"{changes} changes on each side, in turns")
        for _ in range(changes):
            few_side.turn()
            many_side.turn()
    few_cpu = statistics.median(few_side.microseconds)
    many_cpu = statistics.median(many_side.microseconds)
    few_octets = statistics.median(few_side.octets)
    many_octets = statistics.median(many_side.octets)
    sizes = f"{many:,} flags over {FEW}"
    yield Row("few_octets", f"on the stream, among {FEW} flags", few_octets, "octets")
    yield Row("many_octets", f"on the stream, among {many:,} flags", many_octets, "octets")
    what = "octets of one change"
    yield Row("octets", f"{what}, {sizes}", many_octets / few_octets, "x", at_most(1.1))
    yield Row("few_cpu", f"CPU of the client's thread, among {FEW} flags", few_cpu, "us")
    yield Row("many_cpu", f"CPU of the client's thread, among {many:,} flags", many_cpu, "us")
    yield Row("cpu", f"CPU to take it in, {sizes}", many_cpu / few_cpu, "x", at_most(2.0))
    yield from of_rest(many)


def of_rest(many: int) -> Iterator[Row]:
    """Yield what a client costs to which nothing happens, with its look at what was counted."""
    pace = 0.1
    with (
        ExitStack() as stack,
        FakeServer({f"flag-{n}": 25.0 for n in range(many)}, flush_seconds=pace) as fake,
    ):
        talker = metered(stack, {"SORTITION_URL": fake.url, "SORTITION_KEY": fake.key})
        talker.say("rest")
        looks = meter.REST_SECONDS / pace
        cost = talker.hear() / 1e6 / looks
    what = f"CPU of one look at what was counted, {many:,} flags of which none was asked"
    yield Row("look", what, cost, "ms", note="every 5 s by default")


if __name__ == "__main__":
    run(
        measure,
        title="What one changed flag costs a client",
        method="Real servers with few and with many flags, a client of the installed wheel on "
        "each, the same flag changed in turns; octets of the event without HTTP's framing; CPU "
        "time of the client's thread; medians.",
        arguments=[Argument("flags", 10_000, "how many are many")],
    )
