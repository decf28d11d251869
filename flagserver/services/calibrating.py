"""A/A history: kept by controllers while services report, and read when a rollout is planned or
begins."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any, Protocol

from flagserver.domain import calibration, documents
from flagserver.domain.calibration import ROLLOUT, SILENT, Calibration, Window
from flagserver.domain.errors import Refusal
from flagserver.domain.outcomes import WINDOW_SECONDS, service_subject, settled_tick
from flagserver.domain.plan import NO_STEP
from flagserver.domain.times import moment
from flagserver.ports import Clock, Documents, Entropy, Halves, Outcomes

from .background import Background
from .turns import Turns

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0

CATCH_UP = 10
"""So many windows are made up for after nobody looked: their ticks are there for two hours."""

AT_ONCE, SOON_SECONDS = 10, 1.0
"""So many services in one look, and how soon the next of them: rollouts are steered beside it."""

MOST_SERVICES = 200
"""Services of an environment that are looked at: those that were rolled out first, then those that
have history, then those that reported last."""

DAY = 24 * 3600

Place = tuple[str, str]
"""(environment, service)."""

Spans = Mapping[Place, list[tuple[float, float]]]
"""From when to when (unix) rollouts moved services, or were to."""


class Calibrations:
    """Use cases around what is known of the noise of services."""

    def __init__(self, store: Halves) -> None:
        self._store = store

    def calibration(self, environment: str, service: str, until: float) -> Calibration:
        """Return what the newest history of a service says that ended by then (unix). Raises
        StoreUnavailable."""
        wanted, end = (environment, service), int(until)
        windows: dict[int, Window] = {}
        oldest = end - calibration.KEPT_SECONDS
        while end > oldest and not calibration.enough(windows):
            # A day at a time: most have all of it in the newest.
            found = self._store.halves([wanted], since=end - DAY, until=end).get(wanted, {})
            windows |= {at: Window.from_body(body) for at, body in found.items()}
            end -= DAY
        return calibration.calibration(windows)


class Watched(Documents, Outcomes, Halves, Protocol):
    """The part of the store that history is made from, and where it is kept."""


class Calibrating(Background):
    """Keeps what each window said of each service, once its reports are in. Several controllers may
    do so: what is kept first stays."""

    def __init__(
        self, store: Watched, clock: Clock, entropy: Entropy, *, flush_seconds: float
    ) -> None:
        """flush_seconds: how often SDKs report."""
        super().__init__(
            "sortition-calibrating", "A/A history is not kept meanwhile", every=LOOK_SECONDS
        )
        self._store = store
        self._clock = clock
        self._turns = Turns(store, clock, entropy)
        self._flush_seconds = flush_seconds
        self._oldest = self._newest = 0
        self._left: list[Place] = []
        self._known: set[Place] = set()

    def look(self) -> None:
        """Keep the windows that are over and not kept yet, of some services. Raises
        StoreUnavailable; then the next look goes on from there."""
        if not self._left:
            newest = self._over()
            # By a clock that was ahead and is right again, what comes next was passed over.
            self._newest = min(self._newest, newest)
            if newest == self._newest:
                return
            self._left = list(self._reporting())
            self._oldest = max(self._newest, newest - CATCH_UP * WINDOW_SECONDS)
            self._newest = newest
        self._keep(self._left[:AT_ONCE])
        del self._left[:AT_ONCE]

    def pause(self, well: bool) -> float:
        """Return the seconds until the next look."""
        return SOON_SECONDS if well and self._left else LOOK_SECONDS

    def _over(self) -> int:
        """Return the end of the newest window whose reports are in (unix): by the store's clock
        too, for a window that is looked at too early is silent, or cut short."""
        now = min(moment(self._clock.now()), self._store.time())
        return settled_tick(now, self._flush_seconds) // WINDOW_SECONDS * WINDOW_SECONDS

    def _keep(self, wanted: list[Place]) -> None:
        kept = self._store.halves(wanted, since=self._oldest, until=self._newest)
        rolled_out = self._rolled_out()
        full = 0
        for it in wanted:
            try:
                full += not self._keep_of(it, kept.get(it, {}), rolled_out)
            except Refusal:
                raise
            except Exception:
                log.exception("A/A history of %r in %r has a gap", it[1], it[0])
        if full:
            log.warning("too many services report: of %d no A/A history is kept", full)

    def _keep_of(self, it: Place, kept: Mapping[int, Mapping[str, Any]], rolled_out: Spans) -> bool:
        """Keep what is missing of a service; False where there is no room for another one."""
        ends = range(self._oldest + WINDOW_SECONDS, self._newest + 1, WINDOW_SECONDS)
        missing = [end for end in ends if kept.get(end, {"why": SILENT}).get("why") == SILENT]
        windows = {end: self._window(it, end, rolled_out.get(it, ())) for end in missing}
        if it not in self._known and not any(each.seconds for each in windows.values()):
            # Whoever may report may make up names: that they say nothing is not kept of each.
            return True
        bodies = {end: window.to_body() for end, window in windows.items()}
        return self._store.keep_halves(*it, bodies, always=it in rolled_out)

    def _reporting(self) -> Iterator[Place]:
        """Yield whose history is kept, and note of whom there is any or will be."""
        rolled_out = set(self._rolled_out())
        self._known = set(rolled_out)
        for environment in self._store.keys(documents.ENVIRONMENTS):
            self._known |= {(environment, name) for name in self._store.known(environment)}
            sources = self._store.sources(environment)
            reporting = dict.fromkeys((environment, str(each["service.name"])) for each in sources)
            ranked = sorted(reporting, key=lambda it: (it not in rolled_out, it not in self._known))
            yield from ranked[:MOST_SERVICES]

    def _window(self, of: Place, end: int, moved: Iterable[tuple[float, float]]) -> Window:
        begin = end - WINDOW_SECONDS
        if any(since < end and until > begin for since, until in moved):
            return Window(why=ROLLOUT)
        subject = of[0], service_subject(of[1])
        found = self._store.ticks([subject], since=begin, until=end, halves=True)
        return calibration.window(found.get(subject, {}), end)

    def _rolled_out(self) -> Spans:
        """Return when rollouts moved services, of every service that a rollout is kept of."""
        moved: dict[Place, list[tuple[float, float]]] = defaultdict(list)
        # Who ends between both reads is in both.
        for view in self._turns.live().values():
            it = view.rollout
            spans = moved[it.environment, it.service]
            if it.step != NO_STEP:
                spans.append((it.started or it.created, inf))
        for header in self._turns.headers():
            span = header.created, header.ended
            moved[header.environment, header.service].append(span)
        return dict(moved)
