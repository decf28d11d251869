"""EventBridge's events through a queue of SQS: fetched, heard, and gone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from moto.events.models import EventPattern

from flagserver.domain.errors import TargetUnavailable
from flagserver.domain.pushed import CODEDEPLOY
from flagserver.services.pushes import Postman
from flagserver.signals.sqs import SqsMailbox
from tests.awsfake.double import Double, double, environment_of
from tests.deploy.templates import Stack, read
from tests.unit.test_pushes import ALARM, World, an_event

names = itertools.count()


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


class Queue:
    """A queue of its own."""

    def __init__(self, aws: Double, visible_after: int = 30) -> None:
        self.aws = aws
        self.sqs = aws.client("sqs")
        told = {"VisibilityTimeout": str(visible_after)}
        name = f"signals-{next(names)}"
        self.url = self.sqs.create_queue(QueueName=name, Attributes=told)["QueueUrl"]
        self.mailbox = SqsMailbox(aws.aws(), self.url)

    def put(self, *events: dict[str, Any]) -> None:
        for event in events:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=json.dumps(event))

    def send(self, *events: Any) -> None:
        """Put in what the rules of signals.yaml let through, by moto's matching of EventBridge's
        patterns. (That it delivers too needs a package more.)"""
        rules = Stack(read("signals.yaml"), AlarmPrefix=ALARM).of_type("AWS::Events::Rule")
        patterns = [EventPattern.load(json.dumps(r["EventPattern"])) for r in rules.values()]
        self.put(*(e for e in events if any(each.matches_event(e) for each in patterns)))

    def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return sum(int(told["Attributes"][name]) for name in names)


@pytest.fixture
def queue(running: Double) -> Queue:
    running.well()
    return Queue(running)


def test_events_are_received_and_taken_out(queue: Queue):
    queue.put(an_event("1"), an_event("2"))

    letters = queue.mailbox.receive()

    assert sorted(json.loads(letter.text)["id"] for letter in letters) == ["1", "2"]
    assert queue.left() == 2
    queue.mailbox.take_out(letters)
    assert queue.left() == 0


def test_what_is_not_taken_out_comes_again(running: Double):
    queue = Queue(running, visible_after=0)
    queue.put(an_event("1"))

    assert len(queue.mailbox.receive()) == 1
    assert len(queue.mailbox.receive()) == 1


@pytest.mark.parametrize("operation", ["ReceiveMessage", "DeleteMessageBatch"])
def test_a_queue_that_does_not_answer(queue: Queue, operation: str):
    queue.put(an_event("1"))
    queue.aws.fault(operation, "fail")

    with pytest.raises(TargetUnavailable):
        queue.mailbox.take_out(queue.mailbox.receive())
    assert queue.left() == 1


def test_a_queue_that_is_not_there(running: Double):
    with pytest.raises(TargetUnavailable, match=r"QueueDoesNotExist|NonExistentQueue"):
        SqsMailbox(running.aws(), f"{running.url}/123456789012/none").receive()


def test_an_event_is_heard_once_though_it_comes_twice(queue: Queue, tmp_path: Any):
    world = World(tmp_path)
    world.start(alarms=[ALARM])
    queue.put(an_event("1"), an_event("1"), an_event("2", source="somebody.else"))
    postman = Postman(queue.mailbox, world.pushes, lambda: 0.0)

    while queue.left():
        postman.fetch()

    assert world.pushes.heard == {"hastens": 1, "repeated": 1, "unknown": 1}


def test_the_rules_of_the_template_let_through_what_concerns_us(queue: Queue, tmp_path: Any):
    world = World(tmp_path)
    world.start(alarms=[ALARM])
    fires = {"alarmName": ALARM, "state": {"value": "ALARM"}}
    queue.send(
        an_event("1", detail=fires),
        an_event("2", kind=CODEDEPLOY, detail={"state": "START"}),
        # Not ours: no rule lets them through.
        an_event("3", detail={**fires, "alarmName": "somebody-elses"}),
        an_event("4", source="aws.ec2", detail=fires),
    )
    postman = Postman(queue.mailbox, world.pushes, lambda: 0.0)

    assert queue.left() == 2
    while queue.left():
        postman.fetch()

    assert world.pushes.heard == {"hastens": 2}


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/123456789012/signals", "eu-central-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/signals", "cn-north-1"),
        ("http://127.0.0.1:8402/123456789012/signals", None),
    ],
)
def test_the_region_is_that_of_the_url(running: Double, url: str, region: str | None):
    assert SqsMailbox(running.aws(), url)._region == region
