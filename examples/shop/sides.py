"""The two sides of a blue/green pair: what runs on each is a small file that the side itself reads.

`<data>/<side>.json` is {"version": "1.4.0", "broken": false}, or how it is broken:

    errors   three in ten of its requests fail, and all are slower
    slow     every request takes longer than anybody waits gladly, and succeeds
    hosts    it serves well, and fails the load balancer's health checks
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SIDES = ("blue", "green")

ERRORS, SLOW, HOSTS = ("errors", "slow", "hosts")


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file says, or nothing when it is not there."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}


def write_json(path: Path, what: Any) -> None:
    """Write a file, whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(what))
    new.replace(path)


def read_side(data: Path, side: str) -> dict[str, Any]:
    """Return what a side runs, and whether that is broken."""
    return {"version": "1.0.0", "broken": False} | read_json(data / f"{side}.json")
