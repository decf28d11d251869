"""`sortition verify`: what is asked, what is expected, and that it ends, against a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from sortition.cli import checks as checking
from sortition.cli import exits
from sortition.cli.checks import Answer, Expect
from sortition.cli.main import cli

from tests.servers import free_ports

JSON = "application/json; charset=utf-8"
BASKET = {"items": [{"sku": 1, "a/b": {"~": "x"}}], "total": 3, "open": True}


class Shop:
    """A service under test: answers as its paths say, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.failing = 0
        self.busy = self.busiest = 0
        self.together = threading.Barrier(3)
        self._lock = threading.Lock()
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): text for name, text in self.headers.items()}
                with shop._lock:
                    shop.asked.append((self.command, self.path, headers, self.rfile.read(length)))
                try:
                    shop.give(self)
                except OSError:
                    self.close_connection = True

            do_GET = do_POST = do_HEAD = answer  # noqa: N815 (as the library has it)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def give(self, to: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        ways: dict[str, Callable[[], tuple[int, bytes]]] = {
            "/healthz": lambda: (200, b"ok"),
            "/basket": lambda: (200, json.dumps(BASKET).encode()),
            "/flaky": self._flaky,
            "/slow": self._slow,
            "/together": self._together,
            "/moved": lambda: (302, b""),
            "/long": lambda: (200, b"x" * (checking.BODY_LIMIT + 1)),
        }
        if to.path == "/trickle":
            self._trickle(to)
            return
        status, body = ways.get(to.path, lambda: (404, b"nothing here"))()
        to.send_response(status)
        to.send_header("Content-Type", JSON)
        to.send_header("Content-Length", str(len(body)))
        to.send_header("Location", "/healthz")
        to.end_headers()
        to.wfile.write(body if to.command != "HEAD" else b"")

    def _flaky(self) -> tuple[int, bytes]:
        with self._lock:
            self.failing -= 1
            return (503, b"") if self.failing >= 0 else (200, b"at last")

    def _slow(self) -> tuple[int, bytes]:
        time.sleep(0.3)
        return 200, b"slow"

    def _together(self) -> tuple[int, bytes]:
        """Answer when three are here; how many are is counted before any of them is told."""
        with self._lock:
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        self.together.wait(timeout=20)
        time.sleep(0.05)
        with self._lock:
            self.busy -= 1
        return 200, b"together"

    def _trickle(self, to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.end_headers()
        for _ in range(100):
            to.wfile.write(b".")
            to.wfile.flush()
            time.sleep(0.05)


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def verify(directory: Path, content: Any, *words: str) -> Result:
    path = directory / "checks.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return CliRunner().invoke(cli, ["verify", "-f", str(path), *words])


def one(directory: Path, shop: Shop, *words: str, **told: Any) -> dict[str, Any]:
    """Carry out one check, without retries unless it says so; return what is told of it."""
    check = {"name": "it", "url": "/healthz", "retries": 0, "wait": "10ms", **told}
    done = verify(directory, {"base": shop.url, "checks": [check]}, "--json", *words)
    content = json.loads(done.stdout)
    (found,) = content["checks"]
    assert content["kind"] == "verify"
    assert done.exit_code == (exits.DONE if found["passed"] else exits.CHECK_FAILED)
    return dict(found)


# --- what is asked --------------------------------------------------------------------------------


def test_all_pass(tmp_path: Path, shop: Shop) -> None:
    checks = [{"name": "health", "url": "/healthz"}, {"name": "basket", "url": "/basket"}]

    done = verify(tmp_path, {"base": shop.url, "checks": checks})

    assert done.exit_code == exits.DONE, done.output
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[1].startswith("✔ health 200 ")
    assert lines[-1] == "✔ 2 passed."


def test_one_that_fails_is_9_and_the_others_are_carried_out(tmp_path: Path, shop: Shop) -> None:
    checks = [
        {"name": "missing", "url": "/nowhere", "retries": 0},
        {"name": "health", "url": "/healthz"},
    ]

    done = verify(tmp_path, {"base": shop.url, "checks": checks})

    assert done.exit_code == exits.CHECK_FAILED
    assert "status 404, expected 200 to 299" in done.stdout
    assert "✖ 1 of 2 failed." in done.stdout
    assert {path for _, path, _, _ in shop.asked} == {"/nowhere", "/healthz"}


def test_method_headers_and_json_are_sent_and_a_secret_comes_from_the_environment(
    tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOKE_TOKEN", "s3cret")
    headers = {"Authorization": "Bearer ${SMOKE_TOKEN}", "X-Plain": "a$b"}

    found = one(tmp_path, shop, method="POST", url="/basket", json={"sku": 1}, headers=headers)

    ((method, path, sent, body),) = shop.asked
    assert (found["passed"], method, path, json.loads(body)) == (
        True,
        "POST",
        "/basket",
        {"sku": 1},
    )
    assert (sent["authorization"], sent["x-plain"]) == ("Bearer s3cret", "a$b")
    assert sent["content-type"] == "application/json"
    assert "s3cret" not in json.dumps(found)


def test_a_body_is_sent_as_it_is(tmp_path: Path, shop: Shop) -> None:
    one(tmp_path, shop, method="POST", body="a=ü")
    assert shop.asked[0][3] == "a=ü".encode()


def test_a_variable_that_is_not_there_is_said_before_anything_is_asked(
    tmp_path: Path, shop: Shop
) -> None:
    check = {"name": "it", "url": "/healthz", "headers": {"A": "${NOT_THERE}"}}

    done = verify(tmp_path, {"base": shop.url, "checks": [check]})

    assert (done.exit_code, shop.asked) == (exits.USAGE, [])
    assert "the environment has no NOT_THERE" in done.stderr


def test_the_base_may_be_said_and_must_be_known(tmp_path: Path, shop: Shop) -> None:
    content = {"base": "http://127.0.0.1:1", "checks": [{"name": "it", "url": "/healthz"}]}
    assert verify(tmp_path, content, "--base", shop.url).exit_code == exits.DONE

    done = verify(tmp_path, {"checks": content["checks"]})

    assert done.exit_code == exits.USAGE
    assert "it: /healthz needs `base` in the file, or --base" in done.stderr


def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path) -> None:
    done = verify(tmp_path, "checks:\n  - name: it\n    urll: /healthz\n")
    assert done.exit_code == exits.USAGE
    assert "checks.yaml:3:5: checks.0.urll: is not known here" in done.stderr


def test_redirects_are_answers(tmp_path: Path, shop: Shop) -> None:
    expect = {"status": 302, "headers": {"location": "/healthz"}}
    assert one(tmp_path, shop, url="/moved", expect=expect)["passed"]
    assert len(shop.asked) == 1


# --- what is expected -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expect", "wrong"),
    [
        ({"status": 200}, []),
        ({"status": [201, 404]}, ["status 200, expected 201, 404"]),
        ({"headers": {"content-type": "APPLICATION/json"}}, []),
        ({"headers": {"x-none": "a"}}, ["no header x-none"]),
        (
            {"headers": {"Content-Type": "text/html"}},
            [f"header Content-Type is '{JSON}', expected to hold 'text/html'"],
        ),
        ({"contains": ["items", "sku"]}, []),
        ({"contains": "ghosts"}, ["the body does not hold 'ghosts'"]),
        ({"lacks": "items"}, ["the body holds 'items'"]),
        ({"json": {"/items/0/sku": 1, "/total": 3.0, "/items/0/a~1b/~0": "x", "/open": True}}, []),
        ({"json": {"": BASKET}}, []),
        ({"json": {"/total": 4}}, ["/total is 3, expected 4"]),
        ({"json": {"/open": 1}}, ["/open is true, expected 1"]),
        ({"json": {"/items/1": 1}}, ["there is nothing at /items/1"]),
        ({"json": {"/items/-1": 1}}, ["there is nothing at /items/-1"]),
        ({"json": {"/total/x": 1}}, ["there is nothing at /total/x"]),
    ],
)
def test_what_came_back_is_held_against_what_was_expected(
    tmp_path: Path, shop: Shop, expect: dict[str, Any], wrong: list[str]
) -> None:
    assert one(tmp_path, shop, url="/basket", expect=expect)["wrong"] == wrong


def test_what_is_no_json_has_nothing_to_point_at(tmp_path: Path, shop: Shop) -> None:
    found = one(tmp_path, shop, expect={"json": {"/a": 1}})
    assert found["wrong"] == ["the body is no JSON"]


def test_too_slow_is_wrong(tmp_path: Path, shop: Shop) -> None:
    (wrong,) = one(tmp_path, shop, url="/slow", expect={"latency": "100ms"})["wrong"]
    assert wrong.startswith("took 3")
    assert wrong.endswith("ms, at most 100 ms expected")


def test_everything_that_is_wrong_is_told() -> None:
    expect = Expect(status=(201,), contains=("x",), latency=0.1)
    found = checking.wrong(expect, Answer(500, {}, b"", 0.2))
    assert len(found) == 3


def test_a_very_long_answer_is_not_read_to_its_end(tmp_path: Path, shop: Shop) -> None:
    (wrong,) = one(tmp_path, shop, url="/long")["wrong"]
    assert wrong == "the answer is longer than 1048576 octets"


# --- again, and no longer than --------------------------------------------------------------------


def test_one_that_fails_at_first_is_tried_again(tmp_path: Path, shop: Shop) -> None:
    shop.failing = 2
    found = one(tmp_path, shop, url="/flaky", retries=3, expect={"contains": "at last"})
    assert (found["passed"], found["attempts"]) == (True, 3)


def test_retries_have_an_end(tmp_path: Path, shop: Shop) -> None:
    shop.failing = 9
    found = one(tmp_path, shop, url="/flaky", retries=3)
    assert (found["passed"], found["attempts"], len(shop.asked)) == (False, 4, 4)


@pytest.mark.parametrize("url", ["/slow", "/trickle"])
def test_no_answer_in_time(tmp_path: Path, shop: Shop, url: str) -> None:
    began = time.monotonic()
    found = one(tmp_path, shop, url=url, timeout="100ms")
    assert found["wrong"] == ["no answer within 0.1 s"]
    assert time.monotonic() - began < 2


def test_nobody_there(tmp_path: Path, shop: Shop) -> None:
    (port,) = free_ports(1)
    found = one(tmp_path, shop, url=f"http://127.0.0.1:{port}/")
    assert found["status"] is None
    assert found["wrong"][0].startswith("no answer: ConnectError")


def test_the_whole_run_has_an_end(tmp_path: Path, shop: Shop) -> None:
    shop.failing = 1000
    began = time.monotonic()
    found = one(tmp_path, shop, "--timeout", "1s", url="/flaky", retries=100, wait="200ms")
    assert not found["passed"]
    assert 1 < found["attempts"] < 20
    assert time.monotonic() - began < 5


def test_several_are_asked_at_a_time_and_no_more_than_was_said(tmp_path: Path, shop: Shop) -> None:
    checks = [{"name": str(i), "url": "/together"} for i in range(6)]

    done = verify(tmp_path, {"base": shop.url, "checks": checks}, "--parallel", "3", "--json")

    assert done.exit_code == exits.DONE
    assert [each["name"] for each in json.loads(done.stdout)["checks"]] == list("012345")
    assert shop.busiest == 3
