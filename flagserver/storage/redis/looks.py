"""What controllers saw, look by look: a bounded stream for each rollout, and when each was last."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import keys
from .scripts import script
from .server import Call, Server

LENGTH = 400
"""About how many looks of a rollout are kept: half an hour of them, one every five seconds."""

KEEP_SECONDS = 90 * 24 * 60 * 60
"""How long they are kept after the last."""


class RedisLooks:
    """`ports.Looks`."""

    _server: Server
    _now: Callable[[], float] = staticmethod(time.time)

    def append(self, rollout: str, look: Mapping[str, Any]) -> None:
        """Add one look; the oldest go."""
        body = json.dumps(dict(look), ensure_ascii=False, allow_nan=False)
        call = Call(script("look"), [keys.looks(rollout)], [body, LENGTH, KEEP_SECONDS])
        self._server.run(call)

    def looks(self, rollout: str, *, limit: int = LENGTH) -> list[Mapping[str, Any]]:
        """Return the newest looks, oldest first."""
        found = self._server.read("XREVRANGE", keys.looks(rollout), "+", "-", "COUNT", limit)
        return [json.loads(fields[b"look"]) for _, fields in reversed(found)]

    def last(self, rollouts: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return the newest look of each of these that has one."""
        commands = [("XREVRANGE", keys.looks(id), "+", "-", "COUNT", 1) for id in rollouts]
        newest = self._server.read_all(commands)
        return {
            id: json.loads(found[0][1][b"look"])
            for id, found in zip(rollouts, newest, strict=True)
            if found
        }

    def saw(self, at: Mapping[str, float]) -> None:
        """Note when rollouts were looked at; forget those of long ago."""
        if not at:
            return
        scores = [part for id, seconds in at.items() for part in (repr(seconds), id)]
        # GT: of two controllers, whoever looked last counts.
        self._server.write("ZADD", keys.LOOKED, "GT", *scores)
        oldest = self._now() - KEEP_SECONDS
        self._server.write("ZREMRANGEBYSCORE", keys.LOOKED, "-inf", f"({oldest!r}")

    def seen(self, rollouts: Sequence[str]) -> Mapping[str, float]:
        """Return when each of these was looked at last, of those that were."""
        if not rollouts:
            return {}
        found = self._server.read("ZMSCORE", keys.LOOKED, *rollouts)
        return {
            id: float(score) for id, score in zip(rollouts, found, strict=True) if score is not None
        }
