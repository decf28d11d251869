"""Where a watch is shown: lines for logs, JSON lines for programs, a live table on a terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from . import rollout_words as words
from .api import Api
from .output import clean, console, duration, percent
from .watching import Event, Screen

STYLES = {"ok": "green", "warn": "yellow", "violet": "magenta", "danger": "bold red", "neutral": ""}
"""Role of a state's colour -> style."""

VERDICT_STYLES = {"pass": "green", "fail": "bold red"}

BAR_WIDTH = 24
MOST_STEPS = 12
"""So many steps are shown at once; a linear schedule can have a hundred."""

Rollout = Mapping[str, Any]


@contextmanager
def screen(api: Api, id: str, *, as_json: bool) -> Iterator[Screen]:
    """Give the screen that fits where stdout goes."""
    if as_json:
        yield JsonLines(api, id)
        return
    where = console()
    if not where.is_terminal or where.is_dumb_terminal:
        yield Lines(api, id)
        return
    with Live(console=where, auto_refresh=False) as live:
        yield LiveTable(live)


class Lines:
    """A line for each event, for logs that people read."""

    def __init__(self, api: Api, id: str) -> None:
        self._api = api
        self._id = id

    def tell(self, event: Event) -> None:
        """Print the event with the time of day."""
        # click flushes after each line: a log must not stay empty for half an hour.
        click.echo(f"{words.clock(self._api.now())} {self._id} {event.words}")

    def draw(self, rollout: Rollout | None, age: float, trouble: str | None) -> None:
        """Print nothing: lines tell what happens, not what is."""


class JsonLines(Lines):
    """A JSON object for each event, one a line, for programs."""

    def tell(self, event: Event) -> None:
        """Print the event with the rollout's main facts; the last one with the exit code."""
        content: dict[str, Any] = {
            "at": words.rfc3339(self._api.now()),
            "rollout": self._id,
            "event": event.kind,
            "words": event.words,
            **_facts(event.rollout),
        }
        if event.exit_code is not None:
            content["exit_code"] = event.exit_code
        click.echo(json.dumps(content, ensure_ascii=False))


def _facts(it: Rollout | None) -> dict[str, Any]:
    """Return what programs want to know with every event; null before the rollout was seen."""
    if it is None:
        names = ("state", "step", "steps", "share", "reason", "targets", "guards", "revision")
        return dict.fromkeys(names)
    verdicts = (it["last_look"] or {}).get("guards") or []
    return {
        "state": it["state"],
        "step": it["step"],
        "steps": len(it["steps"]),
        "share": words.share(it),
        "reason": words.reason(it) or None,
        "targets": {f"{each['kind']}/{each['name']}": each["confirmed"] for each in it["targets"]},
        "guards": [
            {name: verdict[name] for name in ("guard", "kind", "value", "control", "limit")}
            for verdict in verdicts
        ],
        "revision": it["revision"],
    }


class LiveTable:
    """A table that is drawn anew in its place."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._limit = ""

    def tell(self, event: Event) -> None:
        """Show the event that ends the watch, below the table, which stays; and keep in sight how
        long it is watched."""
        if event.kind == "limit":
            self._limit = f"{event.words} · "
        if event.exit_code is not None:
            self._show(event.rollout, [Text(event.words, style=_style(event.rollout))])

    def draw(self, rollout: Rollout | None, age: float, trouble: str | None) -> None:
        """Draw it anew."""
        footer = []
        if trouble is not None:
            footer.append(Text(f"✖ {clean(trouble)}; asked again", style="red"))
        if rollout is not None:
            stays = "Ctrl-C detaches (the rollout goes on)"
            said = f"updated {duration(age)} ago · {self._limit}{stays}"
            footer.append(Text(said, style="dim"))
        self._show(rollout, footer, age)

    def _show(self, rollout: Rollout | None, footer: list[Text], age: float = 0.0) -> None:
        parts: list[RenderableType] = list(footer)
        if rollout is not None:
            parts = [picture(rollout, self._live.console, age), Text(), *footer]
        self._live.update(Group(*parts), refresh=True)


# --- the picture ----------------------------------------------------------------------------------


def picture(it: Rollout, where: Console, age: float = 0.0) -> RenderableType:
    """Return a rollout as a picture. age: seconds since it was read."""
    parts: list[RenderableType] = [_header(it)]
    why = words.reason(it)
    if why:
        parts.append(Text(why, style=_style(it)))
    times = words.rollback_times(it)
    if times:
        parts.append(Text(times))
    parts += [Text(), _steps(it, where, age), Text(), _targets(it)]
    if words.lane(it):
        parts += [Text(), _lane(it)]
    if it["guards"]:
        parts += [Text(), _guards(it)]
    return Group(*parts)


def _header(it: Rollout) -> Text:
    gap = "  "
    line = Text(words.title(it), style="bold")
    line.append(f"{gap}rollout {it['id']}{gap}", style="not bold")
    line.append(words.state(it), style=_style(it) or "not bold")
    line.append(f"{gap}{words.step(it)}", style="not bold")
    return line


def _steps(it: Rollout, where: Console, age: float) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(justify="right", no_wrap=True)
    for _ in range(4):
        made.add_column(no_wrap=True)
    steps = it["steps"]
    first, end = words.around(steps, max(0, it["step"] - 1), MOST_STEPS)
    if first:
        made.add_row(Text("…"), Text(f"{first} before"))
    for step in steps[first:end]:
        made.add_row(*_step_row(it, step, where, age))
    if end < len(steps):
        made.add_row(Text("…"), Text(f"{len(steps) - end} more"))
    return made


def _step_row(it: Rollout, step: Mapping[str, Any], where: Console, age: float) -> list[Text]:
    hold = duration(step["hold"]) if step["hold"] else "complete"
    mark, style, part = _mark(it, step, age)
    drawn = Text()
    if step["at"] != "next":
        signs = "━─" if _has_colour(where) else "#."
        drawn = Text(words.bar(part, BAR_WIDTH, signs), style=style or "none")
    notes = (_step_note(it, step, age), _kept(step), _unequal(step))
    note = " · ".join(each for each in notes if each)
    return [Text(percent(step["share"])), Text(hold), drawn, Text(mark, style=style), Text(note)]


def _mark(it: Rollout, step: Mapping[str, Any], age: float) -> tuple[str, str, float]:
    """Return a step's sign with its word, its style, and how much of it is over (0..1)."""
    if step["at"] == "done":
        return "✔ done", "green", 1.0
    if step["at"] == "next":
        return "• next", "dim", 0.0
    if it["rollback"] is not None:
        return "✖ taken back", "bold red", 0.0
    if it["terminal"]:
        return "⇥ ended here", "dim", 0.0
    left = words.left(it, age)
    over = float(it["elapsed"]) if left is None else step["hold"] - left
    return "▶ now", _style(it), over / step["hold"] if step["hold"] else 0.0


def _step_note(it: Rollout, step: Mapping[str, Any], age: float) -> str:
    if step["at"] != "now" or it["terminal"]:
        return "needs an approval" if step["approval"] and step["at"] == "next" else ""
    if it["state"] == "running" and not words.is_settled(it):
        return "being set"
    return words.time_left(it, age)


def _kept(step: Mapping[str, Any]) -> str:
    return f"{percent(step['kept'])} kept as a control" if step.get("kept") else ""


def _unequal(step: Mapping[str, Any]) -> str:
    """Return the shares of a step that gives some targets something else."""
    shares = step["shares"]
    if all(share == step["share"] for share in shares.values()):
        return ""
    return ", ".join(f"{words.target_of(id)} {percent(share)}" for id, share in shares.items())


def _targets(it: Rollout) -> Table:
    rows = [
        [words.target(each), percent(each["intended"]), words.confirmed(each), seen or "–"]
        for each in it["targets"]
        for seen in [words.observed(it, each)]
    ]
    made = _plain("TARGET", "INTENDED>", "CONFIRMED>", "OBSERVED>")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def _lane(it: Rollout) -> Table:
    """Return what the engine that is followed says, as a lane of its own."""
    made = _plain("FOLLOWED", "EVENT", "STATUS", "BEGAN")
    made.add_row(*map(Text, (words.lane(it), "", "", "")))
    for event in (it.get("lane") or {}).get("events") or []:
        began = words.clock(event["began"]) if event["began"] else "–"
        cells = ("", event["name"], event["status"], began)
        made.add_row(*(Text(clean(cell)) for cell in cells))
    return made


def _guards(it: Rollout) -> Table:
    made = _plain("GUARD", "CANARY>", "STABLE>", "LIMIT>", "VERDICT")
    for row in words.guard_rows(it):
        verdict = words.VERDICTS.get(row.verdict, row.verdict or "– not looked at yet")
        style = VERDICT_STYLES.get(row.verdict, "yellow" if row.verdict else "dim")
        cells = map(Text, (row.name, row.canary, row.stable, row.limit))
        made.add_row(*cells, Text(clean(verdict), style=style))
    return made


def _plain(*columns: str) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column.endswith(">")
        made.add_column(column.rstrip(">"), justify="right" if right else "left")
    return made


def _style(it: Rollout | None) -> str:
    return STYLES.get(str(it.get("state_role", "")), "") if it is not None else ""


def _has_colour(where: Console) -> bool:
    """Tell whether a bar's parts can be told apart by colour; else it is drawn in ASCII."""
    return where.is_terminal and not where.no_color and "NO_COLOR" not in os.environ
