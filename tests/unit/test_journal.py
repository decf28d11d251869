"""The journal of a machine's controllers: whole or not at all, and no bad file hides a good one."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flagserver.storage.files import read_checked, write_checked
from flagserver.storage.journal import DiskJournal
from tests.engines import Engine

from .rollouts import T0, a_cause, a_rollout, at_step


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(place: Path) -> DiskJournal:
    return DiskJournal(place)


class TestWhatIsKept:
    def test_nothing_is_there_to_begin_with(self, journal: DiskJournal, place: Path) -> None:
        assert (journal.kept(), journal.all_lowered()) == ([], [])
        journal.keep_only([])
        journal.forget("r-1")
        assert not place.exists()

    def test_another_process_finds_it_as_it_was_kept_last(
        self, journal: DiskJournal, place: Path
    ) -> None:
        journal.keep(at_step(0))
        journal.keep(at_step(1))
        journal.keep(a_rollout(id="r-2"))

        assert DiskJournal(place).kept() == [at_step(1), a_rollout(id="r-2")]

    def test_only_its_user_may_read_it(self, journal: DiskJournal, place: Path) -> None:
        journal.keep(a_rollout())

        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()} == {0o600}

    def test_what_is_there_already_costs_nothing(
        self, journal: DiskJournal, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal.keep(at_step(0))
        monkeypatch.setattr(os, "fsync", no_room)

        journal.keep(at_step(0))
        with pytest.raises(OSError, match="No space"):
            journal.keep(at_step(1))

    def test_what_has_ended_is_forgotten(self, journal: DiskJournal) -> None:
        for id in ("r-1", "r-2", "r-3"):
            journal.keep(a_rollout(id=id))
        journal.keep_only(["r-2"])

        assert [rollout.id for rollout in journal.kept()] == ["r-2"]
        journal.forget("r-2")
        assert journal.kept() == []


class TestWhatWasTakenBack:
    def test_it_is_tried_until_it_is_done_and_then_no_more(self, journal: DiskJournal) -> None:
        begun = a_cause(T0)
        journal.keep(at_step(0))

        journal.lowered("r-1", begun)
        assert [rollout.id for rollout in journal.kept()] == ["r-1"]

        done = replace(begun, applied=T0 + 3)
        journal.lowered("r-1", done)
        assert (journal.kept(), journal.all_lowered()) == ([], [("r-1", done)])

    def test_it_stays_until_the_store_was_told(self, journal: DiskJournal) -> None:
        journal.keep(at_step(0))
        journal.lowered("r-1", a_cause(T0))

        journal.keep_only([])
        assert len(journal.all_lowered()) == 1
        journal.forget("r-1")
        assert journal.all_lowered() == []


DAMAGE: dict[str, Any] = {
    "flipped": lambda octets: octets[:-9] + bytes([octets[-9] ^ 1]) + octets[-8:],
    "cut": lambda octets: octets[:-1],
    "emptied": lambda octets: b"",
    "without a first line": lambda octets: octets.partition(b"\n")[2],
    "longer": lambda octets: octets + b" ",
}


class TestFilesThatCannotBeUsed:
    @pytest.mark.parametrize("damage", DAMAGE)
    @pytest.mark.parametrize("ending", [".held", ".lowered"])
    def test_damage_is_found_and_hides_no_other(
        self, journal: DiskJournal, place: Path, damage: str, ending: str
    ) -> None:
        for id in ("r-1", "r-2"):
            journal.keep(a_rollout(id=id))
            journal.lowered(id, a_cause(T0))
        file = place / f"r-1{ending}"
        file.write_bytes(DAMAGE[damage](file.read_bytes()))

        again = DiskJournal(place)
        whole = {".held": [r.id for r in again.kept()], ".lowered": dict(again.all_lowered())}

        assert set(whole.pop(ending)) == {"r-2"}
        assert all(set(found) == {"r-1", "r-2"} for found in whole.values())

    @pytest.mark.parametrize("text", [b"{}", b"[]", b"null", b'{"schedule": 5}', b"\xff"])
    def test_so_is_a_file_of_another_version(
        self, journal: DiskJournal, place: Path, text: bytes
    ) -> None:
        journal.keep(a_rollout(id="r-2"))
        for ending in (".held", ".lowered"):
            write_checked(place / f"r-1{ending}", text)

        assert [rollout.id for rollout in journal.kept()] == ["r-2"]
        assert journal.all_lowered() == []

    def test_a_write_that_fails_leaves_what_was_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "file"
        write_checked(file, b"before", "1")
        monkeypatch.setattr(os, "fsync", no_room)

        with pytest.raises(OSError, match="No space"):
            write_checked(file, b"after", "2")

        assert read_checked(file) == ("1", b"before")
        assert [each.name for each in tmp_path.iterdir()] == ["file"]

    def test_a_full_disk_stops_no_rollout(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine = Engine(directory=tmp_path)
        id = engine.start()
        monkeypatch.setattr(os, "fsync", no_room)

        engine.run(20)
        assert (engine.weight, engine.share) == (5, 5)
        engine.rates = (0.2, 0.001)
        engine.run(300)

        assert (engine.weight, engine.rollout(id).state) == (0, "rolled_back")
        assert "The journal cannot be written: No space left on device" in caplog.text


def no_room(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
