"""`/api/v1/hooks/codedeploy`: what the function behind CodeDeploy's hooks is answered."""

from __future__ import annotations

import pytest

from flagserver.domain.hooks import NOBODY_SECONDS
from flagserver.domain.states import State
from tests.gates import DEPLOYMENT, Gate, a_following

from .api import Api, api_of

PATH = "/api/v1/hooks/codedeploy"
ASKED = {"deployment": DEPLOYMENT, "execution": "eyJlbmMiOiJBMjU2R0NNIn0="}


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def api(gate: Gate) -> Api:
    return api_of(gate)


def test_it_is_allowed_with_the_numbers_behind_it(gate: Gate, api: Api) -> None:
    gate.follow()
    gate.turn(300)

    told = api.deploy().post(PATH, ASKED)

    assert told.status == 200
    assert told.json["says"] == "allow"
    assert told.json["hook"] == "BeforeAllowTraffic"
    assert told.json["rollout"] == "r-1"
    assert {v["guard"] for v in told.json["verdicts"]} == {"errors", "hosts", "alarm shop-alarm"}


def test_it_waits_and_is_denied_with_a_reason(gate: Gate, api: Api) -> None:
    gate.follow(a_following(state=State.PAUSED))
    assert api.deploy().post(PATH, ASKED).json["says"] == "wait"

    gate.becomes(state=State.ROLLING_BACK)
    told = api.deploy().post(PATH, ASKED).json

    assert (told["says"], told["reason"]) == ("deny", "rollout/r-1 goes back.")


def test_it_waits_for_a_second_person_and_says_what_for(gate: Gate, api: Api) -> None:
    id = gate.asks_for_a_start()
    first = api.deploy().post(PATH, ASKED).json
    gate.turn(NOBODY_SECONDS)

    again = api.deploy().post(PATH, ASKED).json

    assert (first["says"], again["says"], again["rollout"]) == ("wait", "wait", None)
    assert f"{id} waits for somebody else to approve" in again["reason"]


def test_who_may_ask(api: Api) -> None:
    assert api.nobody.post(PATH, ASKED).status == 401
    assert api.sdk().post(PATH, ASKED).code == "forbidden"


def test_what_cannot_be_answered(gate: Gate, api: Api) -> None:
    assert api.deploy().post(PATH, ASKED | {"deployment": "d-2"}).code == "not_found"
    gate.asks(None)
    assert api.deploy().post(PATH, ASKED).code == "conflict"
    gate.gates.down = True
    assert api.deploy().post(PATH, ASKED).code == "target_unavailable"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"deployment": DEPLOYMENT}, "/execution"),
        ({**ASKED, "deployment": "../x"}, "/deployment"),
        ({**ASKED, "execution": "with space"}, "/execution"),
        ({**ASKED, "status": "Succeeded"}, "/status"),
    ],
)
def test_what_is_no_question(api: Api, body: dict[str, str], field: str) -> None:
    refused = api.deploy().post(PATH, body)

    assert (refused.status, refused.field) == (422, field)
