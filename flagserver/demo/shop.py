"""The demo's shop: what runs on its two sides, and the rollouts that move it.

A running demo is found by its data directory, in which it says where it is. Both sides read what
they run from files there (`examples/shop/sides.py`), so whoever may write those may break the shop.
"""

from __future__ import annotations

import http
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT = "production"
SERVICE = "shop"
FLAG = "express-checkout"
SIDES = ("blue", "green")
FIRST = {"blue": "1.4.0", "green": "1.5.0"}
"""What the sides run at first: blue serves, green is to be rolled out."""

SCHEDULE = "5%:15s,25%:10s,50%:10s,100%:10s"
"""The standard schedule some fifty times as fast, and a last look. Services report in ticks of five
seconds, which have to come in before a step can be judged."""

WATCHED = {
    "error rate": ({"source": "outcomes", "measure": "rate"}, 0.01, 2, 5),
    "p95 latency": ({"source": "outcomes", "measure": "latency"}, 1.0, 2, 5),
    "unhealthy hosts": ({"source": "hosts", "measure": "unhealthy_hosts"}, 1.0, 2, 2),
}
"""name -> (signal, limit, data points, seconds of one): the standard limits, looked at as fast."""

WAYS = {
    "errors": "fails three in ten of its requests",
    "slow": "takes 1.5 s for each request",
    "hosts": "fails the load balancer's health checks",
}
"""How a version can be broken, as `examples/shop/sides.py` has it."""

RESTART_SECONDS = 30.0


class DemoError(Exception):
    """The demo cannot do that; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a demo is: its files, and the ports on this machine of all that it runs."""

    data: Path
    url: str
    front: int
    cloud: int
    blue: int
    green: int

    @property
    def shop(self) -> Path:
        """Where the shop's files lie."""
        return self.data / "shop"

    @property
    def token_file(self) -> Path:
        """The file with the demo's admin token."""
        return self.data / "admin-token"

    @property
    def rollout_file(self) -> Path:
        """The rollout of the newest version, as `sortition rollouts start -f` takes it."""
        return self.data / "rollout.yaml"

    def ports(self) -> dict[str, int]:
        """Return what of the shop listens where."""
        return {
            "The shop": self.front,
            "The AWS double": self.cloud,
            "The shop's blue side": self.blue,
            "The shop's green side": self.green,
        }

    def port(self, side: str) -> int:
        """Return the port of a side."""
        return {"blue": self.blue, "green": self.green}[side]

    def write(self) -> None:
        """Say that it runs here."""
        told = asdict(self) | {"data": str(self.data)}
        write_private(self.data / "demo.json", json.dumps(told))

    def forget(self) -> None:
        """Say that it runs no more."""
        (self.data / "demo.json").unlink(missing_ok=True)

    @classmethod
    def find(cls, data: Path) -> Place:
        """Return the demo that runs on a data directory. Raises DemoError when none does."""
        try:
            told = json.loads((data / "demo.json").read_text())
            place = cls(**told | {"data": data})
            Api(place).ask("GET", "/api/v1/rollouts?live=true")
        except (OSError, ValueError, TypeError, DemoError):
            raise DemoError(
                f"No demo runs on {data}. Start one with `make demo`, and say this where you "
                "started it, or with the same SORTITION_DATA_DIR."
            ) from None
        return place


class Api:
    """The demo's own server, as its admin token sees it."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        expect: tuple[int, ...] = (200,),
        revision: int | None = None,
    ) -> dict[str, Any]:
        """Return what it answers. Raises DemoError for another status; OSError for no answer, and
        where it cannot now (503) but may later."""
        headers = {
            "Authorization": f"Bearer {self._place.token_file.read_text().strip()}",
            "Content-Type": "application/json",
        }
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 (our own server, on this machine)
            self._place.url + path, data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 (as above)
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            raise ConnectionError(f"{method} {path} answered {status}: {_why(text)}")
        if status not in expect:
            raise DemoError(f"{method} {path} answered {status}: {_why(text)}")
        return dict(json.loads(text))


class Shop:
    """Both sides, and which of them serves."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._api = Api(place)

    # What runs

    def prepare(self) -> None:
        """Give both sides something to run, at the first start."""
        self._place.shop.mkdir(parents=True, exist_ok=True, mode=0o700)
        for side, version in FIRST.items():
            if not self._file(side).exists():
                self._order(side, version)

    def version(self, side: str) -> str:
        """Return the version that a side runs."""
        return str(self._orders(side)["version"])

    def canary(self) -> str:
        """Return the side that is being released, or is to be next: that of the newest version
        while that does not have all of the traffic, else the one without any."""
        weights = _read(self._place.shop / "weights.json") or {"blue": 1}
        newest = max(SIDES, key=lambda side: _numbers(self.version(side)))
        others = [side for side in SIDES if side != newest]
        return newest if any(weights.get(side) for side in others) else others[0]

    def is_newest(self, side: str) -> bool:
        """Tell whether a side runs the newest version."""
        return all(_numbers(self.version(side)) >= _numbers(self.version(o)) for o in SIDES)

    # What people do

    def break_canary(self, way: str = "errors") -> str:
        """Let the version that is being released, or is to be, fail in one of WAYS; return the
        side."""
        side = self.canary()
        if not self.is_newest(side):
            raise DemoError(
                "There is no version to be released that could be broken. Make one with "
                "`flagserver demo deploy`."
            )
        self._order(side, self.version(side), broken=way)
        return side

    def heal(self) -> list[str]:
        """Let no side fail any more; return those that did."""
        broken = {side: way for side in SIDES if (way := self._orders(side)["broken"])}
        for side in broken:
            self._order(side, self.version(side))
        for side, way in broken.items():
            if way == "hosts":
                # A rollout whose canary is not healthy is refused.
                _wait(lambda side=side: self._is_healthy(side), f"{side} did not become healthy")  # type: ignore[misc]
        return list(broken)

    def deploy(self) -> tuple[str, dict[str, Any]]:
        """Put the next version on the side without traffic, start its rollout; return both."""
        live = self._api.ask("GET", "/api/v1/rollouts?live=true")["rollouts"]
        if live:
            raise DemoError(
                f"{live[0]['id']} is on its way. Wait for its end, or take it back first: "
                f"sortition rollouts rollback {live[0]['id']}"
            )
        side = self.canary()
        version = following(max((self.version(each) for each in SIDES), key=_numbers))
        self._order(side, version)
        _wait(lambda: self._runs(side, version), f"{side} did not come back with {version}")
        self.hide_flag()
        self.write_rollout()
        return side, self.start(f"demo: {version} is deployed")

    def hide_flag(self) -> None:
        """Take the flag back to nobody: a rollout begins there."""
        path = f"/api/v1/flags/{FLAG}/environments/{ENVIRONMENT}"
        state = self._api.ask("GET", path)
        if state["share"]:
            body = {"share": 0, "reason": "demo: the next rollout begins with nobody"}
            self._api.ask("PATCH", path, body, revision=state["revision"])

    # Rollouts

    def rollout(self) -> dict[str, Any]:
        """Return the rollout of the version that is to be released."""
        scene = _read(self._place.shop / "scene.json")
        side = self.canary()
        stable = next(each for each in SIDES if each != side)
        return {
            "environment": ENVIRONMENT,
            "service": SERVICE,
            "version": self.version(side),
            "schedule": SCHEDULE,
            "relation": "lock_step",
            "targets": [
                {
                    "kind": "alb",
                    "name": scene["rule"],
                    "settings": {"canary": scene[side], "stable": scene[stable]},
                },
                {"kind": "flag", "name": FLAG},
            ],
            "guards": [
                {"name": name, "signal": signal | _of_group(signal, scene[side])}
                | {"limit": limit, "period": period, "points": points, "of": points}
                for name, (signal, limit, points, period) in WATCHED.items()
            ],
        }

    def write_rollout(self) -> None:
        """Write that rollout down for `sortition rollouts start -f`."""
        if not self.is_newest(self.canary()):
            return
        head = "# The demo's rollout. The standard schedule, some fifty times as fast.\n"
        # JSON is YAML, and the server needs no library to write it.
        self._place.rollout_file.write_text(head + json.dumps(self.rollout(), indent=2) + "\n")

    def start(self, reason: str) -> dict[str, Any]:
        """Start that rollout and return it."""
        body = self.rollout() | {"reason": reason, "confirm_environment": ENVIRONMENT}
        return self._api.ask("POST", "/api/v1/rollouts", body, expect=(200, 201))

    def start_first(self) -> dict[str, Any] | None:
        """Start the first rollout of this data directory; None when there was one."""
        if self._api.ask("GET", "/api/v1/rollouts")["rollouts"]:
            return None
        return self.start("demo: something to watch")

    # How

    def _file(self, side: str) -> Path:
        return self._place.shop / f"{side}.json"

    def _orders(self, side: str) -> dict[str, Any]:
        return _read(self._file(side))

    def _order(self, side: str, version: str, *, broken: str | None = None) -> None:
        told = {"version": version, "broken": broken or False}
        write_private(self._file(side), json.dumps(told))

    def _is_healthy(self, side: str) -> bool:
        group = _read(self._place.shop / "scene.json")[side]
        url = f"http://127.0.0.1:{self._place.cloud}/double/health?group={group}"
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                return bool(json.load(answer)["state"] == "healthy")
        except OSError:
            return False

    def _runs(self, side: str, version: str) -> bool:
        try:
            url = f"http://127.0.0.1:{self._place.port(side)}/counters"
            with urllib.request.urlopen(url, timeout=1) as answer:
                found = json.load(answer)
        except (OSError, ValueError):
            return False
        return bool(found["version"] == version and found["status"]["version"])


def _of_group(signal: dict[str, str], group: str) -> dict[str, Any]:
    """Return what names a target group, in a signal over hosts."""
    return {"settings": {"canary": group}} if signal["source"] == "hosts" else {}


def _why(text: bytes) -> str:
    """Return the sentence of a problem document, or what else was answered."""
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace")


def following(version: str) -> str:
    """Return the next minor version."""
    major, minor, _ = _numbers(version)
    return f"{major}.{minor + 1}.0"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


def _wait(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + RESTART_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise DemoError(f"{otherwise} within {RESTART_SECONDS:g} s.")
        time.sleep(0.1)
