"""`/api/v1/sdk`: what SDKs use. Served from memory; only outcomes touch the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from flask import Response
from werkzeug.datastructures import ETags

from flagserver.domain.access import SERVE
from flagserver.domain.batches import Batch
from flagserver.domain.errors import Refusal
from flagserver.services import Services
from flagserver.services.snapshots import dump, sse

from .errors import Problem
from .routing import Call, Routes, authenticate, environment_of

routes = Routes()

OUTCOMES_LIMIT = 1024 * 1024
MAX_STREAMS = 200
"""Streams of one process: each holds a thread, and the others need some."""

BEAT_SECONDS = 10.0
RETRY_SECONDS = 5
STREAM_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


@routes.add(
    *("GET", "/api/v1/sdk/snapshot", SERVE),
    {200: "All flags of the token's environment.", 304: "Unchanged."},
)
def sdk_snapshot(call: Call) -> Any:
    """Read the whole snapshot; If-None-Match saves sending what is known."""
    view = call.services.snapshots.view(environment_of(call.principal))
    headers = {
        "ETag": view.etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding, Authorization",
    }
    if _matches(call.request.if_none_match, view.etag):
        return Response(status=304, headers=headers)
    if call.request.accept_encodings["gzip"]:
        headers["Content-Encoding"] = "gzip"
        return Response(view.packed, 200, headers, content_type="application/json")
    return Response(view.body, 200, headers, content_type="application/json")


@routes.add(
    *("GET", "/api/v1/sdk/stream", SERVE),
    {200: "An event stream: snapshot, then changes and beats.", 503: "Too many streams."},
)
def sdk_stream(call: Call) -> Any:
    """Follow the environment's flags."""
    environment = environment_of(call.principal)
    snapshots = call.services.snapshots
    snapshots.view(environment)
    if snapshots.streams() >= MAX_STREAMS:
        headers = {"Retry-After": str(RETRY_SECONDS)}
        detail = "This process holds as many streams as it can. Poll, or try again."
        raise Problem(503, "too_many_streams", detail, headers=headers)
    still_allowed = _recheck(call)
    messages = _messages(call.services, environment, still_allowed)
    return Response(messages, 200, STREAM_HEADERS, content_type="text/event-stream")


@routes.add(
    *("POST", "/api/v1/sdk/outcomes", SERVE),
    {202: "Taken; `accepted` is false for what was here before."},
    model=Batch,
    limit=OUTCOMES_LIMIT,
)
def sdk_outcomes(call: Call) -> Any:
    """Report outcomes: counts and histograms, never an id."""
    accepted = call.services.outcomes.take(environment_of(call.principal), call.body)
    return {"accepted": accepted}, 202


def _matches(tags: ETags, etag: str) -> bool:
    return tags.contains_weak(etag.strip('"')) or tags.star_tag


def _recheck(call: Call) -> Any:
    """Return a function that tells whether the stream's token still opens it."""

    def still_allowed() -> bool:
        try:
            return authenticate(call.services, request) == call.principal
        except Refusal:
            return False

    request = call.request
    return still_allowed


def _messages(services: Services, environment: str, still_allowed: Any) -> Iterator[bytes]:
    with services.snapshots.subscribe(environment) as (view, subscription):
        yield b"retry: 2000\n\n" + view.event
        beat_at = time.monotonic() + BEAT_SECONDS
        while not subscription.dropped:
            message = subscription.next(max(0.0, min(1.0, beat_at - time.monotonic())))
            if not still_allowed():
                return
            if message is not None:
                yield message
            if time.monotonic() >= beat_at:
                beat_at += BEAT_SECONDS
                version = services.snapshots.view(environment).snapshot.version.version
                yield sse("beat", dump({"version": version}))
