"""What an engine that asks owes us, on CodeDeploy of AWS's double and on the fake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from examples.awsfake import scene as scenes
from flagserver.domain.errors import NotFound, TargetUnavailable
from flagserver.domain.hooks import LIFECYCLE
from flagserver.ports import Gates
from flagserver.targets.hooks import CodeDeployHooks
from tests.awsfake.double import T0, Double, double, environment_of
from tests.gates import DEPLOYMENT, FakeGates, an_asking

HOOK = "arn:aws:lambda:eu-west-1:123456789012:function:CodeDeployHook_sortition"


@dataclass
class Bench:
    """Gates with a deployment that began at T0, and what a test does to it.

    until: let a hook wait, and return the id of its question.  end: somebody stops it.
    """

    gates: Gates
    deployment: str
    until: Callable[[str], str]
    answered: Callable[[str], bool | None]
    """What became of a question: passed, failed, or None: it waits."""
    end: Callable[[], object]
    down: Callable[[], object]


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as running, environment_of(running):
        yield running


@pytest.fixture(params=["fake", "codedeploy"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "fake":
        return a_fake()
    aws: Double = request.getfixturevalue("aws")
    aws.reset()
    return a_codedeploy(aws)


def a_fake() -> Bench:
    gates = FakeGates({DEPLOYMENT: an_asking(None, began=T0)})

    def until(hook: str) -> str:
        gates.deployments[DEPLOYMENT] = an_asking(hook, began=T0)
        return f"question-{hook}"

    return Bench(
        gates=gates,
        deployment=DEPLOYMENT,
        until=until,
        answered=lambda execution: dict(gates.answers).get(execution),
        end=lambda: gates.deployments.update(
            {DEPLOYMENT: replace(an_asking(None, began=T0), over="Stopped")}
        ),
        down=lambda: setattr(gates, "down", True),
    )


def a_codedeploy(aws: Double) -> Bench:
    scene = aws.scene()
    client = aws.client("codedeploy")
    listener = aws.client("elbv2").create_listener(
        LoadBalancerArn=scene.balancer,
        Protocol="HTTP",
        Port=8081,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": scene.blue}],
    )["Listeners"][0]["ListenerArn"]
    told = scenes.deployment_group(scene)["loadBalancerInfo"]
    told["targetGroupPairInfoList"][0]["testTrafficRoute"] = {"listenerArns": [listener]}
    scenes.build_codedeploy(aws.url, scene, loadBalancerInfo=told)
    hooks = dict.fromkeys(LIFECYCLE, HOOK)
    id = scenes.deploy(aws.url, revision=scenes.revision(2, **hooks))

    def asked() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = aws.ask("hooks")
        return found

    def until(hook: str) -> str:
        for _ in range(60):
            aws.tell("clock", advance=30)
            if asked() and asked()[-1]["event"] == hook:
                return str(asked()[-1]["payload"]["LifecycleEventHookExecutionId"])
            for each in asked()[-1:]:
                CodeDeployHooks(aws.aws()).answer(
                    id, each["payload"]["LifecycleEventHookExecutionId"], passed=True
                )
        raise AssertionError(f"{hook} never asked")

    def answered(execution: str) -> bool | None:
        (hook,) = (
            each["event"]
            for each in asked()
            if each["payload"]["LifecycleEventHookExecutionId"] == execution
        )
        (name,) = client.list_deployment_targets(deploymentId=id)["targetIds"]
        target = client.get_deployment_target(deploymentId=id, targetId=name)
        events = target["deploymentTarget"]["ecsTarget"]["lifecycleEvents"]
        (status,) = (e["status"] for e in events if e["lifecycleEventName"] == hook)
        return {"Succeeded": True, "Failed": False}.get(status)

    def end() -> None:
        client.stop_deployment(deploymentId=id, autoRollbackEnabled=False)
        aws.tell("clock", advance=60)

    return Bench(
        gates=CodeDeployHooks(aws.aws()),
        deployment=id,
        until=until,
        answered=answered,
        end=end,
        down=lambda: aws.fault("*", "fail", times=20),
    )


def test_before_a_hook_asks_none_waits(bench: Bench):
    asking = bench.gates.asking(bench.deployment)

    assert (asking.deployment, asking.hook, asking.over) == (bench.deployment, None, None)
    assert asking.began == T0
    assert asking.tested
    assert asking.going_back is None


@pytest.mark.parametrize("hook", LIFECYCLE)
def test_it_says_which_hook_waits_and_takes_the_answer(bench: Bench, hook: str):
    execution = bench.until(hook)
    assert bench.gates.asking(bench.deployment).hook == hook
    assert bench.answered(execution) is None

    assert bench.gates.answer(bench.deployment, execution, passed=True)

    assert bench.answered(execution) is True


def test_a_refusal_is_taken_too(bench: Bench):
    execution = bench.until("AfterInstall")

    assert bench.gates.answer(bench.deployment, execution, passed=False)
    assert bench.answered(execution) is False


def test_a_second_answer_is_not_taken(bench: Bench):
    execution = bench.until("AfterInstall")
    assert bench.gates.answer(bench.deployment, execution, passed=True)

    assert not bench.gates.answer(bench.deployment, execution, passed=False)
    assert bench.answered(execution) is True


def test_one_that_was_stopped_asks_no_more(bench: Bench):
    execution = bench.until("AfterInstall")
    bench.end()

    asking = bench.gates.asking(bench.deployment)

    assert (asking.hook, asking.over) == (None, "Stopped")
    assert not bench.gates.answer(bench.deployment, execution, passed=True)


def test_what_is_not_there(bench: Bench):
    with pytest.raises(NotFound):
        bench.gates.asking("d-UNKNOWN99")
    assert not bench.gates.answer("d-UNKNOWN99", "question", passed=True)


def test_an_engine_that_does_not_answer(bench: Bench):
    execution = bench.until("AfterInstall")
    bench.down()

    with pytest.raises(TargetUnavailable):
        bench.gates.asking(bench.deployment)
    with pytest.raises(TargetUnavailable):
        bench.gates.answer(bench.deployment, execution, passed=True)
