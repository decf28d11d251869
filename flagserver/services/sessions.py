"""Browser sessions, begun by a one-time link. Secrets are kept as hashes only."""

from __future__ import annotations

from dataclasses import asdict

from flagserver.domain.documents import Change, Fact, Principal
from flagserver.domain.errors import Unauthenticated
from flagserver.domain.tokens import digest
from flagserver.ports import Clock, Documents, Entropy
from flagserver.ports import Sessions as Secrets

LINK_SECONDS = 15 * 60
SESSION_SECONDS = 12 * 60 * 60
SECRET_OCTETS = 32

SESSION = "session"
LINK = "link"


class Sessions:
    """Use cases around signing in and out."""

    def __init__(self, store: Documents, secrets: Secrets, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._secrets = secrets
        self._clock = clock
        self._entropy = entropy

    def make_link(self, role: str = "admin") -> str:
        """Return the secret of a link that signs in one browser, once, within 15 minutes."""
        secret = self._entropy.hex(SECRET_OCTETS)
        person = Principal(f"person:{self._entropy.hex(4)}", role, role)
        self._secrets.put(LINK, digest(secret), asdict(person), ttl_seconds=LINK_SECONDS)
        return secret

    def sign_in(self, link_secret: str) -> str:
        """Spend a link and return the secret of a new session. Raises Unauthenticated."""
        body = self._secrets.take(LINK, digest(link_secret))
        if body is None:
            raise Unauthenticated("This link was used before or has ended. Ask for a new one.")
        person = Principal(**body)
        secret = self._entropy.hex(SECRET_OCTETS)
        self._secrets.put(SESSION, digest(secret), asdict(person), ttl_seconds=SESSION_SECONDS)
        fact = Fact(person.id, person.role, "session:begin", person.id)
        self._store.commit(
            Change(writes=(), fact=fact), at=self._clock.now(), salt=self._entropy.hex(16)
        )
        return secret

    def principal(self, session_secret: str) -> Principal | None:
        """Return who a session belongs to, or None when it has ended."""
        body = self._secrets.get(SESSION, digest(session_secret))
        return None if body is None else Principal(**body)

    def sign_out(self, session_secret: str) -> None:
        """End a session now."""
        self._secrets.drop(SESSION, digest(session_secret))
