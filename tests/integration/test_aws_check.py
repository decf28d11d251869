"""`flagserver aws check`: against the double, which does what Sortition assumes of AWS."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from examples.awsfake import scene as scenes
from examples.awsfake.scene import REGION
from flagserver import check, checkreport
from flagserver.checkstack import Place, Stack
from flagserver.cloud import aws as command
from tests.awsfake.double import Double, double, environment_of

ACCOUNT = "123456789012"
NAME = "sortition-check-0a1b2c"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


class Account:
    """An account with a cluster and two subnets, and whose ECS starts the tasks of the check's
    service: time passes while the check sleeps."""

    def __init__(self, aws: Double) -> None:
        self.aws = aws
        aws.client("ecs").create_cluster(clusterName="main")
        network = aws.client("ec2")
        found = network.describe_subnets()["Subnets"][:2]
        (vpc,) = {each["VpcId"] for each in found}
        groups = network.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
        self.group = groups["SecurityGroups"][0]["GroupId"]
        self.subnets = [each["SubnetId"] for each in found]
        place = Place(REGION, "main", self.subnets, self.group, scenes.ROLE, "image", public=False)
        self.stack = Stack(aws.aws(), place, NAME)
        self.report = checkreport.Report(NAME, ACCOUNT, REGION, self.now())
        self.starts_tasks = True
        self.slept = 0
        self.at: dict[int, Callable[[], None]] = {}
        """What happens in the so manieth sleep."""

    def now(self) -> float:
        return float(self.aws.ask("clock")["now"])

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.at.get(self.slept, nothing)()
        if self.slept == 1 and self.starts_tasks:
            elb = self.aws.client("elbv2")
            for group in elb.describe_target_groups()["TargetGroups"]:
                targets = [{"Id": scenes.TARGET, "Port": 80}]
                elb.register_targets(TargetGroupArn=group["TargetGroupArn"], Targets=targets)
        self.aws.tell("clock", advance=seconds)

    def run(self) -> checkreport.Report:
        check.run(self.stack, self.report, self.now, self.sleep)
        return self.report

    def left(self) -> list[str]:
        """What is there of the check: names."""
        elb, ecs = self.aws.client("elbv2"), self.aws.client("ecs")
        codedeploy = self.aws.client("codedeploy")
        alarms = self.aws.client("cloudwatch").describe_alarms(
            AlarmTypes=["CompositeAlarm", "MetricAlarm"]
        )
        services = ecs.describe_services(cluster="main", services=[NAME])["services"]
        found = [
            *(each["LoadBalancerName"] for each in elb.describe_load_balancers()["LoadBalancers"]),
            *(each["TargetGroupName"] for each in elb.describe_target_groups()["TargetGroups"]),
            *(each["serviceName"] for each in services if each["status"] != "INACTIVE"),
            *ecs.list_task_definitions(familyPrefix=NAME, status="ACTIVE")["taskDefinitionArns"],
            *codedeploy.list_applications()["applications"],
            *codedeploy.list_deployment_configs()["deploymentConfigsList"],
            *(
                each["AlarmName"]
                for kind in ("Composite", "Metric")
                for each in alarms[f"{kind}Alarms"]
            ),
        ]
        return [each for each in found if "sortition-check" in each]


def nothing() -> None:
    pass


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def here(running: Double) -> Account:
    running.reset()
    return Account(running)


def found(report: checkreport.Report, key: str) -> str:
    return report.answers[key].found


# --- found out ------------------------------------------------------------------------------------


def test_a_check_answers_each_question_and_leaves_nothing(here: Account):
    report = here.run()

    assert report.ended is None
    assert here.left() == report.left == []
    assert [each.key for each in report.all()] == list(checkreport.QUESTIONS)
    assert {each.key: each.state for each in report.all()} == {
        **dict.fromkeys(checkreport.QUESTIONS, checkreport.AS_ASSUMED),
        # Nothing is assumed of these.
        "ended": checkreport.NOTED,
        "labels": checkreport.NOTED,
    }
    assert found(report, "weights").startswith("5 % → 100 %; ")
    assert found(report, "rules") == "changed: default, of the pair; left: of one's own"
    assert "Stopped, ALARM_ACTIVE" in found(report, "alarm")
    text = checkreport.as_markdown(report)
    assert text.count(f"| {checkreport.AS_ASSUMED} |") == len(checkreport.QUESTIONS) - 2
    assert text.endswith("Everything was taken down.\n")


def test_what_is_otherwise_is_said_and_what_was_not_found_out_too(here: Account):
    """Somebody, or CodeDeploy, changes a rule that has nothing to do with the pair; and the third
    version is gone before it can be broken."""
    elb = here.aws.client("elbv2")

    def meddle() -> None:
        (listener,) = (
            each["ListenerArn"]
            for balancer in elb.describe_load_balancers()["LoadBalancers"]
            for each in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])[
                "Listeners"
            ]
        )
        blue = elb.describe_target_groups()["TargetGroups"][0]["TargetGroupArn"]
        own = next(
            rule["RuleArn"]
            for rule in elb.describe_rules(ListenerArn=listener)["Rules"]
            if rule["Priority"] == "20"
        )
        elb.modify_rule(RuleArn=own, Actions=[{"Type": "forward", "TargetGroupArn": blue}])
        here.aws.fault("SetAlarmState", "deny", times=1)

    here.at[5] = meddle

    report = here.run()

    states = {each.key: each.state for each in report.all()}
    assert states["rules"] == checkreport.OTHERWISE
    assert states["alarm"] == states["firing"] == checkreport.NOT_FOUND_OUT
    assert "AccessDenied" in str(report.ended)
    assert here.left() == []


# --- taken down whatever happens ------------------------------------------------------------------


@pytest.mark.parametrize("sleep", [1, 60])
def test_whoever_interrupts_it_leaves_nothing(here: Account, sleep: int):
    here.at[sleep] = interrupt

    with pytest.raises(KeyboardInterrupt):
        here.run()

    assert here.report.ended == "KeyboardInterrupt"
    assert here.left() == here.report.left == []


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("CreateTargetGroup", "deny"),
        ("CreateDeploymentGroup", "deny"),
        # It was made, and nobody heard.
        ("CreateLoadBalancer", "cut"),
        ("CreateService", "cut"),
        ("CreateDeployment", "cut"),
    ],
)
def test_what_fails_while_it_is_made_leaves_nothing(here: Account, operation: str, kind: str):
    here.aws.fault(operation, kind, times=1)

    report = here.run()

    assert report.ended is not None
    assert not report.well
    assert here.left() == report.left == []


def test_a_first_version_that_is_never_healthy_ends_it(here: Account):
    here.starts_tasks = False

    report = here.run()

    assert "no healthy target within 15 minutes" in str(report.ended)
    assert here.left() == []


def test_what_cannot_be_taken_down_is_said_and_keeps_nothing_else(here: Account):
    here.aws.fault("CreateDeploymentGroup", "deny", times=1)
    here.aws.fault("DeleteTargetGroup", "deny", times=1)

    report = here.run()

    (left,) = report.left
    assert left.startswith(f"target group {NAME}-blue: ")
    assert here.left() == [f"{NAME}-blue"]


@pytest.mark.slow
def test_what_is_still_in_use_is_tried_again(here: Account):
    here.aws.fault("CreateDeploymentGroup", "deny", times=1)
    here.aws.fault("DeleteTargetGroup", "fail", times=3)

    assert here.run().left == []
    assert here.left() == []


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def typed(here: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    monkeypatch.setattr("flagserver.cloud.Aws", here.aws.aws)
    monkeypatch.setattr(
        "flagserver.cloud.time",
        SimpleNamespace(time=here.now, sleep=here.sleep, strftime=time.strftime),
    )
    monkeypatch.setattr("flagserver.cloud.secrets.token_hex", lambda _: "0a1b2c")
    before = signal.getsignal(signal.SIGTERM)

    def run(*words: str, number: str = ACCOUNT) -> Result:
        here.aws.forget_calls()
        subnets = [word for each in here.subnets for word in ("--subnet", each)]
        place = ["--cluster", "main", *subnets, "--security-group", here.group]
        place += ["--codedeploy-role", scenes.ROLE]
        return CliRunner().invoke(command, ["check", number, *place, *words])

    yield run
    signal.signal(signal.SIGTERM, before)


def test_without_yes_nothing_is_done(typed: Callable[..., Result], here: Account):
    done = typed()

    assert done.exit_code == 2
    assert "Nothing was done. Say --yes" in done.output
    assert here.aws.calls() == ["GetCallerIdentity"] * len(here.aws.calls())


def test_another_account_is_left_alone(typed: Callable[..., Result], here: Account):
    done = typed("--yes", number="210987654321")

    assert done.exit_code == 1
    assert "are of account 123456789012, not 210987654321" in done.output
    assert here.aws.calls() == ["GetCallerIdentity"] * len(here.aws.calls())


@pytest.mark.slow
def test_the_report_is_written(typed: Callable[..., Result], tmp_path: Path):
    to = tmp_path / "report.json"

    done = typed("--yes", "--report", str(to))

    assert done.exit_code == 0, done.output
    assert "Rolling the second version out." in done.stderr
    assert done.stdout == ""
    told = json.loads(to.read_text())
    assert told["ok"]
    assert {each["state"] for each in told["answers"]} == {
        checkreport.AS_ASSUMED,
        checkreport.NOTED,
    }


def test_one_that_ended_early_is_reported_with_status_9(
    typed: Callable[..., Result], here: Account
):
    here.at[20] = interrupt

    done = typed("--yes")

    assert done.exit_code == 9
    assert "It went no further: KeyboardInterrupt" in done.output
    assert here.left() == []


def test_what_a_killed_one_left_is_taken_down_by_its_name(
    typed: Callable[..., Result], here: Account
):
    here.stack.build()

    done = typed("--tear-down", NAME, "--yes")

    assert done.exit_code == 0, done.output
    assert here.left() == []


def test_only_what_a_check_made_is_taken_down(typed: Callable[..., Result]):
    done = typed("--tear-down", "shop", "--yes")

    assert done.exit_code == 2
    assert "Names begin sortition-check-" in done.output


def test_a_report_that_could_not_be_written_is_refused_before_anything_is_made(
    typed: Callable[..., Result], here: Account, tmp_path: Path
):
    done = typed("--yes", "--report", str(tmp_path / "nowhere" / "aws.md"))

    assert done.exit_code == 2
    assert "nowhere is no directory" in done.output
    assert here.aws.calls() == []
