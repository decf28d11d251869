"""What is done again and again beside everything else, each in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from flagserver.domain.errors import Refusal
from flagserver.ports import Lease, Leases

log = logging.getLogger(__name__)

END_SECONDS = 10.0
"""So long an end waits for the look that is under way."""


class Background:
    """Looks every so often until it is ended, survives whatever it meets, and says the same trouble
    once and not at every look.

    name: of the thread.  undone: what a failed look leaves undone, in words.
    every: seconds between looks.  expected: what is told by its own words alone, at a level of
    `logging`; of anything else the whole trace is logged.
    """

    def __init__(
        self,
        name: str,
        undone: str,
        *,
        every: float = 0.0,
        expected: tuple[type[Exception], ...] = (Refusal,),
        level: int = logging.WARNING,
    ) -> None:
        self._name = name
        self._undone = undone
        self._every = every
        self._expected = expected
        self._level = level
        self._said: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Look once. May raise anything."""
        raise NotImplementedError

    def pause(self, well: bool) -> float:  # noqa: ARG002 (who backs off goes by it)
        """Return the seconds until the next look. well: the last one did not fail."""
        return self._every

    def leave(self) -> None:
        """Let go of what is held, after the last look. May raise anything."""

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the look that is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=END_SECONDS)
        self._survives(self.leave)

    def step(self) -> bool:
        """Look once and survive it; tell whether that went well."""
        return self._survives(self.look)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self.pause(self.step()))

    def _survives(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except self._expected as error:
            why = error.detail if isinstance(error, Refusal) else str(error)
            if why != self._said:
                log.log(self._level, "%s: %s", self._undone, why)
            self._said = why
            return False
        except Exception:
            log.exception("%s", self._undone)
            return False
        self._said = None
        return True


class Alone:
    """The right of one process to do something, under a lease that every look renews."""

    def __init__(self, leases: Leases, name: str, holder: str, ttl_seconds: float) -> None:
        self._leases = leases
        self._name = name
        self._holder = holder
        self._ttl_seconds = ttl_seconds
        self.lease: Lease | None = None
        """What was held last."""

    def take(self) -> Lease | None:
        """Return the lease if nobody else has it. Raises StoreUnavailable."""
        self.lease = self._leases.acquire(self._name, self._holder, ttl_seconds=self._ttl_seconds)
        return self.lease

    def give_up(self) -> None:
        """Let another process take it. Raises StoreUnavailable."""
        if self.lease is not None:
            self._leases.release(self.lease)
