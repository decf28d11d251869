"""The pages of what waits for a second person, for everybody: by axe-core and on small screens."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from playwright.sync_api import expect

from flagserver.domain.commands import EnvironmentEdit, StateEdit
from flagserver.domain.documents import EVERYWHERE, Principal
from flagserver.domain.errors import ApprovalRequired
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.tokens import digest

from .browser import Desk, check, overflow
from .house import ANA, House

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

BEN = Principal("person:ben", "releaser", "person", roles={EVERYWHERE: "releaser"})
PIPELINE = Principal("token:5f", "deploy", "deploy", "production", owner=ANA.id)
WHY = {"reason": "ready for more", "confirm_environment": "production"}
LOOKS = [(theme, width) for theme in ("light", "dark") for width in (1280, 390)]


def ask(house: House, share: float) -> str:
    """Let a pipeline ask for a share; return the address of what waits."""
    edit = StateEdit.model_validate({"share": share, **WHY})
    revision = house.services.flags.state("new-search", "production").revision
    with pytest.raises(ApprovalRequired) as waits:
        house.services.flags.change("new-search", "production", edit, revision, PIPELINE)
    return f"/approvals/{waits.value.approval}"


@pytest.fixture
def desk(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk at which Ben sits, where production wants two people."""
    house, sessions = desk.house, desk.house.services.sessions
    make_link = sessions.make_link

    def for_ben() -> str:
        link = make_link()
        house.store.put("link", digest(link), asdict(BEN), ttl_seconds=900)
        return link

    monkeypatch.setattr(sessions, "make_link", for_ben)
    revision = house.services.environments.get("production").revision
    edit = EnvironmentEdit(four_eyes=True)
    house.services.environments.edit("production", edit, revision, ANA)
    return desk


LONG = "a-guard-that-is-called-as-nobody-should-call-a-guard-but-somebody-does"
START = NewRollout.model_validate(
    {
        "environment": "production",
        "service": "shop",
        **WHY,
        "targets": [{"kind": "flag", "name": "new-search"}],
        "schedule": "5%:5m:approve:n=5000,50%:10m,100%:30m:keep=1%",
        "hold_if_lost": "2m",
        "guards": [
            {
                "name": name,
                "signal": {
                    "source": "metrics",
                    "measure": "rate",
                    "settings": {"metric": f"shop.{name}.failed"},
                },
                "limit": 0.01,
            }
            for name in ("error-rate", LONG)
        ],
    }
)


def ask_for_a_start(house: House) -> str:
    """Let a pipeline ask for a start; return the address of what waits."""
    house.share("new-search", 0.0)
    with pytest.raises(ApprovalRequired) as waits:
        house.services.rollouts.start(START, PIPELINE)
    return f"/approvals/{waits.value.approval}"


@pytest.mark.parametrize(("theme", "width"), [*LOOKS, ("light", 320)], ids=str)
def test_a_start_that_waits_is_for_everybody(desk: Desk, theme: str, width: int) -> None:
    there = ask_for_a_start(desk.house)
    tab = desk.tab(theme=theme, width=width)

    page = tab.go(there)

    check(page)
    assert overflow(page) <= 0
    for name in ("Its steps", "Its guards"):
        table = page.get_by_role("group", name=name)
        assert table.evaluate("it => it.scrollWidth - it.clientWidth") <= 0, name
    assert tab.complaints == []


@pytest.mark.parametrize(("theme", "width"), LOOKS, ids=str)
def test_what_waits_is_for_everybody(desk: Desk, theme: str, width: int) -> None:
    there = ask(desk.house, 50)
    tab = desk.tab(theme=theme, width=width)

    for path in ("/", "/approvals", there):
        check(tab.go(path))
        assert overflow(tab.page) <= 0, path

    page = tab.go(there)
    page.get_by_label("Why").fill("seen the figures")
    page.get_by_label("Type production").fill("prod")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert").first).to_contain_text("Nothing was changed")
    check(page)

    page.get_by_label("Type production").fill("production")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Approved, and done.")).to_be_visible()
    assert desk.house.state("new-search")[0] == 50.0
    check(tab.go(there))
    assert tab.complaints == []
