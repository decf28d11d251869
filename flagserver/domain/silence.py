"""What people are told when no controller looks at rollouts that live, and when one does again."""

from __future__ import annotations

from collections.abc import Sequence

from .notices import Notice, Severity
from .rollout import Rollout

BEGIN, END = "controllers:silence:begin", "controllers:silence:end"

SUBJECT = "controllers"

MOST_NAMED = 5
"""So many rollouts are named in a notice; the others are counted."""


def begins(
    rollouts: Sequence[Rollout], looked: str | None, bound: float, *, at: str, store: str
) -> Notice:
    """Return that nobody looks at these, of which there is at least one.

    looked: RFC 3339, when a controller looked at any of them last, None: never.  bound: seconds for
    which none did.  at: RFC 3339.  store: its id, by which installations are told apart.
    """
    number = len(rollouts)
    what = "a live rollout" if number == 1 else f"{number} live rollouts"
    return Notice(
        id=f"{BEGIN}:{at}",
        kind=BEGIN,
        severity=Severity.PAGE,
        at=at,
        environment=None,
        service=None,
        subject=SUBJECT,
        title=f"No controller has looked at {what} for {bound:.0f} s",
        facts={
            "Rollouts": _named(rollouts),
            "Last look": looked or "never",
            "What it means": "No step goes up, and no guard takes anything back.",
        },
        incident=_incident(store),
        by_hand=("flagserver controller",),
    )


def ends(began: str, *, at: str, store: str) -> Notice:
    """Return that it is over. began, at: RFC 3339, when it was told and now."""
    return Notice(
        id=f"{END}:{at}",
        kind=END,
        severity=Severity.INFO,
        at=at,
        environment=None,
        service=None,
        subject=SUBJECT,
        title="Every live rollout is looked at again",
        facts={"Told at": began},
        incident=_incident(store),
        resolves=True,
    )


def _incident(store: str) -> str:
    return f"{SUBJECT}/{store}"


def _named(rollouts: Sequence[Rollout]) -> str:
    named = [f"{each.service} in {each.environment} ({each.id})" for each in rollouts[:MOST_NAMED]]
    more = len(rollouts) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
