"""CloudWatch: metrics with percentiles and metric math, alarms that are evaluated, composites.

It takes moto's place for these operations; moto reads requests and writes answers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult

from .clock import Clock
from .evaluator import (
    ALARM,
    COMPARISONS,
    INSUFFICIENT_DATA,
    MORE,
    OK,
    BadRule,
    children,
    composite,
    evaluate,
)
from .formula import BadFormula, Series, calculate
from .series import SIMPLE, Published, dimensions, percentile_of

LOOK_SECONDS = 60
"""How often alarms are looked at, on whole minutes."""

LOOKS = 600
"""Most looks that are caught up with after the clock was turned."""

QUERIES = 500
METRIC = frozenset(
    {
        "Namespace",
        "MetricName",
        "Dimensions",
        "Period",
        "Unit",
        "Statistic",
        "ExtendedStatistic",
    }
)

REFUSED = (
    "GetMetricData of more than 500 queries, an unknown statistic, StartTime not before EndTime",
    "PutMetricData to a namespace of AWS, of NaN or infinity, of values without as many counts",
    "PutMetricAlarm with Metrics and a metric of its own, or without exactly one returned query",
    "PutMetricAlarm with more data points to alarm than evaluation periods",
    "PutCompositeAlarm on alarms that do not exist, more than 100 of them, a rule over 10240",
    "SetAlarmState of an alarm that does not exist",
)
"""What AWS refuses and so does this; tests/awsfake/test_refused.py has a case for each."""


class Refused(ServiceException):
    """An answer of 400 with a code."""


def invalid(message: str, code: str = "ValidationError") -> Refused:
    """Return the refusal that CloudWatch gives most."""
    return Refused(code, message)


Emit = Callable[[str, str, str, str, Mapping[str, Any], Sequence[str]], None]
"""Tells EventBridge: account, region, source, detail-type, detail, resources."""

ALARM_EVENT = "CloudWatch Alarm State Change"


class Watched:
    """The metrics and alarms of one account and region."""

    def __init__(self, clock: Clock, account: str, region: str, emit: Emit) -> None:
        self.metrics = Published()
        self.alarms: dict[str, dict[str, Any]] = {}
        self.lock = threading.RLock()
        self._clock = clock
        self._where = f"arn:aws:cloudwatch:{region}:{account}"
        self._account, self._region, self._emit = account, region, emit
        self._looked: float | None = None
        self._children: dict[str, Mapping[str, str | None]] = {}

    # --- metrics ---

    def publish(self, namespace: str, datum: Mapping[str, Any]) -> None:
        """Take in one datum of PutMetricData, its Timestamp in unix seconds."""
        with self.lock:
            self.metrics.put(namespace, datum, self._clock.now())

    def get(self, queries: Sequence[Mapping[str, Any]], start: int, end: int) -> list[Any]:
        """Return (query, series) for each query whose data is wanted. Raises Refused."""
        named: dict[str, Series] = {}
        for query in queries:
            if "MetricStat" in query:
                named[query["Id"]] = self._stat(query["MetricStat"], start, end)
        for query in queries:
            if query.get("Expression"):
                named[query["Id"]] = _math(query["Expression"], queries, named, start, end)
        return [(query, named[query["Id"]]) for query in queries if query.get("ReturnData", True)]

    def _stat(self, stat: Mapping[str, Any], start: int, end: int) -> Series:
        if stat["Stat"] not in SIMPLE and percentile_of(stat["Stat"]) is None:
            raise invalid(f"The value {stat['Stat']} for parameter Stat is not supported.")
        metric = stat["Metric"]
        name = (metric["Namespace"], metric["MetricName"], dimensions(metric.get("Dimensions")))
        period = int(stat["Period"])
        return self.metrics.series(name, stat["Stat"], start - start % period, end, period)

    # --- alarms ---

    def put(self, alarm: dict[str, Any]) -> None:
        """Keep an alarm; one of the same name is replaced and keeps its state."""
        with self.lock:
            self.look()
            now = self._time()
            state = {"StateValue": INSUFFICIENT_DATA, "StateReason": "Unchecked: Initial creation"}
            self._children.pop(alarm["AlarmName"], None)
            kept = {key: self.alarms.get(alarm["AlarmName"], state)[key] for key in state}
            self.alarms[alarm["AlarmName"]] = {
                "ActionsEnabled": True,
                **alarm,
                **kept,
                "AlarmArn": f"{self._where}:alarm:{alarm['AlarmName']}",
                "StateUpdatedTimestamp": now,
                "AlarmConfigurationUpdatedTimestamp": now,
            }
            self._look_at_composites()

    def tell(self, name: str, state: str, reason: str) -> None:
        """Put an alarm into a state, until it is looked at again. Raises Refused."""
        with self.lock:
            self.look()
            if name not in self.alarms:
                raise Refused("ResourceNotFound", "Unknown")
            self._become(self.alarms[name], state, reason)
            self._look_at_composites()

    def look(self) -> None:
        """Catch up with the whole minutes since the last look."""
        with self.lock:
            now = self._clock.now()
            newest = now - now % LOOK_SECONDS
            if self._looked is None or newest < self._looked:
                self._looked = newest - LOOK_SECONDS
            at = max(self._looked + LOOK_SECONDS, newest - LOOKS * LOOK_SECONDS)
            while at <= newest:
                for alarm in self.alarms.values():
                    if "AlarmRule" not in alarm:
                        self._look_at(alarm, int(at))
                self._look_at_composites()
                at += LOOK_SECONDS
            self._looked = newest

    def _look_at(self, alarm: dict[str, Any], at: int) -> None:
        period = _period(alarm)
        periods = int(alarm["EvaluationPeriods"])
        end = at - at % period
        times = [end - period * back for back in range(periods + MORE, 0, -1)]
        values = self._values(alarm, times[0], end)
        if _too_few(alarm, values, self._counts(alarm, times[0], end), times[-periods:]):
            return
        over = COMPARISONS[alarm["ComparisonOperator"]]
        points = [over(values[t], alarm["Threshold"]) if t in values else None for t in times]
        state = evaluate(
            points,
            periods,
            int(alarm.get("DatapointsToAlarm") or periods),
            alarm.get("TreatMissingData") or "missing",
            alarm["StateValue"],
        )
        seen = [values.get(t) for t in times[-periods:]]
        self._become(alarm, state, f"Data points {seen} against {alarm['Threshold']}")

    def _values(self, alarm: Mapping[str, Any], start: int, end: int) -> Series:
        if alarm.get("Metrics"):
            ((_, series),) = self.get(alarm["Metrics"], start, end)
            found: Series = series
            return found
        return self._stat(_as_stat(alarm), start, end)

    def _counts(self, alarm: Mapping[str, Any], start: int, end: int) -> Series:
        if not alarm.get("ExtendedStatistic"):
            return {}
        return self._stat({**_as_stat(alarm), "Stat": "SampleCount"}, start, end)

    def _look_at_composites(self) -> None:
        states = {name: alarm["StateValue"] for name, alarm in self.alarms.items()}
        # Composites of composites: each round carries a change one level further.
        for _ in range(len(states)):
            changed = False
            for name, alarm in self.alarms.items():
                if "AlarmRule" in alarm and self._is_news(alarm, states):
                    state = ALARM if composite(alarm["AlarmRule"], states.get) else OK
                    changed |= states[name] != state
                    states[name] = state
                    self._become(alarm, state, f"{alarm['AlarmRule']} is {state == ALARM}")
            if not changed:
                return

    def _is_news(self, alarm: Mapping[str, Any], states: Mapping[str, str]) -> bool:
        """Tell whether a child has changed since a composite alarm was looked at last. Only then
        does it leave a state that somebody set."""
        now = {name: states.get(name) for name in children(alarm["AlarmRule"])}
        before, self._children[alarm["AlarmName"]] = self._children.get(alarm["AlarmName"]), now
        return now != before

    def _become(self, alarm: dict[str, Any], state: str, reason: str) -> None:
        if alarm["StateValue"] == state:
            return
        before = _state(alarm)
        alarm["StateUpdatedTimestamp"] = self._time()
        alarm["StateReason"] = reason
        alarm["StateValue"] = state
        detail = {
            "alarmName": alarm["AlarmName"],
            "configuration": {"description": alarm.get("AlarmDescription", "")},
            "previousState": before,
            "state": _state(alarm),
        }
        told = (self._account, self._region, "aws.cloudwatch", ALARM_EVENT)
        self._emit(*told, detail, [alarm["AlarmArn"]])

    def _time(self) -> datetime:
        return self._clock.utcnow()


def _state(alarm: Mapping[str, Any]) -> dict[str, str]:
    """Return an alarm's state as its event tells it."""
    since = alarm["StateUpdatedTimestamp"].strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    return {"value": alarm["StateValue"], "reason": alarm["StateReason"], "timestamp": since}


def _period(alarm: Mapping[str, Any]) -> int:
    if alarm.get("Metrics"):
        return min(
            int(query["MetricStat"]["Period"])
            for query in alarm["Metrics"]
            if "MetricStat" in query
        )
    return int(alarm["Period"])


def _as_stat(alarm: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Metric": {key: alarm.get(key) for key in ("Namespace", "MetricName", "Dimensions")},
        "Period": alarm["Period"],
        "Stat": alarm.get("Statistic") or alarm.get("ExtendedStatistic"),
    }


def _too_few(
    alarm: Mapping[str, Any], values: Series, counts: Series, newest: Sequence[int]
) -> bool:
    """Tell whether a percentile rests on too few values to change the state (when so asked)."""
    quantile = percentile_of(alarm.get("ExtendedStatistic") or "")
    if quantile is None or alarm.get("EvaluateLowSampleCountPercentile") != "ignore":
        return False
    tail = min(quantile, 1 - quantile)
    significant = 10 / tail if tail else math.inf
    return any(at in values and counts[at] < significant for at in newest)


def _math(
    expression: str,
    queries: Sequence[Mapping[str, Any]],
    named: Mapping[str, Series],
    start: int,
    end: int,
) -> Series:
    periods = [int(query["MetricStat"]["Period"]) for query in queries if "MetricStat" in query]
    period = min(periods, default=60)
    times = range(start - start % period, end, period)
    try:
        return calculate(expression, named, times)
    except BadFormula as error:
        raise invalid(f"Error in expression: {error}") from None


# --- operations -----------------------------------------------------------------------------------


def put_metric_data(watched: Watched, given: Mapping[str, Any]) -> dict[str, Any]:
    """PutMetricData."""
    _check_published(given)
    for datum in given.get("MetricData", []):
        watched.publish(given["Namespace"], _with_seconds(datum))
    return {}


def get_metric_data(watched: Watched, given: Mapping[str, Any]) -> dict[str, Any]:
    """GetMetricData."""
    start, end = _seconds(given["StartTime"]), _seconds(given["EndTime"])
    queries = given.get("MetricDataQueries", [])
    _check_asked(queries, start, end)
    newest_first = given.get("ScanBy") != "TimestampAscending"
    found = watched.get(queries, start, end)
    return {"MetricDataResults": [_result(query, each, newest_first) for query, each in found]}


def put_metric_alarm(watched: Watched, given: Mapping[str, Any]) -> dict[str, Any]:
    """PutMetricAlarm."""
    _check_alarm(given)
    watched.put(dict(given))
    return {}


def put_composite_alarm(watched: Watched, given: Mapping[str, Any]) -> dict[str, Any]:
    """PutCompositeAlarm."""
    _check_composite(given, watched.alarms)
    watched.put(dict(given))
    return {}


def describe_alarms(watched: Watched, given: Mapping[str, Any]) -> dict[str, Any]:
    """DescribeAlarms."""
    watched.look()
    return _described(given, watched.alarms)


def set_alarm_state(watched: Watched, given: Mapping[str, Any]) -> dict[str, Any]:
    """SetAlarmState."""
    watched.tell(given["AlarmName"], given["StateValue"], given["StateReason"])
    return {}


def delete_alarms(watched: Watched, given: Mapping[str, Any]) -> dict[str, Any]:
    """DeleteAlarms."""
    for name in given.get("AlarmNames", []):
        watched.alarms.pop(name, None)
    return {}


Operation = Callable[[Watched, Mapping[str, Any]], dict[str, Any]]
OPERATIONS: tuple[Operation, ...] = (
    put_metric_data,
    get_metric_data,
    put_metric_alarm,
    put_composite_alarm,
    describe_alarms,
    set_alarm_state,
    delete_alarms,
)


class CloudWatch:
    """All accounts and regions; its operations take the place of moto's."""

    def __init__(self, clock: Clock, emit: Emit) -> None:
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._everything: dict[tuple[str, str], Watched] = {}
        for operation in OPERATIONS:
            setattr(CloudWatchResponse, operation.__name__, self._answering(operation))

    def of(self, account: str, region: str) -> Watched:
        """Return what an account has in a region."""
        with self._lock:
            found = self._everything.get((account, region))
            if found is None:
                found = Watched(self._clock, account, region, self._emit)
                self._everything[account, region] = found
            return found

    def look(self) -> None:
        """Look at all alarms, after the clock was turned."""
        for watched in list(self._everything.values()):
            watched.look()

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._everything.clear()

    def _answering(self, operation: Operation) -> Callable[[Any], ActionResult]:
        def answer(response: Any) -> ActionResult:
            watched = self.of(response.current_account, response.region)
            given = response._get_params()  # noqa: SLF001 (as moto's own do)
            return ActionResult(
                operation(watched, {key: each for key, each in given.items() if each is not None})
            )

        return answer


def _seconds(time: Any) -> int:
    if isinstance(time, datetime):
        return int(time.replace(tzinfo=UTC).timestamp())
    return int(float(time))


def _with_seconds(datum: Mapping[str, Any]) -> dict[str, Any]:
    at = datum.get("Timestamp")
    return {**datum, "Timestamp": _seconds(at)} if at is not None else dict(datum)


def _result(query: Mapping[str, Any], series: Series, newest_first: bool) -> dict[str, Any]:
    times = sorted(series, reverse=newest_first)
    return {
        "Id": query["Id"],
        "Label": query.get("Label") or query["Id"],
        "Timestamps": [datetime.fromtimestamp(at, UTC).replace(tzinfo=None) for at in times],
        "Values": [series[at] for at in times],
        "StatusCode": "Complete",
    }


def _described(given: Mapping[str, Any], alarms: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    found = list(alarms.values())
    if given.get("AlarmNames"):
        found = [alarm for alarm in found if alarm["AlarmName"] in given["AlarmNames"]]
    if given.get("AlarmNamePrefix"):
        found = [a for a in found if a["AlarmName"].startswith(given["AlarmNamePrefix"])]
    if given.get("StateValue"):
        found = [alarm for alarm in found if alarm["StateValue"] == given["StateValue"]]
    # Composites come only to those who ask for them.
    kinds = given.get("AlarmTypes") or ["MetricAlarm"]
    return {
        "MetricAlarms": [a for a in found if "AlarmRule" not in a and "MetricAlarm" in kinds],
        "CompositeAlarms": [a for a in found if "AlarmRule" in a and "CompositeAlarm" in kinds],
    }


# --- what AWS refuses -----------------------------------------------------------------------------


def _check_published(given: Mapping[str, Any]) -> None:
    if given["Namespace"].startswith("AWS/"):
        raise invalid(
            'The value AWS/ for parameter Namespace is invalid: namespaces that begin with "AWS/" '
            "are reserved.",
            "InvalidParameterValue",
        )
    for datum in given.get("MetricData", []):
        values = [*datum.get("Values", []), datum.get("Value", 0.0)]
        if not all(math.isfinite(float(value)) for value in values):
            raise invalid("The value NaN or Infinity is not supported.", "InvalidParameterValue")
        counts = datum.get("Counts")
        if counts and len(counts) != len(datum.get("Values", [])):
            raise invalid("Values and Counts must be of the same size.", "InvalidParameterValue")


def _check_asked(queries: Sequence[Mapping[str, Any]], start: int, end: int) -> None:
    if len(queries) > QUERIES:
        raise invalid(f"The collection MetricDataQueries must not have a size over {QUERIES}.")
    if start >= end:
        raise invalid("The parameter StartTime must be less than the parameter EndTime.")
    for query in queries:
        if ("MetricStat" in query) == ("Expression" in query):
            raise invalid("A query has either a MetricStat or an Expression.")


def _check_alarm(alarm: Mapping[str, Any]) -> None:
    queries: Sequence[Mapping[str, Any]] = alarm.get("Metrics") or ()
    if queries and METRIC & set(alarm):
        raise invalid(
            "Metrics list cannot be specified together with parameters of a single metric.",
            "InvalidParameterCombination",
        )
    if queries and sum(bool(query.get("ReturnData", True)) for query in queries) != 1:
        raise invalid("Exactly one element of the metrics list should return data.")
    if not queries and not (alarm.get("Statistic") or alarm.get("ExtendedStatistic")):
        raise invalid("One of Statistic or ExtendedStatistic must be specified.")
    if int(alarm.get("DatapointsToAlarm") or 1) > int(alarm["EvaluationPeriods"]):
        raise invalid("DatapointsToAlarm must not be greater than EvaluationPeriods.")
    named: dict[str, Series] = {q["Id"]: {} for q in queries if "MetricStat" in q}
    for query in queries:
        if query.get("Expression"):
            _math(query["Expression"], queries, named, 0, 60)


def _check_composite(alarm: Mapping[str, Any], alarms: Mapping[str, Any]) -> None:
    rule = alarm["AlarmRule"]
    try:
        names = children(rule)
    except BadRule as error:
        raise invalid(f"AlarmRule is not valid: {error}") from None
    unknown = [name for name in names if name not in alarms]
    if len(rule) > 10_240 or len(names) > 100:
        raise invalid("AlarmRule is too long or has too many children.")
    if unknown or not names:
        raise invalid(f"AlarmRule must be of existing alarms, not {unknown}.")
