"""Clients that come and go leave nothing behind, and take little while they are there."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import sortition
from sortition.core.model import Snapshot
from sortition.testing import FakeServer, Trouble, client_with, snapshot_with

from tests.slices import everything

from .conftest import until

CYCLES = 1000 if everything() else 100


def live(server: FakeServer, number: int) -> weakref.ref[sortition.Client]:
    """One client's life: some follow, some are refused, some never find anybody."""
    url = server.url if number % 3 else "http://127.0.0.1:9"
    with sortition.Client(url, key=server.key, streaming=bool(number % 2)) as client:
        if number % 3:
            assert client.wait_ready(10)
        client.on("ready", print)
        flag = client.flag("search")
        with client.request("a") as request:
            request.is_enabled("search")
            flag("a")
    return weakref.ref(client)


def test_a_thousand_lives_leave_no_thread_no_socket_and_no_memory(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
):
    process = psutil.Process()
    for number in range(12):
        live(server, number)
    gc.collect()
    threads, files = threading.active_count(), process.num_fds()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        lived = [live(server, number) for number in range(CYCLES)]
        server.asked.clear()
        server.bodies.clear()
        server.batches.clear()
        gc.collect()
        until(lambda: threading.active_count() <= threads)
        until(lambda: process.num_fds() <= files)
        gc.collect()
        assert not any(client() for client in lived)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Less than a fifth of what the smallest client takes.
    assert (after - before) / CYCLES < 500


def test_an_interpreter_ends_though_its_client_was_never_closed(server: FakeServer):
    server.troubles["outcomes"] = Trouble(silent=True)
    script = """
import sys, sortition
client = sortition.Client(sys.argv[1], key=sys.argv[2])
client.wait_ready(5)
client.request("a").end()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, server.url, server.key],
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert (done.returncode, done.stderr) == (0, "")


def flag_like_any(number: int) -> dict[str, Any]:
    return {
        "revision": number % 20,
        "salt": f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
        "variants": {"on": True, "off": False},
        "rest": "off",
        "weights": [["on", 1_000_000]],
        "share": 250_000 + number,
        "conditions": [],
        "prerequisites": [],
        "killed": False,
    }


def test_a_thousand_flags_take_less_than_a_megabyte():
    many = {f"team-{i % 7}.some-feature-{i}": flag_like_any(i) for i in range(2000)}
    text = json.dumps({**snapshot_with({}).to_wire(), "flags": many})
    client = client_with({})
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        client._put(Snapshot.parse(json.loads(text)))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert client.is_enabled("team-0.some-feature-0", "a") in (True, False)
    assert (after - before) / 2 < 750_000


class Hostile(str):
    """Text that does all it can."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError


class HostileKey:
    def __hash__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError


class Silent:
    """Looks like text and is none."""

    def encode(self) -> object:
        return object()


UNUSABLE: list[Any] = [
    None, b"", b"abc", bytearray(b"x"), 0, 1, -1.5, True, float("nan"), (), [], {}, set(),
    object(), "", "\ud800", "a\udfff", Hostile("a"), Hostile(""), HostileKey(), Silent(), str,
    range(3), memoryview(b"a"), Ellipsis, NotImplemented, print, 2**100, 1j,
]  # fmt: skip


@pytest.mark.parametrize("place", ["key", "id", "both"])
def test_whatever_is_asked_with_the_default_is_answered_and_counted(place: str):
    client: Any = client_with({"search": 100})
    asked = 0
    for given in UNUSABLE:
        key: Any = given if place != "id" else "search"
        id: Any = given if place != "key" else "a"
        ways: list[Callable[[Any, Any, str], object]] = [
            client.is_enabled,
            client.value,
            lambda key, id, default: client.flag(key)(id, default),
            lambda key, id, default: client.variant(key, id) or default,
            lambda key, id, default: client.evaluate(key, id).value or default,
        ]
        for way in ways:
            assert way(key, id, "default") == "default"
            asked += 1
        with client.request(id) as request:
            assert request.is_enabled(key, "default") == "default"
            asked += 1
            request.count(given)
            request.count("fine", ok=given)
    assert sum(client.status().errors.values()) == asked
    client._outcomes.collect(client._held.assignments())
    assert json.dumps(client._outcomes.take())


def test_a_megabyte_of_id_or_key_is_answered_like_any():
    client = client_with({"search": 100})

    assert client.is_enabled("search", "\u00e9" * 1_000_000)
    assert client.is_enabled("k" * 1_000_000, "a", default=True)
    assert client.status().errors == {"flag_not_found": 1}


def test_nothing_is_imported_in_the_background(server: FakeServer, tmp_path: Path):
    # A fork in the middle of an import in another thread leaves that module locked in the child.
    script = """
import sys, threading, builtins, time, os
os.environ["ECS_CONTAINER_METADATA_URI_V4"] = "http://127.0.0.1:9/v4"
imported = []
plain = builtins.__import__
def watching(*given, **named):
    before = len(sys.modules)
    module = plain(*given, **named)
    if threading.current_thread().name == "sortition" and len(sys.modules) != before:
        imported.append(given[0])
    return module
builtins.__import__ = watching
import sortition
client = sortition.Client(sys.argv[1], key=sys.argv[2], snapshot=sys.argv[3])
assert client.wait_ready(5)
client.request("a").end()
while not os.path.exists(sys.argv[3]): time.sleep(0.01)
client.close(5)
print(imported)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, server.url, server.key, str(tmp_path / "kept")],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
