"""When no controller looks: who says so, how often, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flagserver import bootstrap
from flagserver.domain import events, silence
from flagserver.domain.commands import Reasoned
from flagserver.domain.errors import Refusal, StoreUnavailable
from flagserver.domain.notices import Notice, Severity
from flagserver.domain.times import moment
from flagserver.ports import NotDelivered
from flagserver.services import notices as delivering
from flagserver.services.silence import Silence, Vigil, bound_seconds, look_seconds
from flagserver.storage.redis.store import RedisStore
from tests.builders import ADMIN
from tests.engines import Engine
from tests.servers import wait_until

BOUND, EVERY = bound_seconds(5.0), look_seconds(5.0)


@dataclass
class House:
    """An engine, with web processes beside it that look whether its controllers look."""

    engine: Engine
    webs: list[Silence] = field(default_factory=list)

    def web(self) -> Silence:
        """Start another web process."""
        engine = self.engine
        made = Silence(engine.store, engine.clock, engine.entropy, BOUND, EVERY)
        self.webs.append(made)
        return made

    def pass_time(self, seconds: float, *, controllers: bool = False) -> list[bool]:
        """Turn the clock, every web process looking when it is time; return what the last look of
        each said. controllers: one looks too."""
        said = []
        for _ in range(round(seconds / EVERY)):
            if controllers:
                self.engine.run(EVERY)
            else:
                self.engine.clock.seconds += EVERY
            said = [web.look() for web in self.webs]
        return said

    @property
    def told(self) -> list[Notice]:
        """What people are told of controllers, in order."""
        found = self.engine.store.undelivered("test", limit=1000)
        return [notice for _, notice in found if notice.subject == silence.SUBJECT]

    @property
    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.told]


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(Engine(directory=tmp_path))
    made.web()
    return made


def test_the_bound_is_a_minute_and_it_is_looked_at_every_ten_seconds() -> None:
    assert (BOUND, EVERY) == (60.0, 10.0)


def test_while_a_controller_looks_nobody_is_woken(house: House) -> None:
    house.engine.start()

    assert house.pass_time(1200, controllers=True) == [False]
    assert house.told == []


def test_nobody_misses_a_controller_where_nothing_is_rolled_out(house: House) -> None:
    assert house.pass_time(3600) == [False]
    assert house.told == []


def test_after_a_minute_without_a_look_somebody_is_woken_once(house: House) -> None:
    house.web()
    id = house.engine.start()
    house.pass_time(60, controllers=True)

    assert house.pass_time(BOUND) == [False, False]
    assert house.told == []
    assert house.pass_time(EVERY) == [True, True]
    house.pass_time(3600)

    [page] = house.told
    assert (page.kind, page.severity, page.resolves) == (silence.BEGIN, Severity.PAGE, False)
    assert page.title == "No controller has looked at a live rollout for 60 s"
    assert page.facts["Rollouts"] == f"api in production ({id})"
    assert page.facts["Last look"].startswith("2026-11-23T")
    assert page.by_hand == ("flagserver controller",)


def test_a_rollout_that_no_controller_ever_looked_at_is_told_too(house: House) -> None:
    house.engine.start()

    assert house.pass_time(BOUND + 2 * EVERY) == [True]
    assert house.told[0].facts["Last look"] == "never"


def test_when_one_looks_again_the_incident_ends_by_itself(house: House) -> None:
    house.web()
    house.engine.start()
    house.pass_time(60, controllers=True)
    house.pass_time(300)
    house.engine.let_leases_end()

    assert house.pass_time(EVERY, controllers=True) == [False, False]
    house.pass_time(300, controllers=True)

    page, end = house.told
    assert (end.kind, end.severity, end.resolves) == (silence.END, Severity.INFO, True)
    identity = house.engine.store.identity()
    assert page.incident == end.incident == f"controllers/{identity.store}"


def test_one_that_reads_while_another_ends_it_does_not_begin_it_anew(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = house.webs[0], house.web()
    house.engine.start()
    house.pass_time(60, controllers=True)
    house.pass_time(120)
    house.engine.let_leases_end()
    seen, interrupted = RedisStore.seen, list[bool]()

    def interrupting(store: RedisStore, ids: Any) -> Any:
        found = seen(store, ids)
        if not interrupted:
            interrupted.append(True)
            house.engine.run(EVERY)
            quick.look()
        return found

    monkeypatch.setattr(RedisStore, "seen", interrupting)
    slow.look()
    house.pass_time(60, controllers=True)

    assert interrupted
    assert house.kinds == [silence.BEGIN, silence.END]


def test_the_next_silence_is_told_anew(house: House) -> None:
    house.engine.start()
    for _ in range(2):
        house.pass_time(60, controllers=True)
        house.pass_time(120)
    house.pass_time(60, controllers=True)

    assert house.kinds == [silence.BEGIN, silence.END] * 2
    assert len({notice.id for notice in house.told}) == 4


def test_it_ends_too_when_what_was_forgotten_has_ended(house: House) -> None:
    id = house.engine.start(start_at="2026-11-23T12:00:30.000Z")
    assert house.pass_time(120) == [True]
    house.engine.rollouts.roll_back(id, Reasoned(), ADMIN)

    assert house.pass_time(EVERY) == [False]
    assert house.kinds == [silence.BEGIN, silence.END]


def test_one_that_is_new_ends_nothing_before_somebody_looks_at_it(house: House) -> None:
    old = house.engine.start(start_at="2026-11-23T12:00:30.000Z")
    house.pass_time(120)
    house.engine.rollouts.roll_back(old, Reasoned(), ADMIN)
    house.engine.start()

    assert house.pass_time(EVERY) == [True]
    assert house.pass_time(EVERY, controllers=True) == [False]
    assert house.kinds == [silence.BEGIN, silence.END]


def test_one_of_two_that_is_looked_at_does_not_hide_the_other(house: House) -> None:
    forgotten = house.engine.start()
    house.pass_time(60, controllers=True)
    for _ in range(8):
        house.engine.store.saw({"another": moment(house.engine.clock.now())})
        house.pass_time(EVERY)

    assert forgotten in house.told[0].facts["Rollouts"]


def test_one_that_waits_for_its_time_misses_nobody_before(house: House) -> None:
    house.engine.start(start_at="2026-11-24T12:00:00.000Z")

    assert house.pass_time(3600) == [False]
    assert house.told == []


def test_a_process_that_starts_in_the_midst_neither_repeats_nor_ends_it(house: House) -> None:
    house.engine.start()
    house.pass_time(60, controllers=True)
    house.pass_time(120)
    house.webs.clear()
    house.web()

    assert house.pass_time(EVERY) == [True]
    assert house.pass_time(300) == [True]
    assert house.kinds == [silence.BEGIN]
    house.engine.let_leases_end()
    assert house.pass_time(EVERY, controllers=True) == [False]
    assert house.kinds == [silence.BEGIN, silence.END]


def test_a_store_that_was_away_is_no_silence(house: House) -> None:
    house.engine.start()
    house.pass_time(60, controllers=True)
    with house.engine.away():
        for _ in range(360):
            with pytest.raises(StoreUnavailable):
                house.pass_time(EVERY)

    assert house.pass_time(BOUND - EVERY) == [False]
    assert house.pass_time(2 * EVERY) == [True]


def test_a_machine_that_slept_wakes_nobody(house: House) -> None:
    house.engine.start()
    house.pass_time(60, controllers=True)
    house.engine.clock.seconds += 8 * 3600

    assert house.pass_time(EVERY) == [False]
    assert house.pass_time(EVERY, controllers=True) == [False]
    assert house.told == []


def test_many_rollouts_are_counted_and_some_of_them_named(house: House) -> None:
    for number in range(7):
        flag = f"flag-{number}"
        house.engine.create(flag)
        house.engine.start(service=f"shop-{number}", targets=[{"kind": "flag", "name": flag}])

    house.pass_time(BOUND + 2 * EVERY)

    [page] = house.told
    assert page.title == "No controller has looked at 7 live rollouts for 60 s"
    assert page.facts["Rollouts"].endswith(" and 2 more")


def test_the_record_says_both(house: House) -> None:
    house.engine.start()
    house.pass_time(BOUND + 2 * EVERY)
    house.pass_time(60, controllers=True)

    found = house.engine.store.history(
        target=silence.SUBJECT, environment=None, before=None, limit=10
    )
    assert [(each["action"], each["actor"]) for each in found] == [
        (silence.END, "server"),
        (silence.BEGIN, "server"),
    ]
    loud = {kind: events.severity(kind) for kind in (silence.BEGIN, silence.END)}
    assert loud == {notice.kind: notice.severity for notice in house.told}


# --- bringing notices meanwhile -------------------------------------------------------------------


class Friend:
    """Somebody who is told; while `down`, in vain."""

    name = "friend"

    def __init__(self) -> None:
        self.told: list[str] = []
        self.down = False

    def send(self, notice: Notice) -> None:
        if self.down:
            raise NotDelivered("answered 503")
        self.told.append(notice.kind)


@dataclass
class Vigilant:
    """A web process with somebody to tell."""

    house: House
    friend: Friend
    vigil: Vigil

    def pass_time(self, seconds: float, **told: Any) -> None:
        for _ in range(round(seconds / EVERY)):
            self.house.pass_time(EVERY, **told)
            self.vigil.step()


@pytest.fixture
def vigilant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vigilant]:
    monkeypatch.setattr(delivering, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(delivering, "WAITING_SECONDS", 0.01)
    engine, friend = Engine(directory=tmp_path), Friend()

    def make() -> delivering.Notices:
        return bootstrap.build_notices(engine.store, engine.store, [friend], engine.clock, "web-1")

    watching = Silence(engine.store, engine.clock, engine.entropy, BOUND, EVERY)
    vigil = Vigil(watching, make, EVERY)
    yield Vigilant(House(engine), friend, vigil)
    vigil.stop()


def test_notices_are_brought_while_no_controller_does_and_no_longer(vigilant: Vigilant) -> None:
    engine, friend, vigil = vigilant.house.engine, vigilant.friend, vigilant.vigil
    id = engine.start()
    vigilant.pass_time(60, controllers=True)
    assert not vigil.delivers
    assert friend.told == []

    vigilant.pass_time(BOUND + EVERY)
    wait_until(lambda: silence.BEGIN in friend.told, "the page")
    engine.rollouts.hold(id, Reasoned(reason="nobody looks"), ADMIN)
    wait_until(lambda: friend.told[-1] == "rollout:hold", "what happened meanwhile")

    vigilant.pass_time(EVERY, controllers=True)
    wait_until(lambda: friend.told[-1] == silence.END, "the end of it")
    wait_until(lambda: engine.store.undelivered("friend") == [], "the store to know")
    vigilant.pass_time(EVERY, controllers=True)
    assert not vigil.delivers
    assert friend.told.count(silence.BEGIN) == friend.told.count(silence.END) == 1
    # Whoever comes next need not wait for the lease to end.
    assert engine.store.acquire("notices/friend", "controller", ttl_seconds=1) is not None


def test_whoever_cannot_be_told_of_its_end_is_told_later(vigilant: Vigilant) -> None:
    vigilant.house.engine.start()
    vigilant.pass_time(BOUND + 2 * EVERY)
    wait_until(lambda: silence.BEGIN in vigilant.friend.told, "the page")
    vigilant.friend.down = True

    vigilant.pass_time(60, controllers=True)
    assert vigilant.vigil.delivers
    vigilant.friend.down = False
    wait_until(lambda: _told_after_a_while(vigilant, silence.END), "the end of it")


def _told_after_a_while(vigilant: Vigilant, kind: str) -> bool:
    # A try that failed is made again later, by the clock that is turned.
    vigilant.house.engine.clock.seconds += 1
    return kind in vigilant.friend.told


@pytest.mark.parametrize("error", [StoreUnavailable("It does not answer."), ValueError("?")])
def test_a_look_that_fails_ends_nothing(
    vigilant: Vigilant, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    vigilant.house.engine.start()
    vigilant.pass_time(60, controllers=True)
    with monkeypatch.context() as patch:
        patch.setattr(RedisStore, "keys", lambda *_: (_ for _ in ()).throw(error))
        vigilant.vigil.step()

    vigilant.pass_time(BOUND + 2 * EVERY)
    assert vigilant.vigil.delivers


def test_it_looks_on_a_thread_of_its_own(tmp_path: Path) -> None:
    looks: list[float] = []

    class Looking(Silence):
        def look(self) -> bool:
            looks.append(time.monotonic())
            if len(looks) == 1:
                raise Refusal("Not now.")
            return False

    engine = Engine(directory=tmp_path)
    made = Looking(engine.store, engine.clock, engine.entropy, BOUND, EVERY)
    vigil = Vigil(made, lambda: pytest.fail("nobody is to be told"), 0.01)
    vigil.start()
    wait_until(lambda: len(looks) >= 3, "three looks")
    vigil.stop()
    seen = len(looks)
    time.sleep(0.05)
    assert len(looks) == seen
