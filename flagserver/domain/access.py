"""Who may do what: one pure function over (principal, action, environment).

A token may what its scope may, in its one environment or in all. A person may what the role in that
environment may; the role EVERYWHERE holds where no other was given, and for what all environments
share. The tables are what the People page prints, so neither can say anything else.
"""

from __future__ import annotations

from .documents import EVERYWHERE, Principal
from .errors import Forbidden

READ = "read"
CHANGE = "change"
ENLARGE = "enlarge"
SHRINK = "shrink"
ROLL_OUT = "roll_out"
DEFINE = "define"
AUDIT = "audit"
MANAGE = "manage"
PREVIEW = "preview"
SERVE = "serve"
SIGN_IN = "sign_in"
KNOW_ONESELF = "know_oneself"
MEASURE = "measure"

ACTIONS = {
    READ: "see flags, rollouts and how they do",
    SHRINK: "hold, roll back and kill",
    CHANGE: "change shares and what goes with them",
    ENLARGE: "enlarge exposure where it is critical",
    ROLL_OUT: "start rollouts and take them further",
    DEFINE: "create, describe and archive flags",
    PREVIEW: "make links that show a feature to a colleague",
    AUDIT: "read, prove and export the record",
    MANAGE: "run environments, schedules, tokens and people",
    MEASURE: "read what Prometheus reads",
    SERVE: "read a snapshot and report outcomes",
    SIGN_IN: "make a link that signs in",
    KNOW_ONESELF: "ask who one is",
}
"""Action -> what it lets do, as it is told to people."""

_ANYBODY = frozenset({READ, KNOW_ONESELF})
_RESPONDER = _ANYBODY | {SHRINK}
_EDITOR = _RESPONDER | {CHANGE, DEFINE, PREVIEW}
_RELEASER = _EDITOR | {ENLARGE, ROLL_OUT}

ROLES: dict[str, frozenset[str]] = {
    "viewer": _ANYBODY,
    "responder": _RESPONDER,
    "editor": _EDITOR,
    "releaser": _RELEASER,
    "auditor": _ANYBODY | {AUDIT},
    "admin": frozenset(ACTIONS) - {SERVE},
}
"""Role of a person -> actions. Taking exposure back needs less than giving it."""

ALLOWED: dict[str, frozenset[str]] = {
    "sdk": frozenset({SERVE, KNOW_ONESELF}),
    "deploy": frozenset({READ, CHANGE, ENLARGE, SHRINK, ROLL_OUT, KNOW_ONESELF}),
    "admin": frozenset(ACTIONS) - {SERVE},
}
"""Scope of a token -> actions."""

_SHARED = frozenset({DEFINE, AUDIT, MANAGE, MEASURE})
"""What is of all environments unless one is named: who is confined to one may not."""


def check(principal: Principal, action: str, environment: str | None = None) -> None:
    """Raise Forbidden unless the principal may do this, in this environment if one is named."""
    if principal.roles is not None:
        role = principal.role_in(environment)
        if action not in ROLES.get(role, frozenset()):
            where = "" if environment is None else f" in {environment}"
            raise Forbidden(f"Your role{where} is {role}: it may not {ACTIONS[action]}.")
        return
    if action not in ALLOWED.get(principal.scope, frozenset()):
        raise Forbidden(f"A token of scope {principal.scope} may not {ACTIONS[action]}.")
    if principal.environment is None:
        return
    if environment is not None and environment != principal.environment:
        raise Forbidden(f"This token belongs to {principal.environment}, not to {environment}.")
    if environment is None and action in _SHARED:
        raise Forbidden(f"This token belongs to {principal.environment} and changes only that.")


def may(principal: Principal, action: str, environment: str | None = None) -> bool:
    """Tell whether `check` lets it pass."""
    try:
        check(principal, action, environment)
    except Forbidden:
        return False
    return True


__all__ = ["ACTIONS", "ALLOWED", "EVERYWHERE", "ROLES", "check", "may"]
