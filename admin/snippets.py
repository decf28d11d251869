"""How code asks a flag: texts to copy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from flagserver.domain.flags import Flag


@dataclass(frozen=True, slots=True)
class Snippet:
    """A text to copy, and for whom it is."""

    label: str
    text: str


def snippets(flag: Flag, server: str, environment: str) -> Sequence[Snippet]:
    """Return how a flag is asked. server: its address; environment: where it is tried."""
    key, default = flag.key, repr(flag.variants[flag.rest])
    asks = "is_enabled" if is_boolean(flag) else "value"
    more = "" if is_boolean(flag) else f", default={default}"
    python = f'client.{asks}("{key}", request_id{more})'
    request = f'request.{asks}("{key}"{more})'
    kind = "boolean" if is_boolean(flag) else "object"
    context = json.dumps({"context": {"targetingKey": "4bf92f3577b34da6"}})
    return (
        Snippet("Python", f"if {python}:\n    ..." if is_boolean(flag) else f"value = {python}"),
        Snippet(
            "Flask, Django, any WSGI",
            "app.wsgi_app = sortition.wsgi.Middleware(app.wsgi_app, client)\n\n"
            f"request = sortition.wsgi.current(environ)\n{request}",
        ),
        Snippet(
            "OpenFeature",
            f'client.get_{kind}_value("{key}", {default}, EvaluationContext(request_id))',
        ),
        Snippet(
            "Other languages, by HTTP",
            f"curl {server}/ofrep/v1/evaluate/flags/{key} \\\n"
            "  -H 'Authorization: Bearer srt_sdk_…' -H 'Content-Type: application/json' \\\n"
            f"  -d '{context}'",
        ),
        Snippet(
            "Try one request id",
            f"sortition flags eval {key} --env {environment} --id 4bf92f3577b34da6",
        ),
    )


def is_boolean(flag: Flag) -> bool:
    """Tell whether a flag is a plain switch."""
    on, off = flag.variants.get("on"), flag.variants.get("off")
    return len(flag.variants) == 2 and on is True and off is False
