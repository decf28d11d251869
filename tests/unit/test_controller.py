"""The controller: one acts, the others wait; whatever a tick meets, the loop goes on."""

from __future__ import annotations

import logging
import threading
from typing import Any

import fakeredis
import pytest

from flagserver import bootstrap
from flagserver.controller import Controller
from flagserver.domain.errors import StoreUnavailable
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
