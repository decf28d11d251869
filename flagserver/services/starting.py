"""Planning a rollout, and starting it once everything is found to be in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from flagserver.domain import (
    access,
    comparisons,
    documents,
    doubts,
    flags,
    following,
    guards,
    plan,
    power,
    requirements,
    rollout_flags,
    verbs,
)
from flagserver.domain.approvals import Base, Consent, Wish
from flagserver.domain.calibration import Calibration
from flagserver.domain.documents import Idempotency, Principal
from flagserver.domain.errors import Conflict, Invalid, NotFound, TargetUnavailable, under
from flagserver.domain.guards import Guard, Kind, Verdict
from flagserver.domain.outcomes import Totals
from flagserver.domain.plan import Preview
from flagserver.domain.power import Offer, Seen, Usual
from flagserver.domain.rollout import Rollout
from flagserver.domain.rollout_commands import NewRollout, RolloutPlan
from flagserver.domain.schedule import Schedule
from flagserver.domain.signals import Measure, Measured
from flagserver.domain.targets import Mode, Target
from flagserver.domain.times import moment
from flagserver.domain.verbs import Turn
from flagserver.ports import Clock, Documents, Entropy, Follower, SignalSource, TargetDriver

from .ended import Header
from .environments import known_environment
from .four_eyes import FourEyes
from .judging import Calibrate, nothing_known
from .schedules import Schedules
from .turns import FlagState, RolloutView, Turns

ID_OCTETS = 5
"""A rollout's id is 40 random bits: enough to be told apart, short enough to be said."""

Rate = Callable[[str, str], float | None]
"""(environment, service) -> requests per second of late, None if nobody reports."""

Reported = Callable[[str, str, int], Totals]
"""(environment, service, seconds) -> what SDKs reported of all its versions within so many seconds;
nothing of whom nobody reports."""

USUAL_SECONDS = 300
"""From so much of what was reported it is taken what is usual."""


def nobody(environment: str, service: str, seconds: int) -> Totals:
    """Return what is reported where nobody reports."""
    return Totals()


Check = Callable[[], None]
"""Raises what refuses a start."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a rollout would do. problems: what would refuse its start now, in sentences; notes: what
    an engine does that is followed, and what would come nearer to what was asked for.

    power: for each step what it shows, by guard; nothing where the requests are not known.
    offer: a first share that shows more.  calibration: how noisy the service is known to be, None
    where nothing is compared.
    """

    rollout: Rollout
    steps: tuple[Preview, ...]
    requests_per_second: float | None
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    power: tuple[tuple[Seen, ...], ...] = ()
    offer: Offer | None = None
    calibration: Calibration | None = None


class Starting:
    """The use cases of `rollouts` around one that is not there yet."""

    def __init__(
        self,
        store: Documents,
        turns: Turns,
        schedules: Schedules,
        drivers: Mapping[str, TargetDriver],
        sources: Mapping[str, SignalSource],
        clock: Clock,
        entropy: Entropy,
        rate: Rate,
        reported: Reported = nobody,
        calibrate: Calibrate = nothing_known,
    ) -> None:
        self._store = store
        self._turns = turns
        self._schedules = schedules
        self._drivers = drivers
        self._sources = sources
        self._clock = clock
        self._entropy = entropy
        self._rate = rate
        self._reported = reported
        self._calibrate = calibrate
        self._four_eyes = FourEyes(store, clock, entropy)

    def plan(self, command: RolloutPlan, by: Principal) -> Planned:
        """Return what every step would really do. Raises Invalid; changes nothing."""
        access.check(by, access.READ, command.environment)
        known_environment(self._store, command.environment)
        draft = self._draft(command, self._known(command), "r-planned", by).after
        rate = command.requests_per_second or self._rate(command.environment, command.service)
        steps = plan.preview(
            draft.schedule,
            draft.relation,
            draft.targets,
            draft.guards,
            requests_per_second=rate,
            nearest=self._nearest,
            last=draft.plan[-1].hold if draft.is_split else 0,
        )
        asked, given = self._asked(command), command.schedule is not None
        notes = following.explain(asked, given, draft.relation, draft.targets)
        problems = tuple(self._problems(draft, command))
        known = self._calibrate(draft.environment, draft.service, self._now())
        calibration = known if comparisons.comparisons(draft) else None
        if rate is None:
            return Planned(draft, steps, rate, problems, notes, calibration=calibration)
        reported = self._reported(draft.environment, draft.service, USUAL_SECONDS)
        usual = Usual(rate, reported, known)
        shows = power.powers(draft, usual)
        followed = plan.followed(draft.targets) is not None
        offer = None if followed else power.offer(steps, usual)
        return Planned(draft, steps, rate, problems, notes, shows, offer, calibration)

    def start(
        self,
        command: NewRollout,
        by: Principal,
        idempotency: Idempotency | None = None,
        consent: Consent | None = None,
    ) -> RolloutView:
        """Start a rollout, at once or when its time comes. The same idempotency key twice is the
        same rollout. consent: a second person's, by whom it is carried out.

        Raises Invalid, Conflict (a flag is in another rollout, an alarm fires already),
        TargetOwned, TargetUnavailable, what `flags.check_may_enlarge` raises, and ApprovalRequired
        where a second person has to approve first.
        """
        access.check(by, access.ROLL_OUT, command.environment)
        where = known_environment(self._store, command.environment)
        flags.check_may_enlarge(where, command)
        id = self._id(idempotency)
        if idempotency is not None:
            self._store.repeats(idempotency)  # refuses a key that was used for another rollout
        again = self._turns.find(id)
        if again is not None:
            return again
        targets = self._known(command)
        older = self._older(command, targets) if command.replace else None
        who = by if consent is None else consent.author
        turn = self._draft(command, targets, id, who, older)
        seen = self._flags(turn.after)
        for check in self._checks(turn.after, command, seen, older):
            check()
        doubts.check(self._store.read(doubts.COLLECTION, doubts.KEY))
        self._four_eyes.check(where, _wish(turn, command, seen, older), by, idempotency, consent)
        return self._turns.commit(
            *(turn, 0, who), ends=older, flags=seen, idempotency=idempotency, consent=consent
        )

    # The draft

    def _draft(
        self,
        command: RolloutPlan,
        targets: Sequence[Target],
        id: str,
        by: Principal,
        older: RolloutView | None = None,
    ) -> Turn:
        asked, relation = self._asked(command), command.the_relation()
        given = command.schedule is not None
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
            schedule=following.schedule_of(asked, given, relation, targets),
            relation=relation,
            targets=targets,
            guards=self._measurable(command),
            by=by.id,
            now=now,
            start_at=at,
            instead_of=None if older is None else older.rollout,
            reason=reason,
            lost_after=lost_after,
            until=None if command.until is None else moment(command.until),
        )

    def _asked(self, command: RolloutPlan) -> Schedule:
        environment = known_environment(self._store, command.environment)
        return command.the_schedule(partial(self._schedules.read, environment))

    def _known(self, command: RolloutPlan) -> tuple[Target, ...]:
        """Return the targets, those that are followed settled. Raises Invalid, Conflict,
        TargetUnavailable."""
        targets = tuple(
            self._settled(target, f"/targets/{i}") for i, target in enumerate(command.the_targets())
        )
        waits = isinstance(command, NewRollout) and command.start_at is not None
        if waits and plan.followed(targets) is not None:
            raise Invalid(
                "What follows a deployment begins at once: it runs already.", field="/start_at"
            )
        return targets

    def _settled(self, target: Target, place: str) -> Target:
        driver = self._drivers.get(target.kind)
        if not target.is_flag and driver is None:
            known = ", ".join(sorted({"flag", *self._drivers}))
            raise Invalid(
                f"There is no kind of target {target.kind!r}; there are: {known}.",
                field=f"{place}/kind",
            )
        if not isinstance(driver, Follower):
            _check_mode(target, Mode.DRIVE, place)
            return target
        _check_mode(target, Mode.FOLLOW, place)
        with under(place):
            return driver.settle(target)

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

    def _older(self, command: NewRollout, targets: Sequence[Target]) -> RolloutView | None:
        """Return the rollout that moves any of these targets now."""
        wanted = {target.id for target in targets}
        for view in self._turns.live().values():
            here = view.rollout.environment == command.environment
            if here and any(target.id in wanted for target in view.rollout.targets):
                return view
        return None

    def _id(self, idempotency: Idempotency | None) -> str:
        if idempotency is None:
            return f"r-{self._entropy.hex(ID_OCTETS)}"
        asked = f"{idempotency.key} {idempotency.fingerprint}"
        return f"r-{hashlib.sha256(asked.encode()).hexdigest()[: 2 * ID_OCTETS]}"

    def _nearest(self, target: Target, share: int) -> int:
        driver = self._drivers.get(target.kind)
        return share if driver is None else driver.nearest(target, share)

    def _now(self) -> float:
        return moment(self._clock.now())

    # What may stand against it

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
    ) -> Iterator[Check]:
        """Yield everything that a start is checked for, each by itself."""
        older = None if replaced is None else replaced.rollout
        taken_over = {target.id for target in older.targets} if older is not None else set()
        for i, target in enumerate(draft.targets):
            if target.is_flag:
                there, place = seen[target.name], f"/targets/{i}"
                yield partial(rollout_flags.check, draft, there.flag, there.state, older, place)
            elif target.id not in taken_over or target.is_followed:
                # What is followed is another deployment than the older rollout's.
                yield partial(self._check_target, target, i)
        for i, guard in enumerate(draft.guards):
            yield partial(self._check_guard, guard, i, command)
        yield partial(self._check_quiet, draft)
        if command.requires is not None:
            yield partial(self._check_required, draft, command.requires.environment)

    def _check_required(self, draft: Rollout, environment: str) -> None:
        known_environment(self._store, environment, "/requires/environment")
        live = [view.rollout for view in self._turns.live().values()]
        ended = [it.id for it in self._turns.headers() if _same(it, draft, environment)]
        over = [view.rollout for view in self._turns.read_ended(ended).values()]
        requirements.check(draft, environment, [*live, *over])

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
        for verdict in self._judge(draft, alarms):
            if verdict.kind is Kind.FAIL:
                raise Conflict(f"{verdict.sentence} It fires already, before anything was changed.")

    def _judge(self, rollout: Rollout, some: Sequence[Guard]) -> list[Verdict]:
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


PLANNED = (
    *("environment", "service", "version", "schedule", "relation", "targets", "guards"),
    *("until", "supersedes"),
)
"""What of a new rollout somebody approves: all that says what it will do, and nothing that is
another at each try, as its id is."""


def _wish(
    turn: Turn, command: NewRollout, seen: Mapping[str, FlagState], older: RolloutView | None
) -> Wish:
    """Return a start as a second person approves of it: a template, a deployment or a flag that is
    another by then makes it another start."""
    draft, states = turn.after.to_body(), documents.states(command.environment)
    base = [Base(states, name, there.revision) for name, there in sorted(seen.items())]
    if older is not None:
        base.append(Base(documents.ROLLOUTS, older.rollout.id, older.revision))
    return Wish(
        environment=command.environment,
        thing=f"service/{command.service}",
        action=turn.action,
        base=tuple(base),
        command=command.model_dump(mode="json", exclude_none=True),
        result={name: draft[name] for name in PLANNED},
    )


def _check_mode(target: Target, mode: Mode, place: str) -> None:
    if target.mode is mode:
        return
    words = {
        Mode.DRIVE: "can only be driven; follow and gate are for engines that own their weights.",
        Mode.FOLLOW: "can only be followed: it sets its weights itself.",
    }
    raise Invalid(f"A {target.kind} {words[mode]}", field=f"{place}/mode")


def _same(ended: Header, draft: Rollout, environment: str) -> bool:
    there = (ended.environment, ended.service, ended.version)
    return there == (environment, draft.service, draft.version)
