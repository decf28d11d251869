"""What the store's stories are told with: changes of flags, and looking at everything there is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sortition.record.entry import GENESIS

from flagserver.domain import documents
from flagserver.domain.documents import Change, Committed, Fact, Idempotency, Write
from flagserver.domain.stores import StoreState
from flagserver.ports import Store, StoreIdentity

AT = datetime(2026, 11, 23, 8, 15, 30, 123000, tzinfo=UTC)
STORE = "5eed5eed5eed5eed"

_salts = count(1)


def set_share(
    share: int,
    *,
    revision: int,
    flag: str = "new-search",
    environment: str = "production",
    before: Any = None,
    **more: Any,
) -> Change:
    """Return a change of a flag's share in an environment, made for a revision of its state."""
    body = {"share": share}
    fact = Fact(
        actor="token:ab12cd",
        role="admin",
        action="flag:share:change",
        target=f"flag/{flag}",
        environment=environment,
        before=before,
        after=body,
    )
    return Change(
        writes=(Write(documents.states(environment), flag, revision, body),),
        fact=fact,
        environments=(environment,),
        flags=(flag,),
        **more,
    )


def write(collection: str, key: str, revision: int, body: Mapping[str, Any]) -> Change:
    """Return a change of one document that is in no environment."""
    fact = Fact("token:ab12cd", "admin", "thing:change", f"{collection}/{key}", after=dict(body))
    return Change(writes=(Write(collection, key, revision, body),), fact=fact)


def once(key: str, fingerprint: str = "PATCH 25 %") -> Idempotency:
    """Return a caller's idempotency key."""
    return Idempotency(f"token:ab12cd/{key}", fingerprint)


def commit(store: Store, change: Change) -> Committed:
    """Commit at a fixed time, with a salt that no other change has."""
    return store.commit(change, at=AT, salt=f"{next(_salts):032x}")


def accept(
    store: Store, successor: str, epoch: int = 2, found: StoreState | None = None
) -> Committed:
    """Give a store that was found another identity, with an entry that says so."""
    fact = Fact("operator", "operator", "store:accept", f"store/{successor}")
    return store.accept(
        Change(writes=(), fact=fact),
        found or StoreState(STORE, 1, 0, GENESIS.hex()),
        StoreIdentity(successor, epoch),
        at=AT,
        salt=f"{next(_salts):032x}",
    )


def everything(store: Store) -> dict[str, Any]:
    """Return all that is authoritative in the collections that the stories use."""
    collections = [documents.FLAGS, documents.ENVIRONMENTS, documents.TOKENS]
    collections += [documents.states(name) for name in ("production", "staging")]
    return {
        "identity": store.identity(),
        "versions": dict(store.versions()),
        "documents": {name: store.read_all(name) for name in collections},
        "record": store.record(),
        "events": store.events("0-0", 0),
    }
