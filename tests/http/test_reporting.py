"""From a host's requests to the ticks that are judged: a real SDK, HTTP, and the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sortition
from sortition import outcomes
from sortition.sources import worker

from flagserver.domain.outcomes import Part, Totals, added, histogram_edges, tick_of
from flagserver.settings import Settings

from .api import Api, TurnedClock, an_api, eventually


class RealClock(TurnedClock):
    """The SDK's own time is real."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    for module in (outcomes, worker):
        monkeypatch.setattr(module, "TICK_SECONDS", 1)
    monkeypatch.setattr(worker, "FIRST_FLUSH_SECONDS", 0.05)
    made = an_api(clock=RealClock(), settings=Settings(flush_seconds=0.1))
    made.flag("search", share=50)
    merging = made.services.outcomes.merging("ab")
    merging._every = 0.05
    merging.start()
    yield made
    merging.stop()


def test_what_a_host_serves_is_told_by_version_and_variant_and_what_hangs_by_its_age(
    api: Api,
) -> None:
    key = api.sdk().token
    told = {"service.name": "shop", "service.version": "1.5.0"}
    began = int(time.time()) - 5
    with api.served() as url, sortition.Client(url, key=key, resource=told) as client:
        assert client.wait_ready(5)
        for number in range(40):
            with client.request(f"r{number}") as request:
                request.is_enabled("search")
                for _ in range(3):
                    request.count("db_connection", ok=number >= 10)
                if number < 4:
                    request.fail()
        hung = client.request("hung")
        side = hung.is_enabled("search")
        service = api.services.outcomes

        def of_version() -> Totals:
            until = tick_of(int(time.time()))
            found = service.service_ticks("production", "shop", since=began, until=until)
            return added(versions["1.5.0"] for versions in found.values())

        def of_parts() -> list[tuple[Part, Totals]]:
            until = tick_of(int(time.time()))
            found = service.flag_ticks("production", "search", since=began, until=until)
            return [each for parts in found.values() for each in parts.items()]

        def is_told() -> bool:
            requests = sum(totals.requests for _, totals in of_parts())
            return requests == 40 and any(totals.ages for _, totals in of_parts())

        eventually(is_told)
        hung.end()

    assert of_version().failures == 4
    assert of_version().metrics == {"db_connection": (40, 10)}
    assert sum(of_version().latency.values()) >= 40
    oldest = histogram_edges()[max(of_version().ages)]
    assert 0.001 < oldest < 5
    assert {part for part, _ in of_parts()} == {
        Part("on", "shop", "1.5.0"),
        Part("off", "shop", "1.5.0"),
    }
    assert {part.variant for part, totals in of_parts() if totals.ages} == {"on" if side else "off"}
    bins, sampled = service.points("production", "search", began, int(time.time()))
    assert (len(bins), sum(bins)) == (256, sampled)
    assert 40 <= sampled <= 41
