"""A preview link is made on a page, shown once, and stands in the record."""

from __future__ import annotations

import re
import time

import pytest
from sortition.record import preview
from sortition.record.note import SigningKey

from .house import House, Page, Visitor

PREVIEW = "/flags/new-search/environments/production/preview"
KEY = SigningKey("flags.example/preview", b"k" * 32)


@pytest.fixture
def form(house: House, visitor: Visitor) -> Page:
    house.services.previews._signer = KEY
    house.flag("new-search")
    return visitor.see(PREVIEW)


def test_a_link_is_made_and_is_what_the_middleware_reads(
    house: House, visitor: Visitor, form: Page
) -> None:
    made = visitor.send(
        form, PREVIEW, variant="on", hours="8", page="https://shop.example/search?q=a#top"
    )

    assert made.status == 201
    link = re.search(
        r"https://shop.example/search\?q=a&amp;sortition_preview=([\w-]+)#top", made.source
    )
    assert link is not None
    found = preview.read(link[1], [KEY.verifier], time.time())
    assert (found.environment, found.variants) == ("production", {"new-search": "on"})
    assert 8 * 3600 - 60 < found.expires - time.time() <= 8 * 3600
    assert str(KEY.verifier) in made.text
    assert link[1] not in visitor.see(PREVIEW).source


def test_that_it_was_made_stands_in_the_record_and_the_link_does_not(
    house: House, visitor: Visitor, form: Page
) -> None:
    made = visitor.send(form, PREVIEW, variant="on", hours="1", reason="the design review")

    (entry,) = house.services.flags.history("new-search", environment="production", limit=1)
    assert entry["action"] == "preview:make"
    assert entry["after"]["variant"] == "on"
    assert entry["reason"] == "the design review"
    text = re.search(r'id="text">([\w-]+)<', made.source)
    assert text is not None
    assert text[1] not in str(entry)


def revoked(house: House) -> tuple[str, ...]:
    """Return what services in production are told of revoked links."""
    house.services.snapshots.load()
    return house.services.snapshots.view("production").snapshot.revoked_previews


def test_open_links_are_listed_and_one_is_revoked(
    house: House, visitor: Visitor, form: Page
) -> None:
    assert "No link to this flag is open in production" in form.text
    for hours in ("1", "8"):
        visitor.send(form, PREVIEW, variant="on", hours=hours)
    page = visitor.see(PREVIEW)
    newest, older = re.findall(rf"{PREVIEW}/([0-9a-f]+)/revoke", page.source)
    assert page.text.count("on just now person:admin") == 2
    assert revoked(house) == ()

    done = visitor.send(page, f"{PREVIEW}/{newest}/revoke")

    assert "Services stop showing it" in done.source
    assert re.findall(rf"{PREVIEW}/([0-9a-f]+)/revoke", done.source) == [older]
    assert revoked(house) == (newest,)
    assert "new-search preview link revoked" in visitor.see("/audit").text
    again = visitor.client.post(
        f"{PREVIEW}/{newest}/revoke",
        data={"csrf": page.form("/revoke")["csrf"]},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert (again.status_code, "was revoked already" in again.text) == (404, True)


def test_a_responder_revokes_what_an_editor_made(
    house: House, visitor: Visitor, form: Page
) -> None:
    visitor.send(form, PREVIEW, variant="on", hours="1")
    responder = house.visitor("responder")

    page = responder.see(PREVIEW)
    responder.send(page, re.findall(rf"{PREVIEW}/[0-9a-f]+/revoke", page.source)[0])

    assert len(revoked(house)) == 1
    assert "/revoke" not in house.visitor("viewer").see(PREVIEW).source


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"variant": "blue"}, "has no variant"),
        ({"hours": "9999"}, "Hours"),
        ({"hours": "x"}, "Hours"),
        ({"page": "javascript:alert(1)"}, "must be a page"),
        ({"page": "https://ana@shop.example/"}, "must be a page"),
        ({"reason": "for ana@example.org"}, "must not hold an e-mail address"),
    ],
)
def test_what_cannot_be_made_is_named(
    house: House, visitor: Visitor, form: Page, typed: dict[str, str], words: str
) -> None:
    page = visitor.send(form, PREVIEW, **{"variant": "on", "hours": "8", **typed})

    assert page.status == 422
    assert words in page.text
    assert house.services.record.recent(limit=1)[0]["action"] != "preview:make"


def test_a_server_without_a_key_says_how_to_make_one(house: House, visitor: Visitor) -> None:
    house.flag("new-search")

    page = visitor.see(PREVIEW)

    assert "SORTITION_PREVIEW_KEY_FILE" in page.text
    assert "<form" not in page.source.split("<main")[1]


def test_whoever_may_not_is_told_so(house: House, form: Page) -> None:
    page = house.visitor(role="responder").see(PREVIEW)

    assert "You can look but not change this" in page.text
    assert house.visitor(role="editor").see(PREVIEW).form(PREVIEW)["hours"] == "8"
