"""How both versions of a split differ, as a table: with intervals that may be looked at any day."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flagserver.services.grounds import Differs

from . import present

LESS, NONE, MORE = "less in the canary", "no difference is proven", "more in the canary"
_ROLES = {LESS: "ok", NONE: "neutral", MORE: "danger"}
"""What is counted is bad: failures, and time."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one comparison. between: what canary less stable lies between.

    canary, stable: (what was seen, between what the true one lies).
    bar: (from, to) of the interval, from 0 to 100, where 50 is no difference; None where it has no
    ends.
    """

    target: str
    metric: str
    canary: tuple[str, str]
    stable: tuple[str, str]
    between: str
    words: str
    bar: tuple[float, float] | None

    @property
    def role(self) -> str:
        """The role of its colour."""
        return _ROLES[self.words]


@dataclass(frozen=True, slots=True)
class Table:
    """Every metric that both arms have counted. missing: those that one has not."""

    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    several: bool
    """Whether it is of several comparisons, so that rows say which."""


def table(found: Iterable[Differs]) -> Table:
    """Return the differences of a rollout as they are shown."""
    all_of = tuple(found)
    counted = [each for each in all_of if all(each.difference.whole)]
    missing = [each.difference.metric for each in all_of if not all(each.difference.whole)]
    return Table(
        rows=tuple(map(_row, counted)),
        missing=tuple(dict.fromkeys(missing)),
        several=len({each.target for each in counted}) > 1,
    )


def _row(one: Differs) -> Row:
    it = one.difference
    said: Callable[[float], str] = _time if it.unit else _rate
    return Row(
        target=one.target,
        metric=it.metric,
        canary=(_seen(it.canary, said), _between(it.canary_interval, said)),
        stable=(_seen(it.control, said), _between(it.control_interval, said)),
        between=_between((it.low, it.high), _signed_time if it.unit else _signed_points),
        words=MORE if it.low > 0 else LESS if it.high < 0 else NONE,
        bar=_bar(it.low, it.high),
    )


def _bar(low: float, high: float) -> tuple[float, float] | None:
    most = max(abs(low), abs(high))
    if not math.isfinite(most) or not most:
        return None
    return 50 + 46 * low / most, 50 + 46 * high / most


def _seen(value: float | None, said: Callable[[float], str]) -> str:
    return present.NOTHING if value is None else said(value)


def _between(ends: tuple[float, float], said: Callable[[float], str]) -> str:
    low, high = ends
    if math.isinf(low) or math.isinf(high):
        return "not known yet"
    return f"{said(low)} to {said(high)}"


def _rate(value: float) -> str:
    return present.measured(100 * value)


def _time(value: float) -> str:
    return present.seconds(value)


def _signed_points(value: float) -> str:
    return _signed(f"{value * 100:+.2g}") + f"{present.THIN}points"


def _signed_time(value: float) -> str:
    return _signed(f"{value * 1000:+,.0f}").replace(",", present.THIN) + f"{present.THIN}ms"


def _signed(number: str) -> str:
    return number.replace("-", "\N{MINUS SIGN}")
