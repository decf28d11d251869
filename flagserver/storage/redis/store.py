"""The one driver of `ports.Store`. Every call ends in time; what fails becomes a refusal."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from sortition.record.entry import GENESIS, Entry, Link, link

from flagserver.domain import documents as domain
from flagserver.domain.documents import Change, Committed, Document, EnvironmentContent, Event
from flagserver.domain.errors import (
    AlreadyExists,
    ClaimTaken,
    Conflict,
    IdempotencyMismatch,
    Moved,
    NotFound,
    StaleRevision,
    StoreUnavailable,
)
from flagserver.domain.outcomes import Row, Totals
from flagserver.domain.times import rfc3339
from flagserver.ports import Lease, StoreIdentity

from . import keys

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 1.0
CONNECTIONS = 300
"""At most; one for each thread of a web process, and a few."""

HEAD_ATTEMPTS = 20
"""How often an entry is hashed anew because somebody else appended first."""

FEED_LENGTH = 10_000
IDEMPOTENCY_SECONDS = 24 * 60 * 60
OUTCOMES_SECONDS = 2 * 60 * 60
HISTORY_SCAN = 20_000
"""Entries that one look into the history reads at most."""

MICROSECONDS = 1_000_000

SCHEMES = ("redis", "rediss", "unix", "redis-cluster", "rediss-cluster")

Client = Any
"""`redis.Redis` or `RedisCluster`: their types have no common base that has commands."""


class RedisStore:
    """A store at a URL. Threads may share it; a forked process makes its own."""

    def __init__(
        self,
        url: str,
        *,
        client: Client | None = None,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is asked yet. Raises ValueError for a scheme that is not known."""
        self._client: Client = connect(url) if client is None else client
        self._chance = chance
        self._sleep = sleep
        self._scripts = {
            name: self._client.register_script(_lua(name))
            for name in ("initialise", "read_environment", "commit", "add_outcomes", "acquire", "release")
        }
        self._known: StoreIdentity | None = None

    # Documents

    def initialise(self, store: str) -> StoreIdentity:
        """See `ports.Documents`."""
        with _refusals():
            found = self._scripts["initialise"](keys=[keys.META], args=[store, GENESIS.hex()])
        self._known = StoreIdentity(found[0], int(found[1]))
        return self._known

    def identity(self) -> StoreIdentity | None:
        """See `ports.Documents`."""
        with _refusals():
            store, epoch = self._client.hmget(keys.META, ["store", "epoch"])
        return None if store is None else StoreIdentity(store, int(epoch))

    def read(self, collection: str, key: str) -> Document | None:
        """See `ports.Documents`."""
        with _refusals():
            found = self._client.hget(keys.collection(collection), key)
        return None if found is None else _document(collection, key, found)

    def read_all(self, collection: str) -> dict[str, Document]:
        """See `ports.Documents`."""
        with _refusals():
            found = self._client.hgetall(keys.collection(collection))
        return {key: _document(collection, key, value) for key, value in found.items()}

    def read_environment(
        self, environment: str, flags: Sequence[str] | None = None
    ) -> EnvironmentContent:
        """See `ports.Documents`."""
        states = domain.states(environment)
        if flags is not None and not flags:
            flags = [""]  # no flag has this key: read the version alone
        with _refusals():
            store, epoch, version, flag_pairs, state_pairs = self._scripts["read_environment"](
                keys=[
                    keys.META,
                    keys.VERSIONS,
                    keys.collection(domain.FLAGS),
                    keys.collection(states),
                ],
                args=[environment, *(flags or ())],
            )
        if store is None:
            raise Conflict("The store is empty: it was flushed, or is another one.")
        return EnvironmentContent(
            environment=environment,
            store=store,
            epoch=int(epoch),
            version=int(version),
            flags=_pairs(domain.FLAGS, flag_pairs),
            states=_pairs(states, state_pairs),
        )

    def versions(self) -> Mapping[str, int]:
        """See `ports.Documents`."""
        with _refusals():
            found = self._client.hgetall(keys.VERSIONS)
        return {key: int(value) for key, value in found.items()}

    def commit(self, change: Change, *, at: datetime, salt: str) -> Committed:
        """See `ports.Documents`."""
        for _ in range(HEAD_ATTEMPTS):
            answer = self._try(change, at, salt)
            kind = answer[0]
            if kind == "ok":
                pairs = answer[2]
                versions = {pairs[i]: int(pairs[i + 1]) for i in range(0, len(pairs), 2)}
                return Committed(int(answer[1]), versions)
            if kind == "repeated":
                return Committed(int(answer[1]), {}, repeated=True)
            if kind != "head":
                raise _refusal(kind, answer[1:], change)
            self._sleep(0.02 * self._chance())
        raise StoreUnavailable("Too many changes at once. Nothing was changed; try again.")

    def _try(self, change: Change, at: datetime, salt: str) -> list[Any]:
        with _refusals():
            store, epoch, seq, head = self._client.hmget(
                keys.META, ["store", "epoch", "seq", "head"]
            )
        if not store:
            raise Conflict("The store is empty: it was flushed, or is another one.")
        known = self._known or StoreIdentity(store, int(epoch))
        linked = link(_entry(change, at, salt, int(seq) + 1, known.epoch), bytes.fromhex(head))
        names = list(dict.fromkeys(write.collection for write in change.writes))
        plan = _plan(change, known, linked, head, names)
        idempotency = change.idempotency.key if change.idempotency else ""
        with _refusals():
            answer: list[Any] = self._scripts["commit"](
                keys=[
                    *(keys.META, keys.VERSIONS, keys.CLAIMS, keys.RECORD, keys.FEED),
                    keys.idempotency(idempotency),
                    *map(keys.collection, names),
                ],
                args=[json.dumps(plan)],
            )
        return answer

    def record(self, *, after: int = 0, limit: int = 1000) -> list[Link]:
        """See `ports.Documents`."""
        with _refusals():
            found = self._client.xrange(keys.RECORD, min=f"({after}-0", count=limit)
        return [_link(id, fields) for id, fields in found]

    def history(
        self, *, target: str | None, environment: str | None, before: int | None, limit: int
    ) -> list[Mapping[str, Any]]:
        """See `ports.Documents`."""
        entries: list[Mapping[str, Any]] = []
        newest = "+" if before is None else f"({before}-0"
        scanned = 0
        while len(entries) < limit and scanned < HISTORY_SCAN:
            with _refusals():
                found = self._client.xrevrange(keys.RECORD, max=newest, count=500)
            if not found:
                break
            scanned += len(found)
            newest = f"({found[-1][0]}"
            entries += [e for e in map(_decoded, found) if _concerns(e, target, environment)]
        return entries[:limit]

    def events(self, after: str, wait_seconds: float) -> list[Event]:
        """See `ports.Documents`."""
        block = max(1, round(wait_seconds * 1000))
        with _refusals():
            found = self._client.xread({keys.FEED: after}, count=1000, block=block)
        if not found:
            return []
        return [_event(id, fields) for _, entries in found for id, fields in entries]

    def feed_end(self) -> str:
        """See `ports.Documents`."""
        with _refusals():
            found = self._client.xrevrange(keys.FEED, count=1)
        return found[0][0] if found else "0-0"

    def ping(self) -> None:
        """See `ports.Documents`."""
        with _refusals():
            self._client.ping()

    # Outcomes

    def add(
        self,
        environment: str,
        source: str,
        seq: int,
        rows: Iterable[Row],
        about: Mapping[str, Any],
    ) -> bool:
        """See `ports.Outcomes`."""
        by_subject: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_subject[row.subject].append(row)
        added = False
        with _refusals():
            for subject, some in by_subject.items():
                added |= self._add_about(environment, subject, source, seq, some)
            names = keys.sources(environment)
            self._client.hset(names, source, json.dumps(dict(about)))
            self._client.expire(names, OUTCOMES_SECONDS)
        return added

    def _add_about(
        self, environment: str, subject: str, source: str, seq: int, rows: list[Row]
    ) -> bool:
        minutes = sorted({row.at // 60 for row in rows})
        arguments: list[str | int] = []
        for row in rows:
            number = 1 + minutes.index(row.at // 60)
            for what, count in _counts(row):
                if count:
                    arguments += [number, f"{row.at}|{row.variant}|{what}", count]
        done = self._scripts["add_outcomes"](
            keys=[
                keys.seen(environment, subject),
                *(keys.ticks(environment, subject, minute) for minute in minutes),
            ],
            args=[source, seq, OUTCOMES_SECONDS, *arguments],
        )
        return bool(done)

    def totals(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[str, Totals]:
        """See `ports.Outcomes`."""
        found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for _, variant, what, count in self._read_ticks(environment, subject, since, until):
            found[variant][what] += count
        return {variant: _totals(counts) for variant, counts in sorted(found.items())}

    def series(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[int, Mapping[str, Totals]]:
        """See `ports.Outcomes`."""
        found: dict[int, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
        for at, variant, what, count in self._read_ticks(environment, subject, since, until):
            found[at][variant][what] = count
        return {
            at: {variant: _totals(counts) for variant, counts in sorted(variants.items())}
            for at, variants in sorted(found.items())
        }

    def _read_ticks(
        self, environment: str, subject: str, since: int, until: int
    ) -> Iterator[tuple[int, str, str, int]]:
        for minute in range(since // 60, until // 60 + 1):
            with _refusals():
                fields = self._client.hgetall(keys.ticks(environment, subject, minute))
            for field, count in fields.items():
                at, variant, what = field.split("|", 2)
                if since < int(at) <= until:
                    yield int(at), variant, what, int(count)

    def sources(self, environment: str) -> list[Mapping[str, Any]]:
        """See `ports.Outcomes`."""
        with _refusals():
            found = self._client.hvals(keys.sources(environment))
        return sorted(map(json.loads, found), key=lambda about: -int(about["seen"]))

    # Sessions

    def put(self, kind: str, digest: str, body: Mapping[str, Any], *, ttl_seconds: int) -> None:
        """See `ports.Sessions`."""
        with _refusals():
            self._client.set(keys.secret(kind, digest), json.dumps(dict(body)), ex=ttl_seconds)

    def get(self, kind: str, digest: str) -> Mapping[str, Any] | None:
        """See `ports.Sessions`."""
        with _refusals():
            found = self._client.get(keys.secret(kind, digest))
        return None if found is None else dict(json.loads(found))

    def take(self, kind: str, digest: str) -> Mapping[str, Any] | None:
        """See `ports.Sessions`."""
        with _refusals():
            found = self._client.getdel(keys.secret(kind, digest))
        return None if found is None else dict(json.loads(found))

    def drop(self, kind: str, digest: str) -> None:
        """See `ports.Sessions`."""
        with _refusals():
            self._client.delete(keys.secret(kind, digest))

    # Leases

    def acquire(self, name: str, holder: str, *, ttl_seconds: float) -> Lease | None:
        """See `ports.Leases`."""
        with _refusals():
            token = self._scripts["acquire"](
                keys=[keys.lease(name), keys.META], args=[name, holder, round(ttl_seconds * 1000)]
            )
        return None if int(token) == 0 else Lease(name, holder, int(token))

    def release(self, lease: Lease) -> None:
        """See `ports.Leases`."""
        with _refusals():
            self._scripts["release"](
                keys=[keys.lease(lease.name)], args=[f"{lease.holder}|{lease.token}"]
            )


# --- the connection -------------------------------------------------------------------------------


def connect(url: str) -> Client:
    """Return a client for a URL. Nothing is retried: who calls decides."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise ValueError(f"SORTITION_REDIS_URL begins with {scheme}://; known are {known}.")
    options: dict[str, Any] = {
        "decode_responses": True,
        "protocol": 2,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "health_check_interval": 30,
        "max_connections": CONNECTIONS,
        "retry": Retry(NoBackoff(), 0),
    }
    if scheme.endswith("-cluster"):
        return RedisCluster.from_url(url.replace("-cluster://", "://", 1), **options)
    return redis.Redis.from_url(url, **options)


def _lua(name: str) -> str:
    return (resources.files(__package__) / "lua" / f"{name}.lua").read_text()


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the driver raises into StoreUnavailable with words that help."""
    try:
        yield
    except redis.RedisError as error:
        raise StoreUnavailable(_why(error)) from error


WORDS: tuple[tuple[type[redis.RedisError], str, str], ...] = (
    (redis.AuthenticationError, "", "The store refuses our password or user."),
    (redis.BusyLoadingError, "", "The store is reading its data back; it will answer soon."),
    (redis.ReadOnlyError, "", "The store is a replica and takes no changes: a failover?"),
    (redis.OutOfMemoryError, "", "The store is full and refuses changes. Nothing was changed."),
    (redis.ResponseError, "OOM", "The store is full and refuses changes. Nothing was changed."),
    (redis.ResponseError, "NOREPLICAS", "The store has too few replicas and refuses changes."),
    (redis.ResponseError, "MASTERDOWN", "The store has lost its master: a failover?"),
    (redis.ResponseError, "READONLY", "The store is a replica and takes no changes: a failover?"),
    (redis.TimeoutError, "", "The store did not answer in time. It is not known what it did."),
    (redis.ConnectionError, "", "The store is not answering. Changes are off; flags keep their values."),
)
"""Error -> what its message begins with -> what to tell. The first that fits holds."""


def _why(error: redis.RedisError) -> str:
    for kind, start, words in WORDS:
        if isinstance(error, kind) and (str(error).startswith(start) or f"{start} " in str(error)):
            return words
    return f"The store refused: {type(error).__name__}."


# --- forms ----------------------------------------------------------------------------------------


def _document(collection: str, key: str, kept: str) -> Document:
    revision, _, body = kept.partition("|")
    return Document(collection, key, int(revision), json.loads(body))


def _pairs(collection: str, flat: list[str]) -> dict[str, Document]:
    return {
        flat[i]: _document(collection, flat[i], flat[i + 1]) for i in range(0, len(flat), 2)
    }


def _entry(change: Change, at: datetime, salt: str, seq: int, epoch: int) -> Entry:
    fact = change.fact
    return Entry(
        seq=seq,
        epoch=epoch,
        ts=rfc3339(at),
        actor=fact.actor,
        role=fact.role,
        action=fact.action,
        target=fact.target,
        environment=fact.environment,
        before=fact.before,
        after=fact.after,
        reason=fact.reason,
        salt=salt,
    )


def _plan(
    change: Change, known: StoreIdentity, linked: Link, head: str, names: list[str]
) -> dict[str, Any]:
    """Return what commit.lua is told; writes name their collection by number, from 1."""
    return {
        "store": known.store,
        "epoch": known.epoch,
        "seq": linked.seq,
        "head": head,
        "entry": linked.canonical.decode(),
        "leaf": linked.leaf.hex(),
        "chain": linked.chain.hex(),
        "writes": [
            {
                "collection": 1 + names.index(write.collection),
                "key": write.key,
                "expected": write.expected,
                "body": json.dumps(dict(write.body), ensure_ascii=False, separators=(",", ":")),
            }
            for write in change.writes
        ],
        "claims": dict(change.claims),
        "at_versions": dict(change.at_versions),
        "environments": list(change.environments),
        "flags": " ".join(change.flags),
        "documents": " ".join(f"{write.collection}:{write.key}" for write in change.writes),
        "fingerprint": change.idempotency.fingerprint if change.idempotency else "",
        "keep_seconds": IDEMPOTENCY_SECONDS,
        "feed_length": FEED_LENGTH,
    }


def _refusal(kind: str, rest: list[Any], change: Change) -> Exception:
    """Return what commit.lua's answer means."""
    if kind == "idempotency":
        return IdempotencyMismatch("This idempotency key was used for another request.")
    if kind == "store":
        return Conflict("The store is not the one this process began with. Nothing was changed.")
    if kind == "moved":
        return Moved(f"{rest[0]} changed meanwhile.")
    if kind == "claimed":
        return ClaimTaken(f"{rest[0]} belongs to somebody else.")
    names = list(dict.fromkeys(write.collection for write in change.writes))
    thing, key, revision = names[int(rest[0]) - 1], rest[1], int(rest[2])
    if kind == "exists" and not thing.startswith("states/"):
        return AlreadyExists(f"{key!r} exists already among the {thing}.")
    if revision == 0 and not thing.startswith("states/"):
        return NotFound(f"There is no {key!r} among the {thing}.")
    return StaleRevision(
        f"{key} is at revision {revision} now. Look at it again, then change it.",
        revision=revision,
    )


def _link(id: str, fields: Mapping[str, str]) -> Link:
    return Link(
        seq=int(id.partition("-")[0]),
        canonical=fields["entry"].encode(),
        leaf=bytes.fromhex(fields["leaf"]),
        chain=bytes.fromhex(fields["chain"]),
    )


def _decoded(found: tuple[str, Mapping[str, str]]) -> Mapping[str, Any]:
    return dict(json.loads(found[1]["entry"]))


def _concerns(entry: Mapping[str, Any], target: str | None, environment: str | None) -> bool:
    return (target is None or entry["target"] == target) and (
        environment is None or entry["environment"] in (None, environment)
    )


def _event(id: str, fields: Mapping[str, str]) -> Event:
    return Event(
        id=id,
        seq=int(fields["seq"]),
        versions=dict(map(_moved, fields["versions"].split())),
        flags=tuple(fields["flags"].split()),
        documents=tuple(map(_named, fields["documents"].split())),
    )


def _moved(text: str) -> tuple[str, tuple[int, int]]:
    environment, _, versions = text.rpartition("=")
    start, _, end = versions.partition(">")
    return environment, (int(start), int(end))


def _named(text: str) -> tuple[str, str]:
    collection, _, key = text.partition(":")
    return collection, key


def _counts(row: Row) -> Iterator[tuple[str, int]]:
    yield "a", row.assignments
    yield "r", row.requests
    yield "f", row.failures
    yield "s", round(row.latency_sum * MICROSECONDS)
    for bucket, count in row.latency.items():
        yield f"l{bucket}", count
    for name, (total, failed) in row.metrics.items():
        yield f"t{name}", total
        yield f"x{name}", failed


def _totals(counts: Mapping[str, int]) -> Totals:
    return Totals(
        assignments=counts.get("a", 0),
        requests=counts.get("r", 0),
        failures=counts.get("f", 0),
        latency={int(what[1:]): n for what, n in counts.items() if what.startswith("l")},
        latency_sum=counts.get("s", 0) / MICROSECONDS,
        metrics={
            what[1:]: (total, counts.get(f"x{what[1:]}", 0))
            for what, total in counts.items()
            if what.startswith("t")
        },
    )
