"""What commands have in common: the options of every write, and the way to the server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from .api import Api, Failure

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Write:
    """The options of a write."""

    reason: str | None
    dry_run: bool
    if_revision: int | None
    idempotency_key: str | None
    confirm: str | None = None


def api(context: click.Context) -> Api:
    """Return the server of this run, or end with what is missing."""
    found = context.find_object(Api)
    if found is None or not found.url:
        raise Failure("No server: set SORTITION_URL or give --url.", 2, code="no_url")
    if not found.token:
        message = "No token: set SORTITION_TOKEN or give --token-file."
        raise Failure(message, 8, code="no_token")
    return found


def environment(**more: Any) -> Callable[[F], F]:
    """Add --env."""
    from .completion import environments  # noqa: PLC0415 (asks the server, only when completing)

    return click.option("--env", "environment", metavar="ENV", shell_complete=environments, **more)


def write(*, enlarging: bool = False) -> Callable[[F], F]:
    """Add the options that every write takes; --confirm where exposure may be enlarged."""

    def decorate(command: F) -> F:
        options = [
            click.option("--reason", help="Why; it stands in the record."),
            click.option(
                "--dry-run", is_flag=True, help="Print what would change, change nothing."
            ),
            click.option("--if-revision", type=int, metavar="N", help="Only at this revision."),
            click.option("--idempotency-key", metavar="KEY", help="The same key is done once."),
        ]
        if enlarging:
            words = "Confirm enlarging exposure in a critical environment."
            options.append(click.option("--confirm", metavar="ENV", help=words))
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def gather(options: dict[str, Any]) -> Write:
    """Take the options of a write out of a command's arguments."""
    return Write(
        reason=options.pop("reason"),
        dry_run=options.pop("dry_run"),
        if_revision=options.pop("if_revision"),
        idempotency_key=options.pop("idempotency_key"),
        confirm=options.pop("confirm", None),
    )


def is_interactive() -> bool:
    """Tell whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(given: str | None, environment_key: str, *, needed: bool, what: str) -> str | None:
    """Return the confirmation, asked for on a terminal where it is needed and was not given."""
    if given is not None or not needed or not is_interactive():
        return given
    prompt = f"{what}\nType {environment_key} to confirm".lstrip()
    return str(click.prompt(prompt, default="", show_default=False, err=True)) or None
