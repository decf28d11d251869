"""`/api/v1/flags`: flags, and their state in each environment."""

from __future__ import annotations

from typing import Any

from flagserver.domain.access import CHANGE, DEFINE, READ, SHRINK
from flagserver.domain.commands import (
    Command,
    Enlarging,
    FlagEdit,
    NewFlag,
    Reasoned,
    StateEdit,
)
from flagserver.domain.outcomes import histogram_edges
from flagserver.services.catalogue import FlagView, StateView

from . import present
from .query import Number, Switch, Words
from .routing import Call, Routes, visible

routes = Routes()

FLAGS = "/api/v1/flags"
FLAG = f"{FLAGS}/{{key}}"
STATE = f"{FLAG}/environments/{{environment}}"

MAX_SERVICES = 20


class Question(Command):
    """A request id to be decided; it is not kept."""

    request_id: str


@routes.add(
    *("GET", FLAGS, READ, {200: ("The flags, by key.", present.FlagsJson)}),
    query={
        "archived": Switch("with archived flags"),
        "q": Words("text in key, description or owner"),
    },
)
def list_flags(call: Call) -> Any:
    """List flags."""
    views = call.services.flags.all(archived=call.query["archived"], query=call.query["q"])
    return {"flags": [present.flag(view, call.principal.environment) for view in views]}


@routes.add(
    *("POST", FLAGS, DEFINE, {201: ("The new flag.", present.FlagJson)}),
    model=NewFlag,
)
def create_flag(call: Call) -> Any:
    """Create a flag that exposes nobody anywhere."""
    return _flag(call, call.services.flags.create(call.body, call.principal, call.idempotency), 201)


@routes.add("GET", FLAG, READ, {200: ("The flag.", present.FlagJson)})
def read_flag(call: Call, key: str) -> Any:
    """Read a flag with its state in every environment."""
    return _flag(call, call.services.flags.get(key))


@routes.add(
    *("PATCH", FLAG, DEFINE, {200: ("The flag as it is now.", present.FlagJson)}),
    model=FlagEdit,
    revision=True,
)
def edit_flag(call: Call, key: str) -> Any:
    """Change a flag's description, owner or kind."""
    edit = call.services.flags.edit
    return _flag(call, edit(key, call.body, call.revision(), call.principal, call.idempotency))


@routes.add(
    *("POST", f"{FLAG}/archive", DEFINE, {200: ("The archived flag.", present.FlagJson)}),
    model=Reasoned,
    revision=True,
)
def archive_flag(call: Call, key: str) -> Any:
    """Take a flag out of every snapshot."""
    archive = call.services.flags.archive
    return _flag(call, archive(key, call.body, call.revision(), call.principal, call.idempotency))


@routes.add(
    *("POST", f"{FLAG}/unarchive", DEFINE, {200: ("The flag, exposing nobody.", present.FlagJson)}),
    model=Reasoned,
    revision=True,
)
def unarchive_flag(call: Call, key: str) -> Any:
    """Bring an archived flag back, exposing nobody."""
    unarchive = call.services.flags.unarchive
    return _flag(call, unarchive(key, call.body, call.revision(), call.principal, call.idempotency))


@routes.add(
    *("GET", f"{FLAG}/history", READ, {200: ("Newest first.", present.HistoryJson)}),
    query={
        "environment": Words("only what concerns this one"),
        "before": Number("only entries before this number", 1, 10**15 - 1),
        "limit": Number("at most so many", 1, 500, 50),
    },
)
def flag_history(call: Call, key: str) -> Any:
    """Read what the record says about a flag."""
    return present.history(
        call.services.flags.history(
            key,
            environment=visible(call.principal, call.query["environment"]),
            before=call.query["before"],
            limit=call.query["limit"],
        )
    )


@routes.add("GET", STATE, READ, {200: ("The state.", present.StateJson)})
def read_state(call: Call, key: str, environment: str) -> Any:
    """Read a flag's state in an environment."""
    return _state(call.services.flags.state(key, environment))


@routes.add(
    *("PATCH", STATE, CHANGE),
    {200: ("The state as it is now; a dry run's plan.", present.StateJson | present.PlanJson)},
    model=StateEdit,
    revision=True,
    query={"dry_run": Switch("only say what would change")},
)
def change_state(call: Call, key: str, environment: str) -> Any:
    """Change share, weights, conditions or prerequisites."""
    flags = call.services.flags
    if call.query["dry_run"]:
        return present.plan(flags.plan(key, environment, call.body))
    revision = call.revision()
    return _state(
        flags.change(key, environment, call.body, revision, call.principal, call.idempotency)
    )


@routes.add(
    *("POST", f"{STATE}/kill", SHRINK, {200: ("The killed state.", present.StateJson)}),
    model=Reasoned,
    optional_revision=True,
)
def kill_flag(call: Call, key: str, environment: str) -> Any:
    """Serve the rest variant to everybody; If-Match is not needed."""
    return _state(
        call.services.flags.kill(
            *(key, environment, call.body, call.principal),
            revision=call.optional_revision(),
            idempotency=call.idempotency,
        )
    )


@routes.add(
    *("POST", f"{STATE}/unkill", CHANGE, {200: ("The state, served again.", present.StateJson)}),
    model=Enlarging,
    revision=True,
)
def unkill_flag(call: Call, key: str, environment: str) -> Any:
    """Take a kill back; counts as enlarging."""
    unkill, revision = call.services.flags.unkill, call.revision()
    return _state(unkill(key, environment, call.body, revision, call.principal, call.idempotency))


@routes.add(
    *("GET", f"{STATE}/outcomes", READ, {200: ("By variant.", present.ExposureJson)}),
    query={"seconds": Number("how far back", 1, 3600, 60)},
)
def flag_outcomes(call: Call, key: str, environment: str) -> Any:
    """Read what a flag served and how the requests went."""
    call.services.flags.state(key, environment)
    outcomes, seconds = call.services.outcomes, call.query["seconds"]
    names = sorted({str(each["service.name"]) for each in outcomes.sources(environment)})
    services = {name: outcomes.service(environment, name, seconds) for name in names[:MAX_SERVICES]}
    return present.exposure(
        outcomes.exposure(environment, key, seconds), services, histogram_edges()
    )


@routes.add(
    *("POST", f"{STATE}/eval", READ, {200: ("Answer and why.", present.ExplanationJson)}),
    model=Question,
)
def explain_flag(call: Call, key: str, environment: str) -> Any:
    """Explain how a request id is decided; it is not kept."""
    found = call.services.flags.explain(key, environment, call.body.request_id)
    return present.explanation(found)


def _flag(call: Call, view: FlagView, status: int = 200) -> Any:
    return (
        present.flag(view, call.principal.environment),
        status,
        present.etag(view.revision),
    )


def _state(view: StateView) -> Any:
    return present.state(view), 200, present.etag(view.revision)
