"""Controllers that are killed: every call to the outside is counted, and each may be the last.

A controller lives in this process. Being killed is an exception that nothing catches; what it held
in memory is thrown away, its leases run out, and another one comes, on the same machine or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from flagserver.domain.plan import NO_STEP
from flagserver.domain.states import State
from flagserver.services.steering import Steering, samples
from flagserver.storage.journal import DiskJournal
from flagserver.storage.redis.store import RedisStore
from tests.engines import FLAG, RULE, Engine
from tests.judged import judging_over

EFFECTS = frozenset(
    {
        *("store.commit", "store.acquire", "store.acquire_all", "store.release", "store.secure"),
        *("store.append", "store.saw", "store.keep_evidence"),
        *("driver.set", "driver.roll_back"),
        *("journal.keep", "journal.keep_only", "journal.lowered", "journal.forget"),
    }
)
"""What a controller calls that leaves something behind."""

READS = frozenset(
    {
        *("store.read", "store.read_all", "store.read_environment", "store.seen"),
        *("store.keys", "store.read_some", "store.evidence", "store.ticks"),
        *("driver.read", "driver.read_all", "driver.nearest", "driver.commands_by_hand"),
        *("source.measure",),
        *("journal.kept", "journal.all_lowered"),
    }
)

GONE_SECONDS = 20.0
"""How long it takes until another controller has the leases of one that was killed."""


class Killed(BaseException):
    """SIGKILL."""


@dataclass
class Life:
    """One controller's life. effects: how many it caused. dies_before: which it is killed before
    (from 1), None: none. after: called after each."""

    dies_before: int | None = None
    after: Callable[[], None] = lambda: None
    effects: int = 0
    died: bool = False

    def watched(self, name: str, port: Any) -> Any:
        """Return a port whose calls are counted."""
        return _Watched(self, name, port)

    def call(self, name: str, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if name in READS:
            return method(*arguments, **named)
        if name not in EFFECTS:
            # Nothing that a controller survives.
            pytest.fail(f"say of {name} whether it leaves something behind")
        self.effects += 1
        if self.effects == self.dies_before:
            self.died = True
            raise Killed
        answer = method(*arguments, **named)
        self.after()
        return answer


@dataclass(frozen=True)
class _Watched:
    life: Life
    name: str
    port: Any

    def __getattr__(self, method: str) -> Any:
        found = getattr(self.port, method)
        if not callable(found):
            return found
        return lambda *a, **n: self.life.call(f"{self.name}.{method}", found, *a, **n)


@dataclass
class Story:
    """A rollout that one controller after the other moves. tick: seconds between two looks."""

    engine: Engine
    directory: Path
    tick: float
    id: str = ""
    traffic_first: bool = False
    """Whether the traffic was taken back without the store, so before the flag."""

    def controller(self, life: Life, machine: str) -> Steering:
        """Return a new controller process. machine: whose disk it has."""
        engine = self.engine
        client = fakeredis.FakeRedis(server=engine.redis)
        store = life.watched("store", RedisStore.over(client, pause=lambda _: None))
        return Steering(
            *(store, store, store),
            life.watched("journal", DiskJournal(self.directory / machine)),
            {"alb": life.watched("driver", engine.driver)},
            {"cloudwatch": life.watched("source", engine.source)},
            *(engine.clock, engine.entropy),
            f"controller-{engine.entropy.hex(4)}",
            samples=samples(engine.services.outcomes),
            judging=judging_over(store),
        )

    def run(self, controller: Steering, until: Callable[[], bool], seconds: float) -> None:
        """Tick until something is so. Raises Killed, and AssertionError when it takes too long."""
        engine = self.engine
        end = engine.clock.seconds + seconds
        while not until():
            assert engine.clock.seconds < end, engine.actions(self.id)
            engine.tick(controller)
            engine.clock.seconds += self.tick

    def over(self) -> bool:
        return self.engine.rollout(self.id).state.shown.terminal

    def let_go(self) -> None:
        """Let the leases of whoever was killed run out."""
        self.engine.let_leases_end()
        self.engine.clock.seconds += GONE_SECONDS

    def check(self) -> None:
        """Nobody is ever exposed above the recorded step's share, nor the flag before the traffic,
        nor the flag at all once it goes back."""
        if not self.engine.redis.connected:
            return
        rollout = self.engine.rollout(self.id)
        shares = {} if rollout.step == NO_STEP else rollout.plan[rollout.step].shares
        traffic, flag = shares.get(RULE.id, 0) / 10_000, shares.get(f"flag/{FLAG}", 0) / 10_000
        assert self.engine.weight <= traffic
        assert self.engine.share <= flag
        if rollout.rollback is not None:
            assert self.engine.share == 0
        elif not self.traffic_first:
            assert self.engine.share <= self.engine.weight
        if rollout.state is State.ROLLED_BACK:
            assert self.engine.weight == 0
