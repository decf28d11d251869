"""`/api/v1/tokens`, and `/api/v1/status`: who am I?"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from flagserver.domain.access import KNOW_ONESELF, MANAGE
from flagserver.domain.commands import NewToken, Reasoned

from .routing import Call, Routes

routes = Routes()

TOKENS = "/api/v1/tokens"


@routes.add("GET", TOKENS, MANAGE, {200: "The tokens, without their secrets."})
def list_tokens(call: Call) -> Any:
    """List tokens, newest first."""
    return {"tokens": [token.public() for token in call.services.tokens.all()]}


@routes.add("POST", TOKENS, MANAGE, {201: "The new token; `token` is shown once."}, model=NewToken)
def create_token(call: Call) -> Any:
    """Make a token."""
    made = call.services.tokens.create(call.body, call.principal, call.idempotency)
    return {**made.token.public(), "token": made.text}, 201


@routes.add("DELETE", f"{TOKENS}/{{id}}", MANAGE, {200: "The revoked token."}, model=Reasoned)
def revoke_token(call: Call, id: str) -> Any:
    """End a token now."""
    return call.services.tokens.revoke(id, call.body, call.principal, call.idempotency).public()


@routes.add("GET", "/api/v1/status", KNOW_ONESELF, {200: "Principal, server and store."})
def status(call: Call) -> Any:
    """Tell who the token is and what server this is."""
    health = call.services.health()
    return {
        "principal": call.principal.id,
        "scope": call.principal.scope,
        "environment": call.principal.environment,
        "version": version("sortition-server"),
        "store": health.store,
        "writable": health.writable,
    }
