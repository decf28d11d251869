"""`/api/v1/neutrality/{flag}`: what is served is held against the lot, from counts without ids."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from sortition.core import bucketing

from flagserver.domain.commands import NewEnvironment
from flagserver.services.environments import Environments
from flagserver.system import SystemEntropy

from .api import SOMEBODY, WHY, Api, TurnedClock, a_store, an_api
from .routes import BATCH

FLAG = "new-search"
PATH = f"/api/v1/neutrality/{FLAG}"
STATE = f"/api/v1/flags/{FLAG}/environments/production"


@dataclass
class Shop:
    """A service that asks a flag with ids of its own, and reports as SDKs do."""

    api: Api
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    batches: Any = field(default_factory=lambda: count(1))

    def serve(self, requests: int, share: float, *, lost: float = 0.0) -> None:
        """Serve so many requests within this tick. lost: part of the exposed that go missing."""
        salt = self.api.admin.get(f"/api/v1/flags/{FLAG}").json["salt"]
        seed, edge = bucketing.seed(salt), bucketing.threshold(round(share * 10_000))
        points = [
            bucketing.point(f"{self.chance.getrandbits(128):032x}", seed) for _ in range(requests)
        ]
        on = sum(point < edge and self.chance.random() >= lost for point in points)
        off = sum(point >= edge for point in points)
        nothing = {"requests": 0, "failures": 0}
        flags = [
            nothing | {"flag": FLAG, "variant": variant, "assignments": number}
            for variant, number in (("on", on), ("off", off))
        ]
        bins = [list(pair) for pair in sorted(Counter(point >> 24 for point in points).items())]
        tick = {
            "at": int(self.api.clock.now().timestamp()),
            "seconds": 5,
            "service": nothing,
            "flags": flags,
            "points": {FLAG: bins},
        }
        batch = BATCH | {"seq": next(self.batches), "ticks": [tick]}
        answer = self.api.sdk().post("/api/v1/sdk/outcomes", batch)
        assert answer.status == 202, answer.text

    def told(self, environment: str = "production") -> Any:
        answer = self.api.admin.get(f"{PATH}?environment={environment}")
        assert answer.status == 200, answer.text
        (lot,) = answer.json["environments"]
        assert lot["environment"] == environment
        return lot


@pytest.fixture
def shop() -> Shop:
    clock = TurnedClock()
    store = a_store()
    store._now = lambda: clock.now().timestamp()
    api = an_api(store, clock=clock)
    api.flag(FLAG, share=25)
    clock.turn(90)
    return Shop(api)


def test_a_fair_lot_is_as_expected(shop: Shop):
    for _ in range(4):
        shop.api.clock.turn(30)
        shop.serve(1_000, 25)
    shop.api.clock.turn(70)

    lot = shop.told()

    assert lot["points"]["kind"] == "within"
    assert lot["points"]["points"] == 4_000
    assert len(lot["points"]["counts"]) == 256
    assert lot["ratio"]["kind"] == "within"
    assert lot["ratio"]["assignments"] == 4_000
    on = next(row for row in lot["ratio"]["variants"] if row["name"] == "on")
    assert on["expected"] == pytest.approx(1_000)
    assert on["low"] < on["count"] < on["high"]
    assert lot["departures"] == []


def test_a_variant_that_loses_requests_is_outside_though_points_are_even(shop: Shop):
    shop.serve(8_000, 25, lost=0.15)
    shop.api.clock.turn(70)

    lot = shop.told()

    assert lot["ratio"]["kind"] == "outside"
    assert lot["points"]["kind"] == "within"


def test_what_was_served_before_the_last_change_is_not_counted_for_the_ratio(shop: Shop):
    shop.serve(3_000, 25)
    shop.api.clock.turn(70)
    shop.api.share(FLAG, 50)
    shop.api.clock.turn(125)
    shop.serve(3_000, 50)
    shop.api.clock.turn(70)

    lot = shop.told()

    assert lot["ratio"]["assignments"] == 3_000
    assert lot["ratio"]["kind"] == "within"
    # Points do not depend on the share.
    assert lot["points"]["points"] == 6_000


def test_little_traffic_is_too_few_to_say(shop: Shop):
    shop.serve(900, 25)
    shop.api.clock.turn(70)

    lot = shop.told()

    assert (lot["ratio"]["kind"], lot["ratio"]["words"]) == ("too_few", "too few to say")
    assert lot["points"]["kind"] == "too_few"
    assert shop.told("staging")["ratio"]["assignments"] == 0


def test_conditions_are_named_and_leave_nothing_to_expect(shop: Shop):
    conditions = [{"attribute": "cloud.region", "operator": "in", "values": ["eu-west-1"]}]
    revision = shop.api.admin.get(STATE).json["revision"]
    shop.api.admin.patch(STATE, WHY | {"conditions": conditions}, revision=revision)
    shop.api.follow()
    shop.api.clock.turn(125)
    shop.serve(2_000, 25)
    shop.api.clock.turn(70)

    lot = shop.told()

    assert lot["ratio"]["kind"] == "unknown"
    assert "cloud.region" in lot["ratio"]["why"]
    assert lot["departures"] == [
        "This flag looks at cloud.region: that picks traffic by place, not by lot."
    ]


def test_a_prerequisite_multiplies_what_is_expected_and_its_change_begins_anew(shop: Shop):
    shop.api.flag("parent", share=50)
    revision = shop.api.admin.get(STATE).json["revision"]
    needed = [{"flag": "parent", "variant": "on"}]
    shop.api.admin.patch(STATE, WHY | {"prerequisites": needed}, revision=revision)
    shop.api.follow()
    shop.api.clock.turn(125)
    shop.serve(4_000, 12.5)
    shop.api.clock.turn(70)

    assert shop.told()["ratio"]["kind"] == "within"
    shop.api.share("parent", 60)
    shop.api.follow()
    assert shop.told()["ratio"]["assignments"] == 0


def test_an_archived_flag_has_no_lot(shop: Shop):
    shop.api.share(FLAG, 0)
    revision = shop.api.admin.get(f"/api/v1/flags/{FLAG}").json["revision"]
    why = {"reason": "a test"}
    done = shop.api.admin.post(f"/api/v1/flags/{FLAG}/archive", why, revision=revision)
    assert done.status == 200, done.text
    shop.api.follow()

    assert shop.api.admin.get(PATH).json == {"flag": FLAG, "environments": []}


def test_an_environment_that_is_not_mirrored_yet_is_left_out(shop: Shop):
    Environments(shop.api.store, shop.api.clock, SystemEntropy()).create(
        NewEnvironment(key="just-made"), SOMEBODY
    )

    told = shop.api.admin.get(PATH).json["environments"]

    assert "just-made" not in [lot["environment"] for lot in told]
    assert len(told) == 3


def test_who_belongs_to_one_environment_sees_that_one(shop: Shop):
    deploy = shop.api.deploy("staging")

    told = deploy.get(PATH).json["environments"]

    assert [lot["environment"] for lot in told] == ["staging"]
    assert deploy.get(f"{PATH}?environment=production").status == 403
    assert shop.api.admin.get(f"{PATH}?environment=nowhere").status == 404
    assert shop.api.admin.get("/api/v1/neutrality/none").status == 404
    assert len(shop.api.admin.get(PATH).json["environments"]) == 3
