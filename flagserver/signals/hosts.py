"""Hosts behind a load balancer, as the balancer itself sees them: faster than CloudWatch's minutes.

A signal's settings are `canary`, the ARN of a target group, and `stable`, one to compare with. Each
look is a probe, DescribeTargetHealth once for each group; a process remembers its last probes, and
an answer has those that lie at least a period apart. A process that has just begun has one.

AWS has no call for many groups, and a process has its allowance. Where that is not enough for all,
each group is looked at every few looks, and between them its window is told as it is remembered.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flagserver.aws import Arn, Aws, AwsError, AwsRefused, AwsThrottled
from flagserver.domain.errors import Invalid
from flagserver.domain.signals import Ask, Measure, Measured, Point, Signal

SETTINGS = frozenset({"canary", "stable"})
MEASURES = frozenset({Measure.UNHEALTHY_HOSTS, Measure.HEALTHY_RATIO})

HEALTHY = frozenset({"healthy"})
UNHEALTHY = frozenset({"unhealthy", "unhealthy.draining"})
"""Targets in other states (initial, draining, unused, unavailable) get no verdict of the balancer's
and count on neither side."""

MEASURE_SECONDS = 5.0
"""After so long no further group is looked at in one look; the next one begins with those."""

PROBES = 128
"""How many probes of a group are remembered."""

FORGET_SECONDS = 3600.0
"""When a group that nobody asks about any more is forgotten."""


@dataclass(frozen=True, slots=True)
class Probe:
    """How many hosts of a group were how, at a unix second."""

    at: float
    healthy: int
    unhealthy: int

    def point(self, measure: Measure) -> Point:
        """Return it as a data point. A group without judged hosts has no data."""
        total = self.healthy + self.unhealthy
        if not total:
            return Point(self.at, None)
        if measure is Measure.HEALTHY_RATIO:
            return Point(self.at, self.healthy / total)
        return Point(self.at, float(self.unhealthy))


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a group could not be looked at. left_out: because there are too many, and not because
    anything is wrong with it."""

    said: str
    left_out: bool


class Hosts:
    """`ports.SignalSource` for the targets of target groups."""

    name = "hosts"

    def __init__(self, aws: Aws, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._aws = aws
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._probes: dict[str, deque[Probe]] = {}

    def check(self, signal: Signal) -> None:
        """Raise Invalid unless the groups exist. AWS not answering refuses nothing."""
        for name, group in groups_of(signal).items():
            try:
                self._look(group, 0.0)
            except AwsRefused as error:
                if error.code == "TargetGroupNotFound":
                    raise Invalid(f"{group} does not exist.", field=f"/settings/{name}") from None
            except AwsError:
                return

    def measure(self, asks: Sequence[Ask], now: float) -> Mapping[Ask, Measured]:
        """Return an answer to every ask, looking once at each group. Never raises."""
        answers: dict[Ask, Measured] = {}
        wanted: dict[Ask, dict[str, str]] = {}
        for ask in asks:
            try:
                wanted[ask] = groups_of(ask.signal)
            except Invalid as error:
                answers[ask] = Measured(error=error.detail)
        everywhere = {group for groups in wanted.values() for group in groups.values()}
        failed = self._probe(everywhere, now)
        for ask, groups in wanted.items():
            answers[ask] = self._answer(ask, groups, failed, now)
        return answers

    def _answer(
        self, ask: Ask, groups: Mapping[str, str], failed: Mapping[str, Failed], now: float
    ) -> Measured:
        points = {name: self._points(group, ask, now) for name, group in groups.items()}
        for name, group in groups.items():
            why = failed.get(group)
            if why is not None and not (why.left_out and points[name]):
                return Measured(error=why.said)
        return Measured(points["canary"], points.get("stable", ()))

    def _probe(self, groups: Iterable[str], now: float) -> dict[str, Failed]:
        """Look at groups, longest not seen first; return why some could not be looked at."""
        failed: dict[str, Failed] = {}
        deadline = self._monotonic() + MEASURE_SECONDS
        for group in sorted(groups, key=lambda each: (self._seen(each), each)):
            if self._monotonic() >= deadline:
                failed[group] = Failed(f"{group} was not looked at: no time was left.", True)
                continue
            try:
                probe = self._look(group, now)
            except AwsError as error:
                failed[group] = Failed(str(error), isinstance(error, AwsThrottled))
                continue
            with self._lock:
                self._probes.setdefault(group, deque(maxlen=PROBES)).append(probe)
        with self._lock:
            newest = {group: probes[-1].at for group, probes in self._probes.items()}
            for group in [each for each, at in newest.items() if at < now - FORGET_SECONDS]:
                del self._probes[group]
        return failed

    def _seen(self, group: str) -> float:
        with self._lock:
            probes = self._probes.get(group)
            return probes[-1].at if probes else 0.0

    def _look(self, group: str, now: float) -> Probe:
        told = self._aws.read(
            "elbv2", "describe_target_health", Arn.parse(group).region, TargetGroupArn=group
        )
        states = [each["TargetHealth"]["State"] for each in told["TargetHealthDescriptions"]]
        return Probe(
            now,
            healthy=sum(state in HEALTHY for state in states),
            unhealthy=sum(state in UNHEALTHY for state in states),
        )

    def _points(self, group: str, ask: Ask, now: float) -> tuple[Point, ...]:
        """Return the newest probe, the newest at least a period older, and so on, oldest first."""
        with self._lock:
            probes = list(self._probes.get(group, ()))
        chosen: list[Point] = []
        before = float("inf")
        for probe in reversed(probes):
            if now - ask.window_seconds < probe.at <= min(now, before - ask.period_seconds):
                chosen.append(probe.point(ask.signal.measure))
                before = probe.at
        return tuple(reversed(chosen))


def groups_of(signal: Signal) -> dict[str, str]:
    """Return setting -> target group of a signal. Raises Invalid, naming the setting."""
    if signal.measure not in MEASURES:
        names = " and ".join(sorted(MEASURES))
        raise Invalid(f"hosts measures {names}, not {signal.measure}.", field="/measure")
    groups: dict[str, str] = {}
    for name, text in signal.settings:
        if name not in SETTINGS:
            raise Invalid(
                f"hosts has the settings canary and stable, not {name}.", field=f"/settings/{name}"
            )
        try:
            arn = Arn.parse(str(text))
        except ValueError as error:
            raise Invalid(str(error), field=f"/settings/{name}") from None
        if arn.kind != "targetgroup":
            raise Invalid(f"{text} is no target group.", field=f"/settings/{name}")
        groups[name] = str(text)
    if "canary" not in groups:
        raise Invalid("hosts needs canary, a target group.", field="/settings/canary")
    return groups
