"""What the evidence is built for: shares that grow, baselines that drift, harm that comes late."""

from __future__ import annotations

from random import Random

from sortition.judgement.counts import Counts, Tick
from sortition.judgement.design import HTTP_ERRORS
from sortition.judgement.evidence import Judge
from sortition.judgement.mismatch import ShareMismatch
from sortition.judgement.telling import tell

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
