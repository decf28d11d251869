"""What a client reports: every count once, in bounds, and the same again after a failure."""

from __future__ import annotations

import json
import re
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
    assert set(tick) == {"at", "seconds", "service", "flags", "dropped"}
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


# --- bounds -------------------------------------------------------------------------------------


def end(held: Outcomes, flag: str = "search", metrics: Any = None) -> None:
    held.request([(flag, "on")], 0.5, False, metrics or {}, (0.1, 1.0))


def test_latency_is_put_where_the_edges_say():
    held = Outcomes()
    for seconds in (0.05, 0.1, 0.11, 1.0, 7.0):
        held.request([], seconds, False, {}, (0.1, 1.0))
    held.collect({}, 1, 5.0)
    (tick,) = held.take()

    assert tick["service"]["latency"] == [[0, 2], [1, 2], [2, 1]]
    assert tick["service"]["latency_sum"] == pytest.approx(8.26)


def test_too_many_rows_and_metrics_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outcomes, "MAX_ROWS", 3)
    held = Outcomes()
    for i in range(5):
        end(held, f"flag-{i}")
    end(held, "flag-0", {f"metric-{i}": (1, 0) for i in range(25)})
    held.collect({("another", "on"): 3}, 1, 5.0)
    (tick,) = held.take()

    assert len(tick["flags"]) == 3
    assert len(tick["service"]["metrics"]) == outcomes.MAX_METRICS
    assert held.dropped == tick["dropped"] == 2 + 5 + 5 + 1


def test_the_oldest_ticks_go_first_and_the_next_one_says_so():
    held = Outcomes()
    for at in range(outcomes.MAX_TICKS + 2):
        end(held)
        held.collect({}, at, 5.0)
    ticks = held.take()

    assert [tick["at"] for tick in ticks] == list(range(2, outcomes.MAX_TICKS + 2))
    assert held.dropped == 4
    assert ticks[-1]["dropped"] == 2


def test_a_machine_that_slept_tells_a_length_that_is_taken():
    held = Outcomes()
    end(held)
    held.collect({}, 1, 90_000.0)

    assert held.take()[0]["seconds"] == 3600.0
