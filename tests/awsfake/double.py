"""A handle on the AWS double: its process, its clients, what it is told.

with double() as aws:               a process; takes about a second and a half, so share it
    aws.reset()
    scene = aws.scene()
    aws.fault("ModifyRule", "applied", seconds=6)
    aws.turn(T0 + 300)
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import boto3

from examples.awsfake import scene
from examples.awsfake.scene import REGION, Scene
from flagserver.aws import Aws
from flagserver.processes import Child, Process
from tests.servers import free_ports, wait_until

T0 = 1_795_435_200.0
"""Unix seconds at which a double's clock stands until it is turned: a whole minute."""


class Double:
    """A double that runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: Any = None
        self._aws: Aws | None = None

    def environment(self) -> Mapping[str, str]:
        """What leads boto3 to the double, as in production."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "double",
            "AWS_SECRET_ACCESS_KEY": "double",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def aws(self, **told: Any) -> Aws:
        """Our own way to AWS, as an environment with `environment` makes it, without sparing reads.

        One for all who want nothing else, for clients take a while to make. Whoever is throttled
        wants one of their own (`aws.aws(reads_at_once=20)`): it remembers that.
        """
        if self._session is None:
            self._session = boto3.session.Session()
        if not told and self._aws is not None:
            return self._aws
        made = Aws(
            **{
                "session": self._session,
                "reads_per_second": 1e6,
                "reads_at_once": 1e6,
                **told,
            }
        )
        if not told:
            self._aws = made
        return made

    def client(self, service: str) -> Any:
        return scene.client(service, self.url)

    def scene(self, name: str = "shop") -> Scene:
        return scene.build(self.url, name)

    def reset(self) -> None:
        """Begin anew, the clock at T0 and standing."""
        self.tell("reset")
        self.turn(T0)

    def turn(self, now: float) -> None:
        self.tell("clock", now=now, scale=0)

    def fault(self, operation: str, kind: str, **told: Any) -> None:
        self.tell("faults", operation=operation, kind=kind, **told)

    def well(self) -> None:
        self.tell("faults/clear")

    def calls(self, *operations: str) -> list[str]:
        """The operations that were called since the last `forget_calls`, or those of these."""
        made = [call["operation"] for call in self.ask("calls")]
        return [each for each in made if not operations or each in operations]

    def forget_calls(self) -> None:
        self.tell("calls/clear")

    def weights(self, arn: str) -> Mapping[str, int]:
        """As the control plane has them now, whatever a reading shows."""
        found: Mapping[str, int] = self.ask(f"weights?arn={arn}")["weights"]
        return found

    def unhealthy(self, group: str, target: str = "10.0.0.1", state: str = "unhealthy") -> None:
        self.tell("health", group=group, target=target, state=state)

    def publish(
        self,
        scene: Scene,
        group: str,
        at: float,
        *,
        requests: int = 0,
        failed: int = 0,
        seconds: Sequence[float] = (),
    ) -> None:
        """Publish a minute of a target group that begins `at`, as a load balancer does: nothing
        at all without requests, failures only where there are any."""
        where = [
            {"Name": "TargetGroup", "Value": group.rpartition(":")[2]},
            {"Name": "LoadBalancer", "Value": scene.dimension},
        ]
        data: list[dict[str, Any]] = []
        if requests:
            data.append({"MetricName": "RequestCount", "Value": requests})
        if failed:
            data.append({"MetricName": "HTTPCode_Target_5XX_Count", "Value": failed})
        if seconds:
            data.append({"MetricName": "TargetResponseTime", "Values": list(seconds)})
        told = [{**datum, "Dimensions": where, "Timestamp": at} for datum in data]
        self.tell("metrics", namespace="AWS/ApplicationELB", region=REGION, data=told)

    def tell(self, what: str, **told: Any) -> None:
        self.ask(what, told)

    def ask(self, what: str, told: Mapping[str, Any] | None = None) -> Any:
        body = None if told is None else json.dumps(told).encode()
        request = urllib.request.Request(f"{self.url}/double/{what}", body)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None


@contextmanager
def environment_of(aws: Double) -> Iterator[None]:
    """Lead boto3 to a double."""
    before = {name: os.environ.get(name) for name in aws.environment()}
    os.environ.update(aws.environment())
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def double(scale: float = 0.0) -> Iterator[Double]:
    """Run a double in a process of its own."""
    (port,) = free_ports(1)
    command = (
        *(sys.executable, "-m", "examples.awsfake", "--port", str(port)),
        *("--now", str(T0), "--scale", str(scale)),
    )
    process = Process(Child("awsfake", command), lambda _: None)
    try:
        wait_until(lambda: _ready(process), "the AWS double to answer", seconds=40)
        yield Double(f"http://127.0.0.1:{port}")
    finally:
        process.stop(2)


def _ready(process: Process) -> bool:
    assert not process.ended(), "\n".join(process.lines)
    return "ready" in process.lines
