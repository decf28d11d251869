"""The `flagserver` command: process entry points. The only file that knows every room."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from sortition.record.checkpoint import LOG_NAME
from sortition.record.note import SigningKey

import admin
from flagserver import bootstrap, cloud, doctor, findings
from flagserver.controller import Controller
from flagserver.demo import running
from flagserver.demo.shop import WAYS, DemoError, Place, Shop
from flagserver.domain.errors import Refusal
from flagserver.domain.outcomes import settle_seconds
from flagserver.domain.stores import EMPTY, UNSAFE
from flagserver.http import alone, flag_measures, metrics
from flagserver.http.app import create_app
from flagserver.http.front import Front
from flagserver.http.rollout_measures import Standings
from flagserver.http.streams import Hub, Limits
from flagserver.measures import Board
from flagserver.ports import Store, StoreIdentity
from flagserver.processes import Child, ProcessError, wait_for_port
from flagserver.services import Services, recovery
from flagserver.services.asked import KeepingAsked
from flagserver.services.silence import Vigil
from flagserver.services.uses import KeepingUses
from flagserver.settings import Settings, SettingsError
from flagserver.storage.embedded import EmbeddedStore
from flagserver.supervisor import Supervisor
from flagserver.system import SystemClock, SystemEntropy
from flagserver.telemetry import Telemetry, read_exporters
from flagserver.web import Workers, allow_many_files, follow_in_background, listen, serve

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""How long to wait before asking a store again that did not answer."""


class Failed(click.ClickException):
    """One line that says what is wrong and what to do; exit status 1."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sortition-server", prog_name="flagserver")
def main() -> None:
    """Sortition's flag server. Settings are environment variables named SORTITION_…"""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


@main.command()
def run() -> None:
    """Web, controller and embedded store in one: everything a small team needs."""
    settings = read_settings()
    check_telemetry()
    store = None
    children = []
    # What they read by themselves is not said again: an address that a file holds would be there
    # twice.
    environment: dict[str, str] = {}
    try:
        wait_for_port(settings.host, settings.port, advice="Stop that, or set SORTITION_PORT.")
        if settings.redis_url is None:
            store = EmbeddedStore(settings.data_dir)
            environment["SORTITION_REDIS_URL"] = store.url
            children.append(store.child())
        bootstrap.open_board(settings, "run").begin_anew()
        children.append(
            Child("web", command("web"), environment, ready=lambda: answers(settings, "/healthz"))
        )
        children.append(Child("controller", command("controller"), environment))
        Supervisor(children).run(on_ready=lambda: welcome(settings))
    except ProcessError as error:
        raise Failed(str(error)) from None
    finally:
        if store is not None:
            store.release()


@main.command()
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that serve.",
)
def web(workers: int) -> None:
    """The HTTP API and the admin UI, over the store of SORTITION_REDIS_URL."""
    settings = read_settings()
    check_admin_token(settings)
    check_telemetry()
    try:
        if workers > 1:
            store, _ = open_services(settings, serving=True)
            open_vigil(settings, store, Telemetry())
            processes = Workers(settings, (*command("web-process"), "--ready"), workers)
            processes.run(lambda: click.echo(f"{workers} processes serve.", err=True))
        else:
            at = listen(settings.host, settings.port)
            serve_web(settings, at)
    except ProcessError as error:
        raise Failed(str(error)) from None


@main.command("web-process", hidden=True)
@click.option("--ready", type=int, required=True, help="An open file to write to, once it serves.")
def web_process(ready: int) -> None:
    """One of the processes of `web --workers`."""
    settings = read_settings()
    try:
        at = listen(settings.host, settings.port, shared=True)
    except ProcessError as error:
        raise Failed(str(error)) from None
    serve_web(settings, at, on_ready=lambda: _say(ready))


@main.command()
def controller() -> None:
    """The loop that moves rollouts and tells people, over the store of SORTITION_REDIS_URL. Any
    number: each rollout is held by one of them."""
    settings = read_settings()
    telemetry = open_telemetry()
    store, services = open_services(settings, serving=True, telemetry=telemetry)
    holder = holder_here()
    try:
        steering = bootstrap.build_steering(settings, store, services, holder, telemetry=telemetry)
        notices = bootstrap.open_notices(settings, store, holder, telemetry)
        sealing = bootstrap.build_sealing(settings, store, holder)
        pruning = bootstrap.build_pruning(settings, store, holder)
        calibrating = bootstrap.build_calibrating(settings, store)
    except SettingsError as error:
        raise Failed(str(error)) from None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    services.snapshots.restore()
    following = follow_in_background(services.snapshots)
    board = bootstrap.open_board(settings, "controller")
    board.add(partial(metrics.of_snapshots, services.snapshots))
    board.add(partial(metrics.of_asked, services))
    board.add(telemetry.tally.samples)
    publish_in_background(board, following)
    notices.start()
    gatekeeper = bootstrap.build_gatekeeper(services, store, holder)
    gatekeeper.start()
    if sealing is not None:
        sealing.start()
    pruning.start()
    calibrating.start()
    postman = bootstrap.build_postman(settings, services, telemetry)
    if postman is not None:
        postman.start()
    loop = Controller(
        *(services.record, store, steering, holder),
        tick_seconds=settings.tick_seconds,
        settle_seconds=settle_seconds(settings.flush_seconds),
    )
    board.add(loop.samples)
    show_alone(settings, services, board)
    loop.run(stop)
    gatekeeper.stop()
    calibrating.stop()
    pruning.stop()
    if sealing is not None:
        sealing.stop()
    if postman is not None:
        postman.stop()
    notices.stop()
    telemetry.close()
    following.set()
    board.publish()


def show_alone(settings: Settings, services: Services, board: Board) -> None:
    """Serve a controller's measures where the settings say, if they do."""
    if settings.controller_port is None:
        return
    app = alone.create_app(services, board, public=settings.metrics_public)
    try:
        alone.serve_in_background(app, settings.host, settings.controller_port)
    except OSError as error:
        where = f"{settings.host}:{settings.controller_port}"
        raise Failed(f"SORTITION_CONTROLLER_PORT: {where}: {error.strerror}.") from None


@main.group("demo", invoke_without_command=True)
@click.option(
    "--shop-port",
    type=click.IntRange(1, 65531),
    default=8401,
    show_default=True,
    help="Where the example shop listens; its inner parts at those that follow.",
)
@click.option("--rate", default=60.0, show_default=True, help="Visitors' requests a second.")
@click.option(
    "--open/--no-open", "open_browser", default=True, help="Open a browser if there is one."
)
@click.option(
    "--rollout/--no-rollout", default=True, help="Begin a first rollout where there was none."
)
@click.pass_context
def demo_group(context: click.Context, /, **wishes: Any) -> None:
    """A server, two versions of an example shop behind a load balancer, and visitors; Ctrl-C ends
    all of it. The sub-commands are said beside it, in another terminal."""
    settings = read_settings()
    if "SORTITION_DATA_DIR" not in os.environ:
        settings = running.with_data_of_its_own(settings)
    context.obj = settings
    if context.invoked_subcommand is not None:
        return
    try:
        running.Demo(
            settings,
            running.Wishes(**wishes),
            run_server=command("run"),
            make_link=lambda: sign_in_link(settings),
        ).run()
    except (ProcessError, DemoError) as error:
        raise Failed(str(error)) from None


@demo_group.command("deploy")
@click.pass_obj
def demo_deploy(settings: Settings) -> None:
    """Put the shop's next version on the side without traffic, and start its rollout."""
    with demo_shop(settings) as shop:
        side, rollout = shop.deploy()
        click.echo(f"{rollout['version']} is on {side}; its rollout begins. Watch it:")
        click.echo(f"  sortition rollouts watch {rollout['id']}")


@demo_group.command("break")
@click.option("--errors", "way", flag_value="errors", default="errors", help="As said above.")
@click.option("--slow", "way", flag_value="slow", help="It takes 1.5 s for each, and all succeed.")
@click.option("--hosts", "way", flag_value="hosts", help="It fails the health checks alone.")
@click.pass_obj
def demo_break(settings: Settings, way: str) -> None:
    """Let the version that is being released fail: three in ten of its requests, and slowly."""
    with demo_shop(settings) as shop:
        side = shop.break_canary(way)
        click.echo(f"{shop.version(side)} on {side} {WAYS[way]} from now on.")


@demo_group.command("heal")
@click.pass_obj
def demo_heal(settings: Settings) -> None:
    """Let nothing fail any more."""
    with demo_shop(settings) as shop:
        healed = shop.heal()
        for side in healed:
            click.echo(f"{shop.version(side)} on {side} is well again.")
        if not healed:
            click.echo("Nothing was broken.")


@contextmanager
def demo_shop(settings: Settings) -> Iterator[Shop]:
    """Give the shop of the demo that runs, and end with one line when something stands against
    what is done with it."""
    try:
        yield Shop(Place.find(settings.data_dir))
    except DemoError as error:
        raise Failed(str(error)) from None
    except OSError as error:
        raise Failed(f"The demo does not answer: {error}") from None


@main.command("sign-in-link")
def sign_in_link_command() -> None:
    """Print a link that signs in one browser, once, within 15 minutes."""
    try:
        click.echo(sign_in_link(read_settings()))
    except Refusal as error:
        raise Failed(f"{error.detail} Is the server running on this data directory?") from None


@main.command("record-key")
@click.argument("name")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where the secret goes; never over a file that is there.",
)
def record_key(name: str, output: Path) -> None:
    """Make the key that signs the record, for SORTITION_RECORD_KEY_FILE; print its public half.

    NAME names the record for everybody: like an address without https://, flags.example/record.
    """
    if not LOG_NAME.fullmatch(name):
        raise Failed("NAME is letters, digits, dots and dashes, with / between, and no space.")
    key = SigningKey(name, secrets.token_bytes(32))
    try:
        with open(output, "x", opener=_private) as file:
            file.write(f"{key.secret()}\n")
    except OSError as error:
        raise Failed(f"{output}: {error.strerror}.") from None
    click.echo(str(key.verifier))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@main.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor_command(as_json: bool) -> None:
    """Look at settings, store, record and assets; exit status 9 when a check fails."""
    settings = read_settings()
    found = bootstrap.open_store(with_store_url(settings))
    looked = doctor.examine(settings, found, recovery_of(settings))
    click.echo(findings.as_json(looked) if as_json else findings.as_text(looked))
    if not findings.all_well(looked):
        sys.exit(9)


@main.group("store")
def store_group() -> None:
    """The store: is it the one that was known, and if not, what is to be done."""


@store_group.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def store_status(as_json: bool) -> None:
    """Compare the store with what this machine knows; exit status 9 when it is in doubt."""
    report = _looked(recovery_of(read_settings()))
    click.echo(json.dumps(recovery.as_json(report)) if as_json else "\n".join(told(report)))
    if report.alarm is not None:
        sys.exit(9)


@store_group.command("accept")
@click.option("--store", "id", required=True, help="The id that `status` found, or `empty`.")
@click.option("--reason", required=True, help="Why; it is kept in the record.")
@click.option("--as-is", is_flag=True, help="Kill and fill nothing.")
@click.option("--in-place-of", metavar="ID.EPOCH", help="What was known, if this machine is new.")
def store_accept(id: str, reason: str, as_is: bool, in_place_of: str | None) -> None:
    """Take the store that is there in place of the one that was known.

    Servers and SDKs take it from then on. Flags that it would expose more than was served are
    killed, so that a kill that was lost stays one. An empty one is filled from this machine's disk:
    environments, tokens and live flags, without descriptions, owners and the record.
    """
    before = None if in_place_of is None else read_identity(in_place_of)
    try:
        done = recovery_of(read_settings()).accept(id, reason, as_is=as_is, in_place_of=before)
    except Refusal as error:
        raise Failed(error.detail) from None
    click.echo(f"Accepted: store {done.identity.store}, epoch {done.identity.epoch}.")
    for environment, keys in done.killed.items():
        click.echo(f"Killed in {environment}: {', '.join(keys)}. Un-kill what is meant to be on.")
    for environment, number in done.filled.items():
        click.echo(f"Filled from this machine's disk: {number} flags in {environment}.")
    for environment in done.loosened:
        click.echo(f"! Enlarging in {environment} waits for no second person now. If it should:")
        click.echo(f"  sortition env set {environment} --four-eyes --reason ...")


def recovery_of(settings: Settings) -> recovery.Recovery:
    """Return the use cases for an operator on this machine."""
    found = bootstrap.open_store(with_store_url(settings))
    copies = bootstrap.open_copies(settings)
    promised = partial(bootstrap.newest_anchor, settings, found)
    return recovery.Recovery(found, SystemClock(), SystemEntropy(), copies, promised)


def _looked(of: recovery.Recovery) -> recovery.Report:
    try:
        return of.look()
    except Refusal as error:
        raise Failed(error.detail) from None


def told(report: recovery.Report) -> Iterator[str]:
    """Return a report for people, line by line."""
    yield f"known here   {report.known or 'nothing'}"
    yield f"in the store {report.found or 'nothing'}"
    for fault in report.faults:
        yield f"! {fault.detail} {fault.advice}"
    if report.alarm is None:
        yield "✔ The store is the one that is known."
        return
    yield f"✖ {report.alarm.detail}"
    for environment, keys in report.exposes.items():
        yield f"  It would expose more in {environment}: {', '.join(keys)}."
    if report.alarm.kind != UNSAFE:
        id = report.found.store if report.found else EMPTY
        yield f'  To take it all the same: flagserver store accept --store {id} --reason "..."'


def read_identity(text: str) -> StoreIdentity:
    """Return the identity that `ID.EPOCH` names, or end with how it is written."""
    id, _, epoch = text.rpartition(".")
    if not id or not epoch.isdigit():
        raise click.BadParameter("write it as ID.EPOCH, as in 5eed5eed5eed5eed.1")
    return StoreIdentity(id, int(epoch))


main.add_command(cloud.aws)


def read_settings() -> Settings:
    """Return the settings, or end with what is wrong with them."""
    try:
        return Settings.read()
    except SettingsError as error:
        raise Failed(str(error)) from None


def command(name: str) -> tuple[str, ...]:
    """Return how to start another of these commands as a process."""
    return (sys.executable, "-m", "flagserver.main", name)


def with_store_url(settings: Settings) -> Settings:
    """Return settings that name the embedded store of the data directory where none is named."""
    return settings.with_redis_url(settings.redis_url or EmbeddedStore(settings.data_dir).url)


def check_telemetry() -> None:
    """End when OpenTelemetry's variables cannot be followed; nothing is opened."""
    try:
        read_exporters(os.environ)
    except ValueError as error:
        raise Failed(str(error)) from None


def open_telemetry() -> Telemetry:
    """Return what counts and traces, or end with what is wrong with OpenTelemetry's variables."""
    try:
        return bootstrap.open_telemetry()
    except SettingsError as error:
        raise Failed(str(error)) from None


def open_services(
    settings: Settings, *, serving: bool = False, telemetry: Telemetry | None = None
) -> tuple[Store, Services]:
    """Return the store and the services over it, or end with what is wrong with the settings.

    serving: keep what is known on disk, and believe no other store.
    """
    try:
        store = bootstrap.open_store(settings, telemetry)
    except (SettingsError, ValueError) as error:
        raise Failed(str(error)) from None
    copies = bootstrap.open_copies(settings) if serving else None
    return store, bootstrap.build_services(settings, store, copies=copies, telemetry=telemetry)


def open_vigil(settings: Settings, store: Store, telemetry: Telemetry) -> Vigil:
    """Return what tells people that no controller looks, or end with what is wrong with whom to
    tell."""
    try:
        return bootstrap.open_vigil(settings, store, holder_here(), telemetry)
    except SettingsError as error:
        raise Failed(str(error)) from None


def holder_here() -> str:
    """Return a name for this process, as its leases have it."""
    return f"{os.getpid()}-{SystemEntropy().hex(4)}"


def check_admin_token(settings: Settings) -> None:
    """End when the operator's first admin token cannot be one; the store is not asked."""
    try:
        bootstrap.read_admin_token(settings)
    except (OSError, ValueError) as error:
        name = "SORTITION_ADMIN_TOKEN" + ("" if settings.admin_token else "_FILE")
        raise Failed(f"{name}: {error}") from None


def first_things(
    settings: Settings, store: Store, services: Services, stop: threading.Event
) -> None:
    """Make a new installation's first things, as soon as the store answers and is to be trusted.

    Flags are served meanwhile, if any are known.
    """
    told = ""
    while not stop.is_set():
        try:
            token = bootstrap.prepare(settings, store, services, SystemEntropy())
        except (Refusal, OSError, ValueError) as error:
            detail = error.detail if isinstance(error, Refusal) else str(error)
            if detail != told:
                log.warning("not following the store: %s", detail)
            told = detail
            stop.wait(RETRY_SECONDS)
        else:
            if token is not None:
                click.echo(f"First admin token, shown once: {token}", err=True)
            return


def serve_web(
    settings: Settings, at: socket.socket, *, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Serve there until told to stop. on_ready: called once connections are accepted."""
    telemetry = open_telemetry()
    store, services = open_services(settings, serving=True, telemetry=telemetry)
    vigil = open_vigil(settings, store, telemetry)
    board = bootstrap.open_board(settings, "web")
    front = web_application(settings, store, services, telemetry, board)
    vigil.start()
    merging = services.outcomes.merging(SystemEntropy().hex(8))
    merging.start()
    uses = KeepingUses(services.tokens.uses)
    uses.start()
    asked = KeepingAsked(services.outcomes.asking)
    asked.start()
    serve(front, at, on_ready=on_ready)
    asked.stop()
    uses.stop()
    merging.stop()
    vigil.stop()
    telemetry.close()
    board.publish()


def web_application(
    settings: Settings, store: Store, services: Services, telemetry: Telemetry, board: Board
) -> Front:
    """Return the whole web application: it serves what this machine's disk has, and follows the
    store once that answers."""
    scheme = urlsplit(settings.url).scheme
    # Some files are left for requests, the store and the disk.
    hub = Hub(Limits(most=min(Limits.most, allow_many_files() * 9 // 10)))
    app = create_app(services, settings, board)
    secure = scheme == "https"
    app.register_blueprint(
        admin.blueprint(
            services, secure_cookies=secure, say=hub.say, trusted_proxies=settings.trusted_proxies
        )
    )
    front = Front(app, services, hub, scheme=scheme)
    board.add(partial(metrics.of_front, front))
    board.add(partial(metrics.of_services, services))
    board.add(telemetry.tally.samples)
    board.add_asked(Standings(services.rollouts).samples)
    flag_measures.show(board, services)
    services.snapshots.restore()
    begin = partial(first_things, settings, store, services)
    publish_in_background(board, follow_in_background(services.snapshots, begin))
    return front


def publish_in_background(board: Board, stop: threading.Event) -> None:
    """Start the thread that shares what this process counts, until told to stop."""
    threading.Thread(
        target=board.publish_until, args=(stop,), name="sortition-measures", daemon=True
    ).start()


def _say(ready: int) -> None:
    os.write(ready, b"ready")


def sign_in_link(settings: Settings) -> str:
    """Return a new one-time link. Raises StoreUnavailable."""
    _, services = open_services(with_store_url(settings))
    return f"{settings.url}/sign-in/{services.sessions.make_link()}"


def welcome(settings: Settings) -> None:
    """Say where the server is, and on a terminal how to sign in."""
    click.echo(f"Sortition serves at {settings.url}", err=True)
    if sys.stderr.isatty():
        click.echo(f"Sign in, once: {sign_in_link(settings)}", err=True)
    else:
        click.echo("To sign in: flagserver sign-in-link", err=True)


def answers(settings: Settings, path: str) -> bool:
    """Tell whether our server answers 200 at a path."""
    everywhere = settings.host in ("0.0.0.0", "::")  # noqa: S104 (that somebody set)
    host = "127.0.0.1" if everywhere else settings.host
    try:
        with urllib.request.urlopen(f"http://{host}:{settings.port}{path}", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    main()
