"""One driver for all that is kept: what `ports.Store` asks, over one Redis or one Cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from .attempts import RedisAttempts
from .bodies import RedisBodies
from .checkpoints import RedisCheckpoints
from .documents import RedisDocuments, full_jitter
from .evidence import RedisEvidence
from .halves import RedisHalves
from .leases import RedisLeases
from .looks import RedisLooks
from .metrics import RedisMetrics
from .nudges import RedisNudges
from .outbox import RedisOutbox
from .outcomes import RedisOutcomes
from .server import Server, Told
from .sessions import RedisSessions
from .uses import RedisUses


class RedisStore(
    RedisDocuments,
    RedisCheckpoints,
    RedisBodies,
    RedisOutcomes,
    RedisMetrics,
    RedisSessions,
    RedisAttempts,
    RedisUses,
    RedisLeases,
    RedisLooks,
    RedisEvidence,
    RedisHalves,
    RedisNudges,
    RedisOutbox,
):
    """`ports.Store`. Connects when it is first asked; threads share it, and it may be forked."""

    def __init__(
        self,
        at: str | Server,
        *,
        pause: Callable[[int], None] = full_jitter,
        now: Callable[[], float] = time.time,
        told: Told | None = None,
    ) -> None:
        """Nothing is connected yet. Raises UnusableUrl (a ValueError).

        at: `redis://`, `rediss://`, `unix://`, `redis-cluster://`, `rediss-cluster://` or
        `redis-sentinel://`.
        pause: waits before an attempt to commit.  now: unix time, by which old counts end.
        told: of every question to a store at a URL, and how long it took.
        """
        super().__init__(Server.at(at, told) if isinstance(at, str) else at, pause)
        self._now = now

    @classmethod
    def over(cls, client: Any, *, pause: Callable[[int], None] = full_jitter) -> Self:
        """Return a store over a client made elsewhere, such as `fakeredis.FakeRedis()`."""
        return cls(Server(lambda: client, "given"), pause=pause)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
