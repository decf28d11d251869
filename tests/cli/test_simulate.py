"""`sortition rollouts simulate`: what the policy would do, without a server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sortition.cli.main import cli
from sortition.cli.rollouts import simulating
from sortition.judgement import simulation
from sortition.judgement.planning import Step
from sortition.judgement.policy import Outside
from sortition.judgement.traffic import Traffic, World
from sortition.judgement.trial import Look, Subject, Trial

SHORT = ("--schedule", "5%:1m,50%:1m,100%", "--runs", "4")


def simulate(*words: str) -> Result:
    return CliRunner().invoke(cli, ["rollouts", "simulate", *words])


def simulated(*words: str) -> Any:
    done = simulate(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def a_recording(folder: Path, world: World, ticks: int = 60) -> Path:
    """A rollout of a simulated world that nobody moved on from 5 %, as a series."""
    steps = (Step(0.05, 300.0),)
    trial = Trial(simulation.design_of(world, steps), [Subject("alb/shop")])
    traffic = Traffic(world, Random("recording"))

    def lines() -> Iterator[str]:
        yield json.dumps(trial.head())
        before = [traffic.before()]
        for number in range(1, ticks + 1):
            passed = number * world.tick
            outside = Outside(0, passed, passed, 300.0)
            look = Look({"alb/shop": [*before, traffic.tick(0, 0.05)]}, outside)
            before.clear()
            yield json.dumps(look.to_body(trial.look(look)))

    file = folder / "series.jsonl"
    file.write_text("\n".join(lines()))
    return file


def test_harm_is_found_and_the_healthy_twin_is_left_alone() -> None:
    found = simulated(*SHORT, "--rate", "100", "--harm", "50")

    assert found["harmed"]["rolled_back"] == 4
    assert found["harmed"]["median"] <= 15
    assert 0 < found["harmed"]["failed"] < 100
    assert found["harmed"]["rules"][0]["rule"] == "harm proven"
    assert (found["healthy"]["rolled_back"], found["healthy"]["median"]) == (0, None)
    assert found["world"]["harm"] == 0.5
    assert found["schedule"] == [{"share": 5.0, "hold": 60.0}, {"share": 50.0, "hold": 60.0}]


def test_a_control_that_is_kept_can_still_be_compared_with() -> None:
    words = ("--runs", "2", "--harm", "50", "--schedule")

    kept = simulated(*words, "100%:10m:keep=1%")

    assert kept["schedule"] == [{"share": 99.0, "hold": 600.0}]
    assert kept["harmed"]["rolled_back"] == 2


def test_the_same_seed_gives_the_same_whoever_computes_it() -> None:
    words = (*SHORT, "--harm", "10", "--runs", "12")
    one, other = simulated(*words), simulated(*words, "--seed", "2")

    assert simulated(*words, "--jobs", "2") == one
    assert one["harmed"] != other["harmed"]


def test_without_harm_there_is_nothing_to_find() -> None:
    told = simulate(*SHORT)

    assert told.exit_code == 0
    assert "With the harm" not in told.stdout
    assert "0 %, surely 0.0 to" in told.stdout
    assert "In simulated traffic" in told.stdout


def test_a_canary_that_is_slower_goes_back_for_its_latency() -> None:
    found = simulated("--schedule", "25%:5m,100%", "--runs", "2", "--slower", "4")

    assert {each["guard"] for each in found["harmed"]["rules"]} == {"p95 latency"}


def test_with_noise_it_is_calibrated_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "DAY", 3600)
    monkeypatch.setattr(simulation, "LATENCY_HISTORY", 600)

    told = simulate(*SHORT, "--rate", "10", "--noise", "clusters")

    assert "calibrating on a day" in told.stderr
    assert "noise: clusters, calibrated" in told.stdout


def test_a_long_simulation_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 10)
    monkeypatch.setattr(simulating, "monotonic", lambda: float(next(clock)))

    told = simulate(*SHORT, "--runs", "12")

    assert told.stderr.splitlines() == [
        "5 of 12 runs; about 14s more",
        "10 of 12 runs; about 4s more",
    ]


# --- over a recording -----------------------------------------------------------------------------


def test_a_recording_with_another_alpha_is_judged_as_it_was_counted(tmp_path: Path) -> None:
    file = a_recording(tmp_path, World(100, 0.001, 0.04))

    strict, bold = (simulated("--from", str(file), "--alpha", alpha) for alpha in ("1", "30"))

    assert strict["rolled_back"]
    assert strict["seconds"] == strict["recorded_seconds"]
    assert bold["seconds"] < strict["seconds"]
    assert bold["failed"] <= strict["failed"]
    told = simulate("--from", str(file), "--alpha", "30").stdout
    assert "It goes back" in told
    assert "As it was decided then, it went back after" in told


def test_a_healthy_recording_is_not_taken_back(tmp_path: Path) -> None:
    file = a_recording(tmp_path, World(100, 0.001))

    told = simulate("--from", str(file)).stdout

    assert "It does not go back within the recording." in told
    assert "As it was decided then, it did not go back." in told


def test_a_recording_by_another_schedule_is_drawn_anew(tmp_path: Path) -> None:
    file = a_recording(tmp_path, World(50, 0.001, 0.04))

    small = simulated("--from", str(file), "--schedule", "5%:5m,100%", "--runs", "10")
    large = simulated("--from", str(file), "--schedule", "25%:5m,100%", "--runs", "10")

    assert large["recorded"]["rolled_back"] == 10
    assert large["recorded"]["median"] < small["recorded"]["median"]
    assert large["harmless"]["rolled_back"] == 0
    told = simulate("--from", str(file), "--schedule", "25%:5m,100%", "--runs", "2").stdout
    assert "Had it fared as control" in told
    assert "drawn anew" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--schedule", "100%:10m"), "at 100 % there is no control"),
        (("--schedule", "5%,100%"), "step 1 needs a time"),
        (("--schedule", "5%:soon,100%"), "neither a time"),
        (("--tick", "2m"), "--tick: from 1s to 60s"),
        (("--harm", "101"), "0<=x<=100"),
        (("--rate", "0"), "--rate"),
        (("--from", "FILE", "--harm", "1"), "--harm: A recorded rollout says that itself"),
        (("--from", "FILE", "--runs", "9"), "--runs: As it was counted it is judged once"),
        (("--from", "FILE", "--schedule", "9%:1m", "--target", "x"), "there are: alb/shop"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    file = str(a_recording(tmp_path, World(10, 0.001), ticks=3))

    done = simulate(*(file if word == "FILE" else word for word in words))

    assert done.exit_code == 2
    assert told in done.output
