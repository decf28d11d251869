"""Simulated traffic of one rollout: what both arms report, tick by tick. Chance is an argument.

Arrivals are Poisson. Failures are independent, or as `noise` has them. Latency is lognormal (sigma
0.8, p95 500 ms), its mass gathered in every third bucket of the histogram that production has,
which is quicker; where it matters how soon a slow canary is found, in every one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Protocol

from .counts import BEFORE, Counts, Latencies, Tick
from .design import CRITICAL_PATH, DATABASE, HTTP_ERRORS, USER_SESSION, standard_edges

EDGES = standard_edges()
SIGMA, P95 = 0.8, 0.5
MEDIAN = P95 / math.exp(1.6448536 * SIGMA)
ATOM = 3
LOG_GROWTH = math.log(2) / 16

CUSTOM = ((USER_SESSION, 0.3, 0.5), (CRITICAL_PATH, 0.05, 0.1), (DATABASE, 0.5, 1.0))
"""Custom metrics: name, how many of all requests count it, how many times the baseline fail."""

PREROLL_SECONDS = 300.0
DRIFT_SECONDS = 60.0
LATENCY_DRIFT_SECONDS = 120.0


class Chance(Protocol):
    """Where numbers come from that nobody knows: a `random.Random`."""

    def random(self) -> float:
        """Return a number of [0, 1)."""

    def gauss(self, mu: float, sigma: float) -> float:
        """Return a normal number."""

    def gammavariate(self, alpha: float, beta: float) -> float:
        """Return a gamma number."""


@dataclass(frozen=True, slots=True)
class Outage:
    """Both arms fail at this rate, or are that many times slower, for a while (seconds)."""

    start: float
    duration: float
    rate: float = 0.0
    slower: float = 1.0


@dataclass(frozen=True, slots=True)
class World:
    """What happens in a simulated rollout.

    rps: requests per second.  baseline: how many fail.  harm: how many of the canary's do, from
    `onset` seconds on.  slower: times as slow the canary is from then on.
    noise: none, `drift` (each arm's rate and latency wander on their own), `bursts` (each arm has
    ticks far above its mean), `clusters` (one cause fails five requests in a row).
    grain: latency's mass is gathered in every so many buckets.
    """

    rps: float
    baseline: float
    harm: float | None = None
    slower: float = 1.0
    onset: float = 0.0
    outage: Outage | None = None
    noise: str = "none"
    tick: float = 5.0
    grain: int = field(default=ATOM, repr=False)


class Traffic:
    """One run of a world."""

    def __init__(
        self, world: World, chance: Chance, *, latency: bool = True, custom: bool = True
    ) -> None:
        """latency, custom: whether latencies and custom metrics are simulated as well."""
        self._world, self._with_latency, self._with_custom = world, latency, custom
        self._chance = chance
        self._now = 0.0
        self._drift = [self._chance.gauss(0, 1) for _ in range(4)]

    def before(self) -> Tick:
        """Return what the control did in the five minutes before."""
        control = self._latency(self._world.rps * PREROLL_SECONDS, 1.0, 0.0)
        return Tick(0.0, PREROLL_SECONDS, BEFORE, 0.0, {}, [Latencies({}, control)])

    def tick(self, step: int, share: float) -> Tick:
        """Return the next tick."""
        world, began = self._world, self._now
        self._now += world.tick
        factors = self._wander()
        harmed = began >= world.onset
        outage = world.outage
        out = outage if outage and outage.start <= began < outage.start + outage.duration else None
        per_tick = world.rps * world.tick
        slow = out.slower if out else 1.0
        canary_slow = slow * (world.slower if harmed else 1.0)
        latency: list[Latencies] = []
        if not self._with_latency:
            n_t = poisson(self._chance, per_tick * share)
            n_c = poisson(self._chance, per_tick * (1 - share))
        else:
            canary = self._latency(per_tick * share, canary_slow, factors[2])
            control = self._latency(per_tick * (1 - share), slow, factors[3])
            latency = [Latencies(canary, control)]
            n_t, n_c = sum(canary.values()), sum(control.values())
        at_least = out.rate if out else 0.0
        harm = world.harm if world.harm is not None and harmed else 0.0
        p_t = max(world.baseline * factors[0], harm, at_least)
        p_c = max(world.baseline * factors[1], at_least)
        counts = {HTTP_ERRORS: [Counts(n_t, self._fail(n_t, p_t), n_c, self._fail(n_c, p_c))]}
        for name, part, times in CUSTOM if self._with_custom else ():
            m_t, m_c = (binomial(self._chance, n, part) for n in (n_t, n_c))
            q_t, q_c = (max(world.baseline * times * factor, at_least) for factor in factors[:2])
            counts[name] = [Counts(m_t, self._fail(m_t, q_t), m_c, self._fail(m_c, q_c))]
        return Tick(self._now, world.tick, step, share, counts, latency, (n_t, n_c))

    def _wander(self) -> tuple[float, float, float, float]:
        """Return the arms' factors of failing, and by how much they are slower (log)."""
        world, chance = self._world, self._chance
        if world.noise == "bursts":
            return chance.gammavariate(1, 1), chance.gammavariate(1, 1), 0.0, 0.0
        if world.noise != "drift":
            return 1.0, 1.0, 0.0, 0.0
        for place in range(4):
            over = DRIFT_SECONDS if place < 2 else LATENCY_DRIFT_SECONDS
            keep = math.exp(-world.tick / over)
            fresh = math.sqrt(1 - keep * keep)
            self._drift[place] = keep * self._drift[place] + fresh * chance.gauss(0, 1)
        a, b, c, d = self._drift
        return math.exp(0.5 * a - 0.125), math.exp(0.5 * b - 0.125), 0.05 * c, 0.05 * d

    def _fail(self, n: int, p: float) -> int:
        if self._world.noise != "clusters":
            return binomial(self._chance, n, min(1.0, p))
        causes = poisson(self._chance, n * min(1.0, p) / 5)
        sizes = (math.log(1.0 - self._chance.random()) / math.log(0.8) for _ in range(causes))
        return min(n, sum(1 + int(size) for size in sizes))

    def _latency(self, requests: float, slower: float, log_slower: float) -> dict[int, int]:
        """Return a histogram of about so many requests."""
        buckets, parts, cumulative = atoms(slower, self._world.grain)
        chance = self._chance
        moved = 0
        if log_slower:
            exact = log_slower / LOG_GROWTH
            moved = math.floor(exact + chance.random())
        found: dict[int, int] = {}
        if requests < 2 * len(buckets):
            for _ in range(poisson(chance, requests)):
                bucket = buckets[bisect_right(cumulative, chance.random())] + moved
                found[bucket] = found.get(bucket, 0) + 1
            return found
        for bucket, part in zip(buckets, parts, strict=True):
            count = poisson(chance, requests * part)
            if count:
                found[bucket + moved] = count
        return found


@cache
def atoms(
    slower: float, grain: int = ATOM
) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Return buckets, the part of all requests that lies in each, and the parts summed up."""
    below = [_normal((math.log(edge / (MEDIAN * slower))) / SIGMA) for edge in EDGES]
    middles, parts = [], []
    for first in range(0, len(EDGES) - grain, grain):
        part = below[first + grain] - below[first]
        if part > 1e-7:
            middles.append(first + 1 + grain // 2)
            parts.append(part)
    whole = sum(parts)
    parts = [part / whole for part in parts]
    cumulative = list(accumulate(parts))
    cumulative[-1] = 1.0
    return tuple(middles), tuple(parts), tuple(cumulative)


def _normal(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2


def poisson(chance: Chance, mean: float) -> int:
    """Return a Poisson number: exact up to a mean of 500, a rounded normal one beyond."""
    if mean <= 0:
        return 0
    if mean > 500:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    first, table = _poisson_table(mean)
    return first + bisect_right(table, chance.random())


@cache
def _poisson_table(mean: float) -> tuple[int, Sequence[float]]:
    """Return the first number that matters, and the cumulative chances from there on."""
    spread = 9 * math.sqrt(mean) + 12
    first = max(0, int(mean - spread))
    numbers = range(first, int(mean + spread) + 1)
    chances = [math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in numbers]
    return first, list(accumulate(chances))


def binomial(chance: Chance, n: int, p: float) -> int:
    """Return a binomial number: exact up to a mean of 30, a rounded normal one beyond."""
    if n <= 0 or p <= 0:
        return 0
    if p >= 1:
        return n
    if p > 0.5:
        return n - binomial(chance, n, 1 - p)
    if n * p > 30:
        drawn = round(chance.gauss(n * p, math.sqrt(n * p * (1 - p))))
        return min(n, max(0, drawn))
    each, at, found = math.log1p(-p), 0, 0
    while True:
        at += int(math.log(1.0 - chance.random()) / each) + 1
        if at > n:
            return found
        found += 1
