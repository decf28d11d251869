"""Roles that one process holds at a time, by the store's clock."""

from __future__ import annotations

from collections.abc import Sequence

from flagserver.ports import Lease

from . import keys
from .scripts import script
from .server import Call, Server

REPLICA_MS = 200
"""How long a replica may take to have what was written."""


class RedisLeases:
    """`ports.Leases`."""

    _server: Server
    _had_replicas = False

    def acquire(self, name: str, holder: str, *, ttl_seconds: float) -> Lease | None:
        """Return the lease, renewed if the holder has it already, or None: somebody else does."""
        return _lease(name, holder, self._server.run(_acquire(name, holder, ttl_seconds)))

    def acquire_all(
        self, names: Sequence[str], holder: str, *, ttl_seconds: float
    ) -> list[Lease | None]:
        """Return the same for many at once, in order."""
        tokens = self._server.run_all([_acquire(name, holder, ttl_seconds) for name in names])
        return [_lease(name, holder, token) for name, token in zip(names, tokens, strict=True)]

    def secure(self, lease: Lease, *, ttl_seconds: float) -> bool:
        """Renew a lease; tell whether it is still ours, and a replica has all that was written.

        A store that had replicas and has none any more may be the one that was cut off.
        """
        call = _acquire(lease.name, lease.holder, ttl_seconds)
        self._had_replicas = self._had_replicas or self._server.replicas(keys.META) > 0
        if not self._had_replicas:
            return _lease(lease.name, lease.holder, self._server.run(call)) == lease
        token, replicas = self._server.run_and_wait(call, REPLICA_MS)
        return replicas > 0 and _lease(lease.name, lease.holder, token) == lease

    def release(self, lease: Lease) -> None:
        """Give it up if it is still ours."""
        call = Call(script("release"), [keys.lease(lease.name)], [lease.holder, lease.token])
        self._server.run(call)


def _acquire(name: str, holder: str, ttl_seconds: float) -> Call:
    milliseconds = max(1, round(ttl_seconds * 1000))
    return Call(script("acquire"), [keys.lease(name), keys.FENCES], [name, holder, milliseconds])


def _lease(name: str, holder: str, token: bytes | None) -> Lease | None:
    return None if token is None else Lease(name, holder, int(token))
