"""What a pipeline runs is what it should be: the script by ShellCheck, action and workflow by
GitHub's own schemas, and every name that one gives to another."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.pipeline.runner import ACTION, BIN, WORKFLOW

SCRIPT = ACTION / "rollout.sh"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, check=False
    )


def steps() -> list[dict[str, Any]]:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_the_script_is_clean() -> None:
    done = run(BIN / "shellcheck", "--severity=style", SCRIPT)
    assert done.returncode == 0, done.stdout
    assert os.access(SCRIPT, os.X_OK)


EXAMPLE = (ACTION.parent / "examples" / "appspec.yaml").read_text()


@pytest.mark.parametrize(
    ("content", "asks"),
    [
        (EXAMPLE, True),
        (re.sub(r"- (After|Before)", r"# - \1", EXAMPLE), False),
        (EXAMPLE.partition("Hooks:")[0], False),
        ("Hooks:\n  - AfterAllowTraffic: f\n", False),
        ("Hooks: [{BeforeInstall: f}]", True),
        ('{"Hooks":[{"AfterAllowTraffic":"f"},{"BeforeAllowTraffic":"f"}]}', True),
        ('{"Hooks":[{"AfterAllowTraffic":"f"}]}', False),
    ],
    ids=["example", "commented", "none", "too late", "flow", "json", "json too late"],
)
def test_which_deployment_asks_before_production_moves(
    content: str, asks: bool, tmp_path: Path
) -> None:
    found = re.search(r"<<'EOF'\n(.*?)\nEOF\n", SCRIPT.read_text(), re.DOTALL)
    assert found
    (tmp_path / "asks.py").write_text(found[1])
    revision = {"revisionType": "AppSpecContent", "appSpecContent": {"content": content}}
    (tmp_path / "deployment.json").write_text(json.dumps({"revision": revision}))

    done = run(sys.executable, tmp_path / "asks.py", tmp_path / "deployment.json")

    assert (done.returncode, done.stderr) == (0 if asks else 1, "")


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-actions", ACTION / "action.yml"),
        ("vendor.github-workflows", WORKFLOW),
    ],
)
def test_github_would_take_it(schema: str, path: Path) -> None:
    done = run(BIN / "check-jsonschema", "--builtin-schema", schema, path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_is_sharp(tmp_path: Path) -> None:
    wrong = tmp_path / "action.yml"
    wrong.write_text((ACTION / "action.yml").read_text().replace("using: composite", "using: x"))
    done = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-actions", wrong)
    assert done.returncode == 1


def test_the_action_gives_the_script_what_it_reads_and_nothing_else() -> None:
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    (step,) = action["runs"]["steps"]
    read = set(re.findall(r"^#   ((?:SORTITION|ROLLOUT)_[A-Z_]+(?:, SORTITION_TOKEN)?)",
                          SCRIPT.read_text(), re.MULTILINE))  # fmt: skip
    told = {name for names in read for name in names.split(", ")}
    assert set(step["env"]) == told | {"ROLLOUT_DO"}
    assert set(re.findall(r"inputs\.([\w-]+)", yaml.safe_dump(step["env"]))) == set(
        action["inputs"]
    )
    assert step["run"].startswith("exec ")


def test_what_might_be_anything_is_never_written_into_a_script() -> None:
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    runs = [step["run"] for step in (*steps(), *action["runs"]["steps"]) if "run" in step]
    assert len(runs) > 5
    for text in runs:
        found = re.findall(r"\$\{\{\s*([\w.]+)", text)
        assert {each.partition(".")[0] for each in found} <= {"vars"}, text


def test_what_ends_a_job_runs_whatever_happened() -> None:
    finishing = [step for step in steps() if step.get("with", {}).get("do") == "finish"]
    keeping = [step for step in steps() if "upload-artifact" in step.get("uses", "")]
    assert len(finishing) == len(keeping) == 2
    assert all(step["if"] == "always()" for step in (*finishing, *keeping))


def test_a_deployment_of_our_group_is_watched_until_it_is_over() -> None:
    text = (ACTION.parent / "cloudformation" / "codedeploy.yaml").read_text()
    canary = re.search(r"CanaryInterval: (\d+)", text)
    kept = re.search(r"KeepBlueMinutes:.*?Default: (\d+)", text, re.DOTALL)
    assert canary
    assert kept
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["production"]
    (watch,) = [step["with"] for step in job["steps"] if step.get("with", {}).get("do") == "watch"]
    (hours,) = re.findall(r"^(\d+)h$", watch["timeout"])

    installing = 15
    assert int(canary[1]) + int(kept[1]) + installing <= int(hours) * 60
    assert int(hours) * 60 + installing <= job["timeout-minutes"]


def test_a_newer_commit_cancels_nothing() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    for name in ("staging", "production"):
        assert jobs[name]["concurrency"]["cancel-in-progress"] is False
