"""`/api/v1/sdk`: what SDKs use. Served from memory; only outcomes touch the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response
from werkzeug.datastructures import ETags

from flagserver.domain.access import SERVE
from flagserver.domain.batches import Batch
from flagserver.domain.errors import Refusal, StoreUnavailable

from . import present
from .routing import Call, Routes, authenticate, environment_of
from .streams import Limits, Places, Stream

OUTCOMES_LIMIT = 1024 * 1024

VARY = "Accept-Encoding, Authorization, X-API-Key"
STREAM_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


def routes(limits: Limits) -> Routes:
    """Return the routes; streams are counted for each application by itself."""
    made = Routes()
    places = Places(limits.most)

    @made.add(
        *("GET", "/api/v1/sdk/snapshot", SERVE),
        {
            200: ("All flags of the token's environment.", dict[str, Any]),
            304: "Unchanged.",
        },
        open_query=True,
    )
    def sdk_snapshot(call: Call) -> Any:
        """Read the whole snapshot; If-None-Match saves sending what is known."""
        view = call.services.snapshots.view(environment_of(call.principal))
        headers = {"ETag": view.etag, "Cache-Control": "private, no-cache", "Vary": VARY}
        if _known(call.request.if_none_match, view.etag):
            return Response(status=304, headers=headers)
        if call.request.accept_encodings["gzip"]:
            headers["Content-Encoding"] = "gzip"
            return Response(view.packed, 200, headers, content_type="application/json")
        return Response(view.body, 200, headers, content_type="application/json")

    @made.add(
        *("GET", "/api/v1/sdk/stream", SERVE),
        {200: ("Snapshot, then changes and beats.", "text/event-stream")},
        open_query=True,
    )
    def sdk_stream(call: Call) -> Any:
        """Follow the environment's flags."""
        environment = environment_of(call.principal)
        snapshots = call.services.snapshots
        snapshots.view(environment)
        allowed, environ = _still_allowed(call), call.request.environ
        if call.request.method == "HEAD":
            return Response(b"", 200, STREAM_HEADERS, content_type="text/event-stream")
        body = Stream(
            *(snapshots, environment, places, limits),
            allowed=allowed,
            environ=environ,
        )
        return Response(body, 200, STREAM_HEADERS, content_type="text/event-stream")

    @made.add(
        *("POST", "/api/v1/sdk/outcomes", SERVE),
        {202: ("Taken, or here before.", present.AcceptedJson)},
        model=Batch,
        limit=OUTCOMES_LIMIT,
        open_query=True,
    )
    def sdk_outcomes(call: Call) -> Any:
        """Report outcomes: counts and histograms, never an id."""
        accepted = call.services.outcomes.take(environment_of(call.principal), call.body)
        return {"accepted": accepted}, 202

    return made


def _known(tags: ETags, etag: str) -> bool:
    return tags.star_tag or tags.contains_weak(etag.strip('"'))


def _still_allowed(call: Call) -> Callable[[], bool]:
    """Return a function that tells whether the stream's token still opens it."""
    request = call.request

    def allowed() -> bool:
        try:
            return authenticate(call.services, request, key=True) == call.principal
        except StoreUnavailable:
            # The token is too new for the mirror, and nobody can say that it was revoked.
            return True
        except Refusal:
            return False

    return allowed
