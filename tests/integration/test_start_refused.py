"""A rollout over HTTP whose rule cannot be driven is refused by its field, and nothing is changed:
not at AWS, not in the store, not in the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.awsfake.scene import REGION
from tests.awsfake.double import Double, double, environment_of
from tests.http.api import Api, api_of

from .installations import FLAG, ROLLOUTS, Installation

OURS, THEIRS = "123456789012", "210987654321"
ELSEWHERE = "eu-north-1"
STATE = f"/api/v1/flags/{FLAG}/environments/production"


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@pytest.fixture
def house(aws: Double, tmp_path: Path) -> Installation:
    return Installation(aws=aws, directory=tmp_path)


@pytest.fixture
def api(house: Installation) -> Api:
    return api_of(house)


Change = Callable[[str], str]


def other(before: str, after: str) -> Change:
    return lambda arn: arn.replace(before, after)


def unknown(arn: str) -> str:
    return f"{arn[:-4]}0000"


def same(arn: str) -> str:
    return arn


def stands(house: Installation, api: Api) -> Any:
    """All that a start could change."""
    return (
        house.aws.weights(house.scene.rule),
        house.aws.weights(house.scene.listener),
        house.aws.calls("ModifyRule", "ModifyListener"),
        api.admin.get(ROLLOUTS).json["rollouts"],
        api.admin.get(STATE).json,
        house.store.state(),
    )


@pytest.mark.parametrize(
    ("name", "canary", "stable", "field"),
    [
        (other(OURS, THEIRS), other(OURS, THEIRS), other(OURS, THEIRS), "/name"),
        (other(OURS, THEIRS), same, same, "/settings/canary"),
        (other(REGION, ELSEWHERE), other(REGION, ELSEWHERE), other(REGION, ELSEWHERE), "/name"),
        (other(REGION, ELSEWHERE), same, same, "/settings/canary"),
        (unknown, same, same, "/name"),
        (lambda _: "shop", same, same, "/name"),
        (same, unknown, same, "/settings/canary"),
        (same, same, unknown, "/settings/stable"),
        (same, same, other(REGION, ELSEWHERE), "/settings/stable"),
    ],
    ids=[
        *("all of another account", "of another account", "all of another region"),
        *("of another region", "unknown", "no ARN", "unknown canary", "unknown stable group"),
        "stable group of another region",
    ],
)
@pytest.mark.parametrize("kind", ["rule", "listener"])
def test_it_names_its_field_and_changes_nothing(
    house: Installation,
    api: Api,
    kind: str,
    name: Change,
    canary: Change,
    stable: Change,
    field: str,
) -> None:
    groups = {"canary": canary(house.scene.green), "stable": stable(house.scene.blue)}
    rule = {"kind": "alb", "name": name(getattr(house.scene, kind)), "settings": groups}
    before = stands(house, api)

    refused = api.admin.post(ROLLOUTS, house.body(targets=[{"kind": "flag", "name": FLAG}, rule]))

    assert (refused.status, refused.field) == (422, f"/targets/1{field}")
    assert stands(house, api) == before
    house.tick()
    assert stands(house, api) == before


def test_a_canary_that_is_not_healthy_refuses_the_start(house: Installation, api: Api) -> None:
    scene = house.scene
    forward = {
        "Type": "forward",
        "ForwardConfig": {
            "TargetGroups": [
                {"TargetGroupArn": scene.blue, "Weight": 1},
                {"TargetGroupArn": scene.green, "Weight": 0},
            ]
        },
    }
    house.aws.client("elbv2").modify_rule(RuleArn=scene.rule, Actions=[forward])
    house.aws.unhealthy(scene.green)
    before = stands(house, api)

    refused = api.admin.post(ROLLOUTS, house.body())

    assert (refused.status, refused.field) == (409, "/targets/1/settings/canary")
    assert stands(house, api) == before
