"""Simulated rollouts: by our policy, through the classes that production uses, and by three others.

The others see the same world with the same seed: failures only, on the standard schedule.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sortition.judgement.calibration import latency_noise, rate_noise
from sortition.judgement.counts import Counts, Tally
from sortition.judgement.design import HTTP_ERRORS, Design, standard_latency, standard_rates
from sortition.judgement.planning import Counted, Step, planned
from sortition.judgement.policy import Does, Outside
from sortition.judgement.trial import Look, Subject, Trial

from bench.harness.traffic import CUSTOM, EDGES, Traffic, World

STANDARD = (Step(0.05, 300), Step(0.25, 600), Step(0.5, 900))
"""5 % for 5 min, 25 % for 10, 50 % for 15; at 100 % there is no control."""

TARGET = "alb/shop"
LONGEST = 4.0
"""So many times the plan, and a simulated rollout is given up."""

DAY, LATENCY_HISTORY = 24 * 3600, 8 * 3600


@dataclass(frozen=True)
class Ended:
    """How a rollout ended. seconds: since its first share.  failed: requests of the canary.

    rule, guard: what decided.  paged: whether somebody was woken on the way.
    """

    does: Does | None
    seconds: float
    failed: int = 0
    rule: str = ""
    guard: str | None = None
    paged: bool = False


# --- ours -----------------------------------------------------------------------------------------


def design_of(world: World, steps: Sequence[Step], *, calibrated: bool = False) -> Design:
    """Return the standard guards, planned for the world's traffic."""
    known = {HTTP_ERRORS: Counted(world.rps, world.baseline)}
    for name, part, times in CUSTOM:
        known[name] = Counted(world.rps * part, world.baseline * times)
    design = Design(
        standard_rates(),
        standard_latency(),
        EDGES,
        planned_seconds=sum(step.hold for step in steps),
        steps=len(steps),
    )
    if calibrated:
        design = with_noise(design, world)
    return planned(design, steps, known)


def with_noise(design: Design, world: World) -> Design:
    """Return the design with what a day of A/A history says."""
    healthy = replace(world, harm=None, slower=1.0, outage=None)
    traffic = Traffic(healthy, f"history/{healthy}", latency=False)
    names = [HTTP_ERRORS, *(name for name, *_ in CUSTOM)]
    history: dict[str, list[Counts]] = {name: [] for name in names}
    for _ in range(int(DAY / world.tick)):
        for name, strata in traffic.tick(0, 0.5).counts.items():
            history[name].extend(strata)
    rates = tuple(
        replace(rate, noise=rate_noise(history[rate.name], world.tick)) for rate in design.rates
    )
    slow = Traffic(healthy, f"history/{healthy}", custom=False)
    latencies = [
        one for _ in range(int(LATENCY_HISTORY / world.tick)) for one in slow.tick(0, 0.5).latency
    ]
    assert design.latency is not None
    latency = replace(design.latency, noise=latency_noise(latencies, world.tick))
    return replace(design, rates=rates, latency=latency)


def ours(world: World, steps: Sequence[Step], design: Design, seed: str) -> Ended:
    """Run one rollout to its end."""
    traffic, trial = Traffic(world, seed), Trial(design, [Subject(TARGET)])
    before = [traffic.before()]
    step, watched, passed, now, failed, paged = 0, 0.0, 0.0, 0.0, 0, False
    while now < LONGEST * design.planned_seconds:
        tick = traffic.tick(step, steps[step].share)
        now += world.tick
        watched, passed = watched + world.tick, passed + world.tick
        failed += tick.counts[HTTP_ERRORS][0].canary_failed
        outside = Outside(step, watched, passed, steps[step].hold, tick=world.tick)
        decision = trial.look(Look({TARGET: [*before, tick]}, outside))
        before = []
        match decision.does:
            case Does.ROLL_BACK:
                return Ended(decision.does, now, failed, decision.rule, decision.guard, paged)
            case Does.PAGE if decision.rule == "overtime":
                return Ended(decision.does, now, failed, decision.rule, decision.guard, True)
            case Does.PAGE | Does.HOLD:
                paged = paged or decision.does is Does.PAGE
                watched -= world.tick
            case Does.ADVANCE:
                step, watched, passed = step + 1, 0.0, 0.0
                if step == len(steps):
                    return Ended(decision.does, now, failed, decision.rule, paged=paged)
            case Does.STAY:
                pass
    return Ended(None, now, failed, paged=paged)


def cpu_of_ticks(world: World, seed: str) -> list[float]:
    """Return the CPU seconds of each look of one healthy rollout."""
    design = design_of(world, STANDARD)
    traffic, trial = Traffic(world, seed), Trial(design, [Subject(TARGET)])
    trial.look(Look({TARGET: [traffic.before()]}, Outside(0, 0.0, 0.0, 300.0)))
    took, now = [], 0.0
    for i, step in enumerate(STANDARD):
        for number in range(int(step.hold / world.tick)):
            watched = (number + 1) * world.tick
            tick = traffic.tick(i, step.share)
            look = Look({TARGET: [tick]}, Outside(i, watched, watched, step.hold))
            begun = time.process_time()
            trial.look(look)
            took.append(time.process_time() - begun)
            now += world.tick
    return took


# --- the others -----------------------------------------------------------------------------------

MINUTE = 60.0
LIMIT = 0.01
FLAGGER_THRESHOLD = 5
FLAGGER_CHECKS = (5, 10, 15)
MSPRT_ALPHA = 0.004
MSPRT_SPREAD = 0.005
"""What error rates and their limit have of our budget too; the spread of effects that is
expected."""


def _standard(world: World, seed: str) -> Iterator[tuple[float, Counts]]:
    """Yield (now, counts of one tick) of a rollout that nothing stops."""
    traffic, now = Traffic(world, seed, latency=False, custom=False), 0.0
    for i, step in enumerate(STANDARD):
        for _ in range(int(step.hold / world.tick)):
            now += world.tick
            yield now, traffic.tick(i, step.share).counts[HTTP_ERRORS][0]


def cloudwatch(world: World, seed: str) -> float | None:
    """Return when an alarm on the canary's target group fires: above 1 % in 2 of 2 minutes."""
    minute, bad = Tally(), 0
    for now, counts in _standard(world, seed):
        minute.add((counts,))
        if now % MINUTE == 0:
            bad = bad + 1 if minute.canary_failed > LIMIT * minute.canary else 0
            minute = Tally()
            if bad == 2:
                return now
    return None


def flagger(world: World, seed: str) -> float | None:
    """Return when Flagger goes back: the check after five have failed, one a minute; a failed check
    does not advance."""
    traffic, now = Traffic(world, seed, latency=False, custom=False), 0.0
    ok = bad = 0
    while ok < sum(FLAGGER_CHECKS):
        step = sum(ok >= sum(FLAGGER_CHECKS[: i + 1]) for i in range(len(FLAGGER_CHECKS)))
        minute = Tally()
        for _ in range(int(MINUTE / world.tick)):
            minute.add(traffic.tick(step, STANDARD[step].share).counts[HTTP_ERRORS])
        now += MINUTE
        if bad >= FLAGGER_THRESHOLD:
            return now
        failed = not minute.canary or minute.canary_failed > LIMIT * minute.canary
        bad, ok = bad + failed, ok + (not failed)
    return None


def msprt(world: World, seed: str) -> float | None:
    """Return when a mixture SPRT on pooled rates rejects: both arms' failures summed up over time,
    a normal mixture over the difference (Johari et al. 2017), looked at every tick."""
    whole, bound = Tally(), math.log(1 / MSPRT_ALPHA)
    for now, counts in _standard(world, seed):
        whole.add((counts,))
        if not whole.canary or not whole.control:
            continue
        p_t = (whole.canary_failed + 0.5) / (whole.canary + 1)
        p_c = (whole.control_failed + 0.5) / (whole.control + 1)
        variance = p_t * (1 - p_t) / whole.canary + p_c * (1 - p_c) / whole.control
        spread = MSPRT_SPREAD**2
        difference = whole.canary_failed / whole.canary - whole.control_failed / whole.control
        ratio = 0.5 * math.log(variance / (variance + spread))
        ratio += spread * difference**2 / (2 * variance * (variance + spread))
        if difference > 0 and ratio >= bound:
            return now
    return None


OTHERS = {"CloudWatch": cloudwatch, "Flagger": flagger, "mSPRT": msprt}
