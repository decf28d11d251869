"""Word that something happened outside, passed from whoever heard it to the controllers."""

from __future__ import annotations

import hashlib
import math

from . import keys
from .server import Server


class RedisNudges:
    """`ports.Nudges`."""

    _server: Server

    def nudge(self, id: str, *, ttl_seconds: float) -> bool:
        """See `ports.Nudges`."""
        digest = hashlib.sha256(id.encode()).hexdigest()[:32]
        first = self._server.write(
            "SET", keys.nudge(digest), 1, "NX", "EX", max(1, math.ceil(ttl_seconds))
        )
        if not first:
            return False
        self._server.write("INCR", keys.NUDGES)
        return True

    def nudged(self) -> int:
        """See `ports.Nudges`."""
        return int(self._server.read("GET", keys.NUDGES) or 0)
