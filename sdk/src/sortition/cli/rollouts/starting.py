"""`plan`, `start`, `schema`: what a rollout is to be, and its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from .. import completion, exits, options, planning, rollout_body
from .. import rollout_words as words
from ..api import Api, Failure
from ..approvals import patiently
from ..options import Write
from ..output import console, note, say
from .changing import confirmed, do, why
from .following import FOLLOWING, check_summary, follow, seconds_of, watching
from .group import ROLLOUTS, F, rollouts

FILE = {"exists": True, "dir_okay": False, "path_type": Path}


def describing(command: F) -> F:
    """Add the options that say what a rollout is to be."""
    found = [
        click.option(
            "-f",
            "--file",
            "path",
            type=click.Path(**FILE),  # type: ignore[arg-type]
            help="YAML or JSON that says it; options come before it.",
        ),
        options.environment(help="Where."),
        click.option("--service", help="The service, as its service.name says."),
        click.option("--version", help="The new service.version; needed where traffic moves."),
        click.option(
            "--schedule",
            metavar="NAME|STEPS",
            shell_complete=completion.schedules,
            help="A template (`sortition schedules list`), or as in 5%:5m,25%:10m,100%.  "
            "[the environment's]",
        ),
        click.option(
            "--relation",
            type=click.Choice(["lock_step", "on_canary", "after"]),
            help="How flags and traffic relate.  [lock_step]",
        ),
        click.option(
            "--flag",
            "flags",
            multiple=True,
            metavar="KEY",
            shell_complete=completion.flags,
            help="A flag to move. Repeat for each.",
        ),
        click.option(
            "--alb",
            "albs",
            multiple=True,
            metavar="RULE_ARN,canary=ARN,stable=ARN",
            help="A load balancer's rule (or listener: its default rule) with its two groups.",
        ),
        click.option(
            "--codedeploy",
            "deployments",
            multiple=True,
            metavar="DEPLOYMENT_ID|APP/GROUP",
            help="A CodeDeploy deployment to ECS to follow, or the one that runs in a group.",
        ),
        click.option(
            "--until",
            metavar="TIME",
            help="A split: hold the last share (as in 50%:end) until then, as in "
            "2027-01-31T22:00:00Z.",
        ),
        click.option(
            "--guards",
            type=click.Choice(["standard", "none"]),
            help="What takes it back; a file may name each.  [standard]",
        ),
        click.option(
            "--alarm",
            "alarms",
            multiple=True,
            metavar="NAME",
            help="A CloudWatch alarm that takes it back. Repeat for each.",
        ),
        click.option(
            "--requests-per-second",
            "--rate",
            "requests_per_second",
            type=float,
            help="Of the whole service, where the server has not seen it.",
        ),
    ]
    for option in reversed(found):
        command = option(command)
    return command


@rollouts.command("plan")
@describing
@click.option("--check", is_flag=True, help="End with 9 when its start would be refused now.")
@click.pass_context
def plan_rollout(context: click.Context, /, path: Path | None, check: bool, **given: Any) -> None:
    """Print what every step would really do; nothing is changed."""
    made = rollout_body.body(path, given.pop("environment"), given)
    plan = _plan(options.api(context), made, path, given)
    _print_plan(context, plan)
    if check and plan["problems"]:
        context.exit(exits.CHECK_FAILED)


@rollouts.command("start")
@click.argument("id", required=False, shell_complete=completion.live_rollouts)
@describing
@click.option("--at", "start_at", metavar="TIME", help="Later, as in 2027-01-31T22:00:00Z.")
@click.option("--replace", is_flag=True, help="Take over from a rollout of the same targets.")
@click.option("--watch", is_flag=True, help="Then follow it, as `watch` does.")
@click.option(
    "--wait-for-approval",
    "patience",
    metavar="DURATION",
    callback=seconds_of,
    help="Where a second person has to approve: wait so long for them.",
)
@watching
@options.write(enlarging=True)
@click.pass_context
def start_rollout(
    context: click.Context,
    /,
    id: str | None,
    watch: bool,
    patience: float | None,
    **given: Any,
) -> None:
    """Start a rollout; what it will do is printed first.

    With ID: start one now that waits for its time. The same --idempotency-key twice is the same
    rollout, so a job that runs again follows the one that it started.
    """
    write = options.gather(given)
    followed = {name: given.pop(name) for name in FOLLOWING}
    if followed["hold_if_lost"]:
        # From its beginning: between the start and the first look at it nobody would be missed.
        given["hold_if_lost"] = f"{followed['lost_after']:.0f}s"
    if watch:
        check_summary(followed["summary_file"])
    if id is None:
        started = _start(context, given, write, patience)
    else:
        begin = partial(_begin, context, id, given.pop("environment"), given, write)
        started = patiently(context, patience, begin)
    if started is None:
        return
    if not watch:
        say(context, started, _started(started))
        return
    note(context, _started(started))
    follow(context, started["id"], **followed)


def _begin(
    context: click.Context,
    id: str,
    environment: str | None,
    given: dict[str, Any],
    write: Write,
) -> dict[str, Any] | None:
    if any(given.values()):
        raise click.UsageError("With an ID nothing else can be said of the rollout: it is there.")
    return do(context, "start", id, environment, write)


def _start(
    context: click.Context, given: dict[str, Any], write: Write, patience: float | None
) -> dict[str, Any] | None:
    if write.if_revision is not None:
        raise click.UsageError("--if-revision is for a rollout that is there; give its ID.")
    path = given.pop("path")
    made = rollout_body.body(path, given.pop("environment"), given)
    api = options.api(context)
    plan = _plan(api, made, path, given)
    if write.dry_run:
        _print_plan(context, plan)
        return None
    if not context.find_root().params.get("as_json"):
        console(err=True).print(planning.shown(plan, problems=False))
    confirm = confirmed(api, write.confirm, made["environment"], "")
    made.update(why(write.reason, confirm))

    def send() -> dict[str, Any]:
        key = write.idempotency_key
        return dict(api.send("POST", ROLLOUTS, made, idempotency_key=key)[0])

    try:
        return patiently(context, patience, send)
    except Failure as failure:
        raise _placed(failure, path, given) from None


def _plan(
    api: Api, made: Mapping[str, Any], path: Path | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        plan, _ = api.send("POST", f"{ROLLOUTS}/plan", rollout_body.planned(made))
    except Failure as failure:
        raise _placed(failure, path, given) from None
    return dict(plan)


def _placed(failure: Failure, path: Path | None, given: Mapping[str, Any]) -> Failure:
    return failure if path is None else rollout_body.in_the_file(path, failure, given)


def _print_plan(context: click.Context, plan: dict[str, Any]) -> None:
    say(context, plan)
    if not context.find_root().params.get("as_json"):
        console().print(planning.shown(plan))


def _started(it: Mapping[str, Any]) -> str:
    if it["terminal"]:
        return f"{words.state(it)}: {it['id']} was started before and has ended."
    if it["state"] == "pending" and it["start_at"] and it["start_at"] != it["created"]:
        return f"✔ {it['id']} starts at {it['start_at']}."
    return f"✔ {it['id']} is started: {words.title(it)}, {words.schedule(it)}."


@rollouts.command("schema")
@click.pass_context
def rollout_schema(context: click.Context) -> None:
    """Print the JSON Schema of a rollout's file, for editors."""
    # The same with --json: it is JSON already.
    click.echo(files("sortition.cli").joinpath("rollout.schema.json").read_text("utf-8"), nl=False)
