"""The engine with simulated services that report: both arms, every five seconds, from one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sortition.judgement.design import CRITICAL_PATH, DATABASE, HTTP_ERRORS, USER_SESSION
from sortition.judgement.traffic import Traffic, World

from flagserver.domain import guards
from flagserver.domain.outcomes import Row, histogram_edges, service_subject
from flagserver.domain.rollout import TICK_SECONDS
from flagserver.domain.times import moment
from flagserver.services.judging import Judging
from flagserver.signals.outcomes import OutcomesSource
from tests.engines import Engine

METRICS = {
    USER_SESSION: "session_error",
    CRITICAL_PATH: "critical_path",
    DATABASE: "db_connection",
}
"""What the simulation calls them -> under which names services count them."""

HEALTHY = World(100.0, 0.001)

STANDARD = [
    {name: value for name, value in guard.to_body().items() if name != "named"}
    for guard in guards.standard()
]
"""The standard guards over what SDKs report, as a request's body has them."""


def judging_over(store: Any) -> Judging:
    """Return a controller's judgement over a store."""
    return Judging(store, store, lambda *_: "off", edges=histogram_edges(), flush_seconds=5.0)


@dataclass
class Judged(Engine):
    """world: what the service's requests meet while the rule gives the canary its share.

    of_flag: the same of who is exposed to the flag, in either version; None: the flag changes
    nothing.  silent: versions that report nothing.  seed: of the chance.
    """

    world: World = HEALTHY
    of_flag: World | None = None
    silent: set[str] = field(default_factory=set)
    seed: str = "judged"

    def __post_init__(self) -> None:
        super().__post_init__()
        sources: dict[str, Any] = self.outside.sources  # type: ignore[assignment]
        sources["outcomes"] = OutcomesSource(self.store, lambda *_: "off", edges=histogram_edges())
        self.chance = Random(self.seed)
        self._traffic: tuple[World, Traffic] | None = None
        self._seq = 0
        self.failed = 0

    def start_judged(self, **told: Any) -> str:
        """Start a rollout by the standard guards."""
        return self.start(**{"guards": STANDARD, **told})

    def serve(self, seconds: float) -> None:
        """Let the service serve before anything is rolled out."""
        for _ in range(int(seconds / TICK_SECONDS)):
            self.clock.seconds += TICK_SECONDS
            self._report()

    def _report(self) -> None:
        super()._report()
        at = int(moment(self.clock.now()))
        if at % int(TICK_SECONDS) == 0 and at != self._seq:
            self._seq = at
            rows = self._rows(at)
            self.store.add("production", "simulated:1", at, rows, {"seen": at})

    def _rows(self, at: int) -> list[Row]:
        share = self.weight / 100
        tick = self._drawn().tick(0, share)
        counts = {name: strata[0] for name, strata in tick.counts.items()}
        rows = []
        for version, n, latency in (("2", 0, 0), ("1", 2, 1)):
            if version in self.silent:
                continue
            requests = counts[HTTP_ERRORS][n]
            self.failed += counts[HTTP_ERRORS][1] if version == "2" else 0
            if not requests and version == "2":
                continue
            rows.append(
                Row(
                    service_subject("api"),
                    version,
                    at,
                    0,
                    requests,
                    counts[HTTP_ERRORS][n + 1],
                    latency=tick.latency[0][latency],
                    metrics={
                        name: (counts[told][n], counts[told][n + 1])
                        for told, name in METRICS.items()
                    },
                )
            )
        return rows + self._flag_rows(at, rows)

    def _drawn(self) -> Traffic:
        if self._traffic is None or self._traffic[0] != self.world:
            self._traffic = self.world, Traffic(self.world, self.chance)
        return self._traffic[1]

    def _flag_rows(self, at: int, served: list[Row]) -> list[Row]:
        """Return who of these asked the flag, by lot of its share: every one of them does."""
        return []

    def until(self, over: Callable[[], bool], seconds: float) -> float:
        """Tick until something is so; return the clock's seconds. Raises AssertionError when it
        takes longer than that."""
        began = self.clock.seconds
        while not over():
            assert self.clock.seconds < began + seconds, self.rollouts.page().views[0].rollout
            self.clock.seconds += TICK_SECONDS
            self.tick()
        return self.clock.seconds

    def ended(self, id: str) -> Callable[[], bool]:
        """Return what tells whether a rollout has ended."""
        return lambda: self.rollout(id).state.shown.terminal

    def evidence(self, id: str) -> list[Mapping[str, Any]]:
        """Return what is kept of a rollout's judgement."""
        return self.store.evidence([id]).get(id, [])
