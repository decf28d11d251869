"""Bringing notices to people: in order, at least once, with an end, and never in anybody's way."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise

import pytest

from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.notices import Notice, Severity
from flagserver.ports import Lease, NotDelivered
from flagserver.services import notices
from flagserver.services.notices import Deliverer, Notices, Outcome
from tests.builders import T0, FakeClock
from tests.servers import wait_until


def a_notice(number: int = 1, **changes: object) -> Notice:
    notice = Notice(
        id=f"n{number}",
        kind="rollout:holding",
        severity=Severity.WARNING,
        at=T0.isoformat(),
        environment="production",
        service="shop",
        subject="rollout/r-1",
        title=f"Holding {number}",
    )
    return replace(notice, **changes)  # type: ignore[arg-type]


@dataclass
class Box:
    """An outbox and its leases in memory, as the store has them."""

    notices: list[Notice] = field(default_factory=list)
    places: Counter[str] = field(default_factory=Counter)
    holders: dict[str, str] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)

    def undelivered(self, notifier: str, *, limit: int = 100) -> list[tuple[str, Notice]]:
        self._answer("undelivered")
        place = self.places[notifier]
        return [(str(n), each) for n, each in enumerate(self.notices, 1) if n > place][:limit]

    def delivered(self, notifier: str, position: str) -> None:
        self._answer("delivered")
        self.places[notifier] = max(self.places[notifier], int(position))

    def acquire(self, name: str, holder: str, *, ttl_seconds: float) -> Lease | None:
        self._answer("acquire")
        if self.holders.setdefault(name, holder) == holder:
            return Lease(name, holder, 1)
        return None

    def release(self, lease: Lease) -> None:
        del self.holders[lease.name]

    def _answer(self, call: str) -> None:
        if call in self.down:
            raise StoreUnavailable("The store does not answer.")


class Friend:
    """A notifier that does as told: each of `plan` in turn, then well."""

    def __init__(self, name: str = "friend", *plan: Exception) -> None:
        self.name = name
        self.plan = list(plan)
        self.told: list[str] = []
        self.tried: list[str] = []

    def send(self, notice: Notice) -> None:
        self.tried.append(notice.id)
        if self.plan:
            raise self.plan.pop(0)
        self.told.append(notice.id)


class Story:
    """One deliverer over one box."""

    def __init__(self, friend: Friend, box: Box | None = None, holder: str = "one") -> None:
        self.friend = friend
        self.box = box or Box()
        self.clock = FakeClock()
        self.counts: Counter[str] = Counter()
        self.deliverer = Deliverer(
            *(friend, self.box, self.box, self.clock, holder),
            chance=lambda: 1.0,
            count=self._count,
        )

    def _count(self, notifier: str, outcome: Outcome) -> None:
        self.counts[outcome] += 1

    def pass_time(self, seconds: float) -> None:
        """Do the steps that are due within so many seconds."""
        until = self.clock.seconds + seconds
        while self.clock.seconds < until:
            self.clock.seconds += max(self.deliverer.guarded_step(), 0.001)


DOWN = NotDelivered("answered 503")


def test_notices_are_told_in_order_and_once():
    story = Story(Friend())
    story.box.notices += [a_notice(n) for n in range(1, 121)]

    story.pass_time(10)

    assert story.friend.told == [f"n{n}" for n in range(1, 121)]
    assert story.counts == {Outcome.DELIVERED: 120}
    assert story.box.places["friend"] == 120


def test_one_that_fails_is_tried_again_and_the_next_ones_wait_for_it():
    story = Story(Friend("friend", DOWN, DOWN, DOWN))
    story.box.notices += [a_notice(1), a_notice(2)]

    story.pass_time(60)

    assert story.friend.tried == ["n1"] * 4 + ["n2"]
    assert story.friend.told == ["n1", "n2"]
    assert story.counts == {Outcome.FAILED: 3, Outcome.DELIVERED: 2}


def test_each_try_comes_later_than_the_one_before_up_to_a_bound():
    story = Story(Friend("friend", *[DOWN] * 200))
    story.box.notices.append(a_notice())
    tries: list[float] = []
    send = story.friend.send

    def noting(notice: Notice) -> None:
        tries.append(story.clock.seconds)
        send(notice)

    story.friend.send = noting  # type: ignore[method-assign]
    story.pass_time(3000)

    gaps = [round(b - a) for a, b in pairwise(tries)]
    assert gaps[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(gaps[9:]) == {300}


def test_a_wait_is_spread_over_its_half():
    story = Story(Friend("friend", *[DOWN] * 2))
    story.deliverer._chance = lambda: 0.0
    story.box.notices.append(a_notice())

    assert story.deliverer.step() == pytest.approx(0.5)


def test_whoever_says_when_to_come_back_is_heard():
    story = Story(Friend("friend", NotDelivered("answered 429", retry_after=90)))
    story.box.notices.append(a_notice())

    story.pass_time(85)
    assert len(story.friend.tried) == 1
    story.pass_time(10)
    assert story.friend.told == ["n1"]


def test_a_notice_that_is_refused_is_passed_over_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
):
    story = Story(Friend("friend", NotDelivered("answered 400 invalid_payload", refused=True)))
    story.box.notices += [a_notice(1), a_notice(2)]

    story.pass_time(5)

    assert story.friend.told == ["n2"]
    assert "n1 is refused, nobody was told there" in caplog.text
    assert "Holding 1" in caplog.text
    assert story.counts == {Outcome.REFUSED: 1, Outcome.DELIVERED: 1}


def test_after_a_day_a_notice_is_given_up_and_the_next_has_its_turn(
    caplog: pytest.LogCaptureFixture,
):
    story = Story(Friend("friend", *[DOWN] * 10_000))
    story.box.notices.append(a_notice(1))

    story.pass_time(notices.GIVE_UP.total_seconds() - 600)
    assert story.counts[Outcome.GIVEN_UP] == 0
    story.pass_time(1000)
    assert story.counts[Outcome.GIVEN_UP] == 1
    assert "nobody was told" in caplog.text

    story.friend.plan.clear()
    story.box.notices.append(a_notice(2, at=story.clock.now().isoformat()))
    story.pass_time(310)
    assert story.friend.told == ["n2"]


def test_what_is_a_day_old_already_is_not_told(caplog: pytest.LogCaptureFixture):
    """A PagerDuty that was set up today wakes nobody for last week."""
    story = Story(Friend("friend"))
    story.clock.seconds = 48 * 3600
    fresh = (T0 + timedelta(hours=47)).isoformat()
    story.box.notices += [a_notice(n) for n in range(1, 71)]
    story.box.notices += [a_notice(71, at=fresh), a_notice(72, at="lately"), a_notice(73, at=fresh)]

    story.pass_time(5)

    assert story.friend.tried == ["n71", "n73"]
    assert story.counts == {Outcome.GIVEN_UP: 71, Outcome.DELIVERED: 2}
    assert (
        "nobody was told of what happened more than 24 h ago: notices n1 to n50 (50)" in caplog.text
    )


def test_a_notifiers_own_mistake_is_a_failure_like_any_other(caplog: pytest.LogCaptureFixture):
    story = Story(Friend("friend", KeyError("https://hooks.test/secret")))
    story.box.notices.append(a_notice())

    story.pass_time(10)

    assert story.friend.told == ["n1"]
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text


# --- with others, and without the store -----------------------------------------------------------


def test_of_two_controllers_one_delivers_and_the_other_takes_over():
    box = Box(notices=[a_notice(n) for n in range(1, 4)])
    one, other = Story(Friend(), box, "one"), Story(Friend(), box, "other")

    one.pass_time(5)
    other.pass_time(20)
    assert (one.friend.told, other.friend.told) == (["n1", "n2", "n3"], [])

    stop = threading.Event()
    stop.set()
    one.deliverer.run(stop)
    box.notices.append(a_notice(4))
    other.pass_time(20)
    assert other.friend.told == ["n4"]


def test_a_lease_that_is_lost_within_a_batch_ends_it():
    story = Story(Friend())
    story.box.notices += [a_notice(n) for n in range(1, 4)]
    send = story.friend.send

    def slow(notice: Notice) -> None:
        send(notice)
        story.clock.seconds += notices.RENEW_SECONDS
        story.box.holders["notices/friend"] = "another"

    story.friend.send = slow  # type: ignore[method-assign]
    story.pass_time(30)

    assert story.friend.told == ["n1"]


def test_two_notifiers_have_a_place_each():
    box = Box(notices=[a_notice(1), a_notice(2)])
    up, down = Story(Friend("up"), box), Story(Friend("down", *[DOWN] * 100), box)

    up.pass_time(10)
    down.pass_time(10)

    assert up.friend.told == ["n1", "n2"]
    assert (box.places["up"], box.places["down"]) == (2, 0)


@pytest.mark.parametrize("call", ["acquire", "undelivered", "delivered"])
def test_a_store_that_is_away_doubles_nothing_and_loses_nothing(call: str):
    story = Story(Friend())
    story.box.notices += [a_notice(1), a_notice(2)]
    story.box.down.add(call)

    story.pass_time(60)
    assert story.friend.told == (["n1"] if call == "delivered" else [])

    story.box.down.clear()
    story.pass_time(30)
    assert story.friend.told == ["n1", "n2"]


def test_a_mistake_of_the_stores_does_not_end_delivering(monkeypatch: pytest.MonkeyPatch):
    story = Story(Friend())
    story.box.notices.append(a_notice())
    good, calls = story.box.undelivered, []

    def faulty(notifier: str, *, limit: int = 100) -> list[tuple[str, Notice]]:
        calls.append(notifier)
        if len(calls) == 1:
            raise ZeroDivisionError
        return good(notifier, limit=limit)

    monkeypatch.setattr(story.box, "undelivered", faulty)

    story.pass_time(20)

    assert story.friend.told == ["n1"]


def test_one_who_hangs_holds_up_nobody():
    """Real threads: one notifier never answers, the other's notices go out, and stopping ends."""
    box = Box(notices=[a_notice(1), a_notice(2)])
    released = threading.Event()

    class Hanging(Friend):
        def send(self, notice: Notice) -> None:
            released.wait(30)

    friend, clock = Friend("prompt"), FakeClock()
    running = Notices(
        Deliverer(each, box, box, clock, "one", chance=lambda: 0.5)
        for each in (Hanging("hanging"), friend)
    )
    running.start()
    try:
        wait_until(lambda: friend.told == ["n1", "n2"], "the prompt one to be told")
        assert box.places["hanging"] == 0
    finally:
        released.set()
        running.stop()
    assert "notices/prompt" not in box.holders
    assert not any(t.name.startswith("notices-") for t in threading.enumerate())
