"""Tokens: making, showing once, revoking; and who it is that presents one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flagserver.domain import access, documents, tokens
from flagserver.domain.commands import NewToken, Reasoned, Rotation
from flagserver.domain.documents import (
    Change,
    Committed,
    Fact,
    Idempotency,
    Principal,
    Write,
)
from flagserver.domain.errors import Conflict, NotFound, StoreUnavailable, Unauthenticated
from flagserver.domain.times import rfc3339
from flagserver.domain.tokens import Token
from flagserver.ports import Clock, Documents, Entropy

from .snapshots import STORE, Snapshots
from .uses import Uses


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new token and its text, which is shown now or never (None: an idempotent retry)."""

    token: Token
    text: str | None


class Tokens:
    """Use cases around tokens."""

    def __init__(
        self,
        store: Documents,
        snapshots: Snapshots,
        uses: Uses,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.uses = uses
        """When each of them was last used."""
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._entropy = entropy

    def authenticate(self, text: str, strange: Callable[[], None] = _nothing) -> Principal:
        """Return who presents a token. Raises Unauthenticated.

        Known tokens are checked in memory; only an unknown id asks the store, once. Raises
        StoreUnavailable when it cannot.
        strange: called of one that is not known to be good, before the store is asked; what it
        raises is raised. Not while no tokens are known yet: then none is.
        """
        try:
            known = self.recognise(text)
        except Unauthenticated:
            strange()
            raise
        if known is not None:
            return known
        return self._holder(text, self._unknown(tokens.identifier(text), strange))

    def recognise(self, text: str) -> Principal | None:
        """Return who presents a token that is known here, from memory; None for an unknown one.

        Raises Unauthenticated when it is known and not good.
        """
        id = tokens.identifier(text)
        token = None if id is None else self._snapshots.token(id)
        return None if token is None else self._holder(text, token)

    def is_good(self, id: str) -> bool:
        """Tell, from memory, whether a token is good; one that is too new to be known here is."""
        token = self._snapshots.token(id)
        return token is None or token.good(self._clock.now())

    def ticket(self, id: str, purpose: str, origin: str) -> str:
        """Return a ticket of a token (see `domain.tokens.ticket`). Raises Unauthenticated."""
        return tokens.ticket(self._known(id), purpose, origin, self._clock.now())

    def redeem(
        self,
        text: str,
        purpose: str,
        origins: Sequence[str],
        strange: Callable[[], None] = _nothing,
    ) -> Token:
        """Return the token that a ticket was made of, for one of these origins.

        Raises Unauthenticated, and what `authenticate` raises. strange: as there.
        """
        id = tokens.ticket_identifier(text)
        token = None if id is None else self._snapshots.token(id)
        known = token is not None
        if token is None:
            token = self._unknown(id, strange)
        now = self._clock.now()
        if token is not None and any(tokens.redeems(token, text, purpose, o, now) for o in origins):
            self.uses.note(token.id, now)
            return token
        if known:
            strange()
        raise Unauthenticated("The ticket has ended or is not good here. Ask for a new one.")

    def _known(self, id: str) -> Token:
        token = self._snapshots.token(id) or self._read(id)
        if token is None:
            raise Unauthenticated("The token is not known.")
        return token

    def _unknown(self, id: str | None, strange: Callable[[], None]) -> Token | None:
        """Return a token that is not known here, None where there is none; counted before the store
        is asked. id: None of a text that holds none."""
        if self._snapshots.source == STORE:
            strange()
        if id is None:
            return None
        if not self._snapshots.believes():
            # The store that is there may know another's tokens.
            raise StoreUnavailable("This token is not known here, and the store cannot be asked.")
        return self._read(id)

    def _holder(self, text: str, token: Token | None) -> Principal:
        now = self._clock.now()
        if token is None or not token.valid(text, now):
            raise Unauthenticated("The token is not known, has ended or was revoked.")
        self.uses.note(token.id, now)
        return token.principal()

    def all(self) -> list[Token]:
        """Return every token, newest first."""
        found = self._store.read_all(documents.TOKENS).values()
        return sorted((Token.from_body(d.body) for d in found), key=_created, reverse=True)

    def create(
        self, command: NewToken, by: Principal, idempotency: Idempotency | None = None
    ) -> Made:
        """Make a token. Raises NotFound for an environment that is not there."""
        access.check(by, access.MANAGE)
        self._check_environment(command)
        token, text = tokens.create(
            command,
            id=self._entropy.hex(tokens.ID_OCTETS),
            secret=self._entropy.hex(tokens.SECRET_OCTETS),
            at=rfc3339(self._clock.now()),
            owner=tokens.owner_of(by),
        )
        done = self._keep(token, None, 0, "token:create", by, command.reason, idempotency)
        return Made(self._made_before(done), None) if done.repeated else Made(token, text)

    def adopt(self, text: str, command: NewToken, by: Principal) -> Token:
        """Keep a token that an operator made; nothing happens when it is kept already. One that was
        revoked stays so, and keeps no server from starting whose settings still name it.

        Raises ValueError on its form, Conflict when its id is taken.
        """
        token = tokens.adopt(text, command, at=rfc3339(self._clock.now()))
        known = self._read(token.id)
        if known is None:
            self._keep(token, None, 0, "token:adopt", by, command.reason, None)
            return token
        if known.digest != token.digest:
            raise Conflict(f"Token {token.id} is there with another secret.")
        return known

    def rotate(
        self, id: str, command: Rotation, by: Principal, idempotency: Idempotency | None = None
    ) -> Made:
        """Put another token in the place of one, which goes on for a while. Raises NotFound, and
        Conflict for one that is no longer good or was rotated before."""
        access.check(by, access.MANAGE)
        document = self._store.read(documents.TOKENS, id)
        if document is None:
            raise NotFound(f"There is no token {id!r}.")
        before = Token.from_body(document.body)
        if not before.good(self._clock.now()) or before.followed_by is not None:
            if idempotency is not None and self._store.repeats(idempotency):
                return self._rotated(before)
            raise Conflict(f"Token {id} has ended, or was rotated before.")
        after, following, text = tokens.rotate(
            *(before, command),
            id=self._entropy.hex(tokens.ID_OCTETS),
            secret=self._entropy.hex(tokens.SECRET_OCTETS),
            now=self._clock.now(),
            owner=tokens.owner_of(by),
        )
        fact = _fact("token:rotate", after, before, by, command.reason)
        writes = (
            Write(documents.TOKENS, id, document.revision, after.to_body()),
            Write(documents.TOKENS, following.id, 0, following.to_body()),
        )
        self._store.commit(
            Change(writes=writes, fact=fact, idempotency=idempotency),
            at=self._clock.now(),
            salt=self._entropy.hex(16),
        )
        return Made(following, text)

    def _rotated(self, before: Token) -> Made:
        following = None if before.followed_by is None else self._read(before.followed_by)
        if following is None:
            raise Conflict(f"Token {before.id} has ended.")
        return Made(following, None)

    def revoke(
        self, id: str, command: Reasoned, by: Principal, idempotency: Idempotency | None = None
    ) -> Token:
        """End a token now. Raises NotFound."""
        access.check(by, access.MANAGE)
        document = self._store.read(documents.TOKENS, id)
        if document is None:
            raise NotFound(f"There is no token {id!r}.")
        token = Token.from_body(document.body)
        if token.revoked is not None:
            return token
        after = tokens.revoke(token, at=rfc3339(self._clock.now()))
        self._keep(after, token, document.revision, "token:revoke", by, command.reason, idempotency)
        return after

    def _keep(
        self,
        token: Token,
        before: Token | None,
        expected: int,
        action: str,
        by: Principal,
        reason: str | None,
        idempotency: Idempotency | None,
    ) -> Committed:
        fact = _fact(action, token, before, by, reason)
        write = Write(documents.TOKENS, token.id, expected, token.to_body())
        change = Change(writes=(write,), fact=fact, idempotency=idempotency)
        return self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))

    def _made_before(self, done: Committed) -> Token:
        """Return the token that the first of identical requests made: the record knows its id."""
        for link in self._store.record(after=done.seq - 1, limit=1):
            target = str(json.loads(link.canonical or b"{}").get("target"))
            token = self._read(target.removeprefix("token/"))
            if token is not None:
                return token
        raise Conflict("This token was made before, and its entry is no longer in the record.")

    def _check_environment(self, command: NewToken) -> None:
        if command.environment is None:
            return
        if self._store.read(documents.ENVIRONMENTS, command.environment) is None:
            raise NotFound(f"There is no environment {command.environment!r}.")

    def _read(self, id: str) -> Token | None:
        document = self._store.read(documents.TOKENS, id)
        return None if document is None else Token.from_body(document.body)


def _fact(
    action: str, token: Token, before: Token | None, by: Principal, reason: str | None
) -> Fact:
    return Fact(
        actor=by.id,
        role=by.role_in(None),
        action=action,
        target=f"token/{token.id}",
        environment=token.environment,
        before=before.public() if before else None,
        after=token.public(),
        reason=reason,
    )


def _created(token: Token) -> str:
    return token.created
