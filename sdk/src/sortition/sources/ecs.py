"""What Amazon ECS tells a container about its task, by the task metadata endpoint, version 4."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from . import transport

CALL_SECONDS = 1.0
"""For each step: the endpoint is on the same host."""
LIMIT = 1024 * 1024


def attributes(uri: str) -> dict[str, str]:
    """Return resource attributes of the task that this container is part of.

    uri: what ECS put into the container's environment. Raises TransportError, ValueError.
    """
    parts = urlsplit(uri)
    connection = transport.Connection(f"{parts.scheme}://{parts.netloc}", timeout=CALL_SECONDS)
    try:
        path = f"{parts.path.rstrip('/')}/task"
        answer = transport.ask(connection, "GET", path, {}, limit=LIMIT)
    finally:
        connection.close()
    if answer.status != 200:
        raise ValueError(f"status {answer.status}")
    return read(json.loads(answer.body))


def read(task: Any) -> dict[str, str]:
    """Return the attributes that a decoded answer brings. Raises ValueError.

    service.name: the ECS service, else the family of the task definition; service.version: the
    revision of the task definition, which every deployment raises; service.instance.id: the task.
    """
    if not isinstance(task, dict):
        raise ValueError("not an object")  # noqa: TRY004 (as all that is wrong with an answer)
    arn = _text(task, "TaskARN").split(":", 5)
    region, task_id = (arn[3], arn[5].rpartition("/")[2]) if len(arn) == 6 else ("", "")
    found = {
        "service.name": _text(task, "ServiceName") or _text(task, "Family"),
        "service.version": _text(task, "Revision"),
        "service.instance.id": task_id,
        "cloud.region": region,
    }
    return {name: value for name, value in found.items() if value}


def _text(task: dict[str, Any], name: str) -> str:
    value = task.get(name)
    return value if isinstance(value, str) else ""
