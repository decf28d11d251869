"""One rollout: a schedule on its way, as it is kept. Who changes it: `verbs`, `decisions`.

The position is a pure function of what is recorded and the clock: a step's hold is over when the
time that was WATCHED since its share was confirmed reaches it. Time in which the rollout was
stopped, or nobody looked, does not count; so a controller that comes back after an hour neither
skips a hold nor makes up for steps in a burst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from . import plan
from .documents import Body
from .engines import Lane
from .guards import Guard
from .plan import NO_STEP, PlanStep, Relation
from .schedule import Schedule
from .states import State
from .targets import Target
from .times import from_unix, unix
from .watchers import Watcher

TICK_SECONDS = 5.0
"""How often a controller looks at a rollout, unless it is told otherwise."""

GAP_TICKS = 3

GAP_SECONDS = GAP_TICKS * TICK_SECONDS
"""After so long without a look, nobody watched: the time between does not count."""


def gap_seconds(tick_seconds: float) -> float:
    """Return what `GAP_SECONDS` is for controllers that look so often."""
    return GAP_TICKS * tick_seconds


LATE_SECONDS = 60.0
"""How long a write of a controller that another one took over from may still arrive."""

KEPT_SECONDS = 90 * 24 * 3600
"""How long an ended rollout is kept."""


class Why(StrEnum):
    """What a holding rollout waits for."""

    DATA = "data"
    """Something to judge by."""
    LIMIT = "limit"
    """A limit is broken, and whether it is our doing is not certain yet."""
    OUTAGE = "outage"
    """Both arms are unwell."""
    TARGET = "target"
    """Somebody else changed a target, or owns it."""
    FLAG = "flag"
    """Somebody killed or shrank a flag of it."""
    APPROVAL = "approval"
    """Somebody has to approve."""
    WATCHER = "watcher"
    """Whoever was to watch is not heard of."""
    PERSON = "person"
    """Three times the hold have passed, and somebody has to decide."""
    RECORD = "record"
    """The record is not what was signed, and an admin has to acknowledge that."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a rollout holds. since: unix seconds; reason: a sentence."""

    why: Why
    reason: str
    since: float


class By(StrEnum):
    """What sort of cause took a rollout back."""

    GUARD = "guard"
    PERSON = "person"
    ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Rollback:
    """Why and when a rollout went back.

    row: of the table in `guards`.  verdict: of the guard, with its numbers (`Verdict.to_body`).
    step: from which, counted from 0.  Times in unix seconds: first_bad, the end of the first data
    point that was bad; detected, when it was decided; applied, when the last weight was set;
    confirmed, when 0 % was read back everywhere.  trouble: why it could not be confirmed yet.
    culprits: the targets whose own comparison shows the harm; empty where none did. All go back.
    """

    by: By
    reason: str
    row: str
    step: int
    detected: float
    verdict: Body | None = None
    first_bad: float | None = None
    applied: float | None = None
    confirmed: float | None = None
    trouble: str | None = None
    culprits: tuple[str, ...] = ()

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it, instants in RFC 3339."""
        times = {name: _written(getattr(self, name)) for name in _ROLLBACK_INSTANTS}
        rest = {"by": str(self.by), "culprits": list(self.culprits)}
        return {**asdict(self), **rest, **times}

    @classmethod
    def from_body(cls, body: Body) -> Rollback:
        """Return what `to_body` wrote down."""
        times = {name: _read(body[name]) for name in _ROLLBACK_INSTANTS}
        culprits = tuple(body.get("culprits", ()))
        return cls(**{**body, "by": By(body["by"]), "culprits": culprits, **times})


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody approved of going on from a step. by: an opaque id; at: unix seconds."""

    step: int
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Late:
    """What a controller may have sent to the traffic and nobody confirmed: it may still arrive,
    although another controller has taken over. Nothing else could set these shares in our name.

    shares: target id -> ppm.  fence: token of the lease it was sent under.  until: unix seconds;
    what arrives after that is somebody else's.
    """

    shares: Mapping[str, int]
    fence: int
    until: float

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "shares": dict(self.shares),
            "fence": self.fence,
            "until": from_unix(self.until),
        }

    @classmethod
    def from_body(cls, body: Body) -> Late:
        """Return what `to_body` wrote down."""
        return cls(body["shares"], body["fence"], unix(body["until"]))


@dataclass(frozen=True, slots=True)
class Rollout:
    """One run of a schedule. Instants are unix seconds to the millisecond, shares in ppm.

    version: the new `service.version`, None where no traffic moves.
    step: index into `plan`, -1 before the first.  generation: rises with every intent.
    intended: target id -> share that is to be.  confirmed: target id -> share that was read back
    (a flag's: that was committed); a target that is missing is in no known state.
    step_began: when this step was intended.
    step_confirmed_at: when this step's shares were first all confirmed.
    watched: seconds of this step's hold that count, up to `counting_since`; since then it counts,
    unless that is None: stopped, or not yet confirmed.
    unwatched: seconds in which nobody looked, in all.
    decided: since when nobody decides about this step, if not since it was confirmed: somebody
    resumed, approved or skipped its wait, or nobody looked until then.
    waiting: of a holding rollout.  waived: the step whose wait somebody skipped.
    start_at: when it is to start by itself.  fence: token of the lease that wrote last.
    late: what a controller before that one may have sent.
    watcher: without whom it holds, None where nobody asked for that.
    lane: of the engine that is followed, as it was read last.
    until: of a split: when its last share is over, whatever was watched of it.
    by: who created it, an opaque id.  supersedes, superseded_by: ids.
    """

    id: str
    environment: str
    service: str
    version: str | None
    schedule: Schedule
    relation: Relation
    targets: tuple[Target, ...]
    guards: tuple[Guard, ...]
    created: float
    by: str
    state: State = State.PENDING
    step: int = NO_STEP
    generation: int = 0
    intended: Mapping[str, int] = field(default_factory=dict)
    confirmed: Mapping[str, int] = field(default_factory=dict)
    step_began: float | None = None
    step_confirmed_at: float | None = None
    watched: float = 0.0
    counting_since: float | None = None
    decided: float | None = None
    unwatched: float = 0.0
    waiting: Waiting | None = None
    waived: int | None = None
    approvals: tuple[Approval, ...] = ()
    rollback: Rollback | None = None
    start_at: float | None = None
    started: float | None = None
    ended: float | None = None
    changed: float = 0.0
    fence: int = 0
    late: Late | None = None
    watcher: Watcher | None = None
    lane: Lane | None = None
    supersedes: str | None = None
    superseded_by: str | None = None
    until: float | None = None

    # What it is about

    @property
    def name(self) -> str:
        """The rollout as the record names it."""
        return f"rollout/{self.id}"

    @property
    def plan(self) -> tuple[PlanStep, ...]:
        """Every step, with the share of every target. The last one of a split takes until its date,
        as far as that is known beforehand."""
        steps = plan.expand(self.schedule, self.relation, self.targets)
        if self.until is None:
            return steps
        *first, last = steps
        begins = (self.start_at or self.created) + sum(step.hold for step in first)
        return (*first, replace(last, hold=max(1, math.ceil(self.until - begins))))

    @property
    def is_split(self) -> bool:
        """Tell whether it holds a share until a date, to see how both versions differ."""
        return self.until is not None

    @property
    def _until(self) -> float | None:
        """When the step that it is at is over by date; None where it is over by time watched."""
        return self.until if self.step == len(self.plan) - 1 else None

    @property
    def traffic(self) -> tuple[Target, ...]:
        """The targets that a driver sets, or that an engine sets and we follow."""
        return tuple(target for target in self.targets if not target.is_flag)

    @property
    def followed(self) -> Target | None:
        """The target whose engine is followed, None where we set all of them."""
        return plan.followed(self.targets)

    @property
    def mirrors(self) -> bool:
        """Tell whether an engine decides at this step what the shares are: always where one is
        followed, but for the steps of flags that come after the traffic."""
        return self.followed is not None and self.step < self._engine_steps

    @property
    def at_engines_end(self) -> bool:
        """Tell whether this is the engine's last step."""
        return self.step == self._engine_steps - 1

    @property
    def _engine_steps(self) -> int:
        after = self.relation is Relation.AFTER and self.flags
        return len(plan.traffic_schedule(self.schedule, self.targets).steps if after else self.plan)

    @property
    def flags(self) -> tuple[Target, ...]:
        """The targets that a commit sets."""
        return tuple(target for target in self.targets if target.is_flag)

    @property
    def claims(self) -> dict[str, str]:
        """What is this rollout's alone while it lives: claim -> owner. A flag is claimed in this
        environment; what carries traffic is one thing, whoever names it where."""
        return {
            f"{target.claim}@{self.environment}" if target.is_flag else target.claim: self.name
            for target in self.targets
        }

    # Where it stands

    @property
    def is_pending_intent(self) -> bool:
        """Tell whether what is intended has not all been confirmed."""
        return dict(self.confirmed) != dict(self.intended)

    @property
    def may_carry_out(self) -> bool:
        """Tell whether a controller may go on towards what is intended: a rollout that holds or is
        paused is not driven further, and every way down is."""
        return self.state in {State.RUNNING, State.ROLLING_BACK, State.ROLLBACK_FAILED}

    @property
    def goes_down(self) -> bool:
        """Tell whether what is intended exposes nobody."""
        return not any(self.intended.values())

    @property
    def sending(self) -> dict[str, int]:
        """Return the traffic shares above nothing that a controller may be setting: intended, and
        not confirmed."""
        if not self.is_pending_intent or self.goes_down:
            return {}
        driven = (target for target in self.traffic if not target.is_followed)
        return {target.id: self.intended[target.id] for target in driven}

    def late_writes(self, fence: int, now: float) -> Mapping[str, int]:
        """Return the traffic shares that may still arrive from another controller than whoever
        holds the lease of this token: target id -> ppm."""
        late = self.late
        return late.shares if late and late.fence != fence and now < late.until else {}

    @property
    def undecided_since(self) -> float | None:
        """Since when this step waits for a decision, None before its shares are confirmed."""
        since = self.step_confirmed_at
        return None if since is None else max(since, self.decided or since)

    @property
    def is_waived(self) -> bool:
        """Tell whether somebody skipped the wait of this step."""
        return self.waived == self.step

    @property
    def is_approved(self) -> bool:
        """Tell whether this step asks for no approval, or has it."""
        if self.step == NO_STEP or not self.plan[self.step].approval:
            return True
        return any(approval.step == self.step for approval in self.approvals)

    def needs_controller(self, now: float) -> bool:
        """Tell whether somebody must look at it: not when it has ended, and not while it waits for
        its time, or for somebody to start it."""
        begins = math.inf if self.start_at is None else self.start_at
        waits = self.state is State.PENDING and begins > now
        return not (waits or self.state.shown.terminal)

    def seen_until(self, now: float, last_look: float | None, gap: float = GAP_SECONDS) -> float:
        """Return until when somebody watched: now, or the last look if that is too long ago.

        last_look: unix seconds of the last look by any controller, None if nobody knows of one.
        gap: seconds; longer for a controller whose ticks are longer.
        """
        looks = (last_look, self.counting_since)
        seen = max((min(look, now) for look in looks if look is not None), default=-math.inf)
        return now if now - seen <= gap else seen

    def elapsed(self, seen: float) -> float:
        """Return the seconds of this step's hold that are over.

        seen: see `seen_until`.
        """
        if self.counting_since is None:
            return self.watched
        # To the millisecond, as instants are kept: a hold must not miss its end by a rounding.
        return round(self.watched + max(0.0, seen - self.counting_since), 3)

    def hold_is_over(self, seen: float) -> bool:
        """Tell whether this step's wait is over, by time or because somebody skipped it."""
        if self.step == NO_STEP:
            return True
        if self.step_confirmed_at is None:
            return False
        if self._until is not None:
            return self.is_waived or seen >= self._until
        return self.is_waived or self.elapsed(seen) >= self.plan[self.step].hold

    def due(self, now: float, seen: float) -> float | None:
        """Return when this step's hold will be over if nothing intervenes, None while stopped."""
        if self.counting_since is None or self.step == NO_STEP:
            return None
        if self._until is not None:
            return max(now, self._until)
        return now + max(0.0, self.plan[self.step].hold - self.elapsed(seen))

    # How it is kept

    def moving(self) -> dict[str, Any]:
        """Return the parts that change on the way, as the record tells of them."""
        return {
            "state": str(self.state),
            "step": self.step,
            "generation": self.generation,
            "intended": dict(self.intended),
            "confirmed": dict(self.confirmed),
            "watched": self.watched,
            "waiting": _waiting_body(self.waiting),
            "rollback": None if self.rollback is None else self.rollback.to_body(),
            **({} if self.lane is None else {"lane": self.lane.to_body()}),
        }

    def to_body(self) -> dict[str, Any]:
        """Return the document's body: instants in RFC 3339, shares in ppm."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            **{name: _written(getattr(self, name)) for name in _INSTANTS},
            **self.moving(),
            "schedule": self.schedule.to_body(),
            "relation": str(self.relation),
            "targets": [target.to_body() for target in self.targets],
            "guards": [guard.to_body() for guard in self.guards],
            "late": None if self.late is None else self.late.to_body(),
            "watcher": None if self.watcher is None else self.watcher.to_body(),
            "approvals": [{**asdict(a), "at": from_unix(a.at)} for a in self.approvals],
        }

    @classmethod
    def from_body(cls, body: Body) -> Rollout:
        """Return the rollout that a document holds."""
        waiting, rollback, late = body["waiting"], body["rollback"], body.get("late")
        watcher, lane = body.get("watcher"), body.get("lane")
        return cls(
            **{name: body[name] for name in (*_PLAIN, *_MOVING)},
            **{name: _read(body.get(name)) for name in _INSTANTS},
            state=State(body["state"]),
            schedule=Schedule.from_body(body["schedule"]),
            relation=Relation(body["relation"]),
            targets=tuple(Target.from_body(target) for target in body["targets"]),
            guards=tuple(Guard.from_body(guard) for guard in body["guards"]),
            approvals=tuple(Approval(**{**a, "at": unix(a["at"])}) for a in body["approvals"]),
            waiting=None
            if waiting is None
            else Waiting(Why(waiting["why"]), waiting["reason"], unix(waiting["since"])),
            rollback=None if rollback is None else Rollback.from_body(rollback),
            late=None if late is None else Late.from_body(late),
            watcher=None if watcher is None else Watcher.from_body(watcher),
            lane=None if lane is None else Lane.from_body(lane),
        )


_PLAIN = (
    *("id", "environment", "service", "version", "by", "unwatched", "waived", "fence"),
    *("supersedes", "superseded_by"),
)
_MOVING = ("step", "generation", "intended", "confirmed", "watched")
_INSTANTS = (
    *("created", "step_began", "step_confirmed_at", "counting_since", "start_at", "started"),
    *("until", "ended", "changed", "decided"),
)
_ROLLBACK_INSTANTS = ("detected", "first_bad", "applied", "confirmed")


def _written(at: float | None) -> str | None:
    return None if at is None else from_unix(at)


def _read(text: str | None) -> Any:
    return None if text is None else unix(text)


def _waiting_body(waiting: Waiting | None) -> dict[str, Any] | None:
    if waiting is None:
        return None
    return {
        "why": str(waiting.why),
        "reason": waiting.reason,
        "since": from_unix(waiting.since),
    }
