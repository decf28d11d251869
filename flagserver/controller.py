"""The controller's loop: tick, then sleep until the next tick or until a rollout changes.

Ticks go by the clock: just after the reports of a tick of outcomes are in, so that what they show
waits for nobody.

Any number of controllers run. Each rollout is held by one of them; one leads besides, and looks
after what there is only one of.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from flagserver import measures
from flagserver.domain import documents
from flagserver.domain.errors import Refusal, StoreUnavailable
from flagserver.domain.rollout import TICK_SECONDS
from flagserver.ports import Documents, Lease, Leases, Nudges
from flagserver.services.record import Record

log = logging.getLogger(__name__)

DONE, REFUSED, FAILED = RESULTS = ("done", "refused", "failed")
"""What can become of a tick."""

LEASE = "controller"
LEASE_SECONDS = 15.0
WAKE_SECONDS = 0.25
"""Between two ticks lies at least so much, however quickly rollouts change."""

AFTER_SECONDS = 0.1
"""So long after outcomes have settled a tick begins: a clock that is being set moves by less."""


def until_next(now: float, every: float, settle_seconds: float) -> float:
    """Return how long to wait until the next tick of those that come every so many seconds: the
    first after the next settling.

    now: unix second.  settle_seconds: after multiples of `every` by the clock, outcomes are in.
    """
    return every - (now - settle_seconds) % every + AFTER_SECONDS


@dataclass
class Ticks:
    """What became of this controller's ticks. durations: by `measures.TICK_SECONDS`.

    ended, checked: unix seconds of the last tick's end, and of the record's last whole check.
    """

    results: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    durations: list[int] = field(default_factory=lambda: [0] * (len(measures.TICK_SECONDS) + 1))
    seconds: float = 0.0
    ended: float = 0.0
    checked: float = 0.0

    def add(self, result: str, seconds: float) -> None:
        """Count a tick."""
        self.results[result] += 1
        self.durations[bisect_left(measures.TICK_SECONDS, seconds)] += 1
        self.seconds += seconds
        self.ended = time.time()


class Ticking(Protocol):
    """What is done at every tick, by every controller: `services.steering`."""

    def tick(self) -> None:
        """Do what is due. Raises Refusal."""

    def step_down(self) -> None:
        """Give up what is held."""


class Feed(Documents, Leases, Nudges, Protocol):
    """The part of the store that the loop itself needs."""


class Controller:
    """Moves rollouts, and watches the record while it leads."""

    def __init__(
        self,
        record: Record,
        store: Feed,
        steering: Ticking,
        holder: str,
        *,
        tick_seconds: float = TICK_SECONDS,
        settle_seconds: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        """settle_seconds: how long after its end a tick of outcomes is in."""
        self._record = record
        self._store = store
        self._steering = steering
        self._holder = holder
        self._tick_seconds = tick_seconds
        self._settle_seconds = settle_seconds
        self._monotonic = monotonic
        self._unix = unix
        self._lease: Lease | None = None
        self._reported = False
        self.ticks = Ticks()
        self._position: str | None = None
        self._nudged: int | None = None

    @property
    def leading(self) -> bool:
        """Whether this controller led at its last tick."""
        return self._lease is not None

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop, then give everything up. Survives whatever a tick meets."""
        while not stop.is_set():
            result, began = DONE, self._monotonic()
            next_at = began + until_next(self._unix(), self._tick_seconds, self._settle_seconds)
            try:
                self.tick()
            except Refusal as error:
                self._lease, result = None, REFUSED
                log.warning("this tick did nothing more: %s", error.detail)
            except Exception:
                result = FAILED
                log.exception("this tick failed")
            self.ticks.add(result, self._monotonic() - began)
            self._rest(stop, next_at)
        self._step_down()

    def tick(self) -> None:
        """Do what is due for the rollouts that are ours, and what a leader does."""
        self._steering.tick()
        before = self.leading
        self._lease = self._store.acquire(LEASE, self._holder, ttl_seconds=LEASE_SECONDS)
        if self.leading != before:
            log.info("leading" if self.leading else "another controller leads")
        if self.leading:
            self._watch_record()

    def _rest(self, stop: threading.Event, until: float) -> None:
        """Wait until the next tick is due, a rollout was changed by somebody, or word came that
        something happened outside."""
        stop.wait(WAKE_SECONDS)
        while not stop.is_set() and (left := until - self._monotonic()) > 0:
            try:
                if self._rollouts_changed(min(left, 1.0)):
                    return
            except StoreUnavailable:
                stop.wait(min(left, 1.0))
            except Exception:
                log.exception("the feed cannot be followed")
                stop.wait(left)

    def _rollouts_changed(self, wait_seconds: float) -> bool:
        if self._position is None:
            self._position = self._store.feed_end()
        changed = False
        for event in self._store.events(self._position, wait_seconds):
            self._position = event.id
            changed |= any(name == documents.ROLLOUTS for name, _ in event.documents)
        return changed | self._word_came()

    def _word_came(self) -> bool:
        before, self._nudged = self._nudged, self._store.nudged()
        return before is not None and self._nudged != before

    def _watch_record(self) -> None:
        broken = self._record.check()
        if broken is not None and not self._reported:
            log.error("the record is broken at entry %d: %s", broken.seq, broken.problem)
            self._reported = True
        if broken is None:
            self.ticks.checked = time.time()

    def samples(self) -> measures.Samples:
        """Return what Prometheus is told of this controller."""
        ticks = self.ticks
        told: dict[str, dict[measures.Labels, measures.Value]] = {
            "controller_leader": {(): float(self.leading)},
            "controller_ticks": {(name,): float(n) for name, n in ticks.results.items()},
            "controller_tick_duration_seconds": {(): [*ticks.durations, ticks.seconds]},
            "controller_last_tick_timestamp_seconds": {(): ticks.ended},
        }
        if self.leading:
            told["audit_chain_valid"] = {(): float(self._record.broken is None)}
            told["audit_last_verification_timestamp_seconds"] = {(): ticks.checked}
        return told

    def _step_down(self) -> None:
        self._steering.step_down()
        if self._lease is None:
            return
        try:
            self._store.release(self._lease)
        except Refusal as error:
            log.warning("the lease ends by itself: %s", error.detail)
