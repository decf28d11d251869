"""Every call that leaves the server, found by looking: each goes by the one guarded way out, and no
address that somebody can set gets around it.

Unleash (CVE-2026-63004) closed its webhooks and forgot its integrations; Flagsmith needed two goes.
So what is asked here is not "are webhooks safe" but "which calls are there".
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from flagserver import bootstrap
from flagserver.auth.alb_header import AlbHeader
from flagserver.auth.oidc import Client, OidcProvider
from flagserver.aws import Aws, AwsError
from flagserver.domain.signals import Ask, Measure, Signal
from flagserver.egress import GuardedEgress
from flagserver.http.app import all_routes
from flagserver.measures import Board
from flagserver.notify.pagerduty import PagerDuty
from flagserver.notify.slack import Slack
from flagserver.notify.webhook import Webhook
from flagserver.ports import Answer, Egress, Introduction, NotDelivered, NotIntroduced
from flagserver.settings import SETTINGS, Outward, Settings, SettingsError
from flagserver.signals.prometheus import PrometheusSource
from flagserver.signals.sqs import SqsMailbox
from flagserver.system import SystemClock
from tests import load_balancer
from tests.builders import House
from tests.capturing import Capturing, Trouble
from tests.network import METADATA, NOTATIONS, PUBLIC, Network
from tests.unit.test_notifiers import FAILED

ROOT = Path(__file__).parents[2]
SECRET = "whsec_3RztOw7QBH6oAU1vfVmCOypEI01A4eMZJK7NyZJw8LQ="
OUTSIDE = "elsewhere.test"

WHOLE = {
    "SORTITION_WEBHOOK_URL": f"https://{OUTSIDE}/hook",
    "SORTITION_WEBHOOK_SECRET": SECRET,
    "SORTITION_SLACK_WEBHOOK": f"https://{OUTSIDE}/services/T0/B0/x",
    "SORTITION_PAGERDUTY_URL": f"https://{OUTSIDE}/v2/enqueue",
    "SORTITION_PAGERDUTY_KEY": "0" * 32,
    "SORTITION_PROMETHEUS_URL": f"https://{OUTSIDE}",
    "SORTITION_OIDC_ISSUER": f"https://{OUTSIDE}",
    "SORTITION_OIDC_CLIENT_ID": "sortition",
    "SORTITION_OIDC_CLIENT_SECRET": "hush",
    "SORTITION_OIDC_ROLES": "shop=viewer",
    "SORTITION_ALB_SIGNER": load_balancer.SIGNER,
    "SORTITION_ALB_CLIENT": load_balancer.CLIENT,
    "SORTITION_ALB_ISSUER": load_balancer.ISSUER,
    "SORTITION_ALB_ROLES": "shop=viewer",
    "SORTITION_EGRESS_HOSTS": f"{OUTSIDE} {load_balancer.HOST}",
}
"""A server that tells and asks everybody whom it can tell and ask."""

CALLED = {
    "SORTITION_WEBHOOK_URL",
    "SORTITION_SLACK_WEBHOOK",
    "SORTITION_PAGERDUTY_URL",
    "SORTITION_PROMETHEUS_URL",
    "SORTITION_OIDC_ISSUER",
}
"""Settings that are addresses which the server calls."""

NOT_CALLED = {
    "SORTITION_HOST": "where it listens",
    "SORTITION_PUBLIC_URL": "is written into links",
    "SORTITION_ALB_ISSUER": "is compared with what a header says",
    "SORTITION_ALB_SIGNER": "an ARN: its region alone is put into one fixed host's name",
    "SORTITION_EGRESS_HOSTS": "the list itself",
    "SORTITION_EGRESS_INTERNAL_HOSTS": "the list itself",
    "SORTITION_OFREP_ORIGINS": "is compared with what browsers say",
    "SORTITION_OIDC_DOMAINS": "is compared with addresses of people",
    "SORTITION_TRUSTED_PROXIES": "is compared with whoever connects",
    "SORTITION_REDIS_URL": "the store, which lies inside by its nature",
    "SORTITION_SIGNALS_QUEUE_URL": "a parameter to SQS, see below",
    "SORTITION_ANCHORS_S3": "a bucket's name, a parameter to S3",
}
"""Settings that look like an address and are none that the guarded way out is for, and why."""


CONNECTING = {
    *("aiohttp", "asyncio", "boto3", "botocore", "ftplib", "http.client", "httpcore", "httpx"),
    *("opentelemetry", "redis", "requests", "smtplib", "socket", "ssl", "telnetlib"),
    *("urllib.request", "urllib3", "websockets", "xmlrpc.client"),
}
"""What can open a connection."""


@cache
def a_house() -> House:
    return House()


@cache
def parsed() -> Mapping[str, ast.Module]:
    """Return every file of the server that names what the tests look for, by its path."""
    paths = [path for room in ("flagserver", "admin") for path in (ROOT / room).rglob("*.py")]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    named = re.compile("|".join(["Egress", *map(re.escape, CONNECTING)]))
    return {path: ast.parse(text) for path, text in texts.items() if named.search(text)}


def open_everything(settings: Settings, egress: Egress) -> list[Any]:
    """Return every driver that calls somebody, as the composition root makes it."""
    house, clock = a_house(), SystemClock()
    found: list[Any] = [
        *bootstrap.open_notifiers(settings, egress, clock),
        *bootstrap.open_sources(settings, house.store, house.services.snapshots, egress),
        bootstrap.open_provider(settings, egress, clock),
        bootstrap.open_header(settings, egress, clock),
    ]
    return [each for each in found if hasattr(each, "_egress")]


# --- settings -------------------------------------------------------------------------------------


def test_every_setting_that_looks_like_an_address_is_known_here() -> None:
    like = re.compile(r"URL|HOST|WEBHOOK|ISSUER|SIGNER|ENDPOINT|ORIGIN|DOMAIN|PROX|_S3|SERVER")
    unlike = re.compile(r"_FILE$|_SECRET$")

    found = {name for name in SETTINGS if like.search(name) and not unlike.search(name)}

    assert found == CALLED | set(NOT_CALLED)


def test_every_address_among_the_outward_settings_is_tried_here() -> None:
    known = {each.name: f"SORTITION_{each.name.upper()}" for each in fields(Outward)}
    values = {name: getattr(Settings.read(WHOLE).outward, name) for name in known}

    addresses = {known[name] for name, value in values.items() if "://" in str(value)}

    assert addresses <= CALLED
    assert CALLED - addresses == {"SORTITION_OIDC_ISSUER"}, "it stands among its own settings"


@pytest.mark.parametrize("name", sorted(CALLED))
def test_no_address_of_a_setting_leads_past_the_list(name: str) -> None:
    """In whatever notation, the start stops and names the setting."""
    hosts = [*NOTATIONS, "unlisted.test", f"{OUTSIDE}:8443", f"{OUTSIDE}.", f"x@{OUTSIDE}"]
    addresses = [f"https://{host}/x" for host in hosts]
    addresses += [f"http://{OUTSIDE}/x", f"file://{OUTSIDE}/x", f"gopher://{OUTSIDE}/", "//x", "x"]

    for address in addresses:
        settings = Settings.read(WHOLE | {name: address})
        with pytest.raises(SettingsError, match=name):
            open_everything(settings, bootstrap.open_egress(settings))


@pytest.mark.parametrize("host", ["127.0.0.1", METADATA, "10.0.0.1", "[::1]", "[fd00:ec2::254]"])
@pytest.mark.parametrize("name", sorted(CALLED))
def test_nor_does_one_that_was_put_on_the_list_of_hosts_outside(name: str, host: str) -> None:
    """Then the call is refused, and nothing is connected to."""
    settings = Settings.read(
        WHOLE
        | {
            name: f"https://{host}/x",
            "SORTITION_EGRESS_HOSTS": f"{OUTSIDE} {load_balancer.HOST} {host}",
        }
    )
    network = Network(elsewhere_test=[PUBLIC], **{load_balancer.HOST.replace(".", "_"): [PUBLIC]})
    egress = bootstrap.open_egress(settings)
    assert isinstance(egress, GuardedEgress)
    guarded = GuardedEgress(
        egress._places.values(), resolve=network.resolve, connect=network.connect
    )

    for driver in open_everything(settings, guarded):
        call(driver)

    assert network.connected, "the others were called"
    assert all(f"{PUBLIC}:443" == each for each in network.connected)


# --- drivers --------------------------------------------------------------------------------------


def call(driver: Any) -> None:
    """Let a driver call whom it calls; nobody is there."""
    CALLS[type(driver)](driver)


def _tell(driver: Any) -> None:
    with pytest.raises(NotDelivered):
        driver.send(FAILED)


def _sign_in(driver: Any) -> None:
    told = Introduction("https://flags.example/back", *(x * 43 for x in "snv"))
    for act in (lambda: driver.begin(told), lambda: driver.finish(told, "code")):
        with pytest.raises(NotIntroduced):
            act()


def _read(driver: Any) -> None:
    with pytest.raises(NotIntroduced):
        driver.read(load_balancer.header(load_balancer.a_key()))


def _measure(driver: Any) -> None:
    signal = Signal.of("prometheus", Measure.VALUE, query="up")
    ask = Ask(signal, "staging", "shop", None, 60, 60)
    assert driver.measure([ask], 1_000_000.0)[ask].error


CALLS: dict[type, Callable[[Any], None]] = {
    Webhook: _tell,
    Slack: _tell,
    PagerDuty: _tell,
    PrometheusSource: _measure,
    OidcProvider: _sign_in,
    AlbHeader: _read,
}


class Recorder:
    """`ports.Egress` that keeps who was to be called, and calls nobody."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self.hosts: list[str] = []

    def check(self, url: str) -> None:
        self._egress.check(url)

    def send(self, method: str, url: str, **told: Any) -> Any:
        self.hosts.append(url.split("/")[2])
        return self._egress.send(method, url, **told)


def test_every_driver_calls_by_the_guarded_way_and_by_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings.read(WHOLE)
    network = Network(elsewhere_test=[PUBLIC], **{load_balancer.HOST.replace(".", "_"): [PUBLIC]})
    egress = bootstrap.open_egress(settings)
    assert isinstance(egress, GuardedEgress)
    recorder = Recorder(
        GuardedEgress(egress._places.values(), resolve=network.resolve, connect=network.connect)
    )
    drivers = open_everything(settings, recorder)
    assert {type(each) for each in drivers} == set(CALLS)

    def no_other(*told: Any, **more: Any) -> None:
        raise AssertionError("a socket was opened past the guarded way out")

    monkeypatch.setattr("socket.socket.connect", no_other)
    monkeypatch.setattr("socket.getaddrinfo", no_other)
    for driver in drivers:
        before = len(recorder.hosts)
        call(driver)
        assert len(recorder.hosts) > before, driver

    assert set(recorder.hosts) == {OUTSIDE, load_balancer.HOST}


def test_whoever_calls_is_given_the_way_out_and_is_known_here() -> None:
    """A new driver that takes an `Egress` is called by the tests above, or fails this one."""
    taking = set()
    for tree in parsed().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(each, ast.FunctionDef)
                and each.name == "__init__"
                and any(ast.unparse(a.annotation or a) == "Egress" for a in each.args.args)
                for each in node.body
            ):
                taking.add(node.name)

    assert taking == {each.__name__ for each in CALLS}


# --- what a provider says of itself ---------------------------------------------------------------


@dataclass
class Discovering:
    """`ports.Egress` whose discovery document is a test's; all else is really asked."""

    document: dict[str, str]
    egress: Egress

    def check(self, url: str) -> None:
        self.egress.check(url)

    def send(self, method: str, url: str, **told: Any) -> Any:
        if url.endswith("/.well-known/openid-configuration"):
            return Answer(200, {}, _json(self.document))
        if url == f"https://{OUTSIDE}/keys":
            return Answer(200, {}, _json({"keys": []}))
        return self.egress.send(method, url, **told)


def _json(told: object) -> bytes:
    return json.dumps(told).encode()


@pytest.mark.parametrize("name", ["jwks_uri", "token_endpoint"])
def test_no_endpoint_of_a_discovery_document_leads_past_the_list(name: str) -> None:
    good = {
        "issuer": f"https://{OUTSIDE}",
        "authorization_endpoint": f"https://{OUTSIDE}/authorize",
        "token_endpoint": f"https://{OUTSIDE}/token",
        "jwks_uri": f"https://{OUTSIDE}/keys",
    }
    settings = Settings.read(WHOLE)
    network = Network()
    egress = bootstrap.open_egress(settings)
    assert isinstance(egress, GuardedEgress)
    guarded = GuardedEgress(
        egress._places.values(), resolve=network.resolve, connect=network.connect
    )
    told = Introduction("https://flags.example/back", *(x * 43 for x in "snv"))
    client = Client(f"https://{OUTSIDE}", "sortition", "hush")

    for host in [*NOTATIONS, "unlisted.test", f"{OUTSIDE}:8443", f"x@{OUTSIDE}", f"{OUTSIDE}."]:
        for scheme in ("https", "http", "file"):
            document = good | {name: f"{scheme}://{host}/x"}
            provider = OidcProvider(Discovering(document, guarded), SystemClock(), client)
            with pytest.raises(NotIntroduced) as refusal:
                provider.finish(told, "code")
            assert "hush" not in str(refusal.value)

    assert network.asked == network.connected == []


# --- what callers of the API can say --------------------------------------------------------------


def names_of(model: type[BaseModel]) -> Iterator[str]:
    """Yield the names of a body's fields, those within it too."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel) and part is not model:
                yield from names_of(part)


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in get_args(annotation):
        yield from _parts(each)


def test_nobody_can_tell_the_server_by_the_api_whom_to_call() -> None:
    """No body and no parameter is an address; whom it calls, its operator sets."""
    routes = all_routes(Settings(), Board())
    names = {name for route in routes if route.model for name in names_of(route.model)}
    names |= {name for route in routes for name in route.query}
    assert {"settings", "reason", "schedule"} <= names, "they are found"

    like = re.compile(
        r"url|uri|href|link|host|webhook|callback|endpoint|address|proxy|server|fetch"
    )

    assert not [name for name in names if like.search(name.lower())]


# --- AWS ------------------------------------------------------------------------------------------

REGIONS = [
    *("elsewhere.example", "elsewhere.example/", "x/../../y", "x#", "x?", "@elsewhere.example"),
    *("x:80", "x\\y", "169.254.169.254", "[::1]", "-x", "x-", "a b", "x\r\ny", "é", "1" * 5),
]


def test_a_region_that_somebody_names_is_no_way_to_another_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stands in guards, and in ARNs; and a part of the host's name is made of it."""
    asked: list[str] = []

    def nowhere(host: str, *told: Any, **more: Any) -> Sequence[Any]:
        asked.append(host)
        raise OSError("nobody is looked up in this test")

    for name, value in (("ID", "x"), ("KEY", "y")):
        key = "AWS_ACCESS_KEY_ID" if name == "ID" else "AWS_SECRET_ACCESS_KEY"
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setattr("socket.getaddrinfo", nowhere)
    for region in REGIONS:
        for service, operation in (("cloudwatch", "describe_alarms"), ("elbv2", "describe_rules")):
            with pytest.raises(AwsError):
                Aws().read(service, operation, region)

    assert all(host.endswith(".amazonaws.com") for host in asked), asked


def test_regions_without_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a client, and a deploy token may name as many as it likes."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr("socket.getaddrinfo", _nobody)
    monkeypatch.setattr("flagserver.aws.MOST_CLIENTS", 3)
    aws = Aws()

    for number in range(6):
        with pytest.raises(AwsError):
            aws.read("cloudwatch", "describe_alarms", f"nowhere-{number}")

    assert len(aws._clients) == len(aws._allowances) == 3


def _nobody(*told: Any, **more: Any) -> Sequence[Any]:
    raise OSError("nobody is looked up in this test")


def test_a_queues_address_is_told_to_sqs_and_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    with Capturing() as sqs, Capturing() as elsewhere:
        for name, value in {
            "AWS_ENDPOINT_URL": sqs.url,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }.items():
            monkeypatch.setenv(name, value)

        sqs.troubles.append(
            Trouble(body=b"{}", headers={"Content-Type": "application/x-amz-json-1.0"})
        )
        assert SqsMailbox(Aws(), f"{elsewhere.url}/123456789012/x").receive() == []

        assert [request.path for request in sqs.requests] == ["/"]
        assert elsewhere.requests == []


# --- the source -----------------------------------------------------------------------------------

ALLOWED = {
    "flagserver/egress.py": "the one way out",
    "flagserver/aws.py": "the other one: AWS's own, by its own addresses",
    "flagserver/storage": "the store, and the embedded one on a socket of this machine",
    "flagserver/tracing.py": "traces, to where OTEL_EXPORTER_OTLP_ENDPOINT says",
    "flagserver/http": "the loop that callers are answered on",
    "flagserver/web.py": "the socket that is listened on",
    "flagserver/measures.py": "this machine's name",
    "flagserver/processes.py": "whether a port is free, or a child answers",
    "flagserver/supervisor.py": "the kind of error of a child that does not answer",
    "flagserver/main.py": "whether the server of this machine is well",
    "flagserver/demo": "the shop and the server of this machine",
}
"""Who else imports such a thing, and what for. A file under none of these fails the test."""


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def can_connect(tree: ast.Module) -> set[str]:
    """Return the libraries that can open a connection and are imported there."""
    names = set(_imports(tree))
    return {
        each
        for each in CONNECTING
        if any(name == each or name.startswith(f"{each}.") for name in names)
    }


def test_nothing_else_in_the_source_can_open_a_connection() -> None:
    found = {path: names for path, tree in parsed().items() if (names := can_connect(tree))}
    assert found["flagserver/egress.py"] == {"httpcore", "socket", "ssl"}, "they are found"

    strangers = {
        path: names
        for path, names in found.items()
        if not any(path == each or path.startswith(f"{each}/") for each in ALLOWED)
    }

    assert strangers == {}
