"""Roles that one process holds at a time, by the store's clock."""

from __future__ import annotations

from flagserver.ports import Lease

from . import keys
from .scripts import script
from .server import Call, Server


class RedisLeases:
    """`ports.Leases`."""

    _server: Server

    def acquire(self, name: str, holder: str, *, ttl_seconds: float) -> Lease | None:
        """Return the lease, renewed if the holder has it already, or None: somebody else does."""
        milliseconds = max(1, round(ttl_seconds * 1000))
        call = Call(
            script("acquire"), [keys.lease(name), keys.FENCES], [name, holder, milliseconds]
        )
        token = self._server.run(call)
        return None if token is None else Lease(name, holder, int(token))

    def release(self, lease: Lease) -> None:
        """Give it up if it is still ours."""
        call = Call(script("release"), [keys.lease(lease.name)], [lease.holder, lease.token])
        self._server.run(call)
