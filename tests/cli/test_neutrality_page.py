"""The page of a proof in a real browser: it stands alone, and everybody can read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from sortition.cli.neutrality_page import page
from sortition.neutrality.numbers import Vector
from sortition.neutrality.proof import prove

pytestmark = pytest.mark.needs("chromium")

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a proof that found nothing, of a flag with a long name and a departure."""
    long = (
        "checkout-with-a-name-that-is-as-long-as-the-name-of-a-flag-may-well-be-one-hundred-letters"
    )
    made = prove({long: "a" * 16, "b": "b"}, Vector(), ids=1_000, seed="s", tell=lambda _: None)
    departures = {long: ["cloud.region", "service.instance.id"]}
    told = {"version": "0", "subject": "the flags of production", "departures": departures}
    path = tmp_path_factory.mktemp("page") / "proof.html"
    path.write_text(page({**told, **made.to_json()}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("theme", "width"),
    [("dark", 390), pytest.param("light", 1280, marks=pytest.mark.slow)],
)
def test_it_is_accessible_and_asks_nobody(
    browser: Browser, written: Path, theme: str, width: int
) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if theme == "dark" else "light",
    )
    tab = context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))

    tab.goto(written.as_uri())

    found = Axe().run(tab, options={"runOnly": {"type": "tag", "values": TAGS}})
    root = "document.documentElement"
    overflow = tab.evaluate(f"{root}.scrollWidth - {root}.clientWidth")
    context.close()
    assert found.violations_count == 0, found.generate_report()
    assert overflow <= 0
    assert asked == [written.as_uri()]
    assert complaints == []
