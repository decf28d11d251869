"""`/metrics`, `/healthz` and `/readyz` of a controller that shares its host with no web process.

One request at a time, for a scraper and a probe: whoever is slow holds up these two, nothing else.
"""

from __future__ import annotations

import threading
from socketserver import TCPServer
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from flask import Flask, Response

from flagserver.measures import Board
from flagserver.services import Services

from . import errors, health, metrics, routing

SILENT_SECONDS = 5.0
"""How long a client may be silent."""


class _Handler(WSGIRequestHandler):
    timeout = SILENT_SECONDS

    def log_message(self, format: str, *_: object) -> None:
        """Log no request, as the web process does not."""


class _Server(WSGIServer):
    def server_bind(self) -> None:
        """Bind without asking the network for this host's name, as the library would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = map(str, self.server_address[:2])  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away."""


def create_app(services: Services, board: Board, *, public: bool) -> Flask:
    """Return the application. public: `/metrics` needs no token."""
    app = Flask("flagserver.alone", static_folder=None)
    errors.install(app)
    routing.install(app, services, [*metrics.routes(board, public=public).all, *health.routes.all])

    @app.after_request
    def _headers(response: Response) -> Response:
        response.headers.extend(routing.SAFE_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        # Else the library's own, which tells its version.
        response.headers["Server"] = "sortition"
        return response

    return app


def serve_in_background(app: Flask, host: str, port: int) -> WSGIServer:
    """Serve from a thread of its own, until `shutdown` is called. Raises OSError."""
    server = _Server((host, port), _Handler)
    server.set_app(app)
    threading.Thread(target=server.serve_forever, name="sortition-alone", daemon=True).start()
    return server
