"""What CodeDeploy has in one account and region, and how time passes there."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import appspec, configs, running
from .appspec import AppSpec, BadAppSpec
from .running import Deployment, Event, Failed, Times

ON_FAILURE = "DEPLOYMENT_FAILURE"
ON_ALARM = "DEPLOYMENT_STOP_ON_ALARM"
ON_REQUEST = "DEPLOYMENT_STOP_ON_REQUEST"
ROLLBACK_EVENTS = frozenset({ON_FAILURE, ON_ALARM, ON_REQUEST})

STATES = {
    "InProgress": "START",
    "Ready": "READY",
    "Succeeded": "SUCCESS",
    "Failed": "FAILURE",
    "Stopped": "STOP",
}
"""Status -> what an event calls it; of Created, Queued and Baking there is none."""


class World(Protocol):
    """What of the double CodeDeploy touches."""

    def now(self) -> float:
        """Return unix seconds."""

    def shift(self, region: str, listener: str, weights: Mapping[str, int]) -> None:
        """Let every rule of a listener that forwards to one of these groups forward like this.
        weights: of a pair, by name."""

    def serving(self, region: str, listener: str, names: Sequence[str]) -> str:
        """Return which of these groups has the traffic of the listener's rules now."""

    def firing(self, region: str, names: Sequence[str]) -> list[str]:
        """Return those of these alarms that are in ALARM."""

    def tell(self, region: str, application: str, group: str, deployment: str, state: str) -> None:
        """Let whoever listens know that a deployment has come into a state."""


@dataclass(frozen=True)
class Invocation:
    """A hook that was called, as the function is told of it. at: unix seconds."""

    function: str
    event: str
    deployment: str
    execution: str
    at: float

    def to_json(self) -> dict[str, Any]:
        """Return it with the payload as Lambda gets it."""
        payload = {
            "DeploymentId": self.deployment,
            "LifecycleEventHookExecutionId": self.execution,
        }
        return {
            "function": self.function,
            "event": self.event,
            "at": self.at,
            "payload": payload,
        }


@dataclass
class Account:
    """One account and region. Applications, groups, configs: as they were asked for, by name;
    groups also by application. revisions: application -> sha256 or S3 key -> revision.
    timing: (application, group) -> what somebody told of how long things take there.
    """

    world: World
    region: str
    applications: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    revisions: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    invocations: list[Invocation] = field(default_factory=list)
    timing: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    at: float = 0.0
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # --- time ---

    def due(self) -> float | None:
        """Return when something happens next by itself."""
        with self.lock:
            return min(
                (d.due for d in self.deployments.values() if d.due is not None), default=None
            )

    def look(self) -> None:
        """Let everything happen that has come due, in order; then look at alarms."""
        with self.lock:
            now = self.world.now()
            while (it := self._next(now)) is not None:
                self.at = it.due or now
                self._go_on(it, None)
            self.at = now
            for it in list(self.deployments.values()):
                self._watch(it)

    def _next(self, now: float) -> Deployment | None:
        due = [d for d in self.deployments.values() if d.due is not None and d.due <= now]
        return min(due, key=lambda d: d.due or 0.0, default=None)

    def _go_on(self, it: Deployment, said: str | None) -> None:
        """Run a deployment's script to its next wait. said: what ended the last one early."""
        self._run(it, said)
        self._announce(it)

    def _announce(self, it: Deployment) -> None:
        """Tell of each state once, as AWS's event does."""
        state = STATES.get(it.status)
        if state is not None and state not in it.announced:
            it.announced.add(state)
            self.world.tell(self.region, it.application, it.group, it.id, state)

    def _run(self, it: Deployment, said: str | None) -> None:
        it.updated = self.at
        if it.stopping:
            self._end(it, Failed("MANUAL_STOP", "The deployment was stopped.", "Stopped"))
            return
        it.waits, it.due = "", None
        assert it.script is not None
        try:
            wait = next(it.script) if said is None else it.script.send(said)
        except StopIteration:
            it.completed = self.at
        except Failed as failure:
            self._end(it, failure)
        else:
            it.due, it.waits = self.at + wait.seconds, wait.until

    def _watch(self, it: Deployment) -> None:
        """Stop a deployment one of whose alarms fires."""
        watches = it.own_alarms if it.own_alarms is not None else it.alarms
        begun = it.is_running and it.status != "Created" and it.told is None
        if not begun or it.creator == "codeDeployRollback" or not (watches or {}).get("enabled"):
            return
        names = [alarm["name"] for alarm in (watches or {}).get("alarms") or []]
        firing = self.world.firing(self.region, names)
        if firing:
            message = f"One or more alarms have been activated: {', '.join(firing)}."
            self._end(it, Failed("ALARM_ACTIVE", message, "Stopped"))

    # --- what somebody does ---

    def create(self, it: Deployment) -> Deployment:
        """Let a deployment begin."""
        with self.lock:
            group = self.groups[it.application, it.group]
            pair = group["loadBalancerInfo"]["targetGroupPairInfoList"][0]
            names = [each["name"] for each in pair["targetGroups"]]
            (listener,) = pair["prodTrafficRoute"]["listenerArns"]
            it.routes = pair
            it.blue = self.world.serving(self.region, listener, names)
            (it.green,) = (name for name in names if name != it.blue)
            it.service = _service(group)
            it.blue_set, it.green_set = self._task_set(it), f"ecs-svc/{it.id[2:].lower()}"
            it.events = running.lifecycle()
            it.previous = self._last_revision(it.application, it.group)
            it.script = self._script(it, group)
            it.updated = it.created
            self.deployments[it.id] = it
            self._begin(it)
            return it

    def stop(self, it: Deployment, auto_rollback: bool | None) -> None:
        """Ask a deployment that runs to stop; it does within a moment."""
        with self.lock:
            if auto_rollback is not None:
                events = it.rollback_events | {ON_REQUEST}
                it.rollback_events = events if auto_rollback else frozenset()
            it.stopping = True
            it.due = self.world.now() + running.STOP_SECONDS

    def tell(self, it: Deployment, said: str) -> None:
        """End a deployment's wait."""
        with self.lock:
            self.at = self.world.now()
            self._go_on(it, said)

    def new_id(self) -> str:
        """Return an id of the form that AWS gives: `d-` and nine letters and digits."""
        number, letters = next(self._numbers), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        # Scrambled, so that nobody takes the order of ids for the order in time.
        number = number * 48_271_000_003 % 36**9
        return "d-" + "".join(letters[number // 36**place % 36] for place in range(9))

    # --- what a script acts on (`running.Stage`) ---

    def shift(self, deployment: Deployment, weight: int) -> None:
        """Give green so many percent of the production traffic."""
        deployment.weight = weight
        (listener,) = deployment.routes["prodTrafficRoute"]["listenerArns"]
        weights = {deployment.green: weight, deployment.blue: 100 - weight}
        self.world.shift(self.region, listener, weights)

    def test(self, deployment: Deployment) -> None:
        """Let the test listener lead to green."""
        (listener,) = deployment.routes["testTrafficRoute"]["listenerArns"]
        weights = {deployment.green: 100, deployment.blue: 0}
        self.world.shift(self.region, listener, weights)

    def call(self, deployment: Deployment, event: str) -> None:
        """Call the hook of an event."""
        execution = f"{deployment.id}:{event}:{len(self.invocations) + 1}"
        deployment.hook = execution
        function = deployment.hooks[event]
        self.invocations.append(Invocation(function, event, deployment.id, execution, self.at))

    # --- how ---

    def _script(self, it: Deployment, group: Mapping[str, Any]) -> running.Script:
        routing = self.routing(it.config)
        increments = configs.increments(routing or {"type": "AllAtOnce"})
        try:
            spec = self._spec(it)
        except BadAppSpec as error:
            return _failing(it, Failed("INVALID_REVISION", str(error)))
        it.hooks = spec.hooks
        return running.forward(it, self, increments, self._times(it, group))

    def _spec(self, it: Deployment) -> AppSpec:
        content = (it.revision.get("appSpecContent") or {}).get("content")
        if content is None:
            # What lies in S3 is not read here: it is taken to be right, and without hooks.
            return AppSpec("arn:", "", 0, {})
        return appspec.read(content)

    def _times(self, it: Deployment, group: Mapping[str, Any]) -> Times:
        options = group["blueGreenDeploymentConfiguration"]
        ready = options.get("deploymentReadyOption") or {}
        ends = options["terminateBlueInstancesOnDeploymentSuccess"]
        waits = ready.get("actionOnTimeout") == "STOP_DEPLOYMENT"
        told = self.timing.get((it.application, it.group), {})
        return Times(
            install=told.get("install", running.INSTALL_SECONDS),
            ready=int(ready.get("waitTimeInMinutes") or 0) if waits else None,
            terminate=int(ends.get("terminationWaitTimeInMinutes") or 0)
            if ends.get("action") == "TERMINATE"
            else None,
            bake=int(told.get("bake", 0)),
            back=told.get("back", running.BACK_SECONDS),
        )

    def routing(self, config: str) -> Mapping[str, Any] | None:
        """Return how a configuration shifts traffic."""
        if config in configs.PREDEFINED:
            return configs.PREDEFINED[config][1]
        routing: Mapping[str, Any] = self.configs[config]["trafficRoutingConfig"]
        return routing

    def _begin(self, it: Deployment) -> None:
        self.at = self.world.now()
        self._go_on(it, None)

    def _end(self, it: Deployment, failure: Failed) -> None:
        it.status, it.completed, it.updated = failure.status, self.at, self.at
        it.error = (failure.code, failure.message)
        it.due, it.waits, it.hook, it.stopping = None, "", None, False
        for event in it.events:
            if event.status == "InProgress":
                event.status, event.end = "Failed", self.at
        self._announce(it)
        cause = {"ALARM_ACTIVE": ON_ALARM, "MANUAL_STOP": ON_REQUEST}.get(failure.code, ON_FAILURE)
        begun = any(e.name == "Install" and e.start is not None for e in it.events)
        if it.creator != "codeDeployRollback" and cause in it.rollback_events and begun:
            self._roll_back(it)

    def _roll_back(self, it: Deployment) -> None:
        group = self.groups[it.application, it.group]
        rollback = Deployment(
            id=self.new_id(),
            application=it.application,
            group=it.group,
            config=it.config,
            revision=it.previous or {},
            created=self.at,
            creator="codeDeployRollback",
            description=f"Rollback of deployment {it.id}.",
            previous=it.previous,
            routes=it.routes,
            service=it.service,
            blue=it.blue,
            green=it.green,
            blue_set=it.blue_set,
            green_set=it.green_set,
            weight=it.weight,
            installed=it.installed,
            events=[Event("AllowTraffic")],
            triggered_by=it.id,
        )
        rollback.script = running.back(rollback, self, self._times(rollback, group))
        it.rolled_back_by = rollback.id
        it.rollback_message = f"Deployment {it.id} is rolled back by deployment {rollback.id}."
        self.deployments[rollback.id] = rollback
        self._go_on(rollback, None)

    def _task_set(self, it: Deployment) -> str:
        """Return the task set that serves now: the green one of whatever succeeded last."""
        last = self.last(it.application, it.group, lambda d: d.status == "Succeeded")
        if last is None:
            return "ecs-svc/0000000000000000000"
        return last.blue_set if last.creator == "codeDeployRollback" else last.green_set

    def last(
        self, application: str, group: str, which: Callable[[Deployment], bool]
    ) -> Deployment | None:
        """Return the newest deployment of a group that is like this."""
        found = [
            each
            for each in self.deployments.values()
            if (each.application, each.group) == (application, group) and which(each)
        ]
        return found[-1] if found else None

    def _last_revision(self, application: str, group: str) -> Mapping[str, Any] | None:
        last = self.last(application, group, lambda d: d.status == "Succeeded" and bool(d.revision))
        return None if last is None else last.revision


def _failing(it: Deployment, failure: Failed) -> running.Script:
    yield running.Wait(running.CREATED_SECONDS)
    it.status = "InProgress"
    raise failure


def _service(group: Mapping[str, Any]) -> str:
    service = group["ecsServices"][0]
    return f"{service['clusterName']}:{service['serviceName']}"
