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
from functools import partial
from typing import Any, Protocol

from flask import Flask, Request, Response, jsonify, request
from pydantic import BaseModel
from sortition.core.model import KEY

from flagserver.domain import access
from flagserver.domain.documents import Idempotency, Principal
from flagserver.domain.errors import Forbidden, NotFound, RevisionRequired, Unauthenticated
from flagserver.services import Services

from . import body, query
from .errors import Problem, problem_of
from .query import Parameter

PUBLIC = "public"
"""The action of a route that anybody may use."""

NAMESPACE = "api"
"""What Flask's names of our endpoints begin with."""

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""What keeps an answer of the API harmless in a browser."""

ANYBODY = Principal("anybody", "none", "none")

_REVISION = re.compile(r'"([0-9]{1,15})"')
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_IN_PATH = re.compile(r"{(\w+)}")

View = Callable[..., Any]
Answers = Mapping[int, str | tuple[str, Any]]
"""Status -> words, or (words, the type of the body or a media type that is not JSON's)."""


class Headers(Protocol):
    """A request's header fields, whoever read them."""

    def get(self, name: str, default: str, /) -> str:
        """Return a field by its name, whatever its case."""


Dialect = Callable[[Problem, Mapping[str, str]], Problem]
"""Says a problem in the words of another protocol. It gets the path's parameters too."""


@dataclass(frozen=True)
class Route:
    """One operation.

    action: of `domain.access`, or PUBLIC.  model: of the body, None where there is none.
    revision: If-Match is required.  optional_revision: it is heeded.  open_query: unknown
    parameters pass.  names: of parameters of the path that are no keys, what they are.
    refused: told when a body is refused.
    """

    method: str
    path: str
    action: str
    answers: Answers
    view: View
    model: type[BaseModel] | None = None
    limit: int = body.LIMIT
    revision: bool = False
    optional_revision: bool = False
    query: Mapping[str, Parameter] = field(default_factory=dict)
    open_query: bool = False
    names: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    dialect: Dialect | None = None
    refused: Callable[[Services], None] | None = None

    @property
    def endpoint(self) -> str:
        """The name that Flask knows it by."""
        return f"{NAMESPACE}.{self.view.__name__}"

    @property
    def summary(self) -> str:
        """What it does: the first line of the view's docstring."""
        return (self.view.__doc__ or "").strip().split("\n")[0]

    @property
    def parameters(self) -> list[str]:
        """The names in the path."""
        return _IN_PATH.findall(self.path)

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.method not in ("GET", "OPTIONS")


class Routes:
    """The routes of one file."""

    def __init__(self) -> None:
        self.all: list[Route] = []

    def add(
        self, method: str, path: str, action: str, answers: Answers, **more: Any
    ) -> Callable[[View], View]:
        """Declare the function below as a route; more: what `Route` has besides."""

        def declare(view: View) -> View:
            self.all.append(Route(method, path, action, answers, view, **more))
            return view

        return declare


@dataclass(frozen=True)
class Call:
    """One request, let in and understood: who, what body, under which conditions."""

    services: Services
    principal: Principal
    request: Request
    body: Any
    query: Mapping[str, Any]
    idempotency: Idempotency | None

    def revision(self) -> int:
        """Return the revision that If-Match names. Raises RevisionRequired or Problem."""
        text = self.request.headers.get("If-Match")
        if text is None:
            raise RevisionRequired('Say which revision you mean: If-Match: "<revision>".')
        match = _REVISION.fullmatch(text.strip())
        if match is None:
            detail = 'If-Match must be one revision in quotes, as in "14".'
            raise Problem(400, "malformed_request", detail, parameter="If-Match")
        return int(match.group(1))

    def optional_revision(self) -> int | None:
        """Return the revision that If-Match names; None without one, or for `*`."""
        text = self.request.headers.get("If-Match", "*")
        return None if text.strip() == "*" else self.revision()


def install(app: Flask, services: Services, routes: list[Route]) -> None:
    """Put the routes into an application, each behind its declaration, and let in nothing else.

    Blueprints (the admin UI) guard themselves.
    """
    app.before_request(_refuse_undeclared)
    for route in routes:
        app.add_url_rule(
            _IN_PATH.sub(r"<\1>", route.path),
            endpoint=route.endpoint,
            view_func=_guarded(route, services),
            methods=[route.method],
            provide_automatic_options=False,
        )


def _refuse_undeclared() -> None:
    """Refuse an endpoint that was put into the application past the declarations."""
    if request.endpoint is not None and request.blueprint is None:
        raise Forbidden("This endpoint does not say who may use it.")


def _guarded(route: Route, services: Services) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        try:
            return _response(route.view(_admit(route, services, path), **path))
        except Exception as error:
            if route.dialect is None:
                raise
            return route.dialect(problem_of(error), path).response()

    return view


def _admit(route: Route, services: Services, path: Mapping[str, str]) -> Call:
    """Return the request as its declaration lets it in: who, where, what, in this order."""
    principal = ANYBODY
    if route.action != PUBLIC:
        principal = authenticate(services, request, key=route.action == access.SERVE)
        access.check(principal, route.action, path.get("environment"))
    for name, text in path.items():
        if not route.names.get(name, KEY).fullmatch(text):
            raise NotFound("There is no such thing: a key holds a-z, 0-9, '.', '_' and '-' only.")
    parameters = query.read(route.query, request.args, others=route.open_query)
    content, sent = _body(route, services)
    call = Call(
        services=services,
        principal=principal,
        # The request itself: a stream outlives the context that `request` looks into.
        request=request._get_current_object(),  # type: ignore[attr-defined]  # noqa: SLF001
        body=sent,
        query=parameters,
        idempotency=_idempotency(principal, content) if route.writes else None,
    )
    if route.revision:
        call.revision()
    return call


def _body(route: Route, services: Services) -> tuple[dict[str, Any], Any]:
    """Return the body that a request carries, as it came and as it is meant. Raises Problem."""
    if route.model is None:
        body.refuse(request)
        return {}, None
    try:
        content = body.read_object(request, route.limit)
        return content, body.validated(route.model, content)
    except Problem:
        if route.refused is not None:
            route.refused(services)
        raise


def authenticate(services: Services, incoming: Request, *, key: bool) -> Principal:
    """Return who presents a token. key: X-API-Key will do. Raises Unauthenticated, TooMany.

    Whoever shows none that is known to be good is counted by address, before the store is asked.
    """
    text = presented(incoming.headers, key=key)
    strange = partial(count_stranger, services, incoming)
    if not text:
        strange()
        raise Unauthenticated("Send a token: Authorization: Bearer srt_…")
    principal = services.tokens.authenticate(text, strange)
    services.rates.count(principal)
    return principal


def count_stranger(services: Services, incoming: Request) -> None:
    """Count a request without a token by where it comes from. Raises TooMany."""
    forwarded = ",".join(incoming.headers.getlist("X-Forwarded-For"))
    services.rates.count_stranger(incoming.remote_addr, forwarded)


def presented(headers: Headers, *, key: bool) -> str:
    """Return the token that headers carry, "" if they carry none. key: X-API-Key will do."""
    scheme, _, text = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        text = headers.get("X-API-Key", "") if key else ""
    return text.strip()


def environment_of(principal: Principal) -> str:
    """Return the one environment that an SDK's token belongs to. Raises Forbidden."""
    if principal.environment is None:
        raise Forbidden("This needs a token that belongs to one environment.")
    return principal.environment


def visible(principal: Principal, asked: str) -> str | None:
    """Return the environment to be shown: a confined caller's own, or what was asked for ("": all,
    None). Raises Forbidden."""
    only = principal.environment
    if only is not None and asked not in ("", only):
        raise Forbidden(f"This token belongs to {only}, not to {asked}.")
    return only or asked or None


def _idempotency(principal: Principal, content: Mapping[str, Any]) -> Idempotency | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        detail = "Idempotency-Key must be 1 to 128 visible ASCII characters."
        raise Problem(400, "malformed_request", detail, parameter="Idempotency-Key")
    asked = f"{request.method} {request.path} {json.dumps(content, sort_keys=True)}"
    fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    return Idempotency(f"{principal.id}:{key}", fingerprint)


def _response(answer: Any) -> Response:
    """Return a response of what a view gave: a body, (body, status), (body, status, headers)."""
    if isinstance(answer, Response):
        return answer
    content, status, headers = (*answer, {})[:3] if isinstance(answer, tuple) else (answer, 200, {})
    response = jsonify(content)
    response.status_code = status
    response.headers.update(headers)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
