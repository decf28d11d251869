"""A house in which rollouts go on: a controller over fakes, and a clock that catches up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flagserver.bootstrap import Outside, build_steering
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.rollout import Rollout
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.signals import Measure, Measured, Point, Signal
from flagserver.domain.targets import Target
from flagserver.domain.times import moment
from flagserver.ports import TargetDriver
from flagserver.services.steering import Steering
from flagserver.settings import Settings
from flagserver.system import SystemEntropy
from tests.builders import SURE
from tests.fakes import FakeSignalSource, FakeTargetDriver
from tests.followers import FakeFollower

from .house import ANA, House

RULE = Target.of(
    "alb",
    "arn:aws:elasticloadbalancing:eu-west-1:1:listener-rule/app/web/5b1f/9ac2/77d0",
    canary="arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/green/77d0",
    stable="arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/blue/9ac2",
)
RATE = Signal.of("cloudwatch", Measure.RATE)
LATENCY = Signal.of("cloudwatch", Measure.LATENCY, quantile=0.95)
ALARM = Signal.of("cloudwatch", Measure.ALARM, alarms=("shop-errors",))
BASKETS = Signal.of("cloudwatch", Measure.RATE, metric="baskets")

APPROVED = {"steps": [{"share": 10, "hold": "1m", "approval": True}, {"share": 100}]}

CALM = {RATE: (0.0033, 0.0028), LATENCY: (0.42, 0.398), BASKETS: (None, None)}
BAD = {RATE: (0.062, 0.0028), LATENCY: (0.61, 0.398), BASKETS: (None, None)}


def guards(period: int = 60) -> list[dict[str, Any]]:
    """Return three guards; nobody reports what the last one watches, and that is passed over."""
    return [
        {"name": "http errors", "signal": RATE.to_body(), "limit": 0.01, "period": period},
        {"name": "p95 latency", "signal": LATENCY.to_body(), "limit": 1.0, "period": period},
        {
            "name": "abandoned baskets",
            "signal": BASKETS.to_body(),
            "limit": 0.1,
            "no_data": "pass",
            "period": period,
        },
    ]


@dataclass
class RollingHouse(House):
    """A house with a controller, which keeps its journal on `disk`.

    shown: what both arms report from now on, by signal.  period: seconds of one data point.
    """

    disk: Path = field(kw_only=True)
    driver: FakeTargetDriver = field(default_factory=FakeTargetDriver)
    follower: FakeFollower = field(default_factory=FakeFollower)
    source: FakeSignalSource = field(default_factory=FakeSignalSource)
    shown: dict[Signal, tuple[float | None, float | None]] = field(default_factory=lambda: CALM)
    period: int = 60

    def __post_init__(self) -> None:
        sources = [self.source, FakeSignalSource("outcomes"), FakeSignalSource("hosts")]
        self.driver.add(RULE)
        drivers: dict[str, TargetDriver] = {"alb": self.driver, "codedeploy": self.follower}
        self.outside = Outside(drivers, {each.name: each for each in sources})
        super().__post_init__()
        self._points: dict[Signal, list[tuple[float, float | None, float | None]]] = {}
        self.controller = self.new_controller()

    def new_controller(self) -> Steering:
        return build_steering(
            Settings(data_dir=self.disk),
            *(self.store, self.services, "first", self.clock, SystemEntropy(), self.outside),
        )

    def start(self, **told: Any) -> str:
        """Start a rollout of a flag and an ALB rule; return its id."""
        body = {
            "environment": "production",
            "service": "api",
            "version": "2026.11.28-3",
            "targets": [{"kind": "flag", "name": "fast-search"}, {**RULE.to_body()}],
            "guards": guards(self.period),
            **SURE,
            **told,
        }
        command = NewRollout.model_validate(body)
        return self.services.rollouts.start(command, ANA).rollout.id

    def rollout(self, id: str) -> Rollout:
        return self.services.rollouts.get(id, ANA).rollout

    def hold(self, id: str, reason: str | None = None) -> None:
        self.services.rollouts.hold(id, Reasoned(reason=reason), ANA)

    def resume(self, id: str) -> None:
        revision = self.services.rollouts.get(id, ANA).revision
        command = Enlarging(reason="looks well", confirm_environment="production")
        self.services.rollouts.resume(id, command, revision, ANA)

    def roll_back(self, id: str, reason: str | None = None) -> None:
        self.services.rollouts.roll_back(id, Reasoned(reason=reason), ANA)

    def tick(self) -> None:
        self._report()
        self.controller.tick()

    def catch_up(self, seconds: float) -> None:
        """Let so many of the seconds pass that the clock is late, with a tick every five."""
        end = max(0.0, self.clock.late - seconds)
        self.tick()
        while self.clock.late > end:
            self.clock.late = max(end, self.clock.late - 5.0)
            self.tick()

    @contextmanager
    def controlled(self, every: float = 0.2) -> Iterator[None]:
        """Keep a controller going in a thread, as a process would."""
        over = threading.Event()

        def work() -> None:
            while not over.wait(every):
                self.tick()

        thread = threading.Thread(target=work, name="a controller of a test")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _report(self) -> None:
        now = moment(self.clock.now())
        for signal, arms in self.shown.items():
            points = self._points.setdefault(signal, [])
            newest = points[-1][0] if points else now - now % self.period - 3 * self.period
            while newest + self.period <= now:
                newest += self.period
                points.append((newest, *arms))
            del points[:-200]
            self.source.answers[signal] = Measured(
                canary=tuple(_point(signal, at, canary) for at, canary, _ in points),
                control=tuple(_point(signal, at, control) for at, _, control in points),
            )


def _point(signal: Signal, at: float, value: float | None) -> Point:
    if value is None:
        return Point(at, None)
    if signal.measure is Measure.RATE:
        return Point.rate(at, sample=9_204, failures=round(value * 9_204))
    return Point(at, value, 9_204)


def furnish_rollouts(house: RollingHouse) -> dict[str, str]:
    """Give a house rollouts in many states; return name -> id."""
    ids = {}
    known = {view.flag.key for view in house.services.flags.all()}
    for key in ("fast-search", "checkout", "dark-mode", "big-pages", "fast-login"):
        if key not in known:
            house.flag(key, description=f"What {key} does", owner="search")

    def flag_only(key: str, **told: Any) -> dict[str, Any]:
        moved = {"targets": [{"kind": "flag", "name": key}], "service": "shop", "version": None}
        return {**moved, **told}

    house.clock.late = 7200.0
    ids["done"] = house.start(**flag_only("dark-mode", schedule="50%:1m,100%:1m"))
    house.catch_up(400)
    ids["back"] = house.start(version="2026.11.27-9")
    house.catch_up(420)
    house.shown = BAD
    house.catch_up(240)
    house.shown = CALM
    house.clock.late = 900.0
    ids["by hand"] = house.start(**flag_only("fast-login"))
    house.catch_up(60)
    house.roll_back(ids["by hand"])
    house.catch_up(20)
    ids["paused"] = house.start(**flag_only("checkout", environment="staging"))
    house.catch_up(60)
    house.hold(ids["paused"], "the shop is on television")
    ids["approval"] = house.start(
        **flag_only(
            "big-pages",
            schedule=APPROVED,
        )
    )
    house.catch_up(140)
    house.clock.late = 580.0
    ids["running"] = house.start()
    house.catch_up(580)
    return ids
