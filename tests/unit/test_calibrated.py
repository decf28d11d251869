"""Rollouts of noisy services, calibrated by what two halves of one version differed by before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import fakeredis
import pytest
from sortition.core.ticks import TICK_SECONDS
from sortition.judgement import series
from sortition.judgement.counts import Counts
from sortition.judgement.design import HTTP_ERRORS
from sortition.judgement.traffic import Traffic, World
from sortition.judgement.trial import Trial

from flagserver import bootstrap
from flagserver.domain import calibration
from flagserver.domain.commands import Reasoned
from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.outcomes import (
    HALVES,
    WINDOW_SECONDS,
    Part,
    Row,
    Totals,
    service_subject,
)
from flagserver.domain.rollout_commands import RolloutPlan
from flagserver.domain.times import moment
from flagserver.services import calibrating as calibrating_module
from flagserver.services.calibrating import Calibrating, Calibrations
from flagserver.services.starting import Planned
from flagserver.settings import Settings
from flagserver.storage.redis import halves
from tests.builders import ADMIN, T0
from tests.engines import RULE, a_body
from tests.judged import METRICS, STANDARD, Judged

NOISY = World(100.0, 0.005, noise="clusters")
"""Failures come in rows of five on average: retry storms, or sessions that stick to what fails."""

ALONE = {"targets": [{**RULE.to_body(), "mode": "drive"}], "schedule": "25%:5m,100%"}
HOURS = 6
SERVICE = ("production", "api")
DAY = 24 * 3600


def keeper(engine: Judged) -> Calibrating:
    """Return what keeps history, as a controller has it; the store's clock is turned with its."""
    engine.store.time = lambda: moment(engine.clock.now())
    return bootstrap.build_calibrating(Settings(), engine.store, engine.clock, engine.entropy)


@cache
def the_past(world: World) -> tuple[Mapping[str, Any], ...]:
    """Return what was kept of hours in which two halves of a version met a world."""
    traffic = Traffic(world, Random("the past"), latency=False)
    ends = range(TICK_SECONDS, WINDOW_SECONDS + 1, TICK_SECONDS)
    told = []
    for _ in range(HOURS * 6):
        ticks = {}
        for at in ends:
            counts = {name: strata[0] for name, strata in traffic.tick(0, 0.5).counts.items()}
            ticks[at] = {Part("1", half=half): _half(counts, half == "b") for half in HALVES}
        told.append(calibration.window(ticks, WINDOW_SECONDS).to_body())
    return tuple(told)


def both_halves(name: str, until: int, ticks: int = 1, **more: Any) -> list[Row]:
    """Return what both halves of a service had in some ticks, the newest of them ended then."""
    return [
        Row(service_subject(name), "1", until - TICK_SECONDS * n, 0, 10, 1, half=half, **more)
        for n in range(ticks)
        for half in HALVES
    ]


def reported(engine: Judged, *names: str, **more: Any) -> int:
    """Let services have reported in the newest window that is over; return its end (unix)."""
    end = int(moment(engine.clock.now())) // WINDOW_SECONDS * WINDOW_SECONDS
    for name in names:
        about = {"service.name": name, "seen": end}
        engine.store.add("production", f"{name}:1", end, both_halves(name, end, **more), about)
    return end


def kept(engine: Judged, *names: str) -> dict[str, list[int]]:
    """Return the seconds of each window that is kept of services."""
    until = int(moment(engine.clock.now())) + DAY
    wanted = [("production", name) for name in names]
    found = engine.store.halves(wanted, since=until - 2 * DAY, until=until)
    return {
        name: [calibration.Window.from_body(body).seconds for body in windows.values()]
        for (_, name), windows in found.items()
    }


def lived(engine: Judged, world: World) -> None:
    """Let a service have lived for hours, as what was kept of that time says."""
    newest = int(moment(engine.clock.now())) // WINDOW_SECONDS * WINDOW_SECONDS
    windows = {newest - n * WINDOW_SECONDS: body for n, body in enumerate(the_past(world))}
    engine.store.keep_halves(*SERVICE, windows)


def _half(counts: Mapping[str, Counts], other: bool) -> Totals:
    def of(name: str) -> tuple[int, int]:
        canary, failed, control, control_failed = counts[name]
        return (control, control_failed) if other else (canary, failed)

    metrics = {known: of(name) for name, known in METRICS.items()}
    return Totals(0, *of(HTTP_ERRORS), metrics=metrics)


def a_noisy_service(directory: Path, seed: str = "noisy") -> Judged:
    """Return a service that has served for five minutes."""
    engine = Judged(directory=directory, world=NOISY, seed=seed)
    engine.serve(300)
    return engine


def planned(engine: Judged) -> Planned:
    body = a_body(guards=STANDARD, **ALONE)
    asked = {name: body[name] for name in RolloutPlan.model_fields if name in body}
    return engine.rollouts.plan(RolloutPlan.model_validate(asked), ADMIN)


def told(engine: Judged, id: str) -> str:
    """Return what a rollout says it is calibrated by."""
    judgement = engine.rollouts.judgement(engine.rollouts.get(id, ADMIN))
    assert judgement is not None
    return str(judgement["calibration"])


# --- history is kept ------------------------------------------------------------------------------


def test_while_one_version_serves_its_history_is_kept_and_known(tmp_path: Path) -> None:
    engine = Judged(directory=tmp_path, world=NOISY, halves=True)
    calibrating = keeper(engine)
    engine.serve(2 * WINDOW_SECONDS + 30)
    calibrating.look()
    calibrating.look()

    now = moment(engine.clock.now())
    ((_, kept),) = engine.store.halves([SERVICE], since=0, until=int(now)).items()
    windows = [calibration.Window.from_body(body) for body in kept.values()]
    assert [(one.seconds, one.why) for one in windows[-2:]] == [(WINDOW_SECONDS, "")] * 2
    assert {one.why for one in windows[:-2]} == {calibration.SILENT}
    assert windows[-1].rates[""].tick.phi > 3
    assert windows[-1].latency.between[1][1] == 2

    known = Calibrations(engine.store).calibration(*SERVICE, now)
    assert known.seconds == 2 * WINDOW_SECONDS
    assert known.sentence.startswith("Not calibrated: 20 min of history, 6 h wanted")


def test_while_a_rollout_moves_it_nothing_is_kept_of_it(tmp_path: Path) -> None:
    engine = Judged(directory=tmp_path, halves=True)
    calibrating = keeper(engine)
    engine.clock.seconds += WINDOW_SECONDS - 60
    engine.serve(60)
    id = engine.start_judged(**ALONE)
    engine.run(60)
    engine.rollouts.roll_back(id, Reasoned(reason="a test"), ADMIN)
    engine.run(30)
    assert engine.rollout(id).state.shown.terminal
    engine.serve(WINDOW_SECONDS)
    calibrating.look()

    found = engine.store.halves([SERVICE], since=0, until=int(moment(engine.clock.now())))
    newest = calibration.Window.from_body(list(found[SERVICE].values())[-1])
    assert newest.why == calibration.ROLLOUT


def test_after_the_store_was_away_what_is_missing_is_made_up_for(tmp_path: Path) -> None:
    engine = Judged(directory=tmp_path)
    calibrating = keeper(engine)
    about = {"service.name": "api", "instance": "0f", "seen": int(moment(engine.clock.now()))}
    with engine.away(), pytest.raises(StoreUnavailable):
        calibrating.look()
    at = int(moment(engine.clock.now())) // WINDOW_SECONDS * WINDOW_SECONDS
    engine.store.add("production", "0f:1", 1, both_halves("api", at, 240), about)
    engine.clock.seconds += 30
    calibrating.look()

    found = engine.store.halves([SERVICE], since=at - 2 * WINDOW_SECONDS, until=at)[SERVICE]
    assert [body["seconds"] for body in found.values()] == [WINDOW_SECONDS] * 2


def test_of_many_services_a_few_are_kept_at_a_time(tmp_path: Path) -> None:
    engine = Judged(directory=tmp_path)
    calibrating = keeper(engine)
    names = [f"service-{number:02}" for number in range(25)]
    reported(engine, *names)
    engine.clock.seconds += 30
    pauses = []
    for _ in range(3):
        calibrating.look()
        pauses.append(calibrating.pause(well=True))

    assert set(kept(engine, *names)) == set(names)
    assert pauses == [1.0, 1.0, 30.0]


def test_a_bucket_with_nothing_in_it_is_no_trouble(tmp_path: Path) -> None:
    engine = Judged(directory=tmp_path)
    calibrating = keeper(engine)
    reported(engine, "api", latency={5: 0})
    engine.clock.seconds += 30
    calibrating.look()

    assert kept(engine, "api")["api"][-1] == TICK_SECONDS


def test_a_service_that_cannot_be_summed_up_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Judged(directory=tmp_path)
    calibrating, names = keeper(engine), [f"service-{number:02}" for number in range(12)]
    reported(engine, *names)
    read = engine.store.ticks

    def broken(wanted: Any, **more: Any) -> Any:
        if ("production", service_subject(names[3])) in wanted:
            raise IndexError(names[3])
        return read(wanted, **more)

    monkeypatch.setattr(engine.store, "ticks", broken)
    engine.clock.seconds += 30
    calibrating.look()
    calibrating.look()

    assert set(kept(engine, *names)) == set(names) - {names[3]}
    assert [record.message for record in caplog.records if "gap" in record.message] == [
        "A/A history of 'service-03' in 'production' has a gap"
    ]


def test_a_window_is_over_when_it_is_by_the_stores_clock_too(tmp_path: Path) -> None:
    """A controller whose clock is twenty minutes ahead keeps nothing of what is still to come."""
    engine = Judged(directory=tmp_path)
    calibrating, right = keeper(engine), engine.clock.seconds
    engine.store.time = lambda: T0.timestamp() + right
    end = reported(engine, "api", ticks=120)
    engine.clock.seconds += 2 * WINDOW_SECONDS
    calibrating.look()
    assert kept(engine, "api") == {}

    right = end - T0.timestamp() + 30
    calibrating.look()
    assert kept(engine, "api")["api"][-1] == WINDOW_SECONDS


def test_what_was_kept_too_early_is_put_right_when_the_clock_is(tmp_path: Path) -> None:
    """Where store and controller share a machine, both clocks jump."""
    engine = Judged(directory=tmp_path)
    calibrating = keeper(engine)
    reported(engine, "api", ticks=120)
    engine.clock.seconds += 30
    calibrating.look()
    engine.clock.seconds += 3 * WINDOW_SECONDS
    calibrating.look()
    assert kept(engine, "api")["api"][-4:] == [WINDOW_SECONDS, 0, 0, 0]

    engine.clock.seconds -= 3 * WINDOW_SECONDS
    calibrating.look()
    engine.clock.seconds += WINDOW_SECONDS
    at = int(moment(engine.clock.now())) // WINDOW_SECONDS * WINDOW_SECONDS
    more = both_halves("api", at, 120)
    engine.store.add("production", "api:1", at, more, {"service.name": "api", "seen": at})
    calibrating.look()
    assert kept(engine, "api")["api"][-4:] == [WINDOW_SECONDS, WINDOW_SECONDS, 0, 0]


def test_made_up_names_push_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has an SDK's token says what its service is called."""
    monkeypatch.setattr(halves, "SERVICES", 3)
    monkeypatch.setattr(calibrating_module, "MOST_SERVICES", 6)
    engine = Judged(directory=tmp_path)
    calibrating = keeper(engine)
    id = engine.start(schedule="25%:5m,100%")
    engine.rollouts.roll_back(id, Reasoned(reason="a test"), ADMIN)
    engine.until(engine.ended(id), 60)
    engine.clock.seconds += 2 * WINDOW_SECONDS

    def look(*names: str) -> None:
        reported(engine, *names)
        engine.clock.seconds += 30
        calibrating.look()
        engine.clock.seconds += WINDOW_SECONDS - 30

    made_up = [f"made-up-{number}" for number in range(6)]
    look("shop")
    look("shop", *made_up)
    look("api", "shop", *made_up)

    have = kept(engine, "api", "shop", *made_up)
    assert len(have) == 3 + len(["api"]), "whoever was rolled out has history all the same"
    assert have["api"][-1] == TICK_SECONDS
    assert have["shop"][-3:] == [TICK_SECONDS] * 3


def test_of_a_name_that_says_nothing_nothing_is_kept(tmp_path: Path) -> None:
    engine = Judged(directory=tmp_path)
    calibrating = keeper(engine)
    at = int(moment(engine.clock.now()))
    engine.store.add("production", "f:1", 1, [], {"service.name": "made-up", "seen": at})
    engine.clock.seconds += 30
    calibrating.look()

    assert kept(engine, "made-up") == {}
    assert engine.store.known("production") == []


# --- and what follows from it ---------------------------------------------------------------------


def test_a_plan_says_whether_it_is_calibrated_and_reckons_with_it(tmp_path: Path) -> None:
    engine = a_noisy_service(tmp_path)
    before = planned(engine)
    lived(engine, NOISY)
    after = planned(engine)

    assert before.calibration is not None
    assert after.calibration is not None
    assert before.calibration.sentence == "Not calibrated: no history, 6 h wanted."
    assert after.calibration.sentence.startswith("Calibrated on 6 h of A/A history: failures scat")
    less, more = before.power[0][0], after.power[0][0]
    assert (less.guard, more.guard) == (HTTP_ERRORS, HTTP_ERRORS)
    assert less.detects is not None
    assert more.detects is not None
    assert more.detects > 2 * less.detects


def ended(directory: Path, seed: int, *, calibrated: bool) -> tuple[str, str]:
    """Return how a healthy rollout of a noisy service ended, and what it was calibrated by."""
    engine = a_noisy_service(directory / f"{seed}/{calibrated}", f"noisy/{seed}")
    if calibrated:
        lived(engine, NOISY)
    id = engine.start_judged(**ALONE)
    engine.until(engine.ended(id), 20 * 60)
    return str(engine.rollout(id).state), told(engine, id)


def test_a_healthy_version_of_a_noisy_service_is_not_taken_back(tmp_path: Path) -> None:
    """Uncalibrated it is: to a test of independent requests five failures of one cause are five."""
    without, says_not = ended(tmp_path, 4, calibrated=False)
    calibrated, says = ended(tmp_path, 4, calibrated=True)

    assert (without, calibrated) == ("rolled_back", "completed")
    assert says_not == "Not calibrated: no history, 6 h wanted."
    assert says.startswith("Calibrated on 6 h of A/A history: failures scatter ")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_eight_healthy_versions_none_is_taken_back(tmp_path: Path) -> None:
    ends = {
        calibrated: [ended(tmp_path, seed, calibrated=calibrated)[0] for seed in range(8)]
        for calibrated in (False, True)
    }

    assert ends[False].count("rolled_back") >= 4
    assert ends[True] == ["completed"] * 8


def test_harm_of_a_noisy_service_is_still_taken_back(tmp_path: Path) -> None:
    engine = a_noisy_service(tmp_path)
    lived(engine, NOISY)
    id = engine.start_judged(**ALONE)
    engine.until(lambda: engine.rollout(id).step_confirmed_at is not None, 60)
    engine.world = replace(NOISY, harm=0.3)
    engine.until(engine.ended(id), 120)

    cause = engine.rollout(id).rollback
    assert cause is not None
    assert cause.row == "harm proven"


def test_what_it_began_with_it_is_judged_by_to_the_end_and_ever_after(tmp_path: Path) -> None:
    """The noise is in the head of its series: whoever takes over, and whoever replays it years
    later, goes by that, whatever is known of the service by then."""
    engine = a_noisy_service(tmp_path)
    lived(engine, NOISY)
    id = engine.start_judged(**ALONE)
    engine.run(60)
    first = told(engine, id)
    client = fakeredis.FakeRedis(server=engine.redis)
    assert client.delete(*client.scan_iter("sortition:halves:*"))
    engine.controller.step_down()
    engine.controller = engine.new_controller("second")
    engine.world = replace(NOISY, harm=0.3)
    engine.until(engine.ended(id), 120)

    bodies = [dict(body) for body in engine.services.grounds.series(id, ADMIN)]
    design = Trial.from_head(bodies[0]).design
    assert first == told(engine, id) == design.calibration
    assert design.rates[0].noise.dispersion > 3
    then = [look.decision for look in series.of_bodies(enumerate(bodies, 1)).looks]
    stripped = [json.dumps({**body, "decision": None}) for body in bodies[1:]]
    again = list(series.replay(series.read([json.dumps(bodies[0]), *stripped])))
    assert [look.decision for look in again] == then
    assert not any(look.differs for look in again)
