"""`sortition rollouts` against the real application, a controller, and a clock that is turned."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner, Result
from sortition.cli import completion, exits, options
from sortition.cli.api import Api
from sortition.cli.main import cli
from sortition.cli.rollouts import looking

from flagserver.domain.commands import NewFlag
from flagserver.domain.outcomes import Totals
from flagserver.domain.rollout import TICK_SECONDS
from flagserver.domain.states import State
from flagserver.http.app import create_app
from flagserver.settings import Settings
from tests.builders import ADMIN, T0
from tests.cli.conftest import House
from tests.engines import FLAG, GUARD, RULE, Engine

SURE = ("--reason", "a test", "--confirm", "production")
RULE_OPTION = "arn:rule,canary=arn:green,stable=arn:blue"
FLAG_ALONE = ("--env", "production", "--service", "api", "--flag", FLAG, "--guards", "none")


@dataclass
class Desk:
    """A server with its controller, and the command pointed at it. When the command sleeps, time
    passes: the controller ticks, and what the test wrote down happens."""

    engine: Engine
    script: list[tuple[float, Callable[[], Any]]] = field(default_factory=list)
    ticked: float = 0.0

    def __post_init__(self) -> None:
        settings = Settings()
        self.engine.services.snapshots.load()
        transport = httpx.WSGITransport(create_app(self.engine.services, settings))
        self.api = Api(
            *("http://flags.test", self.engine.admin_token or ""),
            transport=transport,
            sleep=self.sleep,
            monotonic=self.engine.clock.monotonic,
            now=lambda: T0.timestamp() + self.engine.clock.seconds,
        )

    def at(self, seconds: float, act: Callable[[], Any]) -> None:
        """Let something happen at this time of the clock."""
        self.script.append((seconds, act))

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        clock = self.engine.clock
        until = clock.seconds + seconds
        while self.ticked + TICK_SECONDS <= until:
            self.ticked += TICK_SECONDS
            clock.seconds = max(clock.seconds, self.ticked)
            for entry in [entry for entry in self.script if entry[0] <= clock.seconds]:
                self.script.remove(entry)
                entry[1]()
            self.engine.tick()
        clock.seconds = until

    def run(self, *words: str, stdin: str | None = None) -> Result:
        """Run `sortition …`."""
        self.engine.services.snapshots.step(0.01)
        return CliRunner().invoke(cli, list(words), obj=self.api, input=stdin)

    def rollouts(self, *words: str, stdin: str | None = None) -> Result:
        """Run `sortition rollouts …`."""
        return self.run("rollouts", *words, stdin=stdin)

    def json(self, *words: str) -> Any:
        """Run `sortition rollouts … --json`; it must be done."""
        done = self.rollouts(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def start(self, *words: str) -> str:
        """Start a rollout in production; return its id."""
        return str(self.json("start", *words, *SURE)["id"])

    def started(self, schedule: str = "5%:5m,100%") -> str:
        """Start a rollout of the flag alone, at its first step; return its id."""
        id = self.start(*FLAG_ALONE, "--schedule", schedule)
        self.sleep(10)
        return id


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Engine(directory=tmp_path))


def a_file(directory: Path, **told: Any) -> str:
    """Write a rollout's file over the rule and the flag; return its path."""
    content = {
        "environment": "production",
        "service": "api",
        "version": "2",
        "schedule": "5%:5m,25%:10m,100%",
        "targets": [
            {"kind": "flag", "name": FLAG},
            {"kind": "alb", "name": "arn:rule", "settings": {"canary": "arn:green", **STABLE}},
        ],
        "guards": [GUARD],
        **told,
    }
    path = directory / "rollout.json"
    path.write_text(json.dumps(content))
    return str(path)


STABLE = {"stable": "arn:blue"}


# --- planning -------------------------------------------------------------------------------------


def test_a_plan_says_what_every_step_really_does(desk: Desk, tmp_path: Path) -> None:
    done = desk.rollouts("plan", "-f", a_file(tmp_path), "--requests-per-second", "10")

    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[:4] == [
        "api 2 in production 5%:5m,25%:10m,100% 15m in all",
        "in lock-step: flags and traffic both get the step's share",
        "requests: about 10 per second",
        "guards: errors ≤ 1 % (2 of 2)",
    ]
    first = next(i for i, line in enumerate(lines) if line.startswith("1/3"))
    assert lines[first] == "1/3 T+0s 5m new-search 5 % new version 5 % 150"
    assert lines[first + 1] == "alb arn:rule 5 % new-search 5 %, with the new version 0.25 %"
    assert any(line.startswith("⚠ Step 1 is too short to judge errors") for line in lines)


def test_a_plan_says_what_would_refuse_the_start(desk: Desk, tmp_path: Path) -> None:
    desk.engine.driver.weights[RULE.name].healthy = False

    done = desk.rollouts("plan", "-f", a_file(tmp_path))
    checked = desk.rollouts("plan", "-f", a_file(tmp_path), "--check")

    assert (done.exit_code, checked.exit_code) == (exits.DONE, exits.CHECK_FAILED)
    assert "It would be refused now:\n✖ The canary has no healthy target." in done.stdout


def test_a_plan_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    desk.json("plan", "-f", a_file(tmp_path))
    dry = desk.rollouts("start", "-f", a_file(tmp_path), "--dry-run")

    assert dry.exit_code == 0
    assert "new version 5 %" in dry.stdout
    assert desk.json("list") == {"rollouts": [], "next": None}


def test_without_guards_a_plan_says_that_only_people_take_it_back(desk: Desk) -> None:
    done = desk.rollouts("plan", *FLAG_ALONE)

    assert "guards: none: nothing but a person takes it back" in done.stdout
    assert "requests: not known" in done.stdout


def test_a_plan_says_what_a_bake_keeps_as_a_control(desk: Desk) -> None:
    asked = (*FLAG_ALONE, "--schedule", "50%:15m,100%:10m:keep=1%")

    told = desk.json("plan", *asked)
    printed = [" ".join(line.split()) for line in desk.rollouts("plan", *asked).stdout.splitlines()]

    assert [(step["kept"], step["hold"]) for step in told["steps"]] == [(0, 900), (1, 600), (0, 0)]
    assert [step["shares"] for step in told["steps"]] == [
        {"flag/new-search": 50},
        {"flag/new-search": 99},
        {"flag/new-search": 100},
    ]
    assert "1 % kept as a control" in printed


COMPARED = ("--env", "production", "--service", "api", "--flag", "new-search")


@pytest.fixture
def shop(house: House) -> House:
    """A server of which SDKs have reported: one in a thousand requests fails."""
    house.services.flags.create(NewFlag(key="new-search"), ADMIN)
    totals = Totals(requests=30_000, failures=30, latency={120: 28_000, 160: 2_000})
    house.services.rollouts._starting._reported = lambda *_: totals
    return house


def test_a_plan_says_what_each_step_can_show_and_what_a_pass_says(shop: House) -> None:
    few = shop.json("rollouts", "plan", *COMPARED, "--rate", "10")
    many = shop.json("rollouts", "plan", *COMPARED, "--rate", "1000")

    assert [[one["guard"] for one in step["shows"]] for step in few["steps"]] == [
        *([["http errors", "p95 latency"]] * 3),
        [],
    ]
    (first, _), (better, _) = few["steps"][0]["shows"], many["steps"][0]["shows"]
    assert (first["requests"], better["requests"]) == (150, 15_000)
    assert first["usual"] == 0.1
    assert first["detects"] > 2 > better["detects"]
    assert first["passes"] == "no harm seen, minimum sample met"
    assert better["passes"] == "certified good"


def test_a_plan_offers_a_first_share_that_shows_more(shop: House) -> None:
    told = shop.json("rollouts", "plan", *COMPARED, "--rate", "50")
    printed = shop.run("rollouts", "plan", *COMPARED, "--rate", "10").stdout

    assert told["first_share"]["share"] == 10
    assert told["first_share"]["requests"] == 1500
    assert "A first share of 25 % gives about 750 in 5m; 1,500," in printed
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "Step Guard Requests Usual Found from A pass says" in lines
    assert any(line.startswith("1/4 http errors 150 0.1 % ") for line in lines)


def test_a_plan_says_what_is_known_of_noise(shop: House) -> None:
    told = shop.json("rollouts", "plan", *COMPARED)["calibration"]
    printed = " ".join(shop.run("rollouts", "plan", *COMPARED).stdout.split())

    assert told == {
        "calibrated": False,
        "seconds": 0,
        "wanted": 6 * 3600,
        "until": None,
        "sentence": "Not calibrated: no history, 6 h wanted.",
    }
    assert "noise: Not calibrated: no history, 6 h wanted." in printed


def test_without_a_rate_a_plan_says_nothing_of_what_can_be_seen(shop: House) -> None:
    told = shop.json("rollouts", "plan", *COMPARED)

    assert told["first_share"] is None
    assert all(step["shows"] == [] for step in told["steps"])
    printed = shop.run("rollouts", "plan", *COMPARED).stdout
    assert "requests: not known, nor what a step can show; see --rate" in printed


def test_what_is_usual_is_what_sdks_reported(house: House) -> None:
    assert house.services.rollouts._starting._reported == house.services.outcomes.service


# --- starting -------------------------------------------------------------------------------------


def test_a_start_shows_the_plan_first_and_then_says_which_it_is(desk: Desk, tmp_path: Path) -> None:
    done = desk.rollouts("start", "-f", a_file(tmp_path), *SURE)

    assert done.exit_code == 0, done.output
    assert "Who really sees it" in done.stderr
    assert done.stdout.startswith("✔ r-")
    assert "is started: api 2 in production, 5%:5m,25%:10m,100%." in done.stdout


def test_it_goes_by_a_template_and_keeps_its_steps(desk: Desk) -> None:
    here = ("--env", "production")
    desk.run("schedules", "set", "careful", "1%:30m,100%", *here)

    planned = desk.rollouts("plan", *FLAG_ALONE, "--schedule", "careful")
    done = desk.rollouts("start", *FLAG_ALONE, "--schedule", "careful", *SURE)
    desk.run("schedules", "set", "careful", "50%:5m,100%", *here)
    [it] = desk.json("list")["rollouts"]

    assert "api in production  careful, 1%:30m,100%  30m in all" in planned.stdout
    assert done.stdout.endswith("is started: api in production, careful, 1%:30m,100%.\n")
    assert (it["schedule"], it["schedule_name"]) == ("1%:30m,100%", "careful")


def test_it_goes_by_the_environments_default_unless_told_otherwise(desk: Desk) -> None:
    desk.run("env", "set", "production", "--schedule", "2%:10m,100%")

    assert desk.json("plan", *FLAG_ALONE)["schedule"] == "2%:10m,100%"
    assert desk.json("plan", *FLAG_ALONE, "--schedule", "standard")["duration"] == 1800


@pytest.mark.parametrize(
    ("given", "option"),
    [((), "--reason"), (("--reason", "a test"), "--confirm")],
)
def test_starting_in_a_critical_environment_needs_reason_and_confirmation(
    desk: Desk, tmp_path: Path, given: tuple[str, ...], option: str
) -> None:
    done = desk.rollouts("start", "-f", a_file(tmp_path), *given)

    assert done.exit_code == exits.NOT_PERMITTED
    assert f"{option}: production is critical" in done.stderr
    assert desk.json("list")["rollouts"] == []


def test_on_a_terminal_the_confirmation_is_asked_for_after_the_plan(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "is_interactive", lambda: True)
    words = ("start", "-f", a_file(tmp_path), "--reason", "a test")

    wrong = desk.rollouts(*words, stdin="staging\n")
    right = desk.rollouts(*words, stdin="production\n")

    assert wrong.exit_code == exits.NOT_PERMITTED
    assert right.exit_code == 0, right.output
    assert right.stderr.index("Who really sees it") < right.stderr.index("Type production to")


def test_options_say_the_same_as_a_file(desk: Desk) -> None:
    it = desk.json(
        *("start", "--env", "production", "--service", "api", "--version", "2"),
        *("--schedule", "10%:1m,100%", "--relation", "on_canary", "--flag", FLAG),
        *("--alb", RULE_OPTION, "--guards", "none", *SURE),
    )

    assert (it["service"], it["version"], it["relation"]) == ("api", "2", "on_canary")
    assert it["schedule"] == "10%:1m,100%"
    assert [target["name"] for target in it["targets"]] == [FLAG, "arn:rule"]
    assert it["targets"][1]["settings"] == {"canary": "arn:green", "stable": "arn:blue"}


def test_options_come_before_the_file_and_targets_are_added(desk: Desk, tmp_path: Path) -> None:
    path = a_file(tmp_path, targets=[{"kind": "flag", "name": FLAG}], guards="none")

    plan = desk.json("plan", "-f", path, "--version", "3", "--alb", RULE_OPTION)

    assert plan["version"] == "3"
    assert set(plan["steps"][0]["shares"]) == {"flag/new-search", "alb/arn:rule"}


def test_an_alarm_becomes_a_guard(desk: Desk, tmp_path: Path) -> None:
    plan = desk.json("plan", "-f", a_file(tmp_path), "--alarm", "api-5xx", "--alarm", "api-p95")

    assert plan["guards"][-1]["signal"]["settings"]["alarms"] == ["api-5xx", "api-p95"]


def test_a_version_that_looks_like_a_number_stays_as_it_is_written(
    desk: Desk, tmp_path: Path
) -> None:
    path = tmp_path / "rollout.yaml"
    path.write_text(
        "environment: production\nservice: api\nversion: 2.10\nguards: none\n"
        f"start_at: 2026-11-23T22:00:00Z\ntargets: [{{kind: flag, name: {FLAG}}}]\n"
    )

    assert desk.json("plan", "-f", str(path))["version"] == "2.10"


def test_a_file_must_not_end_up_in_another_environment(desk: Desk, tmp_path: Path) -> None:
    done = desk.rollouts("start", "-f", a_file(tmp_path), "--env", "staging")

    assert done.exit_code == exits.USAGE
    assert "is for production, and --env says staging" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("environment: [", "rollout.yaml"),
        ("- a list", "the file holds one mapping"),
        ("", "the file holds one mapping"),
        ("requests_per_second: .nan", "Out of range float"),
        ("service: &x [*x]", "ircular reference"),
        ("confirm_environment: production", "confirm_environment is not for files"),
        ("service: api\nenvironment: staging", "Missing --flag, --alb or --codedeploy"),
        ("targets: [{kind: flag, name: x}]\nservice: api", "Missing --env"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    desk: Desk, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "rollout.yaml"
    path.write_text(text)

    done = desk.rollouts("plan", "-f", str(path))

    assert done.exit_code == exits.USAGE
    assert words in done.stderr


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ({"schedule": "5%:5m,4%:5m,100%"}, "schedule.steps.1.share"),
        ({"schedule": {"steps": [{"share": 5}, {"share": 100}]}}, "schedule.steps.0.hold"),
        ({"targets": [{"kind": "train", "name": "x"}]}, "targets.0.kind"),
        ({"targets": "new-search"}, "targets"),
        ({"guards": [{**GUARD, "limit": 2}]}, "guards.0.limit"),
        ({"verson": "2"}, "verson"),
    ],
)
def test_a_fault_in_a_file_is_named_with_its_place(
    desk: Desk, tmp_path: Path, told: dict[str, Any], place: str
) -> None:
    done = desk.rollouts("start", "-f", a_file(tmp_path, **told), *SURE)

    assert done.exit_code == exits.ERROR
    assert f"rollout.json: {place}: " in done.stderr
    assert desk.json("list")["rollouts"] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--flag", "nope"), "✖ --flag nope: "),
        (("--alb", "arn:x,canary=a,stable=b", "--flag", "nope"), "✖ --flag nope: "),
        (("--alb", "arn:x,canary=a,stable=b"), "✖ --alb arn:x,canary=a,stable=b: "),
    ],
)
def test_what_an_option_adds_to_a_file_is_named_by_the_option(
    desk: Desk, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = desk.rollouts("start", "-f", a_file(tmp_path), *options, *SURE)

    assert done.exit_code == exits.ERROR
    assert words in done.stderr
    assert "(line" not in done.stderr


def test_a_fault_in_an_option_is_named_by_it(desk: Desk, tmp_path: Path) -> None:
    done = desk.rollouts("plan", "-f", a_file(tmp_path), "--schedule", "5%:5m,4%:1m,100%")

    assert done.stderr.startswith("✖ --schedule: Step 2")


def test_a_fault_in_a_target_names_every_option_that_gives_one(desk: Desk) -> None:
    told = ("--env", "production", "--service", "api", "--guards", "none", "--flag", "nope")

    done = desk.rollouts("plan", *told)

    assert done.stderr.startswith("✖ --flag, --alb or --codedeploy: There is no flag 'nope'.")


@pytest.mark.parametrize(
    "text", ["arn:rule", "arn:rule,canary=x", ",canary=x,stable=y", "arn:rule,canary=,stable=y"]
)
def test_a_rule_without_its_groups_is_refused_with_an_example(desk: Desk, text: str) -> None:
    done = desk.rollouts("plan", "--env", "production", "--service", "api", "--alb", text)

    assert done.exit_code == exits.USAGE
    assert "--alb: write it as RULE_ARN,canary=GROUP_ARN,stable=GROUP_ARN" in done.stderr


def test_the_same_idempotency_key_is_the_same_rollout(desk: Desk, tmp_path: Path) -> None:
    words = ("start", "-f", a_file(tmp_path), *SURE, "--idempotency-key", "job-7")

    first, again = desk.json(*words), desk.json(*words)

    assert first["id"] == again["id"]
    assert len(desk.json("list")["rollouts"]) == 1


def test_a_flag_that_is_in_a_rollout_is_a_conflict_for_another(desk: Desk) -> None:
    desk.started()

    done = desk.rollouts("start", *FLAG_ALONE, *SURE)

    assert done.exit_code == exits.CONFLICT
    assert f"{FLAG} is in rollout r-" in done.stderr


def test_one_that_waits_for_its_time_can_be_started_now(desk: Desk) -> None:
    said = desk.rollouts("start", *FLAG_ALONE, "--at", "2026-11-24T22:00:00Z", *SURE)
    id = said.stdout.split()[1]
    desk.sleep(10)
    assert "starts at 2026-11-24T22:00:00.000Z" in said.stdout
    assert desk.engine.share == 0

    done = desk.rollouts("start", id, *SURE)
    desk.sleep(10)

    assert done.exit_code == 0, done.output
    assert desk.engine.share == 5


def test_with_an_id_nothing_else_can_be_said(desk: Desk) -> None:
    done = desk.rollouts("start", "r-1", "--service", "api")

    assert done.exit_code == exits.USAGE


def test_a_revision_is_for_one_that_is_there(desk: Desk) -> None:
    assert desk.rollouts("start", *FLAG_ALONE, "--if-revision", "3").exit_code == exits.USAGE


# --- following ------------------------------------------------------------------------------------


def test_a_pipeline_starts_and_follows_in_one_command(desk: Desk, tmp_path: Path) -> None:
    page = tmp_path / "summary.md"

    done = desk.rollouts(
        *("start", "-f", a_file(tmp_path), *SURE, "--watch", "--summary", str(page))
    )

    assert done.exit_code == exits.DONE, done.output
    assert (desk.engine.weight, desk.engine.share) == (100.0, 100.0)
    reached = [line.split()[2:6] for line in done.stdout.splitlines() if "reached" in line]
    assert reached == [
        ["step", "1/3", "at", "5"],
        ["step", "2/3", "at", "25"],
        ["step", "3/3", "at", "100"],
    ]
    assert "COMPLETE" in done.stdout.splitlines()[-1]
    assert page.read_text().startswith("### api 2 in production: ✔ Complete")


def test_a_canary_that_fails_ends_the_job_with_3(desk: Desk, tmp_path: Path) -> None:
    desk.at(400, lambda: setattr(desk.engine, "rates", (0.2, 0.001)))

    done = desk.rollouts("start", "-f", a_file(tmp_path), *SURE, "--watch", "--json")

    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.exit_code, last["exit_code"]) == (exits.ROLLED_BACK, exits.ROLLED_BACK)
    assert last["state"] == "rolled_back"
    assert last["reason"].startswith("errors 20 % > 1 %")
    assert last["targets"] == {"alb/arn:rule": 0.0, f"flag/{FLAG}": 0.0}
    assert [guard["kind"] for guard in last["guards"]] == ["fail"]
    assert (desk.engine.weight, desk.engine.share) == (0.0, 0.0)


def test_a_job_that_runs_again_follows_the_same_rollout(desk: Desk) -> None:
    words = ("start", *FLAG_ALONE, "--schedule", "5%:5m,100%", *SURE, "--idempotency-key", "7")
    desk.rollouts(*words, "--watch", "--timeout", "1m")

    again = desk.rollouts(*words, "--watch")
    ended = desk.rollouts(*words)

    assert again.exit_code == exits.DONE
    assert len(desk.json("list")["rollouts"]) == 1
    assert "was started before and has ended" in ended.stdout


def test_one_that_is_replaced_ends_its_watch_with_7(desk: Desk) -> None:
    id = desk.started()
    newer: list[str] = []
    desk.at(60, lambda: newer.append(desk.start(*FLAG_ALONE, "--replace")))

    done = desk.rollouts("watch", id)

    assert done.exit_code == exits.CONFLICT
    assert f"REPLACED  by the newer rollout {newer[0]}" in done.stdout


# --- looking --------------------------------------------------------------------------------------


def test_rollouts_are_listed_newest_first(desk: Desk) -> None:
    ended = desk.started()
    desk.rollouts("rollback", ended)
    desk.sleep(10)
    live = desk.started()

    listed = [line.split()[0] for line in desk.rollouts("list").stdout.splitlines()]
    only_live = desk.json("list", "--live")["rollouts"]
    short = desk.rollouts("list", "--limit", "1")

    assert listed == ["Rollout", live, ended]
    assert [it["id"] for it in only_live] == [live]
    assert desk.rollouts("list", "--env", "staging").stdout == "No rollouts.\n"
    assert short.stderr == f"There are more: --before {live}, or a larger --limit.\n"
    assert [it["id"] for it in desk.json("list", "--before", live)["rollouts"]] == [ended]
    assert [it["id"] for it in desk.json("list", "--state", "rolled_back")["rollouts"]] == [ended]
    assert len(desk.json("list", "--flag", FLAG)["rollouts"]) == 2
    assert desk.json("list", "--flag", "another")["rollouts"] == []


def test_in_a_pipe_a_long_reason_takes_nothing_from_the_ids(desk: Desk) -> None:
    why = "mend the version first, " * 7 + "then again"
    ended = desk.started()
    desk.rollouts("rollback", ended, "--reason", why)

    listed = desk.rollouts("list").stdout.splitlines()

    assert listed[1].split()[0] == ended
    assert why in listed[1]


def test_a_long_list_is_asked_for_in_pages(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "AT_ONCE", 2)
    ids = []
    for _ in range(5):
        ids.append(desk.started())
        desk.rollouts("rollback", ids[-1])
        desk.sleep(10)

    found = desk.json("list", "--limit", "4")

    assert [it["id"] for it in found["rollouts"]] == ids[:0:-1]
    assert found["next"] == ids[1]
    assert len(desk.json("list")["rollouts"]) == 5


def test_every_state_can_be_asked_for() -> None:
    assert tuple(State) == looking.STATES


def test_one_is_shown_with_everything_about_it(desk: Desk, tmp_path: Path) -> None:
    id = desk.json("start", "-f", a_file(tmp_path), *SURE)["id"]
    desk.sleep(130)

    text = desk.rollouts("get", id).stdout

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].startswith(f"api 2 in production rollout {id} ▶ Running step 1/3 at 5 %")
    assert "5 % 5m ##########.............. ▶ now 3m left" in lines
    assert "alb arn:rule 5 % 5 % 5 %" in lines
    assert "errors 0 % 0 % ≤ 1 % ✔ pass" in lines


def test_one_that_is_not_there_is_said_so(desk: Desk) -> None:
    done = desk.rollouts("get", "r-nowhere")

    assert done.exit_code == exits.ERROR
    assert "There is no rollout 'r-nowhere'" in done.stderr


def test_evidence_is_shown_and_kept_in_a_file(desk: Desk, tmp_path: Path) -> None:
    id = desk.json("start", "-f", a_file(tmp_path), *SURE)["id"]
    desk.sleep(130)
    desk.rollouts("rollback", id, "--reason", "it smells")
    desk.sleep(10)

    shown = desk.rollouts("evidence", id).stdout
    kept = desk.rollouts("evidence", id, "--out", str(tmp_path / "evidence.json"))
    packed = desk.rollouts("evidence", id, "--out", str(tmp_path / "evidence.zip"))

    assert "✖ Rolled back  it smells" in shown
    assert "going back" in shown
    assert "rollout:" not in shown.partition("Who")[2]
    assert (kept.exit_code, packed.exit_code) == (0, 0)
    content = json.loads((tmp_path / "evidence.json").read_text())
    assert content["rollout"]["rollback"]["reason"] == "it smells"
    assert content["looks"]
    with zipfile.ZipFile(tmp_path / "evidence.zip") as archive:
        assert json.loads(archive.read("evidence.json")) == content
        assert "it smells" in archive.read("summary.md").decode()


def test_why_is_said_later_and_stands_in_the_record(desk: Desk) -> None:
    id = desk.started()
    desk.rollouts("rollback", id)
    desk.sleep(10)

    tried = desk.rollouts("note", id, "--reason", "users saw empty pages", "--dry-run")
    silent = desk.rollouts("note", id)
    done = desk.rollouts("note", id, "--reason", "users saw empty pages")

    assert (tried.exit_code, silent.exit_code, done.exit_code) == (0, exits.ERROR, 0)
    assert "A note has to say something" in silent.stderr
    assert f"✔ {id}: it is in the record." in done.stdout
    entries = desk.json("evidence", id)["entries"]
    told = [it["reason"] for it in entries if it["action"] == "rollout:note"]
    assert told == ["users saw empty pages"]


def test_ids_are_completed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    id = desk.started()
    monkeypatch.setenv("SORTITION_URL", desk.api.url)
    monkeypatch.setenv("SORTITION_TOKEN", desk.api.token)
    monkeypatch.setattr(completion, "Api", lambda *given, **more: desk.api)
    context, parameter = click.Context(cli), click.Option(["--x"])

    found = completion.live_rollouts(context, parameter, "r-")

    assert [(item.value, item.help) for item in found] == [(id, "api in production: Running")]
    assert completion.rollouts(context, parameter, "x") == []


# --- on its way -----------------------------------------------------------------------------------


def test_it_is_held_and_resumed(desk: Desk) -> None:
    id = desk.started()

    held = desk.rollouts("hold", id)
    desk.sleep(600)
    share = desk.engine.share
    resumed = desk.rollouts("resume", id, *SURE)

    assert held.stdout == f"✔ {id}: ‖ Paused, step 1/2 at 5 %.\n"
    assert share == 5
    assert resumed.stdout == f"✔ {id}: ▶ Running, step 1/2 at 5 %.\n"


def test_a_wait_is_skipped(desk: Desk) -> None:
    id = desk.started()

    desk.rollouts("advance", id, *SURE)
    desk.sleep(10)

    assert desk.engine.share == 100


def test_a_step_is_approved(desk: Desk) -> None:
    id = desk.started("5%:1m:approve,100%")
    desk.sleep(120)
    waits = desk.rollouts("get", id).stdout

    desk.rollouts("approve", id, *SURE)
    desk.sleep(10)

    assert "Step 1 waits to be approved." in waits
    assert desk.engine.share == 100
    assert "step 1 approved 2026-" in desk.rollouts("get", id).stdout


def test_it_is_taken_back_without_any_question(desk: Desk) -> None:
    id = desk.started()

    done = desk.rollouts("rollback", id)

    assert done.exit_code == 0, done.output
    assert desk.engine.share == 0


@pytest.mark.parametrize("verb", ["resume", "advance", "approve"])
def test_going_on_in_a_critical_environment_needs_a_reason(desk: Desk, verb: str) -> None:
    id = desk.started("5%:5m:approve,100%")
    desk.rollouts("hold", id)

    done = desk.rollouts(verb, id)

    assert done.exit_code == exits.NOT_PERMITTED
    assert "--reason: production is critical" in done.stderr


@pytest.mark.parametrize("verb", ["hold", "rollback", "advance"])
def test_at_another_revision_nothing_is_done(desk: Desk, verb: str) -> None:
    id = desk.started()
    before = desk.json("get", id)["revision"]
    sure = SURE if verb == "advance" else ()

    done = desk.rollouts(verb, id, "--if-revision", str(before - 1), *sure)

    assert done.exit_code == exits.CONFLICT
    assert desk.json("get", id)["revision"] == before


@pytest.mark.parametrize("verb", ["hold", "rollback", "advance"])
def test_it_must_be_where_it_is_said_to_be(desk: Desk, verb: str) -> None:
    id = desk.started()

    done = desk.rollouts(verb, id, "--env", "staging")

    assert done.exit_code == exits.USAGE
    assert f"{id} is in production, not in staging." in done.stderr
    assert desk.engine.share == 5


@pytest.mark.parametrize("verb", ["hold", "rollback", "advance", "start"])
def test_a_dry_run_says_what_would_be_done(desk: Desk, verb: str) -> None:
    id = desk.started()
    before = desk.json("get", id)["revision"]

    done = desk.rollouts(verb, id, "--dry-run")

    states = {"hold": "‖ Paused", "rollback": "↺ Rolling back"}
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"would {verb} {id}: api in production, revision {before}",
        f"▶ Running, step 1/2 at 5 % → {states.get(verb, '▶ Running')}, step 1/2 at 5 %",
    ]
    assert desk.json("get", id)["revision"] == before
    assert desk.engine.share == 5


@pytest.mark.parametrize("verb", ["resume", "advance", "approve", "start"])
def test_a_dry_run_is_refused_as_the_thing_itself_would_be(desk: Desk, verb: str) -> None:
    id = desk.started()
    desk.rollouts("rollback", id)

    done = desk.rollouts(verb, id, "--dry-run")

    assert done.exit_code == exits.CONFLICT
    assert f"✖ rollout/{id} is rolling back and cannot be" in done.stderr


@pytest.mark.parametrize("verb", ["hold", "rollback", "resume", "advance", "approve", "start"])
def test_the_revision_that_was_seen_goes_with_what_is_asked(desk: Desk, verb: str) -> None:
    id = desk.started("5%:5m:approve,100%")
    now = desk.json("get", id)["revision"]

    late = desk.rollouts(verb, id, "--if-revision", str(now - 1), *_sure(verb))
    dry = desk.rollouts(verb, id, "--if-revision", str(now - 1), "--dry-run")
    done = desk.rollouts(verb, id, "--if-revision", str(now), *_sure(verb))

    assert (late.exit_code, dry.exit_code, done.exit_code) == (exits.CONFLICT, exits.CONFLICT, 0)
    assert f"✖ rollout/{id} is at revision {now} now." in late.stderr


def _sure(verb: str) -> tuple[str, ...]:
    """Return what a verb needs in a critical environment."""
    return ("--reason", "a test") if verb in {"hold", "rollback"} else SURE


def test_what_the_state_does_not_allow_is_a_conflict(desk: Desk) -> None:
    id = desk.started()
    desk.rollouts("rollback", id)

    done = desk.rollouts("resume", id, *SURE)

    assert done.exit_code == exits.CONFLICT
    assert "cannot be resumed" in done.stderr


def test_a_flag_in_a_rollout_can_be_enlarged_by_nobody_else(desk: Desk) -> None:
    desk.started()

    done = desk.run("flags", "set", FLAG, "--env", "production", "--share", "50", *SURE)

    assert done.exit_code == exits.CONFLICT
    assert desk.engine.share == 5
