"""How often somebody may ask: a burst at once, a rate over time, and everybody by themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flagserver.domain import rates
from flagserver.domain.addresses import networks
from flagserver.domain.documents import Principal
from flagserver.domain.errors import TooMany
from flagserver.domain.rates import BURST_SECONDS
from flagserver.services.rates import JITTER_SECONDS, MOST_COUNTED, Rates
from flagserver.settings import Settings, SettingsError
from tests.builders import FakeClock


def a_token(scope: str = "sdk", id: str = "a") -> Principal:
    return Principal(f"token:{id}", scope, scope)


def counting(
    clock: FakeClock,
    chance: Callable[[], float] = lambda: 0.0,
    trusted: str = "",
    **allowed: float,
) -> Rates:
    told = rates.Rates(**allowed)
    return Rates(told, networks(trusted), monotonic=clock.monotonic, chance=chance)


def an_address(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def passes(ask: Callable[[], None], times: int) -> int:
    """Ask so often; return how often it was let in."""
    passed = 0
    for _ in range(times):
        try:
            ask()
        except TooMany:
            continue
        passed += 1
    return passed


class TestOneToken:
    def test_a_burst_is_let_in_and_then_the_rate(self) -> None:
        clock = FakeClock()
        some = counting(clock, deploy=5)

        at_once = passes(lambda: some.count(a_token("deploy")), 100)
        clock.seconds += 2
        later = passes(lambda: some.count(a_token("deploy")), 100)

        assert at_once == 5 * BURST_SECONDS
        assert later == 10

    def test_over_minutes_it_is_the_rate_however_often_it_asks(self) -> None:
        clock = FakeClock()
        some, passed = counting(clock, sdk=8), 0

        for _ in range(600):
            clock.seconds += 1
            passed += passes(lambda: some.count(a_token()), 20)

        assert passed == 8 * 600 + 8 * (BURST_SECONDS - 1)

    def test_a_refusal_says_when_and_costs_nothing(self) -> None:
        clock = FakeClock()
        some = counting(clock, admin=1)
        passes(lambda: some.count(a_token("admin")), 1000)

        with pytest.raises(TooMany) as refused:
            some.count(a_token("admin"))
        clock.seconds += refused.value.retry_after

        some.count(a_token("admin"))
        assert refused.value.retry_after == pytest.approx(1.0)

    def test_those_who_are_refused_come_back_spread(self) -> None:
        chances = iter([0.0, 0.25, 0.5, 0.99])
        some = counting(FakeClock(), chances.__next__, sdk=1)
        passes(lambda: some.count(a_token()), int(BURST_SECONDS))

        told = []
        for _ in range(4):
            with pytest.raises(TooMany) as refused:
                some.count(a_token())
            told.append(refused.value.retry_after)

        assert told == [pytest.approx(1 + share * JITTER_SECONDS) for share in (0, 0.25, 0.5, 0.99)]

    def test_another_token_is_counted_by_itself(self) -> None:
        some = counting(FakeClock(), sdk=1)
        passes(lambda: some.count(a_token(id="a")), 1000)

        assert passes(lambda: some.count(a_token(id="b")), 1) == 1

    def test_without_a_limit_nobody_is_refused(self) -> None:
        some = counting(FakeClock(), sdk=0)

        assert passes(lambda: some.count(a_token()), 10_000) == 10_000


class TestStrangers:
    def test_each_address_is_counted_by_itself(self) -> None:
        some = counting(FakeClock(), address=1)

        guesser = passes(lambda: some.count_stranger("198.51.100.7", ""), 1000)
        other = passes(lambda: some.count_stranger("203.0.113.9", ""), 1)

        assert (guesser, other) == (BURST_SECONDS, 1)

    def test_who_lacks_a_token_keeps_out_nobody_who_signs_in(self) -> None:
        some, here = counting(FakeClock(), address=1), ("198.51.100.7", "")
        passes(lambda: some.count_stranger(*here), 1000)

        assert passes(lambda: some.count_stranger(*here, lacks="session"), 1) == 1

    def test_a_header_that_anybody_can_write_makes_nobody_another(self) -> None:
        some = counting(FakeClock(), address=1)
        hops = (f"192.0.2.{number % 250}" for number in range(1000))

        assert passes(lambda: some.count_stranger("198.51.100.7", next(hops)), 1000) == 10

    def test_behind_a_proxy_that_is_trusted_the_client_counts(self) -> None:
        some = counting(FakeClock(), trusted="10.0.0.0/8", address=1)
        passes(lambda: some.count_stranger("10.0.0.1", "198.51.100.7"), 1000)

        assert passes(lambda: some.count_stranger("10.0.0.1", "203.0.113.9"), 1) == 1

    def test_many_addresses_fill_no_memory_and_the_last_are_remembered(self) -> None:
        some = counting(FakeClock(), address=1)

        for number in range(3 * MOST_COUNTED):
            some.count_stranger(an_address(number), "")

        assert len(some._due) <= MOST_COUNTED
        assert passes(lambda: some.count_stranger("10.0.117.47", ""), 100) == 9

    def test_who_has_asked_just_now_is_remembered_however_long_they_are_known(self) -> None:
        some = counting(FakeClock(), address=1)
        guesser = ("198.51.100.7", "")
        some.count_stranger(*guesser)
        for number in range(MOST_COUNTED - 1):
            some.count_stranger(an_address(number), "")

        passes(lambda: some.count_stranger(*guesser), 100)
        some.count_stranger("203.0.113.9", "")

        assert passes(lambda: some.count_stranger(*guesser), 100) == 0


def test_a_fleet_of_all_the_streams_of_a_process_comes_back_at_once() -> None:
    some = counting(FakeClock())

    assert passes(lambda: some.count(a_token()), 12_000) == 12_000


class TestSettings:
    def test_every_rate_is_a_setting_and_0_is_no_limit(self) -> None:
        told = {"SORTITION_RATE_SDK": "0", "SORTITION_RATE_ADDRESS": "7"}

        found = Settings.read(told).rates

        assert found == rates.Rates(sdk=0, address=7)
        assert found.of("deploy") == rates.Rates().deploy

    @pytest.mark.parametrize("text", ["-1", "many", "1e9", "1.5", "1000001"])
    def test_what_is_no_rate_stops_the_start(self, text: str) -> None:
        with pytest.raises(SettingsError, match="SORTITION_RATE_ADMIN must be a whole number"):
            Settings.read({"SORTITION_RATE_ADMIN": text})
