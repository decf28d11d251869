"""What is fixed before the first count comes in. Who changes it afterwards judges something
else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import isclose, isfinite
from typing import Any, TypeVar

from .calibration import LatencyNoise, RateNoise

ALPHA = 0.01
"""One budget of false rollbacks for the whole rollout: all metrics, all looks, all steps."""

BETA = 0.05
"""How often what is not acceptable may be certified, per metric and step."""

ACCEPTABLE_RATIO = 2.0
"""What is below twice the control's rate is acceptable, however high both are."""

SLOWEST = 0.05
"""The part of requests that may take longer than the limit of p95."""

MINIMUM_SAMPLE = 20


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate that is watched.

    limit: above it is too much, whatever the control has; a fraction.
    ratio_weight, limit_weight: of `HarmRatio` and `BeyondLimit` in the whole evidence.
    critical: the next step needs its `pass`.  optional: nobody may be counting it, and then it
    passes.
    minimum_sample: requests of the canary in a step without which it cannot pass.
    certified: steps (from 0) in which `pass` means certified good, because `planning` showed that
    to be attainable within their holds.
    """

    name: str
    limit: float
    ratio_weight: float
    limit_weight: float
    critical: bool = True
    optional: bool = False
    minimum_sample: int = MINIMUM_SAMPLE
    certified: tuple[int, ...] = ()
    noise: RateNoise = field(default_factory=RateNoise)

    def __post_init__(self) -> None:
        if not 0 < self.limit < 1:
            raise ValueError(f"{self.name}: a limit is a fraction between 0 and 1")
        _check_weights(self.name, self.ratio_weight, self.limit_weight)

    @property
    def weight(self) -> float:
        """Its weight in the whole evidence."""
        return self.ratio_weight + self.limit_weight


@dataclass(frozen=True, slots=True)
class Latency:
    """The latency that is watched: is the canary slower, and does p95 keep its limit.

    limit: seconds; an edge of the histogram.  warm_up: seconds from the first exposure in which
    only
    failures count: what has just started is slow.  The rest as of `Rate`.
    """

    limit: float
    slower_weight: float
    limit_weight: float
    name: str = "p95 latency"
    critical: bool = True
    optional: bool = False
    minimum_sample: int = MINIMUM_SAMPLE
    certified: tuple[int, ...] = ()
    warm_up: float = 30.0
    noise: LatencyNoise = field(default_factory=LatencyNoise)

    def __post_init__(self) -> None:
        if not 0 < self.limit < float("inf"):
            raise ValueError(f"{self.name}: a limit is above 0 s")
        _check_weights(self.name, self.slower_weight, self.limit_weight)

    @property
    def weight(self) -> float:
        """Its weight in the whole evidence."""
        return self.slower_weight + self.limit_weight


Watched = Rate | Latency


def _check_weights(name: str, *weights: float) -> None:
    if not all(isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError(f"{name}: weights are from 0, and not all of them 0")


@dataclass(frozen=True, slots=True)
class Design:
    """What one comparison is judged by.

    rates: the first one counts requests, and says whether there is data.
    edges: upper edges (seconds) of the latency's buckets.
    planned_seconds: how long the schedule takes.  steps: how many shares it has.
    calibration: where its noise was taken from, in words; "" where nobody said.
    by_causes: whether the backstop asks what failures have of causes (`evidence.BACKSTOP_SAMPLE`).
    Designs from before it did want a sample larger by as much as counts scatter.
    """

    rates: tuple[Rate, ...]
    latency: Latency | None
    edges: tuple[float, ...]
    planned_seconds: float
    steps: int
    alpha: float = ALPHA
    beta: float = BETA
    calibration: str = ""
    by_causes: bool = False

    def __post_init__(self) -> None:
        if not self.rates:
            raise ValueError("rates: at least one")
        names = [one.name for one in self.watched]
        if len(set(names)) < len(names):
            raise ValueError("rates: every name once")
        if not isclose(sum(one.weight for one in self.watched), 1.0, abs_tol=1e-9):
            raise ValueError("weights: together 1, or the budget of false alarms is not kept")
        if not 0 < self.alpha < 1 or not 0 < self.beta < 1:
            raise ValueError("alpha, beta: between 0 and 1")
        if self.planned_seconds <= 0 or self.steps < 1:
            raise ValueError("planned_seconds, steps: above 0")
        if any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges: rising")

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Everything that is watched."""
        return self.rates if self.latency is None else (*self.rates, self.latency)

    @property
    def bound(self) -> float:
        """The evidence that rolls back."""
        return 1 / self.alpha

    @property
    def hold_line(self) -> float:
        """The evidence of harm with which nothing goes up."""
        return 1 / self.beta

    def of(self, name: str) -> Watched:
        """Return what is watched under a name. Raises ValueError, which lists the known ones."""
        for one in self.watched:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.watched)
        raise ValueError(f"nothing watched is called {name!r}; there are {known}")

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it, without what says nothing: who knows no `calibration` and no
        `by_causes` reads the rest."""
        body = asdict(self)
        return {k: v for k, v in body.items() if v or k not in ("calibration", "by_causes")}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Design:
        """Return the design that `to_body` wrote down. Raises ValueError, TypeError or KeyError.

        What a newer version describes besides is passed over: what judges otherwise has a `FORMAT`
        of its own (`trial`).
        """
        known = {each.name for each in fields(cls)}
        rates = tuple(_watched(Rate, RateNoise, one) for one in body["rates"])
        latency = body["latency"]
        return cls(
            **{
                **{name: value for name, value in body.items() if name in known},
                "rates": rates,
                "latency": None if latency is None else _watched(Latency, LatencyNoise, latency),
                "edges": tuple(body["edges"]),
            }
        )


def _watched(kind: Any, noise: Any, body: Mapping[str, Any]) -> Any:
    return kind(**{**body, "noise": noise(**body["noise"]), "certified": tuple(body["certified"])})


HTTP_ERRORS, P95_LATENCY = "http errors", "p95 latency"
USER_SESSION, CRITICAL_PATH, DATABASE = "user_session", "critical_path", "database_connection"


def standard_rates() -> tuple[Rate, ...]:
    """Return the rates of the standard guards, with their limits and weights."""
    return (
        Rate(HTTP_ERRORS, 0.01, 0.25, 0.15),
        Rate(USER_SESSION, 0.005, 0.05, 0.05, optional=True),
        Rate(CRITICAL_PATH, 0.001, 0.075, 0.075, optional=True),
        Rate(DATABASE, 0.05, 0.025, 0.025, optional=True),
    )


def standard_latency() -> Latency:
    """Return the latency of the standard guards."""
    return Latency(1.0, 0.20, 0.10)


GUARD_LIMITS = frozenset({0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0})
"""Latencies (seconds) that guards compare with; each is exactly an edge."""


def standard_edges() -> tuple[float, ...]:
    """Return the upper edges (seconds) of the latency buckets: 1 ms to 65.5 s, growth 2**(1/16).

    Every power of two lies exactly on an edge, and so do the limits that guards use.
    """
    growth = [0.001 * 2 ** (i / 16) for i in range(16 * 16 + 1)]
    return tuple(sorted({float(f"{edge:.6g}") for edge in growth} | GUARD_LIMITS))


_Any = TypeVar("_Any", Rate, Latency)


def weighted(watched: Sequence[_Any]) -> tuple[_Any, ...]:
    """Return them with weights that are together 1, in the proportions they have."""
    whole = sum(one.weight for one in watched)
    return tuple(_scaled(one, 1 / whole) for one in watched)


def _scaled(one: _Any, by: float) -> _Any:
    if isinstance(one, Rate):
        return replace(one, ratio_weight=one.ratio_weight * by, limit_weight=one.limit_weight * by)
    return replace(one, slower_weight=one.slower_weight * by, limit_weight=one.limit_weight * by)
