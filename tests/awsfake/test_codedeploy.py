"""CodeDeploy of the double: a deployment's life, what ends one, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.session import get_session

from examples.awsfake import scene as scenes
from examples.awsfake.codedeploy import configs, operations
from examples.awsfake.codedeploy.appspec import EVENTS, OURS
from examples.awsfake.scene import APPLICATION, CANARY, GROUP, REGION
from tests.awsfake.deploying import INSTALLED, Stage
from tests.awsfake.double import T0, Double, double

HOOK = "arn:aws:lambda:eu-west-1:123456789012:function:check"
HOOKS = tuple(event for event in EVENTS if event not in OURS)
EVERY_HOOK = dict.fromkeys(HOOKS, HOOK)


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found:
        yield found


@pytest.fixture
def aws(running: Double) -> Double:
    running.reset()
    return running


# --- a life ---------------------------------------------------------------------------------------


def test_a_canary_goes_over_in_two_increments_and_ends_when_blue_is_gone(aws):
    stage = Stage(aws)
    id = stage.deploy()
    assert stage.info(id)["status"] == "Created"
    stage.later(1)
    assert (stage.info(id)["status"], stage.green(id)) == ("InProgress", None)
    stage.later(INSTALLED - 1)
    assert (stage.green(id), stage.weights) == (10.0, (90, 10))
    assert stage.events(id)["AllowTraffic"] == "InProgress"
    stage.later(299)
    assert stage.green(id) == 10.0
    stage.later(1)
    assert (stage.green(id), stage.weights) == (100.0, (0, 100))
    info = stage.info(id)
    assert (info["status"], info["instanceTerminationWaitTimeStarted"]) == ("InProgress", True)
    stage.later(300)
    info = stage.info(id)
    assert (info["status"], info["creator"]) == ("Succeeded", "user")
    assert info["completeTime"].timestamp() == T0 + INSTALLED + 600
    assert [s["taskSetLabel"] for s in stage.target(id)["taskSetsInfo"]] == ["Green"]
    assert list(stage.events(id)) == list(EVENTS)
    assert set(stage.events(id).values()) == {"Succeeded", "Skipped"}


def test_a_linear_one_in_as_many_as_it_says_however_far_the_clock_is_turned(aws):
    stage = Stage(aws)
    linear = {"linearPercentage": 30, "linearInterval": 2}
    stage.client.create_deployment_config(
        deploymentConfigName="thirds",
        computePlatform="ECS",
        trafficRoutingConfig={"type": "TimeBasedLinear", "timeBasedLinear": linear},
    )
    id = stage.deploy(deploymentConfigName="thirds")
    stage.later(INSTALLED)
    seen = []
    for _ in range(4):
        seen.append(stage.green(id))
        stage.later(120)
    assert seen == [30.0, 60.0, 90.0, 100.0]
    stage.later(3600)
    assert stage.info(id)["status"] == "Succeeded"


def test_the_groups_change_places_with_every_deployment(aws):
    stage = Stage(aws)
    stage.deploy(1)
    stage.later(3600)
    assert stage.weights == (0, 100)
    id = stage.deploy(2)
    stage.later(INSTALLED)
    assert stage.weights == (10, 90)
    sets = {s["taskSetLabel"]: s for s in stage.target(id)["taskSetsInfo"]}
    assert sets["Green"]["targetGroup"]["name"] == "shop-blue"
    assert (sets["Green"]["status"], sets["Blue"]["status"]) == ("ACTIVE", "PRIMARY")


def test_every_hook_is_called_in_order_and_waited_for(aws):
    stage = Stage(aws)
    with_test = scenes.deployment_group(stage.scene)["loadBalancerInfo"]
    listener = a_listener(stage)
    with_test["targetGroupPairInfoList"][0]["testTrafficRoute"] = {"listenerArns": [listener]}
    stage.client.update_deployment_group(
        applicationName=APPLICATION,
        currentDeploymentGroupName=GROUP,
        loadBalancerInfo=with_test,
    )
    id = stage.deploy(revision=scenes.revision(2, **EVERY_HOOK))
    called = []
    for seconds in (1, 60, 1, 0, 400):
        stage.later(seconds)
        called.append(stage.hooks()[-1]["event"])
        if called[-1] == "AfterAllowTestTraffic":
            assert (aws.weights(listener)[stage.scene.green], stage.weights) == (100, (1, 0))
        stage.report()
    assert called == list(EVERY_HOOK)
    assert {each["function"] for each in stage.hooks()} == {HOOK}
    stage.later(300)
    assert stage.info(id)["status"] == "Succeeded"
    assert set(stage.events(id).values()) == {"Succeeded"}


def a_listener(stage: Stage) -> str:
    made = stage.aws.client("elbv2").create_listener(
        LoadBalancerArn=stage.scene.balancer,
        Protocol="HTTP",
        Port=8081,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": stage.scene.blue}],
    )
    return str(made["Listeners"][0]["ListenerArn"])


def waiting(minutes: int = 10, **more: Any) -> dict[str, Any]:
    options = {
        "terminateBlueInstancesOnDeploymentSuccess": {"action": "KEEP_ALIVE"},
        "deploymentReadyOption": {
            "actionOnTimeout": "STOP_DEPLOYMENT",
            "waitTimeInMinutes": minutes,
        },
        **more,
    }
    return {"blueGreenDeploymentConfiguration": options}


def test_one_that_is_ready_waits_to_be_continued_and_stops_when_nobody_does(aws):
    stage = Stage(aws, **waiting())
    id = stage.deploy()
    stage.later(120)
    assert (stage.info(id)["status"], stage.green(id), stage.weights) == ("Ready", 0.0, (1, 0))
    stage.client.continue_deployment(deploymentId=id, deploymentWaitType="READY_WAIT")
    stage.later(1)
    assert (stage.info(id)["status"], stage.green(id)) == ("InProgress", 10.0)
    stage.later(300)
    assert stage.info(id)["status"] == "Succeeded"

    late = stage.deploy(3)
    stage.later(61 + 600)
    assert stage.info(late)["status"] == "Stopped"
    assert stage.info(late)["errorInformation"]["code"] == "TIMEOUT"


def test_the_wait_for_blues_end_can_be_cut_short(aws):
    stage = Stage(aws)
    id = stage.deploy()
    stage.later(INSTALLED + 301)
    stage.client.continue_deployment(deploymentId=id, deploymentWaitType="TERMINATION_WAIT")
    assert stage.info(id)["status"] == "Succeeded"


def test_baking_is_a_status_where_a_group_is_told_to(aws):
    stage = Stage(aws)
    aws.tell("codedeploy/times", application=APPLICATION, group=GROUP, region=REGION, bake=3)
    id = stage.deploy()
    stage.later(INSTALLED + 301)
    assert (stage.info(id)["status"], stage.green(id)) == ("Baking", 100.0)
    stage.later(3600)
    assert stage.info(id)["status"] == "Succeeded"


# --- what ends one --------------------------------------------------------------------------------


def rolled_back(stage: Stage, id: str, code: str, status: str) -> dict[str, Any]:
    """Follow the rollback of a deployment to its end; return what is told of it."""
    info = stage.info(id)
    assert (info["status"], info["errorInformation"]["code"]) == (status, code)
    back = info["rollbackInfo"]["rollbackDeploymentId"]
    told = stage.info(back)
    assert told["creator"] == "codeDeployRollback"
    assert told["rollbackInfo"]["rollbackTriggeringDeploymentId"] == id
    stage.later(30)
    assert stage.info(back)["status"] == "Succeeded"
    assert stage.weights == (100, 0)
    return stage.info(back)


def test_an_alarm_stops_it_and_a_deployment_of_its_own_takes_it_back(aws):
    stage = Stage(aws, alarmConfiguration={"enabled": True, "alarms": [{"name": "api-5xx"}]})
    stage.alarm(state="OK")
    id = stage.deploy()
    stage.later(INSTALLED + 30)
    stage.alarm()
    rolled_back(stage, id, "ALARM_ACTIVE", "Stopped")
    assert "api-5xx" in stage.info(id)["errorInformation"]["message"]
    assert stage.events(id)["AllowTraffic"] == "Failed"


def test_an_alarm_that_a_deployment_overrides_does_not(aws):
    stage = Stage(aws, alarmConfiguration={"enabled": True, "alarms": [{"name": "api-5xx"}]})
    stage.alarm()
    id = stage.deploy(overrideAlarmConfiguration={"enabled": False})
    stage.later(INSTALLED + 300)
    assert stage.weights == (0, 100)
    assert stage.info(id)["overrideAlarmConfiguration"] == {"enabled": False}


@pytest.mark.parametrize("said", ["Failed", None], ids=["reports", "is silent for an hour"])
def test_a_hook_that_fails_ends_it(aws, said):
    stage = Stage(aws)
    id = stage.deploy(revision=scenes.revision(2, AfterAllowTraffic=HOOK))
    stage.later(INSTALLED + 301)
    if said is None:
        stage.later(3600)
    else:
        stage.report(said)
    event = next(
        each
        for each in stage.target(id)["lifecycleEvents"]
        if each["lifecycleEventName"] == "AfterAllowTraffic"
    )
    assert event["status"] == "Failed"
    assert HOOK in event["diagnostics"]["message"]
    rolled_back(stage, id, "HOOK_EXECUTION_FAILURE", "Failed")


def test_a_hook_before_anything_is_installed_leaves_nothing_to_take_back(aws):
    stage = Stage(aws)
    id = stage.deploy(revision=scenes.revision(2, BeforeInstall=HOOK))
    stage.later(1)
    stage.report("Failed")
    assert stage.info(id)["status"] == "Failed"
    assert "rollbackInfo" not in stage.info(id)


def test_a_person_stops_it(aws):
    stage = Stage(aws, autoRollbackConfiguration={"enabled": False})
    id = stage.deploy()
    stage.later(INSTALLED)
    told = stage.client.stop_deployment(deploymentId=id, autoRollbackEnabled=True)
    assert told["status"] == "Pending"
    stage.later(2)
    rolled_back(stage, id, "MANUAL_STOP", "Stopped")


def test_one_that_is_stopped_without_a_rollback_leaves_the_traffic_where_it_is(aws):
    stage = Stage(aws)
    id = stage.deploy()
    stage.later(INSTALLED)
    stage.client.stop_deployment(deploymentId=id, autoRollbackEnabled=False)
    stage.later(60)
    assert (stage.info(id)["status"], stage.weights) == ("Stopped", (90, 10))
    assert "rollbackInfo" not in stage.info(id)


def test_a_bad_app_spec_fails_as_a_revision(aws):
    stage = Stage(aws)
    bad = scenes.revision(2, AfterLunch=HOOK)
    id = stage.deploy(revision=bad)
    stage.later(5)
    assert stage.info(id)["errorInformation"]["code"] == "INVALID_REVISION"
    assert "AfterLunch" in stage.info(id)["errorInformation"]["message"]


def test_an_app_spec_is_told_by_its_digest_and_its_content_only_as_a_revision(aws):
    stage = Stage(aws)
    first = stage.deploy(1)
    stage.later(3600)
    info = stage.info(first)
    assert set(info["revision"]["appSpecContent"]) == {"sha256"}
    told = stage.client.get_application_revision(
        applicationName=APPLICATION, revision=info["revision"]
    )
    assert told["revision"]["appSpecContent"]["content"] == scenes.app_spec(1)
    group = stage.client.get_deployment_group(
        applicationName=APPLICATION, deploymentGroupName=GROUP
    )["deploymentGroupInfo"]
    assert group["targetRevision"] == info["revision"]
    assert group["lastSuccessfulDeployment"]["deploymentId"] == first
    second = stage.deploy(2)
    assert stage.info(second)["previousRevision"] == info["revision"]


# --- as botocore's model has it -------------------------------------------------------------------

MODEL = get_session().get_service_model("codedeploy")


def test_every_answer_has_the_shape_of_botocores_model(aws):
    answers: dict[str, list[bytes]] = {}
    stage = Stage(aws, alarmConfiguration={"enabled": True, "alarms": [{"name": "api-5xx"}]})
    client = stage.client
    handler = "after-call.codedeploy"

    def keep(http_response: Any, model: Any, **_: Any) -> None:
        answers.setdefault(model.name, []).append(http_response.content)

    client.meta.events.register(handler, keep)
    try:
        everything(stage)
    finally:
        client.meta.events.unregister(handler, keep)
    for operation, bodies in answers.items():
        for body in bodies:
            shape = MODEL.operation_model(operation).output_shape
            told = json.loads(body or b"{}")
            assert (shape is None and not told) or not list(mismatches(shape, told, operation))
    named = {operation.__name__ for operation in operations.OPERATIONS}
    assert named == {snake(operation) for operation in answers}


def everything(stage: Stage) -> None:
    """Call every operation once at least, and see a deployment in all that it can be."""
    client, app = stage.client, {"applicationName": APPLICATION}
    client.create_application(applicationName="other", computePlatform="ECS")
    client.get_application(**app)
    client.batch_get_applications(applicationNames=[APPLICATION])
    client.list_applications()
    client.delete_application(applicationName="other")
    both = {**app, "deploymentGroupName": GROUP}
    client.update_deployment_group(**app, currentDeploymentGroupName=GROUP, serviceRoleArn="arn:r")
    client.list_deployment_groups(**app)
    client.create_deployment_config(
        deploymentConfigName="five",
        computePlatform="ECS",
        trafficRoutingConfig=canary(5, 30),
    )
    for name in (*configs.PREDEFINED, "five"):
        client.get_deployment_config(deploymentConfigName=name)
    client.list_deployment_configs()
    client.delete_deployment_config(deploymentConfigName="five")
    client.register_application_revision(**app, revision=scenes.revision(1), description="one")
    client.list_application_revisions(**app)
    hooked = scenes.revision(2, BeforeAllowTraffic=HOOK)
    for number, version in enumerate((scenes.revision(1), hooked)):
        id = client.create_deployment(**both, revision=version)["deploymentId"]
        look(stage, id, both)
        stage.later(61)
        look(stage, id, both)
        if number:
            stage.report("Failed")
        stage.later(1)
        look(stage, id, both)
        if not number:
            stage.later(310)
            client.continue_deployment(deploymentId=id, deploymentWaitType="TERMINATION_WAIT")
        look(stage, id, both)
    stage.later(60)
    stopped = stage.deploy(3)
    client.stop_deployment(deploymentId=stopped, autoRollbackEnabled=True)
    stage.later(60)
    look(stage, stopped, both)
    client.create_deployment_group(
        **{
            **scenes.deployment_group(stage.scene),
            "deploymentGroupName": "another",
            "ecsServices": [{"clusterName": "main", "serviceName": "another"}],
        }
    )
    client.delete_deployment_group(**app, deploymentGroupName="another")


def look(stage: Stage, id: str, both: Mapping[str, str]) -> None:
    client = stage.client
    info = client.get_deployment(deploymentId=id)["deploymentInfo"]
    client.batch_get_deployments(deploymentIds=[id])
    client.list_deployments(**both)
    client.get_deployment_group(**both)
    client.batch_get_deployment_groups(
        applicationName=both["applicationName"], deploymentGroupNames=[GROUP]
    )
    client.get_application_revision(
        applicationName=both["applicationName"], revision=info["revision"]
    )
    if info["status"] != "Created":
        (target,) = client.list_deployment_targets(deploymentId=id)["targetIds"]
        client.get_deployment_target(deploymentId=id, targetId=target)
        client.batch_get_deployment_targets(deploymentId=id, targetIds=[target])


def mismatches(shape: Any, told: Any, where: str) -> Iterator[str]:
    """Yield what of an answer is not as its shape says: names, types, enumerations."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "structure": dict,
        "map": dict,
        "list": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "long": int,
        "double": (int, float),
        "timestamp": (int, float),
    }
    inside: Any = told
    if not isinstance(told, kinds[shape.type_name]):
        yield f"{where}: {told!r} is no {shape.type_name}"
    elif shape.type_name == "structure":
        for name, each in inside.items():
            if name not in shape.members:
                yield f"{where}.{name} is not known"
            else:
                yield from mismatches(shape.members[name], each, f"{where}.{name}")
    elif shape.type_name == "list":
        for number, each in enumerate(inside):
            yield from mismatches(shape.member, each, f"{where}[{number}]")
    elif getattr(shape, "enum", None) and told not in shape.enum:
        yield f"{where}: {told!r} is none of {shape.enum}"


def test_what_does_not_fit_the_model_is_found():
    shape = MODEL.operation_model("GetDeployment").output_shape
    told = {"deploymentInfo": {"status": "Done", "createTime": "now", "colour": "green"}}
    assert len(list(mismatches(shape, told, "GetDeployment"))) == 3


def snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


# --- what is refused ------------------------------------------------------------------------------


Case = tuple[str, Callable[[Stage], object]]
"""The code that it is refused with, and what is done."""


def canary(percent: int, minutes: int) -> dict[str, Any]:
    told = {"canaryPercentage": percent, "canaryInterval": minutes}
    return {"type": "TimeBasedCanary", "timeBasedCanary": told}


def with_group(code: str, **told: Any) -> Case:
    """Create another group that differs in this."""

    def act(stage: Stage) -> object:
        group = scenes.deployment_group(stage.scene)
        service = [{"clusterName": "main", "serviceName": "another"}]
        made = {**group, "deploymentGroupName": "another", "ecsServices": service, **told}
        return stage.client.create_deployment_group(**made)

    return code, act


def with_pair(code: str, **told: Any) -> Case:
    """Create another group whose pair differs in this."""

    def act(stage: Stage) -> object:
        group = scenes.deployment_group(stage.scene)
        (pair,) = group["loadBalancerInfo"]["targetGroupPairInfoList"]
        balancer = {"targetGroupPairInfoList": [{**pair, **told}]}
        return with_group("", loadBalancerInfo=balancer)[1](stage)

    return code, act


def with_config(code: str, routing: Any, name: str = "mine") -> Case:
    return code, lambda stage: stage.client.create_deployment_config(
        deploymentConfigName=name, computePlatform="ECS", trafficRoutingConfig=routing
    )


def deploying(code: str, **told: Any) -> Case:
    return code, lambda stage: stage.deploy(**told)


def calling(code: str, operation: str, **told: Any) -> Case:
    return code, lambda stage: getattr(stage.client, operation)(**told)


def over(stage: Stage) -> str:
    id = stage.deploy()
    stage.later(3600)
    return id


def of_a_hook(stage: Stage, status: str, execution: str | None = None, twice: bool = False) -> None:
    id = stage.deploy(revision=scenes.revision(2, BeforeInstall=HOOK))
    stage.later(1)
    if twice:
        stage.report()
    stage.client.put_lifecycle_event_hook_execution_status(
        deploymentId=id,
        lifecycleEventHookExecutionId=execution
        or stage.hooks()[0]["payload"]["LifecycleEventHookExecutionId"],
        status=status,
    )


GONE = "d-123456789"
SHA = {"content": "version: 0.0", "sha256": "0" * 64}
NO_LISTENER = {
    "listenerArns": ["arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/x/1/2"]
}

REFUSALS: dict[str, list[Case]] = dict(
    zip(
        operations.REFUSED,
        [
            [
                calling("ApplicationDoesNotExist", "get_application", applicationName="x"),
                deploying("DeploymentGroupDoesNotExist", deploymentGroupName="x"),
                deploying("DeploymentConfigDoesNotExist", deploymentConfigName="x"),
                calling(
                    "DeploymentConfigDoesNotExist",
                    "get_deployment_config",
                    deploymentConfigName="x",
                ),
                calling("DeploymentDoesNotExist", "get_deployment", deploymentId=GONE),
                calling("DeploymentDoesNotExist", "stop_deployment", deploymentId=GONE),
                calling("DeploymentDoesNotExist", "list_deployment_targets", deploymentId=GONE),
                calling(
                    "RevisionDoesNotExist",
                    "get_application_revision",
                    applicationName=APPLICATION,
                    revision=scenes.revision(9),
                ),
                (
                    "DeploymentTargetDoesNotExist",
                    lambda stage: stage.client.get_deployment_target(
                        deploymentId=over(stage), targetId="main:x"
                    ),
                ),
            ],
            [
                calling(
                    "ApplicationAlreadyExists", "create_application", applicationName=APPLICATION
                ),
                with_group("DeploymentGroupAlreadyExists", deploymentGroupName=GROUP),
                with_config("DeploymentConfigAlreadyExists", canary(5, 30), CANARY),
            ],
            [
                calling("InvalidApplicationName", "create_application", applicationName="a/b"),
                calling("InvalidApplicationName", "create_application", applicationName="a" * 101),
                with_group("InvalidDeploymentGroupName", deploymentGroupName="a b"),
            ],
            [
                with_group(
                    "InvalidDeploymentStyle",
                    deploymentStyle={
                        "deploymentType": "IN_PLACE",
                        "deploymentOption": "WITHOUT_TRAFFIC_CONTROL",
                    },
                ),
                with_group("InvalidBlueGreen", blueGreenDeploymentConfiguration={}),
                with_group("InvalidECSService", ecsServices=[]),
            ],
            [
                with_group("InvalidTargetGroupPair", loadBalancerInfo={}),
                with_pair("InvalidTargetGroupPair", targetGroups=[{"name": "shop-blue"}]),
                with_pair("InvalidTargetGroupPair", prodTrafficRoute={"listenerArns": []}),
            ],
            [
                with_pair("InvalidLoadBalancerInfo", prodTrafficRoute=NO_LISTENER),
                with_pair("InvalidLoadBalancerInfo", targetGroups=[{"name": "a"}, {"name": "b"}]),
            ],
            [
                with_group(
                    "ECSServiceMappingLimitExceeded",
                    ecsServices=[{"clusterName": "main", "serviceName": "shop"}],
                )
            ],
            [
                with_group(
                    "InvalidDeploymentConfigName",
                    deploymentConfigName="CodeDeployDefault.OneAtATime",
                ),
                deploying(
                    "InvalidDeploymentConfigName",
                    deploymentConfigName="CodeDeployDefault.AllAtOnce",
                ),
            ],
            [
                with_group(
                    "AlarmsLimitExceeded",
                    alarmConfiguration={
                        "enabled": True,
                        "alarms": [{"name": f"a{number}"} for number in range(11)],
                    },
                ),
                with_group(
                    "InvalidAlarmConfig",
                    alarmConfiguration={"enabled": True, "alarms": [{"name": "a"}] * 2},
                ),
                with_group("InvalidAutoRollback", autoRollbackConfiguration={"enabled": True}),
                deploying(
                    "InvalidAutoRollback",
                    autoRollbackConfiguration={"enabled": True, "events": ["AT_LUNCH"]},
                ),
            ],
            [
                with_config("InvalidTrafficRouting", canary(100, 5)),
                with_config("InvalidTrafficRouting", canary(5, 0)),
                with_config("InvalidTrafficRouting", canary(5, 2881)),
            ],
            [
                with_config("InvalidTrafficRouting", {**canary(5, 5), "type": "TimeBasedLinear"}),
                with_config("InvalidTrafficRouting", {"type": "TimeBasedCanary"}),
            ],
            [
                calling(
                    "RevisionRequired",
                    "create_deployment",
                    applicationName=APPLICATION,
                    deploymentGroupName=GROUP,
                ),
                deploying("InvalidRevision", revision={"revisionType": "GitHub"}),
                deploying(
                    "InvalidRevision",
                    revision={"revisionType": "AppSpecContent", "appSpecContent": SHA},
                ),
            ],
            [("DeploymentLimitExceeded", lambda stage: (stage.deploy(), stage.deploy()))],
            [
                calling(
                    "DeploymentGroupNameRequired", "list_deployments", applicationName=APPLICATION
                ),
                calling(
                    "InvalidDeploymentStatus", "list_deployments", includeOnlyStatuses=["Late"]
                ),
            ],
            [
                calling(
                    "BatchLimitExceeded",
                    "batch_get_deployments",
                    deploymentIds=[f"d-{number}" for number in range(26)],
                )
            ],
            [
                (
                    "DeploymentNotStarted",
                    lambda stage: stage.client.list_deployment_targets(deploymentId=stage.deploy()),
                ),
                (
                    "DeploymentTargetIdRequired",
                    lambda stage: stage.client.batch_get_deployment_targets(
                        deploymentId=over(stage), targetIds=[]
                    ),
                ),
            ],
            [
                (
                    "DeploymentAlreadyCompleted",
                    lambda stage: stage.client.stop_deployment(deploymentId=over(stage)),
                ),
                (
                    "DeploymentAlreadyCompleted",
                    lambda stage: stage.client.continue_deployment(deploymentId=over(stage)),
                ),
            ],
            [
                (
                    "DeploymentIsNotInReadyState",
                    lambda stage: stage.client.continue_deployment(deploymentId=stage.deploy()),
                ),
                (
                    "InvalidDeploymentStatus",
                    lambda stage: stage.client.continue_deployment(
                        deploymentId=stage.deploy(), deploymentWaitType="TERMINATION_WAIT"
                    ),
                ),
            ],
            [
                (
                    "InvalidLifecycleEventHookExecutionStatus",
                    lambda stage: of_a_hook(stage, "Skipped"),
                ),
            ],
            [
                (
                    "InvalidLifecycleEventHookExecutionId",
                    lambda stage: of_a_hook(stage, "Succeeded", "nobody"),
                ),
                (
                    "LifecycleEventAlreadyCompleted",
                    lambda stage: of_a_hook(stage, "Succeeded", twice=True),
                ),
            ],
        ],
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("code", "act"),
    [
        pytest.param(*case, id=f"{fact} ({number})")
        for fact, cases in REFUSALS.items()
        for number, case in enumerate(cases, 1)
    ],
)
def test_refused_with_awss_own_code(aws, code, act):
    stage = Stage(aws)
    with pytest.raises(ClientError) as refused:
        act(stage)
    told = refused.value.response
    assert told["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert told["Error"]["Code"].startswith(code)
    shapes = {
        shape.name for shape in MODEL.operation_model(refused.value.operation_name).error_shapes
    }
    assert told["Error"]["Code"] in shapes
    assert stage.weights in {(1, 0), (0, 100)}
