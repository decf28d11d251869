"""When tokens were last used and flags last asked for: hashes beside them, which change nothing."""

from __future__ import annotations

from collections.abc import Mapping

from . import keys
from .scripts import script
from .server import Call, Server


class RedisUses:
    """`ports.Uses`."""

    _server: Server

    def keep_uses(self, uses: Mapping[str, str]) -> None:
        """Keep when tokens were last used; of two times the later stays."""
        told = [each for use in uses.items() for each in use]
        if told:
            self._server.run(Call(script("used"), [keys.uses()], told))

    def uses(self) -> Mapping[str, str]:
        """Return id of a token -> when it was last used."""
        found: Mapping[bytes, bytes] = self._server.read("HGETALL", keys.uses())
        return {id.decode(): at.decode() for id, at in found.items()}

    def keep_asked(self, environment: str, days: Mapping[str, str]) -> None:
        """Keep on which days flags were last asked for; of two the later stays."""
        told = [each for use in days.items() for each in use]
        if told:
            self._server.run(Call(script("asked"), [keys.asked(environment)], told))

    def asked(self, environment: str) -> Mapping[str, str]:
        """Return flag -> the day on which it was last asked for; "" -> the first day."""
        found: Mapping[bytes, bytes] = self._server.read("HGETALL", keys.asked(environment))
        return {flag.decode(): day.decode() for flag, day in found.items()}
