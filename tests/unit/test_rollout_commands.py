"""What callers may ask of rollouts: many ways to write it, one thing meant, every fault placed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flagserver.domain import guards, schedule
from flagserver.domain.commands import ppm_to_percent
from flagserver.domain.errors import Invalid
from flagserver.domain.guards import Guard, NoData, OnBreach
from flagserver.domain.plan import Relation
from flagserver.domain.rollout_commands import NewRollout, RolloutPlan
from flagserver.domain.schedule import STANDARD, Schedule, Step, duration_text
from flagserver.domain.schedule_commands import ScheduleBody
from flagserver.domain.signals import Measure, Signal
from flagserver.domain.targets import Mode, Target

FLAG = {"kind": "flag", "name": "new-search"}
RULE = {"kind": "alb", "name": "arn:rule", "settings": {"canary": "arn:green", "stable": "b"}}
A_GUARD = {
    "name": "errors",
    "signal": {"source": "outcomes", "measure": "rate"},
    "limit": 0.01,
}


def asked(**told: Any) -> RolloutPlan:
    """Return a plan as it arrives: as JSON."""
    body = {"environment": "production", "service": "api", "targets": [FLAG], **told}
    return RolloutPlan.model_validate(json.loads(json.dumps(body)))


def meant_by(plan: RolloutPlan) -> Schedule:
    """Return the schedule of a plan where no template is."""
    return plan.the_schedule(lambda text: schedule.parse(text or "standard"))


class TestWhatIsMeant:
    def test_by_itself(self) -> None:
        plan = asked()

        assert meant_by(plan) == STANDARD
        assert plan.the_relation() is Relation.LOCK_STEP
        assert plan.the_targets() == (Target.of("flag", "new-search"),)
        assert plan.the_guards() == guards.standard()

    def test_targets_with_their_settings(self) -> None:
        [flag, rule] = asked(targets=[FLAG, {**RULE, "mode": "follow"}]).the_targets()

        assert flag.is_flag
        assert rule == Target.of("alb", "arn:rule", Mode.FOLLOW, canary="arn:green", stable="b")
        [listed] = asked(targets=[{**RULE, "settings": {"some": ["a", "b"]}}]).the_targets()
        assert listed.get("some") == ("a", "b")

    def test_a_target_brings_the_guards_over_its_hosts_once(self) -> None:
        canary = "arn:aws:elasticloadbalancing:r:1:targetgroup/green/1"
        rules = [{**RULE, "name": name, "settings": {"canary": canary}} for name in ("a", "b")]

        assert asked(targets=[FLAG, *rules]).the_guards() == (
            *guards.standard(),
            *guards.hosts(canary),
        )
        assert asked(targets=rules, guards="none").the_guards() == ()

    def test_named_alarms_come_last_whatever_the_guards(self) -> None:
        named = guards.alarm("one", "two")

        for told, others in (("none", 0), ("standard", len(guards.standard())), ([A_GUARD], 1)):
            found = asked(guards=told, alarms=["one", "two"]).the_guards()
            assert (len(found) - 1, found[-1]) == (others, named)

    def test_a_guard_as_it_is_written(self) -> None:
        told = {
            **A_GUARD,
            "points": 3,
            "of": 5,
            "period": 10,
            "minimum_sample": 50,
            "no_data": "pass",
            "on_breach": "hold",
            "baseline_factor": 2,
        }

        assert asked(guards=[told]).the_guards() == (
            Guard(
                *("errors", Signal.of("outcomes", Measure.RATE), 0.01, 3, 5, 10, 50),
                NoData.PASS,
                OnBreach.HOLD,
                2.0,
            ),
        )

    def test_its_time_names_a_zone(self) -> None:
        body = asked().model_dump() | {"start_at": "2027-01-31T23:00:00+01:00"}

        found = NewRollout.model_validate(body).start_at

        assert found is not None
        assert found.isoformat() == "2027-01-31T22:00:00+00:00"
        with pytest.raises(ValidationError, match="must name its time zone"):
            NewRollout.model_validate(body | {"start_at": "2027-01-31T23:00:00"})
        with pytest.raises(ValidationError, match="must be a time, as in 2027"):
            NewRollout.model_validate(body | {"start_at": "yesterday"})


shares = st.lists(st.integers(1, 1_000_000), min_size=1, max_size=12, unique=True).map(sorted)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Return any schedule that can be run."""
    given_shares = draw(shares)
    steps = tuple(
        Step(
            share,
            draw(st.integers(1, 7 * 24 * 3600)) if share != given_shares[-1] else 0,
            draw(st.booleans()) if share != given_shares[-1] else False,
            draw(st.none() | st.integers(1, 10**9)) if share != given_shares[-1] else None,
        )
        for share in given_shares
    )
    bake = draw(st.integers(0, 7 * 24 * 3600))
    room = given_shares[-1] - (given_shares[-2] if len(given_shares) > 1 else 0) - 1
    keep = draw(st.integers(0, room)) if bake else 0
    return Schedule("custom", steps, bake, given_shares[-1], keep=keep)


def written(meant: Schedule) -> dict[str, Any]:
    """Return a schedule as a caller writes it down."""
    return {
        "steps": [
            {
                "share": ppm_to_percent(step.share),
                "hold": duration_text(step.hold),
                "approval": step.approval,
                "minimum_sample": step.minimum_sample,
            }
            for step in meant.steps
        ],
        "bake": duration_text(meant.bake),
        "end": ppm_to_percent(meant.end),
        "keep": ppm_to_percent(meant.keep),
    }


class TestSchedules:
    @given(schedules())
    def test_steps_mean_exactly_what_is_written(self, meant: Schedule) -> None:
        assert meant_by(asked(schedule=written(meant))) == meant

    @pytest.mark.parametrize(
        "text", ["standard", "5%:5m,100%", "CodeDeployDefault.ECSCanary10Percent5Minutes"]
    )
    def test_names_and_texts(self, text: str) -> None:
        assert meant_by(asked(schedule=text)) == schedule.parse(text)

    @pytest.mark.parametrize(
        ("told", "field"),
        [
            ("soon", "/schedule"),
            ("5%:5m,4%:5m,100%", "/schedule/steps/1/share"),
            ({"steps": [{"share": 5, "hold": "x"}]}, "/schedule/steps/0/hold"),
            ({"steps": [{"share": 5, "hold": "5m"}, {"share": 5}]}, "/schedule/steps/1/share"),
            ({"steps": [{"share": 50}]}, "/schedule/steps/0/share"),
            ({"steps": [{"share": 100}], "bake": "always"}, "/schedule/bake"),
        ],
        ids=str,
    )
    def test_what_cannot_be_run_names_its_place(self, told: Any, field: str) -> None:
        with pytest.raises(Invalid) as refused:
            meant_by(asked(schedule=told))
        assert refused.value.field == field

    @given(st.text(max_size=30))
    def test_no_text_is_worse_than_refused(self, text: str) -> None:
        field = "/schedule"
        try:
            meant_by(asked(schedule=text))
        except Invalid as refused:
            field = str(refused.field)
        assert field.startswith("/schedule")

    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
    def test_no_value_is_worse_than_refused(self, value: Any) -> None:
        with pytest.raises(ValidationError):
            ScheduleBody.model_validate({"steps": value, "unknown": 1})


class TestGuards:
    @pytest.mark.parametrize(
        ("told", "field"),
        [
            ([A_GUARD, {**A_GUARD, "limit": 2}], "/guards/1/name"),
            ([{**A_GUARD, "limit": 2}], "/guards/0/limit"),
            ([{**A_GUARD, "points": 3}], "/guards/0/points"),
            ([{**A_GUARD, "period": 0}], "/guards/0/period"),
            ([{**A_GUARD, "baseline_factor": 1}], "/guards/0/baseline_factor"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_cannot_be_judged_names_its_place(self, told: Any, field: str) -> None:
        with pytest.raises(Invalid) as refused:
            asked(guards=told).the_guards()
        assert refused.value.field == field

    def test_a_guard_that_cannot_be_measured_is_where_the_caller_wrote_it(self) -> None:
        def fields(plan: RolloutPlan) -> list[str]:
            found = enumerate(plan.the_guards())
            return [plan.guard_field(i, guard, "/signal/source") for i, guard in found]

        assert fields(asked(guards=[A_GUARD], alarms=["a"])) == [
            "/guards/0/signal/source",
            "/alarms",
        ]
        assert set(fields(asked(guards="standard"))) == {"/guards"}

    @pytest.mark.parametrize(
        "told",
        [
            {"guards": [A_GUARD] * 51},
            {"targets": []},
            {"targets": [FLAG] * 51},
            {"targets": [{**FLAG, "settings": {"Not a name": 1}}]},
            {"targets": [{**FLAG, "settings": {"nested": {"a": 1}}}]},
            {"service": " "},
            {"requests_per_second": -1},
            {"start_at": "2027-01-31T22:00:00Z"},
        ],
        ids=lambda told: f"{next(iter(told))}",
    )
    def test_what_is_out_of_bounds_is_refused(self, told: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            asked(**told)
