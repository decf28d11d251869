"""How rollouts went: figures, and what raises a review."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flagserver.domain.commands import Reasoned
from flagserver.domain.errors import Conflict, NotFound
from flagserver.domain.review import Mark, Marked, Run, may_mark, review, run_of
from flagserver.domain.rollout import By, Rollback
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.states import State
from flagserver.services.reviewing import MarkBody
from tests.builders import ADMIN, House

from .rollouts import T0, a_cause, at_step

DAY = 24 * 3600.0
NOW = T0 + 100 * DAY


def a_run(id: str = "r", *, days_ago: float = 1.0, took: float = 1800.0, **more: Any) -> Run:
    """Return a rollout that was completed."""
    ended = NOW - days_ago * DAY
    return Run(id, "production", "api", "2", State.COMPLETED, ended - took, ended, **more)


def back(id: str = "r", *, found: float = 60.0, took: float = 30.0, **more: Any) -> Run:
    """Return one that guards took back."""
    run = a_run(id, **{"took": 600.0, **more})
    assert run.ended is not None
    detected = run.ended - took
    return replace(
        run,
        state=State.ROLLED_BACK,
        automatic=True,
        reason="http errors 6 % > 1 %",
        first_bad=detected - found,
        detected=detected,
        restored=run.ended,
    )


def look(*runs: Run | Marked, days: float = 30) -> Any:
    marked = [each if isinstance(each, Marked) else Marked(each) for each in runs]
    return review(marked, NOW - days * DAY, NOW)


def kinds(found: Any) -> list[str]:
    return [concern.kind for concern in found.concerns]


def test_nothing_ended_is_no_failure() -> None:
    found = look()

    assert (found.success, found.false_part, found.detection.median) == (None, None, None)
    assert found.concerns == ()


def test_success_is_of_those_that_ended_at_their_last_share_or_at_none() -> None:
    superseded = replace(a_run("s"), state=State.SUPERSEDED)

    found = look(*(a_run(f"c{i}") for i in range(49)), back(), superseded)

    assert found.success == 0.98
    assert found.superseded == 1
    assert "success" not in kinds(found)
    assert "success" in kinds(look(a_run("c"), back()))


def test_what_ended_before_or_was_a_drill_does_not_count() -> None:
    old, drill = a_run("old", days_ago=31), Marked(back("drill"), drill=True)

    found = look(old, drill, a_run("c"))

    assert (found.completed, found.rolled_back) == (1, 0)


def test_detection_begins_at_the_first_bad_point_and_restore_ends_at_none() -> None:
    quick, slow = back("q", found=60, took=20), back("s", found=400, took=300)

    found = look(quick, slow)

    assert (found.detection.median, found.detection.longest) == (230.0, 400.0)
    assert found.detection.within == 1
    assert (found.restore.median, found.restore.longest) == (390.0, 700.0)
    assert {"detection", "restore"} <= set(kinds(found))


def test_a_rollback_by_a_person_is_neither_detected_nor_false() -> None:
    by_hand = replace(back("h"), automatic=False, first_bad=None)

    found = look(by_hand)

    assert (found.automatic, found.detection.count, found.restore.count) == (0, 0, 1)
    assert not may_mark(by_hand, Mark.FALSE)
    assert may_mark(by_hand, Mark.MISSED)


@pytest.mark.parametrize(("false", "raises"), [(1, False), (2, True)])
def test_more_than_a_tenth_false_raises_a_review(false: int, raises: bool) -> None:
    runs = [back(f"b{i}", days_ago=10.0 * i) for i in range(1, 11)]
    marked = [Marked(run, Mark.FALSE if i < false else Mark.RIGHT) for i, run in enumerate(runs)]

    found = look(*marked, days=110)

    assert found.false_part == false / 10
    assert ("false" in kinds(found)) is raises
    assert found.unmarked == 0


def test_one_that_people_call_missed_raises_a_review() -> None:
    found = look(Marked(a_run("m"), Mark.MISSED), a_run("c"))

    assert found.missed == ("m",)
    assert kinds(found) == ["missed"]


def test_over_45_minutes_counts_also_while_it_is_under_way() -> None:
    long, short = a_run("l", took=2701.0), a_run("s", took=2700.0)
    running = Run("live", "production", "api", "3", State.RUNNING, NOW - 3000, None)
    waiting = Run("new", "production", "api", "4", State.PENDING, None, None)

    assert look(long, short, running, waiting).long == ("l", "live")


@pytest.mark.parametrize(
    ("days", "bursts"),
    [
        ((1, 2, 3), [3]),
        ((1, 4, 8), [3]),
        ((1, 4, 8.1), []),
        ((1, 2), []),
        ((1, 2, 3, 4), [4]),
        ((1, 2, 3, 20, 21, 22), [3, 3]),
    ],
)
def test_three_automatic_rollbacks_within_a_week_raise_a_review(
    days: tuple[float, ...], bursts: list[int]
) -> None:
    runs = [back(f"b{i}", days_ago=ago) for i, ago in enumerate(days)]

    found = [each for each in look(*runs).concerns if each.kind == "burst"]

    assert [len(each.rollouts) for each in found] == bursts


def test_what_counts_is_read_from_a_rollout() -> None:
    cause = Rollback(
        By.GUARD, "errors", "backstop", 1, T0 + 90, first_bad=T0 + 30, confirmed=T0 + 99
    )
    rollout = replace(at_step(1), state=State.ROLLED_BACK, rollback=cause, ended=T0 + 99)

    run = run_of(rollout)

    assert (run.automatic, run.detection, run.restore) == (True, 60.0, 69.0)
    assert not run_of(replace(rollout, rollback=a_cause(T0))).automatic


@pytest.mark.parametrize("state", [State.RUNNING, State.SUPERSEDED, State.ROLLING_BACK])
def test_only_what_has_ended_can_be_marked(state: State) -> None:
    run = replace(a_run(), state=state)

    assert not any(may_mark(run, mark) for mark in Mark)


# --- as it is kept --------------------------------------------------------------------------------


def begun(house: House, key: str = "new-search") -> str:
    house.create(key)
    body = {
        "environment": "staging",
        "service": "shop",
        "schedule": "5%:5m,100%",
        "guards": "none",
        "targets": [{"kind": "flag", "name": key}],
    }
    return house.services.rollouts.start(NewRollout.model_validate(body), ADMIN).rollout.id


def ended(house: House, key: str = "new-search") -> str:
    id = begun(house, key)
    house.services.rollouts.roll_back(id, Reasoned(reason="by hand"), ADMIN)
    return id


def test_a_mark_stands_in_the_record_and_is_taken_back() -> None:
    house = House()
    id = ended(house)
    reviewing = house.services.reviewing

    reviewing.mark(id, MarkBody(mark="missed", reason="users told us"), ADMIN)
    reviewing.mark(id, MarkBody(mark="missed"), ADMIN)  # says nothing new
    assert reviewing.review(30, None, ADMIN).review.missed == (id,)
    reviewing.mark(id, MarkBody(mark=None), ADMIN)

    assert reviewing.marks() == {}
    told = [e for e in house.services.record.recent(limit=50) if e["action"] == "rollout:mark"]
    assert [(e["before"], e["after"]) for e in told] == [
        ({"mark": "missed"}, None),
        (None, {"mark": "missed"}),
    ]


def test_what_cannot_be_said_of_a_rollout_is_refused_with_the_reason() -> None:
    house = House()
    reviewing = house.services.reviewing

    with pytest.raises(Conflict, match="not taken back by itself"):
        reviewing.mark(ended(house), MarkBody(mark="false"), ADMIN)
    with pytest.raises(Conflict, match="once it has ended"):
        reviewing.mark(begun(house, "other"), MarkBody(mark="right"), ADMIN)
    with pytest.raises(NotFound):
        reviewing.mark("r-none", MarkBody(mark="right"), ADMIN)


def test_only_one_environments_rollouts_are_shown_where_one_is_asked_for() -> None:
    house = House()
    id = ended(house)

    here = house.services.reviewing.review(30, "staging", ADMIN).rollouts
    there = house.services.reviewing.review(30, "production", ADMIN).rollouts

    assert [each.run.id for each in here] == [id]
    assert there == []
