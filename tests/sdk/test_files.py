"""Without a server: the last snapshot on disk, and one that was made by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sortition
from sortition.core.model import Snapshot
from sortition.sources import file
from sortition.testing import FakeServer, snapshot_with

from tests.slices import a_slice

from .conftest import until

Start = Callable[..., sortition.Client]
COLOUR = {"variants": {"a": "\N{LATIN SMALL LETTER U WITH DIAERESIS}", "b": None}, "rest": "b"}
SNAPSHOT = snapshot_with({"search": 100, "colour": COLOUR}, version=5)


def offline(**arguments: Any) -> sortition.Client:
    return sortition.Client("", resource={}, **arguments)


def test_what_is_written_is_read_and_checked(tmp_path: Path):
    path = tmp_path / "snapshot"
    file.write(path, SNAPSHOT)

    assert file.read(path) == SNAPSHOT
    assert path.read_bytes().startswith(b"sha256:")
    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot"]


@pytest.mark.parametrize("kept", [0, 10, 71, 72, 300, -1])
def test_a_file_that_was_cut_is_not_believed(tmp_path: Path, kept: int):
    path = tmp_path / "snapshot"
    file.write(path, SNAPSHOT)
    path.write_bytes(path.read_bytes()[:kept])
    client = offline(snapshot=path)

    assert client.is_enabled("search", "a") is False
    assert client.status().errors["snapshot_unreadable"] == 1


@pytest.mark.parametrize("at", [3, 80, 200])
def test_a_file_with_a_wrong_bit_is_not_believed(tmp_path: Path, at: int):
    path = tmp_path / "snapshot"
    file.write(path, SNAPSHOT)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)

    with pytest.raises(ValueError):  # noqa: PT011 (any of them: checksum, JSON, form)
        file.read(path)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"[" * 100_000, b'{"format":1}'])
def test_a_file_that_is_none_does_no_harm(tmp_path: Path, content: bytes):
    path = tmp_path / "snapshot"
    path.write_bytes(content)
    client = offline(snapshot=path, bootstrap=path)

    assert client.status().errors == {"snapshot_unreadable": 2}
    assert not client.wait_ready(0)


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "snapshot"
    file.write(path, SNAPSHOT)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        file.write(path, snapshot_with({}, version=6))

    assert file.read(path) == SNAPSHOT
    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot"]


def test_a_disk_that_is_full_leaves_the_old_one_and_the_flags_go_on(
    server: FakeServer, tmp_path: Path
):
    # A process that may write no file longer than this one is: its next, longer one does not fit.
    path = tmp_path / "kept"
    file.write(path, snapshot_with({"search": 100}, version=1))
    server.be("testing", 2, {f"flag-{i}": 100 for i in range(50)})
    script = """
import resource, sys, time, sortition
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
client = sortition.Client(sys.argv[1], key=sys.argv[2], snapshot=sys.argv[3])
while not client.status().errors:
    time.sleep(0.01)
print(client.is_enabled("flag-7", "a"), client.status().errors, client.close(5))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, server.url, server.key, str(path)],
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert (done.stdout, done.stderr) == ("True {'snapshot_not_kept': 1} True\n", "")
    assert file.read(path).version.version == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_two_clients_of_one_process_may_share_a_file(
    server: FakeServer, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sortition.client, "KEEP_PAUSE", 0.0)
    path = tmp_path / "kept"
    clients = [start(snapshot=path) for _ in range(3)]
    assert all(client.wait_ready(5) for client in clients)
    for share in range(20):
        server.put({f"flag-{i}": share for i in range(30)})
        if path.exists():
            file.read(path)
    until(path.exists)
    until(lambda: file.read(path).version == server.snapshot.version, seconds=30)

    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix != ".new"] == ["kept"]
    assert not any(client.status().errors for client in clients)


def test_a_busy_hour_is_copied_now_and_then_and_the_end_of_it_for_certain(
    server: FakeServer, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written: list[int] = []
    write = file.write

    def counting(path: Any, snapshot: Snapshot) -> None:
        written.append(snapshot.version.version)
        write(path, snapshot)

    monkeypatch.setattr(file, "write", counting)
    monkeypatch.setattr(sortition.client, "KEEP_PAUSE", 1e9)
    client = start(snapshot=tmp_path / "kept")
    assert client.wait_ready(5)
    for share in range(20):
        server.put({"search": share})
    until(lambda: client.status().version == "testing.1.21")
    client.close(5)

    assert (len(written), written[-1]) == (2, 21)
    assert file.read(tmp_path / "kept").version.version == 21


@pytest.mark.parametrize("bit", a_slice(range(8 * 600), at_most=40))
def test_any_bit_that_is_flipped_is_noticed(tmp_path: Path, bit: int):
    path = tmp_path / "snapshot"
    file.write(path, SNAPSHOT)
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)
    client = offline(snapshot=path)

    # Not believed; or the same all the same (a checksum may be written in capitals).
    held = client._held.now.snapshot()
    assert held is None or held == SNAPSHOT


def test_a_bootstrap_made_by_hand_answers_until_there_is_more(tmp_path: Path):
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(SNAPSHOT.to_wire(), indent=2))
    client = offline(bootstrap=path)

    assert client.wait_ready(0)
    assert client.is_enabled("search", "a")
    assert (client.status().state, client.status().version) == ("ready", "testing.1.5")


def test_a_bootstrap_that_is_missing_is_said(tmp_path: Path):
    client = offline(bootstrap=tmp_path / "none", snapshot=tmp_path / "none-yet")

    assert client.status().errors == {"bootstrap_missing": 1}


def test_the_last_snapshot_comes_before_the_bootstrap(tmp_path: Path):
    kept, first = tmp_path / "kept", tmp_path / "first"
    file.write(kept, SNAPSHOT)
    file.write(first, snapshot_with({"search": 0}))

    assert offline(snapshot=kept, bootstrap=first).is_enabled("search", "a")
    kept.write_bytes(b"spoilt")
    assert not offline(snapshot=kept, bootstrap=first).is_enabled("search", "a")


def test_settings_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file.write(tmp_path / "kept", SNAPSHOT)
    monkeypatch.setenv("SORTITION_SNAPSHOT", str(tmp_path / "kept"))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=1.4%2B2,broken, a = b ,=c")
    client = sortition.Client()

    assert client.is_enabled("search", "a")
    assert client._resource == {"service.name": "shop", "service.version": "1.4+2", "a": "b"}


def test_a_client_keeps_what_it_follows_and_starts_from_it(
    server: FakeServer, start: Start, tmp_path: Path
):
    path = tmp_path / "kept"
    client = start(snapshot=path)
    assert client.wait_ready(5)
    server.put({"search": 100})
    until(lambda: path.exists() and file.read(path).version.version == 2)
    client.close(1)
    server.stop()

    again = start(snapshot=path)
    assert again.wait_ready(0)
    assert again.is_enabled("search", "a")
    until(lambda: again.status().errors.get("unreachable"))
    assert again.status().state == "stale"


def test_what_came_from_a_file_gives_way_to_any_store(
    server: FakeServer, start: Start, tmp_path: Path
):
    file.write(tmp_path / "kept", SNAPSHOT)
    server.be("elsewhere", 1, {"search": 0})
    client = start(snapshot=tmp_path / "kept")

    until(lambda: client.status().version == "elsewhere.1.1")
    assert client.status().errors == {}


def test_but_not_to_an_older_state_of_its_own(server: FakeServer, start: Start, tmp_path: Path):
    file.write(tmp_path / "kept", SNAPSHOT)
    server.be("testing", 4, {"search": 0})
    client = start(snapshot=tmp_path / "kept")

    until(lambda: client.status().errors == {"older_snapshot": 1})
    assert client.is_enabled("search", "a")
    server.be("testing", 6, {"search": 0})
    until(lambda: not client.is_enabled("search", "a"))


def test_a_place_that_cannot_be_written_is_said(server: FakeServer, start: Start, tmp_path: Path):
    client = start(snapshot=tmp_path / "no" / "folder" / "kept")
    assert client.wait_ready(5)

    until(lambda: client.status().errors == {"snapshot_not_kept": 1})
    server.put({"search": 100})
    until(lambda: client.is_enabled("search", "a"))
