"""Reviews: how rollouts went, and what people say of those that have ended."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flagserver.domain import access, documents, drills
from flagserver.domain.commands import Command, Reason
from flagserver.domain.documents import Change, Fact, Idempotency, Principal, Write
from flagserver.domain.errors import Conflict
from flagserver.domain.review import Mark, Marked, Review, Run, may_mark, review, run_of
from flagserver.domain.states import State
from flagserver.domain.times import rfc3339
from flagserver.ports import Clock, Documents, Entropy

from .turns import Turns

AT_ONCE = 200
MOST_SWEPT = 20
"""Marks of rollouts that are not kept any more, taken away with the next one that is made."""

DAY = 24 * 3600.0


class MarkBody(Command):
    """What somebody says of a rollout. mark: None takes back what was said."""

    mark: Literal["right", "false", "missed"] | None
    reason: Reason | None = None

    @property
    def said(self) -> Mark | None:
        """What is said."""
        return None if self.mark is None else Mark(self.mark)


@dataclass(frozen=True, slots=True)
class Seen:
    """A review, and the rollouts that it is about, newest first."""

    review: Review
    rollouts: Sequence[Marked]


class Reviewing:
    """Use cases around reviews."""

    def __init__(self, store: Documents, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._turns = Turns(store, clock, entropy)
        self._lock = threading.Lock()
        self._runs: dict[str, tuple[Run, bool]] = {}
        """Of those that have ended, and never change: what counts, and whether it was a drill."""

    def review(self, days: int, environment: str | None, by: Principal) -> Seen:
        """Return how rollouts went in the last days. environment: None for all of them.

        Raises Forbidden.
        """
        access.check(by, access.READ, environment)
        until = self._clock.now().timestamp()
        since = until - days * DAY
        marks = self.marks()
        found = [
            Marked(run, marks.get(run.id), drill)
            for run, drill in self._all(since)
            if environment in (None, run.environment)
        ]
        newest = sorted(found, key=lambda each: each.run.ended or until, reverse=True)
        return Seen(review(found, since, until), [each for each in newest if not each.drill])

    def marks(self) -> Mapping[str, Mark]:
        """Return what people said, by rollout."""
        found = self._store.read_all(documents.MARKS)
        return {id: Mark(document.body["mark"]) for id, document in found.items()}

    def mark(
        self, id: str, command: MarkBody, by: Principal, idempotency: Idempotency | None = None
    ) -> Marked:
        """Say of a rollout that it ended rightly, or was a false or a missed one; whoever says so
        last is right. Raises NotFound, Forbidden, Conflict."""
        rollout = self._turns.get(id).rollout
        access.check(by, access.SHRINK, rollout.environment)
        run, said = run_of(rollout), command.said
        if said is not None and not may_mark(run, said):
            raise Conflict(_refused(run, said))
        before = self._store.read(documents.MARKS, id)
        was = None if before is None else Mark(before.body["mark"])
        if was is not said:
            at = rfc3339(self._clock.now())
            body = None if said is None else {"mark": str(said), "at": at}
            write = Write(documents.MARKS, id, 0 if before is None else before.revision, body)
            fact = Fact(
                actor=by.id,
                role=by.role,
                action="rollout:mark",
                target=rollout.name,
                environment=rollout.environment,
                before=None if was is None else {"mark": str(was)},
                after=None if said is None else {"mark": str(said)},
                reason=command.reason,
            )
            change = Change((write, *self._sweep()), fact, idempotency=idempotency)
            self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))
        return Marked(run, said)

    # How

    def _all(self, since: float) -> list[tuple[Run, bool]]:
        headers = [header for header in self._turns.headers() if header.ended > since]
        with self._lock:
            there = {header.id for header in headers}
            self._runs = {id: known for id, known in self._runs.items() if id in there}
            unknown = sorted(there - self._runs.keys())
            for i in range(0, len(unknown), AT_ONCE):
                for id, view in self._turns.read_ended(unknown[i : i + AT_ONCE]).items():
                    run = run_of(view.rollout)
                    self._runs[id] = run, self._was_drill(run)
            ended = list(self._runs.values())
        live = [run_of(view.rollout) for view in self._turns.live().values()]
        return [*ended, *((run, False) for run in live if run.started is not None)]

    def _was_drill(self, run: Run) -> bool:
        """Tell whether a rollout was made to fail on purpose, as the record says."""
        if run.state is not State.ROLLED_BACK or not run.automatic:
            return False
        target = f"rollout/{run.id}"
        entries = self._store.history(target=target, environment=None, before=None, limit=500)
        return any(entry["action"] == drills.BEGIN for entry in entries)

    def _sweep(self) -> list[Write]:
        """Return the writes that take away what was said of rollouts that are gone."""
        kept = {header.id for header in self._turns.headers()}
        gone = sorted(set(self._store.keys(documents.MARKS)) - kept)[:MOST_SWEPT]
        found = self._store.read_some(documents.MARKS, gone) if gone else {}
        return [Write(documents.MARKS, id, it.revision, None) for id, it in found.items()]


def _refused(run: Run, mark: Mark) -> str:
    words = run.state.shown.words.lower()
    if run.state not in {State.COMPLETED, State.ROLLED_BACK}:
        return f"rollout/{run.id} is {words}: what is said of it is said once it has ended."
    if mark is Mark.FALSE:
        return f"rollout/{run.id} was not taken back by itself, so that was not false."
    return f"rollout/{run.id} was taken back by itself: nothing was missed."
