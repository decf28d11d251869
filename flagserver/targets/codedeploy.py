"""A blue/green deployment of CodeDeploy to ECS as a target: followed, never set.

A target of kind `codedeploy` is named by a deployment, `d-3XAMPL3ID`, or by application and group,
`shop/blue-green`: the one that runs there is found. In another region than the server's own it is
`eu-central-1:shop/blue-green`, or has the setting `region`. `settle` adds what is to be known
later, when CodeDeploy does not tell it any more:

    deployment   its id                        service   cluster:service, as its target is named
    config       how it shifts traffic         steps     the same as a schedule is written
    waits        seconds that it waits besides at most: to be let go on, to end the old version
    previous     the revision before, as JSON, to be deployed again; "" where there is none

CodeDeploy owns the weights. While it goes forward, how far it is says the replacement task set's
`trafficWeight`; while it goes back, so does the load balancer itself: what a deployment that has
ended says of weights, nobody documents.

The way back: a deployment that runs is stopped with a rollback, which CodeDeploy carries out as a
deployment of its own. One that is over cannot be stopped: its previous revision is deployed anew,
all at once, without alarms, which fire already, and without a rollback, which would lead to the bad
version again. A group has one deployment at a time, so of two who try, AWS refuses one.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sortition.core.bucketing import WHOLE

from flagserver.aws import Aws, AwsError, AwsRefused, AwsUnknown
from flagserver.domain.engines import Phase
from flagserver.domain.errors import Conflict, Invalid, Refusal, TargetOwned, TargetUnavailable
from flagserver.domain.schedule import percent_text
from flagserver.domain.targets import Mode, Reading, Target

from .deployments import (
    DEPLOYMENT,
    GROUP,
    Followed,
    Told,
    check_named,
    followed_of,
    green_set,
    is_through,
    lane_from,
    lane_of,
    newer,
    pair_of,
    schedule_of,
    settled,
    waits_of,
    way_back_description,
    weight_in,
    weight_of,
)
from .hooks import ROLLBACK
from .owners import CODEDEPLOY_RUNNING, in_parts

RUNNING = frozenset(CODEDEPLOY_RUNNING)

ALL_AT_ONCE = "CodeDeployDefault.ECSAllAtOnce"
AT_ONCE = 25
"""How many deployments BatchGetDeployments tells of."""

READ_SECONDS = 5.0
"""After so long no further deployment is asked for in one reading of many: a tick."""

GONE = frozenset(
    {
        "DeploymentDoesNotExistException",
        "InvalidDeploymentIdException",
        "DeploymentGroupDoesNotExistException",
        "ApplicationDoesNotExistException",
        "DeploymentConfigDoesNotExistException",
    }
)
NOT_STARTED = "DeploymentNotStartedException"
OVER_ALREADY = "DeploymentAlreadyCompletedException"
ONE_RUNS = "DeploymentLimitExceededException"
NOT_WAITING = frozenset(
    {
        "DeploymentIsNotInReadyStateException",
        "InvalidDeploymentStatusException",
        OVER_ALREADY,
    }
)

READY_WAIT, TERMINATION_WAIT = "READY_WAIT", "TERMINATION_WAIT"


class CodeDeployDriver:
    """`ports.Follower` for CodeDeploy."""

    kind = "codedeploy"

    def __init__(self, aws: Aws, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._aws = aws
        self._monotonic = monotonic

    # --- before it begins ---

    def settle(self, target: Target) -> Target:
        """Find the deployment, and keep of it what will be needed later; see `ports.Follower`."""
        check_named(target)
        try:
            region = self._region(target)
            id = target.name
            if not DEPLOYMENT.fullmatch(id):
                id = self._running(region, target.name)
            found = self._deployment(region, id)
            if found.get("computePlatform") != "ECS":
                raise Invalid(f"{id} is not a deployment to ECS.", field="/name")
            group = self._group(region, found["applicationName"], found["deploymentGroupName"])
            config = found["deploymentConfigName"]
            steps = schedule_of(config, self._routing(region, config)).text()
            previous = self._previous(region, group)
            own = region == self._aws.region
        except AwsError as error:
            raise _refusal(error) from None
        name = f"{found['applicationName']}/{found['deploymentGroupName']}"
        service = group["ecsServices"][0]
        return Target.of(
            self.kind,
            name if own else f"{region}:{name}",
            Mode.FOLLOW,
            region=region,
            deployment=id,
            service=f"{service['clusterName']}:{service['serviceName']}",
            config=config,
            steps=steps,
            waits=waits_of(found, group),
            previous=json.dumps(previous) if previous else "",
        )

    def check(self, target: Target) -> None:
        """Raise what stands against following this deployment; see `ports.TargetDriver.check`."""
        it = followed_of(target)
        try:
            found = self._deployment(it.region, it.deployment)
            # It must be known before it matters whether the way back could be read.
            self._rules(it, found)
        except AwsError as error:
            raise _refusal(error) from None
        if found.get("creator") == ROLLBACK:
            raise Conflict(f"{it.deployment} is a rollback of CodeDeploy's own.", field="/name")
        if found["status"] not in RUNNING:
            raise Conflict(
                f"{it.deployment} is over ({found['status']}): there is nothing to follow. Start "
                "the rollout while its deployment runs.",
                field="/name",
            )

    def nearest(self, target: Target, share: int) -> int:  # noqa: ARG002 (the door's form)
        """Return the share: whatever CodeDeploy gives is taken over as it is."""
        return share

    # --- how it stands ---

    def read(self, target: Target) -> Reading:
        """Return how the deployment stands now. Raises TargetUnavailable."""
        it = followed_of(target)
        try:
            return self._reading(it, self._deployment(it.region, it.deployment))
        except AwsRefused as error:
            return _gone(it, error)
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None

    def read_all(self, targets: Collection[Target]) -> Mapping[Target, Reading | Refusal]:
        """Return how each deployment stands now, 25 of a region in a call, and one more for each;
        see `ports`."""
        until = self._monotonic() + READ_SECONDS
        found: dict[Target, Reading | Refusal] = {}
        regions: dict[str, dict[Target, Followed]] = {}
        for target in targets:
            try:
                it = followed_of(target)
            except Invalid as error:
                found[target] = error
            else:
                regions.setdefault(it.region, {})[target] = it
        for region, some in regions.items():
            for part in in_parts(list(some.items()), AT_ONCE):
                found |= self._read_some(region, dict(part), until)
        return found

    # --- moving it ---

    def set(self, target: Target, share: int, before: Reading, deadline: float) -> Reading:  # noqa: ARG002 (the door's form)
        """Refuse: CodeDeploy sets the weights."""
        raise TargetOwned(f"CodeDeploy sets the weights of {target.name}; it can only be followed.")

    def go_on(self, target: Target, deadline: float) -> None:
        """End a wait of CodeDeploy's that it lets be ended; see `ports.Follower`."""
        it = followed_of(target)
        try:
            found = self._deployment(it.region, it.deployment)
            wait = READY_WAIT if found["status"] == "Ready" else TERMINATION_WAIT
            self._continue(it.region, it.deployment, wait, deadline)
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None

    def roll_back(self, target: Target, deadline: float) -> Reading:
        """Bring the version before back, by whichever way CodeDeploy has left; see `ports`.

        Each call does at most one thing. Until the way back is over, TargetUnavailable says how it
        stands, and the caller comes again.
        """
        it = followed_of(target)
        try:
            found = self._deployment(it.region, it.deployment)
            if found["status"] in RUNNING:
                self._stop(it, deadline)
                found = self._deployment(it.region, it.deployment)
            reading = self._reading(it, found)
            if reading.foreign is not None:
                return self._replaced(it, reading)
            lane = lane_of(reading)
            if lane.phase in {Phase.BROKEN, Phase.DONE}:
                self._deploy_previous(it, deadline)
                reading = self._reading(it, found)
                lane = lane_of(reading)
            elif lane.back is not None and lane.back_status == "Ready":
                # The group waits for somebody at each deployment; on the way back we are that one.
                self._continue(it.region, lane.back, READY_WAIT, deadline)
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None
        if lane.phase is not Phase.GONE_BACK or reading.share:
            raise TargetUnavailable(f"{lane.words}. {percent_text(reading.share or 0)} is left.")
        return reading

    def _replaced(self, it: Followed, reading: Reading) -> Reading:
        """Return how it stands where somebody deployed something else after this. Raises
        TargetOwned, AwsError."""
        newest = self._newest(it) or {}
        over = newest.get("status") == "Succeeded" and newest.get("creator") != ROLLBACK
        if over:
            # What we would take back has been replaced: nothing of it serves any more.
            return Reading(0, lane=reading.lane)
        raise TargetOwned(f"{reading.foreign} Stop or roll back that.")

    def commands_by_hand(self, target: Target) -> list[str]:
        """Return the `aws` commands that stop the deployment, and that deploy the revision before
        when it is over. Asks nobody."""
        it = followed_of(target)
        where = ["--region", it.region]
        stop = ["aws", "deploy", "stop-deployment", "--deployment-id", it.deployment]
        commands = [shlex.join([*stop, "--auto-rollback-enabled", *where])]
        if it.previous:
            again = ["aws", "deploy", "create-deployment", "--application-name", it.application]
            again += ["--deployment-group-name", it.group, "--revision", it.previous]
            again += ["--deployment-config-name", ALL_AT_ONCE]
            again += ["--override-alarm-configuration", "enabled=false"]
            again += ["--auto-rollback-configuration", "enabled=false"]
            commands += ["# If it is over already:", shlex.join([*again, *where])]
        return commands

    # --- looking ---

    def _region(self, target: Target) -> str:
        """Return where the target is. Raises Invalid, AwsError."""
        match = GROUP.fullmatch(target.name)
        said = target.get("region") or (match and match[1]) or self._aws.region
        if not isinstance(said, str):
            raise Invalid("Say in which region it is.", field="/settings/region")
        return said

    def _running(self, region: str, name: str) -> str:
        """Return the deployment that runs in a group. Raises Conflict, AwsError."""
        application, _, group = name.rpartition(":")[2].partition("/")
        told = self._aws.read(
            "codedeploy",
            "list_deployments",
            region,
            applicationName=application,
            deploymentGroupName=group,
            includeOnlyStatuses=CODEDEPLOY_RUNNING,
        )
        if not told["deployments"]:
            raise Conflict(
                f"No deployment of {name} runs. Create one, then start what is to follow it.",
                field="/name",
            )
        found: str = told["deployments"][0]
        return found

    def _deployment(self, region: str, id: str) -> Told:
        told = self._aws.read("codedeploy", "get_deployment", region, deploymentId=id)
        found: Told = told["deploymentInfo"]
        return found

    def _group(self, region: str, application: str, group: str) -> Told:
        told = self._aws.read(
            "codedeploy",
            "get_deployment_group",
            region,
            applicationName=application,
            deploymentGroupName=group,
        )
        found: Told = told["deploymentGroupInfo"]
        return found

    def _routing(self, region: str, config: str) -> Told:
        told = self._aws.read(
            "codedeploy", "get_deployment_config", region, deploymentConfigName=config
        )
        found: Told = told["deploymentConfigInfo"].get("trafficRoutingConfig") or {}
        return found

    def _previous(self, region: str, group: Told) -> Told | None:
        """Return the revision that serves while a deployment runs, whole, as CreateDeployment takes
        it: that of the last one that went well. None: there was none, or it is not kept.

        Deployments tell an AppSpec's digest only; by that its content is found (botocore's model of
        codedeploy 2014-10-06, GetDeployment).
        """
        last = (group.get("lastSuccessfulDeployment") or {}).get("deploymentId")
        revision = self._deployment(region, last).get("revision") if last else None
        if not revision or "s3Location" in revision:
            return revision
        told = self._aws.read(
            "codedeploy",
            "get_application_revision",
            region,
            applicationName=group["applicationName"],
            revision=revision,
        )["revision"]
        spec = told.get("appSpecContent") or told.get("string") or {}
        if not spec.get("content"):
            return None
        # It may be told of as a String; what is deployed to ECS is an AppSpec.
        content = {"content": spec["content"]}
        return {"revisionType": "AppSpecContent", "appSpecContent": content}

    def _read_some(
        self, region: str, some: Mapping[Target, Followed], until: float
    ) -> dict[Target, Reading | Refusal]:
        ids = list(dict.fromkeys(it.deployment for it in some.values()))
        try:
            told = self._aws.read("codedeploy", "batch_get_deployments", region, deploymentIds=ids)
        except AwsError as error:
            return {target: TargetUnavailable(str(error)) for target in some}
        infos = {info["deploymentId"]: info for info in told["deploymentsInfo"]}
        return {
            target: self._read_one(it, infos.get(it.deployment), until)
            for target, it in some.items()
        }

    def _read_one(self, it: Followed, info: Told | None, until: float) -> Reading | Refusal:
        if info is None:
            return Reading(None, foreign=f"{it.deployment} does not exist any more.")
        if self._monotonic() >= until:
            return TargetUnavailable(f"There was no time left to look at {it.deployment}.")
        try:
            return self._reading(it, info)
        except AwsError as error:
            return TargetUnavailable(str(error))

    def _reading(self, it: Followed, info: Told) -> Reading:
        """Return what AWS says of a deployment as a reading. Raises AwsError."""
        target = self._ecs_target(it, it.deployment)
        newest = None if info["status"] in RUNNING else self._newest(it)
        back = self._way_back(it, info, newest)
        lane = lane_from(it, info, target, back)
        if lane.phase.is_against:
            share = self._share_left(it, info, target, back, newest)
            return Reading(share, lane=settled(lane, share))
        share = weight_of(green_set(target))
        return Reading(share, foreign=newer(it, info, newest), lane=lane)

    def _share_left(
        self, it: Followed, info: Told, target: Told, back: Told | None, newest: Told | None
    ) -> int:
        """Return what the new version still has while the traffic goes back. Raises AwsError."""
        if back is not None and is_through(back) and newer(it, back, newest):
            # It is back, and its group may serve whatever was deployed since.
            return 0
        share = self._share_at_balancer(it, info, green_set(target))
        if back is not None and back.get("creator") != ROLLBACK:
            # The older version comes anew, in whichever group is idle: it may be the same.
            share = min(share, WHOLE - weight_of(green_set(back["target"])))
        return share

    def _ecs_target(self, it: Followed, deployment: str) -> Told:
        """Return the deployment's one target; empty before it has started."""
        try:
            told = self._aws.read(
                "codedeploy",
                "batch_get_deployment_targets",
                it.region,
                deploymentId=deployment,
                targetIds=[it.service],
            )
        except AwsRefused as error:
            if error.code == NOT_STARTED:
                return {}
            raise
        found: Told = told["deploymentTargets"][0].get("ecsTarget") or {}
        return found

    def _way_back(self, it: Followed, info: Told, newest: Told | None) -> Told | None:
        """Return the deployment by which the traffic goes back: CodeDeploy's own, or, where that is
        none or ended badly, the one that we made. None: there is none yet."""
        own = (info.get("rollbackInfo") or {}).get("rollbackDeploymentId")
        if own:
            found = self._deployment(it.region, own)
            if found["status"] not in {"Failed", "Stopped"}:
                return self._with_target(it, found)
        ours = newest is not None and newest.get("description") == way_back_description(it)
        return self._with_target(it, newest) if newest is not None and ours else None

    def _newest(self, it: Followed) -> Told | None:
        """Return the newest deployment of the group."""
        told = self._group(it.region, it.application, it.group)
        newest = (told.get("lastAttemptedDeployment") or {}).get("deploymentId")
        return self._deployment(it.region, newest) if newest else None

    def _with_target(self, it: Followed, info: Told) -> Told:
        return {**info, "target": self._ecs_target(it, info["deploymentId"])}

    def _share_at_balancer(self, it: Followed, info: Told, green: Told) -> int:
        """Return the share that the new version's target group really has at the production
        listener. Raises AwsError."""
        group = (green.get("targetGroup") or {}).get("name")
        if not group:
            return 0
        names = [each["name"] for each in pair_of(info)["targetGroups"]]
        told = self._aws.read("elbv2", "describe_target_groups", it.region, Names=names)
        arns = {each["TargetGroupName"]: each["TargetGroupArn"] for each in told["TargetGroups"]}
        shares = (weight_in(r, arns.values(), arns[group]) for r in self._rules(it, info))
        return max(shares, default=0)

    def _rules(self, it: Followed, info: Told) -> Sequence[Told]:
        """Return the rules of the production listener, its default one among them."""
        (listener,) = pair_of(info)["prodTrafficRoute"]["listenerArns"]
        told = self._aws.read("elbv2", "describe_rules", it.region, ListenerArn=listener)
        found: Sequence[Told] = told["Rules"]
        return found

    # --- writing ---

    def _stop(self, it: Followed, deadline: float) -> None:
        """Stop the deployment with a rollback. What happens then is read. Raises AwsError."""
        try:
            self._write(
                it.region,
                "stop_deployment",
                deadline,
                deploymentId=it.deployment,
                autoRollbackEnabled=True,
            )
        except AwsUnknown:
            return  # It may have been stopped: the reading says.
        except AwsRefused as error:
            if error.code != OVER_ALREADY:
                raise

    def _continue(self, region: str, deployment: str, wait: str, deadline: float) -> None:
        """End a wait of a deployment, unless it does not wait. Raises AwsError."""
        try:
            self._write(
                region,
                "continue_deployment",
                deadline,
                deploymentId=deployment,
                deploymentWaitType=wait,
            )
        except AwsRefused as error:
            if error.code not in NOT_WAITING:
                raise

    def _deploy_previous(self, it: Followed, deadline: float) -> None:
        """Deploy the revision before, unless a deployment runs in the group. Raises AwsError,
        TargetUnavailable."""
        if not it.previous:
            raise TargetUnavailable(
                f"{it.deployment} is over, and no revision of {it.words} was there before it: "
                "deploy an older version by hand."
            )
        try:
            self._write(
                it.region,
                "create_deployment",
                deadline,
                applicationName=it.application,
                deploymentGroupName=it.group,
                revision=json.loads(it.previous),
                deploymentConfigName=ALL_AT_ONCE,
                description=way_back_description(it),
                overrideAlarmConfiguration={"enabled": False},
                autoRollbackConfiguration={"enabled": False},
            )
        except AwsUnknown:
            return
        except AwsRefused as error:
            if error.code != ONE_RUNS:
                raise
            raise TargetUnavailable(f"Another deployment runs in {it.words}: {error}") from None

    def _write(self, region: str, operation: str, deadline: float, **told: Any) -> Told:
        return self._aws.write(
            "codedeploy", operation, region, lambda: self._monotonic() < deadline, **told
        )


def _gone(it: Followed, error: AwsRefused) -> Reading:
    """Return the reading of a deployment that does not exist any more. Raises TargetUnavailable."""
    if error.code in GONE:
        return Reading(None, foreign=f"{it.deployment} does not exist any more.")
    raise TargetUnavailable(str(error)) from None


def _refusal(error: AwsError) -> Refusal:
    if isinstance(error, AwsRefused) and error.code in GONE:
        return Invalid(str(error), field="/name")
    return TargetUnavailable(str(error))
