"""Sessions that end and are spent once; leases that one process holds, with tokens that rise."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.contract.conftest import Backend

BODY = {"id": "person:é", "environment": None}


def test_a_secret_is_kept_by_kind_and_digest(store: RedisStore):
    store.put("session", "d1", BODY, ttl_seconds=60)

    assert store.get("session", "d1") == BODY
    assert store.get("link", "d1") is None
    assert store.get("session", "d2") is None

    store.drop("session", "d1")
    store.drop("session", "d1")
    assert store.get("session", "d1") is None


def test_a_secret_ends_by_itself(backend: Backend, store: RedisStore):
    store.put("link", "d1", BODY, ttl_seconds=1)

    assert store.get("link", "d1") == BODY
    time.sleep(1.1)
    assert store.get("link", "d1") is None
    assert store.take("link", "d1") is None


def test_tries_are_counted_by_name_until_their_window_ends(store: RedisStore):
    assert store.tried(["address", "account"], window_seconds=1) == [1, 1]
    assert store.tried(["account"], window_seconds=1) == [2]
    assert store.tried(["address"], window_seconds=60) == [2]

    time.sleep(1.1)

    assert store.tried(["address", "account"], window_seconds=60) == [1, 1]


def test_of_two_days_on_which_a_flag_was_asked_for_the_later_stays(store: RedisStore):
    assert store.asked("production") == {}
    store.keep_asked("production", {})
    store.keep_asked("production", {"a": "2026-11-23", "b": "2026-11-20"})
    store.keep_asked("production", {"a": "2026-11-22", "b": "2026-11-24"})
    store.keep_asked("staging", {"a": "2026-11-30"})

    assert store.asked("production") == {"": "2026-11-23", "a": "2026-11-23", "b": "2026-11-24"}
    assert store.asked("staging") == {"": "2026-11-30", "a": "2026-11-30"}


def test_of_two_uses_of_a_token_the_later_stays(store: RedisStore):
    earlier, later = "2026-11-23T08:00:00.000Z", "2026-11-23T09:00:00.000Z"

    assert store.uses() == {}
    store.keep_uses({})
    store.keep_uses({"a": later, "b": earlier})
    store.keep_uses({"a": earlier, "b": later, "c": earlier})

    assert store.uses() == {"a": later, "b": later, "c": earlier}


def test_no_try_is_missed_when_many_come_at_once(backend: Backend, store: RedisStore):
    stores = [backend.open() for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        counts = pool.map(lambda n: stores[n % 4].tried(["a"], window_seconds=60)[0], range(40))

    assert sorted(counts) == list(range(1, 41))


def test_a_link_is_spent_by_one_browser_only(backend: Backend, store: RedisStore):
    store.put("link", "d1", BODY, ttl_seconds=60)
    stores = [backend.open() for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda n: stores[n % 4].take("link", "d1"), range(8)))

    assert sorted(taken, key=bool) == [None] * 7 + [BODY]


def test_names_cannot_reach_into_other_keys(backend: Backend, store: RedisStore):
    store.put("link:x", "y", BODY, ttl_seconds=60)
    store.put("{other}", "}:z", BODY, ttl_seconds=60)

    assert store.get("link", "x:y") is None
    assert store.get("{other}", "}:z") == BODY


def test_a_lease_has_one_holder(backend: Backend, store: RedisStore):
    ours = store.acquire("controller", "a", ttl_seconds=15)

    assert ours is not None
    assert (ours.name, ours.holder) == ("controller", "a")
    assert backend.open().acquire("controller", "b", ttl_seconds=15) is None
    assert store.acquire("another-role", "b", ttl_seconds=15) is not None


def test_a_lease_that_is_renewed_keeps_its_token(backend: Backend, store: RedisStore):
    ours = store.acquire("controller", "a", ttl_seconds=15)
    backend.raw().pexpire(keys.lease("controller"), 5_000)

    assert store.acquire("controller", "a", ttl_seconds=15) == ours
    assert backend.raw().pttl(keys.lease("controller")) > 14_000


def test_many_leases_at_once(backend: Backend, store: RedisStore):
    others = backend.open().acquire("rollout/b", "b", ttl_seconds=15)
    names = [f"rollout/{letter}" for letter in "abc"]

    first = store.acquire_all(names, "a", ttl_seconds=15)

    assert others is not None
    assert [lease and lease.name for lease in first] == ["rollout/a", None, "rollout/c"]
    assert store.acquire_all(names, "a", ttl_seconds=15) == first
    assert store.acquire_all([], "a", ttl_seconds=15) == []


def test_a_lease_is_secure_while_it_is_ours(backend: Backend, store: RedisStore):
    ours = store.acquire("rollout/a", "a", ttl_seconds=1)
    assert ours is not None
    assert store.secure(ours, ttl_seconds=15)
    assert backend.raw().pttl(keys.lease("rollout/a")) > 14_000

    store.release(ours)
    assert backend.open().acquire("rollout/a", "b", ttl_seconds=15) is not None
    assert not store.secure(ours, ttl_seconds=15)


def test_a_new_holder_has_a_greater_token(backend: Backend, store: RedisStore):
    first = store.acquire("controller", "a", ttl_seconds=0.05)
    time.sleep(0.1)
    second = store.acquire("controller", "b", ttl_seconds=15)

    assert first is not None
    assert second is not None
    assert second.token > first.token
    # Roughly the store's clock, so that a store that lost its data goes on from there.
    assert abs(second.token / 1000 - time.time()) < 5

    store.release(first)
    assert store.acquire("controller", "a", ttl_seconds=15) is None
    store.release(second)
    third = store.acquire("controller", "a", ttl_seconds=15)
    assert third is not None
    assert third.token > second.token


def test_tokens_rise_when_the_clock_is_set_back(backend: Backend, store: RedisStore):
    ahead = int(time.time() * 1000) + 3_600_000
    backend.raw().hset(keys.FENCES, "controller", ahead)

    lease = store.acquire("controller", "a", ttl_seconds=15)

    assert lease is not None
    assert lease.token == ahead + 1


def test_one_of_many_gets_the_lease(backend: Backend, store: RedisStore):
    stores = [backend.open() for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        leases = list(
            pool.map(lambda n: stores[n % 4].acquire("c", f"h{n}", ttl_seconds=15), range(8))
        )

    assert sum(lease is not None for lease in leases) == 1
