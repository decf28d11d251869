"""Simulated rollouts: by our policy, through the classes that production uses, and by three others.

The others see the same world with the same seed: failures only, on the standard schedule.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from random import Random

from sortition.judgement.counts import Counts, Tally
from sortition.judgement.design import HTTP_ERRORS, Design
from sortition.judgement.planning import Step
from sortition.judgement.policy import Outside
from sortition.judgement.simulation import STANDARD, TARGET, Ended, design_of, simulated
from sortition.judgement.traffic import Traffic, World
from sortition.judgement.trial import Look, Subject, Trial


def ours(world: World, steps: Sequence[Step], design: Design, seed: str) -> Ended:
    """Run one rollout to its end."""
    return simulated(world, steps, design, Random(seed))


def cpu_of_ticks(world: World, seed: str) -> list[float]:
    """Return the CPU seconds of each look of one healthy rollout."""
    design = design_of(world, STANDARD)
    traffic, trial = Traffic(world, Random(seed)), Trial(design, [Subject(TARGET)])
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
    traffic, now = Traffic(world, Random(seed), latency=False, custom=False), 0.0
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
    traffic, now = Traffic(world, Random(seed), latency=False, custom=False), 0.0
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
