"""One client of the SDK, its thread's CPU time metered: `meter.py`, told over its standard input.

    next    wait for a newer version, then say what taking it in cost the thread (ns)
    rest    say what the thread costs in REST_SECONDS in which nothing changes (ns)

Runs with the installed wheel, so it stands alone.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import sortition

READY_SECONDS = 60.0
SEEN_SECONDS = 30.0
SETTLE_SECONDS = 0.02
REST_SECONDS = 2.0


def main() -> None:
    """Start the client, then meter as told."""
    client = sortition.Client()
    if not client.wait_ready(READY_SECONDS):
        sys.exit(f"the client did not become ready: {client.status()}")
    (thread,) = (each for each in threading.enumerate() if each.name == "sortition")
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    time.sleep(1.0)
    version, spent = client.status().version, time.clock_gettime_ns(clock)
    tell("ready")
    for line in sys.stdin:
        if line.strip() == "rest":
            time.sleep(REST_SECONDS)
        else:
            version = wait_for_another(client, version)
            time.sleep(SETTLE_SECONDS)
        now = time.clock_gettime_ns(clock)
        spent, taken = now, now - spent
        tell(taken)


def wait_for_another(client: sortition.Client, version: str | None) -> str | None:
    """Return the next version that the client has."""
    deadline = time.monotonic() + SEEN_SECONDS
    while client.status().version == version:
        if time.monotonic() > deadline:
            sys.exit(f"no other version than {version} came")
        time.sleep(0.001)
    return client.status().version


def tell(what: object) -> None:
    """Say it on a line."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
