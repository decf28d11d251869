"""What was served and how it went: counted in bounds, reported by delta, without any id.

Evaluations are counted on the compiled flags themselves (no lock in the way of a request); requests
are credited when they end. `collect` turns both into one tick of the wire form.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1
MAX_ROWS = 5000
MAX_METRICS = 20
MAX_TICKS = 60
"""Ticks that wait for a server that is away; then the oldest goes and is counted as dropped."""

Metrics = Mapping[str, tuple[int, int]]


@dataclass
class _Row:
    assignments: int = 0
    requests: int = 0
    failures: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    latency_sum: float = 0.0
    metrics: dict[str, list[int]] = field(default_factory=dict)

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
        self._lock = threading.Lock()
        self._service = _Row()
        self._rows: dict[tuple[str, str], _Row] = {}
        self._ticks: deque[dict[str, Any]] = deque()
        self._left_out = 0
        self.dropped = 0
        """Rows, metrics and ticks that were lost to bounds, since the start."""

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
            tick = {"at": at, "seconds": seconds, "service": service.counts(), "flags": flags}
            self._ticks.append({**tick, "dropped": left_out})
            while len(self._ticks) > MAX_TICKS:
                self._ticks.popleft()
                self._lose(1)

    def take(self) -> list[dict[str, Any]]:
        """Return the closed ticks and forget them: the caller reports or loses them."""
        with self._lock:
            ticks = list(self._ticks)
            self._ticks.clear()
        return ticks

    def lose(self, count: int) -> None:
        """Count what could not be reported."""
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
