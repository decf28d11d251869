"""Guards: how one stands, and the table of who may roll back, row by row."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.judgement.policy import Overtime

from flagserver.domain import guards
from flagserver.domain.errors import Invalid
from flagserver.domain.guards import (
    PATIENCE_SECONDS,
    ROWS,
    Action,
    Context,
    Does,
    Guard,
    Kind,
    NoData,
    OnBreach,
    Verdict,
    act,
    judge,
)
from flagserver.domain.signals import Measure, Measured, Point, Signal

NOW = 1_800_000_000.0

ERRORS = Guard("http errors", Signal.of("outcomes", Measure.RATE), 0.01, minimum_sample=20)
LATENCY = Guard(
    "p95 latency",
    Signal.of("outcomes", Measure.LATENCY),
    1.0,
    points=3,
    of=3,
    baseline_factor=2.0,
)
HOSTS = Guard("unhealthy hosts", Signal.of("cloudwatch", Measure.UNHEALTHY_HOSTS), 1.0)
RATIO = Guard("healthy ratio", Signal.of("cloudwatch", Measure.HEALTHY_RATIO), 0.95)
ALARM = guards.alarm("api-5xx")
FEW = replace(ERRORS, minimum_sample=None)
CUSTOM = replace(ERRORS, signal=Signal.of("outcomes", Measure.RATE, metric="critical_path"))


def arm(*values: float | None, sample: int = 1000, last: float = NOW) -> tuple[Point, ...]:
    """Return a point a minute, the last of them now."""
    n = len(values)
    return tuple(
        Point(
            last - 60 * (n - 1 - i),
            value,
            None if value is None else sample,
            None if value is None or not 0 <= value <= 1 else round(value * sample),
        )
        for i, value in enumerate(values)
    )


def stands(guard: Guard, *canary: float | None, control: Any = (), **more: Any) -> Verdict:
    return judge(guard, Measured(arm(*canary), arm(*control)), NOW, **more)


# --- how one guard stands -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guard", "canary", "control", "kind"),
    [
        (ERRORS, (0.0, 0.0), (), Kind.PASS),
        (ERRORS, (0.01, 0.01), (), Kind.PASS),  # at the limit is not above it
        (ERRORS, (0.011, 0.02), (), Kind.FAIL),
        (ERRORS, (0.02, 0.0), (), Kind.PASS),  # 1 of 2
        (ERRORS, (0.0, 0.02), (), Kind.NOT_ENOUGH_DATA),  # the newest is bad: the next one tells
        (ERRORS, (0.02, 0.02, 0.0), (), Kind.PASS),  # the older one is out of the window
        (ERRORS, (0.02,), (), Kind.NOT_ENOUGH_DATA),
        (ERRORS, (0.0,), (), Kind.NOT_ENOUGH_DATA),
        (ERRORS, (0.02, None, 0.02), (), Kind.FAIL),  # a missing minute is no good one
        (ERRORS, (), (), Kind.NO_DATA),
        (ERRORS, (None, None), (), Kind.NO_DATA),
        (ERRORS, (math.nan, math.nan), (), Kind.NO_DATA),
        (ERRORS, (math.inf, math.inf), (), Kind.NO_DATA),
        (LATENCY, (1.0, 1.0, 1.0), (), Kind.PASS),
        (LATENCY, (1.2, 1.2, 1.2), (), Kind.FAIL),
        (LATENCY, (1.2, 1.2, 0.9), (), Kind.PASS),
        (LATENCY, (0.9, 0.9, 1.512), (), Kind.NOT_ENOUGH_DATA),
        (LATENCY, (0.2, 0.2, 0.5), (0.2, 0.2, 0.2), Kind.NOT_ENOUGH_DATA),  # by the baseline too
        (LATENCY, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), Kind.FAIL),  # double the baseline
        (LATENCY, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), Kind.PASS),  # exactly double is not more
        (LATENCY, (0.5, 0.5, 0.5), (0.2, None, 0.2), Kind.NOT_ENOUGH_DATA),  # no baseline for one
        (LATENCY, (0.5, 0.5, 0.5), (0.2, 0.2, None), Kind.PASS),  # … which is the newest
        (HOSTS, (1.0, 1.0), (), Kind.FAIL),  # hosts must reach their limit, not exceed it
        (HOSTS, (1.0, 0.0), (), Kind.PASS),
        (HOSTS, (0.0, 1.0), (), Kind.NOT_ENOUGH_DATA),
        (RATIO, (0.94, 0.94), (), Kind.FAIL),  # here less is worse
        (RATIO, (0.95, 0.95), (), Kind.PASS),
        (RATIO, (0.95, 0.9), (), Kind.NOT_ENOUGH_DATA),
        (ALARM, (1.0,), (), Kind.FAIL),
        (ALARM, (0.0,), (), Kind.PASS),
        (ALARM, (None,), (), Kind.NO_DATA),  # INSUFFICIENT_DATA
    ],
)
def test_a_verdict_is_what_m_of_n_points_say(
    guard: Guard, canary: tuple[float | None, ...], control: Any, kind: Kind
) -> None:
    assert stands(guard, *canary, control=control).kind is kind


def test_a_verdict_carries_its_numbers_and_a_sentence() -> None:
    verdict = stands(ERRORS, 0.012, 0.0184, control=(0.002, 0.003))
    assert verdict.sentence == "http errors 1.84 % > 1 % (2 of 2 points, n = 2,000)."
    assert (verdict.value, verdict.control) == (0.0184, 0.003)
    assert (verdict.sample, verdict.failures) == (2000, 30)
    assert verdict.first_bad == NOW - 60
    assert verdict.newest == NOW
    assert verdict.used() == pytest.approx(1.84)
    body = verdict.to_body()
    assert body["guard"] == "http errors"
    assert body["kind"] == "fail"
    assert body["limit"] == 0.01


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (stands(ERRORS, 0.0031, 0.0031), "http errors 0.31 %, limit 1 %, n = 2,000."),
        (
            stands(LATENCY, 1.2, 1.2, 1.2),
            "p95 latency 1,200 ms > 1,000 ms (3 of 3 points, n = 3,000).",
        ),
        (
            stands(LATENCY, 0.5, 0.5, 0.5, control=(0.2, 0.2, 0.2)),
            "p95 latency 500 ms > 2 × 200 ms of stable (3 of 3 points, n = 3,000).",
        ),
        (stands(ERRORS, 0.5), "http errors 50 %, but 1 of 2 data points needed."),
        (
            stands(ERRORS, 0.0, 0.0556),
            "http errors 5.56 % > 1 % (1 of 2 points, n = 2,000): the next point is waited for.",
        ),
        (
            stands(LATENCY, 0.2, 0.2, 0.5, control=(0.2, 0.2, 0.2)),
            (
                "p95 latency 500 ms > 2 × 200 ms of stable (1 of 3 points, n = 3,000): "
                "the next point is waited for."
            ),
        ),
        (stands(ERRORS), "http errors: no data."),
        (stands(ALARM, 1.0), "alarm api-5xx is firing."),
        (stands(ALARM, 0.0), "alarm api-5xx is well."),
        (stands(RATIO, 0.5, 0.5), "healthy ratio 50 % < 95 % (2 of 2 points, n = 2,000)."),
        (
            judge(ERRORS, Measured(arm(0.5, 0.5, sample=5)), NOW),
            "http errors 50 %, but n = 10 of 20 needed.",
        ),
        (
            judge(ERRORS, Measured(error="Rate exceeded."), NOW),
            "http errors could not be measured: Rate exceeded.",
        ),
    ],
)
def test_sentences(verdict: Verdict, sentence: str) -> None:
    assert verdict.sentence == sentence


def test_too_few_requests_say_neither_good_nor_bad() -> None:
    few = Measured(arm(0.5, 0.5, sample=9))
    assert judge(ERRORS, few, NOW).kind is Kind.NOT_ENOUGH_DATA
    assert judge(replace(ERRORS, minimum_sample=18), few, NOW).kind is Kind.FAIL


def test_points_from_before_the_rollout_tell_of_something_else() -> None:
    assert stands(ERRORS, 0.5, 0.5, since=NOW - 30).kind is Kind.NOT_ENOUGH_DATA
    assert stands(ERRORS, 0.5, 0.5, since=NOW).kind is Kind.NO_DATA


def test_old_points_are_no_data_and_future_ones_are_not_looked_at() -> None:
    old = judge(ERRORS, Measured(arm(0.0, 0.0, last=NOW - 240)), NOW)
    assert (old.kind, old.newest) == (Kind.NO_DATA, NOW - 240)
    late = judge(ERRORS, Measured(arm(0.0, 0.0, last=NOW - 120)), NOW)
    assert late.kind is Kind.PASS
    ahead = judge(ERRORS, Measured(arm(0.5, 0.5, last=NOW + 90)), NOW)
    assert ahead.kind is Kind.NO_DATA


def test_one_failed_question_is_no_long_blindness() -> None:
    verdict = judge(ERRORS, Measured(error="timed out"), NOW, last_seen=NOW - 10)
    context = Context(now=NOW, since=NOW - 1000)
    assert verdict.kind is Kind.ERROR
    assert act([verdict], context).does is Does.STAY
    assert not act([verdict], context).advances


def test_a_source_that_cannot_tell_the_arms_apart_compares_nothing() -> None:
    pooled = judge(ERRORS, Measured(arm(0.02, 0.02), arm(0.0, 0.0), pooled=True), NOW)
    assert not pooled.compared


def breaks(guard: Guard, value: float | None) -> bool:
    """Tell whether a value lies on the wrong side of the limit itself."""
    assert value is not None
    if guard is RATIO:
        return value < guard.limit
    return value >= guard.limit if guard in {HOSTS, ALARM} else value > guard.limit


numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True)
points = st.lists(
    st.builds(
        Point,
        st.floats(NOW - 1000, NOW + 1000),
        numbers,
        st.none() | st.integers(0, 10**6),
        st.none() | st.integers(0, 10**6),
    ),
    max_size=8,
).map(tuple)


@given(st.sampled_from([ERRORS, LATENCY, HOSTS, RATIO, ALARM]), points, points, st.booleans())
def test_whatever_a_source_says_there_is_a_verdict_and_only_data_passes(
    guard: Guard, canary: tuple[Point, ...], control: tuple[Point, ...], pooled: bool
) -> None:
    verdict = judge(guard, Measured(canary, control, pooled=pooled), NOW)
    assert verdict.sentence
    if verdict.kind is Kind.PASS:
        good = [p for p in canary if p.value is not None and math.isfinite(p.value)]
        assert len(good) >= guard.points
        looked_at = [p for p in good if NOW - guard.window - 2 * guard.period < p.at <= NOW]
        newest = max(p.at for p in looked_at)
        # One of those that end then is the newest; where all of them are bad, it is too.
        assert not all(breaks(guard, p.value) for p in looked_at if p.at == newest)
    action = act([verdict], Context(NOW, NOW - 1000, hold_over=True))
    assert action.advances == (verdict.kind is Kind.PASS)


# --- the table ------------------------------------------------------------------------------------

WELL = stands(ERRORS, 0.0, 0.0, control=(0.0, 0.0))
COMPARED = stands(ERRORS, 0.02, 0.02, control=(0.001, 0.001))
SHARED = stands(ERRORS, 0.02, 0.02, control=(0.02, 0.02))
ALONE = stands(ERRORS, 0.02, 0.02)
BACKSTOP = stands(ERRORS, 0.06, 0.06, control=(0.001, 0.001))
BLIND = stands(ERRORS)
SMALL = judge(ERRORS, Measured(arm(0.5, 0.5, sample=5)), NOW)
BAD_NEWEST = stands(ERRORS, 0.0, 0.02, control=(0.0, 0.0))


def meant(no_data: NoData) -> Verdict:
    return stands(replace(ERRORS, no_data=no_data))


def may_pass(verdict: Verdict) -> Verdict:
    return replace(verdict, guard=replace(verdict.guard, no_data=NoData.PASS))


def only_holds(verdict: Verdict) -> Verdict:
    return replace(verdict, guard=replace(verdict.guard, on_breach=OnBreach.HOLD))


MIDST = Context(now=NOW, since=NOW - 60)
"""In the midst of a step that began a minute ago."""
LONG = Context(now=NOW, since=NOW - PATIENCE_SECONDS - 1)
"""In the midst of a step that began long ago."""
OVER = Context(now=NOW, since=NOW - 300, hold_over=True)
"""The step's hold is over."""
LATE = Context(now=NOW, since=NOW - 900, hold_over=True, watched=300.0, passed=900.0)
"""Three times the hold are over."""

ROLL_BACK, PAGE, HOLD, STAY = Does.ROLL_BACK, Does.PAGE, Does.HOLD, Does.STAY

TABLE: list[tuple[str, list[Verdict], Context, Does, str]] = [
    # unhealthy canary hosts on two probes, or healthy ratio < 0.95: rolls back
    ("hosts", [stands(HOSTS, 1.0, 1.0)], MIDST, ROLL_BACK, "dead hosts"),
    ("hosts, once", [stands(HOSTS, 0.0, 1.0)], MIDST, STAY, "well"),
    ("ratio", [stands(RATIO, 0.9, 0.9)], MIDST, ROLL_BACK, "dead hosts"),
    (
        "hosts of both",
        [stands(HOSTS, 1.0, 1.0, control=(1.0, 1.0))],
        MIDST,
        ROLL_BACK,
        "dead hosts",
    ),
    # a limit broken by both arms alike: holds and pages
    ("shared", [SHARED], MIDST, PAGE, "shared outage"),
    # a limit broken, both arms reporting, no evidence yet: holds
    ("compared", [COMPARED], MIDST, HOLD, "limit broken, compared"),
    # … but > 5 % and > 2 x control on 2 of 2 points: rolls back
    ("backstop", [BACKSTOP], MIDST, ROLL_BACK, "backstop"),
    (
        "backstop though shared",
        [stands(ERRORS, 0.2, 0.2, control=(0.02, 0.02))],
        MIDST,
        ROLL_BACK,
        "backstop",
    ),
    (
        "5 % is not above 5 %",
        [stands(ERRORS, 0.05, 0.05, control=(0.001, 0.001))],
        MIDST,
        HOLD,
        "limit broken, compared",
    ),
    (
        "twice is not more than twice",
        [stands(ERRORS, 0.08, 0.08, control=(0.04, 0.04))],
        MIDST,
        PAGE,
        "shared outage",
    ),
    (
        "of a metric of one's own",
        [stands(CUSTOM, 0.2, 0.2, control=(0.001, 0.001))],
        MIDST,
        HOLD,
        "limit broken, compared",
    ),
    (
        "of 19 requests a minute",
        [judge(FEW, Measured(arm(0.2, 0.2, sample=19), arm(0.0, 0.0)), NOW)],
        MIDST,
        HOLD,
        "limit broken, compared",
    ),
    (
        "on one point only",
        [stands(ERRORS, 0.04, 0.06, control=(0.001, 0.001))],
        MIDST,
        HOLD,
        "limit broken, compared",
    ),
    (
        "a latency has no backstop",
        [stands(LATENCY, 9.0, 9.0, 9.0, control=(0.1, 0.1, 0.1))],
        MIDST,
        HOLD,
        "limit broken, compared",
    ),
    # a limit broken, no second arm: rolls back, and says so
    ("alone", [ALONE], MIDST, ROLL_BACK, "limit broken, alone"),
    # an alarm that the operator named: rolls back, or holds, as named
    ("alarm", [stands(ALARM, 1.0)], MIDST, ROLL_BACK, "named alarm"),
    (
        "alarm that holds",
        [only_holds(stands(ALARM, 1.0))],
        MIDST,
        HOLD,
        "limit that only holds",
    ),
    # the engine's own rollback: followed
    ("engine", [WELL], replace(MIDST, engine="CodeDeploy d-1 failed."), ROLL_BACK, "engine"),
    # a responder: rolls back
    ("responder", [WELL], replace(MIDST, responder="It is slow."), ROLL_BACK, "responder"),
    # missing data, sample-ratio mismatch: holds
    ("no data, early", [BLIND], MIDST, STAY, "well"),
    ("no data, long", [BLIND], LONG, HOLD, "missing data"),
    ("no data, hold over", [BLIND], OVER, HOLD, "missing data"),
    ("too few, midst", [SMALL], LONG, STAY, "well"),
    ("too few, hold over", [SMALL], OVER, HOLD, "missing data"),
    # a newest point that is bad, the only one so far: holds at the end of the step, and no sooner
    ("bad newest, midst", [BAD_NEWEST], LONG, STAY, "well"),
    ("bad newest, hold over", [BAD_NEWEST], OVER, HOLD, "missing data"),
    ("bad newest, passed over when blind", [may_pass(BAD_NEWEST)], OVER, HOLD, "missing data"),
    ("no data, may pass", [meant(NoData.PASS)], OVER, STAY, "every guard passes"),
    (
        "no data, rolls back",
        [meant(NoData.ROLL_BACK)],
        LONG,
        ROLL_BACK,
        "no data, meant to roll back",
    ),
    ("no data, rolls back early", [meant(NoData.ROLL_BACK)], MIDST, STAY, "well"),
    ("no data, nobody exposed", [BLIND], replace(OVER, exposed=False), STAY, "waiting"),
    ("no data, waived", [BLIND], replace(OVER, waived=True), STAY, "every guard passes"),
    # … and never hides harm already proven or a dead host
    ("blind and dead", [BLIND, stands(HOSTS, 1.0, 1.0)], OVER, ROLL_BACK, "dead hosts"),
    # a guard that only holds never does more
    ("holds: alone", [only_holds(ALONE)], MIDST, HOLD, "limit that only holds"),
    ("holds: hosts", [only_holds(stands(HOSTS, 1.0, 1.0))], MIDST, HOLD, "limit that only holds"),
    ("holds: backstop", [only_holds(BACKSTOP)], MIDST, HOLD, "limit that only holds"),
    (
        "holds: no data",
        [only_holds(meant(NoData.ROLL_BACK))],
        LONG,
        HOLD,
        "missing data",
    ),
    # three times the hold: a person decides, or what the schedule says, and never silently
    ("overtime", [WELL], replace(LATE, undecided=("It needs 900.",)), PAGE, "overtime"),
    (
        "overtime, goes back",
        [WELL],
        replace(LATE, undecided=("It needs 900.",), overtime=Overtime.ROLL_BACK),
        ROLL_BACK,
        "overtime",
    ),
    (
        "overtime, goes on",
        [WELL],
        replace(LATE, undecided=("It needs 900.",), overtime=Overtime.PROCEED),
        STAY,
        "overtime",
    ),
    ("overtime, missing", [BLIND], LATE, PAGE, "missing data"),
    ("in time", [WELL], replace(OVER, undecided=("It needs 900.",)), STAY, "waiting"),
    # waiving the wait answers for missing data, never for a broken limit
    ("waived: compared", [COMPARED], replace(MIDST, waived=True), HOLD, "limit broken, compared"),
    ("waived: alone", [ALONE], replace(MIDST, waived=True), ROLL_BACK, "limit broken, alone"),
    # the first row of several wins, whatever their order
    ("page over hold", [COMPARED, SHARED], MIDST, PAGE, "shared outage"),
    ("missing before an outage", [SHARED, BLIND], OVER, HOLD, "missing data"),
    ("roll back over page", [SHARED, ALONE, WELL], MIDST, ROLL_BACK, "limit broken, alone"),
    ("well", [WELL], MIDST, STAY, "well"),
    ("no guards", [], MIDST, STAY, "well"),
]


@pytest.mark.parametrize(
    ("verdicts", "context", "does", "row"),
    [line[1:] for line in TABLE],
    ids=[line[0] for line in TABLE],
)
@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
def test_who_may_roll_back(
    verdicts: list[Verdict], context: Context, does: Does, row: str, backwards: bool
) -> None:
    action = act(verdicts[::-1] if backwards else verdicts, context)
    assert (action.does, action.row) == (does, row)
    assert action.reason


def test_every_row_of_the_table_is_shown_to_decide_something() -> None:
    """Those that weigh evidence are in `tests/judgement/test_policy.py`."""
    decided = {decides(act(line[1], line[2])) for line in TABLE}
    evidence = {"_harm_proven", "_mismatch", "_slower"}
    assert {row.__name__ for row, _ in ROWS} - decided - evidence == set()


def decides(action: Action) -> str | None:
    """Return the rule that decided, None: nothing stood against going on in time."""
    assert action.seen is not None
    return next((row.__name__ for row, _ in ROWS if row(action.seen) is not None), None)


@pytest.mark.parametrize(
    ("verdicts", "context", "advances"),
    [
        ([WELL], OVER, True),
        ([], OVER, True),
        ([WELL, BLIND], MIDST, False),
        ([SMALL], MIDST, False),
        ([BAD_NEWEST], MIDST, False),
        ([WELL, meant(NoData.PASS)], OVER, True),
        ([BLIND], replace(OVER, waived=True), True),
        ([COMPARED], OVER, False),
    ],
)
def test_only_a_pass_advances(verdicts: list[Verdict], context: Context, advances: bool) -> None:
    assert act(verdicts, context).advances is advances


def test_a_rollback_by_a_limit_alone_says_so() -> None:
    reason = act([ALONE], MIDST).reason
    assert "2 % > 1 %" in reason
    assert "no second arm to compare with" in reason


@given(
    st.lists(
        st.sampled_from(
            [
                *(WELL, COMPARED, SHARED, ALONE, BACKSTOP),
                *(BLIND, SMALL, BAD_NEWEST, only_holds(ALONE)),
            ]
        ),
        max_size=5,
    ),
    st.sampled_from([MIDST, LONG, OVER]),
)
def test_nothing_hides_what_is_graver(verdicts: list[Verdict], context: Context) -> None:
    """Whatever else there is: what goes back by itself goes back, and what holds is held."""
    one_by_one: list[Action] = [act([verdict], context) for verdict in verdicts]
    together = act(verdicts, context)
    each = {action.does for action in one_by_one}
    assert (together.does is ROLL_BACK) == (ROLL_BACK in each)
    assert (together.does is STAY) == (each <= {STAY})
    assert together.advances == (context.hold_over and all(a.advances for a in one_by_one))


# --- what cannot be a guard -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"limit": math.nan}, "/limit", "a number from 0"),
        ({"limit": -0.1}, "/limit", "a number from 0"),
        ({"limit": 1.0001}, "/limit", "0.01 for 1 %"),
        ({"points": 3}, "/points", "3 of 2"),
        ({"points": 0}, "/points", "0 of 2"),
        ({"of": 61}, "/points", "up to 60"),
        ({"period": 0}, "/period", "an hour"),
        ({"minimum_sample": 0}, "/minimum_sample", "at least 1"),
        ({"baseline_factor": 1.0}, "/baseline_factor", "above 1"),
    ],
)
def test_a_guard_that_cannot_be_is_refused_with_its_field(
    change: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        replace(ERRORS, **change)
    assert refused.value.field == field


def test_a_limit_that_is_always_reached_is_refused() -> None:
    with pytest.raises(Invalid, match="always reached"):
        replace(HOSTS, limit=0.0)


ALB = guards.standard_alb("app/x/1", "targetgroup/green/1", "targetgroup/blue/2")


@pytest.mark.parametrize("guard", [*guards.standard(), *ALB, ALARM], ids=lambda g: g.name)
def test_a_guard_is_read_as_it_was_written(guard: Guard) -> None:
    assert Guard.from_body(guard.to_body()) == guard


def test_the_standard_guards_are_the_projects_own() -> None:
    limits = {g.name: (g.limit, g.points, g.of) for g in (*guards.standard(), *ALB)}
    assert limits == {
        "http errors": (0.01, 2, 2),
        "p95 latency": (1.0, 3, 3),
        "unhealthy hosts of green": (1.0, 2, 2),
        "healthy ratio of green": (0.95, 2, 2),
        "user session errors": (0.005, 2, 2),
        "critical path failures": (0.001, 2, 2),
        "database connection errors": (0.05, 2, 2),
    }


# --- with a comparison ----------------------------------------------------------------------------


def test_a_comparison_answers_for_its_guards_while_both_arms_report() -> None:
    compares = replace(OVER, compares=frozenset({ERRORS.name}))
    for verdict in (COMPARED, SHARED, BACKSTOP, BLIND, SMALL, BAD_NEWEST):
        outside = guards.outside_of([verdict], compares)
        assert (outside.limits, outside.missing, outside.undecided) == ((), (), ())
    assert act([ALONE], compares).row == "limit broken, alone"
    assert act([COMPARED], replace(compares, whole=True)).row == "limit broken, alone"
    assert act([meant(NoData.ROLL_BACK)], compares).does is ROLL_BACK
    assert act([stands(LATENCY, 9.0, 9.0, 9.0)], compares).row == "limit broken, alone"
