"""ECS: deployments of services that are there because somebody says so, to be asked about. moto
knows none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ecs.models import ecs_backends
from moto.ecs.responses import EC2ContainerServiceResponse

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

REFUSED = ("deployments of a service that does not exist, or with a status there is not",)
"""tests/awsfake/test_refused.py has a case for each."""

_services: dict[str, dict[str, Any]] = {}
"""ECS: deployment -> what is told of it."""


class Refused(ServiceException):
    """An answer of 400 with a code."""


def forget() -> None:
    """Begin anew."""
    _services.clear()


def say_ecs(deployment: str, told: Mapping[str, Any]) -> None:
    """Let a deployment of an ECS service be as told, in ECS's own words."""
    _services[deployment] = {**told, "serviceDeploymentArn": deployment}


def install() -> None:
    """Add these operations to moto's."""
    for operation in (list_service_deployments, describe_service_deployments):
        setattr(EC2ContainerServiceResponse, operation.__name__, _answering(operation))


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
