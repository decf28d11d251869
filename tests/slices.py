"""Large matrices in slices: some cases in `make test`, every case in `make test-all`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from typing import TypeVar

Case = TypeVar("Case")


def everything() -> bool:
    """Tell whether this run takes its time (SORTITION_ALL=1)."""
    return os.environ.get("SORTITION_ALL") == "1"


def a_slice(cases: Iterable[Case], at_most: int, *, seed: int = 1) -> list[Case]:
    """Return `at_most` of the cases, in their order, or all of them where everything is run.

    The same seed draws the same cases in each run and in each worker, so that a failure is found
    again; give another seed where two matrices should not be cut alike.
    """
    whole = list(cases)
    if everything() or len(whole) <= at_most:
        return whole
    drawn = sorted(random.Random(seed).sample(range(len(whole)), at_most))
    return [whole[place] for place in drawn]
