"""What a host asks of a client: the answers, and that nothing it asks with can hurt it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sortition
from sortition.client import Request
from sortition.core import bucketing
from sortition.core.reasons import ErrorCode, Reason
from sortition.snapshots import SAMPLE
from sortition.testing import client_with, snapshot_with

IDS = [f"request-{i}" for i in range(400)]
COLOURS = {
    "variants": {"red": {"hex": ["ff", "00"]}, "blue": {"hex": ["00"]}, "grey": {"hex": []}},
    "rest": "grey",
    "weights": {"red": 50, "blue": 50},
    "share": 60,
}


def assignments(client: sortition.Client) -> dict[tuple[str, str], int]:
    return dict(client._held.assignments())


def exposed(key: str, share: float) -> int:
    edge = bucketing.threshold(round(share * 10_000))
    return sum(bucketing.point(id, bucketing.seed(key)) < edge for id in IDS)


# --- answers ------------------------------------------------------------------------------------


def test_a_share_is_drawn_as_the_bucketing_says_by_every_way_of_asking():
    client = client_with({"search": 25.0})
    handle = client.flag("search")

    for id in IDS:
        drawn = bucketing.point(id, bucketing.seed("search")) < bucketing.threshold(250_000)
        with client.request(id) as request:
            asked = [request.is_enabled("search"), request.value("search")]
        assert {client.is_enabled("search", id), handle(id), *asked} == {drawn}
        assert client.variant("search", id) == ("on" if drawn else "off")


def test_an_evaluation_says_why():
    client = client_with({"search": 25.0, "all": 100, "dead": {"share": 100, "killed": True}})

    assert client.evaluate("search", "a").reason is Reason.SPLIT
    assert client.evaluate("all", "a").reason is Reason.STATIC
    assert client.evaluate("dead", "a") == sortition.Evaluation(False, "off", Reason.DISABLED, 1)


def test_values_are_copies_also_within_a_request():
    client = client_with({"colour": COLOURS})
    before = client.value("colour", "a")

    client.value("colour", "a")["hex"].append("spoilt")
    client.evaluate("colour", "a").value["hex"].clear()
    with client.request("a") as request:
        request.value("colour")["hex"].append("spoilt")
        assert request.value("colour") == before

    assert client.value("colour", "a") == before


def test_conditions_look_at_the_resource():
    client = client_with({"search": 100}, resource={"service.version": "2.0"})

    assert client.is_enabled("search", "a")
    assert client.status().has_control_group


# --- what cannot be answered --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "id", "kind"),
    [
        ("search", None, "targeting_key_missing"),
        ("search", b"abc", "targeting_key_missing"),
        ("search", "", "targeting_key_missing"),
        ("search", 7, "targeting_key_missing"),
        ("search", "\ud800", "invalid_context"),
        ("unknown", "abc", "flag_not_found"),
        (["search"], "abc", "general"),
        ({}, "abc", "general"),
    ],
)
def test_the_default_is_answered_and_the_reason_counted(key: Any, id: Any, kind: str):
    client = client_with({"search": 100})

    assert client.is_enabled(key, id) is False
    assert client.is_enabled(key, id, default=True) is True
    assert client.value(key, id, default=20) == 20
    assert client.variant(key, id) is None
    evaluation = client.evaluate(key, id)
    assert (evaluation.reason, evaluation.error) == (Reason.ERROR, ErrorCode[kind.upper()])
    assert client.flag(key)(id, True) is True
    assert client.status().errors == {kind: 6}
    assert not +client._held.assignments()


def test_within_a_request_too():
    client = client_with({"search": 100})
    unusable: Any = [{}, "unknown"]

    for key in unusable:
        with client.request("a") as request:
            assert request.is_enabled(key, default=True) is True
            assert request.value(key, default=20) == 20
            assert request.variant(key) is None
    with client.request("\ud800") as request:
        assert request.is_enabled("search", default=True) is True


def test_a_flag_that_is_not_boolean_has_no_switch_but_has_a_value():
    client = client_with({"colour": COLOURS})

    assert client.is_enabled("colour", "a", default=True) is True
    assert client.flag("colour")("a") is False
    with client.request("a") as request:
        assert request.is_enabled("colour") is False
        assert request.variant("colour") is not None
        assert request.is_enabled("colour") is False
    assert client.status().errors == {"type_mismatch": 4}
    # Nobody got a variant from a question that could not be answered.
    assert sum(assignments(client).values()) == 1


def test_a_megabyte_is_an_id_like_any_other():
    assert client_with({"search": 100}).is_enabled("search", "x" * 1_000_000)


def test_no_text_ends_the_process():
    # `mmh3.hash` would, by a segmentation fault: hence a process of its own.
    script = """
from sortition.testing import client_with
client = client_with({"half": 50, "all": 100})
for id in ("\\ud800", "a\\udfff", "\\ud83d", "\\x00", "\\U0010ffff"):
    client.is_enabled("half", id), client.flag("half")(id), client.variant("half", id)
    with client.request(id) as request:
        request.is_enabled("half")
    client.is_enabled("\\ud800", id)
print(client.is_enabled("all", "\\ud800"), client.is_enabled("all", "\\x00"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "False True\n"), done.stderr


def test_before_there_are_flags_the_default_is_answered():
    client = sortition.Client("", snapshot="")

    assert client.is_enabled("search", "a", default=True) is True
    assert client.evaluate("search", "a").error is ErrorCode.PROVIDER_NOT_READY
    assert not client.wait_ready(0)
    assert (client.status().state, client.status().version) == ("starting", None)
    assert client.close()
    assert client.status().state == "closed"


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "flags.example"},
        {"url": "ftp://flags.example"},
        {"url": "https://"},
        {"url": "https://flags.example:many"},
        {"url": "https://flags.example/?a=b"},
        {"url": "https://me:secret@flags.example"},
        {"url": "https://flags.example/a b"},
        {"url": b"https://flags.example"},
        {"url": "https://flags.example", "key": ""},
        {"url": "https://flags.example", "key": "srt\r\nHost: elsewhere"},
        {"poll_seconds": 0},
        {"poll_seconds": "30"},
        {"snapshot": 7},
        {"resource": {"service.version": 2}},
        {"resource": 3},
    ],
)
def test_a_client_that_cannot_be_made_says_which_argument(arguments: Any):
    with pytest.raises(sortition.ConfigurationError) as refusal:
        sortition.Client(**{"url": "", "key": "srt_sdk_x", **arguments})

    assert next(reversed(arguments)) in str(refusal.value)
    assert "secret" not in str(refusal.value)


# --- requests -----------------------------------------------------------------------------------


def ended(client: sortition.Client) -> dict[str, Any]:
    client._outcomes.collect(client._held.assignments())
    (tick,) = client._outcomes.take()
    return tick


def test_a_request_keeps_what_it_was_decided_while_the_flags_change():
    client = client_with({"search": 100})
    with client.request("a") as request:
        assert request.is_enabled("search")
        assert not request.is_enabled("later")
        client._put(snapshot_with({"search": 0, "later": 100}, version=2))

        assert request.is_enabled("search")
        assert not request.is_enabled("later")
        assert not client.is_enabled("search", "a")
    rows = {(row["flag"], row["variant"]): row for row in ended(client)["flags"]}

    # Asked twice within the request, assigned once; the bare call is another assignment.
    assert {key: (row["assignments"], row["requests"]) for key, row in rows.items()} == {
        ("search", "on"): (1, 1),
        ("search", "off"): (1, 0),
    }


def test_how_a_request_ends_is_credited_once_to_all_it_was_served():
    client = client_with({"search": 100, "colour": COLOURS})
    with client.request("a") as request:
        request.is_enabled("search")
        request.variant("colour")
        request.count("critical_path", ok=False)
        request.count("critical_path")
        request.count("Not a name")
        request.count(None)  # type: ignore[arg-type]  # what a host may do
    request.end()
    tick = ended(client)

    for row in (tick["service"], *tick["flags"]):
        assert (row["requests"], row["failures"]) == (1, 0)
        assert row["latency"] == [[0, 1]]
        assert 0 < row["latency_sum"] < 5
        # A request counts once in each metric, as failed if it ever did.
        assert row["metrics"] == {"critical_path": [1, 1]}
    assert len(tick["flags"]) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_an_exception_is_a_failure_and_goes_on(error: type[BaseException]):
    client = client_with({"search": 100})

    with pytest.raises(error), client.request("a"):
        raise error

    assert ended(client)["service"]["failures"] == 1


def test_a_request_that_says_so_failed():
    client = client_with({"search": 100})
    with client.request("a") as request:
        assert isinstance(request, Request)
        request.fail()

    assert ended(client)["service"]["failures"] == 1


# --- counts -------------------------------------------------------------------------------------


def test_counts_survive_snapshots_and_none_is_told_twice():
    client = client_with({"search": 25.0, "colour": COLOURS})
    handle = client.flag("search")
    told = Counter[tuple[str, str]]()
    for turn in range(6):
        for id in IDS:
            client.is_enabled("search", id)
            handle(id)
            client.variant("colour", id)
        client._put(snapshot_with({"search": 25.0, "colour": COLOURS}, version=2 + turn))
        if turn % 2:
            told.update(assignments(client))

    drawn = exposed("search", 25.0)
    assert told["search", "on"] == 12 * drawn
    assert told["search", "off"] == 12 * (len(IDS) - drawn)
    assert sum(n for (key, _), n in told.items() if key == "colour") == 6 * len(IDS)
    assert not +client._held.assignments()


def test_what_an_old_snapshot_is_still_asked_is_told_too():
    client = client_with({"search": 100})
    old = client._held.now.all["search"]
    client._put(snapshot_with({"search": 0}, version=2))
    assert not assignments(client)

    old.exposed += 1  # a thread that was in the middle of asking

    assert assignments(client) == {("search", "on"): 1}
    assert not +client._held.assignments()


def test_a_handle_follows():
    client = client_with({})
    flag, twin = client.flag("search"), client.flag("search")
    assert not flag("a")

    for share in (100, 0, 100):
        client._put(snapshot_with({"search": share}, version=2))
        assert flag("a") is twin("a") is (share == 100)
    client._put(snapshot_with({}, version=3))
    assert flag("a", default=True) is True
    del flag, twin
    gc.collect()
    assert not client._bindings


def test_no_count_is_lost_between_threads():
    client = client_with({"search": 25.0, "colour": COLOURS})
    flag = client.flag("search")
    rounds, threads = 20, 4
    go = threading.Barrier(threads + 1)

    def ask() -> None:
        go.wait()
        for _ in range(rounds):
            for id in IDS:
                client.is_enabled("search", id)
                flag(id)
                client.variant("colour", id)
                client.is_enabled("unknown", id)

    started = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in started:
        thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        go.wait()
        told = Counter[tuple[str, str]]()
        version = 2
        while any(thread.is_alive() for thread in started):
            client._put(snapshot_with({"search": 25.0, "colour": COLOURS}, version))
            version += 1
            if version == 5:
                told.update(assignments(client))
            started[0].join(0.02)
    finally:
        sys.setswitchinterval(interval)
    told.update(assignments(client))

    calls = rounds * threads * len(IDS)
    assert told["search", "on"] == 2 * rounds * threads * exposed("search", 25.0)
    assert sum(told.values()) == 3 * calls
    assert client.status().errors == {"flag_not_found": calls}


def test_a_request_that_goes_on_failing_is_one_failure():
    client = client_with({"search": 100})
    for failures in (0, 1, 50):
        with client.request("a") as request:
            for _ in range(5):
                request.count("db_connection")
            for _ in range(failures):
                request.count("db_connection", ok=False)
                request.fail()
    tick = ended(client)

    assert (tick["service"]["requests"], tick["service"]["failures"]) == (3, 2)
    assert tick["service"]["metrics"] == {"db_connection": [3, 2]}


# --- points -------------------------------------------------------------------------------------


def test_a_sample_of_points_is_kept_of_both_sides_in_the_order_they_were_drawn():
    client = client_with({"search": 25, "colour": COLOURS})
    handle = client.flag("search")
    ids = [f"r{i}" for i in range(40)]
    ways: list[Callable[[str], object]] = [
        lambda id: client.is_enabled("search", id),
        handle,
        lambda id: client.variant("search", id),
    ]
    for way in ways:
        for id in ids:
            way(id)
        drawn = [bucketing.point(id, client._held.now.all["search"].seed) for id in ids]
        assert client._held.points() == {"search": drawn}
    client.variant("colour", "a")

    assert list(client._held.points()) == ["colour"]
    assert client._held.points() == {}


def test_a_sample_of_points_is_bounded_and_begins_anew():
    client = client_with({"search": 25})
    for turn in range(3):
        for i in range(1000):
            client.is_enabled("search", f"{turn}-{i}")
        assert len(client._held.points()["search"]) == SAMPLE
