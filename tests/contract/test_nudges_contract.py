"""Word from outside: passed on once for each event, and seen by every process."""

from __future__ import annotations

import time

from flagserver.storage.redis.store import RedisStore
from tests.contract.conftest import Backend


def test_word_is_passed_on_once_for_each_event(backend: Backend, store: RedisStore):
    before = store.nudged()

    assert store.nudge("event-1", ttl_seconds=60)
    assert not backend.open().nudge("event-1", ttl_seconds=60)
    assert store.nudge("event-2", ttl_seconds=60)

    assert backend.open().nudged() == before + 2


def test_an_empty_store_has_heard_nothing(store: RedisStore):
    assert store.nudged() == 0


def test_an_event_is_forgotten(backend: Backend, store: RedisStore):
    assert store.nudge("event-1", ttl_seconds=900)
    raw = backend.raw()
    (key,) = raw.scan_iter("{sortition}:nudge:*")
    assert 899_000 < raw.pttl(key) <= 900_000

    raw.pexpire(key, 1)
    time.sleep(0.05)

    assert store.nudge("event-1", ttl_seconds=900)


def test_names_of_events_reach_no_other_key(backend: Backend, store: RedisStore):
    assert store.nudge("{other}:x\n*", ttl_seconds=60)
    assert store.nudge("{other}:x", ttl_seconds=60)
    assert not store.nudge("{other}:x\n*", ttl_seconds=60)
