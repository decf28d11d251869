"""Schedules: what can be written, what is meant, and what is refused with its field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagserver.domain.errors import Invalid
from flagserver.domain.schedule import (
    STANDARD,
    Schedule,
    Step,
    duration_seconds,
    duration_text,
    parse,
)

WHOLE = 1_000_000


def shares(schedule: Schedule) -> list[float]:
    return [step.share / 10_000 for step in schedule.steps]


def holds(schedule: Schedule) -> list[int]:
    return [schedule.hold(i) // 60 for i in range(len(schedule.steps))]


def test_the_standard_schedule_is_the_projects_own() -> None:
    assert shares(STANDARD) == [5, 25, 50, 100]
    assert holds(STANDARD) == [5, 10, 15, 0]
    assert STANDARD.duration() == 30 * 60
    assert parse("standard") is STANDARD
    assert parse(STANDARD.text()).steps == STANDARD.steps


@pytest.mark.parametrize(
    ("name", "expected_shares", "minutes"),
    [
        ("CodeDeployDefault.ECSCanary10Percent5Minutes", [10, 100], [5, 0]),
        ("CodeDeployDefault.ECSCanary10Percent15Minutes", [10, 100], [15, 0]),
        (
            "CodeDeployDefault.ECSLinear10PercentEvery1Minutes",
            [10, 20, 30, 40, 50, 60, 70, 80, 90, 100],
            [1] * 9 + [0],
        ),
        (
            "CodeDeployDefault.ECSLinear10PercentEvery3Minutes",
            [10, 20, 30, 40, 50, 60, 70, 80, 90, 100],
            [3] * 9 + [0],
        ),
        ("CodeDeployDefault.ECSAllAtOnce", [100], [0]),
        ("CodeDeployDefault.LambdaCanary10Percent30Minutes", [10, 100], [30, 0]),
        (
            "CodeDeployDefault.LambdaLinear10PercentEvery1Minute",
            [10, 20, 30, 40, 50, 60, 70, 80, 90, 100],
            [1] * 9 + [0],
        ),
        ("CodeDeployDefault.LambdaAllAtOnce", [100], [0]),
        # What does not come out even: the last increment is the rest.
        ("Linear30PercentEvery2Minutes", [30, 60, 90, 100], [2, 2, 2, 0]),
        ("Canary5Percent30Minutes", [5, 100], [30, 0]),
    ],
)
def test_codedeploys_names_mean_what_they_mean_there(
    name: str, expected_shares: list[float], minutes: list[int]
) -> None:
    schedule = parse(name)
    assert shares(schedule) == expected_shares
    assert holds(schedule) == minutes
    assert schedule.name == name


def test_steps_say_what_else_they_wait_for() -> None:
    schedule = parse(" 0.25% : 1h30m : n=1000 , 25%:10m:approve, 100%:30m ")
    assert schedule.steps == (
        Step(2_500, 5400, minimum_sample=1000),
        Step(250_000, 600, approval=True),
        Step(WHOLE),
    )
    assert schedule.bake == 1800


def test_a_schedule_may_end_below_the_whole_if_it_says_so() -> None:
    assert parse("5%:5m,50%:end").end == 500_000
    with pytest.raises(Invalid, match="ends at 100 %") as refused:
        parse("5%:5m,50%")
    assert refused.value.field == "/steps/1/share"


def test_a_bake_may_keep_a_control_on_the_old_version() -> None:
    schedule = parse("50%:15m,100%:10m:approve:keep=1%")

    assert (schedule.keep, schedule.bake, schedule.end) == (10_000, 600, WHOLE)
    assert schedule.stages == (
        Step(500_000, 900),
        Step(990_000, 600, approval=True),
        Step(WHOLE),
    )
    assert schedule.duration() == 25 * 60
    assert parse("50%:15m,100%:10m").stages == (Step(500_000, 900), Step(WHOLE, 600))


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("5%:5m,100%:keep=1%", "/keep", "does not bake"),
        ("99%:5m,100%:10m:keep=1%", "/keep", "no more than the step before"),
        ("100%:10m:keep=100%", "/keep", "no more than the step before"),
        ("100%:10m:keep=some", "/keep", "write keep=1%"),
        ("5%:5m:keep=1%,100%", "/steps/0/hold", "no duration"),
        ("5%:5m,150%", "/steps/1/share", "at most 100 %"),
        ("0%:5m,100%", "/steps/0/share", "above 0"),
        ("5%:5m,100%:1m,100%", "/steps/2/share", "must give more"),
        ("50%:5m,25%:5m,100%", "/steps/1/share", "25 % after 50 %"),
        ("5%:0s,100%", "/steps/0/hold", "nothing is watched"),
        ("5%,100%", "/steps/0/hold", "nothing is watched"),
        ("5%:8d,100%", "/steps/0/hold", "7 days"),
        ("5%:5,100%", "/steps/0/hold", "no duration"),
        ("5%:-5m,100%", "/steps/0/hold", "no duration"),
        ("5%:5m:end,100%", "/steps/0", "more follow"),
        ("5%:5m:n=0,100%", "/steps/0/minimum_sample", "at least 1"),
        ("5.00001%:5m,100%", "/steps/0/share", "no share"),
        ("five%:5m,100%", "/steps/0/share", "no share"),
        ("100%:8d", "/bake", "7 days"),
        ("CodeDeployDefault.ECSCanary0Percent5Minutes", "/steps/0/share", "above 0"),
        ("slowly", None, "CodeDeployDefault.ECSCanary10Percent5Minutes"),
        ("", None, "standard"),
        ("99%:1m," * 101 + "100%", "/steps", "at most 100 steps"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_field(
    text: str, field: str | None, words: str
) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        parse(text)
    assert refused.value.field == field


def test_a_schedule_without_steps_or_with_a_hold_at_its_end_does_not_exist() -> None:
    with pytest.raises(Invalid, match="at least one step"):
        Schedule("none", ())
    with pytest.raises(Invalid, match="bake") as refused:
        Schedule("odd", (Step(WHOLE, 60),))
    assert refused.value.field == "/steps/0/hold"


steps = st.lists(st.integers(1, WHOLE - 1), max_size=8, unique=True).map(sorted)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    middle = [
        Step(
            share,
            draw(st.integers(1, 7 * 24 * 3600)),
            draw(st.booleans()),
            draw(st.none() | st.integers(1, 10**6)),
        )
        for share in draw(steps)
    ]
    end = draw(st.integers(max([step.share for step in middle], default=0) + 1, WHOLE))
    last = Step(end, 0, draw(st.booleans()), draw(st.none() | st.integers(1, 10**6)))
    bake = draw(st.integers(0, 7 * 24 * 3600))
    room = end - max([step.share for step in middle], default=0) - 1
    keep = draw(st.integers(0, room)) if bake else 0
    return Schedule("any", (*middle, last), bake, end, keep=keep)


@given(schedules())
def test_what_is_written_down_is_read_again(schedule: Schedule) -> None:
    again = parse(schedule.text())
    assert (again.steps, again.bake, again.end) == (schedule.steps, schedule.bake, schedule.end)
    assert (again.keep, again.stages) == (schedule.keep, schedule.stages)
    assert sum(step.hold for step in again.stages) == schedule.duration()
    assert Schedule.from_body(schedule.to_body()) == schedule


@given(st.text(max_size=60))
def test_any_text_is_a_schedule_or_is_refused(text: str) -> None:
    try:
        schedule = parse(text)
    except Invalid:
        return
    assert schedule.steps[-1].share == schedule.end


@given(st.integers(0, 10**7))
def test_a_duration_is_read_as_it_is_said(seconds: int) -> None:
    assert duration_seconds(duration_text(seconds)) == seconds
