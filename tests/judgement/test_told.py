"""What is told besides: intervals, onset, what is still needed, noise, what a step can show."""

from __future__ import annotations

from bisect import bisect_left
from math import inf, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.judgement.calibration import SLOWDOWN, latency_noise, rate_noise
from sortition.judgement.counts import Counts, Latencies, Tally
from sortition.judgement.design import HTTP_ERRORS
from sortition.judgement.evidence import Judge, more_needed, onset
from sortition.judgement.intervals import (
    _log_mixture,
    difference_interval,
    quantile_interval,
    rate_interval,
)
from sortition.judgement.latency import Reference
from sortition.judgement.planning import (
    Counted,
    Step,
    certifiable,
    detectable,
    detectable_slowdown,
    first_share,
    planned,
    power,
    seconds_to_detect,
    seconds_to_notice,
)

from tests.judgement.builders import EDGES, a_design, a_tick, errors_alone, fed

STEPS = (Step(0.05, 300), Step(0.25, 600), Step(0.5, 900))

# --- intervals ------------------------------------------------------------------------------------


@given(whole=st.integers(1, 10**6), part=st.floats(0, 1))
def test_an_interval_holds_what_was_seen(whole: int, part: float) -> None:
    failed = int(whole * part)
    low, high = rate_interval(failed, whole)

    assert 0 <= low <= failed / whole <= high <= 1
    assert rate_interval(0, whole)[0] == 0
    assert rate_interval(whole, whole)[1] == 1


def test_an_interval_of_nothing_is_everything() -> None:
    assert rate_interval(0, 0) == (0, 1)
    assert quantile_interval({}, EDGES, 0.95) == (0, inf)


def test_an_interval_narrows() -> None:
    widths = [high - low for low, high in (rate_interval(n // 100, n) for n in (100, 10**4, 10**6))]

    assert widths[0] > 5 * widths[1] > 25 * widths[2]


def test_an_interval_holds_at_all_times_at_once_while_the_rate_drifts() -> None:
    """400 rollouts of 200 looks each, of which each is a chance to be wrong."""
    chance, missed = Random(5), 0
    for _ in range(400):
        failed = whole = 0
        expected = 0.0
        for look in range(200):
            rate = 0.01 if look % 40 < 20 else 0.08
            whole += 20
            expected += 20 * rate
            failed += sum(chance.random() < rate for _ in range(20))
            # Inside the interval, without looking for where it ends.
            if look % 4 == 0 and _log_mixture(failed, whole, expected / whole) >= log(20):
                missed += 1
                break

    assert missed <= 20, "5 % of 400"


def test_a_difference_is_told_apart_from_none() -> None:
    low, high = difference_interval((100, 1000), (20, 1000))
    none = difference_interval((21, 1000), (20, 1000))

    assert 0 < low < 0.08 < high
    assert none[0] < 0 < none[1]


def test_a_quantile_lies_between_edges() -> None:
    histogram = {100 + i: 1000 for i in range(100)}

    low, high = quantile_interval(histogram, EDGES, 0.95)

    assert low < EDGES[194] < high
    assert high / low < 1.2


# --- the onset, and what is needed ----------------------------------------------------------------


def test_the_onset_is_where_the_failures_begin() -> None:
    design, chance = errors_alone(), Random(2)
    ticks = []
    for number in range(1, 100):
        rate = 0.001 if number < 70 else 0.06
        failed = sum(chance.random() < rate for _ in range(25))
        ticks.append(a_tick(number, canary=(25, failed), control=(475, number % 2)))

    found = onset(design, HTTP_ERRORS, ticks)

    assert found is not None
    assert 335 <= found <= 365
    assert onset(design, HTTP_ERRORS, [a_tick(number) for number in range(1, 50)]) is None


def test_what_is_needed_to_be_sure_is_about_what_it_takes() -> None:
    judge = fed(Judge(errors_alone()), 10)
    (standing,) = judge.assess().standings
    told = more_needed(standing, 0.05)
    assert told is not None
    taken = 0
    while judge.assess().standings[0].acceptable < 20:
        taken += 25
        judge.take(a_tick(10 + taken // 25))

    assert 0.5 * taken <= told <= 2.5 * taken
    assert more_needed(judge.assess().standings[0], 0.05) == 0


def test_what_would_never_be_shown_is_said_to_be_so() -> None:
    judge = fed(Judge(errors_alone()), 40, canary=(25, 2), control=(475, 10))

    assert more_needed(judge.assess().standings[0], 0.05) is None


# --- noise ----------------------------------------------------------------------------------------


def halves(chance: Random, factor_every: int, spread: float, ticks: int = 3000) -> list[Counts]:
    """A/A history: two halves, each with a factor of its own that changes every so many ticks."""
    history, factors = [], [1.0, 1.0]
    for number in range(ticks):
        if number % factor_every == 0 and spread:
            factors = [chance.lognormvariate(-spread * spread / 2, spread) for _ in range(2)]
        a, b = (sum(chance.random() < 0.02 * factor for _ in range(200)) for factor in factors)
        history.append(Counts(200, a, 200, b))
    return history


def test_independent_requests_are_left_as_they_are() -> None:
    noise = rate_noise(halves(Random(1), 1, 0.0), 5.0)

    assert noise.dispersion == pytest.approx(1.0, abs=0.1)
    assert noise.tolerated == 1.5


def test_what_scatters_within_a_tick_is_dispersion() -> None:
    noise = rate_noise(halves(Random(1), 1, 1.0), 5.0)

    assert noise.dispersion > 3


def test_what_differs_for_minutes_is_tolerated() -> None:
    noise = rate_noise(halves(Random(1), 60, 0.4), 5.0)

    assert 2.0 < noise.tolerated < 8.0


def test_no_history_says_nothing() -> None:
    assert rate_noise([], 5.0).tolerated == 1.5
    assert latency_noise([], 5.0).slowdown == SLOWDOWN


def test_latency_that_differs_for_minutes_is_tolerated() -> None:
    chance = Random(3)

    def arm(later: float) -> dict[int, int]:
        found: dict[int, int] = {}
        for _ in range(60):
            bucket = round(chance.gauss(120 + later, 15))
            found[bucket] = found.get(bucket, 0) + 1
        return found

    still, moving = [], []
    for _ in range(20):
        later = chance.gauss(0, 6), chance.gauss(0, 6)
        still += [Latencies(arm(0), arm(0)) for _ in range(60)]
        moving += [Latencies(arm(later[0]), arm(later[1])) for _ in range(60)]

    assert latency_noise(still, 5.0).slowdown == SLOWDOWN
    assert latency_noise(still, 5.0).dispersion < 1.15
    assert latency_noise(moving, 5.0).slowdown > 1.6


def test_slow_sessions_are_one_and_not_twenty() -> None:
    chance = Random(4)

    def arm() -> dict[int, int]:
        slow = 20 * (chance.random() < 0.3)
        return {120: 40 - slow, 180: slow}

    noise = latency_noise([Latencies(arm(), arm()) for _ in range(600)], 5.0)

    assert noise.dispersion > 5


def test_the_reference_is_of_the_last_five_minutes() -> None:
    reference = Reference(EDGES)
    for _ in range(60):
        reference.add(5.0, {100: 10})
    old = dict(reference.quantiles or {})
    for _ in range(66):
        reference.add(5.0, {140: 10})

    assert set(old.values()) == {100}
    assert set((reference.quantiles or {}).values()) == {140}


def test_a_tally_of_nothing_has_no_rate() -> None:
    assert Tally().canary_rate is None
    assert Tally().control_rate is None


# --- what a step can show -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_second", "share"),
    [(100, 0.05), (50, 0.1), (20, 0.25), (10, 0.25), (0, 0.25), (1e6, 0.05)],
)
def test_the_first_share_gives_1500_requests_where_it_may(per_second: float, share: float) -> None:
    assert first_share(per_second, 300) == share


def test_what_is_detectable_gets_less_with_traffic() -> None:
    design = a_design()
    found = [detectable(design, design.rates[0], STEPS[0], rate, 0.001) for rate in (10, 100, 1000)]

    assert found == sorted(found, key=lambda rate: -(rate or 1))
    assert found[0] == pytest.approx(0.036, rel=0.1)
    assert detectable(design, design.rates[0], STEPS[0], 0.01, 0.001) is None


def test_what_is_told_is_about_what_happens() -> None:
    """100 requests a second, 0.1 % -> 2 %: the mean of 60 runs through the judge itself."""
    design, chance = errors_alone(), Random(11)
    took = []
    for _ in range(60):
        judge, number = Judge(design), 0
        while judge.assess().evidence < 100:
            number += 1
            failed = [
                sum(chance.random() < rate for _ in range(n))
                for n, rate in ((25, 0.02), (475, 0.001))
            ]
            judge.take(a_tick(number, canary=(25, failed[0]), control=(475, failed[1])))
        took.append(5.0 * number)

    told = seconds_to_detect(design, design.rates[0], 0.05, 100, 0.001, 0.02)

    assert 0.6 * told < sum(took) / len(took) < 1.7 * told


def test_certifying_needs_what_it_needs() -> None:
    design = a_design()
    rate = design.rates[0]
    needed = certifiable(design, rate, 0.05, 0.001)

    assert needed is not None
    assert 400 < needed < 800
    # As high as it is in both arms, it is not worse than control; without one it never is good.
    assert certifiable(design, rate, 0.05, 0.5) is not None
    assert certifiable(design, rate, 1.0, 0.5) is None


def test_a_plan_demands_a_certificate_only_where_it_can_be_had() -> None:
    known = {HTTP_ERRORS: Counted(10, 0.001), "critical_path": Counted(0.5, 0.0001)}

    design = planned(a_design(), STEPS, known)

    assert design.rates[0].certified == (1, 2)
    assert design.of("critical_path").certified == ()
    assert design.of("critical_path").minimum_sample == 2
    assert design.rates[1] == a_design().rates[1]


def a_usual_histogram(requests: int) -> dict[int, int]:
    chance, found = Random(9), dict[int, int]()
    for _ in range(requests):
        bucket = bisect_left(EDGES, chance.lognormvariate(log(0.134), 0.8))
        found[bucket] = found.get(bucket, 0) + 1
    return found


def test_a_doubled_latency_takes_as_long_as_it_does() -> None:
    """At 100 requests a second; in simulations half of all runs take 30 s."""
    design, usual = a_design(), a_usual_histogram(20_000)

    assert 20 < seconds_to_notice(design, usual, 0.05, 100, 2.0) < 45
    assert seconds_to_notice(design, usual, 0.05, 100, 1.3) == inf
    assert seconds_to_notice(design, a_usual_histogram(100), 0.05, 100, 2.0) == inf
    least = detectable_slowdown(design, usual, STEPS[0], 100)
    assert least is not None
    assert 1.48 < least < 1.7
    assert detectable_slowdown(design, usual, STEPS[0], 0.01) is None


def test_a_plan_never_pretends() -> None:
    design = a_design()
    few = power(design, design.rates[0], STEPS, 0.01, 0.001)
    many = power(design, design.rates[0], STEPS, 100, 0.001)

    assert "cannot be judged by comparison" in few[0].sentence
    assert "from about 0.8 % on" in many[0].sentence
    assert many[0].certified
