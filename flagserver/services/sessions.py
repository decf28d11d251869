"""Browser sessions. Secrets are kept as hashes only.

A session begins by a one-time link, for whoever runs the server, or for a person (see `people`). It
ends when nobody has used it for a while, after half a day whatever happens, and at once when the
person's roles or password change: a session holds who it is of, and what they may is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flagserver.domain import documents
from flagserver.domain.documents import Change, Fact, Principal
from flagserver.domain.errors import Unauthenticated
from flagserver.domain.people import Person
from flagserver.domain.times import moment
from flagserver.domain.tokens import digest
from flagserver.ports import Clock, Documents, Entropy
from flagserver.ports import Sessions as Secrets

LINK_SECONDS = 15 * 60
SESSION_SECONDS = 12 * 60 * 60
IDLE_SECONDS = 30 * 60
"""An open page asks by itself, so only a browser that was closed or sleeps is idle."""
NOTE_SECONDS = 60
"""That it was used is noted this often."""
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
        whoever = Principal(f"person:{self._entropy.hex(4)}", role, role)
        self._secrets.put(LINK, digest(secret), asdict(whoever), ttl_seconds=LINK_SECONDS)
        return secret

    def sign_in(self, link_secret: str) -> str:
        """Spend a link and return the secret of a new session. Raises Unauthenticated."""
        body = self._secrets.take(LINK, digest(link_secret))
        if body is None:
            raise Unauthenticated("This link was used before or has ended. Ask for a new one.")
        return self._begin({"principal": dict(body)}, Principal(**body))

    def begin(self, person: Person) -> str:
        """Return the secret of a new session of a person."""
        body = {"person": person.id, "generation": person.generation}
        return self._begin(body, person.principal)

    def principal(self, session_secret: str) -> Principal | None:
        """Return who a session belongs to, or None when it has ended."""
        body = self._secrets.get(SESSION, digest(session_secret))
        if body is None:
            return None
        found = self._holder(body)
        if found is None:
            self.sign_out(session_secret)
        elif self._now() - body["used"] >= NOTE_SECONDS:
            self._note(session_secret, body)
        return found

    def sign_out(self, session_secret: str) -> None:
        """End a session now."""
        self._secrets.drop(SESSION, digest(session_secret))

    def _begin(self, body: Mapping[str, Any], who: Principal) -> str:
        secret = self._entropy.hex(SECRET_OCTETS)
        self._note(secret, {**body, "until": self._now() + SESSION_SECONDS})
        fact = Fact(who.id, who.role, "session:begin", who.id)
        self._store.commit(
            Change(writes=(), fact=fact), at=self._clock.now(), salt=self._entropy.hex(16)
        )
        return secret

    def _note(self, secret: str, body: Mapping[str, Any]) -> None:
        """Keep a session for as long as it may be idle, and no longer than it may last."""
        left = body["until"] - self._now()
        if left > 0:
            seconds = max(1, int(min(IDLE_SECONDS, left)))
            told = {**body, "used": self._now()}
            self._secrets.put(SESSION, digest(secret), told, ttl_seconds=seconds)

    def _holder(self, body: Mapping[str, Any]) -> Principal | None:
        if body["until"] <= self._now():
            return None
        if "principal" in body:
            return Principal(**body["principal"])
        document = self._store.read(documents.PEOPLE, body["person"])
        if document is None:
            return None
        person = Person.from_body(document.body)
        same = person.ended is None and person.generation == body["generation"]
        return person.principal if same else None

    def _now(self) -> float:
        return moment(self._clock.now())
