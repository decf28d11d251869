"""Outcomes: taking in what services report, and what it adds up to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from flagserver.domain import batches
from flagserver.domain.batches import Batch
from flagserver.domain.errors import NotFound, StoreUnavailable
from flagserver.domain.outcomes import (
    FLAG_SUBJECT,
    POINT_BINS,
    Part,
    Totals,
    added,
    flag_subject,
    service_subject,
    settled_tick,
    tick_of,
)
from flagserver.ports import Clock, FlagUses
from flagserver.ports import Outcomes as Store

from .asked import Asking
from .merging import Merging, Taken
from .snapshots import Snapshots

LATE_SECONDS = 3600
"""Older ticks are not taken: their counts have ended."""

ACCEPTED, REPEATED, FAILED, REFUSED = RESULTS = ("accepted", "repeated", "failed", "refused")

SETTLE_SECONDS = 10
"""How long after its end the reports of a minute come in."""

EARLY_SECONDS = 60
"""How far ahead of ours a reporter's clock may be."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a flag served within a window. share: exposed part of the assignments, or None."""

    since: int
    until: int
    variants: Mapping[str, Totals]
    rest: str

    @property
    def assignments(self) -> int:
        """All evaluations within the window."""
        return sum(totals.assignments for totals in self.variants.values())

    @property
    def share(self) -> float | None:
        """Percent of the evaluations that got another variant than the rest."""
        if self.assignments == 0:
            return None
        rest = self.variants.get(self.rest, Totals()).assignments
        return 100 * (self.assignments - rest) / self.assignments


class Kept(Store, FlagUses, Protocol):
    """The part of the store that reports go into."""


class Outcomes:
    """Use cases around outcomes."""

    def __init__(
        self, store: Kept, snapshots: Snapshots, clock: Clock, *, flush_seconds: float = 5.0
    ) -> None:
        """flush_seconds: how often SDKs report."""
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._flush_seconds = flush_seconds
        self.asking = Asking(store, clock)
        """When flags were last asked for."""
        self._counting = threading.Lock()
        self.batches = dict.fromkeys(RESULTS, 0)
        """What became of the batches that this process was sent."""
        self.rows = dict.fromkeys(batches.RESULTS, 0)
        """What became of the rows in those that were accepted."""
        self._evaluations = Counter[tuple[str, str, str]]()
        self._merging: Merging | None = None

    def take(self, environment: str, batch: Batch) -> bool:
        """Take in a batch. False when it was here before, as far as that is known at once.

        Raises NotFound, StoreUnavailable.
        """
        try:
            if self._merging is not None:
                self._snapshots.view(environment)
                return self._merging.put(environment, batch)
            return self._write(environment, batch)
        except StoreUnavailable:
            self._count(FAILED)
            raise

    def merging(self, name: str) -> Merging:
        """Have batches wait in memory from now on, and return what writes them once it is started.

        name: of this process, hexadecimal, and of no other ever.
        """
        self._merging = Merging(
            *(self._store, name),
            sort=self._sorted,
            about=self._about,
            taken=self._took,
            repeated=lambda: self._count(REPEATED),
        )
        return self._merging

    def _write(self, environment: str, batch: Batch) -> bool:
        found = self._sorted(environment, batch)
        taken = self._store.add(
            *(environment, batch.source, batch.seq, found.rows, self._about(batch)), found.drawn
        )
        if taken:
            self._took(Taken(environment, found))
        else:
            self._count(REPEATED)
        return taken

    def _sorted(self, environment: str, batch: Batch) -> batches.Sorted:
        """Return what is taken of a batch now; nothing where the environment has gone meanwhile."""
        now = int(self._clock.now().timestamp())
        try:
            flags = self._snapshots.view(environment).snapshot.flags
        except NotFound:
            return batches.Sorted()
        return batch.sorted(
            {key: flag.variants for key, flag in flags.items()},
            earliest=now - LATE_SECONDS,
            latest=now + EARLY_SECONDS,
            settled=self.settled_tick(now),
        )

    def _about(self, batch: Batch) -> Mapping[str, Any]:
        return {
            "service.name": batch.service_name,
            "service.version": batch.service_version,
            "instance": batch.instance,
            "seen": int(self._clock.now().timestamp()),
        }

    def _took(self, taken: Taken) -> None:
        self._count(ACCEPTED)
        self._count_rows(taken.environment, taken.found)

    def refuse(self) -> None:
        """Count a batch that is none: it cannot be what a process counted."""
        self._count(REFUSED)

    def settled_tick(self, now: float) -> int:
        """Return the watermark (unix): the end of the newest aligned tick whose reports are in.

        now: unix seconds. Whoever judges ticks in (the last watermark, this one] judges each once;
        what comes for them later is kept and counted as late.
        """
        return settled_tick(now, self._flush_seconds)

    def service_ticks(
        self, environment: str, service: str, *, since: int, until: int
    ) -> Mapping[int, Mapping[str, Totals]]:
        """Return aligned tick -> version -> totals of a service, ticks in (since, until] (unix);
        "" of those that told no version. Raises StoreUnavailable."""
        subject = environment, service_subject(service)
        found = self._store.ticks([subject], since=since, until=until).get(subject, {})
        return {
            tick: {part.variant: totals for part, totals in parts.items()}
            for tick, parts in found.items()
        }

    def flag_ticks(
        self, environment: str, flag: str, *, since: int, until: int
    ) -> Mapping[int, Mapping[Part, Totals]]:
        """Return aligned tick -> (variant, service, version) -> totals of a flag, ticks in
        (since, until] (unix): its variants can be compared within each cohort.

        Raises StoreUnavailable.
        """
        subject = environment, flag_subject(flag)
        return self._store.ticks([subject], since=since, until=until).get(subject, {})

    def points(
        self, environment: str, flag: str, since: int, until: int
    ) -> tuple[tuple[int, ...], int]:
        """Return how many sampled points lay in each of 256 equal bins of [0, 2**32), and how many
        were sampled in all.

        Of the hours that (since, until] touches (unix seconds); a day of them is kept. A process
        takes the first 64 points of each flag in each report, whatever they led to.
        Raises StoreUnavailable.
        """
        found = self._store.points(environment, flag_subject(flag), since=since, until=until)
        bins = tuple(found.get(place, 0) for place in range(POINT_BINS))
        return bins, sum(bins)

    def evaluations(self) -> Mapping[tuple[str, str, str], int]:
        """Return (environment, flag, variant) -> evaluations that this process took in."""
        with self._counting:
            return dict(self._evaluations)

    def _count_rows(self, environment: str, found: batches.Sorted) -> None:
        served = [row for row in found.rows if row.assignments]
        flags = [row.subject.removeprefix(FLAG_SUBJECT) for row in served]
        self.asking.note(environment, flags)
        with self._counting:
            for result, number in found.became.items():
                self.rows[result] += number
            for flag, row in zip(flags, served, strict=True):
                self._evaluations[environment, flag, row.variant] += row.assignments

    def _count(self, result: str) -> None:
        with self._counting:
            self.batches[result] += 1

    def exposure(self, environment: str, flag: str, seconds: int = 60) -> Exposure:
        """Return what a flag served in the last seconds, by variant."""
        until = int(self._clock.now().timestamp())
        totals = self._store.totals(
            environment, flag_subject(flag), since=until - seconds, until=tick_of(until)
        )
        rest = self._snapshots.view(environment).snapshot.flags.get(flag)
        return Exposure(until - seconds, until, totals, rest.rest if rest else "off")

    def exposures(
        self, wanted: Iterable[tuple[str, str]], minutes: int, until: int
    ) -> Mapping[tuple[str, str], Exposure]:
        """Return what flags served in whole minutes, in one read of the store; nothing of those
        of which nobody reported.

        wanted: (environment, flag).  until: unix second at which the last minute ended.
        """
        since = until - 60 * minutes
        flags = {name: view.snapshot.flags for name, view in self._snapshots.views().items()}
        live = [(name, key, flags[name][key]) for name, key in wanted if key in flags.get(name, ())]
        subjects = {(name, flag_subject(key)): flag.variants for name, key, flag in live}
        found = self._store.assignments(subjects, range(since + 60, until + 1, 60))
        told = {}
        for environment, key, flag in live:
            counts = found.get((environment, flag_subject(key)))
            if counts:
                totals = {variant: Totals(number) for variant, number in counts.items()}
                told[environment, key] = Exposure(since, until, totals, flag.rest)
        return told

    def settled(self) -> int:
        """Return when the last minute ended whose reports have come in (unix seconds)."""
        return int(self._clock.now().timestamp() - SETTLE_SECONDS) // 60 * 60

    def series(
        self, environment: str, flag: str, seconds: int = 300
    ) -> Mapping[int, Mapping[str, Totals]]:
        """Return what a flag served per tick, by the unix second at which the tick ended."""
        until = int(self._clock.now().timestamp())
        return self._store.series(
            environment, flag_subject(flag), since=until - seconds, until=tick_of(until)
        )

    def service(self, environment: str, name: str, seconds: int = 60) -> Totals:
        """Return how all requests of a service went in the last seconds, whatever its version."""
        until = int(self._clock.now().timestamp())
        totals = self._store.totals(
            environment, service_subject(name), since=until - seconds, until=tick_of(until)
        )
        return added(totals.values())

    def rate(self, environment: str, name: str, seconds: int = 60) -> float | None:
        """Return the requests a second of a service of late, None when nobody reports any."""
        requests = self.service(environment, name, seconds).requests
        return requests / seconds if requests else None

    def canary_requests(
        self, environment: str, name: str, version: str, *, since: float, until: float
    ) -> int:
        """Return how many requests a version of a service has served within a span of time (unix
        seconds), as far as counts are kept."""
        totals = self._store.totals(
            environment, service_subject(name), since=int(since), until=int(until)
        )
        return totals.get(version, Totals()).requests

    def sources(self, environment: str) -> list[Mapping[str, Any]]:
        """Return who reported lately."""
        return self._store.sources(environment)
