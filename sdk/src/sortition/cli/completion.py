"""Completion: scripts for shells, and keys that the server knows, asked for quickly or not."""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from .api import Api, Failure

SECONDS = 1.0


def flags(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the flags that begin so."""
    found = _ask("/api/v1/flags").get("flags", [])
    return [
        CompletionItem(flag["key"], help=flag["description"])
        for flag in found
        if flag["key"].startswith(incomplete)
    ]


def environments(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the environments that begin so."""
    found = _ask("/api/v1/environments").get("environments", [])
    return [CompletionItem(e["key"]) for e in found if e["key"].startswith(incomplete)]


def schedules(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the schedules that begin so, of --env where that was given."""
    given = {"environment": context.params.get("environment")}
    query = {name: text for name, text in given.items() if text}
    found = _ask("/api/v1/schedules", **query).get("schedules", [])
    return [
        CompletionItem(it["name"], help=it["text"])
        for it in found
        if it["name"].startswith(incomplete)
    ]


def rollouts(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the rollouts that begin so, ended ones too."""
    return _rollouts(incomplete)


def live_rollouts(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the rollouts that begin so and have not ended."""
    return _rollouts(incomplete, live="1")


def _rollouts(incomplete: str, **query: str) -> list[CompletionItem]:
    return [
        CompletionItem(
            it["id"], help=f"{it['service']} in {it['environment']}: {it['state_words']}"
        )
        for it in _ask("/api/v1/rollouts", limit="200", **query).get("rollouts", [])
        if it["id"].startswith(incomplete)
    ]


def _ask(path: str, **query: str) -> dict[str, Any]:
    url, token = os.environ.get("SORTITION_URL"), os.environ.get("SORTITION_TOKEN")
    if not url or not token:
        return {}
    try:
        return dict(Api(url.rstrip("/"), token, SECONDS, sleep=lambda _: None).get(path, **query))
    except Failure:
        return {}


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: eval "$(sortition completion bash)"
    """
    found = get_completion_class(shell)
    if found is None:
        raise Failure(f"No completion for {shell}.")
    root = context.find_root().command
    click.echo(found(root, {}, "sortition", "_SORTITION_COMPLETE").source())
