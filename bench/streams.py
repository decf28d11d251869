"""Many streams on one process: what an event takes to reach all, and what requests feel of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import getter, listeners, server
from bench.harness.percentiles import percentile
from bench.harness.report import Argument, Options, Row, at_most, run, say
from bench.harness.talk import Talker

EVENTS_PER_SECOND = 2
GETS_PER_SECOND = 50
KIB = 1024
SETTLE_SECONDS = 3.0

BARRED = 2000
"""The bars are for so many streams."""
NEVER = {"refused", "lost", "get_failed"}
"""Rows that hold for any number of streams."""


def measure(options: Options) -> Iterator[Row]:
    """Open the streams, send events, ask beside it."""
    streams = options.of(quick=50, whole=options.given["streams"])
    events = options.of(quick=4, whole=options.given["events"])
    most = server.allow_many_files()
    if streams > most - 100:
        sys.exit(f"{streams} streams need more open files than the {most} that are allowed here")
    with ExitStack() as stack:
        say("filling and starting a server")
        serving = stack.enter_context(server.serving(200))
        # Memory that the first of everything takes is not that of a stream.
        at_rest(serving, stack, 1.0)
        seconds, cpu = options.of(quick=1, whole=10), serving.web_cpu()
        alone = at_rest(serving, stack, seconds)
        cpu_alone = (serving.web_cpu() - cpu) / seconds
        before = serving.web_memory()
        say(f"opening {streams:,} streams")
        told = (streams, serving.port, serving.sdk_key)
        talker = Talker(stack, sys.executable, Path(listeners.__file__), *told)
        opened = talker.hear()
        time.sleep(SETTLE_SECONDS)
        memory = (serving.web_memory() - before) / KIB / max(1, opened["connected"])
        say(f"{events} events, {EVENTS_PER_SECOND}/s, {GETS_PER_SECOND} GETs/s")
        asking = asked(serving, stack)
        cpu, since = serving.web_cpu(), time.monotonic()
        began = paced_changes(serving, events)
        cpu = serving.web_cpu() - cpu - cpu_alone * (time.monotonic() - since)
        asking.say("report")
        gets = asking.hear()
        talker.say("report")
        heard = talker.hear()
    barred = streams <= BARRED
    found = [*of_events(streams, opened, heard, began), *of_requests(alone, gets)]
    found.append(Row("memory", "private memory for each stream", memory, "KiB", at_most(20)))
    for row in found:
        # More streams than the bars are for are told for themselves, but none may be lost.
        yield row if barred or row.id in NEVER else replace(row, bar=None)
    what = "CPU of the server for an event on a stream, that of GETs alone taken off"
    yield Row("cpu", what, cpu / events / streams * 1e6, "us")


def of_requests(alone: list[float], gets: dict[str, Any]) -> Iterator[Row]:
    """Yield what requests felt."""
    yield Row("get_failed", "GETs that failed", gets["failed"], "", at_most(0))
    yield Row("get_alone_p99", "GET without streams, p99", percentile(alone, 99), "ms")
    yield Row("get_p50", "GET, p50", percentile(gets["taken"], 50), "ms")
    yield Row("get_p99", "GET, p99", percentile(gets["taken"], 99), "ms", at_most(25))


def of_events(
    streams: int, opened: dict[str, Any], heard: dict[str, Any], began: list[int]
) -> Iterator[Row]:
    """Yield what became of the events."""
    times = [heard["times"][version] for version in sorted(heard["times"], key=_version)]
    arrived = sum(len(each) for each in times)
    what, expected = "streams that were refused or closed", streams - opened["connected"]
    note = f"{streams:,} opened in {opened['seconds']:.1f} s"
    yield Row("refused", what, expected + heard["closed"], "", at_most(0), note)
    lost, note = streams * len(began) - arrived, f"of {streams * len(began):,}"
    yield Row("lost", "events that did not arrive", lost, "", at_most(0), note)
    if len(times) != len(began):
        yield Row("event_p99", "an event, p99", None, "ms", at_most(80), "whole events are missing")
        return
    taken = [(at - start) / 1e6 for start, each in zip(began, times, strict=True) for at in each]
    last = [(max(each) - start) / 1e6 for start, each in zip(began, times, strict=True)]
    what = f"an event of {heard['octets']} octets, from the API's call to a stream"
    yield Row("event_p50", f"{what}, p50", percentile(taken, 50), "ms")
    yield Row("event_p99", f"{what}, p99", percentile(taken, 99), "ms", at_most(80))
    yield Row("event_last", "until the last stream has it, median", percentile(last, 50), "ms")


def at_rest(serving: server.Server, stack: ExitStack, seconds: float) -> list[float]:
    """Return what GETs take while nothing else happens (ms)."""
    asking = asked(serving, stack)
    time.sleep(seconds)
    asking.say("report")
    taken: list[float] = asking.hear()["taken"]
    return taken


def asked(serving: server.Server, stack: ExitStack) -> Talker:
    """Begin to ask for a flag, as people's pages and pipelines do."""
    path = f"/api/v1/flags/{server.MOVING}"
    told = (serving.port, serving.admin_key, path, GETS_PER_SECOND)
    return Talker(stack, sys.executable, Path(getter.__file__), *told)


def paced_changes(serving: server.Server, events: int) -> list[int]:
    """Change a flag at a steady pace; return when each call began (monotonic, ns)."""
    began = []
    due = time.monotonic()
    for number in range(events):
        time.sleep(max(0.0, due - time.monotonic()))
        began.append(serving.change(0 if number % 2 else 100))
        due += 1 / EVENTS_PER_SECOND
    time.sleep(SETTLE_SECONDS)
    return began


def _version(text: str) -> int:
    return int(text.rpartition(".")[2])


if __name__ == "__main__":
    run(
        measure,
        title="Many streams on one process",
        method="`flagserver run` with its embedded store and 200 flags, a flag changed by the API "
        "twice a second, a thread of another process on all the streams, and one that reads a flag "
        "50 times a second; everything on this machine.",
        arguments=[
            Argument("streams", 2000, "how many streams"),
            Argument("events", 150, "how many events"),
        ],
    )
