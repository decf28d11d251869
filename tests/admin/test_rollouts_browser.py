"""Rollouts in a real browser: watched, taken back by mouse and by keyboard, live again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from flagserver.domain.states import State
from tests.serving import following
from tests.slices import a_slice

from .browser import Desk, Tab, check, opened, overflow
from .rolling import ALARM, BAD, RollingHouse, furnish_rollouts
from .situations import furnish_situations

pytestmark = pytest.mark.needs("chromium")

QUICK = "5%:2s,25%:30s,100%"
PAGES = {
    "overview": "/",
    "rollouts": "/rollouts",
    "none found": "/rollouts?state=superseded",
    "running": "/rollouts/{running}",
    "holding": "/rollouts/{approval}",
    "paused": "/rollouts/{paused}",
    "rolled back": "/rollouts/{back}",
    "unexplained": "/rollouts/{by hand}",
    "complete": "/rollouts/{done}",
    "review": "/rollouts/{running}/advance",
    "rollback": "/rollouts/{running}/rollback",
    "start": "/rollouts/new?flag=fast-search",
    "start again": "/rollouts/new?again={back}",
    "not found": "/rollouts/r-0000000000",
}
LOOKS = [(theme, width) for theme in ("light", "dark") for width in (1280, 390)]
MATRIX = [(name, *look) for look in LOOKS for name in PAGES]
RARE = {
    "follows": "/rollouts/{followed}",
    "held, and the engine goes on": "/rollouts/{held}",
    "the engine broke off": "/rollouts/{engine broke off}",
    "no data": "/rollouts/{no data}",
    "shared outage": "/rollouts/{outage}",
    "a limit that only holds": "/rollouts/{limit}",
    "waits for a person": "/rollouts/{undecided}",
    "a flag was killed": "/rollouts/{killed}",
    "a split": "/rollouts/{split}",
    "baking": "/rollouts/{baking}",
    "rollback failed": "/rollouts/{rollback failed}",
    "nobody looks": "/rollouts/{followed}",
    "much at once": "/",
    "a long list": "/rollouts",
}
RARE_MATRIX = [(name, *look) for look in LOOKS for name in RARE]


@pytest.fixture
def house(tmp_path: Path) -> RollingHouse:
    """A house whose rollouts take seconds: data points of one second each."""
    house = RollingHouse(disk=tmp_path, period=1)
    house.flag("fast-search", description="Answers sooner", owner="search")
    return house


@pytest.fixture
def desk(browser: Browser, house: RollingHouse) -> Iterator[Desk]:
    with house.served() as address, opened(browser, house, address) as desk:
        yield desk


@pytest.fixture
def rolling(desk: Desk, house: RollingHouse) -> Iterator[str]:
    """A rollout at its first step, and a controller that looks at it."""
    id = house.start(schedule=QUICK)
    with house.controlled():
        yield id


def test_a_rollout_is_started_watched_and_seen_rolled_back(desk: Desk, house: RollingHouse) -> None:
    house.shown = {ALARM: (0.0, None)}
    house.tick()
    tab = desk.tab()
    page = tab.go("/rollouts/new?flag=fast-search&environment=production")
    page.get_by_label("Service").fill("shop")
    page.get_by_label("Schedule").fill(QUICK)
    page.get_by_label("Guards").select_option("none")
    page.get_by_label("CloudWatch alarms").fill("shop-errors")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", name="What it would do")).to_be_in_viewport()
    page.get_by_label("Why", exact=True).fill("start canary")
    page.get_by_label("Type production").fill("production")

    with house.controlled():
        page.get_by_role("button", name="Start at 5").click()
        figure = page.locator("#rollout .figure")
        expect(figure).to_contain_text("step 1 of 3")
        expect(figure).to_contain_text("step 2 of 3")
        expect(page.locator("#strip")).to_contain_text("step 2 of 3")
        house.shown = {ALARM: (1.0, None)}
        expect(page.locator("#rollout .sentence")).to_contain_text("Rolled back at")
    expect(page.locator("#rollout .sentence")).to_contain_text("alarm shop-errors is firing.")
    expect(page.locator("#rollout .big")).to_have_text(re.compile("^0"))
    expect(page.locator("#strip")).not_to_contain_text("shop")
    expect(page.locator("#story")).to_contain_text("back at 0 %")
    assert house.state("fast-search")[0] == 0.0
    assert tab.complaints == []


@pytest.mark.slow
def test_harm_is_seen_to_take_it_back_with_its_sentence(desk: Desk, house: RollingHouse) -> None:
    tab = desk.tab()
    id = house.start(schedule=QUICK)
    page = tab.live(f"/rollouts/{id}")

    with house.controlled():
        expect(page.locator("#rollout .figure")).to_contain_text("step 2 of 3")
        expect(page.locator("#charts canvas").first).to_be_visible()
        house.shown = BAD
        sentence = page.locator("#rollout .sentence")
        expect(sentence).to_contain_text("Rolled back at")
    expect(sentence).to_contain_text(re.compile(r"http errors \d.* > 1 % \(2 of 2 points"))
    expect(page.locator("#rollout .big")).to_have_text(re.compile("^0"))
    expect(page.locator("#strip")).not_to_contain_text("api")
    expect(page.locator("#story")).to_contain_text("back at 0 %")
    assert house.state("fast-search")[0] == 0.0
    assert tab.complaints == []


def test_a_rollback_by_mouse_is_two_clicks_from_any_page(
    desk: Desk, house: RollingHouse, rolling: str
) -> None:
    tab = desk.tab()
    page = tab.live("/flags")

    page.locator("#strip").get_by_role("button", name="Roll back").click()
    page.get_by_role("button", name="Roll back now").click()

    expect(page.locator(".notice")).to_contain_text("Rolling back")
    expect(page.locator("#rollout .sentence")).to_contain_text("Rolled back at")
    assert house.state("fast-search")[0] == 0.0
    assert tab.complaints == []


def test_a_rollback_by_keyboard_is_two_keys_from_any_page(
    desk: Desk, house: RollingHouse, rolling: str
) -> None:
    page = desk.tab().go("/health")

    page.keyboard.press("Alt+r")
    expect(page.get_by_role("button", name="Roll back now")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.locator("#rollout .sentence")).to_contain_text("Rolled back at")
    assert house.rollout(rolling).state is State.ROLLED_BACK


@pytest.mark.slow
def test_an_open_question_and_its_words_stay_while_the_rollout_goes_on(
    desk: Desk, rolling: str
) -> None:
    page = desk.tab().live("/flags")
    page.locator("#strip").get_by_role("button", name="Roll back").click()
    why = page.locator("#strip").get_by_label("Why")
    why.click()
    page.keyboard.type("half a sent")

    expect(page.locator("#strip .how")).to_contain_text("step 2 of 3")

    expect(why).to_be_focused()
    page.keyboard.type("ence")
    expect(why).to_have_value("half a sentence")


@pytest.mark.slow
def test_the_countdown_goes_on_between_two_answers(desk: Desk, rolling: str) -> None:
    page = desk.tab().live("/flags")
    left = page.locator("#strip .left")
    expect(page.locator("#strip")).to_contain_text("step 2 of 3")
    first = left.inner_text()

    expect(left).not_to_have_text(first, timeout=3_000)


def test_a_restarted_server_is_live_within_ten_seconds_and_keeps_what_was_typed(
    browser: Browser, house: RollingHouse
) -> None:
    id = house.start(schedule="5%:10m,100%")
    house.tick()
    house.tick()
    with ExitStack() as servers, opened(browser, house, "") as desk:
        port = _Port(house)
        servers.callback(port.stop)
        desk.address = port.start()
        tab = desk.tab()
        page = tab.live(f"/rollouts/{id}")
        page.get_by_text("Add a note to the record").click()
        page.get_by_label("Note").fill("half a sentence")

        port.stop()
        expect(page.locator("#live-state")).to_have_text("Disconnected")
        expect(page.locator("#rollout .as-of")).to_be_visible()
        port.start()
        began = time.monotonic()
        expect(page.locator("#live-state")).to_have_text("Live", timeout=10_000)

        assert time.monotonic() - began < 10
        house.hold(id)
        expect(page.locator("#rollout .figure")).to_contain_text("Paused")
        expect(page.get_by_label("Note")).to_have_value("half a sentence")


@pytest.mark.slow
def test_the_store_goes_and_comes_back_while_somebody_watches(
    desk: Desk, house: RollingHouse
) -> None:
    id = house.start(schedule="5%:10m,100%")
    house.tick()
    house.tick()
    page = desk.tab().live(f"/rollouts/{id}")
    page.get_by_text("Add a note to the record").click()
    page.get_by_label("Note").fill("half a sentence")

    house.store_away = True
    expect(page.locator("#strip")).to_contain_text("as of", timeout=30_000)
    expect(page.locator("#strip")).to_contain_text("Nothing can be told to controllers")
    expect(page.locator("#trouble")).to_contain_text("Flags keep their values", timeout=30_000)
    expect(page.locator("#rollout .figure")).to_contain_text("5")

    house.store_away = False
    house.hold(id)
    expect(page.locator("#rollout .figure")).to_contain_text("Paused", timeout=30_000)
    expect(page.locator("#strip").get_by_role("button", name="Roll back")).to_be_visible(
        timeout=30_000
    )
    expect(page.get_by_label("Note")).to_have_value("half a sentence")


class _Port:
    """A server that can be stopped, and started on the same port again."""

    def __init__(self, house: RollingHouse) -> None:
        self._house = house
        self._stop = ExitStack()
        self._at = 0

    def start(self) -> str:
        serving = following(self._house.app, self._house.services, self._house.hub, port=self._at)
        address = self._stop.enter_context(serving)
        self._at = int(address.rsplit(":", 1)[1])
        return address

    def stop(self) -> None:
        self._stop.close()
        self._house.build_front()


def test_everything_but_the_live_parts_works_without_javascript(
    desk: Desk, house: RollingHouse
) -> None:
    page = desk.tab(scripts=False).go("/rollouts")
    page.get_by_role("link", name="Start a rollout").first.click()
    page.get_by_label("Environment").select_option("production")
    page.get_by_label("Service").fill("shop")
    page.get_by_label("Flags", exact=False).first.fill("fast-search")
    page.get_by_label("Schedule").fill("5%:10m,100%")
    page.get_by_label("Guards").select_option("none")
    page.get_by_role("button", name="Preview").click()
    page.get_by_label("Why", exact=True).fill("start canary")
    page.get_by_label("Type production").fill("production")
    page.get_by_role("button", name="Start at 5").click()
    expect(page.locator(".notice")).to_contain_text("Rollout started.")
    house.tick()
    house.tick()

    page.reload()
    page.locator("#rollout").get_by_role("button", name="Hold").click()
    expect(page.locator("#rollout .figure")).to_contain_text("Paused")
    page.get_by_role("link", name="Resume").click()
    page.get_by_label("Why", exact=True).fill("looks well")
    page.get_by_label("Type production").fill("production")
    page.get_by_role("button", name="Resume at 5").click()
    expect(page.locator("#rollout .figure")).to_contain_text("Running")

    page.goto(desk.address + "/flags")
    page.locator("#strip").get_by_role("button", name="Roll back").click()
    page.get_by_role("button", name="Roll back now").click()
    expect(page.locator(".notice")).to_contain_text("Rolling back")
    house.tick()
    page.reload()
    expect(page.locator("#rollout .sentence")).to_contain_text("Rolled back at")


# --- for everybody --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gallery(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Desk, dict[str, str], dict[tuple[str, int], Tab]]]:
    """Rollouts in every state, that nobody changes: all these tests share them."""
    house = RollingHouse(disk=tmp_path_factory.mktemp("disk"))
    ids = furnish_rollouts(house)
    house.clock.stop()
    with house.served() as address, opened(browser, house, address) as desk:
        yield desk, ids, {look: desk.tab(theme=look[0], width=look[1]) for look in LOOKS}


@pytest.mark.parametrize(("name", "theme", "width"), a_slice(MATRIX, 3), ids=str)
def test_a_page_of_rollouts_is_accessible(
    gallery: tuple[Desk, dict[str, str], dict[tuple[str, int], Tab]],
    name: str,
    theme: str,
    width: int,
) -> None:
    _, ids, tabs = gallery
    tab = tabs[theme, width]

    page = tab.go(PAGES[name].format(**ids))

    check(page)
    assert overflow(page) <= 0
    assert tab.complaints == []


@pytest.fixture(scope="module")
def rarities(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Desk, dict[str, str], dict[tuple[str, int], Tab]]]:
    """Rollouts in rare situations, likewise."""
    house = RollingHouse(disk=tmp_path_factory.mktemp("disk"))
    ids = furnish_situations(house)
    house.clock.stop()
    with house.served() as address, opened(browser, house, address) as desk:
        yield desk, ids, {look: desk.tab(theme=look[0], width=look[1]) for look in LOOKS}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "theme", "width"), RARE_MATRIX, ids=str)
def test_a_page_of_a_rollout_in_a_rare_situation_is_accessible(
    rarities: tuple[Desk, dict[str, str], dict[tuple[str, int], Tab]],
    name: str,
    theme: str,
    width: int,
) -> None:
    desk, ids, tabs = rarities
    tab = tabs[theme, width]

    # Nobody has looked at it for five minutes.
    desk.house.clock.late = -300.0 if name == "nobody looks" else 0.0
    page = tab.go(RARE[name].format(**ids))

    check(page)
    assert overflow(page) <= 0
    assert tab.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_form_that_starts_one_is_accessible_with_all_that_it_can_say(
    gallery: tuple[Desk, dict[str, str], dict[tuple[str, int], Tab]], width: int
) -> None:
    desk, *_ = gallery
    tab = desk.tab(width=width, theme="dark")
    page = tab.go("/rollouts/new?flag=dark-mode&environment=staging")
    page.get_by_label("Service").fill("shop")
    page.get_by_label("Watch the last share for").fill("30m")
    page.get_by_label("Keep on the old version").fill("1")
    page.get_by_label("Guards", exact=True).select_option("own")
    page.get_by_text("Guards of my own").click()
    guard = page.get_by_role("group", name="Guard 1")
    guard.get_by_label("Name").fill("lost carts")
    guard.get_by_label("Limit").fill("5")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#guard-problem-0")).to_be_visible()
    check(page)
    page.get_by_role("group", name="Guard 1").get_by_label("Limit").fill("5 %")
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("1 guard watches it").click()

    check(page)
    assert overflow(page) <= 0
    assert tab.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pages", "where"), [(PAGES, "gallery"), (RARE, "rarities")], ids=["usual", "rare"]
)
def test_no_page_of_rollouts_scrolls_sideways_at_320_pixels(
    request: pytest.FixtureRequest, pages: dict[str, str], where: str
) -> None:
    desk, ids, _ = request.getfixturevalue(where)
    tab = desk.tab(width=320)

    wide = {name: overflow(tab.go(path.format(**ids))) for name, path in pages.items()}

    assert {name: much for name, much in wide.items() if much > 0} == {}
