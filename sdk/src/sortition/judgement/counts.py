"""What is weighed: the counts of both arms in one tick. Sums alone, and nothing about a request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Histogram = Mapping[int, int]
"""bucket -> requests. Bucket i ends at edge i, which belongs to it; one more lies beyond the
last."""

MOST = 10**9
"""No count of one tick is larger: what is was not counted."""


class Counts(NamedTuple):
    """How many failed of how many, in both arms, at the same time and in the same stratum."""

    canary: int
    canary_failed: int
    control: int
    control_failed: int


class Latencies(NamedTuple):
    """Latency histograms of both arms, at the same time and in the same stratum."""

    canary: Histogram
    control: Histogram


BEFORE = -1
"""The step of ticks from before anybody was exposed: latency's reference is taken from them."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of one comparison; with the design, all that a verdict rests on.

    at: unix second at which it ended.  seconds: how long it was.
    step: of the schedule, from 0, or BEFORE.  share: of the canary, a fraction.
    counts: metric -> strata. A traffic target has one stratum; a flag has one for each cohort
    within which its variants are compared.
    latency: strata likewise.  assigned: (canary, control) draws, None where nobody counts them.
    rises_to: the share that the canary was being given while it lasted, at most; None where it had
    its share from its beginning to its end.
    """

    at: float
    seconds: float
    step: int
    share: float
    counts: Mapping[str, Sequence[Counts]]
    latency: Sequence[Latencies] = ()
    assigned: tuple[int, int] | None = None
    rises_to: float | None = None

    def fair(self, name: str) -> Sequence[Counts]:
        """Return the strata of a metric, so that what both arms suffer alike fails alike in them.

        While the share rises to s, the canary misses more of the beginning than control does. At no
        moment are there fewer of control's requests to one of the canary's than (1-s) / s, so what
        fails alike then is found in so many of control's: only they are taken to have been there.
        """
        strata = self.counts.get(name, ())
        if self.rises_to is None or not 0 < self.rises_to < 1:
            return strata
        to_one = (1 - self.rises_to) / self.rises_to
        return [_met(one, math.ceil(one.canary * to_one)) for one in strata]

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        body = {
            "at": self.at,
            "seconds": self.seconds,
            "step": self.step,
            "share": self.share,
            "counts": {name: [list(one) for one in strata] for name, strata in self.counts.items()},
            "latency": [[_pairs(one.canary), _pairs(one.control)] for one in self.latency],
            "assigned": None if self.assigned is None else list(self.assigned),
        }
        return body if self.rises_to is None else {**body, "rises_to": self.rises_to}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Tick:
        """Return the tick that `to_body` wrote down. Raises ValueError, which names the field, for
        what is no tick: a count that is negative, huge, no whole number or more than its whole."""
        tick = cls(
            _number(body, "at"),
            _number(body, "seconds"),
            _whole(body["step"], "step", least=BEFORE),
            _number(body, "share"),
            {
                name: [_counts(one, name) for one in strata]
                for name, strata in body["counts"].items()
            },
            [
                Latencies(_histogram(canary, "latency"), _histogram(control, "latency"))
                for canary, control in body["latency"]
            ],
            None if body["assigned"] is None else _assigned(body["assigned"]),
            None if body.get("rises_to") is None else _number(body, "rises_to"),
        )
        if not 0 < tick.seconds <= 3600:
            raise ValueError("seconds: a tick is above 0 s and at most an hour")
        if not 0 <= tick.share <= 1:
            raise ValueError("share: a fraction from 0 to 1")
        if tick.rises_to is not None and not 0 <= tick.rises_to <= 1:
            raise ValueError("rises_to: a fraction from 0 to 1")
        return tick


def _met(one: Counts, control: int) -> Counts:
    """Return a stratum in which control had so many requests at most, and failed as often."""
    return one._replace(control=min(one.control, control))


def _pairs(histogram: Histogram) -> list[list[int]]:
    return [[bucket, histogram[bucket]] for bucket in sorted(histogram)]


def _number(body: Mapping[str, Any], name: str) -> float:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: {value!r} is no number")
    return value


def _whole(value: Any, name: str, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise ValueError(f"{name}: {value!r} is no count from {least} to {MOST}")
    return value


def _counts(values: Sequence[Any], name: str) -> Counts:
    counts = Counts(*(_whole(value, f"counts/{name}") for value in values))
    if counts.canary_failed > counts.canary or counts.control_failed > counts.control:
        raise ValueError(f"counts/{name}: more failed than there were")
    return counts


def _histogram(pairs: Sequence[Sequence[Any]], name: str) -> dict[int, int]:
    return {_whole(bucket, name): _whole(count, name) for bucket, count in pairs}


def _assigned(values: Sequence[Any]) -> tuple[int, int]:
    canary, control = (_whole(value, "assigned") for value in values)
    return canary, control


@dataclass(slots=True)
class Tally:
    """Counts of one metric, added up over ticks and strata."""

    canary: int = 0
    canary_failed: int = 0
    control: int = 0
    control_failed: int = 0

    def add(self, strata: Sequence[Counts]) -> None:
        """Add one tick."""
        for canary, canary_failed, control, control_failed in strata:
            self.canary += canary
            self.canary_failed += canary_failed
            self.control += control
            self.control_failed += control_failed

    def counts(self) -> Counts:
        """Return the sums."""
        return Counts(self.canary, self.canary_failed, self.control, self.control_failed)

    @property
    def canary_rate(self) -> float | None:
        """The canary's rate, None of nothing."""
        return self.canary_failed / self.canary if self.canary else None

    @property
    def control_rate(self) -> float | None:
        """The control's rate, None of nothing."""
        return self.control_failed / self.control if self.control else None


@dataclass(slots=True)
class Window:
    """The tally of the last so many seconds."""

    seconds: float
    tally: Tally = field(default_factory=Tally)
    _ticks: list[tuple[float, Counts]] = field(default_factory=list)

    def add(self, at: float, strata: Sequence[Counts]) -> None:
        """Add the tick that ended at `at`, and forget what is older."""
        one = Tally()
        one.add(strata)
        self._ticks.append((at, one.counts()))
        self.tally.add((one.counts(),))
        while self._ticks[0][0] <= at - self.seconds:
            _, (canary, canary_failed, control, control_failed) = self._ticks.pop(0)
            self.tally.add((Counts(-canary, -canary_failed, -control, -control_failed),))
