"""Clients of the SDK in one process: `followers.py COUNT FLAG`, told over its standard input.

    expect 1    say when each client first answered true for the flag
    expect 0    the same for false

Runs with the installed wheel, so it stands alone.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import sortition

READY_SECONDS = 60.0
SEEN_SECONDS = 30.0
LOOK_SECONDS = 0.001
"""Between two looks at all clients: the figures are too large by up to this."""


def main() -> None:
    """Start clients, then watch as told."""
    count, flag = int(sys.argv[1]), sys.argv[2]
    clients = [sortition.Client() for _ in range(count)]
    for client in clients:
        if not client.wait_ready(READY_SECONDS):
            sys.exit(f"a client did not become ready: {client.status()}")
    # Ready means that there are flags; what is measured is clients that hear the stream.
    tell(len(clients))
    for line in sys.stdin:
        wanted = line.split()[1] == "1"
        tell("watching")
        tell(watch(clients, flag, wanted))


def watch(clients: list[Any], flag: str, wanted: bool) -> list[int | None]:
    """Return when each client first gave the wanted answer (monotonic, ns), None: not in time."""
    seen: list[int | None] = [None] * len(clients)
    waiting = dict(enumerate(clients))
    deadline = time.monotonic() + SEEN_SECONDS
    while waiting and time.monotonic() < deadline:
        for number, client in list(waiting.items()):
            if client.is_enabled(flag, "a-request") is wanted:
                seen[number] = time.monotonic_ns()
                del waiting[number]
        time.sleep(LOOK_SECONDS)
    return seen


def tell(what: object) -> None:
    """Say it on a line."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
