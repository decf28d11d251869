"""Looks in order and their replay: what is recorded gives the same decisions, through JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from sortition.judgement import series
from sortition.judgement.counts import BEFORE, Counts, Latencies, Tick
from sortition.judgement.design import CRITICAL_PATH, HTTP_ERRORS, USER_SESSION, Design
from sortition.judgement.policy import Decision, Does, Limit, Outside, Overtime
from sortition.judgement.trial import FORMAT, Look, Subject, Trial, replay

from tests.judgement.builders import a_design, a_tick, errors_alone, outside
from tests.slices import a_slice

SUBJECTS = (
    Subject("alb/shop", 0.6, confounded_by=("flag/new-search",)),
    Subject("flag/new-search", 0.4, design=errors_alone(certified=(0,))),
)


def some_counts(chance: Random, most: int, ill: float) -> Counts:
    n_t, n_c = chance.randint(0, most), chance.randint(0, 4 * most)
    x_t = sum(chance.random() < ill for _ in range(n_t))
    return Counts(n_t, x_t, n_c, sum(chance.random() < 0.01 for _ in range(n_c)))


def some_latencies(chance: Random, later: int = 0) -> Latencies:
    def arm(requests: int, later: int) -> dict[int, int]:
        found: dict[int, int] = {}
        for _ in range(requests):
            bucket = min(257, max(0, round(chance.gauss(120 + later, 20))))
            found[bucket] = found.get(bucket, 0) + 1
        return found

    return Latencies(arm(chance.randint(0, 30), later), arm(60, 0))


def some_tick(chance: Random, at: float, step: int, strata: int, ill: float) -> Tick:
    counts = {
        name: [some_counts(chance, 40, ill) for _ in range(strata)]
        for name in (HTTP_ERRORS, USER_SESSION, CRITICAL_PATH)
        if name == HTTP_ERRORS or chance.random() < 0.7
    }
    latency = (
        [some_latencies(chance, 24 if ill else 0) for _ in range(strata)]
        if chance.random() < 0.8
        else []
    )
    assigned = (chance.randint(0, 20), chance.randint(0, 80)) if chance.random() < 0.5 else None
    return Tick(at, 1.0, step, 0.2, counts, latency, assigned)


def some_outside(chance: Random, step: int, passed: float) -> Outside:
    limits = (Limit("p95 1,300 ms.", control_breaks=False),) if chance.random() < 0.05 else ()
    return Outside(
        step,
        watched=passed * chance.random(),
        passed=passed,
        hold=chance.choice([20.0, 60.0, 300.0]),
        data_age=chance.choice([0.0, 0.0, 2.5, 2.5, 2.5, 30.0, None]),
        overtime=chance.choice(list(Overtime)),
        hosts="1 of 2 is dead." if chance.random() < 0.02 else None,
        limits=limits,
    )


def some_looks(chance: Random) -> Iterator[Look]:
    """A rollout as it may come: ticks late, several at once or none, an arm away, things broken."""
    ill = chance.choice([0.0, 0.0, 0.01, 0.3])
    before = [Tick(float(k), 60.0, BEFORE, 0.0, {}, [some_latencies(chance)]) for k in range(1, 6)]
    ticks = {subject.target: before for subject in SUBJECTS}
    now, step = 10.0, 0
    for number in range(chance.randint(3, 25)):
        if chance.random() < 0.15:
            step += 1
        for place, subject in enumerate(SUBJECTS):
            times = chance.choice([0, 1, 1, 1, 3])
            new = [some_tick(chance, now + k, step, 1 + place, ill) for k in range(times)]
            ticks = {**ticks, subject.target: [*ticks.get(subject.target, []), *new]}
        now += 5.0
        yield Look(ticks, some_outside(chance, step, 5.0 * (number + 1)))
        ticks = {}


def told(decision: Decision) -> tuple[Any, ...]:
    return (
        decision.does,
        decision.rule,
        decision.sentence,
        decision.targets,
        decision.guard,
        decision.evidence,
    )


def recorded(trial: Trial, looks: Iterator[Look]) -> tuple[list[Decision], list[str]]:
    decisions, lines = [], [json.dumps(trial.head())]
    for look in looks:
        decision = trial.look(look)
        decisions.append(decision)
        lines.append(json.dumps(look.to_body(decision), ensure_ascii=False))
    return decisions, lines


@pytest.mark.parametrize("seed", a_slice(range(1000), 30))
@pytest.mark.timeout(60)
def test_a_recorded_rollout_is_decided_alike_look_by_look(seed: int) -> None:
    chance = Random(seed)
    decisions, lines = recorded(Trial(a_design(steps=4), SUBJECTS), some_looks(chance))
    # Nothing is read off what was decided then.
    series = [{**json.loads(line), "decision": None} for line in lines]
    del series[0]["decision"]

    again = list(replay(series))

    assert [told(one) for one in again] == [told(one) for one in decisions]


def test_these_rollouts_are_of_all_kinds() -> None:
    rules = set()
    for seed in range(30):
        trial = Trial(a_design(steps=4), SUBJECTS)
        rules |= {trial.look(look).rule for look in some_looks(Random(seed))}

    assert rules >= {"harm proven", "missing data", "dead hosts", "waiting", "overtime", "well"}


def test_a_replay_notices_that_a_count_was_changed() -> None:
    trial = Trial(errors_alone(), [Subject("alb/shop")])
    looks = [
        Look({"alb/shop": [a_tick(number, canary=(25, 3))]}, outside()) for number in range(1, 5)
    ]
    decisions, lines = recorded(trial, iter(looks))
    series = [json.loads(line) for line in lines]
    for body in series[1:]:
        body["ticks"]["alb/shop"][0]["counts"][HTTP_ERRORS][0][1] = 0

    assert decisions[-1].does is Does.ROLL_BACK
    assert [one.does for one in replay(series)] == [Does.STAY] * 4


def test_what_was_designed_comes_back_as_it_was() -> None:
    design = a_design()

    assert Design.from_body(json.loads(json.dumps(design.to_body()))) == design


# --- what is refused ------------------------------------------------------------------------------


def a_body() -> dict[str, Any]:
    latency = [Latencies({3: 1}, {4: 2})]
    body: dict[str, Any] = json.loads(
        json.dumps(a_tick(1, latency=latency, assigned=(1, 2)).to_body())
    )
    return body


def test_a_tick_comes_back_as_it_was() -> None:
    assert Tick.from_body(a_body()).to_body() == a_body()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("counts", {HTTP_ERRORS: [[-1, 0, 5, 0]]}),
        ("counts", {HTTP_ERRORS: [[5, 6, 5, 0]]}),
        ("counts", {HTTP_ERRORS: [[5, 0, 5, 6]]}),
        ("counts", {HTTP_ERRORS: [[10**10, 0, 5, 0]]}),
        ("counts", {HTTP_ERRORS: [[1.5, 0, 5, 0]]}),
        ("counts", {HTTP_ERRORS: [[True, 0, 5, 0]]}),
        ("counts", {HTTP_ERRORS: [[float("nan"), 0, 5, 0]]}),
        ("latency", [[[[0, -3]], []]]),
        ("assigned", [-1, 2]),
        ("at", float("inf")),
        ("at", "now"),
        ("seconds", 0),
        ("seconds", 1e9),
        ("share", 1.5),
        ("step", -2),
    ],
)
def test_what_is_no_tick_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Tick.from_body({**a_body(), field: value})


def test_a_tick_that_was_judged_is_not_judged_again() -> None:
    trial = Trial(errors_alone(), [Subject("alb/shop")])
    trial.look(Look({"alb/shop": [a_tick(2)]}, outside()))

    for number in (2, 1):
        with pytest.raises(ValueError, match="is not after"):
            trial.look(Look({"alb/shop": [a_tick(number)]}, outside()))


def test_a_target_that_nobody_knows_is_refused_and_the_known_ones_are_listed() -> None:
    trial = Trial(errors_alone(), [Subject("alb/shop")])

    with pytest.raises(ValueError, match="alb/shop"):
        trial.look(Look({"alb/other": [a_tick(1)]}, outside()))


FIRST_MEMBERS = {"rates", "latency", "edges", "planned_seconds", "steps", "alpha", "beta"}
"""What a design of format 1 had at first; who reads them as they were then refuses any other."""


def test_a_head_is_read_by_versions_that_know_nothing_of_calibration() -> None:
    calibrated = replace(errors_alone(), calibration="Calibrated on 6 h.")
    head = Trial(calibrated, [Subject("alb/shop", design=calibrated)]).head()

    assert head["design"].keys() == head["targets"][0]["design"].keys() == FIRST_MEMBERS
    again = Trial.from_head(json.loads(json.dumps(head)))
    assert again.design == again.subjects[0].design == calibrated
    assert series.read([json.dumps(head)]).design == calibrated
    within = {**head, "design": calibrated.to_body(), "calibration": ""}
    assert Trial.from_head(within).design == calibrated


def test_a_head_says_which_backstop_there_was_and_the_first_ones_go_on_by_theirs() -> None:
    """A replay years later decides as was decided then."""
    now = replace(errors_alone(), by_causes=True)
    head = Trial(now, [Subject("alb/shop", design=now)]).head()

    assert head["design"].keys() == head["targets"][0]["design"].keys() == FIRST_MEMBERS
    read = series.read([json.dumps(head)])
    assert (read.design, read.subjects[0].design) == (now, now)
    assert Trial.from_head(head).subjects[0].design == now
    del head["by_causes"]
    assert not series.read([json.dumps(head)]).design.by_causes
    assert not Trial.from_head(head).design.by_causes


def test_what_a_newer_version_describes_besides_is_passed_over() -> None:
    design = replace(errors_alone(), calibration="Calibrated on 6 h.")

    assert Design.from_body({**design.to_body(), "weather": "fine"}) == design


def test_another_form_is_refused() -> None:
    head = Trial(errors_alone(), [Subject("alb/shop")]).head()

    assert head["format"] == FORMAT
    with pytest.raises(ValueError, match="format"):
        next(replay([{**head, "format": 2}]))


def test_weights_that_overspend_the_budget_are_refused() -> None:
    with pytest.raises(ValueError, match="weight"):
        Trial(errors_alone(), [Subject("a", 1.0), Subject("b", 1.0)])
    with pytest.raises(ValueError, match="weights"):
        a_design(latency=None)
    with pytest.raises(ValueError, match="alpha"):
        Trial(errors_alone(), [Subject("a", design=a_design(alpha=0.05))])
