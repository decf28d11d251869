"""A record that lost what was signed: found, told, acknowledged, and never re-chained unseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from sortition.cli.audit import anchors_in
from sortition.record.checkpoint import Checkpoint
from sortition.record.export import Kept, read, written
from sortition.record.verify import TAMPERED, TRUNCATED, WHOLE, Anchor, verify

from flagserver import bootstrap
from flagserver.domain import doubts
from flagserver.domain.commands import Acknowledgement, Enlarging, NewFlag, Reasoned, StateEdit
from flagserver.domain.documents import Change, Fact, Principal
from flagserver.domain.errors import Conflict, Forbidden, RecordInDoubt
from flagserver.domain.rollout import Why
from flagserver.domain.states import State
from flagserver.ports import StoreIdentity
from flagserver.services import Services
from flagserver.services.audit import BEHIND, UNSIGNED
from flagserver.services.sealing import Sealer, Sealing, Unsealable
from flagserver.settings import Settings
from flagserver.storage.anchors import DiskAnchors
from flagserver.storage.copies import DiskCopies
from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemClock, SystemEntropy
from tests.builders import ADMIN
from tests.engines import Engine
from tests.record.records import FOREIGN, KEY, LOG
from tests.servers import redis_server
from tests.unit.test_sealing import House as SealedHouse

BY = Principal("token:ab12cd", "admin", "admin")
KNOWN = Acknowledgement(reason="the disk was full")
EDIT: dict[str, Any] = {"share": 5.0, "reason": "why", "confirm_environment": "production"}


class House(SealedHouse):
    """A store that signs, and servers over it."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: DiskCopies | None = None
        self.server = self.serve()
        self.server.environments.create_first(bootstrap.INSTALLATION)
        self.server.flags.create(NewFlag(key="new-search"), BY)
        self.sealing = self.controller()

    def serve(self) -> Services:
        """A server that has just started."""
        store = self.open()
        settings = Settings()
        services = bootstrap.build_services(
            settings, store, self.clock, self.entropy, copies=self.copies
        )
        services.snapshots.restore()
        services.snapshots.load()
        return services

    def controller(self) -> Sealing:
        return Sealing(self.another(), self.open(), "one")

    def set_back(self, dump: Any) -> None:
        """Put an old dump back; who serves and signs has just started."""
        self.put_back(dump)
        self.sealing.leave()
        self.server, self.sealing = self.serve(), self.controller()

    def doubt(self) -> Any:
        return self.server.losses.doubt()

    def enlarge(self, share: float = 5.0) -> None:
        state = self.server.flags.state("new-search", "production")
        edit = StateEdit(**{**EDIT, "share": share})
        self.server.flags.change("new-search", "production", edit, state.revision, BY)


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def lost(house: House) -> House:
    """Four entries that were signed are gone, and a controller has looked."""
    house.enlarge()
    house.sealing.look()
    dump = house.dump()
    house.write(4)
    house.sealing.look()
    house.set_back(dump)
    with pytest.raises(Unsealable):
        house.sealing.look()
    return house


def test_a_loss_is_found_and_told_once(lost: House):
    doubt = lost.doubt()

    assert doubt.kind == TRUNCATED
    assert doubt.words == "9 entries were signed, and 5 are here."
    assert doubt.kept == 5
    assert doubt.promised == lost.notes[-1]
    for _ in range(3):
        with pytest.raises(Unsealable):
            lost.sealing.look()
    newest = json.loads(lost.store.record()[-1].canonical or b"")
    assert (newest["action"], newest["seq"]) == ("record:doubt:raise", 6)
    ((_, notice),) = lost.store.undelivered("any")
    assert (notice.kind, notice.severity) == ("record:doubt:raise", "page")
    assert lost.server.audit.standing().kind == TRUNCATED
    assert not lost.server.audit.standing().enlarging


def test_nothing_is_enlarged_and_everything_is_shrunk(lost: House):
    flags = lost.server.flags
    with pytest.raises(RecordInDoubt, match=r"truncated: 9 entries were signed, and 5 are here"):
        lost.enlarge(25)

    lost.enlarge(1)
    killed = flags.kill("new-search", "production", Reasoned(), BY)
    assert killed.state.killed
    with pytest.raises(RecordInDoubt):
        flags.unkill("new-search", "production", Enlarging(**UNKILL), killed.revision, BY)


UNKILL: dict[str, Any] = {name: EDIT[name] for name in ("reason", "confirm_environment")}


def test_once_it_is_acknowledged_an_epoch_begins_that_quotes_what_is_lost(lost: House):
    lost.server.flags.kill("new-search", "production", Reasoned(), BY)
    assert lost.verdict().kind in {TAMPERED, TRUNCATED}

    done = lost.server.losses.acknowledge(KNOWN, BY)
    lost.sealing.look()

    assert (done.identity.epoch, done.kept, done.lost) == (2, 5, 4)
    (accepted,) = lost.server.audit.log(target=None, environment=None, before=None, limit=1)
    assert (accepted["action"], accepted["epoch"]) == ("store:accept", 2)
    assert accepted["before"]["checkpoint"] == lost.notes[-2]
    assert (accepted["actor"], accepted["reason"]) == (BY.id, KNOWN.reason)
    verdict = lost.verdict()
    assert (verdict.kind, verdict.lost) == (WHOLE, 4)
    assert "4 of epoch 1 are lost, as was acknowledged" in verdict.words
    assert lost.doubt() is None
    (_, began), (_, ended) = lost.store.undelivered("any")
    assert (ended.kind, ended.resolves) == ("store:accept", True)
    assert ended.incident == began.incident
    lost.server.snapshots.step(0.01)
    state = lost.server.flags.state("new-search", "production")
    lost.server.flags.unkill("new-search", "production", Enlarging(**UNKILL), state.revision, BY)
    lost.enlarge(25)
    lost.sealing.look()
    assert lost.verdict().kind == WHOLE
    assert lost.server.audit.standing().kind == WHOLE


def test_what_was_written_between_the_loss_and_its_finding_is_no_lie(house: House):
    """Nobody had looked yet: entries stand where others were signed."""
    house.sealing.look()
    dump = house.dump()
    house.write(4)
    house.sealing.look()
    house.set_back(dump)
    house.write(6)

    with pytest.raises(Unsealable, match="first 8 entries are not those that were signed"):
        house.sealing.look()
    assert (house.doubt().kind, house.doubt().kept) == (TAMPERED, 4)
    assert house.verdict().kind == TAMPERED

    house.server.losses.acknowledge(KNOWN, BY)
    house.sealing.look()
    verdict = house.verdict()
    assert (verdict.kind, verdict.lost) == (WHOLE, 4)


def test_an_acknowledgement_that_somebody_wrote_into_the_store_is_none(lost: House):
    """It takes the key, or nothing signs its epoch."""
    before = {"checkpoint": lost.notes[-1], "kept": 0}
    accept = Fact("operator", "operator", "store:accept", "store", before=before, after={})
    found = lost.store.state()
    assert found is not None
    change, successor = Change(writes=(), fact=accept), StoreIdentity(found.store, 2)
    lost.store.accept(change, found, successor, at=lost.clock.now(), salt="00" * 16)

    assert lost.verdict().kind == TRUNCATED


def test_a_chain_that_is_broken_stays_in_doubt(house: House):
    """To acknowledge it mends nothing: the entry is still another than was written."""
    house.write(3)
    house.sealing.look()
    raw: Any = fakeredis.FakeRedis(server=house.redis)
    entries = raw.xrange(keys.RECORD)
    raw.delete(keys.RECORD)
    for at, fields in entries:
        changed = {name: value.replace(b"thing/1", b"thing/2") for name, value in fields.items()}
        raw.xadd(keys.RECORD, changed if at == entries[4][0] else fields, id=at)
    house.sealing = house.controller()
    with pytest.raises(Unsealable, match="the body does not match"):
        house.sealing.look()
    assert house.doubt().kind == TAMPERED

    house.server.losses.acknowledge(KNOWN, BY)
    # This process knew the epoch before: it looks again.
    assert not house.sealing.step()
    with pytest.raises(Unsealable, match="the body does not match"):
        house.sealing.look()
    with pytest.raises(RecordInDoubt):
        house.enlarge(25)


@pytest.mark.parametrize("who", ["deploy", "one environment's"])
def test_only_an_admin_of_everything_acknowledges(lost: House, who: str):
    confined = Principal("token:cd34", "admin", "admin", "production")
    deploys = Principal("token:ef56", "deploy", "deploy", "production")

    with pytest.raises(Forbidden):
        lost.server.losses.acknowledge(KNOWN, deploys if who == "deploy" else confined)
    assert lost.doubt() is not None


def test_where_nothing_is_in_doubt_nothing_is_acknowledged(house: House):
    with pytest.raises(Conflict, match="nothing to acknowledge"):
        house.server.losses.acknowledge(KNOWN, BY)


def test_keys_that_are_not_ours_are_no_loss(house: House):
    """A setting is wrong; the record is not."""
    house.anchors.add(f"{LOG}/1/{1:020d}", Checkpoint(LOG, 1, 1, bytes(32)).signed(FOREIGN))

    with pytest.raises(Unsealable, match="cannot be trusted"):
        house.sealing.look()
    assert house.doubt() is None
    house.enlarge()


# --- a server that has seen more ------------------------------------------------------------------


def test_a_server_that_has_seen_more_acknowledges_too(tmp_path: Path, house: House):
    """It takes nothing of a store that is behind; what that would expose more is killed."""
    house.copies = DiskCopies(tmp_path)
    house.server = house.serve()
    house.enlarge(50)
    dump = house.dump()
    house.server.flags.kill("new-search", "production", Reasoned(), BY)
    house.server.snapshots.step(0.01)
    house.server.snapshots.keep()
    house.put_back(dump)
    store: Any = house.server.audit._store
    store._server._connect = lambda: fakeredis.FakeRedis(server=house.redis)
    house.server.snapshots._look_closely()
    house.server.snapshots.step(0.01)
    standing = house.server.audit.standing()
    assert (standing.kind, standing.enlarging) == (TRUNCATED, False)
    assert "The store lost changes" in standing.words

    done = house.server.losses.acknowledge(KNOWN, BY)

    assert done.killed == {"production": ["new-search"]}
    assert (done.identity.epoch, done.lost) == (2, 1)
    house.server.snapshots.step(0.01)
    assert house.server.snapshots.trust.alarm is None
    state = house.server.flags.state("new-search", "production")
    assert (state.state.killed, state.state.share) == (True, 500_000)
    (accepted,) = house.server.audit.log(target=None, environment=None, before=None, limit=1)
    assert accepted["actor"] == BY.id


# --- how it stands --------------------------------------------------------------------------------


def test_how_it_stands_while_all_is_well(house: House):
    assert house.server.audit.standing().kind == UNSIGNED
    house.sealing.look()

    standing = house.server.audit.standing()
    assert (standing.kind, standing.entries, standing.signed) == (WHOLE, 4, 4)
    assert standing.enlarging

    house.write()
    assert house.server.audit.standing().kind == WHOLE
    house.clock.seconds += 61
    standing = house.server.audit.standing()
    assert (standing.kind, standing.entries, standing.signed) == (BEHIND, 5, 4)
    assert standing.enlarging


# --- rollouts -------------------------------------------------------------------------------------


def test_a_rollout_holds_while_the_record_is_in_doubt_and_goes_on_after(tmp_path: Path):
    engine = Engine(directory=tmp_path)
    id = engine.start()
    engine.run(60)
    assert (engine.weight, engine.share) == (5, 5)
    doubt = doubts.Doubt(TRUNCATED, "9 entries were signed, and 4 are here.", "", 1, 4, a_note(9))
    commit(engine, Change(writes=(doubt.write(),), fact=doubt.fact()))

    engine.run(400)

    rollout = engine.rollout(id)
    assert rollout.waiting is not None
    assert (rollout.state, rollout.waiting.why) == (State.HOLDING, Why.RECORD)
    assert (engine.weight, engine.share) == (5, 5)
    engine.create("another")
    with pytest.raises(RecordInDoubt):
        engine.start(service="another", targets=[{"kind": "flag", "name": "another"}])

    engine.services.losses.acknowledge(KNOWN, ADMIN)
    engine.run(400)
    assert engine.share > 5


def test_a_rollout_goes_back_whatever_the_record_is(tmp_path: Path):
    engine = Engine(directory=tmp_path)
    id = engine.start()
    engine.run(60)
    doubt = doubts.Doubt(TRUNCATED, "9 entries were signed, and 4 are here.", "", 1, 4, a_note(9))
    commit(engine, Change(writes=(doubt.write(),), fact=doubt.fact()))

    engine.rollouts.roll_back(id, Reasoned(), ADMIN)
    engine.run(60)

    assert (engine.weight, engine.share) == (0, 0)
    assert engine.rollout(id).state is State.ROLLED_BACK


def a_note(size: int) -> str:
    return Checkpoint(LOG, 1, size, bytes(32)).signed(KEY)


def commit(engine: Engine, change: Change) -> None:
    engine.store.commit(change, at=engine.clock.now(), salt=engine.entropy.hex(16))


# --- on a real disk -------------------------------------------------------------------------------


@pytest.mark.needs("redis-server")
def test_a_log_that_was_cut_is_found_by_who_signs_though_nobody_has_seen_more(tmp_path: Path):
    """Everybody starts anew: only the anchors know."""
    anchors, clock = DiskAnchors(tmp_path / "anchors"), SystemClock()

    def begin(url: str) -> tuple[Services, RedisStore, Sealing]:
        store = RedisStore(url)
        services = bootstrap.build_services(Settings(), store, clock)
        sealer = Sealer(RedisStore(url), KEY, anchors, clock, SystemEntropy())
        return services, store, Sealing(sealer, RedisStore(url), "one")

    def share(services: Services, percent: float) -> None:
        state = services.flags.state("new-search", "production")
        edit = StateEdit(**{**EDIT, "share": percent})
        services.flags.change("new-search", "production", edit, state.revision, BY)

    with redis_server(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as kept:
        services, store, sealing = begin(kept.url)
        store.initialise("5eed5eed5eed5eed")
        services.environments.create_first(bootstrap.INSTALLATION)
        services.flags.create(NewFlag(key="new-search"), BY)
        sealing.look()
        share(services, 50)
        sealing.look()
        sealing.leave()
        kept.kill()
        (log,) = (tmp_path / "redis").rglob("*.incr.aof")
        octets = log.read_bytes()
        # The lease that was given up, the checkpoint and the last change are in what is cut.
        log.write_bytes(octets[: octets.rindex(b"flag:share:change")])
        kept.start()

        services, store, sealing = begin(kept.url)
        with pytest.raises(Unsealable, match=r"5 entries were signed, and 4 are here"):
            sealing.look()
        assert services.audit.standing().kind == TRUNCATED
        with pytest.raises(RecordInDoubt):
            share(services, 5)
        services.flags.kill("new-search", "production", Reasoned(), BY)
        done = services.losses.acknowledge(KNOWN, BY)
        assert (done.kept, done.lost) == (4, 1)
        sealing.look()

        entries = [Kept(it.seq, it.text, it.leaf, it.chain) for it in store.record()]
        file = b"".join(written(LOG, entries, store.checkpoints()))
        outside = [Anchor(each.name, each.note) for each in anchors_in(tmp_path / "anchors", LOG)]
        verdict = verify(read(file), [KEY.verifier], outside)
        assert (verdict.kind, verdict.lost) == (WHOLE, 1)


def test_who_has_not_the_key_can_quote_what_was_promised(lost: House, tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    anchors = DiskAnchors(settings.anchors)
    for place, note in lost.anchors.notes.items():
        anchors.add(place, note)

    assert bootstrap.newest_anchor(settings, lost.store) == lost.notes[-1]

    empty = RedisStore.over(fakeredis.FakeRedis())
    assert bootstrap.newest_anchor(settings, empty) is None
