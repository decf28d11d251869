"""How long a change takes from the API to every SDK that follows."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import followers, places, server
from bench.harness.percentiles import percentile
from bench.harness.report import Argument, Options, Row, at_most, run, say
from bench.harness.talk import Talker

PROCESSES = len(os.sched_getaffinity(0))
"""As many as run at once: more of them would only show how the system shares out its cores."""
SETTLE_SECONDS = 2.0


def measure(options: Options) -> Iterator[Row]:
    """Change a flag again and again; every client says when it answered differently."""
    clients = options.of(quick=8, whole=options.given["clients"])
    changes = options.of(quick=5, whole=300)
    with tempfile.NamedTemporaryFile(prefix="bench-") as file, ExitStack() as stack:
        say("filling and starting a server")
        serving = stack.enter_context(server.serving(200))
        say(f"{clients} clients in {PROCESSES} processes, {changes} changes")
        program, environment = Path(followers.__file__), server.sdk_environment(serving)
        python = places.installed()
        talkers = [
            Talker(stack, python, program, each, server.MOVING, environment=environment)
            for each in shared_out(clients)
        ]
        connected = sum(talker.hear() for talker in talkers)
        time.sleep(SETTLE_SECONDS)
        rounds, syncs = [], []
        for number in range(changes):
            rounds.append(one_change(serving, talkers, number))
            syncs.append(sync(file))
    singles = [taken for taken_by_all in rounds for taken in taken_by_all if taken is not None]
    lost = sum(taken is None for taken_by_all in rounds for taken in taken_by_all)
    # A client that did not see it took longer than it was given.
    never = followers.SEEN_SECONDS * 1000
    last = [max(never if taken is None else taken for taken in each) for each in rounds]
    note = f"{connected} clients, {changes} changes"
    yield Row("lost", "changes that a client did not see", lost, "", at_most(0))
    what = "change by the API until the last client answers differently"
    yield Row("last_p50", f"{what}, p50", percentile(last, 50), "ms")
    yield Row("last_p99", f"{what}, p99", percentile(last, 99), "ms", at_most(50), note)
    what = "for comparison: 500 octets written to the same disk and synced, as the store does it"
    yield Row("sync_p50", f"{what}, p50", percentile(syncs, 50), "ms")
    yield Row("sync_p99", f"{what}, p99", percentile(syncs, 99), "ms")
    yield Row("each_p50", "until one of the clients does, p50", percentile(singles, 50), "ms")
    yield Row("each_p99", "until one of the clients does, p99", percentile(singles, 99), "ms")


def shared_out(clients: int) -> list[int]:
    """Return how many clients each process has."""
    each, more = divmod(clients, PROCESSES)
    return [each + (number < more) for number in range(min(PROCESSES, clients))]


def sync(file: IO[bytes]) -> float:
    """Write a little and wait until it lies on the disk; return what that took (ms)."""
    file.write(b"." * 500)
    file.flush()
    began = time.monotonic()
    os.fsync(file.fileno())
    return (time.monotonic() - began) * 1000


def one_change(serving: server.Server, talkers: list[Talker], number: int) -> list[float | None]:
    """Change the flag and return how many ms each client took to see it, None: it did not."""
    on = number % 2 == 0
    for talker in talkers:
        talker.say(f"expect {on:d}")
    for talker in talkers:
        talker.hear()
    # Not in step with anything that beats.
    time.sleep(random.uniform(0.03, 0.1))
    began = serving.change(100 if on else 0)
    seen = [at for talker in talkers for at in talker.hear()]
    return [None if at is None else (at - began) / 1e6 for at in seen]


if __name__ == "__main__":
    run(
        measure,
        title="How long a change takes to reach every SDK",
        method="`flagserver run` with its embedded store and 200 flags; clients of the installed "
        "wheel, a thread each, all on this machine; from the moment the API is called to the "
        "moment `client.is_enabled` answers differently, looked at every millisecond.",
        distributions=["flask"],
        arguments=[Argument("clients", 200, "how many SDK clients follow")],
    )
