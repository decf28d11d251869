"""A batch of outcomes as an SDK sends it: checked, bounded, and turned into rows.

What no process can have counted is refused with the whole batch: parts that are more than their
whole, numbers beyond what a process can serve, buckets that do not exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .outcomes import POINT_BINS, Drawn, Row, flag_subject, half_of, service_subject, tick_of

MOST_A_SECOND = 200_000
"""More requests a second than one process of anything in Python serves."""

LAST_BUCKET = 2000

TAKEN, LATE, UNKNOWN, EARLY, OLD = RESULTS = ("taken", "late", "unknown", "early", "old")
"""What becomes of a row: it is taken, in time or late; or left out, for there is no such flag or
variant, or its tick is ahead of the clock, or its tick's counts have ended."""

Count = Annotated[int, Field(ge=0, le=10**9)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Metric = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]


def _sparse(places: int) -> Callable[[list[list[int]]], list[list[int]]]:
    def check(pairs: list[list[int]]) -> list[list[int]]:
        if any(place >= places for place, _ in pairs):
            raise ValueError(f"the first of each pair is below {places}")
        if len({place for place, _ in pairs}) < len(pairs):
            raise ValueError("the first of each pair is there once")
        return pairs

    return check


Histogram = Annotated[list[Pair], Field(max_length=400), AfterValidator(_sparse(LAST_BUCKET + 1))]
"""Sparse [bucket, requests]."""

Points = Annotated[list[Pair], Field(max_length=POINT_BINS), AfterValidator(_sparse(POINT_BINS))]
"""Sparse [bin, points]."""


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Counts(_Wire):
    """What every row has. latency_sum in seconds.

    metrics: name -> [requests that had it, those of them with at least one failure].
    ages: of requests in flight, for how long at the tick's end; SDKs before 1.0 tell none.
    """

    requests: Count
    failures: Count
    latency: Histogram = Field(default_factory=list)
    latency_sum: Annotated[float, Field(ge=0, le=1e12)] = 0.0
    metrics: dict[Metric, Pair] = Field(default_factory=dict, max_length=20)
    ages: Histogram = Field(default_factory=list)

    @model_validator(mode="after")
    def _parts_are_within_their_whole(self) -> Self:
        if self.failures > self.requests:
            raise ValueError("failures: more failed than there were requests")
        if sum(count for _, count in self.latency) > self.requests:
            raise ValueError("latency: more requests than there were")
        for name, (total, failed) in self.metrics.items():
            if failed > total:
                raise ValueError(f"metrics: more of {name} failed than there were")
        return self


class FlagCounts(Counts):
    """One variant of one flag."""

    flag: Name
    variant: Name
    assignments: Count


class Tick(_Wire):
    """What happened in the seconds before `at` (unix).

    points: flag -> a sample of the points that were drawn; SDKs before 1.0 tell none.
    """

    at: Annotated[int, Field(ge=0, le=2**53)]
    seconds: Annotated[float, Field(gt=0, le=3600)]
    service: Counts
    flags: list[FlagCounts] = Field(default_factory=list, max_length=5000)
    points: dict[Name, Points] = Field(default_factory=dict, max_length=5000)
    dropped: Count = 0

    @model_validator(mode="after")
    def _a_process_can_have_served_it(self) -> Self:
        most = MOST_A_SECOND * max(1.0, self.seconds)
        if any(counts.requests > most for counts in (self.service, *self.flags)):
            raise ValueError(f"requests: one process serves {most:.0f} at most in this time")
        return self


@dataclass(slots=True)
class Sorted:
    """What is in a batch: rows and samples of points that are taken, and what became of its rows,
    by RESULTS."""

    rows: list[Row] = field(default_factory=list)
    drawn: list[Drawn] = field(default_factory=list)
    became: Counter[str] = field(default_factory=Counter)


class Batch(_Wire):
    """Deltas of one process. A retry is identical; (instance, started, seq) names it."""

    format: Annotated[int, Field(ge=1, le=1)]
    service_name: Name = Field(alias="service.name")
    service_version: Name | None = Field(alias="service.version")
    instance: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    started: Annotated[int, Field(ge=0, le=2**53)]
    seq: Annotated[int, Field(ge=0, le=2**53)]
    ticks: list[Tick] = Field(max_length=300)

    @property
    def source(self) -> str:
        """Which process this is from."""
        return f"{self.instance}:{self.started}"

    def sorted(
        self,
        variants: Mapping[str, Collection[str]],
        *,
        earliest: int,
        latest: int,
        settled: int,
    ) -> Sorted:
        """Return what is taken: ticks within [earliest, latest] (unix), of flags and variants that
        there are.

        variants: by flag.  settled: the watermark; rows of ticks up to it are late.
        """
        found = Sorted()
        for tick in self.ticks:
            if not earliest <= tick.at <= latest:
                found.became[OLD if tick.at < earliest else EARLY] += 1 + len(tick.flags)
                continue
            late = tick_of(tick.at) <= settled
            rows = list(self._rows(tick, variants))
            found.became[LATE if late else TAKEN] += len(rows)
            found.became[UNKNOWN] += 1 + len(tick.flags) - len(rows)
            found.rows += (replace(row, late=row.requests) for row in rows) if late else rows
            found.drawn += (
                Drawn(flag_subject(flag), tick.at, dict(_pairs(bins)))
                for flag, bins in tick.points.items()
                if flag in variants
            )
        return found

    def _rows(self, tick: Tick, variants: Mapping[str, Collection[str]]) -> Iterator[Row]:
        version = self.service_version or ""
        subject = service_subject(self.service_name)
        whole = _row(subject, version, tick.at, 0, tick.service)
        yield replace(whole, half=half_of(self.source, tick.at))
        for counts in tick.flags:
            if counts.variant in variants.get(counts.flag, ()):
                subject = flag_subject(counts.flag)
                yield replace(
                    _row(subject, counts.variant, tick.at, counts.assignments, counts),
                    service=self.service_name,
                    version=version,
                )


def _pairs(pairs: list[list[int]]) -> Iterator[tuple[int, int]]:
    return ((place, count) for place, count in pairs)


def _row(subject: str, variant: str, at: int, assignments: int, counts: Counts) -> Row:
    return Row(
        subject=subject,
        variant=variant,
        at=at,
        assignments=assignments,
        requests=counts.requests,
        failures=counts.failures,
        latency=dict(_pairs(counts.latency)),
        latency_sum=counts.latency_sum,
        metrics={name: (total, failed) for name, (total, failed) in counts.metrics.items()},
        ages=dict(_pairs(counts.ages)),
    )
