"""The small stack that `flagserver aws check` makes in an account, and takes down again.

Everything is named by one name, `sortition-check-3f9a1c`, and taken down by that name alone: what a
call made whose answer was lost is found as well, and so is what a check left that was killed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flagserver import alarms
from flagserver.aws import Aws, AwsError, AwsRefused

PREFIX = "sortition-check-"
PORT = 80
SIDES = ("blue", "green")
CANARY_PERCENT, CANARY_MINUTES, BAKE_MINUTES = 5, 3, 1
RUNNING = ("Created", "Queued", "InProgress", "Baking", "Ready")

ABSENT = frozenset(
    {
        *("LoadBalancerNotFound", "TargetGroupNotFound", "ServiceNotFoundException"),
        *("ServiceNotActiveException", "ClusterNotFoundException"),
        *("ApplicationDoesNotExistException", "DeploymentGroupDoesNotExistException"),
        *("DeploymentConfigDoesNotExistException", "DeploymentAlreadyCompletedException"),
    }
)
"""Codes that say of what is to be taken down that it is not there."""

TRIES, BETWEEN_SECONDS = 40, 15.0
"""A target group or a configuration is in use for some minutes after what used it has gone."""

TAKE_BACK = ("DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST")

Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is made. role: CodeDeploy's service role, an ARN; image: answers 200 at `/` on port
    80; public: tasks get a public address, for subnets without a NAT gateway."""

    region: str
    cluster: str
    subnets: Sequence[str]
    security_group: str
    role: str
    image: str
    public: bool


@dataclass(frozen=True, slots=True)
class Made:
    """ARNs of the load balancer's part. groups: blue, green; rules: by what they are there for."""

    listener: str
    groups: tuple[str, str]
    rules: dict[str, str]


class Stack:
    """One stack. Everything raises AwsError but taking down."""

    def __init__(self, aws: Aws, place: Place, name: str) -> None:
        self._aws = aws
        self.place = place
        self.name = name

    @property
    def breaking(self) -> str:
        """The name of the alarm that is made to fire."""
        return f"{self.name}-break"

    # --- made ---

    def build(self) -> Made:
        """Make all of it. What was made before something failed stays, to be taken down."""
        place = self.place
        balancer = self.write(
            *("elbv2", "create_load_balancer"),
            Name=self.name,
            Subnets=list(place.subnets),
            SecurityGroups=[place.security_group],
            Scheme="internal",
            Type="application",
        )["LoadBalancers"][0]
        blue, green = (self._group(side, balancer["VpcId"]) for side in SIDES)
        listener = self.write(
            *("elbv2", "create_listener"),
            LoadBalancerArn=balancer["LoadBalancerArn"],
            Protocol="HTTP",
            Port=PORT,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": blue}],
        )["Listeners"][0]["ListenerArn"]
        other = {"StatusCode": "204", "ContentType": "text/plain"}
        rules = {
            "of the pair": self._rule(listener, 10, "/pair", forward(blue)),
            "of one's own": self._rule(
                listener, 20, "/own", {"Type": "fixed-response", "FixedResponseConfig": other}
            ),
        }
        self._service(blue)
        self._alarms(blue, green)
        self._codedeploy(listener)
        return Made(listener, (blue, green), rules)

    def task_definition(self, version: int) -> str:
        """Register a version of the service; return its ARN."""
        container = {
            "name": "web",
            "image": self.place.image,
            "essential": True,
            "portMappings": [{"containerPort": PORT, "protocol": "tcp"}],
            "environment": [{"name": "VERSION", "value": str(version)}],
        }
        made = self.write(
            *("ecs", "register_task_definition"),
            family=self.name,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[container],
        )
        arn: str = made["taskDefinition"]["taskDefinitionArn"]
        return arn

    def deploy(self, task_definition: str) -> str:
        """Begin a deployment; return its id."""
        properties = {
            "TaskDefinition": task_definition,
            "LoadBalancerInfo": {"ContainerName": "web", "ContainerPort": PORT},
        }
        service = {"Type": "AWS::ECS::Service", "Properties": properties}
        content = json.dumps({"version": 0.0, "Resources": [{"TargetService": service}]})
        made = self.write(
            *("codedeploy", "create_deployment"),
            applicationName=self.name,
            deploymentGroupName=self.name,
            revision={
                "revisionType": "AppSpecContent",
                "appSpecContent": {"content": content},
            },
        )
        id: str = made["deploymentId"]
        return id

    def read(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """Ask something."""
        return self._aws.read(service, operation, self.place.region, **parameters)

    def write(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """Change something."""
        return self._aws.write(service, operation, self.place.region, **parameters)

    def _group(self, side: str, vpc: str) -> str:
        made = self.write(
            *("elbv2", "create_target_group"),
            Name=f"{self.name}-{side}",
            Protocol="HTTP",
            Port=PORT,
            VpcId=vpc,
            TargetType="ip",
            HealthCheckIntervalSeconds=10,
            HealthyThresholdCount=2,
        )
        arn: str = made["TargetGroups"][0]["TargetGroupArn"]
        return arn

    def _rule(self, listener: str, priority: int, path: str, action: dict[str, Any]) -> str:
        made = self.write(
            *("elbv2", "create_rule"),
            ListenerArn=listener,
            Priority=priority,
            Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": [path]}}],
            Actions=[action],
        )
        arn: str = made["Rules"][0]["RuleArn"]
        return arn

    def _service(self, group: str) -> None:
        network = {
            "subnets": list(self.place.subnets),
            "securityGroups": [self.place.security_group],
            "assignPublicIp": "ENABLED" if self.place.public else "DISABLED",
        }
        self.write(
            *("ecs", "create_service"),
            cluster=self.place.cluster,
            serviceName=self.name,
            taskDefinition=self.task_definition(1),
            desiredCount=1,
            launchType="FARGATE",
            deploymentController={"type": "CODE_DEPLOY"},
            networkConfiguration={"awsvpcConfiguration": network},
            loadBalancers=[
                {"targetGroupArn": group, "containerName": "web", "containerPort": PORT}
            ],
        )

    def _alarms(self, blue: str, green: str) -> None:
        pair = alarms.pair_of(self._aws, blue, green)
        alarms.create(self._aws, alarms.standard(pair, prefix=self.name), region=self.place.region)
        # Nobody publishes this metric, and what is missing changes nothing: it stays as it is set.
        self.write(
            *("cloudwatch", "put_metric_alarm"),
            AlarmName=self.breaking,
            Namespace="Sortition/Check",
            MetricName=self.name,
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1.0,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="ignore",
        )

    def _codedeploy(self, listener: str) -> None:
        name = self.name
        canary = {"canaryPercentage": CANARY_PERCENT, "canaryInterval": CANARY_MINUTES}
        self.write(
            *("codedeploy", "create_deployment_config"),
            deploymentConfigName=name,
            computePlatform="ECS",
            trafficRoutingConfig={"type": "TimeBasedCanary", "timeBasedCanary": canary},
        )
        self.write("codedeploy", "create_application", applicationName=name, computePlatform="ECS")
        pair = {
            "targetGroups": [{"name": f"{name}-{side}"} for side in SIDES],
            "prodTrafficRoute": {"listenerArns": [listener]},
        }
        self.write(
            *("codedeploy", "create_deployment_group"),
            applicationName=name,
            deploymentGroupName=name,
            deploymentConfigName=name,
            serviceRoleArn=self.place.role,
            ecsServices=[{"clusterName": self.place.cluster, "serviceName": name}],
            deploymentStyle={
                "deploymentType": "BLUE_GREEN",
                "deploymentOption": "WITH_TRAFFIC_CONTROL",
            },
            blueGreenDeploymentConfiguration={
                "terminateBlueInstancesOnDeploymentSuccess": {
                    "action": "TERMINATE",
                    "terminationWaitTimeInMinutes": BAKE_MINUTES,
                },
                "deploymentReadyOption": {"actionOnTimeout": "CONTINUE_DEPLOYMENT"},
            },
            loadBalancerInfo={"targetGroupPairInfoList": [pair]},
            alarmConfiguration={"enabled": True, "alarms": [{"name": self.breaking}]},
            autoRollbackConfiguration={"enabled": True, "events": list(TAKE_BACK)},
        )

    # --- taken down ---

    def tear_down(self, sleep: Sleep) -> list[str]:
        """Take all of it down, whatever of it there is; return what is left, in words.

        One thing that cannot be taken down keeps no other.
        """
        left = (_try(step, what, sleep) for what, step in self._steps())
        return [each for each in left if each is not None]

    def _steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        name = self.name
        yield f"what is being deployed of {name}", self._stop_all
        yield f"deployment group {name}/{name}", self._delete_group
        yield f"application {name}", self._delete_application
        yield f"deployment configuration {name}", self._delete_config
        yield f"service {self.place.cluster}/{name}", self._delete_service
        yield f"task definitions {name}", self._deregister
        yield f"load balancer {name}", self._delete_balancer
        for side in SIDES:
            yield f"target group {name}-{side}", partial(self._delete_target_group, side)
        yield f"alarms {name}-…", self._delete_alarms

    def _stop_all(self) -> None:
        running = self.read(
            *("codedeploy", "list_deployments"),
            applicationName=self.name,
            deploymentGroupName=self.name,
            includeOnlyStatuses=list(RUNNING),
        )
        for id in running["deployments"]:
            self.write("codedeploy", "stop_deployment", deploymentId=id, autoRollbackEnabled=False)

    def _delete_group(self) -> None:
        self.write(
            *("codedeploy", "delete_deployment_group"),
            applicationName=self.name,
            deploymentGroupName=self.name,
        )

    def _delete_application(self) -> None:
        self.write("codedeploy", "delete_application", applicationName=self.name)

    def _delete_config(self) -> None:
        self.write("codedeploy", "delete_deployment_config", deploymentConfigName=self.name)

    def _delete_service(self) -> None:
        self.write(
            *("ecs", "delete_service"),
            cluster=self.place.cluster,
            service=self.name,
            force=True,
        )

    def _deregister(self) -> None:
        found = self.read("ecs", "list_task_definitions", familyPrefix=self.name, status="ACTIVE")
        for arn in found["taskDefinitionArns"]:
            self.write("ecs", "deregister_task_definition", taskDefinition=arn)

    def _delete_balancer(self) -> None:
        # Its listeners and rules go with it.
        found = self.read("elbv2", "describe_load_balancers", Names=[self.name])
        for each in found["LoadBalancers"]:
            arn = each["LoadBalancerArn"]
            self.write("elbv2", "delete_load_balancer", LoadBalancerArn=arn)

    def _delete_target_group(self, side: str) -> None:
        found = self.read("elbv2", "describe_target_groups", Names=[f"{self.name}-{side}"])
        for each in found["TargetGroups"]:
            self.write("elbv2", "delete_target_group", TargetGroupArn=each["TargetGroupArn"])

    def _delete_alarms(self) -> None:
        kinds = ("CompositeAlarm", "MetricAlarm")
        found = self.read(
            *("cloudwatch", "describe_alarms"),
            AlarmNamePrefix=self.name,
            AlarmTypes=list(kinds),
        )
        # Those that a composite names cannot go before it.
        for kind in kinds:
            names = [each["AlarmName"] for each in found.get(f"{kind}s") or ()]
            if names:
                self.write("cloudwatch", "delete_alarms", AlarmNames=names)


def _try(step: Callable[[], None], what: str, sleep: Sleep) -> str | None:
    """Take one thing down, again and again while something still uses it; return why it is left."""
    why = ""
    for tried in range(TRIES):
        if tried:
            sleep(BETWEEN_SECONDS)
        try:
            step()
        except AwsError as error:
            code = error.code if isinstance(error, AwsRefused) else ""
            if code in ABSENT:
                return None
            why = f"{what}: {error}"
            if isinstance(error, AwsRefused) and error.forbidden:
                return why
        except Exception as error:  # noqa: BLE001 (a mistake of ours is to leave nothing behind)
            return f"{what}: {error!r}"
        else:
            return None
    return why


def forward(group: str) -> dict[str, Any]:
    """Return a rule's action that sends everybody to one group."""
    return {"Type": "forward", "TargetGroupArn": group}
