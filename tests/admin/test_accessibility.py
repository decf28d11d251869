"""Pages for everybody: WCAG by axe-core, small screens, and the keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from flagserver.domain.people import NewPerson
from tests.slices import a_slice

from .browser import FLAG, Desk, Tab, check, furnish, opened, overflow
from .house import ANA, House

pytestmark = pytest.mark.needs("chromium")

LONG = "k" * 100
"""The longest key that a flag can have."""

PAGES = {
    "overview": "/",
    "flags": "/flags",
    "nothing found": "/flags?q=none",
    "new flag": "/flags/new",
    "flag": FLAG,
    "killed flag": "/flags/legacy-login",
    "flag of many variants": "/flags/page-size",
    "kill": f"{FLAG}/environments/production/kill",
    "unkill": "/flags/legacy-login/environments/production/unkill",
    "flags of a sort": "/flags?state=ramping&sort=changed",
    "what a flag serves": f"{FLAG}/environments/production/serving",
    "edit a flag": f"{FLAG}/edit",
    "archive a flag": f"{FLAG}/archive",
    "preview": f"{FLAG}/environments/staging/preview",
    "audit": "/audit",
    "entry of the record": "/audit/8",
    "environments": "/settings/environments",
    "environment": "/settings/environments/production",
    "schedules": "/settings/schedules",
    "new schedule": "/settings/schedules/new",
    "tokens": "/settings/tokens",
    "people": "/settings/people",
    "oneself": "/account",
    "flag of long words": f"/flags/{LONG}",
    "what was done to one flag": "/audit?thing=new-search",
    "notifications": "/settings/notifications",
    "approvals": "/approvals",
    "review of rollouts": "/review",
    "help": "/help",
    "a document": "/help/operations/troubleshooting",
    "a long document": "/help/reference/sdk",
    "health": "/health",
    "not found": "/nowhere",
}
LOOKS = [(theme, width) for theme in ("light", "dark") for width in (1280, 390)]
MATRIX = [(name, *look) for look in LOOKS for name in PAGES]


@pytest.fixture(scope="module")
def reading_room(browser: Browser) -> Iterator[Desk]:
    """A house in which nobody changes anything, so that all these tests share it."""
    house = furnish(House())
    house.flag(LONG, description="long words " * 40, owner="o" * 100)
    told = {"name": "N" * 100, "login": f"{'l' * 90}@example.org", "role": "editor"}
    house.services.people.invite(NewPerson.model_validate(told), ANA)
    with house.served() as address, opened(browser, house, address) as desk:
        yield desk


@pytest.fixture(scope="module")
def tabs(reading_room: Desk) -> dict[tuple[str, int], Tab]:
    return {look: reading_room.tab(theme=look[0], width=look[1]) for look in LOOKS}


@pytest.mark.parametrize(("name", "theme", "width"), a_slice(MATRIX, 12), ids=str)
def test_a_page_is_accessible(
    tabs: dict[tuple[str, int], Tab], name: str, theme: str, width: int
) -> None:
    tab = tabs[theme, width]

    page = tab.go(PAGES[name])

    check(page)
    assert overflow(page) <= 0
    assert tab.complaints == []


@pytest.mark.parametrize("theme", a_slice(["light", "dark"], 1))
@pytest.mark.slow
def test_what_a_page_asks_and_refuses_is_accessible(desk: Desk, theme: str) -> None:
    tab = desk.tab(theme=theme, width=390)
    page = tab.live(FLAG)

    page.locator("#in-production").get_by_role("button", name="Kill").click()
    check(page)
    page.get_by_role("button", name="Keep serving").click()

    page.locator("#share-production").fill("50")
    desk.house.share("new-search", 30.0)
    expect(page.locator("#change-production .behind")).to_be_visible()
    check(page)

    page.get_by_role("button", name="Review 50").click()
    expect(page.get_by_role("heading", name="It has changed")).to_be_visible()
    check(page)

    page.get_by_role("button", name="Apply mine on top").click()
    page.get_by_label("Why").fill("ana@example.org")
    page.get_by_label("Type production").fill("prod")
    page.get_by_role("button", name="Apply 50").click()
    expect(page.get_by_role("alert").last).to_contain_text("Nothing was changed")
    check(page)
    assert tab.complaints == []


def test_nothing_scrolls_sideways_at_320_pixels(reading_room: Desk) -> None:
    tab = reading_room.tab(width=320)
    [view] = reading_room.house.services.people.all(ANA)
    long_name = {"somebody of a long name": f"/settings/people/{view.person.id}"}

    for name, path in (PAGES | long_name).items():
        assert overflow(tab.go(path)) <= 0, name


def test_everything_is_reached_by_keyboard(reading_room: Desk) -> None:
    page = reading_room.tab().go(FLAG)
    reached = []
    for _ in range(40):  # ten of them are the ways to the other pages
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.bounding_box(), "what has the focus is seen"
        reached.append(focused.get_attribute("aria-label") or focused.inner_text())

    assert reached[0] == "Skip to content"
    assert "Kill" in reached
    assert "Review change" in reached
