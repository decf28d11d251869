"""The web process: gunicorn with threads, each worker with a mirror of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from flagserver import lifeline
from flagserver.services.snapshots import Snapshots
from flagserver.settings import Settings

THREADS = 256
"""Threads of a worker, made as they are needed; a stream holds one."""

GRACE_SECONDS = 2
"""How long open requests may take when the server is told to stop; streams would never end."""


class Web(BaseApplication):  # type: ignore[misc]  # gunicorn is not typed
    """Gunicorn, configured by our settings and by nothing else."""

    def __init__(self, settings: Settings, make_app: Callable[[], Flask], workers: int = 1) -> None:
        self._settings = settings
        self._make_app = make_app
        self._workers = workers
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn how to run."""
        options: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "worker_class": "gthread",
            "workers": self._workers,
            "threads": THREADS,
            "worker_connections": 2 * THREADS,
            "graceful_timeout": GRACE_SECONDS,
            "control_socket_disable": True,
            "proc_name": "flagserver-web",
            "loglevel": "warning",
            # A worker ends with its master, whatever happens to that.
            "post_fork": lambda _master, _worker: lifeline.die_with_parent(),
        }
        if Path("/dev/shm").is_dir():  # noqa: S108 (memory, so a slow disk cannot stop a heartbeat)
            options["worker_tmp_dir"] = "/dev/shm"  # noqa: S108
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Make the application, in the worker: threads and connections do not survive a fork."""
        return self._make_app()


def follow_in_background(snapshots: Snapshots) -> threading.Event:
    """Start the thread that keeps the mirror current; set the event to end it."""
    stop = threading.Event()
    threading.Thread(
        target=snapshots.follow, args=(stop,), name="sortition-mirror", daemon=True
    ).start()
    return stop
