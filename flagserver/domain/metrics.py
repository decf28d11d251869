"""Custom metrics and business KPIs that others post: checked, bounded, and kept for two hours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .batches import Metric, Name
from .commands import Command, Key
from .errors import Invalid
from .outcomes import flag_subject, service_subject

MOST_POINTS = 500
LATE_SECONDS = 3600
EARLY_SECONDS = 60

Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Amount = Annotated[float, Field(ge=0, le=1e15)]

TOGETHER = ""
"""The arm of who cannot tell the arms apart."""


@dataclass(frozen=True, slots=True)
class Posted:
    """One number of one arm at one second.

    subject: `service/<name>` or `flag/<key>`.
    arm: `cohort/canary`, `cohort/stable`, `version/<service.version>`, `variant/<variant>`, or
    TOGETHER.  at: unix second.
    (metric, subject, arm, source, at) names it: posted again, it replaces what was there.
    """

    metric: str
    subject: str
    arm: str
    source: str
    at: int
    numerator: float
    denominator: float


class MetricPoint(Command):
    """What was counted in the time before `at`: failed of all, bought of visited, euros of orders.

    Of a service: with its cohort, or its version (from which the cohort follows), or with neither
    where they cannot be told apart. Of a flag: with its variant.
    """

    metric: Metric = Field(examples=["checkout.completed"])
    service: Name | None = None
    flag: Key | None = None
    cohort: Literal["canary", "stable"] | None = None
    version: Name | None = None
    variant: Key | None = None
    numerator: Number
    denominator: Amount
    at: Annotated[int, Field(ge=0, le=2**53)] | None = None
    source: Annotated[str, Field(max_length=100)] = ""

    @model_validator(mode="after")
    def _of_one_arm(self) -> MetricPoint:
        if (self.service is None) == (self.flag is None):
            raise ValueError("service: a point is of a service or of a flag, and not of both")
        if self.flag is not None and self.variant is None:
            raise ValueError("variant: a flag's point says which variant was served")
        told = [self.cohort, self.version, self.variant]
        if sum(each is not None for each in told) > 1:
            raise ValueError("cohort: a point has one of cohort, version and variant")
        if self.service is not None and self.variant is not None:
            raise ValueError("variant: a service has cohorts or versions, a flag has variants")
        return self

    @property
    def subject(self) -> str:
        """Return what it is of."""
        if self.flag is not None:
            return flag_subject(self.flag)
        return service_subject(self.service or "")

    @property
    def arm(self) -> str:
        """Return which arm it is of."""
        for kind in ("cohort", "version", "variant"):
            value = getattr(self, kind)
            if value is not None:
                return f"{kind}/{value}"
        return TOGETHER


class PostedMetrics(Command):
    """Points to be taken in. environment: where the caller's token is not confined to one."""

    environment: Key | None = None
    points: list[MetricPoint] = Field(min_length=1, max_length=MOST_POINTS)

    def posted(self, now: int) -> Sequence[Posted]:
        """Return what is kept of them. now: unix second, of points that do not say when.

        Raises Invalid for a point that is too old to be looked at, or of the future.
        """
        return [self._posted(number, point, now) for number, point in enumerate(self.points)]

    def _posted(self, number: int, point: MetricPoint, now: int) -> Posted:
        at = now if point.at is None else point.at
        if not now - LATE_SECONDS <= at <= now + EARLY_SECONDS:
            raise Invalid(
                f"at must be a unix second within the last hour, not {at} (it is {now}).",
                field=f"/points/{number}/at",
            )
        return Posted(
            point.metric,
            point.subject,
            point.arm,
            point.source,
            at,
            point.numerator,
            point.denominator,
        )


@dataclass(frozen=True, slots=True)
class Sides:
    """One metric's points by arm."""

    canary: tuple[Posted, ...]
    control: tuple[Posted, ...]
    together: tuple[Posted, ...]


def by_cohort(points: Sequence[Posted], new: str) -> Sides:
    """Return a service's points by cohort, given the rollout's new version."""
    canary = {"cohort/canary", f"version/{new}"}
    return _split(points, lambda arm: arm in canary)


def by_variant(points: Sequence[Posted], rest: str) -> Sides:
    """Return a flag's points by arm: the drawn variants against the one for the rest."""
    return _split(points, lambda arm: arm != f"variant/{rest}")


def _split(points: Sequence[Posted], is_canary: Callable[[str], bool]) -> Sides:
    told = [point for point in points if point.arm != TOGETHER]
    return Sides(
        tuple(point for point in told if is_canary(point.arm)),
        tuple(point for point in told if not is_canary(point.arm)),
        tuple(point for point in points if point.arm == TOGETHER),
    )
