"""How schedules look on the wire. Shares in percent, times in seconds, instants in RFC 3339."""

from __future__ import annotations

# pydantic asks for this TypedDict below Python 3.12, and brings it.
from typing_extensions import TypedDict

from flagserver.domain.commands import ppm_to_percent
from flagserver.domain.templates import Edit, Template
from flagserver.services.schedules import TemplateView


class ScheduleStepJson(TypedDict):
    """One step. hold: seconds; of the last one 0, see the schedule's bake."""

    share: float
    hold: int
    approval: bool
    minimum_sample: int | None


class ScheduleFields(TypedDict):
    """A named schedule. environment, created, changed: null of one that is built in. text: as
    `schedule` of a rollout takes it. duration, bake: seconds. end, keep: percent; keep: of the last
    share, on the old version while it bakes."""

    name: str
    environment: str | None
    description: str
    text: str
    duration: int
    steps: list[ScheduleStepJson]
    bake: int
    end: float
    keep: float
    created: str | None
    changed: str | None


class ScheduleJson(ScheduleFields):
    """A named schedule. revision: 0 of one that is built in."""

    revision: int


class SchedulesJson(TypedDict):
    """What rollouts can go by: what is built in, then templates, by environment and name.
    defaults: environment -> what its rollouts go by that name none."""

    schedules: list[ScheduleJson]
    defaults: dict[str, str]


class SchedulePlanJson(TypedDict):
    """What keeping a schedule would do. before: null where there is none by this name."""

    before: ScheduleFields | None
    after: ScheduleFields


class DeletedScheduleJson(TypedDict):
    """A template that is gone."""

    name: str
    environment: str
    deleted: bool


def schedule(view: TemplateView) -> ScheduleJson:
    """Return a named schedule."""
    return {**fields(view.template), "revision": view.revision}


def plan(edit: Edit) -> SchedulePlanJson:
    """Return what keeping a template would do."""
    assert edit.after is not None  # noqa: S101 (it is to be kept)
    before = None if edit.before is None else fields(edit.before)
    return {"before": before, "after": fields(edit.after)}


def fields(template: Template) -> ScheduleFields:
    """Return a template without its revision."""
    it = template.schedule
    return {
        "name": it.name,
        "environment": template.environment,
        "description": template.description,
        "text": it.text(),
        "duration": it.duration(),
        "steps": [
            {
                "share": ppm_to_percent(step.share),
                "hold": step.hold,
                "approval": step.approval,
                "minimum_sample": step.minimum_sample,
            }
            for step in it.steps
        ],
        "bake": it.bake,
        "end": ppm_to_percent(it.end),
        "keep": ppm_to_percent(it.keep),
        "created": template.created,
        "changed": template.changed,
    }
