"""`sortition user`: people who sign in to the admin pages, and in which roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from . import options
from .output import Noun, say, table

ROLES = ("viewer", "responder", "editor", "releaser", "auditor", "admin")

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(cls=Noun)
def user() -> None:
    """People: invited by a link, signed in by a password, with a role in each environment."""


def roles(command: Command) -> Command:
    """Add the options that give roles."""
    where = click.option(
        "--role-in",
        "elsewhere",
        metavar="ENV=ROLE",
        multiple=True,
        help="Another role in one environment; again for more.",
    )
    role = click.option("--role", type=click.Choice(ROLES), help="Where nothing else is said.")
    return role(where(command))


@user.command("list")
@click.pass_context
def list_people(context: click.Context) -> None:
    """List people, by name."""
    content = options.api(context).get("/api/v1/people")
    rows = [
        [
            one["id"],
            one["name"] or "(forgotten)",
            one["login"],
            one["role"],
            ", ".join(f"{name}={role}" for name, role in sorted(one["roles"].items())),
            _standing(one),
        ]
        for one in content["people"]
    ]
    columns = ("Id", "Name", "Signs in as", "Role", "Elsewhere", "Stands")
    say(context, content, table(*columns, rows=rows))


@user.command("invite")
@click.argument("login")
@click.option("--name", required=True, help="As colleagues know them.")
@roles
@options.write()
@click.pass_context
def invite(context: click.Context, /, login: str, **given: Any) -> None:
    """Invite somebody and print their link, this once; it works for three days.

    LOGIN is what they sign in as: an address or a word.
    """
    write = options.gather(given)
    body = {"login": login, **_fields(given), "reason": write.reason}
    _link(context, write, "/api/v1/people", _given(body), f"invite {login}")


@user.command("link")
@click.argument("id")
@options.write()
@click.pass_context
def link(context: click.Context, /, id: str, **given: Any) -> None:
    """Print a new link, by which they choose another password."""
    write = options.gather(given)
    body = _given({"reason": write.reason})
    _link(context, write, f"/api/v1/people/{id}/invite", body, f"make a link for {id}")


@user.command("set")
@click.argument("id")
@click.option("--name", help="Another name.")
@roles
@options.write()
@click.pass_context
def edit(context: click.Context, /, id: str, **given: Any) -> None:
    """Change a person's name or roles. Another role ends their sessions."""
    write = options.gather(given)
    path = f"/api/v1/people/{id}"
    body = _given({**_fields(given), "reason": write.reason})
    if write.dry_run:
        say(context, {"dry_run": True, "set": id, "to": body}, f"would set {id} to {body}")
        return
    api = options.api(context)
    revision = write.if_revision or api.get(path)["revision"]
    found, _ = api.send(
        "PATCH", path, body, revision=revision, idempotency_key=write.idempotency_key
    )
    say(context, found, f"✔ {found['name']} is {found['role']}, revision {found['revision']}.")


@user.command("end")
@click.argument("id")
@options.write()
@click.pass_context
def end(context: click.Context, /, id: str, **given: Any) -> None:
    """Let a person sign in no more, from now on."""
    _end(context, given, id, "end", "may not sign in any more")


@user.command("forget")
@click.argument("id")
@options.write()
@click.pass_context
def forget(context: click.Context, /, id: str, **given: Any) -> None:
    """Forget who a person was; what they did stays in the record, under the id."""
    _end(context, given, id, "forget", "is forgotten")


def _end(context: click.Context, given: dict[str, Any], id: str, verb: str, words: str) -> None:
    write = options.gather(given)
    if write.dry_run:
        say(context, {"dry_run": True, verb: id}, f"would {verb} {id}")
        return
    path, body = f"/api/v1/people/{id}/{verb}", _given({"reason": write.reason})
    found, _ = options.api(context).send("POST", path, body, idempotency_key=write.idempotency_key)
    say(context, found, f"✔ {id} {words}.")


def _link(
    context: click.Context, write: options.Write, path: str, body: dict[str, Any], words: str
) -> None:
    if write.dry_run:
        say(context, {"dry_run": True, "body": body}, f"would {words}")
        return
    api = options.api(context)
    made, _ = api.send("POST", path, body, idempotency_key=write.idempotency_key)
    say(context, made, f"{api.url}{made['path']}")


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """Return name, role and roles of what was given."""
    elsewhere: dict[str, str] = {}
    for each in given.get("elsewhere", ()):
        name, _, role = each.partition("=")
        if role not in ROLES:
            known = ", ".join(ROLES)
            raise click.BadParameter(f"{each!r} is not ENV=ROLE; roles are {known}.")
        elsewhere[name] = role
    return {"name": given["name"], "role": given["role"], "roles": elsewhere}


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value not in (None, "", {})}


def _standing(one: dict[str, Any]) -> str:
    if one["ended"]:
        return "ended"
    return "" if one["has_password"] or one["source"] != "local" else "invited"
