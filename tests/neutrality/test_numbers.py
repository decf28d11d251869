"""NumPy and the standard library give the same figures."""

from __future__ import annotations

import pytest
from sortition.core import bucketing
from sortition.neutrality.numbers import Numbers, Plain, Vector

N = 5_000


def drawn(salt: str) -> list[int]:
    ids = [b"%d" % i for i in range(N)]
    return list(bucketing.points(ids, bucketing.seed(salt)))


def everything(numbers: Numbers) -> dict[str, object]:
    one, other = (numbers.points(iter(drawn(salt)), N) for salt in ("one", "other"))
    cells, others = numbers.cells(one), numbers.cells(other)
    edge = bucketing.threshold(50_000)
    return {
        "counted": numbers.counted(cells, 16),
        "pairs": numbers.pairs(cells, others),
        "marked": numbers.pairs(numbers.exposed(one, edge), others),
        "marks": numbers.counted(numbers.marks(b"\0\1\1"), 2),
        "histogram": numbers.histogram(one),
        "below": [numbers.below(one, bucketing.threshold(share)) for share in (0, 50_000, 10**6)],
        "where": numbers.counted(numbers.where(others, one, edge), 16),
        "distance": pytest.approx(numbers.distance(one), rel=1e-12),
        "correlations": pytest.approx(numbers.correlations(one, 8), rel=1e-9),
        "flips": numbers.flips(one, other),
    }


def test_both_give_the_same_figures():
    plain, vector = everything(Plain()), everything(Vector())

    for name, figure in plain.items():
        wanted = getattr(vector[name], "expected", vector[name])
        assert figure == wanted, name
    assert plain["below"] == [0, pytest.approx(N * 0.05, rel=0.3), N]
    assert sum(plain["histogram"]) == N  # type: ignore[call-overload]


def test_many_points_are_the_ones_of_each():
    seed = bucketing.seed("one")

    assert drawn("one") == [bucketing.point(str(i), seed) for i in range(N)]
