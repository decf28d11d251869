"""What a client reports: every count once, in bounds, and the same again after a failure."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sortition
from sortition import outcomes
from sortition.outcomes import Outcomes
from sortition.sources import worker
from sortition.testing import FakeServer, Trouble

from .conftest import until

Start = Callable[..., sortition.Client]


def told(server: FakeServer) -> Counter[tuple[str, str]]:
    """Flag and variant -> assignments, over all batches that were taken."""
    counts: Counter[tuple[str, str]] = Counter()
    for batch in server.batches:
        for tick in batch["ticks"]:
            for row in tick["flags"]:
                counts[row["flag"], row["variant"]] += row["assignments"]
    return counts


def next_batch(server: FakeServer) -> None:
    seen = len(server.batches)
    until(lambda: len(server.batches) > seen)


def dropped(server: FakeServer) -> int:
    return sum(tick["dropped"] for batch in server.batches for tick in batch["ticks"])


# --- over the wire ------------------------------------------------------------------------------


def test_all_is_told_once_while_flags_and_streams_come_and_go(server: FakeServer, start: Start):
    client = start()
    assert client.wait_ready(5)
    calls = 0
    for turn in range(6):
        for i in range(300):
            client.is_enabled("search", f"r{i}")
            calls += 1
        server.put({"search": 20 * turn})
        if turn == 3:
            server.cut()
        next_batch(server)
    client.close(5)

    assert told(server).total() == calls
    assert [batch["seq"] for batch in server.batches] == list(range(1, len(server.batches) + 1))
    assert dropped(server) == client.status().dropped == 0


def test_the_wire_form(server: FakeServer, start: Start):
    resource = {"service.name": "shop", "service.version": "1.4.0"}
    client = start(resource=resource)
    assert client.wait_ready(5)
    with client.request("secret-id") as request:
        request.is_enabled("search")
        request.count("critical_path")
    client.close(5)

    (batch,) = server.batches
    assert {key: batch[key] for key in resource} == resource
    assert re.fullmatch("[0-9a-f]{16}", batch["instance"])
    assert set(batch) == {*resource, "format", "instance", "started", "seq", "ticks"}
    (tick,) = batch["ticks"]
    assert set(tick) == {"at", "seconds", "service", "flags", "points", "dropped"}
    assert [[count for _, count in bins] for bins in tick["points"].values()] == [[1]]
    (row,) = tick["flags"]
    counts = {key: row[key] for key in ("flag", "variant", "assignments", "requests", "failures")}
    assert counts == {
        "flag": "search", "variant": "off", "assignments": 1, "requests": 1, "failures": 0
    }  # fmt: skip
    assert row["metrics"] == tick["service"]["metrics"] == {"critical_path": [1, 0]}
    assert b"secret-id" not in b"".join(server.bodies)


def test_ticks_hold_what_rose_and_quiet_ones_are_not_told(server: FakeServer, start: Start):
    client = start()
    assert client.wait_ready(5)
    for _ in range(3):
        client.is_enabled("search", "a")
        next_batch(server)

    rows = [tick["flags"][0] for batch in server.batches for tick in batch["ticks"]]
    assert [row["assignments"] for row in rows] == [1, 1, 1]


@pytest.mark.parametrize("trouble", [Trouble(503), Trouble(429), Trouble(401), Trouble()])
def test_after_a_failure_the_same_batch_is_sent_again(
    server: FakeServer, start: Start, trouble: Trouble
):
    server.troubles["outcomes"] = trouble
    client = start()
    assert client.wait_ready(5)
    client.is_enabled("search", "a")
    until(lambda: len(server.bodies) >= 3)
    client.is_enabled("search", "a")

    assert len(set(server.bodies)) == 1
    server.troubles.clear()
    until(lambda: told(server).total() == 2)
    assert server.batches[0] == json.loads(server.bodies[0])
    assert client.status().dropped == 0
    assert any(kind.startswith("outcomes_") for kind in client.status().errors)


def test_what_is_refused_for_good_is_counted_as_dropped(server: FakeServer, start: Start):
    server.troubles["outcomes"] = Trouble(422)
    client = start()
    assert client.wait_ready(5)
    client.is_enabled("search", "a")
    until(lambda: client.status().dropped == 2)  # the service's row and the flag's
    server.troubles.clear()
    client.is_enabled("search", "a")

    until(lambda: server.batches)
    assert dropped(server) == 2
    assert told(server).total() == 1
    assert client.status().errors["outcomes_status_422"] >= 1


def test_flags_are_followed_while_reports_fail(server: FakeServer, start: Start):
    server.troubles["outcomes"] = Trouble(silent=True)
    client = start()
    assert client.wait_ready(5)
    client.is_enabled("search", "a")
    until(lambda: "outcomes_timed_out" in client.status().errors)

    server.put({"search": 100})
    assert until(lambda: client.is_enabled("search", "a")) < 1


def test_the_end_tells_the_rest_also_what_failed_before(server: FakeServer, start: Start):
    server.troubles["outcomes"] = Trouble(503)
    client = start()
    assert client.wait_ready(5)
    client.is_enabled("search", "a")
    until(lambda: server.bodies)
    client.is_enabled("search", "a")
    server.troubles.clear()

    assert client.close(5)
    assert told(server).total() == 2


def test_what_the_end_cannot_tell_is_counted(server: FakeServer, start: Start):
    client = start()
    assert client.wait_ready(5)
    client.is_enabled("search", "a")
    server.troubles["outcomes"] = Trouble(503)

    assert client.close(5)
    assert client.status().dropped == 2


def test_reports_are_as_large_as_a_server_takes(
    server: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
):
    server.snapshot = FakeServer({f"flag-{i}": 0 for i in range(60)}, flush_seconds=0.05).snapshot
    monkeypatch.setattr(worker, "BATCH_LIMIT", 4000)
    server.troubles["outcomes"] = Trouble(503)
    client = start()
    assert client.wait_ready(5)
    until(lambda: client.flag("flag-0")("a") is False and server.bodies)
    for i in range(60):
        client.is_enabled(f"flag-{i}", "a")
    server.troubles.clear()
    client.close(5)

    assert max(map(len, server.bodies)) <= 4000
    assert told(server).total() < 62 + len(server.batches)
    assert client.status().dropped > 0


# --- ticks ---------------------------------------------------------------------------------------

BEGAN = 1_795_000_000.0
"""On the grid."""

EDGES = (0.1, 1.0, 10.0)


class Turned:
    """A clock that tests turn, and the outcomes of a process that lives by it."""

    def __init__(self, now: float = BEGAN) -> None:
        self.now = now
        self.held = Outcomes(now=lambda: self.now)

    def end(self, flag: str = "search", metrics: Any = None, *, failed: bool = False) -> None:
        """A request ends."""
        self.held.request([(flag, "on")], 0.5, failed, metrics or {}, EDGES)

    def ticks(self, **arguments: Any) -> list[dict[str, Any]]:
        """What a report would hold."""
        arguments = {"running": False, "edges": EDGES, **arguments}
        self.held.collect(arguments.pop("assignments", {}), **arguments)
        return self.held.take()


class InFlight:
    """A request that has been in flight for so long."""

    def __init__(self, seconds: float) -> None:
        self.began = time.perf_counter() - seconds

    def asked(self) -> list[tuple[str, str]]:
        return [("search", "on")]


def test_requests_are_of_the_tick_that_they_ended_in_whenever_that_is_reported():
    process = Turned(BEGAN + 3.0)
    for seconds in (0.0, 1.9, 2.0, 6.9, 8.0):
        process.now = BEGAN + 3.0 + seconds
        process.end()
    process.now = BEGAN + 12.0

    ticks = process.ticks()

    assert [(tick["at"] - BEGAN, tick["service"]["requests"]) for tick in ticks] == [
        (5, 2),
        (10, 2),
    ]
    assert [tick["seconds"] for tick in ticks] == [2.0, 5.0]
    process.now = BEGAN + 15.0
    assert [tick["at"] - BEGAN for tick in process.ticks()] == [15]


def test_two_processes_have_an_outage_in_the_same_tick_though_they_report_at_other_times():
    early, late = Turned(BEGAN), Turned(BEGAN + 1.7)
    seen: dict[int, set[int]] = {}
    for second in range(40):
        for process, reports in ((early, 1), (late, 2)):
            process.now = BEGAN + 2 + second + 0.5
            process.end(failed=second >= 20)
            if second % 5 == reports:
                for tick in process.ticks():
                    seen.setdefault(tick["at"], set()).add(tick["service"]["failures"])

    assert all(len(failures) == 1 for failures in seen.values()), seen


def test_a_running_tick_is_told_in_parts_where_reports_are_more_frequent():
    process = Turned()
    seen = []
    for _ in range(7):
        process.now += 1.0
        process.end()
        seen += process.ticks(running=True)

    assert {tick["at"] - BEGAN for tick in seen} == {5, 10}
    assert sum(tick["service"]["requests"] for tick in seen) == 7
    assert all(tick["seconds"] <= 1.0 for tick in seen)


def test_assignments_and_points_are_told_of_the_tick_that_ended():
    process = Turned()
    process.now += 6.0
    asked = {("search", "on"): 3, ("search", "off"): 2}

    points = {"search": [0, 2**24 - 1, 2**24, 2**32 - 1]}
    (tick,) = process.ticks(assignments=asked, points=points)

    assert tick["at"] == BEGAN + 5
    assert {row["variant"]: row["assignments"] for row in tick["flags"]} == {"on": 3, "off": 2}
    assert tick["points"] == {"search": [[0, 2], [1, 1], [255, 1]]}


def test_a_clock_that_is_set_back_loses_nothing():
    process = Turned()
    for step in (0.0, 6.0, -30.0, 6.0):
        process.now += step
        process.end()
    process.now += 40.0

    assert sum(tick["service"]["requests"] for tick in process.ticks()) == 4


def test_a_service_that_hangs_tells_how_long_its_requests_have_been_in_flight():
    process = Turned()
    requests = [InFlight(30.0), InFlight(7.0), InFlight(5.05)]
    for request in requests:
        process.held.open(request)
    process.now += 6.0

    (tick,) = process.ticks()

    # A second ago, when the tick ended.
    assert tick["at"] == BEGAN + 5
    assert tick["service"]["ages"] == [[2, 2], [3, 1]]
    assert tick["flags"][0]["ages"] == [[2, 2], [3, 1]]
    assert tick["service"]["requests"] == 0
    assert process.ticks() == [], "a tick's ages are told once"
    for request in requests:
        process.held.answered(request)
    process.now += 5.0
    assert process.ticks() == []


def test_what_began_after_the_tick_is_not_of_it_and_what_was_forgotten_goes():
    process = Turned()
    for seconds in (0.5, outcomes.LONGEST_OPEN + 2):
        process.held.open(InFlight(seconds))
    process.now += 6.0

    assert process.ticks() == []
    assert len(process.held._open) == 1


def test_ages_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outcomes, "MAX_OPEN", 3)
    process = Turned()
    requests = [InFlight(7.0) for _ in range(5)]
    for request in requests:
        process.held.open(request)
    process.now += 5.5
    (tick,) = process.ticks()

    assert tick["service"]["ages"] == [[2, 3]]
    for request in requests:
        process.held.answered(request)
    assert not process.held._open


# --- bounds -------------------------------------------------------------------------------------


def test_latency_is_put_where_the_edges_say():
    process = Turned()
    for seconds in (0.05, 0.1, 0.11, 1.0, 7.0):
        process.held.request([], seconds, False, {}, (0.1, 1.0))
    (tick,) = process.ticks(running=True)

    assert tick["service"]["latency"] == [[0, 2], [1, 2], [2, 1]]
    assert tick["service"]["latency_sum"] == pytest.approx(8.26)


def test_too_many_rows_and_metrics_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outcomes, "MAX_ROWS", 3)
    process = Turned()
    for i in range(5):
        process.end(f"flag-{i}")
    process.end("flag-0", {f"metric-{i}": False for i in range(25)})
    (tick,) = process.ticks(running=True, assignments={("another", "on"): 3})
    process.end()
    (next_one,) = process.ticks(running=True)

    assert len(tick["flags"]) == 3
    assert len(tick["service"]["metrics"]) == outcomes.MAX_METRICS
    assert process.held.dropped == tick["dropped"] + next_one["dropped"] == 2 + 5 + 5 + 1


@pytest.mark.parametrize("reports", ["each tick", "at the end"])
def test_the_oldest_ticks_go_first_and_the_next_one_says_so(reports: str):
    process = Turned()
    for _ in range(outcomes.MAX_TICKS + 2):
        process.end()
        process.now += 5.0
        if reports == "each tick":
            process.held.collect({}, running=False)
    ticks = process.ticks()
    process.end()
    ticks += process.ticks(running=True)

    ends = [BEGAN + 5 * n for n in range(3, outcomes.MAX_TICKS + 4)]
    assert [tick["at"] for tick in ticks] == ends
    assert process.held.dropped == sum(tick["dropped"] for tick in ticks) == 4


def test_without_a_server_nothing_waits():
    process = Turned()
    process.held = Outcomes(reported=False, now=lambda: process.now)
    for _ in range(200):
        process.end()
        process.now += 5.0

    (tick,) = process.ticks(running=True)
    assert tick["service"]["requests"] == 200
