"""What AWS refuses, the double refuses too: a case for each fact that it lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from examples.awsfake import cloudwatch, deployments, elbv2
from examples.awsfake.scene import Scene
from tests.awsfake.double import Double, double


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found:
        yield found


@pytest.fixture
def aws(running: Double) -> Double:
    running.reset()
    return running


def groups(**weights: int) -> Callable[[Scene], list[dict[str, Any]]]:
    return lambda scene: [
        {"TargetGroupArn": getattr(scene, side), "Weight": weight}
        for side, weight in weights.items()
    ]


def forwarding(
    tuples: Callable[[Scene], list[dict[str, Any]]], **more: Any
) -> Callable[[Double, Scene], None]:
    """Modify the scene's rule to forward like this."""

    def case(aws: Double, scene: Scene) -> None:
        config = {"TargetGroups": tuples(scene), **more.get("config", {})}
        action = {"Type": "forward", "ForwardConfig": config, **more.get("action", {})}
        aws.client("elbv2").modify_rule(RuleArn=scene.rule, Actions=[action])

    return case


def group(aws: Double, name: str) -> str:
    vpc = aws.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    elb = aws.client("elbv2")
    made = elb.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=vpc)
    return str(made["TargetGroups"][0]["TargetGroupArn"])


def six_groups(aws: Double, scene: Scene) -> None:
    arns = [group(aws, f"g{number}") for number in range(6)]
    forwarding(lambda _: [{"TargetGroupArn": arn, "Weight": 1} for arn in arns])(aws, scene)


def two_ways_to_say_it(aws: Double, scene: Scene) -> None:
    action = {"TargetGroupArn": scene.green}
    forwarding(groups(blue=1, green=1), action=action)(aws, scene)


def sticky_for(seconds: int | None) -> Callable[[Double, Scene], None]:
    sticky: dict[str, Any] = {"Enabled": True}
    if seconds is not None:
        sticky["DurationSeconds"] = seconds
    return forwarding(groups(blue=1, green=1), config={"TargetGroupStickinessConfig": sticky})


def sticky_targets(aws: Double, scene: Scene) -> None:
    aws.client("elbv2").modify_target_group_attributes(
        TargetGroupArn=scene.blue, Attributes=[{"Key": "stickiness.enabled", "Value": "true"}]
    )
    forwarding(groups(blue=1, green=1))(aws, scene)


def default_rule(aws: Double, scene: Scene) -> None:
    elb = aws.client("elbv2")
    rules = elb.describe_rules(ListenerArn=scene.listener)["Rules"]
    (arn,) = [rule["RuleArn"] for rule in rules if rule["IsDefault"]]
    elb.modify_rule(RuleArn=arn, Actions=[{"Type": "forward", "TargetGroupArn": scene.blue}])


def oidc(**more: Any) -> Callable[[Double, Scene], None]:
    names = ("Issuer", "AuthorizationEndpoint", "TokenEndpoint", "UserInfoEndpoint", "ClientId")
    config = {**dict.fromkeys(names, "https://id.example"), **more}

    def case(aws: Double, scene: Scene) -> None:
        sign_in = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": config}
        forward = {"Type": "forward", "Order": 2, "TargetGroupArn": scene.blue}
        aws.client("elbv2").modify_rule(RuleArn=scene.rule, Actions=[sign_in, forward])

    return case


def two_ends(aws: Double, scene: Scene) -> None:
    forward = {"Type": "forward", "TargetGroupArn": scene.blue}
    aws.client("elbv2").modify_rule(RuleArn=scene.rule, Actions=[forward, forward])


def another_balancers_group(aws: Double, scene: Scene) -> None:
    other = aws.scene("other")
    forwarding(lambda _: [{"TargetGroupArn": other.blue, "Weight": 1}])(aws, scene)


ELB: dict[str, list[Callable[[Double, Scene], None]]] = {
    elbv2.REFUSED[0]: [
        forwarding(groups(blue=1000, green=1)),
        forwarding(groups(blue=-1, green=1)),
        forwarding(lambda s: [{"TargetGroupArn": s.blue}, {"TargetGroupArn": s.green}]),
    ],
    elbv2.REFUSED[1]: [six_groups],
    elbv2.REFUSED[2]: [forwarding(groups(blue=0, green=0))],
    elbv2.REFUSED[3]: [forwarding(lambda s: [{"TargetGroupArn": s.blue, "Weight": 1}] * 2)],
    elbv2.REFUSED[4]: [two_ways_to_say_it],
    elbv2.REFUSED[5]: [sticky_for(None), sticky_for(604_801)],
    elbv2.REFUSED[6]: [sticky_targets],
    elbv2.REFUSED[7]: [default_rule],
    elbv2.REFUSED[8]: [oidc(), oidc(UseExistingClientSecret=True)],
    elbv2.REFUSED[9]: [two_ends],
    elbv2.REFUSED[10]: [another_balancers_group],
    elbv2.REFUSED[11]: [
        lambda aws, scene: aws.client("elbv2").describe_rules(
            RuleArns=[scene.rule, f"{scene.rule[:-4]}0000"]
        ),
        lambda aws, scene: aws.client("elbv2").describe_listeners(
            ListenerArns=[scene.listener, f"{scene.listener[:-4]}0000"]
        ),
    ],
}


def asking(queries: list[dict[str, Any]], minutes: int = 5) -> Callable[[Double, Scene], None]:
    def case(aws: Double, scene: Scene) -> None:
        start = datetime(2026, 11, 23, tzinfo=UTC)
        aws.client("cloudwatch").get_metric_data(
            MetricDataQueries=queries, StartTime=start, EndTime=start + timedelta(minutes=minutes)
        )

    return case


def stat(id: str = "m", statistic: str = "Sum", **more: Any) -> dict[str, Any]:
    metric = {"Namespace": "Shop", "MetricName": "m"}
    return {"Id": id, "MetricStat": {"Metric": metric, "Period": 60, "Stat": statistic}, **more}


def publishing(namespace: str = "Shop", **datum: Any) -> Callable[[Double, Scene], None]:
    def case(aws: Double, scene: Scene) -> None:
        aws.client("cloudwatch").put_metric_data(
            Namespace=namespace, MetricData=[{"MetricName": "m", **datum}]
        )

    return case


ALARM = {
    "AlarmName": "a",
    "EvaluationPeriods": 2,
    "Threshold": 1.0,
    "ComparisonOperator": "GreaterThanThreshold",
}
ONE = {"Namespace": "Shop", "MetricName": "m", "Statistic": "Sum", "Period": 60}


def alarming(**changes: Any) -> Callable[[Double, Scene], None]:
    return lambda aws, scene: aws.client("cloudwatch").put_metric_alarm(**{**ALARM, **changes})


def composing(rule: str) -> Callable[[Double, Scene], None]:
    def case(aws: Double, scene: Scene) -> None:
        alarming(**ONE)(aws, scene)
        aws.client("cloudwatch").put_composite_alarm(AlarmName="all", AlarmRule=rule)

    return case


def of_101(aws: Double, scene: Scene) -> None:
    for number in range(101):
        alarming(**ONE, AlarmName=f"a{number}")(aws, scene)
    rule = " OR ".join(f"ALARM(a{number})" for number in range(101))
    aws.client("cloudwatch").put_composite_alarm(AlarmName="all", AlarmRule=rule)


CLOUDWATCH: dict[str, list[Callable[[Double, Scene], None]]] = {
    cloudwatch.REFUSED[0]: [
        asking([stat(f"m{number}") for number in range(501)]),
        asking([stat(statistic="Mean")]),
        asking([stat()], minutes=0),
        asking([stat("m"), {"Id": "e", "Expression": "RATE(m)"}]),
    ],
    cloudwatch.REFUSED[1]: [
        publishing("AWS/ApplicationELB", Value=1.0),
        publishing(Value=float("nan")),
        publishing(Value=float("inf")),
        publishing(Values=[1.0, 2.0], Counts=[1.0]),
    ],
    cloudwatch.REFUSED[2]: [
        alarming(**ONE, Metrics=[stat()]),
        alarming(Metrics=[stat("m"), stat("n")]),
        alarming(Metrics=[stat(ReturnData=False)]),
    ],
    cloudwatch.REFUSED[3]: [alarming(**ONE, DatapointsToAlarm=3)],
    cloudwatch.REFUSED[4]: [
        composing("ALARM(gone)"),
        composing("ALARM(a) AND"),
        composing(" OR ".join(["ALARM(a)"] * 1000)),
        of_101,
    ],
    cloudwatch.REFUSED[5]: [
        lambda aws, scene: aws.client("cloudwatch").set_alarm_state(
            AlarmName="gone", StateValue="OK", StateReason="a test"
        )
    ],
}

DEPLOYMENTS: dict[str, list[Callable[[Double, Scene], None]]] = {
    deployments.REFUSED[0]: [
        lambda aws, scene: aws.client("ecs").list_service_deployments(service="shop"),
    ],
}

EVERYTHING = ELB | CLOUDWATCH | DEPLOYMENTS
CASES = [
    pytest.param(case, id=f"{fact} ({number})")
    for fact, cases in EVERYTHING.items()
    for number, case in enumerate(cases, 1)
]


@pytest.mark.parametrize("case", CASES)
def test_refused_as_the_callers_fault_and_nothing_changed(aws, case):
    scene = aws.scene()
    before = aws.weights(scene.rule)
    with pytest.raises(ClientError) as refused:
        case(aws, scene)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in {400, 404}
    assert refused.value.response["Error"]["Code"]
    assert aws.weights(scene.rule) == before


def test_every_fact_has_a_case():
    listed = {*elbv2.REFUSED, *cloudwatch.REFUSED, *deployments.REFUSED}
    assert listed == set(EVERYTHING)
