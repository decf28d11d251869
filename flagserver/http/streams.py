"""Event streams: one environment's flags to one SDK, for as long as it listens and may.

A stream takes its place when the request comes in, not when the first message goes out, so a herd
that arrives at once cannot get past the cap; and it gives the place back when the server closes
it, however far it came.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from flagserver.services.snapshots import Snapshots, dump, sse

from . import sockets
from .errors import Problem

RETRY_SECONDS = 5
LOOK_SECONDS = 1.0
"""How long a quiet stream waits before it looks whether it may go on."""


@dataclass(frozen=True)
class Limits:
    """How streams behave. most: of one process, which gives each a thread; others need some.

    send_seconds: how long a client may leave a message unread before it is dropped.
    """

    most: int = 200
    beat_seconds: float = 10.0
    send_seconds: float = 30.0


class Places:
    """Counts the streams of this process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many streams are open."""
        return self._taken

    def take(self) -> None:
        """Take a place. Raises Problem too_many_streams."""
        with self._lock:
            if self._taken >= self._most:
                headers = {"Retry-After": str(RETRY_SECONDS)}
                detail = "This process holds as many streams as it can. Poll, or try again."
                raise Problem(503, "too_many_streams", detail, headers=headers)
            self._taken += 1

    def give_back(self) -> None:
        """Give a place back."""
        with self._lock:
            self._taken -= 1


class Stream:
    """The body of one stream: the whole snapshot, then changes, and beats in between.

    It ends by itself when its listener fell too far behind or lost its permission.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        environment: str,
        places: Places,
        limits: Limits,
        *,
        allowed: Callable[[], bool],
        environ: Mapping[str, Any],
    ) -> None:
        """Take a place. Raises Problem too_many_streams."""
        self._snapshots = snapshots
        self._environment = environment
        self._limits = limits
        self._allowed = allowed
        self._environ = environ
        self._ending = ExitStack()
        places.take()
        self._ending.callback(places.give_back)
        self._messages = self._follow()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._messages)

    def close(self) -> None:
        """End it, whether it began or not."""
        self._messages.close()
        self._ending.close()

    def _follow(self) -> Generator[bytes, None, None]:
        patience = sockets.patience(self._environ, self._limits.send_seconds)
        with patience, self._snapshots.subscribe(self._environment) as (view, subscription):
            yield b"retry: 2000\n\n" + view.event
            beat_at = time.monotonic() + self._limits.beat_seconds
            while not subscription.dropped:
                wait = min(LOOK_SECONDS, beat_at - time.monotonic())
                message = subscription.next(max(0.0, wait))
                if not self._allowed():
                    return
                if message is not None:
                    yield message
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + self._limits.beat_seconds
                    yield self._beat()

    def _beat(self) -> bytes:
        held = self._snapshots.view(self._environment).snapshot.version
        return sse("beat", dump({"version": held.version}))
