"""What was found in others of our kind, looked for here: one test for each, named by it.

Each says where it was published: CVE and GHSA, or the commit that mended it. Most are short proofs
of their own; what else is tried against the same thing stands in `ELSEWHERE`, so that the list is
whole and can be read in one place.
"""

from __future__ import annotations

import ast
import json
import random
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from argon2 import PasswordHasher
from sortition.core.evaluate import compile_flags
from sortition.core.model import InvalidSnapshot

from flagserver import bootstrap
from flagserver.auth.passwords import Argon2Passwords
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import EVERYWHERE
from flagserver.domain.errors import StoreUnavailable, Unauthenticated
from flagserver.domain.people import NewPerson
from flagserver.domain.rates import Rates
from flagserver.egress import GuardedEgress, Place
from flagserver.http import body
from flagserver.http.app import create_app
from flagserver.http.routing import PUBLIC
from flagserver.http.streams import Limits
from flagserver.notify.slack import message
from flagserver.ports import NotAllowed, NotIntroduced
from flagserver.services import tokens as token_services
from flagserver.settings import SECRETS, Settings, SettingsError
from flagserver.storage.copies import DiskCopies
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemEntropy
from tests import load_balancer
from tests.access.tables import API, PAGES
from tests.access.world import COOKIE, HERE, OUR_PAGE, THERE, World
from tests.builders import a_flag
from tests.capturing import Capturing, Trouble
from tests.network import METADATA, Network

from . import routes
from .api import SOMEBODY, WHY, Api, TurnedClock, a_store, an_api
from .test_paths import TRICKS, ask

ROOT = Path(__file__).parents[2]
UNBOUNDED = Settings(rates=Rates(sdk=0, deploy=0, admin=0, address=0))
"""These tests ask more often than anybody may."""


def a_world() -> World:
    world = World(an_api(settings=UNBOUNDED))
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    world.api.services.people._passwords = Argon2Passwords(cheap)
    return world


@pytest.fixture(scope="module")
def world() -> World:
    """A server with everything on it, in which nothing is changed for good."""
    return a_world()


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with world.api.served() as address:
        yield address


def is_alive(address: str) -> bool:
    return ask(address, "/healthz").status == 200


# --- Unleash --------------------------------------------------------------------------------------


def test_unleash_one_anonymous_nested_body_ends_the_server(world: World, address: str) -> None:
    """CVE-2026-63462, GHSA-r5pq-6chh-j3xp: 10 KB of JSON, 5,000 deep, from anybody."""
    deep = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"
    where = urlsplit(address)

    for route in world.api.routes:
        nobody = world.api.nobody.send(route.method, routes.path(route), raw=deep)
        let_in = routes.let_in(world.api, route).send(
            route.method, routes.path(route), raw=deep, **routes.headers(route)
        )
        assert nobody.status == (400 if route.action == PUBLIC else 401), route.endpoint
        assert let_in.status == 400, route.endpoint
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as wire:
        head = f"POST /api/v1/flags HTTP/1.1\r\nHost: x\r\nContent-Length: {len(deep)}\r\n"
        wire.sendall(head.encode() + b"Connection: close\r\n\r\n" + deep)
        assert wire.recv(12) == b"HTTP/1.1 401"

    assert is_alive(address)


def test_unleash_a_name_twice_in_a_body_means_its_last(world: World) -> None:
    """Beside CVE-2026-63462: what one reader checks and another one does must be the same."""
    raw = b'{"key":"checked","key":"done"}'

    answer = world.api.admin.post("/api/v1/flags", raw=raw)

    assert (answer.status, answer.field) == (400, "/key")


@pytest.mark.parametrize("leads_to", [METADATA, "10.0.0.7", "127.0.0.1", "::1", "fd00:ec2::254"])
def test_unleash_a_webhook_calls_where_nothing_may(leads_to: str) -> None:
    """CVE-2026-63004, GHSA-5vf6-jrqr-78fj: an address that leads to a cloud's metadata."""
    network = Network(hooks_test=[leads_to])

    with pytest.raises(NotAllowed):
        network.egress(Place("hooks.test")).send("POST", "https://hooks.test/x")

    assert network.connected == []


def test_unleash_a_webhooks_secret_goes_where_it_is_redirected() -> None:
    """CVE-2026-63004, GHSA-5vf6-jrqr-78fj: and the headers went along."""
    with Capturing() as asked, Capturing() as other:
        asked.troubles.append(Trouble(307, headers={"Location": other.url}))
        place = Place("hooks.test", asked.port, inside=True)
        out = GuardedEgress([place], resolve=lambda *_: ["127.0.0.1"])

        answer = out.send(
            "POST", f"http://hooks.test:{asked.port}/", headers={"Authorization": "secret"}
        )

        assert (answer.status, other.requests) == (307, [])


def test_unleash_a_users_name_is_a_link_in_slack() -> None:
    """CVE-2026-63466, GHSA-w4mq-xh27-6xpx: `<url|words>` in a name, with the escaping off."""
    from tests.unit.test_notifiers import BASE, ROLLED_BACK, _with

    canary = "<https://evil.test|Approve>"
    told = _with(
        ROLLED_BACK, title=canary, environment=canary, facts={canary: canary}, by_hand=(canary,)
    )

    sent = json.dumps(message(told, f"{BASE}/rollouts/r-1"))

    assert sent.count("&lt;https://evil.test|Approve&gt;") == 6
    assert "<https://evil.test" not in sent


# --- Flagsmith ------------------------------------------------------------------------------------


INTEGRATIONS: dict[str, dict[str, str]] = {
    "SORTITION_SLACK_WEBHOOK": {},
    "SORTITION_PAGERDUTY_URL": {"SORTITION_PAGERDUTY_KEY": "0" * 32},
    "SORTITION_WEBHOOK_URL": {
        "SORTITION_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    },
    "SORTITION_PROMETHEUS_URL": {},
    "SORTITION_OIDC_ISSUER": {
        "SORTITION_OIDC_CLIENT_ID": "x",
        "SORTITION_OIDC_CLIENT_SECRET": "x",
        "SORTITION_OIDC_ROLES": "a=viewer",
    },
}
"""An address that is set -> what else has to be."""


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_flagsmith_integrations_call_where_webhooks_may_no_more(name: str) -> None:
    """85b92fa99 (May 2026), eeac6b3de (August): the first fix had forgotten the integrations. Here
    every setting that is an address is held against the list, at the start; that there are no
    others is found out in tests/unit/test_outward.py."""
    told = INTEGRATIONS[name] | {name: f"http://{METADATA}/latest/meta-data"}

    with pytest.raises(SettingsError, match=name):
        bootstrap.build_services(Settings.read(told), a_store())


def test_flagsmith_an_environment_of_others_is_changed_by_its_name() -> None:
    """89f2477d6: an environment was looked up by the id in the request, whoever asked."""
    world = a_world()
    before, seen = world.written(), 0

    for route in world.api.routes:
        names_one = "environment" in route.parameters or (
            route.model is not None and "environment" in route.model.model_fields
        )
        if names_one and route.action != PUBLIC and route.view.__name__ != "create_token":
            content = routes.body(route)
            caller, path = world.tokens["deploy there"], routes.path(route)
            answer = caller.send(route.method, path, content, **routes.headers(route))
            assert answer.status == 403, route.endpoint
            seen += 1

    assert seen >= 8
    assert world.written() == before


def test_flagsmith_an_invitation_makes_somebody_else_or_more_of_them() -> None:
    """0e6deec64: who had a link became a member as they liked. Ours is for one person with one
    role, once; what else the form says is nothing."""
    world = a_world()
    people = world.api.services.people
    link = people.invite(NewPerson(name="Ana", login="ana@example.com"), SOMEBODY)
    other = people.invite(NewPerson(name="Ben", login="ben@example.com"), SOMEBODY)
    people.end(other.view.person.id, Reasoned(), SOMEBODY)
    form = {
        **dict.fromkeys(("password", "again"), "correct horse battery"),
        "role": "admin",
        "role:production": "admin",
        "login": "boss",
        "name": "Boss",
        "id": routes.NAMES["person"],
        "environment": "*",
        "scope": "admin",
    }

    def spend(secret: str) -> int:
        page = world.api.app.test_client()
        return page.post(f"/invitation/{secret}", data=form, headers=OUR_PAGE).status_code

    def accepted() -> Any:
        return people.get(link.view.person.id).person

    assert spend(link.secret) == 303
    assert (accepted().name, accepted().login) == ("Ana", "ana@example.com")
    assert accepted().roles == {EVERYWHERE: "viewer"}
    assert spend(link.secret) == 401, "twice"
    assert spend(other.secret) == 401, "ended"
    assert spend(world.api.services.sessions.make_link()) == 401, "a link of another kind"
    with pytest.raises(Unauthenticated):
        people.accept("0" * 64, "correct horse battery")


# --- GrowthBook -----------------------------------------------------------------------------------


def test_growthbook_a_default_secret_signs_anybody_in(tmp_path: Path) -> None:
    """CVE-2022-36065, GHSA-j24q-55xh-wm4r: a signing key that everybody knew. There is none: what
    is secret is drawn at the first start, or stops it when it is weak."""
    told = Settings.read({}).outward
    assert not [name for name in SECRETS if getattr(told, name[10:].lower(), None)]
    drawn = {str(an_installation().admin_token) for _ in range(3)}
    assert len({each.rpartition("_")[2] for each in drawn}) == 3

    weak = tmp_path / "token"
    weak.write_text(f"srt_admin_{'0' * 12}_{'0' * 64}")
    with pytest.raises(ValueError, match="secret"):
        bootstrap.read_admin_token(Settings(admin_token_file=weak))


def an_installation(copies: DiskCopies | None = None) -> Api:
    """Return a new one, whose chance is the system's."""
    store, clock, entropy = a_store(), TurnedClock(), SystemEntropy()
    services = bootstrap.build_services(UNBOUNDED, store, clock, entropy, copies=copies)
    text = bootstrap.prepare(UNBOUNDED, store, services, entropy)
    services.snapshots.load()
    app = create_app(services, UNBOUNDED)
    return Api(store, clock, services, app, Limits(), text or "")


def test_growthbook_anybody_makes_themselves_known() -> None:
    """CVE-2022-36065, GHSA-j24q-55xh-wm4r: registration was open. Here nothing that is open makes
    a person or a token."""
    world = a_world()
    people, tokens = len(world.api.services.people.all(SOMEBODY)), world.written()
    form = {"name": "Eve", "login": "eve", "password": "correct horse battery", "role": "admin"}
    form |= {"again": form["password"], "email": "eve@example.com"}
    paths = [*re.findall(r"^(?:GET|POST)\s+(\S+)", API + PAGES, re.MULTILINE)]
    client = world.api.app.test_client(use_cookies=False)
    paths += ["/register", "/signup", "/sign-up", "/api/v1/auth/register", "/auth/firsttime"]

    for path in paths:
        filled = re.sub(r"<[^>]+>|{[^}]+}", "0" * 64, path)
        page = client.post(filled, data=form, headers=OUR_PAGE)
        page.close()
        client.post(filled, json=form, headers=OUR_PAGE).close()
        assert "session" not in page.headers.get("Set-Cookie", ""), path

    assert len(world.api.services.people.all(SOMEBODY)) == people
    assert world.written() == tokens


@pytest.mark.parametrize(
    "key", ["../../escaped", "/etc/x", "..", "a/b", "..\\x", "a\0", "%2e%2e", ""]
)
def test_growthbook_a_request_names_the_file_that_is_written(key: str, tmp_path: Path) -> None:
    """CVE-2022-36065, GHSA-j24q-55xh-wm4r: an upload's path was the request's. What is kept on the
    disk is named by keys of environments, and no key climbs."""
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    api = an_installation(DiskCopies(inside))
    before = set(tmp_path.rglob("*"))

    for path in ("/api/v1/environments", "/api/v1/flags"):
        assert api.admin.post(path, {"key": key}).status == 422
    asked = routes.A_ROLLOUT | {"targets": [{"kind": "flag", "name": key}], "environment": key}
    assert api.admin.post("/api/v1/rollouts", asked).status in (404, 422)

    api.services.snapshots.keep()

    written = set(tmp_path.rglob("*")) - before
    assert written, "it keeps what it knows"
    outside = [path for path in written if inside not in path.parents]
    assert outside == []


@pytest.mark.parametrize(
    "value",
    ['{"$ne":null}', '{"$gt":""}', "[]", "null", "true", "0", "*", "' or 1=1 --", "srt_admin_*_*"],
)
def test_growthbook_a_credential_is_an_operator_of_the_query(world: World, value: str) -> None:
    """57daf1f0c6: a cookie that was read as JSON was an operator of the database."""
    client = world.api.app.test_client(use_cookies=False)

    for fields in (
        {"Authorization": f"Bearer {value}"},
        {"Authorization": value},
        {"X-API-Key": value},
        {"Cookie": f"{COOKIE}={value}"},
        {"Cookie": f"{COOKIE}[$ne]=x; {COOKIE}={value}"},
    ):
        sdk = client.get("/api/v1/sdk/snapshot", headers=fields)
        page = client.get("/settings/people", headers=fields)

        assert (sdk.status_code, page.status_code) == (401, 303), fields


CLIMBS = ("..", "%2e%2e", "%2e.", "..%2f", "..%5c", "..;", "....", "%252e%252e", "..%00", "%c0%ae.")


@pytest.mark.parametrize("climb", CLIMBS)
def test_growthbook_a_path_climbs_behind_its_first_part(
    world: World, address: str, climb: str
) -> None:
    """60259f4375: only the first part of a path was looked at. Ours have files behind `/help` and
    `/assets`, signed in or not."""
    session = f"Cookie: {COOKIE}={world.sessions['admin']}"
    up = "/".join([climb] * 3)

    for start in ("/help/how-to", "/help/operations/x", "/help", "/assets", "/assets/x"):
        for file in ("pyproject.toml", "etc/passwd", "flagserver/settings.py", "README.md"):
            answer = ask(address, f"{start}/{up}/{file}", session)
            assert answer.status in (400, 404), (start, file)
            assert not re.search(r"\[project\]|root:|SORTITION_HOST\"|# Sortition", answer.body)


def test_growthbook_a_signing_key_is_made_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """7bf597dfa5: keys were a hash of `uniqid`, which is the time. Ours come from the system's own
    randomness, whole."""
    monkeypatch.setattr("time.time", lambda: 0.0)
    drawn = set()
    for _ in range(100):
        random.seed(0)
        drawn.add(SystemEntropy().hex(32))

    assert len(drawn) == 100
    assert {len(each) for each in drawn} == {64}
    assert len(set("".join(drawn))) == 16
    source = (ROOT / "flagserver/system.py").read_text()
    assert "secrets.token_hex" in source
    assert "random" not in _imports(source)


def _imports(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_growthbook_a_key_of_one_project_reads_another(world: World) -> None:
    """8f55e5d7a8: a key that was made for one project read all of them. A token of ours is of one
    environment, whatever the request names."""
    for mine, name, other in ((HERE, "here", THERE), (THERE, "there", HERE)):
        sdk, deploy = world.tokens[f"sdk {name}"], world.tokens[f"deploy {name}"]

        for query in ("", f"?environment={other}", f"?environment={mine}&environment={other}"):
            assert sdk.get(f"/api/v1/sdk/snapshot{query}").json["environment"] == mine
        assert deploy.get(f"/api/v1/flags/new-search/environments/{other}").status == 403
        assert list(deploy.get("/api/v1/flags/new-search").json["environments"]) == [mine]


def test_growthbook_an_inner_endpoint_asks_for_nobody(world: World) -> None:
    """9864856cf9: an endpoint for other services had no check. Whatever is in the map of addresses
    is closed, but for those that the table calls public."""
    public = set(re.findall(r"^\w+\s+(\S+)\s+(?:public|ticket)", API + PAGES, re.MULTILINE))
    client = world.api.app.test_client(use_cookies=False)
    declared = {route.endpoint: route for route in world.api.routes}

    for rule in world.api.app.url_map.iter_rules():
        ours = rule.endpoint in declared
        if (declared[rule.endpoint].path if ours else rule.rule) in public:
            continue
        for method in (rule.methods or set()) & {"GET", "POST", "PUT", "PATCH", "DELETE"}:
            where = routes.path(declared[rule.endpoint]) if ours else world.path(rule)
            answer = client.open(where, method=method, headers=OUR_PAGE)
            answer.close()
            away = answer.status_code == 303 and answer.headers["Location"] == "/sign-in"
            assert away or answer.status_code in (401, 403), (method, rule.rule)


def test_growthbook_a_secrets_length_is_told_before_it_is_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """9864856cf9: lengths were compared first, in less time. Ours are compared as digests, which
    are of one length, and every wrong one is answered alike."""
    import hmac

    good = str(world.tokens["sdk here"].token)
    start, _, secret = good.rpartition("_")
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def watched(a: Any, b: Any) -> bool:
        compared.append((len(a), len(b)))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    answers = {
        world.api.nobody.get("/api/v1/sdk/snapshot", Authorization=f"Bearer {text}").text
        for text in (f"{start}_{'0' * 64}", f"{start}_{secret[:63]}0", f"{start}_{secret[1:]}0")
    }

    assert len(answers) == 1
    assert compared
    assert {a == b for a, b in compared} == {True}
    assert (
        "compare_digest"
        in Path(token_services.__file__).read_text()
        + (ROOT / "flagserver/domain/tokens.py").read_text()
    )


# --- OpenFlagr, flagd, Vercel, the OpenFeature operator -------------------------------------------


def test_openflagr_another_way_of_writing_a_path_is_let_in(address: str) -> None:
    """CVE-2026-0650, GHSA-rwp9-5g7q-73q3: it was on the list of open ones once it was put right."""
    for how, trick in TRICKS.items():
        written = trick("/api/v1/flags")
        answer = ask(address, written)
        assert answer.status != 200 or written.startswith(
            ("/healthz", "/openapi.json", "/sign-in")
        ), how
        assert '"flags": [' not in answer.body, how


@pytest.mark.parametrize(
    "path", ["/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/new-search"]
)
def test_flagd_a_body_on_ofrep_has_no_end(world: World, address: str, path: str) -> None:
    """CVE-2026-31866, GHSA-rmrf-g9r3-73pm: it was read into memory, however long."""
    where = urlsplit(address)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {world.tokens['sdk here'].token}\r\n"
    )
    sent = 0
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as wire:
        wire.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        with suppress(OSError):
            while sent < 64 * 1024 * 1024:
                wire.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        with suppress(OSError):
            assert wire.recv(12) in (b"HTTP/1.1 413", b"")
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as wire:
        wire.sendall(f"{head}Content-Length: {body.LIMIT * 1000}\r\n\r\n".encode())
        assert wire.recv(12) == b"HTTP/1.1 413"

    assert sent < 64 * 1024 * 1024
    assert is_alive(address)


def test_vercel_definitions_are_read_without_a_key(world: World) -> None:
    """CVE-2025-46332, GHSA-892p-pqrr-hxqr: anybody read the flags, their names and descriptions."""
    for route in world.api.routes:
        if "sdk" in route.path or "ofrep" in route.path:
            answer = world.api.nobody.send(route.method, routes.path(route), routes.body(route))
            assert answer.status == 401, route.endpoint
    world.api.flag("described", description="canary words", owner="canary-team")

    told = world.tokens["sdk here"].get("/api/v1/sdk/snapshot").text

    assert "described" in told
    assert "canary" not in told


def test_the_openfeature_operator_may_more_than_it_does() -> None:
    """CVE-2023-29018: whoever took it over had the cluster. None of our policies is for everything,
    and what changes something names what it changes."""
    statements = [
        (path.name, statement)
        for path in sorted((ROOT / "deploy/iam").glob("*.json"))
        for statement in json.loads(path.read_text())["Statement"]
    ]
    assert len(statements) > 10

    for name, statement in statements:
        if statement["Effect"] != "Allow":
            continue
        assert "NotAction" not in statement, name
        assert not [action for action in statement["Action"] if "*" in action], name
        if statement["Resource"] == ["*"] or statement["Resource"] == "*":
            # Of a task definition, AWS knows no resource.
            may = re.compile(r":(Describe|List|Get|BatchGet)|^ecs:(R|Der)egisterTaskDefinition$")
            assert all(may.search(each) for each in statement["Action"]), name


# --- Flipt, Argo Rollouts, the LaunchDarkly relay -------------------------------------------------


def test_flipt_signing_in_is_off_until_somebody_turns_it_on() -> None:
    """Its documents: authentication is off by default. Ours has no such switch: with no setting at
    all everything is closed."""
    api = an_api(settings=Settings.read({}))

    closed = [api.nobody.get(path).status for path in ("/api/v1/flags", "/api/v1/sdk/snapshot")]

    assert closed == [401, 401]
    assert bootstrap.prepare(Settings(), api.store, api.services, SystemEntropy()) is None, "made"


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/metrics/", "/debug", "/debug/pprof/", "/debug/vars", "/console", "/_debug"),
        *(
            "/status",
            "/env",
            "/actuator",
            "/actuator/env",
            "/server-status",
            "/.env",
            "/.git/config",
        ),
        "/?__debugger__=yes&cmd=resource&f=debugger.js",
    ],
)
def test_flipt_measures_and_debugging_are_open(world: World, path: str) -> None:
    """Its documents: /metrics and /debug/pprof answer anybody."""
    answer = world.api.app.test_client(use_cookies=False).get(path)

    away = answer.status_code == 303 and answer.headers["Location"] == "/sign-in"
    assert away or answer.status_code in (401, 404)
    assert world.api.app.debug is False
    assert world.api.app.testing is False


def test_argo_the_dashboard_has_no_login_and_listens_everywhere(world: World) -> None:
    """server/server.go of its dashboard: it binds every address, and asks nobody."""
    first = world.api.app.test_client(use_cookies=False).get("/")

    assert Settings.read({}).host == "127.0.0.1"
    assert (first.status_code, first.headers["Location"]) == (303, "/sign-in")


def test_the_ld_relay_crashes_on_prerequisites_in_a_circle(world: World) -> None:
    """Its changelog: a circle of prerequisites ended it. Here none can be made, and one that is
    there all the same is a snapshot that is refused."""
    from sortition.core.model import Prerequisite

    api = an_api(settings=UNBOUNDED)
    for key in ("a", "b"):
        api.flag(key)

    def needs(key: str, other: str) -> int:
        wanted = {"prerequisites": [{"flag": other, "variant": "on"}], **WHY}
        path = f"/api/v1/flags/{key}/environments/production"
        return api.admin.patch(path, wanted, revision=api.admin.get(path).json["revision"]).status

    assert [needs("a", "b"), needs("b", "a"), needs("a", "a")] == [200, 422, 422]
    ring = [a_flag(x, 50, prerequisites=(Prerequisite(y, "on"),)) for x, y in ("ab", "ba")]
    with pytest.raises(InvalidSnapshot):
        compile_flags({each.key: each for each in ring}, {})


@pytest.mark.parametrize("scheme", ["rediss", "rediss-cluster"])
def test_the_ld_relay_speaks_old_tls_to_its_store(scheme: str) -> None:
    """Its changelog: TLS 1.2 at least. What our client offers is read from its first message."""
    heard: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=_hear, args=(server, heard), daemon=True)
        thread.start()
        store = RedisStore(f"{scheme}://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(StoreUnavailable):
            store.ping()
        store.close()
        # Who waits in `accept` is woken by this, and not by closing it.
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)

    assert heard
    for hello in heard:
        assert hello[0] == 22, "a TLS handshake"
        assert min(offered(hello)) >= 0x0303, "TLS 1.2"


def _hear(server: socket.socket, heard: list[bytes]) -> None:
    """Keep the first octets of each connection, and end it."""
    with suppress(OSError):
        while True:
            wire, _ = server.accept()
            with wire:
                wire.settimeout(10)
                heard.append(wire.recv(8192))


def offered(hello: bytes) -> list[int]:
    """Return the versions that a ClientHello offers (RFC 8446, 4.2.1): its extension 43."""
    at = 5 + 4 + 2 + 32  # record, handshake, legacy version, random
    at += 1 + hello[at]  # session
    at += 2 + int.from_bytes(hello[at : at + 2])  # ciphers
    at += 1 + hello[at]  # compression
    end = at + 2 + int.from_bytes(hello[at : at + 2])
    at += 2
    while at < end:
        kind, length = (int.from_bytes(hello[at + n : at + n + 2]) for n in (0, 2))
        content = hello[at + 4 : at + 4 + length]
        if kind == 43:
            return [int.from_bytes(content[n : n + 2]) for n in range(1, len(content), 2)]
        at += 4 + length
    return [0x0301]


# --- AWS load balancers ---------------------------------------------------------------------------


def test_albeast_another_load_balancer_signs() -> None:
    """ALBeast (Miggo, August 2024): a token of anybody's own load balancer, by a key of the same
    region, was good at everybody's."""
    keys = load_balancer.Keys()
    reader = an_alb_reader(keys)
    key = keys.keys[load_balancer.KID]
    foreign = load_balancer.SIGNER.replace("111122223333", "999999999999")

    assert reader.read(load_balancer.header(key)).name == "Bea"
    forgeries: list[dict[str, Any]] = [
        {"signer": foreign},
        {"client": "another"},
        {"iss": "https://evil.example"},
    ]
    for forged in forgeries:
        with pytest.raises(NotIntroduced):
            reader.read(load_balancer.header(key, **forged))


def test_albeast_the_server_is_reached_past_its_load_balancer(world: World) -> None:
    """ALBeast (Miggo, August 2024): who reached the server directly wrote the header themselves. It
    means nothing but at its own address, and while it is off not even there."""
    told = {
        "X-Amzn-Oidc-Data": load_balancer.header(load_balancer.a_key()),
        "X-Amzn-Oidc-Identity": "ana@example.com",
        "X-Amzn-Oidc-Accesstoken": "x",
        "X-Forwarded-User": "admin",
        "X-Remote-User": "admin",
        "Remote-User": "admin",
    }
    client = world.api.app.test_client(use_cookies=False)

    assert client.get("/", headers=told).headers["Location"] == "/sign-in"
    assert client.get("/sign-in/alb", headers=told).status_code == 404
    assert client.get("/api/v1/flags", headers=told).status_code == 401


def an_alb_reader(keys: load_balancer.Keys) -> Any:
    from flagserver.auth.alb_header import AlbHeader, LoadBalancer
    from flagserver.system import SystemClock

    balancer = LoadBalancer(load_balancer.SIGNER, load_balancer.CLIENT, load_balancer.ISSUER)
    return AlbHeader(keys, SystemClock(), balancer)


# --- what else is tried ---------------------------------------------------------------------------

ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "CVE-2026-63462": (
        "tests/http/test_body.py::test_no_bomb_hurts_any_route",
        "tests/http/test_body.py::test_what_is_not_exact_json_is_malformed",
        "tests/http/test_body.py::test_a_body_has_a_size",
        "tests/http/test_body.py::test_a_body_is_not_read_before_it_is_known_who_sends_it",
    ),
    "CVE-2026-63004": (
        "tests/unit/test_egress.py::test_no_notation_leads_inside",
        "tests/unit/test_egress.py::test_nor_does_it_as_what_a_name_leads_to",
        "tests/unit/test_egress.py::test_a_name_is_looked_up_once_and_the_connection_pinned_to_what_was_judged",
        "tests/unit/test_egress.py::test_a_redirect_is_an_answer_and_is_not_followed",
        "tests/unit/test_outward.py::test_every_driver_calls_by_the_guarded_way_and_by_no_other",
    ),
    "85b92fa99, eeac6b3de": (
        "tests/unit/test_outward.py::test_no_address_of_a_setting_leads_past_the_list",
        "tests/unit/test_outward.py::test_no_endpoint_of_a_discovery_document_leads_past_the_list",
        "tests/unit/test_outward.py::test_nobody_can_tell_the_server_by_the_api_whom_to_call",
        "tests/unit/test_outward.py::test_nothing_else_in_the_source_can_open_a_connection",
    ),
    "CVE-2026-63466": ("tests/unit/test_notifiers.py::test_nothing_in_a_name_is_markup",),
    "89f2477d6, 8f55e5d7a8": (
        "tests/access/test_matrix.py::test_each_token_opens_what_the_table_says_and_nothing_else",
        "tests/access/test_elsewhere.py::test_naming_another_environment_is_refused_wherever_it_can_be_named",
        "tests/access/test_elsewhere.py::test_no_answer_about_ones_own_tells_of_another",
    ),
    "96f62c736": (
        "tests/admin/test_xss.py::test_flagsmith_a_tooltip_runs_what_somebody_wrote",
        "tests/admin/test_pages.py::test_text_stays_text_and_nothing_is_inline",
    ),
    "0e6deec64": ("tests/unit/test_people.py::test_a_link_is_good_once",),
    "CVE-2022-36065": (
        "tests/admin/test_sessions.py::test_every_endpoint_is_closed_unless_it_is_named",
    ),
    "57daf1f0c6": (
        "tests/admin/test_sessions.py::test_a_cookie_is_a_session_that_is_ours_or_nothing",
        "tests/http/test_confusion.py::test_a_field_of_another_type_is_refused",
        "tests/http/test_access.py::test_a_token_is_right_or_wrong",
    ),
    "9864856cf9": ("tests/access/test_matrix.py::test_every_route_has_its_line",),
    "CVE-2026-0650": ("tests/http/test_paths.py::test_no_trick_lets_anybody_in",),
    "CVE-2026-31866": (
        "tests/http/test_front.py::test_a_body_without_a_length_is_read_as_far_as_it_may_go",
        "tests/http/test_front.py::test_a_body_that_comes_drop_by_drop_is_given_up_too",
        "tests/http/test_front.py::test_slow_senders_hold_up_nobody",
    ),
    "CVE-2025-46332": (
        "tests/access/test_sdk_token.py::test_nothing_an_sdk_is_sent_carries_descriptions_owners_or_people",
    ),
    "CVE-2023-29018": ("tests/deploy/test_policies.py::test_the_server_may_do_what_it_does",),
    "LaunchDarkly relay": (
        "tests/house/test_advisories.py::test_nothing_that_is_locked_is_known_to_be_vulnerable",
        "tests/unit/test_evaluate.py::test_a_circle_is_refused_whatever_its_length",
        "tests/faults/test_row_11_poison.py",
    ),
    "ALBeast": (
        "tests/admin/test_alb_header.py::test_a_head_that_is_not_ours_is_refused_before_any_key_is_asked_for",
        "tests/admin/test_alb_header.py::test_a_second_header_beside_the_first_is_refused",
        "tests/contract/test_introductions_contract.py::test_no_character_of_it_can_be_another",
    ),
}
"""Advisory -> what else proves it."""


PUBLISHED = """
    CVE-2026-63462 GHSA-r5pq-6chh-j3xp CVE-2026-63004 GHSA-5vf6-jrqr-78fj 85b92fa99 eeac6b3de
    CVE-2026-63466 GHSA-w4mq-xh27-6xpx CVE-2022-36065 GHSA-j24q-55xh-wm4r 57daf1f0c6 60259f4375
    7bf597dfa5 8f55e5d7a8 9864856cf9 89f2477d6 96f62c736 0e6deec64 CVE-2026-0650 ALBeast
    GHSA-rwp9-5g7q-73q3 CVE-2026-31866 GHSA-rmrf-g9r3-73pm CVE-2025-46332 GHSA-892p-pqrr-hxqr
    CVE-2023-29018
"""
"""What was published about flag servers, and is looked for here."""


@pytest.mark.parametrize("advisory", ELSEWHERE)
def test_what_is_said_to_be_tried_elsewhere_is(advisory: str) -> None:
    for each in ELSEWHERE[advisory]:
        path, _, name = each.partition("::")
        found = ast.walk(ast.parse((ROOT / path).read_text()))
        assert not name or name in {
            node.name for node in found if isinstance(node, ast.FunctionDef)
        }, each


def test_every_advisory_has_its_test() -> None:
    told = ast.parse(Path(__file__).read_text())
    texts = [
        ast.get_docstring(node) or ""
        for node in told.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    xss = ast.parse((ROOT / "tests/admin/test_xss.py").read_text())
    texts += [
        ast.get_docstring(node) or "" for node in xss.body if isinstance(node, ast.FunctionDef)
    ]
    published = re.findall(r"\S+", PUBLISHED)

    assert [name for name in published if not any(name in text for text in texts)] == []
