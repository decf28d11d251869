"""Rollouts in situations that one meets rarely, for the pages that show them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from flagserver.domain.engines import Event, Lane, Phase
from flagserver.domain.outcomes import Row, flag_subject, histogram_edges, service_subject
from flagserver.domain.signals import Measure, Signal
from flagserver.domain.targets import Target
from flagserver.domain.times import moment
from flagserver.signals.outcomes import OutcomesSource
from tests.followers import FakeDeployment

from .rolling import CALM, RATE, RollingHouse, guards

ECS, FAILING_ECS, HELD_ECS = "shop-ecs/green", "pay-ecs/green", "web-ecs/blue"
STRIP = Target.of("alb", "arn:strip", canary="arn:green", stable="arn:blue")
SILENT = Signal.of("cloudwatch", Measure.RATE, metric="silent")
OUTAGE = Signal.of("cloudwatch", Measure.RATE, metric="outage")
ODD = Signal.of("cloudwatch", Measure.RATE, metric="odd")
SECONDS = 480
REQUESTS = 400
"""That the shop serves in five seconds."""

FAILS_EVERY = 500
"""Of so many requests one fails."""

LIFECYCLE = (
    *(("BeforeInstall", 4), ("Install", 96), ("AfterInstall", 9), ("AllowTestTraffic", 3)),
    *(("AfterAllowTestTraffic", 31), ("BeforeAllowTraffic", 4), ("AllowTraffic", None)),
    ("AfterAllowTraffic", None),
)
"""The events of a blue/green deployment on ECS, with the seconds that they took."""


@dataclass
class Deployment(FakeDeployment):
    """A deployment that tells of itself what CodeDeploy does. began: unix seconds.

    failed: the event that failed, with what is said of it.
    """

    began: float = 0.0
    failed: tuple[str, str] | None = None

    @property
    def lane(self) -> Lane:
        return replace(
            super().lane,
            engine="CodeDeploy",
            status="Stopped" if self.failed else "InProgress",
            events=tuple(self._events()),
            back_status="InProgress" if self.back else None,
        )

    def _events(self) -> list[Event]:
        at, found, over = self.began, [], False
        for name, took in LIFECYCLE:
            message, status, ended = None, "Pending", None
            if self.failed is not None and self.failed[0] == name:
                status, ended, message, over = "Failed", at + 12, self.failed[1], True
            elif over:
                status = "Skipped"
            elif took is not None or self.failed is not None:
                status, ended = "Succeeded", at + (took or 60)
            elif name == "AllowTraffic" and self.share:
                status = "InProgress"
            began = at if status in {"Succeeded", "Failed", "InProgress"} else None
            found.append(Event(self.id, name, status, began, ended, message))
            at = ended or at
        if self.back is not None:
            done = at + 20
            found += [
                Event(self.back, "Install", "Skipped"),
                Event(self.back, "AllowTraffic", "Succeeded", at, done),
            ]
        return found


def _guard(name: str, signal: Signal, **told: Any) -> dict[str, Any]:
    return {"name": name, "signal": signal.to_body(), "limit": 0.01, **told}


def _engine(name: str) -> dict[str, Any]:
    return {"kind": "codedeploy", "name": name}


def furnish_situations(house: RollingHouse) -> dict[str, str]:
    """Give a house rollouts that follow CodeDeploy, hold for every sort of reason, could not be
    taken back, keep a control, or hold a split; return name -> id."""
    keys = (
        "follows",
        "waits",
        "wide",
        "odd",
        "shared",
        "bakes",
        "splits",
        "strip",
        "killed",
        "held",
    )
    for key in keys:
        house.flag(key, description=f"What {key} does", owner="search")
    house.outside.sources["outcomes"] = OutcomesSource(  # type: ignore[union-attr,index]
        house.store, lambda *_: "off", edges=histogram_edges(), settle_seconds=1.0
    )
    house.driver.add(STRIP)
    house.shown = {**CALM, SILENT: (None, None), OUTAGE: (0.07, 0.07), ODD: (0.03, 0.0028)}
    house.clock.late = SECONDS
    ids: dict[str, str] = {}

    def start(name: str, key: str, *, guarded: Any = None, **told: Any) -> None:
        moved = {"targets": [{"kind": "flag", "name": key}], "service": "shop", "version": None}
        ids[name] = house.start(
            **{**moved, "guards": guarded or [_guard("http errors", RATE)], **told}
        )

    begun = moment(house.clock.now())
    green = Deployment("d-4F7A1C9QK", steps="10%:5m,100%", began=begun)
    red = Deployment("d-9B2KX7M3E", steps="10%:5m,100%", began=begun)
    held = Deployment("d-7H2PQ5L8R", steps="10%:5m,100%", began=begun)
    house.follower.groups |= {ECS: green, FAILING_ECS: red, HELD_ECS: held}
    start(
        *("followed", "follows"),
        guarded=guards(house.period),
        targets=[_engine(ECS), {"kind": "flag", "name": "follows"}],
        version="2026.11.28-7",
    )
    start(
        *("engine broke off", "follows"),
        targets=[_engine(FAILING_ECS)],
        service="pay",
        version="2026.11.28-2",
    )
    start(
        *("held", "held"),
        targets=[_engine(HELD_ECS), {"kind": "flag", "name": "held"}],
        service="web",
        version="3.2",
    )
    start("no data", "waits", guarded=[_guard("http errors", SILENT)])
    start("outage", "shared", guarded=[_guard("http errors", OUTAGE)])
    start("limit", "odd", guarded=[_guard("http errors", ODD, on_breach="hold")])
    start("killed", "killed", guarded=[_guard("http errors", RATE)])
    until = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    start("split", "splits", guarded="standard", schedule="10%:1m,50%:end", until=until)
    start("baking", "bakes", schedule="50%:1m,100%:30m:keep=1%")
    start("undecided", "wide", schedule="5%:1m,100%:5m", guarded=[_guard("http errors", SILENT)])
    start("rollback failed", "strip", targets=[{**STRIP.to_body()}], service="web", version="3.1")
    shop = _Shop(house)
    for passed in range(0, SECONDS, 5):
        if passed == 120:
            green.phase, green.share = Phase.SHIFTING, 100_000
            red.phase, red.share = Phase.SHIFTING, 100_000
            held.phase, held.share = Phase.SHIFTING, 100_000
        if passed == 200:
            house.hold(ids["held"], "the shop is on television")
            red.failed = "AfterAllowTraffic", "Lambda smoke-tests: expected 200 of /pay, got 502."
            red.phase, red.back = Phase.GOING_BACK, "d-2C8QK1V0P"
            red.reason = "CodeDeploy stopped d-9B2KX7M3E: the hook AfterAllowTraffic failed."
        if passed == 260:
            red.phase, red.share = Phase.GONE_BACK, 0
        if passed == 220:  # well before the end of the first step
            house.kill("killed")
            house.driver.weights[STRIP.name].owner = "CodeDeploy group web-ecs/green"
            held.share, held.phase = 1_000_000, Phase.WATCHING
        if passed == 360:
            house.roll_back(ids["rollback failed"], "users report empty pages")
        shop.serve()
        house.catch_up(5)
    return ids


@dataclass
class _Shop:
    """A shop that reports its requests: who is exposed to a flag fails as seldom as everybody else,
    by no chance at all."""

    house: RollingHouse
    served: dict[str, int] = field(default_factory=lambda: {"on": 0, "off": 0})

    def serve(self) -> None:
        """Report five seconds."""
        at = int(moment(self.house.clock.now()))
        exposed = round(REQUESTS * self.house.state("splits")[0] / 100)
        counts = {"on": exposed, "off": REQUESTS - exposed}
        failed = {name: self._failed(name, count) for name, count in counts.items()}
        latencies = _spread(REQUESTS)
        rows = [Row(service_subject("shop"), "1", at, 0, REQUESTS, sum(failed.values()), latencies)]
        rows += [
            Row(
                *(flag_subject("splits"), name, at, count, count, failed[name], _spread(count)),
                service="shop",
                version="1",
            )
            for name, count in counts.items()
        ]
        about = {"service.name": "shop", "service.version": "1", "instance": "77d0", "seen": at}
        self.house.store.add("production", "77d0:1", at, rows, about)

    def _failed(self, name: str, count: int) -> int:
        before = self.served[name] // FAILS_EVERY
        self.served[name] += count
        return self.served[name] // FAILS_EVERY - before


def _spread(requests: int) -> dict[int, int]:
    """Return latencies: one in ten three buckets slower."""
    slow = requests // 10
    return {58: requests - slow, 61: slow} if slow else {58: requests}
