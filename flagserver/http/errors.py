"""One shape for everything that goes wrong: `application/problem+json` (RFC 9457) with a `code`."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from flagserver.domain.errors import Refusal, StaleRevision, StoreUnavailable

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


class Problem(Exception):
    """A refusal of the HTTP layer itself."""

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
        text = json.dumps(body, ensure_ascii=False)
        return Response(text, self.status, self.headers, content_type="application/problem+json")


def from_refusal(refusal: Refusal) -> Problem:
    """Return the problem that a refusal of the domain becomes."""
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(refusal, StaleRevision):
        more["revision"] = refusal.revision
    if isinstance(refusal, StoreUnavailable):
        headers["Retry-After"] = str(RETRY_SECONDS)
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

    @app.errorhandler(Problem)
    def _problem(error: Problem) -> Response:
        return error.response()

    @app.errorhandler(Refusal)
    def _refusal(error: Refusal) -> Response:
        return from_refusal(error).response()

    @app.errorhandler(HTTPException)
    def _framework(error: HTTPException) -> Response:
        return from_framework(error).response()

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        # The rule, not the path: what callers put into paths and bodies stays out of the log.
        rule = request.url_rule.rule if request.url_rule else "no rule"
        log.error("%s %s failed", request.method, rule, exc_info=error)
        detail = "Something went wrong here. It was logged; nothing about your request was."
        return Problem(500, "internal_error", detail).response()
