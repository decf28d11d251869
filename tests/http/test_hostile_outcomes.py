"""Outcomes of whoever means ill, or errs: they change no count that is judged, and are counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flagserver.domain.batches import RESULTS
from flagserver.domain.outcomes import Part, Totals

from .api import Answer, Api, Caller
from .routes import BATCH

OUTCOMES = "/api/v1/sdk/outcomes"

TOLD = {"service.name": "shop", "service.version": "1.5.0", "instance": "0f" * 8}

Change = Callable[[dict[str, Any]], object]


class Judged:
    """A server that has taken one honest batch, and what a judgement reads there."""

    def __init__(self, api: Api) -> None:
        self._api = api
        api.flag("search", share=50)
        self.sdk: Caller = api.sdk()
        self.now = int(api.clock.now().timestamp())
        self.at = api.services.outcomes.settled_tick(self.now) + 5
        assert self.send(self.batch(seq=1)).status == 202
        self.honest = self.seen()

    def batch(self, **change: Any) -> dict[str, Any]:
        counts = {"requests": 30, "failures": 3, "latency": [[10, 30]], "metrics": {"cart": [4, 1]}}
        flags = [counts | {"flag": "search", "variant": "on", "assignments": 40}]
        points = {"search": [[3, 2]]}
        tick = {"at": self.at, "seconds": 5, "service": counts, "flags": flags, "points": points}
        return {**BATCH, **TOLD, "ticks": [tick], **change}

    def send(self, batch: Mapping[str, Any]) -> Answer:
        return self.sdk.post(OUTCOMES, batch)

    def seen(self) -> tuple[Any, ...]:
        """All that is kept of the service and the flag around now, and so of their ticks."""
        outcomes = self._api.services.outcomes
        span = {"since": self.now - 7200, "until": self.now + 600}
        return (
            outcomes.service_ticks("production", "shop", **span),
            outcomes.flag_ticks("production", "search", **span),
            outcomes.points("production", "search", **span),
        )

    def counted(self) -> dict[str, int]:
        outcomes = self._api.services.outcomes
        return {**outcomes.batches, **outcomes.rows}


@pytest.fixture
def judged(api: Api) -> Judged:
    return Judged(api)


def test_an_honest_batch_is_what_is_judged(judged: Judged) -> None:
    service, flag, points = judged.honest

    totals = Totals(0, 30, 3, {10: 30}, 0.0, {"cart": (4, 1)})
    assert service == {judged.at: {"1.5.0": totals}}
    assert flag == {
        judged.at: {Part("on", "shop", "1.5.0"): Totals(40, 30, 3, {10: 30}, 0.0, {"cart": (4, 1)})}
    }
    assert points == (tuple(2 * (place == 3) for place in range(256)), 2)


NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.integers(max_value=-1),
    st.integers(min_value=10**9 + 1, max_value=2**70),
    st.floats().filter(lambda x: not (math.isfinite(x) and x >= 0 and x == int(x))),
    st.sampled_from([math.nan, math.inf, -math.inf, "5", None, True, [], {}, 1.5]),
)
"""What no count is."""

PLACES: list[Callable[[dict[str, Any], Any], object]] = [
    lambda tick, bad: tick["service"].update(requests=bad),
    lambda tick, bad: tick["service"].update(failures=bad),
    lambda tick, bad: tick["service"].update(latency=[[bad, 1]]),
    lambda tick, bad: tick["service"].update(latency=[[1, bad]]),
    lambda tick, bad: tick["service"].update(ages=[[1, bad]]),
    lambda tick, bad: tick["service"].update(metrics={"cart": [bad, 1]}),
    lambda tick, bad: tick["service"].update(metrics={"cart": [5, bad]}),
    lambda tick, bad: tick["flags"][0].update(requests=bad),
    lambda tick, bad: tick["flags"][0].update(assignments=bad),
    lambda tick, bad: tick.update(points={"search": [[bad, 1]]}),
    lambda tick, bad: tick.update(points={"search": [[1, bad]]}),
]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.sampled_from(PLACES), bad=NUMBERS)
def test_what_is_no_count_is_refused_with_all_that_came_with_it(
    judged: Judged, place: Callable[[dict[str, Any], Any], object], bad: Any
) -> None:
    batch = judged.batch(seq=2)
    place(batch["ticks"][0], bad)
    before = judged.counted()

    answer = judged.send(batch)

    assert 400 <= answer.status < 500
    assert judged.seen() == judged.honest
    assert judged.counted()["refused"] == before["refused"] + 1


@pytest.mark.parametrize(
    "lie",
    [
        lambda tick: tick["service"].update(failures=31),
        lambda tick: tick["service"].update(requests=5_000_001, latency=[]),
        lambda tick: tick["service"].update(latency=[[10, 31]]),
        lambda tick: tick["service"].update(latency=[[2001, 1]]),
        lambda tick: tick["service"].update(latency=[[10, 3], [10, 3]]),
        lambda tick: tick["service"].update(metrics={"cart": [4, 5]}),
        lambda tick: tick["flags"][0].update(failures=31),
        lambda tick: tick.update(points={"search": [[256, 1]]}),
        lambda tick: tick.update(points={"search": [[3, 1], [3, 1]]}),
    ],
)
def test_what_no_process_can_have_counted_is_refused(judged: Judged, lie: Change) -> None:
    batch = judged.batch(seq=2)
    lie(batch["ticks"][0])

    answer = judged.send(batch)

    assert (answer.status, answer.code) == (422, "invalid_field")
    assert judged.seen() == judged.honest
    assert judged.counted()["refused"] == 1


@pytest.mark.parametrize(
    ("lie", "became", "rows"),
    [
        (lambda tick, now: tick.update(at=now + 61), "early", 2),
        (lambda tick, now: tick.update(at=2**53 - 1), "early", 2),
        (lambda tick, now: tick.update(at=now - 3601), "old", 2),
        (lambda tick, now: tick.update(at=0), "old", 2),
        (
            lambda tick, now: tick.update(
                service={"requests": 0, "failures": 0},
                flags=[
                    {**tick["flags"][0], "flag": "nobody"},
                    {**tick["flags"][0], "variant": "x"},
                ],
                points={"nobody": [[1, 1]]},
            ),
            "unknown",
            2,
        ),
    ],
)
def test_what_is_of_another_time_or_of_nothing_is_left_out_and_counted(
    judged: Judged, lie: Callable[[dict[str, Any], int], object], became: str, rows: int
) -> None:
    batch = judged.batch(seq=2)
    lie(batch["ticks"][0], judged.now)

    assert judged.send(batch).status == 202

    assert judged.seen() == judged.honest
    assert judged.counted()[became] == rows


def test_what_comes_again_is_counted_as_that_and_as_nothing_else(judged: Judged) -> None:
    for seq in (1, 1, 1):
        assert judged.send(judged.batch(seq=seq)).json == {"accepted": False}
    # The same numbers with other counts: whatever came first stands.
    liar = judged.batch(seq=1)
    liar["ticks"][0]["service"]["failures"] = 30

    assert judged.send(liar).json == {"accepted": False}

    assert judged.seen() == judged.honest
    assert judged.counted()["repeated"] == 4


def test_a_token_that_was_revoked_reports_nothing(api: Api, judged: Judged) -> None:
    (token,) = [
        each
        for each in api.admin.get("/api/v1/tokens").json["tokens"]
        if each["scope"] == "sdk" and each["revoked"] is None
    ]
    assert api.admin.delete(f"/api/v1/tokens/{token['id']}").status in (200, 204)
    api.follow()

    answer = judged.send(judged.batch(seq=2))

    assert answer.status == 401
    assert judged.seen() == judged.honest


INSTANCES = count(1)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(order=st.permutations([0, 1, 2, 3]), repeats=st.lists(st.integers(0, 3), max_size=6))
def test_in_whatever_order_and_however_often_each_counts_once(
    judged: Judged, order: list[int], repeats: list[int]
) -> None:
    instance = f"{next(INSTANCES):016x}"
    before = judged.seen()[0][judged.at]["1.5.0"].requests
    for seq in [*order, *repeats]:
        judged.send(judged.batch(seq=seq, instance=instance))

    after = judged.seen()[0][judged.at]["1.5.0"].requests

    assert after - before == 4 * 30


def test_every_result_has_a_count(judged: Judged) -> None:
    assert set(RESULTS) < set(judged.counted())
