"""`/api/v1/environments`."""

from __future__ import annotations

from typing import Any

from flagserver.domain.access import MANAGE, READ
from flagserver.domain.commands import EnvironmentEdit, NewEnvironment

from . import present
from .routing import Call, Routes

routes = Routes()

ENVIRONMENTS = "/api/v1/environments"
ENVIRONMENT = f"{ENVIRONMENTS}/{{environment}}"


@routes.add("GET", ENVIRONMENTS, READ, {200: "The environments."})
def list_environments(call: Call) -> Any:
    """List environments."""
    views = call.services.environments.all()
    return {"environments": [present.environment(view) for view in views]}


@routes.add("POST", ENVIRONMENTS, MANAGE, {201: "The new environment."}, model=NewEnvironment)
def create_environment(call: Call) -> Any:
    """Create an environment in which every flag exposes nobody."""
    view = call.services.environments.create(call.body, call.principal, call.idempotency)
    return present.environment(view), 201, present.etag(view.revision)


@routes.add("GET", ENVIRONMENT, READ, {200: "The environment."})
def read_environment(call: Call, environment: str) -> Any:
    """Read an environment."""
    view = call.services.environments.get(environment)
    return present.environment(view), 200, present.etag(view.revision)


@routes.add(
    *("PATCH", ENVIRONMENT, MANAGE, {200: "The environment as it is now."}),
    model=EnvironmentEdit,
    revision=True,
)
def edit_environment(call: Call, environment: str) -> Any:
    """Change an environment's description or whether it is critical."""
    view = call.services.environments.edit(
        environment, call.body, call.revision(), call.principal, call.idempotency
    )
    return present.environment(view), 200, present.etag(view.revision)
