"""Signed checkpoints beside the record, for those who export it. They hold by their signatures, and
not by lying here: see `ports.Anchors`."""

from __future__ import annotations

from . import keys
from .server import Server

MOST = 1000
"""The newest that are kept; anchors keep all."""


class RedisCheckpoints:
    """`ports.Checkpoints`."""

    _server: Server

    def keep_checkpoint(self, note: str) -> None:
        """See `ports.Checkpoints`."""
        self._server.write("RPUSH", keys.CHECKPOINTS, note)
        self._server.write("LTRIM", keys.CHECKPOINTS, -MOST, -1)

    def checkpoints(self, *, limit: int = MOST) -> list[str]:
        """See `ports.Checkpoints`."""
        found = self._server.read("LRANGE", keys.CHECKPOINTS, -limit, -1)
        return [note.decode() for note in found]
