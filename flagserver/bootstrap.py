"""The composition root: settings become services. Read it top to bottom."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path

from sortition.record.checkpoint import LOG_NAME, read_text
from sortition.record.note import NoteError, SigningKey

from flagserver.auth.alb_header import AlbHeader, LoadBalancer
from flagserver.auth.oidc import Client, OidcProvider
from flagserver.auth.passwords import Argon2Passwords
from flagserver.aws import Aws, Watch
from flagserver.domain import documents, tokens
from flagserver.domain.commands import NewToken
from flagserver.domain.documents import Idempotency, Principal
from flagserver.domain.errors import Conflict
from flagserver.domain.flags import Flag
from flagserver.domain.outcomes import histogram_edges, settle_seconds
from flagserver.domain.strength import weakness
from flagserver.egress import GuardedEgress, Place, read_places
from flagserver.measures import Board, of_build
from flagserver.notify.log import Log
from flagserver.notify.pagerduty import PagerDuty
from flagserver.notify.slack import Slack
from flagserver.notify.webhook import Webhook, read_keys
from flagserver.ports import (
    Anchors,
    AnchorsUnavailable,
    Clock,
    Copies,
    Documents,
    Egress,
    Entropy,
    Gates,
    IdentityProvider,
    Leases,
    NotAllowed,
    Notifier,
    Outbox,
    SignalSource,
    SignedHeader,
    Store,
    TargetDriver,
)
from flagserver.services import Services
from flagserver.services.approvals import Approvals
from flagserver.services.audit import Audit
from flagserver.services.calibrating import Calibrating, Calibrations
from flagserver.services.drills import Drills
from flagserver.services.environments import Environments
from flagserver.services.flags import Flags
from flagserver.services.grounds import Grounds
from flagserver.services.health import health
from flagserver.services.hooks import Gatekeeper, Hooks
from flagserver.services.introductions import Introductions
from flagserver.services.judging import Judging, RestOf
from flagserver.services.losses import Losses
from flagserver.services.metrics import Metrics
from flagserver.services.neutrality import Neutrality
from flagserver.services.notices import Deliverer, Notices
from flagserver.services.notifying import Notifying
from flagserver.services.outcomes import Outcomes
from flagserver.services.people import People
from flagserver.services.previews import Previews
from flagserver.services.pruning import Pruner, Pruning
from flagserver.services.pushes import Postman, Pushes
from flagserver.services.rates import Rates
from flagserver.services.record import Record
from flagserver.services.recovery import Recovery
from flagserver.services.reviewing import Reviewing
from flagserver.services.rollouts import Rollouts
from flagserver.services.schedules import Schedules
from flagserver.services.sealing import Sealer, Sealing
from flagserver.services.sessions import Sessions
from flagserver.services.silence import Silence, Vigil, bound_seconds, look_seconds
from flagserver.services.snapshots import Snapshots
from flagserver.services.steering import Steering, samples
from flagserver.services.syncing import Syncing
from flagserver.services.tokens import Tokens
from flagserver.services.uses import Uses
from flagserver.services.watching import Watching
from flagserver.settings import Alb, Oidc, Settings, SettingsError
from flagserver.signals.cloudwatch import CloudWatch
from flagserver.signals.hosts import Hosts
from flagserver.signals.metrics import MetricsSource
from flagserver.signals.outcomes import OutcomesSource
from flagserver.signals.prometheus import PrometheusSource
from flagserver.signals.sqs import SqsMailbox
from flagserver.storage.anchors import DiskAnchors
from flagserver.storage.anchors_s3 import S3Anchors
from flagserver.storage.copies import DiskCopies
from flagserver.storage.journal import DiskJournal
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemClock, SystemEntropy
from flagserver.targets.alb import AlbDriver
from flagserver.targets.codedeploy import CodeDeployDriver
from flagserver.targets.hooks import CodeDeployHooks
from flagserver.telemetry import Telemetry, telemetry_of

INSTALLATION = Principal("installation", "admin", "admin")
"""Who makes the first things of an installation, before there is anybody."""


def open_store(settings: Settings, telemetry: Telemetry | None = None) -> Store:
    """Return the driver for the store that the settings name. telemetry: counts its answers."""
    if settings.redis_url is None:
        raise SettingsError("SORTITION_REDIS_URL is not set; only `flagserver run` embeds a store.")
    told = None if telemetry is None else telemetry.tally.asked
    return RedisStore(settings.redis_url, told=told)


def open_copies(settings: Settings) -> Copies:
    """Return where what is known is kept on this machine."""
    return DiskCopies(settings.data_dir / "known")


def open_board(settings: Settings, component: str) -> Board:
    """Return what this process shows of itself, and this machine's others, to Prometheus."""
    board = Board(settings.data_dir / "metrics")
    board.gather_the_ended()
    build = of_build(version("sortition-server"), component)
    board.add(lambda: build)
    return board


def open_telemetry(environ: Mapping[str, str] = os.environ) -> Telemetry:
    """Return what counts and traces, as OpenTelemetry's environment variables say. Raises
    SettingsError."""
    try:
        return telemetry_of(environ, SystemClock())
    except ValueError as error:
        raise SettingsError(str(error)) from None


def open_egress(settings: Settings) -> Egress:
    """Return the one way out. Raises SettingsError for a list of hosts that is none."""
    lists = {
        "SORTITION_EGRESS_HOSTS": (settings.outward.hosts, False),
        "SORTITION_EGRESS_INTERNAL_HOSTS": (settings.outward.internal_hosts, True),
    }
    places: list[Place] = []
    for name, (text, inside) in lists.items():
        try:
            places += read_places(text, inside=inside)
        except ValueError as error:
            raise SettingsError(f"{name}: {error}.") from None
    return GuardedEgress(places)


CALLBACK = "/sign-in/oidc/callback"
"""Where an identity provider sends browsers back to, below SORTITION_PUBLIC_URL."""


def open_provider(settings: Settings, egress: Egress, clock: Clock) -> IdentityProvider | None:
    """Return whom people sign in at, or None. Raises SettingsError for a part of what it takes, and
    for an issuer that may not be called. Asks nobody yet: without it, links and passwords go on."""
    told, secret = settings.oidc, settings.outward.oidc_client_secret or ""
    if told == Oidc() and not secret:
        return None
    needed = {
        "SORTITION_OIDC_ISSUER": told.issuer,
        "SORTITION_OIDC_CLIENT_ID": told.client_id,
        "SORTITION_OIDC_CLIENT_SECRET": secret,
        "SORTITION_OIDC_ROLES": told.roles,
    }
    _check_whole("To sign in by OpenID Connect", needed)
    _check_url(egress, "SORTITION_OIDC_ISSUER", told.issuer)
    client = Client(
        *(told.issuer, told.client_id, secret), told.domains, told.groups_claim or "groups"
    )
    return OidcProvider(egress, clock, client)


def open_header(settings: Settings, egress: Egress, clock: Clock) -> SignedHeader | None:
    """Return what signs people in before they get here, or None. Raises SettingsError."""
    told = settings.alb
    if told == Alb():
        return None
    needed = {
        f"SORTITION_ALB_{each.name.upper()}": getattr(told, each.name) for each in fields(Alb)
    }
    _check_whole("To sign in by a load balancer", needed)
    try:
        balancer = LoadBalancer(told.signer, told.client, told.issuer)
    except ValueError as error:
        raise SettingsError(f"SORTITION_ALB_SIGNER {error}.") from None
    _check_url(egress, "SORTITION_ALB_SIGNER", balancer.keys_url)
    return AlbHeader(egress, clock, balancer)


def _check_whole(what: str, needed: Mapping[str, object]) -> None:
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise SettingsError(f"{what}, set {', '.join(missing)} too.")


def introductions_of(
    settings: Settings, store: Store, people: People, clock: Clock, entropy: Entropy
) -> Introductions:
    """Return how people sign in at an identity provider, if there is one."""
    egress = open_egress(settings)
    return Introductions(
        open_provider(settings, egress, clock),
        settings.oidc.roles,
        settings.url + CALLBACK,
        *(store, people, entropy),
        open_header(settings, egress, clock),
        settings.alb.roles,
    )


def open_notifiers(settings: Settings, egress: Egress, clock: Clock) -> list[Notifier]:
    """Return whom notices are brought to, the log first. Raises SettingsError for an address that
    may not be called, or a secret that is none."""
    told, base = settings.outward, settings.url
    notifiers: list[Notifier] = [Log()]
    if told.webhook_url is not None:
        _check_url(egress, "SORTITION_WEBHOOK_URL", told.webhook_url)
        try:
            keys = read_keys(told.webhook_secret or "")
        except ValueError as error:
            raise SettingsError(f"SORTITION_WEBHOOK_SECRET {error}.") from None
        if not keys:
            raise SettingsError(
                "SORTITION_WEBHOOK_URL needs SORTITION_WEBHOOK_SECRET to sign with."
            )
        notifiers.append(Webhook(egress, clock, told.webhook_url, keys, base))
    if told.slack_webhook is not None:
        _check_url(egress, "SORTITION_SLACK_WEBHOOK", told.slack_webhook)
        notifiers.append(Slack(egress, clock, told.slack_webhook, base))
    if told.pagerduty_key is not None:
        _check_url(egress, "SORTITION_PAGERDUTY_URL", told.pagerduty_url)
        key = told.pagerduty_key
        notifiers.append(PagerDuty(egress, clock, key, base, told.pagerduty_url))
    return notifiers


def open_sources(
    settings: Settings, store: Store, snapshots: Snapshots, egress: Egress
) -> list[SignalSource]:
    """Return where a guard's numbers come from, but AWS. Raises SettingsError."""
    rest_of = _rest_of(snapshots)
    settle, asked = settle_seconds(settings.flush_seconds), settings.outward
    sources: list[SignalSource] = [
        OutcomesSource(store, rest_of, edges=histogram_edges(), settle_seconds=settle),
        MetricsSource(store, rest_of, settle_seconds=settle),
    ]
    if asked.prometheus_url is not None:
        _check_url(egress, "SORTITION_PROMETHEUS_URL", asked.prometheus_url)
        sources.append(PrometheusSource(egress, asked.prometheus_url, asked.prometheus_token))
    return sources


def _rest_of(snapshots: Snapshots) -> RestOf:
    def rest_of(environment: str, flag: str) -> str | None:
        found = snapshots.view(environment).snapshot.flags.get(flag)
        return found.rest if found is not None else None

    return rest_of


def _rest_in(store: Documents) -> RestOf:
    """Return what asks the store itself: a controller serves no flags."""

    def rest_of(_: str, flag: str) -> str | None:
        found = store.read(documents.FLAGS, flag)
        return None if found is None else Flag.from_body(found.body).rest

    return rest_of


@dataclass(frozen=True)
class Outside:
    """What lies outside of our store: what rollouts move, where their numbers come from, and who
    asks us before it goes on."""

    drivers: Mapping[str, TargetDriver]
    sources: Mapping[str, SignalSource]
    gates: Gates = field(default_factory=lambda: CodeDeployHooks(Aws()))


def open_outside(
    settings: Settings, store: Store, snapshots: Snapshots, egress: Egress, watch: Watch
) -> Outside:
    """Return every driver and source, by name. Nothing is asked yet. Raises SettingsError.

    watch: is told of every call of AWS.
    """
    aws = Aws(watch=watch)
    drivers: list[TargetDriver] = [AlbDriver(aws), CodeDeployDriver(aws)]
    sources = [*open_sources(settings, store, snapshots, egress), CloudWatch(aws), Hosts(aws)]
    return Outside(
        {each.kind: each for each in drivers},
        {each.name: each for each in sources},
        CodeDeployHooks(aws),
    )


def build_gatekeeper(services: Services, store: Store, holder: str) -> Gatekeeper:
    """Return what looks after hooks that wait, for a controller."""
    return Gatekeeper(services.hooks, store, holder)


def build_postman(settings: Settings, services: Services, telemetry: Telemetry) -> Postman | None:
    """Return what fetches events, where the settings name a queue, for a controller."""
    url = settings.outward.signals_queue_url
    if url is None:
        return None
    mailbox = SqsMailbox(Aws(watch=telemetry.call), url)
    return Postman(mailbox, services.pushes, random.SystemRandom().random)


def read_record_key(settings: Settings) -> SigningKey | None:
    """Return what the record's checkpoints are signed with, or None. Raises SettingsError, which
    tells nothing of the key."""
    return _read_key(settings.record_key, settings.record_key_file, "SORTITION_RECORD_KEY")


def read_preview_key(settings: Settings) -> SigningKey | None:
    """Return what preview links are signed with, or None. Raises SettingsError, which tells nothing
    of the key."""
    return _read_key(settings.preview_key, settings.preview_key_file, "SORTITION_PREVIEW_KEY")


def _read_key(text: str | None, path: Path | None, name: str) -> SigningKey | None:
    where = name if path is None else f"{name}_FILE: {path}"
    if path is not None:
        text = _text_of(path, where)
    if text is None:
        return None
    try:
        key = SigningKey.parse(text)
    except NoteError as error:
        raise SettingsError(f"{where}: {error}.") from None
    if not LOG_NAME.fullmatch(key.name):
        raise SettingsError(f"{where}: {key.name!r} cannot be a log's name.")
    if weak := weakness(key.seed):
        raise SettingsError(
            f"{where}: the key {weak}. Make one: flagserver record-key NAME -o FILE"
        )
    return key


def _text_of(path: Path, where: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"{where} cannot be read: {why}.") from None


def open_anchors(settings: Settings) -> Anchors:
    """Return where checkpoints are kept outside of the store. Nothing is asked yet. Raises
    SettingsError."""
    place = settings.anchors_s3
    if place is None:
        return DiskAnchors(settings.anchors)
    try:
        return S3Anchors(Aws(), SystemClock(), place, days=settings.anchors_days)
    except ValueError as error:
        raise SettingsError(f"SORTITION_ANCHORS_S3: {error}.") from None


def build_sealing(settings: Settings, store: Store, holder: str) -> Sealing | None:
    """Return what signs the record, where the settings name a key, for a controller. Raises
    SettingsError."""
    key = read_record_key(settings)
    if key is None:
        return None
    anchors = open_anchors(settings)
    return Sealing(Sealer(store, key, anchors, SystemClock(), SystemEntropy()), store, holder)


def build_pruning(settings: Settings, store: Store, holder: str) -> Pruning:
    """Return what takes old bodies out of the record, for a controller. Raises SettingsError."""
    key = read_record_key(settings)
    verifier = None if key is None else key.verifier
    return Pruning(Pruner(store, SystemClock(), SystemEntropy(), verifier), store, holder)


def build_calibrating(
    settings: Settings,
    store: Store,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
) -> Calibrating:
    """Return what keeps A/A history of services, for a controller."""
    return Calibrating(
        *(store, clock or SystemClock(), entropy or SystemEntropy()),
        flush_seconds=settings.flush_seconds,
    )


def newest_anchor(settings: Settings, store: Store) -> str | None:
    """Return the newest checkpoint that was anchored; None where nothing is signed. A process that
    has not the key learns the log's name from the checkpoints beside the record. Raises Conflict
    where it cannot be known, StoreUnavailable."""
    try:
        key, beside = read_record_key(settings), store.checkpoints(limit=1)
        if key is None and not beside:
            return None
        log = read_text(beside[0]).log if key is None else key.name
        return open_anchors(settings).newest(log)
    except (SettingsError, AnchorsUnavailable, NoteError) as error:
        raise Conflict(str(error)) from None


def build_notices(
    outbox: Outbox,
    leases: Leases,
    notifiers: Iterable[Notifier],
    clock: Clock,
    holder: str,
    telemetry: Telemetry | None = None,
) -> Notices:
    """Return what brings notices to these. holder: this process, as its leases name it."""
    notifiers, chance = list(notifiers), random.SystemRandom().random
    tally = (telemetry or Telemetry()).tally
    tally.will_notify([each.name for each in notifiers])
    return Notices(
        Deliverer(*(each, outbox, leases, clock, holder), chance=chance, count=tally.notified)
        for each in notifiers
    )


def open_notices(settings: Settings, store: Store, holder: str, telemetry: Telemetry) -> Notices:
    """Return what tells people, as the settings say. Raises SettingsError."""
    clock = SystemClock()
    notifiers = open_notifiers(settings, open_egress(settings), clock)
    return build_notices(store, store, notifiers, clock, holder, telemetry)


def open_vigil(settings: Settings, store: Store, holder: str, telemetry: Telemetry) -> Vigil:
    """Return what tells people, for a process that serves, that no controller looks. Raises
    SettingsError."""
    clock = SystemClock()
    notifiers = open_notifiers(settings, open_egress(settings), clock)
    every = look_seconds(settings.tick_seconds)
    return Vigil(
        Silence(store, clock, SystemEntropy(), bound_seconds(settings.tick_seconds), every),
        lambda: build_notices(store, store, notifiers, clock, holder, telemetry),
        every,
    )


def _check_url(egress: Egress, name: str, url: str) -> None:
    try:
        egress.check(url)
    except NotAllowed as error:
        hosts = "SORTITION_EGRESS_HOSTS or SORTITION_EGRESS_INTERNAL_HOSTS"
        raise SettingsError(f"{name}: {error}. {hosts} say which may be called.") from None


def build_services(
    settings: Settings,
    store: Store,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    copies: Copies | None = None,
    outside: Outside | None = None,
    telemetry: Telemetry | None = None,
) -> Services:
    """Return the services over a store. Nothing is read or started yet.

    copies: where what is known is kept, for a process that serves.
    telemetry: what is counted and traced of rollouts, for a process that tells of it.
    outside: what rollouts move and measure; as the settings say, unless it is given.
    """
    clock = clock or SystemClock()
    entropy = entropy or SystemEntropy()
    snapshots = Snapshots(
        *(store, clock),
        flush_seconds=settings.flush_seconds,
        edges=histogram_edges(),
        copies=copies,
    )
    outcomes = Outcomes(store, snapshots, clock, flush_seconds=settings.flush_seconds)
    telemetry = telemetry or Telemetry()
    outside = outside or open_outside(
        settings, store, snapshots, open_egress(settings), telemetry.call
    )
    promised = partial(newest_anchor, settings, store)
    recovery = None if copies is None else Recovery(store, clock, entropy, copies, promised)
    losses = Losses(store, snapshots.trust, recovery, clock, entropy)
    sessions = Sessions(store, store, clock, entropy)
    people = People(
        *(store, store, store, Argon2Passwords(), sessions, clock, entropy),
        identity=store.identity,
    )
    flags = Flags(store, clock, entropy, telemetry.changed)
    rollouts = Rollouts(
        *(store, store, outside.drivers, outside.sources, clock, entropy),
        rate=outcomes.rate,
        tick_seconds=settings.tick_seconds,
        told=telemetry.turned,
        reported=outcomes.service,
        calibrate=Calibrations(store).calibration,
    )
    return Services(
        flags=flags,
        environments=Environments(store, clock, entropy),
        tokens=Tokens(store, snapshots, Uses(store), clock, entropy),
        rates=Rates(
            *(settings.rates, settings.trusted_proxies),
            monotonic=clock.monotonic,
            chance=random.SystemRandom().random,
        ),
        snapshots=snapshots,
        outcomes=outcomes,
        neutrality=Neutrality(flags, snapshots, outcomes, store),
        metrics=Metrics(store, snapshots, clock),
        rollouts=rollouts,
        approvals=Approvals(store, flags, rollouts, clock, entropy),
        grounds=Grounds(rollouts, store),
        schedules=Schedules(store, clock, entropy),
        watching=Watching(store, store, clock, entropy),
        syncing=Syncing(store, outside.drivers, clock, entropy),
        drills=Drills(store, store, clock, entropy),
        reviewing=Reviewing(store, clock, entropy),
        hooks=Hooks(store, outside.gates, outside.sources, clock, entropy),
        pushes=Pushes(store, store, clock, entropy),
        previews=Previews(store, read_preview_key(settings), clock, entropy),
        sessions=sessions,
        people=people,
        introductions=introductions_of(settings, store, people, clock, entropy),
        notifying=Notifying(
            *(store, store),
            open_notifiers(settings, open_egress(settings), clock),
            *(clock, entropy),
        ),
        record=Record(store),
        losses=losses,
        audit=Audit(store, losses, clock, entropy),
        health=partial(health, snapshots, store),
    )


def build_steering(
    settings: Settings,
    store: Store,
    services: Services,
    holder: str,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    outside: Outside | None = None,
    telemetry: Telemetry | None = None,
) -> Steering:
    """Return what moves rollouts, for a controller. holder: this process, as its leases name it."""
    telemetry = telemetry or Telemetry()
    outside = outside or open_outside(
        settings, store, services.snapshots, open_egress(settings), telemetry.call
    )
    return Steering(
        *(store, store, store),
        DiskJournal(settings.data_dir / "journal" / "rollouts"),
        *(outside.drivers, outside.sources),
        *(clock or SystemClock(), entropy or SystemEntropy()),
        holder,
        samples=samples(services.outcomes),
        judging=Judging(
            *(store, store, _rest_in(store)),
            edges=histogram_edges(),
            flush_seconds=settings.flush_seconds,
            calibrate=Calibrations(store).calibration,
            posted=store,
        ),
        tick_seconds=settings.tick_seconds,
        telemetry=telemetry,
    )


def read_admin_token(settings: Settings) -> str | None:
    """Return the first admin token that the operator made, or None. Raises OSError, ValueError."""
    text = settings.admin_token
    if settings.admin_token_file is not None:
        text = settings.admin_token_file.read_text()
    if text is None:
        return None
    text = text.strip()
    tokens.adopt(text, NewToken(scope="admin"), at="")
    if weak := weakness(bytes.fromhex(text.rpartition("_")[2])):
        raise ValueError(
            f"the token's secret {weak}. Make one: "
            'echo "srt_admin_$(openssl rand -hex 6)_$(openssl rand -hex 32)"'
        )
    return text


def prepare(settings: Settings, store: Store, services: Services, entropy: Entropy) -> str | None:
    """Make a new installation's first things, once. Returns a new admin token to be shown, if any.

    Safe to call at every start and by several processes at once. Raises StoreUnavailable, also when
    the store is not the one that is known: then nothing is made in it.
    """
    services.snapshots.require()
    store.initialise(entropy.hex(8))
    services.environments.create_first(INSTALLATION)
    command = NewToken(scope="admin", description="First admin token")
    text = read_admin_token(settings)
    if text is not None:
        services.tokens.adopt(text, command, INSTALLATION)
        return None
    if any(token.scope == "admin" for token in services.tokens.all()):
        return None
    once = Idempotency("installation:first-admin-token", "1")
    return services.tokens.create(command, INSTALLATION, once).text
