"""What hosts test with: clients without a server, whose flags are as the test says."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sortition
from sortition.core.model import InvalidSnapshot
from sortition.testing import client_with

IDS = [f"request-{i}" for i in range(2000)]


def test_a_number_is_the_share_of_a_boolean_flag():
    client = client_with({"none": 0, "quarter": 25.0, "all": 100})

    assert not any(client.is_enabled("none", id) for id in IDS)
    assert all(client.is_enabled("all", id) for id in IDS)
    # Of 2,000 by lot: 500 and five standard deviations.
    assert 400 < sum(client.is_enabled("quarter", id) for id in IDS) < 600


def test_it_has_neither_thread_nor_network_nor_settings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SORTITION_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SORTITION_KEY", "srt_sdk_x")
    monkeypatch.setenv("SORTITION_SNAPSHOT", "/nonexistent")
    before = threading.active_count()
    client = client_with({"search": 100})

    assert threading.active_count() == before
    assert client.wait_ready(0)
    assert (client.status().state, client.status().errors) == ("ready", {})


def test_a_mapping_says_the_rest():
    client = client_with(
        {
            "sizes": {"variants": {"few": 10, "many": 50}, "rest": "few", "weights": {"many": 100}},
            "killed": {"share": 100, "killed": True},
            "colours": {
                "variants": {"red": "r", "green": "g", "grey": "x"},
                "rest": "grey",
                "weights": {"red": 50, "green": 50},
            },
        }
    )

    assert client.value("sizes", "a") == 50
    assert client.evaluate("killed", "a").reason is sortition.Reason.DISABLED
    assert {client.variant("colours", id) for id in IDS} == {"red", "green"}


def test_conditions_and_prerequisites_are_as_in_a_snapshot():
    new = {"attribute": "service.version", "operator": "version_at_least", "values": ["2.0"]}
    flags: Any = {
        "parent": {"conditions": [new]},
        "child": {"prerequisites": [{"flag": "parent", "variant": "on"}]},
    }

    for version, served in (("1.9", False), ("2.1", True)):
        client = client_with(flags, resource={"service.version": version})
        assert client.is_enabled("parent", "a") is client.is_enabled("child", "a") is served


def test_the_tests_own_environment_is_no_resource(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=1.0")

    assert not client_with({}).status().has_control_group


@pytest.mark.parametrize(
    "flags", [{"Not a key": 1}, {"a": 101}, {"a": {"rest": "none"}}, {"a": {"weights": {"on": 50}}}]
)
def test_flags_that_cannot_be_are_refused(flags: dict[str, float]):
    with pytest.raises(InvalidSnapshot):
        client_with(flags)
