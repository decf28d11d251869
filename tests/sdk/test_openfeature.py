"""Hosts that speak OpenFeature get the same answers, with OpenFeature's reasons and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sortition
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus
from sortition.client import Client
from sortition.openfeature import Provider
from sortition.testing import FakeServer, client_with

from .conftest import until

FLAGS: dict[str, Any] = {
    "new-search": 50.0,
    "colour": {"variants": {"red": "red", "blue": "blue"}, "rest": "red", "share": 100},
    "size": {"variants": {"small": 20, "large": 50}, "rest": "small", "share": 0},
    "ratio": {"variants": {"one": 1, "half": 0.5}, "rest": "one", "share": 0},
    "layout": {"variants": {"a": {"rows": [1, 2]}, "b": {}}, "rest": "b", "share": 100},
    "dead": {"share": 100, "killed": True},
}
SOMEBODY = EvaluationContext(targeting_key="4bf92f3577b34da6")


@pytest.fixture
def ours() -> Client:
    return client_with(FLAGS)


@pytest.fixture
def theirs(ours: Client) -> Iterator[OpenFeatureClient]:
    api.set_provider_and_wait(Provider(ours))
    yield api.get_client()
    api.shutdown()
    api.clear_providers()


def test_both_answer_alike(ours: Client, theirs: OpenFeatureClient) -> None:
    for number in range(200):
        context = EvaluationContext(targeting_key=str(number))

        assert theirs.get_boolean_value("new-search", False, context) == ours.is_enabled(
            "new-search", str(number)
        )


def test_an_answer_carries_variant_reason_and_revision(theirs: OpenFeatureClient) -> None:
    drawn = theirs.get_boolean_details("new-search", False, SOMEBODY)
    settled = theirs.get_string_details("colour", "none", SOMEBODY)
    killed = theirs.get_boolean_details("dead", True, SOMEBODY)

    assert (drawn.reason, drawn.flag_metadata) == (Reason.SPLIT, {"revision": 1})
    assert (settled.value, settled.variant, settled.reason) == ("blue", "blue", Reason.STATIC)
    assert (killed.value, killed.reason) == (False, Reason.DISABLED)


def test_every_type_has_its_way(theirs: OpenFeatureClient) -> None:
    assert theirs.get_integer_value("size", 0, SOMEBODY) == 20
    assert theirs.get_float_value("ratio", 0.0, SOMEBODY) == 1.0
    assert theirs.get_object_value("layout", {}, SOMEBODY) == {"rows": [1, 2]}


@pytest.mark.parametrize(
    ("key", "context", "code"),
    [
        ("nothing", SOMEBODY, ErrorCode.FLAG_NOT_FOUND),
        ("colour", SOMEBODY, ErrorCode.TYPE_MISMATCH),
        ("new-search", None, ErrorCode.TARGETING_KEY_MISSING),
        ("new-search", EvaluationContext(targeting_key=""), ErrorCode.TARGETING_KEY_MISSING),
        ("new-search", EvaluationContext(targeting_key="\ud800"), ErrorCode.INVALID_CONTEXT),
    ],
)
def test_what_cannot_be_evaluated_is_the_default_with_its_code(
    theirs: OpenFeatureClient, key: str, context: EvaluationContext | None, code: ErrorCode
) -> None:
    details = theirs.get_boolean_details(key, True, context)

    assert (details.value, details.reason, details.error_code) == (True, Reason.ERROR, code)


def test_nothing_about_a_person_decides(theirs: OpenFeatureClient) -> None:
    plain = theirs.get_boolean_details("new-search", False, SOMEBODY)
    described = theirs.get_boolean_details(
        "new-search",
        False,
        EvaluationContext(SOMEBODY.targeting_key, {"plan": "gold", "email": "a@example.invalid"}),
    )

    assert described == plain


def test_a_server_that_falls_silent_and_comes_back_is_two_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sortition.client, "STALE_SECONDS", 1.0)
    told: list[str] = []

    def stale(details: object) -> None:
        told.append("stale")

    def ready(details: object) -> None:
        told.append("ready")

    with FakeServer({"new-search": 100}) as server:
        api.set_provider_and_wait(Provider(Client(server.url, key=server.key)))
        client = api.get_client()
        client.add_handler(ProviderEvent.PROVIDER_STALE, stale)
        client.add_handler(ProviderEvent.PROVIDER_READY, ready)
        assert told == ["ready"]
        server.stop()
        until(lambda: told == ["ready", "stale"])
        assert client.get_provider_status() is ProviderStatus.STALE
        assert client.get_boolean_value("new-search", False, SOMEBODY)

        server.start()

        until(lambda: told[:3] == ["ready", "stale", "ready"])
        client.remove_handler(ProviderEvent.PROVIDER_STALE, stale)
        client.remove_handler(ProviderEvent.PROVIDER_READY, ready)
        api.shutdown()
    api.clear_providers()


def test_without_flags_it_is_not_ready() -> None:
    api.set_provider(Provider(Client("", snapshot=""), wait_seconds=0.01))

    details = api.get_client().get_boolean_details("new-search", True, SOMEBODY)

    assert (details.value, details.error_code) == (True, ErrorCode.PROVIDER_NOT_READY)
    api.shutdown()
    api.clear_providers()
