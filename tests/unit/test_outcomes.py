"""Ticks of outcomes: how they are aligned, and when the reports of one are in."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.core.ticks import TICK_SECONDS

from flagserver.domain.outcomes import Totals, histogram_edges, settled_tick, tick_of

NOW = 1_795_000_000


@pytest.mark.parametrize(("at", "tick"), [(0, 0), (1, 5), (4, 5), (5, 5), (6, 10), (-1, 0)])
def test_a_tick_ends_on_the_grid(at: int, tick: int):
    assert tick_of(at) == tick


@pytest.mark.parametrize(
    ("flush", "after", "settled"),
    [
        (5.0, 5.4, NOW - 5),
        (5.0, 5.5, NOW),
        (1.0, 2.9, NOW - 5),
        (1.0, 3.0, NOW),
        (60.0, 61.9, NOW - 5),
        (60.0, 62.0, NOW),
    ],
)
def test_a_tick_is_settled_when_its_last_report_is_in(flush: float, after: float, settled: int):
    assert settled_tick(NOW + after, flush) == settled


@given(st.integers(0, 2**40), st.floats(0.05, 3600), st.floats(0, 100))
def test_the_watermark_is_on_the_grid_and_never_goes_back(at: int, flush: float, later: float):
    first, second = settled_tick(at, flush), settled_tick(at + later, flush)

    assert first % TICK_SECONDS == 0
    assert first <= second
    assert first < at


def test_a_request_that_hangs_is_of_the_latencies_once():
    edges = histogram_edges()
    seen = 0
    for tick in range(1, 8):
        # It began 3 s before the first tick's end.
        ages = {bisect_left(edges, 3.0 + 5 * (tick - 1)): 1}
        found = Totals(latency={7: 4}, ages=ages).durations()
        assert found[7] == 4
        seen += sum(found.values()) - 4

    assert seen == 1


@pytest.mark.parametrize(("age", "counts"), [(0.1, 0), (5.0, 0), (5.01, 1), (10.0, 1), (10.1, 0)])
def test_it_hangs_from_one_tick_to_two(age: float, counts: int):
    found = Totals(ages={bisect_left(histogram_edges(), age): 3}).durations()

    assert sum(found.values()) == 3 * counts
