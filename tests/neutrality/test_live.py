"""What is served, held against what a fair lot serves."""

from __future__ import annotations

import random

import pytest
from sortition.core.bucketing import WHOLE
from sortition.core.model import Prerequisite
from sortition.neutrality import live
from sortition.neutrality.live import OUTSIDE, TOO_FEW, UNKNOWN, WITHIN, Untold

from tests.builders import a_flag, flags_of, needs, only_where


def drawn(n: int, share: float, seed: int = 1) -> dict[str, int]:
    """What a fair lot serves to n requests."""
    chance = random.Random(seed)
    on = sum(chance.random() < share for _ in range(n))
    return {"on": on, "off": n - on}


# --- ratio ----------------------------------------------------------------------------------------


def test_what_is_served_as_drawn_is_within_its_margin():
    found = live.ratio(drawn(40_000, 0.05), {"off": 0.95, "on": 0.05})

    assert found.kind == WITHIN
    on = next(row for row in found.variants if row.name == "on")
    assert on.expected == pytest.approx(2_000)
    # 3.3 standard deviations of a binomial with n = 40,000 and p = 0.05: 144.
    assert 2_000 - on.low == pytest.approx(144, abs=3)
    assert on.high - 2_000 == pytest.approx(144, abs=3)


def test_a_variant_that_loses_a_tenth_of_its_requests_is_outside():
    found = live.ratio({"on": 1_800, "off": 38_000}, {"off": 0.95, "on": 0.05})

    assert found.kind == OUTSIDE
    assert not next(row for row in found.variants if row.name == "on").inside


def test_below_a_thousand_there_is_too_little_to_say():
    assert live.ratio({"on": 999}, {"off": 0.95, "on": 0.05}).kind == TOO_FEW
    assert live.ratio({"on": 1_000}, {"off": 0.95, "on": 0.05}).kind == OUTSIDE
    assert live.ratio({}, {"off": 1.0}).kind == TOO_FEW


def test_a_variant_that_nobody_is_to_get_has_no_margin():
    found = live.ratio({"off": 4_999, "on": 1}, {"off": 1.0, "on": 0.0})

    assert found.kind == OUTSIDE
    assert live.ratio({"off": 5_000}, {"off": 1.0, "on": 0.0}).kind == WITHIN


def test_a_variant_that_is_no_longer_drawn_counts_as_one_that_nobody_is_to_get():
    assert live.ratio({"off": 5_000, "gone": 3}, {"off": 1.0}).kind == OUTSIDE


def test_chance_alone_is_rarely_outside():
    """A margin is left by 1 of 1,000: of 300 fair lots hardly any is."""
    kinds = [
        live.ratio(drawn(2_000, 0.25, seed), {"off": 0.75, "on": 0.25}).kind for seed in range(300)
    ]

    assert kinds.count(OUTSIDE) <= 3


# --- spread ---------------------------------------------------------------------------------------


def spread_of(n: int, parts: int = 256, top: int = 256) -> list[int]:
    chance = random.Random(3)
    counts = [0] * parts
    for _ in range(n):
        counts[chance.randrange(top)] += 1
    return counts


def test_points_of_a_fair_lot_are_spread_evenly():
    found = live.spread(spread_of(20_000))

    assert found.kind == WITHIN
    assert found.points == 20_000
    assert found.margin.expected == pytest.approx(20_000 / 256)
    assert found.margin.low < found.margin.expected < found.margin.high


def test_points_that_leave_out_a_part_are_found():
    """As from a proxy that sets ids of its own on a part of the traffic."""
    assert live.spread(spread_of(20_000, top=250)).kind == OUTSIDE


def test_points_that_are_too_even_are_found():
    assert live.spread([80] * 256).kind == OUTSIDE


def test_few_points_say_nothing():
    assert live.spread([0] * 256).kind == TOO_FEW
    assert live.spread(spread_of(999, top=2)).kind == TOO_FEW


# --- what is to be expected -----------------------------------------------------------------------


def chances(*flags, key="flag"):
    return live.chances(flags_of(*flags), key)


def test_a_share_is_expected_of_the_drawn_and_the_rest_of_the_rest():
    assert chances(a_flag(share=25)) == {"off": 0.75, "on": 0.25}
    assert chances(a_flag(share=0))["off"] == 1.0
    assert chances(a_flag(share=100))["on"] == 1.0


def test_weights_divide_the_share():
    flag = a_flag(
        share=10,
        variants={"off": 0, "a": 1, "b": 2, "c": 3},
        weights=(("a", 500_000), ("b", 300_000), ("off", 200_000), ("c", 0)),
    )

    found = chances(flag)

    assert found == pytest.approx({"off": 0.9 + 0.02, "a": 0.05, "b": 0.03})
    assert sum(weight for _, weight in flag.weights) == WHOLE


def test_a_kill_serves_the_rest_to_all_whatever_the_conditions():
    conditions = only_where("cloud.region", "eu-west-1")

    assert chances(a_flag(share=50, killed=True, conditions=conditions))["off"] == 1.0


def test_shares_multiply_along_prerequisites():
    parent = a_flag("parent", share=50)
    grandparent = a_flag("grandparent", share=20)
    parent = a_flag("parent", share=50, prerequisites=needs("grandparent"))
    found = chances(grandparent, parent, a_flag(share=40, prerequisites=needs("parent")))

    assert found["on"] == pytest.approx(0.4 * 0.5 * 0.2)


def test_conditions_leave_nothing_to_expect():
    with pytest.raises(Untold, match=r"flag looks at service\.version"):
        chances(a_flag(share=5, conditions=only_where("service.version", "1.4")))


def test_prerequisites_that_stand_on_one_flag_hang_together():
    flags = (
        a_flag("root", share=50),
        a_flag("a", share=50, prerequisites=needs("root")),
        a_flag("b", share=50, prerequisites=needs("root")),
        a_flag(share=50, prerequisites=(Prerequisite("a", "on"), Prerequisite("b", "on"))),
    )

    with pytest.raises(Untold, match="hang together"):
        chances(*flags)
    told = live.untold({"on": 3}, "because")
    assert (told.kind, told.why, told.assignments) == (UNKNOWN, "because", 3)


def test_what_picks_by_place_is_named_along_the_line():
    flags = flags_of(
        a_flag("parent", conditions=only_where("service.instance.id", "i-1")),
        a_flag(
            conditions=(*only_where("cloud.region", "eu-west-1"), *only_where("service.name", "s")),
            prerequisites=needs("parent"),
        ),
    )

    own, parents = live.departures(flags, "flag")

    assert own == "This flag looks at cloud.region: that picks traffic by place, not by lot."
    assert parents.startswith("Its prerequisite parent looks at service.instance.id")
    assert live.line(flags, "flag") == ["flag", "parent"]
