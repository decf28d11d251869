"""What the evidence is built for: shares that grow, baselines that drift, harm that comes late."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from sortition.judgement.counts import Counts, Tick
from sortition.judgement.design import HTTP_ERRORS
from sortition.judgement.evidence import Judge
from sortition.judgement.mismatch import ShareMismatch
from sortition.judgement.telling import tell
from sortition.judgement.traffic import poisson

from tests.judgement.builders import a_tick, errors_alone, fed


def failing(chance: Random, n: int, rate: float) -> tuple[int, int]:
    return n, sum(chance.random() < rate for _ in range(n))


def test_an_outage_while_the_share_is_large_blames_nobody() -> None:
    """Simpson's paradox: pooled over the rollout the canary fails far more often than control,
    because it had its traffic when everything failed."""
    judge, chance = Judge(errors_alone()), Random(7)
    largest = 0.0
    for number in range(1, 121):
        late = number > 60
        rate, canary = (0.2, 250) if late else (0.001, 25)
        tick = a_tick(
            number,
            canary=failing(chance, canary, rate),
            control=failing(chance, 500 - canary, rate),
            step=int(late),
            share=canary / 500,
        )
        judge.take(tick)
        largest = max(largest, judge.assess().evidence)
    (standing,) = judge.assess().standings
    whole = standing.whole

    assert whole.canary_failed / whole.canary > 1.7 * whole.control_failed / whole.control
    assert largest < 20


@pytest.mark.parametrize(
    ("share", "there", "blamed"),
    [
        (0.05, 1.0, False),
        (0.05, 0.75, False),
        (0.25, 0.75, True),
        (0.5, 0.75, True),
        (0.25, 0.2, True),
    ],
)
def test_an_outage_that_began_with_the_canary_blames_nobody(
    share: float, there: float, blamed: bool
) -> None:
    """In its first tick the canary is there for a part of it, and everything fails in that part
    alone: it fails always, and control as often for the same requests and not for those before."""
    chance, per_tick = Random(f"{share}/{there}"), 5000
    arms = (
        poisson(chance, per_tick * share * there),
        poisson(chance, per_tick * (1 - share) * there),
    )
    before = failing(chance, round(per_tick * (1 - there)), 0.001)
    control = arms[1] + before[0], arms[1] + before[1]
    tick = a_tick(1, canary=(arms[0], arms[0]), control=control, share=share)
    judge, blind = Judge(errors_alone()), Judge(errors_alone())
    judge.take(replace(tick, rises_to=share))
    blind.take(tick)

    assert judge.assess().evidence < 2
    assert (blind.assess().evidence > 100) is blamed, "as it was"


def test_an_outage_while_the_share_grows_blames_nobody() -> None:
    """From 5 % to 25 % in the midst of a tick, the outage after it: pooled over the tick the canary
    fails 1.9 times as often."""
    tick = a_tick(1, canary=(750, 625), control=(4250, 1875), share=0.05)
    judge, blind = Judge(errors_alone()), Judge(errors_alone())
    judge.take(replace(tick, rises_to=0.25))
    blind.take(tick)

    assert blind.assess().evidence > 100
    assert judge.assess().evidence < 2


def test_harm_in_the_first_tick_is_found_in_it_all_the_same() -> None:
    judge = Judge(errors_alone())
    judge.take(replace(a_tick(1, canary=(19, 19), control=(481, 1)), rises_to=0.05))

    assert judge.assess().evidence > 100


def test_a_tick_in_which_the_share_rises_comes_back_as_it_was() -> None:
    tick = replace(a_tick(1), rises_to=0.05)

    assert Tick.from_body(tick.to_body()).rises_to == 0.05
    assert "rises_to" not in a_tick(1).to_body()
    with pytest.raises(ValueError, match="rises_to"):
        Tick.from_body({**tick.to_body(), "rises_to": 1.5})


def test_harm_that_comes_late_is_found_nearly_as_soon() -> None:
    def ticks_to_find(healthy: int) -> int:
        judge = fed(Judge(errors_alone()), healthy, canary=(25, 0), control=(475, 1))
        number = healthy
        while judge.assess().evidence < 100:
            number += 1
            judge.take(a_tick(number, canary=(25, 2), control=(475, 1)))
        return number - healthy

    assert ticks_to_find(0) <= 6
    assert ticks_to_find(240) <= 10


def test_within_cohorts_neither_is_blamed_for_the_other() -> None:
    """A flag at half of both cohorts, of which the canary fails: its variants are equal."""
    judge, chance = Judge(errors_alone()), Random(3)
    for number in range(1, 60):
        strata = []
        for n, rate in ((25, 0.2), (475, 0.001)):
            on, off = failing(chance, n // 2, rate), failing(chance, n - n // 2, rate)
            strata.append(Counts(*on, *off))
        judge.take(Tick(number * 5.0, 5.0, 0, 0.5, {HTTP_ERRORS: strata}))

    assert judge.assess().evidence < 20


def test_a_share_near_all_still_draws_lots() -> None:
    test = ShareMismatch()
    test.add(0, 0.9999, (9999, 1))

    assert 0 < test.value < 10


def test_what_is_shown_hangs_together() -> None:
    design, judge = errors_alone(), Judge(errors_alone())
    ticks = [a_tick(number, canary=(25, number > 20), control=(475, 1)) for number in range(1, 41)]
    for tick in ticks:
        judge.take(tick)
    (standing,) = judge.assess().standings

    told = tell(standing, design, ticks)

    assert told.canary[0] < 20 / 1000 < told.canary[1]
    assert told.control[0] < 40 / 19000 < told.control[1]
    assert told.difference[0] < 20 / 1000 - 40 / 19000 < told.difference[1]
    assert told.harm == standing.harm
    assert told.rolls_back == 100
    assert told.onset == 100.0
