"""The standard rollout, started over HTTP, at AWS's double: the table of the project's own schedule
holds at every look, for the balancer's weights and for the flag."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.awsfake.double import Double, double, environment_of
from tests.http.api import Api, api_of

from .installations import ROLLOUTS, WELL, Installation

TABLE = {0: 5, 5: 25, 15: 50, 30: 100}
"""Minutes since the first share -> percent from then on."""

LOOK_SECONDS = 10
"""From one look to the next, at most: half as many as there would be."""


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@pytest.fixture
def house(aws: Double, tmp_path: Path) -> Installation:
    made = Installation(aws=aws, directory=tmp_path)
    made.blue = made.green = WELL
    made.make_alarms()
    made.turn(180)
    return made


@pytest.fixture
def api(house: Installation) -> Api:
    return api_of(house)


def told(seconds: float) -> float:
    """Return the table's percent so long after the first share."""
    begins = list(TABLE)
    return TABLE[begins[bisect_right(begins, seconds / 60) - 1]]


def test_weights_and_shares_are_those_of_the_table(house: Installation, api: Api) -> None:
    begun = api.admin.post(ROLLOUTS, house.body(schedule="standard", alarms=[house.alarm]))
    assert begun.status == 201, begun.text
    path = f"{ROLLOUTS}/{begun.json['id']}"

    stood: dict[float, tuple[float, float]] = {}
    while not api.admin.get(path).json["terminal"]:
        assert house.clock.seconds < 3600, api.admin.get(path).text
        house.controller.tick()
        stood[house.now] = (house.weight, house.share)
        house.turn(LOOK_SECONDS)

    first = min(at for at, (weight, _) in stood.items() if weight)
    since = {at - first: stands for at, stands in stood.items() if at >= first}
    assert since == {seconds: (told(seconds), told(seconds)) for seconds in since}
    assert set(since) >= {minute * 60 for minute in TABLE}
    assert all(stands == (0, 0) for at, stands in stood.items() if at < first)
    ended = api.admin.get(path).json
    assert (ended["state"], max(since)) == ("completed", 30 * 60 + LOOK_SECONDS)
    assert {target["confirmed"] for target in ended["targets"]} == {100}
    writes = house.aws.calls("ModifyRule", "ModifyListener")
    # One for each step, and before them the one that lets a canary be checked at all.
    assert writes == ["ModifyRule"] * 5
