"""The mirror: each web process keeps every environment's snapshot in memory and follows the feed.

The serving path reads only this, so it needs no store. A view is replaced only by a newer one of
the same store: an emptied, restored or foreign store never takes away flags that are known.
"""

from __future__ import annotations

import gzip
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

from sortition.core import model as core
from sortition.core.evaluate import CompiledFlag, compile_flags

from flagserver.domain import documents
from flagserver.domain.documents import EnvironmentContent, Event
from flagserver.domain.errors import NotFound, Refusal, StoreUnavailable
from flagserver.domain.snapshots import build_flags, build_snapshot, difference
from flagserver.domain.stores import StoreState
from flagserver.domain.tokens import Token
from flagserver.ports import Clock, Copies, Documents

from .trust import Trust

log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
"""How long one look at the feed waits."""

CHECK_SECONDS = 5.0
"""How often versions are compared in case an event was lost."""

RETRY_SECONDS = 0.5
"""How long to wait before asking a store again that did not answer."""

KEEP_SECONDS = 1.0
"""How often what has changed is written to disk."""

UNUSABLE = (core.InvalidSnapshot, TypeError, KeyError, ValueError, AttributeError, RecursionError)
"""What comes of a document that somebody changed around the server."""

NOTHING, DISK, STORE = "nothing", "disk", "store"
"""Where what is served came from last."""


Texts = dict[str, tuple[core.Flag, bytes]]


@dataclass(frozen=True, eq=False)
class View:
    """One environment at one version, ready to be served.

    before: texts of the view that this one replaces, most of which are good for it too.
    """

    snapshot: core.Snapshot
    before: Texts = field(default_factory=dict)

    @cached_property
    def texts(self) -> Texts:
        """Each flag with its JSON, by key: one that did not change is not written anew."""
        found: Texts = {}
        for key, flag in self.snapshot.flags.items():
            known = self.before.get(key)
            if known is not None and known[0] is flag:
                found[key] = known
            else:
                found[key] = flag, dump({key: flag.to_wire()})[1:-1]
        return found

    @cached_property
    def body(self) -> bytes:
        """The whole snapshot as JSON."""
        head = dump(replace(self.snapshot, flags={}).to_wire()).removesuffix(b"}}")
        return b"".join((head, b",".join(text for _, text in self.texts.values()), b"}}"))

    @cached_property
    def packed(self) -> bytes:
        """The body, gzipped."""
        return gzip.compress(self.body, compresslevel=6, mtime=0)

    @cached_property
    def etag(self) -> str:
        """The strong entity tag, quotes included."""
        return self.snapshot.version.etag

    @cached_property
    def event(self) -> bytes:
        """The stream's first message: the whole snapshot."""
        return sse("snapshot", self.body, id=str(self.snapshot.version))


class Watcher(Protocol):
    """Whoever passes changes on to those who listen."""

    def changed(self, view: View, message: bytes) -> None:
        """Hear that a view replaced another one; quick, and never raises.

        message: of a `text/event-stream`, for those who hold the view before.
        """

    def streams(self) -> int:
        """Return how many listen."""


class Snapshots:
    """Views of every environment, tokens by id, and who wants to hear of changes."""

    def __init__(
        self,
        store: Documents,
        clock: Clock,
        *,
        flush_seconds: float,
        edges: tuple[float, ...],
        copies: Copies | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._flush_seconds = flush_seconds
        self._edges = edges
        self._views: dict[str, View] = {}
        self._tokens: dict[str, Token] = {}
        self._environments: dict[str, documents.Body] = {}
        self._unprepared: set[str] = set()
        self._watchers: list[Watcher] = []
        self._listeners: list[Callable[[Event], None]] = []
        self._position = "0-0"
        self._checked = float("-inf")
        self._interruptions = 0
        self._heard: float | None = None
        self.trust = Trust(store, clock, copies)
        """Whether the store is the one that is known."""
        self.source = NOTHING
        self.unusable: Mapping[str, str] = {}
        """Environment -> why what the store has of it is not taken; it stays as it was."""

    # Serving

    def view(self, environment: str) -> View:
        """Return an environment's view. Raises StoreUnavailable before anything was loaded."""
        view = self._views.get(environment)
        if view is not None:
            return view
        if self.source != STORE:
            raise StoreUnavailable("No flags were loaded yet: the store has not answered.")
        raise NotFound(f"There is no environment {environment!r}.")

    def views(self) -> Mapping[str, View]:
        """Return every environment's view."""
        return dict(self._views)

    def compiled(
        self, environment: str, resource: Mapping[str, str]
    ) -> tuple[View, Mapping[str, CompiledFlag]]:
        """Return the view and its flags, compiled for a resource."""
        view = self.view(environment)
        return view, _compiled(view, tuple(sorted(resource.items())))

    def token(self, id: str) -> Token | None:
        """Return a token by id, or None if there is none here (yet)."""
        return self._tokens.get(id)

    def watch(self, watcher: Watcher) -> None:
        """Tell a watcher of every view that replaces another from now on, after it did."""
        self._watchers.append(watcher)

    def streams(self) -> int:
        """Return how many streams of this process follow an environment."""
        return sum(watcher.streams() for watcher in self._watchers)

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call a quick function for every event from now on; return what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def believes(self) -> bool:
        """Whether the store's word is taken: it was looked at, and there is no alarm."""
        return self.trust.alarm is None and self.source != DISK

    def interruptions(self) -> int:
        """Return how often this process lost the store's answer."""
        return self._store.interruptions()

    def age_seconds(self) -> float | None:
        """Return how long ago the store was last heard, or None: never."""
        return None if self._heard is None else self._clock.monotonic() - self._heard

    # Following

    def restore(self) -> None:
        """Serve what this machine's disk has, until the store is heard. Raises nothing."""
        kept = self.trust.restore()
        for name, snapshot in kept.snapshots.items():
            ours = replace(snapshot, flush_seconds=self._flush_seconds, histogram_edges=self._edges)
            self._views[name] = prepared(View(ours))
        self._tokens = {token.id: token for token in kept.tokens or ()}
        if self._views:
            self.source = DISK

    def require(self) -> None:
        """See that the store may be used, also an empty one that nothing is known of.

        Raises StoreUnavailable, also in alarm.
        """
        found = self.trust.examine(self._held())
        if self.trust.alarm is not None:
            raise StoreUnavailable(self.trust.alarm.detail)
        if found is not None:
            self.trust.confirm(found)

    def load(self) -> None:
        """Read everything that is new. Raises StoreUnavailable, also in alarm."""
        self._check()
        if self.trust.alarm is not None:
            raise StoreUnavailable(self.trust.alarm.detail)

    def follow(self, stop: threading.Event) -> None:
        """Follow the store until told to stop, and keep what is known on disk; survives everything
        on the way."""
        keeping = threading.Thread(
            target=self._keep_following, args=(stop,), name="sortition-copies", daemon=True
        )
        keeping.start()
        while not stop.is_set():
            try:
                self.step(WAIT_SECONDS)
                if self.trust.alarm is not None:
                    stop.wait(WAIT_SECONDS)
            except Refusal as error:
                log.warning("not following: %s", error.detail)
                self._look_closely()
                stop.wait(RETRY_SECONDS)
            except Exception:
                log.exception("following failed; trying again")
                self._look_closely()
                stop.wait(RETRY_SECONDS)

    def step(self, wait_seconds: float) -> None:
        """Take in what the feed has, waiting at most so long; look at the store when it is due."""
        if self._is_due():
            self._check()
        if self.trust.alarm is not None:
            return
        # What is sent of a new view is put together when nothing else is there to be told.
        events = self._store.events(self._position, 0.0 if self._unprepared else wait_seconds)
        if self._interruptions != self._store.interruptions():
            # It may be another store that says this: it is asked again, once it was looked at.
            self._look_closely()
            return
        for event in events:
            self._take(event)
            self._position = event.id
        if events:
            self.trust.go_along()
        else:
            self._prepare()
        self._seen()

    def keep(self) -> None:
        """Write to disk what is known and not there yet. Raises nothing."""
        snapshots = {name: view.snapshot for name, view in self.views().items()}
        if self.source == STORE:
            self.trust.keep(snapshots, self._tokens, self._environments)

    def _prepare(self) -> None:
        while self._unprepared:
            prepared(self._views[self._unprepared.pop()])

    def _keep_following(self, stop: threading.Event) -> None:
        while not stop.wait(KEEP_SECONDS):
            self.keep()
        self.keep()

    def _is_due(self) -> bool:
        late = self._clock.monotonic() - self._checked >= CHECK_SECONDS
        return late or self.source != STORE or self.trust.alarm is not None

    def _look_closely(self) -> None:
        """Look at the store before anything else is taken from it: it may not be the same."""
        self._checked = float("-inf")
        self.trust.look_closely()

    def _seen(self) -> None:
        self._heard = self._clock.monotonic()

    def _take(self, event: Event) -> None:
        known = self.trust.known
        if known is None or not event.id.startswith(f"{known.epoch}-"):
            self._look_closely()
            return
        collections = {collection for collection, _ in event.documents}
        if documents.TOKENS in collections:
            self._reload_tokens()
        for environment, (start, end) in event.versions.items():
            view = self._views.get(environment)
            held = None if view is None else view.snapshot.version
            if held is not None and (held.epoch, held.version) >= (known.epoch, end):
                # Of a burst, the first that was behind brought them all.
                continue
            if view is not None and held is not None and held.version == start:
                self._update(environment, view, event.flags)
            else:
                self._reload(environment)
        if documents.ENVIRONMENTS in collections:
            self._reload_environments()
        for listener in tuple(self._listeners):
            listener(event)

    def _check(self) -> None:
        """See that the store is the one that is known, and find what was missed: a lost event,
        another epoch, all of it at the start."""
        self._interruptions = self._store.interruptions()
        held = self._held()
        interrupted = self.source != STORE or self.trust.alarm is not None
        found = self.trust.examine(held)
        self._seen()
        self._checked = self._clock.monotonic()
        if self.trust.alarm is not None:
            return
        if found is None:
            raise StoreUnavailable("The store is empty: it has not been set up yet.")
        if interrupted or self.trust.known is None or self.trust.known.epoch != found.epoch:
            # To be read before the state that it follows.
            self._position = self._store.feed_end()
        environments = self._store.read_all(documents.ENVIRONMENTS)
        contents = self._differing(found, held, environments)
        tokens = self._store.read_all(documents.TOKENS)
        if not self.trust.confirm(found):
            self._look_closely()
            return
        if self.source == DISK:
            self.source = STORE
        self._tokens = {key: Token.from_body(d.body) for key, d in tokens.items()}
        self._environments = {key: document.body for key, document in environments.items()}
        for content in contents:
            self._take_whole(content)
        # Who asks before the first ones are here is told to ask again, not that there is no such
        # environment.
        self.source = STORE

    def _held(self) -> dict[str, core.SnapshotVersion]:
        return {name: view.snapshot.version for name, view in self.views().items()}

    def _differing(
        self, found: StoreState, held: Mapping[str, core.SnapshotVersion], names: Iterable[str]
    ) -> list[EnvironmentContent]:
        """Return the environments that are not at the versions that are held."""
        versions = self._store.versions()
        return [
            self._store.read_environment(name)
            for name in names
            if held.get(name)
            != core.SnapshotVersion(found.store, found.epoch, versions.get(name, 0))
        ]

    def _reload_environments(self) -> None:
        found = self._store.read_all(documents.ENVIRONMENTS)
        if found:
            self._environments = {key: document.body for key, document in found.items()}
        for environment in found:
            if environment not in self._views:
                self._reload(environment)

    def _reload_tokens(self) -> None:
        found = self._store.read_all(documents.TOKENS)
        if found or not self._tokens:
            self._tokens = {key: Token.from_body(d.body) for key, d in found.items()}

    def _reload(self, environment: str) -> None:
        self._take_whole(self._store.read_environment(environment))

    def _take_whole(self, content: EnvironmentContent) -> None:
        """Take an environment as it was read, or keep what is served if that cannot be used."""
        environment = content.environment
        others = {name: why for name, why in self.unusable.items() if name != environment}
        try:
            snapshot = build_snapshot(content, flush_seconds=self._flush_seconds, edges=self._edges)
            core.Snapshot.parse(snapshot.to_wire())
        except UNUSABLE as error:
            why = str(error) if isinstance(error, core.InvalidSnapshot) else type(error).__name__
            if environment not in self.unusable:
                log.warning("keeping the flags of %s as they are: %s", environment, why)
            self.unusable = others | {environment: why}
        else:
            self.unusable = others
            self._put(snapshot)

    def _update(self, environment: str, view: View, flags: tuple[str, ...]) -> None:
        content = self._store.read_environment(environment, flags)
        try:
            snapshot = _with(view.snapshot, content, flags)
        except UNUSABLE:
            snapshot = None
        if snapshot is None:
            self._reload(environment)
        else:
            self._put(snapshot)

    def _put(self, snapshot: core.Snapshot) -> None:
        """Replace a view if this one follows it, and tell the streams what changed."""
        environment, version = snapshot.environment, snapshot.version
        known = self.trust.known
        if known is None or (version.store, version.epoch) != (known.store, known.epoch):
            self._look_closely()
            return
        held = self._views.get(environment)
        if held is None:
            self._views = {**self._views, environment: prepared(View(snapshot))}
            return
        # A store that an operator accepted in another's place has another id: it was examined.
        if version.store == held.snapshot.version.store and not version.follows(
            held.snapshot.version
        ):
            if version != held.snapshot.version:
                self._look_closely()
            return
        view = View(snapshot, held.texts)
        message = _message(held.snapshot, view)
        self._views = {**self._views, environment: view}
        for watcher in self._watchers:
            watcher.changed(view, message)
        # Those who listen need none of what is sent to others, so they are told first.
        self._unprepared.add(environment)


def _with(
    snapshot: core.Snapshot, content: EnvironmentContent, flags: tuple[str, ...]
) -> core.Snapshot | None:
    """Return the snapshot with some flags as they were read, or None if more has changed.

    Raises one of UNUSABLE for flags that no SDK would take.
    """
    version = core.SnapshotVersion(content.store, content.epoch, content.version)
    if version != replace(snapshot.version, version=snapshot.version.version + 1):
        return None
    changed = build_flags(content)
    for key, flag in changed.items():
        core.Flag.parse(key, flag.to_wire())
    kept = {key: flag for key, flag in snapshot.flags.items() if key not in flags}
    kept.update(changed)
    if len(kept) < len(snapshot.flags) or any(flag.prerequisites for flag in changed.values()):
        core.check_prerequisites(kept)
    revoked = tuple(sorted(content.revoked))
    return replace(snapshot, version=version, flags=kept, revoked_previews=revoked)


def _message(before: core.Snapshot, view: View) -> bytes:
    after = view.snapshot
    if before.version != replace(after.version, version=before.version.version):
        return view.event
    change = difference(before, after).to_wire()
    return sse("change", dump(change), id=str(after.version))


def prepared(view: View) -> View:
    """Return a view with all that is sent of it, so that nobody who asks waits for that."""
    _ = view.event, view.packed
    return view


@lru_cache(maxsize=64)
def _compiled(view: View, resource: tuple[tuple[str, str], ...]) -> Mapping[str, CompiledFlag]:
    return compile_flags(view.snapshot.flags, dict(resource))


def dump(value: Any) -> bytes:
    """Return compact JSON without line breaks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sse(event: str, data: bytes, *, id: str | None = None) -> bytes:
    """Return one message of a `text/event-stream`; data is one line."""
    head = f"event: {event}\n" + (f"id: {id}\n" if id else "")
    return head.encode() + b"data: " + data + b"\n\n"
