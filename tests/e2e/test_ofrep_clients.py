"""OpenFeature's public OFREP clients, unchanged, against a server as people run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagEvaluationDetails, Reason

from tests.servers import free_ports

HERE = Path(__file__).parent
ADMIN = "srt_admin_0123456789ab_aa0e4ea5a2513c564a8aaa054c9e37b590d5dc1a0abb118bdae83c76eddbd4ff"
STATE = "/api/v1/flags/{}/environments/production"
WHY = {"reason": "a test", "confirm_environment": "production"}

FLAGS: list[dict[str, Any]] = [
    {"key": "on-for-all"},
    {"key": "half"},
    {"key": "killed"},
    {"key": "text", "variants": {"a": "ä 😀"}, "rest": "a"},
    {"key": "integer", "variants": {"a": 3}, "rest": "a"},
    {"key": "float", "variants": {"a": 1.0}, "rest": "a"},
    {"key": "object", "variants": {"a": {"list": [1, 2.5], "none": None}}, "rest": "a"},
    {"key": "new-version"},
]


@dataclass(frozen=True)
class Server:
    """A running `flagserver run`, and a token of an SDK in production."""

    url: str
    token: str

    def ask(
        self, method: str, path: str, body: Any = None, revision: int | None = None
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return dict(json.load(answer))

    def share(self, key: str, **change: Any) -> None:
        path = STATE.format(key)
        revision = self.ask("GET", path)["revision"]
        self.ask("PATCH", path, WHY | change, revision)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("ofrep")
    token_file = place / "admin-token"
    token_file.write_text(ADMIN)
    port = free_ports(1)[0]
    environ = os.environ | {
        "SORTITION_PORT": str(port),
        "SORTITION_DATA_DIR": str(place / "data"),
        "SORTITION_ADMIN_TOKEN_FILE": str(token_file),
    }
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flagserver.main", "run"], env=environ, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: process.poll() is not None or is_ready(url), 40)
            assert process.poll() is None, (place / "log").read_text()
            yield prepared(url)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def prepared(url: str) -> Server:
    bare = Server(url, "")
    for flag in FLAGS:
        bare.ask("POST", "/api/v1/flags", flag)
    bare.share("on-for-all", share=100)
    bare.share("half", share=50)
    bare.share("killed", share=100)
    bare.ask("POST", STATE.format("killed") + "/kill")
    version = {"attribute": "service.version", "operator": "version_at_least", "values": ["2"]}
    bare.share("new-version", share=100, conditions=[version])
    wanted = {"scope": "sdk", "environment": "production"}
    server = Server(url, bare.ask("POST", "/api/v1/tokens", wanted)["token"])
    eventually(lambda: "new-version" in snapshot(server)["flags"], 5)
    eventually(lambda: snapshot(server)["flags"]["new-version"]["share"] == 1_000_000, 5)
    return server


def snapshot(server: Server) -> dict[str, Any]:
    headers = {"X-API-Key": server.token}
    request = urllib.request.Request(f"{server.url}/api/v1/sdk/snapshot", headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return dict(json.load(answer))


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def eventually(check: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


# Python


@pytest.fixture
def client(server: Server) -> Iterator[OpenFeatureClient]:
    yield from python_client(server.url, server.token)


def python_client(url: str, token: str) -> Iterator[OpenFeatureClient]:
    provider = OFREPProvider(url, headers_factory=lambda: {"Authorization": f"Bearer {token}"})
    api.set_provider_and_wait(provider)
    try:
        yield api.get_client()
    finally:
        provider.session.close()
        api.clear_providers()


def an_id(id: str = "request-1", **attributes: Any) -> EvaluationContext:
    return EvaluationContext(id, {name.replace("_", "."): v for name, v in attributes.items()})


def told(details: FlagEvaluationDetails[Any]) -> tuple[Any, str | None, Any]:
    assert details.error_code is None, details
    return details.value, details.variant, details.reason


def test_python_gets_every_type_of_value(client: OpenFeatureClient) -> None:
    context = an_id()

    assert told(client.get_boolean_details("on-for-all", False, context)) == (
        *(True, "on"),
        Reason.STATIC,
    )
    assert told(client.get_boolean_details("killed", True, context)) == (
        *(False, "off"),
        Reason.DISABLED,
    )
    assert told(client.get_string_details("text", "", context))[0] == "ä 😀"
    assert told(client.get_integer_details("integer", 0, context))[0] == 3
    assert told(client.get_float_details("float", 0.0, context))[0] == 1.0
    assert told(client.get_object_details("object", {}, context))[0] == {
        "list": [1, 2.5],
        "none": None,
    }


def test_python_draws_lots_like_everybody_else(client: OpenFeatureClient) -> None:
    details = [client.get_boolean_details("half", False, an_id(f"id-{n}")) for n in range(200)]

    assert {each.reason for each in details} == {Reason.SPLIT}
    assert 60 < sum(each.value for each in details) < 140
    again = [client.get_boolean_value("half", False, an_id(f"id-{n}")) for n in range(200)]
    assert again == [each.value for each in details]


def test_python_says_where_the_code_runs(client: OpenFeatureClient) -> None:
    old, new = an_id(service_version="1.9"), an_id(service_version="2.0")

    assert client.get_boolean_value("new-version", False, old) is False
    assert client.get_boolean_value("new-version", False, new) is True


def test_python_learns_what_was_wrong(client: OpenFeatureClient, server: Server) -> None:
    unknown = client.get_boolean_details("none", True, an_id())
    nobody = client.get_boolean_details("half", True, EvaluationContext())
    person = client.get_boolean_details("half", True, an_id(email="ann"))
    address = client.get_boolean_details("half", True, an_id("ann@example.org"))
    text = client.get_string_details("on-for-all", "x", an_id())

    assert (unknown.value, unknown.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    assert (nobody.value, nobody.error_code) == (True, ErrorCode.TARGETING_KEY_MISSING)
    assert (person.value, person.error_code) == (True, ErrorCode.INVALID_CONTEXT)
    assert "email" in (person.error_message or "")
    assert address.error_code == ErrorCode.INVALID_CONTEXT
    assert "ann" not in (address.error_message or "")
    assert (text.value, text.error_code) == ("x", ErrorCode.TYPE_MISMATCH)
    for stranger in python_client(server.url, "srt_sdk_nobody"):
        details = stranger.get_boolean_details("half", True, an_id())
        assert (details.error_code, details.error_message) == (ErrorCode.GENERAL, "unauthorized")


# JavaScript


@pytest.fixture(scope="module")
def javascript(node: str, npm_project: Callable[[Path], Path]) -> Callable[[str], list[str]]:
    """Return how to run one of our programs with the clients beside it."""
    place = npm_project(HERE / "ofrep_js")
    return lambda program: [node, str(place / program)]


@pytest.mark.needs("node")
@pytest.mark.slow
def test_the_server_sdk_of_javascript(
    server: Server, javascript: Callable[[str], list[str]]
) -> None:
    context = {"targetingKey": "request-1"}
    questions = [
        ("Boolean", "on-for-all", False, context),
        ("Boolean", "killed", True, context),
        ("String", "text", "", context),
        ("Number", "integer", 0, context),
        ("Number", "float", 0, context),
        ("Object", "object", {}, context),
        ("Boolean", "new-version", False, context | {"service.version": "2.1"}),
        ("Boolean", "none", True, context),
        ("Boolean", "half", True, {}),
        ("Boolean", "half", True, context | {"email": "ann"}),
    ]
    asked = {"url": server.url, "token": server.token, "questions": questions}

    ran = subprocess.run(
        javascript("server.mjs"),
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert ran.returncode == 0, ran.stderr
    details = json.loads(ran.stdout)
    assert [each["value"] for each in details] == [
        *(True, False, "ä 😀", 3, 1, {"list": [1, 2.5], "none": None}, True),
        *(True, True, True),
    ]
    assert [each.get("errorCode") for each in details] == [
        *[None] * 7,
        *("FLAG_NOT_FOUND", "TARGETING_KEY_MISSING", "INVALID_CONTEXT"),
    ]
    assert (details[0]["reason"], details[1]["reason"]) == ("STATIC", "DISABLED")
    assert details[0]["flagMetadata"]["flagSetId"] == "production"


class Page:
    """The web SDK at work: one line asked, one line answered."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def say(self, line: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.stdout.close()


@pytest.fixture
def page(javascript: Callable[[str], list[str]]) -> Iterator[Page]:
    page = Page(javascript("web.mjs"))
    yield page
    assert page.close() == 0


@pytest.mark.needs("node")
def test_the_web_sdk_of_javascript_follows_changes(server: Server, page: Page) -> None:
    context = {"targetingKey": "request-1", "service.version": "2.0"}
    begin = {"url": server.url, "token": server.token, "context": context}

    assert page.say(begin) == "ready"
    assert page.say(["Boolean", "on-for-all", False])["value"] is True
    assert page.say(["Number", "float", 0])["value"] == 1
    assert page.say(["Boolean", "new-version", False])["value"] is True
    assert page.say(["Boolean", "none", True])["errorCode"] == "FLAG_NOT_FOUND"
    assert page.say({"targetingKey": "request-1", "service.version": "1.0"}) == "ready"
    assert page.say(["Boolean", "new-version", False])["value"] is False

    eventually(lambda: 304 in page.say("statuses"), 5)
    assert page.say("change") == "waiting"
    server.share("on-for-all", share=0)
    assert "on-for-all" in page.hear()
    assert page.say(["Boolean", "on-for-all", True])["value"] is False
    server.share("on-for-all", share=100)
    assert set(page.say("statuses")) == {200, 304}


@pytest.mark.needs("node")
@pytest.mark.slow
def test_the_web_sdk_of_javascript_learns_what_was_wrong(server: Server, page: Page) -> None:
    begin = {"url": server.url, "token": server.token, "context": {"email": "ann"}}

    told = page.say(begin)

    # 0.4.3 tells every refusal alike.
    assert told["errorCode"] == "GENERAL"
    assert "status: 400" in told["message"]
