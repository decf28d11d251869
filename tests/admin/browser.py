"""Tabs of a real browser on a served house."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.needs import find

from .house import House

FLAG = "/flags/new-search"
FLAGS = {
    "new-search": "New search ranking",
    "legacy-login": "The old way in, kept for the partner API",
}


TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def check(page: Page) -> None:
    """See that everybody can use a page."""
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": TAGS}})
    assert found.violations_count == 0, found.generate_report()


def overflow(page: Page) -> int:
    """Return how many pixels a page is wider than its window."""
    root = "document.documentElement"
    width: int = page.evaluate(f"{root}.scrollWidth - {root}.clientWidth")
    return width


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the system's Chromium."""
    arguments = [
        "--no-sandbox",  # tests may run as root, and look at nothing but their own pages
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=arguments)
        yield browser
        browser.close()


def furnish(house: House) -> House:
    """Give a house flags in every state, and a service that reports."""
    for key, description in FLAGS.items():
        house.flag(key, description=description, owner="search")
    variants = {"classic": 20, "dense": 50, "huge": 100}
    house.flag("page-size", variants=variants, rest="classic", kind="permanent")
    house.share("new-search", 25.0)
    house.share("new-search", 100.0, "staging")
    house.share("page-size", 10.0, prerequisites=[{"flag": "new-search", "variant": "on"}])
    house.share("legacy-login", 50.0)
    house.kill("legacy-login")
    for ago in (40, 20, 0):
        house.report("new-search", 250, 750, ago=ago)
    return house


@dataclass
class Tab:
    """One page of a browser that is signed in, and everything it complained of."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page

    def live(self, path: str) -> Page:
        page = self.go(path)
        page.wait_for_selector("html[data-live=live]")
        return page


@dataclass
class Desk:
    """Opens tabs on a served house."""

    browser: Browser
    house: House
    address: str
    contexts: list[BrowserContext] = field(default_factory=list)

    def tab(
        self, *, theme: str = "light", width: int = 1280, scale: float = 1, scripts: bool = True
    ) -> Tab:
        context = self.browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if theme == "dark" else "light",
            device_scale_factor=scale,
            java_script_enabled=scripts,
        )
        context.set_default_timeout(10_000)
        self.contexts.append(context)
        tab = Tab(context.new_page(), self.address)
        tab.page.on("console", lambda message: self._note(tab, message.type, message.text))
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.page.on("request", lambda request: self._foreign(tab, request.url))
        tab.go(f"/sign-in/{self.house.services.sessions.make_link()}")
        tab.page.get_by_role("button", name="Sign in").click()
        expect(tab.page.get_by_role("heading", name="Overview")).to_be_visible()
        return tab

    def _note(self, tab: Tab, kind: str, text: str) -> None:
        # The browser itself notes that a page has an error's status; that is what we meant.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            tab.complaints.append(text)

    def _foreign(self, tab: Tab, url: str) -> None:
        if not url.startswith(self.address):
            tab.complaints.append(f"asked elsewhere: {url}")


@contextmanager
def opened(browser: Browser, house: House, address: str) -> Iterator[Desk]:
    """Give a desk, and close its tabs in the end."""
    desk = Desk(browser, house, address)
    yield desk
    for context in desk.contexts:
        context.close()
