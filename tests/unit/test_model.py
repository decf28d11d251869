"""What travels: the whole of it or nothing, and the place that is at fault is named."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.core.conditions import OPERATORS, Condition, version_key
from sortition.core.model import Change, Gap, InvalidSnapshot, Snapshot, SnapshotVersion

from flagserver.domain.snapshots import difference
from tests.builders import a_flag, a_snapshot, needs, only_where

FULL = a_snapshot(
    a_flag("parent", 50),
    a_flag(
        "child",
        25,
        variants={"on": {"rows": [1, 2.5, None]}, "off": "text"},
        conditions=only_where("service.version", "2.0"),
        prerequisites=needs("parent"),
    ),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


def places(wire: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value."""
    inside = (
        wire.items()
        if isinstance(wire, dict)
        else enumerate(wire)
        if isinstance(wire, list)
        else ()
    )
    return [path] + [place for key, item in inside for place in places(item, (*path, key))]


PLACES = [place for place in places(FULL.to_wire()) if place]


def test_the_wire_form_comes_back_as_it_was() -> None:
    assert Snapshot.parse(FULL.to_wire()) == FULL


@given(json_values)
def test_nothing_else_than_a_refusal_comes_out_of_anything(value: Any) -> None:
    for parse in (Snapshot.parse, Change.parse):
        with pytest.raises(InvalidSnapshot):
            parse(value)


@given(st.sampled_from(PLACES), json_values)
def test_one_wrong_place_is_refused_or_harmless_but_never_an_accident(
    place: tuple[Any, ...], value: Any
) -> None:
    wire = copy.deepcopy(FULL.to_wire())
    holder: Any = wire
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value

    with contextlib.suppress(InvalidSnapshot):
        parsed = Snapshot.parse(wire)
        assert Snapshot.parse(parsed.to_wire()) == parsed


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "/".join(map(str, place)))
def test_what_is_missing_is_named(place: tuple[Any, ...]) -> None:
    *above, name = place
    if (
        not isinstance(name, str)
        or "variants" in place
        or ("flags" in place[:1] and len(place) == 2)
    ):
        return
    wire = copy.deepcopy(FULL.to_wire())
    holder: Any = wire
    for step in above:
        holder = holder[step]
    del holder[name]

    with pytest.raises(InvalidSnapshot) as refused:
        Snapshot.parse(wire)

    assert refused.value.path.endswith(name)


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("share", True, "flags/flag/share"),
        ("share", 1_000_001, "flags/flag/share"),
        ("share", 0.5, "flags/flag/share"),
        ("rest", "purple", "flags/flag/rest"),
        ("weights", [["on", 999_999]], "flags/flag/weights"),
        ("weights", [["on", 500_000], ["on", 500_000]], "flags/flag/weights"),
        ("weights", [["purple", 1_000_000]], "flags/flag/weights"),
        ("variants", {"on": float("nan"), "off": 0}, "flags/flag/variants/on"),
        ("variants", {"on": 2**53, "off": 0}, "flags/flag/variants/on"),
        ("variants", {"on": "\ud800", "off": 0}, "flags/flag/variants/on"),
        ("variants", {"On": 1, "off": 0}, "flags/flag/variants"),
        ("killed", 1, "flags/flag/killed"),
        (
            "conditions",
            [{"attribute": "a", "operator": "is", "values": ["b"]}],
            "flags/flag/conditions/0/operator",
        ),
        (
            "conditions",
            [{"attribute": "a", "operator": "in", "values": []}],
            "flags/flag/conditions/0/values",
        ),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any, path: str) -> None:
    wire = a_snapshot(a_flag()).to_wire()
    wire["flags"]["flag"][name] = value

    with pytest.raises(InvalidSnapshot) as refused:
        Snapshot.parse(wire)

    assert refused.value.path == path


def test_deep_values_are_refused() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]

    with pytest.raises(InvalidSnapshot, match="deep"):
        Snapshot.parse(a_snapshot(a_flag(variants={"on": deep, "off": 0})).to_wire())


class TestChanges:
    before = a_snapshot(a_flag("a", 10), a_flag("b", 20), version=3)
    after = a_snapshot(a_flag("b", 30), a_flag("c", 40), version=5)

    def test_a_difference_leads_from_one_to_the_other(self) -> None:
        change = Change.parse(difference(self.before, self.after).to_wire())

        assert self.before.apply(change) == self.after
        assert set(change.flags) == {"b", "c"}
        assert change.removed == ("a",)

    @pytest.mark.parametrize(
        "wrong", [{"from_version": 2}, {"store": "other"}, {"epoch": 2}, {"to_version": 3}]
    )
    def test_one_that_begins_elsewhere_is_a_gap(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(Gap):
            self.before.apply(replace(difference(self.before, self.after), **wrong))

    def test_one_that_leaves_something_invalid_is_refused_whole(self) -> None:
        held = a_snapshot(a_flag("a", 10), a_flag("b", 20, prerequisites=needs("a")))
        change = Change("store", 1, 1, 2, {}, ("a",))

        with pytest.raises(InvalidSnapshot):
            held.apply(change)


@pytest.mark.parametrize(
    ("version", "held", "follows"),
    [
        (("s", 1, 1), None, True),
        (("s", 1, 2), ("s", 1, 1), True),
        (("s", 1, 1), ("s", 1, 1), False),
        (("s", 1, 1), ("s", 1, 2), False),
        (("s", 2, 1), ("s", 1, 9), True),
        (("s", 1, 9), ("s", 2, 1), False),
        (("t", 9, 9), ("s", 1, 1), False),
    ],
)
def test_which_version_may_replace_which(version: Any, held: Any, follows: bool) -> None:
    known = None if held is None else SnapshotVersion(*held)

    assert SnapshotVersion(*version).follows(known) is follows


@pytest.mark.parametrize(
    ("operator", "actual", "values", "holds"),
    [
        ("in", "2.0", ("1.0", "2.0"), True),
        ("in", "2.0.0", ("2.0",), False),
        ("not_in", "2.0", ("1.0",), True),
        ("prefix", "eu-west-1", ("eu-", "us-"), True),
        ("prefix", "ap-south-1", ("eu-",), False),
        ("version_at_least", "1.10.0", ("1.9",), True),
        ("version_at_least", "1.4", ("1.4.0",), True),
        ("version_at_least", "v1.4.0-rc1", ("1.4",), True),
        ("version_at_least", "nightly", ("1.4",), False),
        ("version_below", "1.3.9", ("1.4",), True),
        ("version_below", "1.4", ("1.4.0",), False),
        ("version_below", "nightly", ("1.4",), False),
    ],
)
def test_operators(operator: str, actual: str, values: tuple[str, ...], holds: bool) -> None:
    assert Condition("a", operator, values).holds({"a": actual}) is holds


def test_an_attribute_that_is_not_there_meets_only_not_in() -> None:
    met = {name for name in OPERATORS if Condition("a", name, ("1",)).holds({})}

    assert met == {"not_in"}


@given(st.text(max_size=30))
def test_a_version_is_numbers_or_nothing(text: str) -> None:
    key = version_key(text)

    assert key is None or all(isinstance(number, int) for number in key)
