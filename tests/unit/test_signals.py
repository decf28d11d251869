"""What each source makes of numbers: of two arms, in whole periods, and no data is never zero."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import fakeredis
import pytest
from pydantic import ValidationError

from flagserver.domain import guards
from flagserver.domain.batches import Batch
from flagserver.domain.documents import Principal
from flagserver.domain.errors import Forbidden, Invalid, NotFound, Refusal, StoreUnavailable
from flagserver.domain.metrics import PostedMetrics
from flagserver.domain.outcomes import Row, Totals, added, cohorts, drawn, histogram_edges
from flagserver.domain.signals import Ask, Measure, Measured, Point, Signal
from flagserver.egress import GuardedEgress, Place
from flagserver.services.metrics import Metrics, Taken
from flagserver.signals import prometheus
from flagserver.signals.metrics import MetricsSource
from flagserver.signals.outcomes import OutcomesSource
from flagserver.signals.periods import end_of, ends
from flagserver.signals.prometheus import PrometheusSource
from flagserver.storage.redis.store import RedisStore
from tests.builders import ADMIN, House
from tests.capturing import Captured, Capturing, Trouble

NOW = 1_795_000_020.0
"""A whole minute."""
END = int(NOW)

ERRORS = Signal.of("outcomes", Measure.RATE)
LATENCY = Signal.of("outcomes", Measure.LATENCY, quantile=0.95)
EDGES = histogram_edges()


def an_ask(signal: Signal = ERRORS, **changes: Any) -> Ask:
    ask = Ask(signal, "production", "shop", "1.5.0", window_seconds=120, period_seconds=60)
    return replace(ask, **changes)


def a_store() -> RedisStore:
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    store = RedisStore.over(client)
    store._now = lambda: NOW
    return store


class Away:
    """A store that does not answer, or is broken."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def series(self, *_: object, **__: object) -> Any:
        raise self._error

    posted = minutes = series


# --- periods --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "settle", "expected"),
    [
        (NOW, 0, [END - 60, END]),
        (NOW - 0.5, 0, [END - 120, END - 60]),
        (NOW + 59.9, 0, [END - 60, END]),
        (NOW + 4.9, 5, [END - 120, END - 60]),
        (NOW + 5, 5, [END - 60, END]),
    ],
)
def test_only_periods_that_have_ended_are_told(now: float, settle: float, expected: list[int]):
    assert ends(an_ask(), now, settle) == expected


def test_a_window_shorter_than_a_period_is_one_period():
    assert ends(an_ask(window_seconds=10), NOW) == [END]


def test_a_period_has_its_end_and_not_its_beginning():
    assert [end_of(at, 60) for at in (END - 59, END, END + 1)] == [END, END, END + 60]


# --- arms -----------------------------------------------------------------------------------------


def test_the_cohort_follows_from_the_version():
    versions = {
        "1.4.0": Totals(requests=90, failures=1),
        "1.3.9": Totals(requests=5),
        "1.5.0": Totals(requests=10, failures=2),
        "": Totals(requests=1000),
    }

    now = cohorts(versions, "1.5.0")
    later = cohorts(versions, "1.6.0")

    assert now.canary == versions["1.5.0"]
    assert now.control == Totals(requests=95, failures=1)
    assert later.canary is None
    assert later.control == Totals(requests=105, failures=3)


def test_without_a_version_there_is_no_control():
    assert cohorts({"": Totals(requests=5), "1.5.0": Totals(requests=1)}, "1.5.0").control is None
    assert cohorts({"": Totals(requests=5)}, "1.5.0").canary is None


def test_of_a_flag_the_drawn_variants_are_compared_with_the_rest():
    variants = {"a": Totals(requests=1), "b": Totals(requests=2), "off": Totals(requests=97)}

    arms = drawn(variants, "off")

    assert (arms.canary, arms.control) == (Totals(requests=3), variants["off"])


def test_totals_add_up():
    one = Totals(1, 10, 2, {3: 8, 5: 2}, 0.5, {"cart": (5, 1)})
    other = Totals(2, 20, 1, {5: 20}, 1.5, {"cart": (1, 1), "pay": (7, 0)})

    both = added([one, other])

    assert both == Totals(3, 30, 3, {3: 8, 5: 22}, 2.0, {"cart": (6, 2), "pay": (7, 0)})
    assert added([]) == Totals()


@pytest.mark.parametrize(("told", "variant"), [("1.5.0", "1.5.0"), (None, "")])
def test_a_batch_keeps_its_version_with_the_services_counts(told: str | None, variant: str):
    counts = {"requests": 5, "failures": 1}
    batch = Batch.model_validate(
        {
            "format": 1,
            "service.name": "shop",
            "service.version": told,
            "instance": "00ff00ff",
            "started": 1,
            "seq": 1,
            "ticks": [
                {
                    "at": END,
                    "seconds": 5.0,
                    "service": counts,
                    "flags": [{"flag": "f", "variant": "on", "assignments": 3, **counts}],
                }
            ],
        }
    )

    rows = batch.sorted({"f": ["on"]}, earliest=0, latest=END, settled=0).rows

    assert [(row.subject, row.variant, row.service, row.version) for row in rows] == [
        ("service/shop", variant, "", ""),
        ("flag/f", "on", "shop", variant),
    ]


# --- outcomes -------------------------------------------------------------------------------------


class Reports:
    """A store with outcomes, and the source over it."""

    def __init__(self) -> None:
        self.store = a_store()
        self.seq = 0
        self.source = self.over(self.store)

    def over(self, store: Any) -> OutcomesSource:
        rests = {("production", "new-search"): "off"}
        return OutcomesSource(store, lambda *key: rests.get(key), edges=EDGES, settle_seconds=5.0)

    def add(self, version: str, at: int, requests: int, failures: int = 0, **more: Any) -> None:
        subject = more.pop("subject", "service/shop")
        self.seq += 1
        row = Row(subject, version, at, 0, requests, failures, **more)
        self.store.add("production", "00ff:1", self.seq, [row], {})

    def ask(self, ask: Ask, now: float = NOW + 5) -> Measured:
        return self.source.measure([ask], now)[ask]


@pytest.fixture
def reports() -> Reports:
    return Reports()


def test_an_error_rate_of_both_arms(reports: Reports):
    for second in (-119, -61, -60, -59, -5, 0):
        reports.add("1.5.0", END + second, 10, 1)
        reports.add("1.4.0", END + second, 90, 9)
    reports.add("1.3.9", END, 10, 10)
    reports.add("1.5.0", END + 1, 1000, 1000)

    measured = reports.ask(an_ask())

    assert measured == Measured(
        canary=(Point(END - 60, 0.1, 30, 3), Point(END, 0.1, 30, 3)),
        control=(Point(END - 60, 0.1, 270, 27), Point(END, 37 / 280, 280, 37)),
    )


def test_a_period_whose_reports_may_still_come_is_left_out(reports: Reports):
    reports.add("1.5.0", END, 10, 1)

    assert reports.ask(an_ask(), NOW + 4.9).canary[-1] == Point(END - 60, None)
    assert reports.ask(an_ask(), NOW + 5).canary[-1] == Point(END, 0.1, 10, 1)


def test_nothing_reported_is_no_data_and_no_error(reports: Reports):
    assert reports.ask(an_ask()) == Measured((Point(END - 60, None), Point(END, None)))


def test_a_tick_without_requests_is_no_data_either(reports: Reports):
    reports.add("1.5.0", END, 0)

    assert reports.ask(an_ask()).canary[-1] == Point(END, None, 0, 0)


def test_who_told_no_version_is_of_neither_arm(reports: Reports):
    reports.add("", END, 1000, 500)
    reports.add("1.5.0", END, 10)

    measured = reports.ask(an_ask())

    assert measured.canary[-1] == Point(END, 0.0, 10, 0)
    assert measured.control == ()


def test_a_metric_that_the_host_counted(reports: Reports):
    reports.add("1.5.0", END, 10, metrics={"critical_path": (4, 1)})
    reports.add("1.4.0", END, 90)

    signal = Signal.of("outcomes", Measure.RATE, metric="critical_path")
    measured = reports.ask(an_ask(signal))

    assert measured.canary[-1] == Point(END, 0.25, 4, 1)
    assert measured.control[-1] == Point(END, None, 0, 0)


def test_a_latency_is_in_seconds_and_never_below_the_truth(reports: Reports):
    slow = EDGES.index(1.0)
    reports.add("1.5.0", END, 100, latency={3: 94, slow: 6})
    reports.add("1.4.0", END, 100, latency={3: 96, slow: 4})

    measured = reports.ask(an_ask(LATENCY))

    assert measured.canary[-1] == Point(END, 1.0, 100)
    assert measured.control[-1] == Point(END, EDGES[3], 100)


def test_what_is_slower_than_every_bucket_is_a_number_all_the_same(reports: Reports):
    reports.add("1.5.0", END, 10, latency={len(EDGES): 10})

    point = reports.ask(an_ask(LATENCY)).canary[-1]

    assert point.value == EDGES[-1] > 60


def test_without_a_new_version_the_arms_are_a_flags_variants(reports: Reports):
    reports.add("on", END, 10, 5, subject="flag/new-search")
    reports.add("off", END, 90, 9, subject="flag/new-search")

    measured = reports.ask(an_ask(version=None, flag="new-search"))

    assert (measured.canary[-1].value, measured.control[-1].value) == (0.5, 0.1)
    gone = reports.ask(an_ask(version=None, flag="gone"))
    assert gone.error == "There is no version and no flag 'gone' to tell the arms by."


def test_a_store_that_is_away_is_an_error_of_each_ask_and_is_not_raised(
    reports: Reports, caplog: pytest.LogCaptureFixture
):
    asks = [an_ask(), an_ask(LATENCY)]

    away = reports.over(Away(StoreUnavailable("The store does not answer."))).measure(asks, NOW)
    broken = reports.over(Away(KeyError("x"))).measure(asks, NOW)

    assert [each.error for each in away.values()] == ["The store does not answer."] * 2
    assert [each.error for each in broken.values()] == ["failed (KeyError)"] * 2


def test_one_ask_that_fails_spoils_no_other(reports: Reports):
    reports.add("1.5.0", END, 10, 1)
    good, gone = an_ask(), an_ask(version=None, flag="gone")
    by_tick = an_ask(window_seconds=10, period_seconds=5)

    found = reports.source.measure([gone, good, by_tick], NOW + 5)

    assert found[gone].error is not None
    assert found[good].canary[-1].value == found[by_tick].canary[-1].value == 0.1


def counting_reads(reports: Reports) -> list[Mapping[Any, Any]]:
    """Return what the store is asked for from now on."""
    reads: list[Mapping[Any, Any]] = []
    minutes = reports.store.minutes

    def counting(wanted: Mapping[Any, Any]) -> Any:
        reads.append({subject: sorted(ends) for subject, ends in wanted.items()})
        return minutes(wanted)

    reports.store.minutes = counting  # type: ignore[method-assign]
    return reads


def test_a_thousand_asks_are_one_read(reports: Reports):
    reads = counting_reads(reports)
    asks = [an_ask(service=f"shop-{number % 50}", version=f"1.{number}") for number in range(1000)]

    assert len(reports.source.measure(asks, NOW)) == 1000
    assert [len(read) for read in reads] == [50]


def test_a_minute_is_read_when_it_has_ended_and_once_more_for_late_reports(reports: Reports):
    reports.add("1.5.0", END, 10, 1)
    reads = counting_reads(reports)
    shop = ("production", "service/shop")

    first = reports.ask(an_ask(), NOW + 5)
    reports.add("1.5.0", END, 10, 9)
    soon = [reports.ask(an_ask(), NOW + 5 + seconds) for seconds in range(0, 55, 5)]
    assert reads == [{shop: [END - 60, END]}]
    assert {each.canary[-1] for each in soon} == {first.canary[-1]}

    later = reports.ask(an_ask(), NOW + 65)
    again = reports.ask(an_ask(), NOW + 70)
    assert reads[1:] == [{shop: [END, END + 60]}]
    assert later == again
    assert later.canary[0] == Point(END, 0.5, 20, 10)


def test_a_store_that_was_away_is_asked_again(reports: Reports):
    reports.add("1.5.0", END, 10, 1)
    minutes = reports.store.minutes
    reports.store.minutes = Away(StoreUnavailable("away")).minutes  # type: ignore[method-assign]
    assert reports.ask(an_ask()).error == "away"

    reports.store.minutes = minutes  # type: ignore[method-assign]
    assert reports.ask(an_ask()).canary[-1].value == 0.1


def test_what_nobody_asks_for_any_more_is_forgotten(reports: Reports):
    for number in range(50):
        reports.ask(an_ask(service=f"shop-{number}"), NOW + 60 * number)

    assert list(reports.source._known) == [("production", "service/shop-49")]
    assert len(reports.source._known["production", "service/shop-49"]) == 2


@pytest.mark.parametrize("period", [1, 5, 30, 60, 120, 300])
def test_periods_of_any_length_say_the_same(reports: Reports, period: int):
    end = END // 600 * 600
    for second in range(-600, 1, 7):
        reports.add("1.5.0", end + second, 10, second % 3, latency={40: 9, 200: 1})

    ask = an_ask(window_seconds=600, period_seconds=period)
    points = reports.ask(ask, end + 5.0).canary

    assert len(points) == 600 // period
    assert sum(point.sample or 0 for point in points) == 10 * len(range(-593, 1, 7))
    assert sum(point.failures or 0 for point in points) == sum(s % 3 for s in range(-593, 1, 7))


def test_the_standard_guards_can_be_measured(reports: Reports):
    signals = [guard.signal for guard in guards.standard()]

    assert {signal.source for signal in signals} == {"outcomes"}
    for signal in signals:
        reports.source.check(signal)


# --- posted metrics -------------------------------------------------------------------------------


def a_point(**changes: Any) -> dict[str, Any]:
    point = {"metric": "carts.lost", "service": "shop", "cohort": "canary", "at": END}
    return {**point, "numerator": 3, "denominator": 40, **changes}


def command(*points: Mapping[str, Any], **more: Any) -> PostedMetrics:
    return PostedMetrics.model_validate({"points": list(points), **more})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"service": None}, "of a service or of a flag"),
        ({"flag": "f"}, "of a service or of a flag"),
        ({"service": None, "cohort": None, "flag": "f"}, "which variant was served"),
        ({"version": "1.5.0"}, "one of cohort, version and variant"),
        ({"cohort": None, "variant": "on"}, "a flag has variants"),
        ({"cohort": "control"}, "'canary' or 'stable'"),
        ({"denominator": -1}, "greater than or equal to 0"),
        ({"denominator": float("nan")}, "finite"),
        ({"numerator": float("inf")}, "finite"),
        ({"numerator": "3"}, "valid number"),
        ({"numerator": True}, "valid number"),
        ({"metric": "Carts lost"}, "match pattern"),
        ({"at": 1.5}, "valid integer"),
        ({"user": "ana"}, "not permitted"),
        ({"source": "x" * 101}, "at most 100"),
    ],
)
def test_a_point_of_another_form_is_refused(changes: dict[str, Any], problem: str):
    with pytest.raises(ValidationError, match=problem):
        command(a_point(**changes))


def test_only_so_many_points_are_taken_at_once():
    command(*[a_point()] * 500)
    for points in ([], [a_point()] * 501):
        with pytest.raises(ValidationError):
            command(*points)


def test_the_points_that_the_documents_show_are_taken():
    page = Path(__file__).parents[2] / "docs" / "reference" / "signals.md"
    [shown] = re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)

    assert len(PostedMetrics.model_validate_json(shown).posted(END)) == 3


@pytest.mark.parametrize(
    ("seconds", "taken"), [(-3601, False), (-3600, True), (60, True), (61, False)]
)
def test_a_point_is_of_the_last_hour(seconds: int, taken: bool):
    told = command(a_point(), a_point(at=END + seconds))

    if taken:
        assert len(told.posted(END)) == 2
    else:
        with pytest.raises(Invalid) as refused:
            told.posted(END)
        assert refused.value.field == "/points/1/at"


def test_a_point_that_does_not_say_when_is_of_now():
    assert command(a_point(at=None)).posted(END)[0].at == END


class Posts:
    """A store with posted metrics, and the source over it."""

    def __init__(self) -> None:
        self.store = a_store()
        rests = {("production", "new-search"): "off"}
        self.source = MetricsSource(self.store, lambda *key: rests.get(key), settle_seconds=0)

    def post(self, *points: Mapping[str, Any]) -> None:
        self.store.post("production", command(*points).posted(END))

    def ask(self, measure: Measure = Measure.RATE, **changes: Any) -> Measured:
        ask = an_ask(Signal.of("metrics", measure, metric="carts.lost"), **changes)
        return self.source.measure([ask], NOW)[ask]


def test_a_kpi_of_both_arms():
    posts = Posts()
    posts.post(
        a_point(numerator=1, denominator=10, at=END - 50),
        a_point(numerator=2, denominator=10),
        a_point(numerator=3, denominator=10, cohort=None, version="1.5.0"),
        a_point(numerator=9, denominator=90, cohort="stable"),
        a_point(numerator=1, denominator=10, cohort=None, version="1.4.0"),
        a_point(numerator=50, denominator=50, metric="other"),
        a_point(numerator=50, denominator=50, service="other"),
    )

    measured = posts.ask()

    assert measured == Measured(
        canary=(Point(END - 60, None), Point(END, 0.2, 30, 6)),
        control=(Point(END - 60, None), Point(END, 0.1, 100, 10)),
    )


def test_a_kpi_that_cannot_tell_the_arms_apart_is_pooled():
    posts = Posts()
    posts.post(a_point(cohort=None))

    measured = posts.ask()

    assert measured.pooled
    assert (measured.canary[-1].value, measured.control) == (0.075, ())

    posts.post(a_point())
    assert not posts.ask().pooled


def test_a_kpi_in_units_of_its_own():
    posts = Posts()
    posts.post(a_point(numerator=-120.5, denominator=4))

    assert posts.ask(Measure.VALUE).canary[-1] == Point(END, -30.125, 4)


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 0), (5, 4), (-1, 4), (0.5, 0)])
def test_what_is_no_fraction_is_no_data(numerator: float, denominator: float):
    posts = Posts()
    posts.post(a_point(numerator=numerator, denominator=denominator))

    assert posts.ask().canary[-1] == Point(END, None)


def test_a_kpi_of_a_flag():
    posts = Posts()
    of_flag = {"service": None, "cohort": None, "flag": "new-search"}
    posts.post(a_point(**of_flag, variant="on"), a_point(**of_flag, variant="off", numerator=1))

    measured = posts.ask(version=None, flag="new-search")

    assert (measured.canary[-1].value, measured.control[-1].value) == (0.075, 0.025)
    assert posts.ask(version=None).error is not None


def test_a_store_of_metrics_that_is_away_is_an_error(caplog: pytest.LogCaptureFixture):
    ask = an_ask(Signal.of("metrics", Measure.RATE, metric="m"))
    for error in (StoreUnavailable("away"), KeyError("x")):
        source = MetricsSource(Away(error), lambda *_: None)  # type: ignore[arg-type]
        assert source.measure([ask], NOW)[ask].error is not None


def test_points_are_posted_where_the_token_belongs():
    house = House()
    house.create("new-search")
    house.services.snapshots.load()
    metrics = Metrics(house.store, house.services.snapshots, house.clock)
    deploy = Principal("token:d", "deploy", "deploy", "staging")
    now = int(house.clock.now().timestamp())
    one = a_point(at=now)
    of_flag = {"service": None, "cohort": None, "flag": "new-search", "at": now}

    assert metrics.post(command(one), deploy) == Taken(1, 0)
    assert metrics.post(command(one, environment="staging"), ADMIN) == Taken(1, 0)
    assert metrics.post(command(a_point(**of_flag, variant="on")), deploy) == Taken(1, 0)
    assert len(house.store.posted("staging", since=now - 1, until=now)) == 2

    refused: list[tuple[PostedMetrics, Principal, type[Refusal], str | None]] = [
        (command(one, environment="production"), deploy, Forbidden, None),
        (command(one), ADMIN, Invalid, "/environment"),
        (command(one, environment="nowhere"), ADMIN, NotFound, None),
        (command(a_point(**{**of_flag, "flag": "gone"}, variant="on")), deploy, NotFound,
         "/points/0/flag"),
        (command(one, a_point(**of_flag, variant="x")), deploy, Invalid, "/points/1/variant"),
    ]  # fmt: skip
    for told, by, error, field in refused:
        with pytest.raises(error) as caught:
            metrics.post(told, by)
        assert caught.value.field == field


# --- Prometheus -----------------------------------------------------------------------------------

QUERY = (
    'sum(rate(errors{version="$version"}[$period])) / sum(rate(all{version="$version"}[$period]))'
)
RATE = Signal.of("prometheus", Measure.RATE, query=QUERY)


def vector(*values: str) -> bytes:
    series = [{"metric": {"n": str(n)}, "value": [NOW, v]} for n, v in enumerate(values)]
    return success("vector", series)


def success(kind: str, result: Any, **more: Any) -> bytes:
    told = {"status": "success", "data": {"resultType": kind, "result": result}, **more}
    return json.dumps(told).encode()


@pytest.fixture
def server() -> Iterator[Capturing]:
    with Capturing() as running:
        running.body = vector("0.02")
        yield running


def a_source(server: Capturing, **more: Any) -> PrometheusSource:
    places = [Place("127.0.0.1", server.port, inside=True)]
    return PrometheusSource(GuardedEgress(places), server.url, settle_seconds=0, **more)


def questions(server: Capturing) -> list[dict[str, str]]:
    return [
        {name: value[0] for name, value in parse_qs(each.body.decode()).items()}
        for each in server.requests
    ]


def measured_by(source: PrometheusSource, signal: Signal = RATE, **changes: Any) -> Measured:
    ask = an_ask(signal, **changes)
    return source.measure([ask], NOW)[ask]


def test_prometheus_is_asked_for_the_end_of_each_period(server: Capturing):
    measured = measured_by(a_source(server))

    assert measured == Measured((Point(END - 60, 0.02), Point(END, 0.02)))
    asked = questions(server)
    assert sorted(each["time"] for each in asked) == [str(END - 60), str(END)]
    filled = 'sum(rate(errors{version="1.5.0"}[60s])) / sum(rate(all{version="1.5.0"}[60s]))'
    assert {each["query"] for each in asked} == {filled}
    assert {(each.method, each.path) for each in server.requests} == {("POST", "/api/v1/query")}


def test_the_other_arm_and_the_sample_are_asked_for_where_they_are_named(server: Capturing):
    by_query = {"canary": vector("0.02"), "stable": vector("0.01"), "many": vector("412.7")}
    server.answers = _by_query(by_query)
    signal = Signal.of("prometheus", Measure.RATE, query="canary", control="stable", sample="many")

    measured = measured_by(a_source(server), signal)

    assert measured.canary[-1] == Point(END, 0.02, 412)
    assert measured.control[-1] == Point(END, 0.01)


def test_the_same_question_is_put_once(server: Capturing):
    other = Signal.of("prometheus", Measure.VALUE, query=QUERY)
    asks = [an_ask(RATE), an_ask(other), an_ask(RATE, window_seconds=60)]

    assert len(a_source(server).measure(asks, NOW)) == 3
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "body",
    [
        vector(),
        vector("NaN"),
        vector("+Inf"),
        vector("-Inf"),
        success("scalar", [NOW, "NaN"]),
    ],
)
def test_nothing_and_what_is_no_number_is_no_data(server: Capturing, body: bytes):
    server.body = body

    assert measured_by(a_source(server)).canary[-1] == Point(END, None)


def test_a_control_that_nobody_is_in_is_none(server: Capturing):
    server.answers = _by_query({"canary": vector("0.02"), "stable": vector()})

    signal = Signal.of("prometheus", Measure.RATE, query="canary", control="stable")
    assert measured_by(a_source(server), signal).control == ()


def test_a_scalar_will_do(server: Capturing):
    server.body = success("scalar", [NOW, "1.5"])

    assert measured_by(a_source(server)).canary[-1].value == 1.5


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Trouble(body=vector("1", "2")), "answers 2 series where one is needed"),
        (Trouble(body=success("matrix", [])), "answers a matrix"),
        (Trouble(body=success("vector", [], warnings=["half of it"])), "a warning: half of it"),
        (Trouble(422, b'{"status":"error","errorType":"execution","error":"many-to-many"}'),
         "execution: many-to-many"),
        (Trouble(400, b'{"status":"error","errorType":"bad_data","error":"a\\nb"}'),
         "bad_data: a b"),
        (Trouble(503, b"<html>"), "answered 503 in a form that is not its own"),
        (Trouble(401, b"Unauthorized"), "answered 401"),
        (Trouble(200, b"[]"), "form"),
        (Trouble(200, b"null"), "form"),
        (Trouble(200, b'{"status":"success"}'), "form"),
        (Trouble(200, success("vector", [{"value": [1]}])), "form"),
        (Trouble(200, success("vector", [{"value": [1, "x"]}])), "form"),
        (Trouble(302, headers={"Location": "http://127.0.0.1/"}), "answered 302"),
        (Trouble(cut=10), "ended within the answer"),
        (Trouble(raw=b""), "ended within the answer"),
    ],
)  # fmt: skip
def test_whatever_prometheus_does_is_an_error_of_that_ask_alone(
    server: Capturing, trouble: Trouble, error: str
):
    server.troubles.append(trouble)
    first, second = an_ask(RATE, window_seconds=60), an_ask(RATE, window_seconds=60, version="2")

    found = a_source(server).measure([first, second], NOW)

    told = [each.error for each in found.values() if each.error is not None]
    assert len(told) == 1
    assert error in told[0]
    assert sum(each.canary != () for each in found.values()) == 1


def test_prometheus_that_hangs_costs_one_wait_for_all(
    server: Capturing, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prometheus, "MEASURE_SECONDS", 0.3)
    server.troubles += [Trouble(hang=True)] * 100
    asks = [an_ask(RATE, version=f"1.{number}") for number in range(30)]

    begun = time.monotonic()
    found = a_source(server).measure(asks, NOW)

    assert time.monotonic() - begun < 3
    assert all(each.error and "no answer within" in each.error for each in found.values())


@pytest.mark.parametrize(
    "version", ['1"} or vector(0) #', "1\\", "1`", "1'", "1\n", "{}", "$1", "é"]
)
def test_a_version_cannot_end_its_quotes(server: Capturing, version: str):
    measured = measured_by(a_source(server), version=version)

    assert "cannot stand in an expression" in (measured.error or "")
    assert server.requests == []


def test_a_name_that_stands_for_nothing_is_an_error(server: Capturing):
    measured = measured_by(a_source(server), version=None, flag="f")

    assert "$version stands for nothing" in (measured.error or "")


def test_a_token_is_sent_and_never_said(server: Capturing, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    source = a_source(server, token="hush")
    server.troubles += [Trouble(500), Trouble(raw=b"?")]

    measured = measured_by(source)

    assert server.requests[0].headers["authorization"] == "Bearer hush"
    assert measured.error is not None
    assert "hush" not in caplog.text + measured.error + repr(source)


def test_a_token_that_is_none_is_an_error_without_its_text(
    server: Capturing, caplog: pytest.LogCaptureFixture
):
    measured = measured_by(a_source(server, token="hush\r\nX-Evil: 1"))

    assert "a header" in (measured.error or "")
    assert "hush" not in caplog.text + (measured.error or "")


def test_a_prometheus_that_is_not_on_the_list_is_not_asked(server: Capturing):
    source = PrometheusSource(GuardedEgress([]), server.url)

    assert "not on the list" in (measured_by(source).error or "")
    assert server.requests == []


# --- what is refused before a rollout begins ------------------------------------------------------

REFUSED: Sequence[tuple[Signal, str]] = [
    (Signal.of("outcomes", Measure.UNHEALTHY_HOSTS), "/measure"),
    (Signal.of("outcomes", Measure.RATE, metrics="x"), "/settings/metrics"),
    (Signal.of("outcomes", Measure.RATE, metric=3), "/settings/metric"),
    (Signal.of("outcomes", Measure.RATE, metric=""), "/settings/metric"),
    (Signal.of("outcomes", Measure.LATENCY, metric="x"), "/settings/metric"),
    (Signal.of("outcomes", Measure.LATENCY, quantile=95), "/settings/quantile"),
    (Signal.of("outcomes", Measure.LATENCY, quantile=1.0), "/settings/quantile"),
    (Signal.of("metrics", Measure.RATE), "/settings/metric"),
    (Signal.of("metrics", Measure.LATENCY, metric="x"), "/measure"),
    (Signal.of("prometheus", Measure.RATE), "/settings/query"),
    (Signal.of("prometheus", Measure.ALARM, query="x"), "/measure"),
    (Signal.of("prometheus", Measure.RATE, query="x", control=""), "/settings/control"),
    (Signal.of("prometheus", Measure.RATE, query="x" * 5000), "/settings/query"),
    (Signal.of("prometheus", Measure.RATE, query='x{v="${version}"}'), "/settings/query"),
    (Signal.of("prometheus", Measure.RATE, query="x", url="http://evil"), "/settings/url"),
]


@pytest.mark.parametrize(("signal", "field"), REFUSED)
def test_a_signal_that_cannot_be_measured_names_its_field(
    signal: Signal, field: str, server: Capturing
):
    sources: dict[str, Any] = {
        "outcomes": Reports().source,
        "metrics": Posts().source,
        "prometheus": a_source(server),
    }

    with pytest.raises(Invalid) as refused:
        sources[signal.source].check(signal)

    assert refused.value.field == field


def test_good_signals_are_taken(server: Capturing):
    a_source(server).check(RATE)
    Reports().source.check(ERRORS)
    Reports().source.check(LATENCY)
    Reports().source.check(Signal.of("outcomes", Measure.RATE, metric="critical_path"))
    Posts().source.check(Signal.of("metrics", Measure.VALUE, metric="orders"))


def _by_query(bodies: Mapping[str, bytes]) -> Callable[[Captured], bytes]:
    return lambda request: bodies[parse_qs(request.body.decode())["query"][0]]
