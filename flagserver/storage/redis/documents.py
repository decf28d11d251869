"""What is authoritative: documents, versions, the record and the feed, in one slot."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, islice
from typing import Any, TypeVar

from redis.exceptions import ResponseError
from sortition.record.entry import GENESIS, Entry, Link, link

from flagserver.domain.documents import (
    FLAGS,
    REVOKED_PREVIEWS,
    Change,
    Committed,
    Document,
    EnvironmentContent,
    Event,
    Idempotency,
    Write,
    states,
)
from flagserver.domain.errors import (
    AlreadyExists,
    ClaimTaken,
    Conflict,
    IdempotencyMismatch,
    Moved,
    Refusal,
    StaleRevision,
    StoreUnavailable,
)
from flagserver.domain.stores import Conditions, StoreState
from flagserver.domain.times import rfc3339
from flagserver.ports import StoreIdentity

from . import keys
from .scripts import script
from .server import ANSWER_SECONDS, Call, Server

ATTEMPTS = 20
"""How often an entry is hashed anew because another process was quicker."""

PAUSE_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 0.1

TURN_SECONDS = 2.0
"""How long a change waits for the other changes of its own process."""

COMMIT_SECONDS = 5.0
"""How long a change makes attempts, once it has its turn."""

ONCE_SECONDS = 24 * 60 * 60
"""How long the answer to an idempotency key is kept."""

FEED_LENGTH = 10_000
"""About how many events the feed keeps; whoever fell further behind reads everything anew."""

OUTBOX_LENGTH = 10_000
"""About how many notices the outbox keeps, delivered or not."""

EVENTS = 500
"""How many events are read at once."""

SLICE_SECONDS = ANSWER_SECONDS / 2
"""How long one look at the feed blocks, so that its answer comes well within the time-out."""

ENTRIES = 100
"""How many entries of the record are read at once: with large bodies they are megabytes."""

HISTORY_SCAN = 20_000
"""How far back `history` looks, in entries, before it gives what it found."""

SOME = 10
"""How many of a target's entries are read at once, at least."""

INDEXED = 200
"""Entries that are put into the index at once: a few milliseconds of the store's time."""

T = TypeVar("T")

POSITION = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(frozen=True, slots=True)
class Head:
    """Where the record ends. chain: 32 bytes, hex as it is stored."""

    seq: int
    chain: str


def full_jitter(attempt: int) -> None:
    """Sleep for a random part of a time that doubles with each attempt."""
    longest = min(PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE_SECONDS)
    time.sleep(random.uniform(0, longest))  # noqa: S311 - nobody gains by guessing it


class RedisDocuments:
    """`ports.Documents`. One process's changes take turns, so they collide with others' only."""

    def __init__(self, server: Server, pause: Callable[[int], None] = full_jitter) -> None:
        """pause: waits before an attempt; its argument counts from 1. The first and the second
        attempt follow at once."""
        self._server = server
        self._pause = pause
        self._began: StoreIdentity | None = None
        self._head: Head | None = None
        self._seen = (0, 0)
        """The furthest (epoch, entry) of the record that this process has met."""
        self._distrusted: str | None = None
        self._turns = threading.Lock()
        self._pid = os.getpid()

    # Which store

    def initialise(self, store: str) -> StoreIdentity:
        """Return the store's identity, giving an empty store this one."""
        call = Call(script("initialise"), [keys.META], [store, GENESIS.hex()])
        return self._begin(self._server.run(call))

    def identity(self) -> StoreIdentity | None:
        """Return the store's identity, or None when it is empty."""
        found = self._meta()
        if found[0] is None:
            return None
        identity = _identity(found)
        if self._began is None:
            self._began = identity
        return identity

    def state(self) -> StoreState | None:
        """Return which store this is and how far its record goes, or None when it is empty."""
        fields = ("store", "epoch", "seq", "head", "was")
        found = self._server.read("HMGET", keys.META, *fields)
        if found[0] is None:
            return None
        store, epoch, seq, chain = (part.decode() for part in found[:4])
        was = None if found[4] is None else found[4].decode()
        return StoreState(store, int(epoch), int(seq), chain, was)

    def conditions(self) -> Conditions:
        """Return how the store is run; nothing, where it may not be asked."""
        told: dict[str, Any] = {}
        try:
            for section in ("memory", "persistence", "replication", "server"):
                told |= self._server.read("INFO", section, key=keys.META)
        except StoreUnavailable as error:
            # It answered, and would not say: an ACL, or a store that does not know the question.
            if isinstance(error.__cause__, ResponseError):
                return Conditions()
            raise
        return _conditions(told, time.time())

    def interruptions(self) -> int:
        """Return how often this process lost the store's answer."""
        return self._server.interruptions

    def distrust(self, why: str | None) -> None:
        """Refuse every commit of this process, for this reason; None: no more."""
        if why is None and self._distrusted is not None:
            # What was met meanwhile may have been another store's, and this one in another epoch.
            self._seen, self._head, self._began = (0, 0), None, None
        self._distrusted = why

    def ping(self) -> None:
        """Return when the node that has our keys answers."""
        self._server.read("EXISTS", keys.META)

    # Reading

    def read(self, collection: str, key: str) -> Document | None:
        """Return one document."""
        value = self._server.read("HGET", keys.documents(collection), key)
        return None if value is None else _document(collection, key, value)

    def read_all(self, collection: str) -> dict[str, Document]:
        """Return a collection's documents by key."""
        return _documents(collection, self._server.read("HGETALL", keys.documents(collection)))

    def keys(self, collection: str) -> list[str]:
        """Return the keys of a collection's documents, in no order."""
        found = self._server.read("HKEYS", keys.documents(collection))
        return [key.decode() for key in found]

    def read_some(self, collection: str, names: Sequence[str]) -> dict[str, Document]:
        """Return those of a collection's documents that are there, by key."""
        if not names:
            return {}
        found = self._server.read("HMGET", keys.documents(collection), *names)
        return {
            key: _document(collection, key, value)
            for key, value in zip(names, found, strict=True)
            if value is not None
        }

    def read_environment(
        self, environment: str, flags: Sequence[str] | None = None
    ) -> EnvironmentContent:
        """Return an environment as of one version. Raises Conflict on an empty store."""
        collection = states(environment)
        hashes = (keys.documents(each) for each in (FLAGS, collection, REVOKED_PREVIEWS))
        names = [keys.META, keys.VERSIONS, *hashes]
        wanted = ["all"] if flags is None else ["some", *flags]
        call = Call(script("read_environment"), names, [environment, *wanted])
        store, epoch, version, flag_pairs, state_pairs, revoked = self._server.look_up(call)
        if store is None:
            raise Conflict(EMPTY)
        return EnvironmentContent(
            environment=environment,
            store=store.decode(),
            epoch=int(epoch),
            version=int(version),
            flags=_documents(FLAGS, _pairs(flag_pairs)),
            states=_documents(collection, _pairs(state_pairs)),
            revoked=_document(REVOKED_PREVIEWS, environment, revoked).body if revoked else {},
        )

    def versions(self) -> Mapping[str, int]:
        """Return every environment's snapshot version."""
        found = self._server.read("HGETALL", keys.VERSIONS)
        return {environment.decode(): int(version) for environment, version in found.items()}

    # Changing

    def commit(self, change: Change, *, at: datetime, salt: str) -> Committed:
        """Carry out a change as a whole; see `ports.Documents.commit`.

        Waits TURN_SECONDS for its turn, then makes up to ATTEMPTS attempts. An attempt whose
        answer is lost is sent once more as it was, which tells whether it was made.
        """
        plan = _Plan.of(change)
        with self._turn():
            if self._distrusted is not None:
                raise StoreUnavailable(f"{self._distrusted} Nothing was changed.")
            deadline = time.monotonic() + COMMIT_SECONDS
            for attempt in range(ATTEMPTS):
                if attempt > 1:
                    # What the last refusal told is old by the end of the pause.
                    self._pause(attempt - 1)
                    self._head = None
                answer = self._attempt(plan, change, rfc3339(at), salt, *self._start())
                if answer[0] != b"head":
                    return self._concluded(change, answer)
                self._note_head(Head(int(answer[1]), answer[2].decode()))
                if time.monotonic() > deadline:
                    break
        raise StoreUnavailable(
            "Other processes change things too quickly: every attempt was overtaken. "
            "Nothing was changed."
        )

    def accept(
        self,
        change: Change,
        found: StoreState,
        successor: StoreIdentity,
        *,
        at: datetime,
        salt: str,
    ) -> Committed:
        """Carry out a change and give the store another identity; see `ports.Documents.accept`."""
        plan = replace(_Plan.of(change), successor=successor)
        with self._turn():
            self._began = StoreIdentity(found.store, found.epoch)
            head = Head(found.seq, found.chain)
            answer = self._attempt(plan, change, rfc3339(at), salt, self._began, head)
            if answer[0] == b"store":
                answer = self._accepted_already(answer, found, salt)
            if answer[0] in {b"store", b"head"}:
                self._began = self._head = None
                raise Conflict("The store has changed meanwhile: look again. Nothing was changed.")
            committed = self._concluded(change, answer)
            self._began, self._distrusted = successor, None
            return committed

    def _accepted_already(self, answer: list[bytes], found: StoreState, salt: str) -> list[bytes]:
        """Return what an attempt did whose first answer was lost, if it was made."""
        for entry in self.record(after=found.seq, limit=1):
            if json.loads(entry.canonical or b"{}").get("salt") == salt:
                return [b"done", str(entry.seq).encode()]
        return answer

    def _attempt(
        self, plan: _Plan, change: Change, ts: str, salt: str, began: StoreIdentity, head: Head
    ) -> list[bytes]:
        fact = change.fact
        entry = Entry(
            seq=head.seq + 1,
            epoch=(plan.successor or began).epoch,
            ts=ts,
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
        linked = link(entry, bytes.fromhex(head.chain))
        answer: list[bytes] = self._server.run(plan.call(began, head, linked))
        if answer[0] == b"done":
            # As far as we know: should the record have moved on, the next attempt is told.
            self._head = Head(entry.seq, linked.chain.hex())
            self._seen = max(self._seen, (entry.epoch, entry.seq))
        return answer

    def _is_old(self, head: Head) -> bool:
        """Whether a later entry was met. A store that lost it would take ours in its place."""
        epoch = 0 if self._began is None else self._began.epoch
        return (epoch, head.seq) < self._seen

    def _note_head(self, head: Head) -> None:
        """Take a head that the store told. Raises Conflict when it is behind what was there."""
        epoch = 0 if self._began is None else self._began.epoch
        seen_epoch, seen = self._seen
        if epoch == seen_epoch and head.seq < seen:
            self._head = None
            raise Conflict(
                f"The store lost changes: its record ends at entry {head.seq}, and entry {seen} "
                "was seen. Nothing was changed."
            )
        self._head = head
        self._seen = max(self._seen, (epoch, head.seq))

    def _concluded(self, change: Change, answer: list[bytes]) -> Committed:
        kind, *told = (part.decode() for part in answer)
        if kind in {"done", "repeated"}:
            versions = {name: int(version) for name, version in _pairs(told[1:]).items()}
            return Committed(int(told[0]), versions, repeated=kind == "repeated")
        if kind == "store":
            raise self._another_store(*told)
        raise _refusal(change, kind, told)

    def _another_store(self, store: str, epoch: str) -> Conflict:
        began, self._head = self._began, None
        if not store:
            return Conflict(EMPTY)
        if began is not None and store == began.store and int(epoch) > began.epoch:
            # Whoever decided this read the epoch before. The next decision reads this one.
            self._began = StoreIdentity(store, int(epoch))
            return Conflict(f"The store began epoch {epoch}: look again and decide anew.")
        return Conflict(
            "The store is another one, or an older copy of the one that this process began with. "
            "Nothing was changed."
        )

    def _start(self) -> tuple[StoreIdentity, Head]:
        """Return the store and the end of its record, as this process knows them."""
        began, head = self._began, self._head
        if began is not None and head is not None and not self._is_old(head):
            return began, head
        found = self._meta()
        if found[0] is None:
            raise Conflict(EMPTY)
        began = self._began = began or _identity(found)
        if began == _identity(found):
            self._note_head(_head(found))
        else:
            # The script says what is wrong with it.
            self._head = _head(found)
        return began, _head(found)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._pid != os.getpid():
            # A thread of the parent may have had the lock when this process was forked.
            self._turns, self._pid = threading.Lock(), os.getpid()
        turns = self._turns
        if not turns.acquire(timeout=TURN_SECONDS):
            raise StoreUnavailable(
                "Too many changes are waiting for the store. Nothing was changed."
            )
        try:
            yield
        finally:
            turns.release()

    def _meta(self) -> list[bytes | None]:
        found: list[bytes | None] = self._server.read(
            "HMGET", keys.META, "store", "epoch", "seq", "head"
        )
        return found

    def _begin(self, found: list[bytes | None]) -> StoreIdentity:
        self._began, self._head = _identity(found), _head(found)
        self._seen = (self._began.epoch, self._head.seq)
        return self._began

    def repeats(self, asked: Idempotency) -> bool:
        """Tell whether a change was made for this very request. Raises IdempotencyMismatch."""
        found = self._server.read("HGET", keys.once(_digest(asked.key)), "fingerprint")
        if found is not None and found.decode() != _digest(asked.fingerprint):
            raise IdempotencyMismatch(MISMATCH)
        return found is not None

    # The record

    def record(self, *, after: int = 0, limit: int = 1000) -> list[Link]:
        """Return entries with seq > after, oldest first."""
        links: list[Link] = []
        while len(links) < limit:
            start = f"{links[-1].seq + 1 if links else after + 1}-0"
            count = min(limit - len(links), ENTRIES)
            found = self._server.read("XRANGE", keys.RECORD, start, "+", "COUNT", count)
            links += (_link(*entry) for entry in found)
            if len(found) < count:
                break
        return links

    def history(
        self, *, target: str | None, environment: str | None, before: int | None, limit: int
    ) -> list[Mapping[str, Any]]:
        """Return decoded entries, newest first; looks through HISTORY_SCAN entries at most."""
        if target is None:
            entries = self._newest_first(before)
        else:
            entries = self._about(target, before, min(max(limit, SOME), ENTRIES))
        wanted = (
            entry
            for entry in islice(entries, HISTORY_SCAN)
            if target in {None, entry["target"]}
            if environment is None or entry["environment"] in {environment, None}
        )
        return list(islice(wanted, limit))

    def index(self) -> bool:
        """Put a further part of the record into the index of targets; tell whether it has all."""
        call = Call(script("index"), [keys.META, keys.RECORD, keys.TARGETS], [INDEXED])
        found: bytes = self._server.run(call)
        return int(found) <= 1

    def _about(self, target: str, before: int | None, count: int) -> Iterator[Mapping[str, Any]]:
        """Return the entries among which those of a target are: of what the index has, these alone;
        of what is newer or older than it, all. count: how many are read at once."""
        found = self._server.read("HMGET", keys.META, "indexed_from", "indexed_to")
        first, last = (int(edge or 0) for edge in found)
        end = last + 1 if before is None else min(before, last + 1)
        if before is None or before > last + 1:
            yield from self._newest_first(before, after=last)
        yield from self._indexed(target, first, end, count)
        if first > 1:
            yield from self._newest_first(first if before is None else min(before, first))

    def _indexed(
        self, target: str, first: int, before: int, count: int
    ) -> Iterator[Mapping[str, Any]]:
        """Return a target's entries that the index has, from one on and before another."""
        lowest = b"[" + _member(target, first)
        while True:
            highest = b"(" + _member(target, max(before, 0))
            question = ("ZREVRANGEBYLEX", keys.TARGETS, highest, lowest, "LIMIT", 0, count)
            numbers = [int(member.rpartition(b"\n")[2]) for member in self._server.read(*question)]
            places = [f"{number}-0" for number in numbers]
            asked = [("XRANGE", keys.RECORD, place, place) for place in places]
            for _, fields in chain.from_iterable(self._server.read_all(asked)):
                if b"entry" in fields:
                    yield json.loads(fields[b"entry"])
            if len(numbers) < count:
                return
            before = numbers[-1]

    def _newest_first(self, before: int | None, after: int = 0) -> Iterator[Mapping[str, Any]]:
        """Return the entries between two, newest first."""
        newest = "+" if before is None else f"({max(before, 1)}-0"
        oldest = f"({after}-0"
        for _ in range(HISTORY_SCAN // ENTRIES):
            found = self._server.read("XREVRANGE", keys.RECORD, newest, oldest, "COUNT", ENTRIES)
            for _, fields in found:
                if b"entry" in fields:
                    yield json.loads(fields[b"entry"])
            if len(found) < ENTRIES:
                return
            newest = f"({found[-1][0].decode()}"

    # The feed

    def events(self, after: str, wait_seconds: float) -> list[Event]:
        """Return at most EVENTS events after a position, waiting so long for the first."""
        if not POSITION.fullmatch(after):
            raise ValueError(f"{after!r} is no position in the feed")
        deadline = time.monotonic() + wait_seconds
        while True:
            left = deadline - time.monotonic()
            # BLOCK 0 would wait for ever.
            block = ["BLOCK", max(1, round(min(left, SLICE_SECONDS) * 1000))] if left > 0 else []
            command = ("XREAD", "COUNT", EVENTS, *block, "STREAMS", keys.FEED, after)
            found = self._server.read(*command, key=keys.FEED)
            if found:
                events = [_event(*entry) for entry in found[0][1]]
                self._seen = max(self._seen, _place(events[-1].id))
                return events
            if left <= SLICE_SECONDS:
                return []

    def feed_end(self) -> str:
        """Return the position of the newest event."""
        found = self._server.read("XREVRANGE", keys.FEED, "+", "-", "COUNT", 1)
        return found[0][0].decode() if found else "0-0"


MISMATCH = "This idempotency key was used for another request."
EMPTY = "The store is empty: it was never set up, or it lost its data. Nothing was changed."


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the script is told of a change whatever the record's head is."""

    keys: list[str]
    documents: str
    flags: str
    fingerprint: str
    target: str
    counts: list[int]
    details: list[str | bytes]
    successor: StoreIdentity | None = None
    """What the store is called from now on, unless it stays as it is."""

    @classmethod
    def of(cls, change: Change) -> _Plan:
        places = [(write.collection, write.key) for write in change.writes]
        if len(set(places)) < len(places):
            raise ValueError("a change writes each document once")
        once = change.idempotency
        writes = [part for write in change.writes for part in _write(write)]
        releases = [part for claim in change.releases.items() for part in claim]
        claims = [part for claim in change.claims.items() for part in claim]
        guards = [part for name, held in change.at_versions.items() for part in (name, str(held))]
        environments = list(dict.fromkeys(change.environments))
        notices = [_json(notice.to_body()) for notice in change.notices]
        counted = (change.releases, change.claims, change.at_versions, environments, notices)
        return cls(
            keys=[
                *(keys.META, keys.VERSIONS, keys.RECORD, keys.FEED, keys.CLAIMS),
                keys.once(_digest(once.key)) if once else keys.NO_ONCE,
                *(keys.OUTBOX, keys.TARGETS),
                *(keys.documents(collection) for collection, _ in places),
            ],
            documents=_json(places).decode(),
            flags=_json(change.flags).decode(),
            fingerprint=_digest(once.fingerprint) if once else "",
            target=change.fact.target,
            counts=[len(places), *(len(each) for each in counted)],
            details=[*writes, *releases, *claims, *guards, *environments, *notices],
        )

    def call(self, began: StoreIdentity, head: Head, linked: Link) -> Call:
        """Return the script's call for an entry that follows a head."""
        after = self.successor or began
        return Call(
            script("commit"),
            self.keys,
            [
                *(began.store, began.epoch, head.seq, head.chain),
                *(linked.seq, linked.canonical or b"", linked.leaf.hex(), linked.chain.hex()),
                *(self.documents, self.flags, self.fingerprint, ONCE_SECONDS * 1000, FEED_LENGTH),
                *(after.store, after.epoch, OUTBOX_LENGTH, self.target),
                *self.counts,
                *self.details,
            ],
        )


def _refusal(change: Change, kind: str, told: list[str]) -> Refusal:
    match kind, told:
        case "exists", [number]:
            write = change.writes[int(number) - 1]
            return AlreadyExists(f"{write.collection}/{write.key} exists already.")
        case "stale", [number, revision]:
            write = change.writes[int(number) - 1]
            return StaleRevision(
                f"{write.collection}/{write.key} is at revision {revision}; the change was made "
                f"for revision {write.expected}.",
                revision=int(revision),
            )
        case "claimed", [name, owner]:
            return ClaimTaken(f"{name} belongs to {owner}.")
        case "moved", [environment, version]:
            return Moved(
                f"{environment} is at version {version}; the decision was made on version "
                f"{change.at_versions[environment]}."
            )
        case "torn", [stream, end]:
            return Conflict(
                f"The store's {stream} ends with {end}, which no change made: somebody else, or "
                "another version, writes to this store. Nothing was changed."
            )
        case "mismatch", []:
            return IdempotencyMismatch(MISMATCH)
    raise AssertionError(f"commit.lua answered {kind} {told}")


# --- how things are written down ------------------------------------------------------------------


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _write(write: Write) -> tuple[str, str, bytes]:
    """Return key, expected revision and the document as it will be kept: `<revision>|<json>`, or
    nothing for one that is taken away.

    Lua never looks into the JSON, which it could not carry exactly.
    """
    if write.body is None:
        if not write.expected:
            raise ValueError("what is taken away must be there")
        return write.key, str(write.expected), b""
    revision = write.expected + 1 if write.revision is None else write.revision
    if revision <= write.expected:
        raise ValueError("a revision rises with every change")
    value = b"%d|%b" % (revision, _json(dict(write.body)))
    return write.key, str(write.expected), value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _identity(found: list[bytes | None]) -> StoreIdentity:
    store, epoch = found[:2]
    return StoreIdentity((store or b"").decode(), int(epoch or 0))


def _head(found: list[bytes | None]) -> Head:
    seq, head = found[2:4]
    return Head(int(seq or 0), (head or b"").decode())


def _pairs(flat: Sequence[T]) -> dict[T, T]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _document(collection: str, key: str, value: bytes) -> Document:
    revision, _, body = value.partition(b"|")
    return Document(collection, key, int(revision), json.loads(body))


def _documents(collection: str, found: Mapping[bytes, bytes]) -> dict[str, Document]:
    return {
        key.decode(): _document(collection, key.decode(), value) for key, value in found.items()
    }


def _link(id: bytes, fields: Mapping[bytes, bytes]) -> Link:
    seq, _, _ = id.partition(b"-")
    leaf, chain = (bytes.fromhex(fields[name].decode()) for name in (b"leaf", b"chain"))
    return Link(int(seq), fields.get(b"entry"), leaf, chain)


def _member(target: str, seq: int) -> bytes:
    """Return how the index has it that an entry is about a target."""
    return f"{target}\n{seq:016}".encode()


def _place(id: str) -> tuple[int, int]:
    epoch, _, seq = id.partition("-")
    return int(epoch), int(seq)


def _conditions(told: Mapping[str, Any], now: float) -> Conditions:
    """Return what INFO says. Names are those of Redis 7.0 and of Valkey. now: unix seconds."""

    def number(name: str) -> int | None:
        return int(told[name]) if name in told else None

    def well(name: str, words: str) -> bool | None:
        return str(told[name]) == words if name in told else None

    appends, there = well("aof_enabled", "1"), number("server_time_usec")
    return Conditions(
        policy=told.get("maxmemory_policy"),
        limit=number("maxmemory"),
        used=number("used_memory"),
        appends=appends,
        writes_well=well("aof_last_write_status", "ok") if appends else None,
        replica=well("role", "slave"),
        linked=well("master_link_status", "up"),
        ahead=None if there is None else there / 1e6 - now,
    )


def _event(id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    _, _, seq = id.partition(b"-")
    versions = {
        name.decode().removeprefix("from/"): (int(start), int(start) + 1)
        for name, start in fields.items()
        if name.startswith(b"from/")
    }
    documents = tuple((collection, key) for collection, key in json.loads(fields[b"documents"]))
    flags = tuple(json.loads(fields[b"flags"]))
    return Event(id.decode(), int(seq), versions, flags, documents)
