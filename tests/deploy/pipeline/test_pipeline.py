"""deploy.yml against a real server: success, rollback, cancelled, run again, server away; each time
the right exit code, summary and final state."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.pipeline.runner import ACTION, Done, Job, Step
from tests.deploy.pipeline.server import Server
from tests.servers import wait_until

QUICK = "5%:1s,50%:1s,100%"
SLOW = "5%:30s,100%"
NUMBERS = itertools.count(1)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def flag(server: Server) -> str:
    key = f"flag-{next(NUMBERS)}"
    server.ask("POST", "/api/v1/flags", {"key": key})
    return key


@pytest.fixture
def job(server: Server, flag: str, tmp_path: Path) -> Callable[..., Job]:
    """Return a builder of the production job over a rollout of the test's own flag."""

    def made(schedule: str = QUICK, **more: Any) -> Job:
        release = tmp_path / "release"
        release.mkdir(exist_ok=True)
        content = {
            "environment": "production",
            "service": "api",
            "schedule": schedule,
            "targets": [{"kind": "flag", "name": flag}],
            "guards": "none",
        }
        (release / "production.yaml").write_text(json.dumps(content))
        return Job(
            tmp_path,
            "production",
            {"SORTITION_URL": server.url},
            {"SORTITION_TOKEN": server.token("deploy", "production")},
            overrides={"deployment": "", "lost-after": "10s"},
            **more,
        )

    return made


def at_5(server: Server, flag: str, act: Callable[[], Any] | None = None) -> Callable[[Step], bool]:
    """Return what cancels a job when it watches and 5 % are exposed; or does something then."""
    acted = threading.Event()

    def cancel(running: Step) -> bool:
        watches = running.name == "watch" and running.says("watched for")
        if acted.is_set() or not watches or server.share(flag) != 5:
            return False
        acted.set()
        if act is None:
            return True
        act()
        return False

    return cancel


def the_rollout(server: Server, done: Done) -> Any:
    """Return the rollout that a job started, as it stands now."""
    return server.rollout(done.outputs["start"]["id"])


def take_back(server: Server, flag: str) -> None:
    """Let a responder take the live rollout of a flag back."""
    (it,) = [
        each
        for each in server.rollouts()
        if not each["terminal"] and each["targets"][0]["name"] == flag
    ]
    server.ask("POST", f"/api/v1/rollouts/{it['id']}/rollback", {"reason": "checkout is slow"})


def evidence(job: Job) -> Any:
    """Return what the job kept."""
    with zipfile.ZipFile(job.workspace / "rollout-evidence.zip") as packed:
        return json.loads(packed.read("evidence.json"))


# --- how it ends ----------------------------------------------------------------------------------


def test_success(server: Server, flag: str, job: Callable[..., Job]) -> None:
    deploy = job()

    done = deploy.run()

    assert done.codes == {"start": 0, "watch": 0, "finish": 0}, done.text
    assert done.status == "success"
    assert done.summary.startswith("### api 0123456789abcdef in production: ✔ Complete\n")
    assert the_rollout(server, done)["state"] == "completed"
    assert server.share(flag) == 100
    assert "It is at 100 %." in done.text["finish"]
    kept = evidence(deploy)
    assert kept["rollout"]["id"] == done.outputs["start"]["id"]
    reasons = {entry["reason"] for entry in kept["entries"]}
    assert "Deploy run 7" in reasons


@pytest.mark.slow
def test_a_rollback_turns_the_job_red_with_3_until_a_new_run(
    server: Server, flag: str, job: Callable[..., Job]
) -> None:
    deploy = job(SLOW)

    done = deploy.run(at_5(server, flag, lambda: take_back(server, flag)))

    assert done.codes == {"start": 0, "watch": 3, "finish": 0}, done.text
    assert done.status == "failure"
    assert "### api 0123456789abcdef in production: ✖ Rolled back" in done.summary
    assert "checkout is slow" in done.summary
    assert the_rollout(server, done)["state"] == "rolled_back"
    assert server.share(flag) == 0
    assert evidence(deploy)["rollout"]["state"] == "rolled_back"

    again = deploy.run()
    anew = job(QUICK, run_id="4712").run()

    assert (again.codes["watch"], anew.codes["watch"]) == (3, 0)
    assert again.outputs["start"]["id"] == done.outputs["start"]["id"]
    assert anew.outputs["start"]["id"] != done.outputs["start"]["id"]


@pytest.mark.slow
def test_a_cancelled_job_puts_it_on_hold_and_one_that_runs_again_follows_it(
    server: Server, flag: str, job: Callable[..., Job]
) -> None:
    deploy = job("5%:4s,100%")

    first = deploy.run(at_5(server, flag))

    assert first.codes == {"start": 0, "watch": 128 + signal.SIGINT, "finish": 0}, first.text
    assert first.status == "cancelled"
    assert "### api 0123456789abcdef in production: ‖ Paused" in first.summary
    it = the_rollout(server, first)
    assert (it["state"], it["step"], server.share(flag)) == ("paused", 1, 5)
    assert "It has not ended" in first.text["finish"]
    assert evidence(deploy)["rollout"]["state"] == "paused"

    sure = {"reason": "it was a mistake", "confirm_environment": "production"}
    server.ask("POST", f"/api/v1/rollouts/{it['id']}/resume", sure, it["revision"])
    again = deploy.run()

    assert again.codes == {"start": 0, "watch": 0, "finish": 0}, again.text
    assert again.outputs["start"]["id"] == it["id"]
    assert the_rollout(server, again)["state"] == "completed"

    ended = deploy.run()

    assert ended.codes == {"start": 0, "watch": 0, "finish": 0}, ended.text
    assert ended.outputs["start"] == {"id": it["id"], "state": "completed"}
    assert sum(each["targets"][0]["name"] == flag for each in server.rollouts()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.timeout(300))])
def test_a_server_that_is_away_in_the_middle_is_outlived(
    server: Server, flag: str, job: Callable[..., Job], seconds: int
) -> None:
    """For a minute it is away longer than the job may go unheard: the rollout holds until it is
    heard again, and goes on."""

    def away() -> None:
        server.stop()
        time.sleep(seconds)
        server.start()

    done = job("5%:4s,100%").run(at_5(server, flag, away))

    assert done.codes == {"start": 0, "watch": 0, "finish": 0}, done.text
    assert done.text["watch"].count("UNREACHABLE") == 1
    assert "the server answers again" in done.text["watch"]
    assert the_rollout(server, done)["state"] == "completed"
    assert "✔ Complete" in done.summary


@pytest.mark.slow
def test_a_machine_that_dies_leaves_nothing_running_unseen(
    server: Server, flag: str, job: Callable[..., Job]
) -> None:
    deploy = job("5%:60s,100%")
    dies = at_5(server, flag)

    def die(step: Step) -> bool:
        if dies(step):
            step.process.send_signal(signal.SIGKILL)
        return False

    done = deploy.run(die)

    # What `finish` does for a job that failed changes nothing about a rollout on its way.
    id = done.outputs["start"]["id"]
    assert done.codes["watch"] == -signal.SIGKILL
    wait_until(lambda: server.rollout(id)["state"] == "holding", "the rollout to hold", 30)
    it = server.rollout(id)
    assert (it["waiting"]["why"], server.share(flag)) == ("watcher", 5)


# --- what does not even begin ---------------------------------------------------------------------


def test_a_start_that_is_refused_starts_nothing(
    server: Server, flag: str, job: Callable[..., Job]
) -> None:
    deploy = job()
    deploy.overrides = {**deploy.overrides, "confirm": ""}

    done = deploy.run()

    assert done.codes == {"start": 8, "finish": 0}
    assert "confirmation_required" in done.text["start"]
    assert "No rollout was started" in done.text["finish"]
    assert server.share(flag) == 0


@pytest.mark.slow
def test_a_job_waits_until_somebody_approves_on_the_page(
    server: Server, flag: str, job: Callable[..., Job]
) -> None:
    ben = somebody(server, "ben")
    deploy = job()
    deploy.overrides = {**deploy.overrides, "wait-for-approval": "2m"}
    four_eyes(server, True)
    approving = threading.Thread(target=approve, args=(server, ben))
    try:
        approving.start()
        done = deploy.run()
    finally:
        approving.join(60)
        ben.close()
        four_eyes(server, False)

    assert done.codes == {"start": 0, "watch": 0, "finish": 0}, done.text
    assert f"{server.url}/approvals/a-" in done.text["start"]
    assert the_rollout(server, done)["state"] == "completed"


@pytest.fixture
def two_wanted(server: Server) -> Iterator[None]:
    four_eyes(server, True)
    yield
    four_eyes(server, False)


@pytest.mark.slow
@pytest.mark.usefixtures("two_wanted")
def test_a_job_that_is_cancelled_while_it_waits_takes_back_what_it_asked_for(
    server: Server, flag: str, job: Callable[..., Job]
) -> None:
    deploy = job()
    deploy.overrides = {**deploy.overrides, "wait-for-approval": "2m"}

    done = deploy.run(lambda step: step.says("its page: "))

    id = done.outputs["start"]["approval"]
    assert done.codes == {"start": 128 + signal.SIGINT, "finish": 0}, done.text
    assert f"{id} is withdrawn" in done.text["finish"]
    assert server.ask("GET", f"/api/v1/approvals/{id}")["state"] == "withdrawn"
    assert server.share(flag) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("two_wanted")
def test_a_job_that_does_not_wait_leaves_what_it_asked_for_to_be_approved(
    server: Server, flag: str, job: Callable[..., Job]
) -> None:
    deploy = job("5%:60s,100%")

    done = deploy.run()

    id = done.outputs["start"]["approval"]
    assert done.codes == {"start": 8, "finish": 0}, done.text
    assert f"/approvals/{id}" in done.text["start"]
    assert server.ask("GET", f"/api/v1/approvals/{id}")["state"] == "open"

    # One that is cancelled just after somebody approved holds what came of it.
    with closing(somebody(server, "cleo")) as cleo:
        approve(server, cleo)
    script = str(ACTION / "rollout.sh")
    told = {
        "PATH": deploy.path,
        "SORTITION_URL": server.url,
        "SORTITION_TOKEN": deploy.secrets["SORTITION_TOKEN"],
        "ROLLOUT_PROPOSAL": id,
        "ROLLOUT_JOB": "cancelled",
        "ROLLOUT_EVIDENCE": str(deploy.workspace / "rollout-evidence.zip"),
    }
    finished = subprocess.run([script, "finish"], env=told, timeout=60, check=True)

    assert finished.returncode == 0
    assert evidence(deploy)["rollout"]["state"] == "paused"


def four_eyes(server: Server, wanted: bool) -> None:
    path = "/api/v1/environments/production"
    server.ask("PATCH", path, {"four_eyes": wanted}, server.ask("GET", path)["revision"])


def somebody(server: Server, login: str) -> httpx.Client:
    """Return the browser of a person who was invited and has signed in."""
    told = {"name": login, "login": login, "role": "releaser"}
    path = server.ask("POST", "/api/v1/people", told)["path"]
    browser = httpx.Client(base_url=server.url, headers={"Sec-Fetch-Site": "same-origin"})
    word = {"password": "correct horse battery", "again": "correct horse battery"}
    assert browser.post(path, data=word).status_code == 303
    return browser


def approve(server: Server, browser: httpx.Client) -> None:
    """Approve of what waits, on its page."""
    path = "/api/v1/approvals?state=open"
    wait_until(lambda: bool(server.ask("GET", path)["approvals"]), "something to wait", 60)
    there = server.ask("GET", path)["approvals"][0]["page"]
    form = browser.get(there).text.split(f'action="{there}/approve"')[1]
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))
    typed = {"reason": "looks right", "confirm_environment": "production"}
    assert browser.post(f"{there}/approve", data={**hidden, **typed}).status_code == 303


def test_a_server_that_never_answers_is_6(job: Callable[..., Job]) -> None:
    deploy = job()
    deploy.variables = {"SORTITION_URL": "http://127.0.0.1:9"}

    done = deploy.run()

    assert done.codes == {"start": 6, "finish": 0}


@pytest.mark.parametrize("key", ["a key", "a'b", "", "x" * 101])
def test_a_key_that_could_mean_something_else_is_refused(job: Callable[..., Job], key: str) -> None:
    deploy = job()
    deploy.overrides = {**deploy.overrides, "key": key}

    assert deploy.run().codes["start"] == 2
