"""What product teams do, in a real browser, with scripts and without; and what must never run."""

from __future__ import annotations

import gzip
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from flagserver.domain.commands import EnvironmentEdit, NewToken, Reasoned
from flagserver.domain.outcomes import Row, service_subject
from flagserver.domain.people import NewPerson
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.schedule_commands import TemplateBody

from .browser import Desk, furnish, opened
from .house import ANA, House

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(
    params=[pytest.param(True, marks=pytest.mark.slow), False], ids=["scripts", "no scripts"]
)
def scripts(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# --- stories --------------------------------------------------------------------------------------


def test_a_flag_is_created_and_ramped(desk: Desk, scripts: bool) -> None:
    tab = desk.tab(scripts=scripts)
    page = tab.go("/flags")

    page.get_by_role("link", name="New flag").click()
    page.get_by_label("Key").fill("dark-mode")
    page.get_by_label("Description").fill("Dark pages")
    page.get_by_label("Owner").fill("design")
    page.get_by_role("button", name="Create flag").click()
    expect(page.locator(".notice")).to_contain_text("It exposes nobody")

    page.locator("#share-production").fill("5")
    page.locator("#change-production .primary").click()
    expect(page.get_by_role("row", name="Share")).to_contain_text("5")
    page.get_by_label("Why").fill("start small")
    page.get_by_label("Type production to confirm").fill("production")
    page.get_by_role("button", name="Apply 5").click()
    expect(page.locator(".notice")).to_contain_text("Saved in production as revision 1.")

    page.get_by_role("button", name="Back to 0").click()
    expect(page.locator(".notice")).to_contain_text("Saved in production as revision 2.")
    assert desk.house.state("dark-mode") == (0.0, False, 2)
    page.get_by_role("link", name="Flags").first.click()
    expect(page.locator("#row-dark-mode")).to_contain_text("Off")
    assert tab.complaints == []


def test_two_people_edit_the_same_flag(desk: Desk, scripts: bool) -> None:
    mine, theirs = desk.tab(scripts=scripts), desk.tab(scripts=scripts)
    serving = "/flags/page-size/environments/staging/serving"
    page = mine.go(serving)
    other = theirs.go(serving)

    other.get_by_label("dense").fill("70")
    other.get_by_label("huge").fill("30")
    other.get_by_label("Share, in percent").fill("20")
    other.get_by_role("button", name="Review changes").click()
    other.get_by_role("button", name="Apply 20").click()
    expect(other.locator(".notice")).to_contain_text("revision 1")

    page.get_by_label("Share, in percent").fill("10")
    page.get_by_label("Why").fill("half of theirs")
    page.get_by_role("button", name="Review changes").click()
    expect(page.get_by_role("heading", name="It has changed since you looked")).to_be_visible()
    expect(page.get_by_role("row", name="Share")).to_contain_text("20")
    expect(page.get_by_role("row", name="Variants")).to_contain_text("dense 70")

    page.get_by_role("button", name="Apply mine on top").click()
    expect(page.locator(".notice")).to_contain_text("Saved in staging as revision 2.")
    state = desk.house.services.flags.state("page-size", "staging").state
    assert (state.share, state.weights[0]) == (100_000, ("dense", 700_000))
    assert mine.complaints == theirs.complaints == []


def test_redis_is_stopped_and_started_in_the_middle(desk: Desk, scripts: bool) -> None:
    tab = desk.tab(scripts=scripts)
    page = tab.go("/flags/new-search")
    page.locator("#share-staging").fill("40")
    page.locator("#reason-staging").fill("typed before")

    desk.house.store_away = True
    page.locator("#change-staging .primary").click()

    expect(page.get_by_role("heading", name="The store is not answering")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("Flags keep their values")
    expect(page.get_by_role("row", name=re.compile("new-search.*production"))).to_contain_text("25")

    desk.house.store_away = False
    page.get_by_role("button", name="Send it again").click()
    expect(page.locator(".notice")).to_contain_text("Saved in staging")
    expect(page.locator(".story").first).to_contain_text("typed before")
    assert desk.house.state("new-search", "staging")[0] == 40.0
    assert tab.complaints == []


def test_help_is_found_and_read(desk: Desk) -> None:
    tab = desk.tab(width=390)
    page = tab.go("/help")

    page.get_by_label("Search the documents").fill("nobody gets")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Troubleshooting").click()

    expect(page.get_by_role("heading", name="Nobody gets the feature")).to_be_visible()
    assert tab.complaints == []


# --- what must never run --------------------------------------------------------------------------

CANARY = (
    '"><img src=x onerror=document.title="pwned"><script>document.title="pwned"</script>{{7*7}}'
)


GUARD = {
    "name": CANARY,
    "signal": {"source": "outcomes", "measure": "rate", "settings": {"metric": CANARY}},
    "limit": 0.01,
}


def infested() -> House:
    """Return a house with a canary in every field that takes text."""
    house = furnish(House())
    services = house.services
    house.flag("canary", description=CANARY, owner=CANARY)
    house.flag("values", variants={"a": CANARY, "b": {CANARY: CANARY}}, rest="a")
    condition = {"attribute": CANARY, "operator": "in", "values": [CANARY]}
    house.share("canary", 5.0, reason=CANARY, conditions=[condition])
    edit = EnvironmentEdit(description=CANARY, reason=CANARY)
    services.environments.edit("staging", edit, 1, ANA)
    template = TemplateBody(schedule="5%:5m,100%", description=CANARY)
    services.schedules.put("staging", "canary", template, None, ANA)
    services.tokens.create(NewToken(scope="admin", description=CANARY, reason=CANARY), ANA)
    body: dict[str, Any] = {
        "environment": "staging",
        "service": CANARY[:80],
        "schedule": "5%:5m,100%",
        "guards": [GUARD],
        "targets": [{"kind": "flag", "name": "values"}],
        "reason": CANARY,
    }
    id = services.rollouts.start(NewRollout.model_validate(body), ANA).rollout.id
    services.rollouts.roll_back(id, Reasoned(reason=CANARY), ANA)
    services.people.invite(NewPerson(name=CANARY, login="<img/src=x>", reason=CANARY), ANA)
    at = int(time.time())
    counted = {CANARY: (30, 3)}
    row = Row(service_subject(CANARY), CANARY, at, 0, 30, 3, {60: 30}, metrics=counted)
    about = {"service.name": CANARY, "service.version": CANARY, "instance": CANARY, "seen": at}
    house.store.add("production", "canary:1", 1, [row], about)
    return house


def of_rollouts(house: House) -> list[str]:
    """Return the addresses of the pages about its rollouts."""
    ids = [view.rollout.id for view in house.services.rollouts.page().views]
    return [it for id in ids for it in (f"/rollouts/{id}", f"/rollouts/new?again={id}")]


INFESTED = (
    *("/", f"/flags?q={CANARY}", "/flags/canary", "/flags/values", "/flags/canary/edit"),
    *("/flags/canary/environments/production/serving", "/audit", "/settings/environments"),
    *(
        "/settings/environments/staging",
        "/settings/schedules",
        "/settings/schedules/staging/canary",
    ),
    *("/settings/people", "/neutrality", "/health"),
    *("/settings/tokens", "/review", "/rollouts", f"/help?q={CANARY}", f"/audit?who={CANARY}"),
    *(f"/{CANARY}", "/flags/values/environments/production/preview"),
)


def test_text_is_text_on_every_screen() -> None:
    house = infested()
    visitor = house.visitor()
    entries = [f"/audit/{entry['seq']}" for entry in house.services.record.recent(limit=12)]
    seen = 0
    for path in (*INFESTED, *of_rollouts(house), *entries):
        page = visitor.see(quote(path, safe="/?="))
        assert "<img src=x" not in page.source, path
        assert "<script>" not in page.source, path
        assert "49" not in re.findall(r"pwned\S*?(\d\d)", page.source), path
        seen += "&lt;script&gt;" in page.source

    assert seen >= 20, "the canaries are where they were put"


@pytest.mark.slow
def test_no_browser_takes_text_for_anything_else(browser: Browser) -> None:
    house, seen = infested(), 0
    with house.served() as address, opened(browser, house, address) as desk:
        tab = desk.tab()
        for path in (*INFESTED, *of_rollouts(house)):
            page = tab.go(path)
            # A title may tell the text; what ran would have made it the whole title.
            assert page.title() != "pwned", path
            assert page.locator("img[src=x]").count() == 0, path
            seen += CANARY in (page.locator("body").inner_text() + _values(page))
        assert seen >= 12, "the canaries are where they were put"
        assert tab.complaints == []


def _values(page: Page) -> str:
    fields = page.locator("input, textarea")
    return " ".join(fields.evaluate_all("all => all.map(each => each.value)"))


# --- weight ---------------------------------------------------------------------------------------

PAGES = ("/", "/flags", "/flags/new-search", "/audit", "/settings/tokens", "/help", "/review")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_weighs_at_most_60_kilobytes(house: House, path: str) -> None:
    client = furnish(house).visitor().client
    page = client.get(path).get_data()
    names = set(re.findall(rb'(?:src|href)="(/assets/[^"]+)"', page))
    packed = {"Accept-Encoding": "gzip"}

    files = [client.get(name.decode(), headers=packed).get_data() for name in names]

    assert len(gzip.compress(page)) + sum(map(len, files)) <= 60_000
