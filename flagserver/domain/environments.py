"""Environments: where flags have their state; marked critical or not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from . import retention
from .commands import EnvironmentEdit, NewEnvironment
from .documents import Body
from .errors import Invalid
from .notices import Notice, Severity
from .schedule import STANDARD, parse

EDIT, LOOSEN = "environment:edit", "environment:loosen"
"""Edited; and edited so that enlarging there waits for no second person any more."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment. In a critical one, enlarging exposure needs a reason and confirmation.

    default_schedule: by what its rollouts go that name none; as `schedule.parse` reads it.
    retention_days: how long the record keeps the bodies of entries about it.
    uniform: conditions that would serve some regions or instances otherwise are refused there.
    four_eyes: what enlarges exposure waits there until a second person approves.
    """

    key: str
    description: str
    critical: bool
    created: str
    changed: str
    default_schedule: str = STANDARD.name
    retention_days: int = retention.DAYS
    uniform: bool = False
    four_eyes: bool = False

    @classmethod
    def from_body(cls, body: Body) -> Environment:
        """Return the environment that a document holds."""
        return cls(**body)

    def to_body(self) -> dict[str, Any]:
        """Return the document's body."""
        return asdict(self)


FIRST_ENVIRONMENTS = (
    NewEnvironment(key="development", description="Where features are built."),
    NewEnvironment(key="staging", description="Where releases are tried."),
    NewEnvironment(key="production", description="Where it counts.", critical=True),
)
"""What a new installation begins with."""


def create(command: NewEnvironment, *, at: str) -> Environment:
    """Return the new environment. at: RFC 3339."""
    return Environment(
        *(command.key, command.description, command.critical, at, at),
        uniform=command.uniform,
        four_eyes=command.four_eyes,
    )


def known_as(key: str, *, at: str) -> Environment:
    """Return an environment of which nothing but its key is left: critical, unless it is one of
    those that a new installation begins with."""
    first = {command.key: command for command in FIRST_ENVIRONMENTS}
    return create(first.get(key) or NewEnvironment(key=key, critical=True), at=at)


def restored(environment: Environment, *, at: str) -> Environment:
    """Return an environment as it was, in a store that has no schedules of its own any more: one
    that went by one of those goes by ours."""
    try:
        parse(environment.default_schedule)
    except Invalid:
        return replace(environment, default_schedule=STANDARD.name, changed=at)
    return replace(environment, changed=at)


def edit(environment: Environment, command: EnvironmentEdit, *, at: str) -> Environment:
    """Return the environment with the given fields changed."""
    given = command.model_dump(exclude_none=True, exclude={"reason"})
    return replace(environment, **given, changed=at)


def loosened(environment: Environment, reason: str | None) -> Notice:
    """Return what people are told once enlarging waits for no second person any more."""
    return Notice(
        id=f"{LOOSEN}:{environment.key}:{environment.changed}",
        kind=LOOSEN,
        severity=Severity.WARNING,
        at=environment.changed,
        environment=environment.key,
        service=None,
        subject=f"environment/{environment.key}",
        title=f"Enlarging in {environment.key} waits for no second person any more",
        facts={"Why": reason or "not said"},
    )
