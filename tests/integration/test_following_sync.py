"""`sync` after a rollout that followed CodeDeploy: in line, whichever way it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sortition.cli import exits

from tests.awsfake.double import Double
from tests.integration.test_following import (  # noqa: F401 (fixtures)
    ALL,
    TERMINATION,
    Following,
    at_canary,
    aws,
    running,
    stop,
)


def synced(stage: Following, id: str) -> tuple[int, dict[str, Any]]:
    done = stage.command("sync", id, "--json")
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize("back", [False, True], ids=["complete", "rolled back"])
def test_engine_and_flags_are_where_the_rollout_left_them(
    aws: Double,  # noqa: F811
    tmp_path: Path,
    back: bool,
) -> None:
    stage = Following(aws, tmp_path)
    id, deployment = at_canary(stage)
    if back:
        stop(stage, deployment)
    stage.run(ALL + TERMINATION + 60)
    before = len(stage.client.list_deployments()["deployments"])

    first, second = synced(stage, id), synced(stage, id)

    assert first == second
    code, found = first
    assert (code, found["over"], found["in_line"]) == (exits.DONE, True, True), found
    assert found["state"] == ("rolled_back" if back else "completed")
    assert {each["wanted"] for each in found["targets"]} == {0 if back else 100}
    assert len(stage.client.list_deployments()["deployments"]) == before


def test_while_the_engine_goes_back_it_is_waited_for(aws: Double, tmp_path: Path) -> None:  # noqa: F811
    stage = Following(aws, tmp_path)
    id, deployment = at_canary(stage)
    stop(stage, deployment)
    stage.run(10)
    assert stage.engine.rollout(id).state.shown.terminal is False

    code, found = synced(stage, id)

    assert (code, found["state"], found["in_line"]) == (exits.DONE, "rolled_back", True), found
