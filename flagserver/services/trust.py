"""Whether the store is the one that is known, and what is kept on disk so that this is remembered.

The mirror (`snapshots.py`) asks here before it takes the store's word, at the start, after every
interruption and every few seconds. While there is an alarm, nothing is taken and nothing written.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from sortition.core.model import Snapshot, SnapshotVersion

from flagserver.domain.documents import Body
from flagserver.domain.stores import (
    UNSAFE,
    Alarm,
    Fault,
    StoreState,
    doubt,
    faults,
    versions_doubt,
)
from flagserver.domain.tokens import Token
from flagserver.ports import Clock, Copies, Documents, Kept

log = logging.getLogger(__name__)

CONDITIONS_SECONDS = 30.0
"""How often it is looked at how the store is run."""

NOT_LOOKED = "This server has not looked at the store yet: it may be another than the one it knew."


class Trust:
    """What is known of the store, and why its word is not taken, if it is not."""

    def __init__(self, store: Documents, clock: Clock, copies: Copies | None = None) -> None:
        self._store = store
        self._clock = clock
        self._copies = copies
        self._looked = -math.inf
        self._kept_state: StoreState | None = None
        self._kept_versions: dict[str, SnapshotVersion] = {}
        self._kept_tokens: Mapping[str, Token] | None = None
        self._tokens_at: StoreState | None = None
        self._kept_environments: Mapping[str, Body] | None = None
        self._environments_at: StoreState | None = None
        self.known: StoreState | None = None
        """The store as it was when its word was last taken, here or before a restart."""
        self.alarm: Alarm | None = None
        """Why its word is not taken, or None."""
        self.faults: tuple[Fault, ...] = ()
        """What is wrong with how it is run."""
        self.unkept: str | None = None
        """Why what is known cannot be kept on disk, or None."""
        self.unread: tuple[str, ...] = ()
        """What was on disk at the start and could not be used."""

    def restore(self) -> Kept:
        """Return what was kept; from now on only that store, or one after it, is trusted."""
        if self._copies is None:
            return Kept()
        kept = self._copies.read()
        self.unread = kept.problems
        for problem in kept.problems:
            log.error("%s", problem)
        self.known = kept.state or _latest(kept.snapshots)
        if self.known is not None:
            self._store.distrust(NOT_LOOKED)
        self._kept_state = kept.state
        self._kept_versions = {name: each.version for name, each in kept.snapshots.items()}
        return kept

    def examine(self, held: Mapping[str, SnapshotVersion]) -> StoreState | None:
        """Return the store's state if its word may be taken; None if not, or if it is empty.

        held: what is served, by environment. Raises StoreUnavailable.
        """
        found = self._store.state()
        self._set(self._doubt(found, held))
        return found if self.alarm is None else None

    def confirm(self, found: StoreState) -> bool:
        """Tell whether what was read since `found` was that store's, and believe it if so."""
        now = self._store.state()
        if now is None or (now.store, now.epoch) != (found.store, found.epoch):
            return False
        self.known = found
        self._store.distrust(None)
        return True

    def go_along(self) -> None:
        """Note how far the store's record goes, after something of it was taken in."""
        now, known = self._store.state(), self.known
        if now is not None and known is not None and _is_later(now, known):
            same = (now.store, now.epoch) == (known.store, known.epoch)
            self.known = now if same else known

    def look_closely(self) -> None:
        """Look anew at how the store is run, at the next examination."""
        self._looked = -math.inf

    def keep(
        self,
        snapshots: Mapping[str, Snapshot],
        tokens: Mapping[str, Token],
        environments: Mapping[str, Body],
    ) -> None:
        """Write down what is not on disk yet. Raises nothing; `unkept` says what went wrong."""
        state, copies = self.known, self._copies
        if copies is None or state is None or self.alarm is not None:
            return
        try:
            for name, snapshot in snapshots.items():
                if self._kept_versions.get(name) != snapshot.version:
                    copies.keep_snapshot(snapshot)
                    self._kept_versions[name] = snapshot.version
            # These change before the state that tells of it is known: then they wait for that.
            if self._kept_tokens != tokens and _is_later(state, self._tokens_at):
                copies.keep_tokens(list(tokens.values()), state)
                self._kept_tokens, self._tokens_at = tokens, state
            if self._kept_environments != environments and _is_later(state, self._environments_at):
                copies.keep_environments(list(environments.values()), state)
                self._kept_environments, self._environments_at = environments, state
            if self._kept_state != state:
                copies.keep_state(state)
                self._kept_state = state
        except OSError as error:
            why = f"What is known cannot be kept on this server's disk: {error.strerror or error}."
            if self.unkept is None:
                log.warning("%s", why)
            self.unkept = why
        else:
            if self.unkept is not None:
                log.info("what is known is kept on disk again")
            self.unkept = None

    def _doubt(self, found: StoreState | None, held: Mapping[str, SnapshotVersion]) -> Alarm | None:
        alarm = None
        if self.known is not None:
            alarm = doubt(self.known, found, self._chain(self.known, found))
        if alarm is None and found is not None and held:
            alarm = versions_doubt(found, self._store.versions(), held)
        if alarm is None:
            alarm = self._unsafe()
        return alarm

    def _chain(self, known: StoreState, found: StoreState | None) -> str | None:
        """Return the chain value of the store's entry `known.seq`, None where there is none."""
        if found is None or found.seq < known.seq:
            return None
        if found.seq == known.seq:
            return found.chain
        for entry in self._store.record(after=known.seq - 1, limit=1):
            # A later one comes first when the record was shortened: then nothing can be compared.
            return entry.chain.hex() if entry.seq == known.seq else known.chain
        return None

    def _unsafe(self) -> Alarm | None:
        if self.alarm is not None or self._clock.monotonic() - self._looked >= CONDITIONS_SECONDS:
            self._look()
        for fault in self.faults:
            if fault.refused:
                return Alarm(UNSAFE, f"{fault.detail} {fault.advice}")
        return None

    def _look(self) -> None:
        found = tuple(faults(self._store.conditions()))
        for fault in found:
            if fault not in self.faults:
                log.warning("%s %s", fault.detail, fault.advice)
        self.faults, self._looked = found, self._clock.monotonic()

    def _set(self, alarm: Alarm | None) -> None:
        before, self.alarm = self.alarm, alarm
        if alarm is not None:
            self._store.distrust(alarm.detail)
        if alarm is not None and (before is None or before.kind != alarm.kind):
            log.error("keeping the flags that are known: %s", alarm.detail)
        elif alarm is None and before is not None:
            log.info("the store is the one that is known: following it")


def _is_later(state: StoreState, held: StoreState | None) -> bool:
    return held is None or state.store != held.store or state.mark.follows(held.mark)


def _latest(snapshots: Mapping[str, Snapshot]) -> StoreState | None:
    """Return what snapshots tell of their store when nothing else does."""
    versions = [snapshot.version for snapshot in snapshots.values()]
    if not versions:
        return None
    newest = max(versions, key=lambda version: version.epoch)
    return StoreState(newest.store, newest.epoch, 0, "")
