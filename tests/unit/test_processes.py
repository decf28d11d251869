"""Child processes die with us, are kept running, and end in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import BadStatusLine
from io import StringIO
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from flagserver import lifeline
from flagserver.processes import (
    LOG_LIMIT,
    BoundedLog,
    Child,
    PortInUse,
    Process,
    Restarts,
    StartFailed,
    spawn_bound,
    wait_for_port,
)
from flagserver.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
RESTARTS = Restarts()


def eventually(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    """Whether a process that is not our child runs no more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_sleep(pid: int) -> bool:
    return psutil.Process(pid).name() == "sleep"


@contextmanager
def python(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class TestBound:
    """`spawn_bound` and what it becomes."""

    PARENT = """
import os, signal, sys, time
from flagserver.processes import spawn_bound
print(spawn_bound(["sleep", "300"], means=sys.argv[1]).pid, flush=True)
if sys.argv[2] == "forked" and os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(300)
"""

    @pytest.mark.parametrize("means", ["kernel", "watcher"])
    def test_a_child_dies_with_a_parent_that_is_killed(self, means):
        with python(self.PARENT, means, "alone") as parent:
            child = int(line(parent))
            assert eventually(lambda: is_sleep(child))

            parent.kill()

            assert eventually(lambda: gone(child))

    def test_a_forked_copy_of_the_parent_does_not_keep_a_child_alive(self):
        with python(self.PARENT, "watcher", "forked") as parent:
            child, copy = int(line(parent)), int(line(parent))
            try:
                assert eventually(lambda: is_sleep(child))
                parent.kill()

                assert eventually(lambda: gone(child))
                assert not gone(copy)
            finally:
                os.kill(copy, signal.SIGKILL)

    def test_a_child_does_not_die_with_the_thread_that_started_it(self):
        started: list[subprocess.Popen[bytes]] = []

        def start() -> None:
            started.append(process := spawn_bound(["sleep", "300"]))
            eventually(lambda: is_sleep(process.pid))

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()

        with started[0] as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.3)
            process.kill()

    def test_nothing_is_run_for_a_parent_that_is_gone(self):
        ended = subprocess.run(
            [
                *(sys.executable, "-I", "-S", lifeline.__file__),
                *(str(os.getppid()), "0", "kernel", "echo", "run"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

        assert (ended.returncode, ended.stdout) == (lifeline.CANNOT_START, b"")

    def test_the_watcher_goes_when_the_command_ends(self):
        def watchers() -> list[int]:
            found = []
            for process in psutil.process_iter(["cmdline"]):
                words = process.info["cmdline"] or []
                if lifeline.__file__ in words and str(os.getpid()) in words:
                    found.append(process.pid)
            return found

        with spawn_bound(["sleep", "302"], means="watcher") as process:
            assert eventually(lambda: is_sleep(process.pid))
            [watcher] = watchers()
            process.kill()

        assert eventually(lambda: gone(watcher))

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_a_command_has_its_signals_as_it_would_from_a_shell(self):
        output = subprocess.PIPE
        with spawn_bound(["cat", "/proc/self/status"], output=output) as process:
            assert process.stdout is not None
            status = process.stdout.read().decode()

        lines = dict(row.split(":\t") for row in status.splitlines() if row.startswith("Sig"))
        # 32 and 33 are the C library's own: no program can set them, and what starts us may not
        # have them as they were.
        settable = ~(0b11 << 31)
        ignored, blocked = (int(lines[name], 16) & settable for name in ("SigIgn", "SigBlk"))
        assert (ignored, blocked) == (0, 0)

    def test_a_command_that_is_not_there_says_so(self):
        child = Child("absent", ("no-such-command",))
        process = Process(child, lambda _: None)

        assert process.wait(5)
        assert process.status == lifeline.CANNOT_START
        assert process.lines == ["cannot run no-such-command: No such file or directory"]


class TestProcess:
    """One child, what it started, and what it wrote."""

    def test_its_lines_are_passed_on_and_the_last_remembered(self):
        seen: list[str] = []
        program = "for n in range(30): print(n)\nprint('x' * 20000)"
        process = Process(Child("writer", (sys.executable, "-c", program)), seen.append)

        assert process.wait(5)
        assert process.status == 0
        assert seen == [*map(str, range(30)), "x" * 8192, "x" * 8192, "x" * 3616]
        assert process.lines == seen[-20:]

    def test_a_reader_that_fails_does_not_stop_it(self):
        def fail(_: str) -> None:
            raise BrokenPipeError

        program = "for n in range(50_000): print('line')"
        process = Process(Child("writer", (sys.executable, "-c", program)), fail)

        assert process.wait(10)
        assert process.status == 0

    @pytest.mark.parametrize("means", ["ends by itself", "is killed"])
    def test_what_it_started_ends_with_it(self, means):
        last = "exit 3" if means == "ends by itself" else "sleep 300"
        process = Process(
            Child("shell", ("sh", "-c", f"sleep 301 & echo $!; {last}")), lambda _: None
        )
        assert eventually(lambda: bool(process.lines))

        if means == "is killed":
            process.kill()

        assert process.wait(5)
        assert process.status == (3 if means == "ends by itself" else -signal.SIGKILL)
        assert eventually(lambda: gone(int(process.lines[0])))

    def test_stop_is_bounded(self):
        ready = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
        process = Process(Child("stubborn", ("sh", "-c", ready)), lambda _: None)
        assert eventually(lambda: process.lines == ["ready"])

        before = time.monotonic()
        process.stop(0.2)

        assert 0.2 <= time.monotonic() - before < 2
        assert process.status == -signal.SIGKILL

    def test_a_log_stays_bounded(self, tmp_path):
        path = tmp_path / "child.log"
        log = BoundedLog(path, limit=100)
        for number in range(50):
            log.write(f"line {number}")

        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["child.log", "child.log.1"]
        assert all(file.stat().st_size <= 100 for file in files)
        assert path.read_text().splitlines()[-1] == "line 49"
        assert path.stat().st_mode & 0o777 == 0o600
        assert LOG_LIMIT == 1 << 20


# --- the supervisor, with processes and a clock of our own ----------------------------------------


@dataclass
class Stage:
    """A clock, and the processes that were started by it."""

    now: float = 0.0
    happened: list[str] = field(default_factory=list)
    running: dict[str, FakeProcess] = field(default_factory=dict)
    stubborn: set[str] = field(default_factory=set)
    unready: set[str] = field(default_factory=set)
    doomed: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    naps: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        for at, act in list(self.naps):
            if self.now >= at:
                self.naps.remove((at, act))
                act()

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        self.naps.append((seconds, act))

    def spawn(self, child: Child, write: Callable[[str], None]) -> FakeProcess:
        if child.name in self.missing:
            raise FileNotFoundError("no such directory")
        self.note(f"start {child.name}")
        process = FakeProcess(self, child.name)
        if child.name in self.doomed:
            process.lines.append("I cannot go on")
            process.status = 1
        self.running[child.name] = process
        return process

    def note(self, what: str) -> None:
        self.happened.append(f"{self.now:.1f} {what}")

    def starts(self, name: str) -> list[float]:
        return [float(row.split()[0]) for row in self.happened if row.endswith(f"start {name}")]


@dataclass
class FakeProcess:
    stage: Stage
    name: str
    pid: int = 7
    status: int | None = None
    lines: list[str] = field(default_factory=list)

    def ended(self) -> bool:
        return self.status is not None

    def terminate(self) -> None:
        self.stage.note(f"terminate {self.name}")
        if self.name not in self.stage.stubborn:
            self.status = -signal.SIGTERM

    def kill(self) -> None:
        self.stage.note(f"kill {self.name}")
        self.status = -signal.SIGKILL

    def die(self) -> None:
        self.status = -signal.SIGKILL


@pytest.fixture
def stage() -> Stage:
    return Stage()


def supervisor(
    stage: Stage,
    *names: str,
    restarts: Restarts = RESTARTS,
    out: StringIO | None = None,
    beside: tuple[str, ...] = (),
) -> Supervisor:
    children = [
        Child(
            name,
            ("true",),
            ready=lambda name=name: name not in stage.unready,  # type: ignore[misc]
            start_seconds=5,
            stop_seconds=2,
            waited_for=name not in beside,
            restarts=restarts,
        )
        for name in names
    ]
    return Supervisor(
        children,
        spawn=stage.spawn,
        clock=lambda: stage.now,
        sleep=stage.sleep,
        chance=lambda: 0.5,
        out=out or StringIO(),
    )


def ticks(stage: Stage, keeper: Supervisor, until: float) -> None:
    while stage.now < until:
        stage.sleep(0.1)
        keeper.tick()


class TestSupervisor:
    """What is decided, when."""

    def test_children_start_in_order_each_when_the_one_before_is_ready(self, stage):
        keeper = supervisor(stage, "store", "web")
        stage.unready.add("store")
        stage.at(1.0, stage.unready.clear)

        keeper.start()

        assert stage.happened == ["0.0 start store", "1.0 start web"]
        assert (keeper.pid("store"), keeper.pid("web")) == (7, 7)

    def test_one_that_is_not_waited_for_holds_up_no_other_but_the_end_of_the_start(self, stage):
        stage.unready = {"cloud", "store"}
        stage.at(1.0, lambda: stage.unready.discard("store"))
        stage.at(2.0, lambda: stage.unready.discard("cloud"))
        out = StringIO()

        supervisor(stage, "cloud", "store", "web", beside=("cloud",), out=out).start()

        assert stage.happened == ["0.0 start cloud", "0.0 start store", "1.0 start web"]
        assert stage.now == pytest.approx(2.0, abs=0.05)
        assert out.getvalue() == ""

    def test_one_that_is_not_waited_for_and_fails_at_the_first_start_ends_all(self, stage):
        stage.unready, stage.doomed = {"store"}, {"cloud"}

        with pytest.raises(StartFailed, match="cloud did not start: it ended with status 1"):
            supervisor(stage, "cloud", "store", beside=("cloud",)).start()

    def test_children_end_in_the_reverse_of_their_order(self, stage):
        keeper = supervisor(stage, "store", "web", "visitors")
        keeper.start()
        stage.happened.clear()

        keeper.stop()

        assert stage.happened == [
            "0.0 terminate visitors",
            "0.0 terminate web",
            "0.0 terminate store",
        ]
        assert keeper.pid("store") is None

    def test_a_stubborn_child_is_killed_when_its_time_is_over(self, stage):
        keeper = supervisor(stage, "store", "web")
        stage.stubborn.add("web")
        keeper.start()
        stage.happened.clear()

        keeper.stop()

        assert stage.happened == ["0.0 terminate web", "2.0 kill web", "2.0 terminate store"]

    def test_a_child_that_ends_is_started_again(self, stage):
        out = StringIO()
        keeper = supervisor(stage, "store", "web", out=out)
        keeper.start()

        stage.running["store"].die()
        ticks(stage, keeper, until=1)

        assert stage.starts("store") == [0.0, 0.3]
        assert stage.starts("web") == [0.0]
        assert out.getvalue().splitlines() == [
            "      | store: it was ended by SIGKILL; starting it again in 0.1 s",
            "      | store is ready again",
        ]

    def test_the_delay_doubles_up_to_its_limit(self, stage):
        keeper = supervisor(stage, "web", restarts=Restarts(first=1, limit=8))
        keeper.start()
        stage.running["web"].die()
        stage.doomed.add("web")

        ticks(stage, keeper, until=40)

        starts = stage.starts("web")
        delays = [round(b - a) for a, b in pairwise(starts[1:])]
        assert delays[:6] == [1, 2, 4, 4, 4, 4]

    def test_a_child_that_always_dies_is_never_started_more_often_than_a_tick(self, stage):
        keeper = supervisor(stage, "web", restarts=Restarts(first=0, limit=0))
        keeper.start()
        stage.running["web"].die()
        stage.doomed.add("web")

        ticks(stage, keeper, until=10)

        assert len(stage.starts("web")) <= 51

    def test_failures_are_forgotten_after_a_healthy_time(self, stage):
        keeper = supervisor(stage, "web", restarts=Restarts(first=4, limit=64, healthy=10))
        keeper.start()
        for _ in range(3):
            stage.running["web"].die()
            ticks(stage, keeper, until=stage.now + 9)
        stage.happened.clear()
        ticks(stage, keeper, until=stage.now + 11)
        died = stage.now

        stage.running["web"].die()
        ticks(stage, keeper, until=died + 9)

        assert stage.starts("web")[-1] - died == pytest.approx(2, abs=0.25)

    def test_a_restarted_child_that_is_never_ready_is_killed_and_tried_again(self, stage):
        keeper = supervisor(stage, "web")
        keeper.start()
        stage.unready.add("web")
        stage.running["web"].die()

        ticks(stage, keeper, until=6)

        kills = [row for row in stage.happened if row.endswith("kill web")]
        assert len(kills) == 1
        assert len(stage.starts("web")) == 3

    def test_a_child_that_cannot_be_started_again_is_tried_later(self, stage):
        keeper = supervisor(stage, "web")
        keeper.start()
        stage.missing.add("web")
        stage.running["web"].die()
        ticks(stage, keeper, until=3)
        assert stage.starts("web") == [0.0]

        stage.missing.clear()
        ticks(stage, keeper, until=20)

        assert len(stage.starts("web")) == 2

    @pytest.mark.parametrize("answer", [ConnectionRefusedError(), BadStatusLine("PONG")])
    def test_one_that_cannot_be_asked_is_not_ready(self, stage, answer):
        def refuse() -> bool:
            raise answer

        child = Child("web", ("true",), ready=refuse, start_seconds=1)
        keeper = Supervisor(
            [child], spawn=stage.spawn, clock=lambda: stage.now, sleep=stage.sleep, out=StringIO()
        )

        with pytest.raises(StartFailed, match=r"web did not start: it was not ready after 1 s"):
            keeper.start()

    @pytest.mark.parametrize(
        ("trouble", "message"),
        [
            ("doomed", "web did not start: it ended with status 1."),
            ("unready", "web did not start: it was not ready after 5 s."),
            ("missing", "web did not start: no such directory."),
        ],
    )
    def test_a_first_start_that_fails_ends_all(self, stage, trouble, message):
        keeper = supervisor(stage, "store", "web", "visitors")
        getattr(stage, trouble).add("web")

        with pytest.raises(StartFailed) as failure:
            keeper.run()

        assert str(failure.value) == message
        assert stage.starts("visitors") == []
        assert stage.running["store"].status == -signal.SIGTERM
        assert all(process.ended() for process in stage.running.values())

    def test_last_words_that_went_to_a_log_are_told(self, stage, tmp_path):
        child = Child("web", ("true",), log=tmp_path / "web.log")
        keeper = Supervisor(
            [child], spawn=stage.spawn, clock=lambda: stage.now, sleep=stage.sleep, out=StringIO()
        )
        stage.doomed.add("web")

        with pytest.raises(StartFailed, match=r"\n  web \| I cannot go on"):
            keeper.start()

    def test_run_ends_when_a_signal_asks_for_it(self, stage):
        keeper = supervisor(stage, "store", "web")
        before = signal.getsignal(signal.SIGTERM)
        stage.at(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        ready_at: list[float] = []

        keeper.run(on_ready=lambda: ready_at.append(stage.now))

        assert ready_at == [0]
        assert [row.split(" ", 1)[1] for row in stage.happened[-2:]] == [
            "terminate web",
            "terminate store",
        ]
        assert signal.getsignal(signal.SIGTERM) is before

    def test_a_signal_while_starting_ends_what_was_started(self, stage):
        keeper = supervisor(stage, "store", "web")
        stage.unready.add("store")
        stage.at(1, lambda: os.kill(os.getpid(), signal.SIGINT))
        ready_at: list[float] = []

        keeper.run(on_ready=lambda: ready_at.append(stage.now))

        assert ready_at == []
        assert stage.happened == ["0.0 start store", "1.0 terminate store"]

    def test_a_second_interrupt_ends_all_at_once(self, stage):
        keeper = supervisor(stage, "store", "web")
        stage.stubborn |= {"store", "web"}
        stage.at(1, lambda: os.kill(os.getpid(), signal.SIGINT))
        stage.at(1.5, lambda: os.kill(os.getpid(), signal.SIGINT))

        keeper.run()

        assert [row.split(" ", 1)[1] for row in stage.happened[2:]] == [
            "terminate web",
            "kill web",
            "terminate store",
            "kill store",
        ]
        assert stage.now < 2

    def test_an_error_of_on_ready_ends_all(self, stage):
        def fail() -> None:
            raise RuntimeError("no page to open")

        with pytest.raises(RuntimeError):
            supervisor(stage, "store").run(on_ready=fail)

        assert stage.running["store"].ended()

    def test_delays_are_a_random_part_of_a_growing_limit(self):
        restarts = Restarts(first=0.25, limit=10)

        assert [restarts.delay(n, 0.999999) for n in (1, 2, 3)] == pytest.approx(
            [0.25, 0.5, 1.0], abs=1e-3
        )
        assert restarts.delay(10**6, 0.999999) == pytest.approx(10, abs=1e-3)
        assert restarts.delay(5, 0.0) == 0.0


class TestSupervisorForReal:
    """With processes that are killed."""

    KEEPER = """
import sys
from flagserver.processes import Child
from flagserver.supervisor import Supervisor
stubborn = "trap '' TERM INT; echo up $$; while :; do sleep 0.1; done"
gentle = "echo up $$; exec sleep 300"
Supervisor([
    Child("store", ("sh", "-c", gentle)),
    Child("web", ("sh", "-c", stubborn if sys.argv[1] == "stubborn" else gentle), stop_seconds=20),
], out=sys.stdout).run(on_ready=lambda: print("ready", flush=True))
print("ended", flush=True)
"""

    @contextmanager
    def keeper(self, manner: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
        with python(self.KEEPER, manner) as process:
            seen = [line(process) for _ in range(3)]
            pids = {}
            for row in seen:
                if "| up" in row:
                    pids[row.split()[0]] = int(row.split()[-1])
            assert sorted(pids) == ["store", "web"], seen
            yield process, pids

    def test_sigterm_ends_all_and_leaves_nothing(self):
        with self.keeper("gentle") as (process, pids):
            process.send_signal(signal.SIGTERM)

            assert line(process) == "ended"
            assert process.wait(5) == 0
            assert all(gone(pid) for pid in pids.values())

    def test_a_killed_child_is_back_within_a_second(self):
        with self.keeper("gentle") as (process, pids):
            before = time.monotonic()
            os.kill(pids["store"], signal.SIGKILL)

            rows = [line(process) for _ in range(3)]

            assert time.monotonic() - before < 1
            assert "store: it was ended by SIGKILL" in rows[0]
            assert any(row.startswith("store | up") for row in rows)

    def test_ctrl_c_twice_does_not_wait_for_a_stubborn_child(self):
        with self.keeper("stubborn") as (process, pids):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)

            assert process.wait(3) == 0
            assert all(gone(pid) for pid in pids.values())

    def test_children_die_with_a_supervisor_that_is_killed(self):
        with self.keeper("stubborn") as (process, pids):
            process.kill()

            assert eventually(lambda: all(gone(pid) for pid in pids.values()))


class TestPorts:
    def test_a_port_in_use_is_named_with_the_way_out(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]

            with pytest.raises(PortInUse, match=rf"127.0.0.1:{port} already. Stop that."):
                wait_for_port("127.0.0.1", port, advice="Stop that.", seconds=0)

    def test_a_port_that_becomes_free_is_waited_for(self):
        other = socket.create_server(("127.0.0.1", 0))
        port = other.getsockname()[1]
        threading.Timer(0.2, other.close).start()

        wait_for_port("127.0.0.1", port, advice="", seconds=5)
