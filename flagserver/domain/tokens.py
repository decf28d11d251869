"""Tokens: `srt_<scope>_<id>_<secret>`, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .commands import NewToken, Rotation
from .documents import Body, Principal
from .times import rfc3339

_FORM = re.compile(r"srt_(sdk|deploy|admin)_([0-9a-f]{12})_([0-9a-f]{64})")

_TICKET = re.compile(r"([0-9a-f]{12})\.([0-9]{1,12})\.([0-9a-f]{64})")

TICKET_SECONDS = 15 * 60

ID_OCTETS = 6
SECRET_OCTETS = 32


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept. digest: SHA-256 of its text, which is random, so that is enough.

    followed_by: id of the one that took its place, when it was rotated.
    owner: the person who was shown its text (`person:…`), None where nobody is known.
    """

    id: str
    scope: str
    environment: str | None
    description: str
    digest: str
    created: str
    expires: str | None
    revoked: str | None = None
    followed_by: str | None = None
    owner: str | None = None

    @classmethod
    def from_body(cls, body: Body) -> Token:
        """Return the token that a document holds."""
        return cls(**body)

    def to_body(self) -> dict[str, Any]:
        """Return the document's body."""
        return asdict(self)

    def public(self) -> dict[str, Any]:
        """Return what may be shown: everything but the digest."""
        body = self.to_body()
        del body["digest"]
        return body

    def valid(self, text: str, now: datetime) -> bool:
        """Tell whether a presented text is this token, in constant time, and still good."""
        return hmac.compare_digest(digest(text), self.digest) and self.good(now)

    def good(self, now: datetime) -> bool:
        """Tell whether it was neither revoked nor has come to its end."""
        ended = self.expires is not None and datetime.fromisoformat(self.expires) <= now
        return self.revoked is None and not ended

    def principal(self) -> Principal:
        """Return who acts when this token is presented."""
        return Principal(
            *(f"token:{self.id}", self.scope, self.scope, self.environment), owner=self.owner
        )


def digest(text: str) -> str:
    """Return the SHA-256 of a secret text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def identifier(text: str) -> str | None:
    """Return the id within a well-formed token text, or None."""
    match = _FORM.fullmatch(text)
    return match.group(2) if match else None


def ticket(token: Token, purpose: str, origin: str, now: datetime) -> str:
    """Return what opens one thing for a while to who may not show the token, such as a browser
    whose `EventSource` sends no header: it stands in an address.

    It is good for its purpose and its origin, for TICKET_SECONDS to twice that, and no longer than
    its token; within that time it is the same text. It is made with the token's digest, so every
    process can tell it, and nothing is kept.
    """
    window = int(now.timestamp()) // TICKET_SECONDS
    return f"{token.id}.{window}.{_seal(token, purpose, origin, window)}"


def ticket_identifier(text: str) -> str | None:
    """Return the id of the token within a well-formed ticket, or None."""
    match = _TICKET.fullmatch(text)
    return match.group(1) if match else None


def redeems(token: Token, text: str, purpose: str, origin: str, now: datetime) -> bool:
    """Tell whether a ticket is of that token, for that purpose and origin, and still good."""
    match = _TICKET.fullmatch(text)
    if match is None or not token.good(now):
        return False
    window = int(match.group(2))
    same = hmac.compare_digest(match.group(3), _seal(token, purpose, origin, window))
    # One ahead: of a server whose clock is.
    return same and abs(int(now.timestamp()) // TICKET_SECONDS - window) <= 1


def _seal(token: Token, purpose: str, origin: str, window: int) -> str:
    told = "\n".join(["sortition ticket", purpose, token.environment or "", origin, str(window)])
    return hmac.new(bytes.fromhex(token.digest), told.encode(), hashlib.sha256).hexdigest()


def create(
    command: NewToken, *, id: str, secret: str, at: str, owner: str | None = None
) -> tuple[Token, str]:
    """Return the token to keep and the text to show once. id, secret: lower-case hex."""
    text = f"srt_{command.scope}_{id}_{secret}"
    return replace(adopt(text, command, at=at), owner=owner), text


def owner_of(by: Principal) -> str | None:
    """Return who stands behind a token that somebody makes: themself, or who made theirs."""
    return by.owner if by.roles is None else by.id


def adopt(text: str, command: NewToken, *, at: str) -> Token:
    """Return the token to keep for a text that somebody made. Raises ValueError on its form."""
    match = _FORM.fullmatch(text)
    if match is None or match.group(1) != command.scope:
        raise ValueError(
            f"a token of scope {command.scope} looks like "
            f"srt_{command.scope}_<{ID_OCTETS * 2} hex>_<{SECRET_OCTETS * 2} hex>"
        )
    return Token(
        id=match.group(2),
        scope=command.scope,
        environment=command.environment,
        description=command.description,
        digest=digest(text),
        created=at,
        expires=command.expires.isoformat() if command.expires else None,
    )


def rotate(
    token: Token,
    command: Rotation,
    *,
    id: str,
    secret: str,
    now: datetime,
    owner: str | None = None,
) -> tuple[Token, Token, str]:
    """Return the old token with its end, the one that follows it, and that one's text. A token that
    ends earlier by itself still does; the one that follows has no end yet. owner: of that one; the
    old one's, where nobody else is known."""
    at, last = rfc3339(now), now + timedelta(hours=command.overlap_hours)
    if token.expires is not None:
        last = min(last, datetime.fromisoformat(token.expires))
    same = NewToken.model_validate(
        {
            "scope": token.scope,
            "environment": token.environment,
            "description": token.description,
        }
    )
    following, text = create(same, id=id, secret=secret, at=at, owner=owner or token.owner)
    return replace(token, expires=last.isoformat(), followed_by=following.id), following, text


def revoke(token: Token, *, at: str) -> Token:
    """Return the token with its end."""
    return replace(token, revoked=at)
