"""All tests of one comparison, fed tick by tick: `Judge` takes ticks and says how it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from operator import attrgetter

from .counts import BEFORE, Counts, Latencies, Tally, Tick, Window
from .design import ACCEPTABLE_RATIO, SLOWEST, Design, Rate, Watched
from .latency import Reference, Slower, later, summed
from .mismatch import ShareMismatch
from .rates import BELOW, RATIOS, Acceptable, BeyondLimit, HarmRatio, limit_gain, ratio_gain
from .wealth import Injection

RECENT_SECONDS = 60.0
"""What `breaking now` means."""

BACKSTOP_RATE = 0.05
BACKSTOP_TIMES = 2.0
BACKSTOP_SECONDS = 60.0
BACKSTOP_SAMPLE = 20
"""An error rate above 5 % and more than twice the control's, on 2 of 2 minutes with so many
requests each. Of all requests only: of what a service counts a few times a minute that happens by
chance."""

BACKSTOP_CAUSES = 2.0
BACKSTOP_PLAIN = 0.5
"""Where one cause fails many in a row (dispersion), two causes' failures are wanted besides, or
half of all requests: however noisy a service is, what plainly fails is never out of its reach. Of
independent requests more than 5 % of the sample are two causes anyway."""

SILENT_TICKS = 3
EXPECTED_REQUESTS = 10.0
SILENCE_SECONDS = 180.0
"""An arm is silent when for more than three ticks nothing came and ten requests were to be expected
by what the other arm had; both are, when for three minutes nobody had any."""

CAP_OVER_BOUND = 1000.0
"""Where the evidence of a limit is capped: far beyond what many targets together need."""

NOTICED_OVER_BOUND = 10.0
"""Where the evidence of a tolerable slowness is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one thing that is watched stands.

    harm: evidence of harm against no harm.
    acceptable: evidence in this step that the canary is acceptable.
    whole: counts of both arms since the beginning.  step: in this step.  recent: in the last
    minute. (Of a latency, what failed is what took longer than its limit.)
    both_breaks: in the last minute both arms broke the limit, beyond doubt.
    canary_breaks: the canary did.
    noticed: of a latency, evidence that it is slower by more than is worth holding for.
    """

    watched: Watched
    harm: float
    acceptable: float
    whole: Counts
    step: Counts
    recent: Counts
    canary_breaks: bool
    both_breaks: bool
    noticed: float = 1.0

    @property
    def contribution(self) -> float:
        """What it adds to the whole evidence."""
        return self.watched.weight * self.harm

    @property
    def sample(self) -> int:
        """Requests of the canary in this step."""
        return self.step.canary


@dataclass(frozen=True, slots=True)
class Assessment:
    """How a comparison stands after a tick.

    evidence: the weighted sum; its expectation never exceeds 1 while the canary does no harm.
    mismatch: evidence that the arms are not as large as they were drawn.
    canary_share: of the draws in this step.
    silent: arms that should have reported and did not.
    backstop: the name of what is far worse, None without.
    exposed: whether anybody sees it in this step.
    """

    at: float
    evidence: float
    standings: tuple[Standing, ...]
    mismatch: float
    canary_share: float | None
    silent: tuple[str, ...]
    backstop: str | None
    exposed: bool = True

    @property
    def largest(self) -> Standing:
        """What contributes most."""
        return max(self.standings, key=attrgetter("contribution"))


class Judge:
    """Weighs one comparison. Null of its evidence: nothing that is watched is worse in the canary
    than is tolerated; the weighted mean of e-processes is one, whatever hangs together with what
    (Vovk, Wang, arXiv 1912.06116)."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self._rates = [_RateEvidence(one, design) for one in design.rates]
        self._latency = None if design.latency is None else _LatencyEvidence(design)
        self._injection = Injection(design.planned_seconds, design.steps)
        self._mismatch = ShareMismatch()
        self._silence = _Silence()
        self._backstop = _Backstop(design)
        self._step: int | None = None
        self._at = 0.0
        self._exposed = True

    def take(self, tick: Tick) -> None:
        """Take in the next tick. Raises ValueError when it is not later than the last one."""
        if self._at and tick.at <= self._at:
            raise ValueError(f"at: {tick.at} is not after {self._at}")
        self._at = tick.at
        if tick.step == BEFORE:
            if self._latency is not None:
                self._latency.before(tick)
            return
        begins, self._step = tick.step != self._step, tick.step
        self._exposed = tick.share > 0
        injected = self._injection.next(tick.seconds, step_begins=begins)
        for rate in self._rates:
            rate.take(tick, injected, begins=begins)
        if self._latency is not None:
            self._latency.take(tick, begins=begins)
        if tick.assigned is not None:
            self._mismatch.add(tick.step, tick.share, tick.assigned)
        self._silence.add(tick, self._rates[0].last)
        self._backstop.add(tick, self._rates[0].last)

    def assess(self) -> Assessment:
        """Return how it stands."""
        parts: list[_RateEvidence | _LatencyEvidence] = [*self._rates]
        if self._latency is not None:
            parts.append(self._latency)
        return Assessment(
            self._at,
            sum(part.contribution for part in parts),
            tuple(part.standing() for part in parts),
            self._mismatch.value,
            self._mismatch.share,
            self._silence.arms(),
            self._rates[0].watched.name if self._backstop.broken else None,
            self._exposed,
        )


class _RateEvidence:
    """The tests of one rate, and its sums."""

    def __init__(self, watched: Rate, design: Design) -> None:
        self.watched = watched
        noise, self._line = watched.noise, design.hold_line
        self._ratio = HarmRatio(noise.tolerated, dispersion=noise.dispersion)
        cap = CAP_OVER_BOUND * design.bound / (watched.limit_weight or 1.0)
        self._beyond = BeyondLimit(watched.limit, noise.drift, dispersion=noise.dispersion, cap=cap)
        self._acceptable = self._anew()
        self._whole, self._of_step = Tally(), Tally()
        self._recent = Window(RECENT_SECONDS)
        self.last = Counts(0, 0, 0, 0)

    def _anew(self) -> Acceptable:
        return Acceptable(
            self.watched.limit, ACCEPTABLE_RATIO, dispersion=self.watched.noise.dispersion
        )

    def take(self, tick: Tick, injected: float, *, begins: bool) -> None:
        if begins:
            self._acceptable, self._of_step = self._anew(), Tally()
        strata, fair = tick.counts.get(self.watched.name, ()), tick.fair(self.watched.name)
        self._ratio.bet(fair, injected)
        self._beyond.bet(fair, injected)
        self._acceptable.bet(strata)
        one = Tally()
        one.add(strata)
        self.last = one.counts()
        for tally in (self._whole, self._of_step):
            tally.add((self.last,))
        self._recent.add(tick.at, (self.last,))

    @property
    def contribution(self) -> float:
        return (
            self.watched.ratio_weight * self._ratio.value
            + self.watched.limit_weight * self._beyond.value
        )

    def standing(self) -> Standing:
        canary, both = _breaks(self._recent.tally.counts(), self.watched.limit, self._line)
        return Standing(
            self.watched,
            self.contribution / self.watched.weight,
            self._acceptable.value,
            self._whole.counts(),
            self._of_step.counts(),
            self._recent.tally.counts(),
            canary,
            both,
        )


class _LatencyEvidence:
    """The tests of the latency, and its sums."""

    def __init__(self, design: Design) -> None:
        assert design.latency is not None  # noqa: S101 - its maker looked
        self.watched = watched = design.latency
        self._edges, self._line = design.edges, design.hold_line
        noise = watched.noise
        self._slower = Slower(noise.slowdown, dispersion=noise.dispersion)
        # What is over is forgotten soon: nobody waits for what was tolerable an hour ago.
        most = NOTICED_OVER_BOUND * design.bound / watched.weight
        self._noticed = Slower(noise.noticed, dispersion=noise.dispersion, cap=most)
        self._beyond = BeyondLimit(
            SLOWEST,
            1.0,
            dispersion=noise.dispersion,
            cap=CAP_OVER_BOUND * design.bound / (watched.limit_weight or 1.0),
        )
        self._acceptable = self._anew()
        self._injection = Injection(design.planned_seconds, design.steps)
        self._references: list[Reference] = []
        self._whole, self._of_step = Tally(), Tally()
        self._recent = Window(RECENT_SECONDS)
        self._began: float | None = None

    def _anew(self) -> Acceptable:
        return Acceptable(SLOWEST, ACCEPTABLE_RATIO, dispersion=self.watched.noise.dispersion)

    def before(self, tick: Tick) -> None:
        """Take in what the control did before anybody was exposed."""
        for one, reference in zip(tick.latency, self._of(tick.latency), strict=True):
            reference.add(tick.seconds, one.control)

    def _of(self, strata: Sequence[Latencies]) -> list[Reference]:
        while len(self._references) < len(strata):
            self._references.append(Reference(self._edges))
        return self._references[: len(strata)]

    def take(self, tick: Tick, *, begins: bool) -> None:
        if begins:
            self._acceptable, self._of_step = self._anew(), Tally()
        strata = tick.latency
        if self._began is None and any(one.canary for one in strata):
            self._began = tick.at - tick.seconds
        if self._warm(tick):
            self._bet(tick, begins=begins)
        self.before(tick)

    def _warm(self, tick: Tick) -> bool:
        """Tell whether both arms are as they go on, and met the same: a slow moment that only one
        of them had its share in looks like its own."""
        if self._began is None or tick.rises_to is not None:
            return False
        return tick.at > self._began + self.watched.warm_up

    def _bet(self, tick: Tick, *, begins: bool) -> None:
        injected = self._injection.next(tick.seconds, step_begins=begins)
        strata, references = summed(tick.latency), self._of(tick.latency)
        self._slower.bet(strata, references, injected)
        self._noticed.bet(strata, references, injected)
        late = later(strata, self._edges, self.watched.limit)
        self._beyond.bet(late, injected)
        self._acceptable.bet(late)
        self._whole.add(late)
        self._of_step.add(late)
        self._recent.add(tick.at, late)

    @property
    def contribution(self) -> float:
        return (
            self.watched.slower_weight * self._slower.value
            + self.watched.limit_weight * self._beyond.value
        )

    def standing(self) -> Standing:
        canary, both = _breaks(self._recent.tally.counts(), SLOWEST, self._line)
        return Standing(
            self.watched,
            self.contribution / self.watched.weight,
            self._acceptable.value,
            self._whole.counts(),
            self._of_step.counts(),
            self._recent.tally.counts(),
            canary,
            both,
            self._noticed.value,
        )


def _breaks(recent: Counts, limit: float, line: float) -> tuple[bool, bool]:
    """Tell whether the canary, and whether both arms, broke the limit beyond doubt."""
    canary = surely_above(recent.canary_failed, recent.canary, limit, line)
    control = canary and surely_above(recent.control_failed, recent.control, limit, line)
    return canary, control


def surely_above(x: int, n: int, limit: float, line: float) -> bool:
    """Tell whether x of n are above the limit with a likelihood ratio of at least `line`. One alone
    never is: of the few that a service counts now and then, one in four is no rate."""
    return x > max(1, limit * n) and divergence(x / n, limit) * n >= log(line)


def divergence(p: float, q: float) -> float:
    """Return the Kullback-Leibler divergence of two Bernoulli rates, nats; q between 0 and 1."""
    said = p * log(p / q) if p else 0.0
    return said + ((1 - p) * log((1 - p) / (1 - q)) if p < 1 else 0.0)


class _Backstop:
    """Whole minutes from the first exposure: two in a row far worse need no further evidence."""

    def __init__(self, design: Design) -> None:
        dispersion = design.rates[0].noise.dispersion
        self._sample = BACKSTOP_SAMPLE * (1.0 if design.by_causes else dispersion)
        self._failures = BACKSTOP_CAUSES * dispersion if design.by_causes else 0.0
        self._ends: float | None = None
        self._minute = Tally()
        self._before = False
        self.broken = False

    def add(self, tick: Tick, counts: Counts) -> None:
        if self._ends is None:
            self._ends = tick.at - tick.seconds + BACKSTOP_SECONDS
        self._minute.add((counts,))
        if tick.at >= self._ends:
            self._close()
            while self._ends <= tick.at:
                self._ends += BACKSTOP_SECONDS

    def _close(self) -> None:
        worse = self._far_worse()
        self.broken = worse and self._before
        self._before = worse
        self._minute = Tally()

    def _far_worse(self) -> bool:
        canary, control = self._minute.canary_rate, self._minute.control_rate
        if canary is None or control is None or self._minute.canary < self._sample:
            return False
        if self._minute.canary_failed < self._failures and canary < BACKSTOP_PLAIN:
            return False
        return canary > BACKSTOP_RATE and canary > BACKSTOP_TIMES * control


class _Silence:
    """Who should have reported and did not."""

    def __init__(self) -> None:
        self._ticks = {"canary": 0, "control": 0}
        self._expected = {"canary": 0.0, "control": 0.0}
        self._nobody = 0.0

    def add(self, tick: Tick, counts: Counts) -> None:
        share = tick.share
        self._nobody = 0.0 if counts.canary or counts.control else self._nobody + tick.seconds
        if 0 < share < 1:
            self._arm("canary", counts.canary, counts.control * share / (1 - share))
            self._arm("control", counts.control, counts.canary * (1 - share) / share)

    def _arm(self, arm: str, came: int, expected: float) -> None:
        if came:
            self._ticks[arm], self._expected[arm] = 0, 0.0
        else:
            self._ticks[arm] += 1
            self._expected[arm] += expected

    def arms(self) -> tuple[str, ...]:
        if self._nobody > SILENCE_SECONDS:
            return ("canary", "control")
        return tuple(
            arm
            for arm, ticks in self._ticks.items()
            if ticks > SILENT_TICKS and self._expected[arm] >= EXPECTED_REQUESTS
        )


# --- what is told of it ---------------------------------------------------------------------------


def onset(design: Design, name: str, ticks: Sequence[Tick]) -> float | None:
    """Return the unix second at which the harm to a rate seems to have begun; None without any.

    The beginning of the tick from which on a bettor gained most: where the largest of the capital
    that is left was put in.
    """
    watched = design.of(name)
    if not isinstance(watched, Rate):
        return None
    test = HarmRatio(watched.noise.tolerated, dispersion=watched.noise.dispersion)
    best, begun = 0.0, None
    gained = [0.0] * len(RATIOS)
    since: list[float | None] = [None] * len(RATIOS)
    for tick in ticks:
        logs = test.logs(tick.fair(name)) or [0.0] * len(RATIOS)
        for k, bet in enumerate(logs):
            if gained[k] <= 0:
                gained[k], since[k] = 0.0, tick.at - tick.seconds
            gained[k] += bet
        best = max(gained)
        begun = since[gained.index(best)] if best > 0 else None
    return begun


def more_needed(standing: Standing, beta: float) -> int | None:
    """Return how many more requests of the canary it takes to be sure that it is acceptable, if
    both arms go on as in this step; None when they would never show it."""
    if standing.acceptable >= 1 / beta:
        return 0
    n_t, x_t, n_c, x_c = standing.step
    if not n_t:
        return None
    canary, control = (x_t + 0.5) / (n_t + 1), (x_c + 0.5) / (n_c + 1)
    watched = standing.watched
    limit = watched.limit if isinstance(watched, Rate) else SLOWEST
    gains = [limit_gain(limit, g, canary) for g in BELOW]
    if n_c:
        of_control = (n_c / n_t, control)
        gains += [ratio_gain(ACCEPTABLE_RATIO, g, (1.0, canary), of_control) for g in BELOW]
    gain = max(gains) / watched.noise.dispersion
    wanted = log(1 / beta) - log(max(standing.acceptable, 1e-300))
    return None if gain <= 0 else int(wanted / gain) + 1
