"""How noisy a service is, from halves of its processes: what ten minutes say, what a day says, and
what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import log
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.core.ticks import TICK_SECONDS
from sortition.judgement.calibration import (
    MOST_DISPERSION,
    NOTICED,
    SLOWDOWN,
    LatencyNoise,
    RateNoise,
    RateScatter,
    rate_scatter,
)
from sortition.judgement.counts import Counts
from sortition.judgement.design import HTTP_ERRORS
from sortition.judgement.evidence import Judge
from sortition.judgement.traffic import Traffic, World, poisson

from flagserver.domain import calibration, comparisons, power
from flagserver.domain.calibration import ALONE, ROLLOUT, SEVERAL, SILENT, Calibration, Window
from flagserver.domain.outcomes import (
    HALVES,
    WINDOW_SECONDS,
    Part,
    Totals,
    half_of,
    histogram_edges,
    window_of,
)
from tests.unit.test_power import RULE, SEARCH, a_rollout, usual

END = 1_795_000_200
"""The end of a window."""

TICKS = range(END - WINDOW_SECONDS + TICK_SECONDS, END + 1, TICK_SECONDS)

Ticks = Mapping[int, Mapping[Part, Totals]]


def ticks(**halves: Totals) -> Ticks:
    """Return a window in which halves of version 1 had the same in every tick."""
    return {at: {Part("1", half=half): it for half, it in halves.items()} for at in TICKS}


def window(chance: Random, fails: Callable[[Random], int], factors: Any = (1, 1)) -> Window:
    """Return a window of a hundred requests a second. fails: of one cause, how many."""

    def half(factor: float) -> Totals:
        causes = poisson(chance, 2.5 * factor / 3)
        return Totals(requests=250, failures=min(250, sum(fails(chance) for _ in range(causes))))

    each = {
        at: {Part("1", half=h): half(f) for h, f in zip(HALVES, factors, strict=True)}
        for at in TICKS
    }
    return calibration.window(each, END)


def one(_: Random) -> int:
    return 1


def in_rows(chance: Random) -> int:
    return chance.choice([1, 3, 20])


def history(some: list[Window]) -> dict[int, Window]:
    """Return windows by their end, the first the oldest."""
    return {END - WINDOW_SECONDS * (len(some) - 1 - i): it for i, it in enumerate(some)}


# --- halves ---------------------------------------------------------------------------------------


def test_a_process_is_of_one_half_for_a_window_and_then_of_another_draw() -> None:
    sources = [f"{number:016x}:1795000000" for number in range(400)]

    for source in sources[:20]:
        assert len({half_of(source, at) for at in TICKS}) == 1
    first = [half_of(source, END) for source in sources]
    then = [half_of(source, END + 1) for source in sources]

    assert 160 < first.count("a") < 240
    assert 160 < sum(a == b for a, b in zip(first, then, strict=True)) < 240
    assert [window_of(at) for at in (END - 599, END, END + 1)] == [END, END, END + WINDOW_SECONDS]


def test_two_processes_are_apart_every_other_window() -> None:
    apart = [
        half_of("0f:1", END + i * WINDOW_SECONDS) != half_of("1e:1", END + i * WINDOW_SECONDS)
        for i in range(300)
    ]

    assert 120 < sum(apart) < 180


# --- what ten minutes say -------------------------------------------------------------------------


def test_halves_of_one_version_say_how_they_scatter() -> None:
    rich = Totals(requests=50, failures=1, latency={100: 50}, metrics={"cart": (10, 1)})
    found = calibration.window(ticks(a=rich, b=rich), END)

    assert (found.seconds, found.why, set(found.rates)) == (WINDOW_SECONDS, "", {"", "cart"})
    assert found.rates[""].tick.failures == 2 * 120
    assert found.rates["cart"].tick.windows == 120
    assert [one.windows for one in found.rates[""].slow] == [5, 2]
    assert Window.from_body(found.to_body()) == found


def test_a_bucket_that_was_told_with_nothing_in_it_says_nothing() -> None:
    empty = Totals(requests=50, latency={5: 0})
    found = calibration.window(ticks(a=empty, b=empty), END)

    assert found.seconds == WINDOW_SECONDS
    none = Totals(requests=50)
    assert found.latency == calibration.window(ticks(a=none, b=none), END).latency


def test_only_what_both_halves_reported_counts() -> None:
    some = dict(ticks(a=Totals(requests=50), b=Totals(requests=50)))
    for at in TICKS[:40]:
        some[at] = {Part("1", half="a"): Totals(requests=50)}
    del some[TICKS[-1]]

    assert calibration.window(some, END).seconds == WINDOW_SECONDS - 41 * TICK_SECONDS


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, SILENT),
        (ticks(a=Totals(), b=Totals()), SILENT),
        (ticks(a=Totals(requests=5)), ALONE),
        (ticks(a=Totals(requests=5), b=Totals()), ALONE),
        ({TICKS[3]: {Part("1"): Totals(requests=9)}}, SILENT),
        (
            {**ticks(a=Totals(requests=5), b=Totals(requests=5))}
            | {TICKS[7]: {Part("2", half="a"): Totals(requests=1)}},
            SEVERAL,
        ),
    ],
)
def test_a_window_that_says_nothing_says_why(told: Ticks, why: str) -> None:
    found = calibration.window(told, END)

    assert (found.why, found.seconds) == (why, 0)
    assert Window.from_body(found.to_body()) == found


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"why": "because"},
        {"seconds": 600, "rates": {"": [[0, 0, 0]]}, "latency": {}},
        {"seconds": 600, "rates": {"": [[float("nan"), 0, 0, 0]] * 3}, "latency": {}},
        {"seconds": "600", "rates": [], "latency": None},
    ],
)
def test_a_window_that_cannot_be_read_says_nothing(body: Any) -> None:
    assert Window.from_body(body) == Window(why=SILENT)


# --- what a day says ------------------------------------------------------------------------------


def test_with_too_little_history_nothing_is_calibrated_and_it_says_so() -> None:
    chance = Random(1)
    known = calibration.calibration(history(18 * [window(chance, in_rows)]))

    assert not known.calibrated
    assert known.sentence == "Not calibrated: 3 h of history, 6 h wanted."
    assert known.of_rate(None).dispersion == 1.0
    assert known.of_latency().slowdown == SLOWDOWN


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (ALONE, "for 20 h halves need two processes that report, and there was one."),
        (SEVERAL, "for 20 h several versions ran side by side."),
        (ROLLOUT, "for 20 h a rollout moved it."),
        (SILENT, "for 20 h nobody reported any request."),
    ],
)
def test_what_stands_against_it_is_said(why: str, said: str) -> None:
    known = calibration.calibration(history([Window(why=why)] * 120))

    assert known.sentence == f"Not calibrated: no history, 6 h wanted; {said}"


def test_nobody_known_says_so() -> None:
    assert calibration.calibration({}).sentence == "Not calibrated: no history, 6 h wanted."


def test_what_comes_in_rows_is_known_to_scatter() -> None:
    chance = Random(2)
    calm = calibration.calibration(history(6 * [window(chance, one) for _ in range(6)]))
    rows = calibration.calibration(history(6 * [window(chance, in_rows) for _ in range(6)]))

    assert calm.calibrated
    assert calm.of_rate(None).dispersion < 1.2
    assert rows.of_rate(None).dispersion > 8
    assert rows.of_rate("cart") == rows.of_rate(None), "nobody counted it"
    assert rows.sentence.startswith("Calibrated on 6 h of A/A history: failures scatter ")


def test_one_ill_host_for_an_hour_is_no_noise() -> None:
    """It would be tolerated in the next version for a day."""
    chance = Random(3)
    calm = 8 * [window(chance, one) for _ in range(6)]
    ill = 6 * [window(chance, one, factors=(1, 60))]
    known = calibration.calibration(history([*calm[:12], *ill, *calm[12:]]))

    assert known.of_rate(None).dispersion < 1.2
    assert known.of_rate(None).tolerated == 1.5


def ill_for_a_minute(chance: Random) -> Window:
    """Return a window of a hundred requests a second over four hosts, of which one fails always in
    its first minute."""

    def failures(each: int) -> int:
        return poisson(chance, 0.001 * each)

    some = {}
    for number, at in enumerate(TICKS):
        ill = 125 if number < 12 else failures(125)
        a = Totals(requests=250, failures=ill + failures(125))
        b = Totals(requests=250, failures=failures(250))
        some[at] = {Part("1", half="a"): a, Part("1", half="b"): b}
    return calibration.window(some, END)


def calm(chance: Random) -> Window:
    """Return one in which a thousandth fails, each by itself."""

    def half() -> Totals:
        return Totals(requests=250, failures=poisson(chance, 0.25))

    return calibration.window(
        {at: {Part("1", half=h): half() for h in HALVES} for at in TICKS}, END
    )


@pytest.mark.parametrize(
    ("hours", "ill"), [(6, (5, 20)), (24, (50,)), (24, (50, 90)), (24, tuple(range(4, 144, 18)))]
)
def test_a_host_that_was_ill_for_a_minute_now_and_again_is_no_noise(
    hours: int, ill: tuple[int, ...]
) -> None:
    """It made the next rollout's judge almost blind: dispersion 50, ten times tolerated."""
    chance = Random(7)
    some = [ill_for_a_minute(chance) if i in ill else calm(chance) for i in range(6 * hours)]
    noise = calibration.calibration(history(some)).of_rate(None)

    assert noise.dispersion < 1.2
    assert (noise.drift, noise.tolerated) == (1.0, 1.5)


def test_after_a_day_with_two_ill_minutes_a_canary_that_fails_by_five_percent_is_found() -> None:
    """It took nine minutes and the backstop, and one that fails by 2 % was never found."""
    chance = Random(10)
    some = [ill_for_a_minute(chance) if i in (50, 90) else calm(chance) for i in range(144)]
    known = calibration.calibration(history(some))
    rollout = a_rollout(targets=(RULE,))
    (comparison,) = comparisons.comparisons(rollout)
    design = comparisons.design(rollout, comparison, histogram_edges(), known)
    errors = design.rates[0].name

    def seconds_to_find(harm: float) -> float:
        judge = Judge(design)
        traffic = Traffic(World(100.0, 0.001, harm=harm), chance, latency=False, custom=False)
        for number in range(1, 61):
            tick = traffic.tick(0, 0.05)
            judge.take(replace(tick, counts={errors: tick.counts[HTTP_ERRORS]}))
            if judge.assess().evidence >= design.bound:
                return number * tick.seconds
        raise AssertionError("it is never found")

    assert seconds_to_find(0.05) <= 60
    assert seconds_to_find(0.02) <= 200


@pytest.mark.parametrize("hours", [6, 7, 8])
def test_of_a_short_history_an_ill_hour_is_left_out_too(hours: int) -> None:
    chance = Random(8)
    some = [calm(chance) for _ in range(6 * hours)]
    some[9:16] = [window(chance, one, factors=(1, 60)) for _ in range(7)]

    assert calibration.calibration(history(some)).of_rate(None).dispersion < 1.2


@pytest.mark.parametrize("seed", range(4))
def test_noise_that_is_there_all_along_is_all_kept(seed: int) -> None:
    """Six hours of a quiet service have forty rows of failures, of unlike length: what is left of
    them without the longest says too little to be believed."""
    chance = Random(f"few rows/{seed}")

    def failures() -> int:
        return sum(
            1 + int(log(1 - chance.random()) / log(0.8)) for _ in range(poisson(chance, 0.005))
        )

    def half() -> Totals:
        return Totals(requests=25, failures=min(25, failures()))

    some = [
        calibration.window({at: {Part("1", half=h): half() for h in HALVES} for at in TICKS}, END)
        for _ in range(36)
    ]
    whole = sum((it.rates[""] for it in some), RateScatter())
    noise = calibration.calibration(history(some)).of_rate(None)

    assert noise.dispersion > 0.6 * whole.tick.phi > 3


def test_what_is_too_noisy_to_compare_is_said_and_has_an_end() -> None:
    chance = Random(9)

    def hundreds(_: Random) -> int:
        return 200

    some = [window(chance, lambda c: hundreds(c) * (c.random() < 0.1)) for _ in range(36)]
    known = calibration.calibration(history(some))

    assert known.of_rate(None).dispersion == MOST_DISPERSION
    assert "at most, which is too noisy to compare: of harm only what is gross" in known.sentence


def test_what_differs_again_and_again_is_tolerated() -> None:
    chance = Random(4)
    some = 3 * [window(chance, one, factors=it) for it in ((0.5, 2), (1, 1), (2, 0.5), (2, 2))]
    some *= 3

    assert calibration.calibration(history(some)).of_rate(None).tolerated > 2


def test_what_seldom_fails_is_taken_to_be_as_noisy_as_all_requests() -> None:
    """Two rows of failures in six hours say little, and one that was met by chance in none at all
    would be proof against the next version."""

    def half(failed: int, of_cart: int) -> Totals:
        return Totals(requests=250, failures=failed, metrics={"cart": (50, of_cart)})

    rows = {at: 3 * (at % 15 == 0) for at in TICKS}
    some = [
        calibration.window(
            {
                at: {
                    Part("1", half="a"): half(rows[at], 5 * (at == TICKS[7] and number < 2)),
                    Part("1", half="b"): half(0, 0),
                }
                for at in TICKS
            },
            END,
        )
        for number in range(36)
    ]
    known = calibration.calibration(history(some))

    assert known.of_rate(None).dispersion == pytest.approx(3.0)
    assert known.of_rate("cart") == known.of_rate(None)
    assert "cart" not in known.sentence


def test_only_the_newest_day_counts() -> None:
    chance = Random(5)
    old, new = (24 * [window(chance, fails) for _ in range(6)] for fails in (in_rows, one))
    some = history([*old, *new])
    known = calibration.calibration(some)

    assert known.seconds == 24 * 3600
    assert known.of_rate(None).dispersion < 1.2
    assert known.until == END
    assert calibration.enough(some)


def test_latency_is_known_too() -> None:
    chance = Random(6)

    def half() -> Totals:
        slow = 20 * (chance.random() < 0.3)
        return Totals(requests=40, latency={120: 40 - slow, 180: slow})

    each = {at: {Part("1", half=h): half() for h in HALVES} for at in TICKS}
    some = history(36 * [calibration.window(each, END)])

    assert calibration.calibration(some).of_latency().dispersion > 5


@given(parts=st.lists(st.integers(0, 50), min_size=48, max_size=48))
def test_sums_of_windows_say_what_all_of_their_ticks_do(parts: list[int]) -> None:
    """What is kept of ten minutes each loses nothing but where the windows of minutes begin."""
    history = [Counts(100, min(100, n), 100, n // 2) for n in parts for _ in range(5)]
    whole = rate_scatter(history, TICK_SECONDS)
    halves = [rate_scatter(history[:120], TICK_SECONDS), rate_scatter(history[120:], TICK_SECONDS)]
    added = halves[0] + halves[1]

    for one, other in zip((whole.tick, *whole.slow), (added.tick, *added.slow), strict=True):
        assert (one.failures, one.windows) == (other.failures, other.windows)
        assert one.seen == pytest.approx(other.seen)
        assert one.expected == pytest.approx(other.expected)


# --- what follows ---------------------------------------------------------------------------------

NOISY = Calibration(
    6 * 3600, END, {"": RateNoise(8.0, 3.0, 3.0)}, LatencyNoise(2.5, 1.8, 4.0), "Calibrated."
)


def test_a_version_is_judged_by_what_processes_differ_by_and_a_flag_is_not() -> None:
    """The same processes serve both variants of a flag."""
    rollout = a_rollout(targets=(RULE, SEARCH))
    of_version, of_flag = (
        comparisons.design(rollout, each, histogram_edges(), NOISY)
        for each in comparisons.comparisons(rollout)
    )

    assert of_version.rates[0].noise == RateNoise(8.0, 3.0, 3.0)
    assert of_flag.rates[0].noise == RateNoise(8.0, 1.0, 1.5)
    assert of_version.rates[1].noise == RateNoise(8.0, 3.0, 3.0), "as of all requests"
    assert of_version.latency is not None
    assert of_version.latency.noise == LatencyNoise(2.5, 1.8, 4.0)
    assert of_flag.latency is not None
    assert of_flag.latency.noise == LatencyNoise(SLOWDOWN, NOTICED, 4.0)
    assert of_version.calibration == of_flag.calibration == "Calibrated."


def test_a_plan_of_a_noisy_service_says_that_less_is_seen() -> None:
    rollout, calm = a_rollout(targets=(RULE,)), usual(100)
    (first, *_) = power.powers(rollout, calm)
    (noisy, *_) = power.powers(rollout, replace(calm, calibration=NOISY))

    for less, more in zip(first, noisy, strict=True):
        assert less.detects is not None
        assert more.detects is None or more.detects > 1.5 * less.detects
    assert first[0].certified
    assert not noisy[0].certified
