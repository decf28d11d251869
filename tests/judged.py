"""The engine with simulated services that report: both arms, every five seconds, from one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from sortition.judgement.counts import Tick
from sortition.judgement.design import CRITICAL_PATH, DATABASE, HTTP_ERRORS, USER_SESSION
from sortition.judgement.traffic import Traffic, World, binomial

from flagserver.domain import guards
from flagserver.domain.outcomes import Row, flag_subject, histogram_edges, service_subject
from flagserver.domain.rollout import TICK_SECONDS
from flagserver.domain.times import moment
from flagserver.services.judging import Judging
from flagserver.signals.outcomes import OutcomesSource
from tests.engines import FLAG, Engine

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

    flag_fails: how many of those who are exposed to the flag fail by it, in either version.
    silent: versions that report nothing.  seed: of the chance.  halves: while nobody is exposed,
    whether two processes of equal size serve, with noise of their own each.
    reports: False where somebody else does.
    """

    world: World = HEALTHY
    flag_fails: float = 0.0
    silent: set[str] = field(default_factory=set)
    reports: bool = True
    seed: str = "judged"
    halves: bool = False

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
        if self.reports and at % int(TICK_SECONDS) == 0 and at != self._seq:
            self._seq = at
            rows = self._rows(at)
            about = {"service.name": "api", "seen": at}
            self.store.add("production", "simulated:1", at, rows, about)

    def _rows(self, at: int) -> list[Row]:
        share = self.weight / 100
        if self.halves and not share:
            return self._rows_of_halves()
        tick = self._drawn().tick(0, share)
        rows = [self._row(tick, version) for version in ("2", "1") if version not in self.silent]
        rows = [row for row in rows if row.requests or row.variant == "1"]
        self.failed += sum(row.failures for row in rows if row.variant == "2")
        return [each for row in rows for each in self._asked(row)]

    def _rows_of_halves(self) -> list[Row]:
        tick = self._drawn().tick(0, 0.5)
        first, other = (replace(self._row(tick, arm), variant="1") for arm in ("2", "1"))
        return [replace(first, half="a"), replace(other, half="b")]

    def _row(self, tick: Tick, version: str) -> Row:
        n = 0 if version == "2" else 2
        counts = {name: strata[0] for name, strata in tick.counts.items()}
        return Row(
            service_subject("api"),
            version,
            int(moment(self.clock.now())),
            0,
            counts[HTTP_ERRORS][n],
            counts[HTTP_ERRORS][n + 1],
            latency=tick.latency[0][n // 2],
            metrics={
                name: (counts[told][n], counts[told][n + 1]) for told, name in METRICS.items()
            },
        )

    def _drawn(self) -> Traffic:
        if self._traffic is None or self._traffic[0] != self.world:
            self._traffic = self.world, Traffic(self.world, self.chance)
        return self._traffic[1]

    def _asked(self, row: Row) -> list[Row]:
        """Return a version's row, and those of the flag: every request asks it, and is exposed by
        lot; of those, `flag_fails` of all fail besides."""
        exposed = binomial(self.chance, row.requests, self.share / 100)
        failed = binomial(self.chance, row.failures, exposed / row.requests) if exposed else 0
        failed = min(failed, exposed)
        more = binomial(self.chance, exposed - failed, self.flag_fails)
        about: dict[str, Any] = {"service": "api", "version": row.variant}
        subject, at = flag_subject(FLAG), row.at
        rows = [
            Row(subject, "on", at, exposed, exposed, failed + more, **about),
            Row(
                subject,
                "off",
                at,
                row.requests - exposed,
                row.requests - exposed,
                min(row.failures - failed, row.requests - exposed),
                **about,
            ),
        ]
        return [replace(row, failures=row.failures + more), *rows]

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
