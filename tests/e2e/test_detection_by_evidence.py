"""How soon harm is found, once through everything: real SDK clients of both versions, HTTP, Redis
and the controller, with a clock that is turned. `bench/judgement.py` has the medians of thousands.

A request's lot, its failure and its duration come from one seed. The controller looks when one that
runs does: just after a tick of five seconds has settled. For that, 8 s are added to the bench's
bars: it knows every tick at its end.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

from flagserver.controller import until_next
from flagserver.domain.commands import NewToken
from flagserver.domain.outcomes import service_subject, settle_seconds
from flagserver.domain.states import State
from flagserver.domain.times import moment
from flagserver.http.app import create_app
from flagserver.http.streams import Hub
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from tests.builders import ADMIN, FakeClock
from tests.engines import FLAG, RULE
from tests.http.api import eventually
from tests.judged import STANDARD, Judged
from tests.servers import redis_server
from tests.serving import following

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.timeout(900)]

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
    baseline's 0.1 %.  slower: times as slow, once the warm-up is over.  bar: of the bench, for the
    median.  runs: of other chances; as many as the median of them needs to be a median.
    before: seconds of traffic beforehand."""

    per_second: float
    bar: float
    rate: float = 0.0
    slower: float = 1.0
    schedule: str = "standard"
    before: float = 60.0
    runs: int = 1


@dataclass
class Service:
    """Both versions of a service, each a process's client, behind a balancer that draws lots."""

    site: Judged
    harm: Harm
    seed: int = 0
    clients: dict[str, sortition.Client] = field(default_factory=dict)
    first: float | None = None
    """Unix second at which the canary had its first request."""

    def __post_init__(self) -> None:
        harm = self.harm
        self.chance = Random(f"{harm.per_second}/{harm.rate}/{harm.slower}/{self.seed}")
        self._began = moment(self.site.clock.now()) - self.site.clock.seconds
        self._served = 0

    @property
    def now(self) -> float:
        """The clock's time (unix), to the millisecond: sums of tenths are not."""
        return round(self._began + self.site.clock.seconds, 3)

    def serve(self, until: float) -> None:
        """Serve until then (unix), and have each tick reported that ends by then."""
        while self.now < until:
            end = (self.now // TICK + 1) * TICK
            seconds = min(end, until) - self.now
            number = poisson(self.chance, self.harm.per_second * seconds)
            for _ in range(number):
                self._serve("2" if self.chance.random() < self.site.weight / 100 else "1")
            self._served += number
            self.site.clock.seconds = min(end, until) - self._began
            if end <= until:
                eventually(lambda: self._reported() == self._served, 20)
                self._served = 0

    def until_next_look(self) -> None:
        """Serve until a running controller looks again."""
        self.serve(round(self.now + until_next(self.now, TICK, settle_seconds(TICK)), 3))

    def _reported(self) -> int:
        """Return how many requests of the tick that ended just now are in the store."""
        end, subject = int(moment(self.site.clock.now())), ("production", service_subject("api"))
        found = self.site.store.ticks([subject], since=end - TICK, until=end)
        return sum(totals.requests for totals in found.get(subject, {}).get(end, {}).values())

    def _serve(self, version: str) -> None:
        canary = version == "2"
        if canary and self.first is None:
            self.first = self.now
        warm = self.first is not None and self.now >= self.first + WARM_UP
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
    """Return what makes a service whose canary does a harm: (harm, seed) -> Service, each within an
    installation of its own."""
    clocks: list[FakeClock] = []
    monkeypatch.setattr(
        sortition.client,
        "Outcomes",
        lambda *told, **more: Outcomes(*told, **more, now=partial(_unix, clocks[-1])),
    )
    with redis_server(tmp_path / "redis") as redis:

        @contextmanager
        def made(harm: Harm, seed: int = 0) -> Iterator[Service]:
            with ExitStack() as stack:
                redis.client().flushall()
                store = stack.enter_context(RedisStore(redis.url))
                site = Judged(directory=tmp_path / str(seed), over=store, reports=False)
                clocks.append(site.clock)
                site.services.snapshots.load()
                app = create_app(site.services, Settings())
                url = stack.enter_context(following(app, site.services, Hub()))
                service = Service(site, harm, seed)
                key = site.services.tokens.create(
                    NewToken(scope="sdk", environment="production"), ADMIN
                ).text
                for version in ("1", "2"):
                    resource = {"service.name": "api", "service.version": version}
                    client = sortition.Client(url, key=key, resource=resource)
                    stack.callback(client.close, 0)
                    assert client.wait_ready(5)
                    service.clients[version] = client
                yield service

        yield made


def _unix(clock: FakeClock) -> float:
    return moment(clock.now())


def found_after(service: Service) -> float:
    """Roll out; return how long it took from the canary's first request (of a slow one: from the
    end of its warm-up) until it was taken back."""
    site = service.site
    service.serve(service.now + service.harm.before)
    targets = [{**RULE.to_body(), "mode": "drive"}]
    id = site.start(targets=targets, schedule=service.harm.schedule, guards=STANDARD)
    while not site.rollout(id).state.shown.terminal:
        assert service.first is None or service.now < service.first + LONGEST
        site.controller.tick()
        service.until_next_look()
    rollout = site.rollout(id)
    assert rollout.state is State.ROLLED_BACK
    assert rollout.rollback is not None
    assert rollout.rollback.row == "harm proven", rollout.rollback.reason
    assert service.first is not None
    onset = service.first + (WARM_UP if service.harm.slower > 1 else 0.0)
    return rollout.rollback.detected - onset


PLAN = f"{first_share(10, 300) * 100:g}%:15m,50%:15m,100%"
LONGEST = 1500.0


@pytest.mark.parametrize(
    "harm",
    [
        Harm(100, 10, rate=0.2),
        *(
            pytest.param(harm, marks=pytest.mark.slow)
            for harm in (
                Harm(100, 70, rate=0.019, runs=25),
                Harm(100, 10, rate=0.999, runs=5),
                Harm(1000, 20, rate=0.009, before=20, runs=30),
                Harm(1000, 20, rate=0.2, before=20),
                Harm(10, 40, rate=0.2, runs=15),
                Harm(10, 260, rate=0.019, schedule=PLAN, runs=9),
                Harm(100, 35, slower=2.0, before=100, runs=15),
            )
        ),
    ],
    ids=lambda harm: f"{harm.per_second:g}/s-{harm.rate:g}-x{harm.slower:g}",
)
def test_harm_is_found_as_soon_as_the_bench_says(services: Any, harm: Harm) -> None:
    took = []
    for seed in range(harm.runs):
        with services(harm, seed) as service:
            took.append(found_after(service))

    assert statistics.median(took) <= harm.bar + LATE_SECONDS, sorted(took)


@pytest.mark.slow
def test_nobody_is_blamed_who_is_well(services: Any) -> None:
    with services(Harm(100, math.inf)) as service:
        service.serve(service.now + 60)
        site = service.site
        id = site.start(
            targets=[{**RULE.to_body(), "mode": "drive"}],
            schedule="25%:3m,50%:3m,100%",
            guards=STANDARD,
        )
        while not site.rollout(id).state.shown.terminal:
            assert site.clock.seconds < 900
            site.controller.tick()
            service.until_next_look()
        assert site.rollout(id).state is State.COMPLETED
