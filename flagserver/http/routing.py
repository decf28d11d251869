"""How a route is declared: path, who may, what body, which answers; all in one place.

The declaration is what lets a request in (there is no route without one) and what the OpenAPI
document is made from, so neither can say anything else than the code does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Request, Response, jsonify, request
from pydantic import BaseModel

from flagserver.domain import access
from flagserver.domain.documents import Idempotency, Principal
from flagserver.domain.errors import Forbidden, RevisionRequired, Unauthenticated
from flagserver.services import Services

from . import body
from .errors import Problem

PUBLIC = "public"
"""The action of a route that anybody may use."""

_ETAG = re.compile(r'"(\d{1,15})"')
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,128}")

View = Callable[..., Any]


@dataclass(frozen=True)
class Route:
    """One operation. action: of `domain.access`, or PUBLIC.  revision: If-Match is required."""

    method: str
    path: str
    action: str
    view: View
    summary: str
    model: type[BaseModel] | None
    answers: Mapping[int, str]
    limit: int
    revision: bool
    query: Mapping[str, str]

    @property
    def endpoint(self) -> str:
        """The name that Flask knows it by."""
        return f"api.{self.view.__name__}"


class Routes:
    """The routes of one file."""

    def __init__(self) -> None:
        self.all: list[Route] = []

    def add(
        self,
        method: str,
        path: str,
        action: str,
        answers: Mapping[int, str],
        *,
        model: type[BaseModel] | None = None,
        limit: int = body.LIMIT,
        revision: bool = False,
        query: Mapping[str, str] | None = None,
    ) -> Callable[[View], View]:
        """Declare the function below as a route; its docstring's first line is the summary."""

        def declare(view: View) -> View:
            summary = (view.__doc__ or "").strip().split("\n")[0]
            self.all.append(
                Route(
                    *(method, path, action, view, summary, model, answers, limit, revision),
                    query=query or {},
                )
            )
            return view

        return declare


@dataclass(frozen=True)
class Call:
    """One request, let in and understood: who, what body, under which conditions."""

    services: Services
    principal: Principal
    request: Request
    body: Any = None
    idempotency: Idempotency | None = None
    path: Mapping[str, str] = field(default_factory=dict)

    def revision(self) -> int:
        """Return the revision that If-Match names. Raises RevisionRequired or Problem."""
        found = self.optional_revision()
        if found is None:
            raise RevisionRequired('Say which revision you mean: If-Match: "<revision>".')
        return found

    def optional_revision(self) -> int | None:
        """Return the revision that If-Match names, None without one."""
        text = self.request.headers.get("If-Match")
        if text is None:
            return None
        match = _ETAG.fullmatch(text.strip())
        if match is None:
            detail = 'If-Match must be one revision in quotes, as in "14".'
            raise Problem(400, "malformed_request", detail, field="If-Match")
        return int(match.group(1))

    def whole_number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a number of the query string. Raises Problem invalid_field."""
        text = self.request.args.get(name, str(default))
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            detail = f"{name} must be a whole number from {low} to {high}."
            raise Problem(422, "invalid_field", detail, field=f"?{name}")
        return int(text)

    def switch(self, name: str) -> bool:
        """Return whether a switch of the query string is on (1 or true)."""
        return self.request.args.get(name, "") in ("1", "true")


def install(app: Flask, services: Services, routes: list[Route]) -> None:
    """Put the routes into an application, each behind its declaration."""
    for route in routes:
        app.add_url_rule(
            re.sub(r"{(\w+)}", r"<\1>", route.path),
            endpoint=route.endpoint,
            view_func=_guarded(route, services),
            methods=[route.method],
        )


def _guarded(route: Route, services: Services) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        principal = ANYBODY if route.action == PUBLIC else authenticate(services, request)
        if route.action != PUBLIC:
            access.check(principal, route.action, path.get("environment"))
        content = body.read_object(request, route.limit) if route.method != "GET" else {}
        if route.method != "GET" and route.model is None and content:
            raise Problem(422, "unknown_field", "This takes no body.", field="/")
        call = Call(
            services=services,
            principal=principal,
            request=request,
            body=body.validated(route.model, content) if route.model is not None else None,
            idempotency=_idempotency(principal, content),
            path=path,
        )
        if route.revision:
            call.revision()
        return _response(route.view(call, **path))

    return view


ANYBODY = Principal("anybody", "none", "none")


def authenticate(services: Services, incoming: Request) -> Principal:
    """Return who presents a token. Raises Unauthenticated."""
    scheme, _, text = incoming.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        text = incoming.headers.get("X-API-Key", "")
    if not text:
        raise Unauthenticated("Send a token: Authorization: Bearer srt_…")
    return services.tokens.authenticate(text.strip())


def environment_of(principal: Principal) -> str:
    """Return the one environment that an SDK's token belongs to. Raises Forbidden."""
    if principal.environment is None:
        raise Forbidden("This needs a token that belongs to one environment.")
    return principal.environment


def _idempotency(principal: Principal, content: Mapping[str, Any]) -> Idempotency | None:
    key = request.headers.get("Idempotency-Key")
    if key is None or request.method == "GET":
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        detail = "Idempotency-Key must be 1 to 128 visible ASCII characters."
        raise Problem(400, "malformed_request", detail, field="Idempotency-Key")
    asked = f"{request.method} {request.path} {json.dumps(content, sort_keys=True)}"
    fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    return Idempotency(f"{principal.id}:{key}", fingerprint)


def _response(answer: Any) -> Response:
    """Return a response of what a view gave: a body, (body, status), (body, status, headers)."""
    if isinstance(answer, Response):
        return answer
    content, status, headers = (*answer, {})[:3] if isinstance(answer, tuple) else (answer, 200, {})
    response = jsonify(content) if content is not None else Response()
    response.status_code = status
    response.headers.update(headers)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
