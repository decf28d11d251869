"""A host's requests through the middlewares: whose id they get, and how they are recorded."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import django
import flask
import pytest
import sortition
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from sortition import asgi, wsgi
from sortition.request_ids import DEFAULT_SOURCES
from sortition.testing import client_with
from werkzeug.test import Client as Browser
from werkzeug.test import TestResponse

from tests import loops

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
DRAWN = re.compile("[0-9a-f]{32}")


class Host(Exception):
    """What goes wrong in a host."""


@pytest.fixture
def client() -> sortition.Client:
    return client_with({"search": 100})


def recorded(client: sortition.Client) -> dict[str, Any]:
    """What a report would hold of all requests since the last time."""
    client._outcomes.collect(client._held.assignments())
    ticks = client._outcomes.take()
    return ticks[0]["service"] if ticks else {"requests": 0, "failures": 0}


def counts(client: sortition.Client) -> tuple[int, int]:
    service = recorded(client)
    return service["requests"], service["failures"]


# --- whose id -----------------------------------------------------------------------------------


def id_of(headers: dict[str, str], **options: Any) -> str:
    """The id that a request with these headers gets."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [wsgi.current(environ)._id.encode()]

    host = wsgi.Middleware(app, client_with({}), **options)
    return Browser(host).get("/", headers=headers).text


@pytest.mark.parametrize(
    ("headers", "id"),
    [
        ({"traceparent": TRACEPARENT, "X-Request-Id": "b", "X-Amzn-Trace-Id": "Root=c"}, TRACE),
        ({"traceparent": f"{TRACEPARENT}-more"}, TRACE),
        ({"X-Request-Id": "b", "X-Amzn-Trace-Id": "Root=c"}, "b"),
        ({"X-Request-Id": "  b  "}, "b"),
        ({"X-Amzn-Trace-Id": "Self=1-a;Root=1-67891233-abcdef;Sampled=1"}, "1-67891233-abcdef"),
        # What is broken is passed over.
        ({"traceparent": "00-short-00f067aa0ba902b7-01", "X-Request-Id": "b"}, "b"),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01", "X-Request-Id": "b"}, "b"),
        ({"X-Request-Id": "b" * 257, "X-Amzn-Trace-Id": "Root=c"}, "c"),
    ],
)
def test_the_first_source_that_has_an_id_counts(headers: dict[str, str], id: str):
    assert id_of(headers) == id


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Request-Id": "  "}, {"X-Amzn-Trace-Id": "Self=1"}, {"X-Request-Id": "b" * 257}],
)
def test_without_one_an_id_is_drawn_for_each_request(headers: dict[str, str]):
    drawn = {id_of(headers) for _ in range(3)}

    assert len(drawn) == 3
    assert all(map(DRAWN.fullmatch, drawn))


def test_a_host_names_its_own_sources_and_one_that_fails_has_none():
    def broken(header: Any) -> str:
        raise Host

    def number(header: Any) -> Any:
        return 7

    sources = [broken, number, lambda header: header("X-Edge-Id"), *DEFAULT_SOURCES]

    assert id_of({"X-Edge-Id": "e", "X-Request-Id": "b"}, sources=sources) == "e"
    assert id_of({"X-Request-Id": "b"}, sources=sources) == "b"


def test_a_session_cookie_keeps_pages_from_flipping():
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Set-Cookie", "theirs=1")])
        return [wsgi.current(environ)._id.encode()]

    host = wsgi.Middleware(app, client_with({}), cookie="lot")
    first = Browser(host, use_cookies=False).get("/", headers={"X-Request-Id": "b"})
    theirs, ours = first.headers.getlist("Set-Cookie")

    assert theirs == "theirs=1"
    assert DRAWN.fullmatch(first.text)
    assert ours == f"lot={first.text}; Path=/; HttpOnly; SameSite=Lax; Secure"

    again = Browser(host, use_cookies=False).get("/", headers={"Cookie": f"a=1; lot={first.text}"})
    assert again.text == first.text
    assert again.headers.getlist("Set-Cookie") == ["theirs=1"]


@pytest.mark.parametrize("cookie", ["lot=alice@example.org", "lot=", "lot", "=;;\x01=", "l" * 9000])
def test_a_cookie_that_is_not_ours_is_drawn_anew(cookie: str):
    assert DRAWN.fullmatch(id_of({"Cookie": cookie}, cookie="lot", secure=False))


def test_a_cookie_needs_a_name_that_is_one():
    with pytest.raises(sortition.ConfigurationError, match="cookie"):
        wsgi.Middleware(lambda environ, start: [], client_with({}), cookie="a; b")


def get(browser: Browser, path: str, **options: Any) -> TestResponse:
    """A whole answer, closed as a server closes it."""
    return browser.get(path, buffered=True, **options)


# --- Flask --------------------------------------------------------------------------------------


@pytest.fixture
def shop(client: sortition.Client) -> Browser:
    app = flask.Flask("shop")

    @app.get("/search")
    def search() -> str:
        request = wsgi.current(flask.request.environ)
        request.count("critical_path", ok=False)
        return "new" if request.is_enabled("search") else "old"

    @app.get("/status/<int:code>")
    def status(code: int) -> tuple[str, int]:
        return "", code

    @app.get("/broken")
    def broken() -> str:
        raise Host

    @app.get("/stream")
    def stream() -> flask.Response:
        request = wsgi.current(flask.request.environ)

        def body() -> Iterator[str]:
            yield "a"
            yield str(request.is_enabled("search"))

        return flask.Response(body())

    @app.get("/broken-stream")
    def broken_stream() -> flask.Response:
        def body() -> Iterator[str]:
            yield "a"
            raise Host

        return flask.Response(body())

    app.wsgi_app = wsgi.Middleware(app.wsgi_app, client)  # type: ignore[method-assign]
    return Browser(app)


def test_flask_asks_within_the_request_and_its_metrics_are_told(
    client: sortition.Client, shop: Browser
):
    assert get(shop, "/search", headers={"X-Request-Id": "b"}).text == "new"

    client._outcomes.collect(client._held.assignments())
    (tick,) = client._outcomes.take()
    (row,) = tick["flags"]
    assert (row["flag"], row["variant"], row["assignments"]) == ("search", "on", 1)
    for each in (row, tick["service"]):
        assert (each["requests"], each["failures"]) == (1, 0)
        assert each["metrics"] == {"critical_path": [1, 1]}


@pytest.mark.parametrize(("code", "failures"), [(200, 0), (302, 0), (404, 0), (500, 1), (503, 1)])
def test_a_status_of_the_server_s_fault_is_a_failure(
    client: sortition.Client, shop: Browser, code: int, failures: int
):
    assert get(shop, f"/status/{code}").status_code == code
    assert counts(client) == (1, failures)


def test_flask_s_own_answer_to_an_exception_is_a_failure(client: sortition.Client, shop: Browser):
    assert get(shop, "/broken").status_code == 500
    assert counts(client) == (1, 1)


def test_a_streamed_body_belongs_to_the_request(client: sortition.Client, shop: Browser):
    response = shop.get("/stream", buffered=False)
    assert counts(client) == (0, 0)

    assert response.text == "aTrue"
    response.close()
    assert counts(client) == (1, 0)


def test_a_body_that_breaks_is_a_failure(client: sortition.Client, shop: Browser):
    response = shop.get("/broken-stream", buffered=False)
    with pytest.raises(Host):
        response.get_data()
    response.close()

    assert counts(client) == (1, 1)


def test_a_caller_who_goes_away_is_no_failure(client: sortition.Client, shop: Browser):
    response = shop.get("/stream", buffered=False)
    next(response.iter_encoded())
    response.close()

    assert counts(client) == (1, 0)


# --- any WSGI application -----------------------------------------------------------------------


def call(app: Callable[..., Iterable[bytes]]) -> bytes:
    """Serve one request as a server does."""
    body = app({"REQUEST_METHOD": "GET"}, lambda *_: None)
    try:
        return b"".join(body)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()


@pytest.mark.parametrize("error", [Host, SystemExit, KeyboardInterrupt])
def test_an_exception_is_a_failure_and_goes_on(
    client: sortition.Client, error: type[BaseException]
):
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise error

    with pytest.raises(error):
        call(wsgi.Middleware(app, client))

    assert counts(client) == (1, 1)


def test_a_body_that_cannot_be_closed_is_a_failure_and_goes_on(client: sortition.Client):
    class Body(list[bytes]):
        def close(self) -> None:
            raise Host

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        return Body([b"a"])

    with pytest.raises(Host):
        call(wsgi.Middleware(app, client))

    assert counts(client) == (1, 1)


def test_the_duration_is_the_whole_body_s(
    client: sortition.Client, monkeypatch: pytest.MonkeyPatch
):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        now[0] += 0.25
        for _ in range(3):
            now[0] += 0.5
            yield b"a"

    assert call(wsgi.Middleware(app, client)) == b"aaa"
    assert recorded(client)["latency_sum"] == pytest.approx(1.75)


def test_what_a_host_says_of_an_exception_is_passed_on(client: sortition.Client):
    said: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [], None)
        start_response("500 Oh", [], (Host, Host(), None))
        return [b""]

    for _ in wsgi.Middleware(app, client)({}, lambda *given: said.append(given)):
        pass

    assert [len(given) for given in said] == [2, 3]


def test_without_the_middleware_there_is_no_request():
    for current in (wsgi.current, asgi.current):
        with pytest.raises(LookupError, match="not installed"):
            current({})


def test_nobody_has_to_be_there(monkeypatch: pytest.MonkeyPatch):
    # Neither flags nor a server, and ids that nothing can be made of: the host serves all the same.
    client = sortition.Client("", snapshot="")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        request = wsgi.current(environ)
        return [str(request.is_enabled("search", default=True)).encode()]

    host = wsgi.Middleware(app, client, sources=[lambda header: "\ud800"])

    assert call(host) == b"True"


# --- Django -------------------------------------------------------------------------------------


def django_search(request: Any) -> HttpResponse:
    found = wsgi.current(request.environ)
    return HttpResponse(f"{found._id} {found.is_enabled('search')}")


def django_broken(request: Any) -> HttpResponse:
    raise Host


def django_stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"a", b"b"]))


urlpatterns = [
    path("search", django_search),
    path("broken", django_broken),
    path("stream", django_stream),
]


@pytest.fixture(scope="module")
def django_application() -> WSGIHandler:
    settings.configure(
        ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", LOGGING_CONFIG=None
    )
    django.setup()
    return WSGIHandler()


def test_django(client: sortition.Client, django_application: WSGIHandler):
    browser = Browser(wsgi.Middleware(django_application, client))

    assert get(browser, "/search", headers={"traceparent": TRACEPARENT}).text == f"{TRACE} True"
    assert counts(client) == (1, 0)
    assert get(browser, "/broken").status_code == 500
    assert counts(client) == (1, 1)
    assert get(browser, "/stream").text == "ab"
    assert get(browser, "/nowhere").status_code == 404
    assert counts(client) == (2, 0)


# --- ASGI ---------------------------------------------------------------------------------------

START = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
BODY = {"type": "http.response.body", "body": b"a"}


def ask(app: asgi.App, headers: Iterable[tuple[bytes, bytes]] = ()) -> list[Any]:
    """Serve one request as a server does, and return what was sent."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": list(headers)}
    loops.run(app(scope, receive, send))  # type: ignore[arg-type]  # a coroutine, as here
    return sent


def answering(*messages: Any, error: BaseException | None = None) -> Any:
    """An application that tells its request's id in the last place, and may break."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        request = asgi.current(scope)
        request.is_enabled("search")
        for message in messages:
            await send(message)
        if error is not None:
            raise error
        ids.append(request._id)

    ids: list[str] = []
    app.ids = ids  # type: ignore[attr-defined]  # for the test to look at
    return app


def test_an_asgi_request_is_recorded(client: sortition.Client):
    app = answering(START, BODY)
    sent = ask(asgi.Middleware(app, client), [(b"traceparent", TRACEPARENT.encode())])

    assert sent == [START, BODY]
    assert app.ids == [TRACE]
    assert counts(client) == (1, 0)


@pytest.mark.parametrize(
    ("headers", "id"),
    [
        ([(b"X-Request-Id", b"b"), (b"x-amzn-trace-id", b"Root=c")], "b"),
        ([(b"x-amzn-trace-id", b"Root=c")], "c"),
        ([(b"x-request-id", b"\xff")], "\xff"),
    ],
)
def test_asgi_asks_the_same_sources(client: sortition.Client, headers: Any, id: str):
    app = answering(START, BODY)
    ask(asgi.Middleware(app, client), headers)

    assert app.ids == [id]


def test_an_asgi_session_cookie(client: sortition.Client):
    app = answering(START, BODY)
    host = asgi.Middleware(app, client, cookie="lot", secure=False)
    first, _ = ask(host)
    told = f"lot={app.ids[0]}; Path=/; HttpOnly; SameSite=Lax"

    assert first["headers"] == [(b"a", b"b"), (b"set-cookie", told.encode())]
    again, _ = ask(host, [(b"cookie", b"x=1"), (b"cookie", f"lot={app.ids[0]}".encode())])
    assert again == START
    assert app.ids[0] == app.ids[1]


@pytest.mark.parametrize(
    ("messages", "error", "failures"),
    [
        ([{**START, "status": 404}, BODY], None, 0),
        ([{**START, "status": 500}, BODY], None, 1),
        ([], None, 1),
        ([], Host(), 1),
        ([START, {**BODY, "more_body": True}], Host(), 1),
        # A caller who goes away; a task of the host's own after the answer.
        ([START, {**BODY, "more_body": True}], asyncio.CancelledError(), 0),
        ([START, BODY], Host(), 0),
        ([START, {"type": "http.response.pathsend", "path": "/a"}], Host(), 0),
    ],
)
def test_how_an_asgi_request_went(
    client: sortition.Client, messages: Any, error: BaseException | None, failures: int
):
    host = asgi.Middleware(answering(*messages, error=error), client)
    if error is None:
        ask(host)
    else:
        with pytest.raises(type(error)):
            ask(host)

    assert counts(client) == (1, failures)


def test_an_asgi_request_lasts_until_the_end_of_its_body(
    client: sortition.Client, monkeypatch: pytest.MonkeyPatch
):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, {**BODY, "more_body": True}, BODY):
            now[0] += 0.5
            await send(message)
        now[0] += 100  # a task of its own

    ask(asgi.Middleware(app, client))

    assert recorded(client)["latency_sum"] == pytest.approx(1.5)


def test_requests_that_are_served_at_once_do_not_meet(client: sortition.Client):
    seen: dict[str, str] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = asgi.current(scope)
        await asyncio.sleep(0)
        seen[scope["path"]] = request._id
        await send(START)
        await send(BODY)

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    async def serve() -> None:
        host = asgi.Middleware(app, client)
        scopes = [
            {"type": "http", "path": f"{i}", "headers": [(b"x-request-id", b"%d" % i)]}
            for i in range(50)
        ]
        await asyncio.gather(*(host(scope, None, send) for scope in scopes))  # type: ignore[arg-type]  # it is not asked

    loops.run(serve())

    assert seen == {str(i): str(i) for i in range(50)}
    assert counts(client) == (50, 0)


def test_what_is_no_http_passes_through(client: sortition.Client):
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    scope = {"type": "websocket"}
    loops.run(asgi.Middleware(app, client)(scope, None, None))  # type: ignore[arg-type]  # it is not asked

    assert scopes == [scope]
    assert scopes[0] is scope
    assert counts(client) == (0, 0)
