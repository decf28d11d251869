"""The stand-in load balancer before both sides of the shop, once its rule is there.

python -m examples.shop.front --data .data/demo/shop --port 8401 --double http://127.0.0.1:8402
    --blue 8403 --green 8404
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from .sides import SIDES, read_json

WAIT_SECONDS = 60.0


def main() -> None:
    """Wait for the scene that `cloud` makes, and become the balancer."""
    parser = argparse.ArgumentParser(prog="examples.shop.front", description="The shop's front")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--double", required=True)
    for side in SIDES:
        parser.add_argument(f"--{side}", type=int, required=True, help="the port of this side")
    asked = parser.parse_args()
    deadline = time.monotonic() + WAIT_SECONDS
    while not (scene := read_json(asked.data / "scene.json")):
        if time.monotonic() > deadline:
            sys.exit("The load balancer has no rule to follow.")
        time.sleep(0.05)
    backends = [
        text
        for side in SIDES
        for text in ("--backend", f"{scene[side]}=127.0.0.1:{getattr(asked, side)}")
    ]
    command = [
        *(sys.executable, "-m", "examples.awsfake.balancer", "--port", str(asked.port)),
        *("--double", asked.double, "--rule", scene["rule"], *backends),
    ]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
