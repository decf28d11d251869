"""Signing in at an identity provider: sent there with a state, come back with a code.

What one sign-in needs is kept under the hash of its state, for ten minutes, and is taken when the
browser is back, so that it works once. It also names the browser, by the hash of a cookie's secret:
whoever is handed somebody else's address to come back to is not signed in by it.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from flagserver.domain.errors import NotFound, Unauthenticated
from flagserver.domain.people import GroupRole
from flagserver.domain.tokens import digest
from flagserver.ports import Entropy, IdentityProvider, Introduction, NotIntroduced, SignedHeader
from flagserver.ports import Sessions as Secrets

from .people import People
from .sessions import SECRET_OCTETS

OIDC = "oidc"
INTRODUCTION_SECONDS = 10 * 60
"""How long somebody may take to sign in over there."""

LOST = "This sign-in has ended, or was begun in another browser. Try again."


@dataclass(frozen=True, slots=True)
class Begun:
    """there: where the browser is sent.  browser: the secret of the cookie that it keeps."""

    there: str
    browser: str = field(repr=False)


class Introductions:
    """Use cases around an identity provider. None: there is none."""

    def __init__(
        self,
        provider: IdentityProvider | None,
        mapping: Sequence[GroupRole],
        callback: str,
        secrets: Secrets,
        people: People,
        entropy: Entropy,
        header: SignedHeader | None = None,
        header_mapping: Sequence[GroupRole] = (),
    ) -> None:
        """mapping: from groups to roles.  callback: where browsers come back to.

        header: what signs people in before they get here; None, nothing does.
        """
        self._provider = provider
        self._mapping = mapping
        self._callback = callback
        self._secrets = secrets
        self._people = people
        self._entropy = entropy
        self._header = header
        self._header_mapping = header_mapping

    @property
    def name(self) -> str | None:
        """What people call the identity provider."""
        return None if self._provider is None else self._provider.name

    @property
    def has_header(self) -> bool:
        """Whether something in front of the server signs people in."""
        return self._header is not None

    def by_header(self, token: str, address: str) -> str:
        """Return the secret of a new session. Raises NotFound, TooMany, Unauthenticated, Forbidden,
        Conflict."""
        if self._header is None:
            raise NotFound("No load balancer signs people in here.")
        self._people.count_outside(address)
        try:
            somebody = self._header.read(token)
        except NotIntroduced as error:
            raise Unauthenticated(f"{error}") from None
        return self._people.sign_in_outside(somebody, self._header_mapping)

    def begin(self, address: str) -> Begun:
        """Begin a sign-in. address: where it comes from; it is not kept.

        Raises NotFound without a provider, TooMany, and Unauthenticated when it does not answer.
        """
        provider = self._required()
        self._people.count_outside(address)
        state, nonce, verifier, browser = (self._entropy.hex(SECRET_OCTETS) for _ in range(4))
        told = Introduction(self._callback, state, nonce, verifier)
        try:
            there = provider.begin(told)
        except NotIntroduced as error:
            raise Unauthenticated(f"{error}") from None
        body = {**asdict(told), "state": "", "browser": digest(browser)}
        self._secrets.put(OIDC, digest(state), body, ttl_seconds=INTRODUCTION_SECONDS)
        return Begun(there, browser)

    def finish(self, state: str, browser: str, code: str) -> str:
        """Return the secret of a new session. Raises NotFound, Unauthenticated, Forbidden,
        Conflict."""
        provider = self._required()
        body = self._secrets.take(OIDC, digest(state))
        if body is None or not hmac.compare_digest(digest(browser), body["browser"]):
            raise Unauthenticated(LOST)
        told = Introduction(body["callback"], state, body["nonce"], body["verifier"])
        try:
            somebody = provider.finish(told, code)
        except NotIntroduced as error:
            raise Unauthenticated(f"{error}") from None
        return self._people.sign_in_outside(somebody, self._mapping)

    def _required(self) -> IdentityProvider:
        if self._provider is None:
            raise NotFound("This server has no identity provider.")
        return self._provider
