"""A whole server whose cloud is AWS's double over HTTP, through the real boto3; both clocks are
turned together, and every tick is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.awsfake.scene import REGION, Scene
from flagserver import alarms, bootstrap
from flagserver.bootstrap import Outside
from flagserver.domain.rollout import TICK_SECONDS
from flagserver.services import Services
from flagserver.settings import Settings
from flagserver.signals.cloudwatch import CloudWatch
from flagserver.signals.hosts import Hosts
from flagserver.targets.alb import AlbDriver
from tests.awsfake.double import T0, Double
from tests.builders import SURE, House

FLAG = "new-search"
ROLLOUTS = "/api/v1/rollouts"

Minute = Mapping[str, Any]
"""What a target group serves in a minute, as `Double.publish` takes it; empty: nothing."""

WELL: Minute = {"requests": 400, "failed": 1, "seconds": [0.2] * 40}


More = Callable[["Installation", float], None]
"""Publishes what else there is of a minute, which begins then (unix seconds)."""


@dataclass
class Installation(House):
    """A server, its controller, and a shop behind a load balancer.

    blue, green: what each side of the shop does in each minute that ends from now on.
    late: so many seconds after its end a minute is published.
    """

    aws: Double = field(kw_only=True)
    directory: Path = field(kw_only=True)
    blue: Minute = field(default_factory=dict)
    green: Minute = field(default_factory=dict)
    late: float = 0.0

    def __post_init__(self) -> None:
        self._ended: list[tuple[float, Minute, Minute, More]] = []
        self._more: More = lambda house, minute: None
        self.aws.reset()
        self.scene: Scene = self.aws.scene()
        policy = self.aws.aws()
        self.outside = Outside(
            {"alb": AlbDriver(policy, monotonic=self.clock.monotonic, sleep=lambda _: None)},
            {each.name: each for each in (CloudWatch(policy), Hosts(policy))},
        )
        super().__post_init__()
        self.create(FLAG)
        self.controller = bootstrap.build_steering(
            Settings(data_dir=self.directory),
            *(self.store, self.services, "controller", self.clock, self.entropy, self.outside),
        )

    def another_process(self, store: Any = None) -> Services:
        store = self.store if store is None else store
        return bootstrap.build_services(
            Settings(), store, self.clock, self.entropy, outside=self.outside
        )

    def body(self, **told: Any) -> dict[str, Any]:
        """Return a request for a rollout of the flag and the shop's rule, by the standard schedule,
        that nothing guards."""
        groups = {"canary": self.scene.green, "stable": self.scene.blue}
        rule = {"kind": "alb", "name": self.scene.rule, "settings": groups}
        return {
            "environment": "production",
            "service": "shop",
            "version": "2",
            "targets": [{"kind": "flag", "name": FLAG}, rule],
            "guards": "none",
            **SURE,
            **told,
        }

    def make_alarms(self, **told: Any) -> None:
        """Make the standard alarms, as `flagserver aws alarms` does."""
        aws = self.aws.aws()
        pair = alarms.pair_of(aws, self.scene.blue, self.scene.green)
        alarms.create(aws, alarms.standard(pair, **told), REGION)

    @property
    def alarm(self) -> str:
        """The one that fires when any of them does."""
        return "sortition-shop"

    # Time

    @property
    def now(self) -> float:
        """Unix seconds."""
        return T0 + self.clock.seconds

    def turn(self, seconds: float = TICK_SECONDS) -> None:
        """Let time pass; each minute that is over is published in its time."""
        before = self.now
        self.clock.seconds += seconds
        end = before - before % 60 + 60
        while end <= self.now:
            self._ended.append((end - 60, self.blue, self.green, self._more))
            end += 60
        while self._ended and self._ended[0][0] + 60 + self.late <= self.now:
            self._publish(*self._ended.pop(0))
        self.aws.turn(self.now)

    def fails(self, green: Minute, more: More) -> None:
        """Let the canary do so from now on, and publish more of each minute."""
        self.green, self._more = green, more

    def _publish(self, minute: float, blue: Minute, green: Minute, more: More) -> None:
        self.aws.publish(self.scene, self.scene.blue, minute, **blue)
        self.aws.publish(self.scene, self.scene.green, minute, **green)
        more(self, minute)

    def tick(self) -> None:
        """Run a tick, and let time pass until the next."""
        self.controller.tick()
        self.turn()

    def run_until(self, at: float) -> None:
        """Tick until then, in unix seconds."""
        while self.now < at:
            self.tick()

    # How it stands

    @property
    def weight(self) -> float:
        """The percent of traffic that the balancer really gives the canary."""
        weights = self.aws.weights(self.scene.rule)
        return 100 * weights.get(self.scene.green, 0) / sum(weights.values())

    @property
    def share(self) -> float:
        """The flag's share, in percent."""
        state = self.flags.state(FLAG, "production").state
        return 0.0 if state.killed else state.share / 10_000
