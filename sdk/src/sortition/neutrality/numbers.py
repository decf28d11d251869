"""Sums over a million points, twice: with NumPy, and slower without. Both give the same figures."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from operator import mul
from typing import Any, Protocol

Points = Any
"""Unsigned 32-bit numbers, in the form that a `Numbers` likes."""

Cells = Any
"""Small numbers (0..255), one for each point."""

CELLS = 16
"""Into how many equal parts the points are cut for tables of two."""

BINS = 128
"""Into how many for the histogram of one. A power of two: all are exactly as wide."""


class Numbers(Protocol):
    """What a proof needs to be computed. name: as a report says it."""

    name: str

    def points(self, drawn: Iterable[int], n: int) -> Points:
        """Return n drawn points, held closely."""

    def cells(self, points: Points) -> Cells:
        """Return which of `CELLS` parts each point lies in."""

    def marks(self, octets: bytes) -> Cells:
        """Return cells that are known already."""

    def counted(self, cells: Cells, size: int) -> list[int]:
        """Return how many there are of each of 0..size-1."""

    def pairs(self, one: Cells, other: Cells) -> list[int]:
        """Return the table of two (the first one's rows), flat: `CELLS` x `CELLS` counts."""

    def histogram(self, points: Points) -> list[int]:
        """Return how many points lie in each of `BINS` parts."""

    def below(self, points: Points, threshold: int) -> int:
        """Return how many points a threshold exposes."""

    def exposed(self, points: Points, threshold: int) -> Cells:
        """Return 1 for each point that a threshold exposes, else 0."""

    def where(self, cells: Cells, points: Points, threshold: int) -> Cells:
        """Return the cells of those whose points a threshold exposes."""

    def distance(self, points: Points) -> float:
        """Return the largest distance of their distribution from a uniform one."""

    def correlations(self, points: Points, lags: int) -> list[float]:
        """Return how points hang together with those 1, 2, … lags before them, in their order.

        The mean is the known one, a half.
        """

    def flips(self, one: Points, other: Points) -> list[int]:
        """Return for each of the 32 bits how many pairs differ in it."""


class Plain:
    """The standard library."""

    name = "Python"

    def points(self, drawn: Iterable[int], n: int) -> Points:
        """Return n drawn points."""
        return array("L", islice(drawn, n))

    def cells(self, points: Points) -> Cells:
        """Return which part each lies in."""
        return bytes([point >> 28 for point in points])

    def marks(self, octets: bytes) -> Cells:
        """Return cells that are known already."""
        return octets

    def counted(self, cells: Cells, size: int) -> list[int]:
        """Return how many there are of each."""
        counts = Counter[int](cells)
        return [counts[i] for i in range(size)]

    def pairs(self, one: Cells, other: Cells) -> list[int]:
        """Return the table of two."""
        counts = Counter(zip(one, other))  # noqa: B905 (Python 3.10's is faster so)
        return [counts[i, j] for i in range(CELLS) for j in range(CELLS)]

    def histogram(self, points: Points) -> list[int]:
        """Return how many lie in each part."""
        counts = Counter(point >> 25 for point in points)
        return [counts[i] for i in range(BINS)]

    def below(self, points: Points, threshold: int) -> int:
        """Return how many are exposed."""
        return sum(point < threshold for point in points)

    def exposed(self, points: Points, threshold: int) -> Cells:
        """Return 1 for each that is exposed."""
        return bytes([point < threshold for point in points])

    def where(self, cells: Cells, points: Points, threshold: int) -> Cells:
        """Return the exposed ones' cells."""
        return bytes(cell for cell, point in zip(cells, points) if point < threshold)  # noqa: B905

    def distance(self, points: Points) -> float:
        """Return the largest distance from uniform."""
        at: list[float] = sorted(point / 2.0**32 for point in points)
        n = len(at)
        return max(max((i + 1) / n - where, where - i / n) for i, where in enumerate(at))

    def correlations(self, points: Points, lags: int) -> list[float]:
        """Return how they hang together."""
        centred = array("d", (point / 2.0**32 - 0.5 for point in points))
        spread = sum(map(mul, centred, centred))
        return [sum(map(mul, centred, centred[lag:])) / spread for lag in range(1, lags + 1)]

    def flips(self, one: Points, other: Points) -> list[int]:
        """Return how many differ in each bit."""
        differing = [a ^ b for a, b in zip(one, other)]  # noqa: B905
        return [sum(word >> bit & 1 for word in differing) for bit in range(32)]


class Vector:
    """NumPy, the extra `neutrality`."""

    def __init__(self) -> None:
        """Raises ImportError where NumPy is not installed."""
        import numpy as np  # noqa: PLC0415 (an extra)

        self._np = np
        self.name = f"NumPy {np.__version__}"

    def points(self, drawn: Iterable[int], n: int) -> Points:
        """Return n drawn points."""
        return self._np.fromiter(drawn, dtype=self._np.uint32, count=n)

    def cells(self, points: Points) -> Cells:
        """Return which part each lies in."""
        return (points >> 28).astype(self._np.uint8)

    def marks(self, octets: bytes) -> Cells:
        """Return cells that are known already."""
        return self._np.frombuffer(octets, dtype=self._np.uint8)

    def counted(self, cells: Cells, size: int) -> list[int]:
        """Return how many there are of each."""
        return list(map(int, self._np.bincount(cells, minlength=size)))

    def pairs(self, one: Cells, other: Cells) -> list[int]:
        """Return the table of two."""
        return self.counted((one << 4) | other, CELLS * CELLS)

    def histogram(self, points: Points) -> list[int]:
        """Return how many lie in each part."""
        return self.counted((points >> 25).astype(self._np.uint8), BINS)

    def below(self, points: Points, threshold: int) -> int:
        """Return how many are exposed."""
        return int(self._np.count_nonzero(points < threshold))

    def exposed(self, points: Points, threshold: int) -> Cells:
        """Return 1 for each that is exposed."""
        return (points < threshold).astype(self._np.uint8)

    def where(self, cells: Cells, points: Points, threshold: int) -> Cells:
        """Return the exposed ones' cells."""
        return cells[points < threshold]

    def distance(self, points: Points) -> float:
        """Return the largest distance from uniform."""
        n = len(points)
        at = self._np.sort(points) / 2.0**32
        steps = self._np.arange(n + 1) / n
        return float(max((steps[1:] - at).max(), (at - steps[:-1]).max()))

    def correlations(self, points: Points, lags: int) -> list[float]:
        """Return how they hang together."""
        centred = points / 2.0**32 - 0.5
        spread = float(centred @ centred)
        return [float(centred[:-lag] @ centred[lag:]) / spread for lag in range(1, lags + 1)]

    def flips(self, one: Points, other: Points) -> list[int]:
        """Return how many differ in each bit."""
        octets = (one ^ other).astype("<u4").view(self._np.uint8).reshape(-1, 4)
        bits = self._np.unpackbits(octets, axis=1, bitorder="little")
        return list(map(int, bits.sum(axis=0)))


def the_fastest() -> Numbers:
    """Return NumPy's where it is installed, else the plain ones."""
    try:
        return Vector()
    except ImportError:
        return Plain()
