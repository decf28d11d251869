"""Time and chance as they really are."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()


class SystemEntropy:
    """The operating system's randomness."""

    def hex(self, octets: int) -> str:
        """Return that many random octets in hex."""
        return secrets.token_hex(octets)
