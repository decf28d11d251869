"""Push signals hasten a look and do nothing else: lost, late, doubled, shuffled or made up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flagserver.controller import Controller
from flagserver.domain import guards, pushed
from flagserver.domain.errors import TargetUnavailable
from flagserver.domain.hook_commands import EventBridgeEvent
from flagserver.domain.rollout import Rollback, Rollout
from flagserver.domain.signals import Measured, Point
from flagserver.domain.states import State
from flagserver.domain.times import rfc3339
from flagserver.ports import Letter
from flagserver.services.pushes import Postman, Pushes
from tests.builders import T0
from tests.engines import Engine, a_body

ALARM = "sortition-shop"
FIRES_AT = 120.0


def an_event(id: str = "1", kind: str = pushed.ALARM, **told: Any) -> dict[str, Any]:
    """Return an event as EventBridge sends it."""
    return {
        "version": "0",
        "id": id,
        "detail-type": kind,
        "source": pushed.SOURCES[kind],
        "account": "123456789012",
        "time": rfc3339(T0),
        "region": "eu-west-1",
        "resources": [],
        "detail": {"alarmName": ALARM, "state": {"value": "ALARM"}},
        **told,
    }


def parsed(event: dict[str, Any]) -> EventBridgeEvent:
    return EventBridgeEvent.model_validate(event)


class World(Engine):
    """An engine whose rollout watches an alarm that fires after two minutes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory)
        self.guard = guards.alarm(ALARM)
        self.alarm_says(0.0)

    @property
    def pushes(self) -> Pushes:
        found: Pushes = self.services.pushes
        return found

    def alarm_says(self, value: float) -> None:
        self.source.answers[self.guard.signal] = Measured(
            tuple(Point(T0.timestamp() + 5 * i, value) for i in range(1000))
        )

    def hear(self, event: dict[str, Any]) -> str:
        return self.pushes.hear(parsed(event))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- heard ----------------------------------------------------------------------------------------


def test_an_alarm_of_a_live_rollout_hastens_its_look_once(world: World):
    world.start(alarms=[ALARM])
    before = world.store.nudged()

    assert [world.hear(an_event()) for _ in range(3)] == ["hastens", "repeated", "repeated"]
    assert world.store.nudged() == before + 1
    assert world.pushes.heard == {"hastens": 1, "repeated": 2}


@pytest.mark.parametrize("kind", [pushed.CODEDEPLOY, pushed.ECS])
def test_a_deployment_hastens_whoever_moves_traffic(world: World, kind: str):
    assert world.hear(an_event("1", kind)) == "unconcerned"
    world.start()
    assert world.hear(an_event("2", kind)) == "hastens"


def test_a_deployment_is_nothing_to_a_rollout_of_flags_alone(world: World):
    world.start(targets=a_body()["targets"][:1])

    assert world.hear(an_event("1", pushed.CODEDEPLOY)) == "unconcerned"


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        ({"detail": {"alarmName": "another"}}, "unconcerned"),
        ({"detail": {}}, "unconcerned"),
        ({"detail": {"alarmName": ["x"]}}, "unconcerned"),
        ({"source": "my.own"}, "unknown"),
        ({"detail-type": "EC2 Instance State-change Notification"}, "unknown"),
        ({"time": rfc3339(T0 - timedelta(minutes=6))}, "late"),
        ({"time": rfc3339(T0 + timedelta(hours=1))}, "hastens"),
        ({"time": "2026-11-23T12:00:00"}, "hastens"),
    ],
)
def test_what_else_is_heard(world: World, told: dict[str, Any], heard: str):
    world.start(alarms=[ALARM])

    assert world.hear(an_event(**told)) == heard


def test_a_token_hears_for_its_own_environment_alone(world: World):
    world.start(alarms=[ALARM])

    assert world.pushes.hear(parsed(an_event()), "staging") == "unconcerned"
    assert world.pushes.hear(parsed(an_event()), "production") == "hastens"


# --- the same end ---------------------------------------------------------------------------------

Sent = list[tuple[float, dict[str, Any]]]
"""(second at which it arrives, event), in any order."""


def alarm_at(id: str, seconds: float, value: str = "ALARM") -> dict[str, Any]:
    return an_event(
        id,
        time=rfc3339(T0 + timedelta(seconds=seconds)),
        detail={"alarmName": ALARM, "state": {"value": value}},
    )


FIRES, WELL = alarm_at("fires", FIRES_AT), alarm_at("well", 10, "OK")

TOLD: dict[str, Sent] = {
    "as it should be": [(11, WELL), (FIRES_AT + 1, FIRES)],
    "lost": [],
    "late": [(FIRES_AT + 40, WELL), (FIRES_AT + 400, FIRES)],
    "doubled": [(11, WELL), (12, WELL), (FIRES_AT + 1, FIRES), (FIRES_AT + 2, FIRES)],
    "out of order": [(FIRES_AT + 1, FIRES), (FIRES_AT + 2, WELL)],
    "made up: all is well": [
        (FIRES_AT + i, alarm_at(f"m{i}", FIRES_AT + i, "OK")) for i in range(9)
    ],
    "made up: it fires": [(10.0 * i, alarm_at(f"m{i}", 10.0 * i)) for i in range(11)],
    "made up: every second": [(float(i), alarm_at(f"m{i}", i)) for i in range(150)],
    "made up: it was deployed": [
        (i, an_event(f"d{i}", pushed.CODEDEPLOY, detail={"state": "SUCCESS"})) for i in (20, 130)
    ],
}


def run(world: World, sent: Sent) -> tuple[Rollout, Rollback]:
    """Run a rollout, a look every five seconds and one whenever word comes; return how it ended."""
    id = world.start(alarms=[ALARM])
    known, due = world.store.nudged(), 0.0
    for second in range(180):
        world.clock.seconds = float(second)
        if second == FIRES_AT:
            world.alarm_says(1.0)
        for at, event in sent:
            if at == second:
                world.hear(event)
        word = world.store.nudged()
        if second >= due or word != known:
            known, due = word, second + 5
            world.tick()
    rollout = world.rollout(id)
    assert rollout.rollback is not None
    return rollout, rollout.rollback


def end_of(world: World, sent: Sent) -> tuple[Any, ...]:
    """Run a rollout; return everything about its end but when that was."""
    rollout, back = run(world, sent)
    actions = world.actions(rollout.id)
    return rollout.state, world.weight, world.share, back.reason, back.step, actions


@pytest.fixture(scope="module")
def by_polling(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    return end_of(World(tmp_path_factory.mktemp("polls")), [])


@pytest.mark.parametrize("told", TOLD)
def test_whatever_becomes_of_events_the_end_is_the_same(
    told: str, by_polling: tuple[Any, ...], tmp_path: Path
):
    assert end_of(World(tmp_path / "told"), TOLD[told]) == by_polling
    assert by_polling[:3] == (State.ROLLED_BACK, 0.0, 0.0)


def test_word_that_comes_in_time_makes_it_quicker(tmp_path: Path):
    def detected(name: str, sent: Sent) -> float:
        _, back = run(World(tmp_path / name), sent)
        return back.detected - T0.timestamp()

    # An alarm that fires a second after a look is seen four seconds later without word.
    late = [(FIRES_AT - 4, alarm_at("shifts", FIRES_AT - 4))]
    assert detected("polls", late) == FIRES_AT + 1
    assert detected("told", [*late, (FIRES_AT, FIRES)]) == FIRES_AT


# --- the controller -------------------------------------------------------------------------------


class Counting:
    """Counts ticks."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def tick(self) -> None:
        self.ticks.append(time.monotonic())

    def step_down(self) -> None: ...


def test_a_controller_looks_at_once_when_word_comes(world: World):
    steering, stop = Counting(), threading.Event()
    controller = Controller(
        world.services.record, world.store, steering, "first", tick_seconds=30.0
    )
    thread = threading.Thread(target=controller.run, args=(stop,), daemon=True)
    thread.start()
    try:
        _wait(lambda: controller._nudged is not None)
        assert len(steering.ticks) == 1
        world.store.nudge("word", ttl_seconds=60)
        _wait(lambda: len(steering.ticks) == 2)
    finally:
        stop.set()
        thread.join(5)


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not until():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


# --- the queue ------------------------------------------------------------------------------------


@dataclass
class FakeMailbox:
    """`ports.Mailbox` in memory. letters: what is in it; what is not taken out stays."""

    letters: list[Letter] = field(default_factory=list)
    down: bool = False
    received: int = 0

    def receive(self) -> Sequence[Letter]:
        self.received += 1
        if self.down:
            raise TargetUnavailable("The queue is down.")
        return self.letters[:10]

    def take_out(self, letters: Sequence[Letter]) -> None:
        self.letters = [each for each in self.letters if each not in letters]


def a_letter(text: str) -> Letter:
    return Letter(f"handle of {hash(text)}", text)


def test_events_of_a_queue_are_heard_and_taken_out(world: World):
    world.start(alarms=[ALARM])
    mailbox = FakeMailbox([a_letter(json.dumps(an_event(str(i)))) for i in range(12)])
    postman = Postman(mailbox, world.pushes, lambda: 0.0)

    assert [postman.fetch(), postman.fetch(), postman.fetch()] == [10, 2, 0]
    assert world.pushes.heard == {"hastens": 12}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 1}', "[" * 100_000, '{"id": "1"}'])
def test_what_is_no_event_is_taken_out_too(world: World, text: str):
    mailbox = FakeMailbox([a_letter(text), a_letter(json.dumps(an_event()))])
    postman = Postman(mailbox, world.pushes, lambda: 0.0)

    assert postman.fetch() == 2
    assert mailbox.letters == []
    assert sum(world.pushes.heard.values()) == 1


def test_while_the_store_is_away_events_stay_in_the_queue(world: World):
    mailbox = FakeMailbox([a_letter(json.dumps(an_event()))])
    postman = Postman(mailbox, world.pushes, lambda: 0.0)

    with world.away(), pytest.raises(Exception, match="store"):
        postman.fetch()

    assert len(mailbox.letters) == 1
    assert postman.fetch() == 1


def test_a_queue_that_is_away_is_asked_again_with_pauses_and_told_of_once(
    world: World, caplog: pytest.LogCaptureFixture
):
    mailbox = FakeMailbox([a_letter(json.dumps(an_event()))], down=True)
    pauses: list[int] = []

    def chance() -> float:
        pauses.append(1)
        mailbox.down = len(pauses) < 3
        return 0.0

    postman = Postman(mailbox, world.pushes, chance)
    postman.start()
    _wait(lambda: not mailbox.letters)
    postman.stop()

    assert len(pauses) == 3
    assert [r.getMessage() for r in caplog.records if "queue" in r.getMessage()] == [
        "events wait in the queue: The queue is down."
    ]
