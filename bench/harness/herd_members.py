"""Many clients of the SDK in one process: `herd_members.py COUNT`, told over its standard input.

    watch TIME    say when each client heard the server again after that time (monotonic, ns)

Runs with the installed wheel, so it stands alone.
"""

from __future__ import annotations

import json
import sys
import time

import sortition

READY_SECONDS = 120.0
BACK_SECONDS = 120.0
LOOK_SECONDS = 0.5
"""Between two looks: clients tell when they heard the server, so this costs no exactness."""
PER_SECOND = 200
"""How many are started in a second: what is measured is how they come back, not how they begin."""


def main() -> None:
    """Start clients, then watch as told."""
    clients = []
    for _ in range(int(sys.argv[1])):
        clients.append(sortition.Client())
        time.sleep(1 / PER_SECOND)
    ready = sum(client.wait_ready(READY_SECONDS) for client in clients)
    tell(ready)
    for line in sys.stdin:
        tell(watch(clients, int(line.split()[1])))


def watch(clients: list[sortition.Client], since: int) -> list[int | None]:
    """Return when each client heard the server again after a time, None: not in BACK_SECONDS."""
    back: list[int | None] = [None] * len(clients)
    waiting = dict(enumerate(clients))
    deadline = time.monotonic() + BACK_SECONDS
    while waiting and time.monotonic() < deadline:
        for number, client in list(waiting.items()):
            age = client.status().age
            heard = time.monotonic_ns() - int((age or 1e9) * 1e9)
            if heard > since:
                back[number] = heard
                del waiting[number]
        time.sleep(LOOK_SECONDS)
    return back


def tell(what: object) -> None:
    """Say it on a line."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
