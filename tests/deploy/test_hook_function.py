"""The function behind CodeDeploy's hooks: it always reports, in time, and hides its token."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:sortition-AbCdEf"
EVENT = {"DeploymentId": "d-7CMGXZ9DN", "LifecycleEventHookExecutionId": "eyJlbmMi"}
KEYS = {
    "region_name": "eu-west-1",
    "aws_access_key_id": "k",
    "aws_secret_access_key": "s",
}


@dataclass
class World:
    """Sortition and AWS as the function meets them.

    answers: of Sortition, (status, body), one after the other, the last one again and again.
    """

    function: Any
    codedeploy: Stubber
    secrets: Stubber
    answers: list[tuple[int, Any]] = field(default_factory=list)
    heard: list[tuple[str, str, Any]] = field(default_factory=list)
    seconds: float = 300.0
    slept: list[float] = field(default_factory=list)

    def get_remaining_time_in_millis(self) -> int:
        """The function's context: sleeping is all that takes time here."""
        return round((self.seconds - sum(self.slept)) * 1000)

    def takes(self, status: str, **told: Any) -> None:
        """Let CodeDeploy expect this report, as its model has it."""
        wanted = {
            "deploymentId": "d-7CMGXZ9DN",
            "lifecycleEventHookExecutionId": "eyJlbmMi",
            "status": status,
        }
        operation = "put_lifecycle_event_hook_execution_status"
        if told:
            self.codedeploy.add_client_error(operation, expected_params=wanted, **told)
        else:
            answer = {"lifecycleEventHookExecutionId": "eyJlbmMi"}
            self.codedeploy.add_response(operation, answer, wanted)

    def has_token(self, token: str = "srt_deploy_x") -> None:
        told = {"ARN": SECRET, "SecretString": f"{token}\n"}
        self.secrets.add_response("get_secret_value", told, {"SecretId": SECRET})

    def run(self) -> dict[str, str]:
        done: dict[str, str] = self.function.handler(EVENT, self)
        self.codedeploy.assert_no_pending_responses()
        self.secrets.assert_no_pending_responses()
        return done


def says(says: str, reason: str = "Because.") -> tuple[int, Any]:
    return 200, {"says": says, "reason": reason}


@contextmanager
def serving(world: World) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            world.heard.append((self.path, self.headers["Authorization"], json.loads(body)))
            status, told = world.answers.pop(0) if len(world.answers) > 1 else world.answers[0]
            raw = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    function = importlib.reload(importlib.import_module("deploy.lambda.codedeploy_hook"))
    clients = {name: boto3.client(name, **KEYS) for name in ("codedeploy", "secretsmanager")}
    stubs = {name: Stubber(client) for name, client in clients.items()}
    made = World(function, stubs["codedeploy"], stubs["secretsmanager"])
    monkeypatch.setattr(function.boto3, "client", lambda name, config: clients[name])
    monkeypatch.setattr(function.time, "sleep", made.slept.append)
    with serving(made) as url, stubs["codedeploy"], stubs["secretsmanager"]:
        monkeypatch.setenv("SORTITION_URL", url + "/")
        monkeypatch.setenv("SORTITION_TOKEN_SECRET", SECRET)
        yield made


@pytest.mark.parametrize(("said", "status"), [("allow", "Succeeded"), ("deny", "Failed")])
def test_it_asks_and_reports_the_answer(world, said, status):
    world.answers = [says(said, "The numbers.")]
    world.has_token()
    world.takes(status)

    assert world.run() == {"deployment": "d-7CMGXZ9DN", "says": said, "reason": "The numbers."}
    asked = {"deployment": "d-7CMGXZ9DN", "execution": "eyJlbmMi"}
    assert world.heard == [("/api/v1/hooks/codedeploy", "Bearer srt_deploy_x", asked)]


def test_what_waits_is_left_to_the_server(world):
    world.answers = [says("wait", "Somebody holds it.")]
    world.has_token()

    assert world.run()["says"] == "wait"


@pytest.mark.parametrize("status", [409, 429, 500, 503])
def test_it_asks_again_while_the_answer_may_still_come(world, status):
    world.answers = [(status, {"detail": "Not yet."}), (status, b"<html>"), says("allow")]
    world.has_token()
    world.takes("Succeeded")

    world.run()

    assert len(world.heard) == 3
    assert len(world.slept) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_no_further_question_changes_is_reported_at_once(world, status):
    world.answers = [(status, {"detail": "No such token."})]
    world.has_token()
    world.takes("Failed")

    assert world.run()["reason"] == f"Sortition answered {status}: No such token."
    assert world.slept == []


def test_a_token_that_was_replaced_is_read_again_next_time(world):
    world.answers = [(401, {}), says("allow")]
    world.has_token("old")
    world.takes("Failed")
    world.run()
    world.has_token("new")
    world.takes("Succeeded")
    world.run()

    assert [token for _, token, _ in world.heard] == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"says": "perhaps", "reason": ""}', b'{"a": 1}'])
def test_an_answer_that_is_none_allows_nothing(world, answer):
    world.answers = [(200, answer)]
    world.has_token()
    world.takes("Failed")

    assert world.run()["says"] == "deny"


def test_without_an_answer_it_fails_within_its_time(world):
    world.answers = [(503, {"detail": "Away."})]
    world.has_token()
    world.takes("Failed")

    assert world.run()["reason"] == "Sortition answered 503: Away."
    assert world.seconds - sum(world.slept) >= world.function.KEPT_SECONDS
    assert len(set(world.slept)) == len(world.slept) > 10
    assert max(world.slept) <= world.function.MOST_SECONDS


def test_nobody_listens(world, monkeypatch):
    monkeypatch.setenv("SORTITION_URL", "http://127.0.0.1:1")
    world.has_token()
    world.takes("Failed")

    assert world.run()["reason"].startswith("Sortition did not answer:")


def test_a_redirect_does_not_get_the_token(world):
    world.answers = [(302, {}), says("allow")]
    world.seconds = 0
    world.has_token()
    world.takes("Failed")

    assert world.run()["reason"].startswith("Sortition answered 302")
    assert len(world.heard) == 1


@pytest.mark.parametrize("url", ["http://flags.example", "ftp://127.0.0.1", "flags.example"])
def test_the_token_is_shown_to_no_network(world, monkeypatch, url):
    monkeypatch.setenv("SORTITION_URL", url)
    world.takes("Failed")

    assert world.run()["reason"] == "SORTITION_URL must begin with https://."
    assert world.heard == []


def test_without_a_token_it_reports_all_the_same(world):
    world.seconds = 0
    world.secrets.add_client_error("get_secret_value", "AccessDeniedException")
    world.takes("Failed")

    assert world.run()["reason"].startswith("The token cannot be read:")


def test_a_fault_of_its_own_is_reported_and_raised(world, monkeypatch):
    monkeypatch.delenv("SORTITION_URL")
    world.takes("Failed")

    with pytest.raises(KeyError):
        world.run()
    world.codedeploy.assert_no_pending_responses()


def test_what_was_answered_meanwhile_is_well(world):
    world.answers = [says("allow")]
    world.has_token()
    world.takes("Succeeded", service_error_code="LifecycleEventAlreadyCompletedException")

    assert world.run()["says"] == "allow"
