"""Fair lots: uniform, independent of each other, and tests that would notice if they were not."""

from __future__ import annotations

from itertools import product

import pytest
from sortition.core import bucketing
from sortition.core.evaluate import compile_flags

from tests.builders import a_flag

N = 40_000
SHAPES = {
    "sequential": [str(i) for i in range(N)],
    "padded": [f"req-{i:08d}" for i in range(N)],
    "trace": [f"{i * 0x9E3779B97F4A7C15 % 2**128:032x}" for i in range(N)],
    "unicode": [f"запрос-{i}-質" for i in range(N)],
}
LOW, HIGH = 45.0, 170.0
"""χ² with 99 degrees of freedom lies between these but for p < 1e-5 on either side."""


def chi_square(cells: list[int]) -> float:
    expected = sum(cells) / len(cells)
    return sum((cell - expected) ** 2 / expected for cell in cells)


def joint(ids: list[str], one: str, other: str) -> float:
    """χ² of the 10 x 10 table of two flags' points."""
    seeds = bucketing.seed(one), bucketing.seed(other)
    cells = dict.fromkeys(product(range(10), range(10)), 0)
    for id in ids:
        a, b = (bucketing.point(id, seed) * 10 >> 32 for seed in seeds)
        cells[a, b] += 1
    return chi_square(list(cells.values()))


@pytest.mark.parametrize("shape", SHAPES)
def test_points_are_uniform(shape: str) -> None:
    cells = [0] * 100
    for id in SHAPES[shape]:
        cells[bucketing.point(id, bucketing.seed("a-salt")) * 100 >> 32] += 1

    assert LOW < chi_square(cells) < HIGH


@pytest.mark.parametrize("shape", SHAPES)
def test_flags_are_independent_of_each_other(shape: str) -> None:
    assert LOW < joint(SHAPES[shape], "checkout-v2", "checkout-v3") < HIGH


def test_the_test_would_notice_flags_that_share_a_lot() -> None:
    assert joint(SHAPES["sequential"], "same", "same") > 100 * HIGH


@pytest.mark.parametrize("share", [1.0, 10.0, 50.0])
def test_the_variant_is_drawn_anew_among_the_exposed(share: float) -> None:
    flag = a_flag(
        share=share,
        variants={"a": 1, "b": 2, "c": 3, "d": 4},
        rest="a",
        weights=(("a", 250_000), ("b", 250_000), ("c", 250_000), ("d", 250_000)),
    )
    ready = compile_flags({"flag": flag}, {})["flag"]
    seed = bucketing.seed(flag.salt)
    exposed = [i for i in SHAPES["trace"] if bucketing.point(i, seed) < ready.threshold]

    cells = [sum(ready.choose(i).variant == v for i in exposed) for v in flag.variants]

    assert chi_square(cells) < 25


def test_shares_of_a_few_parts_per_million_reach_somebody() -> None:
    seed = bucketing.seed("rare")
    edge = bucketing.threshold(100)

    hits = sum(bucketing.point(str(i), seed) < edge for i in range(200_000))

    assert 5 <= hits <= 45
