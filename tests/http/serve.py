"""Serve an API of the tests by gunicorn as `flagserver web` does: `serve.py PORT`."""

from __future__ import annotations

import sys
from pathlib import Path

import fakeredis

sys.path.insert(0, str(Path(__file__).parents[2]))

from flask import Flask

from flagserver.http import body
from flagserver.settings import Settings
from flagserver.web import Web, follow_in_background
from tests.http.api import a_store, an_api


def main() -> None:
    port = int(sys.argv[1])
    body.READ_SECONDS = 1.0
    api = an_api(a_store(fakeredis.FakeServer()))
    sys.stdout.write(f"{api.admin_token}\n")
    sys.stdout.flush()

    def make_app() -> Flask:
        follow_in_background(api.services.snapshots)
        return api.app

    Web(Settings(port=port), make_app).run()


if __name__ == "__main__":
    main()
