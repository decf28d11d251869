"""What is known is kept: a store that was emptied, exchanged or set back never replaces it."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from click.testing import CliRunner
from sortition.record.note import SigningKey

from flagserver import bootstrap, main
from flagserver.domain import retention
from flagserver.domain.commands import EnvironmentEdit, NewToken, Reasoned
from flagserver.domain.errors import (
    ConfirmationRequired,
    Conflict,
    StoreUnavailable,
    Unauthenticated,
)
from flagserver.domain.previews import NewPreview
from flagserver.domain.schedule_commands import TemplateBody
from flagserver.domain.stores import Conditions
from flagserver.ports import StoreIdentity
from flagserver.services import Services
from flagserver.services.recovery import Recovery
from flagserver.settings import Settings
from flagserver.storage import copies as disk
from flagserver.storage.copies import DiskCopies
from flagserver.storage.redis.server import Server
from flagserver.storage.redis.store import RedisStore
from tests.builders import ADMIN, SURE, FakeClock, FakeEntropy, House


@dataclass
class Site:
    """A machine with a disk, and the server that its store stands for; both can be exchanged."""

    directory: Path
    server: fakeredis.FakeServer = field(default_factory=fakeredis.FakeServer)
    clock: FakeClock = field(default_factory=FakeClock)
    houses: int = 0

    @property
    def copies(self) -> DiskCopies:
        return DiskCopies(self.directory / "known")

    @property
    def client(self) -> Any:
        return fakeredis.FakeRedis(server=self.server)

    def house(self) -> House:
        """Return somebody who changes things, wherever that may be."""
        self.houses += 1
        entropy = FakeEntropy()
        entropy._numbers = count(self.houses * 10_000)
        return House(store=RedisStore.over(self.client), entropy=entropy)

    def process(self) -> Services:
        """Return a web process as it is right after its start."""
        services = bootstrap.build_services(
            Settings(), self.store(), self.clock, FakeEntropy(), self.copies
        )
        services.snapshots.restore()
        return services

    def serving(self) -> Services:
        """Return a web process that follows its store and has written down what it knows."""
        services = self.process()
        follow(services)
        services.snapshots.keep()
        return services

    def store(self) -> RedisStore:
        """Return a store over whichever server stands there at each moment."""
        return RedisStore(_changing(self), pause=lambda _: None)

    def recovery(self) -> Recovery:
        return Recovery(RedisStore.over(self.client), self.clock, FakeEntropy(), self.copies)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.server.connected = False
        yield
        self.server.connected = True


def _changing(site: Site) -> Server:
    class Client:
        """Asks whichever server stands there now."""

        def __getattr__(self, name: str) -> Any:
            return getattr(site.client, name)

    return Server(Client, "site")


def prepare(site: Site, services: Services) -> None:
    """Make a new installation's first things, as a web process does at its start."""
    bootstrap.prepare(Settings(), site.store(), services, FakeEntropy())


def follow(services: Services) -> None:
    services.snapshots.trust._looked = float("-inf")
    services.snapshots._checked = float("-inf")
    services.snapshots.step(0)


def share(services: Services, flag: str = "flag", environment: str = "production") -> float:
    found = services.snapshots.view(environment).snapshot.flags[flag]
    return 0 if found.killed else found.share / 10_000


def alarm(services: Services) -> str | None:
    found = services.snapshots.trust.alarm
    return None if found is None else found.kind


def backup(client: Any) -> dict[bytes, bytes]:
    return {key: client.dump(key) for key in client.keys("*")}


def restore(client: Any, kept: dict[bytes, bytes]) -> None:
    client.flushall()
    for key, value in kept.items():
        client.restore(key, 0, value)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def house(site: Site) -> House:
    """A house with a flag at 25 % in production."""
    made = site.house()
    made.create()
    made.change(environment="production", share=25, **SURE)
    return made


# --- starting without the store -------------------------------------------------------------------


def test_a_start_without_the_store_serves_the_disk(site: Site, house: House):
    made = house.services.tokens.create(NewToken(scope="sdk", environment="production"), ADMIN)
    site.serving()

    with site.away():
        services = site.process()
        health = services.health()

        assert share(services) == 25
        assert services.tokens.authenticate(str(made.text)).environment == "production"
        assert (health.ready, health.writable, health.source) == (True, False, "disk")
        assert "own disk" in " ".join(health.problems)
        with pytest.raises(StoreUnavailable):
            services.snapshots.step(0)
    # and goes on from there
    follow(services)
    assert services.health().source == "store"
    assert services.health().writable


def test_with_nothing_on_the_disk_nothing_is_served(site: Site):
    with site.away():
        services = site.process()

        assert not services.health().ready
        with pytest.raises(StoreUnavailable):
            services.snapshots.view("production")


def test_the_disk_holds_no_secret_and_nothing_for_others(site: Site, house: House):
    made = house.services.tokens.create(
        NewToken(scope="sdk", environment="production", description="of the shop"), ADMIN
    )
    site.serving()

    directory = site.directory / "known"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = {path.name: path for path in directory.iterdir()}
    assert files.keys() == {
        *("lock", "store.json", "tokens.json", "environments.json", "flags-development.json"),
        *("flags-staging.json", "flags-production.json"),
    }
    for path in files.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = path.read_text()
        assert str(made.text).rpartition("_")[2] not in text
        assert "of the shop" not in text


def test_a_revoked_token_is_refused_from_the_disk(site: Site, house: House):
    made = house.services.tokens.create(NewToken(scope="sdk", environment="production"), ADMIN)
    house.services.tokens.revoke(made.token.id, Reasoned(), ADMIN)
    site.serving()

    with site.away(), pytest.raises(Unauthenticated):
        site.process().tokens.authenticate(str(made.text))


def test_a_token_that_is_not_on_the_disk_cannot_be_judged(site: Site, house: House):
    site.serving()
    made = house.services.tokens.create(NewToken(scope="sdk", environment="production"), ADMIN)

    services = site.process()

    with pytest.raises(StoreUnavailable):
        services.tokens.authenticate(str(made.text))
    with pytest.raises(Unauthenticated):
        services.tokens.authenticate("garbage")


# --- a store that is not what it was --------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
def test_an_emptied_store_replaces_nothing(site: Site, house: House, restarted: bool):
    services = site.serving()
    site.client.flushall()

    if restarted:
        services = site.process()
        with pytest.raises(StoreUnavailable, match="empty"):
            prepare(site, services)
    follow(services)

    assert share(services) == 25
    assert alarm(services) == "empty"
    assert not services.health().writable
    assert site.client.keys("*") == [], "nothing is made in it"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_foreign_store_replaces_nothing_and_its_tokens_open_nothing(
    site: Site, house: House, restarted: bool
):
    services = site.serving()
    site.server = fakeredis.FakeServer()
    other = site.house()
    other.create("another")
    made = other.services.tokens.create(NewToken(scope="sdk", environment="production"), ADMIN)

    if restarted:
        services = site.process()
    follow(services)

    assert alarm(services) == "foreign"
    assert services.snapshots.views()["production"].snapshot.flags.keys() == {"flag"}
    with pytest.raises(StoreUnavailable):
        services.tokens.authenticate(str(made.text))
    with pytest.raises(StoreUnavailable, match="Nothing was changed"):
        services.flags.kill("another", "production", Reasoned(), ADMIN)


@pytest.mark.parametrize("restarted", [False, True])
def test_an_older_copy_replaces_nothing(site: Site, house: House, restarted: bool):
    old = backup(site.client)
    house.kill(environment="production")
    services = site.serving()
    restore(site.client, old)

    if restarted:
        services = site.process()
    follow(services)

    assert alarm(services) == "behind"
    assert share(services) == 0
    with pytest.raises(StoreUnavailable, match="lost changes"):
        services.flags.kill("flag", "staging", Reasoned(), ADMIN)


def test_an_older_copy_that_went_on_is_found_by_its_record(site: Site, house: House):
    """As many changes were made as were lost: no version is lower, and yet it is not the same."""
    old = backup(site.client)
    house.kill(environment="production")
    services = site.serving()
    restore(site.client, old)
    site.house().change(environment="production", share=100, **SURE)
    site.house().change(environment="production", share=90, **SURE)

    follow(services)

    assert alarm(services) == "behind"
    assert share(services) == 0


def test_an_older_copy_that_lost_only_a_token_is_found_too(site: Site, house: House):
    made = house.services.tokens.create(NewToken(scope="sdk", environment="production"), ADMIN)
    old = backup(site.client)
    house.services.tokens.revoke(made.token.id, Reasoned(), ADMIN)
    services = site.serving()
    restore(site.client, old)

    follow(services)

    assert alarm(services) == "behind"
    with pytest.raises(Unauthenticated):
        services.tokens.authenticate(str(made.text))


def test_the_alarm_is_told_once_and_ends_when_the_right_store_is_back(
    site: Site, house: House, caplog: pytest.LogCaptureFixture
):
    services = site.serving()
    right = site.server
    site.server = fakeredis.FakeServer()

    for _ in range(3):
        follow(services)
    assert [r.levelno for r in caplog.records].count(logging.ERROR) == 1

    site.server = right
    house.change(environment="production", share=50, **SURE)
    follow(services)

    assert alarm(services) is None
    assert share(services) == 50
    services.flags.kill("flag", "production", Reasoned(), ADMIN)


def test_a_store_that_throws_flags_away_is_not_followed(
    site: Site, house: House, monkeypatch: pytest.MonkeyPatch
):
    services = site.serving()
    bad = Conditions(policy="allkeys-lru", limit=10_000_000)
    monkeypatch.setattr(RedisStore, "conditions", lambda _: bad)
    house.change(environment="production", share=50, **SURE)

    follow(services)
    assert alarm(services) == "unsafe"
    assert share(services) == 25
    with pytest.raises(StoreUnavailable, match="noeviction"):
        services.flags.kill("flag", "production", Reasoned(), ADMIN)

    monkeypatch.setattr(RedisStore, "conditions", lambda _: Conditions(policy="noeviction"))
    follow(services)
    assert alarm(services) is None
    assert share(services) == 50


# --- an operator decides --------------------------------------------------------------------------


def test_an_accepted_older_store_is_taken_everywhere_and_kills_what_it_would_expose(
    site: Site, house: House
):
    house.create("other")
    house.change("other", environment="production", share=10, **SURE)
    old = backup(site.client)
    house.kill(environment="production")
    here = site.serving()
    there = Site(site.directory / "there", site.server).serving()
    served = here.snapshots.views()["production"].snapshot.version
    restore(site.client, old)
    for services in (here, there):
        follow(services)
        assert alarm(services) == "behind"

    report = site.recovery().look()
    assert report.found is not None
    assert dict(report.exposes) == {"production": ["flag"]}
    done = site.recovery().accept(report.found.store, "the failover lost a second")

    assert dict(done.killed) == {"production": ["flag"]}
    for services in (here, there, site.process()):
        follow(services)
        assert alarm(services) is None
        assert (share(services), share(services, "other")) == (0, 10)
        now = services.snapshots.views()["production"].snapshot.version
        assert now.follows(served), "SDKs take it"
    # changes go on, and the record tells who decided, and why
    here.flags.kill("other", "production", Reasoned(), ADMIN)
    [_, entry] = here.record.recent(limit=2)
    assert (entry["action"], entry["actor"]) == ("store:accept", "operator")
    assert entry["reason"] == "the failover lost a second"
    assert here.record.check() is None


def test_an_older_store_can_be_taken_as_it_is(site: Site, house: House):
    old = backup(site.client)
    house.kill(environment="production")
    services = site.serving()
    restore(site.client, old)
    follow(services)

    report = site.recovery().look()
    assert report.found is not None
    site.recovery().accept(report.found.store, "meant", as_is=True)
    follow(services)

    assert share(services) == 25


def test_an_emptied_store_is_filled_with_what_was_known(site: Site, house: House):
    house.create("other")
    house.change("other", environment="staging", share=10)
    house.kill("other", environment="staging")
    made = house.services.tokens.create(NewToken(scope="sdk", environment="production"), ADMIN)
    services = site.serving()
    before = dict(services.snapshots.views())
    site.client.flushall()
    follow(services)

    done = site.recovery().accept("empty", "the disk is gone")
    follow(services)

    assert dict(done.filled) == {"development": 2, "production": 2, "staging": 2}
    assert alarm(services) is None
    for name, view in services.snapshots.views().items():
        was, now = before[name].snapshot, view.snapshot
        assert now.version.follows(was.version)
        assert {k: replace(f, revision=0) for k, f in now.flags.items()} == {
            k: replace(f, revision=0) for k, f in was.flags.items()
        }
    assert services.tokens.authenticate(str(made.text)).environment == "production"
    # It is a whole installation again.
    prepare(site, services)
    assert site.process().record.check() is None
    house = site.house()
    house.change(environment="production", share=50, **SURE)
    with pytest.raises(ConfirmationRequired):
        house.change(environment="production", share=60, reason="a test")
    follow(services)
    assert share(services) == 50


def switches(services: Services, environment: str = "production") -> tuple[Any, ...]:
    """Return what is said of an environment: four eyes, uniform, critical, its schedule, days."""
    it = services.environments.get(environment).environment
    return (it.four_eyes, it.uniform, it.critical, it.default_schedule, it.retention_days)


def edit(services: Services, environment: str = "production", **told: Any) -> None:
    some = services.environments
    revision = some.get(environment).revision
    some.edit(environment, EnvironmentEdit.model_validate(told), revision, ADMIN)


def told(site: Site) -> list[tuple[str, str | None]]:
    """Return what people are told since the store was filled."""
    found = RedisStore.over(site.client).undelivered("log", limit=99)
    return [(notice.kind, notice.environment) for _, notice in found]


def test_a_store_that_is_filled_wants_two_people_where_it_did(site: Site, house: House):
    services = site.serving()
    edit(house.services, four_eyes=True, uniform=True, retention_days=400)
    edit(house.services, default_schedule="10%:5m,100%")
    edit(house.services, "staging", critical=True)
    follow(services)
    services.snapshots.keep()
    site.client.flushall()
    follow(services)

    done = site.recovery().accept("empty", "the disk is gone")

    assert switches(site.house().services) == (True, True, True, "10%:5m,100%", 400)
    assert switches(site.house().services, "staging")[2]
    assert (done.loosened, told(site)) == ((), [])


def test_a_schedule_that_is_gone_is_nobodys_default(site: Site, house: House):
    careful = TemplateBody(schedule="1%:1h,100%")
    house.services.schedules.put("production", "careful", careful, None, ADMIN)
    edit(house.services, default_schedule="careful", four_eyes=True)
    services = site.serving()
    site.client.flushall()
    follow(services)

    site.recovery().accept("empty", "the disk is gone")

    assert switches(site.house().services) == (True, False, True, "standard", retention.DAYS)


def test_where_it_was_not_kept_what_an_environment_said_people_are_told(
    site: Site, house: House, monkeypatch: pytest.MonkeyPatch
):
    edit(house.services, four_eyes=True)
    services = site.serving()
    # As an older version left it.
    (site.directory / "known" / "environments.json").unlink()
    site.client.flushall()
    follow(services)

    monkeypatch.setattr(main, "recovery_of", lambda settings: site.recovery())
    options = ["--store", "empty", "--reason", "the disk is gone"]
    said = CliRunner().invoke(main.store_accept, options)

    everywhere = ("development", "production", "staging")
    assert said.exit_code == 0, said.output
    for name in everywhere:
        assert f"! Enlarging in {name} waits for no second person now." in said.output
    assert told(site) == [("environment:loosen", name) for name in everywhere]
    (entry,) = site.house().services.record.recent(limit=1)
    assert entry["after"]["loosened"] == list(everywhere)
    assert not switches(site.house().services)[0]


@pytest.mark.parametrize("as_is", [False, True], ids=["by half", "as it is"])
def test_people_are_told_where_a_store_that_is_taken_wants_one_person_only(
    site: Site, house: House, as_is: bool
):
    services = site.serving()
    old = backup(site.client)
    edit(house.services, four_eyes=True)
    follow(services)
    services.snapshots.keep()
    restore(site.client, old)
    follow(services)
    report = site.recovery().look()
    assert report.found is not None

    done = site.recovery().accept(report.found.store, "a backup", as_is=as_is)

    assert done.loosened == ("production",)
    assert told(site)[-1] == ("environment:loosen", "production")


def test_what_was_revoked_stays_so_in_a_store_that_is_filled(site: Site, house: House):
    serving = site.serving()
    serving.previews._signer = SigningKey("flags.example/preview", b"k" * 32)
    made = serving.previews.make("flag", "production", NewPreview(variant="on"), ADMIN)
    serving.previews.revoke("flag", "production", made.preview.id, Reasoned(), ADMIN)
    follow(serving)
    serving.snapshots.keep()
    site.client.flushall()
    follow(serving)

    site.recovery().accept("empty", "the disk is gone")
    follow(serving)

    for services in (serving, site.serving()):
        told = services.snapshots.view("production").snapshot
        assert told.revoked_previews == (made.preview.id,)


def test_an_emptied_store_can_be_taken_as_it_is(site: Site, house: House):
    services = site.serving()
    served = services.snapshots.views()["production"].snapshot.version
    site.client.flushall()
    follow(services)

    site.recovery().accept("empty", "begin anew", as_is=True)
    prepare(site, services)
    follow(services)

    assert alarm(services) is None
    view = services.snapshots.views()["production"].snapshot
    assert dict(view.flags) == {}
    assert view.version.epoch == served.epoch + 1


def test_a_foreign_store_can_be_accepted_and_gets_the_known_id(site: Site, house: House):
    services = site.serving()
    served = services.snapshots.views()["production"].snapshot.version
    site.server = fakeredis.FakeServer()
    other = site.house()
    other.create("flag")
    other.change(environment="production", share=5, **SURE)
    newcomer = Site(site.directory / "elsewhere", site.server).serving()
    follow(services)
    id = str(newcomer.health().store)

    site.recovery().accept(id, "a new machine")

    for each in (services, newcomer):
        follow(each)
        assert alarm(each) is None
        view = each.snapshots.views()["production"].snapshot
        assert view.version.store == served.store
        assert view.version.epoch == served.epoch + 1
        # It has another salt, so another part of the requests would be exposed.
        assert view.flags["flag"].killed


def test_only_what_was_named_is_accepted(site: Site, house: House):
    recovery = site.recovery()
    site.serving()

    with pytest.raises(Conflict, match="nothing to decide"):
        recovery.accept("anything", "why not")
    site.client.flushall()
    with pytest.raises(Conflict, match="is empty, and not anything"):
        recovery.accept("anything", "a slip")
    assert site.client.keys("*") == []


def test_a_machine_that_knows_nothing_has_to_be_told(site: Site, house: House, tmp_path: Path):
    new = Site(tmp_path / "new", site.server)
    known = house.store.identity()

    with pytest.raises(Conflict, match="nothing to decide"):
        new.recovery().accept(known.store, "why not")
    done = new.recovery().accept(
        known.store, "SDKs know another", in_place_of=StoreIdentity("5dks", 3)
    )

    assert done.identity == StoreIdentity("5dks", 4)


# --- the disk itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "not ours"])
@pytest.mark.parametrize(
    "name", ["flags-production.json", "tokens.json", "store.json", "environments.json"]
)
def test_a_damaged_file_is_not_there(site: Site, house: House, name: str, damage: str):
    site.serving()
    path = site.directory / "known" / name
    octets = path.read_bytes()
    flipped = octets[:-20] + bytes([octets[-20] ^ 1]) + octets[-19:]
    new = {"flipped": flipped, "cut": octets[:-1], "emptied": b"", "not ours": b"hello\n{}"}
    path.write_bytes(new[damage])

    with site.away():
        services = site.process()
        health = services.health()

    assert any(name in problem for problem in health.problems)
    if name == "flags-production.json":
        with pytest.raises(StoreUnavailable):
            services.snapshots.view("production")
        assert services.snapshots.view("staging").snapshot.flags
    else:
        assert share(services) == 25
    # Even without the file that names it, the store is known by the flags.
    site.client.flushall()
    follow(services)
    assert alarm(services) == "empty"


def test_a_damaged_file_is_mended_by_what_the_store_says(site: Site, house: House):
    site.serving()
    path = site.directory / "known" / "flags-production.json"
    path.write_bytes(b"damaged")

    site.serving()

    assert site.copies.read().problems == ()
    assert site.copies.read().snapshots.keys() == {"production", "staging", "development"}


def test_a_full_disk_is_told_and_serving_goes_on(
    site: Site, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    services = site.serving()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "write_checked", full)
    for percent in (50, 75):
        house.change(environment="production", share=percent, **SURE)
        follow(services)
        services.snapshots.keep()

    assert share(services) == 75
    assert "No space left" in " ".join(services.health().problems)
    assert len(caplog.records) == 1
    monkeypatch.undo()
    services.snapshots.keep()
    assert services.health().problems == ()
    assert site.copies.read().snapshots["production"].flags["flag"].share == 750_000


def test_of_two_processes_the_newer_keeps(site: Site, house: House):
    slow = site.serving()
    house.change(environment="production", share=50, **SURE)
    site.serving()
    newer = {path.name: path.read_bytes() for path in (site.directory / "known").iterdir()}

    # A process that has not heard of the change writes what it has, as at its start.
    slow.snapshots.trust._kept_versions.clear()
    slow.snapshots.trust._kept_state = slow.snapshots.trust._tokens_at = None
    slow.snapshots.trust._kept_tokens = slow.snapshots.trust._kept_environments = None
    slow.snapshots.trust._environments_at = None
    slow.snapshots.keep()

    assert newer == {path.name: path.read_bytes() for path in (site.directory / "known").iterdir()}
