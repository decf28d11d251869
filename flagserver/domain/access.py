"""Who may do what: one pure function over (principal, action, environment).

Scopes of tokens decide for now; roles of people come with sign-in by name.
"""

from __future__ import annotations

from .documents import Principal
from .errors import Forbidden

READ = "read"
CHANGE = "change"
SHRINK = "shrink"
MANAGE = "manage"
SERVE = "serve"
SIGN_IN = "sign_in"
KNOW_ONESELF = "know_oneself"
MEASURE = "measure"

ALLOWED: dict[str, frozenset[str]] = {
    "sdk": frozenset({SERVE, KNOW_ONESELF}),
    "deploy": frozenset({READ, CHANGE, SHRINK, KNOW_ONESELF}),
    "admin": frozenset({READ, CHANGE, SHRINK, MANAGE, SIGN_IN, KNOW_ONESELF, MEASURE}),
}
"""Scope -> actions. `serve`: snapshot, stream, outcomes, OFREP.  `change`: shares and what goes
with them.  `manage`: create and archive flags, environments and tokens."""


def check(principal: Principal, action: str, environment: str | None = None) -> None:
    """Raise Forbidden unless the principal may do this, in this environment if one is named.

    A principal confined to one environment may not change what all environments share.
    """
    if action not in ALLOWED.get(principal.scope, frozenset()):
        raise Forbidden(f"A token of scope {principal.scope} may not {action.replace('_', ' ')}.")
    if principal.environment is None:
        return
    if environment is not None and environment != principal.environment:
        raise Forbidden(f"This token belongs to {principal.environment}, not to {environment}.")
    if environment is None and action in {MANAGE, MEASURE}:
        raise Forbidden(f"This token belongs to {principal.environment} and changes only that.")
