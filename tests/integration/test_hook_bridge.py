"""CodeDeploy calls its hooks, the function asks a server that serves, and it goes on."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from examples.awsfake import scene as scenes
from flagserver import bootstrap
from flagserver.bootstrap import Outside
from flagserver.domain import verbs
from flagserver.domain.hooks import LIFECYCLE
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.states import State
from flagserver.domain.targets import Mode, Target
from flagserver.domain.times import moment
from flagserver.services.hooks import Gatekeeper
from flagserver.services.turns import Turns
from flagserver.settings import Settings
from flagserver.targets.codedeploy import CodeDeployDriver
from flagserver.targets.hooks import CodeDeployHooks
from tests.awsfake.double import T0, Double, double, environment_of
from tests.builders import ADMIN, SURE
from tests.gates import ERRORS, GREEN, HOSTS, Gate, a_following
from tests.http.api import api_of

names = itertools.count()

FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:CodeDeployHook_sortition"
FOLLOWED = Target.of("codedeploy", f"{scenes.APPLICATION}/{scenes.GROUP}", Mode.FOLLOW)


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


class Context:
    """Lambda's, with the time that the template gives the function."""

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


class World(Gate):
    """A server, CodeDeploy, a deployment with every hook, and the function between them."""

    def __init__(self, aws: Double) -> None:
        super().__init__()
        self.aws = aws
        self.gates = CodeDeployHooks(aws.aws())  # type: ignore[assignment]
        self.services = self.another_process()
        self.scene = aws.scene()
        scenes.build_codedeploy(aws.url, self.scene, loadBalancerInfo=self._with_test_listener())
        spec = scenes.revision(2, **dict.fromkeys(LIFECYCLE, FUNCTION))
        self.id = scenes.deploy(aws.url, revision=spec)
        self.seen = 0

    def _with_test_listener(self) -> dict[str, Any]:
        made = self.aws.client("elbv2").create_listener(
            LoadBalancerArn=self.scene.balancer,
            Protocol="HTTP",
            Port=8081,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.scene.blue}],
        )
        told: dict[str, Any] = scenes.deployment_group(self.scene)["loadBalancerInfo"]
        (pair,) = told["targetGroupPairInfoList"]
        pair["testTrafficRoute"] = {"listenerArns": [made["Listeners"][0]["ListenerArn"]]}
        return told

    def later(self, seconds: float) -> None:
        """Turn the clocks of both."""
        self.aws.tell("clock", advance=seconds)
        self.turn(seconds)

    def until(self, hook: str) -> dict[str, str]:
        """Let time go by until CodeDeploy calls this hook, each one before being answered by the
        function; return what it is called with."""
        for _ in range(100):
            for called in self.asked():
                self.seen += 1
                payload: dict[str, str] = called["payload"]
                if called["event"] == hook:
                    return payload
                self.function(payload)
            self.later(30)
        raise AssertionError(f"{hook} was never called")

    def asked(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.aws.ask("hooks")
        return found[self.seen :]

    def function(self, payload: dict[str, str]) -> dict[str, str]:
        """Run the function as Lambda does."""
        module = importlib.import_module("deploy.lambda.codedeploy_hook")
        told: dict[str, str] = module.handler(payload, Context())
        return told

    def said_of(self, hook: str) -> list[str]:
        """What the record says of one hook, oldest first."""
        told = self.store.history(target="rollout/r-1", environment=None, before=None, limit=99)
        of_hooks = [e for e in reversed(told) if e["action"].startswith("hook:")]
        return [e["action"].rpartition(":")[2] for e in of_hooks if e["after"]["hook"] == hook]

    def status(self) -> str:
        told = self.aws.client("codedeploy").get_deployment(deploymentId=self.id)
        return str(told["deploymentInfo"]["status"])

    def weight(self) -> int:
        return self.aws.weights(self.scene.rule).get(self.scene.green, 0)


@pytest.fixture
def world(running: Double, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    running.reset()
    secrets = running.client("secretsmanager")
    found = World(running)
    api = api_of(found)
    secret = secrets.create_secret(
        Name=f"sortition-{next(names)}", SecretString=api.deploy().token or ""
    )
    importlib.reload(importlib.import_module("deploy.lambda.codedeploy_hook"))
    with ExitStack() as stack:
        monkeypatch.setenv("SORTITION_URL", stack.enter_context(api.served()))
        monkeypatch.setenv("SORTITION_TOKEN_SECRET", secret["ARN"])
        yield found


def test_the_clocks_agree():
    assert a_following().created == T0


def test_a_deployment_whose_every_hook_is_allowed(world: World):
    world.follow(a_following(targets=(FOLLOWED,)))

    world.function(world.until("AfterAllowTraffic"))
    world.later(600)

    assert world.status() == "Succeeded"
    assert world.weight() == 100
    told = [action for action, _ in world.said()]
    assert told == ["hook:codedeploy:allow"] * len(LIFECYCLE)


def test_harm_that_test_traffic_shows_is_denied_before_anybody_has_it(world: World):
    world.follow(a_following(targets=(FOLLOWED,)))
    payload = world.until("BeforeAllowTraffic")
    world.measured(ERRORS, 0.2, 0.3)

    told = world.function(payload)
    world.later(600)

    assert told["says"] == "deny"
    assert "errors 30 %" in told["reason"]
    assert world.status() == "Failed"
    assert world.weight() == 0


def test_what_waits_is_reported_by_the_server(world: World):
    world.follow(a_following(targets=(FOLLOWED,)))
    payload = world.until("BeforeAllowTraffic")
    world.measured(HOSTS)
    assert world.function(payload)["says"] == "wait"
    gatekeeper = Gatekeeper(world.hooks, world.store, "first")
    gatekeeper.look()
    assert world.weight() == 0

    world.well()
    world.later(300)
    gatekeeper.look()
    world.later(30)

    assert world.weight() == 10
    assert world.said_of("BeforeAllowTraffic") == ["wait", "allow", "report"]


def test_what_waits_is_denied_in_time_for_codedeploy_to_hear_why(world: World):
    world.follow(a_following(targets=(FOLLOWED,), state=State.PAUSED))
    payload = world.until("BeforeInstall")
    assert world.function(payload)["says"] == "wait"
    gatekeeper = Gatekeeper(world.hooks, world.store, "first")

    world.later(55 * 60)
    gatekeeper.look()
    world.later(5)

    assert world.status() == "Failed"
    assert world.said()[1][1].startswith("There was no answer within 55 minutes")


def test_a_function_that_died_before_it_reported_is_stood_in_for(world: World):
    world.follow(a_following(targets=(FOLLOWED,)))
    payload = world.until("BeforeAllowTraffic")
    world.later(300)
    world.ask_as(payload)
    Gatekeeper(world.hooks, world.store, "first").look()
    assert world.weight() == 0

    world.later(31)
    Gatekeeper(world.hooks, world.store, "first").look()
    world.later(30)

    assert world.weight() == 10


def test_a_rollout_that_was_started_to_follow_it_is_found(world: World):
    driver = CodeDeployDriver(world.aws.aws())
    outside = Outside({"codedeploy": driver}, {"cloudwatch": world.source}, world.gates)
    services = bootstrap.build_services(
        Settings(), world.store, world.clock, world.entropy, outside=outside
    )
    signal = {"source": "cloudwatch", "measure": "rate", "settings": {"canary": GREEN}}
    started = services.rollouts.start(
        NewRollout.model_validate(
            {
                "environment": "production",
                "service": "shop",
                "version": "2",
                "targets": [{"kind": "codedeploy", "name": FOLLOWED.name, "mode": "follow"}],
                "guards": [{"name": "errors", "signal": signal, "limit": 0.01}],
                **SURE,
            }
        ),
        ADMIN,
    ).rollout
    assert started.traffic[0].get("deployment") == world.id
    assert world.function(world.until("BeforeInstall"))["says"] == "wait"

    begin_now(world, started.id)
    Gatekeeper(world.hooks, world.store, "first").look()

    told = world.store.history(target=started.name, environment=None, before=None, limit=99)
    asked = [each["action"] for each in reversed(told) if each["action"].startswith("hook:")]
    assert asked == [f"hook:codedeploy:{verb}" for verb in ("wait", "allow", "report")]
    assert world.until("AfterInstall")


def begin_now(world: World, id: str) -> None:
    """Do what a controller does at its first look."""
    turns = Turns(world.store, world.clock, world.entropy)
    turns.decide(id, lambda view: verbs.start(view.rollout, moment(world.clock.now())))


def test_one_process_looks_after_them(world: World):
    world.follow(a_following(targets=(FOLLOWED,), state=State.PAUSED))
    world.function(world.until("BeforeInstall"))
    Gatekeeper(world.hooks, world.store, "first").look()
    world.becomes(state=State.RUNNING)

    Gatekeeper(world.hooks, world.store, "second").look()
    assert len(world.waiting()) == 1
    Gatekeeper(world.hooks, world.store, "first").look()
    assert world.waiting() == []
