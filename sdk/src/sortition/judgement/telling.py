"""What people are shown of a guard: both arms, what is tolerated, the evidence, what is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .counts import Counts, Tick
from .design import SLOWEST, Design, Latency
from .evidence import Standing, more_needed, onset
from .intervals import Interval, difference_interval, rate_interval


@dataclass(frozen=True, slots=True)
class Told:
    """One guard. Rates are fractions; of a latency, of requests that took longer than its limit.

    whole: counts since the beginning.  canary, control: between which rates the arms lie.
    difference: canary less control, of this step alone (see `intervals.difference_interval`).
    limit, tolerated: what breaks it, and how many times the control's is no harm.
    harm: evidence against no harm; holds and rolls_back: its lines, for this guard alone.
    acceptable: evidence that the canary is acceptable; certified: its line.
    needed: more requests of the canary until that is certain, None for never at these rates.
    onset: unix second at which the harm seems to have begun, None without any.
    """

    name: str
    whole: Counts
    canary: Interval
    control: Interval
    difference: Interval
    limit: float
    tolerated: float
    harm: float
    holds: float
    rolls_back: float
    acceptable: float
    certified: float
    needed: int | None
    onset: float | None


def tell(
    standing: Standing, design: Design, ticks: Sequence[Tick] = (), *, weight: float = 1.0
) -> Told:
    """Return what is shown of one guard.

    ticks: all of the comparison, for the onset.  weight: of the target's evidence in the rollout's.
    Intervals are at all times at once, each at the design's beta.
    """
    watched, whole, step = standing.watched, standing.whole, standing.step
    latency = isinstance(watched, Latency)
    return Told(
        watched.name,
        whole,
        rate_interval(whole.canary_failed, whole.canary, design.beta),
        rate_interval(whole.control_failed, whole.control, design.beta),
        difference_interval(
            (step.canary_failed, step.canary), (step.control_failed, step.control), design.beta
        ),
        SLOWEST if latency else watched.limit,
        watched.noise.slowdown if isinstance(watched, Latency) else watched.noise.tolerated,
        standing.harm,
        design.hold_line,
        design.bound / (watched.weight * weight),
        standing.acceptable,
        1 / design.beta,
        more_needed(standing, design.beta),
        onset(design, watched.name, ticks),
    )
