"""How long the record keeps bodies: by each environment, 90 days unless it was set otherwise.

What goes is an entry's body and its salt; its leaf hash, the chain and the checkpoints stay, and it
all still verifies. See docs/adr/0020-retention-and-loss.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sortition.record.verify import ACCEPT

from .documents import Fact
from .times import unix

DAYS, LEAST_DAYS, MOST_DAYS = 90, 1, 3650
DAY_SECONDS = 86400

Range = tuple[int, int]
"""First and last of consecutive entries."""


def is_due(entry: Mapping[str, Any], days: Mapping[str, int], today: float) -> bool:
    """Tell whether an entry's body is kept no longer.

    days: by environment. What concerns none, or one that is no more, is kept as long as that which
    keeps longest.  today: unix seconds of this day's beginning: bodies go once a day.
    """
    if entry["action"] == ACCEPT:
        # Epochs and acknowledged losses are read from it for good.
        return False
    longest = max(days.values(), default=DAYS)
    kept = days.get(entry["environment"] or "", longest)
    return unix(entry["ts"]) + kept * DAY_SECONDS <= today


def beginning(now: datetime) -> float:
    """Return the unix seconds at which a moment's day began, UTC."""
    seconds = now.timestamp()
    return seconds - seconds % DAY_SECONDS


def ranges(numbers: Iterable[int]) -> list[Range]:
    """Return rising numbers as ranges."""
    found: list[Range] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def covers(told: Sequence[Range], number: int) -> bool:
    """Tell whether a number is within one of some ranges."""
    return any(first <= number <= last for first, last in told)


def fact(gone: Sequence[Range], of: int, states: Mapping[str, str]) -> Fact:
    """Return the entry that says which bodies are gone: all, those of earlier prunes too.

    of: the entry up to which `states` is what was: thing -> digest, so that what went on from
    there can be compared with it when the entries that led there are gone.
    """
    after = {"pruned": [list(each) for each in gone], "of": of, "states": dict(states)}
    return Fact("controller", "controller", "record:body:prune", "record", after=after)
