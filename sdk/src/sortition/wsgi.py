"""WSGI middleware: every request of the host is a request of the client.

    app.wsgi_app = Middleware(app.wsgi_app, client)      # Flask
    application = Middleware(get_wsgi_application(), client)      # Django

Callers can choose the headers that the id is taken from, and with it their lot: let a hop that you
trust set them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any

from .client import Client, Request

Environ = dict[str, Any]
Source = Callable[[Environ], "str | None"]

ENVIRON_KEY = "sortition.request"
COOKIE_OCTETS = 16
MAX_ID = 256

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.ASCII)
_ROOT = re.compile(r"(?:^|;)\s*Root=([^;\s]+)")
_OUR_COOKIE = re.compile(r"[0-9a-f]{32}", re.ASCII)


def traceparent(environ: Environ) -> str | None:
    """Return the trace id of a W3C `traceparent` header."""
    match = _TRACEPARENT.fullmatch(environ.get("HTTP_TRACEPARENT", "").strip())
    return match.group(1) if match and match.group(1).strip("0") else None


def x_request_id(environ: Environ) -> str | None:
    """Return the `X-Request-Id` header."""
    text = str(environ.get("HTTP_X_REQUEST_ID", "")).strip()
    return text if 0 < len(text) <= MAX_ID else None


def x_amzn_trace_id(environ: Environ) -> str | None:
    """Return the `Root` of AWS's `X-Amzn-Trace-Id` header."""
    match = _ROOT.search(environ.get("HTTP_X_AMZN_TRACE_ID", ""))
    return match.group(1)[:MAX_ID] if match else None


DEFAULT_SOURCES: tuple[Source, ...] = (traceparent, x_request_id, x_amzn_trace_id)


class Middleware:
    """Opens a request for each request, records status and duration up to the end of its body.

    sources: asked in turn for the request id; the first answer counts, else one is drawn.
    cookie: the name of a session cookie with a random token, for pages that must not flip between
    requests; it then comes before the sources. It says nothing about who carries it.
    secure: mark that cookie `Secure`.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        client: Client,
        *,
        sources: Sequence[Source] = DEFAULT_SOURCES,
        cookie: str | None = None,
        secure: bool = True,
    ) -> None:
        self._app = app
        self._client = client
        self._sources = tuple(sources)
        self._cookie = cookie
        self._secure = secure

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        request_id, new_cookie = self._identify(environ)
        request = self._client.request(request_id)
        environ[ENVIRON_KEY] = request

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if status[:1] == "5":
                request.fail()
            if new_cookie is not None:
                headers = [*headers, ("Set-Cookie", new_cookie)]
            return start_response(status, headers, *(() if exc_info is None else (exc_info,)))

        try:
            return _Body(self._app(environ, start), request)
        except BaseException:
            request.fail()
            request.end()
            raise

    def _identify(self, environ: Environ) -> tuple[str, str | None]:
        """Return the request id, and the cookie to be set if there is a new one."""
        if self._cookie is not None:
            known = _cookie(environ, self._cookie)
            if known is not None:
                return known, None
            token = secrets.token_hex(COOKIE_OCTETS)
            secure = "; Secure" if self._secure else ""
            return token, f"{self._cookie}={token}; Path=/; HttpOnly; SameSite=Lax{secure}"
        for source in self._sources:
            try:
                found = source(environ)
            except Exception:  # noqa: BLE001, S112 (a source that fails has no id; the next one may)
                continue
            if found:
                return found, None
        return secrets.token_hex(COOKIE_OCTETS), None


class _Body:
    """The response's body; the request ends when the server closes it."""

    def __init__(self, body: Iterable[bytes], request: Request) -> None:
        self._body = body
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except BaseException as error:
            if not isinstance(error, GeneratorExit):
                self._request.fail()
            raise

    def close(self) -> None:
        """Close the host's body and credit the request."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._request.end()


def current(environ: Environ) -> Request:
    """Return the request that the middleware opened. Raises LookupError without a middleware."""
    try:
        request: Request = environ[ENVIRON_KEY]
    except KeyError:
        raise LookupError("sortition.wsgi.Middleware is not installed") from None
    return request


def _cookie(environ: Environ, name: str) -> str | None:
    try:
        found = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(name)
    except CookieError:
        return None
    return found.value if found is not None and _OUR_COOKIE.fullmatch(found.value) else None
