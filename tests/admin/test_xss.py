"""Whatever somebody wrote anywhere is read as text by a real browser, on every page there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog
from pydantic import BaseModel

from flagserver.domain.rates import Rates
from flagserver.settings import Settings
from tests.access.world import COOKIE, World
from tests.http import routes
from tests.http.api import Answer, an_api

pytestmark = pytest.mark.needs("chromium")

CANARY = "'\"><img src=x onerror=xss()>"
MARK = "onerror=xss"
UNSEEN = {"admin.events", "admin.asset", "admin.audit_proof"}
"""No pages: a stream, files of ours, and one to be kept."""


def texts_of(model: type[BaseModel]) -> set[str]:
    """Return the fields of a body that may be text."""
    return {
        field.alias or name
        for name, field in model.model_fields.items()
        if "str" in str(field.annotation)
    }


def write_everywhere(world: World, patch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Send every request that writes, with the canary in each text that takes it; return which
    fields of which did."""
    taken: dict[str, set[str]] = {}
    writing = [route for route in world.api.routes if route.model and route.writes]
    # Whatever ends or takes away comes last.
    for route in sorted(writing, key=lambda route: route.method == "DELETE"):
        assert route.model is not None
        fields = texts_of(route.model) - {"confirm_environment", "environment"}
        while fields:
            filled = (routes.body(route) or {}) | dict.fromkeys(fields, CANARY)
            with patch.context() as once:
                once.setitem(routes.BODIES, route.view.__name__, filled)
                answer = world.ask(routes.let_in(world.api, route), route)
            if answer.status < 300:
                taken[route.view.__name__] = fields
                break
            refused = _refused(answer)
            if not fields & refused:
                break
            fields -= refused
    return taken


def _refused(answer: Answer) -> set[str]:
    told = [*answer.json.get("errors", []), {"field": answer.field or ""}]
    return {each["field"].lstrip("/").split("/")[0] for each in told}


@pytest.fixture(scope="module")
def world() -> World:
    return World(an_api(settings=Settings(rates=Rates(0, 0, 0, 0))))


@pytest.mark.slow
def test_flagsmith_a_tooltip_runs_what_somebody_wrote(
    world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """96f62c736: a description in a tooltip was read as HTML. The canary stands in every text that
    the API takes; on every page there is, in Chromium, it is text and nothing runs."""
    taken = write_everywhere(world, monkeypatch)
    assert {"create_flag", "edit_flag", "edit_environment", "create_token"} <= set(taken), taken
    assert {"invite_person", "put_schedule", "change_state"} <= set(taken), taken
    shown, ran = 0, list[str]()
    with world.api.served() as address:
        context = browser.new_context(base_url=address)
        context.add_cookies([{"name": COOKIE, "value": world.sessions["admin"], "url": address}])
        context.add_init_script("window.xss = () => { document.title = 'it ran' }")
        page = context.new_page()

        def refuse(dialog: Dialog) -> None:
            ran.append("a dialog")
            dialog.dismiss()

        def listen(said: ConsoleMessage) -> None:
            if "Content Security Policy" in said.text:
                ran.append(said.text)

        page.on("dialog", refuse)
        page.on("console", listen)
        for rule in pages(world):
            page.goto(rule)
            assert page.locator('img[src="x"], script:not([src]), [onerror]').count() == 0, rule
            assert page.title() != "it ran", rule
            shown += MARK in page.inner_text("body")
        context.close()

    assert ran == []
    assert shown >= 5, "it is there to be read"


def pages(world: World) -> Iterator[str]:
    """Yield the address of every page that can be looked at."""
    for rule in world.api.app.url_map.iter_rules():
        looks = "GET" in (rule.methods or set()) and rule.endpoint.startswith("admin.")
        opened = rule.rule.startswith(("/sign-in/", "/invitation/"))
        if looks and not opened and rule.endpoint not in UNSEEN:
            yield world.path(rule)
