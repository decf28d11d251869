"""The controller's loop: hold the lease, tick, sleep. One controller acts, the others wait."""

from __future__ import annotations

import logging
import threading

from flagserver.domain.errors import Refusal
from flagserver.ports import Lease, Leases
from flagserver.services import Services

log = logging.getLogger(__name__)

LEASE = "controller"
LEASE_SECONDS = 15.0
TICK_SECONDS = 5.0


class Controller:
    """Acts while it holds the lease. For now it watches the record; rollouts are to come."""

    def __init__(self, services: Services, leases: Leases, holder: str) -> None:
        self._services = services
        self._leases = leases
        self._holder = holder
        self._lease: Lease | None = None
        self._reported = False

    @property
    def leading(self) -> bool:
        """Whether this controller held the lease at its last tick."""
        return self._lease is not None

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop, then give the lease up. Survives whatever a tick meets."""
        while not stop.is_set():
            try:
                self.tick()
            except Refusal as error:
                self._lease = None
                log.warning("this tick did nothing: %s", error.detail)
            except Exception:
                log.exception("this tick failed")
            stop.wait(TICK_SECONDS)
        self._step_down()

    def tick(self) -> None:
        """Do what is due, if the lease is ours."""
        before = self.leading
        self._lease = self._leases.acquire(LEASE, self._holder, ttl_seconds=LEASE_SECONDS)
        if self.leading != before:
            log.info("holding the lease" if self.leading else "another controller holds the lease")
        if self.leading:
            self._watch_record()

    def _watch_record(self) -> None:
        broken = self._services.record.check()
        if broken is not None and not self._reported:
            log.error("the record is broken at entry %d: %s", broken.seq, broken.problem)
            self._reported = True

    def _step_down(self) -> None:
        if self._lease is None:
            return
        try:
            self._leases.release(self._lease)
        except Refusal as error:
            log.warning("the lease ends by itself: %s", error.detail)
