"""What a store of outcomes promises: each batch counts once, in bounded room, for two hours."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.outcomes import (
    Drawn,
    Part,
    Report,
    Row,
    Totals,
    flag_subject,
    service_subject,
)
from flagserver.storage.redis import outcomes as driver
from flagserver.storage.redis.store import RedisStore
from tests.contract.conftest import Backend
from tests.contract.troubles import Meddling, answer_lost

NOW = 1_795_000_000
FLAG = flag_subject("new-search")
SERVICE = service_subject("shop")
ABOUT = {"service.name": "shop", "service.version": None, "instance": "00ff", "seen": NOW}


def row(
    variant: str = "on", at: int = NOW, requests: int = 10, subject: str = FLAG, **more: Any
) -> Row:
    return Row(subject, variant, at, requests, requests, failures=1, **more)


def add(
    store: RedisStore, seq: int, *rows: Row, source: str = "00ff:1", environment: str = "production"
) -> bool:
    return store.add(environment, source, seq, rows, ABOUT)


def requests(store: RedisStore, subject: str = FLAG, environment: str = "production") -> int:
    found = store.totals(environment, subject, since=NOW - 60, until=NOW + 60)
    return sum(totals.requests for totals in found.values())


def test_rows_add_up_by_variant(store: RedisStore):
    rich = row(latency={3: 7, 250: 3}, latency_sum=1.25, metrics={"critical_path": (5, 1)})
    add(store, 1, rich, row("off", requests=30))
    add(store, 2, rich, row("on", at=NOW - 5, requests=1))

    found = store.totals("production", FLAG, since=NOW - 60, until=NOW)

    assert found["off"] == Totals(assignments=30, requests=30, failures=1)
    assert found["on"] == Totals(
        assignments=21,
        requests=21,
        failures=3,
        latency={3: 14, 250: 6},
        latency_sum=2.5,
        metrics={"critical_path": (10, 2)},
    )


def test_a_bucket_that_was_told_with_nothing_in_it_is_none(store: RedisStore):
    add(store, 1, row(latency={5: 0, 7: 1}, ages={9: 0}))

    tick = -(-NOW // 5) * 5
    whole = store.totals("production", FLAG, since=NOW - 60, until=NOW)["on"]
    ticks = store.ticks([("production", FLAG)], since=NOW - 60, until=tick)
    (of_tick,) = ticks["production", FLAG][tick].values()
    assert (whole.latency, whole.ages) == (of_tick.latency, of_tick.ages) == ({7: 1}, {})


def test_a_window_has_its_end_and_not_its_beginning(store: RedisStore):
    add(store, 1, *(row(at=NOW + second, requests=1) for second in range(-70, 71)))

    def count(since: int, until: int) -> int:
        found = store.totals("production", FLAG, since=since, until=until)
        return found["on"].requests if found else 0

    assert count(NOW, NOW + 10) == 10
    assert count(NOW - 1, NOW) == 1
    assert count(NOW, NOW) == count(NOW + 5, NOW) == count(NOW + 70, NOW + 170) == 0
    assert count(NOW - 120, NOW + 120) == 141
    assert count(0, NOW + 120) == 141


def test_a_series_has_every_tick_on_its_own(store: RedisStore):
    add(store, 1, row(at=NOW - 65), row("off", at=NOW - 65), row(at=NOW))
    add(store, 1, row(at=NOW, requests=5), source="other:1")

    series = store.series("production", FLAG, since=NOW - 100, until=NOW)

    assert list(series) == [NOW - 65, NOW]
    assert list(series[NOW - 65]) == ["off", "on"]
    assert series[NOW]["on"].requests == 15


def test_a_tick_without_requests_shows(store: RedisStore):
    add(store, 1, Row(SERVICE, "", NOW, assignments=0, requests=0, failures=0))

    assert store.totals("production", SERVICE, since=NOW - 5, until=NOW) == {"": Totals()}


def test_ticks_are_aligned_and_a_flags_are_kept_by_who_served_them(store: RedisStore):
    end = NOW // 60 * 60
    old: dict[str, Any] = {"service": "shop", "version": "1.4:0"}
    new: dict[str, Any] = {"service": "shop", "version": "1.5.0"}
    rich = row("on", end + 5, latency={3: 7}, latency_sum=0.5, metrics={"m:x": (5, 1)}, **new)
    add(store, 1, rich, row("on", end + 1, requests=1, **new), row("on", end + 2, **old))
    add(store, 1, row("on", end + 3, requests=7), row("off", end + 6, **old), source="old:1")
    add(store, 1, row("1.5.0", end + 5, subject=SERVICE, late=4), source="shop:1")

    flag, service = ("production", FLAG), ("production", SERVICE)
    found = store.ticks([flag, service, ("x", FLAG), flag], since=end, until=end + 14)

    assert set(found) == {flag, service}
    assert list(found[flag]) == [end + 5, end + 10]
    assert found[flag][end + 5] == {
        Part("on"): Totals(7, 7, 1),
        Part("on", "shop", "1.4:0"): Totals(10, 10, 1),
        Part("on", "shop", "1.5.0"): Totals(11, 11, 2, {3: 7}, 0.5, {"m:x": (5, 1)}),
    }
    assert found[service] == {end + 5: {Part("1.5.0"): Totals(10, 10, 1, late=4)}}
    assert store.totals(*flag, since=end, until=end + 5)["on"].requests == 28
    assert store.minutes({flag: [end + 60]})[flag][end + 60]["on"].requests == 28
    assert store.assignments({flag: ["on", "off"]}, [end + 60])[flag] == {"on": 28, "off": 10}
    assert store.ticks([], since=end, until=end + 5) == {}


def test_a_services_ticks_are_told_by_halves_to_whoever_asks(store: RedisStore):
    end = NOW // 60 * 60
    of: dict[str, Any] = {"subject": SERVICE, "at": end + 5}
    a, b = of | {"half": "a"}, of | {"half": "b"}
    add(store, 1, row("1:4", **a, metrics={"m": (5, 1)}), row("1:4", **b, requests=3))
    add(store, 2, row("1:4", **a), row("1.5.0", **of, requests=7))
    service = ("production", SERVICE)
    span: dict[str, Any] = {"since": end, "until": end + 5}

    assert store.ticks([service], **span, halves=True)[service][end + 5] == {
        Part("1.5.0"): Totals(7, 7, 1),
        Part("1:4", half="a"): Totals(20, 20, 2, metrics={"m": (5, 1)}),
        Part("1:4", half="b"): Totals(3, 3, 1),
    }
    assert store.ticks([service], **span)[service][end + 5] == {
        Part("1.5.0"): Totals(7, 7, 1),
        Part("1:4"): Totals(23, 23, 3, metrics={"m": (5, 1)}),
    }
    assert store.totals("production", SERVICE, **span)["1:4"].requests == 23
    minutes = store.minutes({service: [end + 60]})[service][end + 60]
    assert minutes["1:4"].requests == 23


def test_ages_are_of_their_tick_and_are_not_summed_up(store: RedisStore):
    end = NOW // 60 * 60
    add(store, 1, row(at=end + 5, ages={9: 2, 250: 1}))
    add(store, 1, row(at=end + 5, ages={9: 3}), row(at=end + 10, ages={9: 7}), source="other:1")

    found = store.ticks([("production", FLAG)], since=end, until=end + 10)["production", FLAG]

    assert {tick: parts[Part("on")].ages for tick, parts in found.items()} == {
        end + 5: {9: 5, 250: 1},
        end + 10: {9: 7},
    }
    summed = store.minutes({("production", FLAG): [end + 60]})["production", FLAG]
    assert summed[end + 60]["on"].ages == {}


def test_points_add_up_by_hour_and_are_kept_for_a_day(backend: Backend, store: RedisStore):
    hour = NOW // 3600 * 3600

    def draw(seq: int, at: int, bins: dict[int, int], source: str = "00ff:1") -> bool:
        drawn = [Drawn(FLAG, at, bins), Drawn(FLAG, at, {0: 1})]
        return store.add("production", source, seq, [row(at=at)], ABOUT, drawn)

    draw(1, hour + 5, {0: 3, 255: 2})
    draw(1, hour + 10, {0: 1, 7: 1}, source="other:1")
    draw(2, hour - 5, {9: 1})
    assert not draw(2, hour - 5, {9: 1})

    def points(since: int, until: int) -> dict[int, int]:
        return dict(store.points("production", FLAG, since=since, until=until))

    assert points(hour, hour + 60) == {0: 6, 7: 1, 255: 2}
    assert points(hour - 10, hour + 60) == {0: 7, 7: 1, 9: 1, 255: 2}
    assert points(hour - 10, hour - 1) == {0: 1, 9: 1}
    assert points(0, hour + 60) == points(hour - 10, hour + 60)
    assert dict(store.points("staging", FLAG, since=0, until=hour + 60)) == {}
    assert store.totals("production", FLAG, since=hour - 60, until=hour + 60)["on"].requests == 30
    kept = [backend.raw().ttl(key) for key in backend.raw().scan_iter("*:points:*")]
    assert len(kept) == 2
    assert all(driver.POINTS_SECONDS - 60 < each <= driver.POINTS_SECONDS for each in kept)


def test_the_same_tick_is_never_in_two_spans_that_follow_each_other(store: RedisStore):
    add(store, 1, *(row(at=NOW + second, requests=1) for second in range(-130, 131)))
    subject = ("production", FLAG)

    seen: list[int] = []
    bounds = [NOW - 100, NOW - 97, NOW - 95, NOW - 61, NOW, NOW + 3, NOW + 5, NOW + 64, NOW + 100]
    for since, until in itertools.pairwise(bounds):
        found = store.ticks([subject], since=since, until=until).get(subject, {})
        assert all(since < tick <= until for tick in found)
        assert all(parts[Part("on")].requests == 5 for parts in found.values())
        seen += found

    assert seen == list(range(NOW - 95, NOW + 101, 5))


def test_a_minute_that_one_search_does_not_get_through_is_read_whole(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(driver, "SEARCHED_FIELDS", 1)
    end = NOW // 60 * 60
    latency = dict.fromkeys(range(300), 1)
    add(store, 1, *(row(at=end + 5 * tick, requests=tick, latency=latency) for tick in range(12)))
    subject = ("production", FLAG)

    found = store.ticks([subject], since=end + 15, until=end + 20)[subject]

    (totals,) = found[end + 20].values()
    assert (list(found), totals.requests, totals.latency) == ([end + 20], 4, latency)


def test_minutes_add_up_the_ticks_that_ended_in_them(store: RedisStore):
    end = NOW // 60 * 60
    rich = row("1.5.0", end, latency={3: 7}, latency_sum=0.5, metrics={"m:x": (5, 1)})
    add(store, 1, rich, row("1.5.0", end - 59, requests=1), row("é:%", end - 30, requests=2))
    add(store, 2, row("1.5.0", end + 1, requests=40), row("1.5.0", end - 60, requests=80))
    add(store, 2, rich, source="other:1", environment="staging")

    here, there = ("production", FLAG), ("staging", FLAG)
    found = store.minutes({here: [end, end + 60, end + 120], there: [end], ("x", FLAG): [end]})

    assert set(found) == {here, there}
    assert set(found[here]) == {end, end + 60}
    assert found[here][end] == {
        "1.5.0": Totals(11, 11, 2, {3: 7}, 0.5, {"m:x": (5, 1)}),
        "é:%": Totals(2, 2, 1),
    }
    assert found[here][end + 60]["1.5.0"].requests == 40
    assert found[there][end]["1.5.0"].requests == 10
    assert store.minutes({here: [end - 60]})[here][end - 60]["1.5.0"].requests == 80
    assert store.minutes({}) == {}


def test_assignments_add_up_over_minutes(store: RedisStore):
    end = NOW // 60 * 60
    rich = row("on", end, latency={3: 7}, metrics={"m:x": (5, 1)})
    add(store, 1, rich, row("on", end - 60, requests=3), row("é:%", end - 30, requests=2))
    add(store, 2, row("on", end + 1, requests=40), row("other", end, requests=80))
    add(store, 2, row("on", end, requests=5), source="other:1", environment="staging")

    here, there = ("production", FLAG), ("staging", FLAG)
    asked = {here: ["on", "é:%", "never"], there: ["on"], ("x", FLAG): ["on"]}

    assert store.assignments(asked, [end - 60, end]) == {
        here: {"on": rich.assignments + 3, "é:%": 2},
        there: {"on": 5},
    }
    assert store.assignments(asked, [end + 60]) == {here: {"on": 40}}
    assert store.assignments(asked, []) == store.assignments({}, [end]) == {}


def test_environments_and_subjects_stay_apart(store: RedisStore):
    names = ["a", "a/b", "b", "{a}", "a}", "flag/a"]
    for number, environment in enumerate(names):
        for place, name in enumerate(names):
            subject = flag_subject(name)
            only = row(subject=subject, requests=number * 10 + place + 1)
            add(store, 1, only, environment=environment, source=f"{subject}:1")

    for number, environment in enumerate(names):
        for place, name in enumerate(names):
            assert requests(store, flag_subject(name), environment) == number * 10 + place + 1


def test_odd_names_of_variants_and_metrics_come_back(store: RedisStore):
    add(store, 1, row("a:b/é%", metrics={"x:y": (1, 0)}), row("a"))

    found = store.totals("production", FLAG, since=NOW - 5, until=NOW)

    assert found["a:b/é%"].metrics == {"x:y": (1, 0)}
    assert set(found) == {"a:b/é%", "a"}


def test_large_sums_are_exact_and_stay_within_bounds(store: RedisStore):
    for seq in range(3):
        add(store, seq, row(requests=10**9, latency_sum=1e12, metrics={"m": (10**9, 10**9)}))

    found = store.totals("production", FLAG, since=NOW - 5, until=NOW)["on"]
    assert (found.requests, found.metrics) == (3 * 10**9, {"m": (3 * 10**9, 3 * 10**9)})
    assert found.latency_sum == 3 * driver.LONGEST_SUM_SECONDS


# --- each batch once ------------------------------------------------------------------------------


def test_a_batch_that_was_here_counts_once(backend: Backend, store: RedisStore):
    assert add(store, 7, row())
    assert not add(backend.open(), 7, row())
    assert add(store, 7, row(), source="00ff:2")
    assert add(store, 8, row())

    assert requests(store) == 30


def test_batches_may_come_in_any_order(store: RedisStore):
    for seq in (5, 3, 4, 0, 9, 7, 1, 2, 40, 6, 8):
        assert add(store, seq, row(requests=1)), seq
    for seq in (*range(10), 40):
        assert not add(store, seq, row(requests=1)), seq

    assert requests(store) == 11


def test_a_batch_from_far_behind_counts_as_known(store: RedisStore):
    assert add(store, 100, row(requests=1))
    assert add(store, 53, row(requests=1))
    assert not add(store, 52, row(requests=1))
    assert add(store, 2**53, row(requests=1))
    assert not add(store, 2**53, row(requests=1))

    assert requests(store) == 3


def test_a_batch_without_rows_is_known_too(store: RedisStore):
    assert add(store, 1)
    assert not add(store, 1)
    assert add(store, 2)


def test_a_batch_sent_by_many_threads_counts_once(backend: Backend, store: RedisStore):
    stores = [backend.open() for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda n: add(stores[n % 4], 1, row()), range(8)))

    assert taken.count(True) >= 1
    assert requests(store) == 10


def test_a_batch_that_failed_half_way_is_sent_again(backend: Backend, store: RedisStore):
    subjects = [flag_subject(f"flag-{number}") for number in range(3)]
    rows = [row(subject=subject) for subject in subjects]
    # Some subjects have it, and the store has not noted that the batch is complete.
    add(store, 1, rows[0])
    backend.raw().delete(*_sources_keys())

    assert add(store, 1, *rows)

    assert [requests(store, subject) for subject in subjects] == [10, 10, 10]


def test_a_batch_whose_answers_are_lost_counts_once(backend: Backend, store: RedisStore):
    def broken(send: Callable[[], Any]) -> Any:
        raise redis.TimeoutError("Timeout reading from socket")

    # `EVALSHA` outside a pipeline is the last step, which says that the batch is complete.
    unlucky = backend.through(
        lambda client: Meddling(client, "EVALSHA", broken, broken, answer_lost)
    )
    # The first call of all loads the script.
    add(store, 1, row(requests=1), source="warm:1")

    with pytest.raises(StoreUnavailable):
        add(unlucky, 1, row())
    add(unlucky, 1, row())

    assert requests(store) == 11


def test_a_noted_batch_is_new_once_whoever_else_is_told_of_it(backend: Backend, store: RedisStore):
    def note(seq: int, owner: str, store: RedisStore = store) -> bool:
        (new,) = store.note("production", [Report("00ff:1", seq, owner, ABOUT)])
        return new

    assert note(7, "aa1")
    assert note(7, "aa1"), "its answer may have been lost"
    assert not note(7, "bb1", backend.open())
    assert not note(7, "aa2")
    assert note(8, "bb2", backend.open())
    assert not note(7, "aa1"), "a later one came"
    assert note(8, "bb2")
    assert note(5, "aa3")
    assert not note(5, "aa3")
    assert store.sources("production") == [ABOUT]


def test_notes_are_told_in_order(store: RedisStore):
    reports = [Report(f"{n % 3:04x}:1", n // 3, f"{n:x}", ABOUT) for n in range(9)]

    assert store.note("production", reports[:6]) == [True] * 6
    assert store.note("production", [reports[1], *reports[6:], reports[0]]) == [
        *(False, True, True, True, False)
    ]
    assert store.note("production", []) == []


def test_merged_rows_count_once(store: RedisStore):
    rows = [row(), row(), row("off"), row(subject=SERVICE)]
    assert store.count("production", "web1:1", 1, rows, [Drawn(FLAG, NOW, {3: 1})])
    assert not store.count("production", "web1:1", 1, rows, [Drawn(FLAG, NOW, {3: 1})])
    assert store.count("production", "web2:1", 1, rows)

    assert requests(store) == 60
    assert dict(store.points("production", FLAG, since=NOW - 5, until=NOW)) == {3: 1}
    assert store.sources("production") == []


def test_a_batch_may_be_sent_again_in_the_next_hour(backend: Backend):
    clock = [NOW]
    store = backend.open(now=lambda: clock[0])
    add(store, 1, row())
    clock[0] += driver.PERIOD_SECONDS

    assert not add(store, 1, row())
    assert add(store, 2, row())
    clock[0] += driver.PERIOD_SECONDS
    assert not add(store, 1, row())


def test_a_thousand_subjects_in_one_batch(store: RedisStore):
    rows = [row(subject=flag_subject(f"flag-{number}")) for number in range(1000)]

    assert add(store, 1, *rows)
    assert not add(store, 1, *rows)

    assert requests(store, flag_subject("flag-999")) == 10


# --- bounded room ---------------------------------------------------------------------------------


def test_every_key_of_outcomes_ends(backend: Backend, store: RedisStore):
    add(store, 1, row(), row(subject=SERVICE, at=NOW - 90))

    client = backend.raw()
    found = list(client.scan_iter("sortition:outcomes:*"))

    assert len(found) == 2 + 2 + 2 + 2
    assert all(0 < client.ttl(key) <= driver.KEEP_SECONDS for key in found)


def test_a_minute_takes_only_so_many_fields(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(driver, "MINUTE_FIELDS", 100)
    for seq in range(30):
        metrics = {f"made-up-{seq}-{number}": (1, 1) for number in range(10)}
        assert add(store, seq, row(requests=1, metrics=metrics))

    found = store.totals("production", FLAG, since=NOW - 5, until=NOW)["on"]

    assert 0 < len(found.metrics) <= 50
    assert "full" in caplog.text


def test_sources_are_listed_until_they_fall_silent(backend: Backend):
    clock = [NOW]
    store = backend.open(now=lambda: clock[0])
    for name in ("a:1", "b:1"):
        store.add("production", name, 1, [], {"instance": name, "seen": clock[0]})
    clock[0] += driver.KEEP_SECONDS - 1
    store.add("production", "b:1", 2, [], {"instance": "b:1", "seen": clock[0]})

    assert [about["instance"] for about in store.sources("production")] == ["b:1", "a:1"]

    clock[0] += 5
    assert store.sources("production") == [{"instance": "b:1", "seen": clock[0] - 5}]
    store.add("production", "c:1", 1, [], {"instance": "c:1"})
    assert backend.raw().hlen("sortition:outcomes:{production}:sources") == 2
    assert store.sources("staging") == []


def test_only_so_many_sources_are_kept(backend: Backend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver, "SOURCES", 5)
    clock = [NOW]
    store = backend.open(now=lambda: clock[0])
    for number in range(12):
        clock[0] += 1
        store.add("production", f"s{number}:1", 1, [], {"instance": number})

    found = sorted(about["instance"] for about in store.sources("production"))
    assert found == [7, 8, 9, 10, 11]


def _sources_keys() -> list[str]:
    return [f"sortition:outcomes:{{production}}:{name}" for name in ("sources", "seen")]
