"""Push signals all the way: an alarm fires and CodeDeploy goes on at the AWS double, EventBridge's
rules of signals.yaml carry word of it to our queue or to our API, and the controller looks at once.

Lost, late, doubled, out of order or made up: only when it looks is another, never how it ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from flagserver.domain import pushed
from flagserver.domain.states import State
from flagserver.domain.times import rfc3339
from flagserver.services.pushes import Postman, Pushes
from flagserver.signals.cloudwatch import CloudWatch
from flagserver.signals.sqs import SqsMailbox
from tests.awsfake.bus import PATH, Bus
from tests.awsfake.deploying import INSTALLED
from tests.awsfake.double import Double, double, environment_of
from tests.builders import T0
from tests.http.api import api_of

from .test_following import Following

ALARM = "sortition-shop"
STEP, LOOK = 5, 15
"""Seconds that the time goes by at once, and between two looks where no word comes."""

FIRES_AT = INSTALLED + 68
"""When the alarm fires: five seconds after a look."""

QUEUE, DESTINATION = WAYS = ("queue", "destination")


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@dataclass
class Story(Following):
    """A rollout that follows a deployment and watches an alarm, and word that comes one way."""

    aws: Double
    disk: Path
    way: str
    exits: ExitStack
    looks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.aws.reset()
        super().__init__(self.aws, self.disk)
        source = CloudWatch(self.aws.aws(), monotonic=self.engine.clock.monotonic)
        self.engine.outside.sources["cloudwatch"] = source  # type: ignore[index]
        self.alarm(ALARM, "OK")
        self.api = api_of(self.engine)
        self.token = self.api.deploy().token or ""
        self.url = self.exits.enter_context(self.api.served()) if self.way == DESTINATION else ""
        self.bus = Bus(self.aws, self.url, self.token)
        mailbox = SqsMailbox(self.aws.aws(), self.bus.url)
        self.postman = Postman(mailbox, self.pushes, lambda: 0.0)
        self.fetched = 0
        self.stranger = self.exits.enter_context(httpx.Client())

    @property
    def pushes(self) -> Pushes:
        found: Pushes = self.engine.services.pushes
        return found

    @property
    def heard(self) -> dict[str, int]:
        return dict(self.pushes.heard)

    def begin(self) -> str:
        self.deployment = self.deploy(2)
        return self.follow(self.deployment, alarms=[ALARM], guards="none")

    def hear(self) -> None:
        """Let everything come that is on its way, as the postman or the web server hears it."""
        told = self.bus.told()
        if self.way == QUEUE:
            there = sum(each["result"] == "delivered" for each in told)
            while self.fetched < there + self.put_in:
                self.fetched += self.postman.fetch()

    put_in = 0
    """What somebody else put into the queue."""

    def make_up(self, event: dict[str, Any]) -> None:
        """Let an event come that nobody at AWS sent: from whoever may write into the queue, or has
        a token of a pipeline."""
        if self.way == QUEUE:
            self.put_in += 1
            sqs = self.aws.client("sqs")
            sqs.send_message(QueueUrl=self.bus.url, MessageBody=json.dumps(event))
        else:
            self.post(event, self.token)

    def post(self, event: dict[str, Any], token: str) -> int:
        told = {"Authorization": f"Bearer {token}"}
        return self.stranger.post(self.url + PATH, json=event, headers=told).status_code

    def look(self) -> None:
        self.looks.append(self.engine.clock.seconds)
        self.engine.tick()

    def play(self, each: Callable[[Story, float], None], seconds: float = 300) -> None:
        """Let the time go by; look when it is time to, or when word came."""
        known, due = self.engine.store.nudged(), 0.0
        while self.engine.clock.seconds < seconds:
            now = self.engine.clock.seconds
            each(self, now)
            if now == FIRES_AT:
                self.alarm(ALARM, "ALARM")
            self.hear()
            word = self.engine.store.nudged()
            if now >= due or word != known:
                known, due = word, now + LOOK
                self.look()
            self.later(STEP)
            self.engine.clock.seconds += STEP


@pytest.fixture
def tell(running: Double, tmp_path: Path) -> Iterator[Callable[[str], Story]]:
    with ExitStack() as exits:

        def told(way: str) -> Story:
            directory = tmp_path / way
            return Story(aws=running, disk=directory, way=way, exits=exits)

        yield told


# --- what becomes of word -------------------------------------------------------------------------


def as_it_should_be(story: Story, now: float) -> None: ...


def lost(story: Story, now: float) -> None:
    if now == 0:
        story.bus.misbehave("lost")


def late(story: Story, now: float) -> None:
    if now == 0:
        story.bus.misbehave("late", seconds=40)


def later_than_it_matters(story: Story, now: float) -> None:
    if now == 0:
        story.bus.misbehave("late", seconds=pushed.FRESH_SECONDS + 10)


def doubled(story: Story, now: float) -> None:
    if now == 0:
        story.bus.misbehave("doubled")


def out_of_order(story: Story, now: float) -> None:
    """The alarm's word comes after that of all that it led to."""
    if now == FIRES_AT - STEP:
        story.bus.misbehave("late", times=1, seconds=60)


def made_up_that_all_is_well(story: Story, now: float) -> None:
    """Again and again somebody says that the alarm is well and the deployment a success."""
    well = {"alarmName": ALARM, "state": {"value": "OK"}}
    done = {"deploymentId": story.deployment, "state": "SUCCESS"}
    story.make_up(an_event(f"a{now}", pushed.ALARM, now, well))
    story.make_up(an_event(f"d{now}", pushed.CODEDEPLOY, now, done))


def made_up_that_it_fires(story: Story, now: float) -> None:
    fires = {"alarmName": ALARM, "state": {"value": "ALARM"}}
    stopped = {"deploymentId": story.deployment, "state": "STOP"}
    if now < FIRES_AT:
        story.make_up(an_event(f"a{now}", pushed.ALARM, now, fires))
        story.make_up(an_event(f"d{now}", pushed.CODEDEPLOY, now, stopped))


def an_event(id: str, kind: str, seconds: float, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "0",
        "id": id,
        "detail-type": kind,
        "source": pushed.SOURCES[kind],
        "time": rfc3339(T0.fromtimestamp(T0.timestamp() + seconds, T0.tzinfo)),
        "region": "eu-west-1",
        "detail": detail,
    }


FATES = (
    as_it_should_be,
    lost,
    late,
    later_than_it_matters,
    doubled,
    out_of_order,
    made_up_that_all_is_well,
    made_up_that_it_fires,
)

# --- stories --------------------------------------------------------------------------------------


def end_of(story: Story, id: str) -> tuple[Any, ...]:
    """Return everything about a rollout's end but when that was."""
    rollout = story.engine.rollout(id)
    assert rollout.rollback is not None
    back = story.info(story.back(id))
    ended = (rollout.state, story.canary, story.engine.share)
    reasons = (rollout.rollback.by, rollout.rollback.reason, rollout.rollback.step)
    # How many notes there are of what CodeDeploy did is a matter of how often it was looked.
    actions = [each for each in story.engine.actions(id) if each != "engine:note"]
    return (*ended, *reasons, back["creator"], back["status"], actions)


@pytest.fixture(scope="module")
def by_polling(running: Double, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """The end of a rollout that nobody sent word of."""
    with ExitStack() as exits:
        disk = tmp_path_factory.mktemp("polls")
        story = Story(aws=running, disk=disk, way=QUEUE, exits=exits)
        id = story.begin()
        story.play(lost)
        assert story.heard == {}
        return end_of(story, id)


@pytest.mark.parametrize("way", WAYS)
def test_word_of_an_alarm_makes_the_controller_look_at_once(
    tell: Callable[[str], Story], way: str
) -> None:
    story = tell(way)
    id = story.begin()

    story.play(as_it_should_be)

    rollout = story.engine.rollout(id)
    assert rollout.rollback is not None
    assert rollout.rollback.detected == T0.timestamp() + FIRES_AT
    assert (rollout.state, story.canary, story.engine.share) == (State.ROLLED_BACK, 0, 0.0)
    assert ALARM in rollout.rollback.reason
    # It was not time for a look when it fired; and CodeDeploy's own word hastened some too.
    assert FIRES_AT in story.looks
    assert FIRES_AT % LOOK != 0
    assert story.heard["hastens"] >= 3
    assert set(story.heard) <= {"hastens", "unconcerned"}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.__name__)
def test_whatever_becomes_of_word_the_end_is_the_same(
    tell: Callable[[str], Story],
    way: str,
    fate: Callable[[Story, float], None],
    by_polling: tuple[Any, ...],
) -> None:
    story = tell(way)
    id = story.begin()

    story.play(fate)

    assert end_of(story, id) == by_polling
    assert by_polling[:3] == (State.ROLLED_BACK, 0, 0.0)
    _HEARD[fate](story.heard)


def _heard(**least: int) -> Callable[[dict[str, int]], None]:
    def check(heard: dict[str, int]) -> None:
        for name, number in least.items():
            assert heard.get(name, 0) >= number, heard

    return check


def _nothing(heard: dict[str, int]) -> None:
    assert heard == {}


_HEARD: dict[Any, Callable[[dict[str, int]], None]] = {
    as_it_should_be: _heard(hastens=3),
    lost: _nothing,
    late: _heard(hastens=1),
    later_than_it_matters: _nothing,
    doubled: _heard(hastens=3, repeated=3),
    out_of_order: _heard(hastens=3),
    made_up_that_all_is_well: _heard(hastens=60),
    made_up_that_it_fires: _heard(hastens=40),
}
"""What was heard at least, so that a story is what it says."""


def test_whoever_has_no_token_is_not_even_heard(tell: Callable[[str], Story]) -> None:
    story = tell(DESTINATION)
    story.begin()
    fires = an_event("x", pushed.ALARM, 0, {"alarmName": ALARM})

    assert story.post(fires, "srt_deploy_00000000000a_" + "b" * 64) == 401
    assert story.heard == {}


def test_while_the_server_is_away_word_waits_for_it(tell: Callable[[str], Story]) -> None:
    story = tell(DESTINATION)
    story.begin()
    story.exits.close()

    story.alarm(ALARM, "ALARM")

    assert story.bus.told()[-1]["result"] == "no answer: URLError"
    assert story.aws.ask("events")["waiting"] >= 1
