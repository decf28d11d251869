"""One flag: its share is changed, reviewed, killed, brought back, and found changed by others."""

from __future__ import annotations

import pytest

from .house import ANA, House, Page, Visitor

SHARE = "/flags/new-search/environments/{}/share"
PRODUCTION = SHARE.format("production")
STAGING = SHARE.format("staging")
KILL = "/flags/new-search/environments/production/kill"
UNKILL = "/flags/new-search/environments/production/unkill"


@pytest.fixture
def page(house: House, visitor: Visitor) -> Page:
    house.flag("new-search", description="New search ranking")
    house.share("new-search", 25.0)
    return visitor.see("/flags/new-search")


def test_what_services_report_stands_beside_the_share(
    house: House, visitor: Visitor, page: Page
) -> None:
    house.clock.late = 300
    house.share("new-search", 30.0)
    house.clock.late = 0
    house.report("new-search", 250, 750, ago=20)
    house.report("new-search", 50, 150)

    text = visitor.see("/flags/new-search").text

    assert "reached 25.0 % of 1 200 in the last minute" in text
    assert "a fair draw of this size lies within ±2.6 points" in text
    assert "on 300 25.0 % 300" in text
    assert "off rest 900 75.0 % 900" in text
    assert "reached, last 5 minutes" in text


def test_reports_from_before_a_change_do_not_count(
    house: House, visitor: Visitor, page: Page
) -> None:
    house.report("new-search", 250, 750)

    assert "waiting for the first reports since the change" in visitor.see("/flags/new-search").text


def test_shrinking_is_done_at_once(house: House, visitor: Visitor, page: Page) -> None:
    after = visitor.send(page, PRODUCTION, share="5")

    assert house.state("new-search") == (5.0, False, 2)
    assert "Saved in production as revision 2." in after.text
    assert "share 25 % → 5 %" in after.text


def test_enlarging_is_reviewed_first(house: House, visitor: Visitor, page: Page) -> None:
    review = visitor.send(page, STAGING, share="50")

    assert house.state("new-search", "staging") == (0.0, False, 0)
    assert "Review: new-search" in review.text
    assert "+50 points" in review.text
    assert "Apply 50 %" in review.text

    done = visitor.send(review, STAGING)

    assert house.state("new-search", "staging") == (50.0, False, 1)
    assert "Saved in staging as revision 1." in done.text


def test_a_critical_environment_asks_for_a_reason_and_its_name(
    house: House, visitor: Visitor, page: Page
) -> None:
    review = visitor.send(page, PRODUCTION, share="50")

    without = visitor.send(review, PRODUCTION)
    assert without.status == 422
    assert "needs a reason" in without.text

    misspelt = visitor.send(
        without, PRODUCTION, reason="flat for 30 min", confirm_environment="prod"
    )
    assert misspelt.status == 422
    assert "repeat its name" in misspelt.text
    assert misspelt.form(PRODUCTION)["reason"] == "flat for 30 min"
    assert house.state("new-search") == (25.0, False, 1)

    done = visitor.send(misspelt, PRODUCTION, confirm_environment="production")
    assert house.state("new-search") == (50.0, False, 2)
    assert "flat for 30 min" in done.text


def test_the_review_tells_how_much_traffic_it_means(
    house: House, visitor: Visitor, page: Page
) -> None:
    house.report("new-search", 250, 750)

    review = visitor.send(page, PRODUCTION, share="50")

    assert "about 15 000 more evaluations an hour" in review.text


@pytest.mark.parametrize(
    ("typed", "ppm"),
    [("0.0001", 1), ("12,5", 125_000), (" 7 % ", 70_000), ("24.9999", 249_999), ("0", 0)],
)
def test_shares_are_read_as_people_write_them(
    house: House, visitor: Visitor, page: Page, typed: str, ppm: int
) -> None:
    visitor.send(page, PRODUCTION, share=typed)

    assert house.services.flags.state("new-search", "production").state.share == ppm


@pytest.mark.parametrize(
    "typed", ["", "half", "-1", "100.1", "101", "0.00001", "nan", "1e1", "٣", "25 25", "<b>"]
)
def test_a_share_that_cannot_be_used_is_named_and_kept(
    house: House, visitor: Visitor, page: Page, typed: str
) -> None:
    after = visitor.send(page, PRODUCTION, share=typed, reason="a reason to keep")

    assert after.status == 422
    assert "Share must be" in after.text
    kept = after.form(PRODUCTION)
    assert (kept["share"], kept["reason"]) == (typed, "a reason to keep")
    assert house.state("new-search") == (25.0, False, 1)


def test_a_reason_about_a_person_is_refused_where_it_was_typed(
    house: House, visitor: Visitor, page: Page
) -> None:
    review = visitor.send(page, PRODUCTION, share="50")

    again = visitor.send(
        review, PRODUCTION, reason="ana@example.org asked", confirm_environment="production"
    )

    assert again.status == 422
    assert "must not hold an e-mail address" in again.text
    assert again.form(PRODUCTION)["confirm_environment"] == "production"


def test_a_preset_works_without_javascript(house: House, visitor: Visitor, page: Page) -> None:
    data = page.form(PRODUCTION)

    visitor.send(page, PRODUCTION, preset="5", share=data["share"])

    assert house.state("new-search") == (5.0, False, 2)


def test_nothing_to_change_is_said(house: House, visitor: Visitor, page: Page) -> None:
    after = visitor.send(page, PRODUCTION)

    assert "Nothing to change in production" in after.text
    assert house.state("new-search") == (25.0, False, 1)


def test_a_change_on_what_has_changed_meanwhile_shows_both(
    house: House, visitor: Visitor, page: Page
) -> None:
    house.share("new-search", 20.0, reason="careful")

    stale = visitor.send(page, PRODUCTION, share="10", reason="mine")

    assert stale.status == 412
    assert "It has changed since you looked" in stale.text
    assert ANA.id in stale.text
    assert "careful" in stale.text
    for share in ("25 %", "20 %", "10 %"):
        assert share in stale.text
    assert house.state("new-search") == (20.0, False, 2)

    done = visitor.send(stale, PRODUCTION)

    assert house.state("new-search") == (10.0, False, 3)
    assert "mine" in done.text


def test_mine_on_top_is_reviewed_when_it_enlarges(
    house: House, visitor: Visitor, page: Page
) -> None:
    house.share("new-search", 5.0)

    stale = visitor.send(page, PRODUCTION, share="20")
    review = visitor.send(stale, PRODUCTION)

    assert "Review: new-search" in review.text
    assert house.state("new-search") == (5.0, False, 2)


def test_a_kill_waits_for_nobody(house: House, visitor: Visitor, page: Page) -> None:
    house.share("new-search", 50.0)  # the page is stale by now

    after = visitor.send(page, KILL, reason="errors")

    assert house.state("new-search") == (50.0, True, 3)
    assert "Killed in production, revision 3." in after.text
    assert "killed at 50 %" in after.text
    assert "errors" in after.text


def test_a_kill_has_a_page_of_its_own(house: House, visitor: Visitor, page: Page) -> None:
    ask = visitor.see(KILL)

    assert "Every request gets off" in ask.text
    bad = visitor.send(ask, KILL, reason="+49 170 1234567 called")
    assert bad.status == 422
    assert "Nothing was killed yet." in bad.text
    assert bad.form(KILL)["reason"] == "+49 170 1234567 called"

    visitor.send(bad, KILL, reason="")
    assert house.state("new-search") == (25.0, True, 2)


def test_taking_a_kill_back_enlarges(house: House, visitor: Visitor, page: Page) -> None:
    house.kill("new-search")

    review = visitor.see(UNKILL)
    assert "Serve 25 % again" in review.text

    refused = visitor.send(review, UNKILL)
    assert refused.status == 422
    assert "needs a reason" in refused.text

    visitor.send(refused, UNKILL, reason="mended", confirm_environment="production")
    assert house.state("new-search") == (25.0, False, 3)


def test_taking_a_kill_back_is_meant_for_one_revision(
    house: House, visitor: Visitor, page: Page
) -> None:
    house.kill("new-search")
    review = visitor.see(UNKILL)
    house.share("new-search", 60.0)

    again = visitor.send(review, UNKILL, reason="mended", confirm_environment="production")

    assert again.status == 412
    assert "Serve 60 % again" in again.text
    assert house.state("new-search") == (60.0, True, 3)


def test_unkilling_what_is_not_killed_is_nothing(visitor: Visitor, page: Page) -> None:
    assert "Nothing to change in production" in visitor.see(UNKILL).text


def test_departures_from_uniform_are_named(house: House, visitor: Visitor, page: Page) -> None:
    condition = {"attribute": "cloud.region", "operator": "in", "values": ["eu-west-1"]}
    house.share("new-search", 25.0, conditions=[condition])

    text = visitor.see("/flags/new-search").text

    assert "Not uniform: cloud.region picks traffic by place, not by lot." in text


def test_code_and_command_are_there_to_copy(house: House, visitor: Visitor, page: Page) -> None:
    house.flag("size", variants={"big": 50, "small": 20}, rest="small")

    assert 'client.is_enabled("new-search", request_id)' in page.text
    assert "sortition flags set new-search --env production --share 25 --if-revision 1" in page.text
    assert 'client.value("size", request_id, default=20)' in visitor.see("/flags/size").text


def test_an_archived_flag_can_be_read_and_not_changed(
    house: House, visitor: Visitor, page: Page
) -> None:
    from flagserver.domain.commands import Reasoned

    house.services.flags.archive("new-search", Reasoned(), 1, ANA)

    archived = visitor.see("/flags/new-search")
    assert "This flag is archived" in archived.text
    assert PRODUCTION not in archived.source

    late = visitor.send(page, PRODUCTION, share="5")
    assert late.status == 409
    assert "archived" in late.text


@pytest.mark.parametrize(
    "path", ["/flags/none", "/flags/none/environments/production/kill", "/no/such/page", "/x"]
)
def test_what_is_not_there_gets_a_page_in_the_same_frame(visitor: Visitor, path: str) -> None:
    page = visitor.see(path)

    assert page.status == 404
    assert "Sign out" in page.source


def test_the_api_keeps_its_own_errors(house: House, visitor: Visitor) -> None:
    assert "Sign out" not in visitor.see("/api/v1/nothing").source
