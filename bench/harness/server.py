"""A real flag server: `flagserver run` with its embedded store, filled beforehand."""

from __future__ import annotations

import os
import random
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil

from flagserver import bootstrap
from flagserver.domain.commands import NewFlag, NewToken, StateEdit
from flagserver.processes import Child, Process
from flagserver.settings import Settings
from flagserver.storage.embedded import EmbeddedStore
from flagserver.system import SystemEntropy

ENVIRONMENT = "staging"
MOVING = "moves"
"""The flag that benchmarks change; it begins at 0 %."""

START_SECONDS = 60.0
STOP_SECONDS = 10.0
PORTS = range(20_000, 30_000)
"""Below the range from which the system takes ports for outgoing connections."""


class Server:
    """A server that runs. admin_key, sdk_key: tokens; the SDK's is for ENVIRONMENT."""

    def __init__(self, directory: Path, command: tuple[str, ...], flags: int) -> None:
        self._directory = directory
        self._command = command
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.sdk_key, self.admin_key = _fill(directory, flags)
        self._revisions: dict[str, int] = {}
        self._process: Process | None = None
        self.api = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.admin_key}"},
            timeout=30,
            trust_env=False,
        )

    def start(self) -> None:
        """Start it, anew perhaps, and wait until it answers."""
        environment = {
            "SORTITION_PORT": str(self.port),
            "SORTITION_DATA_DIR": str(self._directory),
        }
        self._process = Process(Child("server", self._command, environment), lambda _: None)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.ended() or time.monotonic() > deadline:
                said = "\n".join(self._process.lines)
                sys.exit(f"the server did not start:\n{said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.stop(STOP_SECONDS)
            self._process = None

    def kill_web(self) -> None:
        """End what serves by SIGKILL; `flagserver run` starts it again by itself."""
        for process in self.web():
            process.kill()

    def web(self) -> list[psutil.Process]:
        """Return the processes that serve HTTP."""
        assert self._process is not None, "the server is not running"
        run = psutil.Process(self._process.pid)
        return [each for each in run.children(recursive=True) if _serves(each)]

    def web_cpu(self) -> float:
        """Return CPU seconds of what serves, so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.web())

    def web_memory(self) -> int:
        """Return the private octets of what serves."""
        return sum(int(process.memory_full_info().uss) for process in self.web())

    def change(self, share: float, key: str = MOVING) -> int:
        """Change a flag's share by the API. Return when the call began (monotonic, ns)."""
        began = time.monotonic_ns()
        answer = self.api.patch(
            f"/api/v1/flags/{key}/environments/{ENVIRONMENT}",
            json={"share": share},
            headers={"If-Match": f'"{self._revisions.get(key, 0)}"'},
        )
        answer.raise_for_status()
        self._revisions[key] = answer.json()["revision"]
        return began

    def etag(self) -> str:
        """Return what the snapshot's version is called now."""
        key = {"Authorization": f"Bearer {self.sdk_key}"}
        answer = self.api.get("/api/v1/sdk/snapshot", headers=key)
        answer.raise_for_status()
        return answer.headers["ETag"]

    def _answers(self) -> bool:
        try:
            return self.api.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serving(flags: int, command: tuple[str, ...] | None = None) -> Iterator[Server]:
    """Run a server with so many flags at 25 %, MOVING among them. command: not `flagserver run`."""
    forget_settings()
    command = command or (sys.executable, "-m", "flagserver.main", "run")
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        server = Server(Path(directory), command, flags)
        stack.callback(server.api.close)
        stack.callback(server.stop)
        server.start()
        yield server


def forget_settings() -> None:
    """Leave out the settings of whoever runs this: they must not change what is measured."""
    for name in list(os.environ):
        if name.startswith(("SORTITION_", "OTEL_", "AWS_")):
            del os.environ[name]


def allow_many_files() -> int:
    """Let this process and its children open as many files as they may; return how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    sys.exit("no free port")


def sdk_environment(server: Server) -> Mapping[str, str]:
    """Return the environment of a host that follows this server."""
    bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**bare, "SORTITION_URL": server.url, "SORTITION_KEY": server.sdk_key}


def _serves(process: psutil.Process) -> bool:
    try:
        line = process.cmdline()
    except psutil.Error:
        return False
    # The worker of `flagserver web`, however its server names it; not the store, nor the loop.
    return "flagserver-web" in " ".join(line) or line[-1:] == ["web"]


def _fill(directory: Path, flags: int) -> tuple[str, str]:
    """Make flags and tokens before the server starts, for that is much quicker; return the keys."""
    settings = Settings(data_dir=directory)
    with EmbeddedStore(directory) as embedded:
        settings = settings.with_redis_url(embedded.url)
        store = bootstrap.open_store(settings)
        services = bootstrap.build_services(settings, store)
        admin = bootstrap.prepare(settings, store, services, SystemEntropy())
        by = bootstrap.INSTALLATION
        services.flags.create(NewFlag(key=MOVING), by)
        for number in range(flags - 1):
            key = f"flag-{number}"
            services.flags.create(NewFlag(key=key), by)
            services.flags.change(key, ENVIRONMENT, StateEdit(share=25.0), 0, by)
        made = services.tokens.create(NewToken(scope="sdk", environment=ENVIRONMENT), by)
    assert admin is not None
    assert made.text is not None
    return made.text, admin
