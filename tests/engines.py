"""A whole rollout engine over fakes: time is turned, and every tick is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakeredis

from flagserver import bootstrap
from flagserver.bootstrap import Outside
from flagserver.domain.documents import Idempotency
from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.rollout import TICK_SECONDS, Rollout
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.signals import Measure, Measured, Point, Signal
from flagserver.domain.targets import Target
from flagserver.domain.times import moment
from flagserver.services import Services
from flagserver.services.rollouts import Rollouts
from flagserver.services.steering import Steering
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from flagserver.telemetry import Telemetry

from .builders import ADMIN, SURE, House
from .fakes import FakeSignalSource, FakeTargetDriver

RULE = Target.of("alb", "arn:rule", canary="arn:green", stable="arn:blue")
FLAG = "new-search"
ERRORS = Signal.of("cloudwatch", Measure.RATE)
GUARD = {
    "name": "errors",
    "signal": {"source": "cloudwatch", "measure": "rate"},
    "limit": 0.01,
}


def a_rollout(**told: Any) -> NewRollout:
    """Return a rollout of one flag and one ALB rule by the standard schedule, with one guard."""
    return NewRollout.model_validate(a_body(**told))


def a_body(**told: Any) -> dict[str, Any]:
    """Return it as a request's body."""
    return {
        "environment": "production",
        "service": "api",
        "version": "2",
        "targets": [
            {"kind": "flag", "name": FLAG},
            {**RULE.to_body(), "mode": "drive"},
        ],
        "guards": [GUARD],
        **SURE,
        **told,
    }


@dataclass
class Engine(House):
    """A server with everything that lies outside of it in memory, and any number of controllers.

    rates: (canary, control) failure rates of every point from now on; None: no data.
    over: a store of the test's own, instead of one in memory.  telemetry: of the first process.
    """

    directory: Path = field(kw_only=True)
    driver: FakeTargetDriver = field(default_factory=FakeTargetDriver)
    source: FakeSignalSource = field(default_factory=FakeSignalSource)
    rates: tuple[float | None, float | None] = (0.0, 0.0)
    over: RedisStore | None = None
    telemetry: Telemetry | None = None

    def __post_init__(self) -> None:
        self.redis = fakeredis.FakeServer()
        self.store = self.over or RedisStore.over(
            fakeredis.FakeRedis(server=self.redis), pause=lambda _: None
        )
        self.driver.monotonic = self.clock.monotonic
        self.driver.add(RULE)
        self.outside = Outside({"alb": self.driver}, {"cloudwatch": self.source})
        super().__post_init__()
        self.create(FLAG)
        self._points: list[tuple[float, float | None, float | None]] = []
        self.controller = self.new_controller()

    def another_process(self, store: Any = None, telemetry: Telemetry | None = None) -> Services:
        """Return services as another process on the same store has them."""
        store = self.store if store is None else store
        return bootstrap.build_services(
            *(Settings(), store, self.clock, self.entropy),
            outside=self.outside,
            telemetry=telemetry or self.telemetry,
        )

    def new_controller(
        self, holder: str = "first", store: Any = None, telemetry: Telemetry | None = None
    ) -> Steering:
        """Return another controller, with a disk of its own."""
        return bootstrap.build_steering(
            Settings(data_dir=self.directory / holder),
            self.store if store is None else store,
            self.services,
            holder,
            self.clock,
            self.entropy,
            self.outside,
            telemetry or self.telemetry,
        )

    @property
    def rollouts(self) -> Rollouts:
        """The use cases."""
        return self.services.rollouts

    def start(self, idempotency: Idempotency | None = None, **told: Any) -> str:
        """Start a rollout; return its id."""
        return self.rollouts.start(a_rollout(**told), ADMIN, idempotency).rollout.id

    def rollout(self, id: str) -> Rollout:
        """Return it as it is kept."""
        return self.rollouts.get(id, ADMIN).rollout

    def tick(self, controller: Steering | None = None) -> None:
        """Run one tick of a controller, with what the services report at this time."""
        self._report()
        with suppress(StoreUnavailable):
            (controller or self.controller).tick()

    def run(self, seconds: float, controller: Steering | None = None) -> None:
        """Turn the clock so far, ticking every five seconds; and once before it moves."""
        self.tick(controller)
        end = self.clock.seconds + seconds
        while self.clock.seconds < end:
            self.clock.seconds = min(end, self.clock.seconds + TICK_SECONDS)
            self.tick(controller)

    def let_leases_end(self) -> None:
        """Let every lease run out: the store's own time is not turned."""
        client = fakeredis.FakeRedis(server=self.redis)
        for key in client.scan_iter("{sortition}:lease:*"):
            client.delete(key)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let nothing reach the store meanwhile."""
        self.redis.connected = False
        try:
            yield
        finally:
            self.redis.connected = True

    @property
    def weight(self) -> float:
        """The percent of traffic that really goes to the canary."""
        return self.driver.weights[RULE.name].share / 10_000

    @property
    def share(self) -> float:
        """The flag's share, in percent."""
        state = self.flags.state(FLAG, "production").state
        return 0.0 if state.killed else state.share / 10_000

    def entries(self, id: str) -> list[Mapping[str, Any]]:
        """Return the rollout's entries in the record, oldest first."""
        found: Sequence[Mapping[str, Any]] = self.rollouts.history(id, ADMIN, limit=500)
        return list(reversed(found))

    def actions(self, id: str) -> list[str]:
        """Return what the record says happened to it, in order."""
        return [entry["action"].removeprefix("rollout:") for entry in self.entries(id)]

    def _report(self) -> None:
        now = moment(self.clock.now())
        newest = self._points[-1][0] if self._points else now - now % 60 - 60
        while newest + 60 <= now:
            newest += 60
            self._points.append((newest, *self.rates))
        self.source.answers[ERRORS] = Measured(
            canary=tuple(_point(at, canary) for at, canary, _ in self._points),
            control=tuple(_point(at, control) for at, _, control in self._points),
        )


def _point(at: float, rate: float | None) -> Point:
    if rate is None:
        return Point(at, None)
    return Point.rate(at, sample=10_000, failures=round(rate * 10_000))


def only_flag(**told: Any) -> dict[str, Any]:
    """Return what a rollout of the flag alone says otherwise."""
    return {"targets": [{"kind": "flag", "name": FLAG}], **told}
