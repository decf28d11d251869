"""Who was told, by the places in the outbox."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flagserver.domain import verbs
from flagserver.domain.drills import Proof, told
from flagserver.domain.notices import Notice, Severity
from flagserver.domain.rollout import By, Rollback
from tests.unit.rollouts import T0, at_step, whole

NOTICE = Notice("1", "rollout:hold", Severity.INFO, "now", None, None, "rollout/r-1", "Held.")


@pytest.mark.parametrize(
    ("place", "is_told"),
    [
        ("1700000000000-1", True),
        ("1700000000000-10", True),
        ("1700000000001-0", True),
        ("1700000000000-0", False),
        ("999999999999-9", False),
        ("1700000000000", False),
    ],
)
def test_whoever_has_delivered_up_to_it_has_told(place: str, is_told: bool) -> None:
    (found,) = told([("1700000000000-1", NOTICE)], {"pager": place})
    assert found.notifiers == (("pager",) if is_told else ())


def test_notifiers_are_told_in_order_of_their_names() -> None:
    (found,) = told([("1-1", NOTICE)], {"slack": "2-0", "log": "2-0", "late": "0-0"})
    assert found.notifiers == ("log", "slack")


@pytest.mark.parametrize(
    ("by", "kind", "notifiers", "passed"),
    [
        (By.GUARD, "rollout:rollback:begin", {"pager": "9-0"}, True),
        (By.ENGINE, "rollout:rollback:begin", {"pager": "9-0", "log": "9-0"}, True),
        # The server's own log is nobody.
        (By.GUARD, "rollout:rollback:begin", {"log": "9-0"}, False),
        # Of its start they were told, of its end not yet.
        (By.GUARD, "rollout:start", {"pager": "9-0"}, False),
        # Somebody took it back: it did not do so by itself.
        (By.PERSON, "rollout:rollback:begin", {"pager": "9-0"}, False),
    ],
)
def test_a_drill_has_passed_when_it_went_back_by_itself_and_somebody_was_told(
    by: By, kind: str, notifiers: dict[str, str], passed: bool
) -> None:
    cause = Rollback(by, "drill 50 % > 1 %.", "backstop", 0, T0 + 90)
    going = verbs.roll_back(at_step(0), cause).after
    gone = verbs.confirm(going, whole(going), T0 + 95).after
    found = told([("1-0", replace(NOTICE, kind=kind))], notifiers)

    assert Proof(gone, T0 + 30, "token:x", found).passed is passed
    # While it is on its way back nothing is proven yet.
    assert Proof(going, T0 + 30, "token:x", found).passed is False


def test_times_are_from_the_beginning_and_from_the_decision() -> None:
    proof = Proof(at_step(0), T0, "token:x", ())
    assert (proof.detected_after, proof.restored_after) == (None, None)
    cause = Rollback(By.GUARD, "drill", "backstop", 0, T0 + 90)
    going = verbs.roll_back(at_step(0), cause).after
    gone = verbs.confirm(going, whole(going), T0 + 95).after
    proof = Proof(gone, T0 + 30, "token:x", ())
    assert (proof.detected_after, proof.restored_after) == (60, 5)
