"""A deployment engine that asks, in memory; and a rollout that follows one of its deployments."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from flagserver.bootstrap import Outside
from flagserver.domain import guards, hooks, verbs
from flagserver.domain.commands import EnvironmentEdit
from flagserver.domain.errors import ApprovalRequired, NotFound, TargetUnavailable
from flagserver.domain.guards import Guard
from flagserver.domain.hook_commands import CodeDeployHook
from flagserver.domain.hooks import Asking, Hook
from flagserver.domain.plan import Relation
from flagserver.domain.rollout import Rollout
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.schedule import parse
from flagserver.domain.signals import Measure, Measured, Point, Signal
from flagserver.domain.targets import Mode, Target
from flagserver.domain.times import moment
from flagserver.services.hooks import Hooks
from flagserver.services.turns import Turns

from .builders import T0, House
from .fakes import FakeSignalSource
from .followers import FakeDeployment, FakeFollower

DEPLOYMENT = "d-7CMGXZ9DN"
FOLLOWED = Target.of("codedeploy", "shop/web", Mode.FOLLOW)
GREEN = "arn:green"

ERRORS = Guard("errors", Signal.of("cloudwatch", Measure.RATE, canary=GREEN), 0.01)
HOSTS = Guard("hosts", Signal.of("cloudwatch", Measure.UNHEALTHY_HOSTS, canary=GREEN), 1.0)
WHOLE = Guard("all errors", Signal.of("cloudwatch", Measure.RATE), 0.01)
ALARM = guards.alarm("shop-alarm")
ALL = (ERRORS, HOSTS, WHOLE, ALARM)


def an_asking(hook: str | None = "BeforeAllowTraffic", **told: Any) -> Asking:
    """Return a deployment of shop/web, made when the clock was set, with a test listener."""
    began = T0.timestamp()
    return Asking(**{"tested": True, "began": began} | told, **_names(hook))


def _names(hook: str | None) -> dict[str, Any]:
    return {"deployment": DEPLOYMENT, "application": "shop", "group": "web", "hook": hook}


def a_following(some: tuple[Guard, ...] = ALL, **told: Any) -> Rollout:
    """Return a rollout that follows shop/web, running, with nobody exposed yet."""
    created = verbs.create(
        id="r-1",
        environment="production",
        service="shop",
        version="2",
        schedule=parse("standard"),
        relation=Relation.LOCK_STEP,
        targets=(FOLLOWED,),
        guards=some,
        by="token:1",
        now=T0.timestamp(),
        start_at=T0.timestamp(),
    ).after
    return replace(verbs.start(created, T0.timestamp()).after, **told)


@dataclass
class FakeGates:
    """`ports.Gates` in memory.

    deployments: those that there are, by id.  answers: (execution, passed) of what was taken; an
    execution is answered once.  down: whether nothing answers at all.  lost: how many of the next
    answers are taken without its being said.
    """

    deployments: dict[str, Asking] = field(default_factory=dict)
    answers: list[tuple[str, bool]] = field(default_factory=list)
    down: bool = False
    lost: int = 0

    def asking(self, deployment: str) -> Asking:
        self._up()
        if deployment not in self.deployments:
            raise NotFound(f"There is no deployment {deployment!r}.")
        return self.deployments[deployment]

    def answer(self, deployment: str, execution: str, *, passed: bool) -> bool:
        self._up()
        known = self.deployments.get(deployment)
        answered = execution in [each for each, _ in self.answers]
        if known is None or known.over is not None or answered:
            return False
        self.answers.append((execution, passed))
        if self.lost:
            self.lost -= 1
            raise TargetUnavailable("The fake's answer was lost.")
        return True

    def _up(self) -> None:
        if self.down:
            raise TargetUnavailable("The fake is down.")


class Gate(House):
    """A server, a deployment engine in memory, and one deployment whose hooks ask."""

    def __init__(self, hook: str | None = "BeforeAllowTraffic", **told: Any) -> None:
        self.gates = FakeGates({DEPLOYMENT: an_asking(hook, **told)})
        self.source = FakeSignalSource()
        super().__init__()
        self.well()

    def another_process(self, store: Any = None) -> Any:
        from flagserver import bootstrap
        from flagserver.settings import Settings

        engine = FakeFollower(groups={"shop/web": FakeDeployment(DEPLOYMENT)})
        outside = Outside({"codedeploy": engine}, {"cloudwatch": self.source}, self.gates)
        store = self.store if store is None else store
        return bootstrap.build_services(
            Settings(), store, self.clock, self.entropy, outside=outside
        )

    @property
    def hooks(self) -> Hooks:
        found: Hooks = self.services.hooks
        return found

    def asks(self, hook: str | None, **told: Any) -> None:
        """Let this hook of the deployment wait now."""
        self.gates.deployments[DEPLOYMENT] = an_asking(hook, **told)

    def follow(self, rollout: Rollout | None = None) -> Rollout:
        """Let a rollout follow the deployment."""
        rollout = rollout or a_following()
        turn = verbs.Turn(None, rollout, "rollout:create")
        turns = Turns(self.store, self.clock, self.entropy)
        return turns.commit(turn, 0).rollout

    def asks_for_a_start(self, flag: str | None = None) -> str:
        """Let somebody ask for a rollout that follows the deployment where two are wanted; return
        the id of what waits. flag: one that it moves besides."""
        from .builders import ADMIN, SURE

        where = self.services.environments.get("production")
        edit = EnvironmentEdit(four_eyes=True)
        self.services.environments.edit("production", edit, where.revision, ADMIN)
        engine = {"kind": "codedeploy", "name": "shop/web", "mode": "follow"}
        besides = [] if flag is None else [{"kind": "flag", "name": flag}]
        asked = NewRollout.model_validate(
            {
                "environment": "production",
                "service": "shop",
                "version": "2",
                "targets": [engine, *besides],
                "guards": "none",
                **SURE,
            }
        )
        try:
            self.services.rollouts.start(asked, ADMIN)
        except ApprovalRequired as waits:
            return waits.approval
        raise AssertionError("it was started by one alone")

    def becomes(self, **told: Any) -> None:
        """Let the rollout be otherwise from now on."""
        turns = Turns(self.store, self.clock, self.entropy)
        turns.decide("r-1", lambda v: verbs.Turn(v.rollout, replace(v.rollout, **told), "x"))

    def ask(self, execution: str = "e1", by: Any = None) -> Any:
        """Ask as the function does."""
        from .builders import ADMIN

        command = CodeDeployHook(deployment=DEPLOYMENT, execution=execution)
        return self.hooks.ask(command, by or ADMIN)

    def ask_as(self, payload: dict[str, str]) -> Any:
        """Ask as the function does that is called with this."""
        from .builders import ADMIN

        command = CodeDeployHook(
            deployment=payload["DeploymentId"],
            execution=payload["LifecycleEventHookExecutionId"],
        )
        return self.hooks.ask(command, ADMIN)

    def waiting(self) -> list[Hook]:
        return self.hooks.waiting()

    def well(self) -> None:
        """Let every signal be well, in the minutes that come."""
        self._points(0.0, 0.0)

    def measured(self, guard: Guard, *values: float | None) -> None:
        """Let a guard's newest minutes be like this, the last one ending now."""
        now = moment(self.clock.now())
        points = tuple(
            Point(now - 60 * (len(values) - 1 - i), value, 1000) for i, value in enumerate(values)
        )
        self.source.answers[guard.signal] = Measured(points)

    def turn(self, seconds: float) -> None:
        """Turn the clock; signals are as they were."""
        self.clock.seconds += seconds

    def _points(self, rate: float, hosts: float) -> None:
        now = moment(self.clock.now())
        values = {ERRORS: rate, HOSTS: hosts, WHOLE: rate, ALARM: 0.0}
        for guard, value in values.items():
            minutes = tuple(Point(now + 60 * i, value, 1000) for i in range(1, 90))
            self.source.answers[guard.signal] = Measured(minutes)

    def said(self) -> list[tuple[str, str]]:
        """Return what the record says of hooks, oldest first: (action, reason)."""
        found = self.store.history(target=None, environment=None, before=None, limit=200)
        told = [(e["action"], e["reason"] or "") for e in found]
        return [each for each in reversed(told) if each[0].startswith("hook:")]


HOOKS_IN_ORDER = tuple(hooks.LIFECYCLE)
