"""Plans: what every target will do at every step, and who sees what."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagserver.domain import guards, plan
from flagserver.domain.errors import Invalid
from flagserver.domain.guards import Guard
from flagserver.domain.plan import Preview, Relation
from flagserver.domain.schedule import STANDARD, parse
from flagserver.domain.signals import Measure, Signal
from flagserver.domain.targets import Target

RULE = Target.of("alb", "arn:rule", canary="green", stable="blue")
SEARCH = Target.of("flag", "new-search")
RANKER = Target.of("flag", "ranker")
BOTH = (RULE, SEARCH)
WHOLE = 1_000_000


def shares(relation: Relation, *targets: Target) -> list[list[float]]:
    steps = plan.expand(STANDARD, relation, targets)
    return [[step.shares[t.id] / 10_000 for t in targets] for step in steps]


def show(relation: Relation, rate: float | None = None, **more: object) -> tuple[Preview, ...]:
    return plan.preview(
        STANDARD,
        relation,
        BOTH,
        guards.standard(),
        requests_per_second=rate,
        **more,  # type: ignore[arg-type]
    )


def test_in_lock_step_everything_gets_the_steps_share() -> None:
    assert shares(Relation.LOCK_STEP, RULE, SEARCH) == [[5, 5], [25, 25], [50, 50], [100, 100]]


def test_on_the_canary_the_flag_is_whole_and_traffic_follows() -> None:
    assert shares(Relation.ON_CANARY, RULE, SEARCH) == [
        [5, 100],
        [25, 100],
        [50, 100],
        [100, 100],
    ]


def test_after_means_that_flags_begin_when_traffic_is_complete() -> None:
    assert shares(Relation.AFTER, RULE, SEARCH) == [
        [5, 0],
        [25, 0],
        [50, 0],
        [100, 0],
        [100, 5],
        [100, 25],
        [100, 50],
        [100, 100],
    ]


def test_the_bake_is_watched_at_the_end_of_traffic_and_again_at_the_end() -> None:
    steps = plan.expand(parse("50%:5m,100%:30m"), Relation.AFTER, BOTH)
    assert [step.hold for step in steps] == [300, 1800, 300, 1800]


@pytest.mark.parametrize("relation", list(Relation))
@pytest.mark.parametrize("targets", [(RULE,), (SEARCH, RANKER)])
def test_without_one_of_the_two_every_relation_is_the_same(
    relation: Relation, targets: tuple[Target, ...]
) -> None:
    assert shares(relation, *targets) == [[s] * len(targets) for s in (5, 25, 50, 100)]


@pytest.mark.parametrize(
    ("relation", "canary", "flag", "both"),
    [
        (Relation.LOCK_STEP, 5, 5, 0.25),
        (Relation.ON_CANARY, 5, 5, 5),
        (Relation.AFTER, 5, 0, 0),
    ],
)
def test_the_true_exposure_of_the_first_step(
    relation: Relation, canary: float, flag: float, both: float
) -> None:
    seen = show(relation)[0].exposure
    assert seen.canary == canary * 10_000
    assert seen.flags == {"new-search": flag * 10_000}
    assert seen.both == {"new-search": both * 10_000}


def test_prerequisites_multiply_too() -> None:
    seen = show(Relation.LOCK_STEP, within={"new-search": 500_000})[1].exposure
    assert seen.flags == {"new-search": 125_000}
    assert seen.both == {"new-search": 31_250}


def test_a_plan_tells_when_each_step_begins_and_how_many_requests_it_sees() -> None:
    steps = show(Relation.LOCK_STEP, 100.0)
    assert [step.at // 60 for step in steps] == [0, 5, 15, 30]
    assert [step.requests for step in steps] == [1500, 15_000, 45_000, 0]
    assert [step.requests for step in show(Relation.LOCK_STEP)] == [None] * 4


def test_a_plan_says_where_a_step_is_too_short_to_judge() -> None:
    # 100 a second, 5 % of them for 5 minutes: 1,500 requests, of which 0.1 % are 1.5.
    first, second, third, last = (step.warnings for step in show(Relation.LOCK_STEP, 100.0))
    assert any("critical path failures: even right at its limit of 0.1 %" in w for w in first)
    assert any("about 1.5 failures" in w for w in first)
    assert not second
    assert not third
    assert not last


def test_a_plan_says_where_there_will_never_be_enough_requests() -> None:
    first = show(Relation.LOCK_STEP, 1.0)[0].warnings
    assert any("about 6 requests in 2m, but http errors needs 20" in w for w in first)


def test_a_plan_says_where_a_hold_is_shorter_than_a_guards_window() -> None:
    guard = Guard("slow", Signal.of("outcomes", Measure.LATENCY), 1.0, points=3, of=3)
    steps = plan.preview(parse("5%:2m,100%"), Relation.LOCK_STEP, (SEARCH,), (guard,))
    assert "held for 2m, but slow needs 3m" in steps[0].warnings[0]
    assert not steps[1].warnings


def test_a_plan_shows_what_a_driver_cannot_express() -> None:
    steps = plan.preview(
        parse("0.25%:5m,100%"),
        Relation.LOCK_STEP,
        (RULE,),
        (),
        nearest=lambda _, share: share // 1000 * 1000,
    )
    assert steps[0].shares == {RULE.id: 2000}
    assert steps[0].warnings == (f"{RULE.id} cannot be given 0.25 %; it gets 0.2 %.",)


@pytest.mark.parametrize(
    ("relation", "expected"),
    [
        (Relation.LOCK_STEP, [(50, 50), (99, 99), (100, 100)]),
        (Relation.ON_CANARY, [(50, 100), (99, 100), (100, 100)]),
        (Relation.AFTER, [(50, 0), (99, 0), (100, 0), (100, 50), (100, 99), (100, 100)]),
    ],
)
def test_a_control_that_is_kept_has_a_step_of_its_own(
    relation: Relation, expected: list[tuple[int, int]]
) -> None:
    schedule = parse("50%:15m,100%:10m:keep=1%")
    steps = plan.preview(schedule, relation, BOTH, guards.standard(), requests_per_second=100)

    found = [(one.shares[RULE.id] // 10_000, one.shares[SEARCH.id] // 10_000) for one in steps]
    assert found == expected
    assert [one.kept for one in steps] == [0, 10_000, 0] * (len(expected) // 3)
    assert [one.hold for one in steps] == [900, 600, 0] * (len(expected) // 3)


@pytest.mark.parametrize(
    ("relation", "targets", "version", "field", "words"),
    [
        (Relation.LOCK_STEP, (), None, "/targets", "at least one"),
        (Relation.LOCK_STEP, (SEARCH, SEARCH), None, "/targets/1", "there twice"),
        (Relation.LOCK_STEP, (RULE,), None, "/version", "service.version"),
        (Relation.ON_CANARY, (RULE,), "2", "/relation", "one of each"),
        (Relation.ON_CANARY, (SEARCH,), "2", "/relation", "one of each"),
    ],
)
def test_what_cannot_go_together_is_refused(
    relation: Relation, targets: tuple[Target, ...], version: str | None, field: str, words: str
) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        plan.check(relation, targets, version)
    assert refused.value.field == field


@given(
    st.sampled_from(list(Relation)),
    st.lists(st.integers(1, WHOLE - 1), max_size=6, unique=True).map(sorted),
    st.sampled_from([(RULE,), (SEARCH,), BOTH, (RULE, SEARCH, RANKER)]),
    st.sampled_from(["100%", "100%:1m:keep=0.0001%"]),
)
def test_no_target_is_ever_taken_down_on_the_way_up_or_above_the_schedule(
    relation: Relation, middle: list[int], targets: tuple[Target, ...], last: str
) -> None:
    kept = last != "100%" and WHOLE - 1 in middle
    text = ",".join([*(f"{share / 10_000:.4f}%:1m" for share in middle), "100%" if kept else last])
    steps = plan.expand(parse(text), relation, targets)
    for before, after in pairwise(steps):
        assert all(before.shares[t.id] <= after.shares[t.id] for t in targets)
    for step in steps:
        seen = plan.exposure(step.shares, relation, targets, {})
        assert (seen.canary or 0) <= WHOLE
        if relation is Relation.ON_CANARY or not any(t.is_flag for t in targets):
            assert all(share <= step.shown for share in seen.flags.values())
    assert all(steps[-1].shares[t.id] == WHOLE for t in targets)
