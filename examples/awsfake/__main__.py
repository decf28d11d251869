"""`python -m examples.awsfake --port 8402`: the double, on loopback, until it is ended.

It says `ready` when it can be asked; `--now` and `--scale` are its clock.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from .app import CutOff, Double
from .clock import Clock


class Handler(WSGIRequestHandler):
    """Keeps connections open, as AWS does; writes no line for each request; can cut one off."""

    protocol_version = "HTTP/1.1"

    def run_wsgi(self) -> None:
        """Answer, or cut the line."""
        try:
            super().run_wsgi()
        except CutOff:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_request(self, *_: Any) -> None:
        """Say nothing."""


class Server(ThreadedWSGIServer):
    """A thread for each connection."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of failures of the double; that a caller went away is none."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="examples.awsfake", description="An AWS double")
    parser.add_argument("--port", type=int, default=8402)
    parser.add_argument("--now", type=float, help="unix seconds to begin at")
    parser.add_argument("--scale", type=float, default=1.0, help="how fast its clock runs")
    asked = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    double = Double(Clock(asked.now, asked.scale))
    # A line that is cut on purpose passes through; whatever else fails does too, to `handle_error`.
    server = Server("127.0.0.1", asked.port, double, Handler, passthrough_errors=True)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
