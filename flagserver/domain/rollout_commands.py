"""What callers may ask of rollouts, checked field by field."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from . import guards, watchers
from .commands import Command, Enlarging, Key, Reason
from .errors import Invalid, under
from .guards import Guard, NoData, OnBreach
from .plan import Relation
from .schedule import Schedule
from .schedule_commands import Duration, Name, ScheduleBody, ScheduleText, seconds_of
from .signals import Measure, Signal
from .targets import FLAG, OWN_MODES, Mode, Target

MAX_TARGETS = 50
MAX_GUARDS = 50

LongName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Settings = dict[
    Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,39}$")],
    str | int | float | bool | list[str],
]


class TargetBody(Command):
    """Something with a weight: a flag by its key, an ALB rule by its ARN, a CodeDeploy deployment
    by its id or by APPLICATION/GROUP.

    mode: who sets its weight; unless it is said, `follow` for CodeDeploy and `drive` for others.
    """

    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    name: LongName
    mode: Literal["drive", "follow", "gate"] | None = None
    settings: Settings = Field(default_factory=dict, max_length=20)

    def target(self) -> Target:
        """Return it as the engine knows it."""
        mode = OWN_MODES.get(self.kind, Mode.DRIVE) if self.mode is None else Mode(self.mode)
        return Target.of(self.kind, self.name, mode, **_tuples(self.settings))


class SignalBody(Command):
    """What a guard watches, and where its numbers come from."""

    source: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    measure: Literal["rate", "latency", "unhealthy_hosts", "healthy_ratio", "alarm", "value"]
    settings: Settings = Field(default_factory=dict, max_length=20)

    def signal(self) -> Signal:
        """Return it as the engine knows it."""
        return Signal.of(self.source, Measure(self.measure), **_tuples(self.settings))


class GuardBody(Command):
    """One rollback signal with its limit, in the measure's own unit: a fraction, seconds, hosts."""

    name: Name
    signal: SignalBody
    limit: float
    points: int = 2
    of: int = 2
    period: int = 60
    minimum_sample: int | None = None
    no_data: Literal["hold", "pass", "roll_back"] = "hold"
    on_breach: Literal["roll_back", "hold"] = "roll_back"
    baseline_factor: float | None = None

    def guard(self) -> Guard:
        """Return it as the engine knows it. Raises Invalid."""
        return Guard(
            name=self.name,
            signal=self.signal.signal(),
            limit=self.limit,
            points=self.points,
            of=self.of,
            period=self.period,
            minimum_sample=self.minimum_sample,
            no_data=NoData(self.no_data),
            on_breach=OnBreach(self.on_breach),
            baseline_factor=self.baseline_factor,
        )


class Requires(Command):
    """What must have been before: the same version of the service, complete in an environment."""

    environment: Key


class RolloutPlan(Command):
    """A rollout that is thought of.

    schedule: a template's name, `standard`, one of CodeDeploy's names, `5%:5m,25%:10m,100%`, or
    steps; the environment's default unless said otherwise.
    guards: `standard` (what SDKs report), `none`, or each by itself.  alarms: CloudWatch alarms
    that take this rollout back when one fires.
    requests_per_second: of the whole service, where the server has not seen it itself.
    until: hold the last share, which is below the whole, until then: a split of both versions.
    requires: where this version must have been complete before.
    """

    environment: Key
    service: Name
    version: Name | None = None
    schedule: ScheduleText | ScheduleBody | None = None
    relation: Literal["lock_step", "on_canary", "after"] = "lock_step"
    targets: list[TargetBody] = Field(min_length=1, max_length=MAX_TARGETS)
    guards: (
        Literal["standard", "none"] | Annotated[list[GuardBody], Field(max_length=MAX_GUARDS)]
    ) = "standard"
    alarms: list[LongName] = Field(default_factory=list, max_length=100)
    requests_per_second: float | None = Field(default=None, gt=0, le=10**9)
    requires: Requires | None = None
    until: datetime | None = Field(default=None, strict=False)

    @field_validator("until", mode="wrap")
    @classmethod
    def _until_utc(cls, told: Any, read: ValidatorFunctionWrapHandler) -> datetime | None:
        return _utc(told, read)

    def the_schedule(self, read: Callable[[str | None], Schedule]) -> Schedule:
        """Return the schedule that is meant. Raises Invalid, naming the field.

        read: what a text means in the environment, and what is meant where nothing is said.
        """
        with under("/schedule"):
            if isinstance(self.schedule, ScheduleBody):
                return self.schedule.schedule()
            return read(self.schedule)

    def the_targets(self) -> tuple[Target, ...]:
        """Return the targets."""
        return tuple(target.target() for target in self.targets)

    def the_guards(self) -> tuple[Guard, ...]:
        """Return the guards, those over named alarms last. Raises Invalid, naming the field."""
        named = (guards.alarm(*self.alarms),) if self.alarms else ()
        if self.guards == "standard":
            return (*guards.standard(), *self._standard_of_targets(), *named)
        if self.guards == "none":
            return named
        return (*self._own_guards(), *named)

    def guard_field(self, i: int, guard: Guard, inside: str) -> str:
        """Return the pointer to what brought a guard. i: its place in `the_guards`; inside: the
        pointer within it, where the caller wrote it down."""
        if guard.named:
            return "/alarms"
        return "/guards" if isinstance(self.guards, str) else f"/guards/{i}{inside}"

    def the_relation(self) -> Relation:
        """Return how flags and traffic relate."""
        return Relation(self.relation)

    def _own_guards(self) -> list[Guard]:
        found: list[Guard] = []
        for i, body in enumerate(self.guards):
            if not isinstance(body, GuardBody):
                continue
            with under(f"/guards/{i}"):
                if body.name in {guard.name for guard in found}:
                    raise Invalid(f"There are two guards named {body.name!r}.", field="/name")
                found.append(body.guard())
        return found

    def _standard_of_targets(self) -> list[Guard]:
        """Return the standard guards over the hosts of what is moved."""
        groups = [target.settings.get("canary") for target in self.targets if target.kind != FLAG]
        return [
            guard
            for group in dict.fromkeys(groups)
            if isinstance(group, str)
            for guard in guards.hosts(group)
        ]


A_TIME = "as in 2027-01-31T22:00:00Z"


class NewRollout(RolloutPlan, Enlarging):
    """A rollout to be started: at once, or at `start_at`.

    replace: end a rollout that moves the same targets now, and take over from it.
    hold_if_lost: hold when whoever watches it is not heard of for so long.
    """

    start_at: datetime | None = Field(default=None, strict=False)
    replace: bool = False
    hold_if_lost: Duration | None = None

    def lost_after(self) -> int | None:
        """Return the seconds after which its watcher is lost, None where it needs none. Raises
        Invalid."""
        return None if self.hold_if_lost is None else _lost_after(self.hold_if_lost)

    @field_validator("start_at", mode="wrap")
    @classmethod
    def _start_utc(cls, told: Any, read: ValidatorFunctionWrapHandler) -> datetime | None:
        return _utc(told, read)


class Watch(Command):
    """A sign of life of whoever watches a rollout.

    hold_if_lost: hold it when there is none for so long.
    """

    hold_if_lost: Duration = f"{watchers.LOST_AFTER}s"

    def lost_after(self) -> int:
        """Return the seconds after which he is lost. Raises Invalid."""
        return _lost_after(self.hold_if_lost)


class Verb(Enlarging):
    """What somebody does to a rollout, and why."""

    reason: Reason | None = None


def _utc(told: Any, read: ValidatorFunctionWrapHandler) -> datetime | None:
    try:
        at: datetime | None = read(told)
    except ValidationError:
        raise ValueError(f"must be a time, {A_TIME}") from None
    if at is not None and at.tzinfo is None:
        raise ValueError(f"must name its time zone, {A_TIME}")
    return at.astimezone(UTC) if at is not None else None


def _lost_after(text: str) -> int:
    seconds = seconds_of(text, "/hold_if_lost")
    if not watchers.SHORTEST <= seconds <= watchers.LONGEST:
        raise Invalid(
            f"must be from {watchers.SHORTEST} s to {watchers.LONGEST // 60} minutes.",
            field="/hold_if_lost",
        )
    return seconds


def _tuples(settings: Settings) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
