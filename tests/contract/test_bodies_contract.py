"""Bodies of the record that are kept no longer: gone for every reader, the rest as it was."""

from __future__ import annotations

from itertools import count

from flagserver.domain.documents import Change
from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.contract.changes import commit, write
from tests.contract.conftest import Backend
from tests.servers import wait_until

_numbers = count(1)


def a_change() -> Change:
    return write("things", str(next(_numbers)), 0, {})


def test_bodies_go_and_hashes_stay(backend: Backend, store: RedisStore):
    for _ in range(5):
        commit(store, a_change())
    before = store.record()

    store.drop_bodies([(1, 2), (4, 4)])

    after = backend.open().record()
    assert [it.seq for it in after if it.canonical is None] == [1, 2, 4]
    assert [(it.seq, it.leaf, it.chain) for it in after] == [
        (it.seq, it.leaf, it.chain) for it in before
    ]
    assert [it.canonical for it in after if it.canonical] == [
        before[number - 1].canonical for number in (3, 5)
    ]
    told = store.history(target=None, environment=None, before=None, limit=9)
    assert [entry["seq"] for entry in told] == [5, 3]


def test_the_record_goes_on_from_there(backend: Backend, store: RedisStore):
    """Also for whoever knew its end from before."""
    other = backend.open()
    for _ in range(3):
        commit(other, a_change())
    store.drop_bodies([(1, 3)])

    for seq, writer in ((4, other), (5, store)):
        assert commit(writer, a_change()).seq == seq


def test_to_take_them_out_again_does_no_harm(store: RedisStore):
    commit(store, a_change())
    commit(store, a_change())

    for _ in range(2):
        store.drop_bodies([(1, 1)])

    assert [it.canonical is None for it in store.record()] == [True, False]


def test_the_log_is_written_anew_once(backend: Backend, store: RedisStore):
    commit(store, a_change())
    assert store.rewrite_log() is True

    store.drop_bodies([(1, 1)])

    assert backend.raw().exists(keys.REWRITE) == 1
    wait_until(store.rewrite_log, "the log be written anew")
    assert backend.raw().exists(keys.REWRITE) == 0
    assert store.rewrite_log() is True
