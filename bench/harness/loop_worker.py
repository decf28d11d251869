"""The process of one case: `loop_worker.py SUBJECT CASE`; takes a sample for each line it is sent.

Runs in environments that have nothing of ours, so it stands alone.
"""

from __future__ import annotations

import gc
import json
import os
import random
import runpy
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

IDS = 4096
SAMPLE_MS = 6.0

Loop = Callable[[list[str], int], int]


def main() -> None:
    """Answer with a sample for every line, until there are no more."""
    # A file's name may be that of a package it measures.
    sys.path[:] = [place for place in sys.path if "bench" not in os.path.split(place)]
    case = runpy.run_path(sys.argv[1])["CASES"][sys.argv[2]]()
    chance = random.Random(42)
    ids = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(IDS)]
    check_share(case, ids)
    loop, empty = compiled(case["statement"], case["names"]), compiled("pass", {})
    part, turns = budget(loop, ids)
    gc.collect()
    gc.freeze()
    answer({"version": case["version"]})
    for _ in sys.stdin:
        taken = loop(part, turns) - empty(part, turns)
        answer({"nanoseconds": taken / (len(part) * turns)})
    # Vendors' threads do not all end by themselves.
    os._exit(0)


def check_share(case: dict[str, Any], ids: list[str]) -> None:
    """A flag at 25 % is on for about a quarter, or it is not what is to be measured."""
    if case.get("exposed") is None:
        return
    ask = eval(f"lambda i: {case['exposed']}", dict(case["names"]))  # noqa: S307 (our own text)
    share = sum(1 for i in ids if ask(i) is True) / len(ids)
    if not 0.23 <= share <= 0.27:
        sys.exit(f"on for {share:.1%} of requests, not for 25 %")


def compiled(statement: str, names: dict[str, Any]) -> Loop:
    """Return a loop around a statement, in which its names are local."""
    arguments = "".join(f", {name}={name}" for name in names)
    source = (
        f"def loop(ids, turns, clock=clock{arguments}):\n"
        "    began = clock()\n"
        "    for _ in range(turns):\n"
        "        for i in ids:\n"
        f"            {statement}\n"
        "    return clock() - began\n"
    )
    space = {**names, "clock": time.thread_time_ns}
    exec(source, space)  # noqa: S102 (our own text)
    made: Loop = space["loop"]
    return made


def budget(loop: Loop, ids: list[str]) -> tuple[list[str], int]:
    """Return how many ids, and how often, make a sample of about SAMPLE_MS."""
    loop(ids[:16], 1)
    each = max(1.0, loop(ids[:64], 1) / 64)
    wanted = max(32, int(SAMPLE_MS * 1e6 / each))
    return ids[:wanted], max(1, wanted // len(ids))


def answer(found: dict[str, Any]) -> None:
    """Say it on a line that cannot be taken for something else."""
    print(json.dumps({"sortition-bench": found}), flush=True)


if __name__ == "__main__":
    main()
