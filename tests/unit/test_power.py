"""What a plan says that each step can and cannot show, at the traffic there is."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import pytest
from sortition.judgement.design import standard_edges

from flagserver.domain import guards, plan, power, verbs
from flagserver.domain.guards import Guard
from flagserver.domain.outcomes import Totals
from flagserver.domain.plan import Preview, Relation
from flagserver.domain.power import Seen, Usual
from flagserver.domain.rollout import Rollout
from flagserver.domain.schedule import parse
from flagserver.domain.signals import Measure, Signal
from flagserver.domain.targets import Target

RULE = Target.of("alb", "arn:rule", canary="green", stable="blue")
SEARCH = Target.of("flag", "new-search")
STANDARD = "5%:5m,25%:10m,50%:15m,100%"


def latencies(requests: int) -> dict[int, int]:
    """About a lognormal: half of the requests below 130 ms, one in twenty above 500 ms."""
    edges = standard_edges()
    weights = [exp(-((log(edge / 0.13) / 0.8) ** 2) / 2) for edge in edges]
    whole = sum(weights)
    return {i: round(requests * w / whole) for i, w in enumerate(weights) if requests * w > whole}


def usual(per_second: float, failing: float = 0.001, **metrics: tuple[int, int]) -> Usual:
    requests = 300_000
    totals = Totals(
        requests=requests,
        failures=round(requests * failing),
        latency=latencies(requests),
        metrics=metrics,
    )
    return Usual(per_second, totals)


def a_rollout(
    schedule: str = STANDARD,
    some: Sequence[Guard] | None = None,
    targets: Sequence[Target] = (SEARCH,),
    relation: Relation = Relation.LOCK_STEP,
) -> Rollout:
    return verbs.create(
        id="r-1",
        environment="production",
        service="shop",
        version="2",
        schedule=parse(schedule),
        relation=relation,
        targets=targets,
        guards=guards.standard() if some is None else some,
        by="somebody",
        now=0.0,
    ).after


def previews(schedule: str = STANDARD, *targets: Target) -> tuple[Preview, ...]:
    return plan.preview(
        parse(schedule), Relation.LOCK_STEP, targets or (SEARCH,), guards.standard()
    )


def shown(usual: Usual, schedule: str = STANDARD) -> list[dict[str, Seen]]:
    found = power.powers(a_rollout(schedule), usual)
    return [{one.guard: one for one in step} for step in found]


def test_at_ten_requests_a_second_the_first_step_sees_only_what_is_plain() -> None:
    first, *_ = shown(usual(10))
    errors = first["http errors"]

    assert errors.requests == 150
    assert errors.detects is not None
    assert 0.02 < errors.detects < 0.1
    assert not errors.certified
    assert "no harm seen, minimum sample met" in errors.sentence
    assert "not less" in errors.sentence


def test_with_more_requests_more_is_seen_and_a_pass_is_certified() -> None:
    slow, fast = shown(usual(10)), shown(usual(1000))

    for few, many in zip(slow[:3], fast[:3], strict=True):
        assert (few["http errors"].detects or 1) > (many["http errors"].detects or 1)
    assert fast[0]["http errors"].certified
    assert "certified good" in fast[0]["http errors"].sentence


def test_the_latency_is_told_by_how_many_times_as_slow() -> None:
    few, many = shown(usual(10))[2]["p95 latency"], shown(usual(100))[2]["p95 latency"]

    assert many.detects is not None
    assert 1.48 < many.detects < (few.detects or 32)
    assert "times as slow" in many.sentence
    assert many.usual is None


def test_where_a_step_leaves_no_control_only_the_limit_can_judge() -> None:
    (only,) = shown(usual(100), "100%:10m")

    assert only["http errors"].detects is None
    assert not only["http errors"].certified
    assert "leaves no control" in only["http errors"].sentence
    assert "leaves no control" in only["p95 latency"].sentence


def test_what_nobody_counts_is_not_talked_about_and_what_few_count_shows_less() -> None:
    assert "critical path failures" not in shown(usual(100))[0]

    (first, *_) = shown(usual(100, critical_path=(15_000, 2)))

    counted = first["critical path failures"]
    assert counted.requests == 75
    assert counted.usual == pytest.approx(2 / 15_000)


def test_where_nobody_reports_the_usual_rate_is_assumed_and_that_is_said() -> None:
    (first, *_) = shown(Usual(100))

    assert list(first) == ["http errors"]
    assert first["http errors"].assumed
    assert "Nobody reports yet: 0.1 % is assumed" in first["http errors"].sentence


def test_steps_that_are_not_held_show_nothing() -> None:
    assert shown(usual(100))[3] == {}


def test_guards_that_compare_nothing_show_nothing() -> None:
    alarms = (guards.alarm("down"),)
    cloud = (Guard("errors", Signal.of("cloudwatch", Measure.RATE), 0.01),)

    assert power.powers(a_rollout(some=alarms), usual(100)) == ((), (), (), ())
    assert power.powers(a_rollout(some=cloud), usual(100)) == ((), (), (), ())


def test_a_metric_of_somebodys_own_is_compared_too() -> None:
    own = Guard("carts", Signal.of("outcomes", Measure.RATE, metric="cart"), 0.02)
    some = (*guards.standard()[:1], own)

    (first, *_) = power.powers(a_rollout(some=some), usual(100, cart=(30_000, 30)))

    assert [one.guard for one in first] == ["http errors", "carts"]


def test_of_two_targets_each_is_told_and_each_takes_more_to_be_found() -> None:
    (alone, *_) = power.powers(a_rollout(), usual(100))
    (both, *_) = power.powers(a_rollout(targets=(RULE, SEARCH)), usual(100))

    assert [(one.target, one.guard) for one in both] == [
        ("alb/arn:rule", "http errors"),
        ("alb/arn:rule", "p95 latency"),
        ("flag/new-search", "http errors"),
        ("flag/new-search", "p95 latency"),
    ]
    assert (both[0].detects or 0) > (alone[0].detects or 1)
    assert {one.sentence[:7] for one in both} == {"Step 1 ", "Step 1:"}


def test_flags_that_come_after_the_traffic_are_judged_in_their_own_steps() -> None:
    found = power.powers(a_rollout(targets=(RULE, SEARCH), relation=Relation.AFTER), usual(100))

    assert {one.target for one in found[0]} == {"alb/arn:rule"}
    # By then all of the traffic has the new version: its own comparison has no control.
    assert {one.target for one in found[4]} == {"alb/arn:rule", "flag/new-search"}
    assert ["leaves no control" in one.sentence for one in found[4]] == [True, True, False, False]


# --- a first share that shows more ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_second", "share", "requests"),
    [(100, None, None), (50, 100_000, 1500), (25, 200_000, 1500)],
)
def test_a_first_share_is_offered_that_gives_1500_requests(
    per_second: float, share: int | None, requests: int | None
) -> None:
    offer = power.offer(previews(), usual(per_second))

    told = (None, None) if offer is None else (offer.share, offer.requests)
    assert told == (share, requests)


def test_where_no_share_gives_so_many_it_is_said() -> None:
    offer = power.offer(previews(), usual(10))

    assert offer is not None
    assert (offer.share, offer.requests) == (250_000, 750)
    assert offer.sentence == (
        "Step 1 gives about 150 canary requests. A first share of 25 % gives about 750 in 5m; "
        "1,500, which show most of what matters, would take 10m even so."
    )


@pytest.mark.parametrize("schedule", ["25%:5m,100%", "50%:1m,100%", "100%"])
def test_nothing_is_offered_that_is_no_more(schedule: str) -> None:
    assert power.offer(previews(schedule), usual(1)) is None
