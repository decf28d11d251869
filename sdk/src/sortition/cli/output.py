"""How things are printed: JSON for programs, calm tables for people; colour only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

BAR = 10
"""Characters of a share's bar."""


def say(context: click.Context, content: Any, text: str | Table | None = None) -> None:
    """Print JSON if that was asked for, else the text or table for people."""
    if context.find_root().params.get("as_json"):
        click.echo(json.dumps(content, ensure_ascii=False))
    elif isinstance(text, Table):
        console().print(text)
    elif text is not None:
        click.echo(text)


def note(context: click.Context, text: str) -> None:
    """Print a message beside the data; nothing with --json."""
    if not context.find_root().params.get("as_json"):
        click.echo(text, err=True)


PIPE_WIDTH = 10_000
"""Columns of what is no terminal: more than any table needs, so that nothing in it is cut."""


def console(*, err: bool = False) -> Console:
    """Return where tables go: as wide as the terminal, or as they need in a pipe."""
    to = sys.stderr if err else sys.stdout
    terminal = to.isatty()
    return Console(
        file=to,
        width=None if terminal else PIPE_WIDTH,
        no_color=not terminal or "NO_COLOR" in os.environ,
        highlight=False,
        soft_wrap=not terminal,
    )


def table(*columns: str, rows: Iterable[Sequence[str]]) -> Table:
    """Return a table without lines; a column whose name ends in `>` is aligned to the right.

    Where a terminal is too narrow, the first column stays whole: it has what commands ask for.
    """
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.endswith(">")
        made.add_column(column.rstrip(">"), justify="right" if right else "left", no_wrap=True)
    for row in rows:
        # As text: `[x]` in a description is no markup.
        cells = [Text("\n".join(map(clean, cell.splitlines()))) for cell in row]
        made.columns[0].min_width = max(made.columns[0].min_width or 0, cells[0].cell_len)
        made.add_row(*cells)
    return made


def clean(text: str) -> str:
    """Return text on one line, without anything that steers a terminal or forges a log's line."""
    return "".join(each if each.isprintable() else " " for each in text)


def percent(share: float) -> str:
    """Return a share as people write it: `25 %`, `0.1 %`."""
    return f"{share:.4f}".rstrip("0").rstrip(".") + " %"


def duration(seconds: float) -> str:
    """Return seconds as schedules write them: `1h30m`, `45s`; `0s` for none."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def state_words(state: dict[str, Any]) -> str:
    """Return a flag's state in few words: `25 %`, `off`, `killed (50 %)`."""
    if state["killed"]:
        return f"killed ({percent(state['share'])})"
    return "off" if state["share"] == 0 else percent(state["share"])


def compact(value: Any) -> str:
    """Return JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def difference(before: dict[str, Any], after: dict[str, Any], names: Iterable[str]) -> list[str]:
    """Return lines `-`/`+` for the fields that differ."""
    lines = []
    for name in names:
        if before.get(name) != after.get(name):
            lines += [
                f"-  {name}: {compact(before.get(name))}",
                f"+  {name}: {compact(after.get(name))}",
            ]
    return lines


class JsonCommand(click.Command):
    """A command that also takes --json, as all do."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params.append(
            click.Option(
                ["--json"], is_flag=True, expose_value=False, callback=_ask_json, help="Print JSON."
            )
        )


class Noun(click.Group):
    """A group whose commands take --json."""

    command_class = JsonCommand


def _ask_json(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        context.find_root().params["as_json"] = True
