"""Capital that is bet against a null, by several bettors, and put in over time.

    M_k <- (M_k + pi_s w_k) f_k(s)         E_s = sum_k M_k + (1 - sum_{j<=s} pi_j)

f_k(s) is a factor whose expectation is at most 1 while the null holds, given everything before tick
s; w_k are the shares of the bettors, who each expect another size of effect; pi_s is what is put in
at tick s, so that harm which begins late does not have to win back what was lost before it began.
No more than 1 is put in altogether, so E is an e-process over the whole rollout, with one budget.

Sources: Ville 1939; Shafer 2021 (betting); Shin, Ramdas, Rinaldo, arXiv 2203.03532 (e-detectors).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

CAP = 1e280
"""Nobody grows richer: products stay finite. A capped process is still one."""

_LARGEST = 600.0


class Wealth:
    """What several bettors have. Null and guarantee are those of the factors that it is given."""

    __slots__ = ("_cap", "_had", "_put_in", "_weights", "value")

    def __init__(self, weights: Sequence[float], cap: float = CAP) -> None:
        """weights: each bettor's share, together 1.  cap: what one of them can have at most."""
        self._weights = tuple(weights)
        self._cap = cap
        self._had = [0.0] * len(self._weights)
        self._put_in = 0.0
        self.value = 1.0

    def bet(self, logs: Sequence[float] | None, injected: float) -> float:
        """Put capital in, let every bettor bet, and return E.

        logs: log f_k of this tick; None when every factor is 1.
        """
        injected = min(injected, 1.0 - self._put_in)
        self._put_in += injected
        had = self._had
        if injected:
            had = [each + injected * w for each, w in zip(had, self._weights, strict=True)]
        if logs is not None:
            if max(logs) > _LARGEST:
                logs = [min(log, _LARGEST) for log in logs]
            had = [each * exp(log) for each, log in zip(had, logs, strict=True)]
        whole = sum(had)
        if whole > self._cap:
            had = [min(each, self._cap) for each in had]
            whole = sum(had)
        self._had, self.value = had, whole + (1.0 - self._put_in)
        return self.value

    def of_each(self) -> tuple[float, ...]:
        """Return what each bettor has."""
        return tuple(self._had)


AT_START, AT_STEPS, OVER_TIME = 0.4, 0.2, 0.4
"""How the capital is put in: when it begins, when the share changes, and evenly over the plan."""

RESERVE_SECONDS = 600.0
"""What is left is never put in faster than by this time constant, so that a rollout which takes
longer than planned still has some to bet."""


class Injection:
    """How much capital each tick gets. All that it goes by is known before the tick's counts."""

    __slots__ = ("_drip", "_each_step", "_left", "_started")

    def __init__(self, planned_seconds: float, steps: int) -> None:
        """planned_seconds: how long the schedule takes.  steps: how many shares it has."""
        over_time = OVER_TIME if steps > 1 else OVER_TIME + AT_STEPS
        self._each_step = AT_STEPS / (steps - 1) if steps > 1 else 0.0
        self._drip = over_time / planned_seconds
        self._left = 1.0
        self._started = False

    def next(self, seconds: float, *, step_begins: bool) -> float:
        """Return what is put in at a tick of so many seconds."""
        amount = min(self._drip * seconds, self._left * min(1.0, seconds / RESERVE_SECONDS))
        if not self._started:
            amount += AT_START
        elif step_begins:
            amount += self._each_step
        self._started = True
        amount = min(amount, self._left)
        self._left -= amount
        return amount
