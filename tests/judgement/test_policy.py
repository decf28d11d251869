"""Who may do what: each rule by the story that needs it, and which comes first."""

from __future__ import annotations

from dataclasses import replace
from math import log
from random import Random
from typing import Any

import pytest
from sortition.judgement.calibration import RateNoise
from sortition.judgement.counts import BEFORE, Counts, Latencies, Tick
from sortition.judgement.design import (
    HTTP_ERRORS,
    USER_SESSION,
    Design,
    standard_rates,
    weighted,
)
from sortition.judgement.evidence import Judge
from sortition.judgement.policy import (
    RULES,
    Compared,
    Decision,
    Does,
    Kind,
    Limit,
    Overtime,
    Pass,
    Seen,
    culprits,
    decide,
    verdicts,
)
from sortition.judgement.traffic import poisson

from tests.judgement.builders import (
    a_design,
    a_tick,
    errors_alone,
    errors_and_latency,
    fed,
    outside,
)

SHOP = "alb/shop"


def seen(judge: Judge, **changes: Any) -> Seen:
    return Seen(judge.design, (Compared(SHOP, 1.0, judge.assess()),), outside(**changes))


def decided(judge: Judge, **changes: Any) -> Decision:
    return decide(seen(judge, **changes))


def healthy(ticks: int = 60, design: Design | None = None) -> Judge:
    return fed(Judge(design or errors_alone()), ticks)


def harmed(ticks: int = 20) -> Judge:
    return fed(Judge(errors_alone()), ticks, canary=(25, 3))


# --- back -----------------------------------------------------------------------------------------


def test_proven_harm_rolls_back_and_says_by_what() -> None:
    decision = decided(harmed(3))

    assert (decision.does, decision.rule) == (Does.ROLL_BACK, "harm proven")
    assert decision.guard == HTTP_ERRORS
    assert decision.targets == (SHOP,)
    assert decision.evidence >= 100
    assert "9 of 75 canary requests failed, 0 of 1,425 on control" in decision.sentence
    assert "false-alarm budget 1 %" in decision.sentence


def test_a_person_and_an_engine_need_no_evidence() -> None:
    judge = healthy()

    assert decided(judge, responder="Ada: checkout is broken").rule == "responder"
    assert decided(judge, engine="CodeDeploy stopped it").rule == "engine"
    assert decided(judge, responder="Ada").targets == (SHOP,)


def test_dead_hosts_roll_back_whatever_is_missing() -> None:
    decision = decided(Judge(errors_alone()), data_age=None, hosts="2 of 2 canary hosts are dead.")

    assert (decision.does, decision.rule) == (Does.ROLL_BACK, "dead hosts")


def test_missing_data_never_hides_harm_that_is_proven() -> None:
    assert decided(harmed(), data_age=600.0).rule == "harm proven"


def test_the_backstop_needs_two_minutes_far_worse() -> None:
    """Both arms fail a lot, the canary more than twice as much: too little to prove, and plain."""
    noisy: Any = {"canary": (30, 6), "control": (30, 2), "seconds": 60.0, "share": 0.5}
    judge = Judge(errors_alone())
    judge.take(a_tick(1, **noisy))
    once = decided(judge)
    judge.take(a_tick(2, **noisy))
    twice = decided(judge)

    assert once.does is not Does.ROLL_BACK
    assert (twice.does, twice.rule) == (Does.ROLL_BACK, "backstop")


NOISY = RateNoise(21.0, 10.0, 10.0)
"""What is known of a service whose failures come in rows of eleven."""


def minutes(design: Design, canary: tuple[int, int]) -> Decision:
    """Return what follows from two minutes of a canary beside a control that hardly fails."""
    judge = Judge(design)
    for number in (1, 2):
        judge.take(a_tick(number, seconds=60.0, canary=canary, control=(5700, 6)))
    return decided(judge)


@pytest.mark.parametrize("canary", [(300, 45), (60, 30), (20, 10)])
def test_however_noisy_a_service_was_the_backstop_takes_back_what_plainly_fails(
    canary: tuple[int, int],
) -> None:
    """It wanted 420 requests a minute of this service, which were never there."""
    assert minutes(errors_alone(noise=NOISY), canary).does is not Does.ROLL_BACK, "as it was"

    decision = minutes(replace(errors_alone(noise=NOISY), by_causes=True), canary)
    assert (decision.does, decision.rule) == (Does.ROLL_BACK, "backstop")


def test_one_row_of_failures_a_minute_is_none_of_the_backstops_business() -> None:
    design = replace(errors_alone(noise=NOISY), by_causes=True)

    assert minutes(design, (300, 30)).does is not Does.ROLL_BACK
    assert minutes(design, (19, 19)).rule != "backstop"


@pytest.mark.parametrize("per_second", [0.7, 2.0, 4.0])
def test_healthy_minutes_with_rows_of_failures_do_not_fall_into_the_backstop(
    per_second: float,
) -> None:
    """A canary with rows of five, 0.5 %: a sample of 60 each minute took back three of a hundred
    within half an hour."""
    chance, fell = Random(f"rows/{per_second}"), 0
    design = replace(errors_alone(noise=RateNoise(9.0, 1.0, 1.5)), by_causes=True)
    for _ in range(200):
        judge = Judge(design)
        for number in range(1, 31):
            canary, control = (poisson(chance, 60 * n) for n in (per_second, 3 * per_second))
            failed = in_rows(chance, canary), in_rows(chance, control)
            arms: Any = {"canary": (canary, failed[0]), "control": (control, failed[1])}
            judge.take(a_tick(number, seconds=60.0, share=0.25, **arms))
            if judge.assess().backstop:
                fell += 1
                break

    assert fell <= 2


def in_rows(chance: Random, requests: int) -> int:
    rows = poisson(chance, requests * 0.001)
    return min(requests, sum(1 + int(log(1 - chance.random()) / log(0.8)) for _ in range(rows)))


def test_the_backstop_is_of_all_requests_and_not_of_what_is_counted_now_and_then() -> None:
    rare = {USER_SESSION: [Counts(4, 1, 80, 1)]}
    judge = Judge(a_design(latency=None, rates=_without_latency()))
    for number in (1, 2, 3):
        judge.take(a_tick(number, seconds=60.0, canary=(300, 0), control=(5700, 0), others=rare))

    assert decided(judge).does is not Does.ROLL_BACK


def _without_latency() -> Any:
    return weighted(standard_rates())


def test_a_limit_without_a_second_arm_is_all_there_is() -> None:
    limit = Limit("p95 1,300 ms > 1,000 ms (3 of 3 points).")

    alone = decide(Seen(errors_alone(), (), outside(limits=(limit,))))

    assert (alone.does, alone.rule) == (Does.ROLL_BACK, "limit broken, alone")
    assert "no second arm" in alone.sentence


@pytest.mark.parametrize(
    ("limit", "rule", "does"),
    [
        (Limit("It fires.", named=True), "named alarm", Does.ROLL_BACK),
        (Limit("It fires.", named=True, holds=True), "limit that only holds", Does.HOLD),
        (Limit("9 %.", control_breaks=False, backstop=True), "backstop", Does.ROLL_BACK),
        (Limit("2 %.", control_breaks=True), "shared outage", Does.PAGE),
        (Limit("2 %.", control_breaks=False), "limit broken, compared", Does.HOLD),
    ],
)
def test_limits_of_other_sources(limit: Limit, rule: str, does: Does) -> None:
    decision = decided(healthy(), limits=(limit,))

    assert (decision.rule, decision.does) == (rule, does)


# --- hold -----------------------------------------------------------------------------------------


def test_a_shared_outage_pages_and_blames_nobody_and_is_over_when_it_is_over() -> None:
    judge = healthy()
    for number in range(61, 85):
        judge.take(a_tick(number, canary=(25, 8), control=(475, 152)))
    during = decided(judge)
    for number in range(85, 100):
        judge.take(a_tick(number))
    after = decided(judge)

    assert (during.does, during.rule) == (Does.PAGE, "shared outage")
    assert "not alb/shop" in during.sentence
    assert after.does is Does.STAY


def test_long_after_an_outage_the_limit_still_has_a_say() -> None:
    """A canary slightly worse than control, well within the limit, after an outage of both."""
    judge = Judge(errors_alone())
    for number in range(1, 61):
        judge.take(a_tick(number, canary=(2500, 1000), control=(2500, 1000), share=0.5))
    for number in range(61, 800):
        judge.take(a_tick(number, canary=(2500, 5), control=(2500, 4), share=0.5))

    assert decided(judge).does is Does.STAY


def test_draws_that_are_not_as_drawn_hold() -> None:
    judge = fed(Judge(errors_alone()), 60, assigned=(15, 485))

    decision = decided(judge)

    assert (decision.does, decision.rule) == (Does.HOLD, "sample-ratio mismatch")
    assert decided(judge, over=True, waived=True).does is Does.ADVANCE
    assert "got 3 %" in decision.sentence


def test_old_data_holds() -> None:
    assert decided(healthy(), data_age=21.0).rule == "missing data"
    assert decided(healthy(), data_age=12.0).rule == "well"
    assert decided(Judge(errors_alone()), data_age=None).rule == "missing data"


def test_a_canary_that_says_nothing_holds_where_it_should_have() -> None:
    silent = fed(Judge(errors_alone()), 4, canary=(0, 0))
    quiet = fed(Judge(errors_alone()), 4, canary=(0, 0), control=(20, 0))

    assert decided(silent).rule == "missing data"
    assert "the canary should have reported" in decided(silent).sentence
    assert decided(quiet).rule == "well"


def test_a_limit_broken_by_the_canary_alone_holds_until_there_is_evidence() -> None:
    judge = healthy()
    for number in (61, 62, 63):
        judge.take(a_tick(number, canary=(25, 3), control=(475, 12)))

    decision = decided(judge)

    assert (decision.does, decision.rule) == (Does.HOLD, "limit broken, compared")


# --- latency --------------------------------------------------------------------------------------

FIRST = 90


def a_histogram(requests: int, buckets_later: int = 0) -> dict[int, int]:
    """A spread of requests over 40 buckets, in a triangle."""
    shape = [min(i, 40 - i) + 1 for i in range(40)]
    whole = sum(shape)
    return {
        FIRST + i + buckets_later: round(requests * part / whole)
        for i, part in enumerate(shape)
        if round(requests * part / whole)
    }


def with_latency(buckets_later: int, ticks: int, warm_up: float = 0.0, both: bool = False) -> Judge:
    judge = Judge(errors_and_latency(warm_up))
    usual = a_histogram(40_000)
    judge.take(Tick(0.5, 300.0, BEFORE, 0.0, {}, [Latencies({}, usual)]))
    for number in range(1, ticks + 1):
        control = a_histogram(4000, buckets_later if both else 0)
        strata = [Latencies(a_histogram(400, buckets_later), control)]
        judge.take(a_tick(number, canary=(400, 0), control=(4000, 0), share=1 / 11, latency=strata))
    return judge


def test_twice_as_slow_rolls_back() -> None:
    decision = decided(with_latency(16, ticks=6))

    assert (decision.does, decision.guard) == (Does.ROLL_BACK, "p95 latency")
    assert "more than 1.5× as slow" in decision.sentence


def test_a_third_slower_is_tolerable_and_holds() -> None:
    decision = decided(with_latency(7, ticks=30))

    assert (decision.does, decision.rule) == (Does.HOLD, "slower, tolerable")


def test_what_was_slower_and_tolerable_is_forgotten_when_it_is_over() -> None:
    judge = with_latency(7, ticks=60)
    for number in range(61, 73):
        strata = [Latencies(a_histogram(400), a_histogram(4000))]
        judge.take(a_tick(number, canary=(400, 0), control=(4000, 0), share=1 / 11, latency=strata))

    assert decided(judge).does is Does.STAY


def test_a_tenth_slower_is_no_matter() -> None:
    assert decided(with_latency(2, ticks=60)).does is Does.STAY


def test_both_twice_as_slow_is_nobodys_fault() -> None:
    assert decided(with_latency(16, ticks=60, both=True)).does is not Does.ROLL_BACK


def test_what_has_just_started_may_be_slow() -> None:
    assert decided(with_latency(16, ticks=6, warm_up=30.0)).does is Does.STAY
    assert decided(with_latency(16, ticks=12, warm_up=30.0)).does is Does.ROLL_BACK


# --- on -------------------------------------------------------------------------------------------

OVER: dict[str, Any] = {"watched": 300.0, "passed": 300.0}


def test_a_hold_is_waited_for_and_then_it_goes_on() -> None:
    judge = healthy()

    assert decided(judge).rule == "well"
    decision = decided(judge, **OVER)
    assert decision.does is Does.ADVANCE
    assert "certified good" in decision.sentence


def test_where_certifying_is_demanded_no_harm_seen_is_not_enough() -> None:
    few: Any = {"canary": (3, 0), "control": (57, 0)}
    demanded = fed(Judge(errors_alone(certified=(0,))), 60, **few)
    not_demanded = fed(Judge(errors_alone()), 60, **few)

    waits, goes = decided(demanded, **OVER), decided(not_demanded, **OVER)

    assert (waits.does, waits.rule) == (Does.STAY, "waiting")
    assert goes.does is Does.ADVANCE
    assert "no harm seen, minimum sample met" in goes.sentence


def test_too_small_a_sample_never_passes() -> None:
    judge = fed(Judge(errors_alone()), 60, canary=(0, 0), control=(10, 0))
    judge.take(a_tick(61, canary=(3, 0)))

    (verdict,) = verdicts(seen(judge))

    assert verdict.kind is Kind.NOT_ENOUGH_DATA
    assert decided(judge, **OVER).does is Does.STAY


def test_what_nobody_counts_holds_nobody_up() -> None:
    judge = healthy(design=a_design(latency=None, rates=_without_latency()))

    labels = {verdict.name: verdict.label for verdict in verdicts(seen(judge))}

    assert labels[USER_SESSION] is Pass.NOT_COUNTED
    assert decided(judge, **OVER).does is Does.ADVANCE


def test_what_was_certified_in_one_step_is_not_in_the_next() -> None:
    judge = healthy(design=errors_alone(certified=(0, 1)))
    judge.take(a_tick(61, step=1, share=0.25, canary=(125, 0), control=(375, 0)))

    assert verdicts(seen(judge, step=1))[0].kind is Kind.NOT_ENOUGH_DATA


OVERDUE: dict[str, Any] = {"watched": 300.0, "passed": 900.0}


@pytest.mark.parametrize(
    ("overtime", "does"),
    [
        (Overtime.PERSON, Does.PAGE),
        (Overtime.ROLL_BACK, Does.ROLL_BACK),
        (Overtime.PROCEED, Does.ADVANCE),
    ],
)
def test_three_times_the_hold_ends_as_the_schedule_says(overtime: Overtime, does: Does) -> None:
    judge = fed(Judge(errors_alone(certified=(0,))), 60, canary=(3, 0), control=(57, 0))

    decision = decided(judge, overtime=overtime, **OVERDUE)

    assert (decision.does, decision.rule) == (does, "overtime")
    assert "3 times the hold" in decision.sentence


def test_proceeding_never_goes_over_missing_data() -> None:
    decision = decided(healthy(), data_age=60.0, overtime=Overtime.PROCEED, **OVERDUE)

    assert (decision.does, decision.rule) == (Does.PAGE, "missing data")
    assert "a person decides" in decision.sentence


def test_a_rollout_without_outcomes_goes_by_thresholds_alone_and_says_so() -> None:
    decision = decide(Seen(errors_alone(), (), outside(**OVER)))

    assert decision.does is Does.ADVANCE
    assert "thresholds alone" in decision.sentence


# --- whom -----------------------------------------------------------------------------------------


def test_the_target_whose_own_comparison_shows_the_harm_goes_back() -> None:
    ill, well = harmed().assess(), healthy().assess()
    both = (Compared(SHOP, 0.5, well), Compared("flag/new-search", 0.5, ill))

    decision = decide(Seen(errors_alone(), both, outside()))

    assert decision.targets == ("flag/new-search",)


def test_when_they_cannot_be_told_apart_both_go_back() -> None:
    ill, unknown = harmed().assess(), fed(Judge(errors_alone()), 2, canary=(2, 0)).assess()
    both = (
        Compared(SHOP, 0.5, ill, confounded_by=("flag/new-search",)),
        Compared("flag/new-search", 0.5, unknown),
    )
    cleared = (both[0], Compared("flag/new-search", 0.5, healthy().assess()))

    assert culprits(Seen(errors_alone(), both, outside())) == (SHOP, "flag/new-search")
    assert culprits(Seen(errors_alone(), cleared, outside())) == (SHOP,)


def test_one_budget_for_all_targets() -> None:
    """Of ten targets one has 120 : 1 against it: by chance, that happens one time in twelve."""
    judge = Judge(errors_alone())
    number = 0
    while judge.assess().evidence < 120:
        number += 1
        judge.take(a_tick(number, canary=(25, 1), control=(475, 1)))
    assert judge.assess().evidence < 900
    others = [Compared(f"flag/{i}", 0.1, healthy().assess()) for i in range(9)]

    decision = decide(
        Seen(errors_alone(), (Compared(SHOP, 0.1, judge.assess()), *others), outside())
    )

    assert decision.does is not Does.ROLL_BACK


def test_every_rule_says_what_it_is_for() -> None:
    assert len({rule for rule, _ in RULES}) == len(RULES)
    assert all(meaning for _, meaning in RULES)


# --- what is not compared -------------------------------------------------------------------------


def test_what_other_guards_lack_holds_and_their_silence_may_roll_back() -> None:
    missing = decided(healthy(), missing=("canary errors: no data.",))
    lost = decided(healthy(), lost="heartbeat: no data. No data is meant to roll back.")

    assert (missing.does, missing.rule) == (Does.HOLD, "missing data")
    assert (lost.does, lost.rule) == (Does.ROLL_BACK, "no data, meant to roll back")


def test_going_on_waits_for_what_other_guards_have_not_said() -> None:
    waits = decided(healthy(), watched=300.0, undecided=("This step needs 900 requests.",))
    long: Any = {"watched": 300.0, "passed": 901.0, "undecided": ("This step needs 900 requests.",)}

    assert (waits.does, waits.rule) == (Does.STAY, "waiting")
    assert "900 requests" in waits.sentence
    assert decided(healthy(), **long).does is Does.PAGE
    assert decided(healthy(), **long, overtime=Overtime.PROCEED).does is Does.ADVANCE
    assert decided(healthy(), **long, overtime=Overtime.ROLL_BACK).does is Does.ROLL_BACK


def test_who_skips_the_wait_answers_for_missing_data_and_not_for_harm() -> None:
    """The hold is over because somebody said so, after two requests."""
    skipped: Any = {"watched": 5.0, "over": True, "waived": True}
    young = fed(Judge(errors_alone()), 1, canary=(2, 0))
    breaking = fed(Judge(errors_alone()), 12, canary=(25, 3), control=(475, 40))

    assert decided(young, **skipped, data_age=60.0).does is Does.ADVANCE
    assert decided(young, watched=5.0, over=True).does is Does.STAY
    assert decided(breaking, **skipped).does is not Does.ADVANCE


def test_an_engine_decides_when_its_step_is_over() -> None:
    assert decided(healthy(), watched=900.0, over=False).does is Does.STAY
    assert decided(healthy(), watched=10.0, over=True).does is Does.ADVANCE


def test_a_target_that_nobody_sees_yet_is_not_waited_for() -> None:
    flag = Judge(errors_alone())
    flag.take(a_tick(1, canary=(0, 0), share=0.0))
    compared = (
        Compared(SHOP, 0.5, healthy().assess()),
        Compared("flag/new", 0.5, flag.assess()),
    )

    assert decide(Seen(flag.design, compared, outside(watched=300.0))).does is Does.ADVANCE
