"""The pages of what waits for a second person, for everybody: by axe-core and on small screens."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from playwright.sync_api import expect

from flagserver.domain.commands import EnvironmentEdit, StateEdit
from flagserver.domain.documents import EVERYWHERE, Principal
from flagserver.domain.errors import ApprovalRequired
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
