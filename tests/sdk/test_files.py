"""Without a server: the last snapshot on disk, and one that was made by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sortition
from sortition.sources import file
from sortition.testing import FakeServer, snapshot_with

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
