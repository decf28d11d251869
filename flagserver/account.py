"""What is wrong at AWS with what Sortition needs there: `flagserver aws doctor`. Changes nothing.

Each check reads what it needs, by itself. What may not be read, or is not answered, is a finding of
its own and keeps no other from being looked at.
"""

from __future__ import annotations

import email.utils
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from flagserver.alarms import ALB
from flagserver.appspec import faults
from flagserver.aws import AwsError, AwsRefused
from flagserver.domain.hooks import LIFECYCLE
from flagserver.findings import FAILED, OK, WARNING, Finding
from flagserver.inventory import Account, Pair, Told, named, pairs_of, route

SKEW_SECONDS = 30.0
REFUSED_SKEW_SECONDS = 300.0
"""AWS refuses what is signed by a clock that is five minutes wrong."""

SKEWED = frozenset({"RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch"})

SLOWEST_SECONDS = 60.0
"""A limit of latency beyond this is thought in milliseconds: a load balancer gives up at 60 s."""

HOOK_SECONDS = 20 * 60.0
"""The longest that a function of Lambda may run, and some more: a hook that has been waiting for so
long has lost whoever was to report, or is held on purpose."""

HOUR_SECONDS = 3600.0 - 60.0
APP_MESH_END = "2026-09-30"

PROBES: Mapping[str, tuple[str, str, Told]] = {
    "cloudwatch:DescribeAlarms": ("cloudwatch", "describe_alarms", {"MaxRecords": 1}),
    "codedeploy:ListDeployments": ("codedeploy", "list_deployments", {}),
    "ecs:ListClusters": ("ecs", "list_clusters", {"maxResults": 1}),
    "elasticloadbalancing:DescribeListeners": (
        *("elbv2", "describe_listeners"),
        {"ListenerArns": ["{listener}"]},
    ),
    "elasticloadbalancing:DescribeRules": (
        *("elbv2", "describe_rules"),
        {"ListenerArn": "{listener}"},
    ),
    "elasticloadbalancing:DescribeTargetGroups": (
        "elbv2",
        "describe_target_groups",
        {"PageSize": 1},
    ),
}
"""Action of the controller's policy -> a call that needs it and changes nothing. What is not there
needs something that exists to be asked about, and is met on the way."""

Check = Callable[[Account], Iterable[Finding]]


def examine(account: Account, now: Callable[[], float], specs: Mapping[str, str]) -> list[Finding]:
    """Return what there is to say of an account.

    now: unix seconds, as this machine has them.  specs: AppSpec files to look at, by name.
    """
    checks: Mapping[str, Check] = {
        "clock": lambda a: clock(a, now),
        "permission": permissions,
        "listener": listeners,
        "alarm": alarms,
        "group": groups,
        "hook": lambda a: hooks(a, now()),
        "appspec": lambda a: app_specs(a, specs),
        "app mesh": app_mesh,
    }
    findings: list[Finding] = []
    for name, check in checks.items():
        findings += _survive(name, check, account)
    return findings


def _survive(name: str, check: Check, account: Account) -> Sequence[Finding]:
    try:
        return list(check(account)) or [Finding(name, OK, SAID_WELL[name])]
    except AwsRefused as error:
        if error.forbidden:
            return [_forbidden(name, str(error), account)]
        return [Finding(name, FAILED, f"It could not be looked at: {error}")]
    except AwsError as error:
        return [Finding(name, FAILED, f"It could not be looked at: {error}", "Try again.")]


SAID_WELL = {
    "clock": "this machine's agrees with AWS's",
    "permission": "what the controller reads may be read",
    "listener": "each is moved by one deployment group or service",
    "alarm": "right units, and on both target groups of each pair",
    "group": "stopped by alarms, and rolled back",
    "hook": "each one reported",
    "appspec": "nothing wrong was found",
    "app mesh": "not in use",
}


def _forbidden(name: str, said: str, account: Account) -> Finding:
    try:
        who = account.caller
    except AwsError:
        who = "these credentials"
    advice = "What each part needs is in deploy/iam: controller.json, web.json, operator.json."
    return Finding(name, FAILED, f"{who} may not: {said}", advice)


# --- the checks -----------------------------------------------------------------------------------


def clock(account: Account, now: Callable[[], float]) -> Iterator[Finding]:
    """Whether this machine's clock is right: AWS's answers tell theirs."""
    advice = "Let the machine keep its time (chrony, systemd-timesyncd)."
    try:
        answer = account.read("sts", "get_caller_identity")
    except AwsRefused as error:
        if error.code not in SKEWED:
            raise
        yield Finding("clock", FAILED, f"AWS refuses what this machine signs: {error}", advice)
        return
    told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    parsed = None if told is None else email.utils.parsedate_to_datetime(told)
    if parsed is None:
        yield Finding("clock", WARNING, "AWS did not tell its time")
        return
    skew = now() - parsed.timestamp()
    if abs(skew) > SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        refused = abs(skew) >= REFUSED_SKEW_SECONDS
        more = "; AWS refuses five minutes" if not refused else ""
        yield Finding(
            *("clock", FAILED),
            f"this machine is {abs(skew):.0f} s {way} AWS{more}. Metrics seem missing or late.",
            advice,
        )


def permissions(account: Account) -> Iterator[Finding]:
    """Whether what the controller asks may be asked with these credentials."""
    for action, (service, operation, parameters) in PROBES.items():
        filled = _filled(account, parameters)
        if filled is None:
            continue
        try:
            account.read(service, operation, **filled)
        except AwsRefused as error:
            if error.forbidden:
                yield Finding(
                    *("permission", FAILED),
                    f"{action} is missing for {account.caller}",
                    "Add it, as deploy/iam/controller.json has it.",
                )


def _filled(account: Account, parameters: Told) -> Told | None:
    """Return parameters with a listener of the account in them; None: there is none."""
    if "{listener}" not in repr(parameters):
        return parameters
    try:
        listener = next(iter(_production(account)), None)
    except AwsError:
        return None
    if listener is None:
        return None
    return {
        name: [listener] if isinstance(value, list) else listener
        for name, value in parameters.items()
    }


def listeners(account: Account) -> Iterator[Finding]:
    """Whether anybody else moves the traffic of a listener, or tests where it serves."""
    for listener, owners in _production(account).items():
        if len(owners) > 1:
            yield Finding(
                *("listener", FAILED),
                f"{listener} is moved by two: {' and '.join(sorted(owners))}",
                "One deployment group or ECS service for each listener, or they overwrite each "
                "other's weights.",
            )
    for group in account.groups:
        for pair in pairs_of(group):
            production, tests = route(pair, "prodTrafficRoute"), route(pair, "testTrafficRoute")
            if set(production) & set(tests):
                yield Finding(
                    *("listener", FAILED),
                    f"{named(group)} tests on its production listener",
                    "Give it a listener of its own for tests; traffic.yaml has one.",
                )


def _production(account: Account) -> Mapping[str, set[str]]:
    """Return production listener -> who moves its traffic, in words."""
    owners: dict[str, set[str]] = defaultdict(set)
    for group in account.groups:
        for pair in pairs_of(group):
            for listener in route(pair, "prodTrafficRoute"):
                owners[listener].add(f"CodeDeploy's group {named(group)}")
    for service in account.services:
        for balancer in service.get("loadBalancers") or []:
            rule = (balancer.get("advancedConfiguration") or {}).get("productionListenerRule")
            if rule:
                listener = rule.rpartition("/")[0].replace(":listener-rule/", ":listener/", 1)
                owners[listener].add(f"the ECS service {service['serviceArn']}")
    return owners


def alarms(account: Account) -> Iterator[Finding]:
    """Whether alarms compare in the right units, and watch both sides of a pair."""
    for alarm in account.alarms:
        yield from _unit(alarm)
    watched: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for alarm in account.alarms:
        for metric, dimensions in _metrics(alarm):
            watched[metric][dimensions.get("TargetGroup", "")].append(alarm["AlarmName"])
    for pair in account.pairs:
        yield from _one_sided(pair, watched)


def _unit(alarm: Told) -> Iterator[Finding]:
    name, limit = alarm["AlarmName"], alarm.get("Threshold") or 0.0
    if alarm.get("Namespace") != ALB:
        return
    statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or ""
    of_time = alarm.get("MetricName") == "TargetResponseTime" and statistic != "SampleCount"
    if of_time and limit > SLOWEST_SECONDS:
        yield Finding(
            *("alarm", FAILED),
            f"{name} fires above {limit:g} SECONDS of latency: never",
            f"TargetResponseTime is in seconds; {limit:g} ms are {limit / 1000:g}.",
        )
    if str(alarm.get("MetricName")).startswith("HTTPCode_") and statistic == "Sum":
        yield Finding(
            *("alarm", WARNING),
            f"{name} fires above {limit:g} errors, whatever the traffic: a count is no percentage",
            "Divide by RequestCount, as `flagserver aws alarms` does.",
        )


def _metrics(alarm: Told) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield (name, dimensions) of the load balancer's metrics that an alarm looks at."""
    single = [alarm] if alarm.get("MetricName") else []
    several = [
        each["MetricStat"]["Metric"] for each in alarm.get("Metrics") or [] if "MetricStat" in each
    ]
    for metric in chain(single, several):
        if metric.get("Namespace") == ALB:
            dimensions = {each["Name"]: each["Value"] for each in metric.get("Dimensions") or []}
            yield metric["MetricName"], dimensions


def _one_sided(pair: Pair, watched: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[Finding]:
    for metric, groups in watched.items():
        seen = [side for side in pair.dimensions if groups.get(side)]
        missing = [side for side in pair.dimensions if not groups.get(side)]
        if seen and missing:
            names = ", ".join(sorted(set(groups[seen[0]])))
            yield Finding(
                *("alarm", FAILED),
                f"{names} watches {metric} of {seen[0]} and nothing does of {missing[0]}",
                f"CodeDeploy swaps the two groups of {pair.group} with every deployment. "
                "`flagserver aws alarms` makes alarms for both.",
            )


def groups(account: Account) -> Iterator[Finding]:
    """Whether deployments are stopped by alarms that there are, and go back by themselves."""
    for group in account.groups:
        yield from _stops(group, account)
        rollback = group.get("autoRollbackConfiguration") or {}
        missing = {"DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM"} - set(
            rollback.get("events", ())
        )
        if not rollback.get("enabled") or missing:
            yield Finding(
                *("group", WARNING),
                f"{named(group)} does not go back by itself after a failure or an alarm",
                "Enable automatic rollback for DEPLOYMENT_FAILURE and DEPLOYMENT_STOP_ON_ALARM.",
            )


def _stops(group: Told, account: Account) -> Iterator[Finding]:
    told = group.get("alarmConfiguration") or {}
    names = [alarm["name"] for alarm in told.get("alarms") or []]
    if not told.get("enabled") or not names:
        yield Finding(
            *("group", WARNING),
            f"no alarm stops deployments of {named(group)}",
            "Between its increments CodeDeploy asks nothing but alarms. Name the composite one.",
        )
        return
    for name in sorted(set(names) - account.alarm_names):
        yield Finding(
            *("group", FAILED),
            f"{named(group)} is stopped by the alarm {name}, which does not exist",
            "Make it with `flagserver aws alarms`, or take it out of the group.",
        )
    if told.get("ignorePollAlarmFailure"):
        yield Finding(
            *("group", WARNING),
            f"{named(group)} goes on when its alarms cannot be asked",
            "Set ignorePollAlarmFailure to false.",
        )


def hooks(account: Account, now: float) -> Iterator[Finding]:
    """Whether every hook reported: one that does not costs an hour, and the deployment."""
    for group in account.groups:
        for deployment in account.deployments(group):
            found = _silent(account, deployment, now)
            if found is not None:
                hook, state, words = found
                yield Finding(
                    *("hook", state),
                    f"{hook} of {deployment['deploymentId']} ({named(group)}) {words}",
                    "Its function has to call PutLifecycleEventHookExecutionStatus, whatever "
                    "happens; deploy/lambda has one that does.",
                )
                break


def _silent(account: Account, deployment: Told, now: float) -> tuple[str, str, str] | None:
    """Return the hook of a deployment that did not report (or has not for long: it may be held on
    purpose), how grave that is, and words."""
    for event in account.events(deployment):
        if event.get("lifecycleEventName") not in LIFECYCLE or "startTime" not in event:
            continue
        name, began = str(event["lifecycleEventName"]), event["startTime"].timestamp()
        ended = event["endTime"].timestamp() if "endTime" in event else math.nan
        if event["status"] == "Failed" and ended - began >= HOUR_SECONDS:
            return name, FAILED, "never reported, and failed after its hour"
        if event["status"] == "InProgress" and now - began > HOOK_SECONDS:
            minutes = (now - began) / 60
            return name, WARNING, f"has not reported for {minutes:.0f} minutes, or is held"
    return None


def app_specs(account: Account, specs: Mapping[str, str]) -> Iterator[Finding]:
    """What is wrong with AppSpec files: those given, and those of the last deployments."""
    tested = _all_tested(account) if specs else None
    for name, text in specs.items():
        yield from _app_spec(name, text, tested)
    for group in account.groups:
        spec = account.app_spec(group)
        if spec is not None:
            tested = any(route(pair, "testTrafficRoute") for pair in pairs_of(group))
            yield from _app_spec(f"the last AppSpec of {named(group)}", spec, tested)


def _all_tested(account: Account) -> bool | None:
    """Return whether deployment groups have test listeners, where all are alike."""
    try:
        found = {
            any(route(pair, "testTrafficRoute") for pair in pairs_of(group))
            for group in account.groups
        }
    except AwsError:
        return None
    return found.pop() if len(found) == 1 else None


def _app_spec(name: str, text: str, tested: bool | None) -> Iterator[Finding]:
    for fault in faults(text, tested=tested):
        state = FAILED if fault.grave else WARNING
        yield Finding("appspec", state, f"{name}: {fault.words}", fault.advice)


def app_mesh(account: Account) -> Iterator[Finding]:
    """Whether anything still runs on App Mesh, which has ended."""
    if account.meshes:
        yield Finding(
            *("app mesh", FAILED),
            f"AWS ended App Mesh on {APP_MESH_END}, and it is in use: {', '.join(account.meshes)}",
            "Move to ECS Service Connect, to VPC Lattice where weights are needed, or to an "
            "Application Load Balancer.",
        )
