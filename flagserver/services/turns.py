"""How a turn of a rollout is kept: its document, its flags, its claims, its entry and its notices,
in one commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sortition.record.replay import STATES

from flagserver.domain import documents, rollout_flags, telling
from flagserver.domain.approvals import Consent
from flagserver.domain.documents import Change, Document, Fact, Idempotency, Principal, Write
from flagserver.domain.errors import AlreadyExists, Conflict, NotFound, Refusal, StaleRevision
from flagserver.domain.flags import Flag, State, default_state
from flagserver.domain.rollout import Rollout
from flagserver.domain.times import moment, rfc3339
from flagserver.domain.verbs import CONTROLLER, Turn
from flagserver.ports import UNTOLD, Clock, Documents, Entropy

from .ended import Ended, Header, forget

log = logging.getLogger(__name__)

ATTEMPTS = 10
"""How often a turn is tried again because a flag of it was changed at the same time."""


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as it is kept, at a revision of its document."""

    rollout: Rollout
    revision: int


@dataclass(frozen=True, slots=True)
class FlagState:
    """A flag with its state in the rollout's environment, at a revision (0: untouched)."""

    flag: Flag
    state: State
    revision: int


class Turns:
    """Reads rollouts and commits what happens to them."""

    def __init__(
        self,
        store: Documents,
        clock: Clock,
        entropy: Entropy,
        told: Callable[[Turn], None] = UNTOLD.turned,
    ) -> None:
        """told: of every turn that was committed here."""
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._told = told
        self._live: dict[str, RolloutView] = {}
        self._ended = Ended(store)

    # Looking

    def live(self) -> dict[str, RolloutView]:
        """Return every rollout that has not ended, by id, in the order of their ids."""
        found = self._store.read_all(documents.ROLLOUTS)
        # Most are as they were: only what changed is read anew.
        self._live = {
            id: before
            if (before := self._live.get(id)) and before.revision == document.revision
            else _view(document)
            for id, document in sorted(found.items())
        }
        return dict(self._live)

    def headers(self) -> list[Header]:
        """Return by what they are found the rollouts that have ended and are still kept."""
        return self._ended.headers()

    def read_ended(self, ids: Sequence[str]) -> dict[str, RolloutView]:
        """Return ended rollouts by id; what was forgotten meanwhile is left out."""
        return _views(self._store.read_some(documents.ENDED_ROLLOUTS, ids))

    def find(self, id: str) -> RolloutView | None:
        """Return a rollout, live or ended, or None."""
        for collection in (documents.ROLLOUTS, documents.ENDED_ROLLOUTS):
            document = self._store.read(collection, id)
            if document is not None:
                return RolloutView(Rollout.from_body(document.body), document.revision)
        return None

    def get(self, id: str) -> RolloutView:
        """Return a rollout, live or ended. Raises NotFound."""
        kept = self.find(id)
        if kept is None:
            raise NotFound(f"There is no rollout {id!r}; ended ones are kept for 90 days.")
        return kept

    def flag(self, key: str, environment: str) -> FlagState:
        """Return a flag in an environment. Raises NotFound."""
        document = self._store.read(documents.FLAGS, key)
        if document is None:
            raise NotFound(f"There is no flag {key!r}.")
        flag = Flag.from_body(document.body)
        state = self._store.read(documents.states(environment), key)
        if state is None:
            return FlagState(flag, default_state(flag, environment), 0)
        return FlagState(flag, State.from_body(state.body), state.revision)

    def flags(self, rollout: Rollout) -> dict[str, FlagState]:
        """Return the rollout's flags by key. Raises NotFound."""
        names = [target.name for target in rollout.flags]
        return {name: self.flag(name, rollout.environment) for name in names}

    def states(self, rollouts: Iterable[Rollout]) -> dict[str, dict[str, State]]:
        """Return the state of every flag of some rollouts, environment -> key -> state, one read
        for each environment. A flag that nobody touched there is left out."""
        wanted: dict[str, list[str]] = {}
        for rollout in rollouts:
            wanted.setdefault(rollout.environment, []).extend(t.name for t in rollout.flags)
        return {
            environment: {
                key: State.from_body(document.body)
                for key, document in self._store.read_environment(environment, names).states.items()
            }
            for environment, names in wanted.items()
            if names
        }

    # Keeping

    def decide(
        self,
        id: str,
        verb: Callable[[RolloutView], Turn],
        by: Principal = CONTROLLER,
        idempotency: Idempotency | None = None,
    ) -> RolloutView:
        """Commit what a verb makes of a rollout, asking it anew when the rollout moved on
        meanwhile. Raises NotFound, Conflict, and what the verb raises."""
        for _ in range(ATTEMPTS):
            view = self.get(id)
            try:
                return self.commit(verb(view), view.revision, by, idempotency=idempotency)
            except StaleRevision:
                continue
        raise Conflict(f"rollout/{id} changes too quickly. Try again.")

    def commit(
        self,
        turn: Turn,
        revision: int,
        by: Principal = CONTROLLER,
        *,
        ends: RolloutView | None = None,
        flags: Mapping[str, FlagState] | None = None,
        by_hand: tuple[str, ...] = (),
        idempotency: Idempotency | None = None,
        consent: Consent | None = None,
    ) -> RolloutView:
        """Keep a turn. revision: of the rollout's document, 0 for a new one.

        ends: the older rollout as it is kept, when the turn ends one.
        flags: as the decision saw them: a flag that was changed since then is refused. Without,
        they are read here and whatever else is in them is kept.
        consent: of a second person; what they approved of ends in the same commit.
        Raises StaleRevision when the rollout or one of `flags` moved on, and what `commit` raises.
        """
        if not turn.changed:
            return RolloutView(turn.after, revision)
        for _ in range(ATTEMPTS):
            seen = self.flags(turn.after) if flags is None else flags
            change = self._change(turn, revision, by, ends, seen, by_hand, idempotency)
            if consent is not None:
                change = _approved(change, consent, turn)
            try:
                done = self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))
            except (StaleRevision, AlreadyExists) as error:
                alone = flags is None and ends is None and consent is None
                if alone and self._is_at(turn.after.id, revision):
                    continue
                words = f"{turn.after.name} or a flag of it was changed meanwhile. Look again."
                current = self.find(turn.after.id)
                found = 0 if current is None else current.revision
                raise StaleRevision(words, revision=found) from error
            if done.repeated:
                return self.get(turn.after.id)
            self._told(turn)
            if turn.after.state.shown.terminal:
                self._forget_old()
            return RolloutView(turn.after, revision + 1)
        raise Conflict(f"The flags of {turn.after.name} change too quickly. Try again.")

    def _forget_old(self) -> None:
        """Take away what was kept long enough. Whoever ends a rollout does so, so that they cannot
        pile up; when it cannot be now, the next one does."""
        try:
            old = self._ended.to_be_forgotten(moment(self._clock.now()))
            if old:
                forgetting = forget(old)
                self._store.commit(forgetting, at=self._clock.now(), salt=self._entropy.hex(16))
        except Refusal as error:
            log.info("ended rollouts are forgotten another time: %s", error.detail)

    def _is_at(self, id: str, revision: int) -> bool:
        """Tell whether a live rollout is at a revision, or none is there at 0."""
        live = self._store.read(documents.ROLLOUTS, id)
        return revision == (0 if live is None else live.revision)

    def _change(
        self,
        turn: Turn,
        revision: int,
        by: Principal,
        ends: RolloutView | None,
        flags: Mapping[str, FlagState],
        by_hand: tuple[str, ...],
        idempotency: Idempotency | None,
    ) -> Change:
        at = rfc3339(self._clock.now())
        rollout = turn.after
        written = {
            name: (seen, rollout_flags.after(turn, seen.state, at=at))
            for name, seen in flags.items()
        }
        changed = {n: (s, after) for n, (s, after) in written.items() if after != s.state}
        collection = documents.states(rollout.environment)
        writes = [
            *_document_writes(rollout, revision),
            *(_document_writes(turn.ends, ends.revision) if turn.ends and ends else ()),
            *(Write(collection, n, s.revision, a.to_body()) for n, (s, a) in changed.items()),
        ]
        # A lock alone is served to nobody, but whoever decides about all flags of an environment
        # (an archive) must see that one was locked meanwhile.
        served = tuple(changed)
        ended = rollout.state.shown.terminal
        given_back = turn.ends.claims if turn.ends else rollout.claims if ended else {}
        return Change(
            writes=tuple(writes),
            fact=_with_states(turn.fact(by), rollout.environment, changed),
            environments=(rollout.environment,) if served else (),
            flags=served,
            claims={} if ended else rollout.claims,
            releases=given_back,
            notices=telling.notices(turn, by_hand),
            idempotency=idempotency,
        )


def _approved(change: Change, consent: Consent, turn: Turn) -> Change:
    """Return a change that also ends what was approved of, and tells of both people."""
    return replace(
        change,
        writes=(*change.writes, consent.write(turn.after.name)),
        fact=consent.told(change.fact),
    )


def _with_states(
    fact: Fact, environment: str, changed: Mapping[str, tuple[FlagState, State]]
) -> Fact:
    """Return the entry with what became of the rollout's flags, so that their states follow from
    the record alone (`sortition.record.replay`)."""
    if not changed:
        return fact
    told = {
        name: {"before": seen.state.to_body(), "after": after.to_body()}
        for name, (seen, after) in changed.items()
    }
    return replace(fact, after={**fact.after, STATES: {environment: told}})


def check_revision(view: RolloutView, revision: int | None) -> None:
    """Raise StaleRevision unless a rollout is at this revision; None: whichever it is at."""
    if revision not in {None, view.revision}:
        words = f"{view.rollout.name} is at revision {view.revision} now."
        raise StaleRevision(words, revision=view.revision)


def _views(found: Mapping[str, Document]) -> dict[str, RolloutView]:
    return {id: _view(document) for id, document in found.items()}


def _view(document: Document) -> RolloutView:
    return RolloutView(Rollout.from_body(document.body), document.revision)


def _document_writes(rollout: Rollout, revision: int) -> list[Write]:
    if not rollout.state.shown.terminal:
        return [Write(documents.ROLLOUTS, rollout.id, revision, rollout.to_body())]
    # It goes on counting: whoever compares revisions must not take the end for an older state.
    ended = Write(documents.ENDED_ROLLOUTS, rollout.id, 0, rollout.to_body(), revision + 1)
    return [Write(documents.ROLLOUTS, rollout.id, revision, None), ended]
