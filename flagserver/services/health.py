"""How this process and its store are doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flagserver.domain import doubts
from flagserver.domain.errors import RecordInDoubt, StoreUnavailable
from flagserver.ports import Documents

from .snapshots import DISK, NOTHING, STORE, Snapshots

STALE_SECONDS = 10.0
"""A mirror that has not heard the store for this long is stale."""


@dataclass(frozen=True, slots=True)
class Health:
    """How this process is doing.

    ready: flags can be served.  writable: changes can be made.  problems: in words.
    source: where the flags came from last: `store`, `disk` or `nothing`.
    up: whether the store answers.  alarm: kind of the doubt about it (`domain.stores`), or None.
    """

    ready: bool
    writable: bool
    store: str | None
    age_seconds: float | None
    versions: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    source: str = NOTHING
    up: bool = False
    alarm: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it for `/readyz`."""
        return {
            "ready": self.ready,
            "writable": self.writable,
            "store": self.store,
            "age_seconds": None if self.age_seconds is None else round(self.age_seconds, 1),
            "versions": dict(self.versions),
            "problems": list(self.problems),
            "source": self.source,
        }


def health(snapshots: Snapshots, store: Documents) -> Health:
    """Look at the mirror and knock at the store once."""
    trust = snapshots.trust
    problems = []
    up = True
    try:
        store.ping()
    except StoreUnavailable as error:
        up = False
        problems.append(error.detail)
    problems += _of_serving(snapshots)
    if trust.alarm is not None:
        problems.append(trust.alarm.detail)
    problems += [
        f"What the store has of {name} cannot be used ({why}); its flags keep their values."
        for name, why in sorted(snapshots.unusable.items())
    ]
    problems += _of_record(store) if up else []
    problems += [f"{fault.detail} {fault.advice}" for fault in trust.faults if not fault.refused]
    if trust.unkept is not None:
        problems.append(trust.unkept)
    if not snapshots.believes():
        problems += trust.unread
    views = snapshots.views()
    stores = {view.snapshot.version.store for view in views.values()}
    return Health(
        ready=snapshots.source != NOTHING,
        writable=up and snapshots.source == STORE and snapshots.believes(),
        store=min(stores, default=None),
        age_seconds=snapshots.age_seconds(),
        versions={name: view.snapshot.version.version for name, view in sorted(views.items())},
        problems=tuple(problems),
        source=snapshots.source,
        up=up,
        alarm=None if trust.alarm is None else trust.alarm.kind,
    )


def _of_record(store: Documents) -> list[str]:
    """Return that nothing may be enlarged, where the record is in doubt."""
    try:
        doubts.check(store.read(doubts.COLLECTION, doubts.KEY))
    except (RecordInDoubt, StoreUnavailable) as error:
        return [error.detail]
    return []


def _of_serving(snapshots: Snapshots) -> Iterator[str]:
    age = snapshots.age_seconds()
    if snapshots.source == NOTHING:
        yield "No flags were loaded yet."
    elif snapshots.source == DISK and snapshots.trust.alarm is None:
        yield "Flags come from this server's own disk: the store was not heard since the start."
    elif age is not None and age > STALE_SECONDS:
        yield f"The store was last heard {age:.0f} s ago; flags keep their values."
