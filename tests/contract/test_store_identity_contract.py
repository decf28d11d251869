"""Which store it is, taking one in place of another, and not falling behind; on every backend."""

from __future__ import annotations

import pytest
from sortition.record.entry import find_break

from flagserver.domain.documents import ENVIRONMENTS
from flagserver.domain.errors import Conflict, StoreUnavailable
from flagserver.domain.stores import Conditions, StoreState
from flagserver.ports import StoreIdentity
from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.contract.changes import STORE, accept, commit, everything, set_share, write
from tests.contract.conftest import Backend

OTHER = "0ther0ther0ther0"


def state_of(store: RedisStore) -> StoreState:
    state = store.state()
    assert state is not None
    return state


def test_a_store_tells_how_far_its_record_goes(backend: Backend):
    store = backend.open()
    assert store.state() is None
    store.initialise(STORE)
    commit(store, set_share(5, revision=0))

    [link] = store.record()
    assert store.state() == StoreState(STORE, 1, 1, link.chain.hex())


def test_an_accepted_store_has_the_id_that_was_known_and_goes_on(
    backend: Backend, store: RedisStore
):
    commit(store, set_share(5, revision=0))
    found = state_of(store)

    done = accept(store, OTHER, 7, found)

    state = state_of(store)
    assert (done.seq, state.store, state.epoch, state.seq) == (2, OTHER, 7, 2)
    assert state.was == STORE
    # Changes go on after it, here and elsewhere, and the record is whole.
    commit(store, set_share(6, revision=1))
    commit(backend.open(), set_share(7, revision=2))
    assert find_break(store.record()) is None
    assert [event.id for event in store.events("0-0", 0)] == ["1-1", "7-2", "7-3", "7-4"]


def test_whoever_decided_before_it_decides_anew(backend: Backend, store: RedisStore):
    behind = backend.open()
    commit(behind, set_share(5, revision=0))

    accept(store, STORE, 2, state_of(store))

    with pytest.raises(Conflict, match="epoch 2"):
        commit(behind, set_share(6, revision=1))
    commit(behind, set_share(6, revision=1))


def test_a_process_of_the_former_store_is_refused(backend: Backend, store: RedisStore):
    former = backend.open()
    commit(former, set_share(5, revision=0))

    accept(store, OTHER, 2, state_of(store))

    for _ in range(2):
        with pytest.raises(Conflict, match="another one"):
            commit(former, set_share(6, revision=1))


@pytest.mark.parametrize("late", ["commit", "accept"])
def test_a_store_that_moved_on_is_not_accepted(backend: Backend, store: RedisStore, late: str):
    found = state_of(store)
    if late == "commit":
        commit(backend.open(), set_share(5, revision=0))
    else:
        accept(backend.open(), OTHER, 2, found)
    before = everything(store)

    with pytest.raises(Conflict, match="meanwhile"):
        accept(store, "e1se", 2, found)

    assert everything(store) == before


def test_an_empty_store_cannot_be_accepted(backend: Backend):
    store = backend.open()

    with pytest.raises(Conflict, match="meanwhile"):
        accept(store, OTHER)

    assert store.state() is None


def test_a_distrusted_store_takes_no_change_of_this_process(backend: Backend, store: RedisStore):
    store.distrust("It is behind.")

    with pytest.raises(StoreUnavailable, match=r"It is behind. Nothing was changed."):
        commit(store, set_share(5, revision=0))
    assert store.record() == []

    store.distrust(None)
    commit(store, set_share(5, revision=0))


@pytest.mark.parametrize("heard", ["by writing", "by listening"])
def test_a_store_that_lost_the_end_of_its_record_takes_no_change(
    backend: Backend, store: RedisStore, heard: str
):
    # given a process that met entry 2
    aware = backend.open()
    commit(aware, write(ENVIRONMENTS, "a", 0, {}))
    first = state_of(store)
    commit(aware if heard == "by writing" else store, write(ENVIRONMENTS, "b", 0, {}))
    assert aware.events("0-0", 0)[-1].seq == 2

    # when a failover leads to a copy that has entry 1 only
    raw = backend.raw()
    raw.hset(keys.META, mapping={"seq": "1", "head": first.chain})
    for stream, last in ((keys.RECORD, "1-0"), (keys.FEED, "1-1")):
        [(_, fields)] = raw.xrange(stream, last, last)
        raw.delete(stream)
        raw.xadd(stream, fields, last)
    raw.hdel(keys.documents(ENVIRONMENTS), "b")

    # then it does not write entry 2 a second time, until an operator has decided
    for _ in range(2):
        with pytest.raises(Conflict, match="lost changes"):
            commit(aware, write(ENVIRONMENTS, "c", 0, {}))
    accept(backend.open(), STORE, 2, state_of(store))
    with pytest.raises(Conflict, match="epoch 2"):
        commit(aware, write(ENVIRONMENTS, "c", 0, {}))
    commit(aware, write(ENVIRONMENTS, "c", 0, {}))
    assert find_break(aware.record()) is None


def test_a_store_says_how_it_is_run(backend: Backend, store: RedisStore):
    told = store.conditions()

    if backend.name == "fakeredis":
        assert told == Conditions()
        return
    assert told.policy == "noeviction"
    assert told.limit == 0
    assert told.used
    assert told.replica is False
    assert told.appends is (backend.name == "embedded")


def test_identities_are_as_they_were_read(store: RedisStore):
    state = state_of(store)

    assert store.identity() == StoreIdentity(state.store, state.epoch)
