"""The JSON Schema of a rollout's file is what the server takes."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from click.testing import CliRunner
from pydantic import ValidationError
from sortition.cli import rollout_body
from sortition.cli.main import cli

from flagserver.domain.rollout_commands import NewRollout
from tests.engines import GUARD

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "rollout-schema"
SCHEMA = json.loads((ROOT / "sdk/src/sortition/cli/rollout.schema.json").read_text())
GUIDE = ROOT / "docs" / "how-to" / "start-a-rollout.md"

GOOD: dict[str, Any] = {
    "environment": "production",
    "service": "api",
    "version": "2.4.0",
    "targets": [{"kind": "flag", "name": "new-search"}],
}
STEPS = [{"share": 5, "hold": "5m", "approval": True, "minimum_sample": 500}, {"share": 100}]
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def fits_the_schema(content: dict[str, Any]) -> bool:
    return bool(jsonschema_rs.validator_for(SCHEMA).is_valid(content))


def is_taken(content: dict[str, Any]) -> bool:
    try:
        NewRollout.model_validate(content)
    except ValidationError:
        return False
    return True


def test_it_is_made_from_what_the_server_takes() -> None:
    made = runpy.run_path(str(SCRIPT))["schema"]()

    assert made == SCHEMA, ".venv/bin/python scripts/rollout-schema"


def test_it_is_a_schema() -> None:
    jsonschema_rs.meta.validate(SCHEMA)


def test_the_command_prints_it() -> None:
    done = CliRunner().invoke(cli, ["rollouts", "schema"])

    assert json.loads(done.stdout) == SCHEMA


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"schedule": "5%:5m,25%:10m,100%", "relation": "after"},
        {"schedule": {"steps": STEPS, "bake": "10m"}},
        {"schedule": {"steps": STEPS[:1], "end": 5.0}},
        {"guards": "none", "alarms": ["api-5xx"], "replace": True},
        {"guards": [{**GUARD, "no_data": "pass", "baseline_factor": 2.0}]},
        {"start_at": "2027-01-31T22:00:00Z", "requests_per_second": 120.5, "reason": "a test"},
    ],
)
def test_what_it_lets_pass_is_taken(more: dict[str, Any]) -> None:
    assert fits_the_schema(GOOD | more)
    assert is_taken(GOOD | more)


@pytest.mark.parametrize(
    "more",
    [
        {"verson": "2"},
        {"version": 2.4},
        {"relation": "before"},
        {"schedule": {"steps": []}},
        {"schedule": {"steps": [{"share": "5%"}]}},
        {"targets": []},
        {"targets": [{"kind": "flag"}]},
        {"guards": "some"},
        {"guards": [{"name": "errors", "limit": 1}]},
        {"requests_per_second": 0},
    ],
)
def test_what_it_refuses_is_refused(more: dict[str, Any]) -> None:
    assert not fits_the_schema(GOOD | more)
    assert not is_taken(GOOD | more)


def test_a_confirmation_is_not_for_files() -> None:
    assert not fits_the_schema(GOOD | {"confirm_environment": "production"})


@pytest.mark.parametrize("text", [text for text in EXAMPLES if "targets:" in text])
def test_the_guides_files_are_rollouts(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rollout.yaml"
    path.write_text(text)

    content = rollout_body.read(path)

    assert fits_the_schema(content)
    # What a file leaves out comes from options.
    assert is_taken({"environment": "production", "service": "api", **content})


@pytest.mark.parametrize("text", [text for text in EXAMPLES if "steps:\n" in text])
def test_the_guides_pipeline_is_yaml(text: str) -> None:
    assert yaml.safe_load(text)
