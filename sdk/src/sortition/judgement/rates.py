"""Tests of rates. All of them look at one tick after the other and compare within a tick only, so a
share that grows, or a baseline that drifts, cannot mislead them (Simpson's paradox).

What each assumes: given a tick, requests fail independently of each other. Where they do not, as in
retry storms, `dispersion` (from A/A history, at least 1) takes the root of every factor; by
Jensen's inequality a factor's root has an expectation of at most 1 too.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from .counts import Counts
from .wealth import CAP, Wealth

RATIOS = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0)
"""How many times the tolerated rate the bettors of `HarmRatio` expect."""

ABOVE = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""How many times the limit the bettors of `AboveLimit` expect."""

BELOW = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75)
"""How much of what is not acceptable the bettors for the canary expect."""

_SURELY = 0.999


def ratio_logs(
    strata: Sequence[Counts],
    tolerated: float,
    grid: Sequence[float],
    *,
    slack: float = 0.0,
    dispersion: float = 1.0,
) -> list[float] | None:
    """Return the log factors of one tick, None when all are 0. For each multiple g of the grid

        b = (r n_t + n_c) / (r g n_t + n_c),  a = g b,  f = a^x_t b^x_c exp(-n_t slack (a - 1))

    with r = tolerated; t the canary, c the control. A stratum without one of the arms says nothing.
    For g > 1 and p_t <= r p_c + slack (and for g < 1, slack 0 and p_t >= r p_c):
    log E f <= n_t p_t (a-1) + n_c p_c (b-1) - n_t slack (a-1) <= p_c [r n_t (a-1) + n_c (b-1)] = 0,
    by log(1+y) <= y. It is the conditional binomial test of two Poisson counts, exact for Bernoulli
    requests of any rates.
    """
    said = [one for one in strata if one[0] and one[2] and (slack or one[1] or one[3])]
    if not said:
        return None
    logs = [0.0] * len(grid)
    for n_t, x_t, n_c, x_c in said:
        weighed = tolerated * n_t
        whole = weighed + n_c
        for k, g in enumerate(grid):
            b = whole / (weighed * g + n_c)
            a = g * b
            bet = (x_t * log(a) + x_c * log(b)) / dispersion
            logs[k] += bet - n_t * slack * (a - 1.0) if slack else bet
    return logs


def ratio_gain(
    tolerated: float, g: float, canary: tuple[float, float], control: tuple[float, float]
) -> float:
    """Return by how much a bettor of `ratio_logs` is expected to gain (nats).

    canary, control: (requests, rate of failures).
    """
    (n_t, p_t), (n_c, p_c) = canary, control
    b = (tolerated * n_t + n_c) / (tolerated * g * n_t + n_c)
    return n_t * p_t * log(g * b) + n_c * p_c * log(b)


def limit_gain(limit: float, g: float, rate: float) -> float:
    """Return by how much a bettor on g times the limit is expected to gain by a request (nats)."""
    return rate * log(g) + (1 - rate) * log((1 - g * limit) / (1 - limit))


def _evenly(count: int) -> tuple[float, ...]:
    return (1.0 / count,) * count


class HarmRatio:
    """Null: p_canary <= tolerated * p_control + slack in every tick and stratum, p_control as it
    likes.

    Whatever the allocation, and while it changes. Source: `ratio_logs`; at rare failures the
    E-variable of Turner, Ly, Grünwald, arXiv 2106.02693; over time Lindon, Malek, arXiv 2011.03567.
    """

    def __init__(
        self,
        tolerated: float,
        *,
        slack: float = 0.0,
        dispersion: float = 1.0,
        grid: Sequence[float] = RATIOS,
    ) -> None:
        self.tolerated, self.slack, self.dispersion = tolerated, slack, dispersion
        self.grid = tuple(grid)
        self._wealth = Wealth(_evenly(len(self.grid)))

    @property
    def value(self) -> float:
        """The evidence against the null."""
        return self._wealth.value

    def logs(self, strata: Sequence[Counts]) -> list[float] | None:
        """Return the log factors of one tick."""
        return ratio_logs(
            strata, self.tolerated, self.grid, slack=self.slack, dispersion=self.dispersion
        )

    def bet(self, strata: Sequence[Counts], injected: float) -> float:
        """Take in one tick and return the evidence."""
        return self._wealth.bet(self.logs(strata), injected)

    def of_each(self) -> tuple[float, ...]:
        """Return what each bettor has, in the grid's order."""
        return self._wealth.of_each()


class _AgainstLimit:
    """f_q = (q/limit)^x ((1-q)/(1-limit))^(n-x) over the canary's requests: the likelihood ratio of
    two Bernoulli rates, whose expectation is linear in the true rate and 1 at the limit. Of
    requests that differ, the mean rate counts (the geometric mean is at most the arithmetic
    one)."""

    def __init__(
        self, limit: float, rates: Sequence[float], *, dispersion: float = 1.0, cap: float = CAP
    ) -> None:
        self.limit = limit
        self._logs = [
            (log(q / limit) / dispersion, log((1 - q) / (1 - limit)) / dispersion) for q in rates
        ]
        self._wealth = Wealth(_evenly(len(self._logs)), cap)

    @property
    def value(self) -> float:
        """The evidence against the null."""
        return self._wealth.value

    def logs(self, strata: Sequence[Counts]) -> list[float] | None:
        """Return the log factors of one tick."""
        n = x = 0
        for one in strata:
            n += one[0]
            x += one[1]
        if not n:
            return None
        well = n - x
        return [x * failed + well * passed for failed, passed in self._logs]

    def bet(self, strata: Sequence[Counts], injected: float) -> float:
        """Take in one tick and return the evidence."""
        return self._wealth.bet(self.logs(strata), injected)

    def of_each(self) -> tuple[float, ...]:
        """Return what each bettor has."""
        return self._wealth.of_each()


class AboveLimit(_AgainstLimit):
    """Null: in every tick p_canary <= limit. Source: Wald 1945, as a mixture over alternatives."""

    def __init__(
        self,
        limit: float,
        *,
        dispersion: float = 1.0,
        grid: Sequence[float] = ABOVE,
        cap: float = CAP,
    ) -> None:
        rates = [min(max(_SURELY, (1 + limit) / 2), g * limit) for g in grid]
        super().__init__(limit, rates, dispersion=dispersion, cap=cap)


class BelowLimit(_AgainstLimit):
    """Null: in every tick p_canary >= limit. Evidence *for* the canary. Source: as `AboveLimit`."""

    def __init__(
        self, limit: float, *, dispersion: float = 1.0, grid: Sequence[float] = BELOW
    ) -> None:
        super().__init__(limit, [g * limit for g in grid], dispersion=dispersion)


class NotWorse(HarmRatio):
    """Null: in every tick and stratum p_canary >= ratio * p_control. Evidence *for* the canary.

    Source: `ratio_logs` with multiples below 1.
    """

    def __init__(
        self, ratio: float, *, dispersion: float = 1.0, grid: Sequence[float] = BELOW
    ) -> None:
        super().__init__(ratio, dispersion=dispersion, grid=grid)


class BeyondLimit:
    """Null: the canary stays within the limit, or it is not worse than `tolerated` times the
    control.

    Each of two evidences is one against its half of the null, so the smaller is one against the
    union. An outage that both arms share never blames the canary: then it is not worse than the
    control.

    The evidence of the limit alone is capped (a capped e-process is one): a shared outage makes it
    enormous, and long after, the comparison alone would decide on what the limit should have a say
    in.
    """

    def __init__(
        self, limit: float, tolerated: float, *, dispersion: float = 1.0, cap: float = CAP
    ) -> None:
        self.above = AboveLimit(limit, dispersion=dispersion, cap=cap)
        self.worse = HarmRatio(tolerated, dispersion=dispersion)

    @property
    def value(self) -> float:
        """The evidence against the null."""
        return min(self.above.value, self.worse.value)

    def bet(self, strata: Sequence[Counts], injected: float) -> float:
        """Take in one tick and return the evidence."""
        return min(self.above.bet(strata, injected), self.worse.bet(strata, injected))


class Acceptable:
    """Null: the canary is not acceptable, p_canary >= limit *and* p_canary >= ratio * p_control.

    Evidence *for* the canary, which promotion needs. The null lies in those of both halves, so
    their mean is an e-process against it. It is begun anew at each step: what was shown at 5 % was
    not shown at 50 %. No capital is held back.
    """

    def __init__(self, limit: float, ratio: float, *, dispersion: float = 1.0) -> None:
        self._below = BelowLimit(limit, dispersion=dispersion)
        self._not_worse = NotWorse(ratio, dispersion=dispersion)
        self._injected = 1.0

    @property
    def value(self) -> float:
        """The evidence that the canary is acceptable."""
        return (self._below.value + self._not_worse.value) / 2

    def bet(self, strata: Sequence[Counts]) -> float:
        """Take in one tick and return the evidence."""
        injected, self._injected = self._injected, 0.0
        self._below.bet(strata, injected)
        self._not_worse.bet(strata, injected)
        return self.value

    def of_each(self) -> tuple[float, ...]:
        """Return what each bettor of the limit, then of the comparison, has of the whole."""
        return tuple(had / 2 for had in (*self._below.of_each(), *self._not_worse.of_each()))
