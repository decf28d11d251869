"""`/api/v1/sdk`: what SDKs use. Served from memory; only outcomes touch the store.

The snapshot and the stream are what a fleet asks for, so the front (`front.py`) answers ordinary
requests for them by itself, with the functions below; all others come here.
"""

from __future__ import annotations

from typing import Any

from flask import Response, request
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header, parse_etags

from flagserver.domain.access import SERVE
from flagserver.domain.batches import Batch
from flagserver.domain.documents import Principal
from flagserver.domain.errors import Unauthenticated
from flagserver.services import Services
from flagserver.services.listening import ENVIRON, Beginning, Listening
from flagserver.services.snapshots import View, dump, sse

from . import present
from .routing import Call, Headers, Routes, environment_of, presented

routes = Routes()

SNAPSHOT = "/api/v1/sdk/snapshot"
STREAM = "/api/v1/sdk/stream"

TOPICS = "sdk/"
"""What the names of our topics begin with."""

OUTCOMES_LIMIT = 1024 * 1024

VARY = "Accept-Encoding, Authorization, X-API-Key"
STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
RETRY = b"retry: 2000\n\n"


@routes.add(
    *("GET", SNAPSHOT, SERVE),
    {
        200: ("All flags of the token's environment.", dict[str, Any]),
        304: "Unchanged.",
    },
    open_query=True,
)
def sdk_snapshot(call: Call) -> Any:
    """Read the whole snapshot; If-None-Match saves sending what is known."""
    view = call.services.snapshots.view(environment_of(call.principal))
    status, headers, body = snapshot(view, call.request.headers)
    return Response(body, status, headers, content_type=headers.get("Content-Type"))


@routes.add(
    *("GET", STREAM, SERVE),
    {200: ("Snapshot, then changes and beats.", "text/event-stream")},
    open_query=True,
)
def sdk_stream(call: Call) -> Any:
    """Follow the environment's flags."""
    environment_of(call.principal)
    listening = follow(call.services, call.principal, call.request.headers)
    return listen(listening, STREAM_HEADERS)


@routes.add(
    *("POST", "/api/v1/sdk/outcomes", SERVE),
    {202: ("Taken, or here before.", present.AcceptedJson)},
    model=Batch,
    limit=OUTCOMES_LIMIT,
    open_query=True,
    refused=lambda services: services.outcomes.refuse(),
)
def sdk_outcomes(call: Call) -> Any:
    """Report outcomes: counts and histograms, never an id."""
    accepted = call.services.outcomes.take(environment_of(call.principal), call.body)
    return {"accepted": accepted}, 202


def snapshot(view: View, asked: Headers) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a view's snapshot for whoever sent these headers."""
    headers = {"ETag": view.etag, "Cache-Control": "private, no-cache", "Vary": VARY}
    if _is_known(asked.get("If-None-Match", ""), view.etag):
        return 304, headers, b""
    headers["Content-Type"] = "application/json"
    if parse_accept_header(asked.get("Accept-Encoding", ""), Accept)["gzip"]:
        headers["Content-Encoding"] = "gzip"
        return 200, headers, view.packed
    return 200, headers, view.body


def _is_known(tags: str, etag: str) -> bool:
    if not tags or tags == etag:
        return bool(tags)
    parsed = parse_etags(tags)
    return parsed.star_tag or parsed.contains_weak(etag.strip('"'))


def follow(services: Services, principal: Principal, headers: Headers) -> Listening:
    """Return the stream of a token's environment. Raises NotFound, StoreUnavailable.

    It begins with the whole snapshot, unless Last-Event-ID says that just this one is held.
    """
    environment, snapshots = str(principal.environment), services.snapshots
    snapshots.view(environment)
    text, last = presented(headers, key=True), headers.get("Last-Event-ID", "")

    def beat() -> bytes:
        held = snapshots.view(environment).snapshot.version
        return sse("beat", dump({"version": held.version}))

    def begin() -> Beginning:
        view = snapshots.view(environment)
        version = view.snapshot.version
        return Beginning((RETRY, beat() if last == str(version) else view.event), version)

    return Listening(
        topics=frozenset([topic(environment)]),
        begin=begin,
        permit=text,
        allowed=lambda: still_opens(services, text, principal),
        beat=beat,
    )


def topic(environment: str) -> str:
    """Return the topic of an environment's changes."""
    return TOPICS + environment


def still_opens(services: Services, text: str, principal: Principal) -> bool:
    """Tell, from memory, whether a token still opens a stream that it has opened.

    One that is too new for the mirror does: nobody can say that it was revoked.
    """
    try:
        return services.tokens.recognise(text) in (None, principal)
    except Unauthenticated:
        return False


def listen(listening: Listening, headers: dict[str, str]) -> Response:
    """Return the head of a stream, and leave the rest to the front. HEAD asks for no more."""
    if request.method == "HEAD":
        return Response(b"", 200, headers)
    request.environ[ENVIRON] = listening
    # Whoever runs the application without the front gets the beginning.
    return Response(b"".join(listening.begin().messages), 200, headers)
