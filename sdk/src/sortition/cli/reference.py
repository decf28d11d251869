"""Writes the reference of the command from the command itself.

python -m sortition.cli.reference docs/reference
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from .exits import MEANINGS, OF_CODE
from .main import cli

INTRODUCTION = """# The `sortition` command

`pip install './sdk[cli]'`. It reads `SORTITION_URL` and `SORTITION_TOKEN` (or `--token-file`; a
token is never an argument). Data goes to stdout, messages to stderr; `--json` or
`SORTITION_OUTPUT=json` prints one JSON object. Exit codes are on a [page of their
own](exit-codes.md).

This page is made from the command: `python -m sortition.cli.reference docs/reference`.
"""


def command_page() -> str:
    """Return the page about every command."""
    return "\n".join([INTRODUCTION, *_commands(cli, "sortition")]).rstrip() + "\n"


def exits_page() -> str:
    """Return the page about exit codes."""
    lines = ["# Exit codes", "", "| code | meaning | problems of the server |", "|---|---|---|"]
    for code, meaning in MEANINGS.items():
        problems = ", ".join(
            f"`{name}`" for name, exit_code in OF_CODE.items() if exit_code == code
        )
        lines.append(f"| {code} | {meaning} | {problems} |")
    return "\n".join(lines) + "\n"


def _commands(command: click.Command, path: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, each in sorted(command.commands.items()):
            yield from _commands(each, f"{path} {name}")
        return
    context = click.Context(command, info_name=path, max_content_width=90, terminal_width=90)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## {path}\n"
    yield f"`{path} {usage}`\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    # Its own options: `--help` is everywhere, and arguments stand in the usage line.
    own = [option for option in command.params if isinstance(option, click.Option)]
    records = [option.get_help_record(context) for option in own]
    options = [record for record in records if record is not None]
    if options:
        yield "| option | |\n|---|---|"
        for names, words in options:
            yield f"| `{names.replace('|', chr(92) + '|')}` | {words} |"
        yield ""


def main(folder: Path) -> None:
    """Write both pages."""
    (folder / "cli.md").write_text(command_page())
    (folder / "exit-codes.md").write_text(exits_page())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
