"""How this process and its store are doing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flagserver.domain.errors import StoreUnavailable
from flagserver.ports import Documents

from .snapshots import Snapshots

STALE_SECONDS = 10.0
"""A mirror that has not heard the store for this long is stale."""


@dataclass(frozen=True, slots=True)
class Health:
    """ready: flags can be served.  writable: changes can be made.  problems: in words."""

    ready: bool
    writable: bool
    store: str | None
    age_seconds: float | None
    versions: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it for `/readyz`."""
        return {
            "ready": self.ready,
            "writable": self.writable,
            "store": self.store,
            "age_seconds": None if self.age_seconds is None else round(self.age_seconds, 1),
            "versions": dict(self.versions),
            "problems": list(self.problems),
        }


def health(snapshots: Snapshots, store: Documents) -> Health:
    """Look at the mirror and knock at the store once."""
    problems = []
    writable = True
    try:
        store.ping()
    except StoreUnavailable as error:
        writable = False
        problems.append(error.detail)
    age = snapshots.age_seconds()
    if age is None:
        problems.append("No flags were loaded yet.")
    elif age > STALE_SECONDS:
        problems.append(f"The store was last heard {age:.0f} s ago; flags keep their values.")
    if snapshots.alarm:
        problems.append(snapshots.alarm)
    views = snapshots.views()
    stores = {view.snapshot.version.store for view in views.values()}
    return Health(
        ready=age is not None,
        writable=writable and snapshots.alarm is None,
        store=min(stores, default=None),
        age_seconds=age,
        versions={name: view.snapshot.version.version for name, view in sorted(views.items())},
        problems=tuple(problems),
    )
