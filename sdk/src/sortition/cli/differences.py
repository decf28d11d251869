"""How both versions of a rollout differ, metric by metric: shown, and nothing decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from . import rollout_words as words
from .output import clean, percent, table

Difference = Mapping[str, Any]

HEAD = "How both versions differ in this step, with intervals that hold at all times at once:"


def shown(found: Sequence[Difference]) -> RenderableType:
    """Return differences to be printed."""
    several = len({one["target"] for one in found}) > 1
    rows = [
        [
            f"{one['metric']}, {words.target_of(one['target'])}" if several else one["metric"],
            _arm(one, one["canary"]),
            _arm(one, one["control"]),
            _between(one),
            "yes" if one["differs"] else "not proven",
        ]
        for one in found
    ]
    columns = ("Metric", "Canary>", "Control>", "Canary less control>", "Differs")
    return Group(Text(), Text(HEAD), table(*columns, rows=rows))


def _arm(one: Difference, arm: Mapping[str, Any]) -> str:
    if arm["value"] is None:
        return "–"
    requests = clean(f"of {arm['requests']:,}")
    return f"{_value(one, arm['value'])} {requests}"


def _between(one: Difference) -> str:
    return f"{_signed(one, one['low'])} to {_signed(one, one['high'])}"


def _value(one: Difference, value: float) -> str:
    return f"{value * 1000:,.0f} ms" if one["unit"] == "s" else percent(100 * value)


def _signed(one: Difference, value: float | None) -> str:
    if value is None:
        return "any"
    if one["unit"] == "s":
        return f"{value * 1000:+,.0f} ms"
    return f"{100 * value:+.3g} points"
