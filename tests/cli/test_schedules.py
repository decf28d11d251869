"""`sortition schedules` against the real application."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem
from sortition.cli import completion, exits
from sortition.cli.main import cli

from tests.cli.conftest import House

STEPS = "1%:30m,10%:30m:approve:n=1000,100%:10m"
HERE = ("--env", "production")

FILE = """\
description: For what must not fail.
steps:
  - {share: 1, hold: 30m}
  - {share: 10, hold: 30m, approval: true, minimum_sample: 1000}
  - {share: 100}
bake: 10m
"""


def lines(text: str) -> list[str]:
    """Return a table's lines with single blanks."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_one_is_kept_shown_replaced_and_deleted(house: House) -> None:
    made = house.run("schedules", "set", "careful", STEPS, *HERE, "--reason", "a test")
    shown = house.run("schedules", "get", "careful", *HERE)
    replaced = house.json("schedules", "set", "careful", "50%:5m,100%", *HERE)
    deleted = house.json("schedules", "delete", "careful", *HERE)

    assert made.stdout == f"✔ careful in production: {STEPS}, revision 1.\n"
    assert lines(shown.stdout) == [
        "careful in production, revision 1, 1h10m in all",
        STEPS,
        "",
        "Step Share Hold Asks for",
        "1 1 % 30m",
        "2 10 % 30m approval, 1000 requests",
        "3 100 % 10m, then complete",
    ]
    assert (replaced["text"], replaced["revision"]) == ("50%:5m,100%", 2)
    assert deleted["deleted"] is True
    assert house.run("schedules", "get", "careful", *HERE).exit_code == exits.ERROR


def test_a_control_that_is_kept_is_told_and_stays_what_it_was(house: House) -> None:
    steps = "50%:15m,100%:10m:keep=1%:overtime=roll_back"

    made = house.json("schedules", "set", "careful", steps, *HERE)
    shown = lines(house.run("schedules", "get", "careful", *HERE).stdout)

    assert (made["text"], made["keep"], made["end"]) == (steps, 1, 100)
    assert shown[-1] == "2 100 % 10m with 1 % on the old version, then complete"


def test_one_is_kept_as_a_file_says(house: House, tmp_path: Path) -> None:
    path = tmp_path / "careful.yaml"
    path.write_text(FILE)

    made = house.json("schedules", "set", "careful", "-f", str(path), *HERE)

    assert (made["text"], made["description"]) == (STEPS, "For what must not fail.")

    path.write_text(json.dumps({"schedule": "50%:5m,100%"}))
    made = house.json("schedules", "set", "careful", "-f", str(path), *HERE)
    # What it is for stays until somebody says otherwise.
    assert (made["text"], made["description"]) == ("50%:5m,100%", "For what must not fail.")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("101%:5m,100%", "✖ STEPS: Step 1 gives 101 %"),
        ("25%:5m,5%:5m,100%", "✖ STEPS: Step 2 gives 5 % after 25 %"),
        ("5%:0s,100%", "✖ STEPS: Step 1 needs a hold above 0"),
        ("no-such", "✖ STEPS: 'no-such' is no schedule. There are standard;"),
    ],
)
def test_what_cannot_be_run_is_refused_and_nothing_kept(
    house: House, steps: str, words: str
) -> None:
    done = house.run("schedules", "set", "careful", steps, *HERE)

    assert (done.exit_code, done.stderr[: len(words)]) == (exits.USAGE, words)
    assert house.run("schedules", "get", "careful", *HERE).exit_code == exits.ERROR


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("share: 10,", "share: 101,", "steps.1.share: "),
        ("share: 10,", "share: 0.5,", "steps.1.share: Step 2 gives 0.5 % after 1 %"),
        ("hold: 30m", "hold: 0s", "steps.0.hold: Step 1 needs a hold above 0"),
        ("bake: 10m", "bake: soon", "bake: 'soon' is no duration"),
        ("approval: true", "approved: true", "steps.1.approved: "),
    ],
)
def test_a_file_that_cannot_be_run_has_its_place_named(
    house: House, tmp_path: Path, old: str, new: str, place: str
) -> None:
    path = tmp_path / "careful.yaml"
    path.write_text(FILE.replace(old, new))

    done = house.run("schedules", "set", "careful", "-f", str(path), *HERE)

    assert done.exit_code == exits.ERROR
    assert done.stderr.startswith(f"✖ {path}: {place}")


@pytest.mark.parametrize("given", [(), (STEPS, "-f", "FILE")])
def test_steps_are_given_once(house: House, tmp_path: Path, given: tuple[str, ...]) -> None:
    path = tmp_path / "careful.yaml"
    path.write_text(FILE)
    words = [str(path) if word == "FILE" else word for word in given]

    done = house.run("schedules", "set", "careful", *words, *HERE)

    assert done.exit_code == exits.USAGE
    assert "Give STEPS, or a file (-f)." in done.stderr


def test_a_dry_run_shows_what_would_change_and_changes_nothing(house: House) -> None:
    new = house.run("schedules", "set", "careful", STEPS, *HERE, "--dry-run")
    house.run("schedules", "set", "careful", STEPS, *HERE)
    changed = house.run("schedules", "set", "careful", "50%:5m,100%", *HERE, "--dry-run")
    same = house.run("schedules", "set", "careful", STEPS, *HERE, "--dry-run")
    deleted = house.run("schedules", "delete", "careful", *HERE, "--dry-run")

    assert new.stdout.splitlines()[0] == "careful · production · new"
    assert changed.stdout.splitlines() == [
        "careful · production · revision 1",
        f'-  text: "{STEPS}"',
        '+  text: "50%:5m,100%"',
    ]
    assert same.stdout.splitlines()[1] == "nothing changes"
    assert deleted.stdout.startswith("would delete careful in production, revision 1: 1%:30m")
    assert house.json("schedules", "get", "careful", *HERE)["revision"] == 1


@pytest.mark.parametrize("verb", [("set", "careful", "50%:5m,100%"), ("delete", "careful")])
def test_somebody_elses_change_is_not_overwritten(house: House, verb: tuple[str, ...]) -> None:
    house.run("schedules", "set", "careful", STEPS, *HERE)
    house.run("schedules", "set", "careful", "5%:5m,100%", *HERE)

    done = house.run("schedules", *verb, *HERE, "--if-revision", "1")

    assert done.exit_code == exits.CONFLICT
    assert house.json("schedules", "get", "careful", *HERE)["text"] == "5%:5m,100%"


def test_what_is_built_in_is_listed_read_and_left_alone(house: House) -> None:
    house.run("schedules", "set", "careful", STEPS, *HERE)
    listed = lines(house.run("schedules", "list").stdout)
    elsewhere = house.json("schedules", "list", "--env", "staging")

    assert listed[1].startswith("standard built in 5%:5m,25%:10m,50%:15m,100% 30m development, ")
    assert "CodeDeployDefault.ECSCanary10Percent5Minutes" in listed[3]
    assert "10%:1m,20%:1m,30%:1m,…,100% 9m" in listed[5]
    assert listed[-1] == f"careful production {STEPS} 1h10m"
    assert "careful" not in {it["name"] for it in elsewhere["schedules"]}

    aws = house.json("schedules", "get", "CodeDeployDefault.ECSLinear10PercentEvery3Minutes", *HERE)
    assert (len(aws["steps"]), aws["revision"]) == (10, 0)

    for verb in (("set", "standard", STEPS), ("delete", "standard")):
        assert house.run("schedules", *verb, *HERE).exit_code == exits.CONFLICT


def test_an_environment_has_a_default(house: House) -> None:
    house.run("schedules", "set", "careful", STEPS, *HERE)

    refused = house.run("env", "set", "staging", "--schedule", "careful")
    house.json("env", "set", "production", "--schedule", "careful")

    assert refused.stderr.startswith("✖ --schedule: 'careful' is no schedule. There are standard;")
    assert "rollouts go by careful" in house.run("env", "get", "production").stdout
    careful = lines(house.run("schedules", "list").stdout)[-1]
    assert careful == f"careful production {STEPS} 1h10m production"
    assert house.run("schedules", "delete", "careful", *HERE).exit_code == exits.CONFLICT


def test_names_are_completed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.run("schedules", "set", "careful", STEPS, *HERE)
    monkeypatch.setattr(completion, "_ask", house.api.get)

    def completed(*words: str) -> list[CompletionItem]:
        context = cli.make_context("sortition", [], resilient_parsing=True)
        context.params["environment"] = words[0] if words else None
        return completion.schedules(context, cli.params[0], "c")

    assert [item.value for item in completed()] == ["careful"]
    assert [item.value for item in completed("production")] == ["careful"]
    assert completed("staging") == []
