"""What pages show of flags and services, gathered from the services and ready for a template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from sortition.core.conditions import NON_UNIFORM_ATTRIBUTES

from flagserver.domain.environments import Environment
from flagserver.domain.flags import Flag, State
from flagserver.domain.outcomes import Totals
from flagserver.services import Services
from flagserver.services.catalogue import FlagView, StateView
from flagserver.services.environments import EnvironmentView
from flagserver.services.outcomes import Exposure

from . import present
from .present import Status
from .reached import Reached
from .steps import Step, Steps, steps

WINDOW_SECONDS = 60
"""What "observed" looks back at, unless the flag has changed since."""

SPARK_SECONDS = 300
SPARK_WIDTH, SPARK_HEIGHT = 240, 40
P95 = 0.95

Series = Mapping[int, Mapping[str, Totals]]
"""Unix second -> variant -> totals of the tick that ended then."""


@dataclass(frozen=True, slots=True)
class VariantRow:
    """What one variant served within the window. part: of all assignments."""

    name: str
    rest: bool
    part: str
    assignments: int
    requests: int
    failures: str
    p95: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What services report of a flag. share: percent; seconds: how far it looks back."""

    share: float | None
    assignments: int
    seconds: int
    since_change: bool
    rows: tuple[VariantRow, ...] = ()
    spark: str = ""

    @property
    def words(self) -> str:
        """The share that was reached, as one phrase."""
        if self.share is None:
            return ""
        return f"{present.measured(self.share)} of {present.count(self.assignments)}"


@dataclass(frozen=True, slots=True)
class Card:
    """A flag in one environment."""

    flag: Flag
    environment: Environment
    state: State
    revision: int
    status: Status
    tone: str
    observed: Observed
    step: Step | None = None
    """Of the rollout that moves it."""

    @property
    def serving(self) -> int:
        """Parts per million that are exposed now."""
        return 0 if self.state.killed or self.flag.archived else self.state.share

    @property
    def departures(self) -> list[str]:
        """Attributes of its conditions that pick traffic by place, not by lot."""
        attributes = {c.attribute for c in self.state.conditions}
        return sorted(attributes & NON_UNIFORM_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Line:
    """What a list shows of a flag in an environment besides its state. reached: percent."""

    environment: Environment
    reached: float | None
    step: Step | None


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service that reports, in one environment. heard: seconds ago."""

    name: str
    environment: Environment
    versions: tuple[str, ...]
    instances: int
    rate: str
    failures: str
    p95: str
    heard: int
    requests: int


class Desk:
    """Gathers what pages show."""

    def __init__(self, services: Services, now: datetime) -> None:
        self._services = services
        self._now = now
        self.environments = _by_weight(services.environments.all())
        self._reporting: dict[str, bool] = {}

    def environment(self, key: str) -> Environment:
        """Return an environment. Raises NotFound."""
        return self._services.environments.get(key).environment

    def cards(self, view: FlagView, *, detail: bool = False) -> list[Card]:
        """Return a flag's card in every environment, the most critical first."""
        return [
            self.card(view.flag, environment, view.states[environment.key], detail=detail)
            for environment in self.environments
            if environment.key in view.states
        ]

    def card(
        self, flag: Flag, environment: Environment, view: StateView, *, detail: bool = False
    ) -> Card:
        """Return a flag in one environment. detail: with the last minutes as a line."""
        return Card(
            flag=flag,
            environment=environment,
            state=view.state,
            revision=view.revision,
            status=present.status(flag, view.state),
            tone=present.tone(environment),
            observed=self._observed(flag, view.state, detail),
            step=self._steps.get((environment.key, flag.key)),
        )

    @cached_property
    def _steps(self) -> Steps:
        return steps(self._services, self._now)

    def lines(self, views: Sequence[FlagView], reached: Reached) -> dict[str, list[Line]]:
        """Return what a list shows of flags in each environment, by key, at the cost of one look at
        rollouts, and of one at what services report in each minute."""
        exposures = reached.exposures(
            [(environment, view.flag.key) for view in views for environment in view.states]
        )
        return {
            view.flag.key: [
                self._line(view, environment, exposures)
                for environment in self.environments
                if environment.key in view.states
            ]
            for view in views
        }

    def lined(self, view: FlagView, lines: Sequence[Line]) -> list[Card]:
        """Return the cards of a flag's lines."""
        return [self._lined(view, line) for line in lines]

    def _line(
        self,
        view: FlagView,
        environment: Environment,
        exposures: Mapping[tuple[str, str], Exposure | None],
    ) -> Line:
        place = environment.key, view.flag.key
        exposure = exposures.get(place)
        share = None
        changed = view.states[environment.key].state.changed
        if exposure is not None and _is_since(changed, exposure.since):
            share = exposure.share
        return Line(environment, share, self._steps.get(place))

    def _lined(self, view: FlagView, line: Line) -> Card:
        state = view.states[line.environment.key]
        return Card(
            flag=view.flag,
            environment=line.environment,
            state=state.state,
            revision=state.revision,
            status=present.status(view.flag, state.state),
            tone=present.tone(line.environment),
            observed=Observed(line.reached, 0, WINDOW_SECONDS, since_change=False),
            step=line.step,
        )

    def services(self) -> list[ServiceRow]:
        """Return the services that report, in every environment."""
        return [row for environment in self.environments for row in self._services_in(environment)]

    def _observed(self, flag: Flag, state: State, detail: bool) -> Observed:
        if flag.archived or not self._has_reporters(state.environment):
            return Observed(None, 0, WINDOW_SECONDS, since_change=False)
        window = self._window(state)
        exposure = self._services.outcomes.exposure(state.environment, flag.key, window)
        series: Series = {}
        if detail:
            series = self._services.outcomes.series(state.environment, flag.key, SPARK_SECONDS)
        # The table stays while it waits for the first reports after a change: nothing jumps.
        shown = exposure.assignments or series
        edges = self._edges(state.environment)
        return Observed(
            share=exposure.share,
            assignments=exposure.assignments,
            seconds=window,
            since_change=window < WINDOW_SECONDS,
            rows=_rows(flag, exposure.variants, edges) if shown else (),
            spark=self._spark(flag, series, self._flush_seconds(state.environment)),
        )

    def _window(self, state: State) -> int:
        """Return how far back to look so that nothing from before the last change counts."""
        if state.changed is None:
            return WINDOW_SECONDS
        since = (self._now - datetime.fromisoformat(state.changed)).total_seconds()
        return max(0, min(WINDOW_SECONDS, int(since - self._flush_seconds(state.environment))))

    def _spark(self, flag: Flag, series: Series, flush_seconds: float) -> str:
        step = max(10, 2 * int(flush_seconds))
        return spark_points(series, flag.rest, until=int(self._now.timestamp()), step=step)

    def _services_in(self, environment: Environment) -> Iterable[ServiceRow]:
        here = self._services.outcomes.sources(environment.key)
        edges = self._edges(environment.key)
        at = int(self._now.timestamp())
        for name in sorted({source["service.name"] for source in here}):
            mine = [source for source in here if source["service.name"] == name]
            totals = self._services.outcomes.service(environment.key, name, WINDOW_SECONDS)
            yield ServiceRow(
                name=name,
                environment=environment,
                versions=tuple(sorted({s["service.version"] or "?" for s in mine})),
                instances=len({source["instance"] for source in mine}),
                rate=present.rate(totals.requests, WINDOW_SECONDS),
                failures=present.ratio(totals.failures, totals.requests),
                p95=present.seconds(totals.quantile(P95, edges)),
                heard=max(0, at - max(source["seen"] for source in mine)),
                requests=totals.requests,
            )

    def _has_reporters(self, environment: str) -> bool:
        if environment not in self._reporting:
            self._reporting[environment] = bool(self._services.outcomes.sources(environment))
        return self._reporting[environment]

    def _edges(self, environment: str) -> tuple[float, ...]:
        return self._services.snapshots.view(environment).snapshot.histogram_edges

    def _flush_seconds(self, environment: str) -> float:
        return self._services.snapshots.view(environment).snapshot.flush_seconds


def _is_since(changed: str | None, since: int) -> bool:
    """Tell whether what was served since then (unix seconds) was served after the last change."""
    return changed is None or datetime.fromisoformat(changed).timestamp() <= since


def _by_weight(views: Sequence[EnvironmentView]) -> list[Environment]:
    """Return environments, the most critical first, what comes before it after it."""
    return [view.environment for view in reversed(views)]


def _rows(
    flag: Flag, variants: Mapping[str, Totals], edges: tuple[float, ...]
) -> tuple[VariantRow, ...]:
    everything = sum(totals.assignments for totals in variants.values())
    exposed_first = sorted(flag.variants, key=lambda name: name == flag.rest)
    return tuple(
        _row(name, name == flag.rest, variants.get(name, Totals()), everything, edges)
        for name in exposed_first
    )


def _row(
    name: str, rest: bool, totals: Totals, everything: int, edges: tuple[float, ...]
) -> VariantRow:
    return VariantRow(
        name=name,
        rest=rest,
        part=present.ratio(totals.assignments, everything),
        assignments=totals.assignments,
        requests=totals.requests,
        failures=present.ratio(totals.failures, totals.requests),
        p95=present.seconds(totals.quantile(P95, edges)),
    )


def spark_points(series: Series, rest: str, *, until: int, step: int) -> str:
    """Return the exposed share over time as the points of an SVG polyline, "" for too few."""
    drawn: dict[int, list[int]] = {}
    for at, variants in series.items():
        exposed_all = drawn.setdefault(max(0, until - at) // step, [0, 0])
        for name, totals in variants.items():
            exposed_all[0] += totals.assignments if name != rest else 0
            exposed_all[1] += totals.assignments
    last = SPARK_SECONDS // step
    points = [
        f"{SPARK_WIDTH * (last - slot) / last:.1f},{SPARK_HEIGHT * (1 - exposed / total):.1f}"
        for slot, (exposed, total) in sorted(drawn.items(), reverse=True)
        if total and slot <= last
    ]
    return " ".join(points) if len(points) > 1 else ""
