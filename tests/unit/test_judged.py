"""Rollouts that are judged by what both arms report, told as stories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flagserver.domain.states import State
from tests.engines import RULE
from tests.judged import HEALTHY, Judged

PROBE_WARM = 300


@pytest.fixture
def engine(tmp_path: Path) -> Judged:
    made = Judged(directory=tmp_path)
    made.serve(PROBE_WARM)
    return made


def traffic_alone() -> dict[str, object]:
    return {"targets": [{**RULE.to_body(), "mode": "drive"}]}


def test_harm_is_proven_and_taken_back_by_evidence(engine: Judged) -> None:
    id = engine.start_judged(**traffic_alone())
    engine.until(lambda: engine.weight == 5, 60)
    engine.run(60)
    engine.world = replace(HEALTHY, harm=0.2)
    began = engine.clock.seconds
    found = engine.until(engine.ended(id), 120)

    rollout = engine.rollout(id)
    cause = rollout.rollback
    assert cause is not None
    assert (rollout.state, engine.weight) == (State.ROLLED_BACK, 0)
    assert cause.row == "harm proven"
    assert cause.culprits == (RULE.id,)
    assert "canary requests failed" in cause.reason
    assert found - began <= 30
