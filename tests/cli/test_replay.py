"""`sortition rollouts replay FILE`: offline, beside what was decided then."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sortition.cli.main import cli
from sortition.judgement.trial import Trial

from tests.judgement.builders import a_design
from tests.judgement.test_trial import SUBJECTS, recorded, some_looks


def replay(file: Path, *words: str) -> Result:
    """Run the command; nothing is known of any server."""
    return CliRunner().invoke(cli, ["rollouts", "replay", str(file), *words])


def some_bodies() -> list[dict[str, Any]]:
    lines = recorded(Trial(a_design(steps=4), SUBJECTS), some_looks(Random(7)))[1]
    return [json.loads(line) for line in lines]


def written(folder: Path, bodies: list[dict[str, Any]]) -> Path:
    file = folder / "series.jsonl"
    file.write_text("".join(f"{json.dumps(body, ensure_ascii=False)}\n" for body in bodies))
    return file


def test_what_was_decided_is_what_follows(tmp_path: Path) -> None:
    done = replay(written(tmp_path, some_bodies()))

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "✔ 9 of 9 looks were decided as it follows."
    assert "✔    8  1970-01-01T00:00:45Z  step 3  page       shared outage" in done.stdout


def test_what_was_not_decided_so_ends_with_9_and_is_named(tmp_path: Path) -> None:
    bodies = some_bodies()
    bodies[8]["decision"] |= {"does": "roll_back", "targets": ["alb/shop"]}
    file = written(tmp_path, bodies)

    told = replay(file, "--changes")
    content = json.loads(replay(file, "--json").stdout)

    assert told.exit_code == 9
    assert "line 9: then does roll_back, now page; targets alb/shop, now nothing" in told.stdout
    assert told.stdout.splitlines()[-1].startswith("✖ 1 of 9")
    assert (content["equal"], content["differences"]) == (False, 1)
    assert content["decisions"][7]["differs"] == ["does", "targets"]


def test_without_what_was_decided_nothing_is_compared(tmp_path: Path) -> None:
    bodies = some_bodies()
    for body in bodies[1:]:
        body["decision"] = None

    done = replay(written(tmp_path, bodies))

    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("· 9 looks; what was decided then is not in")


@pytest.mark.parametrize("form", ["document", "zip", "zip of a document"])
def test_an_export_that_holds_the_series_is_read_too(tmp_path: Path, form: str) -> None:
    document = json.dumps({"rollout": {"id": "r-1"}, "series": some_bodies()}, indent=2)
    file = tmp_path / "evidence"
    if form == "document":
        file.write_text(document)
    else:
        inside, text = "evidence.json", document
        if form == "zip":
            inside, text = "series.jsonl", written(tmp_path, some_bodies()).read_text()
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr(inside, text)

    done = replay(file)

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("✔ 9 of 9")


def test_what_comes_in_is_replayed_without_a_file(tmp_path: Path) -> None:
    text = written(tmp_path, some_bodies()).read_text()

    done = CliRunner().invoke(cli, ["rollouts", "replay", "-"], input=text)

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("✔ 9 of 9")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: nothing is here"),
        ("{", "line 1: this is no JSON"),
        ('{"format": 2}\n', "line 1: design: is missing"),
        ('{"rollout": {}, "looks": []}\n', "line 1: format: is missing"),
        ('{"series": []}', "no series is in it"),
        ('{"series": [{}]}', "series, entry 1: format: is missing"),
        ("\x00\xff", "codec"),
    ],
)
def test_what_is_no_series_is_refused_by_line_and_field(
    tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "series.jsonl"
    file.write_bytes(text.encode("latin-1"))

    done = replay(file)

    assert done.exit_code == 2
    assert told in done.output


def test_for_programs_too_the_line_and_the_field_are_named(tmp_path: Path) -> None:
    bodies = some_bodies()
    del bodies[3]["outside"]["hold"]

    done = replay(written(tmp_path, bodies), "--json")

    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["line"], error["field"]) == ("bad_file", 4, "outside.hold")
