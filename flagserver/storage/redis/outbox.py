"""Notices that wait to be delivered: one stream, and a place in it for each notifier."""

from __future__ import annotations

import json
from collections.abc import Mapping

from flagserver.domain.notices import Notice

from . import keys
from .scripts import script
from .server import Call, Server

BEGINNING = "0-0"


class RedisOutbox:
    """`ports.Outbox` and `ports.Receipts`. `commit` writes the stream, together with the change
    that it tells of."""

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

    def told(
        self, subject: str, *, limit: int = 1000
    ) -> tuple[list[tuple[str, Notice]], Mapping[str, str]]:
        """Return the notices of one subject, and the place of each notifier."""
        places = self._server.read("HGETALL", keys.DELIVERED)
        found = self._server.read("XREVRANGE", keys.OUTBOX, "+", "-", "COUNT", limit)
        notices = [
            (position.decode(), Notice.from_body(json.loads(fields[b"notice"])))
            for position, fields in reversed(found)
        ]
        of_it = [(position, notice) for position, notice in notices if notice.subject == subject]
        return of_it, {name.decode(): place.decode() for name, place in places.items()}

    def delivered(self, notifier: str, position: str) -> None:
        """Move the notifier's place forward, never back."""
        self._server.run(Call(script("delivered"), [keys.DELIVERED], [notifier, position]))
