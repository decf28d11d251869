"""What a store of posted metrics promises: last word wins, in bounded room, for two hours."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flagserver.domain.metrics import Posted
from flagserver.storage.redis import metrics as driver
from flagserver.storage.redis.store import RedisStore
from tests.contract.conftest import Backend

NOW = 1_795_000_000
POINT = Posted("carts.abandoned", "service/shop", "cohort/canary", "", NOW, 3.0, 40.0)


def posted(store: RedisStore, environment: str = "production") -> list[Posted]:
    return store.posted(environment, since=NOW - 600, until=NOW + 60)


def test_what_is_posted_comes_back(store: RedisStore):
    points = [
        POINT,
        replace(POINT, arm="version/1.5.0:x", numerator=0.1 + 0.2, denominator=1e15),
        replace(POINT, subject="service/a:b/é%", source="a:b", numerator=-12.5),
        replace(POINT, subject="flag/new-search", arm="variant/on"),
        replace(POINT, metric="orders", arm="", at=NOW - 70),
    ]

    assert store.post("production", points) == 0

    assert sorted(posted(store), key=repr) == sorted(points, key=repr)
    assert posted(store)[0].at == NOW - 70


def test_posted_again_it_replaces(store: RedisStore):
    store.post("production", [POINT])
    store.post("production", [replace(POINT, numerator=4.0), replace(POINT, source="other")])

    assert [point.numerator for point in posted(store)] == [4.0, 3.0]


def test_a_window_has_its_end_and_not_its_beginning(store: RedisStore):
    store.post("production", [replace(POINT, at=NOW + second) for second in range(-70, 71)])

    found = store.posted("production", since=NOW, until=NOW + 10)

    assert [point.at for point in found] == list(range(NOW + 1, NOW + 11))
    assert store.posted("production", since=NOW, until=NOW) == []
    assert len(store.posted("production", since=0, until=NOW + 80)) == 141


def test_environments_stay_apart(store: RedisStore):
    for environment in ("a", "a/b", "{a}", "a:1"):
        store.post(environment, [replace(POINT, source=environment)])

    for environment in ("a", "a/b", "{a}", "a:1"):
        assert [point.source for point in posted(store, environment)] == [environment]


def test_a_minute_takes_only_so_many_points(store: RedisStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver, "MINUTE_POINTS", 10)
    minute = NOW // 60 * 60
    points = [replace(POINT, at=minute, source=f"{number}") for number in range(15)]

    assert store.post("production", points) == 5
    assert store.post("production", [replace(points[0], numerator=9.0)]) == 0
    assert store.post("production", [replace(POINT, at=minute + 60)]) == 0

    found = store.posted("production", since=minute - 1, until=minute)
    assert len(found) == 10
    assert {point.numerator for point in found if point.source == "0"} == {9.0}


def test_every_key_ends(backend: Backend, store: RedisStore):
    store.post("production", [POINT, replace(POINT, at=NOW - 90)])

    client = backend.raw()
    found = list(client.scan_iter("sortition:metrics:*"))

    assert len(found) == 2
    assert all(0 < client.ttl(key) <= driver.KEEP_SECONDS for key in found)
