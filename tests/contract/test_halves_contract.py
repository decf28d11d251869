"""What a store of A/A history promises: a window once, a week of them, and bounded room."""

from __future__ import annotations

import time

import pytest

from flagserver.storage.redis import halves as driver
from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.contract.conftest import Backend
from tests.contract.troubles import Meddling, answer_lost

DAY = 24 * 3600
NOON = 20_000 * DAY + DAY // 2
SHOP = ("production", "shop")


def test_windows_are_told_in_order_over_days(store: RedisStore):
    store.keep_halves(*SHOP, {NOON: {"n": 3}, NOON - DAY: {"n": 1}, NOON - 600: {"n": 2}})
    store.keep_halves("staging", "shop", {NOON: {"n": 9}})
    store.keep_halves("production", "shop/a:b{c}", {NOON: {"n": 8}})

    found = store.halves([SHOP, ("production", "other")], since=NOON - 2 * DAY, until=NOON)

    assert list(found) == [SHOP]
    assert list(found[SHOP].items()) == [
        (NOON - DAY, {"n": 1}),
        (NOON - 600, {"n": 2}),
        (NOON, {"n": 3}),
    ]
    assert store.halves([SHOP], since=NOON - 600, until=NOON) == {SHOP: {NOON: {"n": 3}}}
    assert store.halves([SHOP], since=NOON, until=NOON + DAY) == {}
    odd = ("production", "shop/a:b{c}")
    assert store.halves([odd], since=NOON - 1, until=NOON) == {odd: {NOON: {"n": 8}}}


def test_what_is_kept_of_a_window_stays(store: RedisStore):
    store.keep_halves(*SHOP, {NOON: {"n": 1}})
    store.keep_halves(*SHOP, {NOON: {"n": 2}})
    store.keep_halves(*SHOP, {})

    assert store.halves([SHOP], since=NOON - 1, until=NOON)[SHOP] == {NOON: {"n": 1}}


def test_a_window_that_was_told_too_early_is_told_again(store: RedisStore):
    store.keep_halves(*SHOP, {NOON: {"why": "silent"}, NOON + 600: {"n": 1}})
    store.keep_halves(*SHOP, {NOON: {"why": "alone"}, NOON + 600: {"why": "silent"}})
    assert store.halves([SHOP], since=NOON - 1, until=NOON + 600)[SHOP] == {
        NOON: {"why": "silent"},
        NOON + 600: {"n": 1},
    }

    store.keep_halves(*SHOP, {NOON: {"n": 2}})
    store.keep_halves(*SHOP, {NOON: {"n": 3}})
    assert store.halves([SHOP], since=NOON - 1, until=NOON)[SHOP] == {NOON: {"n": 2}}


def test_so_many_services_have_history_and_those_that_must(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(driver, "SERVICES", 2)

    def keep(name: str, end: int = NOON, **how: bool) -> bool:
        return store.keep_halves("production", name, {end: {"n": 1}}, **how)

    assert [keep("b"), keep("shop/é"), keep("c")] == [True, True, False]
    assert store.halves([("production", "c")], since=NOON - 1, until=NOON) == {}
    assert store.keep_halves("staging", "c", {NOON: {"n": 1}})
    assert store.keep_halves("production", "c", {})
    assert keep("rolled out", always=True)
    assert sorted(store.known("production")) == ["b", "rolled out", "shop/é"]

    assert [keep("b", NOON + 600), keep("c", NOON + 600)] == [True, False]
    assert keep("b", NOON - 600)
    assert keep("c", NOON + driver.KEEP_SECONDS)
    assert sorted(store.known("production")) == ["b", "c"]
    assert store.known("nowhere") == []


def test_who_has_history_is_forgotten_with_it(backend: Backend):
    backend.open().keep_halves(*SHOP, {NOON: {"n": 1}})

    left = backend.raw().ttl(keys.known("production"))
    assert 7 * DAY < left <= driver.KEEP_SECONDS


def test_the_stores_clock_is_told(store: RedisStore):
    before = time.time()
    assert before - 1 < store.time() < time.time() + 1


def test_an_answer_that_was_lost_changes_nothing(backend: Backend):
    losing = backend.through(lambda client: Meddling(client, "EVALSHA", answer_lost))
    losing.keep_halves(*SHOP, {NOON: {"n": 1}})

    assert losing.halves([SHOP], since=NOON - 1, until=NOON)[SHOP] == {NOON: {"n": 1}}


def test_a_day_is_kept_for_eight_and_has_room_for_its_windows_only(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(driver, "DAY_WINDOWS", 3)
    store = backend.open()
    store.keep_halves(*SHOP, {NOON + i: {"n": i} for i in range(5)})

    assert len(store.halves([SHOP], since=NOON - 1, until=NOON + 10)[SHOP]) == 3
    left = backend.raw().ttl(keys.halves(*SHOP, NOON // DAY))
    assert 7 * DAY < left <= driver.KEEP_SECONDS


def test_a_window_that_is_torn_is_empty(backend: Backend):
    store = backend.open()
    store.keep_halves(*SHOP, {NOON: {"n": 1}, NOON + 600: {"n": 2}})
    backend.raw().hset(keys.halves(*SHOP, NOON // DAY), NOON, '{"n": ')

    assert store.halves([SHOP], since=NOON - 1, until=NOON + 600)[SHOP] == {
        NOON: {},
        NOON + 600: {"n": 2},
    }
