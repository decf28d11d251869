"""Notices that wait to be delivered: one stream, and a place in it for each notifier."""

from __future__ import annotations

import json

from flagserver.domain.notices import Notice

from . import keys
from .scripts import script
from .server import Call, Server

BEGINNING = "0-0"


class RedisOutbox:
    """`ports.Outbox`. `commit` writes the stream, together with the change that it tells of."""

    _server: Server

    def undelivered(self, notifier: str, *, limit: int = 100) -> list[tuple[str, Notice]]:
        """Return (position, notice) after the notifier's place, oldest first."""
        place = self._server.read("HGET", keys.DELIVERED, notifier)
        after = BEGINNING if place is None else place.decode()
        found = self._server.read("XRANGE", keys.OUTBOX, f"({after}", "+", "COUNT", limit)
        return [
            (position.decode(), Notice.from_body(json.loads(fields[b"notice"])))
            for position, fields in found
        ]

    def delivered(self, notifier: str, position: str) -> None:
        """Move the notifier's place forward, never back."""
        self._server.run(Call(script("delivered"), [keys.DELIVERED], [notifier, position]))
