"""What happens when the server will not, cannot or does not answer: bounded, told, nothing lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from sortition.record.entry import find_break

from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.metrics import Posted
from flagserver.domain.outcomes import Report, Row
from flagserver.ports import Lease
from flagserver.storage.redis import documents as driver
from flagserver.storage.redis import server as way
from flagserver.storage.redis.server import UnusableUrl, where
from flagserver.storage.redis.store import RedisStore
from tests.contract.changes import STORE, accept, commit, everything, once, set_share
from tests.servers import Cluster, Server, embedded_store, free_ports, redis_cluster, redis_server

needs_redis = pytest.mark.needs("redis-server")

ROWS = [Row("flag/new-search", "on", 1_795_000_000, 1, 1, 0)]
POSTED = Posted("orders", "service/api", "cohort/canary", "ci", 1_795_000_000, 1.0, 2.0)

CALLS: dict[str, Callable[[RedisStore], Any]] = {
    "initialise": lambda store: store.initialise(STORE),
    "identity": lambda store: store.identity(),
    "state": lambda store: store.state(),
    "conditions": lambda store: store.conditions(),
    "accept": lambda store: accept(store, "a"),
    "repeats": lambda store: store.repeats(once("a")),
    "read": lambda store: store.read("flags", "new-search"),
    "read_all": lambda store: store.read_all("flags"),
    "keys": lambda store: store.keys("flags"),
    "read_some": lambda store: store.read_some("flags", ["new-search"]),
    "read_environment": lambda store: store.read_environment("production"),
    "versions": lambda store: store.versions(),
    "commit": lambda store: commit(store, set_share(5, revision=0)),
    "record": lambda store: store.record(),
    "history": lambda store: store.history(target="a", environment=None, before=None, limit=1),
    "index": lambda store: store.index(),
    "events": lambda store: store.events("0-0", 30),
    "feed_end": lambda store: store.feed_end(),
    "ping": lambda store: store.ping(),
    "add": lambda store: store.add("production", "a:1", 1, ROWS, {}),
    "totals": lambda store: store.totals("production", "flag/a", since=0, until=60),
    "series": lambda store: store.series("production", "flag/a", since=0, until=60),
    "minutes": lambda store: store.minutes({("production", "flag/a"): [60]}),
    "assignments": lambda store: store.assignments({("production", "flag/a"): ["on"]}, [60]),
    "note": lambda store: store.note("production", [Report("a:1", 1, "ff", {})]),
    "count": lambda store: store.count("production", "a:1", 1, ROWS),
    "ticks": lambda store: store.ticks([("production", "flag/a")], since=0, until=60),
    "points": lambda store: store.points("production", "flag/a", since=0, until=60),
    "sources": lambda store: store.sources("production"),
    "put": lambda store: store.put("link", "d", {}, ttl_seconds=1),
    "get": lambda store: store.get("link", "d"),
    "take": lambda store: store.take("link", "d"),
    "drop": lambda store: store.drop("link", "d"),
    "tried": lambda store: store.tried(["a", "b"], window_seconds=60),
    "keep_uses": lambda store: store.keep_uses({"a": "2026-11-23T08:00:00.000Z"}),
    "uses": lambda store: store.uses(),
    "keep_asked": lambda store: store.keep_asked("production", {"a": "2026-11-23"}),
    "asked": lambda store: store.asked("production"),
    "acquire": lambda store: store.acquire("controller", "a", ttl_seconds=1),
    "acquire_all": lambda store: store.acquire_all(["b", "c"], "a", ttl_seconds=1),
    "secure": lambda store: store.secure(Lease("controller", "a", 1), ttl_seconds=1),
    "release": lambda store: store.release(Lease("controller", "a", 1)),
    "post": lambda store: store.post("production", [POSTED]),
    "posted": lambda store: store.posted("production", since=0, until=60),
    "nudge": lambda store: store.nudge("event-1", ttl_seconds=60),
    "nudged": lambda store: store.nudged(),
    "append": lambda store: store.append("r-1", {}),
    "looks": lambda store: store.looks("r-1"),
    "keep_evidence": lambda store: store.keep_evidence("r-1", 0, {}),
    "evidence": lambda store: store.evidence(["r-1"]),
    "standings": lambda store: store.standings(["r-1"]),
    "keep_halves": lambda store: store.keep_halves("production", "shop", {600: {}}),
    "halves": lambda store: store.halves([("production", "shop")], since=0, until=600),
    "known": lambda store: store.known("production"),
    "time": lambda store: store.time(),
    "last": lambda store: store.last(["r-1"]),
    "saw": lambda store: store.saw({"r-1": 1.0}),
    "seen": lambda store: store.seen(["r-1"]),
    "told": lambda store: store.told("rollout/r-1"),
    "undelivered": lambda store: store.undelivered("slack"),
    "delivered": lambda store: store.delivered("slack", "1-0"),
    "drop_bodies": lambda store: store.drop_bodies([(1, 1)]),
    "rewrite_log": lambda store: store.rewrite_log(),
    "keep_checkpoint": lambda store: store.keep_checkpoint("note"),
    "checkpoints": lambda store: store.checkpoints(),
}
"""Every call there is."""

WRITES = {
    *("initialise", "accept", "commit", "add", "put", "take", "drop", "acquire", "release"),
    *(
        "note",
        "count",
        "post",
        "append",
        "saw",
        "nudge",
        "delivered",
        "acquire_all",
        "secure",
        "keep_checkpoint",
    ),
    *(
        "tried",
        "keep_uses",
        "keep_asked",
        "keep_evidence",
        "keep_halves",
        "drop_bodies",
        "rewrite_log",
        "index",
    ),
}
LOOK_FIRST = {"commit", "secure", "rewrite_log"}
"""Those that read before they write, so that a failure may have nothing to say of a change."""

SERVICE = {"redis": "", "redis-cluster": "", "redis-sentinel": "/flags"}
"""What a URL of each form needs besides the address."""

SLACK_SECONDS = 1.0
"""What a machine that is busy with other tests may add."""


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> float:
    """Shorten every wait to the same time, so that a bound is told by how many there are."""
    seconds = 0.4
    for name in ("CONNECT_SECONDS", "ANSWER_SECONDS", "POOL_SECONDS", "REFRESH_SECONDS"):
        monkeypatch.setattr(way, name, seconds)
    monkeypatch.setattr(driver, "TURN_SECONDS", seconds)
    return seconds


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


def told(call: Callable[[], Any]) -> tuple[str, float]:
    """Return what a call that must fail says, and how long it took."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as refusal:
        call()
    return refusal.value.detail, time.monotonic() - began


# --- servers that do not answer -------------------------------------------------------------------


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes every connection and never says a word."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(1000)
        yield hole.getsockname()[1]


def test_every_call_is_listed():
    doors = {name for name in dir(RedisStore) if not name.startswith("_")}

    quick = {"over", "close", "distrust", "interruptions"}

    assert doors - quick == CALLS.keys()


@pytest.mark.parametrize("scheme", ["redis", "redis-cluster", "redis-sentinel"])
def test_every_call_ends_when_nothing_answers(scheme: str, brisk: float):
    with black_hole() as port, ThreadPoolExecutor(len(CALLS)) as pool:
        url = f"{scheme}://127.0.0.1:{port}{SERVICE[scheme]}"
        stores = {name: RedisStore(url) for name in CALLS}
        calls = {
            name: pool.submit(told, partial(call, stores[name])) for name, call in CALLS.items()
        }
        for name, answer in calls.items():
            detail, seconds = answer.result()

            assert seconds < 2 * (brisk + brisk) + SLACK_SECONDS, name
            assert f"127.0.0.1:{port}" in detail, name
            assert ("change" in detail) <= (name in WRITES), name


@pytest.mark.parametrize("scheme", ["redis", "redis-cluster", "redis-sentinel"])
def test_every_call_ends_at_once_when_nobody_listens(scheme: str):
    [port] = free_ports(1)
    store = RedisStore(f"{scheme}://127.0.0.1:{port}{SERVICE[scheme]}")

    for name, call in CALLS.items():
        detail, seconds = told(partial(call, store))

        assert seconds < 1, name
        assert ("Nothing was changed" in detail) == (name in WRITES - LOOK_FIRST), name


@needs_redis
def test_every_call_ends_when_the_server_stops_answering(tmp_path: Path, brisk: float):
    with redis_server(tmp_path) as server, RedisStore(server.url) as store:
        store.initialise(STORE)
        with stopped(server), ThreadPoolExecutor(len(CALLS)) as pool:
            calls = {name: pool.submit(told, partial(call, store)) for name, call in CALLS.items()}
            for name, answer in calls.items():
                assert answer.result()[1] < 2 * (brisk + brisk) + SLACK_SECONDS, name
        # What was sent meanwhile may be carried out now; the record is whole either way.
        store.ping()
        assert len(store.record()) <= 1


@needs_redis
def test_threads_do_not_pile_up_behind_a_server_that_stopped(tmp_path: Path, brisk: float):
    with redis_server(tmp_path) as server, RedisStore(server.url) as store:
        store.initialise(STORE)
        with stopped(server), ThreadPoolExecutor(40) as pool:
            changes = [
                pool.submit(told, partial(commit, store, set_share(n, revision=0)))
                for n in range(40)
            ]
            longest = max(change.result()[1] for change in changes)

        assert longest < brisk + 2 * (brisk + brisk) + SLACK_SECONDS


@needs_redis
def test_a_cluster_that_does_not_answer_is_waited_for_once(cluster: Cluster, brisk: float):
    with RedisStore(cluster.url) as store:
        store.initialise(STORE)
        commit(store, set_share(5, revision=0))
        for node in cluster.nodes:
            os.kill(node.pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(len(CALLS)) as pool:
                calls = [pool.submit(told, partial(call, store)) for call in CALLS.values()]
                longest = max(call.result()[1] for call in calls)
        finally:
            for node in cluster.nodes:
                os.kill(node.pid, signal.SIGCONT)

        assert longest < brisk + 2 * (brisk + brisk + brisk) + SLACK_SECONDS
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                commit(store, set_share(6, revision=1))
                break
            except StoreUnavailable:
                time.sleep(0.1)
        assert find_break(store.record()) is None
        assert store.versions() == {"production": 2}


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@needs_redis
def test_a_store_comes_back_by_itself(tmp_path: Path):
    kept = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server(tmp_path, *kept) as server, RedisStore(server.url) as store:
        store.initialise(STORE)
        commit(store, set_share(5, revision=0))
        server.kill()
        told(lambda: commit(store, set_share(25, revision=1)))
        server.start()

        assert commit(store, set_share(25, revision=1)).seq == 2
        assert find_break(store.record()) is None


# --- servers that will not ------------------------------------------------------------------------


@needs_redis
def test_a_full_store_refuses_a_change_as_a_whole(tmp_path: Path):
    with redis_server(tmp_path) as server, RedisStore(server.url) as store:
        store.initialise(STORE)
        commit(store, set_share(5, revision=0))
        before = everything(store)
        with server.client() as client:
            client.config_set("maxmemory", "1mb")

            change = set_share(25, revision=1, idempotency=once("k1"), claims={"seed:1": "x"})
            detail, _ = told(lambda: commit(store, change))
            outcome, _ = told(lambda: store.add("production", "a:1", 1, ROWS, {}))

            assert "maxmemory" in detail
            assert "Nothing was changed" in detail
            assert "maxmemory" in outcome
            assert everything(store) == before

            client.config_set("maxmemory", "0")
        assert not commit(store, change).repeated
        assert store.add("production", "a:1", 1, ROWS, {})


@needs_redis
def test_refusals_of_the_server_are_told_apart(tmp_path: Path):
    with redis_server(tmp_path) as server, RedisStore(server.url) as store:
        store.initialise(STORE)
        before = everything(store)

        def refused() -> str:
            return told(lambda: commit(store, set_share(5, revision=0)))[0]

        with server.client() as client:
            client.config_set("min-replicas-to-write", "1")
            assert "too few replicas" in refused()
            client.config_set("min-replicas-to-write", "0")

            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            assert "read-only replica" in refused()
            client.execute_command("REPLICAOF", "NO", "ONE")

            client.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
            assert "ACL" in refused()
            client.execute_command("ACL", "SETUSER", "default", "+@all")

            client.rename("{sortition}:meta", "kept")
            client.set("{sortition}:meta", "not ours")
            assert "somebody else writes" in refused()
            client.rename("kept", "{sortition}:meta")

        assert everything(store) == before
        assert commit(store, set_share(5, revision=0)).seq == 1


SECRET = "s3cret-of-ours"


@needs_redis
def test_passwords_are_asked_for_and_never_told(tmp_path: Path):
    with redis_server(tmp_path, port=True) as server:
        port = server.url.rpartition(":")[2]
        with server.client() as client:
            client.config_set("requirepass", "another")
            try:
                without, _ = told(RedisStore(server.url).ping)
                wrong = RedisStore(f"redis://:{SECRET}@127.0.0.1:{port}")
                with pytest.raises(StoreUnavailable) as refusal:
                    wrong.ping()
            finally:
                client.config_set("requirepass", "")

    assert "wants a password" in without
    assert "refuses our user name or password" in refusal.value.detail
    assert SECRET not in f"{refusal.value.detail}{refusal.value.__cause__}"


@needs_redis
def test_a_cluster_under_a_single_servers_url_is_told(cluster: Cluster):
    others = [port for port in cluster.ports if not owns_our_slot(port)]

    assert len(others) == 2
    for port in others:
        with RedisStore(f"redis://127.0.0.1:{port}") as store:
            assert "redis-cluster://" in told(partial(store.initialise, STORE))[0]


def owns_our_slot(port: int) -> bool:
    with redis.Redis(port=port) as client:
        try:
            client.exists("{sortition}:meta")
        except redis.RedisError:
            return False
        return True


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(way, "CONNECTIONS", 2)
    monkeypatch.setattr(way, "POOL_SECONDS", 0.2)
    with embedded_store(tmp_path) as server, RedisStore(server.url) as store:
        store.initialise(STORE)
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(store.events, "0-0", 1.0) for _ in range(2)]
            time.sleep(0.2)
            detail, seconds = told(store.ping)
            for each in waiting:
                assert each.result() == []

        assert "in use" in detail
        assert seconds < 1
        store.ping()


# --- URLs -----------------------------------------------------------------------------------------

WRONG_URLS = {
    "redis-sentinel://host:26379": "and no service",
    "redis-sentinel://a:1,:2/flags": "host or host:port",
    "redis-sentinel://a:1,b:port/flags": "host or host:port",
    "redis-sentinel://a/flags?timeout=1": "the option timeout",
    "mongodb://host": "redis://, rediss://, unix://, redis-cluster://, rediss-cluster://",
    "localhost:6379": "redis-cluster://",
    "redis://": "host",
    "redis://host?socket_timeout=60": "socket_timeout",
    "redis-cluster://host/3": "databases",
}


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_url_that_cannot_be_used_says_what_can(url: str):
    with pytest.raises(UnusableUrl) as refusal:
        RedisStore(url)

    assert WRONG_URLS[url] in str(refusal.value)


def test_an_address_is_told_without_credentials():
    assert where(f"redis://user:{SECRET}@host:7000/2?password={SECRET}") == "host:7000"
    assert where(f"unix://user:{SECRET}@/run/redis.sock?db=3") == "/run/redis.sock"
    sentinels = f"redis-sentinel://user:{SECRET}@a,b:7000/flags/2"
    assert where(sentinels) == "flags of a:26379, b:7000"
    with pytest.raises(UnusableUrl) as refusal:
        RedisStore(f"http://user:{SECRET}@host")
    assert SECRET not in str(refusal.value)


# --- dying, forking, and what scripts touch -------------------------------------------------------


def test_a_killed_store_keeps_every_change_that_it_acknowledged(tmp_path: Path):
    acknowledged: dict[int, int] = {}

    with embedded_store(tmp_path) as server:
        stores = [RedisStore(server.url) for _ in range(3)]
        stores[0].initialise(STORE)

        def change(number: int) -> None:
            revision = 0
            while True:
                try:
                    commit(stores[number], set_share(1, revision=revision, flag=f"f{number}"))
                except StoreUnavailable:
                    return
                revision += 1
                acknowledged[number] = revision

        threads = [threading.Thread(target=change, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
        for store in stores:
            store.close()

    with embedded_store(tmp_path) as server, RedisStore(server.url) as store:
        links = store.record(limit=10**6)
        states = store.read_all("states/production")

        assert find_break(links) is None
        assert sum(acknowledged.values()) <= len(links) <= sum(acknowledged.values()) + 3
        assert sum(state.revision for state in states.values()) == len(links)
        assert store.versions() == {"production": len(links)}
        for number, revision in acknowledged.items():
            assert states[f"f{number}"].revision in {revision, revision + 1}


FORKED = """
import os, sys, threading
from tests.contract.changes import STORE, accept, commit, set_share
from flagserver.storage.redis.store import RedisStore
store = RedisStore(sys.argv[1])
store.initialise(STORE)
commit(store, set_share(0, revision=0, flag="parent"))
store._turns.acquire()  # as a thread of the parent may, at the moment of the fork
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        for revision in range(20):
            commit(store, set_share(revision, revision=revision, flag=f"child-{number}"))
        os._exit(0)
    children.append(child)
store._turns.release()
for revision in range(1, 20):
    commit(store, set_share(revision, revision=revision, flag="parent"))
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert len(store.record()) == 80
"""


def test_a_store_may_be_forked(tmp_path: Path):
    with embedded_store(tmp_path) as server:
        ran = subprocess.run(
            [sys.executable, "-c", FORKED, server.url],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        with RedisStore(server.url) as store:
            assert ran.returncode == 0, ran.stderr
            assert find_break(store.record()) is None


@needs_redis
def test_scripts_touch_only_the_keys_that_they_were_given(tmp_path: Path):
    def all_of_it(store: RedisStore) -> None:
        for name, call in CALLS.items():
            if name != "events":
                call(store)
        for _ in range(2):
            commit(store, set_share(6, revision=1, idempotency=once("k"), claims={"c": "o"}))

    with ExitStack() as stack:
        server = stack.enter_context(redis_server(tmp_path))
        store = stack.enter_context(RedisStore(server.url))
        client = stack.enter_context(server.client())
        all_of_it(store)
        # Scripts stay known, so that from here on they go by their names and not by their texts.
        client.flushall()
        monitor = stack.enter_context(client.monitor())
        all_of_it(store)
        client.echo("the end")
        seen = [*commands_until_the_end(monitor)]

    given: set[str] = set()
    touched = []
    for from_script, words in seen:
        if words[0] == "EVALSHA":
            given = set(words[3 : 3 + int(words[2])])
        elif from_script and words[0] != "TIME":
            touched.append(words[1])
            assert words[1] in given, words
    assert len(touched) > 50


def commands_until_the_end(monitor: Any) -> Iterator[tuple[bool, list[str]]]:
    """Yield whether a script said it, and the words; keys have no spaces."""
    for line in iter(monitor.next_command, None):
        words = line["command"].split(" ")
        if words[0] == "ECHO":
            return
        yield line["client_type"] == "lua", words


def test_a_closed_store_opens_again(tmp_path: Path):
    with embedded_store(tmp_path) as server:
        store = RedisStore(server.url)
        store.initialise(STORE)
        store.close()
        with closing(store):
            assert store.identity() is not None
