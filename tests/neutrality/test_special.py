"""Tails against published values, and against each other."""

from __future__ import annotations

from math import comb, isclose

import pytest
from sortition.neutrality import special

# Critical values as printed in the NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4:
# degrees of freedom, upper tail, value.
CHI_SQUARE = [
    (1, 0.05, 3.841),
    (1, 0.001, 10.828),
    (8, 0.05, 15.507),
    (10, 0.01, 23.209),
    (15, 0.05, 24.996),
    (15, 0.001, 37.697),
    (99, 0.10, 117.407),
    (100, 0.05, 124.342),
    (100, 0.001, 149.449),
]
# and for the lower tail.
CHI_SQUARE_LOW = [(8, 0.05, 2.733), (15, 0.01, 5.229), (100, 0.05, 77.929), (100, 0.001, 61.918)]


@pytest.mark.parametrize(("df", "tail", "value"), CHI_SQUARE)
def test_the_upper_tail_of_chi_square(df, tail, value):
    assert special.chi_square(value, df)[1] == pytest.approx(tail, rel=2e-3)


@pytest.mark.parametrize(("df", "tail", "value"), CHI_SQUARE_LOW)
def test_the_lower_tail_of_chi_square(df, tail, value):
    assert special.chi_square(value, df)[0] == pytest.approx(tail, rel=2e-3)


@pytest.mark.parametrize("x", [0.1, 1.0, 5.0, 40.0])
def test_two_degrees_of_freedom_are_an_exponential(x):
    from math import exp, expm1

    low, high = special.chi_square(x, 2)

    assert isclose(high, exp(-x / 2), rel_tol=1e-12)
    assert isclose(low, -expm1(-x / 2), rel_tol=1e-12)


def test_far_tails_are_numbers_and_not_nothing():
    # 1 - P would be 0 here.
    assert 0 < special.chi_square(600.0, 127)[1] < 1e-50
    assert 0 < special.chi_square(20.0, 127)[0] < 1e-20


# Smirnov 1948, table of the limiting distribution K(z): z, P(sqrt(n) D <= z).
KOLMOGOROV = [
    (0.40, 0.002808),
    (0.50, 0.036055),
    (0.83, 0.503906),  # the median is 0.82757
    (1.00, 0.730000),
    (1.17, 0.870612),
    (1.19, 0.882258),
    (1.36, 0.950514),
    (1.63, 0.990154),
    (1.95, 0.999004),
]


@pytest.mark.parametrize(("z", "below"), KOLMOGOROV)
def test_kolmogorov_and_smirnov(z, below):
    n = 10**12  # where the correction for small samples is nothing
    low, high = special.kolmogorov(z / n**0.5, n)

    assert low == pytest.approx(below, abs=2e-4)
    assert low + high == pytest.approx(1.0)


def test_kolmogorov_for_a_hundred_points():
    # The 5 % critical value at n = 100 is 0.1340 (exact tables: Miller 1956).
    assert special.kolmogorov(0.1340, 100)[1] == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize(
    ("k", "n", "p"), [(0, 10, 0.3), (3, 10, 0.3), (10, 10, 0.3), (55, 90, 0.5)]
)
def test_binomial_tails_are_the_sums_they_stand_for(k, n, p):
    each = [comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)]

    at_most, at_least = special.binomial(k, n, p)

    assert isclose(at_most, sum(each[: k + 1]), rel_tol=1e-10)
    assert isclose(at_least, sum(each[k:]), rel_tol=1e-10)


@pytest.mark.parametrize(("n", "p"), [(1000, 0.05), (40, 0.5), (10_000, 0.0001)])
def test_a_margin_leaves_out_just_what_it_says(n, p):
    low, high = special.binomial_margin(n, p, 0.0005)

    assert special.binomial(low, n, p)[0] > 0.0005
    assert special.binomial(high, n, p)[1] > 0.0005
    assert low == 0 or special.binomial(low - 1, n, p)[0] <= 0.0005
    assert special.binomial(high + 1, n, p)[1] <= 0.0005


def test_what_is_sure_has_no_margin():
    assert special.binomial_margin(1000, 0.0, 0.001) == (0, 0)
    assert special.binomial_margin(1000, 1.0, 0.001) == (1000, 1000)


def test_normal_tails():
    assert special.normal(1.959964)[1] == pytest.approx(0.025, rel=1e-5)
    assert special.normal(-3.0)[0] == pytest.approx(0.0013499, rel=1e-4)
