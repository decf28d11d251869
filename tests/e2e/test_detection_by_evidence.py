"""How soon harm is found, once through everything: real SDK clients of both versions, HTTP, Redis
and the controller, with a clock that is turned. `bench/judgement.py` has the medians of thousands.

A request's lot, its failure and its duration come from one seed. Ticks of five seconds are in the
store some seconds after they ended, and a controller looks every five: 8 s more than the bench's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sortition
from sortition.judgement.planning import first_share
from sortition.judgement.traffic import poisson
from sortition.outcomes import Outcomes
from sortition.sources import worker

from flagserver.domain.commands import NewToken
from flagserver.domain.outcomes import service_subject
from flagserver.domain.states import State
from flagserver.domain.times import moment
from flagserver.http.app import create_app
from flagserver.http.streams import Hub
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from tests.builders import ADMIN
from tests.engines import FLAG, RULE
from tests.http.api import eventually
from tests.judged import STANDARD, Judged
from tests.servers import redis_server
from tests.serving import following

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.timeout(300)]

LATE_SECONDS = 8.0
"""From the end of a tick until what it says is carried out, beyond what the bench counts."""

TICK = 5
P95, SIGMA = 0.5, 0.8
MEDIAN = P95 / math.exp(1.6448536 * SIGMA)
FLUSH_SECONDS = 0.02
WARM_UP = 30.0


@dataclass(frozen=True)
class Harm:
    """What the canary does from its first request on. rate: of its requests that fail, besides the
    baseline's 0.1 %.  slower: times as slow, once the warm-up is over.  bar: of the bench,
    for the median: one run has to have usual luck.  before: seconds of traffic beforehand."""

    per_second: float
    bar: float
    rate: float = 0.0
    slower: float = 1.0
    schedule: str = "standard"
    before: float = 60.0
    seed: int = 1


@dataclass
class Service:
    """Both versions of a service, each a process's client, behind a balancer that draws lots."""

    site: Judged
    harm: Harm
    clients: dict[str, sortition.Client] = field(default_factory=dict)
    first: float | None = None
    """Second at which the canary had its first request."""

    def __post_init__(self) -> None:
        harm = self.harm
        self.chance = Random(f"{harm.per_second}/{harm.rate}/{harm.slower}/{harm.seed}")

    def tick(self) -> None:
        """Serve for five seconds and have all of it reported."""
        clock, number = self.site.clock, poisson(self.chance, self.harm.per_second * TICK)
        began = clock.seconds
        for _ in range(number):
            self._serve("2" if self.chance.random() < self.site.weight / 100 else "1")
        clock.seconds = began + TICK
        eventually(lambda: self._reported() == number, 20)

    def _reported(self) -> int:
        """Return how many requests of the tick that ended just now are in the store."""
        end, subject = int(moment(self.site.clock.now())), ("production", service_subject("api"))
        found = self.site.store.ticks([subject], since=end - TICK, until=end)
        return sum(totals.requests for totals in found.get(subject, {}).get(end, {}).values())

    def _serve(self, version: str) -> None:
        canary = version == "2"
        now = self.site.clock.seconds
        if canary and self.first is None:
            self.first = now
        warm = self.first is not None and now >= self.first + WARM_UP
        slower = self.harm.slower if canary and warm else 1.0
        fails = self.chance.random() < 0.001 or (canary and self.chance.random() < self.harm.rate)
        seconds = slower * MEDIAN * math.exp(SIGMA * self.chance.gauss(0, 1))
        with self.clients[version].request(f"{self.chance.getrandbits(64):x}") as request:
            request.is_enabled(FLAG)
            request.began -= seconds
            if fails:
                request.fail()


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports go off as soon as a tick has ended by the turned clock, not by the real one."""
    monkeypatch.setattr(worker.Worker, "_until_flush", lambda *_: FLUSH_SECONDS)
    monkeypatch.setattr(worker, "FIRST_FLUSH_SECONDS", FLUSH_SECONDS)


@pytest.fixture
def services(brisk: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Return what makes a service whose canary does a harm."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        store = stack.enter_context(RedisStore(redis.url))
        site = Judged(directory=tmp_path, over=store, reports=False)
        now = lambda: moment(site.clock.now())  # noqa: E731
        monkeypatch.setattr(sortition.client, "Outcomes", partial(Outcomes, now=now))
        site.services.snapshots.load()
        app = create_app(site.services, Settings())
        url = stack.enter_context(following(app, site.services, Hub()))
        key = site.services.tokens.create(
            NewToken(scope="sdk", environment="production"), ADMIN
        ).text

        def made(harm: Harm) -> Service:
            service = Service(site, harm)
            for version in ("1", "2"):
                resource = {"service.name": "api", "service.version": version}
                client = sortition.Client(url, key=key, resource=resource)
                stack.callback(client.close, 0)
                assert client.wait_ready(5)
                service.clients[version] = client
            return service

        yield made


def found_after(service: Service, most: float) -> float:
    """Roll out; return how long it took from the canary's first request (of a slow one: from the
    end of its warm-up) until it was taken back."""
    site = service.site
    for _ in range(int(service.harm.before / TICK)):
        service.tick()
    targets = [{**RULE.to_body(), "mode": "drive"}]
    id = site.start(targets=targets, schedule=service.harm.schedule, guards=STANDARD)
    while not site.rollout(id).state.shown.terminal:
        assert service.first is None or site.clock.seconds < service.first + most + 60
        site.controller.tick()
        service.tick()
    rollout = site.rollout(id)
    assert rollout.state is State.ROLLED_BACK
    assert rollout.rollback is not None
    assert rollout.rollback.row == "harm proven", rollout.rollback.reason
    assert service.first is not None
    onset = service.first + (WARM_UP if service.harm.slower > 1 else 0.0)
    return rollout.rollback.detected - moment(site.clock.now()) + site.clock.seconds - onset


PLAN = f"{first_share(10, 300) * 100:g}%:15m,50%:15m,100%"


@pytest.mark.parametrize(
    "harm",
    [
        Harm(100, 10, rate=0.2, seed=2),
        *(
            pytest.param(harm, marks=pytest.mark.slow)
            for harm in (
                Harm(100, 70, rate=0.019, seed=3),
                Harm(1000, 20, rate=0.009, before=20, seed=4),
                Harm(10, 40, rate=0.2, seed=1),
                Harm(10, 260, rate=0.019, schedule=PLAN, seed=3),
                Harm(100, 35, slower=2.0, before=300, seed=2),
            )
        ),
    ],
    ids=lambda harm: f"{harm.per_second:g}/s-{harm.rate:g}-x{harm.slower:g}",
)
def test_harm_is_found_as_soon_as_the_bench_says(services: Any, harm: Harm) -> None:
    assert found_after(services(harm), harm.bar) <= harm.bar + LATE_SECONDS


@pytest.mark.slow
def test_nobody_is_blamed_who_is_well(services: Any) -> None:
    service = services(Harm(100, math.inf))
    for _ in range(12):
        service.tick()
    site = service.site
    id = site.start(
        targets=[{**RULE.to_body(), "mode": "drive"}],
        schedule="25%:3m,50%:3m,100%",
        guards=STANDARD,
    )
    while not site.rollout(id).state.shown.terminal:
        assert site.clock.seconds < 900
        site.controller.tick()
        service.tick()
    assert site.rollout(id).state is State.COMPLETED
