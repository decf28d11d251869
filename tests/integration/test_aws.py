"""The one way to AWS: what is tried again and what not, how long, how often."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from flagserver.aws import (
    Allowance,
    Arn,
    Aws,
    AwsNotSent,
    AwsNotSet,
    AwsRefused,
    AwsThrottled,
    AwsUnknown,
)
from tests.awsfake.double import Double, double, environment_of

RULE = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener-rule/app/shop/1/2/3"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@pytest.fixture
def fake(running: Double) -> Double:
    running.reset()
    return running


@pytest.fixture
def aws(fake: Double) -> Aws:
    return fake.aws(reads_at_once=100)


def test_region_and_account_are_those_of_the_environment(fake, aws):
    assert aws.region == "eu-west-1"
    assert aws.account() == "123456789012"
    fake.forget_calls()
    assert aws.account() == "123456789012"
    assert fake.calls() == []


@pytest.mark.parametrize("kind", ["throttle", "fail", "cut"])
def test_a_read_is_tried_again(fake, aws, kind):
    fake.fault("DescribeLoadBalancers", kind)
    assert aws.read("elbv2", "describe_load_balancers")["LoadBalancers"] == []
    assert len(fake.calls("DescribeLoadBalancers")) == 2


@pytest.mark.parametrize(
    ("kind", "error"), [("throttle", AwsThrottled), ("fail", AwsUnknown), ("cut", AwsUnknown)]
)
def test_what_changes_anything_is_tried_once(fake, aws, kind, error):
    fake.fault("ModifyRule", kind, times=3)
    with pytest.raises(error):
        aws.write("elbv2", "modify_rule", RuleArn=RULE, Actions=[])
    assert len(fake.calls("ModifyRule")) == 1


class Keeper(BaseHTTPRequestHandler):
    """What gives an ECS task its credentials: they end soon, and the next ones take a while."""

    asked = 0
    seconds = 0.0

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.asked > 1:
            time.sleep(self.seconds)
        soon = datetime.now(UTC) + timedelta(seconds=60)
        told = {"AccessKeyId": "double", "SecretAccessKey": "double", "Token": "double"}
        body = json.dumps({**told, "Expiration": f"{soon:%Y-%m-%dT%H:%M:%SZ}"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Keeper]]:
    handler = type("Keeper", (Keeper,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        yield handler
        server.shutdown()


def test_what_was_allowed_when_it_was_asked_for_and_is_not_when_it_is_sent_is_not_sent(
    fake, keeper
):
    keeper.seconds = 0.8
    aws = Aws(session=boto3.session.Session())
    deadline = time.monotonic() + 0.5
    asked: list[bool] = []

    def may() -> bool:
        asked.append(time.monotonic() < deadline)
        return asked[-1]

    with pytest.raises(AwsNotSent, match="nothing was written"):
        aws.write("elbv2", "modify_rule", None, may, RuleArn=RULE, Actions=[])
    assert asked == [False]
    assert keeper.asked > 1
    assert fake.calls("ModifyRule") == []
    # The same, with time left, does leave.
    deadline = time.monotonic() + 60
    with pytest.raises(AwsRefused):
        aws.write("elbv2", "modify_rule", None, may, RuleArn=RULE, Actions=[])
    assert fake.calls("ModifyRule") == ["ModifyRule"]


def test_a_refusal_has_the_code_of_aws(aws):
    with pytest.raises(AwsRefused) as refused:
        aws.read("elbv2", "describe_rules", RuleArns=[RULE])
    assert refused.value.code == "RuleNotFound"
    assert not refused.value.forbidden
    assert AwsRefused("", "AccessDeniedException").forbidden


@pytest.mark.parametrize("operation", ["read", "write"])
def test_no_call_takes_longer_than_five_seconds(fake, aws, operation):
    fake.fault("DescribeRules", "hang", times=3, seconds=6)
    began = time.monotonic()
    with pytest.raises(AwsUnknown):
        getattr(aws, operation)("elbv2", "describe_rules", RuleArns=[RULE])
    assert time.monotonic() - began < 5.5
    fake.well()


def test_a_read_is_no_door_for_what_changes_things(aws):
    with pytest.raises(ValueError, match="modify_rule"):
        aws.read("elbv2", "modify_rule", RuleArn=RULE)


def test_a_call_that_makes_no_sense_is_not_made(fake, aws):
    with pytest.raises(AwsUnknown, match="RuleArn"):
        aws.write("elbv2", "modify_rule", Actions=[])
    assert fake.calls() == []


def test_too_many_reads_wait_or_are_left_out(fake):
    waited: list[float] = []
    aws = fake.aws(
        reads_per_second=10.0, reads_at_once=2.0, monotonic=lambda: 0.0, sleep=waited.append
    )
    for _ in range(5):
        aws.read("sts", "get_caller_identity")
    assert waited == pytest.approx([0.1, 0.2, 0.3])
    for _ in range(12):
        aws.read("sts", "get_caller_identity")
    # The next one's turn would come too late for it to be done within five seconds.
    with pytest.raises(AwsThrottled, match="left out"):
        aws.read("sts", "get_caller_identity")
    assert len(fake.calls("GetCallerIdentity")) == 17


def test_one_service_does_not_use_up_anothers_allowance(fake):
    aws = fake.aws(reads_per_second=0.001, reads_at_once=1.0)
    aws.read("sts", "get_caller_identity")
    with pytest.raises(AwsThrottled):
        aws.read("sts", "get_caller_identity")
    aws.read("elbv2", "describe_load_balancers")
    aws.read("elbv2", "describe_load_balancers", "eu-north-1")


def test_an_allowance_shrinks_after_throttling_and_comes_back():
    allowance = Allowance(8.0, 20.0, 0.0)
    assert [allowance.take(0.0) for _ in range(20)] == [0.0] * 20
    assert allowance.take(0.0) == pytest.approx(1 / 8)
    for _ in range(10):
        allowance.less()
    assert allowance.rate == 0.5
    for _ in range(100):
        allowance.more()
    assert allowance.rate == 8.0
    assert allowance.take(1000.0) == 0.0
    assert allowance.left == 19.0


def test_pages_are_followed_to_the_end(fake, aws):
    for number in range(3):
        fake.client("codedeploy").create_application(applicationName=f"a{number}")
    found = aws.pages("codedeploy", "list_applications", items="applications")
    assert found == ["a0", "a1", "a2"]


def test_a_listing_without_end_is_given_up(aws, monkeypatch):
    monkeypatch.setattr(aws, "read", lambda *_, **__: {"x": [1], "nextToken": "again"})
    with pytest.raises(AwsUnknown, match="50 pages"):
        aws.pages("codedeploy", "list_applications", items="x")


def test_every_call_can_be_watched(fake):
    seen = []

    @contextmanager
    def watch(service: str, operation: str) -> Iterator[None]:
        seen.append((service, operation))
        yield

    aws = fake.aws(watch=watch)
    aws.read("elbv2", "describe_load_balancers")
    with pytest.raises(AwsRefused):
        aws.write("elbv2", "delete_listener", ListenerArn=RULE)
    assert seen == [("elbv2", "describe_load_balancers"), ("elbv2", "delete_listener")]


def test_without_region_or_credentials_it_is_said(monkeypatch, tmp_path):
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws = Aws(session=boto3.session.Session())
    assert aws.region is None
    with pytest.raises(AwsNotSet, match="region"):
        aws.read("elbv2", "describe_load_balancers")
    with pytest.raises(AwsNotSet, match="credentials"):
        aws.read("elbv2", "describe_load_balancers", "eu-west-1")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(AwsNotSet, match="nobody"):
        Aws().read("elbv2", "describe_load_balancers", "eu-west-1")


@pytest.mark.parametrize(
    "text", ["", "shop", "arn:aws:s3:::bucket", "arn:aws:elb:eu:1:kind", "urn:a:b:c:d:e/f"]
)
def test_what_is_no_arn(text):
    with pytest.raises(ValueError, match="no ARN"):
        Arn.parse(text)


def test_the_parts_of_an_arn():
    arn = Arn.parse(RULE)
    assert (arn.region, arn.account, arn.kind) == ("eu-west-1", "123456789012", "listener-rule")
    assert arn.path == "app/shop/1/2/3"
    assert arn.of("listener", "app/shop/1/2").endswith(":123456789012:listener/app/shop/1/2")
