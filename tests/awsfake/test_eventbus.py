"""The double's EventBridge: what AWS emits and what is put goes through the rules of signals.yaml
to a queue or an API destination; again when it fails; lost, late or doubled when it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from examples.awsfake.scene import APPLICATION, GROUP
from flagserver.domain.pushed import ALARM, CODEDEPLOY
from tests.awsfake.bus import PATH, Bus
from tests.awsfake.deploying import Stage
from tests.awsfake.double import T0, Double, double

TOKEN = "a token of a test"
NAME = "sortition-shop"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found:
        yield found


@pytest.fixture
def aws(running: Double) -> Double:
    running.reset()
    return running


@dataclass
class Receiver:
    """A server that events are posted to. status: what it answers, in turn; the last stays."""

    url: str = ""
    status: list[int] = field(default_factory=lambda: [202])
    got: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append({"path": self.path, **json.loads(body)})
            found.headers.append(dict(self.headers))
            status = found.status.pop(0) if len(found.status) > 1 else found.status[0]
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def received(bus: Bus) -> list[dict[str, Any]]:
    """What is in a queue, and is taken out."""
    sqs = bus.aws.client("sqs")
    bus.told()
    found = []
    while told := sqs.receive_message(
        QueueUrl=bus.url, MaxNumberOfMessages=10, WaitTimeSeconds=0
    ).get("Messages"):
        for each in told:
            found.append(json.loads(each["Body"]))
            sqs.delete_message(QueueUrl=bus.url, ReceiptHandle=each["ReceiptHandle"])
    return found


# --- what is sent ---------------------------------------------------------------------------------


def test_an_alarm_that_changes_its_state_is_in_the_queue(aws: Double):
    bus, stage = Bus(aws), Stage(aws)

    stage.alarm(NAME)
    stage.alarm(NAME)
    stage.alarm("somebody-elses")

    (event,) = received(bus)
    assert (event["source"], event["detail-type"]) == ("aws.cloudwatch", ALARM)
    assert event["time"] == "2026-11-23T12:00:00Z"
    assert event["detail"]["alarmName"] == NAME
    assert event["detail"]["previousState"]["value"] == "INSUFFICIENT_DATA"
    assert event["detail"]["state"]["value"] == "ALARM"
    assert event["resources"] == [f"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:{NAME}"]


def test_a_deployment_is_told_of_from_its_start_to_its_end(aws: Double, receiver: Receiver):
    bus, stage = Bus(aws, receiver.url, TOKEN), Stage(aws)

    id = stage.deploy(1)
    stage.later(3600)
    second = stage.deploy(2)
    stage.later(120)
    stage.client.stop_deployment(deploymentId=second, autoRollbackEnabled=True)
    stage.later(60)
    bus.told()

    states = [(each["detail"]["deploymentId"], each["detail"]["state"]) for each in receiver.got]
    back = stage.info(second)["rollbackInfo"]["rollbackDeploymentId"]
    assert states == [
        *((id, "START"), (id, "SUCCESS"), (second, "START"), (second, "STOP")),
        *((back, "START"), (back, "SUCCESS")),
    ]
    assert {(each["path"], each["detail-type"]) for each in receiver.got} == {(PATH, CODEDEPLOY)}
    assert {each["Authorization"] for each in receiver.headers} == {f"Bearer {TOKEN}"}
    assert len({each["id"] for each in receiver.got}) == 6


def test_one_that_waits_says_that_it_is_ready(aws: Double):
    bus = Bus(aws)
    stage = Stage(aws)
    stage.client.update_deployment_group(
        applicationName=APPLICATION,
        currentDeploymentGroupName=GROUP,
        blueGreenDeploymentConfiguration={
            "deploymentReadyOption": {"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": 5},
            "terminateBlueInstancesOnDeploymentSuccess": {"action": "TERMINATE"},
        },
    )

    stage.deploy(1)
    stage.later(400)

    # Nobody let it go on, and so it goes back: a deployment of its own.
    states = [each["detail"]["state"] for each in received(bus)]
    assert sorted(states) == ["READY", "START", "START", "STOP", "SUCCESS"]


def test_what_is_put_goes_where_its_pattern_leads(aws: Double, receiver: Receiver):
    bus = Bus(aws, receiver.url, TOKEN)
    bus.client.put_rule(Name=bus.rules["Alarms"], EventPattern='{"source": ["shop"]}')

    said = bus.put("shop", "Something Happened", {"n": 1})
    bus.put("somebody", "Something Happened", {"n": 2})
    bus.told()

    assert [(each["id"], each["detail"]) for each in receiver.got] == [(said["EventId"], {"n": 1})]


def test_nobody_speaks_in_the_name_of_aws(aws: Double):
    bus = Bus(aws)

    said = bus.put("aws.cloudwatch", ALARM, {"alarmName": NAME})

    assert said["ErrorCode"] == "NotAuthorizedForSourceException"
    assert received(bus) == []


def test_a_rule_that_is_disabled_sends_nothing(aws: Double):
    bus = Bus(aws)
    bus.client.disable_rule(Name=bus.rules["Alarms"])

    Stage(aws).alarm(NAME)

    assert bus.told() == []


# --- what is not received -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 429, 503])
def test_a_receiver_that_fails_is_tried_again_in_its_time(
    aws: Double, receiver: Receiver, status: int
):
    bus = Bus(aws, receiver.url, TOKEN)
    receiver.status = [status, status, 202]

    Stage(aws).alarm(NAME)
    assert bus.results() == [f"status {status}"]
    aws.turn(T0 + 1)
    assert len(bus.told()) == 2
    aws.turn(T0 + 3)

    assert bus.results() == [f"status {status}", f"status {status}", "delivered"]
    assert len({each["id"] for each in receiver.got}) == 1


def test_what_is_refused_is_not_sent_again(aws: Double, receiver: Receiver):
    bus = Bus(aws, receiver.url, TOKEN)
    receiver.status = [422]

    Stage(aws).alarm(NAME)

    assert bus.results() == ["status 422"]
    assert aws.ask("events")["waiting"] == 0


def test_after_as_many_tries_as_the_template_says_it_is_dropped(aws: Double):
    bus = Bus(aws, "http://127.0.0.1:9", TOKEN)

    Stage(aws).alarm(NAME)
    for second in range(0, 60, 5):
        aws.turn(T0 + second)
        bus.told()

    assert bus.results() == ["no answer: URLError"] * 4
    assert aws.ask("events")["waiting"] == 0


def test_a_queue_lets_in_whom_its_policy_names(aws: Double):
    bus = Bus(aws)
    sqs = aws.client("sqs")
    arn = bus.arns["Queue"]
    policy = sqs.get_queue_attributes(QueueUrl=bus.url, AttributeNames=["Policy"])["Attributes"]
    other = policy["Policy"].replace(bus.arns["Alarms"], bus.arns["Alarms"] + "-other")
    sqs.set_queue_attributes(QueueUrl=bus.url, Attributes={"Policy": other})

    Stage(aws).alarm(NAME)

    assert bus.results() == ["the queue lets EventBridge not in"]
    assert bus.told()[0]["target"] == arn


@pytest.mark.parametrize(
    ("kind", "results"),
    [("lost", ["lost"]), ("doubled", ["delivered", "delivered"]), ("late", [])],
)
def test_how_badly_it_may_be_delivered(aws: Double, kind: str, results: list[str]):
    bus = Bus(aws)
    bus.misbehave(kind, times=1, seconds=40)

    stage = Stage(aws)
    stage.alarm(NAME)
    assert bus.results() == results
    stage.alarm(NAME, "OK")
    aws.turn(T0 + 40)

    states = [each["detail"]["state"]["value"] for each in received(bus)]
    expected = {"lost": ["OK"], "doubled": ["ALARM", "ALARM", "OK"], "late": ["ALARM", "OK"]}
    assert sorted(states) == sorted(expected[kind])
    order = [each["at"] for each in bus.told() if each["result"] == "delivered"]
    assert order == sorted(order)


# --- what AWS refuses -----------------------------------------------------------------------------


def test_what_is_refused_when_it_is_made(aws: Double):
    bus = Bus(aws, "http://127.0.0.1:9", TOKEN)
    target = {"Id": "x", "Arn": bus.arns["Destination"]}
    destination = {
        "Name": "y",
        "ConnectionArn": bus.arns["Connection"],
        "HttpMethod": "POST",
        "InvocationEndpoint": "http://flags.example/x",
    }

    with pytest.raises(ClientError, match="RoleArn is required"):
        bus.client.put_targets(Rule=bus.rules["Alarms"], Targets=[target])
    with pytest.raises(ClientError, match="as they are"):
        bus.client.put_targets(
            Rule=bus.rules["Alarms"], Targets=[{**target, "RoleArn": SOME_ROLE, "Input": "{}"}]
        )
    with pytest.raises(ClientError, match="https://"):
        bus.client.create_api_destination(**destination)
    gone = {**destination, "ConnectionArn": bus.arns["Connection"] + "x"}
    with pytest.raises(ClientError, match="ResourceNotFound"):
        bus.client.create_api_destination(**gone)


SOME_ROLE = "arn:aws:iam::123456789012:role/x"
