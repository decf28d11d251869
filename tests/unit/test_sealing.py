"""What is signed, and above all what is not: a store that was set back, cut or rewritten."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from sortition.record.checkpoint import Checkpoint, open_checkpoint
from sortition.record.entry import Link
from sortition.record.export import Kept, read, written
from sortition.record.note import SigningKey
from sortition.record.tree import root
from sortition.record.verify import TRUNCATED, WHOLE, Anchor, Verdict, verify

from flagserver.domain.documents import Change, Fact
from flagserver.ports import AnchorsUnavailable, StoreIdentity
from flagserver.services.recovery import Recovery
from flagserver.services.sealing import QUIET_SECONDS, Sealer, Sealing, Unsealable
from flagserver.storage.anchors import DiskAnchors
from flagserver.storage.copies import DiskCopies
from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.anchors import FakeAnchors
from tests.builders import FakeClock, FakeEntropy

LOG = "flags.example/record"
KEY = SigningKey(LOG, bytes(range(32)))


class House:
    """A store with a record, anchors, and processes that seal."""

    def __init__(self) -> None:
        self.redis = fakeredis.FakeServer()
        self.store = self.open()
        self.store.initialise("5eed5eed5eed5eed")
        self.anchors = FakeAnchors()
        self.clock = FakeClock()
        self.entropy = FakeEntropy()
        self.sealer = self.another()

    def open(self) -> RedisStore:
        return RedisStore.over(fakeredis.FakeRedis(server=self.redis))

    def another(self, key: SigningKey = KEY) -> Sealer:
        """A sealer as another process has it."""
        return Sealer(self.open(), key, self.anchors, self.clock, self.entropy)

    def write(self, count: int = 1) -> None:
        for _ in range(count):
            fact = Fact("token:ab12cd", "admin", "thing:change", "thing/1")
            salt = self.entropy.hex(16)
            self.store.commit(Change(writes=(), fact=fact), at=self.clock.now(), salt=salt)

    def dump(self) -> Any:
        raw = fakeredis.FakeRedis(server=self.redis)
        return {key: raw.dump(key) for key in raw.keys("*")}

    def put_back(self, dump: Any) -> None:
        raw = fakeredis.FakeRedis(server=self.redis)
        raw.flushall()
        for key, value in dump.items():
            raw.restore(key, 0, value)
        self.store = self.open()

    def signed(self) -> list[Checkpoint]:
        return [open_checkpoint(each.encode(), [KEY.verifier]) for each in self.notes]

    @property
    def notes(self) -> list[str]:
        return [self.anchors.notes[place] for place in sorted(self.anchors.notes)]

    def entries(self) -> list[Kept]:
        links = self.store.record()
        return [Kept(it.seq, it.text, it.leaf, it.chain) for it in links]

    def verdict(self) -> Verdict:
        """What an outsider finds who has the public key and the anchors."""
        data = b"".join(written(LOG, self.entries(), self.store.checkpoints()))
        anchors = [Anchor(place, note.encode()) for place, note in self.anchors.notes.items()]
        return verify(read(data), [KEY.verifier], anchors)


@pytest.fixture
def house() -> House:
    return House()


def test_nothing_is_signed_of_a_store_that_is_none():
    house = House()
    fakeredis.FakeRedis(server=house.redis).flushall()

    assert house.sealer.seal() is None
    assert house.notes == []


def test_what_is_written_is_signed_and_anchored(house: House):
    house.write(3)

    sealed = house.sealer.seal()

    leaves = [each.leaf for each in house.store.record()]
    assert sealed == Checkpoint(LOG, 1, len(leaves), root(leaves))
    assert house.signed() == [sealed]


def test_what_did_not_change_is_signed_once(house: House):
    house.write()

    for _ in range(3):
        house.sealer.seal()

    assert len(house.notes) == 1


def test_checkpoints_follow_each_other_whoever_signs(house: House):
    for sealer in (house.sealer, house.another(), house.sealer, house.another()):
        house.write(2)
        sealer.seal()

    assert [each.size for each in house.signed()] == [2, 4, 6, 8]


def test_what_was_signed_is_whole_to_an_outsider(house: House):
    house.write(5)
    house.sealer.seal()
    house.write(2)
    house.sealer.seal()

    verdict = house.verdict()
    assert (verdict.kind, verdict.signed, verdict.anchored) == (WHOLE, 7, 7)


# --- what is not signed ---------------------------------------------------------------------------


def test_a_store_that_was_set_back_is_not_signed(house: House):
    house.write(2)
    dump = house.dump()
    house.write(2)
    house.sealer.seal()

    house.put_back(dump)

    for sealer in (house.sealer, house.another()):
        with pytest.raises(Unsealable, match=r"4 entries were (there|signed), and 2 are here"):
            sealer.seal()
    assert [each.size for each in house.signed()] == [4]


def test_a_store_that_was_set_back_and_went_on_is_not_signed(house: House):
    """As long as before and longer: it does not begin with what was signed."""
    house.write(2)
    dump = house.dump()
    house.write(2)
    house.sealer.seal()
    house.put_back(dump)

    house.write(2)
    with pytest.raises(Unsealable, match="Entry 4 is another than it was"):
        house.sealer.seal()
    house.write(5)
    for sealer in (house.another(), house.sealer):
        with pytest.raises(Unsealable, match="first 4 entries are not those that were signed"):
            sealer.seal()
    assert [each.size for each in house.signed()] == [4]


def test_an_entry_that_was_changed_is_not_signed(house: House):
    house.write(3)
    raw: Any = fakeredis.FakeRedis(server=house.redis)
    id, fields = raw.xrange(keys.RECORD)[1]
    changed = {name: value.replace(b"thing/1", b"thing/2") for name, value in fields.items()}
    rest = raw.xrange(keys.RECORD)
    raw.delete(keys.RECORD)
    for each, told in rest:
        raw.xadd(keys.RECORD, changed if each == id else told, id=each)

    with pytest.raises(Unsealable, match="Entry 2: the body does not match"):
        house.sealer.seal()
    assert house.notes == []


def test_a_refusal_walks_the_record_once(house: House, monkeypatch: pytest.MonkeyPatch):
    """However often it is asked, until something is different."""
    house.write(4)
    house.another(SigningKey(LOG, bytes(32))).seal()
    house.anchors.notes[f"{LOG}/1/{4:020d}"] = Checkpoint(LOG, 1, 4, bytes(32)).signed(KEY)
    store, sealer = house.sealer._store, house.sealer
    reads: list[int] = []
    asked = store.record

    def counted(*, after: int = 0, limit: int = 1000) -> list[Link]:
        reads.append(after)
        return asked(after=after, limit=limit)

    monkeypatch.setattr(store, "record", counted)

    for _ in range(3):
        with pytest.raises(Unsealable, match="first 4 entries"):
            sealer.seal()
    assert reads == [0]

    house.write()
    with pytest.raises(Unsealable, match="first 4 entries"):
        sealer.seal()
    assert reads == [0, 0]


@pytest.mark.parametrize("quoting", [True, False])
def test_a_loss_that_an_operator_accepts_begins_another_log(
    house: House, tmp_path: Path, *, quoting: bool
):
    """The old one stands, and the entry that begins the new one quotes what was lost. Without it a
    verifier could not tell it from a loss that nobody decided about."""
    house.write(2)
    dump = house.dump()
    house.write(2)
    house.sealer.seal()
    house.put_back(dump)
    found = house.store.state()
    assert found is not None
    copies = DiskCopies(tmp_path)
    promised = (lambda: house.anchors.newest(LOG)) if quoting else (lambda: None)
    operator = Recovery(house.store, house.clock, house.entropy, copies, promised)
    before = StoreIdentity(found.store, found.epoch)
    operator.accept(found.store, "the disk was full", in_place_of=before)

    sealed = house.sealer.seal()

    assert sealed is not None
    assert (sealed.epoch, sealed.size) == (2, 3)
    assert [(each.epoch, each.size) for each in house.signed()] == [(1, 4), (2, 3)]
    verdict = house.verdict()
    assert (verdict.kind, verdict.lost) == ((WHOLE, 2) if quoting else (TRUNCATED, 0))


def test_a_store_of_before_the_newest_epoch_is_not_signed(house: House):
    house.anchors.add(f"{LOG}/7/{9:020d}", Checkpoint(LOG, 7, 9, bytes(32)).signed(KEY))
    house.write()

    with pytest.raises(Unsealable, match="newest anchor is of epoch 7, the store of epoch 1"):
        house.sealer.seal()


def test_nothing_is_signed_beside_anchors_of_another_key(house: House):
    other = SigningKey(LOG, bytes(32))
    house.write()
    house.another(other).seal()
    house.write()

    with pytest.raises(Unsealable, match="newest anchor cannot be trusted"):
        house.sealer.seal()


def test_with_the_anchors_away_it_is_tried_again(house: House):
    house.write()
    house.anchors.away = True
    with pytest.raises(AnchorsUnavailable):
        house.sealer.seal()
    house.write()

    house.anchors.away = False
    sealed = house.sealer.seal()

    assert sealed is not None
    assert [each.size for each in house.signed()] == [2]


# --- an hour of silence ---------------------------------------------------------------------------


def test_after_an_hour_of_silence_the_record_says_that_it_goes_on(house: House):
    house.write()
    house.sealer.seal()
    assert not house.sealer.note_silence()

    house.clock.seconds += QUIET_SECONDS
    assert house.sealer.note_silence()
    house.sealer.seal()
    assert not house.sealer.note_silence()

    newest = json.loads(house.store.record()[-1].text or "")
    assert newest["action"] == "record:silence:note"
    assert [each.size for each in house.signed()] == [1, 2]


def test_an_hour_is_an_hour_also_over_a_restart(house: House):
    house.write()
    house.clock.seconds += QUIET_SECONDS

    sealer = house.another()
    sealer.seal()

    assert sealer.note_silence()


# --- one process at a time ------------------------------------------------------------------------


def test_one_process_seals_and_another_takes_over(house: House):
    one = Sealing(house.sealer, house.open(), "one")
    two = Sealing(house.another(), house.open(), "two")
    house.write()

    one.look()
    two.look()
    assert [each.size for each in house.signed()] == [1]

    one.stop()
    house.write()
    two.look()
    assert [each.size for each in house.signed()] == [1, 2]


def test_whoever_takes_over_looks_at_what_was_signed_meanwhile(house: House):
    """It had followed two entries; four were signed, and the store was set back since."""
    one, two = (Sealing(house.another(), house.open(), name) for name in ("one", "two"))
    house.write(2)
    two.look()
    two.stop()
    dump = house.dump()
    house.write(2)
    one.look()
    house.put_back(dump)
    house.write(5)

    with pytest.raises(Unsealable, match="first 4 entries"):
        two.look()
    assert [each.size for each in house.signed()] == [2, 4]


def test_its_thread_seals_and_says_once_why_it_does_not(
    house: House, caplog: pytest.LogCaptureFixture
):
    house.write()
    house.anchors.away = True
    sealing = Sealing(house.sealer, house.open(), "one")

    with caplog.at_level(logging.ERROR):
        sealing.step()
        sealing.step()

    assert [each.message for each in caplog.records] == [
        "the record is not signed: The anchors cannot be reached: a test says so."
    ]


# --- on a disk ------------------------------------------------------------------------------------


def test_a_disk_that_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "flags.example").write_text("a file where a folder should be")

    with pytest.raises(AnchorsUnavailable, match=r"Not a directory|File exists"):
        DiskAnchors(tmp_path).add(f"{LOG}/1/{1:020d}", "note\n")
    with pytest.raises(AnchorsUnavailable, match="Not a directory"):
        DiskAnchors(tmp_path / "flags.example").add(f"{LOG}/1/{1:020d}", "note\n")
    assert [path.name for path in tmp_path.iterdir()] == ["flags.example"]


def test_what_was_left_half_written_is_no_anchor(tmp_path: Path):
    folder = tmp_path / LOG / "1"
    folder.mkdir(parents=True)
    (folder / f".{9:020d}.77.new").write_text("half")
    DiskAnchors(tmp_path).add(f"{LOG}/1/{3:020d}", "note\n")

    assert DiskAnchors(tmp_path).newest(LOG) == "note\n"
    assert len(list(folder.iterdir())) == 2
