"""What a service behind a load balancer has at AWS, made by boto3 as Terraform would make it: a
balancer, a listener, a rule, and the two target groups of a blue/green pair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import boto3

REGION = "eu-west-1"
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
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "10.0.0.1", "Port": 8080}])
    return arn
