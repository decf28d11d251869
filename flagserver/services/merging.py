"""Batches of outcomes that wait in memory and are written together, once a second.

A fleet reports the same flags and versions: their counts become one write for each, whatever the
number of processes that reported. The store is told first which batches there are, and says which
it has not known, so one that came twice, to whichever process, counts once; every step may be taken
again after an answer that was lost. A process that is killed loses what waited, one second of
batches at most.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flagserver.domain.batches import Batch, Sorted
from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.outcomes import Report
from flagserver.ports import Outcomes as Store

from .background import Background

COMMIT_SECONDS = 1.0

MOST_ROWS = 20_000
"""Rows that wait: whoever brings more writes them itself, and its caller waits for that."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One batch that was written. found: what was taken of it."""

    environment: str
    found: Sorted


@dataclass(slots=True)
class _Round:
    """What is written together.

    waiting: environment -> batches and who says so.  new: those that the store had not known,
    where it was asked.  done: the environments that are written.
    """

    seq: int
    waiting: Mapping[str, list[tuple[Batch, str]]]
    new: dict[str, list[Batch]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


class Merging(Background):
    """Takes batches and commits them, from the moment that it is started until it is stopped.

    name: of this process, in hexadecimal and unlike any other's, also any before it.
    sort: what is taken of a batch at this moment.  about: what is told of its sender.
    taken: told each batch that was written.  repeated: told that one was known.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        sort: Callable[[str, Batch], Sorted],
        about: Callable[[Batch], Mapping[str, Any]],
        taken: Callable[[Taken], None],
        repeated: Callable[[], None],
    ) -> None:
        super().__init__(
            "sortition-outcomes",
            "Outcomes wait to be written, and SDKs keep what they have",
            every=COMMIT_SECONDS,
        )
        self._store = store
        self._process = name
        self._sort = sort
        self._about = about
        self._taken = taken
        self._repeated = repeated
        self._putting = threading.Lock()
        self._committing = threading.Lock()
        self._waiting: dict[tuple[str, str, int], tuple[Batch, str]] = {}
        self._rows = 0
        self._round: _Round | None = None
        self._numbers = itertools.count(1)
        self._rounds = itertools.count(1)
        self._away: StoreUnavailable | None = None

    def put(self, environment: str, batch: Batch) -> bool:
        """Keep a batch until the next commit. False when it waits already.

        Raises StoreUnavailable while the last commit has failed: its sender keeps it.
        """
        key = (environment, batch.source, batch.seq)
        with self._putting:
            if self._away is not None:
                raise self._away
            if key in self._waiting:
                self._repeated()
                return False
            self._waiting[key] = (batch, f"{self._process}{next(self._numbers):x}")
            self._rows += _rows(batch)
            full = self._rows >= MOST_ROWS
        if full:
            self.look()
        return True

    def look(self) -> None:
        """Write what waits. Raises StoreUnavailable; then the next look goes on from there."""
        with self._committing:
            self._round = self._round or self._begun()
            try:
                if self._round is not None:
                    self._commit(self._round)
            except StoreUnavailable as error:
                self._away = error
                raise
            except BaseException:
                # What cannot be written would keep out whatever comes after it.
                self._round = None
                raise
            self._round = self._away = None

    def leave(self) -> None:
        """Write the last of it."""
        while self._waiting or self._round is not None:
            self.look()

    def _begun(self) -> _Round | None:
        """Begin a round with one batch of each source, its oldest: only the last that the store was
        told of a source can be told again."""
        with self._putting:
            if not self._waiting:
                return None
            chosen = {key[:2]: key for key in reversed(self._waiting)}
            waiting: dict[str, list[tuple[Batch, str]]] = defaultdict(list)
            for key in reversed(chosen.values()):
                waiting[key[0]].append(self._waiting.pop(key))
            self._rows = sum(_rows(batch) for batch, _ in self._waiting.values())
        return _Round(next(self._rounds), waiting)

    def _commit(self, round_: _Round) -> None:
        for environment, waiting in round_.waiting.items():
            if environment in round_.done:
                continue
            if environment not in round_.new:
                round_.new[environment] = self._unknown(environment, waiting)
            taken = [
                Taken(environment, self._sort(environment, b)) for b in round_.new[environment]
            ]
            rows = [row for each in taken for row in each.found.rows]
            drawn = [some for each in taken for some in each.found.drawn]
            self._store.count(environment, f"{self._process}:1", round_.seq, rows, drawn)
            round_.done.add(environment)
            for each in taken:
                self._taken(each)

    def _unknown(self, environment: str, waiting: list[tuple[Batch, str]]) -> list[Batch]:
        """Return the batches that the store has not known; it does from now on."""
        reports = [
            Report(batch.source, batch.seq, owner, self._about(batch)) for batch, owner in waiting
        ]
        new = self._store.note(environment, reports)
        for _ in range(new.count(False)):
            self._repeated()
        return [batch for (batch, _), is_new in zip(waiting, new, strict=True) if is_new]


def _rows(batch: Batch) -> int:
    return sum(1 + len(tick.flags) for tick in batch.ticks)
