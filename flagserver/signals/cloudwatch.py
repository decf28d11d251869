"""CloudWatch as a source of numbers: alarms, and metrics of load balancers or of one's own.

Settings of a signal, by what it measures (`where` is said below):

    alarm            alarms: names of metric or composite alarms
    rate             where; or namespace, failed, total: names of two metrics, dimensions, control
    latency          where; or namespace, metric, dimensions, control, unit (seconds, milliseconds);
                     quantile (0.95) or statistic (p95)
    unhealthy_hosts  where
    healthy_ratio    where
    value            namespace, metric, statistic (Sum), dimensions, control
    all              region, where it is not that of an ARN or of the environment

where: `load_balancer` (its ARN, that of a listener or rule of it, or `app/…`), `canary` and
`stable`, the target groups (ARNs, or `targetgroup/…`). Without `canary` both arms are measured
together.
dimensions, control: lists of `Name=Value`, of the canary and of the arm to compare with.

Percentages are computed here from raw sums: a metric that is only reported when it is not 0, as the
count of failures is, is 0 where there were requests, and where there was none there is no rate.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flagserver.aws import Arn, Aws, AwsError, AwsUnknown
from flagserver.domain.errors import Conflict, Invalid
from flagserver.domain.signals import Ask, Measure, Measured, Point, Signal

ALB = "AWS/ApplicationELB"
MEASURE_SECONDS = 5.0
"""After so long no further call is made in one look. One call is the rule."""

QUERIES = 500
"""Most queries of one GetMetricData."""

ALARMS = 100
"""Most names of one DescribeAlarms."""

WHERE = ("load_balancer", "canary", "stable")
OWN = ("namespace", "dimensions", "control")
SETTINGS: dict[Measure, frozenset[str]] = {
    Measure.ALARM: frozenset({"alarms", "region"}),
    Measure.RATE: frozenset({*WHERE, *OWN, "failed", "total", "region"}),
    Measure.LATENCY: frozenset({*WHERE, *OWN, "metric", "unit", "quantile", "statistic", "region"}),
    Measure.UNHEALTHY_HOSTS: frozenset({*WHERE, "region"}),
    Measure.HEALTHY_RATIO: frozenset({*WHERE, "region"}),
    Measure.VALUE: frozenset({*OWN, "metric", "statistic", "region"}),
}

STATISTIC = re.compile(r"Sum|Average|Minimum|Maximum|SampleCount|p\d{1,2}(\.\d{1,10})?|p100")

Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: a statistic of a metric. period: seconds of one point."""

    namespace: str
    metric: str
    dimensions: Dimensions
    statistic: str
    period: int

    def query(self, number: int) -> dict[str, Any]:
        """Return it as GetMetricData wants it."""
        named = [{"Name": name, "Value": value} for name, value in self.dimensions]
        metric = {"Namespace": self.namespace, "MetricName": self.metric, "Dimensions": named}
        stat = {"Metric": metric, "Period": self.period, "Stat": self.statistic}
        return {"Id": f"m{number}", "MetricStat": stat, "ReturnData": True}


Found = Mapping[Series, Mapping[int, float]]
"""Series -> the start of a period -> value. A series that could not be had is not there."""

MakePoint = Callable[[int, Sequence[float | None]], Point]
"""From the end of a period, and a value of each series or None."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an ask needs: the series of each arm, and how a point is made of their values."""

    region: str | None
    canary: tuple[Series, ...] = ()
    control: tuple[Series, ...] = ()
    point: MakePoint = lambda at, _: Point(at, None)
    pooled: bool = False
    alarms: tuple[str, ...] = ()


@dataclass
class Alarms:
    """What was found of alarms: name -> state; what could not be asked -> why."""

    states: dict[tuple[str | None, str], str] = field(default_factory=dict)
    errors: dict[tuple[str | None, str], str] = field(default_factory=dict)


class CloudWatch:
    """`ports.SignalSource` for CloudWatch."""

    name = "cloudwatch"

    def __init__(self, aws: Aws, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._aws = aws
        self._monotonic = monotonic

    def check(self, signal: Signal) -> None:
        """Raise Invalid unless its settings are right, and its alarms exist; Conflict while one of
        them is firing already, for a rollout that began so could not be judged by it."""
        plan = plan_of(signal, 60)
        if not plan.alarms:
            return
        found = self._alarms([plan], self._deadline())
        for name in plan.alarms:
            key = (plan.region, name)
            if key in found.errors:
                # Whether they exist will show when they are measured; nothing is judged blind.
                return
            if key not in found.states:
                raise Invalid(f"There is no alarm {name!r}.", field="/settings/alarms")
            if found.states[key] == "ALARM":
                raise Conflict(
                    f"The alarm {name!r} is firing already. Start when it is well, or without it.",
                    field="/settings/alarms",
                )

    def measure(self, asks: Sequence[Ask], now: float) -> Mapping[Ask, Measured]:
        """Return an answer to every ask: DescribeAlarms once for a hundred alarms, GetMetricData
        once for five hundred series of one region and period. Never raises."""
        plans: dict[Ask, Plan] = {}
        answers: dict[Ask, Measured] = {}
        for ask in asks:
            try:
                plans[ask] = plan_of(ask.signal, ask.period_seconds)
            except Invalid as error:
                answers[ask] = Measured(error=error.detail)
        deadline = self._deadline()
        alarms = self._alarms(list(plans.values()), deadline)
        found, errors = self._series(plans, now, deadline)
        for ask, plan in plans.items():
            if plan.alarms:
                answers[ask] = _of_alarms(plan, alarms, now)
            else:
                answers[ask] = _of_series(ask, plan, found, errors, now)
        return answers

    def _deadline(self) -> float:
        return self._monotonic() + MEASURE_SECONDS

    def _check_time(self, deadline: float) -> None:
        if self._monotonic() >= deadline:
            raise AwsUnknown("CloudWatch was not asked: there was no time left.")

    # --- metrics ---

    def _series(
        self, plans: Mapping[Ask, Plan], now: float, deadline: float
    ) -> tuple[dict[tuple[str | None, Series], Mapping[int, float]], dict[Any, str]]:
        """Return what was found by (region, series), and why some could not be had."""
        wanted: dict[tuple[str | None, int], dict[Series, int]] = {}
        for ask, plan in plans.items():
            for series in (*plan.canary, *plan.control):
                windows = wanted.setdefault((plan.region, series.period), {})
                windows[series] = max(windows.get(series, 0), ask.window_seconds)
        found: dict[tuple[str | None, Series], Mapping[int, float]] = {}
        errors: dict[tuple[str | None, Series], str] = {}
        for (region, period), windows in wanted.items():
            end = int(now) - int(now) % period
            start = end - math.ceil(max(windows.values()) / period) * period
            everything = list(windows)
            for first in range(0, len(everything), QUERIES):
                some = everything[first : first + QUERIES]
                try:
                    self._check_time(deadline)
                    values, wrong = self._get(region, some, start, end)
                except AwsError as error:
                    errors |= {(region, series): str(error) for series in some}
                    continue
                found |= {(region, series): line for series, line in values.items()}
                errors |= {(region, series): text for series, text in wrong.items()}
        return found, errors

    def _get(
        self, region: str | None, wanted: Sequence[Series], start: int, end: int
    ) -> tuple[Found, dict[Series, str]]:
        queries = [series.query(number) for number, series in enumerate(wanted)]
        results = self._aws.pages(
            "cloudwatch",
            "get_metric_data",
            region,
            items="MetricDataResults",
            token=("NextToken", "NextToken"),
            MetricDataQueries=queries,
            StartTime=datetime.fromtimestamp(start, UTC),
            EndTime=datetime.fromtimestamp(end, UTC),
            ScanBy="TimestampAscending",
        )
        found: dict[Series, dict[int, float]] = {series: {} for series in wanted}
        status: dict[Series, str] = {}
        for result in results:
            series = wanted[int(result["Id"][1:])]
            # A series may come in parts; the last one says whether it is whole.
            status[series] = result.get("StatusCode", "Complete")
            times = (int(each.timestamp()) for each in result["Timestamps"])
            found[series] |= dict(zip(times, result["Values"], strict=True))
        wrong = {
            series: f"CloudWatch answers {code} for {series.metric}."
            for series, code in status.items()
            if code != "Complete"
        }
        return {series: line for series, line in found.items() if series not in wrong}, wrong

    # --- alarms ---

    def _alarms(self, plans: Iterable[Plan], deadline: float) -> Alarms:
        wanted: dict[str | None, dict[str, None]] = {}
        for plan in plans:
            if plan.alarms:
                wanted.setdefault(plan.region, {}).update(dict.fromkeys(plan.alarms))
        found = Alarms()
        for region, names in wanted.items():
            everything = list(names)
            for first in range(0, len(everything), ALARMS):
                some = everything[first : first + ALARMS]
                try:
                    self._check_time(deadline)
                    told = self._aws.read(
                        "cloudwatch",
                        "describe_alarms",
                        region,
                        AlarmNames=some,
                        # Composites come only to those who ask for them.
                        AlarmTypes=["MetricAlarm", "CompositeAlarm"],
                        MaxRecords=ALARMS,
                    )
                except AwsError as error:
                    found.errors |= {(region, name): str(error) for name in some}
                    continue
                for alarm in (*told.get("MetricAlarms", ()), *told.get("CompositeAlarms", ())):
                    found.states[region, alarm["AlarmName"]] = alarm["StateValue"]
        return found


# --- answers --------------------------------------------------------------------------------------


def _of_alarms(plan: Plan, alarms: Alarms, now: float) -> Measured:
    """Return 1 while any fires, 0 while all are well, None while one has not enough data."""
    keys = [(plan.region, name) for name in plan.alarms]
    states = [alarms.states.get(key) for key in keys]
    if "ALARM" in states:
        return Measured((Point(now, 1.0),))
    for (_, name), key in zip(keys, keys, strict=True):
        if key in alarms.errors:
            return Measured(error=alarms.errors[key])
        if key not in alarms.states:
            return Measured(error=f"There is no alarm {name!r} any more.")
    return Measured((Point(now, 0.0 if set(states) == {"OK"} else None),))


def _of_series(
    ask: Ask,
    plan: Plan,
    found: Mapping[tuple[str | None, Series], Mapping[int, float]],
    errors: Mapping[tuple[str | None, Series], str],
    now: float,
) -> Measured:
    for series in (*plan.canary, *plan.control):
        if (plan.region, series) in errors:
            return Measured(error=errors[plan.region, series])

    def points(arm: tuple[Series, ...]) -> tuple[Point, ...]:
        if not arm:
            return ()
        period = ask.period_seconds
        end = int(now) - int(now) % period
        starts = range(end - ask.window_seconds // period * period, end, period)
        lines = [found.get((plan.region, series), {}) for series in arm]
        return tuple(
            plan.point(start + period, [_finite(line.get(start)) for line in lines])
            for start in starts
        )

    return Measured(points(plan.canary), points(plan.control), pooled=plan.pooled)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _rate(at: int, values: Sequence[float | None]) -> Point:
    failed, total = values
    if not total:
        # Failures without requests are no rate: one of the two came late.
        return Point(at, None, 0 if total == 0 else None)
    sample = round(total)
    return Point.rate(at, sample=sample, failures=min(round(failed or 0), sample))


def _latency(per_second: float) -> MakePoint:
    def point(at: int, values: Sequence[float | None]) -> Point:
        seconds, count = values
        sample = None if count is None else round(count)
        return Point(at, None if seconds is None else seconds / per_second, sample)

    return point


def _value(at: int, values: Sequence[float | None]) -> Point:
    return Point(at, values[0])


def _ratio(at: int, values: Sequence[float | None]) -> Point:
    healthy, unhealthy = values
    if healthy is None and unhealthy is None:
        return Point(at, None)
    well, ill = healthy or 0.0, unhealthy or 0.0
    return Point(at, well / (well + ill) if well + ill else None)


# --- what a signal asks for -----------------------------------------------------------------------


def plan_of(signal: Signal, period: int) -> Plan:
    """Return what is to be asked for a signal. Raises Invalid, naming the setting."""
    measure = signal.measure
    known = SETTINGS[measure]
    for name, _ in signal.settings:
        if name not in known:
            raise Invalid(
                f"A {measure} of CloudWatch has no setting {name}, but {', '.join(sorted(known))}.",
                field=f"/settings/{name}",
            )
    region = signal.get("region")
    if measure is Measure.ALARM:
        return Plan(str(region) if region else None, alarms=_names(signal))
    own = measure is Measure.VALUE or signal.get("namespace") is not None
    arms = _own_arms(signal) if own else _alb_arms(signal)
    if arms.region is None and region:
        arms = Arms(str(region), arms.namespace, arms.canary, arms.control, pooled=arms.pooled)
    return _PLANS[measure](signal, arms, period, own)


@dataclass(frozen=True, slots=True)
class Arms:
    """Where the metrics of both arms are. control: None without a second arm."""

    region: str | None
    namespace: str
    canary: Dimensions
    control: Dimensions | None
    pooled: bool = False

    def plan(self, metrics: Sequence[tuple[str, str]], period: int, point: MakePoint) -> Plan:
        """Return the plan for these (metric, statistic) of each arm."""

        def line(where: Dimensions | None) -> tuple[Series, ...]:
            if where is None:
                return ()
            return tuple(Series(self.namespace, m, where, s, period) for m, s in metrics)

        return Plan(self.region, line(self.canary), line(self.control), point, self.pooled)


def _plan_rate(signal: Signal, arms: Arms, period: int, own: bool) -> Plan:
    failed, total = "HTTPCode_Target_5XX_Count", "RequestCount"
    if own:
        failed, total = _text(signal, "failed"), _text(signal, "total")
    return arms.plan([(failed, "Sum"), (total, "Sum")], period, _rate)


def _plan_latency(signal: Signal, arms: Arms, period: int, own: bool) -> Plan:
    metric = _text(signal, "metric") if own else "TargetResponseTime"
    unit = signal.get("unit") or "seconds"
    if unit not in {"seconds", "milliseconds"} or (unit != "seconds" and not own):
        raise Invalid(
            "unit is seconds or milliseconds, of a metric of your own.", field="/settings/unit"
        )
    made = _latency(1.0 if unit == "seconds" else 1000.0)
    return arms.plan([(metric, _quantile(signal)), (metric, "SampleCount")], period, made)


def _plan_hosts(signal: Signal, arms: Arms, period: int, own: bool) -> Plan:
    # Each node of the balancer counts for itself: of the unhealthy, what all of them agree on.
    return arms.plan([("UnHealthyHostCount", "Minimum")], period, _value)


def _plan_ratio(signal: Signal, arms: Arms, period: int, own: bool) -> Plan:
    metrics = [("HealthyHostCount", "Maximum"), ("UnHealthyHostCount", "Minimum")]
    return arms.plan(metrics, period, _ratio)


def _plan_value(signal: Signal, arms: Arms, period: int, own: bool) -> Plan:
    statistic = _statistic(signal) or "Sum"
    return arms.plan([(_text(signal, "metric"), statistic)], period, _value)


_PLANS: Mapping[Measure, Callable[[Signal, Arms, int, bool], Plan]] = {
    Measure.RATE: _plan_rate,
    Measure.LATENCY: _plan_latency,
    Measure.UNHEALTHY_HOSTS: _plan_hosts,
    Measure.HEALTHY_RATIO: _plan_ratio,
    Measure.VALUE: _plan_value,
}


def _names(signal: Signal) -> tuple[str, ...]:
    names = signal.get("alarms")
    if not isinstance(names, tuple) or not names or not all(names):
        raise Invalid("alarms is a list of names of alarms.", field="/settings/alarms")
    return tuple(str(name) for name in names)


def _alb_arms(signal: Signal) -> Arms:
    balancer, region = _dimension(signal, "load_balancer", "")
    if balancer is None:
        raise Invalid(
            "load_balancer is needed: an ARN of it, or of a listener or rule of it, or app/…",
            field="/settings/load_balancer",
        )
    canary, of_canary = _dimension(signal, "canary", "targetgroup/")
    stable, _ = _dimension(signal, "stable", "targetgroup/")
    if stable is not None and canary is None:
        raise Invalid("stable is compared with canary, which is missing.", field="/settings/canary")
    both = (("LoadBalancer", balancer),)
    return Arms(
        region or of_canary,
        ALB,
        both if canary is None else (*both, ("TargetGroup", canary)),
        None if stable is None else (*both, ("TargetGroup", stable)),
        pooled=canary is None,
    )


def _dimension(signal: Signal, name: str, prefix: str) -> tuple[str | None, str | None]:
    """Return a setting as a dimension has it, and the region if it was said in an ARN."""
    text = signal.get(name)
    if text is None:
        return None, None
    region = None
    try:
        arn = Arn.parse(str(text))
    except ValueError:
        found = str(text)
    else:
        region = arn.region
        # `…:listener-rule/app/<name>/<id>/…` is of the balancer `app/<name>/<id>`.
        found = "/".join(arn.path.split("/")[:3]) if not prefix else f"{arn.kind}/{arn.path}"
    if not found.startswith(prefix or "app/") or found.count("/") != 2:
        raise Invalid(
            f"{name} is an ARN, or {prefix or 'app/'}<name>/<id>, not {text!r}.",
            field=f"/settings/{name}",
        )
    return found, region


def _own_arms(signal: Signal) -> Arms:
    for name in WHERE:
        if signal.get(name) is not None:
            raise Invalid(
                f"{name} goes with a load balancer's metrics, and namespace with your own.",
                field=f"/settings/{name}",
            )
    control = None if signal.get("control") is None else _dimensions(signal, "control")
    return Arms(None, _text(signal, "namespace"), _dimensions(signal, "dimensions"), control)


def _dimensions(signal: Signal, name: str) -> Dimensions:
    given = signal.get(name) or ()
    pairs = [str(each).partition("=") for each in given] if isinstance(given, tuple) else []
    if not isinstance(given, tuple) or not all(key and value for key, _, value in pairs):
        raise Invalid(f"{name} is a list of Name=Value.", field=f"/settings/{name}")
    return tuple((key, value) for key, _, value in pairs)


def _text(signal: Signal, name: str) -> str:
    text = signal.get(name)
    if not isinstance(text, str) or not text:
        raise Invalid(f"{name} is needed.", field=f"/settings/{name}")
    return text


def _statistic(signal: Signal) -> str | None:
    text = signal.get("statistic")
    if text is None:
        return None
    if not STATISTIC.fullmatch(str(text)):
        raise Invalid(
            "statistic is Sum, Average, Minimum, Maximum, SampleCount or a percentile like p95.",
            field="/settings/statistic",
        )
    return str(text)


def _quantile(signal: Signal) -> str:
    statistic, quantile = _statistic(signal), signal.get("quantile")
    if statistic is not None:
        return statistic
    if quantile is None:
        return "p95"
    if isinstance(quantile, bool) or not isinstance(quantile, int | float) or not 0 < quantile < 1:
        raise Invalid("quantile is between 0 and 1, 0.95.", field="/settings/quantile")
    return f"p{quantile * 100:.10g}"
