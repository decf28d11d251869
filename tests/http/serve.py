"""Serve an API of the tests as `flagserver web` does: `serve.py PORT`."""

from __future__ import annotations

import sys
from pathlib import Path

import fakeredis

sys.path.insert(0, str(Path(__file__).parents[2]))

from flagserver import web
from flagserver.http import intake
from flagserver.http.front import Front
from flagserver.http.streams import Hub
from flagserver.web import follow_in_background, listen, serve
from tests.http.api import a_store, an_api


def main() -> None:
    port = int(sys.argv[1])
    intake.READ_SECONDS = intake.WHOLE_SECONDS = web.HEAD_SECONDS = 1.0
    api = an_api(a_store(fakeredis.FakeServer()))
    front = Front(api.app, api.services, Hub())
    follow_in_background(api.services.snapshots)
    at = listen("127.0.0.1", port)
    sys.stdout.write(f"{api.admin_token}\n")
    sys.stdout.flush()
    serve(front, at)


if __name__ == "__main__":
    main()
