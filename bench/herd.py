"""How a herd of clients comes back to a server that was killed: as a crowd, or one by one."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import herd_members, places, server
from bench.harness.percentiles import percentile
from bench.harness.report import Argument, Options, Row, at_most, run, say
from bench.harness.talk import Talker

PROCESSES = 4
FLAGS = 10
SETTLE_SECONDS = 3.0
MOST_TIMES_THE_MEAN = 3.0


def measure(options: Options) -> Iterator[Row]:
    """Kill what serves, and look when each client hears it again."""
    clients = options.of(quick=20, whole=options.given["clients"])
    server.allow_many_files()
    with ExitStack() as stack:
        say("filling and starting a server")
        serving = stack.enter_context(server.serving(FLAGS))
        say(f"starting {clients:,} clients in {PROCESSES} processes")
        told = (places.installed(), Path(herd_members.__file__), clients // PROCESSES)
        environment = server.sdk_environment(serving)
        talkers = [Talker(stack, *told, environment=environment) for _ in range(PROCESSES)]
        ready = sum(talker.hear() for talker in talkers)
        time.sleep(SETTLE_SECONDS)
        say("the server is killed")
        killed = time.monotonic_ns()
        serving.kill_web()
        for talker in talkers:
            talker.say(f"watch {killed}")
        back = [at for talker in talkers for at in talker.hear()]
    seconds = [(at - killed) / 1e9 for at in back if at is not None]
    lost = len(back) - len(seconds)
    yield Row("ready", "clients that followed before", ready)
    what, bar = "clients that did not come back", at_most(0)
    yield Row("lost", what, lost, "", bar, f"within {herd_members.BACK_SECONDS:g} s")
    yield from of_arrivals(seconds)


def of_arrivals(seconds: Sequence[float]) -> Iterator[Row]:
    """Yield how the arrivals, in seconds after the kill, are spread."""
    first, last = min(seconds), max(seconds)
    yield Row("first", "the first is back after", first, "s")
    yield Row("half", "half of them are back after", percentile(seconds, 50), "s")
    yield Row("nearly_all", "99 % are back after", percentile(seconds, 99), "s")
    yield Row("last", "the last is back after", last, "s")
    largest = max(Counter(int(at - first) for at in seconds).values())
    mean = len(seconds) / max(1.0, last - first)
    note = f"{largest:,} in one second, {mean:.0f} a second from the first to the last"
    what = "the largest second over the mean"
    yield Row("largest", what, largest / mean, "x", at_most(MOST_TIMES_THE_MEAN), note)


if __name__ == "__main__":
    run(
        measure,
        title="How a herd comes back",
        method="`flagserver run`, whose serving process is killed and started again by itself; "
        "clients of the installed wheel, a thread each, that followed it; when each has heard it "
        "again.",
        arguments=[Argument("clients", 2000, "how many clients")],
    )
