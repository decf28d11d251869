"""What was served and how it went: counted in bounds, reported by delta, without any id.

Evaluations are counted on the compiled flags themselves (no lock in the way of a request); requests
are credited when they end, to the tick that they ended in. Ticks end on the grid of the clock, in
every process at the same moment: versions are compared within ticks, and an outage must not begin
earlier in one version's tick than in another's.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from .core.model import KEY
from .core.ticks import TICK_SECONDS

TYPE_CHECKING = False  # see core.records
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Open(Protocol):
        """A request that has not ended."""

        began: float
        """When, by `time.perf_counter`."""

        def asked(self) -> list[tuple[str, str]]:
            """Return (flag, variant) of what it was served so far."""
            ...
else:
    Open = object

FORMAT = 1
MAX_ROWS = 5000
MAX_METRICS = 20
MAX_TICKS = 60
"""Ticks that wait for a server that is away; then the oldest goes and is counted as dropped."""
MAX_OPEN = 2000
"""Requests in flight that are known at once; more of them tell nothing new."""
LONGEST_OPEN = 600.0
"""Seconds after which a request that never ended is taken for one that was forgotten."""
POINT_BITS = 8
"""Points are told by so many of their first bits: in 256 bins."""

Metrics = Mapping[str, bool]
"""Name -> whether it failed, of one request: each counts once, however often it happened."""


def is_metric(name: object) -> bool:
    """Tell whether a server takes this as the name of a metric."""
    return isinstance(name, str) and KEY.fullmatch(name) is not None


def binned(points: Iterable[int]) -> list[list[int]]:
    """Return how many of these 32-bit points lie in each bin: sparse [bin, points]."""
    bins: dict[int, int] = {}
    for point in points:
        bin_ = point >> (32 - POINT_BITS)
        bins[bin_] = bins.get(bin_, 0) + 1
    return _pairs(bins)


def _pairs(counts: Mapping[int, int]) -> list[list[int]]:
    return [[bucket, counts[bucket]] for bucket in sorted(counts)]


class _Row:
    """What is counted of all requests, or of those that a flag's variant served.

    ages: bucket -> requests that were in flight for so long when the tick ended.
    metrics: name -> [requests that had it, those of them with at least one failure].
    """

    __slots__ = ("ages", "assignments", "failures", "latency", "latency_sum", "metrics", "requests")

    def __init__(self) -> None:
        self.assignments = 0
        self.requests = 0
        self.failures = 0
        self.latency: dict[int, int] = {}
        self.latency_sum = 0.0
        self.metrics: dict[str, list[int]] = {}
        self.ages: dict[int, int] = {}

    def add(self, bucket: int, seconds: float, failed: bool, metrics: Metrics) -> int:
        """Credit one request; return how many metrics found no room."""
        self.requests += 1
        self.failures += failed
        self.latency[bucket] = self.latency.get(bucket, 0) + 1
        self.latency_sum += seconds
        left_out = 0
        for name, bad in metrics.items():
            kept = self.metrics.get(name)
            if kept is None:
                if len(self.metrics) >= MAX_METRICS:
                    left_out += 1
                    continue
                kept = self.metrics[name] = [0, 0]
            kept[0] += 1
            kept[1] += bad
        return left_out

    def counts(self) -> dict[str, Any]:
        """Return the wire form of what requests brought."""
        ages = {"ages": _pairs(self.ages)} if self.ages else {}
        return {
            "requests": self.requests,
            "failures": self.failures,
            "latency": _pairs(self.latency),
            "latency_sum": round(self.latency_sum, 6),
            "metrics": {name: list(counts) for name, counts in sorted(self.metrics.items())},
            **ages,
        }


class _Tick:
    """What happened from `began` to `end` (unix)."""

    __slots__ = ("began", "end", "left_out", "points", "rows", "service")

    def __init__(self, began: float, end: int) -> None:
        self.began = began
        self.end = end
        self.service = _Row()
        self.rows: dict[tuple[str, str], _Row] = {}
        self.points: Mapping[str, list[list[int]]] = {}
        self.left_out = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell of it."""
        return not (self.service.requests or self.service.ages or self.rows or self.left_out)

    def row(self, key: tuple[str, str]) -> _Row | None:
        """Return the row of a flag's variant, None when there is no room."""
        row = self.rows.get(key)
        if row is None and len(self.rows) < MAX_ROWS:
            row = self.rows[key] = _Row()
        return row

    def told(self, now: float) -> dict[str, Any]:
        """Return the wire form."""
        flags = [
            {"flag": flag, "variant": variant, "assignments": row.assignments, **row.counts()}
            for (flag, variant), row in sorted(self.rows.items())
        ]
        seconds = min(now, self.end) - self.began
        return {
            "at": self.end,
            "seconds": round(min(max(seconds, 0.001), TICK_SECONDS), 3),
            "service": self.service.counts(),
            "flags": flags,
            **({"points": dict(self.points)} if self.points else {}),
            "dropped": self.left_out,
        }


class Outcomes:
    """Counts of one process, gathered into ticks.

    reported: whether anybody takes the ticks; else there is one, and it never ends.
    now: unix seconds.
    """

    def __init__(self, *, reported: bool = True, now: Callable[[], float] = time.time) -> None:
        # A host's signal handler may ask while its own thread is in here.
        self._lock = threading.RLock()
        self._reported = reported
        self._now = now
        self._running = self._begun(now())
        self._ended: deque[_Tick] = deque()
        self._open: dict[int, Open] = {}
        self._aged = 0
        self._ticks: deque[dict[str, Any]] = deque()
        self.dropped = 0
        """Rows and metrics that were lost to bounds or refused, since the start."""

    def open(self, request: Open) -> None:
        """Note that a request is in flight."""
        if len(self._open) < MAX_OPEN:
            self._open[id(request)] = request

    def answered(self, request: Open) -> None:
        """Note that a request is in flight no more."""
        self._open.pop(id(request), None)

    def request(
        self,
        asked: Iterable[tuple[str, str]],
        seconds: float,
        failed: bool,
        metrics: Metrics,
        edges: tuple[float, ...],
    ) -> None:
        """Credit one ended request to the service and to every (flag, variant) it was served."""
        bucket = bisect_left(edges, seconds)
        with self._lock:
            tick = self._turned(self._now())
            lost = tick.service.add(bucket, seconds, failed, metrics)
            for key in asked:
                row = tick.row(key)
                if row is None:
                    lost += 1
                else:
                    lost += row.add(bucket, seconds, failed, metrics)
            self._lose(lost)

    def collect(
        self,
        assignments: Mapping[tuple[str, str], int],
        *,
        points: Mapping[str, Iterable[int]] | None = None,
        edges: tuple[float, ...] = (),
        running: bool = True,
    ) -> None:
        """Close the ticks that have ended, and the running one if that is wanted too.

        assignments: evaluations since the last time, by (flag, variant). points: a sample of the
        points they drew, by flag. Both are told with the newest of the ticks.
        edges: of the histogram of how long requests have been in flight.
        """
        with self._lock:
            now = self._now()
            current = self._turned(now)
            told, self._ended = [*self._ended], deque()
            if running:
                told.append(current)
                self._running = self._begun(now)
            self._age(told, now, edges)
            if assignments or points:
                tick = _newest(told)
                if tick is None:
                    # Of a tick that has ended, unless the running one is closed.
                    end = current.end if running else current.end - TICK_SECONDS
                    told.append(tick := _Tick(end - TICK_SECONDS, end))
                self._assign(tick, assignments)
                tick.points = {flag: binned(some) for flag, some in (points or {}).items()}
            self._ticks.extend(each.told(now) for each in told if not each.is_empty)
            while len(self._ticks) > MAX_TICKS:
                self.lose(self._ticks.popleft())

    def take(self) -> list[dict[str, Any]]:
        """Return the closed ticks, oldest first, and forget them: the caller reports them, gives
        them back or loses them."""
        ticks = list(self._ticks)
        self._ticks.clear()
        return ticks

    def give_back(self, ticks: Iterable[dict[str, Any]]) -> None:
        """Take ticks back that had no room in a report; they are the oldest."""
        self._ticks.extendleft(reversed(list(ticks)))

    def lose(self, tick: Mapping[str, Any]) -> None:
        """Count the rows of a tick that cannot be reported: the service's, and each flag's."""
        with self._lock:
            self._lose(1 + len(tick["flags"]))

    def lose_rows(self, count: int) -> None:
        """Count rows that had no room."""
        with self._lock:
            self._lose(count)

    def _lose(self, count: int) -> None:
        self.dropped += count
        self._running.left_out += count

    def _begun(self, now: float) -> _Tick:
        return _Tick(now, (int(now) // TICK_SECONDS + 1) * TICK_SECONDS)

    def _turned(self, now: float) -> _Tick:
        """Return the tick that runs, after ending the one that ran if its time is over."""
        tick = self._running
        if self._reported and not tick.end - TICK_SECONDS <= now < tick.end:
            if not tick.is_empty:
                self._ended.append(tick)
            tick = self._running = self._begun(now)
            tick.began = tick.end - TICK_SECONDS
            while len(self._ended) > MAX_TICKS:
                self._lose(1 + len(self._ended.popleft().rows))
        return tick

    def _assign(self, tick: _Tick, assignments: Mapping[tuple[str, str], int]) -> None:
        for key, count in assignments.items():
            row = tick.row(key)
            if row is None:
                self._lose(1)
            else:
                row.assignments += count

    def _age(self, told: list[_Tick], now: float, edges: tuple[float, ...]) -> None:
        """Add the ages of what is in flight to the newest tick that has ended, once."""
        end = self._running.end - TICK_SECONDS
        if end <= self._aged or not self._open or not self._reported:
            return
        self._aged = end
        at_end = time.perf_counter() - max(0.0, now - end)
        tick = next((each for each in told if each.end == end), None)
        if tick is None:
            tick = _Tick(end - TICK_SECONDS, end)
            told.append(tick)
        for key, request in tuple(self._open.items()):
            age = at_end - request.began
            if age > LONGEST_OPEN:
                self._open.pop(key, None)
            elif age >= 0:
                bucket = bisect_left(edges, age)
                rows = [tick.service, *map(tick.row, request.asked())]
                for row in rows:
                    if row is not None:
                        row.ages[bucket] = row.ages.get(bucket, 0) + 1


def _newest(ticks: Sequence[_Tick]) -> _Tick | None:
    return max((each for each in ticks if not each.is_empty), key=lambda t: t.end, default=None)
