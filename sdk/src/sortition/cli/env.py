"""`sortition env`: environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import completion, options, rollout_body
from .api import Failure
from .exits import USAGE
from .output import Noun, say, table

KEY = click.argument("key", shell_complete=completion.environments)
CRITICAL = click.option(
    "--critical/--not-critical", default=None, help="Whether enlarging there needs confirmation."
)
UNIFORM = click.option(
    "--uniform/--not-uniform",
    default=None,
    help="Whether conditions on region or instance are refused there.",
)
FOUR_EYES = click.option(
    "--four-eyes/--no-four-eyes",
    default=None,
    help="Whether enlarging waits there for a second person.",
)


@click.group(cls=Noun)
def env() -> None:
    """Environments: where flags have their state."""


@env.command("list")
@click.pass_context
def list_environments(context: click.Context) -> None:
    """List environments."""
    content = options.api(context).get("/api/v1/environments")
    rows = [
        [
            e["key"],
            ", ".join(filter(None, (e["critical"] and "critical", e["four_eyes"] and "four eyes"))),
            e["default_schedule"],
            e["description"],
            str(e["revision"]),
        ]
        for e in content["environments"]
    ]
    columns = ("Environment", "", "Schedule", "Description", "Revision>")
    say(context, content, table(*columns, rows=rows))


@env.command("get")
@click.argument("key", required=False, shell_complete=completion.environments)
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The one that this rollout's file names.",
)
@click.pass_context
def get_environment(context: click.Context, key: str | None, path: Path | None) -> None:
    """Show one environment."""
    if (key is None) is (path is None):
        raise click.UsageError("Give KEY, or the file of a rollout.")
    key = key or _named(path)
    found = options.api(context).get(f"/api/v1/environments/{key}")
    critical = ", critical" if found["critical"] else ""
    lines = [
        f"{key}{critical}, revision {found['revision']}",
        found["description"],
        f"rollouts go by {found['default_schedule']} unless they say otherwise",
        "enlarging waits for a second person" if found["four_eyes"] else "",
        "serves every region and instance alike" if found["uniform"] else "",
        f"the record keeps bodies for {found['retention_days']} days",
    ]
    say(context, found, "\n".join(filter(None, lines)))


def _named(path: Path | None) -> str:
    """Return the environment that a rollout's file names. Raises Failure."""
    named = None if path is None else rollout_body.read(path).get("environment")
    if not isinstance(named, str):
        raise Failure(f"{path}: environment is missing.", USAGE, code="bad_file")
    return named


@env.command("create")
@click.argument("key")
@click.option("--description", default="", help="What it is for.")
@CRITICAL
@UNIFORM
@FOUR_EYES
@options.write()
@click.pass_context
def create_environment(context: click.Context, /, key: str, **given: Any) -> None:
    """Create an environment in which every flag exposes nobody."""
    write = options.gather(given)
    body = {"key": key, **_body(given, write.reason)}
    if write.dry_run:
        say(context, {"dry_run": True, "create": body}, f"would create {body}")
        return
    found, _ = options.api(context).send(
        "POST", "/api/v1/environments", body, idempotency_key=write.idempotency_key
    )
    say(context, found, f"✔ {key} created.")


@env.command("set")
@KEY
@click.option("--description", help="What it is for.")
@CRITICAL
@UNIFORM
@FOUR_EYES
@click.option(
    "--schedule",
    "default_schedule",
    metavar="NAME|STEPS",
    shell_complete=completion.schedules,
    help="What its rollouts go by that name none.",
)
@click.option(
    "--retention-days",
    type=int,
    help="How long the record keeps what it says of it; hashes stay. 90 at first.",
)
@options.write()
@click.pass_context
def set_environment(context: click.Context, /, key: str, **given: Any) -> None:
    """Change an environment."""
    write = options.gather(given)
    body = _body(given, write.reason)
    api = options.api(context)
    before = api.get(f"/api/v1/environments/{key}")
    if write.dry_run:
        changed = {k: v for k, v in body.items() if before.get(k, v) != v}
        say(context, {"dry_run": True, "change": changed}, f"would change {changed}")
        return
    revision = before["revision"] if write.if_revision is None else write.if_revision
    found, _ = api.send(
        *("PATCH", f"/api/v1/environments/{key}", body),
        revision=revision,
        idempotency_key=write.idempotency_key,
    )
    say(context, found, f"✔ {key} changed, revision {found['revision']}.")


def _body(given: dict[str, Any], reason: str | None) -> dict[str, Any]:
    body = {**given, "reason": reason}
    return {name: value for name, value in body.items() if value not in (None, "")}
