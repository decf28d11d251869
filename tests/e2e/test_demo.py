"""The main job, end to end: a flag is ramped on a server and a live service follows; a version is
released by its load balancer's weights and a flag on one schedule, and taken back when it fails.

`flagserver demo` runs as a person runs it: real processes, real ports, the embedded store.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
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
from urllib.parse import urlencode

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
    first_words: str = ""

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
            *(str(BIN / "flagserver"), "demo", "--no-open", "--rate", "120"),
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
        eventually(self._is_up, START_SECONDS)

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the demo ended: {''.join(self.printed)}"
        return any("Sign in" in line for line in self.printed)

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

    def wait_for_change(self, before: str) -> str:
        """Return the version that the server serves once it is another than before: a commit is
        answered some milliseconds before it is served."""
        eventually(lambda: self.version() != before, 60)
        return self.version()

    def sides(self) -> dict[str, dict[str, Any]]:
        """Return what each side of the shop counts, by itself."""
        told = json.loads((self.directory / "demo.json").read_text())
        return {
            side: fetch(f"http://127.0.0.1:{told[side]}/counters") for side in ("blue", "green")
        }

    def counted(self) -> tuple[int, int]:
        """Return (new-search served on, off) by both sides' own count."""
        totals = [side["total"].get("new-search", {}) for side in self.sides().values()]
        on, off = (sum(total.get(name, 0) for total in totals) for name in ("on", "off"))
        return on, off

    def balancer(self) -> dict[str, Any]:
        return dict(fetch(f"http://127.0.0.1:{self.shop_port}/.balancer"))

    def act(self, *words: str) -> str:
        """Say `flagserver demo …` beside it; return what it printed."""
        done = subprocess.run(
            [str(BIN / "flagserver"), "demo", *words],
            env=self.environ,
            cwd=ROOT,
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rollouts(self, query: str = "") -> list[dict[str, Any]]:
        return list(self.api("GET", f"/api/v1/rollouts{query}")["rollouts"])

    def rollout(self, id: str) -> dict[str, Any]:
        return dict(self.api("GET", f"/api/v1/rollouts/{id}"))

    def stands_at(self, rollout: dict[str, Any]) -> tuple[float, float]:
        """Return the share of the canary by the rule's weights, and of the flag, in percent."""
        alb = next(target for target in rollout["targets"] if target["kind"] == "alb")
        cloud = json.loads((self.directory / "demo.json").read_text())["cloud"]
        weights = fetch(f"http://127.0.0.1:{cloud}/double/weights?arn={alb['name']}")["weights"]
        canary = weights.get(alb["settings"]["canary"], 0)
        path = "/api/v1/flags/express-checkout/environments/production"
        return 100 * canary / sum(weights.values()), self.api("GET", path)["share"]

    def deploy(self) -> dict[str, Any]:
        """Take back whatever is on its way, deploy the next version, return its rollout."""
        for live in self.rollouts("?live=true"):
            self.api("POST", f"/api/v1/rollouts/{live['id']}/rollback", {"reason": "a test"})
        # After a takeover a rollback is confirmed only when nothing late can come any more: 60 s.
        eventually(lambda: not self.rollouts("?live=true"), 90)
        self.act("deploy")
        (live,) = self.rollouts("?live=true")
        return live

    def wait_for_step(self, id: str, number: int) -> None:
        """Wait until a step is reached and confirmed."""

        def there() -> bool:
            found = self.rollout(id)
            assert not found["terminal"], found["rollback"]
            share = found["steps"][number - 1]["share"]
            return found["step"] >= number and all(
                target["confirmed"] >= share for target in found["targets"]
            )

        eventually(there, 60)


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
    on_before, off_before = demo.counted()
    time.sleep(seconds)
    on, off = demo.counted()
    return on - on_before, on - on_before + off - off_before


def assert_share(on: int, total: int, share: float) -> None:
    """Within five standard deviations of the lot."""
    assert total > 50
    deviation = math.sqrt(share * (1 - share) / total)
    assert abs(on / total - share) <= 5 * deviation, f"{on} of {total}, expected {share:.0%}"


def five_ports() -> tuple[int, int]:
    """Return a free port for the server, and one for the shop whose three next ones are free."""
    for _ in range(50):
        port, shop_port = free_ports(2)
        if all(is_free(shop_port + n) for n in range(1, 4)) and port - shop_port not in (1, 2, 3):
            return port, shop_port
    raise AssertionError("no four free ports in a row")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    port, shop_port = five_ports()
    running = Demo(tmp_path_factory.mktemp("demo"), port, shop_port)
    running.start()
    eventually(lambda: any("rollouts watch" in line for line in running.printed), 60)
    running.first_words = "".join(running.printed)
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


@pytest.mark.slow
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


def test_a_preview_link_shows_a_variant_whatever_the_share(demo: Demo) -> None:
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    [link] = [line.split()[-1] for line in demo.printed if "Sign in" in line]
    page = f"{demo.url}/flags/product-look/environments/production/preview"
    shop = f"http://127.0.0.1:{demo.shop_port}/product"
    sent = {"Sec-Fetch-Site": "same-origin"}
    browser.open(urllib.request.Request(link, b"", sent)).close()
    with browser.open(page) as answer:
        [csrf, *_] = re.findall(r'name="csrf" value="([^"]+)"', answer.read().decode())

    typed = urlencode({"csrf": csrf, "variant": "quiet", "hours": "1", "page": shop}).encode()
    with browser.open(urllib.request.Request(page, typed, sent)) as answer:
        [made] = re.findall(r'id="link">([^<]+)<', answer.read().decode())

    looks = {json.loads(browser.open(made).read())["look"] for _ in range(20)}
    assert looks == {"quiet"}


def test_the_server_hears_what_was_served(demo: Demo) -> None:
    demo.set_share(25)
    path = "/api/v1/flags/new-search/environments/production/outcomes?seconds=60"

    def reported() -> bool:
        variants = demo.api("GET", path)["variants"]
        return all(variants.get(name, {}).get("requests") for name in ("on", "off"))

    eventually(reported, 10)


@pytest.mark.parametrize(
    "killed",
    [
        ("store", "server"),
        *(pytest.param((each,), marks=pytest.mark.slow) for each in ("store", "web", "server")),
    ],
)
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
        eventually(lambda: demo.state() == before, 60)
        served_before = demo.version()
        demo.set_share(75)
        version = demo.wait_for_change(served_before)
        # The shop's client comes back at its own pace: full jitter, so that many do not at once.
        eventually(lambda: all_have(demo, version), 60)
        on, total = served(demo, 2.5)
    finally:
        stop.set()
        visitor.join()

    assert (failures, answered[0] > 50) == ([], True)
    assert_share(on, total, 0.75)


def all_have(demo: Demo, version: str) -> bool:
    return {side["status"]["version"] for side in demo.sides().values()} == {version}


def test_the_first_rollout_begins_by_itself(demo: Demo) -> None:
    first = demo.rollouts()[-1]
    assert (first["service"], first["version"]) == ("shop", "1.5.0")
    assert f"rollouts watch {first['id']}" in demo.first_words


@pytest.mark.slow
def test_a_rollout_goes_through_and_weights_and_flag_stand_at_each_of_its_steps(
    demo: Demo,
) -> None:
    rollout = demo.deploy()
    id = rollout["id"]
    canary = rollout["targets"][0]["settings"]["canary"]
    stood: dict[int, set[tuple[float, float]]] = {}
    counts: dict[int, list[tuple[int, int]]] = {}

    while not (before := demo.rollout(id))["terminal"]:
        at, requests = demo.stands_at(before), demo.balancer()["requests"]
        after = demo.rollout(id)
        moving = [[t["intended"], t["confirmed"]] for r in (before, after) for t in r["targets"]]
        if before["step"] == after["step"] and all(a == b for a, b in moving):
            stood.setdefault(before["step"], set()).add(at)
            seen = requests.get(canary, 0), sum(requests.values())
            counts.setdefault(before["step"], []).append(seen)
        time.sleep(0.2)

    assert before["state"] == "completed", before
    stood.pop(0, None)
    assert stood == {1: {(5, 5)}, 2: {(25, 25)}, 3: {(50, 50)}, 4: {(100, 100)}}
    for step, share in ((2, 0.25), (3, 0.5)):
        # The balancer draws by weights that it read a moment ago: the first look is left out.
        (on, total), (on_then, total_then) = counts[step][3], counts[step][-1]
        assert_share(on_then - on, total_then - total, share)
    assert demo.stands_at(before) == (100, 100)


def test_a_version_that_breaks_on_its_way_is_taken_back_within_seconds(demo: Demo) -> None:
    rollout = demo.deploy()
    id = rollout["id"]
    watch = subprocess.Popen(
        [str(BIN / "sortition"), "rollouts", "watch", id],
        env=demo.environ | {"SORTITION_URL": demo.url, "SORTITION_TOKEN": demo.token()},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    demo.wait_for_step(id, 2)

    said = demo.act("break")
    took = eventually(lambda: demo.stands_at(rollout) == (0, 0), 20)

    assert said.startswith(f"{rollout['version']} on "), said
    printed, _ = watch.communicate(timeout=30)
    assert watch.returncode == 3, printed
    assert "ROLLED BACK" in printed
    cause = demo.rollout(id)["rollback"]
    # Two of its points, or the evidence of a tick: whichever was there first.
    assert (cause["by"], cause["row"] in {"backstop", "harm proven"}) == ("guard", True)
    # A broken version is slower, too: whatever shows more of it is named.
    assert "error rate" in cause["reason"] or "p95 latency" in cause["reason"]
    assert took < 15
    stable = rollout["targets"][0]["settings"]["stable"]
    eventually(lambda: list(demo.balancer()["weights"]) == [stable], 2)


@pytest.mark.slow
def test_a_version_whose_hosts_fail_their_health_checks_is_taken_back(demo: Demo) -> None:
    rollout = demo.deploy()
    demo.wait_for_step(rollout["id"], 1)

    said = demo.act("break", "--hosts")
    took = eventually(lambda: demo.rollout(rollout["id"])["state"] == "rolled_back", 30)
    cause = demo.rollout(rollout["id"])["rollback"]
    healed = demo.act("heal")

    assert "fails the load balancer's health checks" in said
    assert (cause["by"], cause["row"]) == ("guard", "dead hosts")
    assert cause["reason"].startswith("unhealthy hosts ")
    assert took < 15
    assert demo.stands_at(rollout) == (0, 0)
    # It served well all the while, and is taken for healthy again when the command ends.
    assert "is well again" in healed


@pytest.mark.slow
def test_a_version_that_is_slow_goes_no_further(demo: Demo) -> None:
    rollout = demo.deploy()
    demo.wait_for_step(rollout["id"], 1)

    said = demo.act("break", "--slow")

    def newest() -> dict[str, Any]:
        return dict(demo.api("GET", f"/api/v1/rollouts/{rollout['id']}/evidence")["looks"][-1])

    eventually(lambda: "p95 latency" in newest()["reason"], 30)
    assert "takes 1.5 s" in said
    # Held while the evidence is not complete, taken back when it is.
    assert newest()["does"] in {"hold", "page", "roll_back"}
    eventually(lambda: demo.rollout(rollout["id"])["state"] == "rolled_back", 60)
    assert "p95 latency" in demo.rollout(rollout["id"])["rollback"]["reason"]
    demo.act("heal")


@pytest.mark.slow
def test_what_was_healed_is_released_from_its_file_and_the_next_version_deployed(
    demo: Demo,
) -> None:
    broken = demo.deploy()
    demo.act("break")
    eventually(lambda: demo.rollout(broken["id"])["state"] == "rolled_back", 60)

    said = demo.act("heal")
    started = demo.command(
        *("--json", "rollouts", "start", "-f", str(demo.directory / "rollout.yaml")),
        *("--reason", "a test", "--confirm", "production"),
    )

    assert said == f"{broken['version']} on {side_of(demo, broken['version'])} is well again.\n"
    assert started.returncode == 0, started.stderr
    again = json.loads(started.stdout)
    assert again["version"] == broken["version"]
    demo.wait_for_step(again["id"], 1)
    assert demo.command("rollouts", "rollback", again["id"]).returncode == 0
    following = demo.deploy()
    demo.wait_for_step(following["id"], 1)
    assert following["version"] != broken["version"]
    demo.command("rollouts", "rollback", following["id"])


def side_of(demo: Demo, version: str) -> str:
    return next(name for name, side in demo.sides().items() if side["version"] == version)


@pytest.mark.slow
def test_a_second_start_goes_on_with_the_rollout_that_it_finds(demo: Demo) -> None:
    rollout = demo.deploy()
    demo.wait_for_step(rollout["id"], 2)
    demo.interrupt()

    demo.start()

    found = demo.rollout(rollout["id"])
    assert (found["terminal"], demo.stands_at(found)[0] >= 25) == (False, True)
    demo.wait_for_step(rollout["id"], 3)
    eventually(lambda: demo.stands_at(found) == (50, 50), 1)


def test_ctrl_c_leaves_nothing_behind_and_a_second_start_finds_its_data(demo: Demo) -> None:
    demo.set_share(33)
    before = demo.state()
    family = demo.family()

    status = demo.interrupt()

    alive = [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert (status, alive) == (0, [])

    demo.start()

    assert demo.state() == before


@pytest.mark.slow
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
