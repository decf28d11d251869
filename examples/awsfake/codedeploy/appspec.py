"""An AppSpec file for ECS: version 0.0, one TargetService, and hooks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

EVENTS = (
    "BeforeInstall",
    "Install",
    "AfterInstall",
    "AllowTestTraffic",
    "AfterAllowTestTraffic",
    "BeforeAllowTraffic",
    "AllowTraffic",
    "AfterAllowTraffic",
)
"""The lifecycle of a deployment to ECS, in order."""

OURS = frozenset({"Install", "AllowTestTraffic", "AllowTraffic"})
"""Those that CodeDeploy does itself: no hook can have their names."""

HOOKS = tuple(event for event in EVENTS if event not in OURS)


class BadAppSpec(ValueError):
    """What is wrong with it, in a sentence."""


@dataclass(frozen=True)
class AppSpec:
    """task: ARN of the task definition; container, port: behind the balancer; hooks: event ->
    function."""

    task: str
    container: str
    port: int
    hooks: Mapping[str, str]


def digest(content: str) -> str:
    """Return the SHA-256 by which CodeDeploy knows an AppSpec."""
    return hashlib.sha256(content.encode()).hexdigest()


def parse(content: str) -> Any:
    """Return what YAML or JSON says. Raises BadAppSpec."""
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError:
        raise BadAppSpec("The AppSpec content is neither YAML nor JSON.") from None


def read(content: str) -> AppSpec:
    """Return what an AppSpec says. Raises BadAppSpec."""
    told = parse(content)
    if not isinstance(told, Mapping) or float(told.get("version", -1)) != 0.0:
        raise BadAppSpec("The AppSpec must be a mapping with version 0.0.")
    properties = _properties(told.get("Resources"))
    task, balancer = properties.get("TaskDefinition"), properties.get("LoadBalancerInfo")
    if not isinstance(task, str) or not task.startswith("arn:"):
        raise BadAppSpec("TaskDefinition must be the ARN of a task definition.")
    if not isinstance(balancer, Mapping) or set(balancer) != {"ContainerName", "ContainerPort"}:
        raise BadAppSpec("LoadBalancerInfo needs ContainerName and ContainerPort.")
    return AppSpec(
        task, balancer["ContainerName"], int(balancer["ContainerPort"]), _hooks(told.get("Hooks"))
    )


def _properties(resources: Any) -> Mapping[str, Any]:
    if not isinstance(resources, list) or len(resources) != 1:
        raise BadAppSpec("Resources must list exactly one TargetService.")
    service = resources[0].get("TargetService") if isinstance(resources[0], Mapping) else None
    if not isinstance(service, Mapping) or service.get("Type") != "AWS::ECS::Service":
        raise BadAppSpec("TargetService must be of Type AWS::ECS::Service.")
    properties = service.get("Properties")
    return properties if isinstance(properties, Mapping) else {}


def _hooks(told: Any) -> dict[str, str]:
    hooks: dict[str, str] = {}
    for each in told or []:
        if not isinstance(each, Mapping) or len(each) != 1:
            raise BadAppSpec("Hooks is a list of one name and one function each.")
        ((event, function),) = each.items()
        if event not in HOOKS:
            raise BadAppSpec(f"{event} is no hook of an ECS deployment.")
        hooks[event] = str(function)
    return hooks
