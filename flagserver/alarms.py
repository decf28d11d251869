"""The standard alarms at CloudWatch, in CloudWatch's units: what `flagserver aws alarms` makes.

CodeDeploy swaps the two target groups of a blue/green pair with every deployment, so each group
gets its own alarms, and one composite fires when any of them does. The limits are those of the
standard guards: an error rate in percent by metric math (the count of errors is not published where
it is 0), latency in SECONDS, hosts by what all nodes of the load balancer agree on. Missing data is
within every limit here: without traffic there is nothing to be wrong, and whether a rollout may go
on without data is not an alarm's to say.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flagserver.aws import Arn, Aws, AwsRefused

ALB = "AWS/ApplicationELB"
PERIOD = 60
LEAST = 20
"""Fewer requests than that in a minute make no rate, and no comparison."""

ERROR_PERCENT = 1.0
P95_SECONDS = 1.0
DOUBLE = 2.0
OWN_PERCENT = {"user_session": 0.5, "critical_path": 0.1, "database_connection": 5.0}
"""What a service may count with the SDK, and publish to CloudWatch as `<name>_total` and
`<name>_failed`: the standard limits in percent."""

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm. kind: `metric` or `composite`; body: as PutMetricAlarm or PutCompositeAlarm wants
    it."""

    kind: str
    says: str
    body: Body

    @property
    def name(self) -> str:
        """Its name at CloudWatch."""
        return str(self.body["AlarmName"])

    def command(self, region: str | None) -> str:
        """Return the `aws` command that makes it."""
        words = ["aws", "cloudwatch", f"put-{self.kind}-alarm"]
        where = [] if region is None else ["--region", region]
        body = json.dumps(self.body, separators=(",", ":"))
        return shlex.join([*words, *where, "--cli-input-json", body])


@dataclass(frozen=True, slots=True)
class Pair:
    """Two target groups behind one load balancer, as CloudWatch's dimensions name them."""

    balancer: str
    groups: tuple[str, str]

    @property
    def name(self) -> str:
        """The load balancer's name."""
        return self.balancer.split("/")[1]


def standard(
    pair: Pair,
    *,
    prefix: str = "sortition",
    notify: Sequence[str] = (),
    namespace: str | None = None,
    dimensions: Mapping[str, str] | None = None,
) -> list[Alarm]:
    """Return the standard alarms of a pair, the composite last.

    notify: ARNs that the composite tells (a topic of SNS).  namespace, dimensions: where a service
    publishes what it counts itself (OWN_PERCENT); None: it does not.
    """
    start = f"{prefix}-{pair.name}"
    alarms: list[Alarm] = []
    for group, other in (pair.groups, reversed(pair.groups)):
        name = f"{start}-{group.split('/')[1]}"
        alarms += [
            _errors(f"{name}-errors", pair, group),
            _slow(f"{name}-p95", pair, group),
            _slower(f"{name}-p95-doubled", pair, group, other),
            _hosts(f"{name}-hosts", pair, group),
        ]
    if namespace is not None:
        where = dimensions or {}
        alarms += [
            _own(f"{start}-{name}", namespace, where, name, limit)
            for name, limit in OWN_PERCENT.items()
        ]
    return [*alarms, _any_of(start, alarms, notify)]


def create(aws: Aws, alarms: Sequence[Alarm], region: str | None) -> None:
    """Make alarms, or put them in the place of those of the same name. Raises AwsError; those
    before the one that failed are made then, and making all again is safe."""
    for alarm in alarms:
        aws.write("cloudwatch", f"put_{alarm.kind}_alarm", region, **alarm.body)


def pair_of(aws: Aws, first: str, second: str, balancer: str | None = None) -> Pair:
    """Return the pair of two target groups' ARNs; AWS is asked for the load balancer unless it is
    given (its ARN, or that of a listener or rule of it). Raises ValueError, AwsError."""
    arns = [Arn.parse(text) for text in (first, second)]
    for text, arn in zip((first, second), arns, strict=True):
        if arn.kind != "targetgroup":
            raise ValueError(f"{text} is no target group.")
    if arns[0] == arns[1]:
        raise ValueError("The two target groups are one.")
    if balancer is None:
        balancer = _balancer(aws, first, arns[0].region)
    path = "/".join(Arn.parse(balancer).path.split("/")[:3])
    if not path.startswith("app/") or path.count("/") != 2:
        raise ValueError(f"{balancer} is no Application Load Balancer.")
    return Pair(path, (f"targetgroup/{arns[0].path}", f"targetgroup/{arns[1].path}"))


def _balancer(aws: Aws, group: str, region: str) -> str:
    try:
        told = aws.read("elbv2", "describe_target_groups", region, TargetGroupArns=[group])
    except AwsRefused as error:
        if error.code == "TargetGroupNotFound":
            raise ValueError(f"{group} does not exist.") from None
        raise
    balancers = set(told["TargetGroups"][0].get("LoadBalancerArns") or ())
    if len(balancers) != 1:
        raise ValueError(f"{group} is behind no load balancer; give --load-balancer.")
    return str(balancers.pop())


# --- one alarm ------------------------------------------------------------------------------------


def _errors(name: str, pair: Pair, group: str) -> Alarm:
    failed = _query("failed", pair, group, "HTTPCode_Target_5XX_Count", "Sum")
    total = _query("total", pair, group, "RequestCount", "Sum")
    return _percent(name, f"{group}: HTTP errors", failed, total, ERROR_PERCENT)


def _own(
    name: str, namespace: str, dimensions: Mapping[str, str], metric: str, limit: float
) -> Alarm:
    where = _dimensions(dimensions)
    failed, total = (
        _stat(kind, {"Namespace": namespace, "MetricName": f"{metric}_{kind}", **where}, "Sum")
        for kind in ("failed", "total")
    )
    return _percent(name, metric.replace("_", " "), failed, total, limit)


def _percent(name: str, what: str, failed: Body, total: Body, limit: float) -> Alarm:
    # Without a FILL of the total: a minute that is not published yet would be 0 %, and where every
    # newest minute is late no two of two would ever be above the limit.
    expression = f"IF(total >= {LEAST}, 100 * FILL(failed, 0) / total, 0)"
    says = f"{what} > {limit:g} %, 2 of 2 minutes with {LEAST} requests or more"
    result = {"Id": "percent", "Expression": expression, "Label": f"{what}, %", "ReturnData": True}
    return _metric(name, says, ">", limit, 2, {"Metrics": [result, failed, total]})


def _slow(name: str, pair: Pair, group: str) -> Alarm:
    says = f"{group}: p95 latency > {P95_SECONDS:g} s, 3 of 3 minutes"
    metric = {
        **_of(pair, group, "TargetResponseTime"),
        "ExtendedStatistic": "p95",
        "Period": PERIOD,
        # A canary has few requests by its nature: not to look at them would be to be blind.
        "EvaluateLowSampleCountPercentile": "evaluate",
    }
    return _metric(name, says, ">", P95_SECONDS, 3, metric)


def _slower(name: str, pair: Pair, group: str, other: str) -> Alarm:
    says = f"{group}: p95 latency > {DOUBLE:g} x that of {other}, 3 of 3 minutes"
    metrics = [
        {
            "Id": "times",
            "Expression": f"IF(count >= {LEAST} AND others >= {LEAST}, p95 / base, 0)",
            "Label": "times the other group's p95",
            "ReturnData": True,
        },
        _query("p95", pair, group, "TargetResponseTime", "p95"),
        _query("base", pair, other, "TargetResponseTime", "p95"),
        _query("count", pair, group, "TargetResponseTime", "SampleCount"),
        _query("others", pair, other, "TargetResponseTime", "SampleCount"),
    ]
    return _metric(name, says, ">", DOUBLE, 3, {"Metrics": metrics})


def _hosts(name: str, pair: Pair, group: str) -> Alarm:
    says = f"{group}: unhealthy hosts >= 1, 2 of 2 minutes"
    metric = {
        **_of(pair, group, "UnHealthyHostCount"),
        "Statistic": "Minimum",
        "Period": PERIOD,
    }
    return _metric(name, says, ">=", 1.0, 2, metric)


def _any_of(name: str, alarms: Sequence[Alarm], notify: Sequence[str]) -> Alarm:
    body = {
        "AlarmName": name,
        "AlarmDescription": "Any of the standard alarms. Name this one for a rollout.",
        "AlarmRule": " OR ".join(f'ALARM("{alarm.name}")' for alarm in alarms),
        "ActionsEnabled": True,
        "AlarmActions": list(notify),
    }
    return Alarm("composite", f"any of the {len(alarms)} above", body)


def _metric(
    name: str, says: str, sign: str, limit: float, points: int, metric: Mapping[str, Any]
) -> Alarm:
    signs = {">": "GreaterThanThreshold", ">=": "GreaterThanOrEqualToThreshold"}
    body = {
        "AlarmName": name,
        "AlarmDescription": f"{says}. Made by flagserver aws alarms.",
        **metric,
        "ComparisonOperator": signs[sign],
        "Threshold": limit,
        "EvaluationPeriods": points,
        "DatapointsToAlarm": points,
        "TreatMissingData": "notBreaching",
    }
    return Alarm("metric", says, body)


def _query(id: str, pair: Pair, group: str, metric: str, statistic: str) -> Body:
    return _stat(id, _of(pair, group, metric), statistic)


def _stat(id: str, metric: Body, statistic: str) -> Body:
    stat = {"Metric": metric, "Period": PERIOD, "Stat": statistic}
    return {"Id": id, "MetricStat": stat, "ReturnData": False}


def _of(pair: Pair, group: str, metric: str) -> Body:
    where = _dimensions({"TargetGroup": group, "LoadBalancer": pair.balancer})
    return {"Namespace": ALB, "MetricName": metric, **where}


def _dimensions(dimensions: Mapping[str, str]) -> Body:
    return {"Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()]}
