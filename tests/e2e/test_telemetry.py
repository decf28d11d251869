"""A rollout by real processes, as those who run them see it: its trace at a collector, and /metrics
over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flagserver.processes import Child, Process
from tests.awsfake.double import Double, double, environment_of
from tests.collector import Collector, a_collector
from tests.faults.site import FLAG, WHY, Site, a_site
from tests.servers import free_ports, wait_until

pytestmark = pytest.mark.needs("redis-server")


@pytest.fixture
def aws() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with a_collector() as found:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield found


class Installation:
    """Web and controllers, in real processes that look often."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.port = free_ports(1)[0]

    def controller(self, **more: str) -> Process:
        command = (sys.executable, "-m", "flagserver.main", "controller")
        environment = self.site.web.environment | more
        process = Process(Child("controller", command, environment), lambda _: None)
        self.site.stack.callback(process.stop, 10)
        return process

    def start(self, aws: Double) -> str:
        scene = aws.scene()
        groups = {"canary": scene.green, "stable": scene.blue}
        body = {
            "environment": "production",
            "service": "shop",
            "version": "2",
            "schedule": "5%:1h,100%:1s",
            "guards": "none",
            "targets": [
                {"kind": "flag", "name": FLAG},
                {"kind": "alb", "name": scene.rule, "settings": groups},
            ],
            **WHY,
        }
        answer = self.site.web.ask("POST", "/api/v1/rollouts", body)
        assert answer.status == 201, answer
        return str(answer.json["id"])

    def rollout(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.site.web.ask("GET", f"/api/v1/rollouts/{id}").json
        return found

    def advance(self, id: str) -> None:
        path, revision = f"/api/v1/rollouts/{id}/advance", self.rollout(id)["revision"]
        answer = self.site.web.ask("POST", path, WHY, revision=revision)
        assert answer.status == 200, answer

    def scrape(self, url: str | None = None) -> dict[str, float]:
        headers = {"Authorization": f"Bearer {self.site.web.token}"}
        text = httpx.get(f"{url or self.site.web.url}/metrics", headers=headers, timeout=10).text
        return {
            _key(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def _key(name: str, labels: dict[str, str]) -> str:
    told = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
    return name.removeprefix("sortition_") + (f"{{{told}}}" if told else "")


WRITES = "cloud_calls_total{operation=modify_rule,outcome=ok,service=elbv2}"
SHOP = "environment=production,service=shop"


@pytest.mark.slow
def test_a_rollout_is_seen_from_outside(
    tmp_path: Path,
    aws: Double,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SORTITION_TICK_SECONDS", "0.25")
    with a_site(tmp_path) as site:
        house = Installation(site)
        site.web.create()
        first = house.controller(SORTITION_CONTROLLER_PORT=str(house.port))
        alone = f"http://127.0.0.1:{house.port}"
        wait_until(lambda: _answers(alone), "the controller to show itself")

        id = house.start(aws)
        wait_until(
            lambda: house.scrape().get(f"rollout_observed_ratio{{{SHOP}}}") == 0.05,
            "the first share to be told",
        )

        told = house.scrape()
        states = {k: v for k, v in told.items() if k.startswith("rollout_state")}
        assert states[f"rollout_state{{{SHOP},state=running}}"] == 1
        assert sum(states.values()) == 1
        assert len(states) == 10
        assert told[f"rollout_step{{{SHOP}}}"] == 1
        assert told[f"rollout_target_ratio{{{SHOP}}}"] == 0.05
        assert f"rollout_step_deadline_timestamp_seconds{{{SHOP}}}" in told
        # What will be counted is there before it happens, or its increase would not be seen.
        ended = f"rollouts_total{{{SHOP.replace(',', ',outcome=completed,')},trigger=schedule}}"
        wait_until(lambda: house.scrape().get(ended) == 0, "the count to begin at nothing")
        assert httpx.get(f"{alone}/metrics").status_code == 401
        own = house.scrape(alone)
        assert own["controller_rollouts"] == 1
        assert own[WRITES] == len(aws.calls("ModifyRule")) > 0

        # Another one goes on with it.
        second = house.controller()
        wait_until(lambda: house.scrape()["controller_rollouts"] == 1, "the first to hold it")
        first.stop(10)
        house.advance(id)
        wait_until(lambda: house.rollout(id)["state"] == "completed", "the rollout to end")

        wait_until(lambda: house.scrape()[ended] == 1, "its end to be counted")
        told = house.scrape()
        assert told[f"rollout_state{{{SHOP},state=completed}}"] == 1
        assert f"rollout_step{{{SHOP}}}" not in told
        assert told["rollout_duration_seconds_count{outcome=completed,service=shop}"] == 1
        assert told[WRITES] == len(aws.calls("ModifyRule"))
        wait_until(
            lambda: (
                house.scrape()["notifications_total{channel=log,outcome=delivered}"] >= 1
                and len(collector.named("rollout")) == 1
            ),
            "its end to be told",
        )
        second.stop(10)

    check_trace(collector, id)
    assert len(collector.named("elbv2 modify_rule")) == told[WRITES]


def check_trace(collector: Collector, id: str) -> None:
    """All that was received is one trace, and hangs together."""
    (root,) = collector.named("rollout")
    spans = {span.id: span for span in collector.spans}
    assert root.attributes["sortition.rollout"] == id
    assert {span.trace for span in spans.values()} == {root.trace}
    assert {span.service for span in spans.values()} == {"sortition"}
    assert [span for span in spans.values() if span.parent not in spans] == [root]
    names = {span.name for span in spans.values()}
    assert {name for name in names if " " not in name} == {"rollout", "step", "look"}
    assert {"elbv2 describe_rules", "elbv2 modify_rule"} < names
    assert [s.attributes["sortition.share"] for s in collector.named("step")] == [5.0, 100.0]
    for span in spans.values():
        assert not any("arn:" in str(value) for value in span.attributes.values())


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False
