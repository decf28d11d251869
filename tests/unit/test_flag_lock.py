"""A flag that a rollout moves: it may be shrunk and killed by anybody, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from flagserver.domain import documents, flags
from flagserver.domain.commands import NewFlag, Reasoned, StateEdit
from flagserver.domain.documents import Change, Fact, Write
from flagserver.domain.errors import Locked
from flagserver.domain.flags import State
from tests.builders import ADMIN, House, needs, only_where

from .test_flags import states

ONLY = [{"attribute": "service.version", "operator": "in", "values": ["2"]}]


def lock(house: House, environment: str = "staging", rollout: str | None = "r-1") -> None:
    """Write down that a rollout moves the flag, as its own commit does."""
    view = house.flags.state("flag", environment)
    locked = replace(view.state, rollout=rollout).to_body()
    fact = Fact("controller", "controller", "rollout:create", "rollout/r-1", environment)
    write = Write(documents.states(environment), "flag", view.revision, locked)
    change = Change((write,), fact, environments=(environment,), flags=("flag",))
    house.store.commit(change, at=house.clock.now(), salt=house.entropy.hex(16))


@pytest.fixture
def house() -> House:
    """A house whose flag is at 25 % in staging, within a rollout."""
    house = House()
    house.create("other")
    house.create("flag", variants={"on": 1, "off": 0, "blue": 2})
    house.change(share=25.0, conditions=ONLY)
    lock(house)
    return house


@pytest.mark.parametrize(
    "told",
    [
        {"share": 25.0001},
        {"share": 100.0},
        {"conditions": []},
        {"weights": [{"variant": "blue", "weight": 100.0}]},
        {"share": 10.0, "conditions": []},
        {"share": 0.0, "weights": [{"variant": "blue", "weight": 100.0}]},
    ],
)
def test_what_is_not_plainly_less_is_refused_and_changes_nothing(
    house: House, told: dict[str, Any]
) -> None:
    before = house.flags.state("flag", "staging")
    with pytest.raises(Locked, match="in rollout r-1, which alone may enlarge it"):
        house.change(**told)
    with pytest.raises(Locked):
        house.flags.plan("flag", "staging", StateEdit.model_validate(told))
    assert house.flags.state("flag", "staging") == before


@pytest.mark.parametrize(
    "told",
    [
        {"share": 10.0},
        {"share": 0.0},
        {"conditions": [*ONLY, {"attribute": "cloud.region", "operator": "in", "values": ["eu"]}]},
        {"prerequisites": [{"flag": "other", "variant": "on"}]},
    ],
)
def test_shrinking_is_always_possible_and_keeps_the_lock(
    house: House, told: dict[str, Any]
) -> None:
    assert house.change(**told).state.rollout == "r-1"


def test_killing_is_always_possible_and_un_killing_is_not(house: House) -> None:
    assert house.kill().state.killed
    with pytest.raises(Locked):
        house.unkill()
    lock(house, rollout=None)
    assert not house.unkill().state.killed


def test_nothing_can_be_prepared_while_nobody_is_served(house: House) -> None:
    # At 0 %, or killed, a change serves nobody now; the rollout would serve it later.
    house.kill()
    with pytest.raises(Locked):
        house.change(share=100.0)
    with pytest.raises(Locked):
        house.change(conditions=[])


def test_other_environments_and_the_description_are_free(house: House) -> None:
    assert house.change(environment="development", share=100.0).state.share == 1_000_000


def test_a_flag_in_a_rollout_is_not_archived(house: House) -> None:
    revision = house.flags.get("flag").revision
    with pytest.raises(Locked, match="rollout r-1 in staging"):
        house.flags.archive("flag", Reasoned(), revision, ADMIN)
    lock(house, rollout=None)
    house.flags.archive("flag", Reasoned(), revision, ADMIN)


def test_a_rollout_is_in_no_snapshot(house: House) -> None:
    flag = house.flags.get("flag").flag
    state = house.flags.state("flag", "staging").state
    assert state.rollout == "r-1"
    assert "r-1" not in repr(flags.compiled_form(flag, state, 1))


def test_a_state_from_before_there_were_rollouts_is_free() -> None:
    flag = flags.create(NewFlag(key="flag"), salt="s", at="t")
    body = flags.default_state(flag, "staging").to_body()
    del body["rollout"]
    assert State.from_body(body).rollout is None


@given(states, states)
def test_what_a_lock_lets_through_never_enlarges(before: State, after: State) -> None:
    locked = replace(before, rollout="r-1")
    try:
        flags.check_lock(locked, replace(after, rollout="r-1"))
    except Locked:
        return
    assert not flags.enlarges(locked, replace(after, rollout="r-1"))
    flags.check_lock(before, after)


def test_a_lock_says_what_can_be_done() -> None:
    state = State("flag", "staging", 0, (("on", 1_000_000),), rollout="r-1")
    with pytest.raises(Locked, match="Shrink it, kill it, roll that back"):
        flags.check_lock(state, replace(state, share=1))
    flags.check_lock(state, replace(state, conditions=only_where("v", "1")))
    flags.check_lock(state, replace(state, prerequisites=needs("other")))
