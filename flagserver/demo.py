"""`flagserver demo`: a server with flags to play with, a shop that asks them, and its visitors."""

from __future__ import annotations

import json
import os
import secrets
import sys
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from flagserver.processes import Child, Supervisor, wait_for_port
from flagserver.settings import Settings

ROOT = Path(__file__).parents[1]
ENVIRONMENT = "production"
VISIT_SECONDS = 12 * 60 * 60
"""Visitors go home after this long; they come back when they are started again."""

FLAGS: list[dict[str, Any]] = [
    {"key": "new-search", "description": "New search ranking", "owner": "search"},
    {"key": "express-checkout", "description": "Pay in one step", "owner": "payments"},
    {
        "key": "product-look",
        "description": "How a product page looks",
        "owner": "storefront",
        "variants": {"classic": "classic", "bold": "bold", "quiet": "quiet"},
        "rest": "classic",
    },
]

STATES: list[tuple[str, str, dict[str, Any]]] = [
    ("new-search", "development", {"share": 100}),
    ("new-search", "staging", {"share": 100}),
    ("new-search", "production", {"share": 5}),
    ("express-checkout", "development", {"share": 100}),
    ("express-checkout", "staging", {"share": 50}),
    (
        "product-look",
        "production",
        {
            "share": 40,
            "weights": [{"variant": "bold", "weight": 50}, {"variant": "quiet", "weight": 50}],
        },
    ),
]


class DemoError(Exception):
    """The demo cannot run; the message says what to do."""


def with_data_of_its_own(settings: Settings) -> Settings:
    """Return settings whose data is the demo's, below the current directory."""
    return replace(settings, data_dir=Path(".data/demo").absolute())


class Demo:
    """Three children under one supervisor: server, shop, visitors."""

    def __init__(
        self,
        settings: Settings,
        *,
        run_server: tuple[str, ...],
        make_link: Callable[[], str],
        shop_port: int,
        rate: float,
        open_browser: bool,
    ) -> None:
        if not (ROOT / "examples" / "shop").is_dir():
            raise DemoError("The demo needs the example shop: run it from a checkout.")
        self._settings = settings
        self._run_server = run_server
        self._make_link = make_link
        self._shop_url = f"http://127.0.0.1:{shop_port}"
        self._shop_port = shop_port
        self._rate = rate
        self._open_browser = open_browser
        self._logs = settings.data_dir / "logs"
        self._token_file = settings.data_dir / "admin-token"
        self._key_file = settings.data_dir / "shop-key"
        self._shop_environment: dict[str, str] = {}

    def run(self) -> None:
        """Start everything, say how to use it, keep it until Ctrl-C."""
        settings = self._settings
        wait_for_port(
            *(settings.host, settings.port),
            advice="Is a demo running already? Stop that, or set SORTITION_PORT.",
        )
        wait_for_port("127.0.0.1", self._shop_port, advice="Stop that, or give --shop-port.")
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._token_file.exists():
            text = f"srt_admin_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
            _write_private(self._token_file, text)
        click.echo("Starting the flag server and the shop …")
        Supervisor(self._children()).run(on_ready=self._welcome)
        click.echo("Ended. `make demo` finds everything as you left it.")

    def _children(self) -> list[Child]:
        server = Child(
            "server",
            self._run_server,
            environment={
                "SORTITION_DATA_DIR": str(self._settings.data_dir),
                "SORTITION_ADMIN_TOKEN_FILE": str(self._token_file),
                "SORTITION_FLUSH_SECONDS": "1",
            },
            ready=self._server_is_ready,
            log=self._logs / "server.log",
        )
        shop = Child(
            "shop",
            (
                *(sys.executable, "-m", "gunicorn", "examples.shop.app:app"),
                *("--bind", f"127.0.0.1:{self._shop_port}"),
                *("--worker-class", "gthread", "--threads", "16", "--no-control-socket"),
                *("--log-level", "warning", "--graceful-timeout", "1"),
            ),
            # Filled by the time the shop starts: its key is made when the server is ready.
            environment=self._shop_environment,
            directory=ROOT,
            ready=lambda: _answers(f"{self._shop_url}/counters"),
            log=self._logs / "shop.log",
        )
        visitors = Child(
            "visitors",
            (
                *(sys.executable, "-m", "examples.shop.load", self._shop_url),
                *("--rate", str(self._rate), "--seconds", str(VISIT_SECONDS)),
            ),
            directory=ROOT,
            log=self._logs / "visitors.log",
        )
        return [server, shop, visitors]

    def _server_is_ready(self) -> bool:
        if not _answers(f"{self._settings.url}/readyz"):
            return False
        self._seed()
        return True

    def _seed(self) -> None:
        """Make flags to play with and a key for the shop; what is there is left as it is."""
        for flag in FLAGS:
            self._ask("POST", "/api/v1/flags", flag, expect=(201, 409))
        for key, environment, change in STATES:
            path = f"/api/v1/flags/{key}/environments/{environment}"
            why = {"reason": "demo", "confirm_environment": environment}
            # Only a state that nobody has touched: a second start finds things as they were left.
            self._ask("PATCH", path, change | why, revision=0, expect=(200, 412))
        if not self._key_file.exists():
            wanted = {"scope": "sdk", "environment": ENVIRONMENT, "description": "The shop"}
            made = self._ask("POST", "/api/v1/tokens", wanted, expect=(201,))
            _write_private(self._key_file, made["token"])
        self._shop_environment.update(
            SORTITION_URL=self._settings.url,
            SORTITION_KEY=self._key_file.read_text(),
            SORTITION_SNAPSHOT=str(self._settings.data_dir / "shop-snapshot.json"),
            OTEL_SERVICE_NAME="shop",
            OTEL_RESOURCE_ATTRIBUTES="service.version=1.4.0",
        )

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any],
        *,
        expect: tuple[int, ...],
        revision: int | None = None,
    ) -> dict[str, Any]:
        headers = {
            "Authorization": f"Bearer {self._token_file.read_text().strip()}",
            "Content-Type": "application/json",
        }
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        request = urllib.request.Request(  # noqa: S310 (our own server, on this machine)
            self._settings.url + path, json.dumps(body).encode(), headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 (as above)
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        if status not in expect:
            raise DemoError(f"{method} {path} answered {status}: {text.decode(errors='replace')}")
        return dict(json.loads(text))

    def _welcome(self) -> None:
        link = self._make_link()
        bin_dir = Path(sys.executable).parent
        command = os.path.relpath(bin_dir / "sortition")
        click.echo(
            f"""
  Sign in (once):   {link}
  The shop:         {self._shop_url}/   its own counters

  In another terminal:
    export SORTITION_URL={self._settings.url}
    export SORTITION_TOKEN=$(cat {os.path.relpath(self._token_file)})
    {command} flags list
    {command} flags set new-search --env production --share 25 \\
        --reason "trying it" --confirm production
    {command} flags kill new-search --env production

  Logs are in {os.path.relpath(self._logs)}. Ctrl-C ends all of it.
"""
        )
        if self._open_browser and sys.stdout.isatty() and _has_display():
            webbrowser.open(link)


def _has_display() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY"))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 (only ours are asked)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)
