"""The stand-in load balancer splits by what it reads, late or never when told so."""

from __future__ import annotations

import json
import random
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from examples.awsfake.balancer import Balancer
from examples.awsfake.scene import Scene
from flagserver.processes import Child, Process
from tests import loops
from tests.awsfake.double import T0, Double, double
from tests.servers import free_ports, wait_until

HALF = {"blue": 1, "green": 1}
ALL = {"blue": 1, "green": 0}


def a_balancer(**told: Any) -> Balancer:
    return Balancer({}, draw=random.Random(1), **told)


# --- weights --------------------------------------------------------------------------------------


def test_weights_come_into_force_at_once():
    balancer = a_balancer()
    balancer.told(ALL, 0.0)
    balancer.told(HALF, 1.0)
    assert balancer.weights == HALF


def test_weights_come_into_force_late_and_in_order():
    balancer = a_balancer(delay=2.0)
    balancer.told(ALL, 0.0)
    balancer.told(HALF, 1.0)
    balancer.told({"blue": 3, "green": 1}, 2.0)
    assert balancer.weights == ALL
    balancer.told({"blue": 3, "green": 1}, 3.0)
    assert balancer.weights == HALF
    balancer.told({"blue": 3, "green": 1}, 4.5)
    assert balancer.weights == {"blue": 3, "green": 1}


def test_a_lost_change_never_comes_and_the_next_does():
    balancer = a_balancer(lose=1)
    balancer.told(ALL, 0.0)
    for now in (1.0, 2.0, 3.0):
        balancer.told(HALF, now)
    assert balancer.weights == ALL
    balancer.told({"blue": 3, "green": 1}, 4.0)
    assert balancer.weights == {"blue": 3, "green": 1}


@pytest.mark.parametrize(("green", "blue"), [(1, 19), (1, 3), (1, 1), (0, 1), (1, 0)])
def test_lots_follow_the_weights(green, blue):
    balancer = a_balancer()
    balancer.told({"blue": blue, "green": green}, 0.0)
    many = 20_000
    drawn = sum(balancer.choose() == "green" for _ in range(many))
    share = green / (green + blue)
    assert abs(drawn - many * share) <= 4 * (many * share * (1 - share)) ** 0.5


def test_without_any_weight_nobody_is_drawn():
    balancer = a_balancer()
    balancer.told({"blue": 0}, 0.0)
    assert balancer.choose() is None


def test_metrics_are_as_a_load_balancer_publishes_them():
    balancer = a_balancer()
    group = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/green/2"
    for status in (200, 200, 500):
        balancer.count(group, status, 0.25)
    told = {each["MetricName"]: each for each in balancer.metrics("app/shop/1", T0)}
    assert told["RequestCount"]["Value"] == 3
    assert told["HTTPCode_Target_5XX_Count"]["Value"] == 1
    assert told["TargetResponseTime"]["Values"] == [0.25]
    assert told["TargetResponseTime"]["Counts"] == [3]
    assert told["RequestCount"]["Dimensions"] == [
        {"Name": "TargetGroup", "Value": "targetgroup/green/2"},
        {"Name": "LoadBalancer", "Value": "app/shop/1"},
    ]
    assert balancer.metrics("app/shop/1", T0) == []
    balancer.count(group, 200, 0.25)
    assert {each["MetricName"] for each in balancer.metrics("app/shop/1", T0)} == {
        "RequestCount",
        "TargetResponseTime",
    }


# --- between real processes -----------------------------------------------------------------------


class Shop(BaseHTTPRequestHandler):
    """Says which side it is; the green side fails where it is asked to."""

    side = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 500 if body == b"fail" and self.side == "green" else 200
        self.send_response(status)
        self.end_headers()
        self.wfile.write(self.side.encode() + b" " + body)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def shop(side: str) -> Iterator[int]:
    handler = type(side, (Shop,), {"side": side})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class House:
    """Two shops behind a balancer that obeys a double."""

    def __init__(self, aws: Double, scene: Scene, port: int) -> None:
        self.aws = aws
        self.scene = scene
        self.url = f"http://127.0.0.1:{port}"
        self.elb = aws.client("elbv2")

    def share(self, blue: int, green: int) -> None:
        groups = [(self.scene.blue, blue), (self.scene.green, green)]
        tuples = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in groups]
        actions = [{"Type": "forward", "ForwardConfig": {"TargetGroups": tuples}}]
        self.elb.modify_rule(RuleArn=self.scene.rule, Actions=actions)
        wanted = {self.scene.blue: blue, self.scene.green: green}
        wait_until(lambda: self.state()["weights"] == wanted, "the balancer to obey")

    def buy(self, body: bytes = b"tea") -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"{self.url}/buy", body, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def state(self) -> Any:
        with urllib.request.urlopen(f"{self.url}/.balancer", timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with double() as aws, shop("blue") as blue, shop("green") as green:
        aws.reset()
        scene = aws.scene()
        (port,) = free_ports(1)
        command = (
            *(sys.executable, "-m", "examples.awsfake.balancer", "--port", str(port)),
            *("--double", aws.url, "--rule", scene.rule, "--seed", "7", "--publish", "0.2"),
            *("--backend", f"{scene.blue}=127.0.0.1:{blue}"),
            *("--backend", f"{scene.green}=127.0.0.1:{green}"),
        )
        process = Process(Child("balancer", command), lambda _: None)
        try:
            wait_until(lambda: "ready" in process.lines, "the balancer")
            yield House(aws, scene, port)
        finally:
            process.stop(2)


def test_real_requests_are_split_by_the_weights_of_the_rule(house):
    house.share(1, 0)
    assert {house.buy() for _ in range(10)} == {(200, b"blue tea")}
    house.share(3, 1)
    answers = [house.buy()[1] for _ in range(400)]
    assert 65 <= answers.count(b"green tea") <= 135  # 100 +- 4 sigma
    house.share(0, 1)
    assert {house.buy() for _ in range(10)} == {(200, b"green tea")}


def test_what_happened_reaches_cloudwatch(house):
    house.share(0, 1)
    assert [house.buy(b"fail")[0] for _ in range(5)] == [500] * 5
    dimensions = [
        {"Name": "TargetGroup", "Value": house.scene.green.rpartition(":")[2]},
        {"Name": "LoadBalancer", "Value": house.scene.dimension},
    ]
    metric = {
        "Namespace": "AWS/ApplicationELB",
        "MetricName": "HTTPCode_Target_5XX_Count",
        "Dimensions": dimensions,
    }
    query = {"Id": "m", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}}

    def failed() -> float:
        told = house.aws.client("cloudwatch").get_metric_data(
            MetricDataQueries=[query], StartTime=T0 - 60, EndTime=T0 + 60
        )
        return sum(told["MetricDataResults"][0]["Values"])

    wait_until(lambda: failed() == 5, "five failures at CloudWatch")


def test_a_backend_that_is_away_is_a_bad_gateway():
    balancer = Balancer({"green": ("127.0.0.1", 1)})
    balancer.told({"green": 1}, 0.0)

    answer = loops.run(balancer._answer(b"GET / HTTP/1.1\r\n\r\n", b""))
    assert b" 502 " in answer
    assert balancer.state()["failed"] == {"green": 1}
