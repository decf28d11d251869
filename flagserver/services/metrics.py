"""Custom metrics and business KPIs: taking in what others post."""

from __future__ import annotations

from dataclasses import dataclass

from flagserver.domain.documents import Principal
from flagserver.domain.errors import Forbidden, Invalid, NotFound
from flagserver.domain.metrics import PostedMetrics
from flagserver.ports import Clock
from flagserver.ports import Metrics as Store

from .snapshots import Snapshots


@dataclass(frozen=True, slots=True)
class Taken:
    """How many points were kept, and how many found no room in their minute."""

    accepted: int
    dropped: int


class Metrics:
    """Use cases around posted metrics."""

    def __init__(self, store: Store, snapshots: Snapshots, clock: Clock) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clock = clock

    def post(self, command: PostedMetrics, by: Principal) -> Taken:
        """Keep points. Raises Invalid, Forbidden, NotFound, StoreUnavailable."""
        environment = _environment(command, by)
        flags = self._snapshots.view(environment).snapshot.flags
        for number, point in enumerate(command.points):
            where = f"/points/{number}"
            if point.flag is not None and point.flag not in flags:
                raise NotFound(f"There is no flag {point.flag!r}.", field=f"{where}/flag")
            if point.flag is not None and point.variant not in flags[point.flag].variants:
                raise Invalid(
                    f"{point.flag} has no variant {point.variant!r}.", field=f"{where}/variant"
                )
        points = command.posted(int(self._clock.now().timestamp()))
        dropped = self._store.post(environment, points)
        return Taken(len(points) - dropped, dropped)


def _environment(command: PostedMetrics, by: Principal) -> str:
    if by.environment is None:
        if command.environment is None:
            raise Invalid("Say which environment these are of.", field="/environment")
        return command.environment
    if command.environment not in {None, by.environment}:
        raise Forbidden(f"This token belongs to {by.environment}, not to {command.environment}.")
    return by.environment
