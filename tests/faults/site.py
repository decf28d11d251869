"""A whole installation of real processes, with a misbehaving network between them.

site.redis          a real `redis-server`; kill, start
site.store_proxy    between it and the servers
site.web            a real `flagserver web`; start, kill, stop
site.front_proxy    between it and the SDKs
site.asker(...)     a real client that is asked all the time, and what it answered
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, Self

import sortition

from flagserver.processes import Child, Process
from tests.proxy import Proxy
from tests.servers import STOP_SECONDS, Server, free_ports, redis_server, wait_until

KEEPING = ("--appendonly", "yes", "--appendfsync", "always")
WHY = {"reason": "a test", "confirm_environment": "production"}
FLAG = "new-search"
STATE = f"/api/v1/flags/{FLAG}/environments/production"


@dataclass(frozen=True)
class Answer:
    """What the API answered. json: None where it was none."""

    status: int
    headers: Message
    json: Any


@dataclass
class Web:
    """A `flagserver web` as an operator starts it."""

    directory: Path
    store_url: str
    token: str
    more: tuple[str, ...] = ()
    program: tuple[str, ...] = (sys.executable, "-m", "flagserver.main")
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        token = self.directory / "token"
        self.directory.mkdir(parents=True, exist_ok=True)
        token.write_text(self.token)
        return {
            "SORTITION_REDIS_URL": self.store_url,
            "SORTITION_PORT": str(self.port),
            "SORTITION_DATA_DIR": str(self.directory / "data"),
            "SORTITION_ADMIN_TOKEN_FILE": str(token),
        }

    def start(self) -> float:
        """Start it and wait until it answers at all; return how long that took."""
        began = time.monotonic()
        command = (*self.program, "web", *self.more)
        self.process = Process(Child("web", command, self.environment), lambda _: None)
        wait_until(self._answers, "the server to answer")
        return time.monotonic() - began

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self.process is not None:
            self.process.kill()
            assert self.process.wait(STOP_SECONDS)
            self.process = None

    def command(self, *words: str) -> tuple[int, str]:
        """Run another `flagserver` command on the same machine; return status and output."""
        output: list[str] = []
        child = Child("command", (*self.program, *words), self.environment)
        process = Process(child, output.append)
        assert process.wait(30), f"flagserver {words[0]} did not end"
        return process.status or 0, "\n".join(output)

    @property
    def lines(self) -> list[str]:
        """The last lines that it wrote."""
        assert self.process is not None
        return self.process.lines

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        revision: int | None = None,
        token: str | None = None,
        seconds: float = 20,
        **headers: str,
    ) -> Answer:
        """Ask the API; an answer of any status is an answer."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        sent["Authorization"] = f"Bearer {token or self.token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        if revision is not None:
            sent["If-Match"] = f'"{revision}"'
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return _answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.headers, error.read())

    def ready(self) -> dict[str, Any]:
        """What /readyz says, whatever its status."""
        return dict(self.ask("GET", "/readyz").json)

    def problems(self) -> str:
        """What /api/v1/status says is wrong."""
        return " ".join(self.ask("GET", "/api/v1/status").json["problems"])

    def create(self, key: str = FLAG) -> None:
        answer = self.ask("POST", "/api/v1/flags", {"key": key})
        assert answer.status == 201, answer

    def share(self, percent: float, path: str = STATE) -> Answer:
        """Set a share at the revision that there is."""
        revision = self.ask("GET", path).json.get("revision", 0)
        return self.ask("PATCH", path, WHY | {"share": percent}, revision=revision)

    def sdk_token(self, environment: str = "production") -> str:
        body = {"scope": "sdk", "environment": environment}
        answer = self.ask("POST", "/api/v1/tokens", body)
        assert answer.status == 201, answer
        return str(answer.json["token"])

    def _answers(self) -> bool:
        assert self.process is not None
        assert not self.process.ended(), "\n".join(self.process.lines)
        try:
            return self.ask("GET", "/healthz", seconds=1).status == 200
        except OSError:
            return False


class Asker:
    """A real client that is asked without a pause, from a thread of its own.

    seen: how often each answer was given.  wrong: evaluations that were errors.
    """

    def __init__(self, client: sortition.Client, flag: str = FLAG) -> None:
        self.client = client
        self.seen: Counter[bool] = Counter()
        self.wrong: Counter[str] = Counter()
        self._flag = flag
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="asker", daemon=True)

    def __enter__(self) -> Self:
        assert self.client.wait_ready(20), self.client.status()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        self.client.close(2)
        assert self.wrong == {}, "evaluation errors must be 0"
        assert self.seen, "nothing was asked"

    @property
    def share(self) -> float:
        """The share that it serves now, in percent."""
        held = self.client._held.now.snapshot()
        assert held is not None
        flag = held.flags[self._flag]
        return 0.0 if flag.killed else flag.share / 10_000

    @property
    def asked(self) -> int:
        return self.seen.total()

    def goes_on(self, times: int = 200) -> None:
        """Wait until it was asked so many times more."""
        goal = self.asked + times
        wait_until(lambda: self.asked >= goal, "more answers")

    def until(self, percent: float, seconds: float = 20.0) -> float:
        """Wait until it serves a share; return how long that took."""
        began = time.monotonic()
        wait_until(lambda: self.share == percent, f"{percent} % ({self.client.status()})", seconds)
        return time.monotonic() - began

    def _ask(self) -> None:
        for number in itertools.count():
            evaluation = self.client.evaluate(self._flag, f"request-{number}")
            if evaluation.error is not None:
                self.wrong[evaluation.error.value] += 1
            self.seen[bool(evaluation.value)] += 1
            if number % 20 == 0 and self._stop.wait(0.001):
                return


@dataclass
class Site:
    """All of it; see above."""

    directory: Path
    redis: Server
    store_proxy: Proxy
    web: Web
    front_proxy: Proxy
    stack: ExitStack
    _sdk_token: str | None = None

    def sdk_token(self) -> str:
        if self._sdk_token is None:
            self._sdk_token = self.web.sdk_token()
            self.until_kept()
        return self._sdk_token

    def client(self, **told: Any) -> sortition.Client:
        """Return a client that follows the server through the front proxy."""
        url = self.front_proxy.url
        made = sortition.Client(url, key=self.sdk_token(), resource={}, snapshot="", **told)
        self.stack.callback(made.close, 1)
        return made

    def asker(self, **told: Any) -> Asker:
        return Asker(self.client(**told))

    def another_web(self, name: str = "another", **told: Any) -> Web:
        """Return a second server on another machine; it is not started."""
        token = self.web.token
        made = Web(self.directory / name, self.store_proxy.url, token, **told)
        self.stack.callback(made.kill)
        return made

    def until_kept(self) -> None:
        """Wait until what the server knows is on its disk."""
        known = self.web.directory / "data" / "known"
        meta = self.meta()

        def kept() -> bool:
            try:
                head = (known / "store.json").read_bytes().partition(b"\n")[0].decode()
                tokens = (known / "tokens.json").read_bytes().partition(b"\n")[0].decode()
            except FileNotFoundError:
                return False
            mark = f" {meta['store']}.{meta['epoch']}.{meta['seq']}"
            return head.endswith(mark) and bool(tokens)

        wait_until(kept, "what is known to be on disk")

    def meta(self) -> dict[str, str]:
        with self.redis.client() as client:
            found = client.hgetall("{sortition}:meta")
        return {name.decode(): value.decode() for name, value in found.items()}

    def until_writable(self) -> None:
        wait_until(lambda: bool(self.web.ready()["writable"]), "changes to be possible")


@contextmanager
def a_site(directory: Path, *options: str, started: bool = True) -> Iterator[Site]:
    """Run an installation. options: of `redis-server`."""
    token = f"srt_admin_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
    with ExitStack() as stack:
        keeping = options or KEEPING
        redis = stack.enter_context(redis_server(directory / "redis", *keeping, port=True))
        store_proxy = stack.enter_context(Proxy(redis.url))
        web = Web(directory / "web", store_proxy.url, token)
        front_proxy = stack.enter_context(Proxy(web.url))
        stack.callback(web.kill)
        site = Site(directory, redis, store_proxy, web, front_proxy, stack)
        if started:
            web.start()
            site.until_writable()
        yield site


@contextmanager
def at_share(site: Site, percent: float = 25.0) -> Iterator[Asker]:
    """Make the flag at a share, and ask a client for it all the while."""
    site.web.create()
    assert site.web.share(percent).status == 200
    with site.asker() as asker:
        asker.until(percent)
        asker.goes_on()
        yield asker


def _answer(status: int, headers: Message, body: bytes) -> Answer:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    return Answer(status, headers, content)


def until(holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until something is so."""
    wait_until(holds, what, seconds)


def kill(pid: int) -> None:
    """SIGKILL to a process of ours, by its number."""
    os.kill(pid, 9)
