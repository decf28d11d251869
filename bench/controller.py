"""What a tick costs a controller with a thousand running rollouts."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from sortition.judgement.counts import Tick
from sortition.judgement.design import HTTP_ERRORS
from sortition.judgement.traffic import Traffic, World

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness.report import Argument, Options, Row, at_least, at_most, run, say
from flagserver import bootstrap
from flagserver.bootstrap import Outside
from flagserver.domain import guards
from flagserver.domain.commands import NewFlag
from flagserver.domain.documents import Principal
from flagserver.domain.errors import Refusal
from flagserver.domain.outcomes import Row as Outcome
from flagserver.domain.outcomes import histogram_edges, service_subject
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.targets import Reading, Target
from flagserver.settings import Settings
from flagserver.signals.outcomes import OutcomesSource
from flagserver.storage.embedded import EmbeddedStore
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemEntropy

ADMIN = Principal("token:admin", "admin", "admin")
START_SECONDS = 20.0
TICK_SECONDS = 5.0
JUDGED = 100
SETTLE = 4
"""Ticks until every rollout's first share is set: starting, moving, confirming."""

HOURS = "1%:7d,100%"
"""A schedule on which nothing moves while it is measured: what costs is that it is looked at."""


class Turned:
    """A clock that is turned from tick to tick."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = datetime.now(UTC)

    def now(self) -> datetime:
        """Return the present in UTC."""
        return self._began + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self.seconds


@dataclass
class Weights:
    """`ports.TargetDriver` over a dictionary: what a cloud costs is not counted."""

    kind: str = "alb"
    shares: dict[str, int] = field(default_factory=dict)

    def check(self, target: Target) -> None:
        """Everything can be driven."""

    def nearest(self, target: Target, share: int) -> int:  # noqa: ARG002 (the door's form)
        """Every share can be expressed."""
        return share

    def read(self, target: Target) -> Reading:
        """Return what was set."""
        return Reading(self.shares.get(target.name, 0), healthy=True)

    def read_all(self, targets: Collection[Target]) -> dict[Target, Reading | Refusal]:
        """Return what was set of each."""
        return {target: self.read(target) for target in targets}

    def set(self, target: Target, share: int, before: Reading, deadline: float) -> Reading:  # noqa: ARG002
        """Set it."""
        self.shares[target.name] = share
        return self.read(target)

    def roll_back(self, target: Target, deadline: float) -> Reading:  # noqa: ARG002
        """Set it to nothing."""
        self.shares[target.name] = 0
        return self.read(target)

    def commands_by_hand(self, target: Target) -> list[str]:  # noqa: ARG002
        """There are none."""
        return []


def measure(options: Options) -> Iterator[Row]:
    """Start rollouts, let them settle, and tick."""
    count = options.of(quick=50, whole=options.given["rollouts"])
    with a_store() as (store, directory):
        yield from of_ticks(store, directory, count, options.of(quick=3, whole=20))
    # Of its own: a controller takes up whatever is live, and these pay for nobody else.
    with a_store() as (store, directory):
        some = options.of(quick=5, whole=JUDGED)
        yield from of_judged(store, directory, some, options.of(quick=3, whole=12))


@contextmanager
def a_store() -> Iterator[tuple[RedisStore, Path]]:
    """Run an embedded store; yield it, and where a controller may keep its files."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        embedded = EmbeddedStore(Path(directory))
        embedded.start(START_SECONDS)
        try:
            with RedisStore(embedded.url) as store:
                yield store, Path(directory)
        finally:
            embedded.stop(START_SECONDS)


def of_ticks(store: RedisStore, directory: Path, count: int, ticks: int) -> Iterator[Row]:
    """Yield what a tick over so many rollouts costs."""
    clock, entropy = Turned(), SystemEntropy()
    outside = Outside({"alb": Weights()}, {})
    settings = Settings(data_dir=directory)
    services = bootstrap.build_services(settings, store, clock, entropy, outside=outside)
    bootstrap.prepare(settings, store, services, entropy)
    say(f"starting {count:,} rollouts of a flag and a rule each")
    for number in range(count):
        services.flags.create(NewFlag(key=f"flag-{number}"), ADMIN)
        services.rollouts.start(a_rollout(number), ADMIN)
    steering = bootstrap.build_steering(
        *(settings, store, services, "bench", clock, entropy, outside)
    )
    for _ in range(SETTLE):
        clock.seconds += TICK_SECONDS
        steering.tick()
    confirmed = sum(rollout.step_confirmed_at is not None for rollout in steering.held.values())
    yield Row("running", "rollouts whose first share is confirmed", confirmed, "", at_least(count))
    say(f"{ticks} ticks")
    spent, taken = [], []
    for _ in range(ticks):
        clock.seconds += TICK_SECONDS
        cpu, wall = time.process_time(), time.monotonic()
        steering.tick()
        spent.append(time.process_time() - cpu)
        taken.append(time.monotonic() - wall)
    steering.step_down()
    what = f"CPU of a tick over {count:,} rollouts, median"
    note = "a source's numbers, their judgement and the cloud's answers not counted"
    yield Row("tick_cpu", what, statistics.median(spent), "s", at_most(1.0), note)
    yield Row("tick_longest", "the longest of them", max(spent), "s")
    yield Row("tick_wall", "from its beginning to its end, median", statistics.median(taken), "s")


def of_judged(store: RedisStore, directory: Path, count: int, ticks: int) -> Iterator[Row]:
    """Yield what a tick costs for each rollout that is judged by what both arms report."""
    clock, entropy = Turned(), SystemEntropy()
    rest = lambda *_: "off"  # noqa: E731
    sources = {"outcomes": OutcomesSource(store, rest, edges=histogram_edges())}
    outside = Outside({"alb": Weights()}, sources)
    settings = Settings(data_dir=directory / "judged")
    services = bootstrap.build_services(settings, store, clock, entropy, outside=outside)
    bootstrap.prepare(settings, store, services, entropy)
    say(f"starting {count:,} rollouts that are judged")
    ids = [
        services.rollouts.start(a_rollout(10**6 + n, STANDARD), ADMIN).rollout.id
        for n in range(count)
    ]
    steering = bootstrap.build_steering(
        *(settings, store, services, "judged", clock, entropy, outside)
    )
    traffic = Traffic(World(100.0, 0.001), Random("bench"))
    rows = [traffic.tick(0, 0.05) for _ in range(SETTLE + ticks + 3)]
    spent: list[float] = []
    for number, tick in enumerate(rows):
        clock.seconds += TICK_SECONDS - clock.now().timestamp() % TICK_SECONDS
        for n in range(count):
            at = int(clock.now().timestamp())
            store.add("staging", f"bench:{n}", number, reported(10**6 + n, at, tick), {"seen": at})
        clock.seconds += 1
        cpu = time.process_time()
        steering.tick()
        spent.append(time.process_time() - cpu)
    judged = sum(bool(store.standings([id])) for id in ids)
    yield Row("judged", "rollouts that are judged tick by tick", judged, "", at_least(count))
    of_each = 1000 * statistics.median(spent[-ticks:]) / count
    what = "CPU of a tick for each of them: reading, judging, deciding, keeping, median"
    note = "100 requests a second each, the standard guards over outcomes; a tick is 5 s"
    yield Row("judged_cpu", what, of_each, "ms", at_most(5.0), note)
    steering.step_down()


def reported(number: int, at: int, tick: Tick) -> list[Outcome]:
    """Return what both versions of a service report of a tick."""
    (counts,), (latency,) = tick.counts[HTTP_ERRORS], tick.latency
    arms = (("2", *counts[:2], latency.canary), ("1", *counts[2:], latency.control))
    subject = service_subject(f"service-{number}")
    return [
        Outcome(subject, version, at, 0, requests, failed, latency=histogram)
        for version, requests, failed, histogram in arms
    ]


STANDARD = [
    {name: value for name, value in guard.to_body().items() if name != "named"}
    for guard in guards.standard()
]


def a_rollout(number: int, guarded: Sequence[Mapping[str, Any]] = ()) -> NewRollout:
    """Return one that these guards judge; nobody, where there are none."""
    groups = {"canary": f"arn:green-{number}", "stable": f"arn:blue-{number}"}
    return NewRollout.model_validate(
        {
            "environment": "staging",
            "service": f"service-{number}",
            "version": "2",
            "schedule": HOURS,
            "targets": [
                *([] if guarded else [{"kind": "flag", "name": f"flag-{number}"}]),
                {"kind": "alb", "name": f"arn:rule-{number}", "settings": groups},
            ],
            "guards": list(guarded),
        }
    )


if __name__ == "__main__":
    run(
        measure,
        title="What a controller's tick costs",
        method="One controller in this process, the embedded store in another; rollouts of a flag "
        "and a rule each, in one environment, whose first share is confirmed; a driver that "
        "answers from memory, no guards; CPU of this process.",
        distributions=["redis"],
        arguments=[Argument("rollouts", 1000, "how many rollouts")],
    )
