"""Browser sessions and one-time links, each under the digest of its secret, ended by the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import keys
from .server import Server


class RedisSessions:
    """`ports.Sessions`."""

    _server: Server

    def put(self, kind: str, digest: str, body: Mapping[str, Any], *, ttl_seconds: int) -> None:
        """Keep a body for so long."""
        value = json.dumps(dict(body))
        self._server.write("SET", keys.secret(kind, digest), value, "EX", ttl_seconds)

    def get(self, kind: str, digest: str) -> Mapping[str, Any] | None:
        """Return the body, or None when it has ended."""
        return _body(self._server.read("GET", keys.secret(kind, digest)))

    def take(self, kind: str, digest: str) -> Mapping[str, Any] | None:
        """Return the body and forget it. A lost answer spends it."""
        return _body(self._server.write("GETDEL", keys.secret(kind, digest)))

    def drop(self, kind: str, digest: str) -> None:
        """Forget it."""
        self._server.write("DEL", keys.secret(kind, digest))


def _body(value: bytes | None) -> Mapping[str, Any] | None:
    if value is None:
        return None
    body: Mapping[str, Any] = json.loads(value)
    return body
