"""`deploy/cloudformation/signals.yaml` put up on the double: rules, and a queue or an API
destination, as CloudFormation would make them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from examples.awsfake.scene import REGION
from tests.awsfake.double import Double
from tests.deploy.templates import ACCOUNT, Stack, read
from tests.servers import wait_until

PATH = "/api/v1/signals/eventbridge"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT['AWS::AccountId']}:secret:token"

_numbers = itertools.count(1)


class Bus:
    """The stack of signals.yaml, with names of its own so that it can be put up again.

    url: of the queue; "" with an API destination.
    """

    def __init__(
        self, aws: Double, receiver: str = "", token: str = "", prefix: str = "sortition-"
    ) -> None:
        """receiver: the origin of a server on loopback that events are posted to, with this token;
        without one they are put into a queue."""
        self.aws = aws
        self.client = aws.client("events")
        self.url = ""
        told = {"AlarmPrefix": prefix}
        if receiver:
            told |= {"Url": "https://flags.example", "TokenSecret": SECRET}
        self.stack = Stack(read("signals.yaml"), **told)
        number = next(_numbers)
        self.rules = {name: f"{name}-{number}" for name in self.stack.of_type("AWS::Events::Rule")}
        where = f"arn:aws:events:{REGION}:{ACCOUNT['AWS::AccountId']}:rule/"
        self.arns = {name: where + of for name, of in self.rules.items()}
        if receiver:
            self._destination(number, receiver, token)
        else:
            self._queue(number)
        for name, told_of in self.stack.of_type("AWS::Events::Rule").items():
            self._rule(name, told_of)

    def put(self, source: str, kind: str, detail: Mapping[str, Any]) -> Mapping[str, Any]:
        """PutEvents of one event; return what AWS says of it."""
        entry = {"Source": source, "DetailType": kind, "Detail": json.dumps(detail)}
        (said,) = self.client.put_events(Entries=[entry])["Entries"]
        found: Mapping[str, Any] = said
        return found

    def misbehave(self, kind: str, **told: Any) -> None:
        self.aws.tell("events", kind=kind, **told)

    def told(self) -> list[dict[str, Any]]:
        """What became of every try, when nothing is due any more."""
        wait_until(lambda: self.aws.ask("events")["due"] == 0, "events to be delivered")
        found: list[dict[str, Any]] = self.aws.ask("events")["told"]
        return found

    def results(self) -> list[str]:
        return [each["result"] for each in self.told()]

    def _queue(self, number: int) -> None:
        sqs = self.aws.client("sqs")
        (told,) = self.stack.of_type("AWS::SQS::Queue").values()
        attributes = {name: _text(value) for name, value in told.items()}
        self.url = sqs.create_queue(QueueName=f"signals-{number}", Attributes=attributes)[
            "QueueUrl"
        ]
        found = sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        self.arns["Queue"] = found["Attributes"]["QueueArn"]
        (policy,) = self.stack.of_type("AWS::SQS::QueuePolicy").values()
        document = json.dumps(self._known(policy["PolicyDocument"]))
        sqs.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": document})

    def _destination(self, number: int, receiver: str, token: str) -> None:
        (connection,) = self.stack.of_type("AWS::Events::Connection").values()
        parameters = json.loads(
            json.dumps(connection["AuthParameters"]).replace(
                "{{resolve:secretsmanager:" + SECRET + "}}", token
            )
        )
        self.arns["Connection"] = self.client.create_connection(
            Name=f"signals-{number}",
            AuthorizationType=connection["AuthorizationType"],
            AuthParameters=parameters,
        )["ConnectionArn"]
        (told,) = self.stack.of_type("AWS::Events::ApiDestination").values()
        assert told["InvocationEndpoint"] == "https://flags.example" + PATH
        self.arns["Destination"] = self.client.create_api_destination(
            Name=f"signals-{number}",
            ConnectionArn=self.arns["Connection"],
            HttpMethod=told["HttpMethod"],
            InvocationEndpoint=receiver + PATH,
            InvocationRateLimitPerSecond=told["InvocationRateLimitPerSecond"],
        )["ApiDestinationArn"]
        self.arns["DestinationRole"] = (
            f"arn:aws:iam::{ACCOUNT['AWS::AccountId']}:role/signals-{number}"
        )

    def _rule(self, name: str, told: Mapping[str, Any]) -> None:
        pattern = json.dumps(told["EventPattern"])
        self.client.put_rule(Name=self.rules[name], EventPattern=pattern)
        self.client.put_targets(Rule=self.rules[name], Targets=self._known(told["Targets"]))

    def _known(self, value: Any) -> Any:
        """Return a value whose references to resources of the stack are their ARNs."""
        if isinstance(value, list):
            return [self._known(each) for each in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Fn::GetAtt"}:
            return self.arns[value["Fn::GetAtt"][0]]
        return {name: self._known(each) for name, each in value.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
