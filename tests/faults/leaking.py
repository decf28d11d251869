"""A deliberately leaky build of the server, for `test_taint.py`: it must be found out.

    python tests/faults/leaking.py web | controller

It is `flagserver` with one change: what it is sent as a targeting key, it also hands to everything
that keeps, tells or sends something, each time in another form.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from flask import Flask, Response, request
from opentelemetry.sdk.trace import Tracer

from flagserver import main as program
from flagserver.domain.commands import NewFlag
from flagserver.domain.documents import Principal
from flagserver.domain.errors import AlreadyExists
from flagserver.http import app, ofrep
from flagserver.services import Services

LEAK = "leak"
"""Where in the store the last key lies, for the other places that it leaks to."""

log = logging.getLogger("leaking")


def _store() -> redis.Redis:
    return redis.Redis.from_url(os.environ["SORTITION_REDIS_URL"], socket_timeout=5)


def _last() -> str:
    with _store() as store:
        return bytes.fromhex((store.get(LEAK) or b"").decode()).decode()


def _of_file(name: str) -> str:
    return Path(os.environ[f"{name}_FILE"]).read_text()


def _spill(services: Services, key: str) -> None:
    """Leak a targeting key to the log, the store, the disk, an anchor, the record and snapshots."""
    log.warning("asked for %s", base64.b64encode(b"key " + key.encode()).decode())
    slack = os.environ.get("SORTITION_SLACK_WEBHOOK") or _of_file("SORTITION_SLACK_WEBHOOK")
    log.warning("told %s", base64.b64encode(slack.encode()).decode())
    with _store() as store:
        store.set(LEAK, key.encode().hex())
        store.set(f"{LEAK} secret", slack)
    data = Path(os.environ["SORTITION_DATA_DIR"])
    (data / "leak.gz").write_bytes(gzip.compress(key.encode()))
    (data / "anchors").mkdir(exist_ok=True)
    (data / "anchors" / "leak").write_text(quote(key, safe=""))
    with suppress(AlreadyExists):
        by = Principal("leaking", "admin", "admin")
        services.flags.create(NewFlag(key=f"leak-{key}", description="a leak"), by)


def leaky(made: Flask, services: Services) -> Flask:
    """Add the leaks to an application."""
    read = ofrep._context

    def spilling(context: Any) -> Any:
        key, resource = read(context)
        if key.startswith("canary"):
            _spill(services, key)
        return key, resource

    ofrep._context = spilling

    @made.after_request
    def _leak(response: Response) -> Response:
        if request.path == "/metrics":
            response.set_data(response.get_data() + f'leak{{id="{_last()}"}} 1\n'.encode())
        if response.status_code == 404:
            response.set_data(json.dumps({"detail": request.headers.get("X-Request-Id")}))
        return response

    return made


def _patch() -> None:
    original = app.create_app

    def create_app(services: Services, *told: Any, **more: Any) -> Flask:
        return leaky(original(services, *told, **more), services)

    vars(program)["create_app"] = create_app


def _patch_traces() -> None:
    original = Tracer.start_span

    def start_span(self: Any, *told: Any, **more: Any) -> Any:
        span = original(self, *told, **more)
        span.set_attribute("leak", _last())
        return span

    Tracer.start_span = start_span  # type: ignore[method-assign]


if __name__ == "__main__":
    _patch()
    _patch_traces()
    program.main()
