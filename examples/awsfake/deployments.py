"""CodeDeploy and ECS: deployments that are there because somebody says so, to be asked about.

moto keeps CodeDeploy's deployments but never moves them, and knows no deployments of ECS services.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moto.codedeploy.exceptions import DeploymentDoesNotExistException
from moto.codedeploy.models import DeploymentInfo, codedeploy_backends
from moto.codedeploy.responses import CodeDeployResponse
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ecs.models import ecs_backends
from moto.ecs.responses import EC2ContainerServiceResponse

CODEDEPLOY_STATUSES = (
    "Created",
    "Queued",
    "InProgress",
    "Baking",
    "Succeeded",
    "Failed",
    "Stopped",
    "Ready",
)
ECS_STATUSES = (
    "PENDING",
    "SUCCESSFUL",
    "STOPPED",
    "STOP_REQUESTED",
    "IN_PROGRESS",
    "ROLLBACK_REQUESTED",
    "ROLLBACK_IN_PROGRESS",
    "ROLLBACK_SUCCESSFUL",
    "ROLLBACK_FAILED",
)

REFUSED = (
    "ListDeployments of an application without a group, or with a status there is not",
    "BatchGetDeployments of more than 25",
    "deployments, targets and services that do not exist",
)
"""tests/awsfake/test_refused.py has a case for each."""

_targets: dict[str, list[dict[str, Any]]] = {}
"""CodeDeploy: deployment -> its task sets with weights."""

_services: dict[str, dict[str, Any]] = {}
"""ECS: deployment -> what is told of it."""


class Refused(ServiceException):
    """An answer of 400 with a code."""


def forget() -> None:
    """Begin anew."""
    _targets.clear()
    _services.clear()


def say_codedeploy(
    deployment: str, status: str, task_sets: list[dict[str, Any]], account: str, region: str
) -> None:
    """Let a deployment, made by CreateDeployment, be in this status, with these task sets."""
    _known(codedeploy_backends[account][region].deployments, deployment).status = status
    _targets[deployment] = task_sets


def say_ecs(deployment: str, told: Mapping[str, Any]) -> None:
    """Let a deployment of an ECS service be as told, in ECS's own words."""
    _services[deployment] = {**told, "serviceDeploymentArn": deployment}


def install() -> None:
    """Add these operations to moto's."""
    for owner, operations in (
        (
            CodeDeployResponse,
            (list_deployment_targets, get_deployment_target, batch_get_deployment_targets),
        ),
        (EC2ContainerServiceResponse, (list_service_deployments, describe_service_deployments)),
    ):
        for operation in operations:
            setattr(owner, operation.__name__, _answering(operation))
    batch, listing = CodeDeployResponse.batch_get_deployments, CodeDeployResponse.list_deployments

    def at_most_25(self: Any) -> ActionResult:
        if len(self._get_param("deploymentIds") or []) > 25:
            raise Refused("BatchLimitExceededException", "The maximum number of names is 25.")
        return batch(self)

    def of_known_statuses(self: Any) -> ActionResult:
        for status in self._get_param("includeOnlyStatuses") or []:
            if status not in CODEDEPLOY_STATUSES:
                raise Refused("InvalidDeploymentStatusException", f"{status} is no status.")
        return listing(self)

    CodeDeployResponse.batch_get_deployments = at_most_25  # type: ignore[method-assign]
    CodeDeployResponse.list_deployments = of_known_statuses  # type: ignore[method-assign]


def list_deployment_targets(response: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """CodeDeploy: ListDeploymentTargets. An ECS deployment has one target: its service."""
    found = _deployment(response, given)
    return {"targetIds": [_target_id(found)]}


def get_deployment_target(response: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """CodeDeploy: GetDeploymentTarget."""
    found = _deployment(response, given)
    if given["targetId"] != _target_id(found):
        raise Refused("DeploymentTargetDoesNotExistException", "There is no such target.")
    return {"deploymentTarget": _target(found)}


def batch_get_deployment_targets(response: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """CodeDeploy: BatchGetDeploymentTargets."""
    found = _deployment(response, given)
    return {"deploymentTargets": [_target(found)]}


def list_service_deployments(response: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """ECS: ListServiceDeployments."""
    backend = ecs_backends[response.current_account][response.region]
    service = given["service"].rpartition("/")[2]
    if not any(each.name == service for each in backend.services.values()):
        raise Refused("ServiceNotFoundException", "Service not found.")
    for status in given.get("status") or []:
        if status not in ECS_STATUSES:
            raise Refused("InvalidParameterException", f"{status} is no status.")
    return {
        "serviceDeployments": [
            told
            for told in _services.values()
            if told["serviceArn"].rpartition("/")[2] == service
            and told["status"] in (given.get("status") or ECS_STATUSES)
        ]
    }


def describe_service_deployments(response: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """ECS: DescribeServiceDeployments."""
    asked = given["serviceDeploymentArns"]
    missing = [arn for arn in asked if arn not in _services]
    return {
        "serviceDeployments": [_services[arn] for arn in asked if arn in _services],
        "failures": [{"arn": arn, "reason": "MISSING"} for arn in missing],
    }


Operation = Callable[[Any, Mapping[str, Any]], dict[str, Any]]


def _answering(operation: Operation) -> Callable[[Any], ActionResult]:
    def answer(response: Any) -> ActionResult:
        given = response._get_params()  # noqa: SLF001 (as moto's own do)
        return ActionResult(operation(response, given))

    return answer


def _deployment(response: Any, given: Mapping[str, Any]) -> DeploymentInfo:
    backend = codedeploy_backends[response.current_account][response.region]
    return _known(backend.deployments, given["deploymentId"])


def _known(deployments: Mapping[str, DeploymentInfo], name: str) -> DeploymentInfo:
    if name not in deployments:
        raise DeploymentDoesNotExistException(f"The deployment {name} does not exist.")
    return deployments[name]


def _target_id(deployment: DeploymentInfo) -> str:
    services = deployment.deployment_group.ecs_services or [{}]
    return f"{services[0].get('clusterName')}:{services[0].get('serviceName')}"


def _target(deployment: DeploymentInfo) -> dict[str, Any]:
    return {
        "deploymentTargetType": "ECSTarget",
        "ecsTarget": {
            "deploymentId": deployment.deployment_id,
            "targetId": _target_id(deployment),
            "status": "InProgress" if deployment.status == "InProgress" else "Pending",
            "taskSetsInfo": _targets.get(deployment.deployment_id, []),
        },
    }
