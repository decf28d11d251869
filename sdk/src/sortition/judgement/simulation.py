"""What a policy would do: whole rollouts through the classes that production uses.

Where the counts come from is the caller's: simulated (`traffic.Traffic`), or drawn anew from a
rollout that was recorded (`Redrawn`). Chance is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from .calibration import latency_noise, rate_noise
from .counts import BEFORE, Counts, Histogram, Latencies, Tally, Tick
from .design import ALPHA, HTTP_ERRORS, Design, standard_latency, standard_rates
from .planning import Counted, Step, planned
from .policy import Does, Outside
from .traffic import CUSTOM, EDGES, Chance, Traffic, World, binomial, poisson
from .trial import Look, Subject, Trial

STANDARD = (Step(0.05, 300), Step(0.25, 600), Step(0.5, 900))
"""5 % for 5 min, 25 % for 10, 50 % for 15; at 100 % there is no control."""

TARGET = "alb/shop"
LONGEST = 4.0
"""So many times the plan, and a simulated rollout is given up."""

DAY, LATENCY_HISTORY = 24 * 3600, 8 * 3600

Seeded = Callable[[str], Chance]
"""Chance by the text that it is drawn from: the same text, the same numbers."""


class Arms(Protocol):
    """Where the counts of one rollout come from."""

    def before(self) -> Tick | None:
        """Return what the control did before anybody was exposed, None where nobody knows."""

    def tick(self, step: int, share: float) -> Tick | None:
        """Return the next tick at a share (a fraction), None where there is no more."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a rollout ended. does: None where nothing was decided before it was given up, or the
    recording ended.  seconds: since its first share.  failed: requests of the canary.

    rule, guard: what decided.  paged: whether somebody was woken on the way.
    """

    does: Does | None
    seconds: float
    failed: int = 0
    rule: str = ""
    guard: str | None = None
    paged: bool = False


# --- the design -----------------------------------------------------------------------------------


def design_of(world: World, steps: Sequence[Step], *, alpha: float = ALPHA) -> Design:
    """Return the standard guards, planned for a world's traffic."""
    design = Design(
        standard_rates(),
        standard_latency(),
        EDGES,
        planned_seconds=sum(step.hold for step in steps),
        steps=len(steps),
        alpha=alpha,
    )
    return planned(design, steps, _known(world))


def calibrated(design: Design, world: World, steps: Sequence[Step], seeded: Seeded) -> Design:
    """Return a design with what a day of A/A history says of noise."""
    healthy = replace(world, harm=None, slower=1.0, outage=None)
    traffic = Traffic(healthy, seeded(f"history/{healthy}"), latency=False)
    names = [HTTP_ERRORS, *(name for name, *_ in CUSTOM)]
    history: dict[str, list[Counts]] = {name: [] for name in names}
    for _ in range(int(DAY / world.tick)):
        for name, strata in traffic.tick(0, 0.5).counts.items():
            history[name].extend(strata)
    rates = tuple(
        replace(rate, noise=rate_noise(history[rate.name], world.tick)) for rate in design.rates
    )
    slow = Traffic(healthy, seeded(f"history/{healthy}"), custom=False)
    latencies = [
        one for _ in range(int(LATENCY_HISTORY / world.tick)) for one in slow.tick(0, 0.5).latency
    ]
    latency = design.latency
    if latency is not None:
        latency = replace(latency, noise=latency_noise(latencies, world.tick))
    found = replace(design, rates=rates, latency=latency, by_causes=True)
    return planned(found, steps, _known(world))


def _known(world: World) -> dict[str, Counted]:
    known = {HTTP_ERRORS: Counted(world.rps, world.baseline)}
    for name, part, times in CUSTOM:
        known[name] = Counted(world.rps * part, world.baseline * times)
    return known


# --- a rollout ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Course:
    """Where a simulated rollout stands. Times in seconds."""

    step: int = 0
    watched: float = 0.0
    passed: float = 0.0
    now: float = 0.0
    failed: int = 0
    paged: bool = False


def run(arms: Arms, steps: Sequence[Step], design: Design) -> Ended:
    """Run one rollout to its end: what decides also moves it, as a controller would."""
    trial, course = Trial(design, [Subject(TARGET)]), _Course()
    first = arms.before()
    before = [] if first is None else [first]
    while course.now < LONGEST * design.planned_seconds:
        tick = arms.tick(course.step, steps[course.step].share)
        if tick is None:
            break
        course.now += tick.seconds
        course.watched += tick.seconds
        course.passed += tick.seconds
        course.failed += sum(one.canary_failed for one in tick.counts[design.rates[0].name])
        hold = steps[course.step].hold
        outside = Outside(course.step, course.watched, course.passed, hold, tick=tick.seconds)
        decision = trial.look(Look({TARGET: [*before, tick]}, outside))
        before = []
        match decision.does:
            case Does.ROLL_BACK:
                return _ended(course, decision.does, decision.rule, decision.guard)
            case Does.PAGE if decision.rule == "overtime":
                course.paged = True
                return _ended(course, decision.does, decision.rule, decision.guard)
            case Does.PAGE | Does.HOLD:
                course.paged = course.paged or decision.does is Does.PAGE
                course.watched -= tick.seconds
            case Does.ADVANCE:
                course.step, course.watched, course.passed = course.step + 1, 0.0, 0.0
                if course.step == len(steps):
                    return _ended(course, decision.does, decision.rule)
            case Does.STAY:
                pass
    return _ended(course, None, "")


def _ended(course: _Course, does: Does | None, rule: str, guard: str | None = None) -> Ended:
    return Ended(does, course.now, course.failed, rule, guard, course.paged)


def simulated(world: World, steps: Sequence[Step], design: Design, chance: Chance) -> Ended:
    """Run one rollout of a simulated world."""
    return run(Traffic(world, chance), steps, design)


# --- what runs came to ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Summary:
    """What many runs of one world came to. Counts of runs; seconds from the onset of the harm.

    early: went back before the harm began.  asked: ended by asking a person.
    undecided: given up, or the recording ended.
    median, p95: seconds to the rollback; infinity where so many never went back.
    failed: requests of the canary, mean.  rules: (rule, guard) -> runs that it took back.
    """

    runs: int
    rolled_back: int
    early: int
    asked: int
    completed: int
    undecided: int
    woken: int
    median: float
    p95: float
    failed: float
    rules: dict[tuple[str, str | None], int] = field(default_factory=dict)


def summary(ended: Sequence[Ended], onset: float = 0.0) -> Summary:
    """Return what runs came to. onset: seconds from the first share on; at least one run."""
    back = [one for one in ended if one.does is Does.ROLL_BACK]
    rules: dict[tuple[str, str | None], int] = {}
    for one in back:
        rules[one.rule, one.guard] = rules.get((one.rule, one.guard), 0) + 1
    return Summary(
        runs=len(ended),
        rolled_back=len(back),
        early=sum(one.seconds <= onset for one in back),
        asked=sum(one.does is Does.PAGE for one in ended),
        completed=sum(one.does is Does.ADVANCE for one in ended),
        undecided=sum(one.does is None for one in ended),
        woken=sum(one.paged for one in ended),
        median=took(ended, onset, 50),
        p95=took(ended, onset, 95),
        failed=sum(one.failed for one in ended) / len(ended),
        rules=rules,
    )


def took(ended: Sequence[Ended], onset: float, percent: float) -> float:
    """Return the percentile of the seconds from the harm's onset to the rollback; who never went
    back, or went before, took forever."""
    seconds = sorted(
        one.seconds - onset if one.does is Does.ROLL_BACK and one.seconds > onset else math.inf
        for one in ended
    )
    return seconds[max(0, math.ceil(len(seconds) * percent / 100) - 1)]


# --- a rollout that was recorded ------------------------------------------------------------------

AROUND_SECONDS = 60.0
"""From so much of the recording around a tick its rates are taken: one tick of a small canary has
hardly a failure in it, or is all failures."""


@dataclass(frozen=True, slots=True)
class Past:
    """One tick of a recording, ready to be drawn from.

    requests: of both arms, a tick.  counts: metric -> (both arms' requests of this tick, the
    canary's rate, the control's).  latency: of the canary, of the control.
    """

    requests: float
    counts: dict[str, tuple[float, float, float]]
    latency: tuple[Histogram, Histogram]


def pasts(ticks: Sequence[Tick]) -> list[Past]:
    """Return a recorded comparison's ticks, each with the rates of the minute around it."""
    exposed = [tick for tick in ticks if tick.step != BEFORE]
    return [_past(tick, list(_around(exposed, i))) for i, tick in enumerate(exposed)]


def harmless(past: Sequence[Past]) -> list[Past]:
    """Return a recording in which the canary fared as the control did."""
    return [
        Past(
            one.requests,
            {name: (whole, usual, usual) for name, (whole, _, usual) in one.counts.items()},
            (one.latency[1], one.latency[1]),
        )
        for one in past
    ]


def redesigned(design: Design, ticks: Sequence[Tick], steps: Sequence[Step]) -> Design:
    """Return the design of a recorded comparison for other steps: what a `pass` means in them is
    planned anew, by what the recording counted."""
    exposed = [tick for tick in ticks if tick.step != BEFORE]
    seconds = sum(tick.seconds for tick in exposed)
    known = {}
    for rate in design.rates:
        tally = Tally()
        for tick in exposed:
            tally.add(tick.counts.get(rate.name, ()))
        if tally.canary + tally.control:
            per_second = (tally.canary + tally.control) / seconds
            known[rate.name] = Counted(per_second, tally.control_rate or 0.0)
    planned_seconds = sum(step.hold for step in steps)
    changed = replace(design, planned_seconds=planned_seconds, steps=len(steps))
    return planned(changed, steps, known)


def _around(ticks: Sequence[Tick], i: int) -> Iterator[Tick]:
    near = AROUND_SECONDS / 2
    first = i
    while first and ticks[i].at - ticks[first - 1].at <= near:
        first -= 1
    for tick in ticks[first:]:
        if tick.at - ticks[i].at > near:
            return
        yield tick


def _past(tick: Tick, around: Sequence[Tick]) -> Past:
    counts = {}
    for name, strata in tick.counts.items():
        tally = Tally()
        for one in around:
            tally.add(one.counts.get(name, ()))
        whole = sum(one.canary + one.control for one in strata)
        counts[name] = (float(whole), tally.canary_rate or 0.0, tally.control_rate or 0.0)
    canary, control = _added((one.canary, one.control) for each in around for one in each.latency)
    requests = max((whole for whole, *_ in counts.values()), default=0.0)
    return Past(requests, counts, (canary, control))


def _added(pairs: Iterable[tuple[Histogram, Histogram]]) -> tuple[dict[int, int], dict[int, int]]:
    canary: dict[int, int] = {}
    control: dict[int, int] = {}
    for ours, theirs in pairs:
        for into, histogram in ((canary, ours), (control, theirs)):
            for bucket, count in histogram.items():
                into[bucket] = into.get(bucket, 0) + count
    return canary, control


class Redrawn:
    """A recorded comparison at other shares: its counts are drawn anew, at the rates it had.

    Nobody can know what would have been counted at another share; what is known is how each arm
    fared. Requests are taken to be independent, and strata are put together.
    """

    def __init__(self, ticks: Sequence[Tick], past: Sequence[Past], chance: Chance) -> None:
        """past: `pasts` of the same ticks, which many draws may share."""
        self._ticks = [tick for tick in ticks if tick.step != BEFORE]
        self._before = [tick for tick in ticks if tick.step == BEFORE]
        self._past, self._chance, self._next = past, chance, 0

    def before(self) -> Tick | None:
        """Return what the control did before."""
        return self._before[-1] if self._before else None

    def tick(self, step: int, share: float) -> Tick | None:
        """Return the next tick, None where the recording ends."""
        if self._next == len(self._past):
            return None
        told, past = self._ticks[self._next], self._past[self._next]
        self._next += 1
        counts = {name: [self._counts(*rates, share)] for name, rates in past.counts.items()}
        latency = [
            Latencies(
                self._drawn(past.latency[0], past.requests * share),
                self._drawn(past.latency[1], past.requests * (1 - share)),
            )
        ]
        return Tick(told.at, told.seconds, step, share, counts, latency)

    def _counts(self, whole: float, bad: float, usual: float, share: float) -> Counts:
        n_t, n_c = poisson(self._chance, whole * share), poisson(self._chance, whole * (1 - share))
        return Counts(
            n_t, binomial(self._chance, n_t, bad), n_c, binomial(self._chance, n_c, usual)
        )

    def _drawn(self, histogram: Histogram, requests: float) -> dict[int, int]:
        whole = sum(histogram.values())
        found: dict[int, int] = {}
        if not whole:
            return found
        for bucket in sorted(histogram):
            count = poisson(self._chance, requests * histogram[bucket] / whole)
            if count:
                found[bucket] = count
        return found
