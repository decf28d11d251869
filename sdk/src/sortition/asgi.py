"""ASGI middleware: every HTTP request of the host is a request of the client.

    app = Middleware(app, client)      # Starlette, FastAPI, Django, any other

Callers can choose the headers that the id is taken from, and with it their lot: let a hop that you
trust set them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from .client import Client, Request
from .request_ids import DEFAULT_SOURCES, Header, Identifier, Source, previews_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY = "sortition.request"


class Middleware:
    """Opens a request for each HTTP request, records status and duration up to the end of its body.

    What the host does afterwards (background tasks) is its own; a caller who goes away is no
    failure of the host. WebSockets pass through.
    sources, cookie, secure: see `request_ids.Identifier`.
    preview: the public key of preview links, see `previews`; without one they count for nothing.
    """

    def __init__(
        self,
        app: App,
        client: Client,
        *,
        sources: Sequence[Source] = DEFAULT_SOURCES,
        cookie: str | None = None,
        secure: bool = True,
        preview: str | None = None,
    ) -> None:
        self._app = app
        self._client = client
        self._identifier = Identifier(sources, cookie, secure)
        self._previews = previews_of(preview, secure)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        header = _header(scope)
        request_id, new_cookie = self._identifier.identify(header)
        added = [] if new_cookie is None else [("set-cookie", new_cookie)]
        shown = None
        if self._previews is not None:
            client, query = self._client, bytes(scope.get("query_string", b"")).decode("latin-1")
            shown = self._previews.find(header, query, client.environment, client.revoked_previews)
        if shown is not None:
            added += shown.headers
        request = self._client.request(
            request_id, preview=None if shown is None else shown.variants
        )
        answer = _Answer(request, send, added)
        try:
            await self._app({**scope, SCOPE_KEY: request}, receive, answer.send)
        except asyncio.CancelledError:
            raise
        except BaseException:
            request.fail()
            raise
        else:
            answer.must_have_begun()
        finally:
            request.end()


class _Answer:
    """What the host sends: looked at, and passed on."""

    def __init__(self, request: Request, send: Send, added: Sequence[tuple[str, str]]) -> None:
        self._request = request
        self._send = send
        self._added = [(name.lower().encode(), value.encode("latin-1")) for name, value in added]
        self._begun = False

    async def send(self, message: Message) -> None:
        """Pass a message on; the last one of the body ends the request."""
        kind = message["type"]
        if kind == "http.response.start":
            self._begun = True
            self._request.answered()
            if message["status"] >= 500:
                self._request.fail()
            if self._added:
                message = {**message, "headers": [*message.get("headers", ()), *self._added]}
        await self._send(message)
        if kind == "http.response.pathsend" or (
            kind == "http.response.body" and not message.get("more_body", False)
        ):
            self._request.end()

    def must_have_begun(self) -> None:
        """Take a host that came back without an answer for one that failed."""
        if not self._begun:
            self._request.fail()


def current(scope: Mapping[str, Any]) -> Request:
    """Return the request that the middleware opened. Raises LookupError without a middleware."""
    try:
        request: Request = scope[SCOPE_KEY]
    except KeyError:
        raise LookupError("sortition.asgi.Middleware is not installed") from None
    return request


def _header(scope: Mapping[str, Any]) -> Header:
    def header(name: str) -> str:
        wanted = name.lower().encode("latin-1")
        found = [value for key, value in scope.get("headers", ()) if key.lower() == wanted]
        # As a gateway joins them: cookies by semicolons, others by commas.
        return (b"; " if wanted == b"cookie" else b",").join(found).decode("latin-1")

    return header
