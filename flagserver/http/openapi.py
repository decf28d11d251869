"""The OpenAPI 3.1 document, made from the routes' own declarations."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .routing import PUBLIC, Route

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened and what to do."},
        "code": {"type": "string", "description": "Stable, for programs."},
        "field": {"type": "string", "description": "JSON pointer to the field at fault."},
        "revision": {"type": "integer", "description": "The current one, with stale_revision."},
    },
}

REFUSALS = {
    "400": "The request is malformed.",
    "401": "No valid token.",
    "403": "Not permitted.",
    "404": "There is no such thing.",
    "409": "The state of things does not allow it.",
    "412": "It has changed meanwhile.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "422": "A field cannot be used.",
    "428": "A revision is required.",
    "503": "The store is not answering.",
}


def document(routes: list[Route]) -> dict[str, Any]:
    """Return the document."""
    models: list[type[BaseModel]] = list({r.model: None for r in routes if r.model is not None})
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sortition",
            "version": version("sortition-server"),
            "description": "Feature flags drawn by lot. Errors are application/problem+json.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Problem": PROBLEM},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    answers: dict[str, Any] = {str(s): {"description": d} for s, d in route.answers.items()}
    for status in _refusals(route):
        answers.setdefault(
            status,
            {
                "description": REFUSALS[status],
                "content": {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                },
            },
        )
    operation: dict[str, Any] = {
        "operationId": route.view.__name__,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": answers,
        "security": [] if route.action == PUBLIC else [{"token": []}, {"key": []}],
    }
    if route.model is not None:
        schema = {"$ref": f"#/components/schemas/{_schema_name(route.model)}"}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


def _schema_name(model: type[BaseModel]) -> str:
    return model.__name__


def _refusals(route: Route) -> list[str]:
    found = ["503"]
    if route.action != PUBLIC:
        found += ["401", "403"]
    if "{" in route.path:
        found.append("404")
    if route.query:
        found.append("422")
    if route.method != "GET":
        found += ["400", "409", "412", "413", "415", "422"]
    if route.revision:
        found.append("428")
    return sorted(set(found))


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    found += [
        {"name": name, "in": "query", "description": words, "schema": text}
        for name, words in route.query.items()
    ]
    if route.revision:
        found.append({"name": "If-Match", "in": "header", "required": True, "schema": text})
    if route.method != "GET":
        found.append({"name": "Idempotency-Key", "in": "header", "schema": text})
    return found
