"""A stage for watching: a rollout that a controller drives while the command sleeps.

    stage = Stage("5%:5m,100%")
    stage.at(120, lambda: stage.harm("http errors 6 % > 1 %."))
    done = stage.run("watch", "r-1")

Time is one number. When the command sleeps, it passes, the controller ticks every five seconds, and
what the test wrote into the script happens. What the server answers is made by the server's code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
from click.testing import CliRunner, Result
from sortition.cli.api import Api
from sortition.cli.main import cli

from flagserver.domain import guards, verbs
from flagserver.domain.guards import Action, Does, Guard, Kind, Verdict
from flagserver.domain.states import State
from flagserver.domain.times import from_unix
from flagserver.http import present_rollouts
from flagserver.services.rollouts import Standing
from flagserver.services.turns import RolloutView
from tests.unit.rollouts import RULE, T0, WELL, World, a_cause, a_world

TICK = 5.0
HARM = "http errors 6 % > 1 % (2 of 2 points, n = 9,204)."


class Stage:
    """A rollout `r-1`, the time, and a server that knows of both."""

    def __init__(self, schedule: str = "5%:5m,25%:10m,100%", **more: Any) -> None:
        self.world: World = a_world(schedule, **more)
        self.script: list[tuple[float, Callable[[], Any]]] = []
        self.seconds = 0.0
        self.ticked = 0.0
        self.action: Action = WELL
        self.looked_at = True
        self.answer: Callable[[], httpx.Response] = self.well
        self.asked: list[httpx.Request] = []
        self.verdicts = [a_verdict(guard) for guard in guards.standard()[:2]]

    # What happens

    def at(self, seconds: float, act: Callable[[], Any]) -> None:
        """Let something happen so many seconds after the beginning."""
        self.script.append((seconds, act))
        self.script.sort(key=lambda entry: entry[0])

    def harm(self, reason: str = HARM) -> None:
        """Let the guards find harm."""
        self.action = Action(Does.ROLL_BACK, reason, "backstop")

    def blind(self) -> None:
        """Let the guards find nothing."""
        self.action = Action(Does.HOLD, "http errors: no data. Missing data holds.", "no data")

    def well_again(self) -> None:
        """Let the guards pass."""
        self.action = WELL

    def commit(self, turn: verbs.Turn) -> None:
        """Let somebody do something to the rollout."""
        self.world.commit(turn)

    def pause(self) -> None:
        """Let somebody hold it."""
        self.commit(verbs.hold(self.world.rollout, self.world.now, self.world.now))

    def resume(self) -> None:
        """Let somebody resume it."""
        self.commit(verbs.resume(self.world.rollout, self.world.now))

    def roll_back(self) -> None:
        """Let a responder take it back."""
        cause = a_cause(self.world.now, self.world.rollout.step)
        self.commit(verbs.roll_back(self.world.rollout, cause))

    def go_away(self) -> None:
        """Let nobody answer."""

        def away() -> httpx.Response:
            raise httpx.ConnectError("away")

        self.answer = away

    def come_back(self) -> None:
        """Let the server answer again."""
        self.answer = self.well

    # Time

    def sleep(self, seconds: float) -> None:
        """Let time pass: what is written happens, and the controller ticks."""
        until = round(self.seconds + seconds, 3)
        while True:
            tick = self.ticked + TICK
            due = [at for at, _ in self.script[:1]]
            upcoming = min([tick, *due])
            if upcoming > until:
                break
            self.seconds = max(self.seconds, upcoming)
            self.world.now = T0 + self.seconds
            if due and due[0] == upcoming:
                self.script.pop(0)[1]()
            else:
                self.ticked = tick
                self.tick()
        self.seconds = until
        self.world.now = T0 + until

    def tick(self) -> None:
        """Do what a controller does."""
        if self.looked_at and not self.world.rollout.state.shown.terminal:
            self.world.look(self.action)
            self.world.carry_out()

    # The server

    def well(self) -> httpx.Response:
        """Answer with the rollout as it stands."""
        return httpx.Response(200, json=self.shown())

    def shown(self) -> dict[str, Any]:
        """Return the rollout as the API shows it."""
        rollout = self.world.rollout
        seen = self.world.seen()
        standing = Standing(
            state=rollout.state if self.looked_at else State.UNKNOWN,
            elapsed=rollout.elapsed(seen),
            due=rollout.due(self.world.now, seen),
            looked=self.world.last_look,
        )
        view = RolloutView(rollout, len(self.world.facts) + 1)
        return dict(present_rollouts.rollout(view, standing, self.look()))

    def look(self) -> dict[str, Any]:
        """Return what the controller saw last."""
        return {
            "at": from_unix(self.world.now),
            "state": str(self.world.rollout.state),
            "step": self.world.rollout.step,
            "does": str(self.action.does),
            "reason": self.action.reason,
            "observed": {RULE.id: self.world.traffic},
            "guards": [verdict.to_body() for verdict in self.verdicts],
        }

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.asked.append(request)
        return self.answer()

    # The command

    def api(self) -> Api:
        """Return the server as the command has it."""
        return Api(
            "http://flags.test",
            "a-token",
            transport=httpx.MockTransport(self.handle),
            sleep=self.sleep,
            monotonic=lambda: self.seconds,
            now=lambda: T0 + self.seconds,
        )

    def run(self, *words: str) -> Result:
        """Run `sortition rollouts …`."""
        return CliRunner().invoke(cli, ["rollouts", *words], obj=self.api())

    def watch(self, *words: str) -> Result:
        """Follow the rollout."""
        return self.run("watch", "r-1", *words)

    def events(self, *words: str) -> list[dict[str, Any]]:
        """Follow it with --json; return the events."""
        return [json.loads(line) for line in self.watch(*words, "--json").stdout.splitlines()]


def a_verdict(guard: Guard, value: float | None = None, kind: Kind = Kind.PASS) -> Verdict:
    """Return what is said of a guard: well, at a third of its limit."""
    seen = guard.limit * 0.31 if value is None else value
    return Verdict(guard, kind, f"{guard.name} is {kind}.", value=seen, control=seen * 0.9)
