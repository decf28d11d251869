"""`create_app`: the routes behind their declarations, one error shape, no way around either."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, request

from flagserver.measures import Board
from flagserver.services import Services
from flagserver.settings import Settings

from . import (
    approvals,
    audit,
    drills,
    environments,
    errors,
    flags,
    health,
    hooks,
    metrics,
    neutrality,
    ofrep,
    openapi,
    people,
    posted,
    review,
    rollouts,
    routing,
    schedules,
    sdk,
    signals,
    syncing,
    tokens,
    watching,
)
from .routing import PUBLIC, Call, Route, Routes


def all_routes(settings: Settings, board: Board) -> list[Route]:
    """Return every route of the API."""
    own = Routes()
    rooms = (
        flags,
        environments,
        tokens,
        people,
        rollouts,
        approvals,
        hooks,
        signals,
        watching,
        syncing,
        drills,
        review,
        schedules,
        audit,
        neutrality,
        posted,
        health,
        sdk,
    )
    found = [route for room in rooms for route in room.routes.all]
    found += ofrep.routes(settings.ofrep_origins, urlsplit(settings.url).path).all

    found += metrics.routes(board, public=settings.metrics_public).all

    @cache
    def document() -> dict[str, Any]:
        return openapi.document(found, settings.url)

    @own.add(
        *("GET", "/openapi.json", PUBLIC),
        {
            200: ("This document.", dict[str, Any]),
            429: "Too often; Retry-After says for how long to wait.",
        },
        open_query=True,
    )
    def openapi_document(call: Call) -> Any:
        """Describe this API."""
        routing.count_stranger(call.services, call.request)
        return document()

    found += own.all
    return found


def create_app(services: Services, settings: Settings, board: Board | None = None) -> Flask:
    """Return the application. Further blueprints may be registered; they guard themselves.

    board: what `/metrics` shows.
    """
    app = Flask("flagserver", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    errors.install(app)
    routes = all_routes(settings, board or Board())
    routing.install(app, services, routes)
    app.extensions["sortition"] = routes

    @app.after_request
    def _headers(response: Response) -> Response:
        ours = request.blueprint in (None, routing.NAMESPACE)
        for name, text in routing.SAFE_HEADERS.items():
            if ours or name == "X-Content-Type-Options":
                response.headers.setdefault(name, text)
        if ours:
            response.headers.setdefault("Cache-Control", "no-store")
        ofrep.share(response, request, settings.ofrep_origins)
        return response

    return app
