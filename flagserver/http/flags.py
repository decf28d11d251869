"""`/api/v1/flags`: flags, and their state in each environment."""

from __future__ import annotations

from typing import Any

from flagserver.domain.access import CHANGE, MANAGE, READ, SHRINK
from flagserver.domain.commands import (
    Command,
    Enlarging,
    FlagEdit,
    NewFlag,
    Reasoned,
    StateEdit,
)
from flagserver.domain.outcomes import histogram_edges

from . import present
from .routing import Call, Routes

routes = Routes()

FLAGS = "/api/v1/flags"
FLAG = f"{FLAGS}/{{key}}"
STATE = f"{FLAG}/environments/{{environment}}"


class Question(Command):
    """A request id to be decided; it is not kept."""

    request_id: str


@routes.add(
    *("GET", FLAGS, READ, {200: "The flags, by key."}),
    query={"archived": "1: with archived flags", "q": "text in key, description or owner"},
)
def list_flags(call: Call) -> Any:
    """List flags."""
    views = call.services.flags.all(
        archived=call.switch("archived"), query=call.request.args.get("q", "")
    )
    return {"flags": [present.flag(view) for view in views]}


@routes.add("POST", FLAGS, MANAGE, {201: "The new flag."}, model=NewFlag)
def create_flag(call: Call) -> Any:
    """Create a flag that exposes nobody anywhere."""
    view = call.services.flags.create(call.body, call.principal, call.idempotency)
    return present.flag(view), 201, present.etag(view.revision)


@routes.add("GET", FLAG, READ, {200: "The flag."})
def read_flag(call: Call, key: str) -> Any:
    """Read a flag with its state in every environment."""
    view = call.services.flags.get(key)
    return present.flag(view), 200, present.etag(view.revision)


@routes.add("PATCH", FLAG, MANAGE, {200: "The flag as it is now."}, model=FlagEdit, revision=True)
def edit_flag(call: Call, key: str) -> Any:
    """Change a flag's description, owner or kind."""
    view = call.services.flags.edit(
        key, call.body, call.revision(), call.principal, call.idempotency
    )
    return present.flag(view), 200, present.etag(view.revision)


@routes.add(
    *("POST", f"{FLAG}/archive", MANAGE, {200: "The archived flag."}),
    model=Reasoned,
    revision=True,
)
def archive_flag(call: Call, key: str) -> Any:
    """Take a flag out of every snapshot."""
    view = call.services.flags.archive(
        key, call.body, call.revision(), call.principal, call.idempotency
    )
    return present.flag(view), 200, present.etag(view.revision)


@routes.add(
    *("POST", f"{FLAG}/unarchive", MANAGE, {200: "The flag, exposing nobody."}),
    model=Reasoned,
    revision=True,
)
def unarchive_flag(call: Call, key: str) -> Any:
    """Bring an archived flag back, exposing nobody."""
    view = call.services.flags.unarchive(
        key, call.body, call.revision(), call.principal, call.idempotency
    )
    return present.flag(view), 200, present.etag(view.revision)


@routes.add(
    *("GET", f"{FLAG}/history", READ, {200: "Entries of the record, newest first."}),
    query={
        "environment": "only what concerns this one",
        "before": "only entries before this number",
        "limit": "at most so many, 1 to 500 (50)",
    },
)
def flag_history(call: Call, key: str) -> Any:
    """Read what the record says about a flag."""
    entries = call.services.flags.history(
        key,
        environment=call.request.args.get("environment"),
        before=call.whole_number("before", 0, 0, 10**9) or None,
        limit=call.whole_number("limit", 50, 1, 500),
    )
    return {"entries": list(entries)}


@routes.add("GET", STATE, READ, {200: "The state."})
def read_state(call: Call, key: str, environment: str) -> Any:
    """Read a flag's state in an environment."""
    view = call.services.flags.state(key, environment)
    return present.state(view), 200, present.etag(view.revision)


@routes.add(
    *("PATCH", STATE, CHANGE, {200: "The state as it is now, or the plan of a dry run."}),
    model=StateEdit,
    revision=True,
    query={"dry_run": "1: only say what would change"},
)
def change_state(call: Call, key: str, environment: str) -> Any:
    """Change share, weights, conditions or prerequisites."""
    if call.switch("dry_run"):
        plan = call.services.flags.plan(key, environment, call.body)
        return {
            "before": present.state(plan.before),
            "after": present.state_fields(plan.after),
            "enlarges": plan.enlarges,
        }
    view = call.services.flags.change(
        key, environment, call.body, call.revision(), call.principal, call.idempotency
    )
    return present.state(view), 200, present.etag(view.revision)


@routes.add("POST", f"{STATE}/kill", SHRINK, {200: "The killed state."}, model=Reasoned)
def kill_flag(call: Call, key: str, environment: str) -> Any:
    """Serve the rest variant to everybody; If-Match is not needed."""
    view = call.services.flags.kill(
        *(key, environment, call.body, call.principal),
        revision=call.optional_revision(),
        idempotency=call.idempotency,
    )
    return present.state(view), 200, present.etag(view.revision)


@routes.add(
    *("POST", f"{STATE}/unkill", CHANGE, {200: "The state, served again."}),
    model=Enlarging,
    revision=True,
)
def unkill_flag(call: Call, key: str, environment: str) -> Any:
    """Take a kill back; counts as enlarging."""
    view = call.services.flags.unkill(
        key, environment, call.body, call.revision(), call.principal, call.idempotency
    )
    return present.state(view), 200, present.etag(view.revision)


@routes.add(
    *("GET", f"{STATE}/outcomes", READ, {200: "What services reported, by variant."}),
    query={"seconds": "how far back, 1 to 3600 (60)"},
)
def flag_outcomes(call: Call, key: str, environment: str) -> Any:
    """Read what a flag served and how the requests went."""
    call.services.flags.state(key, environment)
    seconds = call.whole_number("seconds", 60, 1, 3600)
    found = call.services.outcomes.exposure(environment, key, seconds)
    return present.exposure(found, histogram_edges())


@routes.add(
    *("POST", f"{STATE}/eval", READ, {200: "Answer, point, threshold and why."}), model=Question
)
def explain_flag(call: Call, key: str, environment: str) -> Any:
    """Explain how a request id is decided; it is not kept."""
    found = call.services.flags.explain(key, environment, call.body.request_id)
    return present.explanation(found)
