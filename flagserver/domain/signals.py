"""What a guard watches, how it is asked for, and what comes back: points of two arms.

Nothing here says what is good or bad; `guards` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .documents import Body

Setting = str | int | float | bool | tuple[str, ...]
"""What a signal's or a target's setting may be: it compares, hashes, and is plain JSON."""


class Measure(StrEnum):
    """What a point's value is, and so its unit and which way is worse."""

    RATE = "rate"
    """Failed of all, a fraction 0..1; `sample` and `failures` are the counts behind it."""
    LATENCY = "latency"
    """A quantile of durations, SECONDS (never milliseconds); `sample`: how many durations."""
    UNHEALTHY_HOSTS = "unhealthy_hosts"
    """How many hosts fail their health check."""
    HEALTHY_RATIO = "healthy_ratio"
    """Healthy hosts of all, a fraction 0..1: here less is worse."""
    ALARM = "alarm"
    """1 while any of the named alarms is firing, 0 while all are well; insufficient data: None."""
    VALUE = "value"
    """Any other number, in the unit of whoever made it."""

    @property
    def less_is_worse(self) -> bool:
        """Tell whether a value below the limit is the bad one."""
        return self is Measure.HEALTHY_RATIO


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing to watch. source: the name of a `ports.SignalSource`; settings: what that source
    needs to find it, sorted by name (build with `of`)."""

    source: str
    measure: Measure
    settings: tuple[tuple[str, Setting], ...] = ()

    @classmethod
    def of(cls, source: str, measure: Measure, **settings: Setting) -> Signal:
        """Return a signal with these settings."""
        return cls(source, measure, freeze(settings))

    def get(self, name: str) -> Setting | None:
        """Return one setting, or None."""
        return dict(self.settings).get(name)

    @classmethod
    def from_body(cls, body: Body) -> Signal:
        """Return the signal that `to_body` wrote down."""
        return cls(body["source"], Measure(body["measure"]), freeze(body["settings"]))

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "source": self.source,
            "measure": str(self.measure),
            "settings": thaw(self.settings),
        }


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to a source: this signal, of this service, over the last so many seconds.

    version: `service.version` of the canary; whoever reports another one is the control arm.
    None: the rollout ships no new version, and the arms are the variants of `flag` (drawn against
    rest).
    period_seconds: the length of one point; the window holds window_seconds / period_seconds.
    """

    signal: Signal
    environment: str
    service: str
    version: str | None
    window_seconds: int
    period_seconds: int = 60
    flag: str | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One data point of one arm.

    at: unix second at which its period ended.  value: see `Measure`; None says that there is no
    data, which is NEVER 0: a source that finds no requests answers None, not a rate of 0. Nor may
    it be NaN or infinite: that is no data either.
    sample: how many requests it rests on, failures: how many of them failed; None where unknown.
    """

    at: float
    value: float | None
    sample: int | None = None
    failures: int | None = None

    @classmethod
    def rate(cls, at: float, *, sample: int, failures: int) -> Point:
        """Return a point of `Measure.RATE`; without any request there is no data."""
        return cls(at, failures / sample if sample else None, sample, failures)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a source answers to one `Ask`: the newest points of each arm, oldest first.

    control: empty where there is no second arm to compare with.
    error: why nothing could be measured, a sentence for people; the points are empty then.
    pooled: the source cannot tell the arms apart, and `canary` holds both together.
    """

    canary: tuple[Point, ...] = ()
    control: tuple[Point, ...] = ()
    error: str | None = None
    pooled: bool = False


def freeze(settings: Mapping[str, Any]) -> tuple[tuple[str, Setting], ...]:
    """Return settings as a sorted tuple, lists as tuples: something that hashes."""
    return tuple(
        (name, tuple(value) if isinstance(value, (list, tuple)) else value)
        for name, value in sorted(settings.items())
    )


def thaw(settings: tuple[tuple[str, Setting], ...]) -> dict[str, Any]:
    """Return frozen settings as JSON has them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings}
