"""`flagserver aws doctor`: an account that is well, and one thing wrong with it at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from examples.awsfake import scene as scenes
from flagserver import account, alarms, inventory
from flagserver.aws import Arn
from flagserver.cloud import aws as command
from flagserver.domain.hooks import LIFECYCLE
from flagserver.findings import FAILED, OK, WARNING, Finding
from tests.awsfake.double import Double, double, environment_of

FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:CodeDeployHook_sortition"
GROUP = f"{scenes.APPLICATION}/{scenes.GROUP}"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


class Account:
    """What a well-kept account has: a pair with its alarms, a group that they stop, a deployment
    with a hook that reports."""

    def __init__(self, aws: Double) -> None:
        self.aws = aws
        self.scene = aws.scene()
        self.codedeploy = aws.client("codedeploy")
        self.elb = aws.client("elbv2")
        self.cloudwatch = aws.client("cloudwatch")
        pair = alarms.pair_of(aws.aws(), self.scene.blue, self.scene.green)
        self.made = alarms.standard(pair)
        alarms.create(aws.aws(), self.made, Arn.parse(self.scene.blue).region)
        self.test_listener = self.listener(8081)
        self.balancer = self.routes(self.test_listener)
        scenes.build_codedeploy(
            aws.url,
            self.scene,
            loadBalancerInfo=self.balancer,
            alarmConfiguration={"enabled": True, "alarms": [{"name": "sortition-shop"}]},
        )

    def listener(self, port: int) -> str:
        made = self.elb.create_listener(
            LoadBalancerArn=self.scene.balancer,
            Protocol="HTTP",
            Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.scene.blue}],
        )
        return str(made["Listeners"][0]["ListenerArn"])

    def routes(self, test: str | None) -> dict[str, Any]:
        told: dict[str, Any] = scenes.deployment_group(self.scene)["loadBalancerInfo"]
        if test is not None:
            told["targetGroupPairInfoList"][0]["testTrafficRoute"] = {"listenerArns": [test]}
        return told

    def update(self, **told: Any) -> None:
        self.codedeploy.update_deployment_group(
            applicationName=scenes.APPLICATION,
            currentDeploymentGroupName=scenes.GROUP,
            **told,
        )

    def deploy(self, *hooks: str, later: float = 0.0) -> str:
        revision = scenes.revision(2, **dict.fromkeys(hooks, FUNCTION))
        id = scenes.deploy(self.aws.url, revision=revision)
        self.aws.tell("clock", advance=later)
        return id

    def alarm(self, name: str, metric: str, limit: float, **told: Any) -> None:
        where = {"TargetGroup": self.scene.green, "LoadBalancer": self.scene.balancer}
        shapes = {"TargetGroup": ":", "LoadBalancer": ":loadbalancer/"}
        self.cloudwatch.put_metric_alarm(
            **{
                "AlarmName": name,
                "Namespace": alarms.ALB,
                "MetricName": metric,
                "Dimensions": [
                    {"Name": key, "Value": arn.rpartition(shapes[key])[2]}
                    for key, arn in where.items()
                ],
                "Period": 60,
                "EvaluationPeriods": 2,
                "Threshold": limit,
                "ComparisonOperator": "GreaterThanThreshold",
                **({} if "ExtendedStatistic" in told else {"Statistic": "Sum"}),
                **told,
            }
        )

    def examine(self, **specs: str) -> list[Finding]:
        now = float(self.aws.ask("clock")["now"])
        looked = inventory.Account(self.aws.aws())
        return [
            finding
            for finding in account.examine(looked, lambda: now, specs)
            # The double's answers have the machine's date; see the tests of the clock.
            if finding.check != "clock"
        ]

    def wrong(self, **specs: str) -> list[tuple[str, str, str]]:
        """Return (check, state, words) of what is not well."""
        return [
            (f.check, f.state, f"{f.detail} {f.advice}")
            for f in self.examine(**specs)
            if f.state != OK
        ]


@pytest.fixture
def here(running: Double) -> Account:
    running.reset()
    for mesh in running.client("appmesh").list_meshes()["meshes"]:
        running.client("appmesh").delete_mesh(meshName=mesh["meshName"])
    return Account(running)


def only(found: list[tuple[str, str, str]]) -> tuple[str, str, str]:
    (one,) = found
    return one


# --- well -----------------------------------------------------------------------------------------


def test_an_account_that_is_well(here: Account):
    found = here.examine()

    assert [(f.check, f.state) for f in found] == [
        (name, OK) for name in account.SAID_WELL if name != "clock"
    ]


def test_an_empty_account_is_well(running: Double):
    running.reset()

    found = account.examine(inventory.Account(running.aws()), time.time, {})

    assert [f for f in found if f.state != OK] == []


# --- one thing wrong ------------------------------------------------------------------------------


def test_a_listener_that_two_groups_move(here: Account):
    second = scenes.deployment_group(here.scene, deploymentGroupName="second")
    second["ecsServices"] = [{"clusterName": "main", "serviceName": "other"}]
    here.codedeploy.create_deployment_group(**second)

    told = [words for check, _, words in here.wrong() if check == "listener"]

    assert len(told) == 1
    assert here.scene.listener in told[0]
    assert f"CodeDeploy's group {GROUP} and CodeDeploy's group shop/second" in told[0]


def test_a_listener_that_a_group_and_an_ecs_service_move(here: Account):
    # The double's ECS names no rules of listeners.
    rule = here.scene.rule
    services = [
        {
            "serviceArn": "arn:aws:ecs:eu-west-1:1:service/main/web",
            "loadBalancers": [{"advancedConfiguration": {"productionListenerRule": rule}}],
        }
    ]
    looked = inventory.Account(here.aws.aws())
    looked.__dict__["services"] = services

    (finding,) = account.listeners(looked)

    assert (finding.check, finding.state) == ("listener", FAILED)
    assert "the ECS service arn:aws:ecs:eu-west-1:1:service/main/web" in finding.detail


def test_tests_on_the_production_listener(here: Account):
    here.update(loadBalancerInfo=here.routes(here.scene.listener))

    check, state, words = only(here.wrong())

    assert (check, state) == ("listener", FAILED)
    assert f"{GROUP} tests on its production listener" in words


def test_an_alarm_in_milliseconds(here: Account):
    here.alarm("slow", "TargetResponseTime", 1000, ExtendedStatistic="p95")

    check, state, words = only(here.wrong())

    assert (check, state) == ("alarm", FAILED)
    assert "slow fires above 1000 SECONDS" in words
    assert "1000 ms are 1." in words


def test_an_alarm_that_takes_a_count_for_a_percentage(here: Account):
    here.alarm("errors", "HTTPCode_Target_5XX_Count", 1)

    check, state, words = only(here.wrong())

    assert (check, state) == ("alarm", WARNING)
    assert "a count is no percentage" in words


def test_an_alarm_on_one_target_group_only(here: Account):
    blue = [each.name for each in here.made if "-shop-blue-" in each.name]
    here.cloudwatch.delete_alarms(AlarmNames=[name for name in blue if name.endswith("-hosts")])

    check, state, words = only(here.wrong())

    assert (check, state) == ("alarm", FAILED)
    assert "sortition-shop-shop-green-hosts watches UnHealthyHostCount of targetgroup/" in words
    assert "CodeDeploy swaps the two groups" in words


def test_an_alarm_that_does_not_exist(here: Account):
    here.update(alarmConfiguration={"enabled": True, "alarms": [{"name": "gone"}]})

    check, state, words = only(here.wrong())

    assert (check, state) == ("group", FAILED)
    assert "the alarm gone, which does not exist" in words


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"alarmConfiguration": {"enabled": False, "alarms": []}}, "no alarm stops"),
        (
            {
                "alarmConfiguration": {
                    "enabled": True,
                    "ignorePollAlarmFailure": True,
                    "alarms": [{"name": "sortition-shop"}],
                }
            },
            "goes on when its alarms cannot be asked",
        ),
        (
            {"autoRollbackConfiguration": {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}},
            "does not go back by itself",
        ),
    ],
)
def test_a_group_that_nothing_stops_or_takes_back(here: Account, told: Any, said: str):
    here.update(**told)

    check, state, words = only(here.wrong())

    assert (check, state) == ("group", WARNING)
    assert said in words


def test_a_hook_that_has_not_reported_for_long(here: Account):
    id = here.deploy("BeforeInstall")
    here.aws.tell("clock", advance=30)
    assert here.wrong() == []

    here.aws.tell("clock", advance=account.HOOK_SECONDS + 1)

    check, state, words = only(here.wrong())
    assert (check, state) == ("hook", WARNING)
    assert f"BeforeInstall of {id} ({GROUP}) has not reported for 20 minutes, or is held" in words


def test_a_hook_that_never_reported(here: Account):
    id = here.deploy("AfterInstall", later=2 * 3600)
    told = here.codedeploy.get_deployment(deploymentId=id)["deploymentInfo"]
    assert told["status"] == "Failed"

    check, state, words = only(here.wrong())

    assert (check, state) == ("hook", FAILED)
    assert f"AfterInstall of {id} ({GROUP}) never reported" in words


def test_a_test_hook_without_a_test_listener(here: Account):
    here.update(loadBalancerInfo=here.routes(None))
    here.deploy("AfterAllowTestTraffic")

    check, state, words = only(here.wrong())

    assert (check, state) == ("appspec", FAILED)
    assert f"the last AppSpec of {GROUP}: AfterAllowTestTraffic is used" in words
    assert "no test listener" in words


def test_an_app_spec_that_is_given(here: Account):
    spec = scenes.app_spec(2, Validate="x").replace("arn:aws:ecs", "task")

    told = here.wrong(**{"appspec.yaml": spec})

    assert {check for check, _, _ in told} == {"appspec"}
    assert any("appspec.yaml: TaskDefinition is" in words for _, _, words in told)
    assert any("There is no hook Validate." in words for _, _, words in told)


def test_app_mesh(here: Account):
    here.aws.client("appmesh").create_mesh(meshName="old", spec={})

    check, state, words = only(here.wrong())

    assert (check, state) == ("app mesh", FAILED)
    assert "AWS ended App Mesh on 2026-09-30, and it is in use: old" in words
    assert "VPC Lattice" in words


def test_permissions_that_are_missing(here: Account):
    # What leads to a listener may be read, or there would be none to ask about.
    for action in account.PROBES:
        here.aws.fault(action.partition(":")[2], "deny", times=99)
    looked = inventory.Account(here.aws.aws())
    looked.__dict__["services"] = []

    told = {finding.detail for finding in account.permissions(looked)}
    here.aws.well()

    who = "arn:aws:sts::123456789012:user/moto"
    assert told == {f"{action} is missing for {who}" for action in account.PROBES}


def test_what_may_not_be_read_keeps_nothing_else_from_being_looked_at(here: Account):
    here.aws.client("appmesh").create_mesh(meshName="old", spec={})
    here.aws.fault("DescribeAlarms", "deny", times=99)

    told = {check: words for check, _, words in here.wrong()}
    here.aws.well()

    assert set(told) == {"permission", "alarm", "group", "app mesh"}
    assert "may not: cloudwatch describe_alarms" in told["alarm"]
    assert "deploy/iam" in told["alarm"]
    assert "in use: old" in told["app mesh"]


def test_aws_does_not_answer(here: Account):
    here.aws.fault("*", "fail", times=999)
    told = here.wrong()
    here.aws.well()

    assert {state for _, state, _ in told} == {FAILED}
    assert all("could not be looked at" in words for _, _, words in told)


# --- the clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skew", "said"),
    [
        (0, None),
        (20, None),
        (90, "90 s ahead of AWS; AWS refuses five minutes"),
        (-90, "90 s behind AWS"),
        (400, "400 s ahead of AWS."),
    ],
)
def test_a_clock_that_is_wrong(running: Double, skew: float, said: str | None):
    looked = inventory.Account(running.aws())

    found = list(account.clock(looked, lambda: time.time() + skew))

    if said is None:
        assert found == []
        return
    # The date of an answer has whole seconds.
    seconds = (abs(skew) + by for by in (-1, 0, 1))
    close = [said.replace(f"{abs(skew):.0f} s", f"{each:.0f} s") for each in seconds]
    assert found[0].state == FAILED
    assert any(each in found[0].detail for each in close), found[0].detail


def test_aws_refuses_what_a_wrong_clock_signed(running: Double):
    from flagserver.aws import AwsRefused

    class Late(inventory.Account):
        def read(self, service: str, operation: str, **_: Any) -> Any:
            raise AwsRefused("sts get_caller_identity: Signature expired", "RequestExpired")

    (finding,) = account.clock(Late(running.aws()), time.time)

    assert "AWS refuses what this machine signs" in finding.detail


# --- the command ----------------------------------------------------------------------------------


def run(*words: str) -> Any:
    return CliRunner().invoke(command, ["doctor", *words])


def test_the_command_says_what_is_wrong_and_ends_with_9(here: Account, tmp_path: Path):
    file = tmp_path / "appspec.yaml"
    file.write_text("version: 1.0\n")

    told = run("--appspec", str(file), "--application", scenes.APPLICATION)

    assert told.exit_code == 9
    assert "✖ appspec" in told.output
    assert "Its version is 1.0." in told.output
    assert "✔ app mesh" in told.output


def test_the_command_as_json(here: Account):
    well = run("--json")
    assert (well.exit_code, json.loads(well.output)["ok"]) == (0, True)

    here.aws.client("appmesh").create_mesh(meshName="old", spec={})
    told = run("--json")

    assert told.exit_code == 9
    checks = {c["check"]: c for c in json.loads(told.output)["checks"]}
    assert checks["app mesh"]["state"] == "failed"
    assert checks["app mesh"]["advice"]


def test_a_warning_is_no_failure(here: Account):
    here.alarm("errors", "HTTPCode_Target_5XX_Count", 1)

    told = run()

    assert told.exit_code == 0, told.output
    assert "! alarm" in told.output


def test_it_changes_nothing(here: Account):
    here.deploy(*LIFECYCLE)
    here.aws.forget_calls()
    run()

    reads = ("Describe", "Get", "List", "BatchGet")
    assert [call for call in here.aws.calls() if not call.startswith(reads) and call] == []
