"""What a rollout was judged by: exported, replayed offline, and how both versions differ."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flagserver.domain.states import State
from flagserver.domain.times import from_unix
from flagserver.http.app import create_app
from flagserver.settings import Settings
from tests.builders import T0
from tests.engines import RULE
from tests.judged import HEALTHY, STANDARD, Judged

from .test_rollouts import SURE, Desk


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, str]:
    """A rollout that harm took back, and the command pointed at its server."""
    engine = Judged(directory=tmp_path_factory.mktemp("harmed"))
    engine.serve(60)
    id = engine.start_judged(targets=[{**RULE.to_body(), "mode": "drive"}])
    engine.until(lambda: engine.weight == 5, 60)
    engine.run(60)
    engine.world = replace(HEALTHY, harm=0.2)
    engine.until(engine.ended(id), 120)
    return Desk(engine), id


def test_what_is_exported_is_replayed_to_the_same_verdicts(
    harmed: tuple[Desk, str], tmp_path: Path
) -> None:
    desk, id = harmed
    file = tmp_path / "series.jsonl"

    printed = desk.rollouts("evidence", id, "--series")
    written = desk.rollouts("evidence", id, "--series", "--out", str(file))
    again = desk.rollouts("replay", str(file), "--json")

    assert file.read_text() == printed.stdout
    assert written.exit_code == again.exit_code == 0
    told = json.loads(again.stdout)
    assert told["equal"]
    assert told["compared"] == told["looks"] == len(printed.stdout.splitlines()) - 1 > 10
    last = told["decisions"][-1]["decision"]
    assert (last["does"], last["rule"]) == ("roll_back", "harm proven")
    cause = desk.engine.rollout(id).rollback
    assert cause is not None
    assert cause.reason == last["sentence"]


def test_what_was_known_of_noise_is_told_with_it_and_years_later(
    harmed: tuple[Desk, str], tmp_path: Path
) -> None:
    desk, id = harmed
    file, says = tmp_path / "series.jsonl", "noise: Not calibrated: no history, 6 h wanted."
    desk.rollouts("evidence", id, "--series", "--out", str(file))

    assert says in desk.rollouts("get", id).stdout
    assert desk.rollouts("replay", str(file)).stdout.startswith(says)
    judgement = json.loads(desk.rollouts("get", id, "--json").stdout)["judgement"]
    assert f"noise: {judgement['calibration']}" == says
    assert judgement["guards"][0]["dispersion"] == 1


@pytest.mark.parametrize("name", ["evidence.json", "evidence.zip"])
def test_an_export_of_all_holds_the_series_too(
    harmed: tuple[Desk, str], tmp_path: Path, name: str
) -> None:
    desk, id = harmed
    file = tmp_path / name

    done = desk.rollouts("evidence", id, "--out", str(file))
    again = desk.rollouts("replay", str(file))

    assert "looks to replay" in done.stdout
    assert again.exit_code == 0, again.output
    assert "harm proven" in again.stdout
    if name.endswith(".zip"):
        with zipfile.ZipFile(file) as packed:
            assert packed.namelist() == ["evidence.json", "series.jsonl", "summary.md"]


def test_a_count_that_somebody_changed_in_an_export_is_found(
    harmed: tuple[Desk, str], tmp_path: Path
) -> None:
    desk, id = harmed
    lines = desk.rollouts("evidence", id, "--series").stdout.splitlines()
    bodies: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for body in bodies[1:]:
        for tick in body["ticks"].get(RULE.id, ()):
            for strata in tick["counts"].values():
                strata[0][1] = 0
    file = tmp_path / "series.jsonl"
    file.write_text("\n".join(map(json.dumps, bodies)))

    done = desk.rollouts("replay", str(file))

    assert done.exit_code == 9
    assert "then does roll_back" in done.stdout


def test_what_this_policy_would_have_done_with_another_budget(
    harmed: tuple[Desk, str], tmp_path: Path
) -> None:
    desk, id = harmed
    file = tmp_path / "series.jsonl"
    desk.rollouts("evidence", id, "--series", "--out", str(file))

    told = json.loads(
        desk.rollouts("simulate", "--from", str(file), "--alpha", "30", "--json").stdout
    )

    assert told["rolled_back"]
    assert told["seconds"] <= told["recorded_seconds"]


def test_the_difference_between_both_versions_is_shown(harmed: tuple[Desk, str]) -> None:
    desk, id = harmed

    found = desk.json("evidence", id)
    printed = desk.rollouts("evidence", id).stdout

    errors = found["differences"][0]
    assert found["series"] is None
    assert {one["metric"] for one in found["differences"]} > {"http errors", "p95 latency"}
    assert (errors["target"], errors["metric"], errors["unit"]) == (RULE.id, "http errors", "")
    assert errors["canary"]["value"] > errors["control"]["value"]
    assert errors["low"] < errors["canary"]["value"] - errors["control"]["value"] < errors["high"]
    assert "Canary less control" in printed


def test_over_http_the_series_is_lines_of_json(harmed: tuple[Desk, str]) -> None:
    desk, id = harmed
    app = create_app(desk.engine.services, Settings())

    answer = app.test_client().get(
        f"/api/v1/rollouts/{id}/evidence/series",
        headers={"Authorization": f"Bearer {desk.engine.admin_token}"},
    )

    assert (answer.status_code, answer.mimetype) == (200, "application/x-ndjson")
    assert answer.text == desk.rollouts("evidence", id, "--series").stdout


def test_a_split_is_held_until_its_date_and_says_how_both_differ(tmp_path: Path) -> None:
    engine = Judged(directory=tmp_path)
    desk = Desk(engine)
    engine.serve(60)
    until = from_unix(T0.timestamp() + engine.clock.seconds + 900)
    file = tmp_path / "split.json"
    file.write_text(
        json.dumps(
            {
                "environment": "production",
                "service": "api",
                "version": "2",
                "schedule": "50%:end",
                "targets": [RULE.to_body()],
                "guards": STANDARD,
            }
        )
    )

    plan = desk.rollouts("plan", "-f", str(file), "--until", until).stdout
    started = desk.json("start", "-f", str(file), "--until", until, *SURE)
    id = started["id"]
    engine.run(600)
    shown = desk.rollouts("get", id).stdout
    printed = desk.rollouts("evidence", id).stdout
    engine.run(310)

    assert f"a split: the last share is held until {until}" in plan
    assert (started["kind"], started["until"]) == ("split", until)
    assert f"a split until {until}" in shown
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert any(line.startswith("http errors ") and line.endswith("not proven") for line in lines)
    assert any(line.startswith("p95 latency ") and " ms of " in line for line in lines)
    assert engine.rollout(id).state is State.COMPLETED
    assert engine.weight == 50


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--schedule", "5%:5m,100%"), "--schedule: A split keeps both versions until its end"),
        (("--schedule", "50%:1h:end"), "--until: How long the last share is held"),
        (("--schedule", "50%:end", "--until", "soon"), "must be a time, as in 2027"),
    ],
)
def test_what_cannot_be_a_split_names_its_option(
    harmed: tuple[Desk, str], more: tuple[str, ...], told: str
) -> None:
    desk, _ = harmed
    until = from_unix(T0.timestamp() + desk.engine.clock.seconds + 900)
    done = desk.rollouts(
        *("plan", "--env", "production", "--service", "api", "--flag", "new-search"),
        *("--guards", "none", "--until", until, *more),
    )

    assert done.exit_code == 1
    assert told in done.output


def test_a_rollout_that_compares_nothing_has_nothing_to_replay(tmp_path: Path) -> None:
    desk = Desk(Judged(directory=tmp_path))
    id = desk.engine.start(targets=[{**RULE.to_body(), "mode": "drive"}])
    desk.engine.run(30)

    done = desk.rollouts("evidence", id, "--series")

    assert desk.engine.rollout(id).state is State.RUNNING
    assert done.exit_code == 1
    assert "nothing was compared" in done.output
    assert desk.json("evidence", id)["differences"] == []
