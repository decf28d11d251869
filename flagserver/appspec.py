"""What is wrong with an AppSpec file of a deployment to ECS, in sentences.

Its form is CodeDeploy's: `version: 0.0`, one TargetService, and hooks that each name one function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from flagserver.domain.hooks import LIFECYCLE

OWN = ("Install", "AllowTestTraffic", "AllowTraffic")
"""Events that CodeDeploy does by itself; no function can be named for them."""

PLACEHOLDER = "<TASK_DEFINITION>"
"""What CodePipeline's own action for blue/green puts a task definition in place of."""

PROPERTIES = frozenset(
    {
        "TaskDefinition",
        "LoadBalancerInfo",
        "PlatformVersion",
        "NetworkConfiguration",
        "CapacityProviderStrategy",
    }
)
NETWORK = ("Subnets", "SecurityGroups", "AssignPublicIp")
FUNCTION_PREFIX = "CodeDeployHook_"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.  grave: a deployment with it fails or is not made; else it is worth
    knowing."""

    words: str
    advice: str
    grave: bool = True


def faults(text: str, *, tested: bool | None = None) -> list[Fault]:
    """Return what is wrong with an AppSpec, YAML or JSON.

    tested: whether its deployment group has a test listener; None: it is not known.
    """
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = "" if where is None else f" (line {where.line + 1})"
        return [Fault(f"It is neither YAML nor JSON{line}.", "Correct its form.")]
    if not isinstance(told, Mapping):
        return [Fault("It is no mapping.", "Begin with `version: 0.0`, Resources and Hooks.")]
    return [*_version(told), *_resources(told), *_hooks(told.get("Hooks"), tested)]


def _version(told: Mapping[str, Any]) -> Iterator[Fault]:
    if str(told.get("version")) not in {"0.0", "0"}:
        yield Fault(f"Its version is {told.get('version')!r}.", "Say `version: 0.0`.")
    for name in sorted(map(str, set(told) - {"version", "Resources", "Hooks"})):
        yield Fault(f"{name} is not known.", "It has version, Resources and Hooks.")


def _resources(told: Mapping[str, Any]) -> Iterator[Fault]:
    resources = told.get("Resources")
    first = resources[0] if isinstance(resources, list) and len(resources) == 1 else None
    service = first.get("TargetService") if isinstance(first, Mapping) else None
    if not isinstance(service, Mapping):
        yield Fault(
            "Resources is not a list of one TargetService.",
            "Say `Resources: [{TargetService: {Type: AWS::ECS::Service, Properties: …}}]`.",
        )
        return
    if service.get("Type") != "AWS::ECS::Service":
        yield Fault(f"The service's Type is {service.get('Type')!r}.", "Say `AWS::ECS::Service`.")
    properties = service.get("Properties")
    if not isinstance(properties, Mapping):
        yield Fault("The service has no Properties.", "Name TaskDefinition and LoadBalancerInfo.")
        return
    for name in sorted(map(str, set(properties) - PROPERTIES)):
        yield Fault(f"{name} is no property of a service.", f"Known are {_list(PROPERTIES)}.")
    yield from _task(properties.get("TaskDefinition"))
    yield from _balancer(properties.get("LoadBalancerInfo"))
    yield from _network(properties.get("NetworkConfiguration"))


def _task(task: Any) -> Iterator[Fault]:
    if task == PLACEHOLDER:
        yield Fault(
            f"TaskDefinition is {PLACEHOLDER}, which only CodePipeline's action fills in.",
            "Put the ARN of the task definition there before CreateDeployment, revision included.",
        )
    elif not (isinstance(task, str) and task.startswith("arn:") and ":task-definition/" in task):
        yield Fault(
            f"TaskDefinition is {task!r}, and no ARN.",
            "Say arn:aws:ecs:REGION:ACCOUNT:task-definition/NAME:REVISION.",
        )
    elif ":" not in task.rpartition(":task-definition/")[2]:
        yield Fault(
            "TaskDefinition names no revision: what is deployed is whatever is newest then.",
            "Add `:REVISION`.",
            grave=False,
        )


def _balancer(told: Any) -> Iterator[Fault]:
    wanted = {"ContainerName", "ContainerPort"}
    if not isinstance(told, Mapping) or set(told) != wanted:
        yield Fault(
            "LoadBalancerInfo does not have exactly ContainerName and ContainerPort.",
            "Name the container that the load balancer leads to, and its port.",
        )
    elif isinstance(told["ContainerPort"], bool) or not str(told["ContainerPort"]).isdigit():
        yield Fault(f"ContainerPort is {told['ContainerPort']!r}.", "Say a number.")


def _network(told: Any) -> Iterator[Fault]:
    if told is None:
        return
    inside = told.get("AwsvpcConfiguration") if isinstance(told, Mapping) else None
    has = set(inside) if isinstance(inside, Mapping) else set()
    if has != set(NETWORK):
        missing = _list(set(NETWORK) - has) or "nothing"
        yield Fault(
            f"AwsvpcConfiguration is all or none; missing: {missing}.",
            f"Name {', '.join(NETWORK)}, or leave NetworkConfiguration out.",
        )


def _hooks(told: Any, tested: bool | None) -> Iterator[Fault]:
    if told is None:
        yield Fault(
            "It has no Hooks: nothing asks before traffic goes over.",
            "Name CodeDeployHook_sortition for BeforeAllowTraffic.",
            grave=False,
        )
        return
    if not isinstance(told, list):
        yield Fault("Hooks is no list.", "Write `- BeforeAllowTraffic: FUNCTION`, one a line.")
        return
    named: list[str] = []
    for each in told:
        if not isinstance(each, Mapping) or len(each) != 1:
            yield Fault(f"{each!r} is not one hook.", "Write `- HOOK: FUNCTION`, one a line.")
            continue
        ((hook, function),) = each.items()
        yield from _hook(str(hook), function)
        named.append(str(hook))
    for hook in sorted({hook for hook in named if named.count(hook) > 1}):
        yield Fault(f"{hook} is there twice.", "A hook has one function.")
    if tested is False and "AfterAllowTestTraffic" in named:
        yield Fault(
            "AfterAllowTestTraffic is used, and the deployment group has no test listener: no test "
            "traffic comes before it.",
            "Give the group a test listener (traffic.yaml has one), or use AfterInstall.",
        )


def _hook(hook: str, function: Any) -> Iterator[Fault]:
    if hook in OWN:
        yield Fault(
            f"{hook} is done by CodeDeploy itself and calls nobody.", f"Use {_list(LIFECYCLE)}."
        )
    elif hook not in LIFECYCLE:
        yield Fault(f"There is no hook {hook}.", f"There are {_list(LIFECYCLE)}.")
    if not isinstance(function, str) or not function:
        yield Fault(f"{hook} names no function.", "Name it, or give its ARN.")
    elif not function.rpartition(":")[2].startswith(FUNCTION_PREFIX):
        yield Fault(
            f"{function} does not begin with {FUNCTION_PREFIX}: CodeDeploy's managed role may not "
            "call it.",
            "Rename it, or let the group's role call it.",
            grave=False,
        )


def _list(names: Any) -> str:
    return ", ".join(names if isinstance(names, (dict, list, tuple)) else sorted(names))
