"""OFREP from a web page of another origin, in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from flagserver.settings import Settings

from .api import Api, an_api

pytestmark = pytest.mark.needs("chromium")

ASK = """async ([server, token]) => {
  const answer = await fetch(`${server}/ofrep/v1/evaluate/flags`, {
    method: "POST",
    headers: {"Authorization": `Bearer ${token}`, "Content-Type": "application/json"},
    body: JSON.stringify({context: {targetingKey: "abc"}}),
  });
  const told = await answer.json();
  window.value = told.flags[0].value;
  window.stream = told.eventStreams[0].endpoint.requestUri;
  return answer.headers.get("ETag");
}"""

LISTEN = """([server]) => {
  window.heard = [];
  const events = new EventSource(server + window.stream);
  events.onmessage = (event) => window.heard.push(JSON.parse(event.data).type);
}"""


class Shop(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[str]:
    """The origin of a shop's pages."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextmanager
def page_of(browser: Browser, shop: str) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(shop)
    yield page
    page.close()


def served(shop: str, *origins: str) -> Api:
    api = an_api(settings=Settings(ofrep_origins=origins))
    api.flag("new-search", share=0)
    return api


def test_a_page_of_a_listed_origin_asks_and_hears_of_changes(browser: Browser, shop: str) -> None:
    api = served(shop, shop)
    token = api.sdk().token
    with api.served() as address, page_of(browser, shop) as page:
        api.reachable = False
        tag = page.evaluate(ASK, [address, token])
        page.evaluate(LISTEN, [address])
        page.wait_for_function("window.heard.length === 1")
        api.share("new-search", 100)
        page.wait_for_function("window.heard.length === 2")
        page.evaluate(ASK, [address, token])

        assert tag, "a page may see it"
        assert page.evaluate("window.value") is True
        assert page.evaluate("window.heard") == ["refetchEvaluation"] * 2


def test_a_page_of_another_origin_sees_nothing(browser: Browser, shop: str) -> None:
    api = served(shop, "https://shop.example")
    with api.served() as address, page_of(browser, shop) as page:
        failed = page.evaluate(
            f"async (told) => {{ try {{ await ({ASK})(told); return ''; }}"
            " catch (error) { return error.name; } }",
            [address, api.sdk().token],
        )

    assert failed == "TypeError", "which is how a browser says that it may not see an answer"
