"""`sortition token`: tokens of services, pipelines and people."""

from __future__ import annotations

from typing import Any

import click

from . import options
from .output import Noun, say, table


@click.group(cls=Noun)
def token() -> None:
    """Tokens: shown once, kept as a hash, revoked at once."""


@token.command("list")
@click.pass_context
def list_tokens(context: click.Context) -> None:
    """List tokens, newest first."""
    content = options.api(context).get("/api/v1/tokens")
    rows = [
        [
            t["id"],
            t["scope"],
            t["environment"] or "all",
            "revoked" if t["revoked"] else t["expires"] or "",
            t["created"],
            t.get("last_used") or "never",
            t["description"],
        ]
        for t in content["tokens"]
    ]
    columns = ("Id", "Scope", "Environment", "Ends", "Made", "Last used", "Description")
    say(context, content, table(*columns, rows=rows))


@token.command("create")
@click.option("--scope", type=click.Choice(["sdk", "deploy", "admin"]), required=True)
@options.environment(help="The one it belongs to; sdk and deploy need one.")
@click.option("--description", default="", help="Who uses it.")
@click.option("--expires", metavar="TIME", help="As in 2027-01-31T00:00:00Z.")
@options.write()
@click.pass_context
def create_token(context: click.Context, /, **given: Any) -> None:
    """Make a token and print it, this once."""
    write = options.gather(given)
    fields = {**given, "reason": write.reason}
    body = {name: value for name, value in fields.items() if value not in (None, "")}
    if write.dry_run:
        say(context, {"dry_run": True, "create": body}, f"would create {body}")
        return
    made, _ = options.api(context).send(
        "POST", "/api/v1/tokens", body, idempotency_key=write.idempotency_key
    )
    text = made["token"] or f"Token {made['id']} was made before; its text was shown then."
    say(context, made, text)


@token.command("rotate")
@click.argument("id")
@click.option(
    *("--overlap", "overlap_hours"),
    type=click.FloatRange(0, 24 * 90),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="How long the old one goes on.",
)
@options.write()
@click.pass_context
def rotate_token(context: click.Context, /, id: str, overlap_hours: float, **given: Any) -> None:
    """Make another token in the place of one, and print it, this once."""
    write = options.gather(given)
    if write.dry_run:
        say(context, {"dry_run": True, "rotate": id}, f"would rotate {id}")
        return
    told = {"overlap_hours": overlap_hours, "reason": write.reason}
    body = {name: value for name, value in told.items() if value is not None}
    made, _ = options.api(context).send(
        "POST", f"/api/v1/tokens/{id}/rotate", body, idempotency_key=write.idempotency_key
    )
    text = made["token"] or f"Token {made['id']} was made before; its text was shown then."
    say(context, made, text)


@token.command("revoke")
@click.argument("id")
@options.write()
@click.pass_context
def revoke_token(context: click.Context, /, id: str, **given: Any) -> None:
    """End a token now; its streams end within a second."""
    write = options.gather(given)
    if write.dry_run:
        say(context, {"dry_run": True, "revoke": id}, f"would revoke {id}")
        return
    body = {"reason": write.reason} if write.reason else {}
    found, _ = options.api(context).send(
        "DELETE", f"/api/v1/tokens/{id}", body, idempotency_key=write.idempotency_key
    )
    say(context, found, f"✔ {id} is revoked.")
