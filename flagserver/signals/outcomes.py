"""What SDKs report of the requests they served: error rates, latencies and counted metrics, by arm.

outcomes, rate                   failed requests of all
outcomes, rate, metric=NAME      failed of all of what the host counted under that name
outcomes, latency, quantile=0.95 seconds, the upper edge of the bucket that the quantile lies in
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from flagserver.domain.errors import Invalid, Refusal
from flagserver.domain.outcomes import (
    Arms,
    Totals,
    added,
    cohorts,
    drawn,
    flag_subject,
    service_subject,
)
from flagserver.domain.signals import Ask, Measure, Measured, Point, Signal
from flagserver.ports import Outcomes

from .periods import check_measure, check_settings, check_text, end_of, ends

log = logging.getLogger(__name__)

P95 = 0.95

RestOf = Callable[[str, str], str | None]
"""(environment, flag) -> the flag's variant for the rest, None when there is no such flag."""

Versions = Mapping[str, Totals]


class OutcomesSource:
    """`ports.SignalSource` over the counts in our own store."""

    name = "outcomes"

    def __init__(
        self,
        store: Outcomes,
        rest_of: RestOf,
        *,
        edges: tuple[float, ...],
        settle_seconds: float = 5.0,
    ) -> None:
        """edges: of the latency buckets, in seconds.  settle_seconds: an SDK's flush interval."""
        self._store = store
        self._rest_of = rest_of
        self._edges = edges
        self._settle_seconds = settle_seconds

    def check(self, signal: Signal) -> None:
        """Raise Invalid unless the signal can be read from outcomes."""
        check_measure(signal, (Measure.RATE, Measure.LATENCY))
        known = ["metric"] if signal.measure is Measure.RATE else ["quantile"]
        check_settings(signal, known)
        check_text(signal, "metric")
        quantile = signal.get("quantile")
        if quantile is not None and not (isinstance(quantile, float) and 0 < quantile < 1):
            raise Invalid("quantile is between 0 and 1, as in 0.95.", field="/settings/quantile")

    def measure(self, asks: Sequence[Ask], now: float) -> Mapping[Ask, Measured]:
        """Return an answer to every ask; one read of the store for each subject."""
        together: dict[tuple[str, str], list[Ask]] = defaultdict(list)
        for ask in asks:
            together[ask.environment, _subject(ask)].append(ask)
        return {
            ask: measured
            for (environment, subject), some in together.items()
            for ask, measured in self._of_subject(environment, subject, some, now).items()
        }

    def _of_subject(
        self, environment: str, subject: str, asks: Sequence[Ask], now: float
    ) -> Mapping[Ask, Measured]:
        whens = {ask: ends(ask, now, self._settle_seconds) for ask in asks}
        since = min(when[0] - ask.period_seconds for ask, when in whens.items())
        until = max(when[-1] for when in whens.values())
        try:
            series = self._store.series(environment, subject, since=since, until=until)
            return {ask: self._answer(ask, whens[ask], series) for ask in asks}
        except Refusal as error:
            return {ask: Measured(error=error.detail) for ask in asks}
        except Exception as error:
            log.exception("%s could not be read", self.name)
            return {ask: Measured(error=f"failed ({type(error).__name__})") for ask in asks}

    def _answer(self, ask: Ask, when: Sequence[int], series: Mapping[int, Versions]) -> Measured:
        version, rest = ask.version, None
        if version is None:
            rest = self._rest_of(ask.environment, ask.flag or "")
            if rest is None:
                return Measured(error=f"there is no version and no flag {ask.flag!r} to tell by")
        periods: dict[int, dict[str, list[Totals]]] = defaultdict(lambda: defaultdict(list))
        for at, found in series.items():
            for name, totals in found.items():
                periods[end_of(at, ask.period_seconds)][name].append(totals)
        arms: list[Arms] = []
        for end in when:
            sums = {name: added(parts) for name, parts in periods[end].items()}
            arms.append(drawn(sums, rest or "") if version is None else cohorts(sums, version))
        pairs = list(zip(when, arms, strict=True))
        canary = tuple(self._point(ask.signal, at, each.canary) for at, each in pairs)
        control = tuple(self._point(ask.signal, at, each.control) for at, each in pairs)
        # A point without data is a point; an arm of which nobody ever reported is none.
        return Measured(canary, control if any(each.control for each in arms) else ())

    def _point(self, signal: Signal, at: int, totals: Totals | None) -> Point:
        if totals is None:
            return Point(at, None)
        if signal.measure is Measure.LATENCY:
            return self._latency(signal, at, totals)
        metric = signal.get("metric")
        if metric is None:
            return Point.rate(at, sample=totals.requests, failures=totals.failures)
        total, failed = totals.metrics.get(str(metric), (0, 0))
        return Point.rate(at, sample=total, failures=failed)

    def _latency(self, signal: Signal, at: int, totals: Totals) -> Point:
        quantile = signal.get("quantile")
        value = totals.quantile(quantile if isinstance(quantile, float) else P95, self._edges)
        if value is not None:
            # Beyond the last edge there is none; that it is slower than that is all we know.
            value = min(value, self._edges[-1])
        return Point(at, value, sum(totals.latency.values()))


def _subject(ask: Ask) -> str:
    if ask.version is None and ask.flag is not None:
        return flag_subject(ask.flag)
    return service_subject(ask.service)
