"""A host that forks: parent and child both follow, and each reports what it counted itself.

In processes of their own: a fork of the tests' own process would carry everything along.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sortition.testing import FakeServer

from tests.servers import free_ports

from .conftest import until

HOST = """
import os, sys, time, threading
import sortition
from sortition.sources import worker

worker.FIRST_FLUSH_SECONDS = 3600.0       # what is told is told by close()
client = sortition.Client(sys.argv[1], key=sys.argv[2], resource={})
assert client.wait_ready(5)
flag = client.flag("search")

def follow(name, calls):
    for _ in range(calls):
        client.is_enabled("search", "a"); flag("a")
    os.write(1, f"{name} asks\\n".encode())
    end = time.monotonic() + 10
    while not (client.is_enabled("later", "a") and flag("a")):
        assert time.monotonic() < end, client.status()
        time.sleep(0.01)
    threads = [t.name for t in threading.enumerate() if t.name == "sortition"]
    assert len(threads) == 1, threads
    assert client.wait_ready(0)
    assert client.close(5)
    os.write(1, f"{name} ends\\n".encode())

for _ in range(5):
    client.is_enabled("search", "a")
"""

OS_FORK = """
child = os.fork()
if child == 0:
    try:
        assert not client.status().errors
        follow("child", 10)
    except BaseException as error:
        print("child failed", repr(error), flush=True)
    finally:
        os._exit(0)
follow("parent", 100)
os.waitpid(child, 0)
"""

MULTIPROCESSING = """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=follow, args=("child", 10))
process.start()
follow("parent", 100)
process.join()
"""

TWICE = """
child = os.fork()
if child == 0:
    if os.fork() == 0:
        follow("child", 10)
        os._exit(0)
    client.close(5)
    os.wait()
    os._exit(0)
follow("parent", 100)
os.waitpid(child, 0)
"""

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="this system has no fork")


def counts(server: FakeServer) -> list[Counter[tuple[str, str]]]:
    """Per reporting instance: flag and variant -> assignments."""
    found: dict[str, Counter[tuple[str, str]]] = {}
    for batch in server.batches:
        mine = found.setdefault(batch["instance"], Counter())
        for tick in batch["ticks"]:
            for row in tick["flags"]:
                mine[row["flag"], row["variant"]] += row["assignments"]
    return list(found.values())


@needs_fork
@pytest.mark.parametrize("way", [OS_FORK, MULTIPROCESSING, TWICE], ids=["os", "mp", "twice"])
def test_both_follow_and_each_tells_its_own(server: FakeServer, way: str):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", HOST + way]
    with subprocess.Popen(
        [*command, server.url, server.key],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as host:
        assert host.stdout is not None
        said = sorted(host.stdout.readline() for _ in range(2))
        assert said == ["child asks\n", "parent asks\n"]
        until(lambda: server.followers >= 2)
        server.put({"search": 100, "later": 100})
        assert sorted(host.communicate(timeout=20)[0].splitlines()) == ["child ends", "parent ends"]

    off = ("search", "off")
    assert sorted(each[off] for each in counts(server)) == [20, 205]


@pytest.fixture
def gunicorn(server: FakeServer) -> Iterator[int]:
    """A service under `gunicorn --preload -w 2`, on the port that is returned."""
    port = free_ports(1)[0]
    place = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "gunicorn", "--preload"]
    options = ["-w", "2", "-b", f"127.0.0.1:{port}", "--chdir", str(place), "--log-level", "error"]
    host = subprocess.Popen(
        [*command, *options, "--no-control-socket", "tests.sdk.prefork:app"],
        env={**os.environ, "SORTITION_URL": server.url, "SORTITION_KEY": server.key},
    )
    try:
        yield port
    finally:
        host.terminate()
        assert host.wait(20) == 0


def served(port: int) -> dict[int, dict[str, Any]]:
    """Worker -> what it answered last, once each of the two has answered."""
    found: dict[int, dict[str, Any]] = {}
    for _ in range(60):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                told = json.load(answer)
        except OSError:
            continue
        found[told["worker"]] = told
        if len(found) == 2:
            break
    return found


@needs_fork
def test_under_gunicorn_both_workers_follow_within_two_seconds(server: FakeServer, gunicorn: int):
    until(lambda: len(served(gunicorn)) == 2, seconds=20)
    # The parent's own, and one of each worker.
    until(lambda: server.followers == 3)

    for share in (100, 0):
        server.put({"search": share})
        took = until(
            lambda on=share == 100: [w["on"] for w in served(gunicorn).values()] == [on, on]  # type: ignore[misc]  # bound here
        )
        assert took < 2
    assert all(worker["errors"] == {} for worker in served(gunicorn).values())
    until(lambda: len({batch["instance"] for batch in server.batches}) >= 2)


POOL = """
import multiprocessing

def task(number):
    end = time.monotonic() + 10
    while not client.is_enabled("later", "a"):
        assert time.monotonic() < end, client.status()
        time.sleep(0.01)
    threads = [t.name for t in threading.enumerate() if t.name == "sortition"]
    return os.getpid(), len(threads)

# As Celery's prefork pool does: workers are forked before, and replaced after some tasks.
with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=2) as pool:
    print("asks", flush=True)
    told = pool.map(task, range(8), chunksize=1)
print(len({each[0] for each in told}) >= 4, {each[1] for each in told}, flush=True)
client.close(5)
"""


@needs_fork
def test_in_a_pool_whose_workers_are_replaced_each_follows(server: FakeServer):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", HOST + POOL]
    with subprocess.Popen(
        [*command, server.url, server.key],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "asks\n"
        server.put({"search": 100, "later": 100})
        assert host.communicate(timeout=40)[0] == "True {1}\n"


STREAM_OF_THE_PARENT = """
child = os.fork()
if child == 0:
    client.close(5)
    os._exit(0)
os.waitpid(child, 0)
print("child gone", flush=True)
sys.stdin.readline()
client.close(5)
"""


def settled(count: Callable[[], int]) -> int:
    """Return a count that no longer rises: what a child asked for lies with the server for a moment
    when it is gone."""
    before = -1
    while (now := count()) != before:
        before = now
        time.sleep(0.3)
    return now


@needs_fork
def test_a_child_that_ends_leaves_its_parents_stream_alone(server: FakeServer):
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        HOST + STREAM_OF_THE_PARENT,
    ]
    with subprocess.Popen(
        [*command, server.url, server.key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "child gone\n"
        until(lambda: server.followers == 1)
        asked = settled(lambda: server.asked.count("stream"))
        server.put({"search": 100})
        host.communicate("end\n", timeout=20)

    # The parent's one, and at most one of the child.
    assert asked <= 2
    assert server.asked.count("stream") == asked


@needs_fork
def test_a_fork_in_the_middle_of_anything(server: FakeServer):
    # Threads that ask and a snapshot that changes all the time: whatever the fork froze, the
    # child has whole flags, free locks and its own thread.
    script = (
        HOST
        + """
stop = threading.Event()
def ask():
    while not stop.is_set():
        with client.request("a") as request:
            request.is_enabled("search")
        client.flag("search")("a")
        client.is_enabled("unknown", "a")
for _ in range(3):
    threading.Thread(target=ask, daemon=True).start()
sys.setswitchinterval(1e-4)
print("asks", flush=True)
failed = 0
for _ in range(6):
    child = os.fork()
    if child == 0:
        import faulthandler
        faulthandler.dump_traceback_later(8, exit=True)
        good = client.wait_ready(0)
        version, on = client.status().version, client.is_enabled("search", "a")
        with client.request("a") as request:
            good = good and request.evaluate("search").error is None
        good = good and client.flag("search")("a") in (True, False)
        good = good and "flag_not_found" not in client.status().errors
        client.close(2)
        os._exit(0 if good else 3)
    failed += os.waitpid(child, 0)[1] != 0
stop.set()
client.close(2)
print("failed", failed, flush=True)
"""
    )
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    with subprocess.Popen(
        [*command, server.url, server.key],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "asks\n"
        share = 0
        while host.poll() is None and server.snapshot.version.version < 3000:
            share = 100 - share
            server.put({"search": share, **{f"flag-{i}": 50 for i in range(20)}})
            time.sleep(0.003)
        out = host.communicate(timeout=30)[0]
    assert out == "failed 0\n"
