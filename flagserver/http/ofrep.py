"""`/ofrep/v1`: OpenFeature Remote Evaluation Protocol 0.3.0, with its event stream (its ADR 8).

The context may hold the targeting key (the request id) and where the code runs; anything else
would be about a person, and is refused. What the public clients trip over decides the form of an
answer: always a variant, reasons of OFREP's enum, `errorDetails` with every error.

Web pages may ask when their origin is on the operator's list. Their `EventSource` sends no header,
so the answer to all flags names an address with a ticket in it, which opens the stream of events
and nothing else, for this origin and a while. An event tells to ask again, and nothing about flags.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NotRequired

from flask import Request, Response, jsonify
from pydantic import BaseModel, ConfigDict, JsonValue
from sortition.core.evaluate import CompiledFlag, id_problem
from sortition.core.reasons import ErrorCode, Reason
from typing_extensions import TypedDict

from flagserver.domain.access import SERVE
from flagserver.domain.documents import Principal
from flagserver.domain.personal import looks_personal
from flagserver.domain.tokens import Token
from flagserver.services import Services
from flagserver.services.listening import Beginning, Listening
from flagserver.services.snapshots import Snapshots, View, dump, sse

from .errors import Problem
from .resource import ATTRIBUTES
from .routing import PUBLIC, Call, Routes, count_stranger, environment_of
from .sdk import STREAM_HEADERS, listen

ALL = "/ofrep/v1/evaluate/flags"
EVENTS = "/ofrep/v1/events"

TOPICS = "ofrep/"
"""What the names of our topics begin with."""

PURPOSE = "ofrep events"
"""What a ticket in an address opens."""

INACTIVITY_SECONDS = 120
"""After so long in the background, pages are to close their stream (OFREP's own default)."""

FIRST_RETRY_MS, LAST_RETRY_MS = 2000, 10_000
"""Within these, each stream is told its own time to come back after: browsers add no jitter."""

LAG_SECONDS = 0.5
"""How long an answer waits for the version that an event named, which another process has."""

CACHED_SECONDS = 600
"""How long a browser may remember what it may ask."""

MAX_ID = 1024
MAX_VALUE = 500

TARGETING_KEY = "targetingKey"

_ETAG = re.compile(r'"?([0-9a-zA-Z-]{1,64})\.([0-9]{1,15})\.([0-9]{1,15})"?')

_CODES = {400: ErrorCode.PARSE_ERROR, 404: ErrorCode.FLAG_NOT_FOUND}
_REASONS = frozenset(
    {Reason.STATIC, Reason.TARGETING_MATCH, Reason.SPLIT, Reason.DISABLED, Reason.UNKNOWN}
)


class Evaluation(BaseModel):
    """What OFREP sends. Unknown members are ignored, as the protocol asks."""

    model_config = ConfigDict(extra="ignore", strict=True)

    context: dict[str, JsonValue] | None = None


class AnswerJson(TypedDict):
    """One evaluation."""

    key: str
    value: JsonValue
    variant: str
    reason: str
    metadata: dict[str, str | int]


class AnswersJson(TypedDict):
    """All evaluations of an environment."""

    flags: list[AnswerJson]
    metadata: NotRequired[dict[str, str]]
    eventStreams: NotRequired[list[EventStreamJson]]


class EndpointJson(TypedDict):
    """An address on the server that was asked."""

    requestUri: str


class EventStreamJson(TypedDict):
    """Where to hear that flags have changed. The address is a secret."""

    type: str
    endpoint: EndpointJson
    inactivityDelaySec: int


def as_ofrep(problem: Problem, path: Mapping[str, str]) -> Problem:
    """Say a problem in OFREP's words too: its clients read `errorCode` and `errorDetails`.

    OFREP has no 422: what it cannot use is a 400.
    """
    status = 400 if problem.status == 422 else problem.status
    code = _CODES.get(status, ErrorCode.GENERAL)
    told = {"errorCode": str(code), "errorDetails": problem.detail, **path}
    return Problem(
        *(status, problem.code, problem.detail),
        field=problem.field,
        headers=problem.headers,
        **(told | problem.more),
    )


def routes(origins: tuple[str, ...], prefix: str = "") -> Routes:
    """Return the routes. origins: of pages that may ask.  prefix: of paths, as callers see them."""
    made = Routes()

    @made.add(
        *("POST", f"{ALL}/{{key}}", SERVE),
        {
            200: ("The evaluation.", AnswerJson),
            400: "The context is not usable.",
            404: "There is no such flag.",
        },
        model=Evaluation,
        open_query=True,
        dialect=as_ofrep,
    )
    def ofrep_evaluate(call: Call, key: str) -> Any:
        """Evaluate one flag."""
        request_id, resource = _context(call.body.context)
        environment = environment_of(call.principal)
        _, flags = call.services.snapshots.compiled(environment, resource)
        if key not in flags:
            details = "There is no such flag in this environment."
            raise _refused(404, "flag_not_found", ErrorCode.FLAG_NOT_FOUND, details)
        call.services.outcomes.asking.note(environment, (key,))
        return _answer(key, flags[key], request_id, environment)

    @made.add(
        *("POST", ALL, SERVE),
        {
            200: ("All evaluations.", AnswersJson),
            304: "Unchanged.",
            400: "The context is not usable.",
        },
        model=Evaluation,
        open_query=True,
        dialect=as_ofrep,
    )
    def ofrep_evaluate_all(call: Call) -> Any:
        """Evaluate all flags; If-None-Match saves sending what is known."""
        request_id, resource = _context(call.body.context)
        environment = environment_of(call.principal)
        snapshots = call.services.snapshots
        _wait_for(snapshots, environment, call.request.args.get("flagConfigEtag", ""))
        view, flags = snapshots.compiled(environment, resource)
        call.services.outcomes.asking.note(environment, flags)
        answers = [
            _answer(key, flag, request_id, environment) for key, flag in sorted(flags.items())
        ]
        told: AnswersJson = {"flags": answers, "metadata": {"version": str(view.snapshot.version)}}
        origin = call.request.headers.get("Origin", "")
        if origin == "" or origin in origins:
            told["eventStreams"] = [_stream(call.services, call.principal, origin, prefix)]
        etag = _tag(told)
        headers = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache"}
        if call.request.if_none_match.contains_weak(etag):
            return Response(status=304, headers=headers)
        response = jsonify(told)
        response.headers.update(headers)
        return response

    @made.add(
        *("GET", EVENTS, PUBLIC),
        {
            200: ("Tells when to ask again.", "text/event-stream"),
            401: "The ticket is not good, or no more.",
            429: "Too often; Retry-After says for how long to wait.",
        },
        open_query=True,
        dialect=as_ofrep,
    )
    def ofrep_events(call: Call) -> Any:
        """Hear that flags have changed. A ticket in the address opens it."""
        token = _redeem(call, origins)
        call.services.rates.count(token.principal())
        last = call.request.headers.get("Last-Event-ID", "")
        return listen(_listening(call.services, token, last), STREAM_HEADERS)

    if not origins:
        return made

    @made.add("OPTIONS", f"{ALL}/{{key}}", PUBLIC, _ASKED_FIRST, open_query=True, dialect=as_ofrep)
    def ofrep_may_evaluate(call: Call, key: str) -> Any:
        """Tell a browser whether a page may ask (CORS)."""
        return _permission(call.request, origins)

    @made.add("OPTIONS", ALL, PUBLIC, _ASKED_FIRST, open_query=True, dialect=as_ofrep)
    def ofrep_may_evaluate_all(call: Call) -> Any:
        """Tell a browser whether a page may ask (CORS)."""
        return _permission(call.request, origins)

    return made


# Web pages


_ASKED_FIRST = {204: "What a page may send, if its origin is on the list."}


def share(response: Response, request: Request, origins: tuple[str, ...]) -> None:
    """Let a page of an origin on the list see an answer. Cookies are never asked for."""
    if not request.path.startswith("/ofrep/"):
        return
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin in origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "ETag, Retry-After"


def _permission(request: Request, origins: tuple[str, ...]) -> Response:
    response = Response(status=204)
    if request.headers.get("Origin") in origins:
        told = {
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match, X-API-Key",
            "Access-Control-Max-Age": str(CACHED_SECONDS),
        }
        response.headers.update(told)
    return response


# The stream of events


def topic(environment: str) -> str:
    """Return the topic of an environment's events."""
    return TOPICS + environment


def event(view: View) -> bytes:
    """Return the event that tells to ask for a view's flags."""
    told = {"type": "refetchEvaluation", "etag": view.etag}
    return sse("message", dump(told), id=str(view.snapshot.version))


def _stream(services: Services, principal: Principal, origin: str, prefix: str) -> EventStreamJson:
    ticket = services.tokens.ticket(principal.id.removeprefix("token:"), PURPOSE, origin)
    return {
        "type": "sse",
        "endpoint": {"requestUri": f"{prefix}{EVENTS}?ticket={ticket}"},
        "inactivityDelaySec": INACTIVITY_SECONDS,
    }


def _redeem(call: Call, origins: tuple[str, ...]) -> Token:
    """Return the token of a request's ticket. Raises Unauthenticated, TooMany.

    A page's own server gets no Origin from it: then the ticket is of any origin on the list.
    """
    ticket, origin = call.request.args.get("ticket", ""), call.request.headers.get("Origin")
    strange = partial(count_stranger, call.services, call.request)
    of = (*origins, "") if origin is None else (origin,)
    return call.services.tokens.redeem(ticket, PURPOSE, of, strange)


def _listening(services: Services, token: Token, last: str) -> Listening:
    environment, snapshots = str(token.environment), services.snapshots
    snapshots.view(environment)

    def begin() -> Beginning:
        view = snapshots.view(environment)
        retry = random.randint(FIRST_RETRY_MS, LAST_RETRY_MS)  # noqa: S311 (no secret)
        messages = [b"retry: %d\n\n" % retry]
        # What changed between the answer and this, or while the line was down, is asked for now.
        if last != str(view.snapshot.version):
            messages.append(event(view))
        return Beginning(messages, view.snapshot.version)

    return Listening(
        topics=frozenset([topic(environment)]),
        begin=begin,
        permit=(PURPOSE, token.id),
        allowed=lambda: services.tokens.is_good(token.id),
        beat=lambda: b": beat\n\n",
    )


def _wait_for(snapshots: Snapshots, environment: str, etag: str) -> None:
    """Wait a little until this process has the version that an event of another one named."""
    end = time.monotonic() + LAG_SECONDS
    while _is_behind(snapshots.view(environment), etag) and time.monotonic() < end:
        time.sleep(0.01)


def _is_behind(view: View, etag: str) -> bool:
    held = view.snapshot.version
    match = _ETAG.fullmatch(etag)
    if match is None or match.group(1) != held.store:
        return False
    return (int(match.group(2)), int(match.group(3))) > (held.epoch, held.version)


# Evaluations


def _tag(told: AnswersJson) -> str:
    """Return a tag of what is answered: it differs where contexts make a difference, and holds
    nothing that was made from the targeting key. With the ticket in it, nobody is told that nothing
    changed who would be left with one that ends."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def _context(context: Mapping[str, Any] | None) -> tuple[str, dict[str, str]]:
    """Return request id and resource of a context. Raises Problem, which never says a value."""
    given = dict(context or {})
    request_id = given.pop(TARGETING_KEY, None)
    if id_problem(request_id) is not None:
        details = "Send the request id as targetingKey: text that is not empty."
        raise _refused(400, "targeting_key_missing", ErrorCode.TARGETING_KEY_MISSING, details)
    if len(request_id) > MAX_ID:
        raise _invalid(TARGETING_KEY, f"targetingKey is longer than {MAX_ID} characters.")
    if looks_personal(request_id):
        details = "targetingKey looks like an address or a phone number: send an opaque id."
        raise _invalid(TARGETING_KEY, details)
    for name, value in given.items():
        if name not in ATTRIBUTES:
            details = "is not a resource attribute: only where code runs may decide."
            raise _invalid(name, f"{name[:100]!r} {details}")
        if not isinstance(value, str) or len(value) > MAX_VALUE or looks_personal(value):
            details = f"must be text, at most {MAX_VALUE} long and about no person."
            raise _invalid(name, f"{name!r} {details}")
    return str(request_id), given


def _invalid(name: str, details: str) -> Problem:
    pointer = "/context/" + name[:100].replace("~", "~0").replace("/", "~1")
    return _refused(400, "invalid_context", ErrorCode.INVALID_CONTEXT, details, field=pointer)


def _refused(status: int, code: str, error: ErrorCode, details: str, **more: Any) -> Problem:
    return Problem(status, code, details, errorCode=str(error), **more)


def _answer(key: str, flag: CompiledFlag, request_id: str, environment: str) -> AnswerJson:
    answer = flag.choose(request_id)
    reason = answer.reason if answer.reason in _REASONS else Reason.UNKNOWN
    revision = flag.flag.revision
    return {
        "key": key,
        "value": answer.value,
        "variant": str(answer.variant),
        "reason": str(reason),
        # The names under which OpenFeature's telemetry looks for them, and ours.
        "metadata": {"flagSetId": environment, "version": str(revision), "revision": revision},
    }
