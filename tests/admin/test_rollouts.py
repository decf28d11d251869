"""Rollouts on pages, as a browser without JavaScript sees them."""

from __future__ import annotations

import gzip
import html
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flagserver.domain.documents import Principal
from flagserver.domain.engines import Phase
from flagserver.domain.states import State
from tests.judged import STANDARD

from .house import OUR_PAGE, Visitor
from .rolling import APPROVED, BAD, RollingHouse, furnish_rollouts
from .situations import Deployment

CANARY = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
SURE = {"reason": "flat for 30 minutes", "confirm_environment": "production"}
ONLY_FLAG = {"targets": [{"kind": "flag", "name": "fast-search"}], "version": None}


@pytest.fixture
def house(tmp_path: Path) -> RollingHouse:
    house = RollingHouse(disk=tmp_path)
    house.flag("fast-search", owner="search")
    return house


def started(house: RollingHouse, **told: object) -> str:
    """Start a rollout and let its first step be confirmed."""
    house.clock.late += 20.0
    id = house.start(**told)
    house.catch_up(20)
    return id


# --- the list -------------------------------------------------------------------------------------


def test_the_list_says_how_each_stands_and_is_narrowed_by_its_address(house: RollingHouse) -> None:
    ids = furnish_rollouts(house)
    visitor = house.visitor()

    page = visitor.see("/rollouts")
    assert "api 2026.11.28-3" in page.text
    assert "step 2 of 4" in page.text
    assert "http errors 6.204 % > 1 %" in page.text
    assert "Step 1 waits to be approved." in page.text

    def listed(address: str) -> set[str]:
        source = visitor.see(address).source
        return {name for name, id in ids.items() if f'id="row-{id}"' in source}

    assert listed("/rollouts?state=live") == {"paused", "approval", "running"}
    assert listed("/rollouts?state=rolled_back") == {"back", "by hand"}
    assert listed("/rollouts?env=staging") == {"paused"}
    assert listed("/rollouts?flag=dark-mode") == {"done"}
    assert listed("/rollouts?env=nowhere&state=odd") == set(ids)
    assert "No rollout is like that." in visitor.see("/rollouts?state=superseded").text


def test_a_page_of_the_list_has_fifty_of_any_number(house: RollingHouse) -> None:
    for _ in range(51):
        house.roll_back(house.start(**ONLY_FLAG), "one of many")
    visitor = house.visitor()

    first = visitor.see("/rollouts")
    assert first.source.count('id="row-') == 50
    before = first.source.split('rel="next" href="', 1)[1].split('"', 1)[0]
    second = visitor.see(before)
    assert second.source.count('id="row-') == 1
    assert "Newest" in second.text
    assert visitor.see("/rollouts?before=r-gone").source.count('id="row-') == 50


# --- one rollout ----------------------------------------------------------------------------------


def test_a_rollout_shows_its_step_its_shares_and_its_guards(house: RollingHouse) -> None:
    id = furnish_rollouts(house)["running"]
    page = house.visitor().see(f"/rollouts/{id}")

    assert "Running step 2 of 4" in page.text
    assert "to 50 %" in page.text
    assert "Ends about" in page.text
    assert "http errors 0.33 % 0.28 % 1.00 % 33 % 18 408 ✔ pass rolls back" in page.text
    assert "abandoned baskets – – 10.0 %" in page.text
    assert "? no data" in page.text
    # Charts say the same as tables, with the limit.
    assert "canary 0.326 %" in page.text
    assert '"limit":1.0' in page.source.replace("&#34;", '"')


def test_what_is_known_of_noise_stands_in_the_plan_and_beside_the_guards(
    house: RollingHouse,
) -> None:
    visitor, says = house.visitor(), "Noise: Not calibrated: no history, 6 h wanted."
    form = visitor.see("/rollouts/new?flag=fast-search&environment=production")
    plan = visitor.send(form, "/rollouts/new", service="shop", environment="production")
    assert says in plan.text

    id = started(house, guards=STANDARD)
    house.catch_up(30)
    assert says in visitor.see(f"/rollouts/{id}").text
    compares_nothing = started(house, **ONLY_FLAG, environment="staging")
    assert "Noise:" not in visitor.see(f"/rollouts/{compares_nothing}").text


def test_every_chart_has_a_table_of_the_same_numbers(house: RollingHouse) -> None:
    id = furnish_rollouts(house)["running"]
    source = house.visitor().see(f"/rollouts/{id}").source
    figures = re.findall(r"<figure class=\"chart\".*?</figure>", source, re.DOTALL)

    assert len(figures) == 2
    for figure in figures:
        drawn = json.loads(html.unescape(re.findall(r'data-chart="([^"]*)"', figure)[0]))
        told = re.findall(r"<tr><th[^>]*>([^<]*)</th><td[^>]*>([^<]*)", figure)
        clock = [datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S") for at in drawn["times"]]
        assert [at for at, _ in reversed(told)] == clock
        for (_, canary), number in zip(reversed(told), drawn["canary"], strict=True):
            if number is None:
                assert canary == "–"
            else:
                assert float(canary.split("\u202f", 1)[0]) == pytest.approx(number, rel=0.01)


def test_what_was_rolled_back_says_what_when_why_and_who(house: RollingHouse) -> None:
    id = furnish_rollouts(house)["back"]
    page = house.visitor().see(f"/rollouts/{id}")

    assert "✖ Rolled back" in page.text
    assert "by the controller: http errors 6.204 % > 1 % (2 of 2 points, n = 18,408)." in page.text
    assert "At 0 % since" in page.text
    assert re.search(r"detected in 1:0\d", page.text)
    assert "Skip the wait" not in page.text
    assert "Start again" in page.text


def test_a_rollout_that_nobody_looks_at_is_unknown_and_never_green(house: RollingHouse) -> None:
    house.clock.late = 300.0
    id = started(house)
    house.clock.late = 0.0
    page = house.visitor().see(f"/rollouts/{id}")

    assert "? Unknown" in page.text
    assert "Last word from a controller 5 min ago, at 5 %" in page.text
    assert 'class="pill neutral' in page.source
    assert "to 25 %" not in page.text
    assert "Roll back" in page.text


def test_an_engine_that_nobody_looks_at_goes_on_and_that_is_said(house: RollingHouse) -> None:
    deployment = Deployment("d-4F7A1C9QK", phase=Phase.SHIFTING, share=100_000)
    house.follower.groups["shop-ecs/green"] = deployment
    house.clock.late = 300.0
    id = house.start(targets=[{"kind": "codedeploy", "name": "shop-ecs/green"}])
    house.catch_up(20)
    house.clock.late = 0.0
    visitor = house.visitor()

    assert (
        "CodeDeploy goes on by itself, and nobody watches." in visitor.see(f"/rollouts/{id}").text
    )
    assert "No controller looks at it. CodeDeploy goes on by itself." in visitor.see("/").text


def test_a_rollback_that_cannot_be_confirmed_says_what_to_run_by_hand(house: RollingHouse) -> None:
    house.clock.late = 400.0
    id = started(house)
    house.driver.down = True
    house.roll_back(id)
    house.catch_up(400)
    assert house.rollout(id).state is State.ROLLBACK_FAILED

    page = house.visitor().see(f"/rollouts/{id}")
    assert "‼ Rollback failed" in page.text
    assert "Traffic may still reach the canary" in page.text
    for command in house.driver.commands_by_hand(house.rollout(id).traffic[0]):
        assert command in page.text
    assert "The rollback is not confirmed" in house.visitor().see("/").text


# --- taking back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/flags", "/flags/new", "/health", "/nowhere"])
def test_the_strip_takes_a_rollout_back_from_any_page(house: RollingHouse, path: str) -> None:
    id = started(house)
    visitor = house.visitor()
    page = visitor.see(path)

    after = visitor.send(page, f"/rollouts/{id}/rollback")

    assert "Rolling back: flags at once" in after.text
    assert house.rollout(id).state is State.ROLLING_BACK
    assert house.state("fast-search")[0] == 0.0


def test_why_it_was_taken_back_can_be_said_later(house: RollingHouse) -> None:
    id = started(house)
    visitor = house.visitor()
    visitor.send(visitor.see("/"), f"/rollouts/{id}/rollback")
    house.tick()
    assert "nobody has said why yet" in visitor.see("/").text

    page = visitor.see(f"/rollouts/{id}")
    refused = visitor.send(page, f"/rollouts/{id}/note", reason=" ")
    assert refused.status == 422
    assert "A note has to say something." in refused.text
    noted = visitor.send(page, f"/rollouts/{id}/note", reason="the shop was slow")

    assert "Added to the record." in noted.text
    assert "“the shop was slow”" in noted.text or "the shop was slow" in noted.text
    assert "nobody has said why yet" not in visitor.see("/").text


def test_a_rollback_page_works_where_nothing_can_be_asked_in_place(house: RollingHouse) -> None:
    id = started(house)
    visitor = house.visitor()

    page = visitor.see(f"/rollouts/{id}/rollback")
    assert "Canary traffic goes to 0 %" in page.text
    refused = visitor.send(page, f"/rollouts/{id}/rollback", reason="ask ana@example.org")
    assert refused.status == 422
    assert house.rollout(id).state is State.RUNNING
    visitor.send(page, f"/rollouts/{id}/rollback", reason="errors")

    assert house.rollout(id).state is State.ROLLING_BACK
    assert "Going back since" in visitor.see(f"/rollouts/{id}/rollback").text


def test_holding_is_one_click(house: RollingHouse) -> None:
    id = started(house)
    visitor = house.visitor()

    after = visitor.send(visitor.see("/flags"), f"/rollouts/{id}/hold")

    assert "Held. Nothing goes up" in after.text
    assert house.rollout(id).state is State.PAUSED


# --- going on -------------------------------------------------------------------------------------


def test_going_on_in_a_critical_environment_is_reviewed(house: RollingHouse) -> None:
    id = started(house)
    visitor = house.visitor()
    assert f'href="/rollouts/{id}/advance"' in visitor.see(f"/rollouts/{id}").source

    review = visitor.see(f"/rollouts/{id}/advance")
    assert "25 % as soon as no guard fails" in review.text
    bare = visitor.send(review, f"/rollouts/{id}/advance")
    assert bare.status == 422
    assert not house.rollout(id).is_waived
    wrong = visitor.send(review, f"/rollouts/{id}/advance", reason="x", confirm_environment="prod")
    assert wrong.status == 422
    assert 'value="prod"' in wrong.source

    done = visitor.send(review, f"/rollouts/{id}/advance", **SURE)

    assert "The rest of the wait is skipped." in done.text
    assert house.rollout(id).is_waived


def test_a_click_that_comes_too_late_shows_what_happened_meanwhile(house: RollingHouse) -> None:
    id = started(house)
    visitor = house.visitor()
    review = visitor.see(f"/rollouts/{id}/advance")
    house.hold(id, "something looks odd")
    house.resume(id)

    late = visitor.send(review, f"/rollouts/{id}/advance", **SURE)

    assert late.status == 412
    assert "It has moved on since you looked" in late.text
    assert "held by somebody" in late.text
    assert "something looks odd" in late.text
    assert not house.rollout(id).is_waived
    # What was typed is still there, and what is sent now is about what was seen now.
    assert 'value="flat for 30 minutes"' in late.source
    visitor.send(late, f"/rollouts/{id}/advance", confirm_environment="production")
    assert house.rollout(id).is_waived


def test_what_cannot_be_any_more_is_refused_with_words(house: RollingHouse) -> None:
    id = started(house)
    visitor = house.visitor()
    review = visitor.see(f"/rollouts/{id}/advance")
    house.roll_back(id)

    refused = visitor.send(review, f"/rollouts/{id}/advance", **SURE)

    assert refused.status in (409, 412)
    assert "Nothing" in refused.text
    assert house.rollout(id).state is State.ROLLING_BACK


def test_an_approval_lets_a_step_go_on(house: RollingHouse) -> None:
    house.clock.late = 180.0
    id = started(house, **ONLY_FLAG, schedule=APPROVED)
    house.catch_up(120)
    visitor = house.visitor()
    assert "Step 1 waits to be approved." in visitor.see("/").text

    visitor.send(visitor.see(f"/rollouts/{id}/approve"), f"/rollouts/{id}/approve", **SURE)
    house.catch_up(60)

    assert house.rollout(id).state is State.COMPLETED
    assert "Complete at" in visitor.see(f"/rollouts/{id}").text


def test_where_it_is_not_critical_going_on_is_one_click(house: RollingHouse) -> None:
    id = started(house, **ONLY_FLAG, environment="staging")
    visitor = house.visitor()

    visitor.send(visitor.see(f"/rollouts/{id}"), f"/rollouts/{id}/advance")

    assert house.rollout(id).is_waived


# --- starting -------------------------------------------------------------------------------------


def test_a_rollout_is_planned_and_started(house: RollingHouse) -> None:
    visitor = house.visitor()
    form = visitor.see("/rollouts/new?flag=fast-search&environment=production")
    asked = {"service": "shop", "environment": "production", "requests_per_second": "40"}

    plan = visitor.send(form, "/rollouts/new", guards="none", relation="lock_step", **asked)
    assert plan.status == 200
    assert "What it would do" in plan.text
    assert "fast-search 25 %" in plan.text
    assert "6 000" in plan.text
    bare = visitor.send(plan, "/rollouts/start")
    assert bare.status == 422
    assert "What it would do" in bare.text

    page = visitor.send(plan, "/rollouts/start", **SURE)
    assert "Rollout started." in page.text
    again = visitor.send(plan, "/rollouts/start", **SURE)

    (only,) = house.services.rollouts.under_way()
    assert only.rollout.id in page.source
    assert only.rollout.id in again.source, "sent twice, it is one rollout"
    assert only.rollout.service == "shop"


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Visitor:
    """Somebody who plans and starts nothing: several tests may share the house."""
    house = RollingHouse(disk=tmp_path_factory.mktemp("disk"))
    house.flag("fast-search", owner="search")
    return house.visitor()


ASKED = {"service": "shop", "environment": "production", "requests_per_second": "40"}
OWN = {
    "guards": "own",
    "guard_name:0": "lost carts",
    "guard_measure:0": "rate",
    "guard_source:0": "outcomes",
    "guard_settings:0": "metric = carts",
    "guard_limit:0": "0,5 %",
    "guard_on_breach:0": "hold",
    "guard_sample:0": "50",
    "guard_points:0": "3 of 4",
}


def test_a_rollout_is_started_with_guards_of_ones_own(house: RollingHouse) -> None:
    visitor = house.visitor()
    form = visitor.see("/rollouts/new?flag=fast-search")

    plan = visitor.send(form, "/rollouts/new", **ASKED, **OWN)
    assert "1 guard watches it" in plan.text
    watches = "lost carts failed of all, from outcomes metric = carts"
    broken = "> 0.5 %; 3 of 4 points of 1 min, from 50 requests"
    assert f"{watches} {broken} holds holds" in plan.text
    assert "guard_name:1" in plan.form("/rollouts/new"), "a preview brings another empty row"
    page = visitor.send(plan, "/rollouts/start", **SURE)

    (only,) = house.services.rollouts.under_way()
    (guard,) = only.rollout.guards
    assert (guard.name, guard.limit, guard.points, guard.of) == ("lost carts", 0.005, 3, 4)
    assert (guard.minimum_sample, str(guard.on_breach)) == (50, "hold")
    assert guard.signal.get("metric") == "carts"
    # Started again, it has them again.
    house.roll_back(only.rollout.id, "to begin anew")
    again = visitor.see(f"/rollouts/new?again={only.rollout.id}")
    assert {**OWN, "guard_limit:0": "0.5 %"}.items() <= again.form("/rollouts/new").items()
    assert "lost carts" in page.text


def test_a_rollout_keeps_some_on_the_old_version_while_it_bakes(house: RollingHouse) -> None:
    visitor = house.visitor()
    form = visitor.see("/rollouts/new?flag=fast-search")

    plan = visitor.send(form, "/rollouts/new", **ASKED, guards="none", bake="30m", keep="1")
    assert "1 % is kept on the old version" in plan.text
    assert "1 h in all" in plan.text
    visitor.send(plan, "/rollouts/start", **SURE)

    (only,) = house.services.rollouts.under_way()
    assert only.rollout.schedule.text() == "5%:5m,25%:10m,50%:15m,100%:30m:keep=1%"


def test_a_split_is_started_until_a_date(house: RollingHouse) -> None:
    visitor = house.visitor()
    form = visitor.see("/rollouts/new?flag=fast-search")
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    told = {"schedule": "10%:5m,50%:end", "until": until.isoformat(), "hold_if_lost": "2m"}

    plan = visitor.send(form, "/rollouts/new", **ASKED, guards="none", **told)
    assert f"Both versions are kept until {until.day} {until:%b}" in plan.text
    assert "It holds when nobody says for 2 min that it is watched." in plan.text
    page = visitor.send(plan, "/rollouts/start", **SURE)

    (only,) = house.services.rollouts.under_way()
    assert only.rollout.until == until.timestamp()
    assert only.rollout.watcher is not None
    assert "split until" in page.text


@pytest.mark.parametrize(
    ("typed", "field", "words"),
    [
        ({"guard_limit:0": "1"}, "guard", "Its limit is written as in 1 %."),
        ({"guard_name:0": ""}, "guard", "Name"),
        ({"guard_points:0": "3 of 2"}, "guard", "3 of 2 data points"),
        ({"guard_settings:0": "carts"}, "guard", "one a line, as in metric = checkout"),
        ({"guard_source:0": "prometheus"}, "guard", "There is no source of signals 'prometheus'"),
        ({"guards": "standard"}, "guards", "choose “my own”"),
        ({"bake": "long"}, "bake", "as in 30m or 1h"),
        ({"keep": "1"}, "keep", "does not bake"),
        ({"keep": "all", "bake": "5m"}, "keep", "must be a number"),
        ({"until": "tomorrow"}, "until", "must be a time"),
        ({"until": "2099-01-31T22:00:00Z"}, "schedule", "let the schedule end below 100 %"),
        ({"hold_if_lost": "2h"}, "hold_if_lost", "It must be from 5 s to 60 minutes."),
        ({"schedule": "nothing", "bake": "5m"}, "schedule", "is no schedule"),
    ],
)
def test_what_a_start_cannot_have_is_said_beside_its_field(
    planner: Visitor, typed: dict[str, str], field: str, words: str
) -> None:
    form = planner.see("/rollouts/new?flag=fast-search")

    page = planner.send(form, "/rollouts/new", **(ASKED | OWN | typed))

    assert words in page.text
    beside = "guard-problem-0" if field == "guard" else f"{field}-problem"
    assert f'id="{beside}"' in page.source
    assert page.form("/rollouts/new").items() >= typed.items(), "what was typed is still there"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"flags": ""}, "Say what moves"),
        ({"flags": "nothing-here"}, "no flag 'nothing-here'"),
        ({"schedule": "5%:5m,3%"}, "Look at what is marked below"),
        ({"start_at": "tomorrow"}, "must be a time"),
        ({"requests_per_second": "many"}, "must be a number"),
        ({"rule": "arn:x", "version": "2"}, "arn:x does not exist"),
        ({"requires": "development"}, "development"),
    ],
)
def test_what_cannot_be_started_says_so_beside_its_field(
    house: RollingHouse, typed: dict[str, str], words: str
) -> None:
    visitor = house.visitor()
    form = visitor.see("/rollouts/new?flag=fast-search")
    asked = {"service": "shop", "environment": "production", "guards": "none"}

    page = visitor.send(form, "/rollouts/new", **(asked | typed))

    assert words in page.text
    for text in typed.values():
        assert text in page.source, "what was typed is still there"


def test_an_older_rollout_is_started_again(house: RollingHouse) -> None:
    id = furnish_rollouts(house)["back"]

    page = house.visitor().see(f"/rollouts/new?again={id}")

    assert 'value="2026.11.27-9"' in page.source
    assert 'value="5%:5m,25%:10m,50%:15m,100%"' in page.source
    assert ":targetgroup/green/77d0" in page.source


# --- who may, and who may not ---------------------------------------------------------------------


def test_who_may_only_look_is_told_so(house: RollingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    id = started(house)
    visitor = house.visitor()
    viewer = Principal("person:1", "viewer", "admin", roles={"*": "viewer"})
    monkeypatch.setattr(house.services.sessions, "principal", lambda secret: viewer)

    page = visitor.see(f"/rollouts/{id}")

    assert "You can look but not change this" in page.text
    assert "Roll back" not in page.text
    assert "Start a rollout" not in visitor.see("/rollouts").text
    for verb in ("rollback", "hold", "advance", "note"):
        assert visitor.client.post(f"/rollouts/{id}/{verb}", headers=OUR_PAGE).status_code == 403


def test_while_the_store_is_away_what_ran_is_still_shown(house: RollingHouse) -> None:
    id = started(house)
    visitor = house.visitor()
    visitor.see("/flags")

    house.store_away = True
    page = visitor.see(f"/rollouts/{id}")

    assert page.status == 503
    assert "The store is not answering" in page.text
    assert "api 2026.11.28-3" in page.source
    assert "as of" in page.source
    assert "Nothing can be told to controllers while the store is away" in page.source


# --- what people type -----------------------------------------------------------------------------


def test_what_is_typed_is_shown_as_text(house: RollingHouse) -> None:
    guard = {
        "name": f"guard {CANARY}",
        "signal": {"source": "cloudwatch", "measure": "rate"},
        "limit": 0.01,
    }
    house.clock.late = 320.0
    id = started(
        *(house,),
        version=f"2 {CANARY}",
        service=f"api {CANARY}",
        reason=f"why {CANARY}",
        guards=[guard],
    )
    house.catch_up(120)
    house.shown = BAD
    house.catch_up(200)
    visitor = house.visitor()

    for path in ("/", "/flags", "/rollouts", f"/rollouts/{id}", f"/rollouts/{id}/rollback"):
        source = visitor.see(path).source
        assert "<script>alert" not in source
        assert "<img" not in source.split("</header>", 1)[1]
    assert "&lt;script&gt;alert(1)" in visitor.see(f"/rollouts/{id}").source


def test_what_an_engine_says_and_what_is_noted_is_shown_as_text(house: RollingHouse) -> None:
    broken = Deployment(f"d-{CANARY[:40]}", phase=Phase.SHIFTING, share=100_000)
    house.follower.groups["shop-ecs/green"] = broken
    house.clock.late = 60.0
    id = house.start(targets=[{"kind": "codedeploy", "name": "shop-ecs/green"}])
    house.catch_up(20)
    broken.phase, broken.back, broken.reason = Phase.GOING_BACK, f"b-{CANARY}", f"why {CANARY}"
    broken.failed = "AllowTraffic", f"hook {CANARY}"
    house.catch_up(20)
    visitor = house.visitor()
    page = visitor.see(f"/rollouts/{id}")
    noted = visitor.send(page, f"/rollouts/{id}/note", reason=f"note {CANARY}")

    for said in ("why", "hook", "note"):
        assert f"{said} <script>alert(1)" in noted.text
    assert "Goes back by b-<script>" in noted.text
    again = visitor.see(f"/rollouts/new?again={id}").form("/rollouts/new")
    assert again["deployment"] == "shop-ecs/green"
    for path in ("/", "/rollouts", f"/rollouts/{id}", f"/rollouts/new?again={id}"):
        source = visitor.see(path).source
        assert "<script>alert" not in source
        assert "<img" not in source.split("</header>", 1)[1]


def test_nobody_without_a_session_gets_in(house: RollingHouse) -> None:
    stranger = Visitor(house.app.test_client())

    assert "Sign in" in stranger.see("/rollouts").source
    assert stranger.client.get("/ui/strip").status_code == 401
    assert stranger.client.post("/rollouts/r-1/rollback", headers=OUR_PAGE).status_code == 401


# --- how much it weighs ---------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "most"), [("/rollouts", 60_000), ("/rollouts/{id}", 90_000)])
def test_a_page_is_light(house: RollingHouse, page: str, most: int) -> None:
    id = furnish_rollouts(house)["running"]
    visitor = house.visitor()

    source = visitor.see(page.format(id=id)).source
    weight = len(gzip.compress(source.encode()))
    assets = set(re.findall(r'(?:src|href)="(/assets/[^"]+)"', source))
    for asset in assets:
        answer = visitor.client.get(asset, headers={"Accept-Encoding": "gzip"})
        weight += len(answer.get_data())

    assert any("uplot" in asset for asset in assets) == ("{id}" in page)
    assert weight <= most
