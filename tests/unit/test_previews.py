"""Links that are open or revoked: bounded, and forgotten when their time is over."""

from __future__ import annotations

import threading
from dataclasses import replace

import fakeredis
import pytest
from sortition.core.model import Change, InvalidSnapshot, Snapshot
from sortition.core.reading import read_snapshot
from sortition.record.note import SigningKey
from sortition.snapshots import HeldFlags

from flagserver.bootstrap import build_services, prepare
from flagserver.domain import previews
from flagserver.domain.commands import NewFlag, Reasoned
from flagserver.domain.documents import Principal
from flagserver.domain.errors import Conflict, NotFound
from flagserver.domain.previews import MOST_LINKS, MOST_REVOKED, Link, Links, NewPreview
from flagserver.domain.snapshots import difference
from flagserver.services import Services
from flagserver.services.snapshots import dump
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemEntropy
from tests.builders import FakeClock

ANA = Principal("person:5f2c91ab", "admin", "admin")
HOUR = 3600


def a_link(number: int, expires: int = 2000) -> Link:
    return Link(f"{number:016x}", "new-search", "on", ANA.id, "2026-11-28T12:00:00.000Z", expires)


def test_links_whose_time_is_over_are_forgotten() -> None:
    body = Links((a_link(1, 1000), a_link(2, 2000))).to_body()

    assert Links.from_body(body, 1000).links == (a_link(2, 2000),)
    assert Links.from_body({}, 0).links == ()


def test_there_are_only_so_many_links() -> None:
    full = Links(tuple(map(a_link, range(MOST_LINKS))))

    with pytest.raises(Conflict, match="Revoke some"):
        full.with_one(a_link(MOST_LINKS))
    assert len(full.without(a_link(7).id).with_one(a_link(MOST_LINKS)).links) == MOST_LINKS


def test_there_are_only_so_many_revoked_links() -> None:
    kept = {a_link(number).id: 2000 for number in range(MOST_REVOKED)}

    with pytest.raises(Conflict, match="preview key"):
        previews.revoked(kept, a_link(MOST_REVOKED), 1999)
    assert previews.revoked(kept, a_link(MOST_REVOKED, 3000), 2000) == {
        a_link(MOST_REVOKED).id: 3000
    }


# --- through the services -------------------------------------------------------------------------


class House:
    def __init__(self) -> None:
        self.clock = FakeClock()
        settings = Settings()
        self.store = RedisStore.over(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
        self.services: Services = build_services(settings, self.store, self.clock)
        prepare(settings, self.store, self.services, SystemEntropy())
        self.services.previews._signer = SigningKey("flags.example/preview", b"k" * 32)
        self.services.flags.create(NewFlag(key="new-search"), ANA)
        self.services.snapshots.load()

    def make(self, hours: int = 1) -> str:
        command = NewPreview(variant="on", hours=hours)
        made = self.services.previews.make("new-search", "production", command, ANA)
        return made.preview.id

    def revoke(self, id: str) -> None:
        self.services.previews.revoke("new-search", "production", id, Reasoned(), ANA)

    def open(self) -> list[str]:
        return [link.id for link in self.services.previews.open("new-search", "production", ANA)]

    def told(self, environment: str = "production") -> Snapshot:
        """Return what services are told, as the mirror hears of it."""
        self.services.snapshots.step(0.0)
        return self.services.snapshots.view(environment).snapshot


@pytest.fixture
def house() -> House:
    return House()


def test_a_revoked_link_travels_until_its_time_is_over(house: House) -> None:
    short, long = house.make(1), house.make(8)
    before = house.told()

    house.revoke(short)

    after = house.told()
    assert after.revoked_previews == (short,)
    assert after.version.version == before.version.version + 1
    assert house.told("staging").revoked_previews == ()
    house.clock.seconds += 2 * HOUR
    house.revoke(long)
    assert house.told().revoked_previews == (long,)


def test_making_a_link_is_no_news_to_services(house: House) -> None:
    before = house.told().version

    house.make()

    assert house.told().version == before


def test_whoever_starts_anew_is_told_too(house: House) -> None:
    id = house.make()
    house.revoke(id)

    house.services.snapshots.load()

    assert house.services.snapshots.view("production").snapshot.revoked_previews == (id,)


def test_a_link_is_revoked_once_and_only_where_it_is(house: House) -> None:
    id = house.make()
    house.services.flags.create(NewFlag(key="other"), ANA)

    with pytest.raises(NotFound):
        house.services.previews.revoke("other", "production", id, Reasoned(), ANA)
    house.revoke(id)
    with pytest.raises(NotFound):
        house.revoke(id)
    assert house.open() == []


def test_a_link_that_is_over_is_open_no_more(house: House) -> None:
    house.make(1)
    left = house.make(8)

    house.clock.seconds += 2 * HOUR

    assert house.open() == [left]


def test_two_who_make_links_at_once_both_keep_theirs(house: House) -> None:
    together = threading.Barrier(4)

    def make() -> None:
        together.wait()
        for _ in range(3):
            house.make()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(house.open())) == 12


# --- on the wire ----------------------------------------------------------------------------------


def test_what_has_no_revoked_previews_is_as_it_was(house: House) -> None:
    wire = house.told().to_wire()

    assert "revoked_previews" not in wire
    assert Snapshot.parse(wire).revoked_previews == ()


def test_a_snapshot_and_a_change_carry_them(house: House) -> None:
    before = house.told()
    id = house.make()
    house.revoke(id)
    after = house.told()

    assert Snapshot.parse(after.to_wire()) == after
    assert read_snapshot(dump(after.to_wire()).decode(), lambda _: False) == after
    change = Change.parse(difference(before, after).to_wire())
    assert before.apply(change) == after
    held = HeldFlags({})
    held.put(before)
    held.change(change)
    assert held.now.revoked_previews == (id,)
    assert held.now.snapshot() == after


def test_a_change_of_flags_leaves_them(house: House) -> None:
    before = replace(house.told(), revoked_previews=("0" * 16,))
    version = replace(before.version, version=before.version.version + 1)
    change = difference(before, replace(before, version=version))

    assert "revoked_previews" not in change.to_wire()
    held = HeldFlags({})
    held.put(before)
    held.change(change)
    assert held.now.revoked_previews == before.apply(change).revoked_previews == ("0" * 16,)


@pytest.mark.parametrize("told", ["0", [1], ["x"] * 1001, {"a": 1}])
def test_what_cannot_be_ids_is_refused(house: House, told: object) -> None:
    with pytest.raises(InvalidSnapshot, match="revoked_previews"):
        Snapshot.parse({**house.told().to_wire(), "revoked_previews": told})
