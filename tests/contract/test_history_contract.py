"""The history of one thing: found by an index, and the same without one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flagserver.ports import Store
from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.contract.changes import commit, set_share
from tests.contract.conftest import Backend

FLAGS = ("a", "ab", "a-b", "zz")


def changed(store: Store, count: int, *, revision: int = 0) -> None:
    """Change flags in turn, so many times each. revision: at which they are."""
    for round_ in range(count):
        for flag in FLAGS:
            commit(store, set_share(round_, revision=revision + round_, flag=flag))


def seqs(store: Store, flag: str, before: int | None = None, limit: int = 1000) -> Sequence[int]:
    found = store.history(target=f"flag/{flag}", environment=None, before=before, limit=limit)
    assert {entry["target"] for entry in found} <= {f"flag/{flag}"}
    return [entry["seq"] for entry in found]


def without_index(backend: Backend) -> None:
    """Make the store one that only older versions wrote to."""
    raw = backend.raw()
    raw.delete(keys.TARGETS)
    raw.hdel(keys.META, "indexed_from", "indexed_to")


def written_by_an_older_version(backend: Backend, store: Store, flag: str, revision: int) -> None:
    """Add an entry that the index does not hear of."""
    raw = backend.raw()
    before = raw.hmget(keys.META, "indexed_from", "indexed_to")
    seq = commit(store, set_share(7, revision=revision, flag=flag)).seq
    raw.zrem(keys.TARGETS, f"flag/{flag}\n{seq:016}")
    raw.hset(keys.META, mapping=dict(zip(("indexed_from", "indexed_to"), before, strict=True)))


def entries_read(store: RedisStore, flag: str) -> int:
    """Return how many entries one look at a flag's history decodes."""
    return sum(1 for _ in store._about(f"flag/{flag}", None, 10))


def test_what_a_history_reads_is_of_its_thing_alone(store: RedisStore):
    changed(store, 60)

    assert entries_read(store, "ab") == 60
    assert seqs(store, "ab") == [seq for seq in range(240, 0, -1) if seq % 4 == 2]
    assert seqs(store, "ab", limit=3) == [238, 234, 230]
    assert seqs(store, "ab", before=230, limit=2) == [226, 222]
    assert seqs(store, "ab", before=2) == seqs(store, "ab", before=0) == seqs(store, "b") == []


def test_a_store_that_has_no_index_tells_the_same(backend: Backend, store: RedisStore):
    changed(store, 5)
    told = {flag: seqs(store, flag) for flag in FLAGS}

    without_index(backend)

    assert {flag: seqs(store, flag) for flag in FLAGS} == told
    assert seqs(store, "a", before=10, limit=2) == [9, 5]


def test_an_index_that_begins_late_is_joined_to_what_was_before(
    backend: Backend, store: RedisStore
):
    changed(store, 5)
    without_index(backend)
    changed(store, 3, revision=5)

    assert entries_read(store, "a") == 3 + 20
    assert seqs(store, "a") == [29, 25, 21, 17, 13, 9, 5, 1]
    assert seqs(store, "a", before=21, limit=3) == [17, 13, 9]
    assert seqs(store, "a", before=6) == [5, 1]


def test_the_index_is_made_good_part_by_part(backend: Backend, store: RedisStore):
    changed(store, 60)
    without_index(backend)
    changed(store, 1, revision=60)

    parts = 1
    while not store.index():
        parts += 1

    assert parts == 2
    assert entries_read(store, "zz") == 61
    assert store.index() is True
    assert seqs(store, "zz") == list(range(244, 0, -4))


def test_an_empty_store_has_all_of_its_index(backend: Backend, store: RedisStore):
    assert store.index() is True
    changed(store, 1)

    assert entries_read(store, "a") == 1


def test_while_an_older_version_writes_too_nothing_is_missing(backend: Backend, store: RedisStore):
    changed(store, 3)
    written_by_an_older_version(backend, store, "a", 3)
    assert seqs(store, "a") == [13, 9, 5, 1]

    commit(store, set_share(8, revision=4, flag="a"))
    assert seqs(store, "a") == [14, 13, 9, 5, 1]

    written_by_an_older_version(backend, store, "a", 5)
    assert store.index() is True
    assert entries_read(store, "a") == 6
    assert seqs(store, "a") == [15, 14, 13, 9, 5, 1]


def test_the_index_forgets_what_is_kept_no_longer(backend: Backend, store: RedisStore):
    changed(store, 4)

    store.drop_bodies([(1, 6), (9, 9)])

    assert seqs(store, "a") == [13]
    members = backend.raw().zrange(keys.TARGETS, 0, -1)
    assert sorted(int(member[-16:]) for member in members) == [7, 8, 10, 11, 12, 13, 14, 15, 16]


@pytest.mark.parametrize("limit", [1, 4])
def test_a_history_of_one_environment_looks_past_the_others(store: RedisStore, limit: int):
    commit(store, set_share(1, revision=0, environment="staging"))
    for revision in range(25):
        commit(store, set_share(2, revision=revision))

    found = store.history(target="flag/new-search", environment="staging", before=None, limit=limit)

    assert [entry["seq"] for entry in found] == [1]
