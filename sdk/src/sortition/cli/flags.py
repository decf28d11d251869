"""`sortition flags`: look at flags, ramp them, kill them, ask why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from . import apply as applying
from . import completion, options
from .api import Failure
from .evaluating import evaluate_offline
from .exits import USAGE
from .output import (
    Noun,
    compact,
    console,
    difference,
    note,
    percent,
    say,
    state_words,
    table,
)

SHOWN = ("share", "weights", "conditions", "prerequisites", "killed")


@click.group(cls=Noun)
def flags() -> None:
    """Flags and their state in each environment."""


KEY = click.argument("key", shell_complete=completion.flags)


@flags.command("list")
@options.environment(help="Only this environment's column.")
@click.option("--archived", is_flag=True, help="With archived flags.")
@click.option("--query", "-q", help="Text in key, description or owner.")
@click.pass_context
def list_flags(
    context: click.Context, environment: str | None, archived: bool, query: str | None
) -> None:
    """List flags with their share in each environment."""
    api = options.api(context)
    query_string = {"archived": "1" if archived else None, "q": query}
    content = api.send("GET", "/api/v1/flags", query=query_string)[0]
    found = content["flags"]
    names = list(found[0]["environments"]) if found else []
    if environment is not None:
        names = [environment]
    rows = [
        [
            flag["key"] + (" (archived)" if flag["archived"] else ""),
            *(
                state_words(flag["environments"][name])
                for name in names
                if name in flag["environments"]
            ),
            flag["owner"],
            flag["description"],
        ]
        for flag in found
    ]
    if not rows:
        say(context, content, "No flags.")
        return
    say(
        context,
        content,
        table("Flag", *(f"{n}>" for n in names), "Owner", "Description", rows=rows),
    )


@flags.command("get")
@KEY
@click.pass_context
def get_flag(context: click.Context, key: str) -> None:
    """Show one flag."""
    flag = options.api(context).get(f"/api/v1/flags/{key}")
    say(context, flag)
    if context.find_root().params.get("as_json"):
        return
    click.echo(f"{flag['key']}  {flag['description']}".rstrip())
    click.echo(
        f"{flag['kind']}, owner {flag['owner'] or '–'}, revision {flag['revision']}"
        + (", archived" if flag["archived"] else "")
    )
    variants = ", ".join(f"{name} = {compact(value)}" for name, value in flag["variants"].items())
    click.echo(f"variants: {variants}; rest: {flag['rest']}\n")
    rows = [
        [name, state_words(state), _weights(state), _limits(state), str(state["revision"])]
        for name, state in flag["environments"].items()
    ]
    console().print(
        table("Environment", "Share>", "Variants", "Only where", "Revision>", rows=rows)
    )


@flags.command("create")
@click.argument("key")
@click.option("--description", default="", help="What it is for.")
@click.option("--owner", default="", help="The team that owns it.")
@click.option("--kind", type=click.Choice(["temporary", "permanent"]), default="temporary")
@click.option("--variant", "variants", multiple=True, metavar="NAME=JSON", help="Repeat for each.")
@click.option("--rest", help="The variant of all who are not exposed.  [off]")
@options.write()
@click.pass_context
def create_flag(context: click.Context, /, key: str, **given: Any) -> None:
    """Create a flag that exposes nobody anywhere.

    Without --variant it is boolean: on and off.
    """
    write = options.gather(given)
    body: dict[str, Any] = {
        name: given[name] for name in ("description", "owner", "kind") if given[name]
    }
    body["key"] = key
    if given["variants"]:
        body["variants"] = dict(_variant(text) for text in given["variants"])
    if given["rest"]:
        body["rest"] = given["rest"]
    if write.reason:
        body["reason"] = write.reason
    if write.dry_run:
        say(context, {"dry_run": True, "create": body}, f"would create {compact(body)}")
        return
    flag, _ = options.api(context).send(
        "POST", "/api/v1/flags", body, idempotency_key=write.idempotency_key
    )
    say(context, flag, f"✔ {key} created; it exposes nobody yet.")


@flags.command("set")
@KEY
@options.environment(required=True, help="Where.")
@click.option("--share", type=float, metavar="PERCENT", help="How much is exposed.")
@click.option("--weight", "weights", multiple=True, metavar="VARIANT=PERCENT", help="Of the share.")
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    metavar="'ATTRIBUTE OPERATOR VALUE,…'",
    help="Only where this holds, as in 'service.version in 2.0,2.1'; 'none' takes all away.",
)
@click.option(
    "--require",
    "prerequisites",
    multiple=True,
    metavar="FLAG=VARIANT",
    help="Only with this; 'none' takes all away.",
)
@options.write(enlarging=True)
@click.pass_context
def set_flag(context: click.Context, /, key: str, environment: str, **given: Any) -> None:
    """Change share, weights, conditions or prerequisites in an environment."""
    write = options.gather(given)
    body = _state_body(given)
    if not body:
        message = "Nothing to change: give --share, --weight, --condition or --require."
        raise click.UsageError(message)
    api = options.api(context)
    path = _state_path(key, environment)
    revision = write.if_revision
    if revision is None:
        revision = api.get(path)["revision"]
    plan, _ = api.send("PATCH", path, body, query={"dry_run": 1}, revision=revision)
    lines = [f"{key} · {environment} · revision {revision}"]
    lines += difference(plan["before"], plan["after"], SHOWN) or ["nothing changes"]
    if write.dry_run:
        say(context, {"dry_run": True, **plan}, "\n".join(lines))
        return
    confirm = write.confirm
    if plan["enlarges"] and confirm is None:
        critical = api.get(f"/api/v1/environments/{environment}")["critical"]
        confirm = options.confirmed(None, environment, needed=critical, what="\n".join(lines))
    body.update(_why(write.reason, confirm))
    state, _ = api.send(
        "PATCH", path, body, revision=revision, idempotency_key=write.idempotency_key
    )
    words = f"✔ {key} in {environment}: {state_words(plan['before'])} → {state_words(state)}"
    say(context, state, f"{words}, revision {state['revision']}")


@flags.command("kill")
@KEY
@options.environment(required=True, help="Where.")
@options.write()
@click.pass_context
def kill_flag(context: click.Context, /, key: str, environment: str, **given: Any) -> None:
    """Serve the rest variant to everybody, now. The share is kept for later."""
    write = options.gather(given)
    api = options.api(context)
    path = _state_path(key, environment)
    if write.dry_run:
        state = api.get(path)
        rest = api.get(f"/api/v1/flags/{key}")["rest"]
        words = f"{key} · {environment} · {state_words(state)} → killed: everybody gets {rest}"
        say(context, {"dry_run": True, "before": state}, words)
        return
    state, _ = api.send(
        *("POST", f"{path}/kill", _why(write.reason)),
        revision=write.if_revision,
        idempotency_key=write.idempotency_key,
    )
    say(context, state, f"✔ {key} in {environment} is killed. `flags unkill` takes it back.")


@flags.command("unkill")
@KEY
@options.environment(required=True, help="Where.")
@options.write(enlarging=True)
@click.pass_context
def unkill_flag(context: click.Context, /, key: str, environment: str, **given: Any) -> None:
    """Take a kill back: the share that was kept is served again."""
    write = options.gather(given)
    api = options.api(context)
    path = _state_path(key, environment)
    before = api.get(path)
    words = f"{key} · {environment} · {state_words(before)} → {percent(before['share'])}"
    if write.dry_run:
        say(context, {"dry_run": True, "before": before}, words)
        return
    critical = api.get(f"/api/v1/environments/{environment}")["critical"]
    confirm = options.confirmed(write.confirm, environment, needed=critical, what=words)
    revision = before["revision"] if write.if_revision is None else write.if_revision
    state, _ = api.send(
        *("POST", f"{path}/unkill", _why(write.reason, confirm)),
        revision=revision,
        idempotency_key=write.idempotency_key,
    )
    say(context, state, f"✔ {key} in {environment} serves {percent(state['share'])} again.")


def _set_archived(context: click.Context, key: str, verb: str, given: dict[str, Any]) -> None:
    write = options.gather(given)
    api = options.api(context)
    revision = write.if_revision
    if revision is None:
        revision = api.get(f"/api/v1/flags/{key}")["revision"]
    if write.dry_run:
        say(context, {"dry_run": True, verb: key}, f"would {verb} {key} at revision {revision}")
        return
    flag, _ = api.send(
        *("POST", f"/api/v1/flags/{key}/{verb}", _why(write.reason)),
        revision=revision,
        idempotency_key=write.idempotency_key,
    )
    say(context, flag, f"✔ {key} is {verb}d.")


@flags.command("archive")
@KEY
@options.write()
@click.pass_context
def archive_flag(context: click.Context, /, key: str, **given: Any) -> None:
    """Take a flag out of every snapshot; it can be brought back."""
    _set_archived(context, key, "archive", given)


@flags.command("unarchive")
@KEY
@options.write()
@click.pass_context
def unarchive_flag(context: click.Context, /, key: str, **given: Any) -> None:
    """Bring an archived flag back, exposing nobody."""
    _set_archived(context, key, "unarchive", given)


@flags.command("history")
@KEY
@options.environment(help="Only what concerns this one.")
@click.option("--limit", default=20, show_default=True, help="At most so many.")
@click.pass_context
def flag_history(context: click.Context, key: str, environment: str | None, limit: int) -> None:
    """Show what the record says about a flag, newest first."""
    query = {"environment": environment, "limit": limit}
    content = options.api(context).send("GET", f"/api/v1/flags/{key}/history", query=query)[0]
    rows = [
        [
            str(e["seq"]),
            e["ts"],
            e["environment"] or "–",
            e["words"],
            _change(e),
            e["actor"],
            e["reason"] or "",
        ]
        for e in content["entries"]
    ]
    columns = ("No.>", "When", "Environment", "What", "Change", "Who", "Why")
    say(context, content, table(*columns, rows=rows))


@flags.command("eval")
@KEY
@click.option("--id", "request_id", required=True, help="The request id; it is not kept.")
@options.environment(help="Where; not needed with --snapshot.")
@click.option(
    "--snapshot",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Offline: a snapshot's file.",
)
@click.pass_context
def evaluate_flag(
    context: click.Context,
    key: str,
    request_id: str,
    environment: str | None,
    snapshot: Path | None,
) -> None:
    """Explain how a request id is decided: its point, the threshold, the reason."""
    if snapshot is not None:
        found = evaluate_offline(snapshot, key, request_id)
    elif environment is None:
        raise click.UsageError("Missing option '--env' (or '--snapshot').")
    else:
        path = f"{_state_path(key, environment)}/eval"
        found, _ = options.api(context).send("POST", path, {"request_id": request_id})
    lines = [
        f"variant    {found['variant']}",
        f"value      {compact(found['value'])}",
        f"reason     {found['reason']}",
        f"point      {found['point']}",
        f"threshold  {found['threshold']}",
        f"because    {found['because']}",
    ]
    say(context, found, "\n".join(lines))


@flags.command("apply")
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML or JSON.",
)
@options.environment(help="Only this environment's part.")
@options.write(enlarging=True)
@click.pass_context
def apply_flags(
    context: click.Context, /, path: Path, environment: str | None, **given: Any
) -> None:
    """Bring shares in line with a file; the diff comes first, shrinking before enlarging."""
    write = options.gather(given)
    if write.if_revision is not None:
        raise click.UsageError("--if-revision is for one flag; apply reads each one's revision.")
    api = options.api(context)
    steps = applying.plan(api, applying.read(path), environment)
    for step in steps:
        note(context, step.words())
    if not steps:
        note(context, "Everything is as the file says.")
    if write.dry_run or not steps:
        say(context, {"dry_run": write.dry_run, "steps": [step.as_json() for step in steps]})
        return
    done = applying.carry_out(api, steps, write)
    say(context, {"dry_run": False, "steps": done}, f"✔ {len(done)} changed.")


def _state_path(key: str, environment: str) -> str:
    return f"/api/v1/flags/{key}/environments/{environment}"


def _why(reason: str | None, confirm: str | None = None) -> dict[str, Any]:
    body = {"reason": reason, "confirm_environment": confirm}
    return {name: text for name, text in body.items() if text is not None}


def _state_body(given: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if given["share"] is not None:
        body["share"] = given["share"]
    if given["weights"]:
        body["weights"] = [_weight(text) for text in given["weights"]]
    if given["conditions"]:
        body["conditions"] = [_condition(text) for text in given["conditions"] if text != "none"]
    if given["prerequisites"]:
        body["prerequisites"] = [_require(t) for t in given["prerequisites"] if t != "none"]
    return body


def _pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise Failure(f"{option}: write it as NAME=VALUE, not {text!r}.", USAGE, code="usage")
    return name.strip(), value.strip()


def _variant(text: str) -> tuple[str, Any]:
    name, value = _pair(text, "--variant")
    try:
        return name, json.loads(value)
    except ValueError:
        message = f"--variant {name}: the value must be JSON, as in {name}='\"text\"'."
        raise Failure(message, USAGE, code="usage") from None


def _weight(text: str) -> dict[str, Any]:
    variant, weight = _pair(text, "--weight")
    try:
        return {"variant": variant, "weight": float(weight)}
    except ValueError:
        message = f"--weight {variant}: {weight!r} is not a number of percent."
        raise Failure(message, USAGE, code="usage") from None


def _condition(text: str) -> dict[str, Any]:
    parts = text.split(maxsplit=2)
    if len(parts) != 3:
        message = f"--condition: write it as 'ATTRIBUTE OPERATOR VALUE,…', not {text!r}."
        raise Failure(message, USAGE, code="usage")
    attribute, operator, values = parts
    given = [value.strip() for value in values.split(",")]
    return {"attribute": attribute, "operator": operator, "values": given}


def _require(text: str) -> dict[str, Any]:
    flag, variant = _pair(text, "--require")
    return {"flag": flag, "variant": variant}


def _weights(state: dict[str, Any]) -> str:
    return ", ".join(f"{w['variant']} {percent(w['weight'])}" for w in state["weights"])


def _limits(state: dict[str, Any]) -> str:
    conditions = [
        f"{c['attribute']} {c['operator']} {','.join(c['values'])}" for c in state["conditions"]
    ]
    required = [f"{p['flag']} = {p['variant']}" for p in state["prerequisites"]]
    return "; ".join([*conditions, *required])


def _change(entry: dict[str, Any]) -> str:
    before, after = entry["before"] or {}, entry["after"] or {}
    if "share" in after:
        was, now = before.get("share", 0) / 10_000, after["share"] / 10_000
        return f"{percent(was)} → {percent(now)}" if was != now else percent(now)
    return ""
