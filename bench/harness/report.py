"""Rows against bars: as a table for people, as JSON for the page, as an exit status for a check.

Every benchmark ends in `run(measure, …)`, which gives it its arguments:

    --check         exit 1 when a bar is missed or could not be measured
    --json          print one JSON object
    --quick         a tiny budget: the figures say that it works, not how well
    --bar ID=NUMBER another bar for the row of that id, for this run
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Bar:
    """What a figure is held against: `<=` or `>=` a number."""

    sign: str
    number: float

    def met_by(self, figure: float) -> bool:
        """Tell whether the figure meets it."""
        return figure <= self.number if self.sign == "<=" else figure >= self.number

    def text(self, unit: str) -> str:
        """Return it as it is printed."""
        return f"{self.sign} {_with_unit(self.number, unit)}"


def at_most(number: float) -> Bar:
    """Return a bar that larger figures miss."""
    return Bar("<=", number)


def at_least(number: float) -> Bar:
    """Return a bar that smaller figures miss."""
    return Bar(">=", number)


@dataclass(frozen=True)
class Row:
    """One figure. unit: as it is printed after the number (`x`, `ms`, `MB`).

    figure: None when it could not be measured; `note` then says why.  bar: None: told for itself.
    """

    id: str
    what: str
    figure: float | None
    unit: str = ""
    bar: Bar | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it meets its bar; None without one. What was not measured meets none."""
        if self.bar is None:
            return None
        return self.figure is not None and self.bar.met_by(self.figure)

    def cells(self) -> tuple[str, str, str, str]:
        """Return what, figure, bar and met as they are printed."""
        figure = "not measured" if self.figure is None else _with_unit(self.figure, self.unit)
        bar = "" if self.bar is None else self.bar.text(self.unit)
        met = {None: "", True: "yes", False: "**missed**"}[self.met]
        what = self.what if not self.note else f"{self.what} ({self.note})"
        return what, figure, bar, met

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Row:
        """Return the row of `as_json`."""
        named = {name: told[name] for name in ("id", "what", "figure", "unit", "note")}
        return cls(**named, bar=None if told["bar"] is None else Bar(**told["bar"]))

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        bar = None if self.bar is None else {"sign": self.bar.sign, "number": self.bar.number}
        return {
            "id": self.id,
            "what": self.what,
            "figure": self.figure,
            "unit": self.unit,
            "bar": bar,
            "met": self.met,
            "note": self.note,
        }


@dataclass(frozen=True)
class Options:
    """How a benchmark was asked to run. given: its own arguments."""

    quick: bool
    given: Mapping[str, Any] = field(default_factory=dict)

    def of(self, quick: int, whole: int) -> int:
        """Return the first number in a quick run, the second in a whole one."""
        return quick if self.quick else whole


Measure = Callable[[Options], Iterable[Row]]


@dataclass(frozen=True)
class Argument:
    """An argument of one benchmark's own: `--streams 10000`."""

    name: str
    default: int
    help: str


def run(
    measure: Measure,
    *,
    title: str,
    method: str,
    distributions: Sequence[str] = (),
    arguments: Sequence[Argument] = (),
) -> None:
    """Measure, print, and end the process: with status 1 when `--check` finds a bar missed.

    method: a sentence or two on how.  distributions: whose versions matter to the figures.
    """
    told = _parser(title, arguments).parse_args()
    before = os.getloadavg()[0]
    options = Options(told.quick, {a.name: getattr(told, a.name) for a in arguments})
    rows = _with_bars(list(measure(options)), dict(told.bar))
    facts = {**machine(), **versions(distributions), "load before": f"{before:.1f}"}
    if told.json:
        defaults = {argument.name: argument.default for argument in arguments}
        found: dict[str, Any] = {
            "title": title,
            "asked": dict(options.given.items() - defaults.items()),
            "method": method,
            "facts": facts,
            "rows": [row.as_json() for row in rows],
        }
        print(json.dumps(found))
    else:
        print(f"{title}\n{method}\n\n{table(rows)}\n\n{facts_line(facts)}")
        if told.quick:
            print("Quick: too few rounds to mean anything.")
    missed = [row for row in rows if row.met is False]
    for row in missed:
        print(f"missed: {row.id}", file=sys.stderr)
    sys.exit(1 if told.check and missed else 0)


def say(text: str) -> None:
    """Say how far it is, to whoever waits."""
    print(f"  {text}", file=sys.stderr, flush=True)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table that reads well as it is and as Markdown."""
    lines = [("what", "figure", "bar", "met"), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    printed = [_line(map(str.ljust, line, widths)) for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([printed[0], rule, *printed[1:]])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def facts_line(facts: Mapping[str, str]) -> str:
    """Return machine and versions in one line."""
    return " · ".join(f"{name} {value}" for name, value in facts.items())


def machine() -> dict[str, str]:
    """Return what of the machine decides the figures; not which machine it is."""
    return {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        platform.python_implementation(): platform.python_version(),
        **_priority(),
    }


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of distributions of this environment."""
    return {name: metadata.version(name) for name in distributions}


def _priority() -> dict[str, str]:
    """Say it when this goes before the machine's other work."""
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        return {"priority": "before all other work of the machine"}
    return {}


def _cpu_model() -> str:
    if CPUINFO.exists():
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _parser(title: str, arguments: Sequence[Argument]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a tiny budget")
    parser.add_argument(
        *("--bar", "-b"), metavar="ID=NUMBER", type=_other_bar, action="append", default=[]
    )
    for argument in arguments:
        parser.add_argument(
            f"--{argument.name}", type=int, default=argument.default, help=argument.help
        )
    return parser


def _other_bar(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    return name, float(number)


def _with_bars(rows: Sequence[Row], bars: Mapping[str, float]) -> list[Row]:
    """Put other numbers into the bars of rows. An unknown name stops, and lists the known ones."""
    known = {row.id: row for row in rows if row.bar is not None}
    unknown = sorted(bars.keys() - known.keys())
    if unknown:
        sys.exit(f"No bar is called {', '.join(unknown)}. There are: {', '.join(sorted(known))}")
    return [
        replace(row, bar=replace(row.bar, number=bars[row.id]))
        if row.bar is not None and row.id in bars
        else row
        for row in rows
    ]


def _with_unit(number: float, unit: str) -> str:
    digits = 0 if abs(number) >= 100 or number == int(number) else 1 if abs(number) >= 10 else 2
    return f"{number:,.{digits}f} {unit}".strip()
