"""deploy.yml with CodeDeploy: the deployment is created once, whatever becomes of the job, and the
rollout follows it; against a real server and the AWS double."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from examples.awsfake import scene as scenes
from examples.awsfake.scene import APPLICATION, GROUP
from tests.awsfake.deploying import Stage
from tests.awsfake.double import Double, double
from tests.deploy.pipeline.runner import BIN, Job, Step
from tests.deploy.pipeline.server import Server

FLAG = "new-search"
AWS = Path(__file__).with_name("aws.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Double]:
    with double() as found:
        yield found


@dataclass
class Site:
    """A server, its cloud, and a repository that deploys."""

    server: Server
    stage: Stage
    workspace: Path
    aws: Double
    token: str

    def job(self, **more: Any) -> Job:
        release = self.workspace / "release"
        release.mkdir(exist_ok=True)
        rollout = {
            "environment": "production",
            "service": "api",
            "targets": [{"kind": "flag", "name": FLAG}],
            "guards": "none",
        }
        (release / "production.yaml").write_text(json.dumps(rollout))
        deployment = {
            "applicationName": APPLICATION,
            "deploymentGroupName": GROUP,
            "revision": scenes.revision(2),
        }
        (release / "deployment.json").write_text(json.dumps(deployment))
        return Job(
            self.workspace,
            "production",
            {"SORTITION_URL": self.server.url},
            {"SORTITION_TOKEN": self.token},
            overrides={"lost-after": "10s", **more},
            path=f"{self.workspace / 'bin'}:{BIN}:/usr/bin:/bin",
            environ=dict(self.aws.environment()),
        )

    def asks_at(self, hook: str) -> None:
        """Let the repository's deployment ask a function at this hook."""
        path = self.workspace / "release" / "deployment.json"
        told = json.loads(path.read_text())
        function = "arn:aws:lambda:eu-west-1:123456789012:function:CodeDeployHook_sortition"
        path.write_text(json.dumps(told | {"revision": scenes.revision(2, **{hook: function})}))

    def goes_on(self, step: Step) -> bool:
        """Let CodeDeploy's time go by while a job watches; never cancel."""
        if step.name == "watch":
            self.stage.later(15)
            time.sleep(0.2)
        return False

    def deployments(self) -> list[str]:
        """Those that nobody but the pipeline created."""
        ids = self.stage.client.list_deployments()["deployments"]
        found = [self.stage.info(id) for id in ids]
        return [
            i["deploymentId"] for i in found if i.get("description", "").startswith("sortition")
        ]


@pytest.fixture
def site(cloud: Double, tmp_path: Path) -> Iterator[Site]:
    cloud.reset()
    cloud.turn(time.time())
    stage = Stage(cloud)
    stage.deploy(1)
    stage.later(3600)
    server = Server(tmp_path / "server", more=dict(cloud.environment()))
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "aws"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {AWS} "$@"\n')
    command.chmod(0o755)
    server.start()
    try:
        server.ask("POST", "/api/v1/flags", {"key": FLAG})
        yield Site(server, stage, tmp_path, cloud, server.token("deploy", "production"))
    finally:
        server.stop()


def test_the_flags_follow_the_deployment_to_its_end(site: Site) -> None:
    done = site.job().run(site.goes_on)

    assert done.codes == {"start": 0, "watch": 0, "finish": 0}, done.text
    assert site.deployments() == [done.outputs["start"]["deployment"]]
    assert site.server.share(FLAG) == 100
    assert "✔ Complete" in done.summary
    info = site.stage.info(done.outputs["start"]["deployment"])
    assert (info["status"], info["description"]) == ("Succeeded", "sortition run 4711-production")


def test_one_that_codedeploy_takes_back_turns_the_job_red(site: Site) -> None:
    stopped: list[str] = []

    def breaks(step: Step) -> bool:
        site.goes_on(step)
        if step.name == "watch" and not stopped and site.server.share(FLAG) == 10:
            (deployment,) = stopped[:] = site.deployments()
            site.stage.client.stop_deployment(deploymentId=deployment, autoRollbackEnabled=True)
        return False

    done = site.job().run(breaks)

    assert done.codes == {"start": 0, "watch": 3, "finish": 0}, done.text
    assert site.server.share(FLAG) == 0
    assert r"MANUAL\_STOP" in done.summary


def test_a_job_that_was_cut_off_after_creating_finds_its_deployment(site: Site) -> None:
    # The start is refused when the deployment is there already.
    first = site.job(confirm="").run()
    assert first.codes == {"start": 8, "finish": 0}, first.text
    (deployment,) = site.deployments()

    again = site.job().run(site.goes_on)

    assert again.codes == {"start": 0, "watch": 0, "finish": 0}, again.text
    assert again.outputs["start"]["deployment"] == deployment
    assert site.deployments() == [deployment]


def test_a_cancelled_job_that_runs_again_follows_both(site: Site) -> None:
    def cancel(step: Step) -> bool:
        site.goes_on(step)
        return step.name == "watch" and step.says("watched for")

    first = site.job().run(cancel)
    assert first.codes["watch"] == 128 + signal.SIGINT, first.text
    it = site.server.rollout(first.outputs["start"]["id"])
    sure = {"reason": "it was a mistake", "confirm_environment": "production"}
    site.server.ask("POST", f"/api/v1/rollouts/{it['id']}/resume", sure, it["revision"])

    again = site.job().run(site.goes_on)

    assert again.codes == {"start": 0, "watch": 0, "finish": 0}, again.text
    assert again.outputs["start"]["id"] == it["id"]
    assert len(site.deployments()) == 1


def test_nothing_is_created_while_the_server_is_away(site: Site) -> None:
    job = site.job()
    job.variables = {"SORTITION_URL": "http://127.0.0.1:9"}

    done = job.run()

    assert done.codes == {"start": 6, "finish": 0}, done.text
    assert site.deployments() == []


def test_where_two_are_wanted_a_deployment_without_a_hook_is_not_created(site: Site) -> None:
    four_eyes(site)

    done = site.job().run()

    assert done.codes == {"start": 2, "finish": 0}, done.text
    assert "no hook of this deployment waits for them" in done.text["start"]
    assert site.deployments() == []


def test_where_two_are_wanted_a_deployment_waits_at_its_hook(site: Site) -> None:
    four_eyes(site)
    job = site.job()
    site.asks_at("BeforeAllowTraffic")

    done = job.run()

    assert done.codes == {"start": 8, "finish": 0}, done.text
    assert site.deployments() == [done.outputs["start"]["deployment"]]
    there = site.server.ask("GET", f"/api/v1/approvals/{done.outputs['start']['approval']}")
    assert (there["state"], there["environment"]) == ("open", "production")


def four_eyes(site: Site) -> None:
    path = "/api/v1/environments/production"
    revision = site.server.ask("GET", path)["revision"]
    site.server.ask("PATCH", path, {"four_eyes": True}, revision)


def test_what_aws_refuses_ends_the_start(site: Site) -> None:
    site.stage.deploy(3)

    done = site.job().run()

    assert set(done.codes) == {"start", "finish"}
    assert done.codes["start"] != 0
    assert "DeploymentLimitExceededException" in done.text["start"]
    assert "No rollout was started" in done.text["finish"]
