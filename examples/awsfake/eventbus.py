"""EventBridge: moto's buses, rules, connections and API destinations; and what moto lacks: events
that AWS sends by itself, and their delivery: again when it fails, and as badly as it may be.

An event is matched at once and delivered by a thread of its own, for a receiver may ask us in turn.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import urllib.error
import urllib.request
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from moto.core.exceptions import JsonRESTError
from moto.events.models import EventsBackend, Rule, events_backends
from moto.sqs.models import sqs_backends

from .clock import Clock

REFUSED = (
    "PutEvents in the name of AWS, whose sources begin with `aws.`",
    "PutTargets of an API destination without a role, or of what this double lacks: inputs",
    "CreateApiDestination of a connection that does not exist, or by HTTP but on loopback",
)
"""What AWS refuses and so does this; tests/awsfake/test_eventbus.py has a case for each."""

ASSUMED = (
    "how long is waited before an event is sent again: 1, 2, 4, … s, at AWS with chance",
    "the order of what is sent: as it happened, unless it is told to be late",
)
"""What the double does as somebody thought, and not as a document says."""

HTTP_SECONDS = 5.0
"""A receiver that takes longer has not received."""

AGAIN = frozenset({401, 407, 409, 429, *range(500, 600)})
"""Statuses after which an event is sent again; any other failure is final."""

ATTEMPTS, AGE_SECONDS = 185, 86400.0
"""How often and for how long an event is sent again, unless its target's RetryPolicy says."""

LONGEST_PAUSE = 60.0
REMEMBERED = 1_000

KINDS = frozenset({"well", "lost", "late", "doubled"})

_own_put_events = EventsBackend.put_events
_own_put_targets = EventsBackend.put_targets
_own_create = EventsBackend.create_api_destination
_own_send = Rule.send_to_targets

Event = dict[str, Any]


class Failed(Exception):
    """An event was not received. again: whether it is sent once more."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        self.again = again


@dataclass(order=True)
class Delivery:
    """An event on its way to a target. due, born: seconds of the double's clock."""

    due: float
    number: int
    rule: Rule = field(compare=False)
    target: Mapping[str, Any] = field(compare=False)
    event: Event = field(compare=False)
    born: float = field(compare=False)
    tries: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Told:
    """What became of one try. result: `delivered`, `lost`, or why it was not received."""

    id: str
    kind: str
    target: str
    at: float
    result: str


@dataclass
class Mischief:
    """What happens to the next deliveries. times: to so many; None: until told otherwise."""

    kind: str = "well"
    times: int | None = None
    seconds: float = 0.0

    def meet(self) -> str:
        """Return what happens to a delivery."""
        if self.times is not None:
            if self.times <= 0:
                return "well"
            self.times -= 1
        return self.kind


class EventBus:
    """EventBridge of all accounts and regions; its delivery takes the place of moto's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[Delivery] = []
        self._sending = 0
        self._numbers = itertools.count()
        self._mischief = Mischief()
        self._told: deque[Told] = deque(maxlen=REMEMBERED)
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._install()
        threading.Thread(target=self._work, name="eventbus", daemon=True).start()

    def emit(
        self,
        account: str,
        region: str,
        source: str,
        kind: str,
        detail: Mapping[str, Any],
        resources: Sequence[str],
    ) -> None:
        """Send an event of AWS's own to whoever's rule wants it, on the default bus."""
        event: Event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": kind,
            "source": source,
            "account": account,
            "time": self._clock.now(),
            "region": region,
            "resources": list(resources),
            "detail": dict(detail),
        }
        for rule in list(events_backends[account][region].event_buses["default"].rules.values()):
            rule.send_to_targets(event)  # type: ignore[arg-type]

    def wake(self) -> None:
        """Look again what is due: the clock was turned."""
        with self._changed:
            self._changed.notify_all()

    def misbehave(self, kind: str, times: int | None = None, seconds: float = 0.0) -> None:
        """Let deliveries be lost, late by seconds, doubled, or well. Raises ValueError."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is not known; {', '.join(sorted(KINDS))} are.")
        with self._changed:
            self._mischief = Mischief(kind, times, seconds)

    def to_json(self) -> dict[str, Any]:
        """Return what became of deliveries, oldest first; how many are due or being sent; and how
        many wait for their time."""
        with self._changed:
            now = self._clock.now()
            due = sum(each.due <= now for each in self._waiting)
            return {
                "told": [asdict(each) for each in self._told],
                "due": due + self._sending,
                "waiting": len(self._waiting) - due,
            }

    def forget(self) -> None:
        """Begin anew."""
        with self._changed:
            self._waiting.clear()
            self._told.clear()
            self._mischief = Mischief()
        for regions in events_backends.values():
            for backend in regions.values():
                backend.reset()

    # --- in moto's place ---

    def _install(self) -> None:
        bus = self

        def send_to_targets(rule: Rule, original_event: Any, transform_input: bool = True) -> None:
            bus._match(rule, original_event, transform_input)

        def put_events(backend: EventsBackend, events: list[dict[str, Any]]) -> Any:
            return bus._put(backend, events)

        # setattr: what mypy calls a method is where moto looks it up.
        setattr(Rule, "send_to_targets", send_to_targets)  # noqa: B010
        setattr(EventsBackend, "put_events", put_events)  # noqa: B010
        setattr(EventsBackend, "put_targets", _put_targets)  # noqa: B010
        setattr(EventsBackend, "create_api_destination", _create_api_destination)  # noqa: B010

    def _put(self, backend: EventsBackend, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        ours = [str(event.get("Source", "")).startswith("aws.") for event in events]
        timed = [{"Time": self._clock.now(), **event} for event in events]
        passed = iter(
            _own_put_events(backend, [e for e, no in zip(timed, ours, strict=True) if not no])
        )
        return [dict(_NOT_YOURS) if no else next(passed) for no in ours]

    def _match(self, rule: Rule, event: Event, transform_input: bool) -> None:
        if rule.state != "ENABLED" or not rule.event_pattern.matches_event(event):  # type: ignore[arg-type]
            return
        if not all(_is_ours(target["Arn"]) for target in rule.targets):
            _own_send(rule, event, transform_input)  # type: ignore[arg-type]
            return
        for target in rule.targets:
            self._post(rule, target, _as_sent(event))

    def _post(self, rule: Rule, target: Mapping[str, Any], event: Event) -> None:
        with self._changed:
            now, kind = self._clock.now(), self._mischief.meet()
            if kind == "lost":
                self._note(target, event, "lost")
                return
            due = now + self._mischief.seconds if kind == "late" else now
            for _ in range(2 if kind == "doubled" else 1):
                number = next(self._numbers)
                heapq.heappush(self._waiting, Delivery(due, number, rule, target, event, now))
            self._changed.notify_all()

    # --- delivery ---

    def _work(self) -> None:
        while True:
            delivery = self._next()
            try:
                self._deliver(delivery)
            except Failed as failure:
                self._again(delivery, failure)
            else:
                with self._changed:
                    self._note(delivery.target, delivery.event, "delivered")
            with self._changed:
                self._sending = 0

    def _next(self) -> Delivery:
        with self._changed:
            while not (self._waiting and self._waiting[0].due <= self._clock.now()):
                self._changed.wait(self._until())
            self._sending = 1
            return heapq.heappop(self._waiting)

    def _until(self) -> float | None:
        """Return the real seconds until something is due; None: not before the clock is turned."""
        if not self._waiting or not self._clock.scale:
            return None
        return max(0.0, (self._waiting[0].due - self._clock.now()) / self._clock.scale)

    def _again(self, delivery: Delivery, failure: Failed) -> None:
        policy = delivery.target.get("RetryPolicy") or {}
        most = int(policy.get("MaximumRetryAttempts", ATTEMPTS))
        age = float(policy.get("MaximumEventAgeInSeconds", AGE_SECONDS))
        with self._changed:
            self._note(delivery.target, delivery.event, str(failure))
            due = self._clock.now() + min(LONGEST_PAUSE, 2.0**delivery.tries)
            delivery.tries += 1
            if failure.again and delivery.tries <= most and due - delivery.born <= age:
                delivery.due = due
                heapq.heappush(self._waiting, delivery)

    def _deliver(self, delivery: Delivery) -> None:
        arn = delivery.target["Arn"]
        if _service(arn) == "sqs":
            _to_queue(delivery)
        else:
            self._to_destination(delivery)

    def _to_destination(self, delivery: Delivery) -> None:
        backend = events_backends[delivery.rule.account_id][delivery.rule.region_name]
        name = delivery.target["Arn"].split("/")[1]
        destination = backend.destinations.get(name)
        if destination is None:
            raise Failed("there is no such destination", again=False)
        connection = next(
            (c for c in backend.connections.values() if c.arn == destination.connection_arn), None
        )
        if connection is None:
            raise Failed("the connection is gone", again=False)
        key = connection.auth_parameters.get("ApiKeyAuthParameters") or {}
        request = urllib.request.Request(  # noqa: S310 (made sure of as it was created)
            destination.invocation_endpoint,
            json.dumps(delivery.event).encode(),
            {
                "Content-Type": "application/json; charset=utf-8",
                "User-Agent": "Amazon/EventBridge/ApiDestinations",
                **({key["ApiKeyName"]: key["ApiKeyValue"]} if key else {}),
            },
            method=destination.http_method,
        )
        try:
            with self._http.open(request, timeout=HTTP_SECONDS) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise Failed(f"status {error.code}", again=error.code in AGAIN) from None
        except OSError as error:
            raise Failed(f"no answer: {type(error).__name__}", again=True) from None

    def _note(self, target: Mapping[str, Any], event: Event, result: str) -> None:
        at = self._clock.now()
        self._told.append(Told(event["id"], event["detail-type"], target["Arn"], at, result))


_NOT_YOURS = {
    "ErrorCode": "NotAuthorizedForSourceException",
    "ErrorMessage": "Not authorized for the source.",
}


def _put_targets(
    self: EventsBackend, name: str, event_bus_arn: str | None, targets: list[dict[str, Any]]
) -> None:
    for target in targets:
        if "api-destination/" in target["Arn"] and not target.get("RoleArn"):
            raise _invalid(f"RoleArn is required for target {target['Arn']}.")
        if {"Input", "InputPath", "InputTransformer"} & set(target):
            raise _invalid("This double sends events as they are.")
    _own_put_targets(self, name, event_bus_arn, targets)


def _create_api_destination(
    self: EventsBackend,
    name: str,
    description: str,
    connection_arn: str,
    invocation_endpoint: str,
    *more: Any,
) -> dict[str, Any]:
    if not any(each.arn == connection_arn for each in self.connections.values()):
        raise JsonRESTError("ResourceNotFoundException", "Connection does not exist.")
    url = urlsplit(invocation_endpoint)
    # AWS knows HTTPS alone. Here nothing leaves the machine.
    if url.scheme != "https" and url.hostname not in {"127.0.0.1", "localhost"}:
        raise _invalid("InvocationEndpoint has to begin with https://.")
    return _own_create(self, name, description, connection_arn, invocation_endpoint, *more)


def _invalid(message: str) -> JsonRESTError:
    return JsonRESTError("ValidationException", message)


def _to_queue(delivery: Delivery) -> None:
    account, region = delivery.rule.account_id, delivery.rule.region_name
    name = delivery.target["Arn"].rpartition(":")[2]
    queue = sqs_backends[account][region].queues.get(name)
    if queue is None:
        raise Failed("there is no such queue", again=False)
    policy = json.loads(queue.policy) if isinstance(queue.policy, str) else queue.policy or {}
    if not any(_lets_in(each, delivery.rule.arn) for each in policy.get("Statement", [])):
        raise Failed("the queue lets EventBridge not in", again=False)
    sqs_backends[account][region].send_message(name, json.dumps(delivery.event))


def _lets_in(statement: Mapping[str, Any], rule: str) -> bool:
    """Tell whether a queue's policy lets events of a rule in; of conditions only the one on
    aws:SourceArn counts, for what comes is always by TLS and of this account."""
    principal = statement.get("Principal")
    services = principal.get("Service") if isinstance(principal, dict) else principal
    if statement["Effect"] != "Allow" or "events.amazonaws.com" not in _all(services):
        return False
    if not {"sqs:SendMessage", "sqs:*"} & set(_all(statement["Action"])):
        return False
    wanted = statement.get("Condition", {}).get("ArnEquals", {}).get("aws:SourceArn")
    return wanted is None or rule in _all(wanted)


def _all(one_or_more: Any) -> list[Any]:
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def _is_ours(arn: str) -> bool:
    return _service(arn) == "sqs" or "api-destination/" in arn


def _service(arn: str) -> str:
    return arn.split(":")[2]


def _as_sent(event: Event) -> Event:
    """Return an event with its time as it is sent, in whole seconds."""
    at = datetime.fromtimestamp(float(event["time"]), UTC)
    sent = {**event, "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    sent.pop("ingestion-time", None)
    return sent
