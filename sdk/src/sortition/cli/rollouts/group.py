"""The noun itself, and what its verbs have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .. import completion
from ..output import Noun

F = TypeVar("F", bound=Callable[..., Any])

ROLLOUTS = "/api/v1/rollouts"

ID = click.argument("id", shell_complete=completion.rollouts)
LIVE_ID = click.argument("id", shell_complete=completion.live_rollouts)


@click.group(cls=Noun)
def rollouts() -> None:
    """Rollouts: one schedule over flags and traffic, watched and taken back."""
