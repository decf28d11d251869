"""What `/metrics` tells of flags: their shares, what was served, and who changed them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import fakeredis
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flagserver.domain.errors import StoreUnavailable
from flagserver.http import flag_measures
from flagserver.http.app import create_app
from flagserver.measures import Board
from flagserver.settings import Settings
from flagserver.storage.redis.server import Server
from flagserver.storage.redis.store import RedisStore
from flagserver.telemetry import Telemetry

from .api import WHY, Api, TurnedClock, a_store, an_api
from .routes import BATCH

FLAG = "new-search"
OUTCOMES = "/api/v1/sdk/outcomes"
STATE = f"/api/v1/flags/{FLAG}/environments/production"


@dataclass
class Watched:
    """An API whose `/metrics` tells what this process and its telemetry counted."""

    api: Api
    telemetry: Telemetry
    batches: Any = field(default_factory=lambda: count(1))

    def scrape(self) -> dict[str, float]:
        """By name and labels, these in the order of their names."""
        answer = self.api.admin.get("/metrics")
        assert answer.status == 200
        return {
            "|".join((each.name.removeprefix("sortition_"), *each.labels.values())): each.value
            for family in text_string_to_metric_families(answer.text)
            for each in family.samples
        }

    def told(self, name: str) -> dict[str, float]:
        return {
            labels: value
            for key, value in self.scrape().items()
            for told, _, labels in [key.partition("|")]
            if told == name
        }

    def increased(self) -> dict[str, float]:
        return {labels: n for labels, n in self.told("flag_changes_total").items() if n}

    def report(self, on: int, off: int, flag: str = FLAG, **changes: Any) -> Any:
        """Report evaluations of this moment."""
        nothing = {"requests": 0, "failures": 0}
        served = {"on": on, "off": off}
        tick = {
            "at": int(self.api.clock.now().timestamp()),
            "seconds": 5,
            "service": nothing,
            "flags": [
                nothing | {"flag": flag, "variant": variant, "assignments": number}
                for variant, number in served.items()
            ],
        }
        batch = BATCH | {"seq": next(self.batches), "ticks": [tick]} | changes
        answer = self.api.sdk().post(OUTCOMES, batch)
        assert answer.status == 202, answer.text
        return answer.json["accepted"]

    def kill(self) -> None:
        assert self.api.admin.post(f"{STATE}/kill", {"reason": "a test"}).status == 200


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
def watched(server: fakeredis.FakeServer) -> Watched:
    return watch(a_store(server), Telemetry())


def watch(store: RedisStore, telemetry: Telemetry) -> Watched:
    clock = TurnedClock()
    store._now = lambda: clock.now().timestamp()
    api, board = an_api(store, clock=clock, telemetry=telemetry), Board()
    board.add(telemetry.tally.samples)
    flag_measures.show(board, api.services)
    api.app = create_app(api.services, Settings(), board)
    return Watched(api, telemetry)


class TestTarget:
    def test_it_is_the_share_that_is_set_in_each_environment(self, watched: Watched):
        watched.api.flag(FLAG, share=12.5)

        assert watched.told("flag_target_ratio") == {
            f"production|{FLAG}": 0.125,
            f"development|{FLAG}": 0,
            f"staging|{FLAG}": 0,
        }

    def test_of_a_killed_flag_it_is_nothing(self, watched: Watched):
        watched.api.flag(FLAG, share=25)
        watched.kill()

        assert watched.told("flag_target_ratio")[f"production|{FLAG}"] == 0

    def test_an_archived_flag_has_none(self, watched: Watched):
        watched.api.flag(FLAG)
        watched.api.admin.post(f"/api/v1/flags/{FLAG}/archive", revision=1)

        assert watched.told("flag_target_ratio") == {}

    def test_of_too_many_those_come_first_that_some_see_and_some_do_not(
        self, watched: Watched, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(flag_measures, "FLAG_SETS", 2)
        for key, share in (("a", 0), ("b", 100), ("z", 50)):
            watched.api.flag(key, share=share)

        assert watched.told("flag_target_ratio") == {"production|z": 0.5, "development|a": 0}

    def test_it_is_told_with_the_store_away(self, watched: Watched, server: fakeredis.FakeServer):
        watched.api.flag(FLAG, share=25)
        watched.api.reachable = server.connected = False

        told = watched.scrape()

        assert told[f"flag_target_ratio|production|{FLAG}"] == 0.25
        assert not any(name.startswith("flag_exposure_ratio") for name in told)


class TestEvaluations:
    def test_what_is_reported_is_counted_by_variant(self, watched: Watched):
        watched.api.flag(FLAG)
        watched.report(on=30, off=70)
        watched.report(on=1, off=2)

        assert watched.told("flag_evaluations_total") == {
            f"production|{FLAG}|on": 31,
            f"production|{FLAG}|off": 72,
        }

    def test_a_report_that_is_repeated_counts_once(self, watched: Watched):
        watched.api.flag(FLAG)

        taken = [watched.report(on=30, off=70, seq=7) for _ in range(2)]

        assert taken == [True, False]
        assert watched.told("flag_evaluations_total")[f"production|{FLAG}|on"] == 30

    def test_a_report_that_was_not_kept_is_not_counted(
        self, watched: Watched, server: fakeredis.FakeServer
    ):
        watched.api.flag(FLAG)
        sdk = watched.api.sdk()
        watched.api.reachable = server.connected = False
        assert sdk.post(OUTCOMES, BATCH).status == 503

        assert watched.told("flag_evaluations_total") == {}

    def test_nobody_makes_a_series_of_what_is_no_flag_or_no_variant(self, watched: Watched):
        watched.api.flag(FLAG)
        watched.report(on=5, off=5, flag="made-up")
        watched.api.flag("colours", variants={"red": "red", "blue": "blue"}, rest="red")
        watched.report(on=5, off=5, flag="colours")

        assert watched.told("flag_evaluations_total") == {}


class TestExposure:
    def test_it_is_the_part_that_got_another_variant_than_the_rest(self, watched: Watched):
        watched.api.flag(FLAG, share=25)
        watched.report(on=260, off=740)
        watched.api.clock.turn(60)
        watched.report(on=240, off=760)
        watched.api.clock.turn(70)

        assert watched.told("flag_exposure_ratio") == {f"production|{FLAG}": 0.25}

    def test_of_too_few_it_is_not_told(self, watched: Watched):
        watched.api.flag(FLAG, share=25)
        watched.report(on=249, off=750)
        watched.api.clock.turn(70)
        assert watched.told("flag_exposure_ratio") == {}

        watched.report(on=1, off=0)
        watched.api.clock.turn(70)
        assert watched.told("flag_exposure_ratio") == {f"production|{FLAG}": 0.25}

    def test_it_is_of_the_last_five_minutes(self, watched: Watched):
        watched.api.flag(FLAG, share=25)
        watched.api.clock.turn(1)
        watched.report(on=1000, off=0)
        watched.api.clock.turn(4 * 60)
        watched.report(on=0, off=1000)
        watched.api.clock.turn(70)
        assert watched.told("flag_exposure_ratio") == {f"production|{FLAG}": 0.5}

        watched.api.clock.turn(60)
        assert watched.told("flag_exposure_ratio") == {f"production|{FLAG}": 0}

        watched.api.clock.turn(5 * 60)
        assert watched.told("flag_exposure_ratio") == {}

    def test_somebody_exposed_to_a_killed_flag_is_seen(self, watched: Watched):
        watched.api.flag(FLAG, share=25)
        watched.kill()
        watched.report(on=100, off=900)
        watched.api.clock.turn(70)

        told = watched.scrape()
        assert told[f"flag_target_ratio|production|{FLAG}"] == 0
        assert told[f"flag_exposure_ratio|production|{FLAG}"] == 0.1

    def test_the_store_is_read_once_a_minute_however_many_ask(
        self, watched: Watched, monkeypatch: pytest.MonkeyPatch
    ):
        watched.api.flag(FLAG, share=25)
        watched.report(on=500, off=500)
        store, reads = watched.api.store, []
        assignments = store.assignments

        def counted(wanted: Any, ends: Any) -> Any:
            reads.append(len(wanted))
            return assignments(wanted, ends)

        monkeypatch.setattr(store, "assignments", counted)
        watched.api.clock.turn(70)
        told = [watched.told("flag_exposure_ratio") for _ in range(3)]

        assert told == [{f"production|{FLAG}": 0.5}] * 3
        assert reads == [3], "one read, of the flag in every environment"

    def test_what_could_not_be_read_is_asked_again(
        self, watched: Watched, monkeypatch: pytest.MonkeyPatch
    ):
        watched.api.flag(FLAG, share=25)
        watched.report(on=500, off=500)
        watched.api.clock.turn(70)

        def away(*_: Any) -> Any:
            raise StoreUnavailable("It does not answer.")

        with monkeypatch.context() as broken:
            broken.setattr(watched.api.store, "assignments", away)
            assert watched.told("flag_exposure_ratio") == {}

        assert watched.told("flag_exposure_ratio") == {f"production|{FLAG}": 0.5}


class TestChanges:
    def test_what_may_come_is_there_before_it_comes(self, watched: Watched):
        told = watched.told("flag_changes_total")

        assert set(told.values()) == {0}
        assert told.keys() >= {
            "flag:create||token",
            "flag:kill|production|person",
            "flag:share:change|staging|rollout",
        }

    def test_each_is_counted_where_it_holds(self, watched: Watched):
        watched.api.flag(FLAG, share=25)
        watched.api.share(FLAG, 30)
        watched.kill()

        assert watched.increased() == {
            "flag:create||token": 1,
            "flag:share:change|production|token": 2,
            "flag:kill|production|token": 1,
        }
        assert watched.told("flag_changes_total").keys() == watch_of_none().keys()

    def test_what_is_refused_or_repeated_is_not(self, watched: Watched):
        admin = watched.api.admin
        body = {"key": FLAG}
        made = [admin.post("/api/v1/flags", body, Idempotency_Key="one").status for _ in range(2)]
        assert made == [201, 201]
        assert admin.post("/api/v1/flags", body).status == 409
        assert admin.patch(STATE, WHY | {"share": 25}, revision=9).status == 412

        assert watched.increased() == {"flag:create||token": 1}


def watch_of_none() -> dict[str, float]:
    """Return what is told of changes where there was none."""
    return watch(a_store(), Telemetry()).told("flag_changes_total")


class TestStore:
    def test_how_long_its_answers_took_is_told_by_command(self, server: fakeredis.FakeServer):
        telemetry = Telemetry()
        client = fakeredis.FakeRedis(server=server)
        store = RedisStore(Server(lambda: client, "given", telemetry.tally.asked))
        watched = watch(store, telemetry)
        before = watched.told("redis_command_duration_seconds_count")

        watched.api.flag(FLAG)
        store.versions()
        after = watched.told("redis_command_duration_seconds_count")

        assert after["commit"] == before["commit"] + 1
        assert after["hgetall"] > before["hgetall"]
        assert watched.told("redis_command_duration_seconds_sum")["commit"] > 0

    def test_a_wait_for_what_is_new_is_none_of_them(self, server: fakeredis.FakeServer):
        telemetry = Telemetry()
        client = fakeredis.FakeRedis(server=server)
        store = RedisStore(Server(lambda: client, "given", telemetry.tally.asked))
        store.events("0-0", 0.01)

        assert "redis_command_duration_seconds" not in telemetry.tally.samples()

    def test_an_answer_that_did_not_come_is_counted_too(self, server: fakeredis.FakeServer):
        telemetry = Telemetry()
        client = fakeredis.FakeRedis(server=server)
        store = RedisStore(Server(lambda: client, "given", telemetry.tally.asked))
        server.connected = False

        with pytest.raises(StoreUnavailable):
            store.versions()

        [(labels, buckets)] = telemetry.tally.samples()["redis_command_duration_seconds"].items()
        assert labels == ("hgetall",)
        assert sum(buckets[:-1]) == 1  # type: ignore[index]  # a histogram's
