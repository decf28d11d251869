"""One shape for everything that goes wrong: `application/problem+json` (RFC 9457) with a `code`."""

from __future__ import annotations

import json
import logging
import math
import traceback
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from flagserver.domain.errors import (
    ApprovalRequired,
    Refusal,
    StaleRevision,
    StoreUnavailable,
    TargetUnavailable,
    TooMany,
)

log = logging.getLogger(__name__)

CODES = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
}
"""Status -> code of what the framework itself refuses."""

RETRY_SECONDS = 2

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A refusal as it goes over the wire.

    field: JSON pointer into the body.  more: further members, such as `parameter` (a header's
    name, or `?name` of the query string).
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = headers or {}
        self.more = more

    def response(self) -> Response:
        """Return it as it goes over the wire."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **({"field": self.field} if self.field is not None else {}),
            **self.more,
        }
        headers = {"Cache-Control": "no-store", **self.headers}
        return Response(json.dumps(body), self.status, headers, content_type=MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """Return the problem that anything raised becomes; what nobody expected is logged."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Refusal):
        return from_refusal(error)
    if isinstance(error, HTTPException):
        return from_framework(error)
    _log(error)
    detail = "Something went wrong here. It was logged; nothing of your request was."
    return Problem(500, "internal_error", detail)


def from_refusal(refusal: Refusal) -> Problem:
    """Return the problem that a refusal of the domain becomes."""
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(refusal, StaleRevision):
        more["revision"] = refusal.revision
    if isinstance(refusal, ApprovalRequired):
        more["approval"] = refusal.approval
    if isinstance(refusal, TooMany):
        headers["Retry-After"] = str(math.ceil(refusal.retry_after))
    if isinstance(refusal, StoreUnavailable):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if isinstance(refusal, TargetUnavailable):
        headers["Retry-After"] = str(math.ceil(refusal.retry_after or RETRY_SECONDS))
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Problem(
        refusal.status, refusal.code, refusal.detail, field=refusal.field, headers=headers, **more
    )


def from_framework(error: HTTPException) -> Problem:
    """Return the problem that an error of Flask or Werkzeug becomes."""
    status = error.code or 500
    headers = {}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    code = CODES.get(status, "refused" if status < 500 else "internal_error")
    return Problem(status, code, error.description or "Refused.", headers=headers)


def install(app: Flask) -> None:
    """Give every error of the API its one shape. Pages of the admin UI make their own."""

    @app.errorhandler(Exception)
    def _answer(error: Exception) -> Response:
        return problem_of(error).response()


def _log(error: Exception) -> None:
    """Say what failed and where in the code, but not an exception's words nor the request's path:
    they may hold what a caller sent."""
    rule = request.url_rule.rule if request.url_rule else "no rule"
    told = "".join(_frames(error)).rstrip()
    log.error("%s %s failed\n%s", request.method, rule, told)


def _frames(error: BaseException) -> Iterator[str]:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _frames(cause)
        yield "which led to\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__module__}.{type(error).__qualname__}\n"
