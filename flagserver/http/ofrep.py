"""`/ofrep/v1`: OpenFeature Remote Evaluation Protocol 0.3.0.

The context may hold the targeting key (the request id) and where the code runs; anything else
would be about a person, and is refused. What the public clients trip over decides the form of an
answer: always a variant, reasons of OFREP's enum, `errorDetails` with every error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NotRequired

from flask import Response, jsonify
from pydantic import BaseModel, ConfigDict, JsonValue
from sortition.core.evaluate import CompiledFlag, id_problem
from sortition.core.reasons import ErrorCode, Reason
from typing_extensions import TypedDict

from flagserver.domain.access import SERVE
from flagserver.domain.personal import looks_personal

from .errors import Problem
from .resource import ATTRIBUTES
from .routing import Call, Routes, environment_of

routes = Routes()

MAX_ID = 1024
MAX_VALUE = 500

TARGETING_KEY = "targetingKey"

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


@routes.add(
    *("POST", "/ofrep/v1/evaluate/flags/{key}", SERVE),
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
    return _answer(key, flags[key], request_id, environment)


@routes.add(
    *("POST", "/ofrep/v1/evaluate/flags", SERVE),
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
    view, flags = call.services.snapshots.compiled(environment, resource)
    answers = [_answer(key, flag, request_id, environment) for key, flag in sorted(flags.items())]
    etag = _tag(view.etag, answers)
    headers = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache"}
    if call.request.if_none_match.contains_weak(etag):
        return Response(status=304, headers=headers)
    response = jsonify(flags=answers, metadata={"version": str(view.snapshot.version)})
    response.headers.update(headers)
    return response


def _tag(version: str, answers: list[AnswerJson]) -> str:
    """Return a tag of what is answered: it differs where contexts make a difference, and holds
    nothing that was made from the targeting key."""
    text = version + json.dumps(answers, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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
