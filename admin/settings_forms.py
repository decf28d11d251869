"""Forms of the settings, read into the domain's commands."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time

from flagserver.domain.commands import EnvironmentEdit, NewEnvironment, NewToken
from flagserver.domain.retention import LEAST_DAYS, MOST_DAYS
from flagserver.domain.schedule_commands import TemplateBody

from .forms import Typed, Unusable, build, reason

_DAYS = re.compile(r"[0-9]{1,6}", re.ASCII)


def read_environment(typed: Typed) -> NewEnvironment:
    """Return the environment that a form asks for. Raises Unusable."""
    return build(
        NewEnvironment,
        typed,
        key=typed.text("key").strip(),
        description=typed.text("description"),
        critical=typed.text("critical") == "yes",
        uniform=typed.text("uniform") == "yes",
        four_eyes=typed.text("four_eyes") == "yes",
        reason=reason(typed),
    )


def read_edit(typed: Typed) -> EnvironmentEdit:
    """Return what a form changes about an environment. Raises Unusable."""
    days = typed.text("retention_days").strip()
    if not _DAYS.fullmatch(days):
        typed.errors["retention_days"] = (
            f"Days must be a whole number from {LEAST_DAYS} to {MOST_DAYS}."
        )
        raise Unusable
    return build(
        EnvironmentEdit,
        typed,
        description=typed.text("description"),
        critical=typed.text("critical") == "yes",
        uniform=typed.text("uniform") == "yes",
        four_eyes=typed.text("four_eyes") == "yes",
        default_schedule=typed.text("default_schedule").strip(),
        retention_days=int(days),
        reason=reason(typed),
    )


def read_template(typed: Typed) -> tuple[str, str, TemplateBody]:
    """Return environment, name and schedule of a template. Raises Unusable."""
    name = typed.text("name").strip()
    if not name or len(name) > 100 or "/" in name:
        typed.errors["name"] = "Name must have 1 to 100 characters, and no slash."
        raise Unusable
    command = build(
        TemplateBody,
        typed,
        schedule=typed.text("schedule").strip(),
        description=typed.text("description"),
        reason=reason(typed),
    )
    return typed.text("environment"), name, command


def read_token(typed: Typed) -> NewToken:
    """Return the token that a form asks for; it ends with the day that the form says. Raises
    Unusable."""
    return build(
        NewToken,
        typed,
        scope=typed.text("scope"),
        environment=typed.text("environment") or None,
        description=typed.text("description"),
        expires=_end_of(typed, "expires"),
        reason=reason(typed),
    )


def _end_of(typed: Typed, field: str) -> datetime | None:
    text = typed.text(field).strip()
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(23, 59, 59), UTC)
    except ValueError:
        typed.errors[field] = "Expires must be a day, as in 2027-01-31."
        raise Unusable from None
