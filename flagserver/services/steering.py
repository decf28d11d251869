"""The controller's half of rollouts: finish what is intended, look, judge, decide, carry out.

Intent is committed before anything outside is touched. On the way up the traffic is set and read
back, and one commit then says so and sets the flags; on the way down the commit that decides sets
the flags to 0, and the traffic follows. So whatever is cut short, the less exposed half stands, and
whoever holds the lease next finishes it.

With the store away nothing goes up. What is held here can still go down: see `_without_store`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from flagserver.domain import comparisons, decisions, doubts, guards, verbs, watchers
from flagserver.domain.decisions import Look, Obstacle
from flagserver.domain.documents import Document
from flagserver.domain.engines import Lane
from flagserver.domain.errors import Refusal, StaleRevision, StoreUnavailable
from flagserver.domain.flags import State as FlagState
from flagserver.domain.guards import Action, Does, Verdict
from flagserver.domain.plan import NO_STEP
from flagserver.domain.rollout import TICK_SECONDS, Rollback, Rollout, gap_seconds
from flagserver.domain.schedule import percent_text
from flagserver.domain.signals import Ask, Measure, Measured
from flagserver.domain.states import State
from flagserver.domain.targets import Reading, Target
from flagserver.domain.times import from_unix, moment
from flagserver.domain.verdicts import weighed
from flagserver.ports import (
    UNTOLD,
    Clock,
    Documents,
    Entropy,
    Follower,
    Journal,
    Lease,
    Looks,
    LookSpan,
    RolloutLeases,
    SignalSource,
    TargetDriver,
    Telemetry,
)

from .judging import Judging, is_judged
from .outcomes import Outcomes
from .turns import FlagState as FlagView
from .turns import RolloutView, Turns

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
CALL_SECONDS = 5.0
MARGIN_SECONDS = 2.0
"""A lease lives so long; a cloud call takes so long at most; and so much is kept in reserve."""

LOOK_KEPT_SECONDS = 60.0
"""A look that shows nothing new is kept this often, so that a chart has its points."""

THREADS = 8
"""Drivers and sources are asked side by side, so that a slow one holds up no other's rollout."""

GOING_BACK = frozenset({State.ROLLING_BACK, State.ROLLBACK_FAILED})

TAKEN_UP_LATER = "What it was judged by until now is being read."

CALM = Action(Does.STAY, "Nothing was looked at.", "well")

Samples = Callable[[Rollout, float], int | None]
"""(rollout, now) -> requests of the canary since this step was confirmed, None if unknown."""


@dataclass(slots=True)
class Held:
    """A rollout whose lease is ours. until: monotonic second at which the lease may end; look: this
    tick's."""

    view: RolloutView
    lease: Lease
    until: float
    look: LookSpan = UNTOLD
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def rollout(self) -> Rollout:
        """The rollout as we know it."""
        return self.view.rollout


@dataclass(frozen=True, slots=True)
class Seen:
    """What one tick saw, for all rollouts at once. flags: environment -> key -> state; looked: when
    each was looked at last, and under `watchers.place` when its watcher was heard of."""

    now: float
    looked: Mapping[str, float]
    readings: Mapping[str, Reading]
    measured: Mapping[Ask, Measured]
    flags: Mapping[str, Mapping[str, FlagState]] = field(default_factory=dict)


class Lowered(NamedTuple):
    """What became of taking traffic down. trouble: what is in the way, None: nothing; applied: when
    it was done (unix seconds); lane: of the engine that is followed."""

    trouble: str | None
    applied: float | None = None
    lane: Lane | None = None


class Steering:
    """Ticks over every live rollout whose lease it gets."""

    def __init__(
        self,
        store: Documents,
        leases: RolloutLeases,
        looks: Looks,
        journal: Journal,
        drivers: Mapping[str, TargetDriver],
        sources: Mapping[str, SignalSource],
        clock: Clock,
        entropy: Entropy,
        holder: str,
        samples: Samples,
        judging: Judging,
        tick_seconds: float = TICK_SECONDS,
        telemetry: Telemetry = UNTOLD,
    ) -> None:
        self._store = store
        self._doubt: Document | None = None
        """Why nothing may be enlarged, where the record is in doubt."""
        self._leases = leases
        self._looks = looks
        self._journal = journal
        self._drivers = drivers
        self._sources = sources
        self._clock = clock
        self._holder = holder
        self._samples = samples
        self._judging = judging
        self._tick_seconds = tick_seconds
        self._gap = gap_seconds(tick_seconds)
        self._telemetry = telemetry
        self._turns = Turns(store, clock, entropy, telemetry.turned)
        self._held: dict[str, Held] = {}
        self._told: dict[str, tuple[Any, float]] = {}
        self._newest: dict[tuple[str, str], float] = {}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sortition-steering")

    @property
    def held(self) -> Mapping[str, Rollout]:
        """The rollouts that are held here, by id."""
        return {id: held.rollout for id, held in self._held.items()}

    def tick(self) -> None:
        """Look at every rollout that is ours, once. Raises StoreUnavailable after having done
        without the store what may be done without it."""
        try:
            self._settle_journal()
            self._take(self._turns.live())
            looked = self._looks.seen([*self._held, *map(watchers.place, self._held)])
            flags = self._turns.states(held.rollout for held in self._held.values())
            self._doubt = self._store.read(doubts.COLLECTION, doubts.KEY)
            self._judging.gather(self.held.values(), flags, self._now())
        except StoreUnavailable:
            self._without_store()
            raise
        seen = self._see(self._held.values(), looked, flags)
        for id, held in list(self._held.items()):
            with held.look:
                if id in self._held:
                    self._survive(id, lambda held=held: self._look(held, seen))  # type: ignore[misc]
        self._looks.saw(dict.fromkeys(self._held, seen.now))

    def step_down(self) -> None:
        """Give every lease up, so that another controller need not wait for its end."""
        self._let_go()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _let_go(self) -> None:
        for held in self._held.values():
            try:
                self._leases.release(held.lease)
            except Refusal as error:
                log.warning("the lease of %s ends by itself: %s", held.rollout.name, error.detail)
        self._held.clear()

    # Which rollouts are ours

    def _take(self, live: Mapping[str, RolloutView]) -> None:
        """Hold what can be held of the live rollouts; let go of what has ended."""
        began = self._clock.monotonic()
        names = [f"rollout/{id}" for id in live]
        leases = self._leases.acquire_all(names, self._holder, ttl_seconds=LEASE_SECONDS)
        held = {
            id: Held(view, lease, began + LEASE_SECONDS, self._telemetry.look(view.rollout))
            for (id, view), lease in zip(live.items(), leases, strict=True)
            if lease is not None
        }
        for each in held.values():
            if each.rollout.traffic:
                self._keep(each.rollout)
        self._note(lambda: self._journal.keep_only(live))
        for id in set(self._held) - set(held):
            self._told.pop(id, None)
            self._newest = {key: at for key, at in self._newest.items() if key[0] != id}
        self._held = held
        self._telemetry.holds(self.held.values())

    # Looking

    def _see(
        self,
        some: Iterable[Held],
        looked: Mapping[str, float],
        flags: Mapping[str, Mapping[str, FlagState]],
    ) -> Seen:
        """Read every target and measure every guard, each driver and source side by side."""
        now = self._now()
        some = list(some)
        targets: dict[str, list[Target]] = {}
        reading_for: dict[str, list[LookSpan]] = {}
        for held in some:
            if held.rollout.state is not State.PENDING:
                for target in held.rollout.traffic:
                    targets.setdefault(target.kind, []).append(target)
                    reading_for.setdefault(target.kind, []).append(held.look)
        asks: dict[str, list[Ask]] = {}
        asking_for: dict[str, list[LookSpan]] = {}
        for held in some:
            for guard in _watched(held.rollout):
                asks.setdefault(guard.signal.source, []).append(_ask(held.rollout, guard))
                asking_for.setdefault(guard.signal.source, []).append(held.look)
        within = self._telemetry.within
        reading = [
            self._pool.submit(within(reading_for[kind], self._read_all), kind, some_targets)
            for kind, some_targets in targets.items()
        ]
        measuring = {
            name: self._pool.submit(
                within(asking_for[name], self._measure),
                *(name, list(dict.fromkeys(some_asks)), now),
            )
            for name, some_asks in asks.items()
        }
        readings: dict[str, Reading] = {}
        for found in reading:
            readings.update(found.result())
        measured: dict[Ask, Measured] = {}
        for future in measuring.values():
            measured.update(future.result())
        return Seen(now, looked, readings, measured, flags)

    def _read_all(self, kind: str, targets: Sequence[Target]) -> dict[str, Reading]:
        """Return how the targets of a kind stand, by id, of those that can be read."""
        try:
            found = self._drivers[kind].read_all(targets)
        except Exception:
            log.exception("targets of kind %s cannot be read", kind)
            return {}
        readings = {}
        for target, reading in found.items():
            if isinstance(reading, Refusal):
                log.warning("%s cannot be read: %s", target.id, reading.detail)
            else:
                readings[target.id] = reading
        return readings

    def _measure(self, source: str, asks: Sequence[Ask], now: float) -> Mapping[Ask, Measured]:
        try:
            return self._sources[source].measure(asks, now)
        except Exception as error:
            log.exception("%s cannot be measured", source)
            return {ask: Measured(error=f"{source} failed: {type(error).__name__}") for ask in asks}

    def _look(self, held: Held, seen: Seen) -> None:
        """Look at one rollout, and do the one thing that this leads to."""
        rollout, now = held.rollout, seen.now
        until = rollout.seen_until(now, seen.looked.get(rollout.id), self._gap)
        engine = _engine(rollout, seen.readings)
        if rollout.state in GOING_BACK:
            self._go_down(held, until, engine)
            return
        held.verdicts = self._judge(rollout, seen)
        context = decisions.context(
            rollout, now, until, engine, self._samples(rollout, now), self._tick_seconds
        )
        action = self._act(rollout, held.verdicts, context)
        if action is None:
            return
        self._telemetry.judged(held.look, rollout, action, held.verdicts)
        late = rollout.late_writes(held.lease.token, now)
        obstacle = self._obstacle(rollout, seen, late)
        look = Look(action, until, obstacle, engine=engine)
        decision = decisions.decide(rollout, look, now)
        turn = decisions.carry(rollout, decision, now, until)
        if isinstance(decision, decisions.Mirror):
            self._mirror(held, turn)
        else:
            self._commit(held, turn)
        self._keep_look(held, action, seen)
        if held.rollout.state in GOING_BACK:
            self._go_down(held, until, engine)
        elif held.rollout.mirrors:
            self._let_engine_go_on(held)
        elif held.rollout.may_carry_out and held.rollout.is_pending_intent:
            self._go_up(held, seen.readings)
        else:
            self._put_right(held, seen.readings, late)

    def _judge(self, rollout: Rollout, seen: Seen) -> list[Verdict]:
        nothing = Measured(error="the source did not answer")
        verdicts = []
        for guard in _watched(rollout):
            key = (rollout.id, guard.name)
            verdict = guards.judge(
                guard,
                seen.measured.get(_ask(rollout, guard), nothing),
                seen.now,
                since=rollout.started or rollout.created,
                last_seen=self._newest.get(key),
            )
            if verdict.newest is not None:
                self._newest[key] = verdict.newest
            verdicts.append(verdict)
        return verdicts

    def _act(
        self, rollout: Rollout, verdicts: Sequence[Verdict], context: guards.Context
    ) -> Action | None:
        """Return what follows from limits and evidence together; None: another controller judges
        this rollout too."""
        case = self._judging.of(rollout)
        if case is None:
            waits = is_judged(rollout)
            undecided = (*context.undecided, *((TAKEN_UP_LATER,) if waits else ()))
            return guards.act(verdicts, replace(context, undecided=undecided))
        compared = replace(
            context,
            compares=case.compares,
            data_age=context.now - case.until,
            tick=float(case.tick_seconds),
        )
        try:
            action = guards.act(
                verdicts, compared, lambda outside: self._judging.see(rollout, outside)
            )
        except ValueError:
            log.exception("%s: what was kept of its evidence does not go on", rollout.name)
            self._judging.forget(rollout)
            return self._act(rollout, verdicts, context)
        if not self._judging.keep(rollout, action):
            return None
        return self._with_culprits(rollout, action)

    def _with_culprits(self, rollout: Rollout, action: Action) -> Action:
        """Return an action that names the targets it blames, and since when the harm is there."""
        verdict = action.verdict
        if action.does is not Does.ROLL_BACK or not action.culprits or verdict is None:
            return action
        began = self._judging.onset(rollout, action.culprits[0], verdict.guard.name)
        if began is not None:
            verdict = replace(verdict, first_bad=began)
        culprits = comparisons.blamed(rollout, action.culprits)
        return replace(action, verdict=verdict, culprits=culprits)

    def _obstacle(self, rollout: Rollout, seen: Seen, late: Mapping[str, int]) -> Obstacle | None:
        """Return what somebody else did to a target or flag of the rollout, or that whoever was to
        watch is lost."""
        found = decisions.traffic_obstacle(rollout, seen.readings, self._nearest, late)
        if found is None and rollout.flags:
            found = decisions.flag_obstacle(rollout, seen.flags.get(rollout.environment, {}))
        if found is None:
            heard = seen.looked.get(watchers.place(rollout.id))
            found = decisions.watcher_obstacle(rollout, heard, seen.now)
        return found or decisions.record_obstacle(self._doubt)

    def _keep_look(self, held: Held, action: Action, seen: Seen) -> None:
        """Keep what was seen, when it says something new or it is time to."""
        rollout = held.rollout
        kinds = [(verdict.guard.name, verdict.kind) for verdict in held.verdicts]
        shares = _observed(rollout, seen)
        why = None if action.verdict is None else action.verdict.guard.name
        what = (rollout.state, rollout.step, action.does, action.row, why, kinds, shares)
        before, at = self._told.get(rollout.id, (None, 0.0))
        if what == before and seen.now - at < LOOK_KEPT_SECONDS:
            return
        self._told[rollout.id] = (what, seen.now)
        self._looks.append(rollout.id, _look_body(held, action, seen))

    # Carrying out

    def _mirror(self, held: Held, turn: verbs.Turn) -> None:
        """Commit what an engine did, and the flags with it. On the way up as securely as any other
        enlarging; what gets less waits for nothing."""
        before, after = held.rollout.confirmed, turn.after.confirmed
        if all(share <= before.get(id, 0) for id, share in after.items()):
            self._commit(held, turn)
            return
        if not self._secure(held):
            return
        flags = self._turns.flags(turn.after)
        states = {name: flag.state for name, flag in flags.items()}
        if decisions.flag_obstacle(held.rollout, states) is not None:
            # Somebody shrank or killed one since we looked; the next look says so.
            return
        self._commit(held, turn, flags)
        self._secure(held)

    def _let_engine_go_on(self, held: Held) -> None:
        """End a wait of the engine that is followed, where somebody approved, or skipped it."""
        rollout = held.rollout
        target, driver = rollout.followed, self._follower(rollout)
        if target is None or driver is None or not decisions.may_go_on(rollout):
            return
        if self._secure(held):
            driver.go_on(target, held.until - CALL_SECONDS - MARGIN_SECONDS)

    def _follower(self, rollout: Rollout) -> Follower | None:
        driver = None if rollout.followed is None else self._drivers[rollout.followed.kind]
        return driver if isinstance(driver, Follower) else None

    def _go_up(self, held: Held, readings: Mapping[str, Reading]) -> None:
        """Set the traffic as intended, read it back, and commit that with the flags."""
        rollout = held.rollout
        if not rollout.goes_down and not self._secure(held):
            return
        shares = {target.id: rollout.intended[target.id] for target in rollout.flags}
        deadline = held.until - CALL_SECONDS - MARGIN_SECONDS
        for target in rollout.traffic:
            driver = self._drivers[target.kind]
            if rollout.goes_down:
                # What an older rollout left is taken out altogether: clients that stick to it, too.
                got = driver.roll_back(target, deadline)
            elif target.is_followed:
                got = readings.get(target.id) or driver.read(target)
            else:
                before = readings.get(target.id) or driver.read(target)
                got = driver.set(target, rollout.intended[target.id], before, deadline)
            if got.share != self._nearest(target, rollout.intended[target.id]):
                log.warning("%s does not show what was set yet", target.id)
                return
            shares[target.id] = got.share
        flags = self._turns.flags(rollout)
        states = {name: flag.state for name, flag in flags.items()}
        if decisions.flag_obstacle(rollout, states) is not None:
            # Somebody shrank or killed one since we looked; the next look says so.
            return
        turn = verbs.confirm(rollout, shares, self._now(), nearest=self._nearest)
        self._commit(held, turn, flags)
        if not rollout.goes_down:
            self._secure(held)

    def _secure(self, held: Held) -> bool:
        """Renew a lease and tell whether a failover of the store would forget nothing; else step
        down: who is cut off from the replicas must not enlarge what another will not know of."""
        began = self._clock.monotonic()
        if self._leases.secure(held.lease, ttl_seconds=LEASE_SECONDS):
            held.until = began + LEASE_SECONDS
            return True
        log.error(
            "%s: its lease was lost, or no replica of the store has what was committed; "
            "nothing is enlarged",
            held.rollout.name,
        )
        self._let_go()
        return False

    def _go_down(self, held: Held, until: float, engine: Reading | None) -> None:
        """Take the traffic to the stable side, read it back, and commit that. engine: how the
        target that is followed stood at this look."""
        rollout = held.rollout
        trouble, applied, lane = self._lower(rollout, held.until - CALL_SECONDS - MARGIN_SECONDS)
        now = self._now()
        if trouble is None and rollout.late_writes(held.lease.token, now):
            log.info("%s is at 0 %%; a write of another controller may still arrive", rollout.name)
            return
        if trouble is None:
            shares = dict.fromkeys(rollout.intended, 0)
            self._commit(held, verbs.confirm(rollout, shares, now, applied=applied, lane=lane))
            return
        log.log(logging.ERROR if engine is None else logging.INFO, "%s: %s", rollout.name, trouble)
        look = Look(CALM, until, trouble=trouble, engine=engine)
        decision = decisions.decide(rollout, look, now)
        self._commit(held, decisions.carry(rollout, decision, now, until))

    def _put_right(
        self, held: Held, readings: Mapping[str, Reading], late: Mapping[str, int]
    ) -> None:
        """Set traffic where the rollout has it, that a late write of another controller moved."""
        rollout, told = held.rollout, []
        for target in decisions.strays(rollout, readings, self._nearest, late):
            before, share = readings[target.id], rollout.confirmed[target.id]
            enlarges = share > late[target.id]
            if enlarges and not (rollout.may_carry_out and self._secure(held)):
                continue
            driver, deadline = (
                self._drivers[target.kind],
                held.until - CALL_SECONDS - MARGIN_SECONDS,
            )
            if share:
                got = driver.set(target, share, before, deadline)
            else:
                got = driver.roll_back(target, deadline)
            if got.share == share:
                was, now = percent_text(late[target.id]), percent_text(share)
                told.append(f"{target.id} was set to {was} late, and is at {now} again.")
        if told:
            self._commit(held, verbs.put_right(rollout, " ".join(told), self._now()))

    def _lower(self, rollout: Rollout, deadline: float) -> Lowered:
        """Take all traffic of a rollout down. Every target is tried, whatever becomes of
        another."""
        trouble, lane = [], None
        for target in rollout.traffic:
            try:
                got = self._drivers[target.kind].roll_back(target, deadline)
                lane = got.lane or lane
                if got.share != 0:
                    told = "no share" if got.share is None else percent_text(got.share)
                    trouble.append(f"{target.id} still shows {told}.")
            except Refusal as error:
                trouble.append(f"{target.id}: {error.detail}")
            except Exception as error:
                log.exception("%s cannot be taken back", target.id)
                trouble.append(f"{target.id}: {type(error).__name__}.")
        return Lowered(" ".join(trouble)) if trouble else Lowered(None, self._now(), lane)

    def _commit(
        self, held: Held, turn: verbs.Turn, flags: Mapping[str, FlagView] | None = None
    ) -> None:
        """Keep a turn under our lease's token, and hold what it leaves. flags: as it was decided
        on, where it matters that nobody changed one since."""
        if not turn.changed:
            return
        turn = verbs.under(turn, held.lease.token, self._now())
        after = turn.after
        by_hand = tuple(
            command
            for target in after.traffic
            for command in self._drivers[target.kind].commands_by_hand(target)
        )
        view = self._turns.commit(turn, held.view.revision, flags=flags, by_hand=by_hand)
        held.view = view
        log.info("%s: %s %s", after.name, turn.action, turn.reason or "")
        if after.traffic and not after.state.shown.terminal:
            self._keep(after)

    # Without the store

    def _without_store(self) -> None:
        """With the store away, take back what harms: traffic now, the rest when it is there again.

        Only what this controller held when the store went, as its journal has it: nobody else can
        have been given it meanwhile, for that takes the store.
        """
        exposed = [r for r in self._journal.kept() if _exposes_traffic(r)]
        if not exposed:
            return
        begun = dict(self._journal.all_lowered())
        views = [
            Held(RolloutView(r, 0), Lease(r.name, self._holder, 0), 0.0, self._telemetry.look(r))
            for r in exposed
        ]
        seen = self._see(views, {}, {})
        for held in views:
            rollout = held.rollout
            cause = rollout.rollback or begun.get(rollout.id)
            with held.look:
                self._survive(
                    rollout.id,
                    lambda r=rollout, c=cause: self._lower_without_store(r, c, seen),  # type: ignore[misc]
                )

    def _lower_without_store(self, rollout: Rollout, cause: Rollback | None, seen: Seen) -> None:
        """cause: why it goes back already."""
        if cause is None:
            context = decisions.context(rollout, seen.now, seen.now)
            action = guards.act(self._judge(rollout, seen), context)
            decision = decisions.decide(rollout, Look(action, seen.now), seen.now)
            if not isinstance(decision, decisions.RollBack):
                return
            cause = decision.cause
            # Before anything is touched: without traffic there are no numbers that say it again.
            self._note_lowered(rollout.id, cause)
        deadline = self._clock.monotonic() + CALL_SECONDS
        trouble, applied, _ = self._lower(rollout, deadline)
        if trouble is None:
            log.error("%s was taken back without the store: %s", rollout.name, cause.reason)
            self._note_lowered(rollout.id, replace(cause, applied=applied))
        else:
            log.error("%s cannot be taken back: %s", rollout.name, trouble)

    def _note_lowered(self, id: str, cause: Rollback) -> None:
        self._note(lambda: self._journal.lowered(id, cause))

    def _keep(self, rollout: Rollout) -> None:
        self._note(lambda: self._journal.keep(rollout))

    def _note(self, write: Callable[[], None]) -> None:
        """Write into the journal. A full disk stops no rollout, and keeps nobody exposed."""
        try:
            write()
        except OSError as error:
            log.error("The journal cannot be written: %s", error.strerror)  # noqa: TRY400

    def _settle_journal(self) -> None:
        """Write into the store what was taken back without it."""
        for id, cause in self._journal.all_lowered():
            self._survive(id, lambda id=id, cause=cause: self._settle(id, cause))  # type: ignore[misc]

    def _settle(self, id: str, cause: Rollback) -> None:
        view = self._turns.find(id)
        if view is not None and not view.rollout.state.shown.terminal:
            self._turns.decide(id, lambda v: verbs.roll_back(v.rollout, cause, cause.reason))
        self._journal.forget(id)

    # How

    def _survive(self, id: str, act: Callable[[], None]) -> None:
        """Do something about one rollout; whatever it meets spoils no other."""
        try:
            act()
        except StoreUnavailable:
            raise
        except StaleRevision:
            log.info("rollout/%s was changed meanwhile; the next look sees it", id)
        except Refusal as error:
            log.warning("rollout/%s: %s", id, error.detail)
        except Exception:
            log.exception("rollout/%s: this look failed", id)

    def _nearest(self, target: Target, share: int) -> int:
        driver = self._drivers.get(target.kind)
        return share if driver is None else driver.nearest(target, share)

    def _now(self) -> float:
        return moment(self._clock.now())


def samples(outcomes: Outcomes) -> Samples:
    """Return what counts the canary's requests by what SDKs reported."""

    def count(rollout: Rollout, now: float) -> int | None:
        since = rollout.step_confirmed_at
        wanted = rollout.step != NO_STEP and rollout.plan[rollout.step].minimum_sample
        if not wanted or since is None or rollout.version is None:
            return None
        return outcomes.canary_requests(
            rollout.environment, rollout.service, rollout.version, since=since, until=now
        )

    return count


def _engine(rollout: Rollout, readings: Mapping[str, Reading]) -> Reading | None:
    """Return how the target that is followed stands, None: none is, or it could not be read."""
    return None if rollout.followed is None else readings.get(rollout.followed.id)


def _watched(rollout: Rollout) -> tuple[guards.Guard, ...]:
    """Return the guards that have anything to say: all while somebody is exposed; before that, an
    alarm that fires already refuses the start; none while it goes back or has ended."""
    if rollout.state in GOING_BACK or rollout.state.shown.terminal:
        return ()
    if rollout.step == NO_STEP:
        return tuple(g for g in rollout.guards if g.signal.measure is Measure.ALARM)
    return rollout.guards


def _exposes_traffic(rollout: Rollout) -> bool:
    shares = [*rollout.confirmed.items(), *rollout.intended.items()]
    traffic = {target.id for target in rollout.traffic}
    return rollout.state in GOING_BACK or any(share for id, share in shares if id in traffic)


def _ask(rollout: Rollout, guard: guards.Guard) -> Ask:
    flag = rollout.flags[0].name if rollout.version is None and rollout.flags else None
    return guard.ask(rollout.environment, rollout.service, rollout.version, flag)


def _observed(rollout: Rollout, seen: Seen) -> dict[str, int | None]:
    """Return the shares that the traffic was read at, by target id."""
    return {
        target.id: reading.share
        for target in rollout.traffic
        if (reading := seen.readings.get(target.id)) is not None
    }


def _look_body(held: Held, action: Action, seen: Seen) -> dict[str, Any]:
    rollout = held.rollout
    return {
        "at": from_unix(seen.now),
        "state": str(rollout.state),
        "step": rollout.step,
        "does": str(action.does),
        "reason": action.reason,
        "observed": _observed(rollout, seen),
        "guards": [
            {**verdict.to_body(), **weighed(action, verdict.guard.name)}
            for verdict in held.verdicts
        ],
    }
