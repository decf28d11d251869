"""`/api/v1/schedules`: what rollouts go by, and the templates of each environment."""

from __future__ import annotations

import re
from typing import Any

from flagserver.domain.access import MANAGE, READ
from flagserver.domain.commands import Reasoned
from flagserver.domain.schedule_commands import TemplateBody
from flagserver.services.schedules import TemplateView

from . import present, present_schedules
from .query import Switch, Words
from .routing import Call, Routes, visible

routes = Routes()

SCHEDULES = "/api/v1/schedules"
SCHEDULE = f"{SCHEDULES}/{{environment}}/{{schedule}}"

THE_SCHEDULE = ("The schedule.", present_schedules.ScheduleJson)

ANY_NAME = {"schedule": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")}
"""CodeDeploy's names have capitals, keys have none."""


@routes.add(
    *("GET", SCHEDULES, READ, {200: ("Schedules by name.", present_schedules.SchedulesJson)}),
    query={"environment": Words("only what can be named there")},
)
def list_schedules(call: Call) -> Any:
    """List schedules: what is built in, then templates, by environment and name."""
    asked = visible(call.principal, call.query["environment"])
    environments = [view.environment for view in call.services.environments.all()]
    found = {it.key: it for it in environments if asked in {None, it.key}}
    return {
        "schedules": [
            present_schedules.schedule(view) for view in call.services.schedules.all(sorted(found))
        ],
        "defaults": {key: it.default_schedule for key, it in sorted(found.items())},
    }


@routes.add("GET", SCHEDULE, READ, {200: THE_SCHEDULE}, names=ANY_NAME)
def read_schedule(call: Call, environment: str, schedule: str) -> Any:
    """Read what a name means in an environment: a template, a built-in, or one of CodeDeploy's."""
    return _schedule(call.services.schedules.get(environment, schedule))


@routes.add(
    *("PUT", SCHEDULE, MANAGE),
    {
        200: (
            "The schedule in place of the one before; a dry run's plan.",
            present_schedules.ScheduleJson | present_schedules.SchedulePlanJson,
        ),
        201: THE_SCHEDULE,
        428: "There is one already: say which revision is replaced.",
    },
    model=TemplateBody,
    optional_revision=True,
    query={"dry_run": Switch("only say what would change")},
)
def put_schedule(call: Call, environment: str, schedule: str) -> Any:
    """Keep a schedule under a name; to replace one, If-Match names its revision."""
    schedules = call.services.schedules
    if call.query["dry_run"]:
        return present_schedules.plan(schedules.plan(environment, schedule, call.body))
    revision = call.optional_revision()
    kept = schedules.put(
        *(environment, schedule, call.body, revision, call.principal, call.idempotency)
    )
    return _schedule(kept, 201 if kept.revision == 1 else 200)


@routes.add(
    *("DELETE", SCHEDULE, MANAGE),
    {200: ("It is gone.", present_schedules.DeletedScheduleJson)},
    model=Reasoned,
    revision=True,
)
def delete_schedule(call: Call, environment: str, schedule: str) -> Any:
    """Take a template away; rollouts that go by it keep their steps."""
    delete, revision = call.services.schedules.delete, call.revision()
    delete(environment, schedule, call.body, revision, call.principal, call.idempotency)
    return {"name": schedule, "environment": environment, "deleted": True}


def _schedule(view: TemplateView, status: int = 200) -> Any:
    return present_schedules.schedule(view), status, present.etag(view.revision)
