"""A load balancer that obeys AWS's double, two targets behind it, and clients that count.

The balancer and the double are processes of their own; targets and clients share this one. A rule's
weights are set as in production: by the driver of `flagserver.targets.alb`, through boto3.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from bench.harness.server import forget_settings, free_port
from examples.awsfake.scene import KEYS, REGION, Scene, build
from flagserver.aws import Aws
from flagserver.domain.errors import TargetUnavailable
from flagserver.domain.targets import Target
from flagserver.processes import Child, Process
from flagserver.targets.alb import AlbDriver

SIDES = BLUE, GREEN = ("blue", "green")
START_SECONDS = 60.0
STOP_SECONDS = 10.0
OBEY_SECONDS = 10.0
CLIENTS = 16
"""Requests under way at once."""

REQUEST = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Taken:
    """What some requests came to. served: side -> requests.  cpu: seconds of the balancer's."""

    served: Counter[str]
    cpu: float


class Balanced:
    """All of it, running. Green is the canary; ports: side -> where its target listens."""

    def __init__(self, stack: ExitStack, ports: dict[str, int]) -> None:
        self._ports = ports
        double = free_port()
        self._double = f"http://127.0.0.1:{double}"
        os.environ.update(
            AWS_ENDPOINT_URL=self._double,
            AWS_DEFAULT_REGION=REGION,
            **{name.upper(): value for name, value in KEYS.items()},
        )
        _started(stack, "double", "examples.awsfake", "--port", str(double))
        scene = build(self._double)
        self._target = Target.of("alb", scene.rule, canary=scene.green, stable=scene.blue)
        self._driver = AlbDriver(Aws())
        self._port = free_port()
        self._balancer = psutil.Process(self._balance(stack, scene))

    def _balance(self, stack: ExitStack, scene: Scene) -> int:
        words = ["--port", str(self._port), "--double", self._double, "--rule", scene.rule]
        for side in SIDES:
            words += ["--backend", f"{getattr(scene, side)}=127.0.0.1:{self._ports[side]}"]
        # Telling CloudWatch costs by time, not by request.
        words += ["--publish", "86400"]
        return _started(stack, "balancer", "examples.awsfake.balancer", *words)

    def share(self, percent: int) -> None:
        """Give the canary its share, and wait until the balancer obeys."""
        if percent == 0:
            self._driver.roll_back(self._target, math.inf)
        else:
            try:
                self._set(percent)
            except TargetUnavailable:
                # A canary that no rule named is named first, at weight 0, so that it is checked.
                self._set(percent)
        deadline = time.monotonic() + OBEY_SECONDS
        while self._obeyed() != percent:
            if time.monotonic() > deadline:
                sys.exit(f"the balancer did not take {percent} % over")
            time.sleep(0.02)

    def _set(self, percent: int) -> None:
        before = self._driver.read(self._target)
        self._driver.set(self._target, percent * 10_000, before, math.inf)

    def _obeyed(self) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/.balancer", timeout=5) as told:
            weights: dict[str, int] = json.load(told)["weights"]
        return 100 * weights.get(str(self._target.get("canary")), 0) / sum(weights.values())

    def take(self, requests: int) -> Taken:
        """Send so many requests."""
        before = self._cpu()
        served = asyncio.run(self._send(requests))
        return Taken(served, self._cpu() - before)

    def _cpu(self) -> float:
        return float(sum(self._balancer.cpu_times()[:2]))

    async def _send(self, requests: int) -> Counter[str]:
        served: Counter[str] = Counter()
        left = iter(range(requests))
        servers = [
            await asyncio.start_server(_answering(side), "127.0.0.1", port, backlog=512)
            for side, port in self._ports.items()
        ]

        async def client() -> None:
            for _ in left:
                served[await self._ask()] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())
        for each in servers:
            each.close()
        return served

    async def _ask(self) -> str:
        """Return which side answered one request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(REQUEST)
        answer = await reader.read(-1)
        writer.close()
        head, _, side = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"an unexpected answer: {answer[:80]!r}")
        return side.decode()


@contextmanager
def balanced() -> Iterator[Balanced]:
    """Run it all."""
    forget_settings()
    with ExitStack() as stack:
        yield Balanced(stack, {side: free_port() for side in SIDES})


def _answering(side: str) -> Any:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(side)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer + side.encode())
        writer.close()

    return serve


def _started(stack: ExitStack, name: str, module: str, *words: str) -> int:
    """Start a module that says `ready`, and return its process's id."""
    process = Process(Child(name, (sys.executable, "-m", module, *words)), lambda _: None)
    stack.callback(process.stop, STOP_SECONDS)
    deadline = time.monotonic() + START_SECONDS
    while "ready" not in process.lines:
        if process.ended() or time.monotonic() > deadline:
            said = "\n".join(process.lines)
            sys.exit(f"the {name} did not start:\n{said}")
        time.sleep(0.02)
    return process.pid
