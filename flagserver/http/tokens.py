"""`/api/v1/tokens`, and `/api/v1/status`: who am I?"""

from __future__ import annotations

from typing import Any

from flagserver.domain.access import KNOW_ONESELF, MANAGE
from flagserver.domain.commands import NewToken, Reasoned, Rotation

from . import present
from .routing import Call, Routes

routes = Routes()

TOKENS = "/api/v1/tokens"


@routes.add("GET", TOKENS, MANAGE, {200: ("Without their secrets.", present.TokensJson)})
def list_tokens(call: Call) -> Any:
    """List tokens, newest first."""
    tokens = call.services.tokens
    used = tokens.uses.last()
    return {"tokens": [present.used_token(token, used.get(token.id)) for token in tokens.all()]}


@routes.add(
    *("POST", TOKENS, MANAGE, {201: ("`token` is shown once.", present.NewTokenJson)}),
    model=NewToken,
)
def create_token(call: Call) -> Any:
    """Make a token."""
    made = call.services.tokens.create(call.body, call.principal, call.idempotency)
    return present.new_token(made.token, made.text), 201


@routes.add(
    *("POST", f"{TOKENS}/{{id}}/rotate", MANAGE),
    {201: ("`token` is shown once.", present.NewTokenJson)},
    model=Rotation,
)
def rotate_token(call: Call, id: str) -> Any:
    """Put another token in the place of one, which goes on for `overlap_hours`."""
    made = call.services.tokens.rotate(id, call.body, call.principal, call.idempotency)
    return present.new_token(made.token, made.text), 201


@routes.add(
    *("DELETE", f"{TOKENS}/{{id}}", MANAGE, {200: ("The revoked token.", present.TokenJson)}),
    model=Reasoned,
)
def revoke_token(call: Call, id: str) -> Any:
    """End a token now."""
    revoke = call.services.tokens.revoke
    return present.token(revoke(id, call.body, call.principal, call.idempotency))


@routes.add("GET", "/api/v1/status", KNOW_ONESELF, {200: ("What there is.", present.StatusJson)})
def status(call: Call) -> Any:
    """Tell who the token is and what server this is."""
    return present.status(call.principal, call.services.health())
