"""Rollouts: looking at them, planning one, and everything that people may do to one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from flagserver.domain import (
    access,
    documents,
    flags,
    guards,
    plan,
    requirements,
    rollout_flags,
    verbs,
)
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.documents import Idempotency, Principal
from flagserver.domain.environments import Environment
from flagserver.domain.errors import (
    Conflict,
    Invalid,
    NotFound,
    StaleRevision,
    TargetUnavailable,
    under,
)
from flagserver.domain.guards import Guard, Kind, Verdict
from flagserver.domain.plan import Preview
from flagserver.domain.rollout import TICK_SECONDS, Rollout, gap_seconds
from flagserver.domain.rollout_commands import NewRollout, RolloutPlan
from flagserver.domain.signals import Measure, Measured
from flagserver.domain.states import State
from flagserver.domain.targets import Mode, Target
from flagserver.domain.times import moment
from flagserver.domain.verbs import Turn
from flagserver.ports import UNTOLD, Clock, Documents, Entropy, Looks, SignalSource, TargetDriver

from .schedules import Schedules
from .turns import FlagState, RolloutView, Turns

ID_OCTETS = 5
"""A rollout's id is 40 random bits: enough to be told apart, short enough to be said."""

Verb = Callable[[Rollout, float], Turn]
"""(rollout, now) -> what happens to it."""

Rate = Callable[[str, str], float | None]
"""(environment, service) -> requests per second of late, None if nobody reports."""


STALE_SECONDS = 60.0
"""A rollout that no controller has looked at for so long is in no known state."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a rollout stands at this moment.

    state: `unknown` when no controller looks at one that it should look at.
    elapsed: seconds of this step's hold that are over.  due: when it will be over (unix seconds),
    None while the timer stands.  looked: when a controller looked last.
    by_hand: while it goes back, the commands that take its traffic back without us.
    by_hand: while it goes back, the commands that take its traffic back without us.
    """

    state: State
    elapsed: float
    due: float | None
    looked: float | None
    by_hand: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """What a rollout would do. problems: what would refuse its start now, in sentences."""

    rollout: Rollout
    steps: tuple[Preview, ...]
    requests_per_second: float | None
    problems: tuple[str, ...]


class Rollouts:
    """Use cases around rollouts. The controller's half is `steering`."""

    def __init__(
        self,
        store: Documents,
        looks: Looks,
        drivers: Mapping[str, TargetDriver],
        sources: Mapping[str, SignalSource],
        clock: Clock,
        entropy: Entropy,
        rate: Rate,
        tick_seconds: float = TICK_SECONDS,
        told: Callable[[Turn], None] = UNTOLD.turned,
    ) -> None:
        self._store = store
        self._looks = looks
        self._drivers = drivers
        self._sources = sources
        self._clock = clock
        self._entropy = entropy
        self._rate = rate
        self._gap = gap_seconds(tick_seconds)
        self._turns = Turns(store, clock, entropy, told)
        self._schedules = Schedules(store, clock, entropy)

    # Looking

    def all(self, environment: str | None = None, *, ended: bool = True) -> list[RolloutView]:
        """Return rollouts, those that have not ended first, newest first."""
        live, over = self._turns.live(), self._turns.ended() if ended else {}
        return [
            view
            for part in (live, over)
            for view in sorted(part.values(), key=lambda v: v.rollout.created, reverse=True)
            if environment in (None, view.rollout.environment)
        ]

    def get(self, id: str, by: Principal) -> RolloutView:
        """Return a rollout. Raises NotFound, and Forbidden for another environment's."""
        view = self._turns.get(id)
        access.check(by, access.READ, view.rollout.environment)
        return view

    def last_looks(self, views: Sequence[RolloutView]) -> Mapping[str, Mapping[str, Any]]:
        """Return what a controller saw last, by rollout; see `_look_body` in `steering`."""
        return self._looks.last([view.rollout.id for view in views])

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
        """Return what every step would really do. Raises Invalid; changes nothing."""
        access.check(by, access.READ, command.environment)
        self._environment(command.environment)
        draft = self._draft(command, "r-planned", by).after
        rate = command.requests_per_second or self._rate(command.environment, command.service)
        steps = plan.preview(
            draft.schedule,
            draft.relation,
            draft.targets,
            draft.guards,
            requests_per_second=rate,
            nearest=self._nearest,
        )
        return Planned(draft, steps, rate, tuple(self._problems(draft, command)))

    def start(
        self, command: NewRollout, by: Principal, idempotency: Idempotency | None = None
    ) -> RolloutView:
        """Start a rollout, at once or when its time comes. The same idempotency key twice is the
        same rollout.

        Raises Invalid, Conflict (a flag is in another rollout, an alarm fires already),
        TargetOwned, TargetUnavailable, and what `flags.check_may_enlarge` raises.
        """
        access.check(by, access.CHANGE, command.environment)
        flags.check_may_enlarge(self._environment(command.environment), command)
        id = self._id(idempotency)
        self._repeats(idempotency)  # refuses a key that was used for another rollout
        again = self._turns.find(id)
        if again is not None:
            return again
        older = self._older(command) if command.replace else None
        turn = self._draft(command, id, by, older)
        seen = self._flags(turn.after)
        for check in self._checks(turn.after, command, seen, older):
            check()
        return self._turns.commit(turn, 0, by, ends=older, flags=seen, idempotency=idempotency)

    # On its way

    def begin(
        self,
        id: str,
        command: Enlarging,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> RolloutView:
        """Start a rollout now that waits for its time."""

        def verb(rollout: Rollout, now: float) -> Turn:
            return verbs.start(rollout, now, command.reason)

        return self._enlarge(id, command, revision, by, verb, idempotency)

    def hold(
        self,
        id: str,
        command: Reasoned,
        by: Principal,
        revision: int | None = None,
        idempotency: Idempotency | None = None,
    ) -> RolloutView:
        """Stop the timer and every move up, until somebody resumes. Without a revision it holds
        against whatever is there."""

        def verb(rollout: Rollout, now: float) -> Turn:
            return verbs.hold(rollout, now, self._seen(rollout, now), command.reason)

        return self._shrink(id, by, verb, revision, idempotency)

    def resume(
        self,
        id: str,
        command: Enlarging,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> RolloutView:
        """Go on after somebody held it, or changed a target or flag of it."""

        def verb(rollout: Rollout, now: float) -> Turn:
            killed = [n for n, seen in self._turns.flags(rollout).items() if seen.state.killed]
            return verbs.resume(rollout, now, killed, command.reason)

        return self._enlarge(id, command, revision, by, verb, idempotency)

    def advance(
        self,
        id: str,
        command: Enlarging,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> RolloutView:
        """Skip the rest of this step's wait."""

        def verb(rollout: Rollout, now: float) -> Turn:
            return verbs.advance(rollout, now, command.reason)

        return self._enlarge(id, command, revision, by, verb, idempotency)

    def approve(
        self,
        id: str,
        command: Enlarging,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> RolloutView:
        """Approve of going on from this step."""

        def verb(rollout: Rollout, now: float) -> Turn:
            return verbs.approve(rollout, by.id, now, command.reason)

        return self._enlarge(id, command, revision, by, verb, idempotency)

    def roll_back(
        self,
        id: str,
        command: Reasoned,
        by: Principal,
        revision: int | None = None,
        idempotency: Idempotency | None = None,
    ) -> RolloutView:
        """Take everything back to 0 %: flags at once, traffic at the controller's next look."""

        def verb(rollout: Rollout, now: float) -> Turn:
            cause = verbs.by_person(rollout, now, command.reason)
            return verbs.roll_back(rollout, cause, command.reason)

        return self._shrink(id, by, verb, revision, idempotency)

    # How

    def _enlarge(
        self,
        id: str,
        command: Enlarging,
        revision: int,
        by: Principal,
        verb: Verb,
        idempotency: Idempotency | None,
    ) -> RolloutView:
        """Commit a verb that lets exposure grow: only against the rollout as the caller saw it, or
        a click that comes late would skip the wait of the step after."""
        view = self._turns.get(id)
        rollout = view.rollout
        access.check(by, access.CHANGE, rollout.environment)
        flags.check_may_enlarge(self._environment(rollout.environment), command)
        if self._repeats(idempotency):
            return view
        _check_revision(view, revision)
        turn = verb(rollout, self._now())
        return self._turns.commit(turn, revision, by, idempotency=idempotency)

    def _shrink(
        self,
        id: str,
        by: Principal,
        verb: Verb,
        revision: int | None,
        idempotency: Idempotency | None,
    ) -> RolloutView:
        """Commit a verb that lets nothing grow; without a revision, whatever the rollout has become
        meanwhile."""
        view = self._turns.get(id)
        access.check(by, access.SHRINK, view.rollout.environment)
        if self._repeats(idempotency):
            return view
        if revision is not None:
            _check_revision(view, revision)
            turn = verb(view.rollout, self._now())
            return self._turns.commit(turn, revision, by, idempotency=idempotency)
        return self._turns.decide(id, lambda v: verb(v.rollout, self._now()), by, idempotency)

    def _repeats(self, idempotency: Idempotency | None) -> bool:
        return idempotency is not None and self._store.repeats(idempotency)

    def _draft(
        self, command: RolloutPlan, id: str, by: Principal, older: RolloutView | None = None
    ) -> Turn:
        environment = self._environment(command.environment)
        now = self._now()
        at = now
        reason = lost_after = None
        if isinstance(command, NewRollout):
            at = now if command.start_at is None else max(now, moment(command.start_at))
            reason, lost_after = command.reason, command.lost_after()
        return verbs.create(
            id=id,
            environment=command.environment,
            service=command.service,
            version=command.version,
            schedule=command.the_schedule(partial(self._schedules.read, environment)),
            relation=command.the_relation(),
            targets=self._known(command.the_targets()),
            guards=self._measurable(command),
            by=by.id,
            now=now,
            start_at=at,
            instead_of=None if older is None else older.rollout,
            reason=reason,
            lost_after=lost_after,
        )

    def _known(self, targets: Sequence[Target]) -> Sequence[Target]:
        for i, target in enumerate(targets):
            if not target.is_flag and target.kind not in self._drivers:
                known = ", ".join(sorted({"flag", *self._drivers}))
                raise Invalid(
                    f"There is no kind of target {target.kind!r}; there are: {known}.",
                    field=f"/targets/{i}/kind",
                )
            if target.mode is not Mode.DRIVE:
                raise Invalid(
                    f"A {target.kind} can only be driven; {target.mode} is for engines that own "
                    "their weights.",
                    field=f"/targets/{i}/mode",
                )
        return targets

    def _measurable(self, command: RolloutPlan) -> Sequence[Guard]:
        all_guards = command.the_guards()
        for i, guard in enumerate(all_guards):
            if guard.signal.source not in self._sources:
                known = ", ".join(sorted(self._sources)) or "none"
                raise Invalid(
                    f"There is no source of signals {guard.signal.source!r}; there are: {known}.",
                    field=command.guard_field(i, guard, "/signal/source"),
                )
        return all_guards

    def _flags(self, draft: Rollout) -> dict[str, FlagState]:
        """Return the draft's flags by key. Raises Invalid for one that is not there."""
        found = {}
        for i, target in enumerate(draft.targets):
            if not target.is_flag:
                continue
            try:
                found[target.name] = self._turns.flag(target.name, draft.environment)
            except NotFound as error:
                raise Invalid(error.detail, field=f"/targets/{i}/name") from None
        return found

    def _problems(self, draft: Rollout, command: RolloutPlan) -> list[str]:
        """Return what would refuse the start now, one sentence for each thing."""
        found = []
        for check in self._checks(draft, command, self._flags(draft), None):
            try:
                check()
            except (Invalid, NotFound, Conflict, TargetUnavailable) as refusal:
                found.append(refusal.detail)
        return found

    def _checks(
        self,
        draft: Rollout,
        command: RolloutPlan,
        seen: Mapping[str, FlagState],
        replaced: RolloutView | None,
    ) -> list[Callable[[], None]]:
        """Return everything that a start is checked for, each by itself."""
        older = None if replaced is None else replaced.rollout
        taken_over = {target.id for target in older.targets} if older is not None else set()
        checks: list[Callable[[], None]] = []
        for i, target in enumerate(draft.targets):
            if target.is_flag:
                state = seen[target.name]
                checks.append(
                    lambda s=state, i=i: rollout_flags.check(  # type: ignore[misc]
                        draft, s.flag, s.state, older, f"/targets/{i}"
                    )
                )
            elif target.id not in taken_over:
                checks.append(lambda t=target, i=i: self._check_target(t, i))  # type: ignore[misc]
        checks += [
            lambda g=guard, i=i: self._check_guard(g, i, command)  # type: ignore[misc]
            for i, guard in enumerate(draft.guards)
        ]
        checks.append(lambda: self._check_quiet(draft))
        if command.requires is not None:
            required = command.requires.environment
            checks.append(lambda: self._check_required(draft, required))
        return checks

    def _check_required(self, draft: Rollout, environment: str) -> None:
        self._environment(environment, "/requires/environment")
        known = [view.rollout for view in self.all(environment)]
        requirements.check(draft, environment, known)

    def _check_target(self, target: Target, i: int) -> None:
        with under(f"/targets/{i}"):
            self._drivers[target.kind].check(target)

    def _check_guard(self, guard: Guard, i: int, command: RolloutPlan) -> None:
        try:
            self._sources[guard.signal.source].check(guard.signal)
        except Invalid as error:
            field = command.guard_field(i, guard, "/signal" + (error.field or ""))
            raise Invalid(error.detail, field=field) from None

    def _check_quiet(self, draft: Rollout) -> None:
        """Raise Conflict when an alarm fires already: it could tell nothing about this rollout."""
        alarms = [g for g in draft.guards if g.signal.measure is Measure.ALARM]
        for verdict in self.judge(draft, alarms):
            if verdict.kind is Kind.FAIL:
                raise Conflict(f"{verdict.sentence} It fires already, before anything was changed.")

    def judge(self, rollout: Rollout, some: Sequence[Guard]) -> list[Verdict]:
        """Return how guards of a rollout stand now; asks their sources."""
        now = self._now()
        verdicts = []
        for guard in some:
            ask = guard.ask(rollout.environment, rollout.service, rollout.version)
            measured = self._sources[guard.signal.source].measure([ask], now)
            verdicts.append(
                guards.judge(guard, measured.get(ask, Measured(error="no answer")), now)
            )
        return verdicts

    def _older(self, command: NewRollout) -> RolloutView | None:
        """Return the rollout that moves any of these targets now."""
        wanted = {target.id for target in command.the_targets()}
        for view in self._turns.live().values():
            here = view.rollout.environment == command.environment
            if here and any(target.id in wanted for target in view.rollout.targets):
                return view
        return None

    def _seen(self, rollout: Rollout, now: float) -> float:
        last = self._looks.seen([rollout.id]).get(rollout.id)
        return rollout.seen_until(now, last, self._gap)

    def _nearest(self, target: Target, share: int) -> int:
        driver = self._drivers.get(target.kind)
        return share if driver is None else driver.nearest(target, share)

    def _id(self, idempotency: Idempotency | None) -> str:
        if idempotency is None:
            return f"r-{self._entropy.hex(ID_OCTETS)}"
        asked = f"{idempotency.key} {idempotency.fingerprint}"
        return f"r-{hashlib.sha256(asked.encode()).hexdigest()[: 2 * ID_OCTETS]}"

    def _environment(self, key: str, field: str = "/environment") -> Environment:
        document = self._store.read(documents.ENVIRONMENTS, key)
        if document is None:
            known = ", ".join(sorted(self._store.read_all(documents.ENVIRONMENTS)))
            words = f"There is no environment {key!r}; there are: {known}."
            raise Invalid(words, field=field)
        return Environment.from_body(document.body)

    def _now(self) -> float:
        return moment(self._clock.now())


def _check_revision(view: RolloutView, revision: int) -> None:
    if view.revision != revision:
        words = f"{view.rollout.name} is at revision {view.revision} now. Look at it again."
        raise StaleRevision(words, revision=view.revision)


def _standing(rollout: Rollout, now: float, looked: float | None, gap: float) -> Standing:
    seen = rollout.seen_until(now, looked, gap)
    # One that waits for its time, or for somebody to start it, waits for no controller.
    begins = math.inf if rollout.start_at is None else rollout.start_at
    waits = rollout.state.shown.terminal or (rollout.state is State.PENDING and begins > now)
    last = max(rollout.changed, looked or 0.0, rollout.start_at or 0.0)
    known = waits or now - last <= STALE_SECONDS
    return Standing(
        state=rollout.state if known else State.UNKNOWN,
        elapsed=rollout.elapsed(seen),
        due=rollout.due(now, seen) if known else None,
        looked=looked,
    )
