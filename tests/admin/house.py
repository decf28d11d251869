"""A server with the admin UI on it, and how a test walks about in it."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import fakeredis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import admin
from flagserver.bootstrap import Outside, build_services, prepare
from flagserver.domain.commands import NewFlag, Reasoned, StateEdit
from flagserver.domain.documents import EVERYWHERE, Principal
from flagserver.domain.outcomes import Row
from flagserver.domain.tokens import digest
from flagserver.http.app import create_app
from flagserver.http.streams import Hub
from flagserver.services import Services
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemEntropy
from tests.serving import following

ANA = Principal("person:5f2c91ab", "admin", "admin")
OUR_PAGE = {"Sec-Fetch-Site": "same-origin"}
SETTINGS = Settings(flush_seconds=1.0)


class LateClock:
    """The machine's clock, `late` seconds behind; it may be stopped."""

    def __init__(self) -> None:
        self.late = 0.0
        self._stopped: datetime | None = None

    def stop(self) -> None:
        """Let it stand, so that whoever was looked at just now stays so."""
        self._stopped = datetime.now(UTC)

    def now(self) -> datetime:
        return (self._stopped or datetime.now(UTC)) - timedelta(seconds=self.late)

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class House:
    """Everything behind the pages, and the application in front of it. outside: what rollouts move
    and watch, if not the machine's own."""

    secure_cookies: bool = False
    outside: Outside | None = None
    settings: Settings = SETTINGS
    clock: LateClock = field(default_factory=LateClock)
    services: Services = field(init=False)
    app: Flask = field(init=False)
    hub: Hub = field(init=False)

    def __post_init__(self) -> None:
        self._redis = fakeredis.FakeServer()
        self.store = RedisStore.over(fakeredis.FakeRedis(server=self._redis))
        self.services = build_services(self.settings, self.store, self.clock, outside=self.outside)
        prepare(self.settings, self.store, self.services, SystemEntropy())
        self.services.snapshots.load()
        self._reports = 0
        self.build_front()

    def build_front(self) -> None:
        """Build the application, as a server does that is started, or started again."""
        self.hub = Hub()
        self.app = create_app(self.services, self.settings)
        pages = admin.blueprint(self.services, secure_cookies=self.secure_cookies, say=self.hub.say)
        self.app.register_blueprint(pages)

    @property
    def store_away(self) -> bool:
        """Whether the store does not answer."""
        return not self._redis.connected

    @store_away.setter
    def store_away(self, away: bool) -> None:
        self._redis.connected = not away

    def flag(self, key: str, **more: Any) -> None:
        self.services.flags.create(NewFlag(key=key, **more), ANA)

    def share(self, key: str, share: float, environment: str = "production", **more: Any) -> None:
        edit = {"reason": "because", "confirm_environment": environment, **more}
        revision = self.services.flags.state(key, environment).revision
        self.services.flags.change(key, environment, StateEdit(share=share, **edit), revision, ANA)

    def kill(self, key: str, environment: str = "production") -> None:
        self.services.flags.kill(key, environment, Reasoned(), ANA)

    def state(self, key: str, environment: str = "production") -> tuple[float, bool, int]:
        """Return percent, killed, revision."""
        view = self.services.flags.state(key, environment)
        return view.state.share / 10_000, view.state.killed, view.revision

    def report(self, key: str, on: int, off: int, *, ago: int = 0) -> None:
        """Let a shop in production report what it served, `ago` seconds ago."""
        at = int(time.time()) - ago
        rows = [
            Row("service/shop", "", at, 0, on + off, 3, {60: on + off}),
            Row(f"flag/{key}", "on", at, on, on, 2, {64: on}),
            Row(f"flag/{key}", "off", at, off, off, 1, {48: off}),
        ]
        about = {
            "service.name": "shop",
            "service.version": "1.4.0",
            "instance": "5b0b",
            "seen": at,
        }
        self._reports += 1
        self.store.add("production", "5b0b:1", self._reports, rows, about)

    def visitor(self, role: str = "admin") -> Visitor:
        """Return a browser without JavaScript that has signed in."""
        visitor = Visitor(self.app.test_client())
        link = self.services.sessions.make_link()
        person = Principal(f"person:{role}", role, "person", roles={EVERYWHERE: role})
        # As a person of this role: a link for whoever runs the server is of an admin.
        self.store.put("link", digest(link), asdict(person), ttl_seconds=900)
        visitor.client.post(f"/sign-in/{link}", headers=OUR_PAGE)
        return visitor

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve it on a port, following its store; give the address."""
        with following(self.app, self.services, self.hub) as address:
            yield address


@dataclass
class Page:
    """What a visitor sees: text without tags (thin spaces are spaces), and forms to send."""

    status: int
    source: str

    @property
    def text(self) -> str:
        words = re.sub(r"<[^>]+>", " ", self.source.split("<main", 1)[-1])
        return re.sub(r"\s+", " ", html.unescape(words))

    def form(self, action_ends: str) -> dict[str, str]:
        """Return the fields of the first form that goes to such an address."""
        for attributes, inside in re.findall(r"<form([^>]*)>(.*?)</form>", self.source, re.DOTALL):
            action = re.search(r'action="([^"]*)"', attributes)
            if action and action[1].partition("#")[0].endswith(action_ends):
                return _fields(inside)
        raise AssertionError(f"no form goes to {action_ends}: {self.text}")


def _fields(inside: str) -> dict[str, str]:
    fields = {}
    for tag in re.findall(r"<input[^>]*>", inside):
        name = re.search(r'name="([^"]*)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        ticked = " checked" in tag
        unchosen = re.search(r'type="(radio|checkbox)"', tag) is not None and not ticked
        if name and not unchosen and 'type="range"' not in tag:
            fields[name[1]] = html.unescape(value[1]) if value else ""
    written = re.findall(r'<textarea[^>]*name="([^"]*)"[^>]*>(.*?)</textarea>', inside, re.DOTALL)
    for name, text in written:
        fields[name] = html.unescape(text)
    for name, options in re.findall(r'<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>', inside):
        chosen = re.search(r'<option(?: value="([^"]*)")? selected>([^<]*)', options)
        first = re.search(r'<option(?: value="([^"]*)")?>([^<]*)', options)
        option = chosen or first
        if option is not None:
            fields[name] = html.unescape(option[2] if option[1] is None else option[1])
    return fields


@dataclass
class Visitor:
    """A person at a browser without JavaScript: looks at pages and sends their forms."""

    client: FlaskClient

    def see(self, path: str) -> Page:
        return _page(self.client.get(path, follow_redirects=True))

    def send(self, page: Page, path: str, /, **typed: str) -> Page:
        """Fill in the form of a page that goes to `path`, and send it."""
        fields = page.form(path) | typed
        answer = self.client.post(path, data=fields, headers=OUR_PAGE, follow_redirects=True)
        return _page(answer)


def _page(answer: TestResponse) -> Page:
    return Page(answer.status_code, answer.get_data(as_text=True))
