"""`sortition doctor` and `status`: what is wrong from where you are, and what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import click

from sortition import resource

from . import options
from .api import Api, Failure
from .exits import CHECK_FAILED
from .output import JsonCommand, say

OK, WARNING, FAILED = "ok", "warning", "failed"
MARKS = {OK: "✔", WARNING: "!", FAILED: "✖"}
SKEW_SECONDS = 2.0


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, how it is, what to do."""

    check: str
    state: str
    detail: str
    advice: str = ""


@click.command(cls=JsonCommand)
@click.pass_context
def status(context: click.Context) -> None:
    """Show who the token is and which server this is."""
    found = options.api(context).get("/api/v1/status")
    where = found["environment"] or "all environments"
    words = f"{found['principal']}, scope {found['scope']}, {where}\nSortition {found['version']}"
    say(context, found, f"{words}, store {found['store']}")


@click.command(cls=JsonCommand)
@click.pass_context
def doctor(context: click.Context) -> None:
    """Look at address, server, token, clock and this service's settings; exit 9 if one fails."""
    api = context.find_object(Api)
    findings = list(examine(api if api is not None else Api("", "")))
    well = all(finding.state != FAILED for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.state]} {finding.check:<8}  {finding.detail}")
        if finding.advice:
            lines.append(f"  {'':<8}  {finding.advice}")
    say(context, {"ok": well, "checks": [asdict(f) for f in findings]}, "\n".join(lines))
    if not well:
        context.exit(CHECK_FAILED)


def examine(api: Api) -> Iterator[Finding]:
    """Look at everything, from the outside in."""
    if not api.url:
        yield Finding("address", FAILED, "none", "Set SORTITION_URL or give --url.")
    else:
        yield from _server(api)
    yield from _service()


def _server(api: Api) -> Iterator[Finding]:
    try:
        _, headers = api.send("GET", "/healthz")
    except Failure as failure:
        yield Finding("server", FAILED, failure.message, "Is it running? Is a proxy in between?")
        return
    yield Finding("server", OK, f"{api.url} answers")
    yield from _clock(headers.get("date"))
    yield _ready(api)
    yield _token(api)


def _clock(date: str | None) -> Iterator[Finding]:
    if not date:
        return
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return
    # The header has whole seconds.
    if abs(skew) > SKEW_SECONDS + 1:
        advice = "Set one of the two clocks (NTP): outcomes of a wrong time are not taken."
        yield Finding("clock", WARNING, f"{skew:+.0f} s against the server's", advice)
    else:
        yield Finding("clock", OK, "agrees with the server's")


def _ready(api: Api) -> Finding:
    try:
        found, _ = api.send("GET", "/readyz")
    except Failure as failure:
        return Finding("flags", FAILED, failure.message, "Look at the server's log and store.")
    if found["problems"]:
        return Finding("flags", WARNING, " ".join(found["problems"]), "Look at the server's store.")
    return Finding("flags", OK, "served, and changes can be made")


def _token(api: Api) -> Finding:
    if not api.token:
        return Finding("token", FAILED, "none", "Set SORTITION_TOKEN or give --token-file.")
    try:
        found: dict[str, Any] = api.get("/api/v1/status")
    except Failure as failure:
        return Finding("token", FAILED, failure.message, "Make a new one: sortition token create.")
    where = found["environment"] or "all environments"
    words = f"{found['principal']}, scope {found['scope']}, {where}, store {found['store']}"
    return Finding("token", OK, words)


def _service() -> Iterator[Finding]:
    """What an SDK started from here would have."""
    if not os.environ.get("SORTITION_KEY"):
        yield Finding("service", OK, "no SORTITION_KEY here: this is not a service's place")
        return
    here = resource.from_environment()
    if "service.version" not in here:
        advice = "Set it in OTEL_RESOURCE_ATTRIBUTES: without it there is no control group."
        yield Finding("service", WARNING, f"{here['service.name']} without service.version", advice)
    else:
        yield Finding("service", OK, f"{here['service.name']} {here['service.version']}")
