"""What a service behind a load balancer has at AWS, made by boto3 as Terraform would make it: a
balancer, a listener, a rule, and the two target groups of a blue/green pair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import boto3

REGION = "eu-west-1"
TARGET = "10.0.0.1"
"""The one target of each group."""

KEYS = {"aws_access_key_id": "double", "aws_secret_access_key": "double"}


@lru_cache
def client(service: str, url: str, region: str = REGION) -> Any:
    """Return a client of the double at `url`; kept, for making one takes a while."""
    return boto3.client(service, endpoint_url=url, region_name=region, **KEYS)


@dataclass(frozen=True, slots=True)
class Scene:
    """ARNs of what was made. blue has all of the traffic, green has none."""

    balancer: str
    listener: str
    rule: str
    blue: str
    green: str

    @property
    def dimension(self) -> str:
        """The balancer as CloudWatch's dimensions name it."""
        return self.balancer.partition(":loadbalancer/")[2]


def build(url: str, name: str = "shop", region: str = REGION) -> Scene:
    """Make it all, with one healthy target in each group."""
    elb, ec2 = client("elbv2", url, region), client("ec2", url, region)
    subnets = [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"][:2]]
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    balancer = elb.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"][0]
    blue, green = (_group(elb, f"{name}-{side}", vpc) for side in ("blue", "green"))
    listener = elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": blue}],
    )["Listeners"][0]["ListenerArn"]
    rule = elb.create_rule(
        ListenerArn=listener,
        Priority=10,
        Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}],
        Actions=[{"Type": "forward", "TargetGroupArn": blue}],
    )["Rules"][0]["RuleArn"]
    return Scene(balancer["LoadBalancerArn"], listener, rule, blue, green)


def _group(elb: Any, name: str, vpc: str) -> str:
    made = elb.create_target_group(
        Name=name, Protocol="HTTP", Port=8080, VpcId=vpc, TargetType="ip"
    )
    arn: str = made["TargetGroups"][0]["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": TARGET, "Port": 8080}])
    return arn


# --- CodeDeploy -----------------------------------------------------------------------------------

APPLICATION = "shop"
GROUP = "blue-green"
ROLE = "arn:aws:iam::123456789012:role/deploy"
CANARY = "CodeDeployDefault.ECSCanary10Percent5Minutes"
EVERY_ROLLBACK = {
    "enabled": True,
    "events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"],
}


def deployment_group(scene: Scene, name: str = "shop", **told: Any) -> dict[str, Any]:
    """Return what CreateDeploymentGroup wants for the scene's service, but for what is told."""
    pair: dict[str, Any] = {
        "targetGroups": [{"name": f"{name}-blue"}, {"name": f"{name}-green"}],
        "prodTrafficRoute": {"listenerArns": [scene.listener]},
    }
    return {
        "applicationName": APPLICATION,
        "deploymentGroupName": GROUP,
        "deploymentConfigName": CANARY,
        "serviceRoleArn": ROLE,
        "ecsServices": [{"clusterName": "main", "serviceName": name}],
        "deploymentStyle": {
            "deploymentType": "BLUE_GREEN",
            "deploymentOption": "WITH_TRAFFIC_CONTROL",
        },
        "blueGreenDeploymentConfiguration": {
            "terminateBlueInstancesOnDeploymentSuccess": {
                "action": "TERMINATE",
                "terminationWaitTimeInMinutes": 5,
            },
            "deploymentReadyOption": {"actionOnTimeout": "CONTINUE_DEPLOYMENT"},
        },
        "loadBalancerInfo": {"targetGroupPairInfoList": [pair]},
        "autoRollbackConfiguration": EVERY_ROLLBACK,
        **told,
    }


def app_spec(version: int = 2, **hooks: str) -> str:
    """Return an AppSpec for ECS. version: of the task definition; hooks: event -> function."""
    lines = [
        "version: 0.0",
        "Resources:",
        "  - TargetService:",
        "      Type: AWS::ECS::Service",
        "      Properties:",
        f"        TaskDefinition: arn:aws:ecs:{REGION}:123456789012:task-definition/shop:{version}",
        "        LoadBalancerInfo: {ContainerName: shop, ContainerPort: 8080}",
        *(["Hooks:"] if hooks else []),
        *(f"  - {event}: {function}" for event, function in hooks.items()),
    ]
    return "\n".join(lines) + "\n"


def revision(version: int = 2, **hooks: str) -> dict[str, Any]:
    """Return the same as CreateDeployment takes it."""
    return {
        "revisionType": "AppSpecContent",
        "appSpecContent": {"content": app_spec(version, **hooks)},
    }


def build_codedeploy(url: str, scene: Scene, region: str = REGION, **told: Any) -> None:
    """Make an application for ECS with one deployment group over the scene's listener. told: of the
    group, as CreateDeploymentGroup wants it."""
    codedeploy = client("codedeploy", url, region)
    codedeploy.create_application(applicationName=APPLICATION, computePlatform="ECS")
    codedeploy.create_deployment_group(**deployment_group(scene, **told))


def deploy(url: str, version: int = 2, region: str = REGION, **told: Any) -> str:
    """Begin a deployment of a version; return its id. told: of CreateDeployment."""
    made = client("codedeploy", url, region).create_deployment(
        **{
            "applicationName": APPLICATION,
            "deploymentGroupName": GROUP,
            "revision": revision(version),
            **told,
        }
    )
    id: str = made["deploymentId"]
    return id
