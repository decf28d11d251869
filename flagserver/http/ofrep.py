"""`/ofrep/v1`: OpenFeature Remote Evaluation Protocol 0.3.0.

The context may hold the targeting key (the request id) and where the code runs; anything else
would be about a person, and is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flask import Response, jsonify
from pydantic import BaseModel, ConfigDict
from sortition.core.evaluate import CompiledFlag, id_problem
from sortition.core.reasons import Reason

from flagserver.domain.access import SERVE
from flagserver.domain.personal import looks_personal

from .routing import Call, Routes, environment_of

routes = Routes()

RESOURCE_PREFIXES = (
    *("service.", "deployment.", "cloud.", "host.", "os.", "process.", "container.", "k8s."),
    *("aws.", "gcp.", "azure.", "faas.", "telemetry.", "device.model.", "webengine."),
)
"""Attributes of OpenTelemetry's resource conventions: where code runs."""

MAX_ID = 1024
MAX_ATTRIBUTES = 50

TARGETING_KEY = "targetingKey"


class Evaluation(BaseModel):
    """What OFREP sends. Unknown members are ignored, as the protocol asks."""

    model_config = ConfigDict(extra="ignore", strict=True)

    context: dict[str, Any] | None = None


class BadContext(Exception):
    """The context cannot be used. Never says what a value was."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@routes.add(
    *("POST", "/ofrep/v1/evaluate/flags/{key}", SERVE),
    {200: "The evaluation.", 400: "The context is not usable.", 404: "There is no such flag."},
    model=Evaluation,
)
def ofrep_evaluate(call: Call, key: str) -> Any:
    """Evaluate one flag."""
    try:
        request_id, resource = _context(call.body.context)
    except BadContext as error:
        return {"key": key, "errorCode": error.code, "errorDetails": error.details}, 400
    _, flags = call.services.snapshots.compiled(environment_of(call.principal), resource)
    if key not in flags:
        details = "There is no such flag in this environment."
        return {"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": details}, 404
    return _evaluation(key, flags[key], request_id)


@routes.add(
    *("POST", "/ofrep/v1/evaluate/flags", SERVE),
    {200: "All evaluations.", 304: "Unchanged.", 400: "The context is not usable."},
    model=Evaluation,
)
def ofrep_evaluate_all(call: Call) -> Any:
    """Evaluate all flags; If-None-Match saves sending what is known."""
    try:
        request_id, resource = _context(call.body.context)
    except BadContext as error:
        return {"errorCode": error.code, "errorDetails": error.details}, 400
    view, flags = call.services.snapshots.compiled(environment_of(call.principal), resource)
    answers = [_evaluation(key, flag, request_id) for key, flag in sorted(flags.items())]
    text = json.dumps(answers, sort_keys=True)
    etag = hashlib.sha256(f"{view.etag}{text}".encode()).hexdigest()[:32]
    headers = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache"}
    if call.request.if_none_match.contains_weak(etag):
        return Response(status=304, headers=headers)
    response = jsonify(flags=answers, metadata={"version": str(view.snapshot.version)})
    response.headers.update(headers)
    return response


def _context(context: Mapping[str, Any] | None) -> tuple[str, dict[str, str]]:
    """Return request id and resource of a context. Raises BadContext."""
    given = dict(context or {})
    request_id = given.pop(TARGETING_KEY, None)
    if id_problem(request_id) is not None:
        raise BadContext("TARGETING_KEY_MISSING", "Send the request id as targetingKey: text.")
    if len(request_id) > MAX_ID:
        raise BadContext("INVALID_CONTEXT", f"targetingKey is longer than {MAX_ID} characters.")
    if looks_personal(request_id):
        details = "targetingKey looks like an address or a phone number: send an opaque id."
        raise BadContext("INVALID_CONTEXT", details)
    if len(given) > MAX_ATTRIBUTES:
        raise BadContext("INVALID_CONTEXT", f"More than {MAX_ATTRIBUTES} attributes.")
    for name, value in given.items():
        if not name.startswith(RESOURCE_PREFIXES):
            details = (
                f"{name[:100]!r} is not a resource attribute: only where code runs may decide."
            )
            raise BadContext("INVALID_CONTEXT", details)
        if not isinstance(value, str) or len(value) > 500:
            raise BadContext("INVALID_CONTEXT", f"{name[:100]!r} must be text, at most 500 long.")
    return str(request_id), given


def _evaluation(key: str, flag: CompiledFlag, request_id: str) -> dict[str, Any]:
    answer = flag.choose(request_id)
    # OFREP knows fewer reasons than OpenFeature; ours are all among them.
    reason = answer.reason if answer.reason in _REASONS else Reason.UNKNOWN
    return {
        "key": key,
        "value": answer.value,
        "variant": answer.variant,
        "reason": str(reason),
        "metadata": {"revision": answer.revision},
    }


_REASONS = frozenset({Reason.STATIC, Reason.SPLIT, Reason.DISABLED, Reason.UNKNOWN})
