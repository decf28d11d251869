"""`list`, `get`, `evidence`: look at rollouts."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .. import completion, differences, exits, options, screens, series_file, summary
from .. import rollout_words as words
from ..api import Api, Failure
from ..output import clean, console, note, say, table
from ..watching import standing
from .group import ID, ROLLOUTS, rollouts

STATES = (
    *("pending", "running", "holding", "paused", "rolling_back", "rolled_back"),
    *("rollback_failed", "completed", "superseded", "unknown"),
)

AT_ONCE = 200
"""The most that the server lists on a page."""


@rollouts.command("list")
@options.environment(help="Only of this one.")
@click.option("--live", is_flag=True, help="Only those that have not ended.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state.")
@click.option(
    "--flag",
    metavar="KEY",
    shell_complete=completion.flags,
    help="Only those that move this flag.",
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most.")
@click.option("--before", metavar="ID", help="Only those created before this one.")
@click.pass_context
def list_rollouts(context: click.Context, /, limit: int, live: bool, **query: str | None) -> None:
    """List rollouts, newest first."""
    asked = {**query, "live": "1" if live else None}
    shown, following = _listed(options.api(context), asked, limit)
    content = {"rollouts": shown, "next": following}
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
    if following is not None:
        note(context, f"There are more: --before {following}, or a larger --limit.")


def _listed(
    api: Api, query: dict[str, str | None], most: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the newest rollouts, and the one after which more follow, if there are more."""
    shown: list[dict[str, Any]] = []
    while True:
        page = api.get(ROLLOUTS, **query, limit=min(AT_ONCE, most - len(shown)))
        shown += page["rollouts"]
        if page["next"] is None or len(shown) >= most:
            return shown, page["next"]
        query["before"] = page["next"]


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
    if it.get("until"):
        lines.append(f"a split until {it['until']}: `rollouts evidence` says how both differ")
    lines += [f"{name} {it[name]}" for name in ("started", "ended") if it[name]]
    noise = (it.get("judgement") or {}).get("calibration")
    if noise:
        lines.append(f"noise: {clean(noise)}")
    lines += [
        f"step {given['step']} approved {given['at']} by {clean(given['by'])}"
        for given in it["approvals"]
    ]
    if it["supersedes"]:
        lines.append(f"replaced {it['supersedes']}")
    if it["superseded_by"]:
        lines.append(f"replaced by {it['superseded_by']}")
    return lines


@rollouts.command("evidence")
@ID
@click.option("--limit", type=click.IntRange(1, 400), default=400, help="At most so many looks.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it into this file: JSON, or a zip where its name ends so.",
)
@click.option(
    "--series",
    "as_series",
    is_flag=True,
    help="Print, or write, only what it was judged by, a line each: for `replay` and `simulate`.",
)
@click.pass_context
def rollout_evidence(
    context: click.Context, id: str, limit: int, out: Path | None, as_series: bool
) -> None:
    """Show what a rollout rests on: what controllers saw, what the record says of it, and how both
    versions differ.

    What is written with --out holds every tick that it was judged by, too: `sortition rollouts
    replay` judges it again, offline.
    """
    query = {"limit": limit, "series": 1 if as_series or out is not None else None}
    found = options.api(context).get(f"{ROLLOUTS}/{id}/evidence", **query)
    if as_series:
        _series(context, id, found["series"], out)
        return
    if out is not None:
        _write_evidence(out, found)
        counts = f"{len(found['looks'])} looks, {len(found['entries'])} entries"
        ticks = f"{max(0, len(found['series']) - 1)} looks to replay"
        say(context, {"out": str(out)}, f"✔ {out}: {counts}, {ticks}.")
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
        [str(e["seq"]), e["ts"], e["words"], e["actor"], e["reason"] or ""]
        for e in found["entries"]
    ]
    where = console()
    where.print()
    where.print(table("Looked", "State", "Step>", "Does", "Because", rows=looks))
    where.print()
    where.print(table("No.>", "When", "What", "Who", "Why", rows=entries))
    if found["differences"]:
        where.print(differences.shown(found["differences"]))


def _series(
    context: click.Context, id: str, series: Sequence[Mapping[str, Any]], out: Path | None
) -> None:
    """Print or write the lines that are replayed."""
    if not series:
        message = (
            f"{id}: nothing was compared, so there is nothing to replay: limits alone decided."
        )
        raise Failure(message, code="no_series")
    lines = _lines(series)
    if out is None:
        # The same with --json: each line is JSON already.
        click.echo(lines, nl=False)
        return
    try:
        out.write_text(lines, encoding="utf-8")
    except OSError as error:
        raise Failure(f"--out: {error}", exits.USAGE, code="bad_file") from None
    say(context, {"out": str(out)}, f"✔ {out}: {len(series) - 1} looks.")


def _lines(series: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(body, ensure_ascii=False)}\n" for body in series)


def _write_evidence(out: Path, found: Mapping[str, Any]) -> None:
    text = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    try:
        if out.suffix == ".zip":
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
                packed.writestr(series_file.EVIDENCE, text)
                if found["series"]:
                    packed.writestr(series_file.SERIES, _lines(found["series"]))
                it = found["rollout"]
                packed.writestr("summary.md", summary.markdown(it, standing(it)))
        else:
            out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"--out: {error}", exits.USAGE, code="bad_file") from None
