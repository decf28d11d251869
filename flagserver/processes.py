"""Child processes: started so that they never outlive us, kept running, ended in order.

`spawn_bound` is the one way this server starts another process. `Process` holds what it started and
its output; `supervisor.py` keeps several of them running.

    ProcessError
    ├── PortInUse       something else listens where we are to
    └── StartFailed     a child did not become ready; carries its last lines
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from flagserver import lifeline

STARTING_TICK = 0.02
"""Seconds between two looks at a child that is starting for the first time."""

REAP_SECONDS = 5.0
"""How long a killed process may take to be gone. Only one stuck in the kernel takes longer."""

LINE_LIMIT = 8192
"""Octets of a child's output that are taken as one line at most."""

LAST_LINES = 20
"""How many lines of a child's output are remembered, to say why it failed."""

LOG_LIMIT = 1 << 20
"""Octets of a log file, after which it becomes `….1` and a new one begins."""


Popen = subprocess.Popen[bytes]
Start = Callable[[], Popen]
Calls = SimpleQueue[tuple[Start, Future[Popen]]]


class ProcessError(Exception):
    """A process that this server needs cannot be had. The message says what to do."""


class StartFailed(ProcessError):
    """A child ended, or was not ready in time, when it was first started.

    name: the child's. lines: the last it wrote, oldest first.
    """

    def __init__(self, name: str, reason: str, lines: Sequence[str] = ()) -> None:
        said = "".join(f"\n  {name} | {line}" for line in lines)
        super().__init__(f"{name} did not start: {reason}.{said}")
        self.name = name
        self.reason = reason
        self.lines = tuple(lines)


# --- places to listen at --------------------------------------------------------------------------


class PortInUse(ProcessError):
    """Something else listens there."""

    def __init__(self, host: str, port: int, advice: str) -> None:
        super().__init__(f"Something listens at {host}:{port} already. {advice}")


def wait_for_port(host: str, port: int, *, advice: str, seconds: float = 3.0) -> None:
    """Return when the port is free. Raises PortInUse after so many seconds.

    It waits a little, for those who were killed a moment ago still hold it until they are gone.
    """
    deadline = time.monotonic() + seconds
    while not _is_free(host, port):
        if time.monotonic() >= deadline:
            raise PortInUse(host, port, advice)
        time.sleep(0.05)


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
        return True


# --- bound to this process ------------------------------------------------------------------------


def spawn_bound(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    output: int | IO[bytes] | None = None,
    inherit: Sequence[int] = (),
    means: str = "kernel",
) -> Popen:
    """Start a command that dies when this process does, even by SIGKILL; see `lifeline`.

    It leads a session of its own, so a terminal's Ctrl-C reaches this process only and the end is
    ours to order. It reads from nowhere, and both its outputs go to `output`.

    environment: added to this process's. inherit: open files it gets besides. means: `kernel`, or
    `watcher` for what other systems than Linux use. A command that does not exist ends with 127.
    May be called from any thread, and is not tied to that thread's life.
    """

    def start() -> Popen:
        pipe = _bond.pipe()
        return subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", lifeline.__file__),
                *(str(os.getpid()), str(pipe), means),
                *command,
            ],
            env=dict(os.environ) | dict(environment or {}),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            pass_fds=(pipe, *inherit),
            start_new_session=True,
        )

    return _bond.start(start)


class _Bond:
    """What children are tied to: one thread that lives as long as the process, and one pipe.

    For the kernel a child's parent is the *thread* that started it, so one thread starts them all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Calls | None = None
        self._ends: tuple[int, int] | None = None

    def start(self, work: Start) -> Popen:
        """Do the work on the long-lived thread. Returns its result or raises its error."""
        with self._lock:
            if self._calls is None:
                self._calls = SimpleQueue()
                threading.Thread(
                    target=self._serve, args=(self._calls,), name="spawn", daemon=True
                ).start()
        result: Future[Popen] = Future()
        self._calls.put((work, result))
        return result.result()

    def pipe(self) -> int:
        """Return the end to hand on. The other stays open here as long as this process lives."""
        if self._ends is None:
            self._ends = os.pipe()
        return self._ends[0]

    def leave_to_parent(self) -> None:
        """After a fork: the thread is gone, and the parent's children hang on the parent only."""
        if self._ends is not None:
            for end in self._ends:
                with suppress(OSError):
                    os.close(end)
        self._lock, self._calls, self._ends = threading.Lock(), None, None

    @staticmethod
    def _serve(calls: Calls) -> None:
        while True:
            work, result = calls.get()
            try:
                result.set_result(work())
            except Exception as error:  # noqa: BLE001 - it is the caller's
                result.set_exception(error)
            del work, result


_bond = _Bond()
os.register_at_fork(after_in_child=_bond.leave_to_parent)


# --- one child ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Restarts:
    """When a child that ended is started again: after a random part of a growing delay.

    first: seconds, the upper end of the first delay; it doubles with each failure up to `limit`.
    healthy: seconds of being ready after which failures are forgotten.
    """

    first: float = 0.25
    limit: float = 10.0
    healthy: float = 10.0

    def delay(self, failures: int, chance: float) -> float:
        """Return seconds to wait after so many failures in a row (from 1); chance in [0, 1)."""
        return chance * min(self.limit, self.first * 2.0 ** min(failures - 1, 32))


def at_once() -> bool:
    """Ready as soon as it runs."""
    return True


@dataclass(frozen=True, slots=True)
class Child:
    """A process to be kept running.

    environment: added to this process's. directory: where it runs. inherit: open files it gets.
    ready: asked again and again, must answer within about a second. start_seconds: how long it may
    take to be ready. stop_seconds: how long it has from SIGTERM to SIGKILL. waited_for: whether the
    children after it need it to be ready when they start. log: a file for its output, which is kept
    bounded; None: it goes to ours, each line with the child's name before it.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    inherit: tuple[int, ...] = ()
    ready: Callable[[], bool] = at_once
    start_seconds: float = 30.0
    stop_seconds: float = 10.0
    waited_for: bool = True
    restarts: Restarts = Restarts()
    log: Path | None = None


class Process:
    """A started child, the processes it started in turn, and its last lines."""

    def __init__(self, child: Child, write: Callable[[str], None]) -> None:
        """Start it. write: takes each line of its output, on another thread. Raises OSError."""
        self._popen = spawn_bound(
            child.command,
            # What a child prints is to be seen when it prints it, not when a buffer is full.
            environment={"PYTHONUNBUFFERED": "1"} | dict(child.environment),
            directory=child.directory,
            output=subprocess.PIPE,
            inherit=child.inherit,
        )
        self._write = write
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._reader = threading.Thread(
            target=self._read,
            args=(self._popen.stdout,),
            name=f"output of {child.name}",
            daemon=True,
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's too."""
        return self._popen.pid

    @property
    def lines(self) -> list[str]:
        """Its last lines, oldest first."""
        return list(self._lines)

    @property
    def status(self) -> int | None:
        """How it ended: an exit status, minus a signal's number, or None while `ended()` is not."""
        return self._popen.returncode

    def ended(self) -> bool:
        """Whether it ended; then it is reaped, and nothing that it started is left."""
        if self._popen.returncode is not None:
            return True
        if not self._is_over():
            return False
        self._popen.wait()
        self._reader.join(timeout=1.0)
        return True

    def terminate(self) -> None:
        """Ask it to end."""
        self._popen.terminate()

    def kill(self) -> None:
        """End it, and what it started."""
        if self._popen.returncode is None:
            self._kill_group()
            self._popen.kill()

    def stop(self, seconds: float) -> None:
        """Ask it to end, wait at most so long, kill it. Takes up to REAP_SECONDS more."""
        self.terminate()
        if not self.wait(seconds):
            self.kill()
            self.wait(REAP_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Wait until it ended, at most so long. Returns whether it did."""
        deadline = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() >= deadline:
                return False
            time.sleep(STARTING_TICK)
        return True

    def _is_over(self) -> bool:
        if not hasattr(os, "waitid"):
            return self._popen.poll() is not None
        with suppress(ChildProcessError):
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
        # Not reaped yet, so its group's number cannot have been given to anybody else.
        self._kill_group()
        return True

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(LINE_LIMIT):
                text = line.decode(errors="replace").rstrip("\r\n")
                self._lines.append(text)
                # Our own output may be closed; the child must not come to a halt on a full pipe.
                with suppress(OSError, ValueError):
                    self._write(text)


class BoundedLog:
    """A log file that becomes `….1` when it is full, so that both together stay bounded."""

    def __init__(self, path: Path, limit: int = LOG_LIMIT) -> None:
        self._path = path
        self._limit = limit

    def write(self, line: str) -> None:
        """Append a line. Raises OSError."""
        text = f"{line}\n".encode(errors="replace")
        with suppress(FileNotFoundError):
            if self._path.stat().st_size + len(text) > self._limit:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        with open(self._path, "ab", opener=_private) as file:
            file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def how_it_ended(status: int | None) -> str:
    """Return words for an exit status, or for minus a signal's number."""
    if status is not None and status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    return f"it ended with status {status}"
