"""Rollouts: looking at them, and everything that people may do to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from flagserver.domain import access, documents, doubts, flags, verbs, verdicts
from flagserver.domain.approvals import Base, Consent, Wish
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.documents import Change, Fact, Idempotency, Principal
from flagserver.domain.errors import Invalid
from flagserver.domain.plan import NO_STEP
from flagserver.domain.rollout import TICK_SECONDS, Rollout, gap_seconds
from flagserver.domain.rollout_commands import NewRollout, RolloutPlan
from flagserver.domain.states import State
from flagserver.domain.times import moment
from flagserver.domain.verbs import Turn
from flagserver.ports import (
    UNTOLD,
    Clock,
    Documents,
    Entropy,
    Evidence,
    Looks,
    SignalSource,
    TargetDriver,
)

from . import lists
from .environments import known_environment
from .four_eyes import FourEyes
from .judging import Calibrate, nothing_known
from .lists import Page, Wanted
from .schedules import Schedules
from .starting import Planned, Rate, Reported, Starting, nobody
from .turns import RolloutView, Turns, check_revision

STALE_SECONDS = 60.0
"""A rollout that no controller has looked at for so long is in no known state."""


EVERYTHING = Wanted()

NOTE = "rollout:note"
NOTES_WITHIN = 20
"""A note is looked for among so many of the newest entries: little follows a rollback."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a rollout stands at this moment.

    state: `unknown` when no controller looks at one that it should look at.
    elapsed: seconds of this step's hold that are over.  due: when it will be over (unix seconds),
    None while the timer stands.  looked: when a controller looked last.
    by_hand: while it goes back, the commands that take its traffic back without us.
    """

    state: State
    elapsed: float
    due: float | None
    looked: float | None
    by_hand: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks of a rollout, and what the answer may depend on.

    seen: asks until when somebody watched it.  killed: asks which of its flags are killed.
    """

    rollout: Rollout
    now: float
    by: Principal
    reason: str | None
    seen: Callable[[], float]
    killed: Callable[[], list[str]]


class Seen(Looks, Evidence, Protocol):
    """What controllers saw of rollouts, and what they judge them by."""


class Enlarge(Protocol):
    """Does what lets exposure grow: at the revision that was seen, and no other.

    dry: only say what would become of it, which asks for no reason and no confirmation.
    consent: a second person's, by whom it is carried out.
    """

    def __call__(
        self,
        id: str,
        command: Enlarging,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
        *,
        dry: bool = False,
        consent: Consent | None = None,
    ) -> RolloutView:
        """Raise NotFound, Forbidden, StaleRevision, Conflict, what `flags.check_may_enlarge`
        raises, and ApprovalRequired where a second person has to approve first."""


class Shrink(Protocol):
    """Does what lets nothing grow: without a revision, to whatever is there.

    dry: only say what would become of it.
    """

    def __call__(
        self,
        id: str,
        command: Reasoned,
        by: Principal,
        revision: int | None = None,
        idempotency: Idempotency | None = None,
        *,
        dry: bool = False,
    ) -> RolloutView:
        """Raise NotFound, Forbidden, StaleRevision, Conflict."""


class Rollouts:
    """Use cases around rollouts. The controller's half is `steering`."""

    def __init__(
        self,
        store: Documents,
        looks: Seen,
        drivers: Mapping[str, TargetDriver],
        sources: Mapping[str, SignalSource],
        clock: Clock,
        entropy: Entropy,
        rate: Rate,
        tick_seconds: float = TICK_SECONDS,
        told: Callable[[Turn], None] = UNTOLD.turned,
        reported: Reported = nobody,
        calibrate: Calibrate = nothing_known,
    ) -> None:
        self._store = store
        self._looks = looks
        self._drivers = drivers
        self._clock = clock
        self._entropy = entropy
        self._gap = gap_seconds(tick_seconds)
        self._turns = Turns(store, clock, entropy, told)
        self._four_eyes = FourEyes(store, clock, entropy)
        schedules = Schedules(store, clock, entropy)
        self._starting = Starting(
            *(store, self._turns, schedules, drivers, sources, clock, entropy, rate, reported),
            calibrate,
        )

    # Looking

    def page(
        self, wanted: Wanted = EVERYTHING, *, before: str | None = None, limit: int = 50
    ) -> Page:
        """Return rollouts, newest first; see `lists.page`."""
        return lists.page(self._turns, self._shown, wanted, before=before, limit=limit)

    def under_way(self) -> list[RolloutView]:
        """Return every rollout that has not ended, of all environments."""
        return list(self._turns.live().values())

    def last_ends(self) -> dict[tuple[str, str], State]:
        """Return how the newest of the ended rollouts of each (service, environment) ended."""
        newest = sorted(self._turns.headers(), key=lambda header: header.created)
        return {(header.service, header.environment): State(header.state) for header in newest}

    def get(self, id: str, by: Principal) -> RolloutView:
        """Return a rollout. Raises NotFound, and Forbidden for another environment's."""
        view = self._turns.get(id)
        access.check(by, access.READ, view.rollout.environment)
        return view

    def last_looks(self, views: Sequence[RolloutView]) -> Mapping[str, Mapping[str, Any]]:
        """Return what a controller saw last, by rollout; see `_look_body` in `steering`."""
        return self._looks.last([view.rollout.id for view in views])

    def judgement(self, view: RolloutView) -> Mapping[str, Any] | None:
        """Return how a rollout's judgement stands (`verdicts.told`), None before anybody was
        exposed."""
        rollout = view.rollout
        if rollout.step == NO_STEP and rollout.rollback is None:
            return None
        kept = self._looks.standings([rollout.id]).get(rollout.id)
        return verdicts.told(kept, self._now())

    def looks(self, id: str, by: Principal, *, limit: int = 400) -> list[Mapping[str, Any]]:
        """Return what controllers saw at a rollout, oldest first. Raises NotFound."""
        return self._looks.looks(self.get(id, by).rollout.id, limit=limit)

    def history(
        self, id: str, by: Principal, *, before: int | None = None, limit: int = 100
    ) -> list[Mapping[str, Any]]:
        """Return what the record says of a rollout, newest first. Raises NotFound."""
        name = self.get(id, by).rollout.name
        return self._store.history(target=name, environment=None, before=before, limit=limit)

    def standings(self, views: Sequence[RolloutView]) -> dict[str, Standing]:
        """Return how rollouts stand now, by id."""
        now = self._now()
        looked = self._looks.seen([view.rollout.id for view in views])
        return {
            view.rollout.id: replace(
                _standing(view.rollout, now, looked.get(view.rollout.id), self._gap),
                by_hand=self._by_hand(view.rollout),
            )
            for view in views
        }

    def _shown(self, views: Sequence[RolloutView]) -> Mapping[str, State]:
        return {id: standing.state for id, standing in self.standings(views).items()}

    def _by_hand(self, rollout: Rollout) -> tuple[str, ...]:
        if rollout.state not in {State.ROLLING_BACK, State.ROLLBACK_FAILED}:
            return ()
        return tuple(
            command
            for target in rollout.traffic
            for command in self._drivers[target.kind].commands_by_hand(target)
        )

    # Before it begins

    def plan(self, command: RolloutPlan, by: Principal) -> Planned:
        """Return what every step would really do; see `Starting.plan`."""
        return self._starting.plan(command, by)

    def start(
        self,
        command: NewRollout,
        by: Principal,
        idempotency: Idempotency | None = None,
        consent: Consent | None = None,
    ) -> RolloutView:
        """Start a rollout, at once or when its time comes; see `Starting.start`."""
        return self._starting.start(command, by, idempotency, consent)

    # On its way: each verb is what the domain makes of it

    @property
    def begin(self) -> Enlarge:
        """Start a rollout now that waits for its time."""
        return self._enlarging(lambda it: verbs.start(it.rollout, it.now, it.reason))

    @property
    def hold(self) -> Shrink:
        """Stop the timer and every move up, until somebody resumes."""
        return self._shrinking(lambda it: verbs.hold(it.rollout, it.now, it.seen(), it.reason))

    @property
    def resume(self) -> Enlarge:
        """Go on after somebody held it, or changed a target or flag of it."""
        return self._enlarging(lambda it: verbs.resume(it.rollout, it.now, it.killed(), it.reason))

    @property
    def advance(self) -> Enlarge:
        """Skip the rest of this step's wait."""
        return self._enlarging(lambda it: verbs.advance(it.rollout, it.now, it.reason))

    @property
    def approve(self) -> Enlarge:
        """Approve of going on from this step."""
        return self._enlarging(lambda it: verbs.approve(it.rollout, it.by.id, it.now, it.reason))

    @property
    def roll_back(self) -> Shrink:
        """Take everything back to 0 %: flags at once, traffic at the controller's next look."""

        def turn(it: Asked) -> Turn:
            cause = verbs.by_person(it.rollout, it.now, it.reason)
            return verbs.roll_back(it.rollout, cause, it.reason)

        return self._shrinking(turn)

    def note(
        self,
        id: str,
        command: Reasoned,
        by: Principal,
        revision: int | None = None,
        idempotency: Idempotency | None = None,
        *,
        dry: bool = False,
    ) -> RolloutView:
        """Add words to the record of a rollout: why it was taken back, what was found since. It
        changes nothing of it. Raises NotFound, Forbidden, StaleRevision, Invalid without any
        words."""
        view = self.get(id, by)
        rollout = view.rollout
        access.check(by, access.SHRINK, rollout.environment)
        if command.reason is None:
            raise Invalid("A note has to say something.", field="/reason")
        if dry or self._repeats(idempotency):
            return view
        check_revision(view, revision)
        fact = Fact(
            actor=by.id,
            role=by.role_in(rollout.environment),
            action=NOTE,
            target=rollout.name,
            environment=rollout.environment,
            reason=command.reason,
        )
        change = Change(writes=(), fact=fact, idempotency=idempotency)
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))
        return view

    def unexplained(self, views: Sequence[RolloutView]) -> set[str]:
        """Return the ids of those that a person took back and nobody said why, then or since."""
        silent = [view.rollout for view in views if verbs.is_unexplained(view.rollout)]
        return {rollout.id for rollout in silent if not self._has_note(rollout)}

    def _has_note(self, rollout: Rollout) -> bool:
        newest = self._store.history(
            target=rollout.name, environment=None, before=None, limit=NOTES_WITHIN
        )
        return any(entry["action"] == NOTE for entry in newest)

    # How

    def _enlarging(self, verb: Callable[[Asked], Turn]) -> Enlarge:
        """Commit a verb that lets exposure grow: only against the rollout as the caller saw it, or
        a click that comes late would skip the wait of the step after."""

        def do(
            id: str,
            command: Enlarging,
            revision: int,
            by: Principal,
            idempotency: Idempotency | None = None,
            *,
            dry: bool = False,
            consent: Consent | None = None,
        ) -> RolloutView:
            view = self._turns.get(id)
            environment = view.rollout.environment
            access.check(by, access.ROLL_OUT, environment)
            where = known_environment(self._store, environment)
            if not dry:
                flags.check_may_enlarge(where, command)
            if not dry and self._repeats(idempotency):
                return view
            check_revision(view, revision)
            who = by if consent is None else consent.author
            turn = verb(self._asked(view.rollout, who, command.reason))
            if dry:
                return RolloutView(turn.after, revision)
            doubts.check(self._store.read(doubts.COLLECTION, doubts.KEY))
            if turn.changed:
                wish = _wish(turn, revision, command)
                self._four_eyes.check(where, wish, by, idempotency, consent)
            return self._turns.commit(turn, revision, who, idempotency=idempotency, consent=consent)

        return do

    def _shrinking(self, verb: Callable[[Asked], Turn]) -> Shrink:
        """Commit a verb that lets nothing grow; without a revision, whatever the rollout has become
        meanwhile."""

        def do(
            id: str,
            command: Reasoned,
            by: Principal,
            revision: int | None = None,
            idempotency: Idempotency | None = None,
            *,
            dry: bool = False,
        ) -> RolloutView:
            def turn(view: RolloutView) -> Turn:
                return verb(self._asked(view.rollout, by, command.reason))

            view = self._turns.get(id)
            access.check(by, access.SHRINK, view.rollout.environment)
            if not dry and self._repeats(idempotency):
                return view
            check_revision(view, revision)
            if dry:
                return RolloutView(turn(view).after, view.revision)
            if revision is None:
                return self._turns.decide(id, turn, by, idempotency)
            return self._turns.commit(turn(view), revision, by, idempotency=idempotency)

        return do

    def _asked(self, rollout: Rollout, by: Principal, reason: str | None) -> Asked:
        now = self._now()
        return Asked(
            rollout,
            now,
            by,
            reason,
            seen=lambda: self._seen(rollout, now),
            killed=lambda: self._killed(rollout),
        )

    def _repeats(self, idempotency: Idempotency | None) -> bool:
        return idempotency is not None and self._store.repeats(idempotency)

    def _seen(self, rollout: Rollout, now: float) -> float:
        last = self._looks.seen([rollout.id]).get(rollout.id)
        return rollout.seen_until(now, last, self._gap)

    def _killed(self, rollout: Rollout) -> list[str]:
        return [name for name, it in self._turns.flags(rollout).items() if it.state.killed]

    def _now(self) -> float:
        return moment(self._clock.now())


def _wish(turn: Turn, revision: int, command: Enlarging) -> Wish:
    """Return a verb as a second person approves of it: the revision says the rest.

    step: from 0.  share: of that step, next: of the following one, None at the end (ppm).
    """
    rollout = turn.after
    shares = [step.shown for step in rollout.plan]
    here = {"steps": len(shares), "share": 0 if rollout.step == NO_STEP else shares[rollout.step]}
    following = shares[rollout.step + 1 : rollout.step + 2]
    return Wish(
        environment=rollout.environment,
        thing=rollout.name,
        action=turn.action,
        base=(Base(documents.ROLLOUTS, rollout.id, revision),),
        command=command.model_dump(mode="json", exclude_none=True),
        result={
            "state": str(rollout.state),
            "step": rollout.step,
            **here,
            "next": following[0] if following else None,
        },
    )


def _standing(rollout: Rollout, now: float, looked: float | None, gap: float) -> Standing:
    seen = rollout.seen_until(now, looked, gap)
    last = max(rollout.changed, looked or 0.0, rollout.start_at or 0.0)
    known = not rollout.needs_controller(now) or now - last <= STALE_SECONDS
    return Standing(
        state=rollout.state if known else State.UNKNOWN,
        elapsed=rollout.elapsed(seen),
        due=rollout.due(now, seen) if known else None,
        looked=looked,
    )
