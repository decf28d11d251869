"""Two people in front of the pages: one asks, another approves, and everybody may take back."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from admin import guard_form, proposed
from admin.forms import Typed
from admin.rollout_form import read_rollout
from flagserver.domain import schedule
from flagserver.domain.commands import Enlarging, EnvironmentEdit
from flagserver.domain.documents import EVERYWHERE, Principal
from flagserver.domain.errors import ApprovalRequired
from flagserver.domain.guards import Guard
from flagserver.domain.signals import Measure, Signal
from flagserver.domain.targets import Target

from .house import ANA, House, Page, Visitor

FLAG = "/flags/new-search"
HERE = f"{FLAG}/environments/production"
RELEASER = Principal("person:releaser", "releaser", "person", roles={EVERYWHERE: "releaser"})
WHY = {"reason": "because", "confirm_environment": "production"}


@pytest.fixture
def house() -> House:
    house = House()
    house.flag("new-search")
    house.share("new-search", 5.0)
    wants_two(house, True)
    return house


def wants_two(house: House, wanted: bool) -> None:
    revision = house.services.environments.get("production").revision
    edit = EnvironmentEdit(four_eyes=wanted)
    house.services.environments.edit("production", edit, revision, ANA)


@pytest.fixture
def asks(house: House) -> Visitor:
    return house.visitor("releaser")


@pytest.fixture
def approves(house: House) -> Visitor:
    return house.visitor("admin")


def ask(visitor: Visitor, share: str = "25") -> Page:
    """Ask for a share; return the page of what waits."""
    review = visitor.send(visitor.see(FLAG), f"{HERE}/share", share=share)
    assert "wants two people" in review.text
    return visitor.send(review, f"{HERE}/share", **WHY)


def place(page: Page) -> str:
    """Return the address of what waits."""
    found = re.search(r'action="(/approvals/a-[0-9a-f]+)/', page.source)
    assert found, page.text
    return found[1]


def test_one_person_asks_and_another_approves(
    house: House, asks: Visitor, approves: Visitor
) -> None:
    waiting = ask(asks)
    assert "waits for a second person" in waiting.text
    assert "Somebody else approves" in waiting.text
    assert house.state("new-search")[0] == 5.0
    assert "You asked, and somebody else has to approve" in asks.see("/").text

    assert "Waits for a second person in production: Take new-search" in asks.see(FLAG).text

    overview = approves.see("/")
    assert "Take new-search from 5 % to 25 %" in overview.text
    page = approves.see(place(waiting))
    assert "5 % 25 %" in page.text
    done = approves.send(page, f"{place(waiting)}/approve", **WHY)

    assert "Approved, and done." in done.text
    assert house.state("new-search") == (25.0, False, 2)
    assert "person:releaser , approved by person:admin" in done.text
    assert "second person" not in approves.see("/").text
    assert "Approved" in approves.see("/approvals").text


def test_what_is_missing_is_said_beside_it(house: House, asks: Visitor, approves: Visitor) -> None:
    there = place(ask(asks))

    again = approves.send(approves.see(there), f"{there}/approve", reason="because")

    assert again.status == 422
    assert "production is critical" in again.text
    assert 'value="because"' in again.source
    assert house.state("new-search")[0] == 5.0


def test_whoever_asked_is_refused_whatever_they_send(house: House, asks: Visitor) -> None:
    waiting = ask(asks)
    there = place(waiting)
    assert f'action="{there}/approve"' not in waiting.source
    seen = house.services.approvals.get(there.rpartition("/")[2], ANA).proposal.fingerprint

    refused = asks.client.post(
        f"{there}/approve",
        data={**WHY, "hash": seen, "csrf": waiting.form(f"{there}/withdraw")["csrf"]},
        headers={"Sec-Fetch-Site": "same-origin"},
    )

    assert refused.status_code == 403
    assert "somebody else approves" in refused.text
    assert house.state("new-search")[0] == 5.0


@pytest.mark.parametrize("role", ["viewer", "responder", "editor", "auditor"])
def test_whoever_may_not_do_it_is_told_so(house: House, asks: Visitor, role: str) -> None:
    page = house.visitor(role).see(place(ask(asks)))

    assert "does not approve of it either" in page.text
    assert ("Turn it down" in page.text) is (role in {"responder", "editor"})


def test_it_lapses_when_the_flag_has_changed(
    house: House, asks: Visitor, approves: Visitor
) -> None:
    there = place(ask(asks))
    page = approves.see(there)
    house.kill("new-search")

    late = approves.send(page, f"{there}/approve", **WHY)

    assert late.status == 409
    assert "has lapsed" in late.text
    assert house.state("new-search")[:2] == (5.0, True)
    assert "Lapsed" in approves.see("/approvals").text


def test_what_has_lapsed_and_stands_open_is_withdrawn_by_who_asked(
    house: House, asks: Visitor
) -> None:
    """It takes one of the places for what waits, until somebody ends it."""
    there = place(ask(asks))
    house.kill("new-search")
    lapsed = asks.see(there)
    assert "what it was about has changed" in lapsed.text
    assert "Approve" not in lapsed.source.partition("<main")[2].partition("Approved is")[2]

    done = asks.send(lapsed, f"{there}/withdraw")

    assert "It waits no longer" in done.text
    assert "Withdraw it" not in done.text


def test_what_has_expired_is_not_offered_to_be_withdrawn(house: House, asks: Visitor) -> None:
    there = place(ask(asks))
    house.clock.late = -25 * 3600.0

    assert "Withdraw it" not in house.visitor("releaser").see(there).text


def test_killing_holding_and_shrinking_ask_nobody(house: House, asks: Visitor) -> None:
    asks.send(asks.see(FLAG), f"{HERE}/share", share="1")
    assert house.state("new-search")[0] == 1.0

    asks.send(asks.see(f"{HERE}/kill"), f"{HERE}/kill")
    assert house.state("new-search")[1]

    waiting = asks.send(asks.see(f"{HERE}/unkill"), f"{HERE}/unkill", **WHY)
    assert "Serve new-search again" in waiting.text
    assert house.state("new-search")[1]


def test_it_is_withdrawn_by_who_asked_and_turned_down_by_a_responder(
    house: House, asks: Visitor
) -> None:
    first, second = place(ask(asks)), place(ask(asks, "30"))

    mine = asks.send(asks.see(first), f"{first}/withdraw")
    responder = house.visitor("responder")
    theirs = responder.send(responder.see(second), f"{second}/withdraw")

    assert "It waits no longer" in mine.text
    assert "Withdrawn" in theirs.text
    assert house.state("new-search")[0] == 5.0


CARELESS = {
    "guard_name:0": "error-rate",
    "guard_measure:0": "rate",
    "guard_source:0": "metrics",
    "guard_settings:0": "metric = nothing-much",
    "guard_limit:0": "100 %",
    "guard_on_breach:0": "hold",
    "guard_no_data:0": "pass",
    "guard_sample:0": "5000",
    "guard_points:0": "3 of 5",
    "guard_period:0": "30",
}
"""A guard that is called as the standard one, and stops nothing."""


def ask_for_a_start(house: House, asks: Visitor, **told: str) -> Page:
    """Ask for a start; return the page of what waits."""
    house.share("new-search", 0.0)
    form = {
        "environment": "production",
        "service": "shop",
        "flags": "new-search",
        "guards": "none",
        "schedule": "5%:5m,100%",
        **told,
    }
    command = read_rollout(Typed(form), lambda _, text: schedule.parse(str(text)))
    sure = command.model_copy(update=WHY)
    with pytest.raises(ApprovalRequired) as waits:
        house.services.rollouts.start(sure, RELEASER)
    return asks.see(f"/approvals/{waits.value.approval}")


def test_a_guard_is_shown_with_what_it_watches_and_all_that_makes_it_harmless(
    house: House, asks: Visitor
) -> None:
    page = ask_for_a_start(house, asks, guards="own", **CARELESS)

    assert (
        "error-rate failed of all, from metrics metric = nothing-much "
        "> 100 %; 3 of 5 points of 30 s, from 5 000 requests holds passes"
    ) in page.text


def test_a_start_without_guards_says_that_nothing_takes_it_back(
    house: House, asks: Visitor
) -> None:
    assert "nothing but a person takes it back" in ask_for_a_start(house, asks).text


def test_steps_are_shown_with_shares_holds_and_what_they_wait_for(
    house: House, asks: Visitor
) -> None:
    steps = "5%:5m:approve,50%:10m:n=900,100%:30m:keep=1%:overtime=proceed"

    page = ask_for_a_start(house, asks, schedule=steps, hold_if_lost="2m")

    assert "1 T+0:00 5 min new-search 5 % when somebody approves" in page.text
    assert "2 T+5:00 10 min new-search 50 % by itself, from 900 requests" in page.text
    assert "1 % is kept on the old version" in page.text
    assert "Not decided in time goes on all the same" in page.text
    assert "Holds if not watched for 2m" in page.text


def test_traffic_is_shown_whole_with_its_groups_and_how_flags_relate_to_it() -> None:
    """By what the wish says: no load balancer is asked."""
    rule = "arn:aws:elasticloadbalancing:eu-central-1:1:listener-rule/app/shop/1/2/3"
    targets = [
        Target.of("alb", rule, canary="arn:canary", stable="arn:stable").to_body(),
        Target.of("flag", "new-search").to_body(),
    ]
    result = {
        "service": "shop",
        "version": "2.0",
        "targets": targets,
        "guards": [],
        "relation": "on_canary",
        "until": None,
        "supersedes": "r-5f5f",
        "schedule": schedule.parse("5%:5m,100%").to_body(),
    }

    start = proposed.start(result, {"start_at": "2027-01-31T22:00:00Z"})

    assert ("Flags beside traffic", "on in the new version only") in start.facts
    assert ("Begins at", "2027-01-31T22:00:00Z") in start.facts
    assert [target.name for target in start.targets] == [rule, "new-search"]
    assert proposed.settings(start.targets[0]) == ["canary = arn:canary", "stable = arn:stable"]
    assert start.supersedes == "r-5f5f"
    assert start.steps[0][0].exposure.canary == 50_000


def test_an_alarm_that_can_never_fire_says_so() -> None:
    fires = Guard("alarms", Signal.of("cloudwatch", Measure.ALARM, alarms=("a",)), 1, 1, 1)

    assert guard_form.limit_told(fires).startswith("when it fires; 1 of 1 points")
    assert guard_form.limit_told(replace(fires, limit=2)).startswith("≥\N{NARROW NO-BREAK SPACE}2;")


def started(house: House, asks: Visitor, approves: Visitor) -> str:
    """Let one start a rollout and another approve; return its id."""
    house.share("new-search", 0.0)
    told = {
        "environment": "production",
        "service": "shop",
        "flags": "new-search",
        "guards": "none",
        "schedule": "5%:5m,100%",
    }
    preview = asks.send(asks.see("/rollouts/new"), "/rollouts/new", **told)
    waiting = asks.send(preview, "/rollouts/start", **WHY)
    assert "Start a rollout of shop" in waiting.text
    assert "5%:5m,100%" in waiting.text
    assert "1 T+0:00 5 min new-search 5 % by itself" in waiting.text
    assert house.services.rollouts.under_way() == []
    there = place(waiting)
    done = approves.send(approves.see(there), f"{there}/approve", **WHY)
    (view,) = house.services.rollouts.under_way()
    assert view.rollout.id in done.source
    return view.rollout.id


def test_a_rollout_is_started_in_the_name_of_who_asked(
    house: House, asks: Visitor, approves: Visitor
) -> None:
    id = started(house, asks, approves)

    assert house.services.rollouts.get(id, ANA).rollout.by == "person:releaser"


def test_a_rollout_is_begun_once_somebody_approves_and_taken_back_at_once(
    house: House, asks: Visitor, approves: Visitor
) -> None:
    id = started(house, asks, approves)
    here = f"/rollouts/{id}"

    review = asks.see(f"{here}/begin")
    assert "wants two people" in review.text
    there = place(asks.send(review, f"{here}/begin", **WHY))
    assert house.services.rollouts.get(id, ANA).rollout.started is None
    assert "no step yet: nobody has it" in asks.see(there).text
    assert "Next 5 %, step 1 of 2, at the controller's next look" in asks.see(there).text
    assert "Waits for a second person in production: Start" in approves.see(here).text
    approves.send(approves.see(there), f"{there}/approve", **WHY)
    assert house.services.rollouts.get(id, ANA).rollout.started is not None

    back = asks.send(asks.see(f"{here}/rollback"), f"{here}/rollback")
    assert "Rolling back" in back.text


def test_somebody_by_a_link_from_the_shell_does_not_approve(house: House, asks: Visitor) -> None:
    there = place(ask(asks))
    link = house.services.sessions.make_link()
    visitor = Visitor(house.app.test_client())
    visitor.client.post(f"/sign-in/{link}", headers={"Sec-Fetch-Site": "same-origin"})

    assert "Only a person under their own name approves" in visitor.see(there).text


def test_whoever_owns_the_token_that_asked_reads_that_they_asked(house: House) -> None:
    owner = "person:admin"
    token = Principal("token:5f", "deploy", "deploy", "production", owner=owner)
    house.kill("new-search")
    why, revision = Enlarging.model_validate(WHY), house.state("new-search")[2]
    with pytest.raises(ApprovalRequired) as refused:
        house.services.flags.unkill("new-search", "production", why, revision, token)

    page = house.visitor("admin").see(f"/approvals/{refused.value.approval}")

    assert "a token of person:admin" in page.text
    assert "or a token of yours did" in page.text


def test_a_token_says_whose_it_is(approves: Visitor) -> None:
    page = approves.see("/settings/tokens")
    made = approves.send(page, "/settings/tokens", scope="deploy", environment="production")

    assert "of person:admin" in made.text


def test_an_admin_switches_it_on_and_off(house: House, approves: Visitor) -> None:
    there = "/settings/environments/staging"
    approves.send(approves.see(there), there, four_eyes="yes")
    assert house.services.environments.get("staging").environment.four_eyes
    assert "a second person" in approves.see("/settings/environments").text
    assert "four eyes" in approves.see(there).text

    approves.send(approves.see(there), there, four_eyes="", reason="alone this week")
    assert not house.services.environments.get("staging").environment.four_eyes


def test_there_is_nothing_to_see_where_nothing_waits(house: House, asks: Visitor) -> None:
    assert "Nothing waits" in asks.see("/approvals").text
    assert asks.see("/approvals/a-000000000000").status == 404
