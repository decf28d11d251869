"""Signed checkpoints beside the record: the newest of them, oldest first, for every process."""

from __future__ import annotations

from flagserver.storage.redis import checkpoints
from flagserver.storage.redis.store import RedisStore
from tests.contract.conftest import Backend


def test_there_is_none_to_begin_with(store: RedisStore):
    assert store.checkpoints() == []


def test_they_are_kept_in_their_order(backend: Backend, store: RedisStore):
    for note in ("eins\n", "zwei — zwei\n", "drei\n"):
        store.keep_checkpoint(note)

    assert backend.open().checkpoints() == ["eins\n", "zwei — zwei\n", "drei\n"]
    assert store.checkpoints(limit=2) == ["zwei — zwei\n", "drei\n"]


def test_only_the_newest_stay(store: RedisStore, monkeypatch):
    monkeypatch.setattr(checkpoints, "MOST", 3)
    for number in range(5):
        store.keep_checkpoint(f"{number}\n")

    assert store.checkpoints() == ["2\n", "3\n", "4\n"]
