"""Custom metrics that were posted: an environment's points by minute, kept for two hours.

All of an environment lie together, so one read serves every guard, and one bound holds for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from urllib.parse import quote, unquote

from flagserver.domain.metrics import Posted

from . import keys
from .scripts import script
from .server import Call, Server

KEEP_SECONDS = 2 * 60 * 60
"""How long points are kept."""

MINUTE_POINTS = 5_000
"""Most points of an environment in one minute."""


class RedisMetrics:
    """`ports.Metrics`."""

    _server: Server

    def post(self, environment: str, points: Sequence[Posted]) -> int:
        """Keep points. Returns how many found no room in their minute."""
        minutes: dict[int, list[str | int]] = defaultdict(list)
        for point in points:
            minutes[point.at // 60] += (_name(point), f"{point.numerator!r}:{point.denominator!r}")
        calls = [
            Call(
                script("post_metrics"),
                [keys.metrics(environment, minute)],
                [KEEP_SECONDS, MINUTE_POINTS, *fields],
            )
            for minute, fields in minutes.items()
        ]
        return sum(self._server.run_all(calls))

    def posted(self, environment: str, *, since: int, until: int) -> list[Posted]:
        """Return the points in (since, until], oldest first."""
        since = max(since, until - KEEP_SECONDS - 60)
        minutes = range((since + 1) // 60, until // 60 + 1)
        commands = [("HGETALL", keys.metrics(environment, minute)) for minute in minutes]
        points = [
            _point(name.decode(), numbers.decode())
            for found in self._server.read_all(commands)
            for name, numbers in found.items()
        ]
        return sorted(
            (point for point in points if since < point.at <= until),
            key=lambda point: (point.at, point.metric, point.subject, point.arm, point.source),
        )


def _name(point: Posted) -> str:
    parts = (point.metric, point.subject, point.arm, point.source)
    return ":".join([str(point.at), *(quote(part, safe="/") for part in parts)])


def _point(name: str, numbers: str) -> Posted:
    at, *parts = name.split(":")
    metric, subject, arm, source = (unquote(part) for part in parts)
    numerator, _, denominator = numbers.partition(":")
    return Posted(metric, subject, arm, source, int(at), float(numerator), float(denominator))
