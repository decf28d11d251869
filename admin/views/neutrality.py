"""Neutrality: whether a flag's lot does what a fair one does, from counts without ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Blueprint, Response
from sortition.core.conditions import NON_UNIFORM_ATTRIBUTES

from flagserver.domain import access
from flagserver.domain.environments import Environment
from flagserver.domain.times import from_unix
from flagserver.services.catalogue import FlagView
from flagserver.services.neutrality import Report

from ..interface import Interface, may

WIDTH, HEIGHT = 512, 96
"""Of a histogram's drawing."""

ICONS: Mapping[str, tuple[str, str]] = {
    "within": ("ok", "✔"),
    "outside": ("danger", "✖"),
    "too_few": ("quiet", "–"),
    "unknown": ("quiet", "–"),
}
"""What counts say -> role and icon."""


@dataclass(frozen=True)
class Histogram:
    """How points are drawn: a path of bars, the band within which chance stays, and its middle."""

    bars: str
    top: float
    depth: float
    middle: float


@dataclass(frozen=True)
class Lot:
    """What a flag's lot did in one environment."""

    environment: Environment
    report: Report
    histogram: Histogram
    points_since: str
    ratio_since: str


@dataclass(frozen=True)
class Line:
    """A flag in the list. departures: environment -> what it looks at that is no lot."""

    key: str
    description: str
    departures: Mapping[str, str]


class Neutrality:
    """The list of flags, and the page of each."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def index(self) -> Response:
        """All flags, and which of them depart from uniform."""
        lines = [_line(view) for view in self._services.flags.all()]
        return self._ui.page("neutralities.html", lines=lines)

    def show(self, key: str) -> Response:
        """One flag in every environment."""
        return self._ui.page("neutrality.html", key=key, lots=self._lots(key), icons=ICONS)

    def live(self, key: str) -> Response:
        """What changes on it."""
        return self._ui.fragment("_neutrality.html", key=key, lots=self._lots(key), icons=ICONS)

    def _lots(self, key: str) -> list[Lot]:
        reports = {report.environment: report for report in self._services.neutrality.reports(key)}
        return [
            _lot(view.environment, reports[view.environment.key])
            for view in reversed(self._services.environments.all())
            if view.environment.key in reports and may(access.READ, view.environment.key)
        ]


def histogram(counts: Sequence[int], low: int, high: int) -> Histogram:
    """Return the drawing of counts of equal parts."""
    most = max(*counts, high, 1) * 1.05
    wide = WIDTH / len(counts)

    def down(count: float) -> float:
        return round(HEIGHT * (1 - count / most), 2)

    bars = "".join(
        f"M{at * wide:g} {HEIGHT}V{down(count):g}h{wide:g}V{HEIGHT}z"
        for at, count in enumerate(counts)
        if count
    )
    return Histogram(
        *(bars, down(high), round(max(1.0, down(low) - down(high)), 2)),
        middle=down(sum(counts) / len(counts)),
    )


def _lot(environment: Environment, report: Report) -> Lot:
    margin = report.points.margin
    drawn = histogram(report.points.counts, margin.low, margin.high)
    since = from_unix(report.points_since), from_unix(report.ratio_since)
    return Lot(environment, report, drawn, *since)


def _line(view: FlagView) -> Line:
    looked = {
        name: NON_UNIFORM_ATTRIBUTES & {condition.attribute for condition in each.state.conditions}
        for name, each in view.states.items()
        if may(access.READ, name)
    }
    named = {name: " and ".join(sorted(found)) for name, found in looked.items() if found}
    return Line(view.flag.key, view.flag.description, named)


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of neutrality."""
    neutrality = Neutrality(ui)
    blueprint.add_url_rule("/neutrality", "neutrality", neutrality.index)
    blueprint.add_url_rule("/neutrality/<key>", "flag_neutrality", neutrality.show)
    blueprint.add_url_rule("/ui/neutrality/<key>", "neutrality_live", neutrality.live)
