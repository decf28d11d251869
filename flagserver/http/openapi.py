"""The OpenAPI 3.1 document, made from the routes' own declarations."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, NotRequired

from pydantic import JsonValue, TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from typing_extensions import TypedDict

from flagserver.domain.access import SERVE

from .errors import MEDIA_TYPE
from .routing import PUBLIC, Route


class FaultJson(TypedDict):
    """One of several faults."""

    field: str
    detail: str


class Problem(TypedDict):
    """RFC 9457.

    detail: what happened and what to do.  code: stable, for programs.  field: JSON pointer to the
    field at fault.  parameter: header, or `?name` of the query.  revision: the current one, with
    stale_revision.  approval: the id of what waits, with approval_required.  errorCode,
    errorDetails, key: OFREP's.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: NotRequired[str]
    parameter: NotRequired[str]
    errors: NotRequired[list[FaultJson]]
    revision: NotRequired[int]
    approval: NotRequired[str]
    ready: NotRequired[bool]
    writable: NotRequired[bool]
    source: NotRequired[str]
    age_seconds: NotRequired[float | None]
    problems: NotRequired[list[str]]
    errorCode: NotRequired[str]
    errorDetails: NotRequired[str]
    key: NotRequired[str]


REFUSALS = {
    400: "The request is malformed.",
    401: "No valid token.",
    403: "Not permitted.",
    404: "There is no such thing.",
    408: "The body took too long.",
    409: "The state of things does not allow it.",
    412: "It has changed meanwhile.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A field cannot be used.",
    428: "A revision is required.",
    429: "Too often with this token, or without one from this address; `Retry-After` says more.",
    500: "An error of the server's own.",
    503: "The store is not answering, or the server is full.",
}

DESCRIPTION = """\
Feature flags drawn by lot. Shares and weights are in percent. Errors are application/problem+json \
with a stable `code`. Writes to existing things need `If-Match` with the revision in quotes."""

TEXT = {"type": "string"}


def document(routes: list[Route], url: str) -> dict[str, Any]:
    """Return the document. url: where people reach the server."""
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sortition",
            "version": version("sortition-server"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def refusals(route: Route) -> list[int]:
    """Return the statuses of problems that a route may answer with."""
    found = {400, 500, 503}
    if route.action != PUBLIC:
        found |= {401, 403, 429}
    if route.parameters or route.action == SERVE:
        found.add(404)
    if route.query or not (route.open_query or route.action == PUBLIC):
        found.add(422)
    if route.model is not None:
        found |= {408, 413, 415, 422}
    if route.writes and route.dialect is None and route.action != SERVE:
        found |= {404, 409, 412}
    if route.revision:
        found.add(428)
    return sorted(found)


class _Schemas:
    """Every type of a body, in and out, and where its schema is."""

    def __init__(self, routes: list[Route]) -> None:
        bodies = [(route.model, "validation") for route in routes if route.model is not None]
        answers = [(each, "serialization") for route in routes for each in answer_types(route)]
        wanted: dict[tuple[str, JsonSchemaMode], TypeAdapter[Any]] = {}
        for of, mode in [*bodies, *answers, (Problem, "serialization")]:
            wanted[str(of), mode] = TypeAdapter(of)  # type: ignore[index]
        self._found, rest = TypeAdapter.json_schemas(
            [(name, mode, adapter) for (name, mode), adapter in wanted.items()],
            ref_template="#/components/schemas/{model}",
        )
        self.components: dict[str, JsonValue] = rest.get("$defs", {})

    def taken(self, of: Any) -> JsonValue:
        """Return the schema of what is sent to us."""
        return self._found[str(of), "validation"]

    def given(self, of: Any) -> JsonValue:
        """Return the schema of what we send."""
        return self._found[str(of), "serialization"]


def answer_types(route: Route) -> list[Any]:
    """Return the types of a route's JSON answers."""
    told = [answer[1] for answer in route.answers.values() if isinstance(answer, tuple)]
    return [each for each in told if not isinstance(each, str)]


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    answers = {str(status): _answer(route, status, schemas) for status in route.answers}
    for status in refusals(route):
        answers.setdefault(str(status), _problem(REFUSALS[status], schemas))
    operation: dict[str, Any] = {
        "operationId": route.view.__name__,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": dict(sorted(answers.items())),
        "security": _security(route),
    }
    if route.model is not None:
        content = {"application/json": {"schema": schemas.taken(route.model)}}
        operation["requestBody"] = {"content": content}
    return operation


def _answer(route: Route, status: int, schemas: _Schemas) -> dict[str, Any]:
    told = route.answers[status]
    if isinstance(told, str):
        return _problem(told, schemas) if status >= 400 else {"description": told}
    words, of = told
    if isinstance(of, str):
        return {"description": words, "content": {of: {"schema": TEXT}}}
    answer: dict[str, Any] = {
        "description": words,
        "content": {"application/json": {"schema": schemas.given(of)}},
    }
    return answer


def _problem(words: str, schemas: _Schemas) -> dict[str, Any]:
    return {"description": words, "content": {MEDIA_TYPE: {"schema": schemas.given(Problem)}}}


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.action == PUBLIC:
        return []
    return [{"token": []}, {"key": []}] if route.action == SERVE else [{"token": []}]


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": TEXT} for name in route.parameters
    ]
    found += [
        {"name": name, "in": "query", "description": each.words, "schema": each.schema()}
        for name, each in route.query.items()
    ]
    if route.revision:
        found.append(_header("If-Match", 'The revision in quotes, as in "14".', required=True))
    if route.optional_revision:
        found.append(_header("If-Match", 'Only at this revision, in quotes, as in "14".'))
    if 304 in route.answers:
        found.append(_header("If-None-Match", "The ETag of what is known."))
    if route.writes and route.action != SERVE:
        found.append(_header("Idempotency-Key", "A retry with it gets the first answer."))
    return found


def _header(name: str, words: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "schema": TEXT} | {
        "description": words
    }
