"""The environment, read once into one frozen `Settings`. An unknown `SORTITION_` name stops it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from .domain.addresses import Network, networks
from .domain.people import ANYBODY, GroupRole, read_group_roles
from .domain.rates import Rates

PREFIX = "SORTITION_"

SETTINGS = {
    "SORTITION_HOST": "Address to listen on. Default 127.0.0.1.",
    "SORTITION_PORT": "Port to listen on. Default 8400.",
    "SORTITION_DATA_DIR": "Where the embedded store and its log live. Default ./sortition-data.",
    "SORTITION_REDIS_URL": "redis://, rediss://, unix://, redis-cluster:// or redis-sentinel://. "
    "Default: none, the embedded store.",
    "SORTITION_ADMIN_TOKEN_FILE": "A file with a first admin token made by the operator. "
    "Default: one is made and shown once.",
    "SORTITION_RECORD_KEY_FILE": "A file with the key that the record's checkpoints are signed "
    "with, made by `flagserver record-key`. Default: nothing is signed.",
    "SORTITION_PREVIEW_KEY_FILE": "A file with the key that preview links are signed with, made by "
    "`flagserver record-key` too. Default: there are no preview links.",
    "SORTITION_ANCHORS_DIR": "Where signed checkpoints are kept. Default: anchors/ in the data "
    "directory.",
    "SORTITION_ANCHORS_S3": "A bucket with Object Lock for them instead: s3://bucket/prefix.",
    "SORTITION_ANCHORS_DAYS": "How long each is locked there, in days. Default 400.",
    "SORTITION_FLUSH_SECONDS": "How often SDKs report outcomes. Default 5.",
    "SORTITION_TICK_SECONDS": "How often a controller looks at rollouts. Default 5.",
    "SORTITION_CONTROLLER_PORT": "Where a controller answers /metrics itself. Default: nowhere.",
    "SORTITION_METRICS_PUBLIC": "1: /metrics needs no token. Default: an admin token.",
    "SORTITION_PUBLIC_URL": "Where people reach the server, for links. Default from host, port.",
    "SORTITION_TRUSTED_PROXIES": "Networks whose X-Forwarded-For is believed when tries to sign in "
    "are counted, with commas: 10.0.0.0/8. Default: none.",
    "SORTITION_RATE_SDK": "Requests a second of one SDK's token, of each process; 0: no limit. "
    "Default 4000.",
    "SORTITION_RATE_DEPLOY": "The same of one deploy token. Default 50.",
    "SORTITION_RATE_ADMIN": "The same of one admin token. Default 100.",
    "SORTITION_RATE_ADDRESS": "Requests a second without a good token from one address, of each "
    "process; 0: no limit. Default 20.",
    "SORTITION_OIDC_ISSUER": "An OpenID Connect provider that people sign in at, as tokens name "
    "it: https://login.example. Default: none.",
    "SORTITION_OIDC_CLIENT_ID": "What that provider knows this server by.",
    "SORTITION_OIDC_ROLES": "Who has which role, the first that fits: group=role or "
    "group=role@environment, with commas; * is anybody.",
    "SORTITION_OIDC_DOMAINS": "E-mail domains that are let in, with commas. Default: all; "
    "needed with *.",
    "SORTITION_OIDC_GROUPS_CLAIM": "Where tokens name groups. Default groups.",
    "SORTITION_ALB_SIGNER": "The ARN of the load balancer that signs people in before they get "
    "here. Default: none.",
    "SORTITION_ALB_CLIENT": "That load balancer's client id at the identity provider.",
    "SORTITION_ALB_ISSUER": "The identity provider, as the load balancer names it.",
    "SORTITION_ALB_ROLES": "Who has which role by it, as in SORTITION_OIDC_ROLES.",
    "SORTITION_OFREP_ORIGINS": "Origins of web pages that may ask by OFREP, with commas: "
    "https://shop.example. Default: none.",
    "SORTITION_EGRESS_HOSTS": "Hosts outside that may be called by https: host or host:port, with "
    "commas. Default those of Slack and PagerDuty.",
    "SORTITION_EGRESS_INTERNAL_HOSTS": "Hosts that may lie inside your network, and be called by "
    "http as well. Default none.",
    "SORTITION_WEBHOOK_URL": "Where every notice is posted, signed. Default: nowhere.",
    "SORTITION_PAGERDUTY_URL": "PagerDuty's Events API v2. Default that of its US region.",
    "SORTITION_SIGNALS_QUEUE_URL": "A queue of SQS with EventBridge's events. Default: none.",
    "SORTITION_PROMETHEUS_URL": "A Prometheus whose queries guards may watch. Default: none.",
}
"""What the server reads."""

SECRETS = {
    "SORTITION_WEBHOOK_SECRET": "What notices are signed with: whsec_<base64>, one on a line.",
    "SORTITION_SLACK_WEBHOOK": "The address of a Slack incoming webhook.",
    "SORTITION_PAGERDUTY_KEY": "The integration key of a PagerDuty service (Events API v2).",
    "SORTITION_OIDC_CLIENT_SECRET": "What this server shows to the OpenID Connect provider.",
    "SORTITION_PROMETHEUS_TOKEN": "A bearer token for the Prometheus.",
}
"""What the server reads and never tells, each also from the file that `<name>_FILE` names."""

SETTINGS |= SECRETS | {f"{name}_FILE": f"A file with {name}." for name in SECRETS}
SETTINGS |= {
    # It holds the store's password.
    "SORTITION_REDIS_URL_FILE": "A file with SORTITION_REDIS_URL.",
    # For where a secret is brought as a variable, and no file can be laid down.
    "SORTITION_ADMIN_TOKEN": "What the file of SORTITION_ADMIN_TOKEN_FILE holds.",
    "SORTITION_RECORD_KEY": "What the file of SORTITION_RECORD_KEY_FILE holds.",
    "SORTITION_PREVIEW_KEY": "What the file of SORTITION_PREVIEW_KEY_FILE holds.",
}

OTHERS = {
    "SORTITION_URL": "The server, for the SDK and the `sortition` command.",
    "SORTITION_KEY": "The SDK's token.",
    "SORTITION_TOKEN": "The `sortition` command's token.",
    "SORTITION_SNAPSHOT": "The SDK's snapshot file.",
    "SORTITION_OUTPUT": "`json`: the `sortition` command prints JSON.",
    "SORTITION_SKIP_ASSETS": "1: build without front-end assets.",
    "SORTITION_REQUIRE_ALL": "1: a skipped test is a failure.",
    "SORTITION_ALL": "1: run the whole test matrices.",
}
"""What other Sortition programs read; known, so that they may stand side by side."""


_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")


class SettingsError(ValueError):
    """A setting cannot be used; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Outward:
    """Whom this server may call, and where it tells and asks. None: not set up.

    hosts, internal_hosts: as `egress.read_places` takes them. Secrets are left out of `repr`.
    """

    hosts: str = "hooks.slack.com, events.pagerduty.com, events.eu.pagerduty.com"
    internal_hosts: str = ""
    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    slack_webhook: str | None = field(default=None, repr=False)
    pagerduty_url: str = "https://events.pagerduty.com/v2/enqueue"
    pagerduty_key: str | None = field(default=None, repr=False)
    signals_queue_url: str | None = None
    prometheus_url: str | None = None
    prometheus_token: str | None = field(default=None, repr=False)
    oidc_client_secret: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Outward:
        """Return them from an environment. Raises SettingsError, which tells no secret."""
        names = {each.name: f"SORTITION_{each.name.upper()}" for each in fields(cls)}
        names |= {"hosts": "SORTITION_EGRESS_HOSTS"}
        names |= {"internal_hosts": "SORTITION_EGRESS_INTERNAL_HOSTS"}
        told = {
            key: _secret(environ, name) if name in SECRETS else environ.get(name)
            for key, name in names.items()
        }
        return cls(**{key: value for key, value in told.items() if value})


@dataclass(frozen=True, slots=True)
class Oidc:
    """The OpenID Connect provider that people sign in at; its secret is `Outward`'s. roles: the
    first that fits. Empty: not set."""

    issuer: str = ""
    client_id: str = ""
    roles: tuple[GroupRole, ...] = ()
    domains: tuple[str, ...] = ()
    groups_claim: str = ""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Oidc:
        """Return it from an environment. Raises SettingsError."""
        domains = environ.get("SORTITION_OIDC_DOMAINS") or ""
        found = tuple(domains.lower().replace(",", " ").split())
        return cls(
            issuer=environ.get("SORTITION_OIDC_ISSUER") or "",
            client_id=environ.get("SORTITION_OIDC_CLIENT_ID") or "",
            roles=_group_roles(environ, found),
            domains=found,
            groups_claim=environ.get("SORTITION_OIDC_GROUPS_CLAIM") or "",
        )


@dataclass(frozen=True, slots=True)
class Alb:
    """The load balancer that signs people in before they get here. Empty: not set."""

    signer: str = ""
    client: str = ""
    issuer: str = ""
    roles: tuple[GroupRole, ...] = ()

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Alb:
        """Return it from an environment. Raises SettingsError."""
        names = ("signer", "client", "issuer")
        told = {name: environ.get(f"SORTITION_ALB_{name.upper()}") or "" for name in names}
        return cls(**told, roles=_roles(environ, "SORTITION_ALB_ROLES"))


def _roles(environ: Mapping[str, str], name: str) -> tuple[GroupRole, ...]:
    text = environ.get(name) or ""
    try:
        found = read_group_roles(text)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}.") from None
    if text and not found:
        raise SettingsError(f"{name} names no role.")
    return found


def _group_roles(environ: Mapping[str, str], domains: tuple[str, ...]) -> tuple[GroupRole, ...]:
    found = _roles(environ, "SORTITION_OIDC_ROLES")
    # A public provider lets in the whole world.
    if not domains and any(each.group == ANYBODY for each in found):
        raise SettingsError("SORTITION_OIDC_ROLES has *, so SORTITION_OIDC_DOMAINS is needed.")
    return found


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process was told to run. redis_url None: the embedded store. controller_port None:
    a controller shows its measures through the web process beside it only."""

    host: str = "127.0.0.1"
    port: int = 8400
    data_dir: Path = Path("sortition-data")
    redis_url: str | None = field(default=None, repr=False)
    admin_token_file: Path | None = None
    admin_token: str | None = field(default=None, repr=False)
    flush_seconds: float = 5.0
    tick_seconds: float = 5.0
    controller_port: int | None = None
    public_url: str | None = None
    ofrep_origins: tuple[str, ...] = ()
    metrics_public: bool = False
    outward: Outward = Outward()
    oidc: Oidc = Oidc()
    alb: Alb = Alb()
    record_key_file: Path | None = None
    record_key: str | None = field(default=None, repr=False)
    preview_key_file: Path | None = None
    preview_key: str | None = field(default=None, repr=False)
    anchors_dir: Path | None = None
    anchors_s3: str | None = None
    anchors_days: int = 400
    trusted_proxies: tuple[Network, ...] = ()
    rates: Rates = field(default_factory=Rates)

    @property
    def anchors(self) -> Path:
        """Where signed checkpoints are kept, unless they are in S3."""
        return self.anchors_dir or self.data_dir / "anchors"

    @property
    def url(self) -> str:
        """Where people reach the server."""
        return self.public_url or f"http://{self.host}:{self.port}"

    def with_redis_url(self, url: str) -> Settings:
        """Return the same settings over that store."""
        return replace(self, redis_url=url)

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Return the settings of an environment. Raises SettingsError."""
        check_names(environ)
        return cls(
            host=environ.get("SORTITION_HOST") or "127.0.0.1",
            port=_number(environ, "SORTITION_PORT", 8400, 1, 65535),
            data_dir=Path(environ.get("SORTITION_DATA_DIR") or "sortition-data").absolute(),
            redis_url=_secret(environ, "SORTITION_REDIS_URL") or None,
            admin_token_file=_path(environ, "SORTITION_ADMIN_TOKEN_FILE"),
            admin_token=_key(environ, "SORTITION_ADMIN_TOKEN"),
            flush_seconds=_seconds(environ, "SORTITION_FLUSH_SECONDS", 5.0),
            # A lease is asked for anew at each tick and lives 15 s: a longer tick would lose it.
            tick_seconds=_seconds(environ, "SORTITION_TICK_SECONDS", 5.0, 0.25, 10),
            controller_port=_number(environ, "SORTITION_CONTROLLER_PORT", 0, 1, 65535)
            if environ.get("SORTITION_CONTROLLER_PORT")
            else None,
            metrics_public=_yes(environ, "SORTITION_METRICS_PUBLIC"),
            public_url=(environ.get("SORTITION_PUBLIC_URL") or "").rstrip("/") or None,
            ofrep_origins=_origins(environ, "SORTITION_OFREP_ORIGINS"),
            outward=Outward.read(environ),
            oidc=Oidc.read(environ),
            alb=Alb.read(environ),
            record_key_file=_path(environ, "SORTITION_RECORD_KEY_FILE"),
            record_key=_key(environ, "SORTITION_RECORD_KEY"),
            preview_key_file=_path(environ, "SORTITION_PREVIEW_KEY_FILE"),
            preview_key=_key(environ, "SORTITION_PREVIEW_KEY"),
            anchors_dir=_path(environ, "SORTITION_ANCHORS_DIR"),
            anchors_s3=_anchors_s3(environ),
            anchors_days=_number(environ, "SORTITION_ANCHORS_DAYS", 400, 1, 36500),
            trusted_proxies=_networks(environ, "SORTITION_TRUSTED_PROXIES"),
            rates=_rates(environ),
        )


def check_names(environ: Mapping[str, str]) -> None:
    """Raise SettingsError for a `SORTITION_` name that no Sortition program knows."""
    known = SETTINGS | OTHERS
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        names = "\n  ".join(sorted(known))
        raise SettingsError(f"Unknown setting {', '.join(unknown)}. Known are:\n  {names}")


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]).absolute() if environ.get(name) else None


def _anchors_s3(environ: Mapping[str, str]) -> str | None:
    place = environ.get("SORTITION_ANCHORS_S3") or None
    if place is not None and environ.get("SORTITION_ANCHORS_DIR"):
        raise SettingsError(
            "SORTITION_ANCHORS_S3 and SORTITION_ANCHORS_DIR are both set; one of them is enough."
        )
    return place


def _key(environ: Mapping[str, str], name: str) -> str | None:
    """Return a key from the environment, or None. Its file is read by whoever needs it."""
    _check_one(environ, name)
    return environ.get(name) or None


def _check_one(environ: Mapping[str, str], name: str) -> None:
    if environ.get(name) and environ.get(f"{name}_FILE"):
        raise SettingsError(f"{name} and {name}_FILE are both set; one of them is enough.")


def _secret(environ: Mapping[str, str], name: str) -> str | None:
    """Return a secret from the environment or from the file that it names, or None."""
    path = environ.get(f"{name}_FILE")
    if not path:
        return environ.get(name)
    _check_one(environ, name)
    try:
        text = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"{name}_FILE: {path} cannot be read: {why}.") from None
    if not text:
        raise SettingsError(f"{name}_FILE: {path} is empty.")
    return text


def _rates(environ: Mapping[str, str]) -> Rates:
    usual = asdict(Rates())
    return Rates(
        **{
            name: _number(environ, f"SORTITION_RATE_{name.upper()}", int(default), 0, 10**6)
            for name, default in usual.items()
        }
    )


def _networks(environ: Mapping[str, str], name: str) -> tuple[Network, ...]:
    try:
        return networks(environ.get(name) or "")
    except ValueError as error:
        raise SettingsError(f"{name}: {error}.") from None


def _yes(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name) or "0"
    if text not in ("0", "1"):
        raise SettingsError(f"{name} must be 1 or 0, not {text!r}.")
    return text == "1"


def _number(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise SettingsError(f"{name} must be a whole number from {low} to {high}, not {text!r}.")
    return int(text)


def _seconds(
    environ: Mapping[str, str],
    name: str,
    default: float,
    low: float = 0.05,
    high: float = 3600,
) -> float:
    text = environ.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not low <= seconds <= high:
        raise SettingsError(f"{name} must be seconds from {low} to {high}, not {text!r}.")
    return seconds


def _origins(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    found = tuple(environ.get(name, "").replace(",", " ").split())
    for origin in found:
        # As a browser sends it: no path, no capitals, and no `*`, which would be everybody.
        if not _ORIGIN.fullmatch(origin):
            raise SettingsError(
                f"{name} must name origins as https://shop.example, not {origin!r}."
            )
    return found
