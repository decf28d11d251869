"""What AWS really does, where its documentation is silent: `flagserver aws check`.

In a small stack of its own (`checkstack`) one version is rolled out and the next is broken by an
alarm; at each look it is written down what CodeDeploy, the load balancer and CloudWatch say. Each
question has what Sortition assumes; the answer is what was found. What was not found out says so: a
question without an answer is none that was answered as assumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flagserver.aws import AwsError, AwsRefused, AwsThrottled
from flagserver.checkreport import Report
from flagserver.checkstack import RUNNING, Made, Sleep, Stack

LOOK_SECONDS = 5.0
LONGEST_SECONDS = 40 * 60.0
"""A deployment that takes longer than that is not waited for; CodeDeploy installs for an hour."""

HEALTHY_SECONDS = 15 * 60.0

LIFECYCLE = (
    *("BeforeInstall", "Install", "AfterInstall", "AllowTestTraffic", "AfterAllowTestTraffic"),
    *("BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic"),
)


@dataclass(slots=True)
class Look:
    """A deployment at one moment, in AWS's words. weight: of the task set that is Green; listener:
    percent that the default rule gives each target group, by name."""

    at: float
    info: dict[str, Any]
    target: dict[str, Any]
    listener: dict[str, float]

    @property
    def status(self) -> str:
        """The deployment's."""
        return str(self.info["status"])

    @property
    def green(self) -> Mapping[str, Any] | None:
        """The replacement task set."""
        sets = self.target.get("taskSetsInfo") or ()
        return next((each for each in sets if each.get("taskSetLabel") == "Green"), None)

    @property
    def differs(self) -> bool:
        """Tell whether task set and listener are not of one mind."""
        green = self.green
        if green is None:
            return False
        group = (green.get("targetGroup") or {}).get("name", "")
        return abs(float(green["trafficWeight"]) - self.listener.get(group, 0.0)) > 0.05


def run(stack: Stack, report: Report, now: Callable[[], float], sleep: Sleep) -> None:
    """Make the stack, find out, and take it down whatever happens; what happened is in the report.

    KeyboardInterrupt is passed on, after it was taken down.
    """
    try:
        Check(stack, report, now, sleep).walk()
    except (AwsError, CheckError) as error:
        report.ended = str(error)
    except BaseException as error:
        report.ended = f"{type(error).__name__}: {error}".rstrip(": ")
        raise
    finally:
        # Until it is done it is not done, should this be cut short too.
        report.left = [f"{stack.name} is not taken down: flagserver aws check --tear-down"]
        report.say(f"Taking {stack.name} down.")
        report.left = stack.tear_down(sleep)


class CheckError(Exception):
    """It makes no sense to go on; `str()` is a sentence."""


class Check:
    """The walk: each part writes its answers down as soon as it has them."""

    def __init__(
        self, stack: Stack, report: Report, now: Callable[[], float], sleep: Sleep
    ) -> None:
        self._stack = stack
        self._report = report
        self._now = now
        self._sleep = sleep

    def walk(self) -> None:
        """Go through all of it. Raises AwsError, CheckError."""
        say = self._report.say
        made = self._stack.build()
        say("It is made.")
        self._weight(made)
        say("Waiting until the first version is healthy.")
        self._wait_until_healthy(made.groups[0])
        say("Rolling the second version out.")
        self._roll_out(made)
        self._expressions()
        say("Breaking the third version at its canary.")
        self._break(made)
        say("Beginning with the fourth version while the alarm fires.")
        self._begin_while_firing(made)

    # --- parts ---

    def _weight(self, made: Made) -> None:
        groups = [
            {"TargetGroupArn": group, "Weight": weight}
            for group, weight in zip(made.groups, (1000, 1), strict=True)
        ]
        code = self._refused(
            *("elbv2", "modify_rule"),
            RuleArn=made.rules["of the pair"],
            Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}],
        )
        self._report.answer("weight", code is not None, _refusal(code))

    def _wait_until_healthy(self, group: str) -> None:
        until = self._now() + HEALTHY_SECONDS
        states: list[dict[str, Any]] = []
        while self._now() < until:
            told = self._stack.read("elbv2", "describe_target_health", TargetGroupArn=group)
            states = [each["TargetHealth"] for each in told["TargetHealthDescriptions"]]
            if any(each["State"] == "healthy" for each in states):
                return
            self._sleep(LOOK_SECONDS)
        raise CheckError(
            f"The first version had no healthy target within {HEALTHY_SECONDS / 60:g} minutes: "
            f"{json.dumps(states)}. Look at subnets, security group and image."
        )

    def _expressions(self) -> None:
        told = self._stack.read(
            *("cloudwatch", "describe_alarms"),
            AlarmNamePrefix=self._stack.name,
            AlarmTypes=["CompositeAlarm", "MetricAlarm"],
        )
        states = {
            each["AlarmName"]: each["StateValue"]
            for kind in ("CompositeAlarms", "MetricAlarms")
            for each in told.get(kind) or ()
            if each["AlarmName"] != self._stack.breaking
        }
        found = f"{len(states)} alarms taken: {_counted(states.values())}"
        self._report.answer("expressions", "ALARM" not in states.values(), found, states)

    def _roll_out(self, made: Made) -> None:
        before = self._rules(made)
        id = self._stack.deploy(self._stack.task_definition(2))
        second = self._refused_deployment()
        looks = self._follow(id, made)
        last = looks[-1]
        if last.status != "Succeeded":
            error = json.dumps(last.info.get("errorInformation"))
            raise CheckError(f"{id} was to succeed and is {last.status}: {error}.")
        self._report.answer("one", second == "DeploymentLimitExceededException", _refusal(second))
        statuses = _once(look.status for look in looks)
        self._report.answer(
            "statuses", {*statuses} <= {*RUNNING, "Succeeded"}, " → ".join(statuses)
        )
        events = [each["lifecycleEventName"] for each in last.target.get("lifecycleEvents") or ()]
        known = [each for each in events if each in LIFECYCLE]
        in_order = known == sorted(known, key=LIFECYCLE.index) and "AllowTraffic" in known
        self._report.answer("lifecycle", in_order and known == events, " → ".join(events))
        self._of_weights(looks)
        self._of_rules(made, before, self._rules(made))
        sets = last.target.get("taskSetsInfo") or []
        found = ", ".join(f"{_label(each)} {each.get('trafficWeight')}" for each in sets)
        self._report.answer("ended", None, found or "nothing", _plain(sets))
        self._of_appspec(last.info)
        code = self._refused("codedeploy", "stop_deployment", deploymentId=id)
        self._report.answer("late", code == "DeploymentAlreadyCompletedException", _refusal(code))

    def _of_weights(self, looks: Sequence[Look]) -> None:
        weights = [look for look in looks if look.green is not None and look.status in RUNNING]
        shown = [float((look.green or {})["trafficWeight"]) for look in weights]
        shifts = len(_once(map(str, shown))) - 1
        apart = sum(look.differs for look in weights)
        began = looks[0].at
        timeline = [
            {"seconds": round(look.at - began, 1), "task set": weight, "listener": look.listener}
            for look, weight in zip(weights, shown, strict=True)
        ]
        found = (
            f"{' → '.join(_once(f'{each:g} %' for each in shown))}; the two differed at {apart} of "
            f"{len(weights)} looks"
        )
        self._report.answer("weights", shifts > 0 and apart <= shifts, found, timeline)

    def _of_rules(self, made: Made, before: dict[str, Any], after: dict[str, Any]) -> None:
        changed = sorted(what for what in before if before[what] != after.get(what))
        found = f"changed: {', '.join(changed) or 'none'}; left: "
        found += ", ".join(what for what in before if what not in changed) or "none"
        self._report.answer("rules", changed == ["default", "of the pair"], found, after)
        blue = made.groups[0]
        idle = after["default"].get(blue)
        found = "left out" if idle is None else f"stays, with weight {idle}"
        self._report.answer("idle", idle == 0, found)

    def _of_appspec(self, info: Mapping[str, Any]) -> None:
        told = info["revision"]["appSpecContent"]
        digest = {"sha256": told.get("sha256")}
        again = self._stack.read(
            *("codedeploy", "get_application_revision"),
            applicationName=self._stack.name,
            revision={"revisionType": "AppSpecContent", "appSpecContent": digest},
        )
        whole = again["revision"].get("appSpecContent", {}).get("content")
        found = f"the deployment: {'content' if told.get('content') else 'digest only'}; "
        found += f"the revision: {'content' if whole else 'no content'}"
        self._report.answer("appspec", not told.get("content") and bool(whole), found)

    def _break(self, made: Made) -> None:
        id = self._stack.deploy(self._stack.task_definition(3))
        canary = self._follow(id, made, until=lambda look: bool(_weight(look)))[-1]
        if canary.status not in RUNNING:
            raise CheckError(f"{id} was to be broken at its canary and is {canary.status} before.")
        self._fire("ALARM")
        fired = self._now()
        looks = self._follow(id, made)
        last = looks[-1]
        code = (last.info.get("errorInformation") or {}).get("code")
        back = (last.info.get("rollbackInfo") or {}).get("rollbackDeploymentId")
        stopped = last.at - fired
        if back is None:
            found = f"{last.status}, {code}, after {stopped:.0f} s; no rollback deployment"
            self._report.answer("alarm", False, found, _plain(last.info))
            return
        went = self._follow(back, made)
        gone = next((each.at for each in [*looks, *went] if _share(each, canary) == 0), None)
        found = f"{last.status}, {code}, after {stopped:.0f} s; {back} is {went[-1].status}"
        found += (
            "; the listener never showed 0 %"
            if gone is None
            else (f"; 0 % at the listener after {gone - fired:.0f} s")
        )
        as_assumed = code == "ALARM_ACTIVE" and went[-1].status == "Succeeded" and gone is not None
        self._report.answer("alarm", as_assumed, found, _plain(last.info))
        sets = [
            f"{_label(each)} on {(each.get('targetGroup') or {}).get('name')}"
            for look in went
            for each in look.target.get("taskSetsInfo") or ()
        ]
        self._report.answer("labels", None, ", ".join(_once(sorted({*sets}))) or "no task sets")

    def _begin_while_firing(self, made: Made) -> None:
        self._fire("ALARM")
        try:
            id = self._stack.deploy(self._stack.task_definition(4))
        except AwsRefused as error:
            self._report.answer("firing", True, _refusal(_code(error)))
            return
        looks = self._follow(id, made)
        most = max((_weight(look) for look in looks), default=0.0)
        code = (looks[-1].info.get("errorInformation") or {}).get("code")
        found = f"{looks[-1].status}, {code}; the new version had at most {most:g} %"
        self._report.answer("firing", looks[-1].status != "Succeeded" and most == 0, found)

    # --- looking ---

    def _follow(
        self, id: str, made: Made, until: Callable[[Look], bool] = lambda _: False
    ) -> list[Look]:
        """Look at a deployment until it is over, or until something is so. Raises CheckError."""
        end = self._now() + LONGEST_SECONDS
        looks: list[Look] = []
        while self._now() < end:
            looks.append(self._look(id, made))
            if until(looks[-1]) or looks[-1].status not in RUNNING:
                return looks
            self._sleep(LOOK_SECONDS)
        raise CheckError(
            f"{id} is still {looks[-1].status} after {LONGEST_SECONDS / 60:g} minutes."
        )

    def _look(self, id: str, made: Made) -> Look:
        info = self._stack.read("codedeploy", "get_deployment", deploymentId=id)["deploymentInfo"]
        weights = self._rules(made)["default"]
        whole = sum(weights.values()) or 1
        names = {arn: arn.split("/")[1] for arn in weights}
        listener = {names[arn]: 100 * weight / whole for arn, weight in weights.items()}
        return Look(self._now(), info, self._target(id), listener)

    def _target(self, id: str) -> dict[str, Any]:
        """Return what CodeDeploy tells of the one service; {} before it began."""
        try:
            names = self._stack.read("codedeploy", "list_deployment_targets", deploymentId=id)
            told = self._stack.read(
                *("codedeploy", "get_deployment_target"),
                deploymentId=id,
                targetId=names["targetIds"][0],
            )
        except AwsRefused as error:
            if error.code == "DeploymentNotStartedException":
                return {}
            raise
        except (IndexError, KeyError):
            return {}
        found: dict[str, Any] = told["deploymentTarget"]["ecsTarget"]
        return found

    def _rules(self, made: Made) -> dict[str, dict[str, int]]:
        """Return rule -> target group -> weight; a rule that does not forward has none."""
        told = self._stack.read("elbv2", "describe_rules", ListenerArn=made.listener)["Rules"]
        names = {arn: what for what, arn in made.rules.items()}
        return {
            "default" if rule["IsDefault"] else names[rule["RuleArn"]]: _groups(rule["Actions"])
            for rule in told
        }

    def _refused(self, service: str, operation: str, /, **parameters: Any) -> str | None:
        """Return the code by which a call is refused, None when it is not."""
        try:
            self._stack.write(service, operation, **parameters)
        except AwsRefused as error:
            return _code(error)
        return None

    def _refused_deployment(self) -> str | None:
        try:
            self._stack.deploy(self._stack.task_definition(2))
        except AwsRefused as error:
            return _code(error)
        return None

    def _fire(self, state: str) -> None:
        self._stack.write(
            *("cloudwatch", "set_alarm_state"),
            AlarmName=self._stack.breaking,
            StateValue=state,
            StateReason="flagserver aws check",
        )


# --- in words -------------------------------------------------------------------------------------


def _groups(actions: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for action in actions:
        groups = (action.get("ForwardConfig") or {}).get("TargetGroups") or ()
        found |= {each["TargetGroupArn"]: int(each.get("Weight", 1)) for each in groups}
        if not groups and "TargetGroupArn" in action:
            found[action["TargetGroupArn"]] = 1
    return found


def _weight(look: Look) -> float:
    return float((look.green or {}).get("trafficWeight", 0.0))


def _share(look: Look, canary: Look) -> float | None:
    """Return what the listener gives the group that a version had at its canary; None: unknown."""
    group = ((canary.green or {}).get("targetGroup") or {}).get("name")
    return None if group is None else look.listener.get(group, 0.0)


def _label(task_set: Mapping[str, Any]) -> str:
    return f"{task_set.get('taskSetLabel')} ({task_set.get('status')})"


def _code(error: AwsRefused) -> str:
    """Return the code of a refusal that answers a question; raise one that is about us: no
    permission, too many calls, something that is not there."""
    absent = error.code.endswith(("NotFound", "NotFoundException", "DoesNotExistException"))
    if error.forbidden or absent or isinstance(error, AwsThrottled):
        raise error
    return error.code


def _refusal(code: str | None) -> str:
    return "it was taken" if code is None else f"refused: {code}"


def _once(texts: Any) -> list[str]:
    """Return texts without those that are like the one before."""
    found: list[str] = []
    for text in texts:
        if not found or found[-1] != text:
            found.append(text)
    return found


def _counted(texts: Any) -> str:
    all_of_them = list(texts)
    return ", ".join(f"{all_of_them.count(each)} {each}" for each in sorted({*all_of_them}))


def _plain(told: Any) -> Any:
    """Return what AWS told as JSON has it."""
    return json.loads(json.dumps(told, default=str))
