"""What a rollout may require to have been before it: the same version, complete elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import Conflict, Invalid
from .rollout import Rollout
from .states import State


def check(wanted: Rollout, environment: str, rollouts: Iterable[Rollout]) -> None:
    """Raise Conflict unless a rollout of the same service and version got to its last share there;
    Invalid where that can never be.

    rollouts: those of that environment that are known: live ones, and ended ones of 90 days.
    """
    if environment == wanted.environment:
        words = f"A rollout cannot require that it is complete in {environment} itself."
        raise Invalid(words, field="/requires/environment")
    if wanted.version is None:
        words = f"Say which version: it must have been complete in {environment} before."
        raise Invalid(words, field="/version")
    same = [
        each
        for each in rollouts
        if each.environment == environment
        and (each.service, each.version) == (wanted.service, wanted.version)
    ]
    if any(each.state is State.COMPLETED for each in same):
        return
    newest = max(same, key=lambda each: each.created, default=None)
    raise Conflict(
        f"{wanted.service} {wanted.version} must be complete in {environment} before it may go to "
        f"{wanted.environment}: {_how_it_is(newest)}"
    )


def _how_it_is(newest: Rollout | None) -> str:
    if newest is None:
        return "there is no rollout of it there in the last 90 days."
    return f"{newest.name} there is {newest.state.shown.words.lower()}."
