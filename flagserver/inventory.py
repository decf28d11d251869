"""What an AWS account has of what Sortition needs there; read when it is first needed, and kept.

`account` looks at it. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from flagserver.aws import Aws, AwsRefused

Told = Mapping[str, Any]
"""Something in AWS's own words."""

RECENT = 10
"""So many of a group's deployments are looked at."""


@dataclass(frozen=True)
class Pair:
    """The two target groups of a deployment group, as CloudWatch's dimensions name them."""

    group: str
    names: tuple[str, ...]
    dimensions: tuple[str, ...]


class Account:
    """What an account has, read when it is first needed and kept. All of it raises AwsError."""

    def __init__(
        self, aws: Aws, *, application: str | None = None, region: str | None = None
    ) -> None:
        """application: only this one of CodeDeploy's."""
        self._aws = aws
        self._application = application
        self._region = region

    def read(self, service: str, operation: str, **parameters: Any) -> Told:
        """Return the answer to a call."""
        return self._aws.read(service, operation, self._region, **parameters)

    @cached_property
    def caller(self) -> str:
        """The ARN of whose credentials these are."""
        return str(self.read("sts", "get_caller_identity")["Arn"])

    @cached_property
    def groups(self) -> Sequence[Told]:
        """Deployment groups of ECS services."""
        applications = [self._application] if self._application else self._applications()
        found: list[Told] = []
        for application in applications:
            names = self._pages(
                "codedeploy",
                "list_deployment_groups",
                items="deploymentGroups",
                applicationName=application,
            )
            for some in _in_parts(names, 100):
                told = self.read(
                    "codedeploy",
                    "batch_get_deployment_groups",
                    applicationName=application,
                    deploymentGroupNames=some,
                )
                found += told["deploymentGroupsInfo"]
        return [group for group in found if group.get("ecsServices")]

    @cached_property
    def services(self) -> Sequence[Told]:
        """Services of every ECS cluster."""
        found: list[Told] = []
        for cluster in self._pages("ecs", "list_clusters", items="clusterArns"):
            names = self._pages(
                "ecs", "list_services", items="serviceArns", cluster=cluster, maxResults=100
            )
            for some in _in_parts(names, 10):
                found += self.read("ecs", "describe_services", cluster=cluster, services=some)[
                    "services"
                ]
        return found

    @cached_property
    def alarms(self) -> Sequence[Told]:
        """Alarms over metrics."""
        return self._alarms("MetricAlarm")

    @cached_property
    def alarm_names(self) -> frozenset[str]:
        """The names of all alarms, composite ones too."""
        both = chain(self.alarms, self._alarms("CompositeAlarm"))
        return frozenset(alarm["AlarmName"] for alarm in both)

    @cached_property
    def pairs(self) -> Sequence[Pair]:
        """The target groups of every deployment group."""
        return [self._pair(group) for group in self.groups]

    @cached_property
    def meshes(self) -> Sequence[str]:
        """The names of App Mesh's meshes."""
        found = self._pages("appmesh", "list_meshes", items="meshes")
        return [str(mesh["meshName"]) for mesh in found]

    def deployments(self, group: Told) -> Sequence[Told]:
        """Return a group's newest deployments, newest first."""
        told = self.read(
            "codedeploy",
            "list_deployments",
            applicationName=group["applicationName"],
            deploymentGroupName=group["deploymentGroupName"],
        )
        some = told["deployments"][:RECENT]
        if not some:
            return []
        found = self.read("codedeploy", "batch_get_deployments", deploymentIds=some)
        return sorted(found["deploymentsInfo"], key=lambda d: d["createTime"], reverse=True)

    def events(self, deployment: Told) -> Sequence[Told]:
        """Return a deployment's lifecycle events."""
        id = deployment["deploymentId"]
        try:
            targets = self.read("codedeploy", "list_deployment_targets", deploymentId=id)
        except AwsRefused as error:
            if error.code == "DeploymentNotStartedException":
                return []
            raise
        found: list[Told] = []
        for target in targets["targetIds"]:
            told = self.read(
                "codedeploy", "get_deployment_target", deploymentId=id, targetId=target
            )
            found += told["deploymentTarget"].get("ecsTarget", {}).get("lifecycleEvents") or []
        return found

    def app_spec(self, group: Told) -> str | None:
        """Return the AppSpec of a group's last deployment; None: there is none to be had."""
        last = (group.get("lastAttemptedDeployment") or {}).get("deploymentId")
        if last is None:
            return None
        deployment = self.read("codedeploy", "get_deployment", deploymentId=last)["deploymentInfo"]
        revision = deployment.get("revision") or {}
        if revision.get("revisionType") not in {"AppSpecContent", "String"}:
            return None
        told = self.read(
            "codedeploy",
            "get_application_revision",
            applicationName=group["applicationName"],
            revision=revision,
        )["revision"]
        content = told.get("appSpecContent") or told.get("string") or {}
        return content.get("content")

    def _applications(self) -> Sequence[str]:
        return self._pages("codedeploy", "list_applications", items="applications")

    def _alarms(self, kind: str) -> Sequence[Told]:
        return self._pages(
            "cloudwatch",
            "describe_alarms",
            items=f"{kind}s",
            token=("NextToken", "NextToken"),
            AlarmTypes=[kind],
        )

    def _pair(self, group: Told) -> Pair:
        names = [each["name"] for pair in pairs_of(group) for each in pair["targetGroups"]]
        told = self.read("elbv2", "describe_target_groups", Names=names) if names else {}
        arns = [each["TargetGroupArn"] for each in told.get("TargetGroups", ())]
        return Pair(named(group), tuple(names), tuple(arn.rpartition(":")[2] for arn in arns))

    def _pages(self, service: str, operation: str, **told: Any) -> list[Any]:
        return self._aws.pages(service, operation, self._region, **told)


# --- AWS's words ----------------------------------------------------------------------------------


def pairs_of(group: Told) -> Sequence[Told]:
    """Return a deployment group's pairs of target groups."""
    return (group.get("loadBalancerInfo") or {}).get("targetGroupPairInfoList") or []


def route(pair: Told, name: str) -> Sequence[str]:
    """Return the listeners of a pair's route: `prodTrafficRoute` or `testTrafficRoute`."""
    return (pair.get(name) or {}).get("listenerArns") or []


def named(group: Told) -> str:
    """Return a deployment group's name for people: `shop/blue-green`."""
    return f"{group['applicationName']}/{group['deploymentGroupName']}"


def _in_parts(items: Sequence[Any], most: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), most):
        yield list(items[start : start + most])
