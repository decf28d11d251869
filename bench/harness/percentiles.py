"""Percentiles of what was measured, without interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(figures: Sequence[float], percent: float) -> float:
    """Return the smallest figure that at least so many percent do not exceed. None: ValueError."""
    if not figures:
        raise ValueError("nothing was measured")
    ordered = sorted(figures)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
