"""Rollouts: their way through a schedule, what each verb may do, what holds whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagserver.domain import decisions, verbs
from flagserver.domain.decisions import (
    Complete,
    Hold,
    Look,
    Move,
    NoteGap,
    Obstacle,
    Resume,
    RollBack,
    RollbackFailed,
    Start,
    Stay,
    flag_obstacle,
    traffic_obstacle,
)
from flagserver.domain.documents import Principal
from flagserver.domain.errors import Conflict, Invalid
from flagserver.domain.flags import State as FlagState
from flagserver.domain.guards import Action, Context, Does, act, judge, standard
from flagserver.domain.plan import Relation
from flagserver.domain.rollout import (
    GAP_SECONDS,
    TICK_SECONDS,
    By,
    Rollout,
    Why,
    gap_seconds,
)
from flagserver.domain.schedule import Schedule, parse
from flagserver.domain.signals import Measured, Point
from flagserver.domain.states import STATES, State
from flagserver.domain.targets import Reading
from flagserver.domain.verbs import Turn
from tests.unit.rollouts import (
    BLIND,
    EARLY,
    HARM,
    RULE,
    SEARCH,
    T0,
    WELL,
    World,
    a_cause,
    a_rollout,
    a_world,
    at_step,
    whole,
)

ANA = Principal("token:ana", "admin", "admin")


def actions(world: World) -> list[str]:
    return [fact.action for fact in world.facts]


# --- the way through a schedule -------------------------------------------------------------------


def test_a_standard_rollout_is_at_5_25_50_100_at_0_5_15_30_minutes() -> None:
    world = a_world()
    reached: dict[float, tuple[int, int]] = {}
    world.look()
    world.carry_out()
    reached[0] = (world.traffic, world.flag)
    while not world.rollout.state.shown.terminal:
        before = (world.traffic, world.flag)
        world.tick()
        if (world.traffic, world.flag) != before:
            reached[(world.now - T0) / 60] = (world.traffic, world.flag)
    assert reached == {
        0: (50_000, 50_000),
        5: (250_000, 250_000),
        15: (500_000, 500_000),
        30: (1_000_000, 1_000_000),
    }
    assert world.rollout.state is State.COMPLETED
    assert world.now - T0 == 30 * 60 + 5


def test_every_step_is_one_intent_and_one_confirmation() -> None:
    world = a_world()
    world.run(31 * 60)
    assert actions(world) == [
        *(["rollout:step:begin", "rollout:step:confirm"] * 4),
        "rollout:complete",
    ]


def test_intent_comes_before_anything_is_touched() -> None:
    world = a_world()
    assert world.look() == Move(0)
    assert (world.traffic, world.flag) == (0, 0)
    assert world.rollout.intended == {RULE.id: 50_000, SEARCH.id: 50_000}
    assert world.rollout.confirmed == {RULE.id: 0, SEARCH.id: 0}
    assert world.rollout.is_pending_intent


def test_a_step_begins_to_count_when_it_is_confirmed_and_not_before() -> None:
    world = a_world()
    world.look()
    world.cloud_away = True
    world.run(600)
    assert world.rollout.step_confirmed_at is None
    world.cloud_away = False
    world.tick()
    assert world.rollout.step_confirmed_at == world.now
    world.run(295)
    assert world.rollout.step == 0
    world.tick()
    assert world.rollout.step == 1


def test_an_hour_away_neither_skips_a_hold_nor_makes_up_for_steps_in_a_burst() -> None:
    world = a_world()
    world.tick()
    world.run(60)
    assert world.tick(3600.0) == NoteGap()
    assert world.rollout.step == 0
    assert world.rollout.unwatched == 3600
    world.run(235)
    assert world.rollout.step == 0
    world.tick()
    assert world.rollout.step == 1
    assert world.rollout.watched == 0


def test_nobody_knows_of_a_last_look_so_only_what_was_written_down_counts() -> None:
    world = a_world()
    world.tick()
    world.run(200)
    world.last_look = None
    world.tick()
    assert world.rollout.unwatched == 205
    assert world.rollout.elapsed(world.now) == 0


def test_a_short_absence_counts_a_longer_one_does_not() -> None:
    for seconds, decision in ((GAP_SECONDS, Stay()), (GAP_SECONDS + 0.001, NoteGap())):
        world = a_world()
        world.tick()
        world.run(30)
        assert world.tick(seconds) == decision


def test_a_controller_with_longer_ticks_says_what_a_gap_is_to_it() -> None:
    rollout = at_step(0)
    assert rollout.seen_until(T0 + 200, T0) == T0
    assert rollout.seen_until(T0 + 200, T0, gap=300) == T0 + 200
    assert (gap_seconds(1), gap_seconds(TICK_SECONDS)) == (3, GAP_SECONDS)


def test_a_pause_within_a_gap_is_not_counted_twice_nor_at_all() -> None:
    world = a_world()
    world.tick()
    world.run(60)
    # The controllers are gone. Somebody holds after half an hour, and resumes after another.
    world.now += 1800
    world.commit(verbs.hold(world.rollout, world.now, world.seen()))
    assert world.rollout.watched == 60
    assert world.rollout.unwatched == 1800
    world.now += 1800
    world.commit(verbs.resume(world.rollout, world.now))
    world.now += 600
    world.tick()
    assert world.rollout.elapsed(world.now) == 60
    assert world.rollout.unwatched == 1800 + 605


def test_a_clock_that_is_set_back_makes_no_hold_shorter() -> None:
    world = a_world()
    world.tick()
    world.run(60)
    world.tick(-30.0)
    assert world.rollout.elapsed(world.now) == 30
    world.run(265)
    assert world.rollout.step == 0


def test_missing_data_hold_at_the_end_of_a_step_and_it_goes_on_by_itself() -> None:
    world = a_world()
    world.tick()
    world.run(295, EARLY)
    assert world.tick(5.0, BLIND) == Hold(Why.DATA, BLIND.reason)
    assert world.rollout.state is State.HOLDING
    world.run(600, BLIND)
    assert world.rollout.step == 0
    assert world.tick() == Resume()
    assert world.tick() == Move(1)


def test_the_hold_is_over_but_not_every_guard_passes() -> None:
    world = a_world()
    world.tick()
    world.run(295)
    assert world.tick(5.0, EARLY) == Hold(Why.DATA, EARLY.reason)


def test_a_broken_limit_stops_the_timer_at_once_and_a_graver_reason_replaces_it() -> None:
    verdict = judge(standard()[0], Measured(points(0.02), points(0.001)), T0)
    broken = act([verdict], Context(T0, T0))
    shared = act([judge(standard()[0], Measured(points(0.02), points(0.02)), T0)], Context(T0, T0))
    world = a_world()
    world.tick()
    world.run(100)
    assert world.tick(5.0, broken) == Hold(Why.LIMIT, broken.reason)
    assert world.tick(5.0, broken) == Stay()
    assert world.tick(5.0, shared) == Hold(Why.OUTAGE, shared.reason)
    world.run(3600, shared)
    world.tick()
    assert world.rollout.state is State.RUNNING
    assert world.rollout.elapsed(world.now) == 105
    assert actions(world)[2:] == ["rollout:wait:begin", "rollout:wait:change", "rollout:wait:end"]


def points(rate: float) -> tuple[Point, ...]:
    return tuple(Point(T0 - 60 * i, rate, 1000, round(rate * 1000)) for i in (1, 0))


def test_a_step_waits_for_its_minimum_sample() -> None:
    world = a_world("5%:1m:n=1000,100%")
    world.tick()
    world.run(55)
    world.now += 5

    def decided(rollout: Rollout, sample: int | None) -> decisions.Decision:
        seen = world.seen()
        action = act([], decisions.context(rollout, world.now, seen, sample=sample))
        return decisions.decide(rollout, Look(action, seen), world.now)

    told = decided(world.rollout, 999)
    assert isinstance(told, Hold)
    assert told.why is Why.DATA
    assert "This step needs 1,000 requests and has seen 999." in told.reason
    assert isinstance(decided(world.rollout, None), Hold)
    assert decided(world.rollout, 1000) == Move(1)
    assert decided(replace(world.rollout, waived=0), 999) == Move(1)


@pytest.mark.parametrize(
    ("overtime", "follows"),
    [("person", Hold), ("roll_back", decisions.RollBack), ("proceed", Resume)],
)
def test_three_times_the_hold_wakes_somebody_or_does_what_the_schedule_says(
    overtime: str, follows: type[decisions.Decision]
) -> None:
    """Since somebody decided last: whoever resumes or skips the wait has three holds again."""
    world = a_world(f"5%:1m:n=1000,100%:overtime={overtime}")
    world.tick()
    for _ in range(34):
        world.tick(5.0, _with_three_requests(world, world.now + 5))
    assert world.rollout.waiting is not None
    assert world.rollout.waiting.why is Why.DATA

    later = replace(world.rollout, decided=world.now - 60)
    assert decisions.context(later, world.now, world.now).passed == 60
    found: decisions.Decision = Stay()
    while isinstance(found, Stay) and world.now < T0 + 300:
        found = world.tick(5.0, _with_three_requests(world, world.now + 5))
    assert isinstance(found, follows)
    if isinstance(found, Hold):
        assert found.why is Why.PERSON
    if isinstance(found, Resume):
        assert world.tick(5.0, _with_three_requests(world, world.now + 5)) == Move(1)


def _with_three_requests(world: World, now: float) -> Action:
    context = decisions.context(world.rollout, now, world.seen(), sample=3)
    return act([], context)


def test_a_step_waits_to_be_approved() -> None:
    world = a_world("5%:1m:approve,100%")
    world.tick()
    world.run(55)
    assert world.tick() == Hold(Why.APPROVAL, "Step 1 waits to be approved.")
    world.run(600)
    assert world.rollout.step == 0
    world.commit(verbs.approve(world.rollout, ANA.id, world.now))
    assert world.rollout.state is State.RUNNING
    assert world.tick() == Move(1)
    assert world.rollout.approvals[0].by == ANA.id


def test_an_early_approval_shortens_no_hold() -> None:
    world = a_world("5%:1m:approve,100%")
    world.tick()
    world.commit(verbs.approve(world.rollout, ANA.id, world.now))
    world.run(55)
    assert world.rollout.step == 0
    assert world.tick() == Move(1)


def test_advancing_skips_the_wait_and_answers_for_missing_data() -> None:
    world = a_world()
    world.tick()
    world.run(60)
    world.commit(verbs.advance(world.rollout, world.now))
    context = decisions.context(world.rollout, world.now, world.seen())
    assert context.waived
    assert context.hold_over
    blind = act([judge(standard()[0], Measured(), world.now)], context)
    assert world.tick(5.0, blind) == Move(1)
    # The next step's wait is a new one.
    world.run(595)
    assert world.rollout.step == 1


def test_nobody_is_exposed_before_the_first_step_so_there_is_nothing_to_miss() -> None:
    world = a_world()
    context = decisions.context(world.rollout, world.now, world.seen())
    blind = act([judge(standard()[0], Measured(), world.now)], context)
    assert world.tick(5.0, blind) == Move(0)


def test_the_last_share_is_watched_for_the_bake() -> None:
    world = a_world("50%:1m,100%:10m")
    world.tick()
    world.run(60)
    assert world.rollout.step == 1
    world.run(595)
    assert world.rollout.state is State.RUNNING
    assert world.tick() == Complete()


def test_a_bake_that_keeps_a_control_is_complete_once_everybody_has_it() -> None:
    world = a_world("50%:1m,100%:10m:keep=1%")
    world.tick()
    world.run(60)
    assert (world.traffic, world.flag) == (990_000, 990_000)
    assert world.rollout.plan[1].kept == 10_000
    world.run(595)
    assert (world.rollout.state, world.traffic) == (State.RUNNING, 990_000)

    assert world.tick() == Move(2)
    world.run(10)
    assert world.rollout.state is State.COMPLETED
    assert (world.traffic, world.flag) == (1_000_000, 1_000_000)


def test_harm_that_the_control_shows_in_the_bake_takes_all_of_it_back() -> None:
    world = a_world("50%:1m,100%:10m:keep=1%")
    world.tick()
    world.run(120)
    assert isinstance(world.tick(5.0, HARM), RollBack)
    world.run(10)
    assert (world.rollout.state, world.traffic, world.flag) == (State.ROLLED_BACK, 0, 0)


def a_split(**more: Any) -> World:
    return a_world("10%:1m,50%:end", until=T0 + 3600, **more)


def test_a_split_holds_its_last_share_until_its_date_and_leaves_it_there() -> None:
    world = a_split()
    world.tick()
    world.run(60)
    assert (world.rollout.step, world.traffic, world.flag) == (1, 500_000, 500_000)
    assert [step.hold for step in world.rollout.plan] == [60, 3540]
    assert world.rollout.due(world.now, world.seen()) == T0 + 3600
    world.run(T0 + 3595 - world.now)
    assert world.rollout.state is State.RUNNING

    assert world.tick() == Complete()
    assert (world.traffic, world.flag) == (500_000, 500_000)
    assert Rollout.from_body(world.rollout.to_body()) == world.rollout


def test_a_pause_does_not_put_off_the_end_of_a_split() -> None:
    world = a_split()
    world.tick()
    world.run(120)
    world.commit(verbs.hold(world.rollout, world.now, world.seen()))
    world.now = T0 + 3500
    world.commit(verbs.resume(world.rollout, world.now))
    world.run(95)
    assert world.rollout.state is State.RUNNING

    assert world.tick() == Complete()


def test_a_split_that_does_harm_goes_back_all_the_same() -> None:
    world = a_split()
    world.tick()
    world.run(120)
    assert isinstance(world.tick(5.0, HARM), RollBack)


@pytest.mark.parametrize(
    ("told", "field", "words"),
    [
        ({"schedule": parse("10%:1m,100%")}, "/schedule", "below 100 %"),
        ({"schedule": parse("10%:1m,50%:5m:end")}, "/until", "either its bake or"),
        ({"until": T0 + 60}, "/until", "after the steps before the last"),
        ({"until": T0 + 91 * 86400}, "/until", "within 90 days"),
        ({"start_at": T0 + 3600}, "/until", "after the steps"),
    ],
)
def test_what_cannot_be_a_split_is_refused(told: dict[str, Any], field: str, words: str) -> None:
    given = {"schedule": parse("10%:1m,50%:end"), "until": T0 + 3600, **told}
    with pytest.raises(Invalid, match=words) as refused:
        a_rollout(**given)
    assert refused.value.field == field


def test_a_rollout_starts_by_itself_when_its_time_has_come_unless_something_is_wrong() -> None:
    waiting = a_rollout(start_at=T0 + 3600)
    world = World(waiting)
    world.run(3595, HARM)
    assert world.rollout.state is State.PENDING
    fires = replace(world, facts=[], looks=[])
    assert world.tick() == Start()
    assert world.tick() == Move(0)
    # An alarm that fires already: nobody was exposed, so it has rolled back at once.
    assert isinstance(fires.tick(5.0, HARM), RollBack)
    assert fires.rollout.state is State.ROLLED_BACK
    assert (fires.traffic, fires.flag) == (0, 0)


def test_a_rollout_without_a_time_waits_for_somebody() -> None:
    world = World(a_rollout())
    world.run(3600)
    assert world.rollout.state is State.PENDING
    assert world.commits == 0


# --- going back -----------------------------------------------------------------------------------


def test_harm_takes_everything_back_flags_with_the_intent_and_traffic_after() -> None:
    world = a_world()
    world.tick()
    world.run(400)
    assert (world.traffic, world.flag) == (250_000, 250_000)
    world.now += 5
    assert isinstance(world.look(HARM), RollBack)
    assert (world.traffic, world.flag) == (250_000, 0)
    world.carry_out()
    assert (world.traffic, world.flag) == (0, 0)
    rollout = world.rollout
    assert rollout.state is State.ROLLED_BACK
    assert rollout.rollback is not None
    assert rollout.rollback.by is By.GUARD
    assert rollout.rollback.step == 1
    assert rollout.rollback.reason == HARM.reason
    assert rollout.rollback.confirmed == rollout.ended == world.now


def test_a_rollback_keeps_the_numbers_that_led_to_it() -> None:
    verdict = judge(standard()[0], Measured(points(0.08), points(0.001)), T0)
    action = act([verdict], Context(T0, T0))
    decision = decisions.decide(at_step(0), Look(action, T0), T0 + 5)
    assert isinstance(decision, RollBack)
    assert decision.cause.row == "backstop"
    assert decision.cause.first_bad == T0 - 60
    assert decision.cause.detected == T0 + 5
    assert decision.cause.verdict == verdict.to_body()
    assert "8 % > 1 % (2 of 2 points, n = 2,000)" in decision.cause.reason


@pytest.mark.parametrize("state", [State.RUNNING, State.HOLDING, State.PAUSED])
@pytest.mark.parametrize("moving", [True, False], ids=["moving", "confirmed"])
def test_nothing_holds_up_harm(state: State, moving: bool) -> None:
    rollout = at_step(0)
    if moving:
        rollout = verbs.move(rollout, 1, T0).after
    rollout = replace(rollout, state=state, counting_since=None)
    look = Look(HARM, T0 - 10_000, Obstacle(Why.TARGET, "Somebody else."))
    assert isinstance(decisions.decide(rollout, look, T0 + 10_000), RollBack)


def test_a_move_that_was_on_its_way_is_not_believed_when_going_back() -> None:
    rollout = verbs.move(verbs.start(a_rollout(), T0).after, 0, T0).after
    back = verbs.roll_back(rollout, a_cause(T0)).after
    # The rule was confirmed at 0 % before, but 5 % may have been set since.
    assert RULE.id not in back.confirmed
    assert back.is_pending_intent


def test_a_rollback_is_confirmed_only_at_nothing_everywhere() -> None:
    back = verbs.roll_back(at_step(1), a_cause(T0)).after
    with pytest.raises(Conflict, match=r"is at 0\.1 %, not at 0 %"):
        verbs.confirm(back, {RULE.id: 1000, SEARCH.id: 0}, T0)
    with pytest.raises(Conflict, match="in no known state"):
        verbs.confirm(back, {SEARCH.id: 0}, T0)


def test_a_rollback_that_cannot_be_confirmed_says_so_after_a_try_and_goes_on_trying() -> None:
    world = a_world()
    world.tick()
    world.cloud_away = True
    world.tick(5.0, HARM)
    # A controller that comes back late tries before it says so.
    assert world.tick(300.0) == Stay()
    assert world.tick(5.0, trouble="ELB does not answer.") == RollbackFailed("ELB does not answer.")
    assert actions(world)[-1] == "rollout:rollback:fail"
    assert world.tick(5.0, trouble="ELB does not answer.") == Stay()
    assert world.rollout.may_carry_out
    world.cloud_away = False
    world.tick()
    assert world.rollout.state is State.ROLLED_BACK
    assert world.rollout.rollback is not None
    assert world.rollout.rollback.trouble == "ELB does not answer."


def test_a_pending_rollout_that_is_rolled_back_has_nothing_to_take_back() -> None:
    back = verbs.roll_back(a_rollout(), a_cause(T0)).after
    assert back.state is State.ROLLED_BACK
    assert back.ended == T0


def test_who_takes_over_first_takes_traffic_to_nothing() -> None:
    old = at_step(1)
    turn = verbs.create(
        **{**given_of(old), "id": "r-2", "version": "3", "now": T0 + 9, "instead_of": old}
    )
    assert turn.ends is not None
    assert turn.ends.state is State.SUPERSEDED
    assert turn.ends.superseded_by == "r-2"
    assert turn.fact().action == "rollout:supersede"
    assert turn.fact().before["superseded"] == "r-1"
    world = World(verbs.start(turn.after, T0 + 9).after, now=T0 + 9, traffic=250_000)
    assert world.rollout.goes_down
    assert world.tick() == Stay()
    assert world.traffic == 0
    assert world.tick() == Move(0)
    # Ended before that is done: it still takes the traffic back.
    back = verbs.roll_back(turn.after, a_cause(T0 + 9)).after
    assert back.state is State.ROLLING_BACK


def given_of(rollout: Rollout) -> dict[str, Any]:
    names = (
        *("environment", "service", "version", "schedule", "relation", "targets", "guards", "by"),
    )
    return {name: getattr(rollout, name) for name in names}


# --- what somebody else did -----------------------------------------------------------------------


def a_state(share: int, *, killed: bool = False) -> FlagState:
    return FlagState("new-search", "production", share, (("on", 1_000_000),), killed=killed)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({"new-search": a_state(50_000)}, None),
        ({"new-search": a_state(50_000, killed=True)}, "new-search was killed."),
        ({"new-search": a_state(10_000)}, "set to 1 % from outside; the rollout had it at 5 %"),
        ({}, "set to 0 % from outside"),
    ],
)
def test_killing_or_shrinking_a_flag_from_outside_holds(
    states: dict[str, FlagState], words: str | None
) -> None:
    found = flag_obstacle(at_step(0), states)
    assert (found is None) == (words is None)
    if found is not None:
        assert words is not None
        assert words in found.reason
        assert decisions.decide(at_step(0), Look(WELL, T0, found), T0) == Hold(
            Why.FLAG, found.reason
        )


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (Reading(50_000), None),
        (Reading(400_000), "Somebody else set alb/arn:rule: it is at 40 %."),
        (Reading(0), "it is at 0 %"),
        (Reading(None), "no share"),
        (Reading(50_000, owner="CodeDeploy d-1"), "owned by CodeDeploy d-1"),
        (Reading(50_000, foreign="A third target group is there."), "A third target group"),
    ],
)
def test_a_foreign_change_holds(reading: Reading, words: str | None) -> None:
    found = traffic_obstacle(at_step(0), {RULE.id: reading})
    assert (found is None) == (words is None)
    if found is not None:
        assert words is not None
        assert words in found.reason


def test_while_moving_both_the_old_and_the_new_share_are_ours() -> None:
    moving = verbs.move(at_step(0), 1, T0).after
    for share, foreign in ((50_000, False), (250_000, False), (100_000, True)):
        assert bool(traffic_obstacle(moving, {RULE.id: Reading(share)})) is foreign
    assert traffic_obstacle(moving, {}) is None


def test_what_was_undone_by_hand_goes_on_by_itself_and_the_rest_needs_somebody() -> None:
    world = a_world()
    world.tick()
    shrunk = Obstacle(Why.FLAG, "new-search was set to 1 % from outside.")
    world.tick(5.0, obstacle=shrunk)
    assert world.tick(5.0, obstacle=shrunk) == Stay()
    assert world.rollout.state is State.HOLDING
    generation = world.rollout.generation
    world.commit(verbs.resume(world.rollout, world.now))
    # This step's shares are set anew; its hold goes on where it was.
    assert world.rollout.generation == generation + 1
    assert world.rollout.is_pending_intent
    before = world.rollout.watched
    world.tick()
    assert not world.rollout.is_pending_intent
    assert world.rollout.watched == before
    world.tick(5.0, obstacle=shrunk)
    assert world.tick() == Resume()


def test_a_rollout_takes_no_kill_back() -> None:
    held = holding(Why.FLAG)
    with pytest.raises(Conflict, match="takes no kill back"):
        verbs.resume(held, T0, killed=["new-search"])


# --- verbs and states -----------------------------------------------------------------------------


def holding(why: Why) -> Rollout:
    return verbs.wait(at_step(0, schedule=approving()), why, f"Because of {why}.", T0, T0).after


def approving() -> Schedule:
    return parse("5%:5m:approve,100%")


def rolling_back() -> Rollout:
    return verbs.roll_back(at_step(0), a_cause(T0)).after


def completed() -> Rollout:
    return verbs.complete(at_step(3), T0).after


WHERE: dict[str, Callable[[], Rollout]] = {
    "pending": a_rollout,
    "started": lambda: verbs.start(a_rollout(), T0).after,
    "moving": lambda: verbs.move(verbs.start(a_rollout(), T0).after, 0, T0).after,
    "running": lambda: at_step(0, schedule=approving()),
    "holding/data": lambda: holding(Why.DATA),
    "holding/limit": lambda: holding(Why.LIMIT),
    "holding/outage": lambda: holding(Why.OUTAGE),
    "holding/target": lambda: holding(Why.TARGET),
    "holding/flag": lambda: holding(Why.FLAG),
    "holding/approval": lambda: holding(Why.APPROVAL),
    "holding/watcher": lambda: holding(Why.WATCHER),
    "paused": lambda: verbs.hold(at_step(0, schedule=approving()), T0, T0).after,
    "rolling_back": rolling_back,
    "rollback_failed": lambda: verbs.rollback_failed(rolling_back(), "No answer.", T0).after,
    "rolled_back": lambda: verbs.confirm(rolling_back(), whole(rolling_back()), T0).after,
    "completed": completed,
    "superseded": lambda: verbs.supersede(at_step(0), "r-2", (RULE, SEARCH), T0),
    "unknown": lambda: replace(at_step(0), state=State("what a newer server wrote")),
}


def _supersede(rollout: Rollout) -> Turn:
    ended = verbs.supersede(rollout, "r-2", (RULE, SEARCH), T0)
    return Turn(rollout, ended, "rollout:supersede")


VERBS: dict[str, Callable[[Rollout], Turn]] = {
    "start": lambda r: verbs.start(r, T0),
    "hold": lambda r: verbs.hold(r, T0, T0),
    "resume": lambda r: verbs.resume(r, T0),
    "advance": lambda r: verbs.advance(r, T0),
    "approve": lambda r: verbs.approve(r, ANA.id, T0),
    "roll_back": lambda r: verbs.roll_back(r, a_cause(T0)),
    "supersede": _supersede,
}

SAME = "same"
"""The verb asks for what is so already: nothing changes, and nothing is committed."""

RUNNING, HOLDING, PAUSED = State.RUNNING, State.HOLDING, State.PAUSED
BACK, REPLACED = State.ROLLING_BACK, State.SUPERSEDED
ENDED = "It has ended. Start a new rollout."
NO_WAY_OUT = "Nothing leads out of a rollback"
TRIED = "tried again and again"
COMPLETE = "kill its flags, or roll out the older version"
TOOK_OVER = "A newer rollout took over"
NAMELESS = "a newer server wrote it"
BY_ITSELF = "It goes on by itself"
NO_HELP = "Skipping the wait does not help against that"

COLUMNS = tuple(VERBS)
LINES: list[tuple[str, tuple[State | str, ...]]] = [
    (
        "pending",
        (RUNNING, *("It has not started: start it",) * 4, State.ROLLED_BACK, REPLACED),
    ),
    ("started", (SAME, PAUSED, SAME, "no wait to skip", "asks for no approval", BACK, REPLACED)),
    ("moving", (SAME, PAUSED, SAME, "still moving", "asks for no approval", BACK, REPLACED)),
    ("running", (SAME, PAUSED, SAME, RUNNING, RUNNING, BACK, REPLACED)),
    ("holding/data", (SAME, PAUSED, BY_ITSELF, RUNNING, HOLDING, BACK, REPLACED)),
    ("holding/limit", (SAME, PAUSED, BY_ITSELF, NO_HELP, HOLDING, BACK, REPLACED)),
    ("holding/outage", (SAME, PAUSED, BY_ITSELF, NO_HELP, HOLDING, BACK, REPLACED)),
    ("holding/target", (SAME, PAUSED, RUNNING, NO_HELP, HOLDING, BACK, REPLACED)),
    ("holding/flag", (SAME, PAUSED, RUNNING, NO_HELP, HOLDING, BACK, REPLACED)),
    ("holding/approval", (SAME, PAUSED, BY_ITSELF, NO_HELP, RUNNING, BACK, REPLACED)),
    ("holding/watcher", (SAME, PAUSED, RUNNING, NO_HELP, HOLDING, BACK, REPLACED)),
    ("paused", ("Resume it", SAME, RUNNING, "Resume it", PAUSED, BACK, REPLACED)),
    ("rolling_back", (*(NO_WAY_OUT,) * 5, SAME, NO_WAY_OUT)),
    ("rollback_failed", (*(TRIED,) * 5, SAME, TRIED)),
    ("rolled_back", (*(ENDED,) * 5, SAME, ENDED)),
    ("completed", (COMPLETE,) * 7),
    ("superseded", (TOOK_OVER,) * 7),
    ("unknown", (NAMELESS,) * 7),
]


@pytest.mark.parametrize("where", list(WHERE))
@pytest.mark.parametrize("verb", list(VERBS))
def test_which_verb_may_do_what_in_which_state(where: str, verb: str) -> None:
    expected = dict(LINES)[where][COLUMNS.index(verb)]
    rollout = WHERE[where]()
    if isinstance(expected, State):
        turn = VERBS[verb](rollout)
        assert turn.changed
        assert turn.after.state is expected
        assert turn.fact(ANA).action.startswith("rollout:")
    elif expected == SAME:
        turn = VERBS[verb](rollout)
        assert not turn.changed
        assert turn.after is rollout
    else:
        with pytest.raises(Conflict) as refused:
            VERBS[verb](rollout)
        assert expected in refused.value.detail
        assert rollout.name in refused.value.detail


def test_every_state_is_in_the_matrix() -> None:
    assert {build().state for build in WHERE.values()} == set(State)


def test_a_refusal_says_why_a_rollout_waits() -> None:
    with pytest.raises(Conflict) as refused:
        verbs.resume(holding(Why.LIMIT), T0)
    assert refused.value.detail == (
        "rollout/r-1 is holding (Because of limit.) and cannot be resumed. It goes on by itself "
        "when that is over. Roll it back if it should not."
    )


@pytest.mark.parametrize("verb", ["hold", "advance", "approve", "roll_back"])
def test_a_double_click_does_one_thing(verb: str) -> None:
    once = VERBS[verb](at_step(0, schedule=approving())).after
    assert not VERBS[verb](once).changed


def test_whoever_replaces_a_rollout_takes_over_all_its_targets() -> None:
    with pytest.raises(Conflict, match="also moves flag/new-search"):
        verbs.supersede(at_step(0), "r-2", (RULE,), T0)


@pytest.mark.parametrize(
    "turn",
    [
        lambda r: verbs.move(r, 0, T0),
        lambda r: verbs.wait(r, Why.DATA, "No data.", T0, T0),
        lambda r: verbs.go_on(r, T0),
        lambda r: verbs.confirm(r, whole(r), T0),
        lambda r: verbs.rollback_failed(r, "No answer.", T0),
        lambda r: verbs.complete(r, T0),
    ],
)
@pytest.mark.parametrize("where", ["pending", "rolled_back", "completed", "superseded", "unknown"])
def test_a_controller_changes_nothing_that_has_ended_or_not_begun(
    turn: Callable[[Rollout], Turn], where: str
) -> None:
    with pytest.raises(Conflict):
        turn(WHERE[where]())


def test_a_move_goes_to_the_next_step_and_no_other() -> None:
    with pytest.raises(Conflict, match="not the next"):
        verbs.move(at_step(0), 2, T0)
    with pytest.raises(Conflict, match="not the next"):
        verbs.move(at_step(3), 4, T0)
    with pytest.raises(Conflict, match="cannot move"):
        verbs.move(verbs.move(at_step(0), 1, T0).after, 2, T0)


def test_a_lost_write_is_never_confirmed() -> None:
    moving = verbs.move(at_step(0), 1, T0).after
    for share in (0, 50_000, 249_999, 250_001, 1_000_000):
        with pytest.raises(Conflict, match="not at 25 %"):
            verbs.confirm(moving, {RULE.id: share, SEARCH.id: 250_000}, T0)


def test_what_weights_cannot_express_is_confirmed_as_it_is() -> None:
    moving = verbs.move(at_step(0), 1, T0).after
    turn = verbs.confirm(
        moving,
        {RULE.id: 249_000, SEARCH.id: 250_000},
        T0,
        nearest=lambda _, share: share // 3_000 * 3_000,
    )
    assert turn.after.confirmed[RULE.id] == 249_000
    assert not turn.after.is_pending_intent


def test_targets_that_cannot_go_together_make_no_rollout() -> None:
    with pytest.raises(Invalid) as refused:
        a_rollout(version=None)
    assert refused.value.field == "/version"


def test_after_traffic_the_flags_run_the_schedule() -> None:
    world = a_world(relation=Relation.AFTER)
    world.run(30 * 60 + 5)
    assert (world.traffic, world.flag) == (1_000_000, 0)
    world.tick()
    assert (world.traffic, world.flag) == (1_000_000, 50_000)
    world.run(30 * 60 + 5)
    assert world.rollout.state is State.COMPLETED
    assert (world.traffic, world.flag) == (1_000_000, 1_000_000)


# --- how it is kept and told ----------------------------------------------------------------------


@pytest.mark.parametrize("where", list(WHERE))
def test_a_rollout_is_read_as_it_was_written(where: str) -> None:
    rollout = replace(WHERE[where](), fence=7, started=T0 + 0.123)
    again = Rollout.from_body(rollout.to_body())
    assert again == rollout
    assert again.to_body() == rollout.to_body()


def test_a_rollback_and_an_approval_are_read_as_they_were_written() -> None:
    verdict = judge(standard()[0], Measured(points(0.08)), T0)
    action = act([verdict], Context(T0, T0))
    rollout = verbs.approve(at_step(0, schedule=approving()), ANA.id, T0 + 0.001).after
    decision = decisions.decide(rollout, Look(action, T0), T0 + 1.5)
    back = decisions.carry(rollout, decision, T0 + 1.5, T0).after
    assert Rollout.from_body(back.to_body()) == back


def test_the_record_tells_a_new_rollout_whole_and_later_its_moving_parts() -> None:
    turn = verbs.create(**{**given_of(a_rollout()), "id": "r-1", "now": T0}, reason="Release 2.")
    fact = turn.fact(ANA)
    assert (fact.actor, fact.role, fact.action) == (ANA.id, "admin", "rollout:create")
    assert fact.target == "rollout/r-1"
    assert fact.environment == "production"
    assert fact.before is None
    assert fact.after == turn.after.to_body()
    assert fact.reason == "Release 2."
    begun = verbs.start(turn.after, T0).fact()
    assert (begun.actor, begun.role) == ("controller", "controller")
    assert begun.before["state"] == "pending"
    assert begun.after["state"] == "running"
    assert "guards" not in begun.after


def test_claims_are_the_rollouts_own() -> None:
    assert a_rollout().claims == {
        "target:alb/arn:rule": "rollout/r-1",
        "target:flag/new-search@production": "rollout/r-1",
    }


def test_one_table_maps_every_state_and_unknown_is_never_green() -> None:
    assert set(STATES) == set(State)
    assert State("nonsense") is State.UNKNOWN
    assert State.UNKNOWN.shown.role == "neutral"
    assert {s for s in State if s.shown.role == "ok"} == {State.RUNNING, State.COMPLETED}
    assert {s for s in State if s.shown.terminal} == {
        State.ROLLED_BACK,
        State.COMPLETED,
        State.SUPERSEDED,
    }
    assert len({s.shown.words for s in State}) == len({s.shown.icon for s in State}) == len(State)


def test_due_is_when_the_hold_will_be_over() -> None:
    rollout = at_step(0)
    assert rollout.due(T0 + 60, T0 + 60) == T0 + 300
    assert rollout.due(T0 + 600, T0 + 60) == T0 + 600 + 240
    paused = verbs.hold(rollout, T0 + 60, T0 + 60).after
    assert paused.due(T0 + 90, T0 + 90) is None


# --- whatever happens -----------------------------------------------------------------------------

gaps = st.one_of(
    st.floats(0.05, 14.9),
    st.sampled_from([5.0, 15.0, 15.001, 16.0, 300.0, 3600.0, 86_400.0]),
).map(lambda seconds: round(seconds, 3))
acts = st.sampled_from(["tick"] * 12 + ["hold", "resume", "blind", "limit", "cloud", "forget"])
BROKEN = Action(Does.HOLD, "http errors 2 % > 1 %.", "limit broken, compared")
HOLDS = (20, 40, 30, 10)


@dataclass
class Watch:
    """Counts a second time what was watched, from when the timer ran and when somebody was there.

    present: instants at which somebody was: looks, and verbs that changed something.
    """

    running_since: float | None = None
    ran: list[tuple[float, float]] = field(default_factory=list)
    present: list[float] = field(default_factory=list)

    def seconds(self) -> float:
        """Return how long the timer ran between two instants at most 15 s apart."""
        return sum(
            max(0.0, min(end, later) - max(start, earlier))
            for start, end in self.ran
            for earlier, later in pairwise(sorted(self.present))
            if later - earlier <= GAP_SECONDS
        )

    def stop(self, now: float) -> None:
        if self.running_since is not None:
            self.ran.append((self.running_since, now))
        self.running_since = None

    def follow(self, rollout: Rollout, now: float) -> None:
        if rollout.counting_since is None:
            self.stop(now)
        elif self.running_since is None:
            self.running_since = now


def happens(world: World, event: str) -> None:
    match event:
        case "hold":
            world.commit(verbs.hold(world.rollout, world.now, world.seen()))
        case "resume":
            world.commit(verbs.resume(world.rollout, world.now))
        case "cloud":
            world.cloud_away = not world.cloud_away
        case "forget":
            world.last_look = None
        case _:
            world.tick(0.0, {"blind": BLIND, "limit": BROKEN}.get(event, WELL))


@given(st.lists(st.tuples(gaps, acts), max_size=150))
def test_no_hold_is_ever_shorter_than_scheduled(events: list[tuple[float, str]]) -> None:
    world, watch = a_world("5%:20s,25%:40s,50%:30s,100%:10s"), Watch()
    for seconds, event in events:
        step, commits, looks = world.rollout.step, world.commits, len(world.looks)
        world.now = round(world.now + seconds, 3)
        with suppress(Conflict):
            happens(world, event)
        if world.commits > commits or len(world.looks) > looks:
            watch.present.append(world.now)
        ended = world.rollout.state is State.COMPLETED
        if world.rollout.step != step or ended:
            watch.stop(world.now)
            assert step < 0 or watch.seconds() >= HOLDS[step] - 0.01
            watch = Watch(present=[world.now])
        watch.follow(world.rollout, world.now)
        assert world.rollout.step <= step + 1
        most_traffic, most_flag = world.allowed()
        assert world.traffic <= most_traffic
        assert world.flag <= most_flag
        if ended:
            return


@given(st.lists(st.tuples(gaps, acts), max_size=100))
def test_the_position_is_what_is_written_down_and_the_clock(
    events: list[tuple[float, str]],
) -> None:
    """A controller that reads the rollout from the store at every look does exactly the same."""
    world, reborn = a_world(), a_world()
    for seconds, event in events:
        for each in (world, reborn):
            each.now = round(each.now + seconds, 3)
            with suppress(Conflict):
                happens(each, event)
        reborn.rollout = Rollout.from_body(reborn.rollout.to_body())
        assert reborn.rollout == world.rollout
