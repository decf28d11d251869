"""`sortition approvals`, and a job that waits for a second person."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from sortition.cli import exits

from flagserver.domain.approvals import Approve
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import EVERYWHERE, Principal
from tests.builders import SURE as TYPED
from tests.engines import FLAG, Engine

from .test_rollouts import FLAG_ALONE, SURE, Desk

BEN = Principal("person:ben", "releaser", "person", roles={EVERYWHERE: "releaser"})
START = ("start", *FLAG_ALONE, *SURE)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    found = Desk(Engine(directory=tmp_path))
    done = found.run("env", "set", "production", "--four-eyes")
    assert done.exit_code == 0, done.output
    return found


def waiting(desk: Desk) -> str:
    """Return the id of what waits."""
    (one,) = all_waiting(desk)
    return one


def all_waiting(desk: Desk) -> list[str]:
    """Return the ids of what waits."""
    told = json.loads(desk.run("--json", "approvals", "list", "--state", "open").stdout)
    return [str(one["id"]) for one in told["approvals"]]


def approve(desk: Desk, id: str | None = None) -> None:
    some = desk.engine.services.approvals
    id = id or waiting(desk)
    seen = some.get(id, BEN).proposal.fingerprint
    some.approve(id, Approve.model_validate({**TYPED, "hash": seen}), BEN)


def test_a_start_that_has_to_wait_ends_with_8_and_says_where_to_approve(desk: Desk) -> None:
    done = desk.rollouts(*START)

    assert done.exit_code == exits.NOT_PERMITTED
    assert f"/approvals/{waiting(desk)}" in done.stderr
    assert desk.engine.rollouts.under_way() == []


def test_a_job_that_waits_goes_on_when_somebody_approves(desk: Desk) -> None:
    desk.at(60, lambda: approve(desk))

    done = desk.rollouts(*START, "--wait-for-approval", "1h")

    (view,) = desk.engine.rollouts.under_way()
    assert done.exit_code == exits.DONE, done.output
    assert f"✔ {view.rollout.id} is started" in done.stdout
    assert "http://flags.test/approvals/a-" in done.stderr
    assert 60 <= desk.engine.clock.seconds < 75


def test_a_job_that_runs_again_attaches_to_what_waits_and_to_what_came_of_it(desk: Desk) -> None:
    key = ("--idempotency-key", "run-17")
    desk.rollouts(*START, *key)
    desk.rollouts(*START, *key)
    approve(desk)

    done = desk.rollouts(*START, *key)

    (view,) = desk.engine.rollouts.under_way()
    assert (done.exit_code, view.rollout.id in done.stdout) == (exits.DONE, True)


@pytest.mark.parametrize("key", [(), ("--idempotency-key", "run-18")])
def test_a_second_run_under_another_key_finds_what_came_of_what_the_first_asked_for(
    desk: Desk, key: tuple[str, ...]
) -> None:
    first = desk.rollouts(*START, "--wait-for-approval", "2m", "--idempotency-key", "run-17")
    desk.at(desk.engine.clock.seconds + 60, lambda: approve(desk))

    again = desk.rollouts(*START, "--wait-for-approval", "1h", *key)

    (view,) = desk.engine.rollouts.under_way()
    assert first.exit_code == exits.TIMED_OUT
    assert (again.exit_code, view.rollout.id in again.stdout) == (exits.DONE, True), again.output


def test_one_that_waits_for_its_time_is_started_now_once_somebody_approves(desk: Desk) -> None:
    desk.rollouts(*START, "--at", "2027-01-31T22:00:00Z")
    approve(desk)
    (view,) = desk.engine.rollouts.under_way()
    desk.at(60, lambda: approve(desk))

    done = desk.rollouts("start", view.rollout.id, *SURE, "--wait-for-approval", "1h")

    assert done.exit_code == exits.DONE, done.output
    assert desk.engine.rollout(view.rollout.id).started is not None


def withdrawn(desk: Desk) -> None:
    desk.engine.services.approvals.withdraw(waiting(desk), Reasoned(), BEN)


def changed(desk: Desk) -> None:
    desk.engine.flags.kill(FLAG, "production", Reasoned(), BEN)


@pytest.mark.parametrize(
    ("what", "patience", "code", "words"),
    [
        (withdrawn, "1h", exits.NOT_PERMITTED, "was withdrawn"),
        (changed, "1h", exits.CONFLICT, "has lapsed"),
        (lambda _: None, "25h", exits.NOT_PERMITTED, "has expired"),
        (lambda _: None, "2m", exits.TIMED_OUT, "goes on waiting"),
    ],
    ids=["withdrawn", "changed", "expired", "time is up"],
)
def test_a_job_that_waits_in_vain_says_why(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    what: Callable[[Desk], None],
    patience: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.setattr(desk.engine, "tick", lambda: None)
    monkeypatch.setattr("sortition.cli.approvals.POLL_SECONDS", 600.0 if patience == "25h" else 5.0)
    desk.at(60, lambda: what(desk))

    done = desk.rollouts(*START, "--wait-for-approval", patience)

    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert desk.engine.rollouts.under_way() == []


def test_it_is_shown_listed_and_withdrawn(desk: Desk) -> None:
    desk.rollouts(*START)
    id = waiting(desk)

    listed = desk.run("approvals", "list", "--env", "production")
    shown = desk.run("approvals", "show", id)
    would = desk.run("approvals", "withdraw", id, "--dry-run")
    done = desk.run("approvals", "withdraw", id, "--reason", "not today")

    assert f"{id}  open" in listed.stdout
    assert "start a rollout of api in production, open" in shown.stdout
    assert f"http://flags.test/approvals/{id}" in shown.stdout
    assert "would withdraw" in would.stdout
    assert (done.exit_code, desk.run("approvals", "withdraw", id).exit_code) == (0, exits.CONFLICT)
    assert "withdrawn" in desk.run("approvals", "show", id).stdout


def shown(desk: Desk) -> str:
    done = desk.run("approvals", "show", waiting(desk))
    assert done.exit_code == exits.DONE, done.output
    return done.stdout


def test_a_start_is_shown_with_all_that_decides_whether_it_is_safe(
    desk: Desk, tmp_path: Path
) -> None:
    guard = {
        "name": "error-rate",
        "signal": {"source": "cloudwatch", "measure": "rate", "settings": {"metric": "none"}},
        "limit": 1.0,
        "on_breach": "hold",
        "no_data": "pass",
        "minimum_sample": 5000,
        "points": 3,
        "of": 5,
        "period": 30,
    }
    body = {
        "environment": "production",
        "service": "api",
        "version": "2.4.0",
        "targets": [{"kind": "flag", "name": FLAG}],
        "schedule": "5%:5m:approve,50%:10m:n=900,100%:30m:keep=1%:overtime=proceed",
        "guards": [guard],
        "hold_if_lost": "2m",
    }
    path = tmp_path / "rollout.json"
    path.write_text(json.dumps(body))

    done = desk.rollouts("start", "--file", str(path), *SURE)
    assert done.exit_code == exits.NOT_PERMITTED, done.output
    told = shown(desk)
    assert (
        "guard error-rate (rate from cloudwatch, metric=none): ≤ 100 %, 3 of 5 points of 30s, "
        "from 5,000 requests; else holds, without data passes"
    ) in told
    assert f"moves flag/{FLAG}" in told
    assert "step 1/3: 5 % for 5m, when somebody approves" in told
    assert "step 2/3: 50 % for 10m, from 900 requests" in told
    assert "step 3/3: 100 % for 30m, 1 % kept on the old version meanwhile" in told
    assert "not decided in time: goes on all the same" in told
    assert "holds if not watched for 2m" in told


def test_a_verb_is_shown_with_its_step_and_the_next_share(desk: Desk) -> None:
    desk.rollouts(*START, "--at", "2027-01-31T22:00:00Z")
    assert "begins at 2027-01-31T22:00:00Z" in shown(desk)
    approve(desk)
    (view,) = desk.engine.rollouts.under_way()

    desk.rollouts("start", view.rollout.id, *SURE)

    assert "before the first step; next 5 %" in shown(desk)


def test_a_flag_is_shown_before_and_after(desk: Desk) -> None:
    done = desk.run("flags", "set", FLAG, "--env", "production", "--share", "25", *SURE)
    assert done.exit_code == exits.NOT_PERMITTED, done.output

    assert "share: 0 % → 25 %" in shown(desk)


def test_an_environment_says_that_two_are_wanted(desk: Desk) -> None:
    assert "waits for a second person" in desk.run("env", "get", "production").stdout
    assert "critical, four eyes" in desk.run("env", "list").stdout

    desk.run("env", "set", "production", "--no-four-eyes")

    assert "second person" not in desk.run("env", "get", "production").stdout


# --- shares that a file says ----------------------------------------------------------------------


@pytest.fixture
def file(desk: Desk, tmp_path: Path) -> Path:
    """A file that shrinks one flag and enlarges two others; each is there."""
    for key in ("small", "ranker"):
        assert desk.run("flags", "create", key).exit_code == 0
    path = tmp_path / "flags.yaml"
    path.write_text(
        f"flags: {{{FLAG}: {{production: 20}}, ranker: {{production: 30}}, small: {{staging: 0}}}}"
    )
    assert desk.run("flags", "set", "small", "--env", "staging", "--share", "50").exit_code == 0
    return path


def apply(desk: Desk, path: Path, *words: str) -> Result:
    return desk.run(*words, "flags", "apply", "-f", str(path), *SURE, "--idempotency-key", "run-17")


def test_what_waits_keeps_nothing_else_of_a_file_from_being_done(desk: Desk, file: Path) -> None:
    done = apply(desk, file, "--json")

    told = json.loads(done.stdout)["error"]
    assert (done.exit_code, told["code"]) == (exits.NOT_PERMITTED, "approval_required")
    assert [one["flag"] for one in told["done"]] == ["small"]
    assert [one["flag"] for one in told["approvals"]] == [FLAG, "ranker"]
    assert {one["approval"] for one in told["approvals"]} == set(all_waiting(desk))


def test_a_file_is_applied_again_after_one_of_two_approvals(desk: Desk, file: Path) -> None:
    apply(desk, file)
    first, second = all_waiting(desk)
    approve(desk, first)

    again = apply(desk, file)
    assert (again.exit_code, all_waiting(desk)) == (exits.NOT_PERMITTED, [second]), again.output
    assert f"http://flags.test/approvals/{second}" in again.stderr
    approve(desk, second)
    last = apply(desk, file)

    assert (last.exit_code, all_waiting(desk)) == (exits.DONE, []), last.output
    assert "Everything is as the file says" in last.stderr
