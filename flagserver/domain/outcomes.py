"""What services report: the wire form of a batch, checked and bounded, and totals of it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sortition.core import bucketing
from sortition.core.ticks import REPORTED_WITHIN, TICK_SECONDS
from sortition.judgement.design import standard_edges

ARRIVAL_SECONDS = 2.0
"""How long a report is on its way to the store at most, or it is late."""


def tick_of(at: int) -> int:
    """Return the end of the aligned tick that something which ended at `at` is of (unix)."""
    return -(-at // TICK_SECONDS) * TICK_SECONDS


def settle_seconds(flush_seconds: float) -> float:
    """Return how long after a tick's end the last report of it is in.

    SDKs report once in `flush_seconds`; where that is as long as a tick, within a part of the next
    one.
    """
    on_grid = flush_seconds == TICK_SECONDS
    return flush_seconds * (REPORTED_WITHIN if on_grid else 1) + ARRIVAL_SECONDS


def settled_tick(now: float, flush_seconds: float) -> int:
    """Return the watermark: the end of the newest aligned tick whose reports are in (unix)."""
    return int((now - settle_seconds(flush_seconds)) // TICK_SECONDS) * TICK_SECONDS


WINDOW_SECONDS = 600
"""So long a process is of one half; see `half_of`. Windows end when the unix time is a multiple of
it, and so do their last ticks."""

HALVES = ("a", "b")


def window_of(at: int) -> int:
    """Return the end of the window that something which ended at `at` is of (unix)."""
    return -(-at // WINDOW_SECONDS) * WINDOW_SECONDS


def half_of(source: str, at: int) -> str:
    """Return which half of its service a process is of in the window of `at` (unix): one bit, drawn
    from what it calls itself, which is random itself, and anew for each window.

    source: `<instance>:<started>`. Halves of one version differ by chance and by noise alone, and
    drawn anew, two processes are in two halves every other window.
    """
    seed = window_of(at) // WINDOW_SECONDS
    return HALVES[bucketing.point(source, seed) & 1]


@dataclass(frozen=True, slots=True)
class Row:
    """Counts of one tick of one variant of a flag, or of one version of a service.

    variant: of a service's rows its `service.version`, "" where it told none.
    at: unix second at which the tick ended.  latency: bucket -> requests.
    metrics: name -> (total, failed).
    service, version: of a flag's rows who reports them; "" where that is not told.
    half: of a service's rows the half that their process is of; "" where that is not told.
    late: how many of the requests came behind the watermark.
    ages: bucket -> requests that were in flight for so long at the tick's end.
    """

    subject: str
    variant: str
    at: int
    assignments: int
    requests: int
    failures: int
    latency: Mapping[int, int] = field(default_factory=dict)
    latency_sum: float = 0.0
    metrics: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    service: str = ""
    version: str = ""
    late: int = 0
    ages: Mapping[int, int] = field(default_factory=dict)
    half: str = ""


POINT_BINS = 256
"""Points are told by their first eight bits, and by no more of them."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample of the points of a flag. at: unix second.  bins: bin -> points."""

    subject: str
    at: int
    bins: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Report:
    """One batch, as the store is told of it.

    source: `<instance>:<started>` of its sender.  owner: hexadecimal, of the one who tells: told
    again by the same one, it is still new.  about: what is to be known of the sender.
    """

    source: str
    seq: int
    owner: str
    about: Mapping[str, Any]


class Part(NamedTuple):
    """Whose counts these are within a tick: of a flag a variant, as one version of a service
    served it; of a service one version, which stands in the place of the variant, and where halves
    are asked for, one half of those who run it."""

    variant: str
    service: str = ""
    version: str = ""
    half: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """Rows added up. latency: bucket -> requests; latency_sum in seconds.

    late: how many of the requests came behind the watermark, so that no tick was judged with them.
    ages: bucket -> requests that were in flight for so long when their tick ended: of a service
    that hangs there is nothing else. Told of single ticks only.
    """

    assignments: int = 0
    requests: int = 0
    failures: int = 0
    latency: Mapping[int, int] = field(default_factory=dict)
    latency_sum: float = 0.0
    metrics: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    late: int = 0
    ages: Mapping[int, int] = field(default_factory=dict)

    def durations(self) -> Mapping[int, int]:
        """Return the latencies of a tick, with those of requests that hang: of what has been in
        flight for one to two ticks when a tick ends, which is so of any request once.

        They are shorter than what they will be, so nothing looks slower than it is.
        """
        hanging = {bucket: n for bucket, n in self.ages.items() if bucket in _HANGING}
        return Counter(self.latency) + Counter(hanging) if hanging else self.latency

    def quantile(self, q: float, edges: tuple[float, ...]) -> float | None:
        """Return the upper edge (seconds) of the bucket that holds the q-quantile, None if empty.

        The overflow bucket answers infinity.
        """
        total = sum(self.latency.values())
        if total == 0:
            return None
        seen = 0
        for bucket in sorted(self.latency):
            seen += self.latency[bucket]
            if seen >= q * total:
                return edges[bucket] if bucket < len(edges) else float("inf")
        return float("inf")


@dataclass(frozen=True, slots=True)
class Arms:
    """Totals of the two that are compared. None: nobody of it reported."""

    canary: Totals | None
    control: Totals | None


def added(parts: Iterable[Totals]) -> Totals:
    """Return several totals as one."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    counts, latency, ages, seconds = Counter[str](), Counter[int](), Counter[int](), 0.0
    metrics: dict[str, tuple[int, int]] = {}
    for part in parts:
        counts.update(a=part.assignments, r=part.requests, f=part.failures, late=part.late)
        latency.update(part.latency)
        ages.update(part.ages)
        seconds += part.latency_sum
        for name, (total, failed) in part.metrics.items():
            before = metrics.get(name, (0, 0))
            metrics[name] = (before[0] + total, before[1] + failed)
    return Totals(
        assignments=counts["a"],
        requests=counts["r"],
        failures=counts["f"],
        latency=dict(sorted(latency.items())),
        latency_sum=seconds,
        metrics=metrics,
        late=counts["late"],
        ages=dict(sorted(ages.items())),
    )


def cohorts(versions: Mapping[str, Totals], new: str) -> Arms:
    """Return a service's arms: who runs the rollout's new version, and who runs any other.

    Derived when it is asked, from the version that was kept with the counts: yesterday's canary is
    today's stable. Who told no version is of neither: it may be either.
    """
    others = [totals for version, totals in versions.items() if version not in {"", new}]
    return Arms(versions.get(new), added(others) if others else None)


def drawn(variants: Mapping[str, Totals], rest: str) -> Arms:
    """Return a flag's arms: the drawn variants, and the one for the rest."""
    others = [totals for variant, totals in variants.items() if variant != rest]
    return Arms(added(others) if others else None, variants.get(rest))


FLAG_SUBJECT = "flag/"


def flag_subject(key: str) -> str:
    """Return the subject of a flag's rows."""
    return f"{FLAG_SUBJECT}{key}"


def service_subject(name: str) -> str:
    """Return the subject of a service's rows."""
    return f"service/{name}"


def histogram_edges() -> tuple[float, ...]:
    """Return the upper edges (seconds) of the latency buckets that SDKs count in."""
    return standard_edges()


_HANGING = range(*(bisect_right(histogram_edges(), ticks * TICK_SECONDS) for ticks in (1, 2)))
"""The buckets from one tick's length to that of two; both are edges."""
