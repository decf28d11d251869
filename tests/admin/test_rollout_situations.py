"""Rollouts in situations that one meets rarely: what their pages say, without JavaScript."""

from __future__ import annotations

import pytest

from .house import Page, Visitor
from .rolling import RollingHouse
from .situations import furnish_situations


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Visitor, dict[str, str]]:
    """Nobody changes anything here: all these tests share one house."""
    house = RollingHouse(disk=tmp_path_factory.mktemp("disk"))
    ids = furnish_situations(house)
    house.clock.stop()
    return house.visitor(), ids


def page_of(known: tuple[Visitor, dict[str, str]], name: str) -> Page:
    visitor, ids = known
    return visitor.see(f"/rollouts/{ids[name]}")


def test_whoever_follows_an_engine_says_who_moves_the_traffic(
    known: tuple[Visitor, dict[str, str]],
) -> None:
    page = page_of(known, "followed")

    assert "CodeDeploy moves the traffic, at times of its own, and flags follow." in page.text
    assert "codedeploy shop-ecs/green CodeDeploy 10 %" in page.text
    assert "▶ Shifts the traffic" in page.text
    assert "✔ Install Succeeded 1:36" in page.text
    assert "AllowTraffic InProgress" in page.text
    assert "so far" in page.text
    assert "followed CodeDeploy to 10 %" in page.text
    assert "Skip the wait" not in page.text


def test_an_engine_that_broke_off_says_where_and_by_what_it_goes_back(
    known: tuple[Visitor, dict[str, str]],
) -> None:
    page = page_of(known, "engine broke off")

    assert "by its engine: CodeDeploy stopped d-9B2KX7M3E" in page.text
    assert "✖ AfterAllowTraffic Failed 0:12 Lambda smoke-tests: expected 200 of /pay" in page.text
    assert "Goes back by d-2C8QK1V0P" in page.text
    assert "✔ AllowTraffic Succeeded 0:20" in page.text


def test_a_hold_that_an_engine_does_not_heed_says_so(
    known: tuple[Visitor, dict[str, str]],
) -> None:
    page = page_of(known, "held")

    assert "Held by somebody at 10 % . Guards still watch, and may roll back." in page.text
    assert "CodeDeploy cannot be made to wait, and gives the new version 100 % now" in page.text
    assert ": what is held are the flags." in page.text
    assert "Nothing goes up" not in page.text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no data", "http errors: no data. Missing data holds."),
        ("outage", "The stable side breaks the limit too: a shared outage"),
        ("limit", "http errors 2.999 % > 1 % (2 of 2 points, n = 18,408). It may only hold."),
        ("undecided", "This has lasted 3 times the hold: a person decides."),
        ("killed", "killed was killed."),
    ],
)
def test_a_rollout_that_holds_says_why_and_can_be_taken_back(
    known: tuple[Visitor, dict[str, str]], name: str, sentence: str
) -> None:
    page = page_of(known, name)

    assert "Holding at 5 % since" in page.text
    assert sentence in page.text
    assert "What to do" in page.text
    assert page.form("/rollback")
    assert "Keep it held" in page.text, "so that it does not go on by itself"


def test_the_strip_does_not_offer_to_hold_what_holds(
    known: tuple[Visitor, dict[str, str]],
) -> None:
    visitor, ids = known
    strip = visitor.see("/flags").source.split('id="strip"', 1)[1].split("<main", 1)[0]

    assert f'id="strip-rollback-{ids["undecided"]}"' in strip
    assert f"/rollouts/{ids['undecided']}/hold" not in strip


def test_a_rollout_that_bakes_says_what_stays_on_the_old_version(
    known: tuple[Visitor, dict[str, str]],
) -> None:
    page = page_of(known, "baking")

    assert "99 % ▶ Running step 2 of 3" in page.text
    assert "It bakes: 1 % stays on the old version to compare with" in page.text
    assert "30 min · 1 % kept on the old version" in page.text


def test_a_split_says_until_when_and_how_both_versions_differ(
    known: tuple[Visitor, dict[str, str]],
) -> None:
    page = page_of(known, "split")

    assert "Both versions are kept until" in page.text
    assert "8 d 23 h to the end" in page.text
    assert "How both versions differ" in page.text
    assert "points" in page.text
    assert "no difference is proven" in page.text
    assert "Not counted by both: user session errors" in page.text
    assert page.source.count('class="interval neutral"') == 3


def test_a_rollback_that_failed_says_who_stands_against_it(
    known: tuple[Visitor, dict[str, str]],
) -> None:
    page = page_of(known, "rollback failed")

    assert "Traffic may still reach the canary: " in page.text
    assert "CodeDeploy group web-ecs/green owns" in page.text
    assert "fake roll-back arn:strip" in page.text
