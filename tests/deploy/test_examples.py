"""The examples are right: by CodeDeploy's rules, by botocore's models, and on the double."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.validate import ParamValidator

from examples.awsfake import scene as scenes
from examples.awsfake.codedeploy import appspec as doubles
from flagserver.appspec import faults
from flagserver.domain.hooks import LIFECYCLE
from tests.awsfake.double import Double, double

from .templates import DEPLOY, Stack, read

AWS = Path(__file__).parent / "pipeline" / "aws.py"
SPEC = (DEPLOY / "examples" / "appspec.yaml").read_text()
TASK = json.loads((DEPLOY / "examples" / "task-definition.json").read_text())


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as found:
        yield found


def test_the_app_spec_has_no_fault():
    assert faults(SPEC, tested=True) == []
    assert [fault.words for fault in faults(SPEC, tested=False) if fault.grave]


def test_its_hooks_are_in_the_order_in_which_they_ask():
    named = [name for hook in yaml.safe_load(SPEC)["Hooks"] for name in hook]

    assert named == [hook for hook in LIFECYCLE if hook in named]
    assert "BeforeAllowTraffic" in named


def test_its_hooks_call_the_function_of_the_template():
    stack = Stack(read("hook.yaml"), Url="https://x", TokenSecret="arn", Role="arn")
    (function,) = stack.of_type("AWS::Lambda::Function").values()

    assert set(doubles.read(SPEC).hooks.values()) == {function["FunctionName"]}


def test_app_spec_and_task_definition_name_the_same_container():
    spec = doubles.read(SPEC)
    (container,) = TASK["containerDefinitions"]

    assert spec.container == container["name"]
    assert spec.port in [each["containerPort"] for each in container["portMappings"]]
    assert f":task-definition/{TASK['family']}:" in spec.task


def test_the_task_definition_is_as_ecs_has_it():
    client = boto3.client(
        "ecs", region_name="eu-west-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    shape = client.meta.service_model.operation_model("RegisterTaskDefinition").input_shape

    assert ParamValidator().validate(TASK, shape).generate_report() == ""
    assert "version" not in TASK


def test_it_says_what_sortition_needs_to_know(aws: Double):
    (container,) = TASK["containerDefinitions"]
    told = {each["name"]: each["value"] for each in container["environment"]}
    attributes = dict(each.split("=") for each in told["OTEL_RESOURCE_ATTRIBUTES"].split(","))

    # Without service.version there is no second arm to compare with.
    assert {"service.name", "service.version", "deployment.environment.name"} == set(attributes)
    assert "SORTITION_KEY" in {each["name"] for each in container["secrets"]}
    assert "SORTITION_KEY" not in told


def test_codedeploy_takes_the_app_spec_and_calls_its_hooks(aws: Double):
    aws.reset()
    scene = aws.scene()
    listener = aws.client("elbv2").create_listener(
        LoadBalancerArn=scene.balancer,
        Protocol="HTTP",
        Port=8081,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": scene.blue}],
    )["Listeners"][0]["ListenerArn"]
    told: dict[str, Any] = scenes.deployment_group(scene)["loadBalancerInfo"]
    told["targetGroupPairInfoList"][0]["testTrafficRoute"] = {"listenerArns": [listener]}
    scenes.build_codedeploy(aws.url, scene, loadBalancerInfo=told)
    content = {"revisionType": "AppSpecContent", "appSpecContent": {"content": SPEC}}
    id = scenes.deploy(aws.url, revision=content)
    client = aws.client("codedeploy")

    called: list[str] = []
    for _ in range(60):
        aws.tell("clock", advance=30)
        for hook in aws.ask("hooks")[len(called) :]:
            called.append(hook["event"])
            client.put_lifecycle_event_hook_execution_status(
                deploymentId=id,
                lifecycleEventHookExecutionId=hook["payload"]["LifecycleEventHookExecutionId"],
                status="Succeeded",
            )

    assert called == [name for hook in yaml.safe_load(SPEC)["Hooks"] for name in hook]
    assert client.get_deployment(deploymentId=id)["deploymentInfo"]["status"] == "Succeeded"


def test_the_workflow_makes_a_deployment_of_them(aws: Double, tmp_path: Path):
    aws.reset()
    scenes.build_codedeploy(aws.url, aws.scene())
    release = tmp_path / "release"
    release.mkdir()
    (release / "task-definition.json").write_text(json.dumps(TASK).replace("2.4.0", "@VERSION@"))
    (release / "appspec.yaml").write_text(SPEC)
    names = {"applicationName": scenes.APPLICATION, "deploymentGroupName": scenes.GROUP}
    (release / "deployment.json").write_text(json.dumps(names))
    command = tmp_path / "aws"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {AWS} "$@"\n')
    command.chmod(0o755)
    workflow = yaml.safe_load((DEPLOY / "workflows" / "deploy.yml").read_text())
    steps = workflow["jobs"]["production"]["steps"]
    (script,) = [each["run"] for each in steps if "register-task-definition" in each.get("run", "")]

    subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        check=True,
        timeout=60,
        env={
            **aws.environment(),
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_SHA": "0123456789abcdef",
        },
    )

    told = json.loads((release / "deployment.json").read_text())
    spec = doubles.read(told["revision"]["appSpecContent"]["content"])
    assert spec.hooks == doubles.read(SPEC).hooks
    made = aws.client("ecs").describe_task_definition(taskDefinition=spec.task)["taskDefinition"]
    assert "service.version=0123456789abcdef," in json.dumps(made["containerDefinitions"])
    assert aws.client("codedeploy").create_deployment(**told)["deploymentId"].startswith("d-")
