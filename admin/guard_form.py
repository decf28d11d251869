"""Guards of somebody's own in the form that starts a rollout: rows read, and filled from a rollout.

People write limits with their unit (`1 %`, `800 ms`): in a column of bare numbers 1 means a hundred
times as much to whoever thinks in fractions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flagserver.domain.guards import Guard
from flagserver.domain.rollout_commands import GuardBody
from flagserver.domain.signals import Measure, Setting

from . import present
from .forms import Typed, Unusable, build

MOST_ROWS = 20
SPARE_ROWS = 1
"""Empty rows to write into, beyond those in use; a preview brings another."""

EMPTY = {
    "name": "",
    "measure": str(Measure.RATE),
    "source": "outcomes",
    "settings": "",
    "limit": "",
    "on_breach": "roll_back",
    "no_data": "hold",
    "sample": "",
    "points": "2 of 2",
    "period": "60",
    "factor": "",
}
"""The fields of a row, as they are before anybody types; in the form `guard_name:0` and so on."""

MEASURES = {
    str(Measure.RATE): "a rate (1 %)",
    str(Measure.LATENCY): "a latency (800 ms)",
    str(Measure.VALUE): "a value (12)",
    str(Measure.UNHEALTHY_HOSTS): "unhealthy hosts (1)",
    str(Measure.HEALTHY_RATIO): "healthy hosts of all (95 %)",
}
"""What can be watched, with how its limit is written. Alarms have a field of their own."""

SOURCES = ("outcomes", "metrics", "prometheus", "cloudwatch", "hosts")

_LIMIT = re.compile(r"(\d+(?:[.,]\d+)?)\s*(%|ms|s)?")
_POINTS = re.compile(r"(\d{1,3})\s*(?:of|/)\s*(\d{1,3})")
_FRACTIONS = frozenset({Measure.RATE, Measure.HEALTHY_RATIO})
_LISTS = frozenset({("cloudwatch", "dimensions"), ("cloudwatch", "control")})
_NUMBERS = frozenset({"quantile"})
_PERCENT, _MILLI = 100.0, 1000.0


def rows(typed: Typed) -> list[dict[str, str]]:
    """Return the rows to be shown: those that are filled in, and some to write into."""
    used = [row for row in _all_rows(typed) if _is_used(row)]
    return [*used, *[dict(EMPTY) for _ in range(min(SPARE_ROWS, MOST_ROWS - len(used)))]]


def fields(some: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return rows as fields of a form."""
    return {
        _field(name, i): row[name] for i, row in enumerate(some) if _is_used(row) for name in EMPTY
    }


def read_guards(typed: Typed) -> list[GuardBody]:
    """Return the guards that the rows describe. Raises Unusable, with what is wrong beside each."""
    found, wrong = [], False
    for i, row in enumerate(rows(typed)):
        if not _is_used(row):
            continue
        one = Typed(row)
        try:
            found.append(_read(one))
        except Unusable:
            typed.errors[f"guards:{i}"] = " ".join(one.errors.values())
            wrong = True
    if wrong:
        raise Unusable
    return found


def is_any(typed: Typed) -> bool:
    """Tell whether anybody wrote into a row."""
    return any(_is_used(row) for row in _all_rows(typed))


def filled(guards: Sequence[Guard]) -> list[dict[str, str]]:
    """Return the rows for guards that a rollout has."""
    return [_row(guard) for guard in guards]


def limit_text(guard: Guard) -> str:
    """Return a guard's limit as the form has it: `1 %`, `800 ms`, `12`."""
    measure = guard.signal.measure
    if measure in _FRACTIONS:
        return f"{guard.limit * _PERCENT:.10g} %"
    if measure is Measure.LATENCY:
        return f"{guard.limit * _MILLI:.10g} ms"
    return f"{guard.limit:.10g}"


def limit_told(guard: Guard) -> str:
    """Return when a guard's limit is broken, for people: `> 1 %, or 2 × stable; 2 of 2 points of
    1 min, from 100 requests`."""
    sample = guard.minimum_sample
    points = f"{guard.points} of {guard.of} points of {present.hold(guard.period)}"
    least = "" if sample is None else f", from {present.count(sample)} requests"
    return f"{_broken(guard)}; {points}{least}"


def _broken(guard: Guard) -> str:
    measure = guard.signal.measure
    if measure is Measure.ALARM and guard.limit <= 1:
        return "when it fires"
    reached = measure in {Measure.UNHEALTHY_HOSTS, Measure.ALARM}
    sign = "<" if measure.less_is_worse else "≥" if reached else ">"
    limit = limit_text(guard).replace(" ", present.THIN)
    factor = guard.baseline_factor
    more = "" if factor is None else f", or {factor:g}{present.THIN}× stable"
    return f"{sign}{present.THIN}{limit}{more}"


WATCHES = {
    Measure.RATE: "failed of all",
    Measure.LATENCY: "latency",
    Measure.UNHEALTHY_HOSTS: "unhealthy hosts",
    Measure.HEALTHY_RATIO: "healthy hosts of all",
    Measure.ALARM: "alarms",
    Measure.VALUE: "a value",
}


def watches(guard: Guard) -> list[str]:
    """Return what a guard measures, whatever it is called: where from, and each setting."""
    signal = guard.signal
    settings = [f"{name} = {told(it)}" for name, it in signal.settings]
    return [f"{WATCHES[signal.measure]}, from {signal.source}", *settings]


def _all_rows(typed: Typed) -> list[dict[str, str]]:
    there = [i for i in range(MOST_ROWS) if _field("name", i) in typed.values]
    return [
        {name: typed.text(_field(name, i), default).strip() for name, default in EMPTY.items()}
        for i in there
    ]


def _is_used(row: Mapping[str, str]) -> bool:
    return bool(row["name"] or row["limit"] or row["settings"])


def _field(name: str, i: int) -> str:
    return f"guard_{name}:{i}"


def _read(row: Typed) -> GuardBody:
    measure = row.text("measure")
    points, of = _points(row)
    given: dict[str, Any] = {
        "name": row.text("name"),
        "signal": {
            "source": row.text("source"),
            "measure": measure,
            "settings": _settings(row),
        },
        "limit": _limit(row, measure),
        "points": points,
        "of": of,
        "period": _whole(row, "period", "The period, in seconds,"),
        "no_data": row.text("no_data"),
        "on_breach": row.text("on_breach"),
        "minimum_sample": _whole(row, "sample", "The least sample") if row.text("sample") else None,
        "baseline_factor": _factor(row),
    }
    return build(GuardBody, row, **given)


def _limit(row: Typed, measure: str) -> float:
    """Return a limit in the measure's own unit."""
    found = _LIMIT.fullmatch(row.text("limit"))
    number, unit = (None, None) if found is None else (float(found[1].replace(",", ".")), found[2])
    if number is not None and measure in _FRACTIONS and unit == "%":
        return number / _PERCENT
    if number is not None and measure == Measure.LATENCY and unit in {"ms", "s"}:
        return number / _MILLI if unit == "ms" else number
    if number is not None and measure not in _FRACTIONS | {Measure.LATENCY} and unit is None:
        return number
    wanted = "1 %" if measure in _FRACTIONS else "800 ms" if measure == Measure.LATENCY else "12"
    row.errors["limit"] = f"Its limit is written as in {wanted}."
    raise Unusable


def _points(row: Typed) -> tuple[int, int]:
    found = _POINTS.fullmatch(row.text("points"))
    if found is None:
        row.errors["points"] = "Points are written as in 2 of 2."
        raise Unusable
    return int(found[1]), int(found[2])


def _whole(row: Typed, field: str, label: str) -> int:
    text = row.text(field)
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        row.errors[field] = f"{label} must be a whole number."
        raise Unusable
    return int(text)


def _factor(row: Typed) -> float | None:
    text = row.text("factor")
    if not text:
        return None
    if not re.fullmatch(r"\d{1,4}(?:[.,]\d{1,4})?", text, re.ASCII):
        row.errors["factor"] = "Times stable must be a number, as in 2."
        raise Unusable
    return float(text.replace(",", "."))


def _settings(row: Typed) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in row.text("settings").splitlines():
        if not line.strip():
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not value:
            row.errors["settings"] = "Settings are written one a line, as in metric = checkout."
            raise Unusable
        found[name] = _setting(row, name, value)
    return found


def _setting(row: Typed, name: str, text: str) -> Any:
    if (row.text("source"), name) in _LISTS:
        return [part.strip() for part in text.split(",") if part.strip()]
    if name not in _NUMBERS:
        return text
    try:
        return float(text.replace(",", "."))
    except ValueError:
        row.errors["settings"] = f"{name} must be a number."
        raise Unusable from None


def _row(guard: Guard) -> dict[str, str]:
    return {
        "name": guard.name,
        "measure": str(guard.signal.measure),
        "source": guard.signal.source,
        "settings": "\n".join(f"{name} = {told(it)}" for name, it in guard.signal.settings),
        "limit": limit_text(guard),
        "on_breach": str(guard.on_breach),
        "no_data": str(guard.no_data),
        "sample": "" if guard.minimum_sample is None else str(guard.minimum_sample),
        "points": f"{guard.points} of {guard.of}",
        "period": str(guard.period),
        "factor": "" if guard.baseline_factor is None else f"{guard.baseline_factor:g}",
    }


def told(setting: Setting) -> str:
    """Return a setting as people write it."""
    return ", ".join(setting) if isinstance(setting, tuple) else str(setting)
