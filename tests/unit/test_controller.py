"""The controller: one acts, the others wait; whatever a tick meets, the loop goes on."""

from __future__ import annotations

import logging
import threading
from typing import Any

import fakeredis
import pytest

from flagserver import bootstrap
from flagserver.controller import AFTER_SECONDS, Controller, until_next
from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.outcomes import settle_seconds, settled_tick
from flagserver.ports import Lease
from flagserver.services import Services
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemEntropy


class Idle:
    """Nothing to steer."""

    def tick(self) -> None:
        pass

    def step_down(self) -> None:
        pass


class House:
    """A prepared installation over a store of its own."""

    def __init__(self) -> None:
        self.client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        self.store = RedisStore.over(self.client)
        self.services = self.new_services()
        bootstrap.prepare(Settings(), self.store, self.services, SystemEntropy())

    def new_services(self) -> Services:
        return bootstrap.build_services(Settings(), self.store)

    def controller(self, holder: str) -> Controller:
        return Controller(self.new_services().record, self.store, Idle(), holder)


@pytest.fixture
def house() -> House:
    return House()


def test_one_leads_and_the_other_waits_until_it_steps_down(house: House) -> None:
    first, second = house.controller("first"), house.controller("second")

    first.tick()
    second.tick()

    assert (first.leading, second.leading) == (True, False)

    stopped = threading.Event()
    stopped.set()
    first.run(stopped)
    second.tick()

    assert second.leading


def test_a_changed_entry_is_found_and_reported_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.client.xtrim("{sortition}:record", minid="2-0", approximate=False)
    controller = house.controller("first")

    with caplog.at_level(logging.ERROR):
        controller.tick()
        controller.tick()

    assert [r.getMessage() for r in caplog.records] == [
        "the record is broken at entry 1: expected entry 1, found 2"
    ]


def test_the_loop_survives_a_store_that_is_away(house: House) -> None:
    stop = threading.Event()
    asked: list[str] = []

    class Away:
        def acquire(self, name: str, holder: str, *, ttl_seconds: float) -> Lease | None:
            asked.append(name)
            stop.set()
            raise StoreUnavailable("away")

        def release(self, lease: Lease) -> None:
            raise AssertionError("there was nothing to give up")

    away: Any = Away()
    controller = Controller(house.services.record, away, Idle(), "first")

    controller.run(stop)

    assert (asked, controller.leading) == (["controller"], False)


@pytest.mark.parametrize("flush", [1.0, 2.0, 5.0, 7.5])
@pytest.mark.parametrize("every", [0.25, 1.0, 5.0, 10.0])
def test_whenever_it_looked_the_next_look_is_just_after_outcomes_have_settled(
    every: float, flush: float
) -> None:
    settle = settle_seconds(flush)
    for hundredth in range(0, 1000, 7):
        now = 1_700_000_000 + hundredth / 100

        then = now + until_next(now, every, settle)

        assert AFTER_SECONDS < then - now <= every + AFTER_SECONDS + 1e-6
        turns = (then - settle - AFTER_SECONDS) / every
        assert turns == pytest.approx(round(turns), abs=1e-5)
        if every >= 5:
            # Nothing waits in the store that a look half a second before would have seen as well.
            assert settled_tick(then, flush) > settled_tick(then - 0.5, flush)


def test_a_loop_that_was_woken_is_in_step_again_with_the_next_tick(house: House) -> None:
    """Woken at 8.9, it ticks at 12.6 as it would have, and not five seconds later."""
    stop, clock = threading.Event(), [1_700_000_002.6]
    began: list[float] = []

    class Timed(Controller):
        def tick(self) -> None:
            began.append(round(clock[0] - 1_700_000_000, 3))
            if len(began) == 4:
                stop.set()

        def _rest(self, stop: threading.Event, until: float) -> None:
            # Somebody changed a rollout after the second tick.
            clock[0] += 1.3 if len(began) == 2 else until - clock[0]

    loop = Timed(
        *(house.services.record, house.store, Idle(), "first"),
        settle_seconds=2.5,
        monotonic=lambda: clock[0],
        unix=lambda: clock[0],
    )
    loop.run(stop)

    assert began == [2.6, 7.6, 8.9, 12.6]
