"""Taint: what identifies somebody goes in everywhere, and comes out nowhere.

A whole installation is asked in every way there is, with canaries as request ids, targeting keys,
addresses and headers. Then whatever it wrote, sent, kept or told is searched for them, in every
form that they may have taken. A deliberately leaky build goes through the same, and is found out in
each of these places: a search that finds nothing there proves nothing.

The installation's own secrets go the same way: one in every setting that holds one, used where it
is for, by what answers and by what does not.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import sortition
from sortition.asgi import Middleware as AsgiMiddleware
from sortition.wsgi import Middleware as WsgiMiddleware

from flagserver import settings
from flagserver.bootstrap import build_services
from flagserver.domain.documents import Principal
from flagserver.domain.people import NewPerson
from flagserver.http.app import all_routes
from flagserver.measures import Board
from flagserver.processes import Child, Process
from flagserver.settings import Settings
from flagserver.storage.redis.store import RedisStore
from tests import proxy
from tests.capturing import Capturing
from tests.http.routes import body, path
from tests.servers import free_ports, wait_until

from .site import FLAG, WHY, Site, Web, a_site
from .taint import tainted

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.timeout(180)]

TRACE = "ca11ab1e0ddba11ca11ab1e0ddba1100"

CANARIES = {
    "a request id": "canary-id-7f3a9e21",
    "a trace id": TRACE,
    "a targeting key": "canary-key-5b0c77d4",
    "an e-mail address": "canary-19ab@example.invalid",
    "a telephone number": "+15550119924",
    "an IP address": "198.51.100.77",
    "a header": "canary-header-c3d1f0aa",
    "a cookie": "canary-cookie-90ee17",
    "a browser": "canary-agent-4411bd",
    "a query": "canary-query-62a1c9",
}

SECRETS = {
    "SORTITION_WEBHOOK_SECRET": "whsec_Y2uYh0fPzvN1cGq8oJ7wXk5sBtDaLeRm",
    "SORTITION_SLACK_WEBHOOK": "canary-slack-T0442e9b71",
    "SORTITION_PAGERDUTY_KEY": "canary-pager-0d41c7e8aa52",
    "SORTITION_OIDC_CLIENT_SECRET": "canary-oidc-7be20f93d1",
    "SORTITION_PROMETHEUS_TOKEN": "canary-prometheus-e5a80c",
}
"""Setting -> what of it nobody may be told but who it is for."""

PEOPLE = {"a name": "Canary Quillfeather", "a login": "canary-login-88d0f2"}
"""These may stand in the people's own documents, and nowhere else."""

HEADERS = {
    "X-Request-Id": CANARIES["a header"],
    "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    "tracestate": f"vendor={CANARIES['a header']}",
    "baggage": f"user={CANARIES['a header']}",
    "X-Amzn-Trace-Id": f"Root={CANARIES['a header']}",
    "X-Forwarded-For": CANARIES["an IP address"],
    "Forwarded": f"for={CANARIES['an IP address']}",
    "From": CANARIES["an e-mail address"],
    "User-Agent": CANARIES["a browser"],
    "Referer": f"https://example.invalid/?id={CANARIES['a request id']}",
    "Cookie": f"session={CANARIES['a cookie']}; sortition_session={CANARIES['a cookie']}",
    "If-None-Match": f'"{CANARIES["a header"]}"',
    "Last-Event-ID": CANARIES["a header"],
}

STREAMS = {"sdk_stream", "ofrep_events"}
OPTIONS = (
    *("--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "no"),
    # Compressed, a canary would be hidden from the search.
    *("--rdbcompression", "no"),
)
ANA = Principal("person:5f2c91ab", "admin", "admin")


class Heard(Web):
    """A server whose every line is kept."""

    said: list[str]

    def start(self) -> float:
        self.said = []
        command = (*self.program, "web")
        self.process = Process(Child("web", command, self.environment), self.said.append)
        wait_until(self._answers, "the server to answer")
        return 0.0


@dataclass
class Scene:
    """An installation that is listened to on every side."""

    site: Site
    web: Heard
    collector: Capturing
    controller: list[str]
    wire: list[bytes]
    monitored: bytearray
    logged: list[str]
    secrets: dict[str, str]
    answers: list[bytes] = field(default_factory=list)
    forms: list[bytes] = field(default_factory=list)

    def ask(
        self, method: str, path: str, *, token: str | None = None, **more: Any
    ) -> httpx.Response:
        """Ask with every header that tells of somebody; keep what comes back."""
        headers = HEADERS | {"Authorization": f"Bearer {token or self.web.token}"}
        special = more.pop("headers", {})
        headers |= special
        answer = httpx.request(
            method, self.web.url + path, headers=headers, timeout=20, trust_env=False, **more
        )
        told = "\n".join(f"{name}: {text}" for name, text in answer.headers.items())
        # What is typed into a form, and what tells of people, is told to those who may know.
        theirs = "data" in more or "/people" in path or "Cookie" in special
        kept = self.forms if theirs else self.answers
        kept.append(told.encode() + b"\n\n" + answer.content)
        return answer


# --- what goes in ---------------------------------------------------------------------------------


def go_through(scene: Scene) -> None:
    """Send the canaries in, by every way there is."""
    scene.web.create()
    assert scene.web.share(50).status == 200
    sdk = scene.site.sdk_token()
    _library(scene, sdk)
    _ofrep(scene, sdk)
    _streams(scene, sdk)
    _rollout(scene)
    _people(scene)
    _pages(scene)
    _refused(scene, sdk)
    # Last, for some of these kill and archive.
    _every_route(scene)


def _ofrep(scene: Scene, sdk: str) -> None:
    one, every = f"/ofrep/v1/evaluate/flags/{FLAG}", "/ofrep/v1/evaluate/flags"
    key = CANARIES["a targeting key"]
    contexts: list[Any] = [
        {"targetingKey": key},
        {"targetingKey": key, "service.name": "shop", "cloud.region": "eu-west-1"},
        {"targetingKey": key, "email": CANARIES["an e-mail address"]},
        {"targetingKey": key, "ip": CANARIES["an IP address"]},
        {"targetingKey": CANARIES["an e-mail address"]},
        {"targetingKey": CANARIES["a telephone number"]},
        {"targetingKey": CANARIES["an IP address"]},
        {"targetingKey": key * 200},
        {"targetingKey": [key]},
        [key],
    ]
    statuses = [
        scene.ask("POST", address, token=sdk, json={"context": context}).status_code
        for context in contexts
        for address in (one, every)
    ]
    # Answered: an opaque key, with a resource or without; and an address that is no more than that.
    assert [statuses.count(status) for status in (200, 400)] == [6, 14], statuses
    scene.ask("POST", one, token=sdk, content=b'{"context": ' + key.encode())
    scene.ask("POST", one, token=sdk, content=key.encode().ljust(5_000_000, b"x"))


def _every_route(scene: Scene) -> None:
    """Every route of the API, with headers that tell of somebody."""
    for route in all_routes(Settings(), Board()):
        if route.view.__name__ in STREAMS or route.view.__name__ == "create_token":
            continue
        more: dict[str, Any] = {} if route.model is None else {"json": body(route)}
        scene.ask(route.method, path(route), **more)
        if route.model is None and not route.open_query:
            query = {"request_id": CANARIES["a query"]}
            assert scene.ask(route.method, path(route), params=query).status_code >= 400


def _refused(scene: Scene, sdk: str) -> None:
    state = f"/api/v1/flags/{FLAG}/environments/production"
    for id in (CANARIES["a request id"], TRACE, CANARIES["an IP address"]):
        assert scene.ask("POST", f"{state}/eval", json={"request_id": id}).status_code == 200
    scene.ask("POST", f"{state}/eval", json={"request_id": [CANARIES["a request id"]]})
    for address in (CANARIES["an e-mail address"], CANARIES["a telephone number"]):
        refused = scene.ask("POST", f"{state}/kill", json={"reason": f"asked by {address}"})
        assert refused.status_code == 422
    for token in (CANARIES["a header"], f"srt_sdk_{CANARIES['a header']}_x"):
        assert scene.ask("GET", "/api/v1/flags", token=token).status_code == 401
    strange = {"If-Match": CANARIES["a header"]}
    scene.ask("PATCH", state, headers=strange, json=WHY | {"share": 1})
    scene.ask("GET", "/api/v1/sdk/snapshot", token=sdk)
    scene.ask("GET", "/api/v1/nowhere")


def _pages(scene: Scene) -> None:
    addresses = ("/sign-in", "/sign-in/oidc", "/sign-in/oidc/callback?state=a&code=b")
    for page in ("/", "/flags", f"/flags/{FLAG}", *addresses, "/nowhere", "/health", "/neutrality"):
        scene.ask("GET", page)
    ours = {"Sec-Fetch-Site": "same-origin"}
    typed = {"login": CANARIES["an e-mail address"], "password": CANARIES["a query"]}
    for _ in range(2):
        scene.ask("POST", "/sign-in", headers=ours, data=typed)
    scene.ask("POST", f"/sign-in/{'0' * 40}", headers=ours, data=typed)


def _streams(scene: Scene, sdk: str) -> None:
    """The first octets of each stream, and what comes by it when something is changed."""
    headers = HEADERS | {"Authorization": f"Bearer {sdk}"}
    every = scene.ask(
        *("POST", "/ofrep/v1/evaluate/flags"),
        token=sdk,
        json={"context": {"targetingKey": CANARIES["a targeting key"]}},
    )
    ticket = every.json()["eventStreams"][0]["endpoint"]["requestUri"]
    for address in ("/api/v1/sdk/stream", ticket):
        url = scene.web.url + address
        with httpx.stream("GET", url, headers=headers, timeout=20, trust_env=False) as stream:
            assert stream.status_code == 200
            pieces = stream.iter_raw()
            scene.answers.append(next(pieces))
            assert scene.web.share(60 if "sdk" in address else 70).status == 200
            scene.answers.append(next(pieces))


def _rollout(scene: Scene) -> None:
    """A rollout that a controller moves, so that there are a trace and anchors."""
    sent = WHY | {
        "environment": "production",
        "service": "shop",
        "schedule": "80%:1s,100%:1s",
        "guards": "none",
        "targets": [{"kind": "flag", "name": "new-cart"}],
    }
    scene.web.create("new-cart")
    answer = scene.ask("POST", "/api/v1/rollouts", json=sent)
    assert answer.status_code == 201, answer.text
    where = f"/api/v1/rollouts/{answer.json()['id']}"
    wait_until(lambda: scene.web.ask("GET", where).json["state"] == "completed", "it to complete")


def _library(scene: Scene, sdk: str) -> None:
    """A host that asks by the SDK, behind both middlewares, and that fails now and then."""
    kept = scene.site.directory / "host" / "snapshot"
    kept.parent.mkdir(exist_ok=True)
    client = sortition.Client(
        scene.site.front_proxy.url, key=sdk, resource={"service.name": "shop"}, snapshot=kept
    )
    with closing(client):
        assert client.wait_ready(20)
        for id in (CANARIES["a request id"], CANARIES["an IP address"], TRACE):
            client.is_enabled(FLAG, id)
            client.evaluate("no-such-flag", id)
            with client.request(id) as request:
                request.is_enabled(FLAG)
                request.count("checkout", ok=False)
            with suppress(ValueError), client.request(id):
                raise ValueError(id)
        client.evaluate(FLAG, CANARIES["a request id"] + "\ud800")
        client.evaluate(FLAG, [CANARIES["a request id"]])  # type: ignore[arg-type]
        _behind_wsgi(client)
        asyncio.run(_behind_asgi(client))
        scene.answers.append(str(client.status()).encode())
        # On closing, what was counted is reported.
    wait_until(lambda: b"outcomes" in b"".join(scene.wire), "outcomes to be reported")


def _behind_wsgi(client: sortition.Client) -> None:
    def host(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        environ["sortition.request"].is_enabled(FLAG)
        if environ["PATH_INFO"] == "/fails":
            raise RuntimeError(CANARIES["a request id"])
        start("200 OK", [])
        return [b"hello"]

    headers = {f"HTTP_{name.upper().replace('-', '_')}": text for name, text in HEADERS.items()}
    without = {name: text for name, text in headers.items() if name != "HTTP_TRACEPARENT"}
    for environ in (headers, without):
        for where in ("/", "/fails"):
            with suppress(RuntimeError):
                served = WsgiMiddleware(host, client)(
                    {**environ, "PATH_INFO": where}, lambda *_: None
                )
                list(served)


async def _behind_asgi(client: sortition.Client) -> None:
    async def host(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(_: Any) -> None:
        await asyncio.sleep(0)

    headers = [(name.lower().encode(), text.encode()) for name, text in HEADERS.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    await AsgiMiddleware(host, client)(scope, receive, send)


def _people(scene: Scene) -> None:
    """Somebody is invited, signs in from an address, mistypes the password."""
    with RedisStore(scene.site.redis.url) as store:
        people = build_services(Settings(), store).people
        who = NewPerson(name=PEOPLE["a name"], login=PEOPLE["a login"], role="admin")
        invited = people.invite(who, ANA)
        people.accept(invited.secret, CANARIES["a query"])
        people.sign_in(PEOPLE["a login"], CANARIES["a query"], CANARIES["an IP address"])
    ours = {"Sec-Fetch-Site": "same-origin"}
    wrong = {"login": PEOPLE["a login"], "password": CANARIES["a cookie"]}
    assert scene.ask("POST", "/sign-in", headers=ours, data=wrong).status_code == 401
    right = wrong | {"password": CANARIES["a query"]}
    begun = scene.ask("POST", "/sign-in", headers=ours, data=right)
    assert begun.status_code == 303, begun.text
    own = begun.headers["Set-Cookie"].partition(";")[0]
    session = {"Cookie": f"{own}; visitor={CANARIES['a cookie']}"}
    pages = ("/", "/flags", f"/flags/{FLAG}", "/audit", "/neutrality", "/health", "/nowhere")
    for page in (*pages, "/settings/notifications"):
        assert scene.ask("GET", page, headers=session).status_code in {200, 404}, page
    shown = scene.ask("GET", "/settings/notifications", headers=session).text
    csrf = shown.partition('name="csrf" value="')[2].partition('"')[0]
    for notifier in ("webhook", "slack", "pagerduty"):
        where = f"/settings/notifications/{notifier}/test"
        tried = scene.ask("POST", where, headers=session | ours, data={"csrf": csrf})
        assert tried.status_code == 200, tried.text


# --- what comes out -------------------------------------------------------------------------------


def heaps(scene: Scene) -> dict[str, bytes]:
    """Return everything that was written, sent, kept or told, by place."""
    told = {
        "metrics": "/metrics",
        "export": "/api/v1/audit/export",
        "record": "/api/v1/audit?limit=200",
        "checkpoints": "/api/v1/audit/checkpoint",
        "snapshot": "/api/v1/flags",
        "neutrality": f"/api/v1/neutrality/{FLAG}",
    }
    found = {place: scene.ask("GET", where).content for place, where in told.items()}
    with scene.site.redis.client() as client:
        client.save()
    redis = scene.site.redis.directory
    aof = sorted((redis / "appendonlydir").iterdir())
    data = scene.web.directory / "data"
    anchors = data / "anchors"
    found |= {
        "rdb": (redis / "dump.rdb").read_bytes(),
        "aof": b"".join(file.read_bytes() for file in aof),
        "monitor": bytes(scene.monitored),
        "wire": b"".join(scene.wire),
        "log": "\n".join([*scene.web.said, *scene.controller]).encode(),
        "doctor": scene.web.command("doctor")[1].encode(),
        "host's log": "\n".join(scene.logged).encode(),
        "host's disk": _files(scene.site.directory / "host"),
        "traces": b"".join(request.body for request in scene.collector.requests),
        "disk": _files(data, without=anchors),
        "anchors": _files(anchors),
        "answers": b"\n".join(scene.answers),
        "forms": b"\n".join(scene.forms),
    }
    for place in ("rdb", "aof", "monitor", "wire", "log", "traces", "disk", "anchors"):
        assert found[place], f"nothing was heard of {place}, so nothing is known of it"
    return found


def _files(folder: Path, without: Path | None = None) -> bytes:
    """Return the names and contents of all files in a folder."""
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and (without is None or without not in file.parents)
    ]
    return b"".join(str(file).encode() + b"\0" + file.read_bytes() for file in found)


def keys_with(scene: Scene, text: str) -> set[str]:
    """Return the store's keys that hold a text."""
    with scene.site.redis.client() as client:
        dumps = {key.decode(): client.dump(key) for key in client.scan_iter()}
    return {key for key, octets in dumps.items() if text.encode() in key.encode() + (octets or b"")}


# --- the installation -----------------------------------------------------------------------------


@contextmanager
def a_scene(
    directory: Path, monkeypatch: pytest.MonkeyPatch, program: tuple[str, ...]
) -> Iterator[Scene]:
    """Run an installation of such a program, and listen to it on every side."""
    wire: list[bytes] = []
    through = proxy.Way.changed

    def overheard(way: proxy.Way, data: bytes) -> bytes:
        wire.append(data)
        return through(way, data)

    monkeypatch.setattr(proxy.Way, "changed", overheard)
    monkeypatch.setenv("SORTITION_TICK_SECONDS", "0.25")
    monkeypatch.setenv("SORTITION_FLUSH_SECONDS", "1")
    monkeypatch.setenv("SORTITION_TRUSTED_PROXIES", "127.0.0.0/8")
    with ExitStack() as stack:
        collector = stack.enter_context(Capturing())
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        site = stack.enter_context(a_site(directory, *OPTIONS, started=False))
        web = Heard(**{**vars(site.web), "program": program})
        site.web = web
        stack.callback(web.kill)
        key = directory / "record.key"
        secrets = {"the admin token": site.web.token}
        for name in ("RECORD", "PREVIEW"):
            key = directory / f"{name}.key"
            status, output = web.command("record-key", "flags.example/record", "-o", str(key))
            assert status == 0, output
            by_file = name == "RECORD"
            setting = f"SORTITION_{name}_KEY{'_FILE' if by_file else ''}"
            monkeypatch.setenv(setting, str(key) if by_file else key.read_text().strip())
            secrets[f"the {name} key"] = key.read_text().strip().split("+", 4)[4][2:-1]
        outward = stack.enter_context(Capturing())
        secrets |= _set_secrets(monkeypatch, outward, directory)
        monitored = stack.enter_context(_monitor(site))
        logged = stack.enter_context(_logs())
        web.start()
        site.until_writable()
        controller: list[str] = []
        child = Child("controller", (*program, "controller"), web.environment)
        process = Process(child, controller.append)
        stack.callback(process.stop, 10)
        yield Scene(site, web, collector, controller, wire, monitored, logged, secrets)
        # Each was used, by what answers and by what does not.
        told = b"".join(
            str((asked.path, asked.headers, asked.body)).encode() for asked in outward.requests
        )
        assert b"webhook-signature" in told
        assert SECRETS["SORTITION_SLACK_WEBHOOK"].encode() in told


def _set_secrets(
    monkeypatch: pytest.MonkeyPatch, outward: Capturing, directory: Path
) -> dict[str, str]:
    """Set every setting that holds a secret, half of them by a file; return setting -> canary."""
    assert set(SECRETS) == set(settings.SECRETS)
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    values = SECRETS | {
        "SORTITION_SLACK_WEBHOOK": f"{outward.url}/{SECRETS['SORTITION_SLACK_WEBHOOK']}",
        "SORTITION_WEBHOOK_URL": f"{outward.url}/told",
        "SORTITION_PAGERDUTY_URL": f"http://{nobody}/enqueue",
        "SORTITION_PROMETHEUS_URL": f"http://{nobody}",
        "SORTITION_OIDC_ISSUER": f"http://{nobody}",
        "SORTITION_OIDC_CLIENT_ID": "flags",
        "SORTITION_OIDC_ROLES": "sre=admin",
        "SORTITION_EGRESS_INTERNAL_HOSTS": f"127.0.0.1:{outward.port} {nobody}",
    }
    for i, (name, text) in enumerate(values.items()):
        if name in SECRETS and i % 2:
            (directory / name).write_text(f"{text}\n")
            monkeypatch.setenv(f"{name}_FILE", str(directory / name))
        else:
            monkeypatch.setenv(name, text)
    return SECRETS | {"SORTITION_WEBHOOK_SECRET": SECRETS["SORTITION_WEBHOOK_SECRET"][6:]}


@contextmanager
def _monitor(site: Site) -> Iterator[bytearray]:
    """Hear every command that the store is given."""
    seen = bytearray()
    host, port = site.redis.url.removeprefix("redis://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(b"MONITOR\r\n")
        assert line.recv(5) == b"+OK\r\n"

        def listen() -> None:
            with suppress(OSError):
                line.settimeout(None)
                while piece := line.recv(65536):
                    seen.extend(piece)

        thread = threading.Thread(target=listen, name="monitor", daemon=True)
        thread.start()
        yield seen
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@contextmanager
def _logs() -> Iterator[list[str]]:
    """Keep whatever the SDK logs in this process, down to the last detail."""
    kept: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(self.format(record))

    log, keeper = logging.getLogger("sortition"), Keeper()
    before = log.level
    log.addHandler(keeper)
    log.setLevel(logging.DEBUG)
    yield kept
    log.removeHandler(keeper)
    log.setLevel(before)


# --- the stories ----------------------------------------------------------------------------------

OURS = (sys.executable, "-m", "flagserver.main")
LEAKY = (sys.executable, str(Path(__file__).with_name("leaking.py")))


def test_nothing_that_identifies_somebody_stays_or_gets_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_scene(tmp_path, monkeypatch, OURS) as scene:
        go_through(scene)
        found = heaps(scene)

        # Who mistypes a password sees what they signed in by again, and nothing else of what came.
        typed = tainted(CANARIES, {"forms": found.pop("forms")})
        assert typed == {"forms": {"an e-mail address (plain)"}}
        assert tainted(CANARIES, found) == {}
        assert tainted(scene.secrets, found) == {}
        # A name may stand in the people's own documents, on the way there and in the store.
        kept = {"rdb", "aof", "monitor", "wire"}
        assert tainted(PEOPLE, {k: v for k, v in found.items() if k not in kept}) == {}
        for text in PEOPLE.values():
            assert keys_with(scene, text) == {"{sortition}:documents:people"}


LEAKS = {
    "log": "base64",
    "rdb": "hex",
    "aof": "hex",
    "monitor": "hex",
    "metrics": "plain",
    "export": "plain",
    "record": "plain",
    "snapshot": "plain",
    "disk": "gzip:plain",
    "anchors": "plain",
    "traces": "gzip:plain",
    "answers": "plain",
    "wire": "plain",
}
"""Place -> a form in which a leaky build leaves a targeting key there."""


@pytest.mark.slow
def test_a_leaky_build_is_found_out_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sortition.Client, "is_enabled", _leaking_client(tmp_path / "host"))
    with a_scene(tmp_path, monkeypatch, LEAKY) as scene:
        go_through(scene)
        found = tainted(CANARIES | scene.secrets, heaps(scene))

    for place, form in LEAKS.items():
        assert f"a targeting key ({form})" in found.get(place, set()), place
    assert "SORTITION_SLACK_WEBHOOK (base64)" in found["log"]
    assert "SORTITION_SLACK_WEBHOOK (plain)" in found["rdb"]
    assert "a header (plain)" in found["answers"], "an error page"
    assert "a request id (base64)" in found["host's log"]
    assert "a request id (gzip:hex)" in found["host's disk"]


def _leaking_client(host: Path) -> Callable[..., bool]:
    """An SDK that logs the id, and keeps it on its disk."""
    asked = sortition.Client.is_enabled

    def is_enabled(client: sortition.Client, key: str, request_id: str) -> bool:
        octets = request_id.encode()
        logging.getLogger("sortition").debug("%s", base64.b64encode(octets).decode())
        with (host / "ids").open("ab") as file:
            file.write(gzip.compress(octets.hex().encode()))
        return asked(client, key, request_id)

    return is_enabled
