"""Real stores for tests: Debian's Redis, a Cluster of three, and the embedded one.

Each is a context manager. Each server is bound to the test process, so that even a killed run
leaves none behind. A start takes at most START_SECONDS, or the test fails with the last lines.

    with redis_server(tmp_path) as server:      server.url; server.kill(); server.start()
    with redis_cluster(tmp_path) as cluster:    cluster.url, cluster.ports
    with embedded_store(tmp_path) as store:     store.url; see flagserver.storage.embedded
"""

from __future__ import annotations

import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from flagserver.processes import Child, Process
from flagserver.storage.embedded import EmbeddedStore

START_SECONDS = 20.0
STOP_SECONDS = 5.0
ATTEMPTS = 5

# Below the range from which the system takes ports for outgoing connections: nobody's by chance.
PORTS = range(20_000, 30_000)
SLOTS = 16_384


@dataclass
class Server:
    """A `redis-server` on a Unix socket or a loopback port, with its files in `directory`."""

    directory: Path
    url: str
    options: list[str]
    process: Process | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        assert self.process is not None, "the server is not running"
        return self.process.pid

    def client(self) -> redis.Redis:
        """A connection of its own; the caller closes it."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def start(self) -> None:
        """Start it, after `kill` on the same data, and wait until it answers."""
        binary = shutil.which("redis-server")
        assert binary, "redis-server is missing: mark the test with @pytest.mark.needs"
        command = (binary, *self.options, "--dir", str(self.directory), "--daemonize", "no")
        self.process = Process(Child("redis", command), lambda _: None)
        try:
            wait_until(self._answers, "redis-server to answer")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it by SIGKILL, at once."""
        if self.process is not None:
            self.process.kill()
            assert self.process.wait(STOP_SECONDS)
            self.process = None

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None:
            self.process.stop(STOP_SECONDS)
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.ended():
            raise ServerEnded("\n".join(self.process.lines))
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


@dataclass
class Cluster:
    """Three masters on loopback, all slots assigned."""

    nodes: list[Server]

    @property
    def ports(self) -> list[int]:
        return [int(node.url.rpartition(":")[2]) for node in self.nodes]

    @property
    def url(self) -> str:
        """As SORTITION_REDIS_URL has it."""
        return f"redis-cluster://127.0.0.1:{self.ports[0]}"

    def client(self) -> redis.RedisCluster:
        """A connection of its own; the caller closes it."""
        return redis.RedisCluster(host="127.0.0.1", port=self.ports[0], socket_timeout=5)


class ServerEnded(AssertionError):
    """A server ended instead of starting; carries its last lines."""


@contextmanager
def redis_server(directory: Path, *options: str, port: bool = False) -> Iterator[Server]:
    """Run Debian's Redis with more options, e.g. "--appendonly", "yes". port: on loopback TCP.

    It keeps nothing on disk unless an option says so. The test needs "redis-server".
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if port:
            server = stack.enter_context(_on_free_ports(lambda: [_tcp(directory, *options)]))[0]
        else:
            # A path of pytest's can be longer than a socket's may be.
            short = stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-"))
            path = f"{short}/redis.sock"
            listen = ["--port", "0", "--unixsocket", path, "--unixsocketperm", "700"]
            server = Server(directory, f"unix://{path}", [*listen, "--save", "", *options])
            stack.callback(server.stop)
            server.start()
        yield server


@contextmanager
def redis_cluster(directory: Path) -> Iterator[Cluster]:
    """Run a Cluster of three masters and wait until each of them says that it is whole.

    Takes about two seconds, so share one in a module. The test needs "redis-server".
    """

    def nodes() -> list[Server]:
        made = []
        for number in range(3):
            place = directory / f"node-{number}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            made.append(_tcp(place, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000"))
        return made

    with _on_free_ports(nodes) as started:
        cluster = Cluster(started)
        _join(cluster)
        yield cluster


@contextmanager
def embedded_store(directory: Path) -> Iterator[EmbeddedStore]:
    """Run the embedded store of a data directory."""
    store = EmbeddedStore(directory)
    store.start(START_SECONDS)
    try:
        yield store
    finally:
        store.stop(STOP_SECONDS)


def wait_until(true: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until something is so. Raises AssertionError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, all different."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, 200):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    assert len(found) == count, "no free ports"
    return found


def _tcp(directory: Path, *options: str) -> Server:
    port, bus = free_ports(2)
    listen = ["--port", str(port), "--bind", "127.0.0.1"]
    if "--cluster-enabled" in options:
        listen += ["--cluster-port", str(bus)]
    return Server(directory, f"redis://127.0.0.1:{port}", [*listen, "--save", "", *options])


@contextmanager
def _on_free_ports(make: Callable[[], list[Server]]) -> Iterator[list[Server]]:
    """Start servers; when another process was quicker to take a port, try with other ports."""
    for attempt in range(ATTEMPTS):
        with ExitStack() as stack:
            servers = make()
            try:
                for server in servers:
                    stack.callback(server.stop)
                    server.start()
            except ServerEnded as error:
                if attempt + 1 < ATTEMPTS and "in use" in str(error):
                    continue
                raise
            yield servers
            return


def _join(cluster: Cluster) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for node in cluster.nodes]
        share = SLOTS // len(clients)
        for number, client in enumerate(clients):
            last = SLOTS if number + 1 == len(clients) else (number + 1) * share
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, last - 1)
        for node, port in zip(cluster.nodes[1:], cluster.ports[1:], strict=True):
            bus = node.options[node.options.index("--cluster-port") + 1]
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)

        def whole() -> bool:
            states = [client.execute_command("CLUSTER INFO") for client in clients]
            return all(
                state["cluster_state"] == "ok"
                and state["cluster_slots_ok"] == str(SLOTS)
                and state["cluster_known_nodes"] == str(len(clients))
                for state in states
            )

        wait_until(whole, "the Cluster to be whole")
