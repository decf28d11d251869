"""`sortition env`, `token`, `status`, `doctor`, `completion`, and what all commands share."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner
from sortition.cli import exits
from sortition.cli.api import Api, Failure
from sortition.cli.main import cli

from tests.cli.conftest import House

ROOT = Path(__file__).parents[2]


def test_environments_are_listed_made_and_changed(house: House) -> None:
    made = house.json("env", "create", "qa", "--description", "Tests", "--critical")
    changed = house.json("env", "set", "qa", "--not-critical", "--reason", "a test")
    shown = house.run("env", "get", "qa")
    listed = house.run("env", "list")

    assert (made["critical"], changed["critical"], changed["revision"]) == (True, False, 2)
    assert "qa, revision 2" in shown.output
    assert "production" in listed.output


def test_an_environment_is_shown_that_a_rollouts_file_names(house: House, tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text("environment: production\nrequires: {environment: staging}\n")
    empty = tmp_path / "empty.yaml"
    empty.write_text("service: api\n")

    assert house.json("env", "get", "-f", str(file))["key"] == "production"
    nothing, both = house.run("env", "get"), house.run("env", "get", "qa", "-f", str(file))
    unnamed = house.run("env", "get", "-f", str(empty))

    assert {nothing.exit_code, both.exit_code, unnamed.exit_code} == {exits.USAGE}
    assert "environment is missing" in unnamed.stderr


READS = {
    *("rollouts plan", "rollouts list", "rollouts get", "rollouts watch", "rollouts evidence"),
    *("rollouts schema", "rollouts replay", "rollouts simulate"),
    *("schedules list", "schedules get"),
}


@pytest.mark.parametrize("noun", ["rollouts", "schedules"])
def test_whatever_changes_something_takes_what_every_write_takes(noun: str) -> None:
    group = cli.commands[noun]
    assert isinstance(group, click.Group)
    for name, command in group.commands.items():
        if f"{noun} {name}" in READS:
            continue
        taken = {option for parameter in command.params for option in parameter.opts}
        missing = {"--env", "--reason", "--dry-run", "--if-revision", "--json"} - taken
        assert not missing, f"{noun} {name}"


def test_a_token_is_shown_once_and_revoked(house: House) -> None:
    done = house.run("token", "create", "--scope", "sdk", "--env", "staging")
    text = done.stdout.strip()
    id = text.split("_")[2]
    listed = house.run("token", "list")

    assert re.fullmatch(r"srt_sdk_[0-9a-f]{12}_[0-9a-f]{64}", text)
    assert id in listed.output
    assert text not in listed.output
    assert "Last used" in listed.output
    assert "never" in listed.output

    house.run("token", "revoke", id)

    assert house.json("token", "list")["tokens"][0]["revoked"] is not None


def test_an_sdk_token_without_environment_is_refused_by_name(house: House) -> None:
    done = house.run("token", "create", "--scope", "sdk")

    assert done.exit_code == 1
    assert done.stderr.startswith("✖ --env: ")


def test_status_says_who_and_where(house: House) -> None:
    done = house.run("status")

    assert "scope admin, all environments" in done.output


def test_the_doctor_is_content_with_a_well_server(house: House) -> None:
    done = house.run("doctor")

    assert done.exit_code == 0, done.output
    assert "✔ token" in done.output


def test_the_doctor_finds_a_wrong_token_and_exits_with_9(house: House) -> None:
    house.api.token = "srt_admin_000000000000_" + "0" * 64

    done = house.run("doctor", "--json")

    found = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.exit_code == exits.CHECK_FAILED
    assert found["token"]["state"] == "failed"
    assert found["token"]["advice"]


def test_the_doctor_misses_the_service_version(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORTITION_KEY", "srt_sdk_x")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")

    assert "there is no control group" in house.run("doctor").output


def test_completion_prints_a_script(house: House) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_SORTITION_COMPLETE" in house.run("completion", shell).output


@pytest.mark.parametrize(
    ("environ", "code", "words"),
    [
        ({}, 2, "set SORTITION_URL"),
        ({"SORTITION_URL": "http://127.0.0.1:1"}, 8, "set SORTITION_TOKEN"),
        (
            {"SORTITION_URL": "http://127.0.0.1:1", "SORTITION_TOKEN": "x"},
            6,
            "is not reachable",
        ),
        ({"SORTITION_URL": "nonsense", "SORTITION_TOKEN": "x"}, 6, "Is the address right"),
    ],
)
def test_what_is_missing_is_said_as_a_process(
    environ: dict[str, str], code: int, words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sortition.cli", "--timeout", "1", "flags", "list"],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_json_may_be_asked_for_by_the_environment(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORTITION_OUTPUT", "json")

    assert json.loads(house.run("env", "list").stdout)["environments"]


def test_every_code_of_the_server_has_an_exit_code() -> None:
    sources = [*(ROOT / "flagserver").rglob("*.py")]
    text = "\n".join(source.read_text() for source in sources)
    codes = set(re.findall(r'Problem\(\s*\d{3},\s*"([a-z_]+)"', text))
    codes |= set(re.findall(r'code, status, title = "([a-z_]+)"', text))
    codes |= set(re.findall(r'^    \d{3}: "([a-z_]+)",$', text, re.MULTILINE))

    assert codes - set(exits.OF_CODE) == set()


@pytest.mark.parametrize("code", sorted(exits.OF_CODE))
def test_a_problem_ends_with_its_exit_code(code: str) -> None:
    problem = {"code": code, "detail": "No.", "status": 400}
    transport = httpx.MockTransport(lambda _: httpx.Response(400, json=problem))
    api = Api("http://flags.test", "x", transport=transport, sleep=lambda _: None)

    done = CliRunner().invoke(cli, ["flags", "list"], obj=api)

    assert done.exit_code == exits.OF_CODE[code]
    assert done.stderr.startswith("✖ No.")


def test_a_write_is_tried_again_with_the_same_key_and_a_read_too() -> None:
    keys: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("Idempotency-Key"))
        if len(keys) < 3:
            raise httpx.ConnectError("away")
        return httpx.Response(200, json={})

    api = Api("http://flags.test", "x", transport=httpx.MockTransport(answer), sleep=lambda _: None)

    api.send("POST", "/api/v1/flags", {})

    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert keys[0]


def test_something_else_at_the_address_is_recognised() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    api = Api("http://flags.test", "x", transport=transport)

    with pytest.raises(Failure, match="does not look like a Sortition server"):
        api.get("/api/v1/flags")
