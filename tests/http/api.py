"""An API over a store of its own, with a clock to turn, and callers who hold tokens.

    api = an_api()
    api.flag("new-search")                          a flag, made through the API
    answer = api.admin.patch("/api/v1/…", {"share": 25}, revision=0)
    answer.status, answer.json, answer.code, answer.headers

Every answer is held against its route's declaration: a status or a body that the OpenAPI document
does not show fails the test that met it, whatever that test was about.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from itertools import count
from typing import Any, cast

import fakeredis
from flask import Flask
from flask.testing import FlaskClient
from pydantic import TypeAdapter
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from flagserver.bootstrap import Outside, build_services, prepare
from flagserver.domain.commands import NewToken
from flagserver.domain.documents import Principal
from flagserver.http import errors, openapi
from flagserver.http.app import create_app
from flagserver.http.routing import Route
from flagserver.http.streams import Hub, Limits
from flagserver.services import Services
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from flagserver.telemetry import Telemetry
from tests.builders import House
from tests.serving import following

SOMEBODY = Principal("somebody", "admin", "admin")
WHY = {"reason": "a test", "confirm_environment": "production"}


@dataclass
class TurnedClock:
    """A clock that stands until somebody turns it."""

    at: datetime = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.at + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def turn(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class CountingEntropy:
    """Chance that comes out alike each time: 1, 2, 3, …"""

    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def hex(self, octets: int) -> str:
        return f"{next(self.numbers):0{octets * 2}x}"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    response: TestResponse

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def headers(self) -> Any:
        return self.response.headers

    @property
    def text(self) -> str:
        return self.response.get_data(as_text=True)

    @cached_property
    def json(self) -> Any:
        packed = self.headers.get("Content-Encoding") == "gzip"
        octets = self.response.get_data()
        return json.loads(gzip.decompress(octets) if packed else octets)

    @property
    def code(self) -> str | None:
        """The problem's code, None for what is no problem."""
        if self.response.content_type != errors.MEDIA_TYPE:
            return None
        return str(self.json["code"])

    @property
    def field(self) -> str | None:
        return self.json.get("field")


@dataclass
class Caller:
    """Somebody with a token (or without)."""

    api: Api
    token: str | None

    def get(self, path: str, **headers: Any) -> Answer:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.send("POST", path, body, **more)

    def patch(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.send("PATCH", path, body, **more)

    def delete(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.send("DELETE", path, body, **more)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        revision: int | None = None,
        **headers: str,
    ) -> Answer:
        """Send JSON (or raw octets, said to be JSON). headers: If_Match="…" and the like."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if revision is not None:
            sent["If-Match"] = f'"{revision}"'
        if raw is None and body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        return self.api.send(method, path, raw, sent)


@dataclass
class Api:
    """The application, what is behind it, and who calls."""

    store: RedisStore
    clock: TurnedClock
    services: Services
    app: Flask
    limits: Limits
    admin_token: str
    reachable: bool = True
    """Whether the store answers, so that the mirror can follow it."""

    @property
    def routes(self) -> list[Route]:
        return list(self.app.extensions["sortition"])

    @cached_property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    @property
    def admin(self) -> Caller:
        return Caller(self, self.admin_token)

    @property
    def nobody(self) -> Caller:
        return Caller(self, None)

    def caller(self, scope: str, environment: str | None = None) -> Caller:
        """Return a new token's holder."""
        command = NewToken(scope=scope, environment=environment)  # type: ignore[arg-type]
        made = self.services.tokens.create(command, SOMEBODY)
        self.follow()
        return Caller(self, made.text)

    def sdk(self, environment: str = "production") -> Caller:
        return self.caller("sdk", environment)

    def deploy(self, environment: str = "production") -> Caller:
        return self.caller("deploy", environment)

    def flag(self, key: str, share: float = 0.0, **fields: Any) -> dict[str, Any]:
        """Make a flag and give it a share in production."""
        made = self.admin.post("/api/v1/flags", {"key": key, **fields})
        assert made.status == 201, made.text
        return self.share(key, share) if share else dict(made.json)

    def share(self, key: str, share: float, environment: str = "production") -> dict[str, Any]:
        """Set a flag's share."""
        path = f"/api/v1/flags/{key}/environments/{environment}"
        revision = self.admin.get(path).json["revision"]
        body = WHY | {"share": share, "confirm_environment": environment}
        answer = self.admin.patch(path, body, revision=revision)
        assert answer.status == 200, answer.text
        return dict(answer.json)

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        response = self.client.open(path, method=method, data=body, headers=dict(headers))
        answer = Answer(response)
        self.follow()
        self.check(method, answer)
        return answer

    def follow(self) -> None:
        """Let the mirror take in what has happened."""
        if self.reachable:
            self.services.snapshots.step(0)

    def check(self, method: str, answer: Answer) -> None:
        """Hold an answer against what its route declares."""
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        route = self.route(method, answer.response.request.path)
        if answer.code is not None or answer.status >= 400:
            conforms(openapi.Problem, answer.json)
            assert answer.json["status"] == answer.status
        if route is None:
            return
        known = {*route.answers, *openapi.refusals(route)}
        assert answer.status in known, f"{method} {route.path} does not declare {answer.status}"
        told = route.answers.get(answer.status)
        if isinstance(told, tuple) and not isinstance(told[1], str) and method != "HEAD":
            conforms(told[1], answer.json)

    def route(self, method: str, path: str) -> Route | None:
        """Return the route that a request meets."""
        adapter = self.app.url_map.bind("localhost")
        try:
            endpoint, _ = adapter.match(path, method=method)
        except HTTPException:
            return None
        return next((route for route in self.routes if route.endpoint == endpoint), None)

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve it on a port as the server does, its mirror following; give the address."""
        with following(self.app, self.services, Hub(self.limits)) as address:
            yield address


def an_api(
    store: RedisStore | None = None,
    *,
    limits: Limits | None = None,
    clock: TurnedClock | None = None,
    settings: Settings | None = None,
    telemetry: Telemetry | None = None,
    outside: Outside | None = None,
) -> Api:
    """Return an API whose installation is fresh, unless the store has one."""
    settings = settings or Settings()
    clock = clock or TurnedClock()
    entropy = CountingEntropy()
    store = store or a_store()
    services = build_services(settings, store, clock, entropy, outside=outside, telemetry=telemetry)
    token = prepare(settings, store, services, entropy)
    services.snapshots.load()
    app = create_app(services, settings)
    return Api(store, clock, services, app, limits or Limits(), token or "")


def api_of(house: House) -> Api:
    """Return an API over a server that a test has already; time is turned there."""
    settings, clock = Settings(), cast(Any, house.clock)
    house.services.snapshots.load()
    app = create_app(house.services, settings)
    return Api(house.store, clock, house.services, app, Limits(), house.admin_token or "")


def a_store(server: fakeredis.FakeServer | None = None) -> RedisStore:
    """Return a store in this process."""
    return RedisStore.over(fakeredis.FakeRedis(server=server or fakeredis.FakeServer()))


def conforms(of: Any, value: Any) -> None:
    """Fail unless a value is of a type that `present` declares, without anything more."""
    read = _adapter(of).validate_python(value, strict=True)
    assert read == value, f"{of} does not declare all of {value}"


@cache
def _adapter(of: Any) -> TypeAdapter[Any]:
    return TypeAdapter(of)


def eventually(check: Callable[[], bool], seconds: float = 5.0) -> float:
    """Wait until a check holds; return how long it took."""
    start = time.monotonic()
    while not check():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - start
