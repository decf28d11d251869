"""`/api/v1/signals/eventbridge`: what an API destination of EventBridge sends is heard."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import T0
from tests.unit.test_pushes import an_event

from .api import Api

PATH = "/api/v1/signals/eventbridge"


def test_an_event_is_heard(api: Api) -> None:
    told = api.deploy().post(PATH, an_event(time=T0.isoformat()))

    assert (told.status, told.json) == (202, {"heard": "unconcerned"})


def test_who_may_tell(api: Api) -> None:
    assert api.nobody.post(PATH, an_event()).status == 401
    assert api.sdk().post(PATH, an_event()).code == "forbidden"


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"id": ""}, "/id"),
        ({"id": 7}, "/id"),
        ({"time": "yesterday"}, "/time"),
        ({"detail": []}, "/detail"),
        ({"detail-type": None}, "/detail-type"),
    ],
)
def test_what_is_no_event(api: Api, told: dict[str, Any], field: str) -> None:
    refused = api.deploy().post(PATH, an_event(**told))

    assert (refused.status, refused.field) == (422, field)


def test_what_else_an_event_has_does_not_matter(api: Api) -> None:
    assert api.deploy().post(PATH, an_event(**{"replay-name": "x"})).status == 202
