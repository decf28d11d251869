"""What it costs the server to say that nothing has changed, against a route that does nothing."""

from __future__ import annotations

import socket
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import plain_server, server
from bench.harness.report import Options, Row, at_most, run, say

END = b"\r\n\r\n"


class Asker:
    """One connection that is kept, and one request that is asked again and again."""

    def __init__(
        self, stack: ExitStack, serving: server.Server, path: str, etag: str | None, status: int
    ) -> None:
        self._socket = stack.enter_context(socket.create_connection(("127.0.0.1", serving.port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(10)
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{serving.port}"]
        lines.append(f"Authorization: Bearer {serving.sdk_key}")
        if etag is not None:
            lines.append(f"If-None-Match: {etag}")
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self._status = f"HTTP/1.1 {status} ".encode()
        self._serving = serving
        self.microseconds: list[float] = []

    def ask(self, times: int) -> None:
        """Ask so often, and take what it cost the server for each."""
        before = self._serving.web_cpu()
        for _ in range(times):
            self._socket.sendall(self._request)
            answer = b""
            while not answer.endswith(END):
                part = self._socket.recv(65536)
                if not part:
                    sys.exit("the server closed a connection that was to be kept")
                answer += part
            if not answer.startswith(self._status):
                sys.exit(f"an unexpected answer: {answer[:80]!r}")
        self.microseconds.append((self._serving.web_cpu() - before) / times * 1e6)


def measure(options: Options) -> Iterator[Row]:
    """Ask both in turns."""
    rounds, times = options.of(quick=2, whole=15), options.of(quick=200, whole=3000)
    with ExitStack() as stack:
        say("filling and starting a server")
        command = (sys.executable, plain_server.__file__, "run")
        serving = stack.enter_context(server.serving(200, command))
        etag = serving.etag()
        snapshot = Asker(stack, serving, "/api/v1/sdk/snapshot", etag, 304)
        plain = Asker(stack, serving, plain_server.PATH, None, 204)
        for asker in (snapshot, plain):
            asker.ask(50)
            asker.microseconds.clear()
        say(f"{rounds} rounds of {times} requests each")
        for _ in range(rounds):
            snapshot.ask(times)
            plain.ask(times)
    ratio = statistics.median(
        a / b for a, b in zip(snapshot.microseconds, plain.microseconds, strict=True)
    )
    ours, route = statistics.median(snapshot.microseconds), statistics.median(plain.microseconds)
    yield Row("snapshot_us", "304 of the snapshot, authenticated, CPU", ours, "us")
    yield Row("plain_us", "a Flask route that answers an empty 204, CPU", route, "us")
    yield Row("ratio", "304 of the snapshot over the empty route", ratio, "x", at_most(0.6))


if __name__ == "__main__":
    run(
        measure,
        title="What it costs the server to say that nothing has changed",
        method="`flagserver run` with its embedded store, 200 flags, and one more Flask route; one "
        "kept connection for each of the two, asked in turns; CPU time of the serving process as "
        "the system counts it; medians.",
        distributions=["flask", "uvicorn"],
    )
