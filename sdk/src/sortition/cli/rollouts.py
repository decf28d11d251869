"""`sortition rollouts`: plan one, start it, follow it, and take it back."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import click

from . import completion, exits, options, planning, rollout_body, screens, summary
from . import rollout_words as words
from .api import Api, Failure
from .options import Write
from .output import Noun, clean, console, note, say, table
from .watching import Watch, standing

F = TypeVar("F", bound=Callable[..., Any])

ROLLOUTS = "/api/v1/rollouts"


@click.group(cls=Noun)
def rollouts() -> None:
    """Rollouts: one schedule over flags and traffic, watched and taken back."""


ID = click.argument("id", shell_complete=completion.rollouts)
LIVE_ID = click.argument("id", shell_complete=completion.live_rollouts)

FILE = {"exists": True, "dir_okay": False, "path_type": Path}


def _seconds(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Return the seconds that `45m`, `1h30m` or plain seconds mean."""
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not match or not any(match.groups()):
        raise click.BadParameter(f"{text!r} is no duration: write 90s, 45m or 1h30m.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


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
            help="As in 5%:5m,25%:10m,100%; or CodeDeploy's names.  [standard]",
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
            type=float,
            help="Of the whole service, where the server has not seen it.",
        ),
    ]
    for option in reversed(found):
        command = option(command)
    return command


def watching(command: F) -> F:
    """Add the options of following a rollout."""
    found = [
        click.option(
            "--timeout",
            "seconds",
            metavar="DURATION",
            callback=_seconds,
            help="Follow it no longer than this.  [its schedule and 15m]",
        ),
        click.option("--fail-on-hold", is_flag=True, help="End with 4 when it holds or is paused."),
        click.option(
            "--summary",
            "summary_file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Append what it came to, in Markdown.",
        ),
    ]
    for option in reversed(found):
        command = option(command)
    return command


# --- before it begins -----------------------------------------------------------------------------


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
@watching
@options.write(enlarging=True)
@click.pass_context
def start_rollout(context: click.Context, /, id: str | None, watch: bool, **given: Any) -> None:
    """Start a rollout; what it will do is printed first.

    With ID: start one now that waits for its time. The same --idempotency-key twice is the same
    rollout, so a job that runs again follows the one that it started.
    """
    write = options.gather(given)
    follow = {name: given.pop(name) for name in ("seconds", "fail_on_hold", "summary_file")}
    if watch:
        _check_summary(follow["summary_file"])
    started = _start(context, given, write) if id is None else _begin(context, id, given, write)
    if started is None:
        return
    if not watch:
        say(context, started, _started(started))
        return
    note(context, _started(started))
    _follow(context, started["id"], **follow)


def _begin(
    context: click.Context, id: str, given: dict[str, Any], write: Write
) -> dict[str, Any] | None:
    environment = given.pop("environment")
    if any(given.values()):
        raise click.UsageError("With an ID nothing else can be said of the rollout: it is there.")
    return _do(context, "start", id, environment, write)


def _start(context: click.Context, given: dict[str, Any], write: Write) -> dict[str, Any] | None:
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
    confirm = _confirmed(api, write.confirm, made["environment"], "")
    made.update(_why(write.reason, confirm))
    try:
        started, _ = api.send("POST", ROLLOUTS, made, idempotency_key=write.idempotency_key)
    except Failure as failure:
        raise _placed(failure, path, given) from None
    return dict(started)


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
    return f"✔ {it['id']} is started: {words.title(it)}, {it['schedule']}."


@rollouts.command("schema")
@click.pass_context
def rollout_schema(context: click.Context) -> None:
    """Print the JSON Schema of a rollout's file, for editors."""
    # The same with --json: it is JSON already.
    click.echo(files("sortition.cli").joinpath("rollout.schema.json").read_text("utf-8"), nl=False)


# --- looking --------------------------------------------------------------------------------------


@rollouts.command("list")
@options.environment(help="Only of this one.")
@click.option("--live", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most.")
@click.pass_context
def list_rollouts(context: click.Context, environment: str | None, live: bool, limit: int) -> None:
    """List rollouts, those that have not ended first."""
    query = {"environment": environment, "live": "1" if live else None}
    found = options.api(context).send("GET", ROLLOUTS, query=query)[0]["rollouts"]
    shown, more = found[:limit], max(0, len(found) - limit)
    content = {"rollouts": shown, "left_off": more}
    if not shown:
        say(context, content, "No rollouts.")
        return
    rows = [
        [
            it["id"],
            words.state(it),
            it["environment"],
            it["service"],
            it["version"] or "–",
            words.step(it),
            it["created"],
            words.reason(it),
        ]
        for it in shown
    ]
    columns = ("Rollout", "State", "Environment", "Service", "Version", "Step", "Created", "Why")
    say(context, content, table(*columns, rows=rows))
    if more:
        note(context, f"{more} more: --limit.")


@rollouts.command("get")
@ID
@click.pass_context
def get_rollout(context: click.Context, id: str) -> None:
    """Show one rollout: steps, targets, guards."""
    it = options.api(context).get(f"{ROLLOUTS}/{id}")
    say(context, it)
    if context.find_root().params.get("as_json"):
        return
    where = console()
    where.print(screens.picture(it, where))
    for line in _history(it):
        click.echo(line)


def _history(it: Mapping[str, Any]) -> list[str]:
    """Return what else is to be said of a rollout."""
    lines = [f"\ncreated {it['created']} by {clean(it['by'])}, revision {it['revision']}"]
    lines += [f"{name} {it[name]}" for name in ("started", "ended") if it[name]]
    lines += [
        f"step {given['step']} approved {given['at']} by {clean(given['by'])}"
        for given in it["approvals"]
    ]
    if it["supersedes"]:
        lines.append(f"replaced {it['supersedes']}")
    if it["superseded_by"]:
        lines.append(f"replaced by {it['superseded_by']}")
    return lines


@rollouts.command("watch")
@LIVE_ID
@watching
@click.pass_context
def watch_rollout(context: click.Context, /, id: str, **follow: Any) -> None:
    """Follow a rollout to its end: a live table on a terminal, a line per event elsewhere.

    Ends with 0 when it is complete, 3 when it was rolled back, 7 when a newer one replaced it, 5
    when the time is up (the rollout goes on), 6 when the server never answered. Ctrl-C only ends
    the watching.
    """
    _check_summary(follow["summary_file"])
    _follow(context, id, **follow)


def _follow(
    context: click.Context,
    id: str,
    *,
    seconds: float | None,
    fail_on_hold: bool,
    summary_file: Path | None,
) -> None:
    """Follow a rollout and end the command as it ended."""
    api = options.api(context)
    as_json = bool(context.find_root().params.get("as_json"))
    with screens.screen(api, id, as_json=as_json) as screen:
        watch = Watch(api, id, screen, seconds=seconds, fail_on_hold=fail_on_hold)
        try:
            last = watch.run()
        except KeyboardInterrupt:
            last = watch.leave()
    if summary_file is not None and last.rollout is not None:
        _append(context, summary_file, summary.markdown(last.rollout, last.words))
    context.exit(exits.DONE if last.exit_code is None else last.exit_code)


def _check_summary(path: Path | None) -> None:
    """Fail now rather than after half an hour, if the summary cannot be written."""
    if path is None:
        return
    try:
        path.open("a").close()
    except OSError as error:
        raise Failure(f"--summary: {error}", exits.USAGE, code="bad_file") from None


def _append(context: click.Context, path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        # How the rollout ended matters more.
        note(context, f"--summary: {error}")


@rollouts.command("evidence")
@ID
@click.option("--limit", type=click.IntRange(1, 400), default=400, help="At most so many looks.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it into this file: JSON, or a zip where its name ends so.",
)
@click.pass_context
def rollout_evidence(context: click.Context, id: str, limit: int, out: Path | None) -> None:
    """Show what a rollout rests on: what controllers saw, and what the record says of it."""
    found = options.api(context).get(f"{ROLLOUTS}/{id}/evidence", limit=limit)
    if out is not None:
        _write_evidence(out, found)
        counts = f"{len(found['looks'])} looks, {len(found['entries'])} entries"
        say(context, {"out": str(out)}, f"✔ {out}: {counts}.")
        return
    say(context, found)
    if context.find_root().params.get("as_json"):
        return
    it = found["rollout"]
    click.echo(f"{words.title(it)}  {words.state(it)}  {words.reason(it)}".rstrip())
    looks = [
        [look["at"], look["state"], str(look["step"] + 1), look["does"], look["reason"]]
        for look in found["looks"]
    ]
    entries = [
        [str(e["seq"]), e["ts"], e["action"], e["actor"], e["reason"] or ""]
        for e in found["entries"]
    ]
    where = console()
    where.print()
    where.print(table("Looked", "State", "Step>", "Does", "Because", rows=looks))
    where.print()
    where.print(table("No.>", "When", "What", "Who", "Why", rows=entries))


def _write_evidence(out: Path, found: Mapping[str, Any]) -> None:
    text = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    try:
        if out.suffix == ".zip":
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
                packed.writestr("evidence.json", text)
                it = found["rollout"]
                packed.writestr("summary.md", summary.markdown(it, standing(it)))
        else:
            out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"--out: {error}", exits.USAGE, code="bad_file") from None


# --- on its way -----------------------------------------------------------------------------------


def _verb(name: str, words_: str, *, enlarging: bool) -> None:
    """Add a command that does one thing to a rollout."""

    @rollouts.command(name, help=words_)
    @LIVE_ID
    @options.environment(help="Only if the rollout is there.")
    @options.write(enlarging=enlarging)
    @click.pass_context
    def command(context: click.Context, /, id: str, environment: str | None, **given: Any) -> None:
        done = _do(context, name, id, environment, options.gather(given))
        if done is not None:
            why = words.reason(done)
            line = f"✔ {id}: {words.state(done)}, {words.step(done)}"
            say(context, done, f"{line}. {why}" if why else f"{line}.")


_verb("hold", "Stop the timer and every move up, until somebody resumes.", enlarging=False)
_verb(
    "resume",
    "Go on after somebody held it, or changed a target or flag of it.",
    enlarging=True,
)
_verb("advance", "Skip the rest of this step's wait.", enlarging=True)
_verb("approve", "Approve of going on from this step.", enlarging=True)
_verb(
    "rollback",
    "Take everything back to 0 %; waits for nobody and asks for nothing.",
    enlarging=False,
)

ENLARGING = frozenset({"start", "resume", "advance", "approve"})
"""What lets exposure grow: only at the revision that was seen."""


def _do(
    context: click.Context, verb: str, id: str, environment: str | None, write: Write
) -> dict[str, Any] | None:
    """Do one thing to a rollout; return it as it is then, None after a dry run.

    Holding and taking back ask nothing first, unless they are told to look at something.
    """
    api = options.api(context)
    path = f"{ROLLOUTS}/{id}"
    revision, confirm = write.if_revision, write.confirm
    looks = write.dry_run or environment is not None or revision is not None
    if verb in ENLARGING or looks:
        seen = api.get(path)
        _check_seen(seen, environment, revision)
        if write.dry_run:
            _print_dry_run(context, verb, seen)
            return None
        if verb in ENLARGING:
            revision = seen["revision"]
            what = f"{verb} {id}: {words.title(seen)}, {words.state(seen)}, {words.step(seen)}"
            confirm = _confirmed(api, confirm, seen["environment"], what)
    done, _ = api.send(
        *("POST", f"{path}/{verb}", _why(write.reason, confirm)),
        revision=revision if verb in ENLARGING else None,
        idempotency_key=write.idempotency_key,
    )
    return dict(done)


def _check_seen(seen: Mapping[str, Any], environment: str | None, revision: int | None) -> None:
    if environment is not None and seen["environment"] != environment:
        message = f"{seen['id']} is in {seen['environment']}, not in {environment}."
        raise Failure(message, exits.USAGE, code="usage")
    if revision is not None and seen["revision"] != revision:
        now = seen["revision"]
        message = f"{seen['id']} is at revision {now} now. Look again (`get`), then repeat it."
        raise Failure(message, exits.CONFLICT, code="stale_revision", revision=now)


def _print_dry_run(context: click.Context, verb: str, seen: Mapping[str, Any]) -> None:
    text = f"would {verb} {seen['id']}: {words.title(seen)}, {words.state(seen)}, "
    text += f"{words.step(seen)}, revision {seen['revision']}"
    if seen["terminal"]:
        text += "; but it has ended"
    say(context, {"dry_run": True, "verb": verb, "rollout": seen}, text)


def _confirmed(api: Api, given: str | None, environment: str, what: str) -> str | None:
    """Return the confirmation, asked for on a terminal where it is needed."""
    if given is not None:
        return given
    if not options.is_interactive():
        return None
    critical = api.get(f"/api/v1/environments/{environment}")["critical"]
    return options.confirmed(None, environment, needed=critical, what=what)


def _why(reason: str | None, confirm: str | None) -> dict[str, Any]:
    body = {"reason": reason, "confirm_environment": confirm}
    return {name: text for name, text in body.items() if text is not None}
