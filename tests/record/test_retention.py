"""Ninety days later: what the record told is gone, and that it was told still holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from pydantic import ValidationError
from sortition.record.export import Kept, read, written
from sortition.record.replay import replay
from sortition.record.verify import PRUNE, TAMPERED, WHOLE, Anchor, Verdict, verify

from flagserver.domain import documents, retention
from flagserver.domain.commands import EnvironmentEdit, NewEnvironment, NewFlag, StateEdit
from flagserver.domain.documents import Principal
from flagserver.domain.errors import Conflict
from flagserver.domain.retention import DAY_SECONDS
from flagserver.ports import StoreIdentity
from flagserver.services.environments import Environments
from flagserver.services.flags import Flags
from flagserver.services.pruning import Pruner, Pruning, read_things
from flagserver.services.sealing import Sealer, Unsealable
from flagserver.storage.redis import bodies, keys
from flagserver.storage.redis.store import RedisStore
from tests.anchors import FakeAnchors
from tests.builders import FakeClock, FakeEntropy
from tests.record.records import KEY, LOG
from tests.servers import embedded_store, redis_server, wait_until

BY = Principal("token:ab12cd", "admin", "admin")
CANARY = "canary-7f3a"


class House:
    """A store with a record, signed and anchored, and what prunes it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.store = RedisStore.over(client)
        self.store.initialise("5eed5eed5eed5eed")
        self.clock, self.entropy, self.anchors = FakeClock(), FakeEntropy(), FakeAnchors()
        self.environments = Environments(self.store, self.clock, self.entropy)
        for key in ("staging", "production"):
            self.environments.create(NewEnvironment(key=key), BY)
        self.flags = Flags(self.store, self.clock, self.entropy)
        self.pruner = self.another_pruner()

    def another_pruner(self, *, signed: bool = True) -> Pruner:
        key = KEY.verifier if signed else None
        return Pruner(self.store, self.clock, self.entropy, key)

    def seal(self) -> None:
        """Sign what is there, as a controller does that has just taken over."""
        Sealer(self.store, KEY, self.anchors, self.clock, self.entropy).seal()

    def prune(self) -> None:
        """Prune all that is due, with the signing that it waits for."""
        for _ in range(200):
            self.seal()
            if self.pruner.prune():
                return
        raise AssertionError("it does not come to an end")

    def keep_for(self, environment: str, days: int) -> None:
        view = self.environments.get(environment)
        edit = EnvironmentEdit(retention_days=days, reason="as the works council wants it")
        self.environments.edit(environment, edit, view.revision, BY)

    def write(self, environment: str | None = None, reason: str = "why") -> int:
        fact = documents.Fact("token:ab12cd", "admin", "t:c", "t/1", environment, reason=reason)
        change = documents.Change(writes=(), fact=fact)
        salt = self.entropy.hex(16)
        return self.store.commit(change, at=self.clock.now(), salt=salt).seq

    def wait(self, days: float) -> None:
        self.clock.seconds += days * DAY_SECONDS

    def gone(self) -> list[int]:
        return [link.seq for link in self.store.record(limit=10**6) if link.canonical is None]

    def prunes(self) -> list[Any]:
        links = self.store.record(limit=10**6)
        told = [json.loads(link.canonical) for link in links if link.canonical is not None]
        return [entry for entry in told if entry["action"] == PRUNE]

    def export(self) -> bytes:
        kept = [Kept(it.seq, it.text, it.leaf, it.chain) for it in self.store.record(limit=10**6)]
        return b"".join(written(LOG, kept, self.store.checkpoints()))

    def verdict(self) -> Verdict:
        anchors = [Anchor(place, note.encode()) for place, note in self.anchors.notes.items()]
        return verify(read(self.export()), [KEY.verifier], anchors)

    def replayed(self) -> Any:
        of, things = read_things(self.store)
        texts = [link.text for link in self.store.record(limit=10**6)]
        return replay(texts[:of], things)


@pytest.fixture
def house() -> House:
    return House(fakeredis.FakeRedis())


def test_after_ninety_days_bodies_go_and_all_of_it_still_verifies(house: House):
    first = house.write("production", CANARY)
    house.wait(92)
    later = house.write("production", "later")

    house.prune()

    assert house.gone() == list(range(1, first + 1))
    verdict = house.verdict()
    assert (verdict.kind, verdict.pruned) == (WHOLE, first)
    assert verdict.anchored == verdict.entries == later + 1
    assert CANARY not in str(house.client.xrange(keys.RECORD))
    assert CANARY.encode() not in house.export()
    (told,) = house.prunes()
    assert told["after"]["pruned"] == [[1, first]]


def test_what_is_younger_stays(house: House):
    house.write("production")
    house.wait(89.9)

    house.prune()

    assert house.gone() == []
    assert house.prunes() == []


def test_each_environment_has_its_own_time(house: House):
    house.keep_for("staging", 7)
    short, long = house.write("staging"), house.write("production")
    shared = house.write(None)
    house.wait(9)

    house.prune()

    gone = house.gone()
    assert short in gone
    assert long not in gone
    # It concerns all of them: as long as the longest.
    assert shared not in gone
    assert house.verdict().kind == WHOLE


def test_how_long_is_changed_by_an_entry_only(house: House):
    house.keep_for("staging", 7)

    told = house.store.history(
        target="environment/staging", environment=None, before=None, limit=1
    )[0]
    assert (told["action"], told["actor"]) == ("environment:edit", BY.id)
    days = [told[when]["retention_days"] for when in ("before", "after")]
    assert days == [retention.DAYS, 7]
    for wrong in (0, 3651, 7.5):
        with pytest.raises(ValidationError, match="retention_days"):
            EnvironmentEdit(retention_days=wrong)  # type: ignore[arg-type]


def test_a_longer_time_is_kept_to(house: House):
    house.keep_for("production", 400)
    kept, gone = house.write("production"), house.write("staging")
    house.wait(200)

    house.prune()

    assert gone in house.gone()
    assert kept not in house.gone()


def test_what_flags_are_still_follows_from_what_remains(house: House):
    """Their entries are pruned; the prune tells what they were."""
    flag = house.flags.create(NewFlag(key="new-search"), BY)
    for key, share in (("new-search", 5.0), ("new-search", 25.0)):
        state = house.flags.state(key, "production")
        house.flags.change(key, "production", StateEdit(share=share), state.revision, BY)
    house.wait(92)
    house.prune()
    assert flag.flag.key in str(house.prunes()[-1]["after"]["states"])
    found = house.replayed()
    assert (found.findings, found.things) == ((), 2)

    state = house.flags.state("new-search", "production")
    house.flags.change("new-search", "production", StateEdit(share=50.0), state.revision, BY)
    assert house.replayed().findings == ()


@pytest.mark.parametrize("then", ["stays", "is changed again"])
def test_a_flag_that_is_changed_around_the_record_is_found_also_when_its_entries_are_gone(
    house: House, then: str
):
    house.flags.create(NewFlag(key="new-search"), BY)
    state = house.flags.state("new-search", "production")
    house.flags.change("new-search", "production", StateEdit(share=5.0), state.revision, BY)
    house.wait(92)
    house.prune()
    place = keys.documents(documents.states("production"))
    kept = house.client.hget(place, "new-search").replace(b'"share":50000', b'"share":990000')
    house.client.hset(place, "new-search", kept)
    if then == "is changed again":
        state = house.flags.state("new-search", "production")
        house.flags.change("new-search", "production", StateEdit(share=1.0), state.revision, BY)

    (finding,) = house.replayed().findings

    assert finding.thing == "production/flag/new-search"
    assert finding.kind == ("other" if then == "stays" else "between")
    assert "as the newest prune tells" in finding.words


def test_a_later_prune_tells_of_the_earlier_ones_too_and_of_their_entries(house: House):
    house.write("production")
    for _ in range(3):
        house.wait(92)
        house.write("production")
        house.prune()

    # The first two prunes are themselves old enough to be gone by now.
    (told,) = house.prunes()
    assert house.gone() == list(range(told["after"]["pruned"][0][0], house.gone()[-1] + 1))
    assert house.verdict().kind == WHOLE


def test_nothing_goes_before_its_prune_is_signed(house: House):
    first = house.write("production")
    house.wait(92)
    house.seal()

    for _ in range(3):
        assert house.pruner.prune() is False
    assert house.gone() == []
    assert len(house.prunes()) == 1

    house.seal()
    assert house.pruner.prune() is True
    assert first in house.gone()


def test_a_prune_of_before_a_loss_is_told_anew(house: House):
    """Its entry may be among what was lost."""
    first = house.write("production")
    house.wait(92)
    house.seal()
    assert house.pruner.prune() is False
    found, fact = house.store.state(), documents.Fact("operator", "operator", "store:accept", "s")
    assert found is not None
    house.store.accept(
        *(documents.Change(writes=(), fact=fact), found, StoreIdentity(found.store, 2)),
        at=house.clock.now(),
        salt="00" * 16,
    )

    house.prune()

    assert first in house.gone()
    assert [entry["epoch"] for entry in house.prunes()] == [1, 2]
    assert house.verdict().kind == WHOLE


def test_where_nothing_is_signed_bodies_go_all_the_same(house: House):
    house.write("production")
    house.wait(92)

    assert house.another_pruner(signed=False).prune() is True
    assert house.gone() != []
    # Whoever begins to sign then signs what is there.
    house.seal()
    assert house.verdict().kind == WHOLE


def test_what_an_operator_accepted_stays_readable(house: House):
    """Epochs and losses are told by it."""
    house.write("production")
    entry = {"action": "store:accept", "environment": None, "ts": "2020-01-01T00:00:00.000Z"}

    assert not retention.is_due(entry, {}, house.clock.now().timestamp())
    assert retention.is_due({**entry, "action": "t:c"}, {}, house.clock.now().timestamp())


def test_bodies_that_went_without_a_word_are_not_signed(house: House):
    """Somebody with the store takes one out by hand."""
    for _ in range(3):
        house.write("production")
    house.seal()
    house.store.drop_bodies([(4, 4)])

    with pytest.raises(Unsealable, match="Entry 4: its body is gone, and no signed entry says so"):
        house.seal()
    verdict = house.verdict()
    assert (verdict.kind, verdict.seq) == (TAMPERED, 4)


def test_one_more_than_was_told_is_found(house: House):
    first = house.write("production")
    house.wait(92)
    house.write("production")
    house.prune()
    house.store.drop_bodies([(first + 1, first + 1)])

    with pytest.raises(Unsealable, match=f"Entry {first + 1}: its body is gone"):
        house.seal()
    assert (house.verdict().kind, house.verdict().seq) == (TAMPERED, first + 1)


def test_a_large_record_is_written_anew_in_parts(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "PART", 3)
    for _ in range(10):
        house.write("production")
    before = house.store.record()

    house.store.drop_bodies([(2, 2), (5, 9)])

    after = house.store.record()
    assert house.gone() == [2, 5, 6, 7, 8, 9]
    assert [(it.seq, it.leaf, it.chain) for it in after] == [
        (it.seq, it.leaf, it.chain) for it in before
    ]
    assert house.write("production") == len(before) + 1
    assert house.client.exists(keys.RECORD_COPY) == 0


def test_two_that_prune_at_a_time_do_no_harm(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "PART", 3)
    for _ in range(10):
        house.write("production")
    copied, other = house.store._copy, RedisStore.over(house.client)
    calls: list[int] = []

    def overtaken(at: int, ranges: Any) -> Any:
        calls.append(at)
        if len(calls) == 3:
            other.drop_bodies([(1, 4)])
        return copied(at, ranges)

    monkeypatch.setattr(house.store, "_copy", overtaken)
    with pytest.raises(Conflict, match="Another process prunes"):
        house.store.drop_bodies([(1, 4)])

    assert house.gone() == [1, 2, 3, 4]
    assert len(house.store.record()) == 12


def test_one_process_prunes(house: House):
    house.write("production")
    house.wait(92)
    one = Pruning(house.another_pruner(signed=False), house.store, "one")
    two = Pruning(house.another_pruner(signed=False), house.store, "two")

    one.look()
    two.look()

    assert len(house.prunes()) == 1
    assert one.pause(True) > one.pause(False)


# --- on a real disk -------------------------------------------------------------------------------


@pytest.fixture(params=["redis", "embedded"])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[House, Path]]:
    if request.param == "embedded":
        with embedded_store(tmp_path) as store:
            yield House(redis.Redis.from_url(store.url)), tmp_path
    else:
        # Else what is to be gone could be there and not be seen.
        plain = ["--rdbcompression", "no"]
        with redis_server(tmp_path, "--appendonly", "yes", *plain) as server:
            yield House(redis.Redis.from_url(server.url)), tmp_path


@pytest.mark.needs("redis-server")
def test_bodies_leave_the_store_its_log_and_its_exports(real: tuple[House, Path]):
    house, folder = real
    house.write("production", CANARY)
    assert CANARY in on_disk(folder)
    house.wait(92)
    house.write("production", "later")

    def pruned() -> bool:
        house.seal()
        return house.pruner.prune()

    wait_until(pruned, "the store's log be written anew")

    assert house.verdict().kind == WHOLE
    assert CANARY.encode() not in house.export()
    assert CANARY not in on_disk(folder)
    assert "later" in on_disk(folder)
    for key in house.client.scan_iter():
        assert CANARY.encode() not in (house.client.dump(key) or b"")
    assert house.client.get(keys.REWRITE) is None


def on_disk(folder: Path) -> str:
    """All that lies in the store's directory."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "".join(path.read_bytes().decode(errors="replace") for path in files)
