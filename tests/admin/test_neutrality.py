"""The pages about neutrality: what lots do, in words, figures and a drawing."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from admin.views.neutrality import HEIGHT, histogram
from flagserver.domain.outcomes import Drawn, Row

from .browser import Desk, check, opened, overflow
from .house import House, Visitor

PATH = "/neutrality/new-search"


def report(house: House, requests: int, share: float, *, top: int = 256) -> None:
    """Let a shop in production report a minute that has settled. top: parts that points reach."""
    chance, at = random.Random(4), int(time.time() - 10) // 60 * 60 - 1
    on = sum(chance.random() < share for _ in range(requests))
    rows = [
        Row("flag/new-search", variant, at, number, 0, 0)
        for variant, number in (("on", on), ("off", requests - on))
    ]
    bins = Counter(chance.randrange(top) for _ in range(requests))
    drawn = [Drawn("flag/new-search", at, bins)]
    about = {"service.name": "shop", "service.version": "1", "instance": "5b0b", "seen": at}
    house.store.add("production", "5b0b:1", 1, rows, about, drawn)


@pytest.fixture
def house() -> House:
    """A flag that has been at 25 % for half an hour."""
    house = House()
    house.clock.late = 1800
    house.flag("new-search", description="New search ranking")
    house.share("new-search", 25.0)
    house.clock.late = 0
    house.services.snapshots.step(0.01)
    return house


@pytest.fixture
def visitor(house: House) -> Visitor:
    return house.visitor()


def test_a_fair_lot_is_told_with_its_margins(house: House, visitor: Visitor) -> None:
    report(house, 8_000, 0.25)

    page = visitor.see(PATH)

    assert page.status == 200
    assert "✔ evenly" in page.text
    assert "✔ as drawn" in page.text
    assert "8,000 sampled" in page.text.replace("\N{NARROW NO-BREAK SPACE}", ",").replace(
        " 000", ",000"
    )
    assert page.source.count("<svg") == 1
    assert 'role="img"' in page.source


def test_what_is_not_as_drawn_is_told(house: House, visitor: Visitor) -> None:
    report(house, 8_000, 0.15, top=250)

    page = visitor.see(PATH)

    assert "✖ not evenly" in page.text
    assert "✖ not as drawn" in page.text
    assert "✖ no" in page.text


def test_little_is_too_few_to_say(house: House, visitor: Visitor) -> None:
    report(house, 400, 0.25)

    assert "too few to say" in visitor.see(PATH).text


def test_departures_are_named_on_both_pages(house: House, visitor: Visitor) -> None:
    conditions = [{"attribute": "cloud.region", "operator": "in", "values": ["eu-west-1"]}]
    house.share("new-search", 25.0, conditions=conditions)
    house.services.snapshots.step(0.01)

    page = visitor.see(PATH)

    assert "Departure from uniform. This flag looks at cloud.region" in page.text
    assert "cannot be told" in page.text
    assert "cloud.region in production" in visitor.see("/neutrality").text


def test_a_flag_leads_to_its_lot_and_back(house: House, visitor: Visitor) -> None:
    assert f'href="{PATH}"' in visitor.see("/flags/new-search").source
    assert f'href="{PATH}"' in visitor.see("/neutrality").source
    assert 'href="/flags/new-search"' in visitor.see(PATH).source
    assert visitor.see("/neutrality/none").status == 404
    assert visitor.see("/ui/neutrality/new-search").status == 200


def test_a_histogram_stays_within_its_drawing() -> None:
    drawn = histogram([0, 5, 10, 1_000_000], 3, 9)

    assert drawn.bars.count("M") == 3
    assert 0 <= drawn.top <= drawn.top + drawn.depth <= HEIGHT + 1
    assert histogram([0, 0], 0, 0).bars == ""


@pytest.fixture(scope="module")
def reading_room(browser: Browser) -> Iterator[Desk]:
    house = House()
    house.clock.late = 1800
    house.flag("new-search", description="New search ranking")
    house.share("new-search", 25.0)
    house.clock.late = 0
    house.services.snapshots.step(0.01)
    report(house, 8_000, 0.25)
    with house.served() as address, opened(browser, house, address) as desk:
        yield desk


@pytest.mark.needs("chromium")
@pytest.mark.parametrize(
    ("path", "theme", "width"), [(PATH, "dark", 390), ("/neutrality", "light", 1280)]
)
def test_the_pages_are_accessible(reading_room: Desk, path: str, theme: str, width: int) -> None:
    tab = reading_room.tab(theme=theme, width=width)

    page = tab.go(path)

    check(page)
    assert overflow(page) <= 0
    assert tab.complaints == []
