"""`flagserver` with one more route, which answers an empty 204: what the framework costs alone.

It goes through all that the server's other routes go through, for it is one of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from flask import Blueprint, Flask

from flagserver import main
from flagserver.http.app import create_app

PATH = "/bench/empty"


def with_plain_route(*told: Any, **named: Any) -> Flask:
    """Return the application with the route."""
    app = create_app(*told, **named)
    room = Blueprint("bench", __name__)

    @room.get(PATH)
    def empty() -> tuple[str, int]:
        return "", 204

    app.register_blueprint(room)
    return app


def command(name: str) -> tuple[str, ...]:
    """Return how to start another of these commands: by this program."""
    return (sys.executable, __file__, name)


if __name__ == "__main__":
    vars(main)["create_app"] = with_plain_route
    vars(main)["command"] = command
    main.main()
