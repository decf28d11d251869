"""Time as the double has it: the machine's, faster, or turned by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """Unix seconds that run `scale` times as fast as the machine's; with scale 0 they stand still
    until somebody turns them."""

    def __init__(
        self, now: float | None = None, scale: float = 1.0, real: Callable[[], float] = time.time
    ) -> None:
        self._real = real
        self._from = real()
        self._at = self._from if now is None else now
        self.scale = scale

    def now(self) -> float:
        """Return unix seconds."""
        return self._at + (self._real() - self._from) * self.scale

    def utcnow(self) -> datetime:
        """Return the same as moto wants it: UTC, without saying so."""
        return datetime.fromtimestamp(self.now(), UTC).replace(tzinfo=None)

    def set(self, now: float, scale: float | None = None) -> None:
        """Go on from here."""
        self._from, self._at = self._real(), now
        self.scale = self.scale if scale is None else scale
