"""What was served and how it went: counted in bounds, reported by delta, without any id.

Evaluations are counted on the compiled flags themselves (no lock in the way of a request); requests
are credited when they end. `collect` turns both into one tick of the wire form.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping

from .core.model import KEY

TYPE_CHECKING = False  # see core.records
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
MAX_ROWS = 5000
MAX_METRICS = 20
MAX_TICKS = 60
"""Ticks that wait for a server that is away; then the oldest goes and is counted as dropped."""
MAX_TICK_SECONDS = 3600.0
"""A machine that slept does not say so: longer ticks are told as this long."""

Metrics = Mapping[str, tuple[int, int]]


def is_metric(name: object) -> bool:
    """Tell whether a server takes this as the name of a metric."""
    return isinstance(name, str) and KEY.fullmatch(name) is not None


class _Row:
    """What is counted of all requests, or of those that a flag's variant served."""

    __slots__ = ("assignments", "failures", "latency", "latency_sum", "metrics", "requests")

    def __init__(self) -> None:
        self.assignments = 0
        self.requests = 0
        self.failures = 0
        self.latency: dict[int, int] = {}
        self.latency_sum = 0.0
        self.metrics: dict[str, list[int]] = {}

    def add(self, bucket: int, seconds: float, failed: bool, metrics: Metrics) -> int:
        """Credit one request; return how many metrics found no room."""
        self.requests += 1
        self.failures += failed
        self.latency[bucket] = self.latency.get(bucket, 0) + 1
        self.latency_sum += seconds
        left_out = 0
        for name, (total, bad) in metrics.items():
            kept = self.metrics.get(name)
            if kept is None:
                if len(self.metrics) >= MAX_METRICS:
                    left_out += 1
                    continue
                kept = self.metrics[name] = [0, 0]
            kept[0] += total
            kept[1] += bad
        return left_out

    def counts(self) -> dict[str, Any]:
        """Return the wire form of what requests brought."""
        return {
            "requests": self.requests,
            "failures": self.failures,
            "latency": sorted([bucket, n] for bucket, n in self.latency.items()),
            "latency_sum": round(self.latency_sum, 6),
            "metrics": {name: list(counts) for name, counts in sorted(self.metrics.items())},
        }


class Outcomes:
    """Counts of one process, gathered into ticks."""

    def __init__(self) -> None:
        # A host's signal handler may ask while its own thread is in here.
        self._lock = threading.RLock()
        self._service = _Row()
        self._rows: dict[tuple[str, str], _Row] = {}
        self._ticks: deque[dict[str, Any]] = deque()
        self._left_out = 0
        self.dropped = 0
        """Rows and metrics that were lost to bounds or refused, since the start."""

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
            lost = self._service.add(bucket, seconds, failed, metrics)
            for key in asked:
                row = self._row(key)
                if row is None:
                    lost += 1
                else:
                    lost += row.add(bucket, seconds, failed, metrics)
            self._lose(lost)

    def collect(self, assignments: Mapping[tuple[str, str], int], at: int, seconds: float) -> None:
        """Close a tick. assignments: evaluations since the last one, by (flag, variant)."""
        with self._lock:
            for key, count in assignments.items():
                row = self._row(key)
                if row is None:
                    self._lose(1)
                else:
                    row.assignments += count
            service, rows, left_out = self._service, self._rows, self._left_out
            self._service, self._rows, self._left_out = _Row(), {}, 0
        if not (service.requests or rows or left_out):
            return
        flags = [
            {"flag": flag, "variant": variant, "assignments": row.assignments, **row.counts()}
            for (flag, variant), row in sorted(rows.items())
        ]
        length = round(min(max(seconds, 0.001), MAX_TICK_SECONDS), 3)
        tick = {"at": at, "seconds": length, "service": service.counts(), "flags": flags}
        self._ticks.append({**tick, "dropped": left_out})
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
        self._left_out += count

    def _row(self, key: tuple[str, str]) -> _Row | None:
        row = self._rows.get(key)
        if row is None and len(self._rows) < MAX_ROWS:
            row = self._rows[key] = _Row()
        return row
