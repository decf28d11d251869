"""Every kind of answer is harmless in a browser, and tells nothing of what it was made with.

One served house is asked for one of each: what Flask answers, what the front answers by itself,
what the server says to octets that are no request, pages, parts of pages, assets, streams, and what
a controller answers that is alone.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from flagserver.domain.commands import NewToken
from flagserver.http import alone
from flagserver.http.front import Front
from flagserver.measures import Board
from flagserver.settings import Settings
from flagserver.web import follow_in_background
from tests.serving import serving

from .house import ANA, OUR_PAGE, House

SHOP = "https://shop.example"
ONE = "/ofrep/v1/evaluate/flags/new-search"

# What is asked -> (method, path, who asks, the status that is expected).
ASKED = {
    "the API": ("GET", "/api/v1/flags", "admin", 200),
    "the API, to nobody": ("GET", "/api/v1/flags", "nobody", 401),
    "the API, to who may not": ("GET", "/api/v1/flags", "sdk", 403),
    "an address of the API that is none": ("GET", "/api/v1/nothing", "admin", 404),
    "a method that is none": ("DELETE", "/api/v1/flags", "admin", 405),
    "a form where JSON belongs": ("POST", "/api/v1/flags", "admin", 415),
    "the document": ("GET", "/openapi.json", "nobody", 200),
    "the snapshot": ("GET", "/api/v1/sdk/snapshot", "sdk", 200),
    "the stream": ("GET", "/api/v1/sdk/stream", "sdk", 200),
    "OFREP": ("POST", ONE, "sdk", 200),
    "OFREP, to nobody": ("POST", ONE, "nobody", 401),
    "OFREP's question before": ("OPTIONS", ONE, "nobody", 204),
    "metrics": ("GET", "/metrics", "admin", 200),
    "metrics, to nobody": ("GET", "/metrics", "nobody", 401),
    "health": ("GET", "/healthz", "nobody", 200),
    "readiness": ("GET", "/readyz", "nobody", 200),
    "the record": ("GET", "/api/v1/audit/export", "admin", 200),
}
PAGES = {
    "the sign-in page": ("GET", "/sign-in", "nobody", 200),
    "a page, to nobody": ("GET", "/", "nobody", 303),
    "a page": ("GET", "/", "person", 200),
    "a page of a flag": ("GET", "/flags/new-search", "person", 200),
    "a page that is none": ("GET", "/nothing", "person", 404),
    "a part of a page": ("GET", "/ui/flags", "person", 200),
    "a part of a page, to nobody": ("GET", "/ui/flags", "nobody", 401),
    "a form of another site": ("POST", "/theme", "stranger", 403),
    "a form that was sent": ("POST", "/sign-out", "nobody", 401),
    "help": ("GET", "/help", "person", 200),
    "an asset": ("GET", "asset", "nobody", 200),
    "an asset that is none": ("GET", "/assets/none.css", "nobody", 404),
    "the pages' stream": ("GET", "/ui/events", "person", 200),
}


class Asked:
    """A house that is served, and who may ask it."""

    def __init__(self, house: House, address: str) -> None:
        self.house = house
        self.address = address
        tokens = house.services.tokens
        sdk = tokens.create(NewToken(scope="sdk", environment="production"), ANA).text
        admin = tokens.create(NewToken(scope="admin"), ANA).text
        cookie = house.visitor().client.get_cookie("__Host-sortition_session")
        assert cookie is not None
        person = f"__Host-sortition_session={cookie.value}"
        self.callers: dict[str, dict[str, str]] = {
            "nobody": dict(OUR_PAGE),
            "stranger": {"Sec-Fetch-Site": "cross-site"},
            "admin": {"Authorization": f"Bearer {admin}"},
            "sdk": {"Authorization": f"Bearer {sdk}"},
            "person": {"Cookie": person},
        }

    def ask(self, method: str, path: str, who: str) -> httpx.Response:
        """Ask; of a stream, the head is enough."""
        if path == "asset":
            page = httpx.get(f"{self.address}/sign-in", trust_env=False).text
            [path, *_] = re.findall(r'"(/assets/[^"]+\.css)"', page)
        headers = {"Origin": SHOP, "Accept-Encoding": "identity", **self.callers[who]}
        if method == "OPTIONS":
            headers["Access-Control-Request-Method"] = "POST"
        more: dict[str, Any] = {}
        if path == ONE and method == "POST":
            more = {"json": {"context": {"targetingKey": "abc"}}}
        elif method == "POST":
            more = {"data": {"theme": "dark"}}
        with httpx.stream(
            method, self.address + path, headers=headers, timeout=20, trust_env=False, **more
        ) as answer:
            if "event-stream" not in answer.headers.get("Content-Type", ""):
                answer.read()
            return answer


@contextmanager
def served(house: House, scheme: str) -> Iterator[str]:
    """Serve a house as one that people reach by a scheme."""
    stop = follow_in_background(house.services.snapshots)
    try:
        front = Front(house.app, house.services, house.hub, scheme=scheme)
        with serving(front) as address:
            yield address
    finally:
        stop.set()


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    settings = Settings(ofrep_origins=(SHOP,), public_url="https://flags.example")
    house = House(secure_cookies=True, settings=settings)
    house.flag("new-search")
    with served(house, "https") as address:
        yield Asked(house, address)


def harmless(headers: httpx.Headers) -> None:
    """Fail unless an answer is kept from being taken for what it is not, and tells no version."""
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(
        part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    # Strict, and so that no nonce is needed: what is inline never runs.
    assert not re.search(r"unsafe|nonce-|sha256-|\*|https?:", headers["Content-Security-Policy"])
    assert headers["Referrer-Policy"] in ("no-referrer", "same-origin")
    assert not re.search(r"\d", headers.get("Server", "")), headers["Server"]
    assert "X-Powered-By" not in headers
    # A stream of events is UTF-8 by what it is.
    if re.match("text/(?!event-stream)", headers.get("Content-Type", "")):
        assert "charset=utf-8" in headers["Content-Type"].lower()


@pytest.mark.parametrize("kind", [*ASKED, *PAGES])
def test_an_answer_is_harmless(asked: Asked, kind: str) -> None:
    method, path, who, status = (ASKED | PAGES)[kind]

    answer = asked.ask(method, path, who)

    assert answer.status_code == status, answer.headers
    harmless(answer.headers)
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.status_code == 204 or answer.headers["Content-Type"]
    # Nothing that is of somebody is kept on the way; what is kept has its content in its name.
    kept = answer.headers["Cache-Control"]
    assert kept == "public, max-age=31536000, immutable" if kind == "an asset" else "no-" in kept
    if kind in ASKED and not path.startswith("/ofrep/"):
        assert "Access-Control-Allow-Origin" not in answer.headers
    if kind in PAGES:
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_what_is_no_request_is_answered_harmlessly(asked: Asked) -> None:
    place = urlsplit(asked.address)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=20) as line:
        line.sendall(b"NOT HTTP\r\n\r\n")
        answer = b""
        while piece := line.recv(65536):
            answer += piece

    head, *fields = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head.startswith("HTTP/1.1 400")
    harmless(httpx.Headers([(name, text) for name, _, text in map(told, fields)]))


def told(field: str) -> tuple[str, str, str]:
    """Return a header field as its name, what is between, and its text."""
    return field.partition(": ")


def test_plain_http_on_loopback_is_not_bound_to_tls() -> None:
    house = House()
    with served(house, "http") as address:
        answer = httpx.get(f"{address}/healthz", trust_env=False)

    assert "Strict-Transport-Security" not in answer.headers


def test_a_controller_alone_answers_harmlessly(asked: Asked) -> None:
    app = alone.create_app(asked.house.services, Board(), public=True)
    server = alone.serve_in_background(app, "127.0.0.1", 0)
    try:
        for path in ("/metrics", "/healthz", "/nothing"):
            answer = httpx.get(f"http://127.0.0.1:{server.server_port}{path}", trust_env=False)
            harmless(answer.headers)
    finally:
        server.shutdown()
        server.server_close()


def test_every_page_of_an_error_runs_nothing(asked: Asked) -> None:
    """Of a crash too: that page is ours as well."""
    original = asked.house.services.flags.all

    def crash() -> None:
        raise RuntimeError("a secret that nobody is to see")

    asked.house.services.flags.all = crash  # type: ignore[assignment, method-assign]
    try:
        page = asked.ask("GET", "/flags", "person")
        answered = asked.ask("GET", "/api/v1/flags", "admin")
    finally:
        asked.house.services.flags.all = original  # type: ignore[method-assign]
    for answer in (page, answered):
        assert answer.status_code == 500
        harmless(answer.headers)
        assert "secret" not in answer.text
