"""The controller's judgement: which ticks of which rollout are new, what its trial makes of them,
and how both are kept.

A rollout's design is fixed at its first look, from its guards, its schedule and the traffic there
was, and kept with it. Every look that brought a tick, or decided something else, is kept after it:
whoever takes the rollout over replays them and stands where the last one stood.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sortition.core.ticks import TICK_SECONDS
from sortition.judgement.counts import BEFORE, Tick
from sortition.judgement.evidence import onset
from sortition.judgement.policy import Outside, Seen
from sortition.judgement.trial import Look, Trial

from flagserver.domain import comparisons, verdicts
from flagserver.domain.calibration import UNCALIBRATED, Calibration
from flagserver.domain.comparisons import Comparison, Place
from flagserver.domain.errors import Conflict, Refusal
from flagserver.domain.flags import State as FlagState
from flagserver.domain.guards import Action
from flagserver.domain.metrics import Posted
from flagserver.domain.outcomes import Part, Totals, added, settled_tick
from flagserver.domain.plan import NO_STEP
from flagserver.domain.rollout import Rollout
from flagserver.domain.states import State
from flagserver.ports import Evidence, Metrics, Outcomes

log = logging.getLogger(__name__)

RestOf = Callable[[str, str], str | None]
"""(environment, flag) -> the flag's variant for the rest, None when there is no such flag."""

Calibrate = Callable[[str, str, float], Calibration]
"""(environment, service, unix second) -> what is known by then of the service's noise."""


def nothing_known(environment: str, service: str, until: float) -> Calibration:
    """Return what is known where nobody keeps A/A history."""
    return UNCALIBRATED


ONSET_SECONDS = 60
"""So long an onset is believed, before all ticks are looked through again."""

TOGETHER = 8
REBUILD_SECONDS = 2.0
"""So long a tick takes up the trials of rollouts that another controller held; the rest of them are
taken up at the next, and do not go up before."""

Parts = Mapping[Part, Totals]
Series = Mapping[int, Parts]
"""By the end of an aligned tick (unix)."""

JUDGED = frozenset({State.RUNNING, State.HOLDING, State.PAUSED})


@dataclass(slots=True)
class Case:
    """The trial of one rollout, as far as it is kept.

    entries: how many are kept, the head among them.  began, until: unix seconds, of the first tick
    that was judged and of the newest.  places: of each flag's strata.  new: ticks of this look.
    told: what the newest entry decided.  onsets: (comparison, guard) -> since when there is harm
    (unix), where there is evidence of it, as of `onsets_found`.
    """

    trial: Trial
    entries: int
    began: int
    until: int
    places: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    new: dict[str, list[Tick]] = field(default_factory=dict)
    told: tuple[object, ...] = ()
    onsets: dict[tuple[str, str], float | None] = field(default_factory=dict)
    onsets_found: int = 0

    @property
    def compares(self) -> frozenset[str]:
        """The names of the guards that it answers for."""
        return frozenset(
            watched.name
            for one in self.trial.subjects
            for watched in (one.design or self.trial.design).watched
            if watched.critical
        )

    @property
    def tick_seconds(self) -> int:
        """How long its ticks are by now."""
        return comparisons.tick_seconds(self.until - self.began)


@dataclass(frozen=True, slots=True)
class Told:
    """What is new at a look. outcomes: (environment, subject) -> what SDKs reported.
    flags, posted: of the rollout's environment."""

    outcomes: Mapping[tuple[str, str], Series]
    flags: Mapping[str, FlagState]
    posted: Sequence[Posted]


class Judging:
    """Holds the trials of the rollouts that a controller holds."""

    def __init__(
        self,
        outcomes: Outcomes,
        evidence: Evidence,
        rest_of: RestOf,
        *,
        edges: tuple[float, ...],
        flush_seconds: float,
        calibrate: Calibrate = nothing_known,
        posted: Metrics | None = None,
    ) -> None:
        """edges: of the latency buckets (seconds).  flush_seconds: how often SDKs report.
        calibrate: asked once for each rollout, at its first look.  posted: what others count."""
        self._outcomes = outcomes
        self._evidence = evidence
        self._rest_of = rest_of
        self._edges = edges
        self._flush_seconds = flush_seconds
        self._calibrate = calibrate
        self._metrics = posted
        self._cases: dict[str, Case] = {}
        self._rests: dict[tuple[str, str], str] = {}

    def gather(
        self,
        rollouts: Iterable[Rollout],
        flags: Mapping[str, Mapping[str, FlagState]],
        now: float,
    ) -> None:
        """Read what is new of these rollouts, in few reads of the store for all of them, and forget
        those that are not among them. flags: environment -> key -> state. Raises StoreUnavailable.
        """
        judged = {it.id: it for it in rollouts if is_judged(it)}
        # What was read and not kept is in no known state: it is taken up from what is kept.
        self._cases = {
            id: case for id, case in self._cases.items() if id in judged and not case.new
        }
        self._rests = {key: rest for key, rest in self._rests.items() if key[0] in judged}
        settled = settled_tick(now, self._flush_seconds)
        self._take_up([it for id, it in judged.items() if id not in self._cases], settled)
        held = [(judged[id], case) for id, case in self._cases.items()]
        found = self._read([(it, case.until) for it, case in held], settled)
        posted = self._read_posted([(it, case.until) for it, case in held], settled)
        for it, case in held:
            with self._surviving(it):
                case.until = max(case.until, settled - comparisons.LONGEST_CATCH_UP)
                told = Told(found, flags.get(it.environment, {}), posted.get(it.environment, ()))
                case.new = self._ticks(it, case, settled, told)

    def of(self, rollout: Rollout) -> Case | None:
        """Return the trial of a rollout, None where nothing is compared or it is not taken up."""
        return self._cases.get(rollout.id)

    def forget(self, rollout: Rollout) -> None:
        """Take a rollout up anew at the next look."""
        self._cases.pop(rollout.id, None)

    def see(self, rollout: Rollout, outside: Outside) -> Seen:
        """Let the trial of a rollout take in what is new, and return how it stands. Raises
        ValueError for ticks that do not follow on those before."""
        case = self._cases[rollout.id]
        return case.trial.see(Look(case.new, outside))

    def keep(self, rollout: Rollout, action: Action) -> bool:
        """Keep a look, when it brought a tick or decided something else. False: another controller
        judges this rollout too, so nothing must follow from this look.

        Raises StoreUnavailable; the trial is then taken up anew, for it may be ahead of what is
        kept.
        """
        case, seen, decision = self._cases.pop(rollout.id), action.seen, action.decision
        assert seen is not None and decision is not None  # noqa: S101, PT018 (`act` has them)
        told = (decision.does.value, decision.rule, decision.guard)
        if case.new or told != case.told:
            entry = {
                "look": Look(case.new, seen.outside).to_body(decision),
                "until": case.until,
                "places": {name: [list(place) for place in it] for name, it in case.places.items()},
            }
            self._find_onsets(rollout, case, seen)
            standing = verdicts.standing(action, case.until, case.onsets)
            if not self._evidence.keep_evidence(rollout.id, case.entries, entry, standing):
                log.warning("%s is judged by another controller too", rollout.name)
                return False
            case.entries, case.told, case.new = case.entries + 1, told, {}
        self._cases[rollout.id] = case
        return True

    def onset(self, rollout: Rollout, name: str, guard: str) -> float | None:
        """Return when (unix) the harm to a guard seems to have begun in a comparison, None without
        any. Reads all that is kept. Raises StoreUnavailable."""
        case = self._cases.get(rollout.id)
        if case is None:
            return None
        return self._onsets(rollout, case, [(name, guard)])[name, guard]

    def _find_onsets(self, rollout: Rollout, case: Case, seen: Seen) -> None:
        """Find since when there is harm, where there is evidence of it, now and then."""
        harmed = [
            (one.target, each.watched.name)
            for one in seen.compared
            for each in one.assessment.standings
            if each.harm >= seen.design.hold_line
        ]
        case.onsets = {key: at for key, at in case.onsets.items() if key in harmed}
        if set(harmed) - set(case.onsets) or (
            harmed and case.until - case.onsets_found >= ONSET_SECONDS
        ):
            case.onsets, case.onsets_found = self._onsets(rollout, case, harmed), case.until

    def _onsets(
        self, rollout: Rollout, case: Case, wanted: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], float | None]:
        entries = self._evidence.evidence([rollout.id]).get(rollout.id, [])
        looks = [Look.from_body(entry["look"]).ticks for entry in entries[1:]]
        found = {}
        for name, guard in wanted:
            subject = next(one for one in case.trial.subjects if one.target == name)
            ticks = [
                tick
                for look in (*looks, case.new)
                for tick in look.get(name, ())
                if tick.step != BEFORE
            ]
            found[name, guard] = onset(subject.design or case.trial.design, guard, ticks)
        return found

    def _rest(self, rollout: Rollout, each: Comparison) -> str:
        """Return the variant of who is not exposed. It stays while a rollout moves the flag."""
        if each.flag is None:
            return ""
        key = rollout.id, each.flag
        if key not in self._rests:
            self._rests[key] = self._rest_of(rollout.environment, each.flag) or "off"
        return self._rests[key]

    # Taking up

    def _take_up(self, rollouts: Sequence[Rollout], settled: int) -> None:
        """Take up as many rollouts as there is time for: a few at a time, for each may be long."""
        began = time.monotonic()
        for i in range(0, len(rollouts), TOGETHER):
            if time.monotonic() - began > REBUILD_SECONDS:
                log.info("%d rollouts are taken up at the next look", len(rollouts) - i)
                return
            some = rollouts[i : i + TOGETHER]
            kept = self._evidence.evidence([it.id for it in some])
            fresh = [(it, _first(it, settled)) for it in some if it.id not in kept]
            before = self._read(fresh, settled)
            for it in some:
                with self._surviving(it):
                    entries = kept.get(it.id)
                    case = self._open(it, settled, before) if entries is None else _again(entries)
                    if case is not None:
                        self._cases[it.id] = case

    @contextmanager
    def _surviving(self, rollout: Rollout) -> Iterator[None]:
        """Let whatever one rollout's evidence meets spoil no other: it is taken up anew."""
        try:
            yield
        except Refusal:
            raise
        except Exception:
            log.exception("%s cannot be judged", rollout.name)
            self._cases.pop(rollout.id, None)

    def _open(
        self, rollout: Rollout, settled: int, found: Mapping[tuple[str, str], Series]
    ) -> Case | None:
        """Begin the series of a rollout. None: another controller did so just now."""
        first = _first(rollout, settled)
        exposed = _aligned(rollout.step_began or settled)
        before: dict[str, Tick | None] = {}
        places: dict[str, tuple[Place, ...]] = {}
        for each in comparisons.comparisons(rollout):
            series = found.get(each.subject(rollout), {})
            parts = [series[end] for end in series if first < end <= exposed]
            places[each.name] = comparisons.placed((), _together(parts))
            ticks = self._tick(rollout, each, places, parts, exposed, exposed - first, None)
            before[each.name] = ticks if parts else None
        calibration = self._calibrate(rollout.environment, rollout.service, exposed)
        calibration = comparisons.with_posted(
            calibration, rollout, self._posted_before(rollout, exposed)
        )
        trial = comparisons.trial(rollout, self._edges, before, calibration)
        if trial is None:
            return None
        entry = {"head": trial.head(), "until": first}
        if not self._evidence.keep_evidence(rollout.id, 0, entry):
            return None
        return Case(trial, 1, first, first, places)

    def _posted_before(self, rollout: Rollout, exposed: int) -> Sequence[Posted]:
        if self._metrics is None or not comparisons.posted(rollout.guards):
            return ()
        since = exposed - comparisons.POSTED_PAST
        return self._metrics.posted(rollout.environment, since=since, until=exposed)

    # Ticks

    def _read(
        self, wanted: Sequence[tuple[Rollout, int]], settled: int
    ) -> dict[tuple[str, str], Series]:
        """Return what was reported of all that is compared. wanted: each with the end of the newest
        tick that it has."""
        since: dict[int, set[tuple[str, str]]] = defaultdict(set)
        for rollout, until in wanted:
            begins = max(until, settled - comparisons.LONGEST_CATCH_UP)
            if begins < settled:
                subjects = (each.subject(rollout) for each in comparisons.comparisons(rollout))
                since[begins].update(subjects)
        found: dict[tuple[str, str], dict[int, Parts]] = defaultdict(dict)
        for begins, some in since.items():
            for subject, series in self._outcomes.ticks(
                sorted(some), since=begins, until=settled
            ).items():
                found[subject].update(series)
        return dict(found)

    def _read_posted(
        self, wanted: Sequence[tuple[Rollout, int]], settled: int
    ) -> dict[str, Sequence[Posted]]:
        """Return environment -> what was posted there, as far as it may be compared. wanted: each
        with the end of the newest tick that it has."""
        since: dict[str, int] = {}
        for rollout, until in wanted:
            periods = [g.period for g in rollout.guards if comparisons.is_posted(g)]
            if periods and until < settled:
                first = until - max(periods) - comparisons.POSTED_SECONDS
                since[rollout.environment] = min(first, since.get(rollout.environment, first))
        if self._metrics is None:
            return {}
        return {
            environment: self._metrics.posted(environment, since=first, until=settled)
            for environment, first in since.items()
        }

    def _ticks(
        self, rollout: Rollout, case: Case, settled: int, told: Told
    ) -> dict[str, list[Tick]]:
        """Return the new ticks of each comparison, and move the case on to the newest."""
        all_ends = list(comparisons.ends(case.until, settled, case.began))
        early = [end for end, length in all_ends if _is_before(rollout, end - length, length)]
        later = all_ends[len(early) :]
        new: dict[str, list[Tick]] = {}
        for each in comparisons.comparisons(rollout):
            series = told.outcomes.get(each.subject(rollout), {})
            ticks = []
            if early:
                parts = [series[end] for end in series if case.until < end <= early[-1]]
                length = early[-1] - case.until
                ticks.append(self._tick(rollout, each, case.places, parts, early[-1], length, None))
            for end, length in later:
                parts = [
                    series[at]
                    for at in range(_aligned(end - length) + TICK_SECONDS, end + 1, TICK_SECONDS)
                    if at in series
                ]
                if each.flag is None and told.posted:
                    span = {"after": end - length, "until": end}
                    parts.append(comparisons.posted_parts(rollout, told.posted, **span))
                state = told.flags.get(each.flag or "")
                ticks.append(self._tick(rollout, each, case.places, parts, end, length, state))
            if ticks:
                new[each.name] = ticks
        if all_ends:
            case.until = all_ends[-1][0]
        return new

    def _tick(
        self,
        rollout: Rollout,
        each: Comparison,
        places: dict[str, tuple[Place, ...]],
        parts: Sequence[Parts],
        end: int,
        length: int,
        state: FlagState | None,
    ) -> Tick:
        together = _together(parts)
        if each.flag is not None:
            places[each.name] = comparisons.placed(places.get(each.name, ()), together)
        step = comparisons.step_at(rollout, end - length, length)
        share = 0.0 if step == BEFORE else each.share(rollout, step)
        of_others = comparisons.posted(rollout.guards) if each.flag is None else {}
        return comparisons.tick(
            comparisons.strata(
                each, rollout, together, places.get(each.name, ()), self._rest(rollout, each)
            ),
            comparisons.metrics(rollout.guards) | of_others,
            at=end,
            seconds=length,
            step=step,
            share=share,
            latency=comparisons.watches_latency(rollout.guards),
            draws=comparisons.draws(rollout, state, end - length),
            rises_to=comparisons.rises_to(rollout, each, end - length, length),
        )


def is_judged(rollout: Rollout) -> bool:
    """Tell whether there is anything to compare by now."""
    exposes = rollout.step != NO_STEP and rollout.state in JUDGED
    return exposes and bool(comparisons.comparisons(rollout))


def _again(entries: Sequence[Mapping[str, Any]]) -> Case:
    """Return the case that the entries of its evidence leave behind. Raises ValueError, KeyError or
    TypeError for what is none."""
    first, newest = entries[0], entries[-1]
    trial = Trial.from_head(first["head"])
    for entry in entries[1:]:
        trial.take(Look.from_body(entry["look"]))
    decision = newest.get("look", {}).get("decision") or {}
    return Case(
        trial,
        len(entries),
        first["until"],
        newest["until"],
        {
            name: tuple((service, version) for service, version in places)
            for name, places in newest.get("places", {}).items()
        },
        told=tuple(decision.get(name) for name in _TOLD),
    )


_TOLD = ("does", "rule", "guard")


def exported(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return entries of evidence as `sortition.judgement.series` reads them: the head, then the
    looks. Raises Conflict when one of them cannot be read: the rest would replay as something
    else."""
    for number, entry in enumerate(entries):
        if not entry:
            raise Conflict(f"Entry {number} of its evidence is torn, so it cannot be replayed.")
    return [entries[0]["head"], *(entry["look"] for entry in entries[1:])] if entries else []


def _together(parts: Collection[Parts]) -> Parts:
    if len(parts) == 1:
        return next(iter(parts))
    found: dict[Part, list[Totals]] = defaultdict(list)
    for each in parts:
        for part, totals in each.items():
            found[part].append(totals)
    return {part: added(some) for part, some in found.items()}


def _is_before(rollout: Rollout, begins: float, seconds: float) -> bool:
    return comparisons.step_at(rollout, begins, seconds) == BEFORE


def _aligned(at: float) -> int:
    """Return the end of the newest tick that was over by then."""
    return int(at // TICK_SECONDS) * TICK_SECONDS


def _first(rollout: Rollout, settled: int) -> int:
    """Return since when a rollout's ticks matter: five minutes before anybody was exposed."""
    began = _aligned(rollout.step_began or settled)
    return began - comparisons.BEFORE_SECONDS
