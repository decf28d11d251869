"""Environments, schedules, tokens and notifications, by people without scripts."""

from __future__ import annotations

import re

import pytest

from flagserver.domain.commands import EnvironmentEdit
from flagserver.domain.notices import Notice
from flagserver.ports import NotDelivered
from flagserver.services.notifying import Notifying
from flagserver.system import SystemEntropy

from .house import ANA, House, Visitor

ENVIRONMENTS = "/settings/environments"
SCHEDULES = "/settings/schedules"
TOKENS = "/settings/tokens"
NOTIFICATIONS = "/settings/notifications"


def test_environments_say_what_enlarging_needs(visitor: Visitor) -> None:
    text = visitor.see("/settings").text

    assert "production Where it counts. critical: a reason, and its name standard" in text


def test_an_environment_is_made_and_edited(house: House, visitor: Visitor) -> None:
    made = visitor.send(visitor.see(ENVIRONMENTS), ENVIRONMENTS, key="preview")
    assert "Made. Every flag exposes nobody in it." in made.text

    here = f"{ENVIRONMENTS}/preview"
    visitor.send(visitor.see(here), here, critical="yes", default_schedule="10%:1m,100%")

    kept = house.services.environments.get("preview").environment
    assert (kept.critical, kept.default_schedule) == (True, "10%:1m,100%")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"key": "Not A Key"}, "Key must begin with"),
        ({"key": "staging"}, "exists"),
        ({"key": "x", "description": "d" * 501}, "Description"),
    ],
)
def test_an_environment_that_cannot_be_is_named(
    visitor: Visitor, typed: dict[str, str], words: str
) -> None:
    page = visitor.send(visitor.see(ENVIRONMENTS), ENVIRONMENTS, **typed)

    assert page.status in {409, 422}
    assert "Nothing was made." in page.text
    assert words in page.text
    assert page.form(ENVIRONMENTS)["key"] == typed["key"]


def test_how_long_the_record_is_kept_is_set_and_told(house: House, visitor: Visitor) -> None:
    form = visitor.see(f"{ENVIRONMENTS}/staging")
    assert form.form("staging")["retention_days"] == "90"
    assert "1 to 3 650 days" in form.text.replace("\u2009", " ")

    for days in ("0", "3651", "a year", "-1", ""):
        again = visitor.send(form, f"{ENVIRONMENTS}/staging", retention_days=days)
        assert (days, again.status) == (days, 422)
        assert 'aria-describedby="days-problem"' in again.source
        assert again.form("staging")["retention_days"] == days
    typed = {"retention_days": "30", "reason": "less is kept", "critical": "", "uniform": ""}
    done = visitor.send(form, f"{ENVIRONMENTS}/staging", **typed)

    assert "30 days" in done.text
    assert house.services.environments.get("staging").environment.retention_days == 30
    assert "staging record kept for 30 days" in visitor.see("/audit").text


def test_an_environment_that_somebody_else_edited_is_not_overwritten(
    house: House, visitor: Visitor
) -> None:
    here = f"{ENVIRONMENTS}/staging"
    form = visitor.see(here)
    house.services.environments.edit("staging", EnvironmentEdit(description="theirs"), 1, ANA)

    page = visitor.send(form, here, description="mine")

    assert page.status == 412
    assert house.services.environments.get("staging").environment.description == "theirs"


def test_a_default_schedule_that_is_none_is_named(visitor: Visitor) -> None:
    here = f"{ENVIRONMENTS}/staging"

    page = visitor.send(visitor.see(here), here, default_schedule="quickly")

    assert page.status == 422
    assert "quickly" in page.text


def test_a_schedule_is_kept_edited_and_deleted(house: House, visitor: Visitor) -> None:
    form = visitor.see(f"{SCHEDULES}/new")
    visitor.send(form, SCHEDULES, environment="staging", name="careful", schedule="1%:30m,100%:5m")
    assert "careful staging 1%:30m, 100%:5m" in visitor.see(SCHEDULES).text

    here = f"{SCHEDULES}/staging/careful"
    visitor.send(visitor.see(here), SCHEDULES, schedule="2%:30m,100%:5m")
    assert (
        house.services.schedules.get("staging", "careful").template.schedule.steps[0].share
        == 20_000
    )

    gone = visitor.send(visitor.see(here), f"{here}/delete")
    assert "Deleted." in gone.text
    assert "careful" not in gone.text


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"schedule": "5%:5m,4%"}, "must give more than the one before it"),
        ({"schedule": "later"}, "later"),
        ({"name": ""}, "Name must have 1 to 100 characters"),
        ({"name": "a/b"}, "and no slash"),
        ({"name": "standard"}, "built in"),
        ({"environment": "moon"}, "There is no environment"),
    ],
)
def test_a_schedule_that_cannot_be_is_named(
    visitor: Visitor, typed: dict[str, str], words: str
) -> None:
    given = {"environment": "staging", "name": "careful", "schedule": "5%:5m,100%", **typed}

    page = visitor.send(visitor.see(f"{SCHEDULES}/new"), SCHEDULES, **given)

    assert page.status in {409, 422}
    assert words in page.text


def test_a_token_is_shown_once(house: House, visitor: Visitor) -> None:
    page = visitor.send(
        visitor.see(TOKENS), TOKENS, scope="sdk", environment="staging", expires="2099-01-31"
    )

    assert page.status == 201
    text = re.search(r"srt_sdk_[0-9a-f]{12}_[0-9a-f]{64}", page.source)
    assert text is not None
    assert re.search(r"Last used.* never ", visitor.see(TOKENS).text)
    assert house.services.tokens.authenticate(text[0]).environment == "staging"
    house.services.tokens.uses.keep()
    assert not re.search(r" staging just now never ", visitor.see(TOKENS).text)
    again = visitor.see(TOKENS)
    assert text[0] not in again.source
    assert text[0][:20] in again.source
    assert "2099-01-31" in again.text


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"scope": "sdk"}, "belongs to one environment"),
        ({"scope": "king"}, "Scope"),
        ({"scope": "admin", "expires": "soon"}, "must be a day"),
        ({"scope": "sdk", "environment": "moon"}, "There is no environment"),
    ],
)
def test_a_token_that_cannot_be_is_named(
    house: House, visitor: Visitor, typed: dict[str, str], words: str
) -> None:
    before = len(house.services.tokens.all())

    page = visitor.send(visitor.see(TOKENS), TOKENS, **{"environment": "", **typed})

    assert page.status in {404, 422}
    assert words in page.text
    assert len(house.services.tokens.all()) == before


def test_a_token_is_revoked(house: House, visitor: Visitor) -> None:
    page = visitor.send(visitor.see(TOKENS), TOKENS, scope="sdk", environment="staging")
    (found,) = re.findall(r"srt_sdk_([0-9a-f]{12})_[0-9a-f]{64}", page.source)
    revoke = f"{TOKENS}/{found}/revoke"

    done = visitor.send(visitor.see(revoke), revoke, reason="it leaked")

    assert "Revoked." in done.text
    assert "revoked just now" in done.text
    assert visitor.see(f"{TOKENS}/none/revoke").status == 404


class FakeChannel:
    """A way to tell people that takes everything, or nothing."""

    def __init__(self, name: str, *, deaf: bool = False) -> None:
        self.name = name
        self.deaf = deaf
        self.heard: list[Notice] = []

    def send(self, notice: Notice) -> None:
        if self.deaf:
            raise NotDelivered("hooks.example answered 403.")
        self.heard.append(notice)


def test_a_test_message_arrives_or_says_why_not(house: House, visitor: Visitor) -> None:
    channels = [FakeChannel("slack"), FakeChannel("pagerduty", deaf=True)]
    fresh = Notifying(house.store, house.store, channels, house.clock, SystemEntropy())
    house.services.notifying.__dict__.update(fresh.__dict__)
    page = visitor.see(NOTIFICATIONS)
    assert "slack ✔ has everything" in page.text

    good = visitor.send(page, f"{NOTIFICATIONS}/slack/test")
    bad = visitor.send(page, f"{NOTIFICATIONS}/pagerduty/test")

    assert "slack: the test message was taken." in good.text
    assert "pagerduty: hooks.example answered 403." in bad.text
    told, ended = channels[0].heard
    assert (told.resolves, ended.resolves) == (False, True)
    assert told.incident == ended.incident
    actions = [entry["action"] for entry in house.services.record.recent(limit=2)]
    assert actions == ["notification:test", "notification:test"]
    assert visitor.send(page, f"{NOTIFICATIONS}/slack/test").status == 200


def test_whoever_may_not_manage_sees_no_tokens_and_no_forms(house: House) -> None:
    reader = house.visitor(role="viewer")

    for path in (ENVIRONMENTS, SCHEDULES, TOKENS, NOTIFICATIONS):
        page = reader.see(path)
        assert page.status == 200
        assert "<form" not in page.source.split("<main")[1]
        assert "srt_" not in page.source
