"""`create_app`: the routes behind their declarations, one error shape, no way around either."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, request

from flagserver.services import Services
from flagserver.settings import Settings

from . import environments, errors, flags, health, ofrep, openapi, routing, sdk, tokens
from .routing import PUBLIC, Call, Routes

ROOMS = (flags, environments, tokens, sdk, ofrep, health)


def all_routes() -> list[routing.Route]:
    """Return every route of the API."""
    own = Routes()
    found = [route for room in ROOMS for route in room.routes.all]

    @own.add("GET", "/openapi.json", PUBLIC, {200: "This document."})
    def openapi_document(call: Call) -> Any:
        """Describe this API."""
        return openapi.document([*found, *own.all])

    return [*found, *own.all]


def create_app(services: Services, settings: Settings) -> Flask:
    """Return the application. Further blueprints may be registered; they guard themselves."""
    app = Flask("flagserver", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    errors.install(app)
    routing.install(app, services, all_routes())

    @app.after_request
    def _headers(response: Response) -> Response:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if request.endpoint is None or request.endpoint.startswith("api."):
            response.headers.setdefault("Content-Security-Policy", "default-src 'none'")
        return response

    return app
