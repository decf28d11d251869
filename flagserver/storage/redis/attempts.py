"""How often something was tried lately: counts that end by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from . import keys
from .scripts import script
from .server import Call, Server


class RedisAttempts:
    """`ports.Attempts`."""

    _server: Server

    def tried(self, names: Sequence[str], *, window_seconds: int) -> list[int]:
        """Count one try under each name and return how many there are of each."""
        call = Call(script("tried"), [keys.attempts(name) for name in names], [window_seconds])
        return [int(count) for count in self._server.run(call)]
