"""Where a client's code runs: as OpenTelemetry's variables say, and for the rest as ECS says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import sortition
from sortition import resource
from sortition.sources import ecs, file
from sortition.testing import FakeServer, snapshot_with

from .conftest import until

Start = Callable[..., sortition.Client]

ARN = "arn:aws:ecs:eu-central-1:111122223333:task/shop/158d1c8083dd49d6b527399fd6414f5c"
TASK = {"TaskARN": ARN, "Family": "shop-web", "Revision": "26", "ServiceName": "shop"}
FOUND = {
    "service.name": "shop",
    "service.version": "26",
    "service.instance.id": "158d1c8083dd49d6b527399fd6414f5c",
    "cloud.region": "eu-central-1",
}


class Endpoint:
    """ECS's task metadata endpoint, on the loopback."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, json.dumps(TASK).encode())
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.asked.append(self.path)
                endpoint.gate.wait(10)
                status, body = endpoint.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}/v4/container-1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    serving = Endpoint()
    monkeypatch.setenv(resource.ECS_URI, serving.uri)
    yield serving
    serving.close()


def reported(server: FakeServer, client: sortition.Client) -> tuple[str, str | None]:
    client.is_enabled("search", "a")
    until(lambda: server.batches)
    return server.batches[-1]["service.name"], server.batches[-1]["service.version"]


# --- OpenTelemetry's variables ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, {"service.name": "unknown_service"}),
        ({"OTEL_SERVICE_NAME": "shop"}, {"service.name": "shop"}),
        (
            {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,a=b"},
            {"service.name": "shop", "a": "b"},
        ),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": " service.version = 1%2E4 ,broken,=x,a=b=c"},
            {"service.name": "unknown_service", "service.version": "1.4", "a": "b=c"},
        ),
    ],
)
def test_what_the_variables_say(environ: dict[str, str], found: dict[str, str]):
    assert resource.from_environment(environ) == found


# --- ECS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "found"),
    [
        (TASK, FOUND),
        ({"Family": "shop-web", "Revision": "26"},
         {"service.name": "shop-web", "service.version": "26"}),
        ({"TaskARN": "arn:aws:ecs:eu-west-1:1:task/7f"},
         {"service.instance.id": "7f", "cloud.region": "eu-west-1"}),
        ({"TaskARN": "nonsense", "Family": 7, "Revision": None}, {}),
    ],
)  # fmt: skip
def test_what_a_task_says(task: dict[str, Any], found: dict[str, str]):
    assert ecs.read(task) == found


def test_what_is_known_comes_before_what_is_found():
    known = {"service.name": "mine", "service.version": "1.4"}

    assert resource.completed(known, FOUND) == {**FOUND, **known}
    assert resource.completed({"service.name": "unknown_service"}, FOUND) == FOUND
    assert resource.completed({"service.name": "unknown_service"}, {}) == {
        "service.name": "unknown_service"
    }


def test_a_client_on_ecs_knows_its_service_and_settles_conditions_by_it(
    server: FakeServer, start: Start, endpoint: Endpoint
):
    here = {"attribute": "cloud.region", "operator": "in", "values": ["eu-central-1"]}
    server.put({"search": {"conditions": [here]}})
    client = start(resource=None)
    assert client.wait_ready(5)

    assert endpoint.asked == ["/v4/container-1/task"]
    assert client.is_enabled("search", "a")
    assert client.status().has_control_group
    assert reported(server, client) == ("shop", "26")


def test_what_the_variables_say_stays(
    server: FakeServer, start: Start, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=1.4")
    client = start(resource=None)
    assert client.wait_ready(5)

    assert reported(server, client) == ("mine", "1.4")


def test_a_host_that_names_its_resource_is_believed(
    server: FakeServer, start: Start, endpoint: Endpoint
):
    client = start(resource={"service.name": "mine"})
    assert client.wait_ready(5)

    assert endpoint.asked == []


def test_an_endpoint_that_is_silent_holds_nobody_up_for_long(
    server: FakeServer,
    start: Start,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
):
    monkeypatch.setattr(ecs, "CALL_SECONDS", 0.3)
    endpoint.gate.clear()
    kept = tmp_path / "kept"
    file.write(kept, snapshot_with({"search": 100}))
    began = time.monotonic()
    client = start(resource=None, snapshot=kept)
    # The flags of the disk answer meanwhile.
    assert client.is_enabled("search", "a")
    assert time.monotonic() - began < 0.25

    until(lambda: client.status().age is not None)
    assert client.status().errors == {"ecs_metadata": 1}
    assert not client.status().has_control_group


@pytest.mark.parametrize(
    "answer", [(500, b"{}"), (200, b"[]"), (200, b"<html>"), (200, b""), (302, b"")]
)
def test_an_endpoint_that_is_wrong_is_counted_and_asked_again(
    server: FakeServer, start: Start, endpoint: Endpoint, answer: tuple[int, bytes]
):
    endpoint.answer = answer
    client = start(resource=None)
    assert client.wait_ready(5)
    assert client.status().errors == {"ecs_metadata": 1}
    endpoint.answer = (200, json.dumps(TASK).encode())

    server.cut()

    until(lambda: client.status().has_control_group)
    until(lambda: server.followers == 1)
    assert reported(server, client) == ("shop", "26")


def test_flags_that_were_settled_are_settled_anew_and_lose_no_count():
    region = {"attribute": "cloud.region", "operator": "in", "values": ["eu-central-1"]}
    client = sortition.Client("", snapshot="", resource={})
    client._put(snapshot_with({"search": {"conditions": [region]}, "plain": 100}))
    flag = client.flag("search")
    assert (flag("a"), client.is_enabled("search", "a")) == (False, False)

    client._publish(client._held.settle(FOUND))

    assert (flag("a"), client.is_enabled("search", "a")) == (True, True)
    assert client._held.assignments() == {("search", "off"): 2, ("search", "on"): 2}


def test_a_fork_keeps_what_was_found(server: FakeServer, endpoint: Endpoint):
    script = """
import os, sys, sortition
client = sortition.Client(sys.argv[1], key=sys.argv[2])
assert client.wait_ready(5)
child = os.fork()
if child == 0:
    good = client.status().has_control_group
    os._exit(0 if good else 3)
print(os.waitpid(child, 0)[1])
client.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, server.url, server.key],
        env={**os.environ, resource.ECS_URI: endpoint.uri},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
