"""What was published to CloudWatch, and statistics of it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KEEP_SECONDS = 15 * 24 * 3600
SIMPLE = frozenset({"Sum", "Average", "Minimum", "Maximum", "SampleCount"})

Dimensions = tuple[tuple[str, str], ...]
Name = tuple[str, str, Dimensions]
"""Namespace, metric, dimensions sorted."""


def dimensions(given: Iterable[Mapping[str, str]] | None) -> Dimensions:
    """Return dimensions as the API has them, as something to be looked up by."""
    return tuple(sorted((each["Name"], each["Value"]) for each in given or ()))


def percentile_of(statistic: str) -> float | None:
    """Return 0.95 for `p95`; None for something else."""
    number = statistic.removeprefix("p")
    if number == statistic or not number.replace(".", "", 1).isdigit():
        return None
    return float(number) / 100 if 0 <= float(number) <= 100 else None


@dataclass(slots=True)
class Bag:
    """Values of a time: how often each was there, and sets of which only the sums are known."""

    values: Counter[float] = field(default_factory=Counter)
    sets: list[tuple[float, float, float, float]] = field(default_factory=list)
    """(sum, count, minimum, maximum)"""

    def merge(self, other: Bag) -> None:
        """Take in what another holds."""
        self.values.update(other.values)
        self.sets += other.sets

    @property
    def count(self) -> float:
        """How many there were."""
        return self.values.total() + sum(count for _, count, _, _ in self.sets)

    def statistic(self, name: str) -> float | None:
        """Return a statistic, or None when it cannot be said of what is there."""
        if not self.count:
            return None
        quantile = percentile_of(name)
        if quantile is not None:
            return self._percentile(quantile)
        total = sum(value * times for value, times in self.values.items())
        total += sum(each for each, _, _, _ in self.sets)
        match name:
            case "Sum":
                return total
            case "Average":
                return total / self.count
            case "SampleCount":
                return self.count
            case "Minimum":
                return min([*self.values, *(low for _, _, low, _ in self.sets)])
            case _:
                return max([*self.values, *(high for _, _, _, high in self.sets)])

    def _percentile(self, quantile: float) -> float | None:
        # Of a set that is not all of one value CloudWatch has no percentile either.
        if any(low != high for _, _, low, high in self.sets):
            return None
        values = self.values + Counter({low: int(count) for _, count, low, _ in self.sets})
        rank, seen = max(1, math.ceil(quantile * values.total())), 0
        for value in sorted(values):
            seen += values[value]
            if seen >= rank:
                return value
        return None


class Published:
    """All metrics of one account and region."""

    def __init__(self) -> None:
        self._metrics: dict[Name, dict[int, Bag]] = defaultdict(dict)

    def put(self, namespace: str, datum: Mapping[str, Any], now: float) -> None:
        """Take in one datum of PutMetricData; its Timestamp as unix seconds."""
        metric = self._metrics[
            (namespace, datum["MetricName"], dimensions(datum.get("Dimensions")))
        ]
        at = int(datum.get("Timestamp", now))
        metric.setdefault(at, Bag()).merge(_bag(datum))
        if len(metric) > 100_000:
            for old in [each for each in metric if each < now - KEEP_SECONDS]:
                del metric[old]

    def bags(self, name: Name, start: int, end: int, period: int) -> dict[int, Bag]:
        """Return what was published in [start, end) by the start of its period."""
        found: dict[int, Bag] = {}
        for at, bag in self._metrics.get(name, {}).items():
            if start <= at < end:
                found.setdefault(at - at % period, Bag()).merge(bag)
        return dict(sorted(found.items()))

    def series(
        self, name: Name, statistic: str, start: int, end: int, period: int
    ) -> dict[int, float]:
        """Return a statistic by the start of its period; a period without data is left out."""
        bags = self.bags(name, start, end, period)
        found = {at: bag.statistic(statistic) for at, bag in bags.items()}
        return {at: value for at, value in found.items() if value is not None}

    def names(self) -> Sequence[Name]:
        """Return the names of all metrics."""
        return list(self._metrics)


def _bag(datum: Mapping[str, Any]) -> Bag:
    if datum.get("StatisticValues"):
        told = datum["StatisticValues"]
        numbers = (told["Sum"], told["SampleCount"], told["Minimum"], told["Maximum"])
        return Bag(sets=[tuple(map(float, numbers))])  # type: ignore[list-item]
    if datum.get("Values"):
        counts = datum.get("Counts") or [1.0] * len(datum["Values"])
        bag = Bag()
        for value, count in zip(datum["Values"], counts, strict=True):
            bag.values[float(value)] += int(count)
        return bag
    return Bag(values=Counter([float(datum.get("Value", 0.0))]))
