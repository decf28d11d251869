"""Who is told what of a rollout: what is worth a notice, what wakes somebody, and what ends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flagserver.domain import telling, verbs
from flagserver.domain.notices import Notice, Severity
from flagserver.domain.rollout import Rollout, Why
from flagserver.domain.verbs import Turn

from .rollouts import SEARCH, T0, a_cause, a_rollout, at_step, whole

BY_HAND = ("aws elbv2 modify-rule …",)


def told(turn: Turn) -> Notice:
    """Return the one notice of a turn."""
    [notice] = telling.notices(turn, BY_HAND)
    return notice


def going_back(rollout: Rollout, now: float = T0 + 60) -> Turn:
    cause = replace(a_cause(now, rollout.step), first_bad=now - 45)
    return verbs.roll_back(rollout, cause, cause.reason)


def waits(rollout: Rollout, why: Why = Why.OUTAGE) -> Turn:
    return verbs.wait(rollout, why, "Both sides are unwell.", T0 + 60, T0 + 60)


def taken_over(older: Rollout) -> Turn:
    return verbs.create(
        id="r-2",
        environment=older.environment,
        service=older.service,
        version="3",
        schedule=older.schedule,
        relation=older.relation,
        targets=older.targets,
        guards=(),
        by="token:deploy",
        now=T0 + 90,
        instead_of=older,
    )


class TestWorthTelling:
    @pytest.mark.parametrize(
        ("turn", "severity"),
        [
            (verbs.start(a_rollout(), T0), Severity.INFO),
            (verbs.hold(at_step(0), T0, T0, "lunch"), Severity.INFO),
            (verbs.complete(at_step(3), T0), Severity.INFO),
            (verbs.put_right(at_step(0), "A late write arrived.", T0), Severity.WARNING),
            (waits(at_step(0), Why.DATA), Severity.WARNING),
            (waits(at_step(0)), Severity.PAGE),
            (going_back(at_step(0)), Severity.WARNING),
            (verbs.rollback_failed(going_back(at_step(0)).after, "No.", T0 + 130), Severity.PAGE),
        ],
        ids=lambda value: getattr(value, "action", None),
    )
    def test_how_loud(self, turn: Turn, severity: Severity) -> None:
        notice = told(turn)

        assert (notice.kind, notice.severity) == (turn.action, severity)
        assert (notice.environment, notice.service) == ("production", "api")
        assert notice.subject == turn.after.name

    @pytest.mark.parametrize(
        "turn",
        [
            verbs.move(verbs.start(a_rollout(), T0).after, 0, T0),
            verbs.advance(at_step(0), T0),
            verbs.note_gap(at_step(0), T0 + 60, T0 + 10),
            verbs.hold(verbs.hold(at_step(0), T0, T0).after, T0, T0),
        ],
        ids=lambda turn: turn.action or "nothing",
    )
    def test_the_rest_is_in_the_record_only(self, turn: Turn) -> None:
        assert telling.notices(turn) == ()


class TestWords:
    def test_what_when_and_why(self) -> None:
        notice = told(waits(at_step(1), Why.DATA))

        assert notice.title == "Holding: api 2 in production: Both sides are unwell."
        assert notice.facts["Step"] == "2 of 4, 25 %"
        assert notice.facts["Now"] == "arn:rule 25 %, new-search 25 %"

    def test_a_rollback_says_how_long_everything_took(self) -> None:
        begun = going_back(at_step(1)).after
        done = verbs.confirm(begun, whole(begun), T0 + 72, applied=T0 + 70)

        facts = told(done).facts

        assert (facts["Why"], facts["Found after"], facts["Back after"]) == (
            *("It is slow.", "45 s", "12 s"),
        )
        assert facts["Now"] == "arn:rule 0 %, new-search 0 %"

    def test_what_is_not_known_is_not_said(self) -> None:
        facts = told(going_back(at_step(1))).facts

        assert facts["Now"] == "arn:rule not confirmed, new-search 0 %"
        assert "Back after" not in facts

    def test_before_its_first_step(self) -> None:
        assert telling.step_text(a_rollout()) == "before the first of 4"

    def test_without_a_version(self) -> None:
        flag_alone = at_step(0, targets=(SEARCH,), version=None)

        assert told(verbs.hold(flag_alone, T0, T0)).title == "Paused: api in production"

    def test_only_what_must_be_done_by_hand_says_how(self) -> None:
        begun = going_back(at_step(0))
        failed = verbs.rollback_failed(begun.after, "It still shows 5 %.", T0 + 130)

        assert (told(begun).by_hand, told(failed).by_hand) == ((), BY_HAND)
        assert told(failed).facts["Trouble"] == "It still shows 5 %."

    def test_a_notice_is_told_apart_from_the_same_of_another_time(self) -> None:
        rollout = at_step(0)
        first = waits(rollout)
        again = verbs.wait(
            *(verbs.go_on(first.after, T0 + 90).after, Why.OUTAGE, "Again.", T0 + 120, T0 + 120)
        )

        assert told(first).id == told(first).id
        assert told(first).id != told(again).id


def raised(notice: Notice) -> tuple[str | None, bool]:
    """Return whose incident a notice is about, and whether it ends it."""
    return notice.incident, notice.resolves


class TestIncidents:
    RAISED = ("rollout/r-1", False)
    ENDED = ("rollout/r-1", True)
    NONE = (None, False)

    def test_an_outage_is_raised_once_and_ended(self) -> None:
        begun = waits(at_step(0))

        assert raised(told(begun)) == self.RAISED
        assert raised(told(verbs.go_on(begun.after, T0 + 90))) == self.ENDED

    def test_one_that_begins_while_it_waits_for_something_else(self) -> None:
        limit = waits(at_step(0), Why.LIMIT)
        outage = verbs.wait(limit.after, Why.OUTAGE, "Both.", T0 + 90, T0 + 90)
        again = verbs.wait(outage.after, Why.LIMIT, "Only ours.", T0 + 99, T0 + 99)

        assert raised(told(limit)) == self.NONE
        assert (raised(told(outage)), told(outage).severity) == (self.RAISED, Severity.PAGE)
        assert raised(told(again)) == self.ENDED

    def test_somebody_who_holds_it_has_seen_it(self) -> None:
        outage = waits(at_step(0)).after

        assert raised(told(verbs.hold(outage, T0 + 90, T0 + 90))) == self.ENDED

    def test_going_back_ends_it_when_it_is_confirmed(self) -> None:
        begun = going_back(waits(at_step(0)).after, T0 + 90)
        done = verbs.confirm(begun.after, whole(begun.after), T0 + 99)

        assert raised(told(begun)) == self.NONE
        assert raised(told(done)) == self.ENDED

    def test_a_rollback_that_fails_is_raised_and_ended_by_its_confirmation(self) -> None:
        failed = verbs.rollback_failed(going_back(at_step(0)).after, "No.", T0 + 130)
        done = verbs.confirm(failed.after, whole(failed.after), T0 + 200)

        assert raised(told(failed)) == self.RAISED
        assert raised(told(done)) == self.ENDED

    def test_a_newer_rollout_ends_the_older_ones(self) -> None:
        turn = taken_over(waits(at_step(0)).after)

        assert raised(told(turn)) == self.ENDED
        assert told(turn).subject == "rollout/r-2"

    def test_nothing_else_raises_any(self) -> None:
        quiet = [
            verbs.start(a_rollout(), T0),
            verbs.complete(at_step(3), T0),
            waits(at_step(0), Why.TARGET),
            going_back(at_step(0)),
        ]

        assert {raised(told(turn)) for turn in quiet} == {self.NONE}
