"""The main job, end to end: a flag is ramped on a server and a live service follows.

`flagserver demo` runs as a person runs it: real processes, real ports, the embedded store.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.servers import free_ports

START_SECONDS = 60
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Demo:
    """A running demo and how to reach it."""

    directory: Path
    port: int
    shop_port: int
    process: subprocess.Popen[str] | None = None
    printed: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        return os.environ | {
            "SORTITION_DATA_DIR": str(self.directory),
            "SORTITION_PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
        }

    def start(self) -> None:
        command = [
            *(str(BIN / "flagserver"), "demo", "--no-open", "--rate", "150"),
            *("--shop-port", str(self.shop_port)),
        ]
        self.printed = []
        self.process = subprocess.Popen(
            command,
            env=self.environ,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        eventually(lambda: any("Sign in" in line for line in self.printed), START_SECONDS)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            self.printed.extend(iter(output.readline, ""))

    def interrupt(self) -> int:
        """Press Ctrl-C and wait for the end; return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)

    def family(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def member(self, words: str) -> psutil.Process:
        """Return the oldest process of the demo whose command line holds these words."""
        found = [p for p in self.family() if words in " ".join(command_line(p))]
        return min(found, key=lambda p: p.create_time())

    def token(self) -> str:
        return (self.directory / "admin-token").read_text().strip()

    def api(self, method: str, path: str, body: Any = None, revision: int | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"}
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        data = None if body is None else json.dumps(body).encode()
        return fetch(urllib.request.Request(self.url + path, data, headers, method=method))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = self.environ | {"SORTITION_URL": self.url, "SORTITION_TOKEN": self.token()}
        return subprocess.run(
            [str(BIN / "sortition"), *words],
            env=environ,
            text=True,
            capture_output=True,
            timeout=30,
        )

    def state(self) -> dict[str, Any]:
        return dict(self.api("GET", "/api/v1/flags/new-search/environments/production"))

    def set_share(self, share: float) -> None:
        body = {"share": share, "reason": "a test", "confirm_environment": "production"}
        path = "/api/v1/flags/new-search/environments/production"
        self.api("PATCH", path, body, revision=self.state()["revision"])

    def version(self) -> str:
        """Return the snapshot version that the server serves."""
        key = (self.directory / "shop-key").read_text()
        headers = {"Authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{self.url}/api/v1/sdk/snapshot", headers=headers)
        found = fetch(request)
        return f"{found['store']}.{found['epoch']}.{found['version']}"

    def shop(self) -> dict[str, Any]:
        return dict(fetch(f"http://127.0.0.1:{self.shop_port}/counters"))


def fetch(request: urllib.request.Request | str) -> Any:
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def eventually(check: Callable[[], bool], seconds: float) -> float:
    """Wait until a check holds; return how long it took. Fails when it does not in time."""
    start = time.monotonic()
    while True:
        try:
            if check():
                return time.monotonic() - start
        except (OSError, psutil.Error):
            pass
        assert time.monotonic() - start < seconds, "it did not happen in time"
        time.sleep(0.02)


def served(demo: Demo, seconds: float) -> tuple[int, int]:
    """Return (new-search served on, all) by the shop's own count over the coming seconds."""
    before = demo.shop()["total"].get("new-search", {})
    time.sleep(seconds)
    after = demo.shop()["total"]["new-search"]
    on = after.get("on", 0) - before.get("on", 0)
    return on, on + after.get("off", 0) - before.get("off", 0)


def assert_share(on: int, total: int, share: float) -> None:
    """Within five standard deviations of the lot."""
    assert total > 50
    deviation = math.sqrt(share * (1 - share) / total)
    assert abs(on / total - share) <= 5 * deviation, f"{on} of {total}, expected {share:.0%}"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    port, shop_port = free_ports(2)
    running = Demo(tmp_path_factory.mktemp("demo"), port, shop_port)
    running.start()
    yield running
    assert running.process is not None
    if running.process.poll() is None:
        family = running.family()
        status = running.interrupt()
        alive = [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert (status, alive) == (0, [])


pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("demo")]


def follow_within_a_second(demo: Demo, share: float) -> None:
    """By the shop's own counters: a second after a change the new share holds."""
    time.sleep(1.0)
    on, total = served(demo, 2.5)
    assert_share(on, total, share)


def test_a_share_set_by_api_is_served_within_a_second(demo: Demo) -> None:
    demo.set_share(25)

    follow_within_a_second(demo, 0.25)


def test_a_share_set_by_command_is_served_within_a_second(demo: Demo) -> None:
    done = demo.command(
        *("flags", "set", "new-search", "--env", "production", "--share", "60"),
        *("--reason", "a test", "--confirm", "production"),
    )

    assert done.returncode == 0, done.stderr
    follow_within_a_second(demo, 0.6)


def test_a_kill_is_served_within_a_second_and_keeps_the_share(demo: Demo) -> None:
    demo.set_share(50)

    done = demo.command("flags", "kill", "new-search", "--env", "production")

    assert done.returncode == 0, done.stderr
    time.sleep(1.0)
    on, total = served(demo, 1.0)
    state = demo.state()
    assert (on, total > 10, state["share"], state["killed"]) == (0, True, 50.0, True)
    path = "/api/v1/flags/new-search/environments/production/unkill"
    body = {"reason": "a test", "confirm_environment": "production"}
    demo.api("POST", path, body, revision=state["revision"])


def test_the_server_hears_what_was_served(demo: Demo) -> None:
    demo.set_share(25)
    path = "/api/v1/flags/new-search/environments/production/outcomes?seconds=60"

    def reported() -> bool:
        variants = demo.api("GET", path)["variants"]
        return all(variants.get(name, {}).get("requests") for name in ("on", "off"))

    eventually(reported, 10)


@pytest.mark.parametrize("killed", [("store",), ("web",), ("server",), ("store", "server")])
def test_the_shop_answers_through_kill_9_and_the_flags_come_back(
    demo: Demo, killed: tuple[str, ...]
) -> None:
    words = {
        "store": "valkey-server",
        "web": "flagserver.main web",
        "server": "flagserver.main run",
    }
    demo.set_share(25)
    before = demo.state()
    failures: list[str] = []
    answered = [0]
    stop = threading.Event()

    def visit() -> None:
        while not stop.is_set():
            try:
                fetch(f"http://127.0.0.1:{demo.shop_port}/search")
                answered[0] += 1
            except (OSError, ValueError) as error:
                failures.append(repr(error))
            stop.wait(0.02)

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        for victim in [demo.member(words[name]) for name in killed]:
            victim.kill()
        time.sleep(1.0)
        eventually(lambda: demo.state() == before, 30)
        demo.set_share(75)
        # The shop's client comes back at its own pace: full jitter, so that many do not at once.
        eventually(lambda: demo.shop()["status"]["version"] == demo.version(), 30)
        on, total = served(demo, 2.5)
    finally:
        stop.set()
        visitor.join()

    assert (failures, answered[0] > 50) == ([], True)
    assert_share(on, total, 0.75)


def test_ctrl_c_leaves_nothing_behind_and_a_second_start_finds_its_data(demo: Demo) -> None:
    demo.set_share(33)
    before = demo.state()
    family = demo.family()

    status = demo.interrupt()

    alive = [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert (status, alive) == (0, [])

    demo.start()

    assert demo.state() == before


def test_a_second_demo_on_the_same_data_is_refused(demo: Demo) -> None:
    port, shop_port = free_ports(2)
    other = Demo(demo.directory, port, shop_port)

    done = subprocess.run(
        [str(BIN / "flagserver"), "run"],
        env=other.environ,
        text=True,
        capture_output=True,
        timeout=30,
    )

    assert done.returncode == 1
    assert "in use" in done.stderr
