"""How often somebody may try to sign in, counted by account and by where it comes from.

An account is not locked: whoever guesses from one address is stopped at that address, so that the
one whose account it is can sign in from theirs. The limit of an account as a whole is for guessing
that is spread over many addresses, and so much higher.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

WINDOW_SECONDS = 15 * 60


@dataclass(frozen=True, slots=True)
class Limit:
    """So many tries within WINDOW_SECONDS, under one name."""

    name: str
    most: int


def limits(key: str, login: str, address: str) -> tuple[Limit, ...]:
    """Return what a try counts towards, the narrowest first.

    key: a secret of this installation. Neither login nor address stands in a name: a keyed hash
    does.
    """
    account = login.casefold()
    return (
        Limit(_name(key, "account at address", account, address), 10),
        Limit(_name(key, "address", address), 50),
        Limit(_name(key, "account", account), 200),
    )


def outside(key: str, address: str) -> tuple[Limit, ...]:
    """Return what a sign-in that begins at an identity provider counts towards: nothing is guessed
    there, but each one is kept for a while. Many colleagues can share an address."""
    return (Limit(_name(key, "outside", address), 200),)


def _name(key: str, *parts: str) -> str:
    told = "\n".join(parts)
    return hmac.new(key.encode(), told.encode(), hashlib.sha256).hexdigest()[:32]
