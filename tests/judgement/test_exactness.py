"""No factor's expectation exceeds 1 while its null holds: enumerated, and for whatever is drawn.

What is enumerated are all outcomes of one tick with their chances, so nothing is left to sampling.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from math import comb, exp, fsum, lgamma, log2, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.judgement.calibration import NOTICED, SLOWDOWN, rate_noise
from sortition.judgement.counts import Counts, Latencies
from sortition.judgement.latency import (
    SHIFTS,
    TAIL_RATIOS,
    Order,
    Reference,
    TailShift,
    order_logs,
    rising,
    summed,
)
from sortition.judgement.mismatch import TOLERATED, ShareMismatch
from sortition.judgement.rates import (
    BELOW,
    RATIOS,
    AboveLimit,
    BelowLimit,
    BeyondLimit,
    HarmRatio,
    NotWorse,
    ratio_logs,
)
from sortition.judgement.wealth import Injection, Wealth

from tests.judgement.builders import EDGES

NO_MORE_THAN_1 = 1 + 1e-9

Logs = Callable[[Sequence[Counts]], "list[float] | None"]


def chances(n: int, p: float) -> list[float]:
    """The chance of 0, 1, ... n failures."""
    return [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


def largest_expectation(logs: Logs, n_t: int, p_t: float, n_c: int, p_c: float) -> float:
    """The largest of all bettors' expected factors of one tick."""
    sums: list[list[float]] = []
    for (x_t, a), (x_c, b) in product(enumerate(chances(n_t, p_t)), enumerate(chances(n_c, p_c))):
        told = logs([Counts(n_t, x_t, n_c, x_c)])
        factors = [1.0] if told is None else [exp(log) for log in told]
        sums.append([a * b * factor for factor in factors])
    most = max(len(factors) for factors in sums)
    # A tick of which all factors are 1 says so once for all bettors.
    return max(fsum(f[min(k, len(f) - 1)] for f in sums) for k in range(most))


ARMS = [(1, 1), (1, 40), (3, 10), (10, 3), (12, 57), (40, 12)]
RATES = [1e-4, 0.01, 0.1, 0.5, 0.9, 1.0]


@pytest.mark.parametrize("dispersion", [1.0, 3.0])
@pytest.mark.parametrize(("tolerated", "slack"), [(1, 0), (1.5, 0), (2, 0.001), (1, 0.01), (4, 0)])
def test_harm_ratio_at_the_edge_of_its_null(
    tolerated: float, slack: float, dispersion: float
) -> None:
    test = HarmRatio(tolerated, slack=slack, dispersion=dispersion)

    worst = max(
        largest_expectation(test.logs, n_t, min(1, tolerated * p_c + slack), n_c, p_c)
        for (n_t, n_c), p_c in product(ARMS, RATES)
    )

    assert worst <= NO_MORE_THAN_1


def test_harm_ratio_beyond_its_null_is_paid_for() -> None:
    test = HarmRatio(1.5)

    assert largest_expectation(test.logs, 12, 0.4, 57, 0.1) > 1.5


@given(
    n_t=st.integers(0, 14),
    n_c=st.integers(0, 14),
    p_c=st.floats(0, 1),
    part=st.floats(0, 1),
    tolerated=st.floats(1, 8),
    slack=st.floats(0, 0.2),
    dispersion=st.floats(1, 20),
)
def test_harm_ratio_anywhere_in_its_null(
    n_t: int, n_c: int, p_c: float, part: float, tolerated: float, slack: float, dispersion: float
) -> None:
    test = HarmRatio(tolerated, slack=slack, dispersion=dispersion)
    p_t = part * min(1.0, tolerated * p_c + slack)

    assert largest_expectation(test.logs, n_t, p_t, n_c, p_c) <= NO_MORE_THAN_1


COUNTS = st.builds(
    lambda a, b, x, y: Counts(a, min(a, x), b, min(b, y)),
    *(st.integers(0, n) for n in (30, 30, 30, 30)),
)


@given(
    history=st.lists(COUNTS, max_size=80),
    n_t=st.integers(0, 12),
    n_c=st.integers(0, 12),
    p_c=st.floats(0, 1),
    part=st.floats(0, 1),
)
def test_whatever_history_calibrates_by_no_factor_gains_under_its_null(
    history: list[Counts], n_t: int, n_c: int, p_c: float, part: float
) -> None:
    noise = rate_noise(history, 5.0)
    assert noise.dispersion >= 1
    assert 1 <= noise.drift <= noise.tolerated
    assert noise.tolerated >= 1.5

    ratio = HarmRatio(noise.tolerated, dispersion=noise.dispersion)
    worse = HarmRatio(noise.drift, dispersion=noise.dispersion)
    above = AboveLimit(0.01, dispersion=noise.dispersion)
    p_t = part * min(1.0, noise.tolerated * p_c)

    assert largest_expectation(ratio.logs, n_t, p_t, n_c, p_c) <= NO_MORE_THAN_1
    p_t = part * min(1.0, noise.drift * p_c)
    assert largest_expectation(worse.logs, n_t, p_t, n_c, p_c) <= NO_MORE_THAN_1
    assert largest_expectation(above.logs, n_t, part * 0.01, n_c, p_c) <= NO_MORE_THAN_1


@given(n_t=st.integers(1, 12), n_c=st.integers(1, 12), p_t=st.floats(0, 1), part=st.floats(0, 1))
def test_not_worse_anywhere_in_its_null(n_t: int, n_c: int, p_t: float, part: float) -> None:
    test = NotWorse(2.0)

    assert largest_expectation(test.logs, n_t, p_t, n_c, part * p_t / 2) <= NO_MORE_THAN_1


@given(
    n=st.integers(1, 40),
    limit=st.sampled_from([0.001, 0.01, 0.05, 0.5]),
    part=st.floats(0, 1),
    dispersion=st.floats(1, 20),
)
def test_limits_anywhere_in_their_nulls(
    n: int, limit: float, part: float, dispersion: float
) -> None:
    above, below = AboveLimit(limit, dispersion=dispersion), BelowLimit(limit)

    assert largest_expectation(above.logs, n, part * limit, 1, 0.5) <= NO_MORE_THAN_1
    inside = limit + part * (1 - limit)
    assert largest_expectation(below.logs, n, inside, 1, 0.5) <= NO_MORE_THAN_1


@given(rates=st.lists(st.floats(0, 1), min_size=1, max_size=8), limit=st.floats(0.01, 0.5))
def test_a_limit_among_requests_that_differ(rates: list[float], limit: float) -> None:
    mean = fsum(rates) / len(rates)
    scaled = [p * min(1.0, limit / mean) if mean else p for p in rates]
    test = AboveLimit(limit)
    expected = [0.0] * len(test.of_each())
    for failed in product([0, 1], repeat=len(scaled)):
        chance = 1.0
        for p, x in zip(scaled, failed, strict=True):
            chance *= p if x else 1 - p
        logs = test.logs([Counts(len(failed), sum(failed), 1, 0)]) or []
        expected = [e + chance * exp(log) for e, log in zip(expected, logs, strict=True)]

    assert max(expected) <= NO_MORE_THAN_1


@given(n=st.integers(2, 10), p_c=st.floats(0, 1), strata=st.integers(2, 3))
def test_strata_multiply(n: int, p_c: float, strata: int) -> None:
    """Two cohorts, each with rates of its own: what is bet on both is a product of factors."""
    p_t = min(1.0, 1.5 * p_c)
    one = [
        exp((ratio_logs([Counts(n, x, n, y)], 1.5, RATIOS) or [0.0] * 8)[2])
        for x, y in product(range(n + 1), repeat=2)
    ]
    two = (ratio_logs([Counts(n, 1, n, 0), Counts(n, 2, n, 1)], 1.5, RATIOS) or [])[2]
    parts = [
        (ratio_logs([counts], 1.5, RATIOS) or [])[2]
        for counts in (Counts(n, 1, n, 0), Counts(n, 2, n, 1))
    ]
    chance = [a * b for a, b in product(chances(n, p_t), chances(n, p_c))]

    assert two == pytest.approx(sum(parts))
    assert fsum(a * b for a, b in zip(one, chance, strict=True)) ** strata <= NO_MORE_THAN_1


def whole_run(limit: float, p_t: float, p_c: float, ticks: int, n: int) -> float:
    """E of `BeyondLimit` after some ticks of n requests in each arm, expected over all outcomes."""
    outcomes = list(product(range(n + 1), repeat=2))
    chance = {(x, y): chances(n, p_t)[x] * chances(n, p_c)[y] for x, y in outcomes}
    expected = 0.0
    for course in product(outcomes, repeat=ticks):
        test, injection = BeyondLimit(limit, 1.0), Injection(10.0, 2)
        weight = 1.0
        for number, (x, y) in enumerate(course):
            test.bet([Counts(n, x, n, y)], injection.next(5.0, step_begins=number == 1))
            weight *= chance[x, y]
        expected += weight * test.value
    return expected


@pytest.mark.parametrize(
    ("p_t", "p_c"),
    [(0.1, 0.0), (0.1, 0.1), (0.05, 0.01), (0.6, 0.6), (0.9, 0.95), (1.0, 1.0)],
)
def test_beyond_a_limit_with_capital_put_in_over_time(p_t: float, p_c: float) -> None:
    """Either within the limit, or in an outage that both share: blamed for neither."""
    assert whole_run(0.1, p_t, p_c, ticks=3, n=2) <= NO_MORE_THAN_1


def test_beyond_a_limit_when_it_is_and_the_canary_alone() -> None:
    assert whole_run(0.1, 0.6, 0.01, ticks=3, n=2) > 3


# --- capital --------------------------------------------------------------------------------------


@given(
    planned=st.floats(10, 1e5),
    steps=st.integers(1, 20),
    ticks=st.lists(st.tuples(st.floats(0.5, 60), st.booleans()), max_size=300),
)
def test_no_more_than_1_is_ever_put_in(
    planned: float, steps: int, ticks: list[tuple[float, bool]]
) -> None:
    injection = Injection(planned, steps)

    put_in = [injection.next(seconds, step_begins=begins) for seconds, begins in ticks]

    assert all(amount >= 0 for amount in put_in)
    assert fsum(put_in) <= NO_MORE_THAN_1


def test_a_rollout_that_takes_longer_still_has_something_to_bet() -> None:
    injection = Injection(1800, 3)

    put_in = [injection.next(5, step_begins=tick in {60, 180}) for tick in range(1080)]

    assert put_in[0] > 0.4
    assert fsum(put_in[:360]) > 0.9
    assert put_in[719] > 1e-6


@given(
    factors=st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=1, max_size=9),
    cap=st.floats(0.5, 100),
)
def test_a_cap_only_takes_away(factors: list[list[float]], cap: float) -> None:
    capped, free = (Wealth([0.2, 0.3, 0.5], c) for c in (cap, 1e280))
    for logs in factors:
        assert capped.bet(logs, 0.3) <= free.bet(logs, 0.3) * NO_MORE_THAN_1


# --- latency --------------------------------------------------------------------------------------

SHARES = st.lists(st.floats(0.01, 1), min_size=7, max_size=7)


def normed(parts: Sequence[float]) -> list[float]:
    return [part / fsum(parts) for part in parts]


def multinomial(counts: Sequence[int], parts: Sequence[float]) -> float:
    ways = lgamma(sum(counts) + 1) - fsum(lgamma(k + 1) for k in counts)
    chance = exp(ways)
    for k, part in zip(counts, parts, strict=True):
        chance *= part**k
    return chance


def spread(n: int, bins: int) -> list[tuple[int, ...]]:
    if bins == 1:
        return [(n,)]
    return [(k, *rest) for k in range(n + 1) for rest in spread(n - k, bins - 1)]


def expected_order(theta: list[float], canary: list[float], control: list[float]) -> float:
    """The largest expected factor of `Order` with two requests in the canary, two in control."""
    alternatives = rising(theta)
    sums = [0.0] * len(alternatives)
    for y_t, y_c in product(spread(2, 7), spread(2, 7)):
        chance = multinomial(y_t, canary) * multinomial(y_c, control)
        logs = order_logs(y_t, y_c, alternatives) or []
        sums = [a + chance * exp(b) for a, b in zip(sums, logs, strict=True)]
    return max(sums)


def pushed_down(parts: list[float], by: list[float]) -> list[float]:
    """What is stochastically at most `parts`: of each bin a part moves one bin down."""
    found = list(parts)
    for place in range(1, len(parts)):
        moved = found[place] * by[place]
        found[place] -= moved
        found[place - 1] += moved
    return found


@given(theta=SHARES, control=SHARES, by=st.lists(st.floats(0, 1), min_size=7, max_size=7))
@pytest.mark.timeout(300)
def test_order_anywhere_in_its_null(
    theta: list[float], control: list[float], by: list[float]
) -> None:
    """Whatever the history says, and whatever both have: not slower is never paid for."""
    control = normed(control)

    found = expected_order(normed(theta), pushed_down(control, by), control)

    assert found <= NO_MORE_THAN_1


def test_order_pays_for_what_is_slower() -> None:
    even = [1 / 7] * 7
    slower = [0.02, 0.02, 0.02, 0.04, 0.1, 0.2, 0.6]

    assert expected_order(even, slower, even) > 1.3


@given(theta=SHARES)
def test_alternatives_rise_and_have_a_mean_of_1(theta: list[float]) -> None:
    parts = normed(theta)

    for ratios, _ in rising(parts):
        assert all(b >= a * (1 - 1e-12) for a, b in pairwise(ratios))
        assert fsum(p * r for p, r in zip(parts, ratios, strict=True)) == pytest.approx(1)


def test_grids_are_whole() -> None:
    assert len(SHIFTS) == 6
    assert min(RATIOS) > 1
    assert min(TAIL_RATIOS) > 1
    assert max(BELOW) < 1


# --- shares ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("off", [-TOLERATED, 0.0, TOLERATED])
def test_share_mismatch_within_what_is_tolerated(share: float, off: float) -> None:
    """Over two steps of a few draws each."""
    q, n = share * (1 + off), 12
    expected = 0.0
    for first, second in product(range(n + 1), repeat=2):
        test = ShareMismatch()
        test.add(0, share, (first, n - first))
        test.add(1, share, (second, n - second))
        expected += chances(n, q)[first] * chances(n, q)[second] * test.value

    assert expected <= NO_MORE_THAN_1


def test_share_mismatch_of_a_canary_that_loses_traffic() -> None:
    test = ShareMismatch()
    for _ in range(60):
        test.add(0, 0.25, (100, 400))

    assert test.value > 1000


# --- latency, from histograms as they come --------------------------------------------------------

POINTS = [0.013, 0.1, 0.137, 0.5, 1.0]
"""Seconds, some of them on the edges of guards, where buckets are narrower than elsewhere."""


def bucket_of(seconds: float) -> int:
    return bisect_left(EDGES, seconds)


def histogram_of(points: Sequence[float]) -> dict[int, int]:
    return dict(Counter(bucket_of(seconds) for seconds in points))


def expected_of_latencies(slowdown: float, slower: float, parts: Sequence[float]) -> float:
    """The largest expected factor of `TailShift` and `Order` for two requests in each arm,
    control's at POINTS with these chances, the canary's exactly `slower` times later."""
    reference = Reference(EDGES)
    usual = {bucket_of(s): round(1000 * p) + 1 for s, p in zip(POINTS, parts, strict=True)}
    reference.add(300.0, usual)
    tests: list[TailShift | Order] = [TailShift(slowdown), Order(slowdown)]
    sums = [[0.0] * 28, [0.0] * 12]
    for places in product(range(len(POINTS)), repeat=4):
        chance = prod(parts[place] for place in places)
        one, two, three, four = (POINTS[place] for place in places)
        canary = histogram_of([one * slower, two * slower])
        strata = summed([Latencies(canary, histogram_of([three, four]))])
        for test, expected in zip(tests, sums, strict=True):
            logs = test.logs(strata, [reference]) or [0.0] * len(expected)
            for k, log in enumerate(logs):
                expected[k] += chance * exp(log)
    return max(max(expected) for expected in sums)


@pytest.mark.parametrize("slowdown", [1.0, NOTICED, SLOWDOWN, 1.48, 2.5])
@pytest.mark.parametrize("chances_of", ["even", "early", "late"])
def test_as_slow_as_is_tolerated_is_never_paid_for(slowdown: float, chances_of: str) -> None:
    weights = {
        "even": [1.0] * 5,
        "early": [2.0**-k for k in range(5)],
        "late": [2.0**k for k in range(5)],
    }[chances_of]
    parts = normed(weights)

    assert expected_of_latencies(slowdown, slowdown * (1 - 1e-3), parts) <= NO_MORE_THAN_1


@pytest.mark.parametrize(("slowdown", "buckets"), [(NOTICED, 5), (SLOWDOWN, 9)])
def test_what_is_tolerated_is_whole_buckets(slowdown: float, buckets: int) -> None:
    """One bucket more would be rounded up to, and a canary twice as slow found in half as much
    time again. Edges at round numbers lie between: where one is passed, it is counted along."""
    places = [log2(edge * 1000) * 16 for edge in EDGES]
    round_ones = {b for b, place in enumerate(places) if abs(place - round(place)) > 0.01}
    reference = Reference(EDGES)

    for bucket in set(range(len(EDGES) - 20)) - round_ones:
        above = reference.shifted(bucket, slowdown)
        assert above - bucket == buckets + len(round_ones & set(range(bucket, above)))


def test_slower_than_is_tolerated_is_paid_for() -> None:
    assert expected_of_latencies(1.48, 3.0, [1 / 5] * 5) > 1.2
