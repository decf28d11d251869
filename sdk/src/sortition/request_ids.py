"""Where a request's id comes from: a header that a trusted hop set, a session cookie, or chance.

Callers can choose the headers that an id is taken from, and with it their lot: let a hop that you
trust set them. Middlewares for WSGI and ASGI ask here in the same manner.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from http.cookies import SimpleCookie
from typing import NamedTuple

from .errors import ConfigurationError

TYPE_CHECKING = False  # see core.records
if TYPE_CHECKING:
    from .previews import Previews

Header = Callable[[str], str]
"""Name of a header -> its value, or nothing."""

Source = Callable[[Header], "str | None"]
"""Reads a request's headers; returns its id, or None if it finds none."""

COOKIE_OCTETS = 16
MAX_ID = 256
"""Characters of an id that is taken from a header."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.ASCII)
_ROOT = re.compile(r"(?:^|;)\s*Root=([^;\s]+)")
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_OUR_COOKIE = re.compile(r"[0-9a-f]{32}", re.ASCII)


def traceparent(header: Header) -> str | None:
    """Return the trace id of a W3C `traceparent` header."""
    match = _TRACEPARENT.fullmatch(header("traceparent").strip())
    return match.group(1) if match and match.group(1).strip("0") else None


def x_request_id(header: Header) -> str | None:
    """Return the `X-Request-Id` header."""
    text = header("x-request-id").strip()
    return text if 0 < len(text) <= MAX_ID else None


def x_amzn_trace_id(header: Header) -> str | None:
    """Return the `Root` of AWS's `X-Amzn-Trace-Id` header."""
    match = _ROOT.search(header("x-amzn-trace-id"))
    return match.group(1) if match and len(match.group(1)) <= MAX_ID else None


DEFAULT_SOURCES: tuple[Source, ...] = (traceparent, x_request_id, x_amzn_trace_id)


class Identity(NamedTuple):
    """A request's id, and the `Set-Cookie` that its answer is to carry, or None."""

    request_id: str
    set_cookie: str | None


class Identifier:
    """Finds the id of each request.

    sources: asked in turn; the first answer counts, else an id is drawn.
    cookie: the name of a session cookie with a random token, for pages that must not flip between
    requests; it then comes before the sources. It says nothing about who carries it.
    secure: mark that cookie `Secure`.
    """

    def __init__(self, sources: Sequence[Source], cookie: str | None, secure: bool) -> None:
        """Raises ConfigurationError."""
        if cookie is not None and not _TOKEN.fullmatch(cookie):
            raise ConfigurationError("cookie must be a name of letters, digits, dots, dashes")
        self._sources = tuple(sources)
        self._cookie = cookie
        self._attributes = "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")

    def identify(self, header: Header) -> Identity:
        """Return the id of the request that has these headers. Never raises."""
        if self._cookie is not None:
            known = _cookie(header, self._cookie)
            if known is not None:
                return Identity(known, None)
            token = secrets.token_hex(COOKIE_OCTETS)
            return Identity(token, f"{self._cookie}={token}; {self._attributes}")
        for source in self._sources:
            try:
                found = source(header)
            except Exception:  # noqa: BLE001, S112 (a source that fails has no id; the next one may)
                continue
            if isinstance(found, str) and found:
                return Identity(found, None)
        return Identity(secrets.token_hex(COOKIE_OCTETS), None)


def previews_of(key: str | None, secure: bool) -> Previews | None:
    """Return what finds the previews of requests, where a middleware has a key for them. Raises
    ConfigurationError."""
    if key is None:
        return None
    from .previews import Previews  # noqa: PLC0415 (who has no previews imports nothing of them)

    return Previews(key, secure=secure)


def _cookie(header: Header, name: str) -> str | None:
    try:
        found = SimpleCookie(header("cookie")).get(name)
    except Exception:  # noqa: BLE001 (what cannot be read is no cookie of ours)
        return None
    return found.value if found is not None and _OUR_COOKIE.fullmatch(found.value) else None
