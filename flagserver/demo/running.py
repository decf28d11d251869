"""A server with flags to play with, a shop of two versions behind a load balancer, and visitors."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from sortition.record.note import SigningKey

from flagserver.processes import Child, wait_for_port
from flagserver.settings import Settings
from flagserver.supervisor import Supervisor

from .shop import ENVIRONMENT, FLAG, SIDES, Api, DemoError, Place, Shop, write_private

ROOT = Path(__file__).parents[2]
VISIT_SECONDS = 12 * 60 * 60
"""Visitors go home after this long; they come back when they are started again."""

START_SECONDS = 60.0
"""How long a child may take to be ready: on a machine that is busy with other work, too."""

FIRST_ROLLOUT_SECONDS = 5.0
"""How long after the start the first rollout begins: when the page is open and the shop is warm."""

AWS = {
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Who we are at the double. Nothing of the person who starts the demo is read or used."""

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


def with_data_of_its_own(settings: Settings) -> Settings:
    """Return settings whose data is the demo's, below the current directory."""
    return replace(settings, data_dir=Path(".data/demo").absolute())


def place_of(settings: Settings, shop_port: int) -> Place:
    """Return where a demo is to be: the shop's inner ports are the three after its own, but for
    the server's."""
    after = (port for port in range(shop_port + 1, shop_port + 5) if port != settings.port)
    cloud, blue, green = next(after), next(after), next(after)
    return Place(settings.data_dir, settings.url, shop_port, cloud, blue, green)


PREVIEWS = "demo.example/preview"
"""The name of the key that the demo's preview links are signed with."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How the demo is to be. rate: visitors' requests a second. rollout: whether the first rollout
    of a data directory begins by itself."""

    shop_port: int = 8401
    rate: float = 60.0
    open_browser: bool = True
    rollout: bool = True


class Demo:
    """All of its children under one supervisor: the server; an AWS double with a load balancer's
    rule, the balancer that obeys it, both sides of the shop behind it; and visitors."""

    def __init__(
        self,
        settings: Settings,
        wishes: Wishes,
        *,
        run_server: tuple[str, ...],
        make_link: Callable[[], str],
    ) -> None:
        if not (ROOT / "examples" / "shop").is_dir():
            raise DemoError("The demo needs the example shop: run it from a checkout.")
        self._settings = settings
        self._wishes = wishes
        self._run_server = run_server
        self._make_link = make_link
        self._place = place_of(settings, wishes.shop_port)
        self._shop = Shop(self._place)
        self._api = Api(self._place)
        self._logs = settings.data_dir / "logs"
        self._key_file = settings.data_dir / "shop-key"
        self._preview_key_file = settings.data_dir / "preview-key"
        # Filled by the time the shop starts: its key is made when the server is ready.
        self._side_environment: dict[str, dict[str, str]] = {side: {} for side in SIDES}

    def run(self) -> None:
        """Start everything, say how to use it, keep it until Ctrl-C."""
        self._check_ports()
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._shop.prepare()
        token_file = self._place.token_file
        if not token_file.exists():
            text = f"srt_admin_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
            write_private(token_file, text)
        if not self._preview_key_file.exists():
            write_private(self._preview_key_file, SigningKey(PREVIEWS, os.urandom(32)).secret())
        # What the person has set for other work must not lead the server to their own account.
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        click.echo("Starting the flag server and the shop …")
        try:
            Supervisor(list(self._children())).run(on_ready=self._welcome)
        finally:
            self._place.forget()
        click.echo("Ended. `make demo` finds everything as you left it.")

    def _check_ports(self) -> None:
        place, settings = self._place, self._settings
        wait_for_port(
            *(settings.host, settings.port),
            advice="Is a demo running already? Stop that, or set SORTITION_PORT.",
        )
        for what, port in place.ports().items():
            wait_for_port(
                *("127.0.0.1", port),
                advice=f"{what} needs it: stop that, or give another --shop-port.",
            )

    # What runs

    def _children(self) -> Iterator[Child]:
        place = self._place
        (place.shop / "scene.json").unlink(missing_ok=True)
        double = f"http://127.0.0.1:{place.cloud}"
        data = ("--data", str(place.shop))
        ports = [word for side in SIDES for word in (f"--{side}", str(place.port(side)))]
        # The double takes longest to start, and the balancer waits for it by itself.
        yield self._ours(
            *("aws double", "cloud", (*data, "--port", str(place.cloud), *ports)),
            ready=lambda: (
                (place.shop / "scene.json").exists() and _answers(f"{double}/double/clock")
            ),
            waited_for=False,
        )
        yield Child(
            "server",
            self._run_server,
            environment={
                "SORTITION_DATA_DIR": str(self._settings.data_dir),
                "SORTITION_ADMIN_TOKEN_FILE": str(place.token_file),
                "SORTITION_PREVIEW_KEY_FILE": str(self._preview_key_file),
                "SORTITION_FLUSH_SECONDS": "1",
                "SORTITION_TICK_SECONDS": "1",
                "AWS_ENDPOINT_URL": double,
                **AWS,
            },
            ready=self._server_is_ready,
            start_seconds=START_SECONDS,
            log=self._logs / "server.log",
        )
        for side in SIDES:
            yield self._ours(
                *(f"shop {side}", "side", (side, *data, "--port", str(place.port(side)))),
                environment=self._side_environment[side],
                ready=lambda side=side: _answers(f"http://127.0.0.1:{place.port(side)}/counters"),
                waited_for=False,
            )
        yield self._ours(
            *("balancer", "front", (*data, "--port", str(place.front), "--double", double, *ports)),
            ready=lambda: _answers(f"http://127.0.0.1:{place.front}/.balancer"),
        )
        rate = ("--rate", str(self._wishes.rate), "--seconds", str(VISIT_SECONDS))
        yield self._ours("visitors", "load", (f"http://127.0.0.1:{place.front}", *rate))

    def _ours(self, name: str, module: str, words: tuple[str, ...], **given: Any) -> Child:
        """Return a child that is a module of the example shop."""
        return Child(
            name,
            (sys.executable, "-m", f"examples.shop.{module}", *words),
            directory=ROOT,
            start_seconds=START_SECONDS,
            log=self._logs / f"{name.replace(' ', '-')}.log",
            **given,
        )

    def _server_is_ready(self) -> bool:
        if not _answers(f"{self._settings.url}/readyz"):
            return False
        self._seed()
        return True

    def _seed(self) -> None:
        """Make flags to play with and a key for the shop; what is there is left as it is."""
        for flag in FLAGS:
            self._api.ask("POST", "/api/v1/flags", flag, expect=(201, 409))
        for key, environment, change in STATES:
            path = f"/api/v1/flags/{key}/environments/{environment}"
            why = {"reason": "demo", "confirm_environment": environment}
            # Only a state that nobody has touched: a second start finds things as they were left.
            # One in a rollout refuses more (409), and was touched.
            self._api.ask("PATCH", path, change | why, revision=0, expect=(200, 409, 412))
        if not self._key_file.exists():
            wanted = {"scope": "sdk", "environment": ENVIRONMENT, "description": "The shop"}
            made = self._api.ask("POST", "/api/v1/tokens", wanted, expect=(201,))
            write_private(self._key_file, made["token"])
        previews = SigningKey.parse(self._preview_key_file.read_text()).verifier
        for side, environ in self._side_environment.items():
            environ.update(
                SORTITION_URL=self._settings.url,
                SORTITION_KEY=self._key_file.read_text(),
                SORTITION_SNAPSHOT=str(self._settings.data_dir / f"shop-{side}-snapshot.json"),
                OTEL_SERVICE_NAME="shop",
                SHOP_PREVIEW_KEY=str(previews),
            )

    # What people are told

    def _welcome(self) -> None:
        self._place.write()
        self._shop.write_rollout()
        link = self._make_link()
        sortition, flagserver = (
            os.path.relpath(Path(sys.executable).parent / name)
            for name in ("sortition", "flagserver")
        )
        data = self._settings.data_dir
        named = (
            ""
            if data == Path(".data/demo").absolute()
            else f"    export SORTITION_DATA_DIR={data}\n"
        )
        rollout = os.path.relpath(self._place.rollout_file)
        blue, green = (self._shop.version(side) for side in SIDES)
        click.echo(
            f"""
  Sign in (once):   {link}
  The shop:         http://127.0.0.1:{self._place.front}/   counters of the side that answers

  In another terminal:
    export SORTITION_URL={self._settings.url}
    export SORTITION_TOKEN=$(cat {os.path.relpath(self._place.token_file)})
{named}    {sortition} flags list
    {sortition} flags set new-search --env production --share 25 \\
        --reason "trying it" --confirm production
    {sortition} flags kill new-search --env production

  Releases: blue runs {blue}, green runs {green}. One schedule moves the load balancer's
  weights and {FLAG}.
    {flagserver} demo deploy     the next version; then watch as it says
    {flagserver} demo break      it fails, and is taken back within seconds (or --hosts, --slow)
    {flagserver} demo heal       and then, to try again:
    {sortition} rollouts start -f {rollout} --watch \\
        --reason "trying it again" --confirm production

  Logs are in {os.path.relpath(self._logs)}. Ctrl-C ends all of it.
"""
        )
        if self._wishes.open_browser and sys.stdout.isatty() and _has_display():
            webbrowser.open(link)
        if self._wishes.rollout:
            work = threading.Thread(target=self._begin, args=(sortition,), daemon=True)
            work.start()

    def _begin(self, sortition: str) -> None:
        """Start the first rollout of this data directory, so that there is something to watch."""
        time.sleep(FIRST_ROLLOUT_SECONDS)
        try:
            rollout = self._shop.start_first()
        except (OSError, DemoError) as error:
            click.echo(f"  No rollout was begun: {error}")
            return
        if rollout is not None:
            version, id = rollout["version"], rollout["id"]
            click.echo(f"  The release of {version} begins:  {sortition} rollouts watch {id}\n")


def _has_display() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY"))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 (only ours are asked)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
