"""`/healthz`, `/readyz`: for those who run the server, and open to them without a token."""

from __future__ import annotations

from typing import Any

from .routing import PUBLIC, Call, Routes

routes = Routes()


@routes.add("GET", "/healthz", PUBLIC, {200: "The process answers."})
def healthz(call: Call) -> Any:
    """Tell that the process answers."""
    return {"ok": True}


@routes.add(
    *("GET", "/readyz", PUBLIC, {200: "Flags are served.", 503: "No flags were loaded yet."})
)
def readyz(call: Call) -> Any:
    """Tell whether flags are served, whether changes can be made, and what is wrong."""
    health = call.services.health()
    return health.as_json(), 200 if health.ready else 503
