"""The composition root: settings become services. Read it top to bottom."""

from __future__ import annotations

from functools import partial

from flagserver.domain.commands import NewToken
from flagserver.domain.documents import Idempotency, Principal
from flagserver.domain.outcomes import histogram_edges
from flagserver.ports import Clock, Entropy, Store
from flagserver.services import Services
from flagserver.services.environments import Environments
from flagserver.services.flags import Flags
from flagserver.services.health import health
from flagserver.services.outcomes import Outcomes
from flagserver.services.record import Record
from flagserver.services.sessions import Sessions
from flagserver.services.snapshots import Snapshots
from flagserver.services.tokens import Tokens
from flagserver.settings import Settings, SettingsError
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemClock, SystemEntropy

INSTALLATION = Principal("installation", "admin", "admin")
"""Who makes the first things of an installation, before there is anybody."""


def open_store(settings: Settings) -> Store:
    """Return the driver for the store that the settings name."""
    if settings.redis_url is None:
        raise SettingsError("SORTITION_REDIS_URL is not set; only `flagserver run` embeds a store.")
    return RedisStore(settings.redis_url)


def build_services(
    settings: Settings,
    store: Store,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
) -> Services:
    """Return the services over a store. Nothing is read or started yet."""
    clock = clock or SystemClock()
    entropy = entropy or SystemEntropy()
    snapshots = Snapshots(
        store, clock, flush_seconds=settings.flush_seconds, edges=histogram_edges()
    )
    return Services(
        flags=Flags(store, clock, entropy),
        environments=Environments(store, clock, entropy),
        tokens=Tokens(store, snapshots, clock, entropy),
        snapshots=snapshots,
        outcomes=Outcomes(store, snapshots, clock),
        sessions=Sessions(store, store, clock, entropy),
        record=Record(store),
        health=partial(health, snapshots, store),
    )


def prepare(settings: Settings, store: Store, services: Services, entropy: Entropy) -> str | None:
    """Make a new installation's first things, once. Returns a new admin token to be shown, if any.

    Safe to call at every start and by several processes at once.
    """
    store.initialise(entropy.hex(8))
    services.environments.create_first(INSTALLATION)
    command = NewToken(scope="admin", description="First admin token")
    if settings.admin_token_file is not None:
        text = settings.admin_token_file.read_text().strip()
        services.tokens.adopt(text, command, INSTALLATION)
        return None
    if any(token.scope == "admin" for token in services.tokens.all()):
        return None
    once = Idempotency("installation:first-admin-token", "1")
    return services.tokens.create(command, INSTALLATION, once).text
