"""The command against the real application, in one process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import fakeredis
import httpx
import pytest
from click.testing import CliRunner, Result
from sortition.cli.api import Api
from sortition.cli.main import cli

from flagserver import bootstrap
from flagserver.http.app import create_app
from flagserver.services import Services
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemEntropy


@dataclass
class House:
    """A prepared server, and the command pointed at it with an admin's token."""

    services: Services
    api: Api

    def run(self, *words: str, stdin: str | None = None) -> Result:
        """Run `sortition …`; the mirror has heard of everything before it."""
        self.services.snapshots.step(0.01)
        return CliRunner().invoke(cli, list(words), obj=self.api, input=stdin)

    def json(self, *words: str) -> Any:
        """Run a command with --json; it must be done."""
        done = self.run(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def share(self, environment: str, key: str = "new-search") -> float:
        """Return the share that the server holds."""
        return float(self.json("flags", "get", key)["environments"][environment]["share"])


@pytest.fixture
def house() -> House:
    settings = Settings()
    store = RedisStore.over(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    services = bootstrap.build_services(settings, store)
    token = bootstrap.prepare(settings, store, services, SystemEntropy())
    assert token is not None
    services.snapshots.load()
    transport = httpx.WSGITransport(create_app(services, settings))
    api = Api("http://flags.test", token, transport=transport, sleep=lambda _: None)
    return House(services, api)
