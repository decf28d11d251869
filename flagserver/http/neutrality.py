"""`/api/v1/neutrality/{flag}`: what a flag's lot does live, from counts without ids."""

from __future__ import annotations

from typing import Any

# pydantic asks for this TypedDict below Python 3.12, and brings it.
from typing_extensions import TypedDict

from flagserver.domain.access import READ
from flagserver.domain.times import from_unix
from flagserver.services.neutrality import Report

from .query import Words
from .routing import Call, Routes, visible

routes = Routes()


class SpreadJson(TypedDict):
    """Points in equal parts of their range. low, high: between which chance leaves each part, but
    for one in a thousand. tail: how likely a fair lot has a chi-square as extreme, on its side.

    kind: `within`, `outside` or `too_few` (below 1,000); words: the same for people.
    """

    kind: str
    words: str
    since: str
    until: str
    points: int
    counts: list[int]
    expected: float
    low: int
    high: int
    chi_square: float
    tail: float


class VariantJson(TypedDict):
    """How often a variant was served, and between which counts chance stays."""

    name: str
    count: int
    expected: float
    low: int
    high: int
    inside: bool


class RatioJson(TypedDict):
    """Variants as served since what decides about them was changed last.

    kind: `within`, `outside`, `too_few` (below 1,000) or `unknown`; why: what cannot be told.
    """

    kind: str
    words: str
    why: str
    since: str
    until: str
    assignments: int
    variants: list[VariantJson]


class LotJson(TypedDict):
    """A flag's lot in one environment. departures: what picks traffic by place, in words."""

    environment: str
    points: SpreadJson
    ratio: RatioJson
    departures: list[str]


class NeutralityJson(TypedDict):
    """What a flag's lot does, in every environment that the caller may see; none if archived."""

    flag: str
    environments: list[LotJson]


@routes.add(
    *("GET", "/api/v1/neutrality/{key}", READ, {200: ("By environment.", NeutralityJson)}),
    query={"environment": Words("only this one")},
)
def read_neutrality(call: Call, key: str) -> Any:
    """Read how a flag's points spread and how often its variants are served."""
    only = visible(call.principal, call.query["environment"])
    reports = call.services.neutrality.reports(key, only)
    return {"flag": key, "environments": [_lot(report) for report in reports]}


def _lot(of: Report) -> dict[str, Any]:
    until = from_unix(of.until)
    return {
        "environment": of.environment,
        "points": {**of.points.to_json(), "since": from_unix(of.points_since), "until": until},
        "ratio": {**of.ratio.to_json(), "since": from_unix(of.ratio_since), "until": until},
        "departures": list(of.departures),
    }
