"""`sortition approvals`: what waits for a second person, who approves on its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from . import exits, options, proposed
from .api import Api, Failure
from .output import Noun, say, table

T = TypeVar("T")

APPROVALS = "/api/v1/approvals"
STATES = ("open", "approved", "withdrawn", "lapsed", "expired")

POLL_SECONDS = 5.0

ENDS = {
    "withdrawn": (exits.NOT_PERMITTED, "was withdrawn"),
    "expired": (exits.NOT_PERMITTED, "has expired: nobody approved in time"),
    "lapsed": (exits.CONFLICT, "has lapsed: what it was about has changed"),
}
"""State -> how a command ends that waited, and why."""


@click.group(cls=Noun)
def approvals() -> None:
    """What waits for a second person. A person approves, on its page; no token does."""


@approvals.command("list")
@options.environment(help="Only of this one.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state.")
@click.pass_context
def list_approvals(context: click.Context, environment: str | None, state: str | None) -> None:
    """List what waits, and what has waited in the last 30 days, newest first."""
    content = options.api(context).get(APPROVALS, environment=environment, state=state)
    rows = [
        [one["id"], one["state"], one["environment"], one["summary"], one["author"], one["expires"]]
        for one in content["approvals"]
    ]
    columns = ("Id", "State", "Environment", "What", "Who asked", "Until")
    say(context, content, table(*columns, rows=rows))


@approvals.command("show")
@click.argument("id")
@click.pass_context
def show(context: click.Context, id: str) -> None:
    """Show what somebody asked for with all that it would do, how it stands, and where it is
    approved."""
    api = options.api(context)
    found = api.get(f"{APPROVALS}/{id}")
    lines = [
        f"{id}: {found['summary']} in {found['environment']}, {found['state']}",
        f"asked by {found['author']} at {found['created']}",
        f"because: {found['reason']}" if found["reason"] else "",
        *proposed.lines(found),
        f"hash {found['hash']}",
        _standing(api, found),
    ]
    say(context, found, "\n".join(filter(None, lines)))


@approvals.command("withdraw")
@click.argument("id")
@options.write()
@click.pass_context
def withdraw(context: click.Context, /, id: str, **given: Any) -> None:
    """Let something wait no longer: for who asked for it, and for who may hold and kill there."""
    write = options.gather(given)
    if write.dry_run:
        say(context, {"dry_run": True, "withdraw": id}, f"would withdraw {id}")
        return
    body = {} if write.reason is None else {"reason": write.reason}
    path, key = f"{APPROVALS}/{id}/withdraw", write.idempotency_key
    found, _ = options.api(context).send("POST", path, body, idempotency_key=key)
    say(context, found, f"✔ {id} is withdrawn.")


def patiently(
    context: click.Context, seconds: float | None, start: Callable[[], T]
) -> T | dict[str, Any]:
    """Start a rollout; where that waits for a second person, wait so long for them and return the
    rollout that came of it.

    seconds: None waits for nobody.  The start is not asked for again: what waits may be of an
    earlier run with another idempotency key, under which it would be another start.
    """
    try:
        return start()
    except Failure as failure:
        id = failure.more.get("approval")
        if seconds is None or not isinstance(id, str):
            raise
        api = options.api(context)
        # With --json too: whoever reads the job's log has to know where.
        click.echo(f"… {id} waits for a second person, at {api.url}/approvals/{id}", err=True)
        return _outcome(api, _approved(api, id, seconds))


def _outcome(api: Api, approved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rollout that came of what was approved."""
    return dict(api.get(f"/api/v1/rollouts/{approved['outcome'].removeprefix('rollout/')}"))


def _approved(api: Api, id: str, seconds: float) -> dict[str, Any]:
    """Return it once it is approved. Raises Failure when it never will be, or the time is up."""
    until = api.monotonic() + seconds
    while True:
        found = _found(api, id)
        state = None if found is None else found["state"]
        if found is not None and state == "approved":
            return found
        if state in ENDS:
            code, words = ENDS[state]
            raise Failure(f"{id} {words}.", code, code=f"approval_{state}", approval=id)
        if api.monotonic() >= until:
            words = f"Nobody has approved of {id} yet; it goes on waiting."
            raise Failure(words, exits.TIMED_OUT, code="approval_awaited", approval=id)
        api.sleep(min(POLL_SECONDS, max(0.0, until - api.monotonic())))


def _found(api: Api, id: str) -> dict[str, Any] | None:
    """Return it, None while nobody answers."""
    try:
        return dict(api.get(f"{APPROVALS}/{id}"))
    except Failure as failure:
        if failure.passes:
            return None
        raise


def _standing(api: Api, found: dict[str, Any]) -> str:
    if found["state"] == "open":
        return f"waits until {found['expires']}, at {api.url}{found['page']}"
    if found["state"] == "approved":
        return f"approved by {found['by']} at {found['ended']}: {found['outcome']}"
    return f"ended at {found['ended']} by {found['by']}" if found["by"] else ""
