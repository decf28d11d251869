"""`sortition schedules`: what rollouts go by, under names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from . import completion, options, rollout_body
from .api import Api, Failure
from .exits import ERROR, USAGE
from .output import Noun, clean, difference, duration, percent, say, table

SCHEDULES = "/api/v1/schedules"

SHOWN = ("text", "description")
"""What a diff shows."""

MOST_STEPS = 6
"""What a list shows of a schedule."""

NAME = click.argument("name", shell_complete=completion.schedules)


@click.group(cls=Noun)
def schedules() -> None:
    """Schedules: what rollouts go by, under names; each environment has its own."""


# --- looking --------------------------------------------------------------------------------------


@schedules.command("list")
@options.environment(help="Only what can be named there.")
@click.pass_context
def list_schedules(context: click.Context, environment: str | None) -> None:
    """List schedules: what is built in, then templates."""
    content = options.api(context).get(SCHEDULES, environment=environment)
    rows = [
        [
            it["name"],
            it["environment"] or "built in",
            _short(it["text"]),
            duration(it["duration"]),
            ", ".join(_defaults(content["defaults"], it)),
        ]
        for it in content["schedules"]
    ]
    columns = ("Schedule", "Environment", "Steps", "Takes>", "Default of")
    say(context, content, table(*columns, rows=rows))


def _short(text: str) -> str:
    """Return steps so that they fit on a line: `10%:1m,20%:1m,30%:1m,…,100%`."""
    steps = text.split(",")
    return text if len(steps) <= MOST_STEPS else ",".join([*steps[:3], "…", steps[-1]])


@schedules.command("get")
@NAME
@options.environment(required=True, help="Where.")
@click.pass_context
def get_schedule(context: click.Context, name: str, environment: str) -> None:
    """Show what a name means in an environment, step by step."""
    it = options.api(context).get(_path(environment, name))
    say(context, it)
    if context.find_root().params.get("as_json"):
        return
    where = f"revision {it['revision']}" if it["environment"] else "built in"
    click.echo(f"{name} in {environment}, {where}, {duration(it['duration'])} in all")
    if it["description"]:
        click.echo(clean(it["description"]))
    click.echo(f"{it['text']}\n")
    say(context, None, table("Step>", "Share>", "Hold", "Asks for", rows=_steps(it)))


def _steps(it: Mapping[str, Any]) -> list[list[str]]:
    steps = it["steps"]
    holds = [*(duration(step["hold"]) for step in steps[:-1]), _bake(it)]
    return [
        [str(number), percent(step["share"]), hold, ", ".join(_conditions(step))]
        for number, (step, hold) in enumerate(zip(steps, holds, strict=True), 1)
    ]


def _bake(it: Mapping[str, Any]) -> str:
    if not it["bake"]:
        return "complete"
    kept = f" with {percent(it['keep'])} on the old version" if it.get("keep") else ""
    return f"{duration(it['bake'])}{kept}, then complete"


def _conditions(step: Mapping[str, Any]) -> list[str]:
    sample = step["minimum_sample"]
    return [
        *(["approval"] if step["approval"] else []),
        *([f"{sample} requests"] if sample is not None else []),
    ]


def _defaults(defaults: Mapping[str, str], it: Mapping[str, Any]) -> list[str]:
    """Return the environments whose default a schedule is."""
    return [
        environment
        for environment, name in defaults.items()
        if name == it["name"] and it["environment"] in {None, environment}
    ]


# --- changing -------------------------------------------------------------------------------------


@schedules.command("set")
@NAME
@click.argument("steps", required=False)
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML or JSON that says it: steps (share, hold, approval, minimum_sample), bake, keep, "
    "end.",
)
@options.environment(required=True, help="Where.")
@click.option("--description", help="What it is for.")
@options.write()
@click.pass_context
def set_schedule(context: click.Context, /, name: str, environment: str, **given: Any) -> None:
    """Keep STEPS under a name, as in 5%:5m,25%:10m,100%; or what a file says.

    Rollouts that run keep the steps that they began with.
    """
    write = options.gather(given)
    body = _body(given["steps"], given["path"], given["description"])
    api, where = options.api(context), _path(environment, name)
    before = _before(api, where)
    if before is not None:
        body.setdefault("description", before["description"])
    try:
        plan, _ = api.send("PUT", where, body, query={"dry_run": 1})
        if write.dry_run:
            _print_plan(context, name, environment, plan, before)
            return
        if write.reason is not None:
            body["reason"] = write.reason
        seen = before["revision"] if before is not None else None
        revision = seen if write.if_revision is None else write.if_revision
        kept, _ = api.send(
            "PUT", where, body, revision=revision, idempotency_key=write.idempotency_key
        )
    except Failure as failure:
        raise _placed(failure, given["path"]) from None
    say(context, kept, f"✔ {name} in {environment}: {kept['text']}, revision {kept['revision']}.")


@schedules.command("delete")
@NAME
@options.environment(required=True, help="Where.")
@options.write()
@click.pass_context
def delete_schedule(context: click.Context, /, name: str, environment: str, **given: Any) -> None:
    """Take a template away. Rollouts that run keep the steps that they began with."""
    write = options.gather(given)
    api, where = options.api(context), _path(environment, name)
    before = api.get(where)
    if write.dry_run:
        words = f"would delete {name} in {environment}, revision {before['revision']}"
        say(context, {"dry_run": True, "delete": before}, f"{words}: {before['text']}")
        return
    revision = before["revision"] if write.if_revision is None else write.if_revision
    done, _ = api.send(
        *("DELETE", where, {"reason": write.reason} if write.reason else {}),
        revision=revision,
        idempotency_key=write.idempotency_key,
    )
    say(context, done, f"✔ {name} in {environment} is gone.")


def _path(environment: str, name: str) -> str:
    return f"{SCHEDULES}/{environment}/{name}"


def _body(steps: str | None, path: Path | None, description: str | None) -> dict[str, Any]:
    """Return what is to be kept. Raises UsageError, Failure."""
    if (steps is None) == (path is None):
        raise click.UsageError("Give STEPS, or a file (-f).")
    body: dict[str, Any] = {"schedule": steps} if path is None else _of_file(path)
    if description is not None:
        body["description"] = description
    return body


def _of_file(path: Path) -> dict[str, Any]:
    """Return the body that a file says: steps at its top, or text under `schedule`."""
    told = rollout_body.read(path, "steps, bake, description, …")
    if "schedule" in told:
        return told
    said = {name: told.pop(name) for name in ("description",) if name in told}
    return {"schedule": told, **said}


def _before(api: Api, path: str) -> dict[str, Any] | None:
    """Return the template that is there, or None."""
    try:
        found = api.get(path)
    except Failure as failure:
        if failure.more.get("code") != "not_found":
            raise
        return None
    # A name that is built in is for the server to refuse.
    return dict(found) if found["environment"] else None


def _print_plan(
    context: click.Context,
    name: str,
    environment: str,
    plan: Mapping[str, Any],
    before: Mapping[str, Any] | None,
) -> None:
    head = "new" if before is None else f"revision {before['revision']}"
    changes = difference(dict(plan["before"] or {}), dict(plan["after"]), SHOWN)
    lines = [f"{name} · {environment} · {head}", *(changes or ["nothing changes"])]
    say(context, {"dry_run": True, **plan}, "\n".join(lines))


def _placed(failure: Failure, path: Path | None) -> Failure:
    """Return a refusal with the place in STEPS or in the file that it is about."""
    parts = str(failure.more.get("field", "")).strip("/").split("/")
    if parts[0] != "schedule":
        return failure
    place = ".".join(parts[1:])
    what = "STEPS" if path is None else f"{path}: {place}" if place else str(path)
    detail = failure.more.get("detail", failure.message)
    code = USAGE if path is None else ERROR
    return Failure(f"{what}: {detail}", code, **failure.more)
