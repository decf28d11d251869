"""What sources share: the periods that a question covers, and how settings are checked."""

from __future__ import annotations

import math
from collections.abc import Iterable

from flagserver.domain.errors import Invalid
from flagserver.domain.signals import Ask, Measure, Signal


def ends(ask: Ask, now: float, settle_seconds: float = 0.0) -> list[int]:
    """Return the unix seconds at which the periods of a question ended, oldest first.

    Periods begin at multiples of their length, so two looks at the same minute see the same point.
    settle_seconds: how long after its end a period's numbers are still coming in.
    """
    period = ask.period_seconds
    last = math.floor((now - settle_seconds) / period) * period
    count = max(1, ask.window_seconds // period)
    return [last - period * back for back in range(count - 1, -1, -1)]


def end_of(at: float, period: int) -> int:
    """Return the end of the period, (end - period, end], that a unix second lies in."""
    return math.ceil(at / period) * period


def check_measure(signal: Signal, known: Iterable[Measure]) -> None:
    """Raise Invalid unless the source can tell this measure."""
    measures = list(known)
    if signal.measure not in measures:
        names = ", ".join(measures)
        raise Invalid(f"{signal.source} tells {names}, not {signal.measure}.", field="/measure")


def check_settings(signal: Signal, known: Iterable[str]) -> None:
    """Raise Invalid for a setting that the source does not know."""
    names = list(known)
    for name, _ in signal.settings:
        if name not in names:
            raise Invalid(
                f"{signal.source} knows {', '.join(names)}, not {name}.", field=f"/settings/{name}"
            )


def check_text(signal: Signal, name: str, *, needed: bool = False, longest: int = 200) -> None:
    """Raise Invalid unless a setting is text that is not empty."""
    value = signal.get(name)
    if value is None and not needed:
        return
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise Invalid(f"{name} must be text of 1 to {longest}.", field=f"/settings/{name}")
