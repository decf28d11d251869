"""Are the arms as large as they were drawn (sample-ratio mismatch)?"""

from __future__ import annotations

from math import exp, lgamma, log

ALPHA = 0.001
"""Its own budget of false alarms: it only holds, and its alarm says that all other evidence is
void."""

TOLERATED = 0.02
EXPECTED = 0.05
"""Relative to the share: how far off is no matter, and how far off an alternative usually is."""

_LARGEST = 600.0


class ShareMismatch:
    """Null: in each step, draws go to the canary with one probability that is within 2 % of the
    share.

    Per step the mixture of binomial likelihoods over Beta(c w, c (1-w)), which has a standard
    deviation of 5 % of w, over the largest likelihood within the null; steps multiply. Of draws
    (sessions, assignments), not of requests: a balancer with kept connections is no lot. It also
    sees a canary that silently loses traffic. Sources: Robbins 1970; Lindon, Malek, arXiv
    2011.03567.
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._step: tuple[int, float] | None = None
        self.canary = 0
        self.control = 0

    def add(self, step: int, share: float, assigned: tuple[int, int]) -> None:
        """Take in the draws of one tick. A share of all or nothing draws no lots."""
        if not 0 < share < 1:
            return
        if (step, share) != self._step:
            self._before = self.log_value
            self._step = (step, share)
            self.canary = self.control = 0
        self.canary += assigned[0]
        self.control += assigned[1]

    @property
    def log_value(self) -> float:
        """The log of the evidence against the null."""
        k, n = self.canary, self.canary + self.control
        if self._step is None or not n:
            return self._before
        w = self._step[1]
        c = max(1.0, (1 - w) / (w * EXPECTED**2) - 1)
        mixture = _log_beta(c * w + k, c * (1 - w) + n - k) - _log_beta(c * w, c * (1 - w))
        q = min(max(k / n, w * (1 - TOLERATED)), w * (1 + TOLERATED), 1 - 1e-12)
        return self._before + mixture - k * log(q) - (n - k) * log(1 - q)

    @property
    def value(self) -> float:
        """The evidence against the null."""
        return exp(min(_LARGEST, self.log_value))

    @property
    def share(self) -> float | None:
        """The share that the canary got in this step."""
        n = self.canary + self.control
        return self.canary / n if n else None


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
