"""AppSpec files: what is right passes, and each mistake is told in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from flagserver.appspec import faults

HOOK = "CodeDeployHook_sortition"


def a_spec() -> dict[str, Any]:
    return {
        "version": 0.0,
        "Resources": [
            {
                "TargetService": {
                    "Type": "AWS::ECS::Service",
                    "Properties": {
                        "TaskDefinition": "arn:aws:ecs:eu-west-1:1:task-definition/api:42",
                        "LoadBalancerInfo": {"ContainerName": "api", "ContainerPort": 4000},
                    },
                }
            }
        ],
        "Hooks": [{"BeforeAllowTraffic": HOOK}],
    }


def properties(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["Resources"][0]["TargetService"]["Properties"]
    return found


NETWORK = {"Subnets": ["a"], "SecurityGroups": ["b"], "AssignPublicIp": "DISABLED"}


@pytest.mark.parametrize("written", [yaml.safe_dump, json.dumps])
def test_a_right_one(written):
    spec = a_spec()
    properties(spec)["NetworkConfiguration"] = {"AwsvpcConfiguration": NETWORK}
    properties(spec)["PlatformVersion"] = "LATEST"

    assert faults(written(spec), tested=True) == []


def a_change(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    spec = a_spec()
    change(spec)
    return spec


GRAVE: dict[str, Callable[[dict[str, Any]], object]] = {
    "Its version is": lambda s: s.update(version=1.0),
    "hooks is not known": lambda s: s.update(hooks=[]),
    "Resources is not a list": lambda s: s.update(Resources={}),
    "The service's Type": lambda s: s["Resources"][0]["TargetService"].update(Type="AWS::Lambda"),
    "has no Properties": lambda s: s["Resources"][0]["TargetService"].pop("Properties"),
    "Taskdefinition is no property": lambda s: properties(s).update(Taskdefinition="x"),
    "only CodePipeline's action": lambda s: properties(s).update(
        TaskDefinition="<TASK_DEFINITION>"
    ),
    "and no ARN": lambda s: properties(s).update(TaskDefinition="api:42"),
    "LoadBalancerInfo does not have": lambda s: properties(s).pop("LoadBalancerInfo"),
    "exactly ContainerName": lambda s: properties(s)["LoadBalancerInfo"].pop("ContainerPort"),
    "ContainerPort is 'http'": lambda s: properties(s)["LoadBalancerInfo"].update(
        ContainerPort="http"
    ),
    "missing: AssignPublicIp": lambda s: properties(s).update(
        NetworkConfiguration={"AwsvpcConfiguration": {"Subnets": [], "SecurityGroups": []}}
    ),
    "Hooks is no list": lambda s: s.update(Hooks={"BeforeAllowTraffic": HOOK}),
    "is not one hook": lambda s: s.update(Hooks=["BeforeAllowTraffic"]),
    "There is no hook ValidateBefore100PercentTraffic": lambda s: s.update(
        Hooks=[{"ValidateBefore100PercentTraffic": HOOK}]
    ),
    "AllowTraffic is done by CodeDeploy itself": lambda s: s.update(Hooks=[{"AllowTraffic": HOOK}]),
    "names no function": lambda s: s.update(Hooks=[{"AfterInstall": None}]),
    "is there twice": lambda s: s["Hooks"].append({"BeforeAllowTraffic": HOOK}),
}

SLIGHT: dict[str, Callable[[dict[str, Any]], object]] = {
    "names no revision": lambda s: properties(s).update(
        TaskDefinition="arn:aws:ecs:eu-west-1:1:task-definition/api"
    ),
    "It has no Hooks": lambda s: s.pop("Hooks"),
    "does not begin with CodeDeployHook_": lambda s: s.update(Hooks=[{"AfterInstall": "check"}]),
}


@pytest.mark.parametrize("words", GRAVE)
def test_what_fails(words):
    told = faults(yaml.safe_dump(a_change(GRAVE[words])))

    (found,) = [fault for fault in told if words in fault.words]
    assert found.grave
    assert found.advice


@pytest.mark.parametrize("words", SLIGHT)
def test_what_is_worth_knowing(words):
    (found,) = faults(yaml.safe_dump(a_change(SLIGHT[words])))

    assert words in found.words
    assert not found.grave


@pytest.mark.parametrize("text", ["a: [", "- x", "", "7", "\t"])
def test_what_is_no_app_spec(text):
    assert faults(text)


@pytest.mark.parametrize(("tested", "wrong"), [(True, 0), (False, 1), (None, 0)])
def test_a_test_hook_needs_a_test_listener(tested, wrong):
    spec = a_spec()
    spec["Hooks"].append({"AfterAllowTestTraffic": HOOK})

    assert len(faults(yaml.safe_dump(spec), tested=tested)) == wrong
