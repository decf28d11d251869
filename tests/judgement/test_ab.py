"""A split: how two versions differ, at all times at once, and without deciding anything."""

from __future__ import annotations

from math import inf, isfinite
from random import Random

import pytest
from sortition.judgement.ab import Difference, differences
from sortition.judgement.counts import Counts, Latencies, Tick
from sortition.judgement.design import HTTP_ERRORS, standard_edges
from sortition.judgement.traffic import Traffic, World

from tests.slices import a_slice

EDGES = standard_edges()


def ticks_of(world: World, number: int, seed: str = "split") -> list[Tick]:
    traffic = Traffic(world, Random(seed))
    return [traffic.tick(0, 0.5) for _ in range(number)]


def told(world: World, number: int) -> dict[str, Difference]:
    return {one.metric: one for one in differences(ticks_of(world, number), 0, EDGES)}


def test_a_difference_that_is_there_is_told_and_its_interval_holds_it() -> None:
    found = told(World(100, 0.01, 0.03), 600)[HTTP_ERRORS]

    assert found.differs
    assert found.low < 0.02 < found.high
    assert found.low > 0
    assert found.sentence.startswith("http errors: more in the canary, by +")


def test_a_canary_that_is_better_is_told_as_that() -> None:
    ticks = [Tick(5.0, 5.0, 0, 0.5, {HTTP_ERRORS: [Counts(9000, 9, 9000, 900)]})]

    (found,) = differences(ticks, 0, EDGES)

    assert found.high < 0
    assert "less in the canary" in found.sentence


def test_where_both_are_alike_nothing_is_claimed() -> None:
    found = told(World(100, 0.01), 600)

    assert not any(one.differs for one in found.values())
    assert "no difference is proven" in found[HTTP_ERRORS].sentence
    assert {"p50 latency", "p95 latency"} < set(found)


def test_a_slower_canary_shows_in_its_quantiles_in_seconds() -> None:
    found = told(World(200, 0.01, slower=2.0), 600)

    for name, more in (("p50 latency", 0.13), ("p95 latency", 0.5)):
        assert found[name].low > 0
        assert found[name].low < more < found[name].high
        assert "ms" in found[name].sentence
    assert isfinite(found["p50 latency"].high)


def test_only_the_step_that_is_held_counts() -> None:
    before = [Tick(5.0, 5.0, 0, 0.05, {HTTP_ERRORS: [Counts(100, 100, 1900, 0)]})]
    held = [Tick(10.0, 5.0, 1, 0.5, {HTTP_ERRORS: [Counts(1000, 10, 1000, 10)]})]

    (found,) = differences([*before, *held], 1, EDGES)

    assert found.whole == (1000, 1000)
    assert not found.differs


def test_of_nothing_nothing_is_known() -> None:
    assert differences([], 0, EDGES) == ()
    empty = [Tick(5.0, 5.0, 0, 0.5, {HTTP_ERRORS: [Counts(0, 0, 5, 0)]}, [Latencies({}, {3: 5})])]

    errors, _, slow = differences(empty, 0, EDGES)

    assert errors.canary is None
    assert errors.low < 0 < errors.high == 1.0
    assert slow.high == inf
    assert "one of the arms has counted nothing yet" in errors.sentence


@pytest.mark.parametrize("seed", a_slice(range(200), 8))
def test_whoever_looks_every_time_is_hardly_ever_wrong(seed: int) -> None:
    """Two hundred splits of equal versions through a drifting day, each looked at 20 times: at
    most 5 % may ever show any difference (here none does, for intervals of two arms are wide)."""
    ticks = ticks_of(World(40, 0.02), 200, f"split/{seed}")

    for until in range(10, 201, 10):
        assert not any(one.differs for one in differences(ticks[:until], 0, EDGES))
