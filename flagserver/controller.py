"""The controller's loop: tick, then sleep until the next tick or until a rollout changes.

Any number of controllers run. Each rollout is held by one of them; one leads besides, and looks
after what there is only one of.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from flagserver.domain import documents
from flagserver.domain.errors import Refusal, StoreUnavailable
from flagserver.domain.rollout import TICK_SECONDS
from flagserver.ports import Documents, Lease, Leases
from flagserver.services.record import Record

log = logging.getLogger(__name__)

LEASE = "controller"
LEASE_SECONDS = 15.0
WAKE_SECONDS = 0.25
"""Between two ticks lies at least so much, however quickly rollouts change."""


class Ticking(Protocol):
    """What is done at every tick, by every controller: `services.steering`."""

    def tick(self) -> None:
        """Do what is due. Raises Refusal."""

    def step_down(self) -> None:
        """Give up what is held."""


class Feed(Documents, Leases, Protocol):
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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._store = store
        self._steering = steering
        self._holder = holder
        self._tick_seconds = tick_seconds
        self._monotonic = monotonic
        self._lease: Lease | None = None
        self._reported = False
        self._position: str | None = None

    @property
    def leading(self) -> bool:
        """Whether this controller led at its last tick."""
        return self._lease is not None

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop, then give everything up. Survives whatever a tick meets."""
        while not stop.is_set():
            began = self._monotonic()
            try:
                self.tick()
            except Refusal as error:
                self._lease = None
                log.warning("this tick did nothing more: %s", error.detail)
            except Exception:
                log.exception("this tick failed")
            self._rest(stop, began + self._tick_seconds)
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
        """Wait until the next tick is due, or a rollout was changed by somebody."""
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
        return changed

    def _watch_record(self) -> None:
        broken = self._record.check()
        if broken is not None and not self._reported:
            log.error("the record is broken at entry %d: %s", broken.seq, broken.problem)
            self._reported = True

    def _step_down(self) -> None:
        self._steering.step_down()
        if self._lease is None:
            return
        try:
            self._store.release(self._lease)
        except Refusal as error:
            log.warning("the lease ends by itself: %s", error.detail)
