"""The real front on a real port, in a thread of the test's own process.

with serving(front) as address: ...
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from flagserver.http.front import Front
from flagserver.http.streams import Hub
from flagserver.services import Services
from flagserver.web import Server, follow_in_background, listen


@contextmanager
def serving(front: Front, *, drain_seconds: float = 0.1, port: int = 0) -> Iterator[str]:
    """Serve a front as `flagserver web` does; give the address. port: 0 for any."""
    at = listen("127.0.0.1", port)
    server = Server(front, drain_seconds=drain_seconds)
    thread = threading.Thread(target=_run, args=(server, at), name="served by a test")
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        yield f"http://127.0.0.1:{at.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def following(app: Flask, services: Services, hub: Hub, *, port: int = 0) -> Iterator[str]:
    """Serve an application with its mirror following the store; give the address."""
    stop = follow_in_background(services.snapshots)
    try:
        with serving(Front(app, services, hub), port=port) as address:
            yield address
    finally:
        stop.set()


def _run(server: Server, at: object) -> None:
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[at]))  # type: ignore[list-item]
