"""How noisy a service is: while it runs one version, two halves of its processes differ by chance
and by noise alone (A/A history).

What is kept of ten minutes are sums; what a rollout is calibrated by is taken from a day of them
when it begins, and stays with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import accumulate
from math import ceil
from operator import add
from typing import Any, TypeVar

from sortition.core.ticks import TICK_SECONDS
from sortition.judgement.calibration import (
    MOST_DISPERSION,
    MOST_TOLERATED,
    SLOW_SECONDS,
    LatencyNoise,
    LatencyScatter,
    RateNoise,
    RateScatter,
    latency_scatter,
    rate_scatter,
)
from sortition.judgement.counts import Counts, Latencies

from .outcomes import HALVES, WINDOW_SECONDS, Part, Totals, added

WANTED_SECONDS = 6 * 3600
"""With less history than that nothing is calibrated: its noise would be guessed."""

NEWEST_SECONDS = 24 * 3600
"""The newest history is taken, so much of it: a service is as noisy as it was of late, at any time
of the day."""

KEPT_SECONDS = 7 * 24 * 3600
"""History is of this time at most."""

PARTS = 8
HOUR_WINDOWS = 7
"""Of so many parts one may be left out, and an hour in any case (which touches seven windows): a
host that was ill for an hour, or for a minute now and again, is no noise, and the next harm of its
kind would be tolerated for a day."""

OF_AN_HOUR, OF_MOMENTS = 0.5, 0.75
"""What lies together is left out where it is more than so much of the noise, and single windows
where they are, for the worst of them are chosen. Noise that is there all along is in neither."""

TELLING = 100
"""So many failures, each with a cause of its own, say how noisy a metric is. Of fewer chance says
more: such a metric is taken to be as noisy as all requests are."""

PAIRS = 20
"""Of fewer pairs of periods nobody knows how noisy it is what others post."""

MOST_METRICS = 20
"""Named metrics of a window that are kept, those that are counted most."""

ALONE, SEVERAL, SILENT, ROLLOUT = WHYS = ("alone", "several", "silent", "rollout")
"""Why a window says nothing: one half reported; several versions ran; nobody had a request; a
rollout moved the service."""

_S = TypeVar("_S", RateScatter, LatencyScatter)


# --- what ten minutes say -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """What one window says. seconds: of it that both halves reported.  why: one of WHYS, "" where
    it says something.  rates: by metric, "" of all requests."""

    seconds: int = 0
    why: str = ""
    rates: Mapping[str, RateScatter] = field(default_factory=dict)
    latency: LatencyScatter = field(default_factory=LatencyScatter)

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        if self.why:
            return {"why": self.why}
        return {
            "seconds": self.seconds,
            "rates": {name: one.to_body() for name, one in self.rates.items()},
            "latency": self.latency.to_body(),
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Window:
        """Return what `to_body` wrote down; a silent one for anything else."""
        if body.get("why") in WHYS:
            return cls(why=body["why"])
        try:
            rates = {name: RateScatter.from_body(one) for name, one in body["rates"].items()}
            latency = LatencyScatter.from_body(body["latency"])
            return cls(min(WINDOW_SECONDS, int(body["seconds"])), "", rates, latency)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(why=SILENT)


def window(ticks: Mapping[int, Mapping[Part, Totals]], end: int) -> Window:
    """Return what the window that ended at `end` (unix) says. ticks: of a service, by halves."""
    ends = range(end - WINDOW_SECONDS + TICK_SECONDS, end + 1, TICK_SECONDS)
    parts = [ticks.get(at, {}) for at in ends]
    if len({part.variant for each in parts for part, it in each.items() if it.requests}) > 1:
        return Window(why=SEVERAL)
    pairs = [(_half(each, HALVES[0]), _half(each, HALVES[1])) for each in parts]
    served = [any(it and it.requests for it in half) for half in zip(*pairs, strict=True)]
    if not all(served):
        return Window(why=ALONE if any(served) else SILENT)
    known = Counter[str]()
    for it in (half for pair in pairs for half in pair if half is not None):
        known.update({name: whole for name, (whole, _) in it.metrics.items()})
    names = ["", *sorted(name for name, _ in known.most_common(MOST_METRICS))]
    latencies = [Latencies(_histogram(a), _histogram(b)) for a, b in pairs]
    return Window(
        TICK_SECONDS * sum(a is not None and b is not None for a, b in pairs),
        "",
        {
            name: rate_scatter([_counts(a, b, name) for a, b in pairs], TICK_SECONDS)
            for name in names
        },
        latency_scatter(latencies, TICK_SECONDS),
    )


def _half(parts: Mapping[Part, Totals], half: str) -> Totals | None:
    found = [totals for part, totals in parts.items() if part.half == half]
    return added(found) if found else None


def _histogram(totals: Totals | None) -> Mapping[int, int]:
    return {} if totals is None else totals.durations()


def _counts(a: Totals | None, b: Totals | None, metric: str) -> Counts:
    return Counts(*_of(a, metric), *_of(b, metric))


def _of(totals: Totals | None, metric: str) -> tuple[int, int]:
    if totals is None:
        return 0, 0
    return totals.metrics.get(metric, (0, 0)) if metric else (totals.requests, totals.failures)


# --- what a rollout is calibrated by --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Calibration:
    """How noisy a service is known to be. seconds: of history that it is taken from, or that there
    is so far.  until: when the newest of it ended (unix), None without any.

    rates, latency: what is known; nothing where it is not calibrated. rates: by metric, "" of all
    requests.  sentence: all of it in one, for people.
    """

    seconds: int = 0
    until: int | None = None
    rates: Mapping[str, RateNoise] = field(default_factory=dict)
    latency: LatencyNoise | None = None
    sentence: str = ""

    @property
    def calibrated(self) -> bool:
        """Whether there was enough history."""
        return self.latency is not None

    def of_rate(self, metric: str | None) -> RateNoise:
        """Return the noise of a rate; metric: None of all requests, as which one is taken to be
        that is not known. What is usual elsewhere, where nothing is."""
        return self.rates.get(metric or "", self.rates.get("", RateNoise()))

    def of_latency(self) -> LatencyNoise:
        """Return the noise of the latency, likewise."""
        return self.latency or LatencyNoise()

    def within_processes(self) -> Calibration:
        """Return what of it is between arms that the same processes serve, as a flag's variants:
        what scatters, for requests of one cause may share a lot; not what processes differ by."""
        latency = self.latency and LatencyNoise(dispersion=self.latency.dispersion)
        rates = {name: RateNoise(one.dispersion) for name, one in self.rates.items()}
        return replace(self, rates=rates, latency=latency)


UNCALIBRATED = Calibration()


def calibration(windows: Mapping[int, Window]) -> Calibration:
    """Return what history says. windows: by their end (unix)."""
    newest = list(_newest(windows))
    seconds = sum(windows[end].seconds for end in newest)
    until = max(newest, default=None)
    if seconds < WANTED_SECONDS:
        return Calibration(seconds, until, sentence=_not_yet(seconds, windows.values()))
    chosen = [windows[end] for end in sorted(newest)]
    names = sorted({name for one in chosen for name in one.rates})
    rates = {name: _rate([one.rates.get(name) for one in chosen], name) for name in names}
    known = {name: noise for name, noise in rates.items() if noise is not None}
    latency = _latency([one.latency for one in chosen])
    return Calibration(seconds, until, known, latency, _known(seconds, known, latency))


def enough(windows: Mapping[int, Window]) -> bool:
    """Tell whether older windows would change nothing."""
    return sum(one.seconds for one in windows.values()) >= NEWEST_SECONDS


def _newest(windows: Mapping[int, Window]) -> Iterator[int]:
    """Yield the windows that are taken, the newest first."""
    seconds = 0
    for end in sorted(windows, reverse=True):
        if seconds >= NEWEST_SECONDS:
            return
        if windows[end].seconds:
            seconds += windows[end].seconds
            yield end


def _rate(some: Sequence[RateScatter | None], metric: str) -> RateNoise | None:
    """Return the noise of a metric, None where it was counted for too short, or fails too seldom;
    all requests then show no drift."""
    counted = [one for one in some if one is not None]
    if len(counted) * WINDOW_SECONDS < WANTED_SECONDS:
        return None
    lasting = _summed(_lasting(counted, _RATE_NOISE, _tells_rate), RateScatter())
    noise = lasting.noise()
    if lasting.tick.failures >= TELLING * noise.dispersion:
        return noise
    return None if metric else RateNoise(noise.dispersion)


def _latency(some: Sequence[LatencyScatter]) -> LatencyNoise:
    lasting = _lasting(some, _LATENCY_NOISE, _tells_latency)
    return _summed(lasting, LatencyScatter()).noise()


_RATE_NOISE: Sequence[Callable[[RateScatter], float]] = (
    lambda one: one.slow[-1].seen,
    lambda one: one.tick.seen,
)
_LATENCY_NOISE: Sequence[Callable[[LatencyScatter], float]] = (
    lambda one: sum(total for total, _ in one.between),
    lambda one: sum(each.seen for each in one.beyond),
)
"""How much noise there is in a window: over minutes, and from tick to tick."""


def _tells_rate(one: RateScatter) -> bool:
    """Tell whether it says how noisy a rate is."""
    return one.tick.failures >= TELLING * max(1.0, one.tick.phi)


def _tells_latency(one: LatencyScatter) -> bool:
    """Tell whether it says how noisy the latency is: half of the history that is wanted does."""
    return all(n * SLOW_SECONDS[-1] >= WANTED_SECONDS / 2 for _, n in one.between)


def _lasting(
    some: Sequence[_S], noise: Sequence[Callable[[_S], float]], tells: Callable[[_S], bool]
) -> Sequence[_S]:
    """Return the windows without an hour that lies together, and without single ones, if they are
    most of the noise and the rest says enough (tells) to be told from them.

    noise: how much there is in a window, in several ways; by the first what lies together is.
    """
    most = max(ceil(len(some) / PARTS), HOUR_WINDOWS)
    kept = _without_an_hour(some, most, noise[0])
    while most:
        found = [few for much in noise if (few := _moments(kept, most, much))]
        fewest = min(found, key=len, default=frozenset[int]())
        rest = [one for i, one in enumerate(kept) if i not in fewest]
        if not fewest or not tells(_summed(rest[1:], rest[0])):
            break
        kept, most = rest, most - len(fewest)
    return kept


def _without_an_hour(some: Sequence[_S], size: int, much: Callable[[_S], float]) -> Sequence[_S]:
    """Return the windows without so many that lie together, if they are most of the noise."""
    until = list(accumulate(map(much, some), initial=0.0))
    worst = max(range(len(some) - size + 1), key=lambda i: until[i + size] - until[i])
    if until[worst + size] - until[worst] <= OF_AN_HOUR * until[-1]:
        return some
    kept = list(some)
    del kept[worst : worst + size]
    return kept


def _moments(some: Sequence[_S], most: int, much: Callable[[_S], float]) -> frozenset[int]:
    """Return the places of the fewest windows that are most of the noise; none where it takes more
    than `most` of them."""
    noise = [much(one) for one in some]
    worst = sorted(range(len(some)), key=noise.__getitem__, reverse=True)[:most]
    whole, found = sum(noise), 0.0
    for n, i in enumerate(worst, 1):
        found += noise[i]
        if found > OF_MOMENTS * whole > 0:
            return frozenset(worst[:n])
    return frozenset()


def _summed(some: Iterable[_S], nothing: _S) -> _S:
    return reduce(add, some, nothing)


def posted_dispersion(periods: Mapping[int, tuple[int, int]], seconds: int) -> float | None:
    """Return how many times as much as by chance what others post scatters from one period to the
    next, None where too little was posted to know, or it is too noisy to compare.

    periods: end (unix) -> (all, failed).  seconds: how long a period is.
    """
    left = dict(periods)
    pairs = [
        Counts(*left.pop(end), *left.pop(end + seconds))
        for end in sorted(periods)
        if end in left and end + seconds in left
    ]
    scatter = rate_scatter(pairs, seconds)
    dispersion = scatter.noise().dispersion
    tells = len(pairs) >= PAIRS and _tells_rate(scatter)
    return dispersion if tells and dispersion < MOST_DISPERSION else None


# --- in words -------------------------------------------------------------------------------------

_BECAUSE = {
    ALONE: "halves need two processes that report, and there was one",
    SEVERAL: "several versions ran side by side",
    SILENT: "nobody reported any request",
    ROLLOUT: "a rollout moved it",
}


def _not_yet(seconds: int, windows: Iterable[Window]) -> str:
    have = f"{_long(seconds)} of history" if seconds else "no history"
    said = f"Not calibrated: {have}, {_long(WANTED_SECONDS)} wanted"
    against = Counter(one.why for one in windows if one.why).most_common(1)
    if not against:
        return f"{said}."
    ((why, times),) = against
    return f"{said}; for {_long(times * WINDOW_SECONDS)} {_BECAUSE[why]}."


def _long(seconds: int) -> str:
    return f"{seconds / 3600:.3g} h" if seconds >= 3600 else f"{seconds / 60:.2g} min"


_WORTH_SAYING = 1.5


def _too_noisy(noise: RateNoise) -> str:
    if noise.dispersion < MOST_DISPERSION and noise.drift < MOST_TOLERATED:
        return ""
    return " at most, which is too noisy to compare: of harm only what is gross is found"


def _known(seconds: int, rates: Mapping[str, RateNoise], latency: LatencyNoise) -> str:
    said = [
        f"{name or 'failures'} scatter {noise.dispersion:.2g} times as much as by chance, "
        f"tolerated {noise.tolerated:.2g}×{_too_noisy(noise)}"
        for name, noise in rates.items()
        if not name or max(noise.dispersion, noise.drift) > _WORTH_SAYING
    ]
    said.append(f"latency {latency.dispersion:.2g} times, tolerated {latency.slowdown:.3g}×")
    return f"Calibrated on {_long(seconds)} of A/A history: {'; '.join(said)}."
