"""Gates: each hook is answered by what can be known when it asks, and never goes unanswered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flagserver.domain import guards, hooks
from flagserver.domain.approvals import Approve
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import EVERYWHERE, Principal
from flagserver.domain.errors import Conflict, Forbidden, NotFound, TargetUnavailable
from flagserver.domain.guards import Kind, OnBreach, Verdict
from flagserver.domain.hook_commands import CodeDeployHook
from flagserver.domain.hooks import Says
from flagserver.domain.rollout import By, Rollback, Waiting, Why
from flagserver.domain.signals import Measure, Signal
from flagserver.domain.states import State
from flagserver.domain.targets import Target
from flagserver.services.hooks import Gatekeeper
from tests.builders import ADMIN, SURE, T0
from tests.gates import (
    ALARM,
    ALL,
    DEPLOYMENT,
    ERRORS,
    HOOKS_IN_ORDER,
    HOSTS,
    WHOLE,
    Gate,
    a_following,
    an_asking,
)
from tests.servers import wait_until

NOW = T0.timestamp() + 600
BEFORE_TRAFFIC = HOOKS_IN_ORDER[:-1]


def a_verdict(guard: guards.Guard, kind: Kind, **told: Any) -> Verdict:
    return Verdict(guard, kind, f"{guard.name} is {kind}.", newest=NOW, **told)


def told(hook: str, *verdicts: Verdict, asked: float = NOW, **rollout: Any) -> hooks.Answer:
    return hooks.answer(a_following(**rollout), an_asking(hook), verdicts, asked, NOW)


# --- what each hook can know ----------------------------------------------------------------------


def test_each_hook_looks_at_what_it_can_know_and_at_nothing_else():
    looks = {hook: set(hooks.watched(a_following(), hook)) for hook in HOOKS_IN_ORDER}

    assert looks == {
        "BeforeInstall": {ALARM},
        "AfterInstall": {ALARM, HOSTS},
        "AfterAllowTestTraffic": {ALARM, HOSTS, ERRORS},
        "BeforeAllowTraffic": {ALARM, HOSTS, ERRORS},
        "AfterAllowTraffic": {ALARM, HOSTS, ERRORS, WHOLE},
    }


@pytest.mark.parametrize(
    ("signal", "knows"),
    [
        (Signal.of("outcomes", Measure.RATE), "AfterAllowTestTraffic"),
        (Signal.of("metrics", Measure.VALUE, metric="x"), "AfterAllowTestTraffic"),
        (Signal.of("cloudwatch", Measure.LATENCY, load_balancer="app/a/1"), "AfterAllowTraffic"),
        (Signal.of("prometheus", Measure.RATE, query="x"), "AfterAllowTraffic"),
        (Signal.of("hosts", Measure.HEALTHY_RATIO, canary="arn"), "AfterInstall"),
    ],
)
def test_which_hook_is_the_first_to_look_at_a_signal(signal, knows):
    rollout = a_following((guards.Guard("it", signal, 0.5),))

    first = next(hook for hook in HOOKS_IN_ORDER if hooks.watched(rollout, hook))

    assert first == knows


def test_what_is_drawn_by_flag_shows_nothing_before_production_traffic():
    rollout = a_following((guards.Guard("it", Signal.of("outcomes", Measure.RATE), 0.01),))

    assert hooks.watched(replace(rollout, version=None), "BeforeAllowTraffic") == ()


@pytest.mark.parametrize("hook", BEFORE_TRAFFIC)
def test_missing_requests_hold_nobody_up_before_there_are_any(hook):
    assert told(hook, a_verdict(ERRORS, Kind.NO_DATA)).says is Says.ALLOW


@pytest.mark.parametrize("kind", [Kind.NO_DATA, Kind.NOT_ENOUGH_DATA, Kind.ERROR])
def test_after_all_traffic_only_a_pass_passes(kind):
    assert told("AfterAllowTraffic", a_verdict(ERRORS, kind)).says is Says.WAIT
    assert told("AfterAllowTraffic", a_verdict(ERRORS, Kind.PASS)).says is Says.ALLOW


@pytest.mark.parametrize("hook", HOOKS_IN_ORDER)
def test_what_fails_is_denied_with_its_sentence(hook):
    answer = told(hook, a_verdict(ALARM, Kind.FAIL))

    assert answer.says is Says.DENY
    assert "shop-alarm is fail." in answer.reason
    assert answer.verdicts[0].guard is ALARM


@pytest.mark.parametrize("hook", ["AfterAllowTestTraffic", "BeforeAllowTraffic"])
@pytest.mark.parametrize("kind", [Kind.NO_DATA, Kind.NOT_ENOUGH_DATA, Kind.ERROR])
def test_hosts_behind_a_test_listener_must_be_healthy_first(hook, kind):
    verdict = a_verdict(HOSTS, kind)
    untested = an_asking(hook, tested=False)

    assert told(hook, verdict).says is Says.WAIT
    assert hooks.answer(a_following(), untested, [verdict], NOW, NOW).says is Says.ALLOW


def test_a_guard_that_may_only_hold_lets_wait():
    guard = replace(ERRORS, on_breach=OnBreach.HOLD)

    assert told("BeforeAllowTraffic", a_verdict(guard, Kind.FAIL)).says is Says.WAIT


def test_a_shared_outage_lets_wait():
    verdict = a_verdict(ERRORS, Kind.FAIL, compared=True, control_breaks=True)

    assert told("AfterAllowTraffic", verdict).says is Says.WAIT


@pytest.mark.parametrize(
    ("target", "follows"),
    [
        (Target.of("codedeploy", "shop/web"), True),
        (Target.of("codedeploy", "eu-central-1:shop/web"), True),
        (Target.of("codedeploy", DEPLOYMENT), True),
        (Target.of("codedeploy", "shop/web", deployment=DEPLOYMENT), True),
        (Target.of("codedeploy", "shop/web", deployment="d-2"), False),
        (Target.of("codedeploy", "shop/api"), False),
        (Target.of("alb", "shop/web"), False),
    ],
)
def test_which_rollout_follows_a_deployment(target, follows):
    assert hooks.follows(a_following(targets=(target,)), an_asking()) is follows


# --- what the rollout's state says ----------------------------------------------------------------

STATES = {
    State.PENDING: Says.WAIT,
    State.RUNNING: Says.ALLOW,
    State.HOLDING: Says.WAIT,
    State.PAUSED: Says.WAIT,
    State.ROLLING_BACK: Says.DENY,
    State.ROLLED_BACK: Says.DENY,
    State.ROLLBACK_FAILED: Says.DENY,
    State.COMPLETED: Says.ALLOW,
    State.SUPERSEDED: Says.DENY,
    State.UNKNOWN: Says.WAIT,
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("hook", HOOKS_IN_ORDER)
def test_every_state_has_its_answer(state, hook):
    assert told(hook, a_verdict(ALARM, Kind.PASS), state=state).says is STATES[state]


def test_why_it_goes_back_or_holds_is_said():
    back = Rollback(By.PERSON, "It smells.", "responder", 0, NOW)
    waits = Waiting(Why.OUTAGE, "Both are unwell.", NOW)

    denied = told("AfterInstall", state=State.ROLLED_BACK, rollback=back)
    waiting = told("AfterInstall", state=State.HOLDING, waiting=waits)

    assert denied.reason == "rollout/r-1 goes back. It smells."
    assert waiting.reason == "rollout/r-1 holds. Both are unwell."


@pytest.mark.parametrize("state", State)
def test_a_way_back_is_never_held_up(state):
    back = an_asking(going_back="d-2 is CodeDeploy's own rollback.")

    assert hooks.answer(a_following(state=state), back, [], NOW, NOW).says is Says.ALLOW
    assert hooks.answer(None, back, [], NOW - 7200, NOW).says is Says.ALLOW


def test_what_waits_too_long_is_denied_before_the_hour_is_over():
    almost = told("AfterInstall", state=State.PAUSED, asked=NOW - hooks.WAIT_SECONDS + 1)
    late = told("AfterInstall", state=State.PAUSED, asked=NOW - hooks.WAIT_SECONDS)

    assert almost.says is Says.WAIT
    assert late.says is Says.DENY
    assert late.reason == "There was no answer within 55 minutes: Somebody holds rollout/r-1."
    assert hooks.WAIT_SECONDS < 3600


# --- asked ----------------------------------------------------------------------------------------


def test_a_hook_is_allowed_and_the_record_has_its_numbers():
    gate = Gate()
    gate.follow()
    gate.turn(300)

    kept = gate.ask()

    assert (kept.answer.says, kept.hook.rollout) == (Says.ALLOW, "r-1")
    (entry,) = gate.store.history(target="rollout/r-1", environment=None, before=None, limit=1)
    assert (entry["action"], entry["environment"]) == ("hook:codedeploy:allow", "production")
    assert entry["after"]["hook"] == "BeforeAllowTraffic"
    numbers = {v["guard"]: (v["kind"], v["value"]) for v in entry["after"]["verdicts"]}
    assert numbers == {
        "errors": ("pass", 0.0),
        "hosts": ("pass", 0.0),
        "alarm shop-alarm": ("pass", 0.0),
    }


def test_each_source_is_asked_once_and_one_that_is_not_there_holds():
    gate = Gate()
    elsewhere = guards.Guard("queue", Signal.of("prometheus", Measure.VALUE, canary="x"), 5.0)
    gate.follow(a_following((*ALL, elsewhere)))
    gate.asks("AfterAllowTraffic")
    gate.turn(300)
    counted: list[int] = []
    measure = gate.source.measure

    def counting(asks: Any, now: float) -> Any:
        counted.append(len(asks))
        return measure(asks, now)

    gate.source.measure = counting  # type: ignore[method-assign]

    kept = gate.ask()

    assert counted == [len(ALL)]
    assert kept.answer.says is Says.WAIT
    assert "queue could not be measured" in kept.answer.reason


def test_old_traffic_of_the_same_target_group_says_nothing_of_this_deployment():
    gate = Gate(began=T0.timestamp())
    gate.follow()
    gate.measured(ERRORS, 0.5, 0.5)

    assert gate.ask().answer.says is Says.WAIT  # hosts have to be seen first
    (entry,) = gate.store.history(target="rollout/r-1", environment=None, before=None, limit=1)
    kinds = {v["guard"]: v["kind"] for v in entry["after"]["verdicts"]}
    assert kinds["errors"] == "no_data"


def test_the_same_question_again_has_the_same_answer_and_no_second_entry():
    gate = Gate()
    gate.follow()
    gate.turn(300)
    first = gate.ask()
    gate.becomes(state=State.PAUSED)

    assert gate.ask().answer.says is first.answer.says is Says.ALLOW
    assert [action for action, _ in gate.said()] == ["hook:codedeploy:allow"]


def test_what_waits_is_reported_by_us_when_it_is_known():
    gate = Gate()
    gate.follow(a_following(state=State.PAUSED))
    assert gate.ask().answer.says is Says.WAIT
    gate.hooks.tick()
    assert gate.gates.answers == []

    gate.turn(300)
    gate.becomes(state=State.RUNNING)
    gate.hooks.tick()

    assert gate.gates.answers == [("e1", True)]
    assert gate.waiting() == []
    assert [action.rpartition(":")[2] for action, _ in gate.said()] == ["wait", "allow", "report"]


def test_waiting_for_hours_writes_one_entry_not_thousands():
    gate = Gate()
    gate.follow(a_following(state=State.PAUSED))
    gate.ask()
    for _ in range(10):
        gate.turn(5)
        gate.hooks.tick()
        gate.ask()

    assert len(gate.said()) == 1


def test_what_waits_for_almost_an_hour_is_reported_as_failed():
    gate = Gate()
    gate.follow(a_following(state=State.PAUSED))
    gate.ask()
    gate.turn(hooks.WAIT_SECONDS)
    gate.hooks.tick()

    assert gate.gates.answers == [("e1", False)]
    assert gate.said()[1][1].startswith("There was no answer within 55 minutes")


def test_what_the_function_was_told_and_did_not_report_we_report():
    gate = Gate()
    gate.follow()
    gate.turn(300)
    gate.ask()
    gate.hooks.tick()
    assert gate.gates.answers == []

    gate.turn(31)
    gate.hooks.tick()

    assert gate.gates.answers == [("e1", True)]
    assert gate.waiting() == []


def test_what_the_function_did_report_is_not_reported_twice():
    gate = Gate()
    gate.follow()
    gate.turn(300)
    gate.ask()
    gate.gates.answer(DEPLOYMENT, "e1", passed=True)
    gate.turn(31)
    gate.hooks.tick()

    assert gate.gates.answers == [("e1", True)]
    assert gate.said()[-1] == ("hook:codedeploy:report", "The engine had its answer already.")


def test_an_answer_that_may_have_been_lost_is_given_again():
    gate = Gate()
    gate.follow(a_following(state=State.ROLLING_BACK))
    gate.ask()
    gate.turn(31)
    gate.gates.lost = 1
    gate.hooks.tick()
    assert len(gate.waiting()) == 1

    gate.hooks.tick()

    assert gate.gates.answers == [("e1", False)]
    assert gate.waiting() == []


def test_a_deployment_that_ended_meanwhile_asks_no_more():
    gate = Gate()
    gate.follow(a_following(state=State.PAUSED))
    gate.ask()
    gate.asks(None, over="Stopped")
    gate.hooks.tick()

    assert gate.waiting() == []
    assert gate.said()[-1] == ("hook:codedeploy:drop", "The deployment ended before: Stopped.")


def test_one_engine_that_is_away_keeps_nothing_else_from_being_answered():
    gate = Gate()
    gate.follow(a_following(state=State.PAUSED))
    gate.ask()
    gate.gates.down = True
    gate.hooks.tick()
    gate.gates.down = False
    gate.becomes(state=State.ROLLED_BACK)
    gate.hooks.tick()

    assert gate.gates.answers == [("e1", False)]


def test_nobody_follows_it_yet():
    gate = Gate()
    first = gate.ask()
    assert (first.answer.says, first.hook.rollout) == (Says.WAIT, None)

    gate.turn(120)
    gate.follow()
    gate.turn(240)
    gate.hooks.tick()

    assert gate.gates.answers == [("e1", True)]


def test_nobody_ever_follows_it():
    gate = Gate()
    gate.ask()
    gate.turn(hooks.NOBODY_SECONDS)
    gate.hooks.tick()

    assert gate.gates.answers == [("e1", False)]
    assert gate.said()[1][1] == (
        f"No rollout follows {DEPLOYMENT} of shop/web. Start one, or take the hook out of the "
        "AppSpec."
    )


BEN = Principal("person:ben", "releaser", "person", roles={EVERYWHERE: "releaser"})


def test_it_waits_while_a_second_person_may_still_approve_of_who_follows_it():
    gate = Gate()
    id = gate.asks_for_a_start()
    gate.ask()
    gate.turn(hooks.WAIT_SECONDS - 60)
    gate.hooks.tick()
    (waits,) = gate.waiting()
    assert (waits.says, id in waits.reason) == (Says.WAIT, True)

    approvals = gate.services.approvals
    seen = approvals.get(id, BEN).proposal
    approvals.approve(id, Approve.model_validate({**SURE, "hash": seen.fingerprint}), BEN)
    gate.hooks.tick()

    outcome = approvals.get(id, BEN).proposal.outcome
    assert [f"rollout/{hook.rollout}" for hook in gate.waiting()] == [outcome]


def test_nobody_approves_within_the_hour():
    gate = Gate()
    id = gate.asks_for_a_start()
    gate.ask()
    gate.turn(hooks.WAIT_SECONDS)
    gate.hooks.tick()

    assert gate.gates.answers == [("e1", False)]
    assert id in gate.said()[-2][1]


def killed(gate: Gate, id: str) -> None:
    gate.services.flags.kill("search", "production", Reasoned(), ADMIN)


def withdrawn(gate: Gate, id: str) -> None:
    gate.services.approvals.withdraw(id, Reasoned(), ADMIN)


@pytest.mark.parametrize("over", [withdrawn, killed], ids=["withdrawn", "lapsed"])
def test_what_nobody_can_approve_of_any_more_lets_nothing_wait(over):
    gate = Gate()
    gate.create("search")
    id = gate.asks_for_a_start(flag="search")
    gate.ask()
    gate.turn(hooks.NOBODY_SECONDS)
    gate.hooks.tick()
    assert gate.gates.answers == []

    over(gate, id)
    gate.hooks.tick()

    assert gate.gates.answers == [("e1", False)]


def test_what_waits_for_another_deployment_or_elsewhere_lets_nothing_wait():
    gate = Gate()
    gate.asks_for_a_start()
    gate.asks("BeforeAllowTraffic")
    gate.gates.deployments["d-2"] = replace(an_asking(), deployment="d-2")
    command = CodeDeployHook(deployment="d-2", execution="e2")
    staging = Principal("token:2", "deploy", "deploy", "staging")

    gate.hooks.ask(command, ADMIN)
    gate.ask("e1", staging)
    gate.turn(hooks.NOBODY_SECONDS)
    gate.hooks.tick()

    assert sorted(gate.gates.answers) == [("e1", False), ("e2", False)]


def test_a_rollout_that_ended_before_the_deployment_began_does_not_follow_it():
    gate = Gate(began=T0.timestamp() + 100)
    gate.follow()
    gate.becomes(state=State.COMPLETED, ended=T0.timestamp() + 50)

    assert gate.ask().answer.says is Says.WAIT


def test_a_rollout_of_another_environment_is_not_for_this_token():
    gate = Gate()
    gate.follow()
    staging = Principal("token:2", "deploy", "deploy", "staging")
    production = Principal("token:3", "deploy", "deploy", "production")

    assert gate.ask("e1", staging).hook.rollout is None
    assert gate.ask("e2", production).hook.rollout == "r-1"
    with pytest.raises(Forbidden):
        gate.ask("e2", staging)


def test_no_hook_waits():
    gate = Gate(None)
    with pytest.raises(Conflict, match="No hook of d-7CMGXZ9DN waits"):
        gate.ask()
    gate.asks(None, over="Succeeded")
    with pytest.raises(Conflict, match="It has ended: Succeeded"):
        gate.ask()


def test_codedeploy_does_not_say():
    gate = Gate()
    gate.gates.down = True
    with pytest.raises(TargetUnavailable):
        gate.ask()
    gate.gates.down = False
    gate.gates.deployments.clear()
    with pytest.raises(NotFound):
        gate.ask()
    assert gate.waiting() == []


def test_answers_are_counted():
    gate = Gate()
    gate.follow()
    gate.turn(300)
    gate.ask()

    assert gate.hooks.answers == {("BeforeAllowTraffic", "allow"): 1}


# --- at the same time -----------------------------------------------------------------------------


def test_two_processes_that_are_asked_at_once_keep_one_question():
    gate = Gate()
    gate.follow()
    gate.turn(300)
    asking, other = gate.gates.asking, gate.another_process()
    calls: list[str] = []

    def asked_meanwhile(deployment: str) -> Any:
        calls.append(deployment)
        if len(calls) == 1:
            other.hooks.ask(CodeDeployHook(deployment=DEPLOYMENT, execution="e1"), ADMIN)
        return asking(deployment)

    gate.gates.asking = asked_meanwhile  # type: ignore[method-assign]

    assert gate.ask().answer.says is Says.ALLOW
    assert [action for action, _ in gate.said()] == ["hook:codedeploy:allow"]


def test_asked_again_while_the_controller_answers():
    gate = Gate()
    gate.follow(a_following(state=State.PAUSED))
    gate.ask()
    gate.becomes(state=State.ROLLING_BACK)
    asking, other = gate.gates.asking, gate.another_process()
    calls: list[str] = []

    def answered_meanwhile(deployment: str) -> Any:
        calls.append(deployment)
        if len(calls) == 1:
            other.hooks.tick()
        return asking(deployment)

    gate.gates.asking = answered_meanwhile  # type: ignore[method-assign]

    assert gate.ask().answer.says is Says.DENY
    assert gate.gates.answers == [("e1", False)]


def test_the_next_one_looks_at_once_when_one_stops():
    gate = Gate()
    gate.follow(a_following(state=State.ROLLING_BACK))
    gate.ask()
    first, second = (Gatekeeper(gate.hooks, gate.store, name) for name in ("first", "second"))
    first.look()
    gate.turn(31)
    second.look()
    assert gate.gates.answers == []

    first.stop()
    second.look()

    assert gate.gates.answers == [("e1", False)]


def test_a_gatekeeper_outlives_what_a_look_meets(caplog: pytest.LogCaptureFixture):
    gate = Gate()
    gatekeeper = Gatekeeper(gate.hooks, gate.store, "first")
    gate.gates.answer = None  # type: ignore[assignment]
    gate.follow(a_following(state=State.ROLLING_BACK))
    gate.ask()
    gate.turn(31)

    with caplog.at_level("ERROR"):
        gatekeeper.start()
        wait_until(lambda: bool(caplog.records), "the failure to be logged")
        gatekeeper.stop()

    assert caplog.records[0].getMessage() == "hooks wait"
