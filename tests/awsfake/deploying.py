"""A service behind the double's balancer that CodeDeploy deploys to: what tests do with it."""

from __future__ import annotations

from typing import Any

from examples.awsfake import scene as scenes
from tests.awsfake.double import Double

INSTALLED = 62.0
"""Seconds until the first traffic goes over: created, installed, allowed."""


class Stage:
    """A service with a deployment group, and its deployments."""

    def __init__(self, aws: Double, **group: Any) -> None:
        self.aws = aws
        self.scene = aws.scene()
        self.client = aws.client("codedeploy")
        scenes.build_codedeploy(aws.url, self.scene, **group)

    def deploy(self, version: int = 2, **told: Any) -> str:
        return scenes.deploy(self.aws.url, version, **told)

    def later(self, seconds: float) -> None:
        self.aws.tell("clock", advance=seconds)

    def info(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get_deployment(deploymentId=id)["deploymentInfo"]
        return found

    def target(self, id: str) -> dict[str, Any]:
        (name,) = self.client.list_deployment_targets(deploymentId=id)["targetIds"]
        told = self.client.get_deployment_target(deploymentId=id, targetId=name)
        found: dict[str, Any] = told["deploymentTarget"]["ecsTarget"]
        return found

    def events(self, id: str) -> dict[str, str]:
        told = self.target(id)["lifecycleEvents"]
        return {event["lifecycleEventName"]: event["status"] for event in told}

    def green(self, id: str) -> float | None:
        """The weight of the replacement task set, as CodeDeploy says."""
        sets = {each["taskSetLabel"]: each for each in self.target(id)["taskSetsInfo"]}
        return sets["Green"]["trafficWeight"] if "Green" in sets else None

    @property
    def weights(self) -> tuple[int, int]:
        """(blue, green) target group, as the load balancer has them."""
        found = self.aws.weights(self.scene.rule)
        return found.get(self.scene.blue, 0), found.get(self.scene.green, 0)

    def hooks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.aws.ask("hooks")
        return found

    def report(self, status: str = "Succeeded") -> None:
        """Answer the newest hook."""
        told = self.hooks()[-1]["payload"]
        self.client.put_lifecycle_event_hook_execution_status(
            deploymentId=told["DeploymentId"],
            lifecycleEventHookExecutionId=told["LifecycleEventHookExecutionId"],
            status=status,
        )

    def alarm(self, name: str = "api-5xx", state: str = "ALARM") -> None:
        cloudwatch = self.aws.client("cloudwatch")
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="Shop",
            MetricName="failed",
            Period=60,
            Statistic="Sum",
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="ignore",
        )
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
