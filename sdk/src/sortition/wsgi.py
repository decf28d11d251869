"""WSGI middleware: every request of the host is a request of the client.

    app.wsgi_app = Middleware(app.wsgi_app, client)      # Flask
    application = Middleware(get_wsgi_application(), client)      # Django

Callers can choose the headers that the id is taken from, and with it their lot: let a hop that you
trust set them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from .client import Client, Request
from .request_ids import DEFAULT_SOURCES, Identifier, Source, previews_of

Environ = dict[str, Any]

ENVIRON_KEY = "sortition.request"


class Middleware:
    """Opens a request for each request, records status and duration up to the end of its body.

    sources, cookie, secure: see `request_ids.Identifier`.
    preview: the public key of preview links, see `previews`; without one they count for nothing.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
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

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        header = partial(_header, environ)
        request_id, new_cookie = self._identifier.identify(header)
        shown = None
        if self._previews is not None:
            query = str(environ.get("QUERY_STRING", ""))
            client = self._client
            shown = self._previews.find(header, query, client.environment, client.revoked_previews)
        request = self._client.request(
            request_id, preview=None if shown is None else shown.variants
        )
        environ[ENVIRON_KEY] = request

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            request.answered()
            if status[:1] == "5":
                request.fail()
            if new_cookie is not None:
                headers = [*headers, ("Set-Cookie", new_cookie)]
            if shown is not None:
                headers = [*headers, *shown.headers]
            return start_response(status, headers, *(() if exc_info is None else (exc_info,)))

        try:
            return _Body(self._app(environ, start), request)
        except BaseException:
            request.fail()
            request.end()
            raise


def _header(environ: Environ, name: str) -> str:
    return str(environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""))


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
        except BaseException:
            self._request.fail()
            raise
        finally:
            self._request.end()


def current(environ: Environ) -> Request:
    """Return the request that the middleware opened. Raises LookupError without a middleware."""
    try:
        request: Request = environ[ENVIRON_KEY]
    except KeyError:
        raise LookupError("sortition.wsgi.Middleware is not installed") from None
    return request
