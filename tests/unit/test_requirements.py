"""A rollout in production may require that the same version was complete in staging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagserver.domain.commands import Reasoned
from flagserver.domain.errors import Conflict, Invalid
from flagserver.domain.states import State
from tests.builders import ADMIN
from tests.engines import Engine, a_rollout, only_flag

STAGING = {"environment": "staging"}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(directory=tmp_path)


def in_staging(engine: Engine, **told: Any) -> str:
    there = {"environment": "staging", "confirm_environment": "staging"}
    return engine.start(**only_flag(**there, schedule="50%:1m,100%", guards="none", **told))


def to_production(engine: Engine, **told: Any) -> str:
    return engine.start(**only_flag(requires=STAGING, **told))


def test_what_was_complete_in_staging_may_go_to_production(engine: Engine) -> None:
    there = in_staging(engine)
    engine.run(120)
    assert engine.rollout(there).state is State.COMPLETED

    id = to_production(engine)

    engine.run(10)
    assert engine.rollout(id).state is State.RUNNING


def test_what_was_never_there_may_not(engine: Engine) -> None:
    with pytest.raises(Conflict) as refused:
        to_production(engine)
    assert refused.value.detail == (
        "api 2 must be complete in staging before it may go to production: there is no rollout of "
        "it there in the last 90 days."
    )
    assert engine.rollouts.page().views == ()


def test_what_is_still_on_its_way_there_may_not_yet(engine: Engine) -> None:
    there = in_staging(engine)
    engine.run(10)
    with pytest.raises(Conflict, match=f"rollout/{there} there is running"):
        to_production(engine)


def test_what_was_taken_back_there_may_not_whatever_was_before_it(engine: Engine) -> None:
    there = in_staging(engine)
    engine.run(10)
    engine.rollouts.roll_back(there, Reasoned(), ADMIN)
    engine.run(10)
    with pytest.raises(Conflict, match=f"rollout/{there} there is rolled back"):
        to_production(engine)


@pytest.mark.parametrize("other", [{"version": "1"}, {"service": "shop"}])
def test_another_version_or_service_does_not_count(engine: Engine, other: dict[str, str]) -> None:
    in_staging(engine, **other)
    engine.run(120)
    with pytest.raises(Conflict, match="there is no rollout of it there"):
        to_production(engine)


def test_a_plan_says_that_it_would_be_refused(engine: Engine) -> None:
    planned = engine.rollouts.plan(a_rollout(**only_flag(requires=STAGING)), ADMIN)
    assert any("must be complete in staging" in problem for problem in planned.problems)


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"requires": {"environment": "production"}}, "/requires/environment"),
        ({"requires": {"environment": "nowhere"}}, "/requires/environment"),
        ({"requires": STAGING, "version": None}, "/version"),
    ],
)
def test_what_can_never_be_is_refused_by_name(
    engine: Engine, told: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        engine.start(**only_flag(**told))
    assert refused.value.field == field
