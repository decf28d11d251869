"""`/healthz`, `/readyz`: for those who run the server, and open to them without a token.

So they name neither environments nor the store; `/api/v1/status` does.
"""

from __future__ import annotations

from typing import Any

from . import present
from .errors import RETRY_SECONDS, Problem
from .routing import PUBLIC, Call, Routes

routes = Routes()


@routes.add(
    *("GET", "/healthz", PUBLIC, {200: ("The process answers.", present.AliveJson)}),
    open_query=True,
)
def healthz(call: Call) -> Any:
    """Tell that the process answers."""
    return {"ok": True}


@routes.add(
    *("GET", "/readyz", PUBLIC),
    {200: ("Flags are served.", present.ReadyJson), 503: "No flags were loaded yet."},
    open_query=True,
)
def readyz(call: Call) -> Any:
    """Tell whether flags are served, whether changes can be made, and what is wrong."""
    state = present.ready(call.services.health())
    if not state["ready"]:
        headers = {"Retry-After": str(RETRY_SECONDS)}
        raise Problem(503, "not_ready", "No flags were loaded yet.", headers=headers, **state)
    return state
