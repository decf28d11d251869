"""Gates: a deployment engine asks before it goes on, and what each of its questions can know.

CodeDeploy asks by lifecycle hooks, in this order: BeforeInstall, AfterInstall,
AfterAllowTestTraffic, BeforeAllowTraffic, AfterAllowTraffic. Between its increments of traffic it
asks nobody. Until BeforeAllowTraffic is answered the new version has no production traffic: only
its hosts, the alarms, and what test traffic shows of it can be known. Whoever judged it by its
error rate then would judge nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from . import guards
from .approvals import Wish
from .documents import Body, Fact, Principal
from .guards import Context, Does, Guard, Kind, Verdict
from .rollout import Rollout
from .signals import Measure
from .states import State
from .targets import Target
from .times import from_unix, unix

HOOKS = "hooks"
"""The collection of what engines asked and was not answered to the end yet."""

CODEDEPLOY = "codedeploy"
"""The kind of target that CodeDeploy's deployments are."""

WAIT_SECONDS = 55 * 60.0
"""How long an answer may take. CodeDeploy grants an hour and then fails the deployment by itself,
without a reason; this leaves time to say one."""

NOBODY_SECONDS = 5 * 60.0
"""How long a deployment waits for somebody to start a rollout that follows it; where that start
waits for a second person, WAIT_SECONDS."""

WITHOUT_TRAFFIC = {Measure.UNHEALTHY_HOSTS, Measure.HEALTHY_RATIO}
COUNTS_BY_VERSION = {"outcomes", "metrics"}
"""Sources that count the new version's requests apart, wherever they came from."""


class Knows(IntEnum):
    """How much can be known when a hook asks; each knows what the ones before it do."""

    ALARMS = 0
    """Nothing of the new version runs yet."""
    HOSTS = 1
    """It runs, and nobody calls it."""
    TESTS = 2
    """Test traffic may have reached it."""
    TRAFFIC = 3
    """All production traffic goes to it."""


LIFECYCLE = {
    "BeforeInstall": Knows.ALARMS,
    "AfterInstall": Knows.HOSTS,
    "AfterAllowTestTraffic": Knows.TESTS,
    "BeforeAllowTraffic": Knows.TESTS,
    "AfterAllowTraffic": Knows.TRAFFIC,
}
"""CodeDeploy's hooks of an ECS deployment, in the order in which they ask."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A deployment as its engine tells of it at this moment.

    hook: which of LIFECYCLE waits for an answer; None: none does.
    began: unix seconds at which it was made.  tested: whether it has a test listener.
    going_back: why it is a rollback itself, in words; None: it is none.
    over: the status in which it ended; None: it has not.
    """

    deployment: str
    application: str
    group: str
    hook: str | None
    began: float
    tested: bool = False
    going_back: str | None = None
    over: str | None = None

    @property
    def name(self) -> str:
        """What the record calls it where no rollout follows it."""
        return f"{CODEDEPLOY}/{self.application}/{self.group}"


class Says(StrEnum):
    """An answer to a hook."""

    ALLOW = "allow"
    DENY = "deny"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a hook is told, why, and the numbers behind it."""

    says: Says
    reason: str
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Hook:
    """One question of an engine, as it is kept until the engine has its answer.

    execution: the engine's own id of the question, to be answered with.  asked, answered: unix
    seconds; answered None: it waits.  rollout: the id of the one that follows the deployment.
    environment: where whoever asked is at home, None: everywhere.
    """

    execution: str
    deployment: str
    application: str
    group: str
    hook: str
    asked: float
    environment: str | None
    rollout: str | None = None
    says: Says = Says.WAIT
    reason: str = ""
    answered: float | None = None

    @property
    def final(self) -> bool:
        """Tell whether it was allowed or denied."""
        return self.says is not Says.WAIT

    def to_body(self) -> dict[str, Any]:
        """Return the document's body: instants in RFC 3339."""
        told = {name: getattr(self, name) for name in self.__slots__}
        answered = None if self.answered is None else from_unix(self.answered)
        return {**told, "says": str(self.says), "asked": from_unix(self.asked)} | {
            "answered": answered
        }

    @classmethod
    def from_body(cls, body: Body) -> Hook:
        """Return what `to_body` wrote down."""
        answered = body["answered"]
        times = {
            "asked": unix(body["asked"]),
            "answered": None if answered is None else unix(answered),
        }
        return cls(**{**body, "says": Says(body["says"]), **times})


# --- who follows a deployment ---------------------------------------------------------------------


def follows(rollout: Rollout, asking: Asking) -> bool:
    """Tell whether a rollout follows a deployment: this very one, or, where it does not say which,
    whatever is deployed to that application and group."""
    return any(_follows(target, asking) for target in rollout.traffic)


def would_follow(asked: Wish, asking: Asking) -> bool:
    """Tell whether what somebody asked for is a rollout that will follow a deployment."""
    targets = map(Target.from_body, asked.result.get("targets", ()))
    return any(_follows(target, asking) for target in targets)


def _follows(target: Target, asking: Asking) -> bool:
    if target.kind != CODEDEPLOY:
        return False
    deployment = target.get("deployment")
    if deployment is not None:
        return deployment == asking.deployment
    return target.name.rpartition(":")[2] in {
        asking.deployment,
        f"{asking.application}/{asking.group}",
    }


# --- what a hook can know -------------------------------------------------------------------------


def watched(rollout: Rollout, hook: str) -> tuple[Guard, ...]:
    """Return the guards of a rollout that can say something when this hook asks."""
    knows = LIFECYCLE[hook]
    return tuple(guard for guard in rollout.guards if _needs(rollout, guard) <= knows)


def _needs(rollout: Rollout, guard: Guard) -> Knows:
    signal = guard.signal
    if signal.measure is Measure.ALARM:
        return Knows.ALARMS
    if signal.measure in WITHOUT_TRAFFIC:
        return Knows.HOSTS
    by_version = signal.source in COUNTS_BY_VERSION and rollout.version is not None
    # Without production traffic, whatever its target group counts is test traffic.
    by_group = signal.get("canary") is not None
    return Knows.TESTS if by_version or by_group else Knows.TRAFFIC


def answer(
    rollout: Rollout | None,
    asking: Asking,
    verdicts: Sequence[Verdict],
    asked: float,
    now: float,
    proposal: str | None = None,
) -> Answer:
    """Return what a hook is told now.

    verdicts: of the guards that `watched` names.  asked: unix seconds at which it asked first.
    proposal: the id of a start that waits for a second person and would follow the deployment.
    What would wait for longer than WAIT_SECONDS is denied: a deployment never goes on unseen.
    """
    told = _answer(rollout, asking, verdicts, asked, now, proposal)
    if told.says is Says.WAIT and now - asked >= WAIT_SECONDS:
        late = f"There was no answer within {WAIT_SECONDS / 60:.0f} minutes: {told.reason}"
        return Answer(Says.DENY, late, told.verdicts)
    return told


def _answer(
    rollout: Rollout | None,
    asking: Asking,
    verdicts: Sequence[Verdict],
    asked: float,
    now: float,
    proposal: str | None,
) -> Answer:
    if asking.going_back is not None:
        return Answer(Says.ALLOW, f"{asking.going_back} A way back is never held up.")
    if rollout is None:
        return _of_nobody(asking, asked, now, proposal)
    by_state = _of_state(rollout)
    if by_state is not None:
        return by_state
    return _of_verdicts(rollout, asking, tuple(verdicts), now)


def _of_nobody(asking: Asking, asked: float, now: float, proposal: str | None) -> Answer:
    said = f"No rollout follows {asking.deployment} of {asking.application}/{asking.group}."
    if proposal is not None:
        waits = f"{proposal} waits for somebody else to approve, and would start one."
        return Answer(Says.WAIT, f"{said} {waits}")
    if now - asked < NOBODY_SECONDS:
        return Answer(Says.WAIT, said)
    how = "Start one, or take the hook out of the AppSpec."
    return Answer(Says.DENY, f"{said} {how}")


def _of_state(rollout: Rollout) -> Answer | None:
    """Return what the rollout's state says by itself; None: it is for its guards to say."""
    name = rollout.name
    match rollout.state:
        case State.ROLLING_BACK | State.ROLLBACK_FAILED | State.ROLLED_BACK:
            why = "" if rollout.rollback is None else f" {rollout.rollback.reason}"
            return Answer(Says.DENY, f"{name} goes back.{why}")
        case State.SUPERSEDED:
            return Answer(Says.DENY, f"{name} was superseded by {rollout.superseded_by}.")
        case State.COMPLETED:
            return Answer(Says.ALLOW, f"{name} is complete.")
        case State.HOLDING:
            why = "" if rollout.waiting is None else f" {rollout.waiting.reason}"
            return Answer(Says.WAIT, f"{name} holds.{why}")
        case State.PAUSED:
            return Answer(Says.WAIT, f"Somebody holds {name}.")
        case State.PENDING:
            return Answer(Says.WAIT, f"{name} has not begun.")
        case State.UNKNOWN:
            return Answer(Says.WAIT, f"{name} is in no known state.")
        case State.RUNNING:
            return None


def _of_verdicts(
    rollout: Rollout, asking: Asking, verdicts: tuple[Verdict, ...], now: float
) -> Answer:
    served = asking.hook is not None and LIFECYCLE[asking.hook] is Knows.TRAFFIC
    since = rollout.step_confirmed_at
    context = Context(now, asking.began if since is None else since, served, hold_over=True)
    action = guards.act(verdicts, context)
    if action.does is Does.ROLL_BACK:
        return Answer(Says.DENY, action.reason, verdicts)
    if action.does is not Does.STAY:
        return Answer(Says.WAIT, action.reason, verdicts)
    missing = None if served else _missing(asking, verdicts)
    if missing is not None:
        return Answer(Says.WAIT, missing.sentence, verdicts)
    if served and not action.advances:
        return Answer(Says.WAIT, action.reason, verdicts)
    if not verdicts:
        return Answer(Says.ALLOW, f"{rollout.name} has no guard that can say anything yet.")
    return Answer(Says.ALLOW, action.reason, verdicts)


def _missing(asking: Asking, verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the verdict on hosts that must be waited for. A target group that no listener names
    is not checked, so without a test listener there may never be one."""
    if not asking.tested or asking.hook not in {"AfterAllowTestTraffic", "BeforeAllowTraffic"}:
        return None
    of_hosts = (v for v in verdicts if v.guard.signal.measure in WITHOUT_TRAFFIC)
    return next((v for v in of_hosts if v.kind is not Kind.PASS), None)


# --- what the record says -------------------------------------------------------------------------


def fact(hook: Hook, told: Answer, by: Principal) -> Fact:
    """Return the entry for an answer, with the numbers behind it."""
    return _fact(hook, str(told.says), by, told.reason, told.verdicts)


def reported(hook: Hook, taken: bool, by: Principal) -> Fact:
    """Return the entry for an answer that the engine has. taken: it took ours; else it had one."""
    reason = "The engine took the answer." if taken else "The engine had its answer already."
    return _fact(hook, "report", by, reason, ())


def dropped(hook: Hook, over: str, by: Principal) -> Fact:
    """Return the entry for a question that nobody asks any more."""
    return _fact(hook, "drop", by, f"The deployment ended before: {over}.", ())


def _fact(hook: Hook, verb: str, by: Principal, reason: str, verdicts: Sequence[Verdict]) -> Fact:
    nobody = f"{CODEDEPLOY}/{hook.application}/{hook.group}"
    return Fact(
        actor=by.id,
        role=by.role_in(hook.environment),
        action=f"hook:{CODEDEPLOY}:{verb}",
        target=nobody if hook.rollout is None else f"rollout/{hook.rollout}",
        environment=hook.environment,
        after={
            "hook": hook.hook,
            "deployment": hook.deployment,
            "says": str(hook.says),
            "verdicts": [verdict.to_body() for verdict in verdicts],
        },
        reason=reason,
    )
