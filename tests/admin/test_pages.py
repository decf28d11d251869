"""What holds for every page: its policy, its files, and that text stays text."""

from __future__ import annotations

import logging
import re
from html.parser import HTMLParser

import pytest

from flagserver.domain.errors import StoreUnavailable

from .house import House, Visitor

PAGES = [
    "/",
    "/flags",
    "/flags?q=canary",
    "/flags?q=<script>alert(1)</script>",
    "/flags/new",
    "/flags/new?key=<img src=x onerror=alert(1)>",
    "/flags/canary",
    "/flags/canary/environments/production/kill",
    "/flags/killed/environments/production/unkill",
    "/health",
    "/neutrality",
    "/neutrality/canary",
    "/nothing",
    "/sign-in",
    "/sign-in/<script>",
    "/ui/overview",
    "/ui/flags",
    "/ui/flags/canary",
    "/ui/health",
    "/ui/neutrality/canary",
    "/ui/trouble",
]
CANARY = "<script>alert('%s')</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"


class Tags(HTMLParser):
    """Collects every tag with its attributes, as a browser would read them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


@pytest.fixture
def lived_in(house: House) -> House:
    house.flag("canary", description=CANARY % "description", owner=CANARY % "owner")
    house.flag("killed")
    for key in ("canary", "killed"):
        house.share(key, 25.0, reason=CANARY % "reason")
    house.kill("killed")
    house.report("canary", 25, 75)
    return house


@pytest.mark.parametrize("path", PAGES)
def test_text_stays_text_and_nothing_is_inline(lived_in: House, path: str) -> None:
    tags = Tags()
    tags.feed(lived_in.visitor().see(path).source)

    for tag, attributes in tags.found:
        assert tag != "style"
        assert tag != "script" or attributes["src"].startswith("/assets/")
        assert tag != "img" or attributes["src"].startswith("/assets/")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        assert not attributes.get("href", "").startswith("javascript:")


def test_typed_text_comes_back_as_text(lived_in: House) -> None:
    visitor = lived_in.visitor()
    share = "/flags/canary/environments/production/share"

    page = visitor.send(visitor.see("/flags/canary"), share, share=CANARY, reason=CANARY)
    new = visitor.send(visitor.see("/flags/new"), "/flags/new", key=CANARY, variants=CANARY)

    for source in (page.source, new.source):
        assert "<script>" not in source
        assert "<img src=x" not in source
    assert page.form(share)["share"] == CANARY
    assert new.form("/flags/new")["key"] == CANARY


@pytest.mark.parametrize("path", [*PAGES, "/ui/events?topic=flags"])
def test_every_answer_says_what_it_may_do(lived_in: House, path: str) -> None:
    answer = lived_in.visitor().client.get(path)
    answer.close()

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"


def test_files_are_the_same_for_ever(house: House, visitor: Visitor) -> None:
    files = set(re.findall(r'(?:href|src)="(/assets/[^"]+)"', visitor.see("/").source))
    assert any(file.endswith(".css") for file in files)

    for file in files:
        plain = house.app.test_client().get(file)
        packed = house.app.test_client().get(file, headers={"Accept-Encoding": "gzip"})
        assert plain.status_code == 200
        assert "immutable" in plain.headers["Cache-Control"]
        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(packed.data) < len(plain.data)
    assert house.app.test_client().get("/assets/live.js").status_code == 404


def test_without_the_vendored_scripts_pages_are_there(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pathlib import Path

    from admin.assets import STATIC, Assets

    real = Path.read_text

    def without(self: Path, *more: object, **options: object) -> str:
        if self.name == "manifest.json":
            raise FileNotFoundError(self)
        return real(self, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", without)
    bare = House()

    assert Assets(STATIC).hashed("htmx.js") is None
    assert "pages work without JavaScript" in caplog.text
    page = bare.visitor().see("/")
    assert page.status == 200
    assert "htmx" not in page.source.split("<main")[0]


def test_while_the_store_is_away_the_last_word_is_shown(lived_in: House) -> None:
    visitor = lived_in.visitor()
    visitor.see("/flags")
    lived_in.services.snapshots.load()
    lived_in.services.snapshots.step(0)
    lived_in.store_away = True

    page = visitor.see("/flags/canary")

    assert page.status == 503
    assert "The store is not answering" in page.text
    assert "What is served meanwhile" in page.text
    assert "canary" in page.text

    lived_in.store_away = False
    assert visitor.see("/flags/canary").status == 200


def test_while_the_store_is_away_nobody_new_is_let_in(lived_in: House) -> None:
    session = lived_in.services.sessions.sign_in(lived_in.services.sessions.make_link())
    stranger = lived_in.app.test_client()
    stranger.set_cookie("sortition_session", session)
    lived_in.store_away = True

    answer = stranger.get("/flags")

    assert answer.status_code == 503
    assert b"canary" not in answer.data


def test_our_own_mistakes_are_logged_and_not_shown(
    house: House,
    visitor: Visitor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(house.services.flags, "all", fail)
    with caplog.at_level(logging.ERROR):
        page = visitor.see("/flags")

    assert page.status == 500
    assert "Flags are served as before" in page.text
    assert "secret detail" not in page.source
    assert "a secret detail" in caplog.text


def test_a_form_that_is_too_large_is_refused(visitor: Visitor) -> None:
    page = visitor.send(visitor.see("/flags/new"), "/flags/new", key="a", variants="x" * 70_000)

    assert page.status == 413


def test_a_refusal_during_a_change_says_that_it_is_unknown(
    house: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.flag("a")
    kill = "/flags/a/environments/production/kill"
    ask = visitor.see(kill)

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("The store did not answer in time.")

    monkeypatch.setattr(house.services.flags, "kill", away)

    assert visitor.send(ask, kill).status == 503
