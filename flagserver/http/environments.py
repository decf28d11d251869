"""`/api/v1/environments`."""

from __future__ import annotations

from typing import Any

from flagserver.domain.access import MANAGE, READ
from flagserver.domain.commands import EnvironmentEdit, NewEnvironment
from flagserver.services.environments import EnvironmentView

from . import present
from .routing import Call, Routes

routes = Routes()

ENVIRONMENTS = "/api/v1/environments"
ENVIRONMENT = f"{ENVIRONMENTS}/{{environment}}"


@routes.add("GET", ENVIRONMENTS, READ, {200: ("Critical ones last.", present.EnvironmentsJson)})
def list_environments(call: Call) -> Any:
    """List environments; a confined token sees its own."""
    only = call.principal.environment
    views = call.services.environments.all()
    seen = [view for view in views if only in (None, view.environment.key)]
    return {"environments": [present.environment(view) for view in seen]}


@routes.add(
    *("POST", ENVIRONMENTS, MANAGE, {201: ("The new environment.", present.EnvironmentJson)}),
    model=NewEnvironment,
)
def create_environment(call: Call) -> Any:
    """Create an environment in which every flag exposes nobody."""
    create = call.services.environments.create
    return _environment(create(call.body, call.principal, call.idempotency), 201)


@routes.add("GET", ENVIRONMENT, READ, {200: ("The environment.", present.EnvironmentJson)})
def read_environment(call: Call, environment: str) -> Any:
    """Read an environment."""
    return _environment(call.services.environments.get(environment))


@routes.add(
    *("PATCH", ENVIRONMENT, MANAGE, {200: ("As it is now.", present.EnvironmentJson)}),
    model=EnvironmentEdit,
    revision=True,
)
def edit_environment(call: Call, environment: str) -> Any:
    """Change an environment's description, whether it is critical, or its default schedule."""
    edit = call.services.environments.edit
    return _environment(
        edit(environment, call.body, call.revision(), call.principal, call.idempotency)
    )


def _environment(view: EnvironmentView, status: int = 200) -> Any:
    return present.environment(view), status, present.etag(view.revision)
