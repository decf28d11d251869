"""Schedule templates: a schedule under a name, for the rollouts of one environment.

A rollout keeps the steps that it began with: what becomes of a template later changes nothing that
runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .documents import Body, Fact, Principal, Write, schedules
from .errors import Conflict
from .schedule import CODEDEPLOY, NAMED, Schedule, parse
from .schedule_commands import TemplateBody

MOST = 100
"""Templates in one environment."""


@dataclass(frozen=True, slots=True)
class Template:
    """A named schedule. environment: None of one that is built in, and there everywhere.

    created, changed: RFC 3339; None of one that is built in.
    """

    environment: str | None
    schedule: Schedule
    description: str
    created: str | None = None
    changed: str | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.schedule.name

    @classmethod
    def from_body(cls, body: Body) -> Template:
        """Return the template that a document holds."""
        return cls(**{**body, "schedule": Schedule.from_body(body["schedule"])})

    def to_body(self) -> dict[str, Any]:
        """Return the document's body."""
        return {
            "environment": self.environment,
            "schedule": self.schedule.to_body(),
            "description": self.description,
            "created": self.created,
            "changed": self.changed,
        }


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of a template. before: None where there was none; after: None, it goes."""

    before: Template | None
    after: Template | None

    def write(self, expected: int) -> Write:
        """Return what is written, given the revision that is there."""
        it = self._it
        body = None if self.after is None else self.after.to_body()
        return Write(schedules(it.environment or ""), it.name, expected, body)

    def fact(self, by: Principal, reason: str | None) -> Fact:
        """Return what the record says of it."""
        it = self._it
        verb = "delete" if self.after is None else "create" if self.before is None else "edit"
        return Fact(
            actor=by.id,
            role=by.role_in(it.environment),
            action=f"schedule:{verb}",
            target=f"schedule/{it.environment}/{it.name}",
            environment=it.environment,
            before=None if self.before is None else self.before.to_body(),
            after=None if self.after is None else self.after.to_body(),
            reason=reason,
        )

    @property
    def _it(self) -> Template:
        it = self.after or self.before
        assert it is not None  # noqa: S101 (an edit is of something)
        return it


def put(
    before: Template | None, command: TemplateBody, environment: str, name: str, *, at: str
) -> Edit:
    """Keep a template as a command says. at: RFC 3339. Raises Invalid, Conflict."""
    if name in NAMED:
        raise Conflict(f"{name} is built in and stays as it is. Take another name.")
    made = replace(command.the_schedule(), name=name)
    created = at if before is None else before.created
    return Edit(before, Template(environment, made, command.description, created, at))


def delete(template: Template, default: str) -> Edit:
    """Take a template away. default: what its environment's rollouts go by. Raises Conflict."""
    if template.environment is None:
        raise Conflict(f"{template.name} is built in.")
    if template.name == default:
        raise Conflict(
            f"{template.name} is the default of {template.environment}. Give the environment "
            "another one first."
        )
    return Edit(template, None)


def built_in() -> Iterator[Template]:
    """Yield what is there without anybody's doing: ours, then what CodeDeploy brings for ECS."""
    for schedule in NAMED.values():
        yield Template(None, schedule, "What rollouts go by unless an environment says otherwise.")
    for name in CODEDEPLOY:
        yield Template(None, parse(name), "As CodeDeploy defines it.")
