"""A snapshot's text is read flag by flag, and says the same as decoded as one."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.core.model import Snapshot, SnapshotVersion
from sortition.core.reading import read_snapshot

from tests.builders import a_flag, a_snapshot, needs

SNAPSHOT = a_snapshot(
    a_flag("a", 10, variants={"on": {"x": [1, None, '\u00fc"}]']}, "off": "{"}),
    a_flag("b", 20, prerequisites=needs("a")),
    version=7,
)
WIRE = SNAPSHOT.to_wire()


def anew(version: SnapshotVersion) -> bool:
    return False


def read(text: str) -> Snapshot | None:
    return read_snapshot(text, anew)


@pytest.mark.parametrize(
    "form", [{}, {"indent": 3}, {"separators": (",", ":")}, {"sort_keys": True}]
)
def test_in_any_form_it_is_what_was_written(form: Any):
    assert read(json.dumps(WIRE, **form)) == SNAPSHOT
    assert read(f"\r\n\t {json.dumps(WIRE, ensure_ascii=False, **form)} \n") == SNAPSHOT


def test_the_order_of_members_does_not_matter():
    names = list(WIRE)
    for seed in range(20):
        random.Random(seed).shuffle(names)
        assert read(json.dumps({name: WIRE[name] for name in names})) == SNAPSHOT


def test_of_members_that_come_twice_the_last_counts():
    text = json.dumps(WIRE)

    assert read(text.replace('"flags": ', '"flags": {}, "flags": ', 1)) == SNAPSHOT
    assert read(text.replace('"epoch": ', '"epoch": 9, "epoch": ', 1)) == SNAPSHOT


@pytest.mark.parametrize("sorted_", [False, True])
def test_one_that_is_known_is_not_read(sorted_: bool):
    asked: list[SnapshotVersion] = []

    def known(version: SnapshotVersion) -> bool:
        asked.append(version)
        return True

    assert read_snapshot(json.dumps(WIRE, sort_keys=sorted_), known) is None
    assert asked == [SNAPSHOT.version]


def test_nor_is_anything_asked_of_flags_that_come_last():
    text = json.dumps(WIRE)
    cut = text[: text.index('"flags"') + 9]

    assert read_snapshot(cut, lambda version: True) is None


@pytest.mark.parametrize("place", range(0, len(json.dumps(WIRE)), 13))
def test_a_text_that_was_cut_is_none(place: int):
    text = json.dumps(WIRE)

    with pytest.raises(ValueError):  # noqa: PT011 (any: JSON or form)
        read(text[:place])


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "{}", "[]", "null", "1", "NaN", '"a"', "{]", '{"a"}', '{"a":}', '{"a":1,}',
        '{1:2}', "{'a':1}", '{"a":1 "b":2}', "{,}", '{"flags":[]}', '{"flags":{"a":1}}',
        '{"flags":{1:1}}', '{"flags":{"a" {}}}', '{"flags":{}', "[" * 100_000, "\ufeff{}",
        json.dumps(WIRE) + "}", json.dumps(WIRE) + json.dumps(WIRE),
        json.dumps({**WIRE, "format": 2}), json.dumps({**WIRE, "store": None}),
        json.dumps({**WIRE, "flags": {**WIRE["flags"], "c": {}}}),
        json.dumps({**WIRE, "flags": {"b": WIRE["flags"]["b"]}}),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(text: str):
    with pytest.raises((ValueError, RecursionError)):
        read(text)


@given(st.text(max_size=30), st.integers(0, 600), st.integers(0, 40))
def test_whatever_is_put_in_it_is_read_as_the_standard_library_does(text: str, at: int, cut: int):
    whole = json.dumps(WIRE)
    whole = whole[:at] + text + whole[at + cut :]
    expected: Any
    try:
        expected = Snapshot.parse(json.loads(whole))
    except (ValueError, RecursionError):
        expected = None
    found: Any
    try:
        found = read(whole)
    except (ValueError, RecursionError):
        found = None

    assert found == expected
