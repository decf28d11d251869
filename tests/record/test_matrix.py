"""What somebody with the store can do, done in a real Redis: the exact kind each time.

`test_verify.py` has the same on files; here the store itself is changed, exported, verified, and
looked at by a controller that has just started.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sortition.record.checkpoint import Checkpoint
from sortition.record.entry import GENESIS, chain_hash, leaf_hash
from sortition.record.export import Kept, read, written
from sortition.record.note import SigningKey
from sortition.record.tree import root
from sortition.record.verify import (
    PRUNE,
    TAMPERED,
    TRUNCATED,
    WHOLE,
    WRONG_KEY,
    Anchor,
    Verdict,
    verify,
)

from flagserver.services.sealing import Sealer, Unsealable
from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.anchors import FakeAnchors
from tests.builders import FakeClock, FakeEntropy
from tests.record.records import FOREIGN, KEY, LOG, an_entry
from tests.servers import redis_server

COUNT, EVERY = 9, 3
PLACES = {"first": 1, "middle": 5, "last": COUNT}

pytestmark = pytest.mark.needs("redis-server")

Fields = dict[bytes, bytes]


@dataclass
class House:
    """A real Redis with a record that was signed and anchored after every third entry."""

    client: Any
    folder: Path
    clock: FakeClock
    anchors: FakeAnchors
    first: tuple[dict[bytes, Any], dict[str, str]] | None = None

    def begin(self) -> None:
        """Let the record be as it was written first."""
        self.client.flushall()
        if self.first is not None:
            dumps, notes = self.first
            for name, value in dumps.items():
                self.client.restore(name, 0, value)
            self.anchors.notes = dict(notes)
            return
        self._write()
        dumps = {name: self.client.dump(name) for name in self.client.scan_iter()}
        self.first = (dumps, dict(self.anchors.notes))

    def _write(self) -> None:
        self.anchors.notes.clear()
        RedisStore.over(self.client).initialise("5eed5eed5eed5eed")
        for seq in range(1, COUNT + 1):
            self.append(an_entry(seq).canonical())
            if seq % EVERY == 0:
                self.seal()

    def append(self, body: bytes, *, leaf: bytes | None = None) -> None:
        """Write an entry as the commit does."""
        rows = self.rows()
        previous = bytes.fromhex(rows[-1][b"chain"].decode()) if rows else GENESIS
        leaf = leaf_hash(body) if leaf is None else leaf
        chain, seq = chain_hash(previous, leaf).hex(), len(rows) + 1
        fields = {"entry": body, "leaf": leaf.hex(), "chain": chain}
        self.client.xadd(keys.RECORD, fields, id=f"{seq}-0")
        self.client.hset(keys.META, mapping={"seq": seq, "head": chain})

    def rows(self) -> list[Fields]:
        return [fields for _, fields in self.client.xrange(keys.RECORD)]

    def put(self, rows: list[Fields]) -> None:
        """Put other entries in the record's place, numbered as they come."""
        self.client.delete(keys.RECORD)
        for seq, fields in enumerate(rows, 1):
            self.client.xadd(keys.RECORD, fields, id=f"{seq}-0")
        end = rows[-1][b"chain"] if rows else GENESIS.hex()
        self.client.hset(keys.META, mapping={"seq": len(rows), "head": end})

    def seal(self) -> None:
        """Sign what is there, as a controller does that has just started."""
        store = RedisStore.over(self.client)
        Sealer(store, KEY, self.anchors, self.clock, FakeEntropy()).seal()

    def verdict(self, *, foreign: bool = False) -> Verdict:
        """What an outsider finds."""
        store = RedisStore.over(self.client)
        kept = [Kept(it.seq, it.text, it.leaf, it.chain) for it in store.record(limit=10**6)]
        file = b"".join(written(LOG, kept, store.checkpoints()))
        anchors = [Anchor(place, note.encode()) for place, note in self.anchors.notes.items()]
        return verify(read(file), [(FOREIGN if foreign else KEY).verifier], anchors)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("matrix")
    with redis_server(folder) as server:
        client = redis.Redis.from_url(server.url)
        yield House(client, folder, FakeClock(), FakeAnchors())


@pytest.fixture
def house(running: House) -> House:
    running.begin()
    assert running.verdict().kind == WHOLE
    return running


# --- what is done to it ---------------------------------------------------------------------------


def changed(fields: Fields, **changes: Any) -> bytes:
    return an_entry(**{**json.loads(fields[b"entry"]), **changes}).canonical()


def rebuilt(rows: list[Fields], since: int) -> list[Fields]:
    """The chain from an entry on, made anew so that all of it hangs together."""
    made: list[Fields] = []
    chain = GENESIS
    for seq, fields in enumerate(rows, 1):
        body = fields[b"entry"]
        if seq >= since:
            body = changed(fields, seq=seq) if json.loads(body)["seq"] != seq else body
        leaf = leaf_hash(body)
        chain = chain_hash(chain, leaf)
        made.append({b"entry": body, b"leaf": leaf.hex().encode(), b"chain": chain.hex().encode()})
    return made


def edit(house: House, at: int, body: bytes, *, leaf: bool = False) -> None:
    rows = house.rows()
    rows[at - 1] |= {b"entry": body}
    if leaf:
        rows[at - 1] |= {b"leaf": leaf_hash(body).hex().encode()}
    house.put(rows)


def flip_a_byte(house: House, at: int) -> None:
    body = house.rows()[at - 1][b"entry"]
    edit(house, at, body[:20] + bytes([body[20] ^ 1]) + body[21:])


def drop(house: House, at: int) -> None:
    rows = house.rows()
    del rows[at - 1]
    house.put(rows)


def swap(house: House, at: int) -> None:
    rows, other = house.rows(), min(at, COUNT - 1)
    rows[other - 1], rows[other] = rows[other], rows[other - 1]
    house.put(rows)


def duplicate(house: House, at: int) -> None:
    rows = house.rows()
    rows.insert(at, rows[at - 1])
    house.put(rows)


def cut_the_tail(house: House, at: int) -> None:
    house.put(house.rows()[: at - 1])


def rebuild(house: House, at: int) -> None:
    rows = house.rows()
    rows[at - 1] |= {b"entry": changed(rows[at - 1], after={"share": 990_000})}
    house.put(rebuilt(rows, at))


def sign_anew(house: House, at: int) -> None:
    """With a key of one's own, under our name; checkpoints and anchors as far as one can reach."""
    rebuild(house, at)
    house.client.delete(keys.CHECKPOINTS)
    leaves = [bytes.fromhex(fields[b"leaf"].decode()) for fields in house.rows()]
    for size in range(EVERY, COUNT + 1, EVERY):
        note = Checkpoint(LOG, 1, size, root(leaves[:size])).signed(FOREIGN)
        house.client.rpush(keys.CHECKPOINTS, note)


def prune_without_record(house: House, at: int) -> None:
    RedisStore.over(house.client).drop_bodies([(at, at)])


def prune_with_an_entry_that_nobody_signed(house: House, at: int) -> None:
    told = an_entry(COUNT + 1, action=PRUNE, after={"pruned": [[1, COUNT]], "states": {}})
    house.append(told.canonical())
    prune_without_record(house, at)


def edit_before(house: House, at: int) -> None:
    edit(house, at, changed(house.rows()[at - 1], before={"share": 1}))


def edit_after(house: House, at: int) -> None:
    edit(house, at, changed(house.rows()[at - 1], after={"share": 1}), leaf=True)


def change_the_salt(house: House, at: int) -> None:
    edit(house, at, changed(house.rows()[at - 1], salt="f" * 32))


def re_encode(house: House, at: int) -> None:
    edit(house, at, json.dumps(json.loads(house.rows()[at - 1][b"entry"])).encode())


def re_encode_with_its_leaf(house: House, at: int) -> None:
    body = json.dumps(json.loads(house.rows()[at - 1][b"entry"])).encode()
    edit(house, at, body, leaf=True)


Tamper = Callable[[House, int], None]
MATRIX: dict[Tamper, str] = {
    flip_a_byte: TAMPERED,
    drop: TAMPERED,
    swap: TAMPERED,
    duplicate: TAMPERED,
    cut_the_tail: TRUNCATED,
    rebuild: TAMPERED,
    sign_anew: WRONG_KEY,
    prune_without_record: TAMPERED,
    prune_with_an_entry_that_nobody_signed: TAMPERED,
    edit_before: TAMPERED,
    edit_after: TAMPERED,
    change_the_salt: TAMPERED,
    re_encode: TAMPERED,
    re_encode_with_its_leaf: TAMPERED,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tamper", MATRIX, ids=lambda it: it.__name__)
def test_each_has_its_kind_and_nobody_signs_it(house: House, tamper: Tamper, place: str):
    at = PLACES[place]

    tamper(house, at)

    verdict = house.verdict()
    # To drop the last entry is to cut the tail.
    last = tamper is drop and place == "last"
    assert verdict.kind == (TRUNCATED if last else MATRIX[tamper])
    if verdict.kind == TAMPERED:
        assert verdict.seq is not None
        reached = min(at, COUNT - 1) if tamper is swap else at + (tamper is duplicate)
        assert verdict.seq <= reached <= (verdict.until or verdict.seq)
    if verdict.kind == TRUNCATED:
        assert verdict.seq == at
    with pytest.raises(Unsealable):
        house.seal()


@pytest.mark.parametrize("place", PLACES)
def test_an_old_dump_that_was_put_back_is_truncated(tmp_path: Path, place: str):
    """Redis's own file, kept from before, and a restart: nothing in it is wrong."""
    anchors = FakeAnchors()
    at = PLACES[place]
    with redis_server(tmp_path, "--save", "3600 1") as server:
        house = House(redis.Redis.from_url(server.url), tmp_path, FakeClock(), anchors)
        RedisStore.over(house.client).initialise("5eed5eed5eed5eed")
        for seq in range(1, at):
            house.append(an_entry(seq).canonical())
        if at > 1:
            house.seal()
        house.client.save()
        shutil.copy(tmp_path / "dump.rdb", tmp_path / "old.rdb")
        for seq in range(at, COUNT + 1):
            house.append(an_entry(seq).canonical())
        house.seal()
        assert house.verdict().kind == WHOLE
    shutil.move(tmp_path / "old.rdb", tmp_path / "dump.rdb")

    with redis_server(tmp_path, "--save", "3600 1") as server:
        house = House(redis.Redis.from_url(server.url), tmp_path, FakeClock(), anchors)
        assert len(house.rows()) == at - 1
        verdict = house.verdict()
        assert (verdict.kind, verdict.seq) == (TRUNCATED, at)
        with pytest.raises(Unsealable, match=f"9 entries were signed, and {at - 1} are here"):
            house.seal()
        # And when it goes on from there, it is not what was signed.
        for seq in range(at, COUNT + 2):
            house.append(an_entry(seq, salt="e" * 32).canonical())
        assert house.verdict().kind == TAMPERED
        with pytest.raises(Unsealable, match="first 9 entries are not those that were signed"):
            house.seal()


@pytest.mark.parametrize("key", [FOREIGN, SigningKey("evil.example/record", bytes(32))])
def test_whoever_checks_with_another_key_is_told(house: House, key: SigningKey):
    assert house.verdict(foreign=key is FOREIGN).kind == (WRONG_KEY if key is FOREIGN else WHOLE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_any_single_mutation_of_what_is_older_than_the_last_anchor_is_caught(
    house: House, data: st.DataObject
):
    """Of any byte of what Redis has of it: body, leaf or chain."""
    rows = house.rows()
    try:
        at = data.draw(st.integers(1, COUNT), "entry")
        name = data.draw(st.sampled_from([b"entry", b"leaf", b"chain"]), "field")
        value = rows[at - 1][name]
        place = data.draw(st.integers(0, len(value) - 1), "byte")
        new = data.draw(st.integers(32, 126).filter(lambda code: code != value[place]), "value")
        mutated = value[:place] + bytes([new]) + value[place + 1 :]
        try:
            same = name != b"entry" and bytes.fromhex(mutated.decode()) == bytes.fromhex(
                value.decode()
            )
        except ValueError:
            return
        if same:
            return
        changed_rows = [dict(fields) for fields in rows]
        changed_rows[at - 1][name] = mutated
        house.put(changed_rows)

        try:
            verdict = house.verdict()
        except (ValueError, UnicodeDecodeError):
            # What is no hex cannot even be read.
            return

        assert verdict.kind == TAMPERED
        assert verdict.seq == at
    finally:
        house.put(rows)
