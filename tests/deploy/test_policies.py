"""Least privilege: every call in the code is allowed to who makes it, and nothing else is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .calls import ROOT, SERVICES, Code, action, doors, operations
from .templates import DEPLOY, Stack, read

POLICIES = DEPLOY / "iam"
PARTS = (
    *("controller", "web", "hook", "codedeploy", "pipeline"),
    *("operator", "check", "anchors", "drill"),
)
SERVICES_OF_OURS = sorted((ROOT / "flagserver" / "services").glob("*.py"))
DRIVERS = ("flagserver/targets", "flagserver/signals")

RECEIVERS = (*("self._drivers", "driver", "self._sources", "self._gates", "self._mailbox"),)
"""What use cases knock at that may lead to AWS."""

CONTROLLER = {
    "steering.py": None,
    "hooks.py": None,
    "pushes.py": None,
}
"""Use cases of the controller -> the doors that it knocks at; None: all that the file has."""

WEB: dict[str, set[str] | None] = {
    "rollouts.py": None,
    "starting.py": None,
    "syncing.py": None,
    # What waits is answered by the controller.
    "hooks.py": {"asking", "measure"},
}

BESIDES = {
    # CreateDeployment looks these up, and registers a revision that it does not know, for the
    # caller and with the caller's permissions.
    "controller": {
        "codedeploy:GetApplicationRevision",
        "codedeploy:GetDeploymentConfig",
        "codedeploy:RegisterApplicationRevision",
    },
    "web": {"codedeploy:RegisterApplicationRevision"},
    # Lambda writes what the function logs, by the function's role.
    "hook": {"logs:CreateLogStream", "logs:PutLogEvents"},
    "operator": set[str](),
    # What is put with a lock.
    "anchors": {"s3:PutObjectRetention"},
    # CreateDeployment as above; CreateDeploymentGroup hands CodeDeploy its role on.
    "check": {
        "codedeploy:GetDeploymentConfig",
        "codedeploy:RegisterApplicationRevision",
        "iam:PassRole",
    },
}
"""What is allowed although no call in the code is named so."""

CODEDEPLOY_ITSELF = {
    "cloudwatch:DescribeAlarms",
    "ecs:CreateTaskSet",
    "ecs:DeleteTaskSet",
    "ecs:DescribeServices",
    "ecs:UpdateServicePrimaryTaskSet",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:ModifyListener",
    "elasticloadbalancing:ModifyRule",
    "iam:PassRole",
    "lambda:InvokeFunction",
}
"""What CodeDeploy does at ECS, at the load balancer and at alarms in a deployment: the managed
policy AWSCodeDeployRoleForECS without SNS and S3, which this deployment group does not use."""


def policy(part: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((POLICIES / f"{part}.json").read_text())["Statement"]
    return found


def allowed(part: str) -> set[str]:
    return {each for statement in policy(part) for each in statement["Action"]}


def needed(calls: set[tuple[str, str]]) -> set[str]:
    return {told for call in calls if (told := action(call)) is not None}


@pytest.fixture(scope="module")
def code() -> Code:
    return Code((ROOT / "flagserver").rglob("*.py"))


def knocked(parts: dict[str, set[str] | None]) -> set[str]:
    found = doors(SERVICES_OF_OURS, RECEIVERS)
    return {
        door for file, some in parts.items() for door in found[file] if some is None or door in some
    }


# --- every call, and no more ----------------------------------------------------------------------


def test_every_name_of_an_operation_is_understood(code: Code):
    assert code.unplaced == []
    assert len(code.made()) > 30
    for service, operation in code.made():
        assert operation in operations(service)


def test_everybody_who_knocks_is_known():
    found = doors(SERVICES_OF_OURS, RECEIVERS)

    assert set(found) == {*CONTROLLER, *WEB}


@pytest.mark.parametrize(("part", "files"), [("controller", CONTROLLER), ("web", WEB)])
def test_the_server_may_do_what_it_does(code: Code, part: str, files: Any):
    calls = code.reached(knocked(files), DRIVERS)

    assert allowed(part) == needed(calls) | BESIDES[part]


def test_a_person_may_do_what_the_commands_do():
    files = [
        ROOT / "flagserver" / name
        for name in ("account.py", "alarms.py", "cloud.py", "inventory.py")
    ]

    assert allowed("operator") == needed(Code(files).made()) | BESIDES["operator"]


def test_whoever_drills_may_fire_what_is_named_for_it_and_nothing_else():
    calls = Code([ROOT / "sdk" / "src" / "sortition" / "cli" / "alarms.py"])

    assert calls.unplaced == []
    assert allowed("drill") == needed(calls.made())
    (fire,) = (each for each in policy("drill") if "cloudwatch:SetAlarmState" in each["Action"])
    assert fire["Resource"].endswith(":alarm:${DrillAlarms}")
    # Whoever can set an alarm can say that all is well: nobody who deploys or serves may.
    # (A check sets its own, in an account that may break.)
    others = set(PARTS) - {"drill", "check"}
    assert not any("cloudwatch:SetAlarmState" in allowed(part) for part in others)


def test_the_command_calls_aws_nowhere_else():
    sdk = Code((ROOT / "sdk" / "src").rglob("*.py"))

    assert {f.module for f in sdk.functions if f.aws} == {"sdk/src/sortition/cli/alarms.py"}


def test_whoever_anchors_may_look_and_add_and_no_more():
    calls = Code([ROOT / "flagserver" / "storage" / "anchors_s3.py"]).made()

    assert allowed("anchors") == needed(calls) | BESIDES["anchors"]
    assert {action.partition(":")[2][:3] for action in allowed("anchors")} == {"Get", "Lis", "Put"}


def test_the_bucket_allows_that_and_denies_the_rest_to_everybody():
    writer = "arn:aws:iam::123456789012:role/controller"
    stack = Stack(read("anchors.yaml"), Name="anchors-of-ours", Writer=writer)
    (made,) = stack.of_type("AWS::S3::BucketPolicy").values()
    statements = made["PolicyDocument"]["Statement"]
    given = [each for each in statements if each["Effect"] == "Allow"]
    denied = {each["Sid"]: each for each in statements if each["Effect"] == "Deny"}

    texts = json.dumps(policy("anchors")).replace("${Bucket}", "anchors-of-ours")
    wanted = json.loads(texts.replace("${AWS::Partition}", "aws"))
    assert given == [{**each, "Principal": {"AWS": writer}} for each in wanted]
    assert denied["OnlyWhereNothingStands"]["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    assert denied["OnlyLocked"]["Condition"] == {
        "StringNotEquals": {"s3:object-lock-mode": "COMPLIANCE"}
    }
    assert denied["NothingIsHidden"]["Action"] == ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    assert {each["Principal"] for each in denied.values()} == {"*"}
    (bucket,) = stack.of_type("AWS::S3::Bucket").values()
    assert bucket["ObjectLockEnabled"] is True


def test_a_check_may_do_what_it_does():
    files = [ROOT / "flagserver" / name for name in ("check.py", "checkstack.py")]
    # Of the alarms' module it makes alarms, and asks about its own target group.
    alarms = Code([ROOT / "flagserver" / "alarms.py"])

    assert allowed("check") == needed(Code(files).made() | alarms.made()) | BESIDES["check"]


def test_a_check_touches_nothing_but_its_own():
    for statement in policy("check"):
        named = statement["Resource"]
        for each in [named] if isinstance(named, str) else named:
            assert each in ("*", "${CodeDeployRole}") or "sortition-check-*" in each


def test_the_function_may_do_what_it_does():
    function = Code([DEPLOY / "lambda" / "codedeploy_hook.py"])

    assert function.unplaced == []
    assert allowed("hook") == needed(function.made()) | BESIDES["hook"]


def test_nobody_calls_what_no_part_may(code: Code):
    assert needed(code.made()) <= {each for part in PARTS for each in allowed(part)}


def test_codedeploy_may_do_what_it_does():
    assert allowed("codedeploy") == CODEDEPLOY_ITSELF


COMMANDS = re.compile(r"\baws (deploy|ecs|sts) +([a-z][a-z-]+)")


def commands() -> set[tuple[str, str]]:
    """Return the calls of the AWS CLI in what we give pipelines; the rest of the guide is for the
    operator's hand."""
    places = [DEPLOY / "github-action", DEPLOY / "workflows", DEPLOY / "examples"]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    guide = (ROOT / "docs/how-to/install-on-aws.md").read_text()
    texts = [*(file.read_text() for file in files), guide.partition("\n## In the pipeline\n")[2]]
    assert all(texts)
    named = {"deploy": "codedeploy"}
    return {
        (named.get(service, service), operation.replace("-", "_"))
        for text in texts
        for service, operation in COMMANDS.findall(text)
        if operation != "wait"
    }


def test_a_pipeline_may_do_what_it_is_told_to():
    wanted = needed(commands())
    besides = {
        "codedeploy:GetDeploymentConfig",
        "codedeploy:RegisterApplicationRevision",
        "iam:PassRole",
    }

    assert "codedeploy:CreateDeployment" in wanted
    assert allowed("pipeline") == wanted | besides


# --- how it is allowed ----------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_what_changes_something_names_what(part: str):
    reads = re.compile(r":(Describe|Get|List|BatchGet)")
    everything = {
        # A task definition does not exist yet when it is registered.
        "ecs:RegisterTaskDefinition",
        # For this one AWS knows no resource.
        "ecs:DeregisterTaskDefinition",
    }

    for statement in policy(part):
        assert statement["Effect"] == "Allow"
        assert all("*" not in each for each in statement["Action"])
        assert statement["Action"] == sorted(set(statement["Action"]))
        if statement["Resource"] == "*":
            changing = {each for each in statement["Action"] if not reads.search(each)}
            assert changing <= everything


def test_roles_are_handed_on_to_tasks_alone_and_by_a_check_to_codedeploy():
    tasks = (["${TaskRole}", "${TaskExecutionRole}"], "ecs-tasks.amazonaws.com")
    wanted = {"check": (["${CodeDeployRole}"], "codedeploy.amazonaws.com")}
    for part in PARTS:
        for statement in policy(part):
            if "iam:PassRole" in statement["Action"]:
                to = statement["Condition"]["StringEquals"]["iam:PassedToService"]
                assert (statement["Resource"], to) == wanted.get(part, tasks)


def test_the_template_has_the_same_policies():
    parameters = {
        "LoadBalancer": "app/shop/50dc6c495c0c9188",
        "Application": "shop",
        "Cluster": "main",
        "Service": "web",
        "TaskRole": "arn:task",
        "TaskExecutionRole": "arn:execution",
        "TokenSecret": "arn:secret",
        "SignalsQueue": "arn:queue",
        "Repository": "owner/name",
    }
    stack = Stack(read("roles.yaml"), **parameters)
    made = {
        policy["PolicyName"]: policy["PolicyDocument"]["Statement"]
        for role in stack.of_type("AWS::IAM::Role").values()
        for policy in role["Policies"]
    }

    assert set(made) == set(PARTS) - {"operator", "check", "anchors", "drill"}
    for part, statements in made.items():
        texts = json.dumps(policy(part))
        for name, value in stack.values.items():
            texts = texts.replace(f"${{{name}}}", str(value))
        assert statements == json.loads(texts)
        assert "${" not in json.dumps(statements)


def test_only_the_branch_that_deploys_takes_the_pipelines_role():
    stack = Stack(
        read("roles.yaml"),
        **dict.fromkeys(
            ("LoadBalancer", "Application", "Cluster", "Service", "TaskRole", "TokenSecret"), "x"
        ),
        TaskExecutionRole="x",
        Repository="owner/name",
    )
    trust = stack.resources["PipelineRole"]["Properties"]["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]

    assert statement["Condition"]["StringEquals"] == {
        "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
        "token.actions.githubusercontent.com:sub": "repo:owner/name:environment:production",
    }


# --- the scan itself ------------------------------------------------------------------------------


def test_the_scan_finds_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.deploy.calls.ROOT", tmp_path)
    file = tmp_path / "flagserver" / "targets" / "it.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import flagserver.aws\n"
        "class It:\n"
        "    def read(self):\n"
        "        return self._elb('describe_rules')\n"
        "    def set(self):\n"
        "        self._aws.write('elbv2', 'modify_rule')\n"
        "    def _elb(self, operation):\n"
        "        return self._aws.read('elbv2', operation)\n"
        "def stray():\n"
        "    return 'stop_deployment'\n"
    )
    code = Code([file])

    assert code.reached({"read"}) == {("elbv2", "describe_rules")}
    assert code.reached({"set"}) == {("elbv2", "modify_rule")}
    assert code.unplaced == ["flagserver/targets/it.py:10 'stop_deployment'"]
    assert SERVICES
