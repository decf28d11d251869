"""Every route with a request that it takes, for tests that walk all of them."""

from __future__ import annotations

import re
from typing import Any

from flagserver.domain.access import ALLOWED
from flagserver.http.routing import PUBLIC, Route

from .api import WHY, Api, Caller

NAMES = {"key": "new-search", "environment": "production", "id": "00000000000a"}

BATCH: dict[str, Any] = {
    "format": 1,
    "service.name": "shop",
    "service.version": "1.4.0",
    "instance": "0123456789abcdef",
    "started": 1763880000,
    "seq": 1,
    "ticks": [],
}

BODIES: dict[str, dict[str, Any]] = {
    "create_flag": {"key": "another"},
    "edit_flag": {"owner": "team"},
    "change_state": WHY | {"share": 10},
    "unkill_flag": WHY,
    "explain_flag": {"request_id": "abc"},
    "create_environment": {"key": "another"},
    "edit_environment": {"description": "words"},
    "create_token": {"scope": "admin"},
    "sdk_outcomes": BATCH,
    "post_metrics": {
        "points": [{"metric": "carts.lost", "service": "shop", "numerator": 3, "denominator": 40}]
    },
    "ofrep_evaluate": {"context": {"targetingKey": "abc"}},
    "ofrep_evaluate_all": {"context": {"targetingKey": "abc"}},
}


def path(route: Route, **names: str) -> str:
    """Return the route's path with names in it."""
    return re.sub(r"{(\w+)}", lambda found: (NAMES | names)[found[1]], route.path)


def body(route: Route) -> dict[str, Any] | None:
    """Return a body that the route takes, or None where it takes none."""
    return None if route.model is None else BODIES.get(route.view.__name__, {})


def headers(route: Route) -> dict[str, Any]:
    """Return the headers that the route asks for."""
    return {"If_Match": '"1"'} if route.revision else {}


def let_in(api: Api, route: Route) -> Caller:
    """Return somebody whom the route lets in."""
    if route.action == PUBLIC:
        return api.nobody
    if route.action in ALLOWED["admin"]:
        return api.admin
    return api.sdk()
