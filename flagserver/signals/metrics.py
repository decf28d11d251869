"""Custom metrics and business KPIs that others post to `/api/v1/metrics`, by arm.

    metrics, rate, metric=NAME     numerator of denominator, as failed of all: a fraction
    metrics, value, metric=NAME    numerator per denominator, in whatever unit they have

A rate is bad when it is high. Of a KPI that is bad when it is low, post the part that was lost:
carts that were abandoned, not orders.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from flagserver.domain.errors import Refusal
from flagserver.domain.metrics import Posted, Sides, by_cohort, by_variant
from flagserver.domain.outcomes import flag_subject, service_subject
from flagserver.domain.signals import Ask, Measure, Measured, Point, Signal
from flagserver.ports import Metrics

from .outcomes import RestOf
from .periods import check_measure, check_settings, check_text, end_of, ends

log = logging.getLogger(__name__)


class MetricsSource:
    """`ports.SignalSource` over what was posted."""

    name = "metrics"

    def __init__(self, store: Metrics, rest_of: RestOf, *, settle_seconds: float = 5.0) -> None:
        """settle_seconds: how long after a period's end its points may still be posted."""
        self._store = store
        self._rest_of = rest_of
        self._settle_seconds = settle_seconds

    def check(self, signal: Signal) -> None:
        """Raise Invalid unless the signal names a metric."""
        check_measure(signal, (Measure.RATE, Measure.VALUE))
        check_settings(signal, ["metric"])
        check_text(signal, "metric", needed=True, longest=100)

    def measure(self, asks: Sequence[Ask], now: float) -> Mapping[Ask, Measured]:
        """Return an answer to every ask; one read of the store for each environment."""
        together: dict[str, list[Ask]] = defaultdict(list)
        for ask in asks:
            together[ask.environment].append(ask)
        return {
            ask: measured
            for environment, some in together.items()
            for ask, measured in self._of_environment(environment, some, now).items()
        }

    def _of_environment(
        self, environment: str, asks: Sequence[Ask], now: float
    ) -> Mapping[Ask, Measured]:
        whens = {ask: ends(ask, now, self._settle_seconds) for ask in asks}
        since = min(when[0] - ask.period_seconds for ask, when in whens.items())
        until = max(when[-1] for when in whens.values())
        try:
            found: dict[tuple[str, str], list[Posted]] = defaultdict(list)
            for point in self._store.posted(environment, since=since, until=until):
                found[point.metric, point.subject].append(point)
            return {ask: self._answer(ask, whens[ask], found) for ask in asks}
        except Refusal as error:
            return {ask: Measured(error=error.detail) for ask in asks}
        except Exception as error:
            log.exception("%s could not be read", self.name)
            return {ask: Measured(error=f"failed ({type(error).__name__})") for ask in asks}

    def _answer(
        self, ask: Ask, when: Sequence[int], found: Mapping[tuple[str, str], Sequence[Posted]]
    ) -> Measured:
        metric = str(ask.signal.get("metric"))
        if ask.version is not None:
            sides = by_cohort(found.get((metric, service_subject(ask.service)), ()), ask.version)
            return _measured(ask, when, sides)
        rest = self._rest_of(ask.environment, ask.flag or "")
        if rest is None:
            return Measured(
                error=f"There is no version and no flag {ask.flag!r} to tell the arms by."
            )
        sides = by_variant(found.get((metric, flag_subject(ask.flag or "")), ()), rest)
        return _measured(ask, when, sides)


def _measured(ask: Ask, when: Sequence[int], sides: Sides) -> Measured:
    told = any(point for arm in (sides.canary, sides.control) for point in arm)
    if not told and sides.together:
        return Measured(_points(ask, when, sides.together), pooled=True)
    control = _points(ask, when, sides.control) if sides.control else ()
    return Measured(_points(ask, when, sides.canary), control)


def _points(ask: Ask, when: Sequence[int], posted: Sequence[Posted]) -> tuple[Point, ...]:
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for point in posted:
        of_period = sums[end_of(point.at, ask.period_seconds)]
        of_period[0] += point.numerator
        of_period[1] += point.denominator
    return tuple(_point(ask.signal.measure, end, sums.get(end)) for end in when)


def _point(measure: Measure, at: int, sums: Sequence[float] | None) -> Point:
    if sums is None or sums[1] == 0:
        return Point(at, None)
    numerator, denominator = sums
    if measure is Measure.VALUE:
        return Point(at, numerator / denominator, int(denominator))
    if not 0 <= numerator <= denominator:
        # No fraction of anything: whoever posts it counts something else.
        return Point(at, None)
    return Point(at, numerator / denominator, int(denominator), int(numerator))
