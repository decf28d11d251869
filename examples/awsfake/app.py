"""The double as a WSGI application: faults, then moto; and a way to tell it things, at /double/.

GET  /double/clock                          {"now": unix seconds, "scale": 1.0}
POST /double/clock      {"now", "scale"} or {"advance": seconds}
POST /double/faults     {"operation", "kind", "times", "after", "seconds"}, see `faults`
POST /double/faults/clear
GET  /double/calls                          [{"at", "service", "operation", "fault"}, …]
POST /double/calls/clear
GET  /double/health?group=<ARN>             {"state": "healthy"} of its one target
GET  /double/weights?arn=<rule or listener> {"weights": {<target group>: 5, …}}
POST /double/health     {"group", "target", "state", "reason"}
POST /double/metrics    {"namespace", "data": [<as PutMetricData has it, Timestamp in unix s>]}
POST /double/codedeploy {"deployment", "region", "status", "task_sets", "events": {name: status}}
POST /double/codedeploy/times {"application", "group", "region", "install", "back", "bake"}
GET  /double/events     {"told": [{"id", "kind", "target", "at", "result"}, …], "due", "waiting"}
POST /double/events     {"kind": well, lost, late or doubled, "times", "seconds"}, see `eventbus`
GET  /double/hooks      [{"function", "event", "at", "payload": {"DeploymentId", …}}, …]
POST /double/ecs        {"deployment", …in ECS's own words}
POST /double/reset
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs

from moto.backends import get_backend
from moto.ecs.models import ecs_backends
from moto.elbv2.models import elbv2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from . import deployments, elbv2, s3
from .clock import Clock
from .cloudwatch import LOOK_SECONDS, CloudWatch
from .codedeploy.service import CodeDeploy
from .eventbus import EventBus
from .faults import Fault, Faults
from .scene import TARGET
from .world import World

ACCOUNT = "123456789012"
"""Whose everything is: moto's own."""

SERVICES = (
    *("elbv2", "cloudwatch", "codedeploy", "ecs", "ec2", "sts", "acm", "iam"),
    *("sqs", "events", "secretsmanager", "appmesh", "s3"),
)
"""What is there to be used; the rest of moto would need more packages."""

CALLS = 10_000
"""How many calls are remembered."""

WITH_A_CLOCK = ("moto.elbv2.models", "moto.codedeploy.models", "moto.ecs.models")

Environ = dict[str, Any]
Start = Callable[..., Any]
Answer = Iterable[bytes]


class Double:
    """One AWS, one account, any region."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.faults = Faults()
        self.calls: deque[dict[str, Any]] = deque(maxlen=CALLS)
        self.events = EventBus(clock)
        self.cloudwatch = CloudWatch(clock, self.events.emit)
        self.codedeploy = CodeDeploy(
            lambda account: World(clock, self.cloudwatch, self.events.emit, account)
        )
        elbv2.install()
        deployments.install()
        s3.install()
        _turn(clock)
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: Environ, start: Start) -> Answer:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if path.startswith("/double/"):
            return self._told(path.removeprefix("/double/"), environ, start)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        service, region, operation = which(environ, body)
        fault = self.faults.meet(operation)
        self.calls.append(
            {
                "at": self.clock.now(),
                "service": service,
                "operation": operation,
                "fault": fault and fault.kind,
            }
        )
        environ["wsgi.input"] = BytesIO(body)
        self.codedeploy.look()
        if fault is None:
            return self._real(environ, start)
        return self._faulty(fault, Call(environ, body, service, region), start)

    def _real(self, environ: Environ, start: Start) -> Answer:
        answer: Answer = self._moto(environ, start)
        return answer

    def _faulty(self, fault: Fault, call: Call, start: Start) -> Answer:
        match fault.kind:
            case "throttle":
                return _refuse(call, start, 400, "Throttling", "Rate exceeded")
            case "deny":
                return _refuse(call, start, 403, "AccessDenied", "You may not.")
            case "fail":
                return _refuse(call, start, 503, "ServiceUnavailable", "It is not there for now.")
            case "slow":
                time.sleep(fault.seconds)
                return self._real(call.environ, start)
            case "stale" | "lost":
                return self._unlike(fault, call, start)
        if fault.kind == "late":
            time.sleep(fault.seconds)
        if fault.kind in {"applied", "late", "cut"}:
            list(self._real(call.environ, _nobody))
        if fault.kind in {"applied", "hang"}:
            time.sleep(fault.seconds)
        raise CutOff

    def _unlike(self, fault: Fault, call: Call, start: Start) -> Answer:
        with elbv2.showing_the_past() if fault.kind == "stale" else nullcontext():
            answer = list(self._real(call.environ, start))
        if fault.kind == "lost":
            elbv2.lose(call.arn, ACCOUNT, call.region)
        return answer

    # --- told things ---

    def _told(self, what: str, environ: Environ, start: Start) -> Answer:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.codedeploy.look()
        try:
            told = json.loads(body) if body else {}
            asked = {
                key: values[0] for key, values in parse_qs(environ.get("QUERY_STRING", "")).items()
            }
            answer = self._do(environ["REQUEST_METHOD"], what, {**asked, **told})
        except (KeyError, TypeError, ValueError) as error:
            return _send(start, "400 Bad Request", {"error": repr(error)})
        return _send(start, "200 OK", answer)

    def _do(self, method: str, what: str, told: Mapping[str, Any]) -> Any:
        match method, what:
            case "GET", "clock":
                return {"now": self.clock.now(), "scale": self.clock.scale}
            case "GET", "calls":
                return list(self.calls)
            case "GET", "events":
                return self.events.to_json()
            case "GET", "hooks":
                return self.codedeploy.hooks(ACCOUNT)
            case "GET", "health":
                return {"state": elbv2.said_health(told["group"], told.get("target", TARGET))}
            case "GET", "weights":
                return {"weights": elbv2.weights(told["arn"], ACCOUNT)}
            case "POST", _:
                self._acts()[what](**told)
                return {}
            case _:
                raise ValueError(f"{method} {what} is not known.")

    def _acts(self) -> Mapping[str, Callable[..., None]]:
        return {
            "clock": self._set_clock,
            "faults": lambda **told: self.faults.add(Fault.of(told)),
            "faults/clear": self.faults.clear,
            "calls/clear": self.calls.clear,
            "health": lambda group, target, state, reason=None: elbv2.say_health(
                group, target, state, reason
            ),
            "metrics": self._publish,
            "codedeploy": lambda **told: self.codedeploy.say(ACCOUNT, **told),
            "codedeploy/times": lambda application, group, region, **times: self.codedeploy.take(
                ACCOUNT, region, application, group, times
            ),
            "events": self.events.misbehave,
            "ecs": lambda deployment, **told: deployments.say_ecs(deployment, told),
            "reset": self._reset,
        }

    def _set_clock(
        self, now: float | None = None, scale: float | None = None, advance: float = 0.0
    ) -> None:
        until = (self.clock.now() if now is None else now) + advance
        while (moment := self._next_moment(until)) < until:
            self.clock.set(moment, scale)
            self._look()
        self.clock.set(until, scale)
        self._look()
        self.events.wake()

    def _next_moment(self, until: float) -> float:
        """Return when something happens next: while a deployment runs, whatever CodeDeploy is due
        to do, and every whole minute, at which alarms are looked at."""
        due, now = self.codedeploy.due(), self.clock.now()
        if due is None:
            return until
        return min(until, max(now, due), now - now % LOOK_SECONDS + LOOK_SECONDS)

    def _look(self) -> None:
        self.cloudwatch.look()
        self.codedeploy.look()

    def _publish(self, namespace: str, region: str, data: list[dict[str, Any]]) -> None:
        for datum in data:
            self.cloudwatch.of(ACCOUNT, region).publish(namespace, datum)

    def _reset(self) -> None:
        # Not EC2, whose networks are all alike and take long to make.
        for backends in (elbv2_backends, ecs_backends):
            for regions in backends.values():
                for backend in regions.values():
                    backend.reset()
        self.cloudwatch.forget()
        self.codedeploy.forget()
        self.events.forget()
        elbv2.forget()
        deployments.forget()
        s3.forget()
        self.faults.clear()
        self.calls.clear()


class CutOff(Exception):
    """The line is to be cut without an answer; the server sees to it."""


class Call:
    """A call of an operation: what it says, to whom."""

    def __init__(self, environ: Environ, body: bytes, service: str, region: str) -> None:
        self.environ = environ
        self.body = body
        self.service = service
        self.region = region

    @property
    def is_json(self) -> bool:
        """Tell whether it is of a protocol of JSON, and not of forms and XML."""
        return "json" in self.environ.get("CONTENT_TYPE", "")

    @property
    def arn(self) -> str:
        """The rule or listener that it is about."""
        form = parse_qs(self.body.decode())
        return (form.get("RuleArn") or form["ListenerArn"])[0]


def which(environ: Environ, body: bytes) -> tuple[str, str, str]:
    """Return service, region and operation of a request."""
    # AWS4-HMAC-SHA256 Credential=<key>/<day>/<region>/<service>/aws4_request, …
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split(",")[0]
    parts = scope.split("/")
    service, region = (parts[3], parts[2]) if len(parts) == 5 else ("", "")
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target:
        return service, region, target.rpartition(".")[2]
    if service == "s3":
        told = (environ.get(name, "") for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING"))
        return service, region, s3.operation(*told)
    form = parse_qs(body.decode(errors="replace"))
    return service, region, form.get("Action", [""])[0]


def _refuse(call: Call, start: Start, status: int, code: str, message: str) -> Answer:
    if call.is_json:
        name = {"Throttling": "ThrottlingException", "AccessDenied": "AccessDeniedException"}.get(
            code, code
        )
        told = json.dumps({"__type": name, "message": message}).encode()
        kind = "application/x-amz-json-1.1"
    else:
        told = (
            "<ErrorResponse><Error><Type>Sender</Type>"
            f"<Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        ).encode()
        kind = "text/xml"
    start(f"{status} No", [("Content-Type", kind), ("Content-Length", str(len(told)))])
    return [told]


def _send(start: Start, status: str, answer: Any) -> Answer:
    body = json.dumps(answer).encode()
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _nobody(*_: Any) -> Callable[[bytes], None]:
    return lambda _: None


def _turn(clock: Clock) -> None:
    """Let moto's services have our time."""
    for service in SERVICES:
        get_backend(service)  # type: ignore[call-overload]  # imported before the first request
    for name in WITH_A_CLOCK:
        if hasattr(sys.modules[name], "utcnow"):
            setattr(sys.modules[name], "utcnow", clock.utcnow)  # noqa: B010 (a module is no class)
