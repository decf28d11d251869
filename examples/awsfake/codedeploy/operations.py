"""CodeDeploy's API: what is asked, what is answered, what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import ServiceException

from . import appspec, configs, running
from .running import Deployment, Event
from .state import ROLLBACK_EVENTS, Account

STATUSES = (
    "Created",
    "Queued",
    "InProgress",
    "Baking",
    "Succeeded",
    "Failed",
    "Stopped",
    "Ready",
)

REFUSED = (
    "an application, group, configuration, revision, deployment or target that does not exist",
    "an application, group or configuration that exists already",
    "names outside of letters, digits and +=,.@_- or longer than 100",
    "a group for ECS that is not blue/green with traffic control, or without one ECS service",
    "a group without one pair of two target groups and one production listener",
    "a group whose listener or target groups do not exist",
    "a service that is in another group already",
    "a group or deployment for ECS by a configuration that is not for ECS",
    "more than ten alarms, an alarm named twice, or rollback events that do not exist",
    "a configuration of more than 99 % an increment, of 0 minutes, or of more than 2880 in all",
    "a configuration whose type and numbers do not match",
    "a deployment without a revision, of a kind not for ECS, or with a wrong SHA-256",
    "a second deployment of a group while one runs",
    "ListDeployments of an application without a group, or with a status there is not",
    "BatchGetDeployments of more than 25",
    "targets of a deployment that has not started, or none named",
    "stopping, or continuing, what is over",
    "continuing what waits for nothing, or for something else",
    "a hook's status other than Succeeded and Failed",
    "a hook's execution that there is not, or that was reported or is over already",
)
"""What AWS refuses, and so does this; tests/awsfake/test_codedeploy.py has a case for each."""

NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{1,100}")
ALARMS = 10
AT_ONCE = 25
PAGE = 100
DESCRIPTION = 256

Given = Mapping[str, Any]


class Refused(ServiceException):
    """An answer of 400 with a code."""


# --- applications, groups, configurations ---------------------------------------------------------


def create_application(account: Account, given: Given) -> dict[str, Any]:
    """CreateApplication."""
    name = _name(given, "applicationName", "Application")
    if name in account.applications:
        raise Refused("ApplicationAlreadyExistsException", f"{name} exists already.")
    account.applications[name] = {
        "applicationId": f"00000000-0000-4000-8000-{len(account.applications):012x}",
        "applicationName": name,
        "createTime": _time(account.world.now()),
        "linkedToGitHub": False,
        "computePlatform": given.get("computePlatform", "Server"),
    }
    account.revisions[name] = {}
    return {"applicationId": account.applications[name]["applicationId"]}


def get_application(account: Account, given: Given) -> dict[str, Any]:
    """GetApplication."""
    return {"application": _application(account, given)}


def batch_get_applications(account: Account, given: Given) -> dict[str, Any]:
    """BatchGetApplications."""
    names = given["applicationNames"]
    return {"applicationsInfo": [_application(account, {"applicationName": n}) for n in names]}


def list_applications(account: Account, _: Given) -> dict[str, Any]:
    """ListApplications."""
    return {"applications": list(account.applications)}


def delete_application(account: Account, given: Given) -> dict[str, Any]:
    """DeleteApplication. One that is not there is gone already."""
    name = _name(given, "applicationName", "Application")
    account.applications.pop(name, None)
    for key in [key for key in account.groups if key[0] == name]:
        del account.groups[key]
    return {}


def create_deployment_group(account: Account, given: Given) -> dict[str, Any]:
    """CreateDeploymentGroup."""
    application = _application(account, given)
    name = _name(given, "deploymentGroupName", "DeploymentGroup")
    key = (application["applicationName"], name)
    if key in account.groups:
        raise Refused("DeploymentGroupAlreadyExistsException", f"{name} exists already.")
    group = {
        "deploymentConfigName": configs.DEFAULT,
        **{part: each for part, each in given.items() if part != "tags"},
        "deploymentGroupId": f"00000000-0000-4000-9000-{len(account.groups):012x}",
        "computePlatform": application["computePlatform"],
    }
    _check_group(account, key, group)
    account.groups[key] = group
    return {"deploymentGroupId": group["deploymentGroupId"]}


def update_deployment_group(account: Account, given: Given) -> dict[str, Any]:
    """UpdateDeploymentGroup."""
    key = _group_key(account, given, "currentDeploymentGroupName")
    changes = dict(given)
    changes.pop("currentDeploymentGroupName")
    name = changes.pop("newDeploymentGroupName", key[1])
    group = {**account.groups[key], **changes, "deploymentGroupName": name}
    _check_group(account, key, group)
    del account.groups[key]
    account.groups[key[0], name] = group
    return {"hooksNotCleanedUp": []}


def delete_deployment_group(account: Account, given: Given) -> dict[str, Any]:
    """DeleteDeploymentGroup. One that is not there is gone already."""
    account.groups.pop((given["applicationName"], given["deploymentGroupName"]), None)
    return {"hooksNotCleanedUp": []}


def list_deployment_groups(account: Account, given: Given) -> dict[str, Any]:
    """ListDeploymentGroups."""
    application = _application(account, given)["applicationName"]
    names = [name for of, name in account.groups if of == application]
    return {"applicationName": application, "deploymentGroups": names}


def get_deployment_group(account: Account, given: Given) -> dict[str, Any]:
    """GetDeploymentGroup."""
    return {"deploymentGroupInfo": _group(account, _group_key(account, given))}


def batch_get_deployment_groups(account: Account, given: Given) -> dict[str, Any]:
    """BatchGetDeploymentGroups."""
    application = _application(account, given)["applicationName"]
    keys = [(application, name) for name in given["deploymentGroupNames"]]
    return {"deploymentGroupsInfo": [_group(account, key) for key in keys if key in account.groups]}


def create_deployment_config(account: Account, given: Given) -> dict[str, Any]:
    """CreateDeploymentConfig."""
    name = _name(given, "deploymentConfigName", "DeploymentConfig")
    if name in {**configs.PREDEFINED, **account.configs}:
        raise Refused("DeploymentConfigAlreadyExistsException", f"{name} exists already.")
    if len(account.configs) >= configs.CUSTOM:
        raise Refused("DeploymentConfigLimitExceededException", "There are 50 already.")
    if given.get("computePlatform") != "ECS":
        raise Refused("InvalidComputePlatformException", "This double has those for ECS only.")
    wrong = configs.problem(given.get("trafficRoutingConfig"))
    if wrong is not None:
        raise Refused("InvalidTrafficRoutingConfigurationException", wrong)
    id = f"00000000-0000-4000-a000-{len(account.configs):012x}"
    account.configs[name] = {
        "deploymentConfigId": id,
        "deploymentConfigName": name,
        "createTime": _time(account.world.now()),
        "computePlatform": "ECS",
        "trafficRoutingConfig": given["trafficRoutingConfig"],
    }
    return {"deploymentConfigId": id}


def get_deployment_config(account: Account, given: Given) -> dict[str, Any]:
    """GetDeploymentConfig."""
    name = _config(account, given.get("deploymentConfigName"))
    if name in account.configs:
        return {"deploymentConfigInfo": account.configs[name]}
    platform, routing = configs.PREDEFINED[name]
    info = {"deploymentConfigName": name, "computePlatform": platform}
    return {"deploymentConfigInfo": _without_none(info, trafficRoutingConfig=routing)}


def list_deployment_configs(account: Account, _: Given) -> dict[str, Any]:
    """ListDeploymentConfigs."""
    return {"deploymentConfigsList": [*configs.PREDEFINED, *account.configs]}


def delete_deployment_config(account: Account, given: Given) -> dict[str, Any]:
    """DeleteDeploymentConfig."""
    name = given["deploymentConfigName"]
    if name in configs.PREDEFINED:
        raise Refused("InvalidOperationException", f"{name} is predefined.")
    if any(group["deploymentConfigName"] == name for group in account.groups.values()):
        raise Refused("DeploymentConfigInUseException", f"{name} is in use.")
    account.configs.pop(name, None)
    return {}


# --- revisions ------------------------------------------------------------------------------------


def register_application_revision(account: Account, given: Given) -> dict[str, Any]:
    """RegisterApplicationRevision."""
    application = _application(account, given)["applicationName"]
    _register(account, application, _revision(given), given.get("description"))
    return {}


def get_application_revision(account: Account, given: Given) -> dict[str, Any]:
    """GetApplicationRevision. This one tells the content of an AppSpec."""
    application = _application(account, given)["applicationName"]
    key = _revision_key(given.get("revision") or {})
    found = account.revisions[application].get(key)
    if found is None:
        raise Refused("RevisionDoesNotExistException", "There is no such revision.")
    return {
        "applicationName": application,
        "revision": found["revision"],
        "revisionInfo": found["info"],
    }


def list_application_revisions(account: Account, given: Given) -> dict[str, Any]:
    """ListApplicationRevisions."""
    application = _application(account, given)["applicationName"]
    found = account.revisions[application].values()
    return {"revisions": [_without_content(each["revision"]) for each in found]}


# --- deployments ----------------------------------------------------------------------------------


def create_deployment(account: Account, given: Given) -> dict[str, Any]:
    """CreateDeployment."""
    key = _group_key(account, given)
    group, now = account.groups[key], account.world.now()
    _check_text(given)
    revision = _revision(given)
    config = given.get("deploymentConfigName") or group["deploymentConfigName"]
    _check_config(account, config, "InvalidDeploymentConfigNameException")
    alarms = given.get("overrideAlarmConfiguration")
    rollback = given.get("autoRollbackConfiguration") or group.get("autoRollbackConfiguration")
    _check_alarms(alarms)
    _check_rollback(rollback)
    running_now = account.last(*key, lambda each: each.is_running)
    if running_now is not None:
        words = f"{key[1]} has an active deployment already: {running_now.id}."
        raise Refused("DeploymentLimitExceededException", words)
    _register(account, key[0], revision, None)
    it = Deployment(
        id=account.new_id(),
        application=key[0],
        group=key[1],
        config=config,
        revision=revision,
        created=now,
        description=given.get("description"),
        rollback_events=_events(rollback),
        auto_rollback=rollback,
        alarms=group.get("alarmConfiguration"),
        own_alarms=alarms,
    )
    return {"deploymentId": account.create(it).id}


def get_deployment(account: Account, given: Given) -> dict[str, Any]:
    """GetDeployment. The content of its AppSpec is not told."""
    return {"deploymentInfo": _info(account, _deployment(account, given))}


def batch_get_deployments(account: Account, given: Given) -> dict[str, Any]:
    """BatchGetDeployments."""
    asked = given.get("deploymentIds") or []
    if len(asked) > AT_ONCE:
        raise Refused("BatchLimitExceededException", f"The maximum number of names is {AT_ONCE}.")
    known = [account.deployments[id] for id in asked if id in account.deployments]
    return {"deploymentsInfo": [_info(account, it) for it in known]}


def list_deployments(account: Account, given: Given) -> dict[str, Any]:
    """ListDeployments, the newest first."""
    application, group = given.get("applicationName"), given.get("deploymentGroupName")
    if application and not group:
        raise Refused("DeploymentGroupNameRequiredException", "The group is to be named too.")
    if group and not application:
        raise Refused("ApplicationNameRequiredException", "The application is to be named too.")
    if application:
        _group_key(account, given)
    statuses = given.get("includeOnlyStatuses") or STATUSES
    for status in statuses:
        if status not in STATUSES:
            raise Refused("InvalidDeploymentStatusException", f"{status} is no status.")
    span = given.get("createTimeRange") or {}
    found = [
        it.id
        for it in reversed(account.deployments.values())
        if (not application or (it.application, it.group) == (application, group))
        and _shown(it) in statuses
        and _within(it.created, span)
    ]
    return _page(found, given)


def stop_deployment(account: Account, given: Given) -> dict[str, Any]:
    """StopDeployment."""
    it = _deployment(account, given)
    if not it.is_running:
        raise Refused("DeploymentAlreadyCompletedException", f"{it.id} is {it.status} already.")
    account.stop(it, given.get("autoRollbackEnabled"))
    return {"status": "Pending", "statusMessage": "No more will be done for this deployment."}


def continue_deployment(account: Account, given: Given) -> dict[str, Any]:
    """ContinueDeployment."""
    it = _deployment(account, given)
    wanted = given.get("deploymentWaitType") or running.READY_WAIT
    if wanted not in {running.READY_WAIT, running.TERMINATION_WAIT}:
        raise Refused("InvalidDeploymentWaitTypeException", f"{wanted} is no wait.")
    if not it.is_running:
        raise Refused("DeploymentAlreadyCompletedException", f"{it.id} is {it.status} already.")
    if it.waits != wanted or it.stopping:
        code = (
            "DeploymentIsNotInReadyStateException"
            if wanted == running.READY_WAIT
            else "InvalidDeploymentStatusException"
        )
        raise Refused(code, f"{it.id} does not wait for that.")
    account.tell(it, "continue")
    return {}


def put_lifecycle_event_hook_execution_status(account: Account, given: Given) -> dict[str, Any]:
    """PutLifecycleEventHookExecutionStatus: only Succeeded and Failed are taken."""
    it = _deployment(account, given)
    status, execution = given.get("status"), given.get("lifecycleEventHookExecutionId")
    if status not in {"Succeeded", "Failed"}:
        code = "InvalidLifecycleEventHookExecutionStatusException"
        raise Refused(code, f"{status} cannot be reported; Succeeded and Failed can.")
    called = {each.execution for each in account.invocations if each.deployment == it.id}
    if execution not in called:
        code = "InvalidLifecycleEventHookExecutionIdException"
        raise Refused(code, f"{it.id} has no such execution.")
    if it.hook != execution or it.stopping:
        raise Refused("LifecycleEventAlreadyCompletedException", "It is over already.")
    account.tell(it, str(status))
    return {"lifecycleEventHookExecutionId": execution}


def list_deployment_targets(account: Account, given: Given) -> dict[str, Any]:
    """ListDeploymentTargets. An ECS deployment has one target: its service."""
    return {"targetIds": [_started(account, given).service]}


def get_deployment_target(account: Account, given: Given) -> dict[str, Any]:
    """GetDeploymentTarget."""
    it = _started(account, given)
    if given.get("targetId") != it.service:
        raise Refused("DeploymentTargetDoesNotExistException", "There is no such target.")
    return {"deploymentTarget": _target(it)}


def batch_get_deployment_targets(account: Account, given: Given) -> dict[str, Any]:
    """BatchGetDeploymentTargets."""
    it, asked = _started(account, given), given.get("targetIds") or []
    if not asked:
        raise Refused("DeploymentTargetIdRequiredException", "Say which targets.")
    if len(asked) > AT_ONCE:
        raise Refused("DeploymentTargetListSizeExceededException", "At most 25 targets.")
    if asked != [it.service]:
        raise Refused("DeploymentTargetDoesNotExistException", "There is no such target.")
    return {"deploymentTargets": [_target(it)]}


Operation = Callable[[Account, Given], dict[str, Any]]

OPERATIONS: Sequence[Operation] = (
    create_application,
    get_application,
    batch_get_applications,
    list_applications,
    delete_application,
    create_deployment_group,
    update_deployment_group,
    delete_deployment_group,
    list_deployment_groups,
    get_deployment_group,
    batch_get_deployment_groups,
    create_deployment_config,
    get_deployment_config,
    list_deployment_configs,
    delete_deployment_config,
    register_application_revision,
    get_application_revision,
    list_application_revisions,
    create_deployment,
    get_deployment,
    batch_get_deployments,
    list_deployments,
    stop_deployment,
    continue_deployment,
    put_lifecycle_event_hook_execution_status,
    list_deployment_targets,
    get_deployment_target,
    batch_get_deployment_targets,
)


# --- how things are told --------------------------------------------------------------------------


def _group(account: Account, key: tuple[str, str]) -> dict[str, Any]:
    last = account.last(*key, lambda each: each.status == "Succeeded")
    attempted = account.last(*key, lambda _: True)
    target = _without_content(last.revision) if last is not None and last.revision else None
    return _without_none(
        account.groups[key],
        targetRevision=target,
        lastSuccessfulDeployment=_last(last),
        lastAttemptedDeployment=_last(attempted),
    )


def _last(it: Deployment | None) -> dict[str, Any] | None:
    if it is None:
        return None
    told = {"deploymentId": it.id, "status": _shown(it), "createTime": _time(it.created)}
    return _without_none(told, endTime=_time(it.completed))


def _info(account: Account, it: Deployment) -> dict[str, Any]:
    group = account.groups.get((it.application, it.group), {})
    count = dict.fromkeys(("Pending", "InProgress", "Succeeded", "Failed", "Skipped"), 0)
    status = _target_status(it)
    count[status if status in count else "InProgress"] += 1
    back = _without_none(
        {},
        rollbackDeploymentId=it.rolled_back_by,
        rollbackTriggeringDeploymentId=it.triggered_by,
        rollbackMessage=it.rollback_message,
    )
    return _without_none(
        {
            "applicationName": it.application,
            "deploymentGroupName": it.group,
            "deploymentConfigName": it.config,
            "deploymentId": it.id,
            "status": _shown(it),
            "createTime": _time(it.created),
            "deploymentOverview": {**count, "Ready": 0},
            "creator": it.creator,
            "ignoreApplicationStopFailures": False,
            "updateOutdatedInstancesOnly": False,
            "instanceTerminationWaitTimeStarted": it.terminating,
            "fileExistsBehavior": "DISALLOW",
            "deploymentStatusMessages": [],
            "computePlatform": "ECS",
        },
        revision=_without_content(it.revision) if it.revision else None,
        previousRevision=_without_content(it.previous) if it.previous else None,
        errorInformation=_error(it),
        startTime=_time(it.started),
        completeTime=_time(it.completed),
        description=it.description,
        autoRollbackConfiguration=it.auto_rollback,
        rollbackInfo=back or None,
        overrideAlarmConfiguration=it.own_alarms,
        deploymentStyle=group.get("deploymentStyle"),
        blueGreenDeploymentConfiguration=group.get("blueGreenDeploymentConfiguration"),
        loadBalancerInfo=group.get("loadBalancerInfo"),
    )


def _error(it: Deployment) -> dict[str, str] | None:
    return None if it.error is None else {"code": it.error[0], "message": it.error[1]}


def _target(it: Deployment) -> dict[str, Any]:
    cluster, _, service = it.service.partition(":")
    target = {
        "deploymentId": it.id,
        "targetId": it.service,
        "targetArn": f"arn:aws:ecs:eu-west-1:123456789012:service/{cluster}/{service}",
        "lastUpdatedAt": _time(it.updated),
        "lifecycleEvents": [_event(event) for event in it.events],
        "status": _target_status(it),
        "taskSetsInfo": _task_sets(it),
    }
    return {"deploymentTargetType": "ECSTarget", "ecsTarget": target}


def _event(event: Event) -> dict[str, Any]:
    return _without_none(
        {"lifecycleEventName": event.name, "status": event.status},
        startTime=_time(event.start),
        endTime=_time(event.end),
        diagnostics=event.diagnostics,
    )


def _task_sets(it: Deployment) -> list[dict[str, Any]]:
    if it.told is not None:
        return list(it.told["task_sets"])
    sets = [] if it.terminated else [_task_set(it, "Blue", it.blue_set, it.blue, 100 - it.weight)]
    gone = it.creator == "codeDeployRollback" and it.status == "Succeeded"
    if it.installed and not gone:
        sets.append(_task_set(it, "Green", it.green_set, it.green, it.weight))
    return sets


def _task_set(it: Deployment, label: str, id: str, group: str, weight: int) -> dict[str, Any]:
    # The set that most of the traffic goes to in the end is the primary one.
    primary = (label == "Green") == (it.weight == 100)
    return {
        "identifer": id,
        "desiredCount": 1,
        "pendingCount": 0,
        "runningCount": 1,
        "status": "PRIMARY" if primary else "ACTIVE",
        "trafficWeight": float(weight),
        "targetGroup": {"name": group},
        "taskSetLabel": label,
    }


TARGET_STATUS = {
    "Created": "Pending",
    "Queued": "Pending",
    "Baking": "InProgress",
    "Stopped": "Failed",
}
"""Status of a deployment -> of its one target, where it is another word."""


def _target_status(it: Deployment) -> str:
    return TARGET_STATUS.get(_shown(it), _shown(it))


def _shown(it: Deployment) -> str:
    return str(it.told["status"]) if it.told is not None else it.status


def _without_content(revision: Given) -> dict[str, Any]:
    if "appSpecContent" not in revision:
        return dict(revision)
    sha = revision["appSpecContent"]["sha256"]
    return {"revisionType": "AppSpecContent", "appSpecContent": {"sha256": sha}}


def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _without_none(told: Given, **more: Any) -> dict[str, Any]:
    return {name: each for name, each in {**told, **more}.items() if each is not None}


def _page(found: list[str], given: Given) -> dict[str, Any]:
    start = given.get("nextToken") or "0"
    if not start.isdigit() or int(start) > len(found):
        raise Refused("InvalidNextTokenException", f"{start} is no token of this listing.")
    end = int(start) + PAGE
    more = {"nextToken": str(end)} if end < len(found) else {}
    return {"deployments": found[int(start) : end], **more}


def _within(created: float, span: Given) -> bool:
    start, end = (_unix(span.get(name)) for name in ("start", "end"))
    return (start is None or created >= start) and (end is None or created <= end)


def _unix(at: Any) -> float | None:
    return at.timestamp() if isinstance(at, datetime) else at


# --- what is refused ------------------------------------------------------------------------------


def _name(given: Given, field: str, what: str) -> str:
    name = given.get(field)
    if not name:
        raise Refused(f"{what}NameRequiredException", f"{field} is required.")
    if not NAME.fullmatch(name):
        raise Refused(f"Invalid{what}NameException", f"{name!r} is no name.")
    return str(name)


def _application(account: Account, given: Given) -> dict[str, Any]:
    name = _name(given, "applicationName", "Application")
    if name not in account.applications:
        raise Refused("ApplicationDoesNotExistException", f"There is no application {name}.")
    return account.applications[name]


def _group_key(
    account: Account, given: Given, field: str = "deploymentGroupName"
) -> tuple[str, str]:
    application = _application(account, given)["applicationName"]
    name = _name(given, field, "DeploymentGroup")
    if (application, name) not in account.groups:
        raise Refused("DeploymentGroupDoesNotExistException", f"There is no group {name}.")
    return application, name


def _config(account: Account, name: str | None) -> str:
    if not name:
        raise Refused("DeploymentConfigNameRequiredException", "A name is required.")
    if name not in configs.PREDEFINED and name not in account.configs:
        raise Refused("DeploymentConfigDoesNotExistException", f"There is no {name}.")
    return name


def _check_config(account: Account, name: str, code: str) -> None:
    if account.routing(_config(account, name)) is None:
        raise Refused(code, f"{name} is not for ECS.")


def _check_group(account: Account, key: tuple[str, str], group: Given) -> None:
    if group["computePlatform"] != "ECS":
        return
    style = group.get("deploymentStyle") or {}
    if style != {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"}:
        raise Refused("InvalidDeploymentStyleException", "ECS is BLUE_GREEN with traffic control.")
    options = group.get("blueGreenDeploymentConfiguration") or {}
    if not {"terminateBlueInstancesOnDeploymentSuccess", "deploymentReadyOption"} <= set(options):
        code = "InvalidBlueGreenDeploymentConfigurationException"
        raise Refused(code, "It needs a ready option and one for the original task set.")
    _check_service(account, key, group)
    _check_pair(account, group)
    _check_config(account, group["deploymentConfigName"], "InvalidDeploymentConfigNameException")
    _check_alarms(group.get("alarmConfiguration"))
    _check_rollback(group.get("autoRollbackConfiguration"))


def _check_service(account: Account, key: tuple[str, str], group: Given) -> None:
    services = group.get("ecsServices") or []
    if len(services) != 1 or set(services[0]) != {"clusterName", "serviceName"}:
        raise Refused("InvalidECSServiceException", "One service and its cluster are required.")
    for other, each in account.groups.items():
        if other != key and each.get("ecsServices") == services:
            words = f"The service is in {'/'.join(other)} already."
            raise Refused("ECSServiceMappingLimitExceededException", words)


def _check_pair(account: Account, group: Given) -> None:
    pairs = (group.get("loadBalancerInfo") or {}).get("targetGroupPairInfoList") or []
    code = "InvalidTargetGroupPairException"
    if len(pairs) != 1 or len(pairs[0].get("targetGroups") or []) != 2:
        raise Refused(code, "One pair of two target groups is required.")
    for route in ("prodTrafficRoute", "testTrafficRoute"):
        listeners = (pairs[0].get(route) or {}).get("listenerArns") or []
        if len(listeners) != 1 and (route == "prodTrafficRoute" or route in pairs[0]):
            raise Refused(code, "A route has exactly one listener.")
    names = [each["name"] for each in pairs[0]["targetGroups"]]
    (listener,) = pairs[0]["prodTrafficRoute"]["listenerArns"]
    try:
        account.world.serving(account.region, listener, names)
    except LookupError as error:
        raise Refused("InvalidLoadBalancerInfoException", str(error)) from None


def _check_alarms(told: Given | None) -> None:
    names = [alarm.get("name") for alarm in (told or {}).get("alarms") or []]
    if len(names) > ALARMS:
        raise Refused("AlarmsLimitExceededException", f"At most {ALARMS} alarms.")
    if len(set(names)) < len(names) or not all(names):
        raise Refused("InvalidAlarmConfigException", "Each alarm is named once.")


def _check_rollback(told: Given | None) -> None:
    events = (told or {}).get("events") or []
    if set(events) - ROLLBACK_EVENTS or (told and told.get("enabled") and not events):
        raise Refused("InvalidAutoRollbackConfigException", "Events are to be named, and known.")


def _events(told: Given | None) -> frozenset[str]:
    enabled = told is not None and told.get("enabled")
    return frozenset(told.get("events") or ()) if told and enabled else frozenset()


def _check_text(given: Given) -> None:
    if len(given.get("description") or "") > DESCRIPTION:
        raise Refused("DescriptionTooLongException", f"At most {DESCRIPTION} characters.")


def _revision(given: Given) -> dict[str, Any]:
    told = given.get("revision")
    if not told:
        raise Refused("RevisionRequiredException", "A revision is required.")
    if told.get("revisionType") == "S3" and set(told) == {"revisionType", "s3Location"}:
        return dict(told)
    spec = told.get("appSpecContent") or {}
    if told.get("revisionType") != "AppSpecContent" or not spec.get("content"):
        raise Refused("InvalidRevisionException", "ECS takes AppSpecContent, or S3.")
    sha = appspec.digest(spec["content"])
    if spec.get("sha256", sha) != sha:
        raise Refused("InvalidRevisionException", "The SHA-256 is not that of the content.")
    try:
        appspec.parse(spec["content"])
    except appspec.BadAppSpec as error:
        raise Refused("InvalidRevisionException", str(error)) from None
    return {**told, "appSpecContent": {"content": spec["content"], "sha256": sha}}


def _revision_key(told: Given) -> str:
    if "s3Location" in told:
        place = told["s3Location"]
        return f"{place.get('bucket')}/{place.get('key')}/{place.get('version', '')}"
    spec = told.get("appSpecContent") or told.get("string") or {}
    return str(spec.get("sha256") or appspec.digest(spec.get("content") or ""))


def _register(account: Account, application: str, revision: Given, words: str | None) -> None:
    now = _time(account.world.now())
    info = _without_none({"registerTime": now, "lastUsedTime": now}, description=words)
    kept = {"revision": dict(revision), "info": info}
    account.revisions[application].setdefault(_revision_key(revision), kept)


def _deployment(account: Account, given: Given) -> Deployment:
    id = given.get("deploymentId")
    if not id:
        raise Refused("DeploymentIdRequiredException", "deploymentId is required.")
    if id not in account.deployments:
        raise Refused("DeploymentDoesNotExistException", f"The deployment {id} does not exist.")
    return account.deployments[id]


def _started(account: Account, given: Given) -> Deployment:
    it = _deployment(account, given)
    if it.status == "Created" and it.told is None:
        raise Refused("DeploymentNotStartedException", f"{it.id} has not started.")
    return it
