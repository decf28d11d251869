"""Who asks too often is refused: counted in this process, by token or by address.

In memory alone: no request waits for the store to be counted, and reads are served while it is
away. So the limits are of each process; an installation of many lets in as much more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import islice

from flagserver.domain import rates
from flagserver.domain.addresses import Network, client_of
from flagserver.domain.documents import Principal
from flagserver.domain.errors import TooMany
from flagserver.domain.rates import ADDRESS

MOST_COUNTED = 10_000
"""Of whom something is kept. Beyond that those who asked least lately are forgotten."""

JITTER_SECONDS = 5.0
"""Those who are refused at the same moment come back spread over so long."""


class Rates:
    """What everybody has asked of this process."""

    def __init__(
        self,
        allowed: rates.Rates,
        trusted: Sequence[Network],
        *,
        monotonic: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        """trusted: whose word is taken for where a request comes from.  chance: in [0, 1)."""
        self._allowed = {kind: allowed.of(kind) for kind in ("sdk", "deploy", "admin", ADDRESS)}
        self._trusted = trusted
        self._monotonic = monotonic
        self._chance = chance
        self._due: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def count(self, who: Principal) -> None:
        """Count a request with a token. Raises TooMany. From any thread; asks nobody."""
        self._count(who.scope, who.id, f"of the token {who.id.removeprefix('token:')}")

    def count_stranger(self, peer: str | None, forwarded: str, *, lacks: str = "token") -> None:
        """Count a request without a good one of what it lacks, as `client_of` tells where it comes
        from. Raises TooMany.

        Each is counted by itself: behind one address, programs with an old token must not keep out
        people who sign in.
        """
        address = client_of(peer, forwarded, self._trusted)
        self._count(ADDRESS, f"{lacks} {address}", f"without a good {lacks} from your address")

    def _count(self, kind: str, who: str, whose: str) -> None:
        allowed = self._allowed.get(kind, 0.0)
        if allowed == 0:
            return
        now = self._monotonic()
        with self._lock:
            due, wait = rates.asked(self._due.get((kind, who), now), allowed, now)
            if wait == 0:
                self._keep((kind, who), due, now)
                return
        words = f"More than {allowed:g} requests a second {whose} come to this process."
        raise TooMany(words, retry_after=wait + self._chance() * JITTER_SECONDS)

    def _keep(self, of: tuple[str, str], due: float, now: float) -> None:
        if of not in self._due and len(self._due) >= MOST_COUNTED:
            self._due = {each: at for each, at in self._due.items() if at > now}
            for each in list(islice(self._due, max(0, len(self._due) - MOST_COUNTED // 2))):
                del self._due[each]
        # A key that is put anew comes last: so the first ones are those who asked least lately.
        self._due.pop(of, None)
        self._due[of] = due
