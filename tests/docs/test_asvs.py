"""The list against ASVS is whole, counts right, and names nothing that is not there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "asvs.md"

ASKED = {
    "1.1": "1-7",
    "1.2": "1-4",
    "1.4": "1 4-5",
    "1.5": "1-4",
    "1.6": "1-4",
    "1.7": "1-2",
    "1.8": "1-2",
    "1.9": "1-2",
    "1.10": "1",
    "1.11": "1-2",
    "1.12": "2",
    "1.14": "1-6",
    "2.1": "1-12",
    "2.2": "1-3",
    "2.3": "1-3",
    "2.4": "1-5",
    "2.5": "1-7",
    "2.6": "1-3",
    "2.7": "1-6",
    "2.8": "1-7",
    "2.9": "1-3",
    "2.10": "1-4",
    "3.1": "1",
    "3.2": "1-4",
    "3.3": "1-4",
    "3.4": "1-5",
    "3.5": "1-3",
    "3.7": "1",
    "4.1": "1-3 5",
    "4.2": "1-2",
    "4.3": "1-3",
    "5.1": "1-5",
    "5.2": "1-8",
    "5.3": "1-10",
    "5.4": "1-3",
    "5.5": "1-4",
    "6.1": "1-3",
    "6.2": "1-6",
    "6.3": "1-2",
    "6.4": "1-2",
    "7.1": "1-4",
    "7.2": "1-2",
    "7.3": "1 3-4",
    "7.4": "1-3",
    "8.1": "1-4",
    "8.2": "1-3",
    "8.3": "1-8",
    "9.1": "1-3",
    "9.2": "1-4",
    "10.2": "1-2",
    "10.3": "1-3",
    "11.1": "1-8",
    "12.1": "1-3",
    "12.2": "1",
    "12.3": "1-6",
    "12.4": "1-2",
    "12.5": "1-2",
    "12.6": "1",
    "13.1": "1 3-5",
    "13.2": "1-3 5-6",
    "13.3": "1-2",
    "13.4": "1-2",
    "14.1": "1-4",
    "14.2": "1-6",
    "14.3": "2-3",
    "14.4": "1-7",
    "14.5": "1-4",
}
"""Section -> its requirements of levels 1 and 2 in ASVS 4.0.3; those between were taken out of the
standard, or are of level 3."""

STATES = ("met", "part", "not met", "n/a")
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
PLACE = re.compile(r"\.?\w[\w.-]*(?:/[\w.-]+)+(?:::\w+)?|[\w.-]+\.(?:md|toml|yaml)|Dockerfile")

ROWS = [tuple(part.strip() for part in row) for row in ROW.findall(PAGE.read_text())]
PLACES = sorted(
    {
        place
        for *_, where in ROWS
        for place in re.findall(r"`([^`]+)`", where)
        if PLACE.fullmatch(place)
    }
)


def numbers(ranges: str) -> list[int]:
    """Return 1, 2, 3, 7 of "1-3 7"."""
    found: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_each_requirement_stands_there_once_in_its_order() -> None:
    asked = [f"{section}.{i}" for section, ranges in ASKED.items() for i in numbers(ranges)]

    assert [number for number, *_ in ROWS] == asked


def test_each_has_a_state_and_says_where() -> None:
    assert {state for _, _, state, _ in ROWS} == set(STATES)
    # What is said to be so can be looked up, or there is nothing to be looked at.
    vague = {number for number, _, state, where in ROWS if state == "met" and "`" not in where}
    assert len(vague) < len(ROWS) / 10, vague


def test_the_counts_are_those_of_the_list() -> None:
    counts = Counter(state for _, _, state, _ in ROWS)
    shown = " | ".join(str(counts[state]) for state in STATES)

    assert f"| {' | '.join(STATES)} |\n|---|---|---|---|\n| {shown} |" in PAGE.read_text()
    assert f"asks {len(ROWS)} things" in PAGE.read_text()


@pytest.mark.parametrize("place", PLACES)
def test_what_is_named_is_there(place: str) -> None:
    path, _, test = place.partition("::")

    assert (ROOT / path).exists(), path
    if test:
        assert re.search(rf"\bdef {test}\(", (ROOT / path).read_text()), place
