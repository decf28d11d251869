"""A batch of outcomes as an SDK sends it: checked, bounded, and turned into rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .outcomes import Row, flag_subject, service_subject, tick_of

Count = Annotated[int, Field(ge=0, le=10**9)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Metric = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
Bucket = Annotated[int, Field(ge=0, le=2000)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Counts(_Wire):
    """What every row has. latency: sparse [bucket, requests]; latency_sum in seconds."""

    requests: Count
    failures: Count
    latency: list[Annotated[list[Bucket | Count], Field(min_length=2, max_length=2)]] = Field(
        default_factory=list, max_length=400
    )
    latency_sum: Annotated[float, Field(ge=0, le=1e12)] = 0.0
    metrics: dict[Metric, Annotated[list[Count], Field(min_length=2, max_length=2)]] = Field(
        default_factory=dict, max_length=20
    )


class FlagCounts(Counts):
    """One variant of one flag."""

    flag: Name
    variant: Name
    assignments: Count


class Tick(_Wire):
    """What happened in the seconds before `at` (unix)."""

    at: Annotated[int, Field(ge=0, le=2**53)]
    seconds: Annotated[float, Field(gt=0, le=3600)]
    service: Counts
    flags: list[FlagCounts] = Field(default_factory=list, max_length=5000)
    dropped: Count = 0


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

    def rows(
        self,
        known: Callable[[str, str], bool],
        *,
        earliest: int,
        latest: int,
        settled: int | None = None,
    ) -> list[Row]:
        """Return rows of ticks within [earliest, latest] (unix), of flags and variants that
        `known(flag, variant)` says exist.

        settled: the watermark; rows of ticks up to it are late.
        """
        found: list[Row] = []
        for tick in self.ticks:
            if earliest <= tick.at <= latest:
                late = settled is not None and tick_of(tick.at) <= settled
                rows = self._rows(tick, known)
                found += (replace(row, late=row.requests) for row in rows) if late else rows
        return found

    def _rows(self, tick: Tick, known: Callable[[str, str], bool]) -> Iterator[Row]:
        version = self.service_version or ""
        yield _row(service_subject(self.service_name), version, tick.at, 0, tick.service)
        for counts in tick.flags:
            if known(counts.flag, counts.variant):
                subject = flag_subject(counts.flag)
                yield replace(
                    _row(subject, counts.variant, tick.at, counts.assignments, counts),
                    service=self.service_name,
                    version=version,
                )


def _row(subject: str, variant: str, at: int, assignments: int, counts: Counts) -> Row:
    return Row(
        subject=subject,
        variant=variant,
        at=at,
        assignments=assignments,
        requests=counts.requests,
        failures=counts.failures,
        latency={bucket: count for bucket, count in counts.latency},  # noqa: C416 (lists of two)
        latency_sum=counts.latency_sum,
        metrics={name: (total, failed) for name, (total, failed) in counts.metrics.items()},
    )
