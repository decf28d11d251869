"""The alarm evaluator, on the tables of the CloudWatch user guide."""

from __future__ import annotations

import pytest

from examples.awsfake.evaluator import (
    ALARM,
    INSUFFICIENT_DATA,
    OK,
    BadRule,
    children,
    composite,
    evaluate,
)

KEPT = "the state before"
TREATMENTS = ["missing", "ignore", "breaching", "notBreaching"]

# Oldest first; 0: within, X: breaching, -: missing. Then the state by treatment, in their order.
THREE_OF_THREE = {
    "0 - X - X": [OK, OK, OK, OK],
    "- - - - 0": [OK, OK, OK, OK],
    "- - - - -": [INSUFFICIENT_DATA, KEPT, ALARM, OK],
    "0 X X - X": [ALARM, ALARM, ALARM, ALARM],
    "- - X - -": [ALARM, KEPT, ALARM, OK],
}
TWO_OF_THREE = {
    "0 - X - X": [ALARM, ALARM, ALARM, ALARM],
    "0 0 X 0 X": [ALARM, ALARM, ALARM, ALARM],
    "0 - X - -": [OK, OK, ALARM, OK],
    "- - - - 0": [OK, OK, ALARM, OK],
    "- - - X -": [ALARM, KEPT, ALARM, OK],
}
CASES = [
    pytest.param(to_alarm, line, treat, expected, id=f"{to_alarm} of 3, {line}, {treat}")
    for to_alarm, table in ((3, THREE_OF_THREE), (2, TWO_OF_THREE))
    for line, row in table.items()
    for treat, expected in zip(TREATMENTS, row, strict=True)
]


@pytest.mark.parametrize(("to_alarm", "line", "treat", "expected"), CASES)
@pytest.mark.parametrize("before", [OK, ALARM, INSUFFICIENT_DATA])
def test_the_guides_tables(to_alarm, line, treat, expected, before):
    points = [{"0": False, "X": True, "-": None}[each] for each in line.split()]
    state = evaluate(points, 3, to_alarm, treat, before)
    assert state == (before if expected == KEPT else expected)


def test_without_missing_points_only_the_newest_count():
    assert evaluate([True, True, False, True, True], 2, 2, "missing", OK) == ALARM
    assert evaluate([True, True, True, False, True], 2, 2, "missing", ALARM) == OK


STATES = {"high": ALARM, "low": OK, "new": INSUFFICIENT_DATA}


@pytest.mark.parametrize(
    ("rule", "fires"),
    [
        ('ALARM("high") OR ALARM("low")', True),
        ("ALARM(high) AND ALARM(low)", False),
        ("NOT ALARM(low)", True),
        ("ALARM(low) OR ALARM(high) AND OK(low)", True),
        ("(ALARM(low) OR ALARM(high)) AND NOT (OK(low) OR FALSE)", False),
        ("INSUFFICIENT_DATA(new) AND TRUE", True),
    ],
)
def test_composite_rules(rule, fires):
    assert composite(rule, STATES.get) is fires


@pytest.mark.parametrize(
    "rule", ["", "ALARM(gone)", "ALARM(high", "ALARM(high) ALARM(low)", "FIRING(high)", 'ALARM("x']
)
def test_rules_that_make_no_sense_are_refused(rule):
    with pytest.raises(BadRule):
        composite(rule, STATES.get)


def test_a_rules_children():
    assert children('ALARM("a") OR (OK(b) AND NOT ALARM("a"))') == ["a", "b"]
