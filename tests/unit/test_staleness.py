"""Which flags can go or wait for somebody: each reason, and what is no reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import fakeredis
import pytest
from sortition.core.conditions import Condition
from sortition.core.model import Prerequisite

from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.flags import Flag, State
from flagserver.domain.staleness import Asked, stale
from flagserver.services.asked import Asking
from flagserver.storage.redis.store import RedisStore
from tests.builders import FakeClock

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
TODAY = NOW.date()


def before(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


FLAG = Flag(
    *("new-search", "", "search", "temporary", {"on": True, "off": False}, "off", "5a17"),
    archived=False,
    created=before(400),
    changed=before(400),
)
SERVED = State("new-search", "production", 1_000_000, (("on", 1_000_000),), changed=before(29))
HALF = replace(SERVED, share=250_000, changed=before(94))
NOTED = Asked(ago(200), TODAY, {"new-search": TODAY, "other": TODAY})


def why(state: State, flag: Flag = FLAG, asked: Asked = NOTED) -> str | None:
    return stale(flag, [state], {"production": asked}, NOW)


class TestEverybodyIsServedAlike:
    def test_for_thirty_days(self) -> None:
        told = "100 % in production for 30 days, no conditions: remove it from the code"

        assert why(replace(SERVED, changed=before(30))) == told
        assert why(SERVED) is None

    def test_since_the_last_of_the_environments_where_it_counts(self) -> None:
        states = [replace(SERVED, changed=before(90), environment="eu"), SERVED]

        assert stale(FLAG, states, {}, NOW) is None
        words = stale(FLAG, states, {}, NOW + timedelta(days=1))
        assert words is not None
        assert words.startswith("100 % in eu and production for 30 days")

    @pytest.mark.parametrize(
        "state",
        [
            replace(SERVED, killed=True),
            replace(SERVED, rollout="r-1"),
            replace(SERVED, conditions=(Condition("service.name", "in", ("shop",)),)),
            replace(SERVED, prerequisites=(Prerequisite("other", "on"),)),
            replace(SERVED, weights=(("on", 500_000), ("off", 500_000))),
        ],
        ids=["killed", "in a rollout", "a condition", "a prerequisite", "divided"],
    )
    def test_and_not_where_some_are_not(self, state: State) -> None:
        assert why(replace(state, changed=before(300))) is None


class TestAShareStandsHalfWay:
    def test_for_ninety_days(self) -> None:
        told = "25 % in production for 94 days: finish the ramp or take it back"

        assert why(HALF) == told
        assert why(replace(HALF, changed=before(89))) is None
        assert why(replace(HALF, share=1, changed=before(90))) == (
            "0.0001 % in production for 90 days: finish the ramp or take it back"
        )

    @pytest.mark.parametrize(
        "state",
        [replace(HALF, killed=True), replace(HALF, rollout="r-1"), replace(HALF, share=0)],
        ids=["killed", "in a rollout", "off"],
    )
    def test_and_not_where_it_is_off_or_moves(self, state: State) -> None:
        assert why(state) is None


class TestNobodyAsks:
    STATE = replace(HALF, changed=before(3))

    def asked(self, last: int | None, *, since: int = 200, newest: int = 0) -> str | None:
        days = {"other": ago(newest)} | ({} if last is None else {"new-search": ago(last)})
        return why(self.STATE, asked=Asked(ago(since), ago(newest), days))

    def test_for_thirty_days(self) -> None:
        told = "no service asked for it in production for 30 days: remove it"

        assert self.asked(31) == told
        assert self.asked(30) is None

    def test_at_all_since_that_is_noted(self) -> None:
        assert self.asked(None, since=41) == (
            "no service asked for it in production for 41 days: remove it"
        )
        assert self.asked(None, since=29) is None

    def test_is_no_news_of_a_flag_that_is_young(self) -> None:
        young = replace(FLAG, created=before(10))

        assert why(self.STATE, young, Asked(ago(200), TODAY, {"other": TODAY})) is None

    def test_while_nobody_asks_for_anything_it_is_not_the_flag(self) -> None:
        assert self.asked(60, newest=2) is not None
        assert self.asked(60, newest=3) is None

    def test_what_was_never_noted_is_not_known(self) -> None:
        assert why(self.STATE, asked=Asked()) is None
        assert stale(FLAG, [self.STATE], {}, NOW) is None

    def test_in_one_environment_and_still_in_another_is_no_reason(self) -> None:
        silent = Asked(ago(200), TODAY, {"other": TODAY})
        states = [self.STATE, replace(self.STATE, environment="eu")]

        assert stale(FLAG, states, {"production": silent, "eu": NOTED}, NOW) is None
        words = stale(FLAG, states, {"production": silent, "eu": silent}, NOW)
        assert words == "no service asked for it in eu and production for 200 days: remove it"

    def test_of_a_flag_that_is_off_is_nobodys_concern(self) -> None:
        silent = Asked(ago(200), TODAY, {"other": TODAY})

        assert why(replace(self.STATE, share=0), asked=silent) is None
        assert why(replace(self.STATE, killed=True), asked=silent) is None


@pytest.mark.parametrize("flag", [replace(FLAG, kind="permanent"), replace(FLAG, archived=True)])
@pytest.mark.parametrize("state", [replace(SERVED, changed=before(300)), HALF])
def test_what_is_permanent_or_archived_never_nags(flag: Flag, state: State) -> None:
    assert why(state, flag, Asked(ago(200), TODAY, {"other": TODAY})) is None


# --- noting when services ask ---------------------------------------------------------------------


class World:
    def __init__(self) -> None:
        self.server = fakeredis.FakeServer()
        self.store = RedisStore.over(fakeredis.FakeRedis(server=self.server))
        self.clock = FakeClock()
        self.asking = Asking(self.store, self.clock)

    def another_day(self) -> None:
        self.clock.seconds += 86_400


@pytest.fixture
def world() -> World:
    return World()


def test_a_flag_is_written_once_a_day(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[dict[str, str]] = []
    keep = world.store.keep_asked

    def watched(environment: str, days: dict[str, str]) -> None:
        written.append(days)
        keep(environment, days)

    monkeypatch.setattr(world.store, "keep_asked", watched)
    for _ in range(3):
        world.asking.note("production", ["a", "b"])
        world.asking.keep()
    world.another_day()
    world.asking.note("production", ["b"])
    world.asking.keep()

    assert [sorted(days) for days in written if days] == [["a", "b"], ["b"]]
    first, second = world.store.asked("production")["a"], world.store.asked("production")["b"]
    assert date.fromisoformat(second) - date.fromisoformat(first) == timedelta(days=1)


def test_what_could_not_be_written_waits(world: World) -> None:
    world.asking.note("production", ["a"])
    world.asking.note("staging", ["b"])
    world.server.connected = False
    with pytest.raises(StoreUnavailable):
        world.asking.keep()
    world.server.connected = True

    world.asking.keep()

    assert "a" in world.store.asked("production")
    assert "b" in world.store.asked("staging")


def test_it_is_read_once_a_minute(world: World) -> None:
    assert world.asking.last("production") == Asked(None, None, {})
    world.asking.note("production", ["a"])
    world.asking.keep()

    assert world.asking.last("production").last == {}
    world.clock.seconds += 60
    today = world.clock.now().date()
    assert world.asking.last("production") == Asked(today, today, {"a": today})
