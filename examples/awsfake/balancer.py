"""A load balancer that obeys the AWS double: it splits requests by the weights of a rule there.

    python -m examples.awsfake.balancer --port 8403 --double http://127.0.0.1:8402 --rule <ARN>
        --backend <target group>=127.0.0.1:8404 --backend <target group>=127.0.0.1:8405

For each request it draws lots by the weights, so shares are shares of chance, as at AWS. It reads
the weights ten times a second, and tells the double, as CloudWatch's metrics, how each group did.

    --delay SECONDS   weights take so long to come into force
    --lose N          the next N changes of weights never do
    --publish SECONDS how often metrics are told (of the machine's time)
    --seed N          the same lots every time

    GET  /.balancer   {"weights", "requests": {group: n}, "failed": {group: n}, "changes"}
    POST /.balancer   {"delay", "lose"}

Each connection of a client carries one request, and so does each to a backend: simple, and no
client sticks to a group by a connection that it keeps.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

READ_SECONDS = 0.1
HEAD_LIMIT = 65_536
WAIT_SECONDS = 30.0
"""How long a client or a backend may take."""

SAMPLES = 10_000
"""Most response times of one group between two publications; of more, the first are kept."""

Address = tuple[str, int]
Weights = Mapping[str, int]


@dataclass(slots=True)
class Counts:
    """How one group did since the last publication."""

    requests: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.requests += 1
        self.failed += status >= 500
        if len(self.seconds) < SAMPLES:
            self.seconds.append(round(seconds, 4))


class Balancer:
    """It keeps weights, draws lots, carries requests, and counts."""

    def __init__(
        self,
        backends: Mapping[str, Address],
        *,
        delay: float = 0.0,
        lose: int = 0,
        draw: random.Random | None = None,
    ) -> None:
        self._backends = dict(backends)
        self._draw = draw or random.Random()
        self.delay = delay
        self.lose = lose
        self.weights: Weights = {}
        self._seen: Weights = {}
        self._coming: deque[tuple[float, Weights]] = deque()
        self._counts: dict[str, Counts] = {}
        self._requests: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._changes = 0

    # --- weights ---

    def told(self, weights: Weights, now: float) -> None:
        """Hear what the weights are, at a time; what is not new is nothing."""
        if weights != self._seen:
            self._seen = dict(weights)
            if not self.weights:
                self.weights = self._seen
            elif self.lose > 0:
                self.lose -= 1
            else:
                self._coming.append((now + self.delay, self._seen))
        while self._coming and self._coming[0][0] <= now:
            _, self.weights = self._coming.popleft()
            self._changes += 1

    def choose(self) -> str | None:
        """Draw the group of one request; None when no group may have one."""
        groups = [arn for arn, weight in self.weights.items() if weight > 0]
        if not groups:
            return None
        return self._draw.choices(groups, [self.weights[arn] for arn in groups])[0]

    # --- what happened ---

    def count(self, group: str, status: int, seconds: float) -> None:
        """Count one answer of a group."""
        self._counts.setdefault(group, Counts()).add(status, seconds)
        self._requests[group] += 1
        self._failed[group] += status >= 500

    def state(self) -> dict[str, Any]:
        """Return how it stands."""
        return {
            "weights": dict(self.weights),
            "requests": dict(self._requests),
            "failed": dict(self._failed),
            "changes": self._changes,
            "delay": self.delay,
            "lose": self.lose,
        }

    def metrics(self, balancer: str, at: float) -> list[dict[str, Any]]:
        """Return, and forget, what CloudWatch is to be told: nothing of a group without requests,
        and no failures where there are none."""
        data: list[dict[str, Any]] = []
        counts, self._counts = self._counts, {}
        for group, each in counts.items():
            where = [
                {"Name": "TargetGroup", "Value": group.rpartition(":")[2]},
                {"Name": "LoadBalancer", "Value": balancer},
            ]
            told: dict[str, Any] = {"RequestCount": {"Value": each.requests}}
            if each.failed:
                told["HTTPCode_Target_5XX_Count"] = {"Value": each.failed}
            if each.seconds:
                times = Counter(each.seconds)
                told["TargetResponseTime"] = {
                    "Values": list(times),
                    "Counts": list(times.values()),
                }
            data += [
                {"MetricName": name, "Dimensions": where, "Timestamp": at, **values}
                for name, values in told.items()
            ]
        return data

    # --- requests ---

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the one request of a client's connection."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(WAIT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                answer = await self._answer(head, body)
                writer.write(answer)
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _answer(self, head: bytes, body: bytes) -> bytes:
        method, path, *_ = head.split(b" ", 2)
        if path == b"/.balancer":
            if method == b"POST":
                told = json.loads(body)
                self.delay = float(told.get("delay", self.delay))
                self.lose = int(told.get("lose", self.lose))
            return _reply(200, json.dumps(self.state()).encode())
        group = self.choose()
        if group is None:
            return _reply(503, b'{"error": "no target group has a weight"}')
        began = time.perf_counter()
        try:
            answer = await self._carry(group, head, body)
        except OSError:
            answer = _reply(502, b'{"error": "the target does not answer"}')
        self.count(group, _status(answer), time.perf_counter() - began)
        return answer

    async def _carry(self, group: str, head: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._backends[group], limit=HEAD_LIMIT)
        try:
            writer.write(_closing(head) + body)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _closing(head: bytes) -> bytes:
    """Return a request's head that asks the backend to close after its answer."""
    lines = [
        line
        for line in head.rstrip(b"\r\n").split(b"\r\n")
        if not line.lower().startswith((b"connection:", b"keep-alive:"))
    ]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def _status(answer: bytes) -> int:
    parts = answer.split(b" ", 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 502


def _reply(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


# --- a process of its own -------------------------------------------------------------------------


class Double:
    """The AWS double, asked from a thread."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def ask(self, what: str, told: Any = None) -> Any:
        """Return its answer. Raises OSError."""
        return await asyncio.to_thread(self._ask, what, told)

    def _ask(self, what: str, told: Any) -> Any:
        body = None if told is None else json.dumps(told).encode()
        request = urllib.request.Request(f"{self._url}/double/{what}", body)  # noqa: S310 (loopback)
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 (as above)
            return json.load(answer)


async def follow(balancer: Balancer, double: Double, rule: str) -> None:
    """Read the rule's weights, for ever."""
    while True:
        with suppress(OSError):
            weights = (await double.ask(f"weights?arn={rule}"))["weights"]
            balancer.told(weights or {}, time.monotonic())
        await asyncio.sleep(READ_SECONDS)


async def publish(balancer: Balancer, double: Double, rule: str, every: float) -> None:
    """Tell how the groups did, for ever; at the double's own time."""
    dimension = "/".join(rule.partition("/")[2].split("/")[:3])
    region = rule.split(":")[3]
    while True:
        await asyncio.sleep(every)
        with suppress(OSError):
            # A moment back: what is told belongs to the minute in which it happened.
            clock = await double.ask("clock")
            at = clock["now"] - every * clock["scale"] / 2
            data = balancer.metrics(dimension, at)
            if data:
                told = {"namespace": "AWS/ApplicationELB", "region": region, "data": data}
                await double.ask("metrics", told)


async def run(asked: argparse.Namespace) -> None:
    """Serve, follow and publish until it is ended."""
    backends = dict(_backend(text) for text in asked.backend)
    draw = random.Random(asked.seed)
    balancer = Balancer(backends, delay=asked.delay, lose=asked.lose, draw=draw)
    double = Double(asked.double)
    weights = (await double.ask(f"weights?arn={asked.rule}"))["weights"]
    balancer.told(weights or {}, time.monotonic())
    server = await asyncio.start_server(
        balancer.serve, "127.0.0.1", asked.port, limit=HEAD_LIMIT, backlog=512
    )
    print("ready", flush=True)
    async with server, asyncio.TaskGroup() as group:
        group.create_task(follow(balancer, double, asked.rule))
        group.create_task(publish(balancer, double, asked.rule, asked.publish))


def _backend(text: str) -> tuple[str, Address]:
    group, _, address = text.rpartition("=")
    host, _, port = address.rpartition(":")
    return group, (host, int(port))


def main() -> None:
    """Read what was asked for, and serve."""
    parser = argparse.ArgumentParser(prog="examples.awsfake.balancer", description="A balancer")
    parser.add_argument("--port", type=int, default=8403)
    parser.add_argument("--double", default="http://127.0.0.1:8402")
    parser.add_argument("--rule", required=True, help="ARN of a rule or listener")
    parser.add_argument("--backend", action="append", required=True, help="GROUP=HOST:PORT")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--lose", type=int, default=0)
    parser.add_argument("--publish", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    with suppress(KeyboardInterrupt):
        asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
