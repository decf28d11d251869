"""The double itself: its clock, its faults, and what moto does not have."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from examples.awsfake import scene as scenes
from examples.awsfake.clock import Clock
from examples.awsfake.scene import KEYS, REGION
from tests.awsfake.double import T0, Double, double
from tests.servers import wait_until


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found:
        yield found


@pytest.fixture
def aws(running: Double) -> Double:
    running.reset()
    return running


def impatient(aws: Double, service: str) -> Any:
    """A client that tries once, and waits for a second."""
    import boto3

    once = Config(read_timeout=1, retries={"mode": "standard", "total_max_attempts": 1})
    return boto3.client(service, endpoint_url=aws.url, region_name=REGION, config=once, **KEYS)


def forward(scene: Any, blue: int, green: int) -> list[dict[str, Any]]:
    groups = [(scene.blue, blue), (scene.green, green)]
    tuples = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in groups]
    return [{"Type": "forward", "ForwardConfig": {"TargetGroups": tuples}}]


# --- time -----------------------------------------------------------------------------------------


def test_a_clock_runs_stands_and_is_turned():
    real = [100.0]
    clock = Clock(now=1000.0, scale=60.0, real=lambda: real[0])
    real[0] = 101.0
    assert clock.now() == 1060.0
    clock.set(500.0, scale=0.0)
    real[0] = 200.0
    assert clock.now() == 500.0
    assert clock.utcnow() == datetime.fromtimestamp(500, UTC).replace(tzinfo=None)


def test_the_doubles_clock_is_that_of_its_services(aws):
    assert aws.ask("clock") == {"now": T0, "scale": 0}
    aws.tell("clock", advance=90)
    aws.client("codedeploy").create_application(applicationName="shop", computePlatform="ECS")
    told = aws.client("codedeploy").get_application(applicationName="shop")
    assert told["application"]["createTime"].timestamp() == T0 + 90


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["elbv2", "cloudwatch", "codedeploy", "ecs"])
@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [("throttle", "Throttling", 400), ("fail", "ServiceUnavailable", 503)],
)
def test_refusals_are_read_by_the_real_client(aws, service, kind, code, status):
    calls = {
        "elbv2": "describe_load_balancers",
        "cloudwatch": "describe_alarms",
        "codedeploy": "list_applications",
        "ecs": "list_clusters",
    }
    aws.fault("*", kind)
    with pytest.raises(ClientError) as refused:
        getattr(impatient(aws, service), calls[service])()
    assert refused.value.response["Error"]["Code"].startswith(code)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize(
    ("kind", "done"), [("hang", False), ("applied", True), ("cut", True), ("late", False)]
)
def test_no_answer_and_what_became_of_the_call(aws, kind, done):
    scene = aws.scene()
    aws.fault("ModifyRule", kind, seconds=1.5)
    with pytest.raises(BotoCoreError):
        impatient(aws, "elbv2").modify_rule(RuleArn=scene.rule, Actions=forward(scene, 1, 1))
    assert (scene.green in aws.weights(scene.rule)) is done
    if kind == "late":
        # It lands when its caller has gone.
        wait_until(lambda: scene.green in aws.weights(scene.rule), "the write to land")


def test_a_slow_answer(aws):
    scene = aws.scene()
    aws.fault("ModifyRule", "slow", seconds=0.3)
    began = time.monotonic()
    impatient(aws, "elbv2").modify_rule(RuleArn=scene.rule, Actions=forward(scene, 1, 1))
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("default", [False, True])
def test_a_lost_write_says_that_all_is_well(aws, default):
    scene = aws.scene()
    name = scene.listener if default else scene.rule
    elb = aws.client("elbv2")

    def write(blue: int, green: int) -> None:
        actions = forward(scene, blue, green)
        if default:
            elb.modify_listener(ListenerArn=name, DefaultActions=actions)
        else:
            elb.modify_rule(RuleArn=name, Actions=actions)

    write(19, 1)
    aws.fault("ModifyListener" if default else "ModifyRule", "lost")
    write(1, 1)
    assert aws.weights(name) == {scene.blue: 19, scene.green: 1}


def test_a_stale_reading_is_of_before_the_last_write(aws):
    scene = aws.scene()
    elb = aws.client("elbv2")
    elb.modify_rule(RuleArn=scene.rule, Actions=forward(scene, 19, 1))
    elb.modify_rule(RuleArn=scene.rule, Actions=forward(scene, 3, 1))
    aws.fault("DescribeRules", "stale")

    def read() -> list[int]:
        (rule,) = elb.describe_rules(RuleArns=[scene.rule])["Rules"]
        groups = rule["Actions"][0]["ForwardConfig"]["TargetGroups"]
        return [group["Weight"] for group in groups]

    assert read() == [19, 1]
    assert read() == [3, 1]


def test_a_fault_is_met_after_so_many_calls_and_so_often(aws):
    aws.fault("ListApplications", "fail", after=1, times=2)
    client = impatient(aws, "codedeploy")
    met = []
    for _ in range(4):
        try:
            client.list_applications()
            met.append(False)
        except ClientError:
            met.append(True)
    assert met == [False, True, True, False]


@pytest.mark.parametrize(
    "told",
    [
        {"operation": "X", "kind": "odd"},
        {"kind": "fail"},
        {"operation": "X", "kind": "hang", "seconds": 99},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(aws, told):
    with pytest.raises(AssertionError, match="error"):
        aws.ask("faults", told)


def test_what_it_cannot_be_told_is_refused(aws):
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{aws.url}/double/nothing", timeout=5)


# --- CloudWatch -----------------------------------------------------------------------------------


def read(aws: Double, statistic: str, metric: str = "m", minutes: int = 2) -> list[float]:
    stat = {
        "Metric": {"Namespace": "Shop", "MetricName": metric},
        "Period": 60,
        "Stat": statistic,
    }
    told = aws.client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "m", "MetricStat": stat}],
        StartTime=T0,
        EndTime=T0 + minutes * 60,
        ScanBy="TimestampAscending",
    )
    values: list[float] = told["MetricDataResults"][0]["Values"]
    return values


def test_statistics_of_what_was_published(aws):
    aws.client("cloudwatch").put_metric_data(
        Namespace="Shop",
        MetricData=[
            {"MetricName": "m", "Values": [1.0, 9.0], "Counts": [19.0, 1.0], "Timestamp": T0 + 5},
            {"MetricName": "m", "Value": 4.0, "Timestamp": T0 + 65},
        ],
    )
    found = {
        statistic: read(aws, statistic)
        for statistic in ("Sum", "Average", "Minimum", "Maximum", "SampleCount", "p95", "p99")
    }
    assert found == {
        "Sum": [28.0, 4.0],
        "Average": [1.4, 4.0],
        "Minimum": [1.0, 4.0],
        "Maximum": [9.0, 4.0],
        "SampleCount": [20.0, 1.0],
        "p95": [1.0, 4.0],
        "p99": [9.0, 4.0],
    }


def test_sets_of_statistics_have_no_percentiles(aws):
    values = {"Sum": 10.0, "SampleCount": 4.0, "Minimum": 1.0, "Maximum": 5.0}
    equal = {"Sum": 8.0, "SampleCount": 4.0, "Minimum": 2.0, "Maximum": 2.0}
    aws.client("cloudwatch").put_metric_data(
        Namespace="Shop",
        MetricData=[
            {"MetricName": "m", "StatisticValues": values, "Timestamp": T0},
            {"MetricName": "same", "StatisticValues": equal, "Timestamp": T0},
        ],
    )
    assert read(aws, "Average") == [2.5]
    assert read(aws, "p95") == []
    assert read(aws, "p95", "same") == [2.0]


def test_without_data_there_is_nothing_and_it_is_complete(aws):
    assert read(aws, "Sum") == []


def test_math_in_a_reading(aws):
    aws.client("cloudwatch").put_metric_data(
        Namespace="Shop",
        MetricData=[
            {"MetricName": "all", "Value": 200.0, "Timestamp": T0},
            {"MetricName": "bad", "Value": 3.0, "Timestamp": T0},
        ],
    )
    queries: list[dict[str, Any]] = [
        {
            "Id": name,
            "MetricStat": {
                "Metric": {"Namespace": "Shop", "MetricName": name},
                "Period": 60,
                "Stat": "Sum",
            },
            "ReturnData": False,
        }
        for name in ("all", "bad")
    ]
    told = aws.client("cloudwatch").get_metric_data(
        MetricDataQueries=[*queries, {"Id": "rate", "Expression": "100 * bad / all"}],
        StartTime=T0,
        EndTime=T0 + 60,
    )
    (result,) = told["MetricDataResults"]
    assert result["Values"] == [1.5]


def test_alarms_begin_without_enough_data_and_are_looked_at_each_minute(aws):
    cloudwatch = aws.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        Namespace="Shop",
        MetricName="errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=2,
        Threshold=5.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.put_composite_alarm(AlarmName="any", AlarmRule="ALARM(errors)")

    def states() -> list[str]:
        told = cloudwatch.describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        return [a["StateValue"] for a in (*told["MetricAlarms"], *told["CompositeAlarms"])]

    assert states() == ["INSUFFICIENT_DATA", "OK"]
    assert cloudwatch.describe_alarms()["CompositeAlarms"] == []
    seen = []
    for minute, errors in enumerate([1.0, 9.0, 9.0, 0.0]):
        cloudwatch.put_metric_data(
            Namespace="Shop",
            MetricData=[
                {"MetricName": "errors", "Value": errors, "Timestamp": T0 + minute * 60 + 30}
            ],
        )
        aws.turn(T0 + minute * 60 + 60)
        seen.append(states())
    assert seen == [["OK", "OK"], ["OK", "OK"], ["ALARM", "ALARM"], ["OK", "OK"]]
    # A person may say a state; it lasts until the next look.
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a drill")
    assert states() == ["ALARM", "ALARM"]
    aws.turn(T0 + 300)
    assert states() == ["OK", "OK"]


@pytest.mark.parametrize(("treat", "state"), [("ignore", "OK"), ("evaluate", "ALARM")])
def test_a_percentile_of_few(aws, treat, state):
    cloudwatch = aws.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="slow",
        Namespace="Shop",
        MetricName="took",
        ExtendedStatistic="p95",
        EvaluateLowSampleCountPercentile=treat,
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName="slow", StateValue="OK", StateReason="a test")
    cloudwatch.put_metric_data(
        Namespace="Shop",
        MetricData=[{"MetricName": "took", "Values": [3.0], "Counts": [9.0], "Timestamp": T0}],
    )
    aws.turn(T0 + 60)
    (alarm,) = cloudwatch.describe_alarms()["MetricAlarms"]
    assert alarm["StateValue"] == state


# --- deployments ----------------------------------------------------------------------------------


def test_a_codedeploy_deployment_looks_as_somebody_says(aws):
    client = aws.client("codedeploy")
    scenes.build_codedeploy(aws.url, aws.scene())
    deployment = scenes.deploy(aws.url)
    green = {"taskSetLabel": "Green", "trafficWeight": 10.0, "status": "ACTIVE"}
    aws.tell(
        "codedeploy",
        deployment=deployment,
        status="Baking",
        region=REGION,
        task_sets=[green],
    )
    aws.tell("clock", advance=3600)
    assert client.list_deployments(includeOnlyStatuses=["Baking"])["deployments"] == [deployment]
    (target,) = client.list_deployment_targets(deploymentId=deployment)["targetIds"]
    told = client.get_deployment_target(deploymentId=deployment, targetId=target)
    assert told["deploymentTarget"]["ecsTarget"]["taskSetsInfo"] == [green]


def test_deployments_of_an_ecs_service(aws):
    client = aws.client("ecs")
    client.create_cluster(clusterName="main")
    client.register_task_definition(
        family="shop", containerDefinitions=[{"name": "shop", "image": "shop", "memory": 64}]
    )
    service = client.create_service(
        cluster="main", serviceName="shop", taskDefinition="shop", desiredCount=1
    )["service"]["serviceArn"]
    arn = f"arn:aws:ecs:{REGION}:123456789012:service-deployment/main/shop/1"
    weight = {"arn": "revision/2", "requestedProductionTrafficWeight": 5.0}
    aws.tell(
        "ecs",
        deployment=arn,
        serviceArn=service,
        status="IN_PROGRESS",
        targetServiceRevision=weight,
    )
    listed = client.list_service_deployments(cluster="main", service="shop")["serviceDeployments"]
    assert [each["serviceDeploymentArn"] for each in listed] == [arn]
    told = client.describe_service_deployments(serviceDeploymentArns=[arn, arn + "0"])
    assert told["serviceDeployments"][0]["targetServiceRevision"] == weight
    assert told["failures"] == [{"arn": arn + "0", "reason": "MISSING"}]
    over = client.list_service_deployments(cluster="main", service="shop", status=["SUCCESSFUL"])
    assert over["serviceDeployments"] == []
