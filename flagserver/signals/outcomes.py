"""What SDKs report of the requests they served: error rates, latencies and counted metrics, by arm.

outcomes, rate                   failed requests of all
outcomes, rate, metric=NAME      failed of all of what the host counted under that name
outcomes, latency, quantile=0.95 seconds, the upper edge of the bucket that the quantile lies in
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from flagserver.domain.errors import Invalid, NotFound, Refusal
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

T = TypeVar("T")

RestOf = Callable[[str, str], str | None]
"""(environment, flag) -> the flag's variant for the rest, None when there is no such flag."""

Versions = Mapping[str, Totals]
Series = Mapping[int, Versions]
"""By the unix second at which a tick or a minute ended."""

Subject = tuple[str, str]
"""(environment, subject)."""

MINUTE = 60
LATE_SECONDS = 60
"""How long after its end a minute is read once more, for reports that came late."""


class OutcomesSource:
    """`ports.SignalSource` over the counts in our own store.

    Periods of whole minutes are read from the store's sums, each of them twice: when it has ended
    and its reports had time to come in, and once more when late ones had (LATE_SECONDS). In between
    they are remembered, so that a look every few seconds at a thousand services costs next to
    nothing. Any other period is read tick by tick.
    """

    name = "outcomes"

    def __init__(
        self,
        store: Outcomes,
        rest_of: RestOf,
        *,
        edges: tuple[float, ...],
        settle_seconds: float = 5.0,
    ) -> None:
        """edges: of the latency buckets, in seconds.  settle_seconds: how long after its end the
        last report of a period is in (`domain.outcomes.settle_seconds`)."""
        self._store = store
        self._rest_of = rest_of
        self._edges = edges
        self._settle_seconds = settle_seconds
        self._known: dict[Subject, dict[int, _Minute]] = {}

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
        """Return an answer to every ask, in one read of the store for all whole minutes."""
        whens = {ask: ends(ask, now, self._settle_seconds) for ask in asks}
        minutely = [ask for ask in asks if ask.period_seconds % MINUTE == 0]
        others = [ask for ask in asks if ask.period_seconds % MINUTE]
        reads: list[tuple[list[Ask], Callable[[], Mapping[Subject, Series]]]] = [
            (minutely, partial(self._minutes, minutely, whens, now)),
            *(([ask], partial(self._ticks, ask, whens[ask])) for ask in others),
        ]
        found: dict[Ask, Measured] = {}
        for some, read in reads:
            series = self._tried(read)
            if isinstance(series, Measured):
                found |= dict.fromkeys(some, series)
                continue
            arms = _Arms(self._rest_of, series)
            found |= {
                ask: self._tried(partial(self._answer, ask, whens[ask], arms)) for ask in some
            }
        return found

    def _tried(self, work: Callable[[], T]) -> T | Measured:
        """Return what some work returns, or the error that it met."""
        try:
            return work()
        except Refusal as error:
            return Measured(error=error.detail)
        except Exception as error:
            log.exception("%s could not be read", self.name)
            return Measured(error=f"failed ({type(error).__name__})")

    def _ticks(self, ask: Ask, when: Sequence[int]) -> Mapping[Subject, Series]:
        subject, since = _subject(ask), when[0] - ask.period_seconds
        return {subject: self._store.series(*subject, since=since, until=when[-1])}

    def _minutes(
        self, asks: Sequence[Ask], whens: Mapping[Ask, Sequence[int]], now: float
    ) -> Mapping[Subject, Series]:
        """Return what is known of the minutes that these asks cover, after reading what is not."""
        needed: dict[Subject, set[int]] = defaultdict(set)
        for ask in asks:
            first = whens[ask][0] - ask.period_seconds + MINUTE
            needed[_subject(ask)].update(range(first, whens[ask][-1] + 1, MINUTE))
        known = {subject: self._known.get(subject, {}) for subject in needed}
        missing = {
            subject: unread
            for subject, minutes in needed.items()
            if (unread := [each for each in minutes if self._unread(known[subject], each, now)])
        }
        read = self._store.minutes(missing) if missing else {}
        for subject, unread in missing.items():
            of_subject = read.get(subject, {})
            known[subject] |= {end: _Minute(now, of_subject.get(end, {})) for end in unread}
        # What nobody asks for any more is forgotten.
        self._known = {
            subject: {end: minute for end, minute in known[subject].items() if end in minutes}
            for subject, minutes in needed.items()
        }
        return {
            subject: {end: minute.totals for end, minute in minutes.items()}
            for subject, minutes in self._known.items()
        }

    def _unread(self, known: Mapping[int, _Minute], end: int, now: float) -> bool:
        minute, settled = known.get(end), end + LATE_SECONDS
        return minute is None or minute.read < settled <= now

    def _answer(self, ask: Ask, when: Sequence[int], arms: _Arms) -> Measured:
        pairs = [(at, arms.of(ask, at)) for at in when]
        canary = tuple(self._point(ask.signal, at, each.canary) for at, each in pairs)
        control = tuple(self._point(ask.signal, at, each.control) for at, each in pairs)
        # A point without data is a point; an arm of which nobody ever reported is none.
        return Measured(canary, control if any(each.control for _, each in pairs) else ())

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


@dataclass(frozen=True, slots=True)
class _Minute:
    """A minute's totals as they were read at a unix second."""

    read: float
    totals: Versions


class _Arms:
    """The arms of every period that is asked for, each added up once however many ask."""

    def __init__(self, rest_of: RestOf, series: Mapping[Subject, Series]) -> None:
        self._rest_of = rest_of
        self._series = series
        self._periods: dict[tuple[Subject, int], Mapping[int, Versions]] = {}
        self._arms: dict[tuple[Subject, str, int, int], Arms] = {}

    def of(self, ask: Ask, end: int) -> Arms:
        """Return the arms of the period that ended then. Raises NotFound when nothing tells them
        apart."""
        subject = _subject(ask)
        by = ask.version if ask.version is not None else self._rest(ask)
        key = (subject, by, ask.period_seconds, end)
        if key not in self._arms:
            found = self._of(subject, ask.period_seconds).get(end, {})
            self._arms[key] = drawn(found, by) if ask.version is None else cohorts(found, by)
        return self._arms[key]

    def _rest(self, ask: Ask) -> str:
        rest = self._rest_of(ask.environment, ask.flag or "")
        if rest is None:
            raise NotFound(f"There is no version and no flag {ask.flag!r} to tell the arms by.")
        return rest

    def _of(self, subject: Subject, period: int) -> Mapping[int, Versions]:
        """Return a subject's totals by the end of each period."""
        if (subject, period) not in self._periods:
            parts: dict[int, dict[str, list[Totals]]] = defaultdict(lambda: defaultdict(list))
            for at, versions in self._series.get(subject, {}).items():
                for version, totals in versions.items():
                    parts[end_of(at, period)][version].append(totals)
            self._periods[subject, period] = {
                end: {version: added(some) for version, some in versions.items()}
                for end, versions in parts.items()
            }
        return self._periods[subject, period]


def _subject(ask: Ask) -> Subject:
    if ask.version is None and ask.flag is not None:
        return ask.environment, flag_subject(ask.flag)
    return ask.environment, service_subject(ask.service)
