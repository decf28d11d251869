"""A service that gunicorn loads before it forks: its client was made in the parent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import sortition
from sortition.wsgi import Middleware, current

client = sortition.Client()
assert client.wait_ready(10)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Tell who serves, who loaded it, and what the flag is."""
    start_response("200 OK", [("Content-Type", "application/json")])
    told = {
        "worker": os.getpid(),
        "on": current(environ).is_enabled("search"),
        "errors": client.status().as_json()["errors"],
    }
    return [json.dumps(told).encode()]


app = Middleware(application, client)
