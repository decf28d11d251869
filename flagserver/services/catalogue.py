"""Every flag with its state in every environment, held in memory, kept up to date by the feed.

A list of a thousand flags is read once. After that, asking costs one look at where the record ends,
and a read of no more than what was changed since; so it is never behind the store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from flagserver.domain import documents, flags
from flagserver.domain.documents import Document, Event
from flagserver.domain.flags import Flag, State
from flagserver.domain.stores import StoreState
from flagserver.ports import Documents

STATES = "states/"
"""What the collections of flags' states begin with."""


@dataclass(frozen=True, slots=True)
class StateView:
    """A flag's state in one environment, at a revision (0: nobody has touched it)."""

    state: State
    revision: int


@dataclass(frozen=True, slots=True)
class FlagView:
    """A flag with its state in every environment."""

    flag: Flag
    revision: int
    states: Mapping[str, StateView]


class Catalogue:
    """The flags of a store. May be shared by threads."""

    def __init__(self, store: Documents) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._at: StoreState | None = None
        """Up to which entry of which record the flags below are known."""
        self._position = ""
        self._environments: tuple[str, ...] = ()
        self._views: dict[str, FlagView] = {}
        self._sorted: tuple[FlagView, ...] = ()

    def views(self) -> list[FlagView]:
        """Return all flags by key, archived ones too, as of now. Raises StoreUnavailable."""
        with self._lock:
            state = self._store.state()
            if state is None:
                # An empty store has no flags, and no record by which to know.
                self._at = None
                self._put({})
            elif not self._is_known(state) and not self._follow(state):
                self._read_all()
            return list(self._sorted)

    def _is_known(self, state: StoreState) -> bool:
        at = self._at
        return at is not None and (at.store, at.epoch, at.seq) == (
            state.store,
            state.epoch,
            state.seq,
        )

    def _follow(self, state: StoreState) -> bool:
        """Take over what the feed tells. False: it does not tell all, so that everything must be
        read."""
        at = self._at
        if at is None or (at.store, at.epoch) != (state.store, state.epoch):
            return False
        touched: set[tuple[str, str]] = set()
        seq, position = at.seq, self._position
        while seq < state.seq:
            events = self._store.events(position, 0)
            if not events or not _follows(events, seq):
                return False
            touched |= {document for event in events for document in event.documents}
            seq, position = max(seq, events[-1].seq), events[-1].id
        if any(collection == documents.ENVIRONMENTS for collection, _ in touched):
            return False
        self._read({key for collection, key in touched if _is_of_flags(collection)})
        self._at, self._position = replace(state, seq=seq), position
        return True

    def _read_all(self) -> None:
        # In this order: what changes meanwhile is read again by the next who asks.
        position, state = self._store.feed_end(), self._store.state()
        self._environments = tuple(sorted(self._store.read_all(documents.ENVIRONMENTS)))
        states = {e: self._store.read_all(documents.states(e)) for e in self._environments}
        found = self._store.read_all(documents.FLAGS)
        self._put({key: _view(it, key, states) for key, it in found.items()})
        self._at, self._position = state, position

    def _read(self, keys: set[str]) -> None:
        if not keys:
            return
        names = sorted(keys)
        states = {
            environment: self._store.read_some(documents.states(environment), names)
            for environment in self._environments
        }
        found = self._store.read_some(documents.FLAGS, names)
        self._put(self._views | {key: _view(it, key, states) for key, it in found.items()})

    def _put(self, views: dict[str, FlagView]) -> None:
        self._views = views
        self._sorted = tuple(views[key] for key in sorted(views))


def state_view(flag: Flag, environment: str, document: Document | None) -> StateView:
    """Return a flag's state as a document has it, or as it is where nobody touched it."""
    if document is None:
        return StateView(flags.default_state(flag, environment), 0)
    return StateView(State.from_body(document.body), document.revision)


def _view(document: Document, key: str, states: Mapping[str, Mapping[str, Document]]) -> FlagView:
    flag = Flag.from_body(document.body)
    by_environment = {
        environment: state_view(flag, environment, found.get(key))
        for environment, found in states.items()
    }
    return FlagView(flag, document.revision, by_environment)


def _follows(events: Iterable[Event], seq: int) -> bool:
    """Tell whether events come one after the other from there on: a feed that was cut has a gap."""
    for event in events:
        if event.seq > seq + 1:
            return False
        seq = max(seq, event.seq)
    return True


def _is_of_flags(collection: str) -> bool:
    return collection == documents.FLAGS or collection.startswith(STATES)
