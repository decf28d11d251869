"""Small builders: what a test does not say about a thing does not matter to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import fakeredis
from sortition.core.conditions import Condition
from sortition.core.model import Flag, Prerequisite, Snapshot, SnapshotVersion

from flagserver import bootstrap
from flagserver.domain.commands import Enlarging, NewFlag, Reasoned, StateEdit
from flagserver.domain.documents import Principal
from flagserver.services import Services
from flagserver.services.catalogue import StateView
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore

T0 = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ADMIN = Principal("token:admin", "admin", "admin")
SURE = {"reason": "a test", "confirm_environment": "production"}


def a_flag(key: str = "flag", share: float = 0.0, **changes: Any) -> Flag:
    """Return a boolean flag at a share in percent; its salt is its key."""
    flag = Flag(
        key=key,
        revision=1,
        salt=key,
        variants={"on": True, "off": False},
        rest="off",
        weights=(("on", 1_000_000),),
        share=round(share * 10_000),
    )
    return replace(flag, **changes)


def needs(flag: str, variant: str = "on") -> tuple[Prerequisite, ...]:
    """Return one prerequisite."""
    return (Prerequisite(flag, variant),)


def only_where(attribute: str, *values: str) -> tuple[Condition, ...]:
    """Return one condition: the attribute is one of the values."""
    return (Condition(attribute, "in", values),)


def flags_of(*flags: Flag) -> dict[str, Flag]:
    """Return flags by key."""
    return {flag.key: flag for flag in flags}


def a_snapshot(*flags: Flag, version: int = 1, store: str = "store", epoch: int = 1) -> Snapshot:
    """Return a snapshot of these flags."""
    return Snapshot(
        version=SnapshotVersion(store, epoch, version),
        environment="production",
        flush_seconds=5.0,
        histogram_edges=(0.01, 0.1, 1.0),
        flags=flags_of(*flags),
    )


class FakeClock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class FakeEntropy:
    """Chance without chance: 1, 2, 3, … unless a test says what comes next."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self.next: list[str] = []

    def hex(self, octets: int) -> str:
        if self.next:
            return self.next.pop(0)
        return f"{next(self._numbers):0{octets * 2}x}"


@dataclass
class House:
    """A prepared server without HTTP: services over a store of its own."""

    store: Any = field(
        default_factory=lambda: RedisStore.over(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    )
    clock: FakeClock = field(default_factory=FakeClock)
    entropy: FakeEntropy = field(default_factory=FakeEntropy)

    def __post_init__(self) -> None:
        self.services = self.another_process()
        self.admin_token = bootstrap.prepare(Settings(), self.store, self.services, self.entropy)

    def another_process(self, store: Any = None) -> Services:
        """Return services as another process on the same store has them."""
        return bootstrap.build_services(
            Settings(), self.store if store is None else store, self.clock, self.entropy
        )

    @property
    def flags(self) -> Any:
        return self.services.flags

    def create(self, key: str = "flag", **told: Any) -> None:
        self.flags.create(NewFlag(key=key, **told), ADMIN)

    def change(self, key: str = "flag", environment: str = "staging", **told: Any) -> StateView:
        """Change a flag at the revision it has."""
        revision = self.flags.state(key, environment).revision
        edit = StateEdit.model_validate(told)
        view: StateView = self.flags.change(key, environment, edit, revision, ADMIN)
        return view

    def kill(self, key: str = "flag", environment: str = "staging") -> StateView:
        view: StateView = self.flags.kill(key, environment, Reasoned(), ADMIN)
        return view

    def unkill(self, key: str = "flag", environment: str = "staging", **told: Any) -> StateView:
        revision = self.flags.state(key, environment).revision
        command = Enlarging.model_validate(told)
        view: StateView = self.flags.unkill(key, environment, command, revision, ADMIN)
        return view

    def served(self, environment: str = "staging") -> Mapping[str, Flag]:
        """Return the flags that this process serves."""
        return self.services.snapshots.view(environment).snapshot.flags
