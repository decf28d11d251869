"""`/metrics` of a host with several processes: whichever is asked tells of all."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flagserver.processes import Child, Process
from tests.faults.site import FLAG, Site, a_site, until

pytestmark = pytest.mark.needs("redis-server")


def scrape(site: Site) -> dict[str, float]:
    headers = {"Authorization": f"Bearer {site.web.token}"}
    text = httpx.get(f"{site.web.url}/metrics", headers=headers, timeout=10).text
    found: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] += sample.value
    return dict(found)


def report(site: Site, token: str, number: int) -> None:
    """Report one evaluation, as an SDK of that number does with its first batch."""
    counts = {"requests": 0, "failures": 0}
    served = counts | {"flag": FLAG, "variant": "on", "assignments": 1}
    tick = {"at": int(time.time()), "seconds": 5, "service": counts, "flags": [served]}
    batch = {
        "format": 1,
        "service.name": "shop",
        "service.version": None,
        "instance": f"{number:016x}",
        "started": 1763880000,
        "seq": 1,
        "ticks": [tick],
    }
    headers = {"X-API-Key": token}
    answer = httpx.post(f"{site.web.url}/api/v1/sdk/outcomes", json=batch, headers=headers)
    assert answer.json() == {"accepted": True}


@pytest.mark.slow
def test_any_web_process_tells_of_the_others_and_of_the_controller(tmp_path: Path):
    with a_site(tmp_path, started=False) as site:
        site.web.more = ("--workers", "2")
        site.web.start()
        site.until_writable()
        site.web.create()
        token = site.sdk_token()
        environment = site.web.environment
        controller = Process(
            Child(
                "controller", (sys.executable, "-m", "flagserver.main", "controller"), environment
            ),
            lambda _: None,
        )
        site.stack.callback(controller.stop, 10)
        assert site.web.share(25).status == 200
        before = scrape(site)
        asked = 40
        # Each on a connection of its own, so that the kernel spreads them.
        for _ in range(asked):
            answer = httpx.get(f"{site.web.url}/api/v1/sdk/snapshot", headers={"X-API-Key": token})
            assert answer.status_code == 200
        for number in range(asked):
            report(site, token, number)

        snapshots = "sortition_http_requests_total{code=200,handler=snapshot}"
        goal = before.get(snapshots, 0) + asked
        # Asked again and again, so by either of the two: what it tells is the same.
        for _ in range(10):
            until(lambda: scrape(site).get(snapshots) == goal, "all to be told by all")
        evaluations = (
            f"sortition_flag_evaluations_total{{environment=production,flag={FLAG},variant=on}}"
        )
        until(lambda: scrape(site).get(evaluations) == asked, "all reports to be told by all")
        until(lambda: scrape(site).get("sortition_controller_leader") == 1, "the controller")
        told = scrape(site)

        assert told["sortition_redis_up"] == 1
        assert told["sortition_store_alarm{kind=empty}"] == 0
        assert told["sortition_snapshot_version{environment=production}"] == 2
        assert told["sortition_http_request_duration_seconds_count{handler=snapshot}"] == goal
        assert told["sortition_controller_ticks_total{result=done}"] >= 1
        assert told[f"sortition_flag_target_ratio{{environment=production,flag={FLAG}}}"] == 0.25
        change = "action=flag:share:change,environment=production,source=token"
        assert told[f"sortition_flag_changes_total{{{change}}}"] == 1
        answers = "sortition_redis_command_duration_seconds_count{command=%s}"
        assert min(told[answers % name] for name in ("commit", "hgetall", "acquire")) > 0
        assert told["sortition_audit_chain_valid"] == 1
        assert {key for key in told if "build_info" in key} == {
            f"sortition_build_info{{component={name},version=0.1.0}}"
            for name in ("web", "controller")
        }

        # What a process counted is not forgotten when it ends.
        controller.stop(10)
        site.redis.kill()
        until(lambda: scrape(site)["sortition_redis_up"] == 0, "the store to be missed")
        assert scrape(site)["sortition_controller_ticks_total{result=done}"] >= 1
