"""The shop's AWS: the double with the shop's load balancer in it, as it was left.

    python -m examples.shop.cloud --port 8402 --data .data/demo/shop --blue 8403 --green 8404

Its ARNs are the same at every start, so a rollout that was begun before names the same rule; and
the rule's weights are on disk before the call that set them is answered. `<data>/scene.json` has
the ARNs: {"rule", "blue", "green", …}. It says `ready` when all of it is there.

As a load balancer does, it checks the health of both sides every other moment; see `health`.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moto.moto_api._internal import mock_random

from examples.awsfake import elbv2
from examples.awsfake.__main__ import Handler, Server
from examples.awsfake.app import ACCOUNT, Double
from examples.awsfake.clock import Clock
from examples.awsfake.scene import TARGET, Scene, build, client

from .health import CHECK_SECONDS, Health, ask_health
from .sides import SIDES, read_json, write_json

SEED = 8401
"""What moto draws its ids from."""


class Kept:
    """The double as a WSGI application whose weights of one rule are kept in a file."""

    def __init__(self, double: Double, rule: str, groups: dict[str, str], path: Path) -> None:
        """groups: target group -> the side it stands for."""
        self._double = double
        self._rule = rule
        self._groups = groups
        self._path = path
        self._lock = threading.Lock()
        self._written: dict[str, int] = {}

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer one request, and keep what it changed."""
        answer = list(self._double(environ, start))
        if environ["REQUEST_METHOD"] == "POST":
            self._keep()
        return answer

    def _keep(self) -> None:
        with self._lock:
            weights = {
                self._groups[group]: weight
                for group, weight in (elbv2.weights(self._rule, ACCOUNT) or {}).items()
                if group in self._groups
            }
            if weights != self._written:
                write_json(self._path, weights)
                self._written = weights


def check(group: str, port: int) -> None:
    """Check the health of a side for ever, and let the double say it."""
    health = Health()
    while True:
        time.sleep(CHECK_SECONDS)
        answer = ask_health(port)
        if answer is not None and health.hear(answer):
            state = "healthy" if health.well else "unhealthy"
            reason = None if health.well else "Target.ResponseCodeMismatch"
            elbv2.say_health(group, TARGET, state, reason)


@contextmanager
def somewhere(double: Double) -> Iterator[str]:
    """Let the double be asked at a port that nobody else knows of; gives its address."""
    server = Server("127.0.0.1", 0, double, Handler, passthrough_errors=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def restore(url: str, scene: Scene, weights: dict[str, int]) -> None:
    """Give the rule the weights that it had, by side; blue has it all when nothing is known."""
    groups = [
        {"TargetGroupArn": getattr(scene, side), "Weight": weights[side]}
        for side in SIDES
        if side in weights
    ]
    if groups:
        forward = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
        client("elbv2", url).modify_rule(RuleArn=scene.rule, Actions=[forward])


def main() -> None:
    """Make the scene, then serve."""
    parser = argparse.ArgumentParser(prog="examples.shop.cloud", description="The shop's AWS")
    parser.add_argument("--port", type=int, default=8402)
    parser.add_argument("--data", type=Path, required=True)
    for side in SIDES:
        parser.add_argument(f"--{side}", type=int, required=True, help="the port of this side")
    asked = parser.parse_args()
    double = Double(Clock())
    mock_random.seed(SEED)
    with somewhere(double) as url:
        scene = build(url)
        restore(url, scene, read_json(asked.data / "weights.json"))
    kept = Kept(
        double,
        scene.rule,
        {getattr(scene, side): side for side in SIDES},
        asked.data / "weights.json",
    )
    for side in SIDES:
        watched = (getattr(scene, side), getattr(asked, side))
        threading.Thread(target=check, args=watched, daemon=True).start()
    server = Server("127.0.0.1", asked.port, kept, Handler, passthrough_errors=True)
    write_json(asked.data / "scene.json", asdict(scene))
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
