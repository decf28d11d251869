"""The record, read: newest first for people, and whole for those who check it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sortition.record.entry import Link

from flagserver.domain import access
from flagserver.domain.documents import Principal
from flagserver.ports import Checkpoints, Documents


class Kept(Documents, Checkpoints, Protocol):
    """The part of the store that is read here."""


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive entries as they are stored; more: whether others follow."""

    links: Sequence[Link]
    more: bool


class Audit:
    """Use cases of those who look at the record."""

    def __init__(self, store: Kept) -> None:
        self._store = store

    def log(
        self, *, target: str | None, environment: str | None, before: int | None, limit: int
    ) -> list[Mapping[str, Any]]:
        """Return entries, newest first; `environment` keeps those of it and of none."""
        return self._store.history(
            target=target, environment=environment, before=before, limit=limit
        )

    def checkpoints(self) -> list[str]:
        """Return the newest signed checkpoints, oldest first; none where nothing is signed."""
        return self._store.checkpoints()

    def page(self, after: int, limit: int, by: Principal) -> Page:
        """Return entries with seq > after, oldest first. All environments are in it, so only who
        may manage all of them gets it. Raises Forbidden."""
        access.check(by, access.AUDIT)
        found = self._store.record(after=after, limit=limit + 1)
        return Page(found[:limit], len(found) > limit)
