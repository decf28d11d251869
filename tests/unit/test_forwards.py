"""Weights of an ALB rule: which share they make, and that nothing else of a rule changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagserver.targets.forwards import (
    HEAVIEST,
    foreign,
    nearest,
    rewritten,
    share_of,
    sticks,
    weights_for,
    weights_of,
    with_share,
)

CANARY, STABLE, OTHER = "arn:canary", "arn:stable", "arn:other"


def forward(sticky: dict | None = None, **weights: int) -> dict:
    names = {"canary": CANARY, "stable": STABLE, "other": OTHER}
    groups = [{"TargetGroupArn": names[name], "Weight": each} for name, each in weights.items()]
    config = {"TargetGroups": groups, "TargetGroupStickinessConfig": sticky or {"Enabled": False}}
    action = {"Type": "forward", "Order": 2, "ForwardConfig": config}
    return {**action, "TargetGroupArn": groups[0]["TargetGroupArn"]} if len(groups) == 1 else action


@pytest.mark.parametrize(
    ("share", "weights"),
    [
        (0, (0, 1)),
        (1_000, (1, 999)),
        (50_000, (1, 19)),
        (250_000, (1, 3)),
        (333_333, (1, 2)),
        (500_000, (1, 1)),
        (999_000, (999, 1)),
        (1_000_000, (1, 0)),
        (999, (0, 1)),
    ],
)
def test_weights_for_a_share(share, weights):
    assert weights_for(share) == weights


def test_every_tenth_of_a_percent_is_met_exactly():
    for share in range(0, 1_000_001, 1_000):
        assert nearest(share) == share


@given(st.integers(0, 1_000_000))
def test_any_share_is_met_from_below_within_a_tenth_of_a_percent(share):
    canary, stable = weights_for(share)
    made = share_of(canary, stable)
    assert 0 <= canary <= HEAVIEST
    assert 0 <= stable <= HEAVIEST
    assert share - 1_000 < made <= share
    # What was reached is reached again: a share that was rounded is rounded no further.
    assert nearest(made) == made


@given(st.integers(0, 1_000_000), st.integers(0, 1_000_000))
def test_a_larger_share_never_makes_smaller_weights(one, other):
    assert (nearest(one) <= nearest(other)) or one > other


OIDC: dict[str, Any] = {
    "Type": "authenticate-oidc",
    "Order": 1,
    "AuthenticateOidcConfig": {"Issuer": "i", "ClientId": "c", "Scope": "openid"},
}
STICKY = {"Enabled": True, "DurationSeconds": 60}


def test_only_the_weights_change():
    before = [OIDC, forward(STICKY, stable=1)]
    after = with_share(before, CANARY, STABLE, 50_000)
    assert after == [
        {
            **OIDC,
            "AuthenticateOidcConfig": {
                **OIDC["AuthenticateOidcConfig"],
                "UseExistingClientSecret": True,
            },
        },
        forward(STICKY, stable=19, canary=1),
    ]
    assert sticks(after)


def test_groups_keep_their_order_and_those_of_others_their_zero():
    before = [forward(canary=1, other=0, stable=19)]
    assert list(weights_of(with_share(before, CANARY, STABLE, 250_000)[0]).items()) == [
        (CANARY, 1),
        (OTHER, 0),
        (STABLE, 3),
    ]


def test_at_either_end_the_empty_side_is_left_out():
    both = [forward(stable=19, canary=1)]
    assert weights_of(with_share(both, CANARY, STABLE, 0)[0]) == {STABLE: 1}
    assert weights_of(with_share(both, CANARY, STABLE, 1_000_000)[0]) == {CANARY: 1}


def test_a_group_of_one_is_never_given_in_two_ways():
    assert "TargetGroupArn" not in rewritten([forward(stable=1)], {STABLE: 1})[0]


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        ([forward(stable=1)], None),
        ([forward(stable=1, canary=0)], None),
        ([forward(stable=1, canary=1, other=0)], None),
        ([{"Type": "forward", "TargetGroupArn": STABLE}], None),
        ([forward(stable=1, canary=1, other=1)], "arn:other"),
        ([forward(other=1)], "arn:other"),
        ([forward(stable=0, canary=0)], "add up to 0"),
        ([{"Type": "fixed-response"}], "does not forward any more"),
    ],
)
def test_what_somebody_else_did_is_said(actions, said):
    found = foreign(actions, CANARY, STABLE)
    assert said in found if said is not None and found is not None else found is said
