"""What a change to a flag makes of it, and whether it enlarges anybody's exposure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sortition.core.evaluate import compile_flags

from flagserver.domain import flags
from flagserver.domain.commands import NewFlag, StateEdit, percent_to_ppm, ppm_to_percent
from flagserver.domain.flags import Flag, State
from tests.builders import a_flag, needs, only_where
from tests.slices import a_slice

FLAG = flags.create(
    NewFlag(key="flag", variants={"on": 1, "off": 0, "blue": 2}, rest="off"), salt="s", at="t"
)

states = st.builds(
    State,
    flag=st.just("flag"),
    environment=st.just("staging"),
    share=st.sampled_from([0, 1, 250_000, 500_000, 1_000_000]),
    weights=st.sampled_from(
        [(("on", 1_000_000),), (("on", 400_000), ("blue", 600_000)), (("off", 1_000_000),)]
    ),
    conditions=st.sampled_from(
        [
            (),
            only_where("v", "1"),
            only_where("v", "1", "2"),
            only_where("v", "1") + only_where("w", "1"),
        ]
    ),
    prerequisites=st.sampled_from([(), needs("half")]),
    killed=st.booleans(),
)


def served(state: State, where: dict[str, str]) -> list[str | None]:
    """The variants of some requests under a state; None stands for the rest variant."""
    ready = compile_flags(
        {"half": a_flag("half", 50), "flag": flags.compiled_form(FLAG, state, 1)}, where
    )["flag"]
    variants = [ready.choose(str(number)).variant for number in range(60)]
    return [None if variant == FLAG.rest else variant for variant in variants]


@given(states, states)
def test_what_does_not_enlarge_gives_nobody_an_exposed_variant_anew(
    before: State, after: State
) -> None:
    if flags.enlarges(before, after):
        return
    for where in ({}, {"v": "1"}, {"v": "2"}, {"v": "1", "w": "1"}):
        for had, has in zip(served(before, where), served(after, where), strict=True):
            assert has in (None, had)


@pytest.mark.parametrize(
    ("change", "enlarges"),
    [
        ({"share": 600_000}, True),
        ({"share": 400_000}, False),
        ({"share": 0, "conditions": ()}, False),
        ({"killed": True, "share": 1_000_000}, False),
        ({"conditions": ()}, True),
        ({"conditions": only_where("v", "1") + only_where("w", "1")}, False),
        ({"prerequisites": needs("half")}, False),
        ({"weights": (("blue", 1_000_000),)}, True),
        ({}, False),
    ],
)
def test_what_enlarges(change: dict[str, Any], enlarges: bool) -> None:
    before = State("flag", "staging", 500_000, (("on", 1_000_000),), only_where("v", "1"))

    assert flags.enlarges(before, replace(before, **change)) is enlarges


def test_taking_a_kill_back_enlarges() -> None:
    killed = State("flag", "staging", 500_000, (("on", 1_000_000),), killed=True)

    assert flags.enlarges(killed, replace(killed, killed=False))


def test_percent_and_parts_per_million_agree_on_every_step() -> None:
    for ppm in a_slice(range(1_000_001), at_most=20_000):
        assert percent_to_ppm(ppm_to_percent(ppm)) == ppm


@pytest.mark.parametrize(
    "percent", [-0.0001, 100.0001, 0.00001, 33.33333, float("nan"), float("inf")]
)
def test_what_is_no_share_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        percent_to_ppm(percent)


def test_documents_come_back_as_they_were() -> None:
    state = State(
        "flag", "staging", 1, (("on", 400_000), ("off", 600_000)), only_where("v", "1"), needs("x")
    )

    assert State.from_body(state.to_body()) == state
    assert Flag.from_body(FLAG.to_body()) == FLAG


def test_a_new_flag_exposes_nobody_and_knows_whom_it_would() -> None:
    state = flags.default_state(FLAG, "staging")

    assert (state.share, state.weights) == (0, (("on", 1_000_000),))


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"share": "25"}, ("share",)),
        ({"share": True}, ("share",)),
        ({"share": 25, "shares": 1}, ("shares",)),
        ({"weights": [{"variant": "on", "weight": 50}]}, ("weights",)),
        ({"weights": [{"variant": "on"}]}, ("weights", 0, "weight")),
        (
            {"conditions": [{"attribute": "a", "operator": "is", "values": ["b"]}]},
            ("conditions", 0),
        ),
        ({"prerequisites": [{"flag": "Up", "variant": "on"}]}, ("prerequisites", 0, "flag")),
        ({"reason": " "}, ("reason",)),
        ({"reason": "x" * 201}, ("reason",)),
        ({"reason": "ask ana@example.invalid"}, ("reason",)),
        ({"reason": "call +49 30 1234567"}, ("reason",)),
    ],
)
def test_a_wrong_field_of_a_change_is_named(body: dict[str, Any], place: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        StateEdit.model_validate(body)

    assert refused.value.errors()[0]["loc"] == place


@pytest.mark.parametrize("key", ["", "A", "-a", "a b", "a/b", "a\n", "ä", "a" * 101, ".."])
def test_a_wrong_key_is_refused(key: str) -> None:
    with pytest.raises(ValidationError):
        NewFlag(key=key)
