"""How often somebody may ask: so many times a second over time, and more than that at once.

The generic cell rate algorithm (ITU-T I.371, annex A): a token bucket of which one moment is kept,
the one at which all that was asked is paid for. Whoever is not ahead of the present by more than
BURST_SECONDS is let in.
"""

from __future__ import annotations

from dataclasses import dataclass

ADDRESS = "address"
"""Who shows no token that is good is counted by where they come from."""

BURST_SECONDS = 10.0
"""What was not asked for so long may be asked at once."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a second, of one token by its scope, or of one address; 0: as many as they like.

    Of each process. A whole fleet shows one SDK's token: with the burst, all the streams that one
    process can hold come back at once and none is refused.
    """

    sdk: float = 4000.0
    deploy: float = 50.0
    admin: float = 100.0
    address: float = 20.0

    def of(self, kind: str) -> float:
        """Return the rate of a token's scope, or of ADDRESS. Raises KeyError."""
        known = {"sdk": self.sdk, "deploy": self.deploy, "admin": self.admin}
        return (known | {ADDRESS: self.address})[kind]


def asked(due: float, per_second: float, now: float) -> tuple[float, float]:
    """Return (when all is paid for, seconds to wait) of one more request; 0 seconds let it in.

    due: when all before it is paid for; a time that is past is as good as none.  now: any clock's.
    """
    after = max(due, now) + 1 / per_second
    early = after - now - BURST_SECONDS
    return (due, early) if early > 0 else (after, 0.0)
