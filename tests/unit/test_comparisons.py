"""What is compared with what, and how reported totals become the judgement's ticks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.core.conditions import Condition
from sortition.judgement.counts import BEFORE, Counts
from sortition.judgement.design import HTTP_ERRORS

from flagserver.domain import comparisons, guards
from flagserver.domain.comparisons import STRATA, placed
from flagserver.domain.flags import State
from flagserver.domain.guards import Guard, OnBreach
from flagserver.domain.outcomes import Part, Totals, histogram_edges
from flagserver.domain.plan import Relation
from flagserver.domain.rollout import Rollout
from flagserver.domain.schedule import parse
from flagserver.domain.signals import Measure, Signal
from tests.unit.rollouts import RULE, SEARCH, T0, a_rollout, at_step

EDGES = histogram_edges()
STANDARD = guards.standard()


def judged(step: int = 0, **changes: Any) -> Rollout:
    """Return a rollout of a rule and a flag at a step, with the standard guards."""
    told = {"guards": STANDARD, "step_began": T0, "step_confirmed_at": T0, **changes}
    return replace(at_step(step), **told)


# --- what is compared -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relation", "names"),
    [
        (Relation.LOCK_STEP, [(RULE.id, (RULE.id,)), (SEARCH.id, (SEARCH.id,))]),
        (Relation.AFTER, [(RULE.id, (RULE.id,)), (SEARCH.id, (SEARCH.id,))]),
        (Relation.ON_CANARY, [(RULE.id, (RULE.id, SEARCH.id))]),
    ],
)
def test_a_version_and_a_flag_have_each_a_comparison_where_they_can_be_told_apart(
    relation: Relation, names: Any
) -> None:
    found = comparisons.comparisons(judged(relation=relation))
    assert [(each.name, each.targets) for each in found] == names
    assert sum(each.weight for each in found) == pytest.approx(1)


def test_nothing_is_compared_where_no_guard_counts_requests() -> None:
    slow = tuple(g for g in STANDARD if g.signal.measure is Measure.LATENCY)
    holds = tuple(replace(g, on_breach=OnBreach.HOLD) for g in STANDARD)
    for some in ((), slow, holds, guards.standard_alb("app/x/1", "targetgroup/g/1", "b")):
        assert comparisons.comparisons(judged(guards=some)) == ()


def test_a_guard_with_points_shorter_than_a_tick_goes_by_them_and_is_compared_besides() -> None:
    rollout = judged(guards=tuple(replace(g, period=2) for g in STANDARD))
    made = comparisons.design(rollout, comparisons.comparisons(rollout)[0], EDGES)
    assert not any(one.critical for one in made.watched)
    assert not any(comparisons.answers(guard) for guard in rollout.guards)


def test_who_is_blamed_are_targets_in_the_rollouts_order() -> None:
    rollout = judged(relation=Relation.ON_CANARY)
    assert set(comparisons.blamed(rollout, [RULE.id])) == {RULE.id, SEARCH.id}
    assert comparisons.blamed(judged(), [SEARCH.id]) == (SEARCH.id,)
    assert comparisons.blamed(judged(), []) == ()


# --- the design -----------------------------------------------------------------------------------


def test_the_design_watches_each_guard_under_its_own_name() -> None:
    (first, _) = comparisons.comparisons(judged())
    made = comparisons.design(judged(), first, EDGES)
    assert [one.name for one in made.watched] == [
        "http errors",
        "user session errors",
        "critical path failures",
        "database connection errors",
        "p95 latency",
    ]
    assert {one.name: one.limit for one in made.watched} == {g.name: g.limit for g in STANDARD}
    assert [one.optional for one in made.rates] == [False, True, True, True]
    assert (made.steps, made.planned_seconds) == (3, 1800)


def test_latency_warms_up_within_the_first_hold() -> None:
    def warm_up(schedule: str) -> float:
        rollout = judged(schedule=parse(schedule))
        found = comparisons.design(rollout, comparisons.comparisons(rollout)[0], EDGES).latency
        assert found is not None
        return found.warm_up

    assert [warm_up("5%:5m,100%"), warm_up("5%:10s,100%")] == [30, 2.5]


def test_requests_come_first_and_own_metrics_have_a_part_of_the_budget() -> None:
    own = Guard("carts", Signal.of("outcomes", Measure.RATE, metric="carts"), 0.02)
    rollout = judged(guards=(own, *STANDARD[:1]))
    made = comparisons.design(rollout, comparisons.comparisons(rollout)[0], EDGES)
    assert [one.name for one in made.rates] == [HTTP_ERRORS, "carts"]
    assert made.rates[0].weight == pytest.approx(0.8)
    assert comparisons.metrics(rollout.guards) == {HTTP_ERRORS: None, "carts": "carts"}


def test_what_a_pass_means_follows_from_the_traffic_there_was() -> None:
    rollout = judged()
    each = comparisons.comparisons(rollout)[0]

    def planned(per_second: int) -> Any:
        before = a_tick(rollout, {part("1"): Totals(requests=300 * per_second)}, seconds=300)
        return comparisons.planned_design(rollout, each, EDGES, before).rates[0]

    assert planned(1000).certified == (0, 1, 2)
    assert planned(1).certified == ()
    assert planned(1).minimum_sample < planned(1000).minimum_sample == 20
    assert comparisons.planned_design(rollout, each, EDGES, None).rates[0].certified == ()


# --- ticks ----------------------------------------------------------------------------------------


def part(variant: str, service: str = "", version: str = "") -> Part:
    return Part(variant, service, version)


def a_tick(rollout: Rollout, parts: Any, seconds: int = 5, flag: bool = False) -> Any:
    each = comparisons.comparisons(rollout)[1 if flag else 0]
    places = placed((), parts)
    arms = comparisons.strata(each, rollout, parts, places, "off")
    return comparisons.tick(
        arms,
        comparisons.metrics(rollout.guards),
        at=int(T0) + 5,
        seconds=seconds,
        step=0,
        share=0.05,
        latency=True,
        draws=flag,
    )


def test_a_version_is_compared_with_every_other_and_who_tells_none_is_neither() -> None:
    tick = a_tick(
        judged(),
        {
            part("2"): Totals(1, 10, 2, {3: 10}, metrics={"session_error": (5, 1)}),
            part("1"): Totals(1, 100, 3, {4: 100}, metrics={"session_error": (50, 2)}),
            part("0"): Totals(1, 50, 1, {4: 50}),
            part(""): Totals(1, 999, 999, {9: 999}),
        },
    )
    assert tick.counts[HTTP_ERRORS] == [Counts(10, 2, 150, 4)]
    assert tick.counts["user session errors"] == [Counts(5, 1, 50, 2)]
    assert tick.counts["critical path failures"] == [Counts(0, 0, 0, 0)]
    assert [(dict(one.canary), dict(one.control)) for one in tick.latency] == [({3: 10}, {4: 150})]
    assert tick.assigned is None


def test_a_flag_is_compared_by_variant_within_each_version_that_asked_it() -> None:
    tick = a_tick(
        judged(),
        {
            part("on", "api", "1"): Totals(5, 5, 1),
            part("off", "api", "1"): Totals(95, 95, 2),
            part("on", "api", "2"): Totals(1, 1, 1),
            part("off", "api", "2"): Totals(9, 9, 8),
            part("off", "batch", "7"): Totals(40, 40, 40),
        },
        flag=True,
    )
    assert tick.counts[HTTP_ERRORS] == [
        Counts(5, 1, 95, 2),
        Counts(1, 1, 9, 8),
        Counts(0, 0, 40, 40),
    ]
    assert tick.assigned == (6, 144)


def test_strata_keep_their_places_and_there_are_not_more_than_so_many() -> None:
    first = placed((), {part("on", "b", "1"): Totals()})
    second = placed(first, {part("on", "a", "1"): Totals(), part("off", "b", "1"): Totals()})
    assert second == (("b", "1"), ("a", "1"))
    many = placed(second, {part("on", f"s{n:02}", "1"): Totals() for n in range(50)})
    assert (many[:2], len(many)) == (second, STRATA)


@given(st.integers(-5, 10**12), st.integers(-5, 10**12))
def test_whatever_is_counted_a_tick_is_one(requests: int, failures: int) -> None:
    tick = a_tick(judged(), {part("2"): Totals(0, requests, failures)})
    (counts,) = tick.counts[HTTP_ERRORS]
    assert type(tick).from_body(tick.to_body()).counts[HTTP_ERRORS] == [counts]


def test_ticks_are_aligned_and_judged_once() -> None:
    assert list(comparisons.ends(100, 115, 100)) == [(105, 5), (110, 5), (115, 5)]
    assert list(comparisons.ends(115, 119, 100)) == []


def test_ticks_grow_longer_in_a_long_rollout() -> None:
    """None is lost on the way, and what is kept of a week is bounded."""
    hours = 3600
    week = list(comparisons.ends(0, 7 * 24 * hours, 0))
    assert [seconds for _, seconds in week[:: len(week) - 1]] == [5, 600]
    assert sum(seconds for _, seconds in week) == 7 * 24 * hours
    assert len(week) < 10_000


def test_a_tick_is_of_the_step_that_was_meant_for_most_of_it() -> None:
    first, later = judged(0), judged(2)
    assert comparisons.step_at(first, T0 - 1.3, 5) == BEFORE
    assert comparisons.step_at(first, T0 - 1.2, 5) == comparisons.step_at(first, T0, 5) == 0
    assert comparisons.step_at(first, T0 - 15.1, 60) == BEFORE
    assert comparisons.step_at(first, T0 - 15, 60) == 0
    assert [comparisons.step_at(later, T0 - ago, 5) for ago in (1.3, 1.2, 0)] == [1, 2, 2]
    assert comparisons.step_at(a_rollout(), T0, 5) == BEFORE


def test_a_tick_says_what_the_share_rises_to_until_it_is_confirmed() -> None:
    """What both suffer in a part of it alone, the canary seems to suffer more."""
    rollout = judged(1, step_confirmed_at=T0 + 2)
    (comparison, _) = comparisons.comparisons(rollout)
    share = comparison.share(rollout, 1)

    def rises(begins: float, **changes: Any) -> float | None:
        return comparisons.rises_to(replace(rollout, **changes), comparison, begins, 5)

    assert share > comparison.share(rollout, 0) > 0
    assert [rises(T0 + of) for of in (-5, -4.9, -1, 0, 1.9, 2)] == [None, *[share] * 4, None]
    assert rises(T0 + 60, step_confirmed_at=None) == share
    assert comparisons.rises_to(a_rollout(), comparison, T0, 5) is None


def test_only_lots_are_compared_with_the_share() -> None:
    rollout = judged()
    state = State(SEARCH.name, "production", 50_000, (("on", 1_000_000),))
    somewhere = (Condition("cloud.region", "in", ("eu-west-1",)),)
    assert comparisons.draws(rollout, state, T0 + 60)
    assert not comparisons.draws(rollout, state, T0 + 59)
    assert not comparisons.draws(rollout, None, T0 + 60)
    assert not comparisons.draws(rollout, replace(state, conditions=somewhere), T0 + 60)
    assert not comparisons.draws(rollout, replace(state, killed=True), T0 + 60)


def test_a_comparison_has_the_share_of_what_it_is_about() -> None:
    rollout = judged(relation=Relation.AFTER, schedule=parse("5%:5m,100%"))
    of_rule, of_flag = comparisons.comparisons(rollout)
    shares = [(of_rule.share(rollout, i), of_flag.share(rollout, i)) for i in range(4)]
    assert shares == [(0.05, 0), (1, 0), (1, 0.05), (1, 1)]
