"""How likely: tails of the distributions that a fair lot's figures follow.

Each returns both tails, (P(X <= x), P(X >= x)), and each tail is computed where it is small, so
that figures that are too even are told as exactly as figures that are too uneven.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erfc, exp, lgamma, log, pi, sqrt

Tails = tuple[float, float]

_STEPS = 10_000
_EPSILON = 1e-16
_TINY = 1e-300


def chi_square(x: float, df: int) -> Tails:
    """Return the tails of a chi-square figure with df degrees of freedom.

    P(df/2, x/2) and Q(df/2, x/2), the regularised incomplete gamma functions: the series below
    x = a + 1, the continued fraction above (Press et al., Numerical Recipes, 3rd ed., 6.2).
    """
    a, x = df / 2, x / 2
    if x <= 0:
        return 0.0, 1.0
    front = exp(a * log(x) - x - lgamma(a))
    if x < a + 1:
        low = front * _gamma_series(a, x)
        return low, 1 - low
    high = front * _gamma_fraction(a, x)
    return 1 - high, high


def _gamma_series(a: float, x: float) -> float:
    term = total = 1 / a
    for n in range(1, _STEPS):
        term *= x / (a + n)
        total += term
        if term < total * _EPSILON:
            break
    return total


def _gamma_fraction(a: float, x: float) -> float:
    """Lentz's method."""
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    h = d
    for n in range(1, _STEPS):
        step = n * (a - n)
        b += 2
        d = 1 / _held(step * d + b)
        c = _held(b + step / c)
        h *= d * c
        if abs(d * c - 1) < _EPSILON:
            break
    return h


def kolmogorov(distance: float, n: int) -> Tails:
    """Return the tails of the largest distance between n points' distribution and a uniform one.

    The limiting distribution at (sqrt(n) + 0.12 + 0.11 / sqrt(n)) D (Stephens 1970), by whichever
    of its two series converges at once (Numerical Recipes, 3rd ed., 6.14.12).
    """
    root = sqrt(n)
    z = (root + 0.12 + 0.11 / root) * distance
    if z <= 0:
        return 0.0, 1.0
    if z < 1.18:
        y = exp(-((pi / z) ** 2) / 8)
        low = sqrt(2 * pi) / z * (y + y**9 + y**25 + y**49)
        return low, 1 - low
    y = exp(-2 * z * z)
    high = 2 * (y - y**4 + y**9)
    return 1 - high, high


def binomial(k: int, n: int, p: float) -> Tails:
    """Return P(X <= k) and P(X >= k) of n draws with probability p; each includes k itself.

    By the regularised incomplete beta function: P(X >= k) = I_p(k, n - k + 1).
    """
    if p <= 0 or p >= 1:
        sure = n if p >= 1 else 0
        return float(k >= sure), float(k <= sure)
    at_most = 1.0 if k >= n else _beta(n - k, k + 1, 1 - p)
    at_least = 1.0 if k <= 0 else _beta(k, n - k + 1, p)
    return at_most, at_least


def binomial_margin(n: int, p: float, tail: float) -> tuple[int, int]:
    """Return between which counts n draws with probability p stay, but for `tail` on each side."""
    low = _first(0, n, lambda k: binomial(k, n, p)[0] > tail)
    high = _first(0, n, lambda k: k == n or binomial(k + 1, n, p)[1] <= tail)
    return low, high


def normal(z: float) -> Tails:
    """Return the tails of a standard normal figure."""
    return erfc(-z / sqrt(2)) / 2, erfc(z / sqrt(2)) / 2


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first number that something holds of, which then goes on to hold."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by Lentz's continued fraction (Numerical Recipes, 3rd ed., 6.4)."""
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x))
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _held(1 - (a + b) * x / (a + 1))
    h = d
    for m in range(1, _STEPS):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _held(1 + step * d)
            c = _held(1 + step / c)
            h *= d * c
        if abs(d * c - 1) < _EPSILON:
            break
    return h


def _held(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
