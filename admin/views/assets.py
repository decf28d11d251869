"""Stylesheet, scripts and pictures: public, and the same for ever under their name."""

from __future__ import annotations

from flask import Blueprint, Response, abort, request

from ..interface import Interface

FOR_EVER = "public, max-age=31536000, immutable"


class Files:
    """Serves what `Assets` holds."""

    def __init__(self, ui: Interface) -> None:
        self._assets = ui.assets

    def get(self, hashed: str) -> Response:
        """One file."""
        asset = self._assets.get(hashed)
        if asset is None:
            abort(404)
        packed = request.accept_encodings["gzip"] > 0
        response = Response(asset.packed if packed else asset.body, mimetype=asset.mimetype)
        response.headers["Cache-Control"] = FOR_EVER
        response.headers["Vary"] = "Accept-Encoding"
        if packed:
            response.headers["Content-Encoding"] = "gzip"
        return response


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the address of the files."""
    blueprint.add_url_rule("/assets/<hashed>", "asset", Files(ui).get)
