"""A recorded rollout, read from JSON lines and replayed; what is wrong has its line and field.

    {"format": 1, "design": {...}, "targets": [...]}                 line 1: `trial.Trial.head`
    {"ticks": {...}, "outside": {...}, "decision": {...} | null}     a line for each look

A replay goes by ticks and outside alone. What was decided then is set beside it and never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from math import isclose, isnan
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from .counts import Tick
from .design import Design
from .policy import Decision, Outside
from .trial import FORMAT, Look, Subject, Trial, described

CLOSE = 1e-9
"""Evidence that differs relatively by less is the same: other machines round the last digit of an
exponential otherwise."""

VERDICT = ("does", "rule", "targets", "guard", "evidence")
"""What makes a decision; its sentence may be put in other words by a later version."""


class BadSeries(ValueError):
    """A line that is none of a series. line: from 1; field: `outside.hold`, "" for the whole
    line."""

    def __init__(self, line: int, field: str, message: str) -> None:
        where = f"line {line}: {field}: " if field else f"line {line}: "
        super().__init__(f"{where}{message}")
        self.line, self.field, self.message = line, field, message


class _Wrong(Exception):
    """Something wrong within one body. path: from its top."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


@dataclass(frozen=True, slots=True)
class Recorded:
    """One look of a series. line: from 1.  decision: what was decided then, None if not told."""

    line: int
    look: Look
    decision: Decision | None

    @property
    def at(self) -> float | None:
        """The unix second at which the newest tick of it ended, None without any."""
        return max((tick.at for ticks in self.look.ticks.values() for tick in ticks), default=None)


@dataclass(frozen=True, slots=True)
class Series:
    """A recorded rollout: what it was judged by, and its looks in order."""

    design: Design
    subjects: tuple[Subject, ...]
    looks: tuple[Recorded, ...]

    def trial(self) -> Trial:
        """Return its trial, before the first look."""
        return Trial(self.design, self.subjects)

    def ticks(self, target: str) -> list[Tick]:
        """Return all ticks of one target's comparison."""
        return [tick for one in self.looks for tick in one.look.ticks.get(target, ())]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One look again. differs: of VERDICT, what is not as it was decided then.

    reworded: the decision is the same and its sentence is not.
    """

    recorded: Recorded
    decision: Decision
    differs: tuple[str, ...]
    reworded: bool


def replay(series: Series) -> Iterator[Replayed]:
    """Yield what follows from each look. Raises BadSeries for a tick that is not after the last."""
    trial = series.trial()
    for one in series.looks:
        try:
            decision = trial.look(one.look)
        except ValueError as error:
            raise BadSeries(one.line, "ticks", str(error)) from None
        then = one.decision
        differs = () if then is None else _difference(then, decision)
        reworded = then is not None and not differs and then.sentence != decision.sentence
        yield Replayed(one, decision, differs, reworded)


def _difference(then: Decision, now: Decision) -> tuple[str, ...]:
    return tuple(name for name in VERDICT if not _same(getattr(then, name), getattr(now, name)))


def _same(then: Any, now: Any) -> bool:
    if isinstance(then, float) and isinstance(now, float):
        return isclose(then, now, rel_tol=CLOSE)
    return bool(then == now)


# --- reading --------------------------------------------------------------------------------------


def read(lines: Iterable[str]) -> Series:
    """Return the series that lines hold; empty ones are passed over. Raises BadSeries."""
    bodies = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    return of_bodies((number, _json(number, line)) for number, line in bodies)


def of_bodies(bodies: Iterable[tuple[int, Any]]) -> Series:
    """Return the series of (line, body), its head first. Raises BadSeries."""
    entries = iter(bodies)
    line, head = next(entries, (1, None))
    if head is None:
        raise BadSeries(line, "", "nothing is here: a series begins with its head")
    design, subjects = _at(line, _head, head)
    targets = {one.target for one in subjects}
    looks = tuple(Recorded(number, *_at(number, _look, body, targets)) for number, body in entries)
    return Series(design, subjects, looks)


def _json(line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadSeries(line, "", f"this is no JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise BadSeries(line, "", "this is nested too deeply") from None


def _at(line: int, read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except _Wrong as wrong:
        raise BadSeries(line, wrong.path.lstrip("."), wrong.message) from None


def _head(body: Any) -> tuple[Design, tuple[Subject, ...]]:
    told = _object(body, "", ("format", "design", "targets"), others=("calibration", "by_causes"))
    if told["format"] != FORMAT:
        raise _Wrong("format", f"{told['format']!r}; this reads {FORMAT}")
    calibration = _read(str, told.get("calibration", ""), "calibration")
    by_causes = _read(bool, told.get("by_causes", False), "by_causes")
    design = described(_read(Design, told["design"], "design"), calibration, by_causes)
    subjects = tuple(
        _subject(one, f"targets.{i}", calibration, by_causes)
        for i, one in enumerate(_list(told["targets"], "targets"))
    )
    try:
        Trial(design, subjects)
    except ValueError as error:
        raise _Wrong("targets", str(error)) from None
    return design, subjects


def _subject(body: Any, path: str, calibration: str, by_causes: bool) -> Subject:
    subject: Subject = _read(Subject, body, path)
    if subject.design is None:
        return subject
    return replace(subject, design=described(subject.design, calibration, by_causes))


def _look(body: Any, targets: set[str]) -> tuple[Look, Decision | None]:
    told = _object(body, "", ("ticks", "outside", "decision"))
    ticks: dict[str, list[Tick]] = {}
    for target, bodies in _mapping(told["ticks"], "ticks").items():
        place = f"ticks.{target}"
        if target not in targets:
            known = ", ".join(sorted(targets)) or "none"
            raise _Wrong(place, f"the head has no such target; there are: {known}")
        ticks[target] = [_tick(one, f"{place}.{i}") for i, one in enumerate(_list(bodies, place))]
    outside = _read(Outside, told["outside"], "outside")
    then = told["decision"]
    return Look(ticks, outside), None if then is None else _read(Decision, then, "decision")


_TICK = ("at", "seconds", "step", "share", "counts", "latency", "assigned")


def _tick(body: Any, path: str) -> Tick:
    told = _object(body, path, _TICK, others=("rises_to",))
    for name, strata in _mapping(told["counts"], f"{path}.counts").items():
        for i, one in enumerate(_list(strata, f"{path}.counts.{name}")):
            _list(one, f"{path}.counts.{name}.{i}", long=4)
    for i, stratum in enumerate(_list(told["latency"], f"{path}.latency")):
        for arm in _list(stratum, f"{path}.latency.{i}", long=2):
            for pair in _list(arm, f"{path}.latency.{i}"):
                _list(pair, f"{path}.latency.{i}", long=2)
    if told["assigned"] is not None:
        _list(told["assigned"], f"{path}.assigned", long=2)
    try:
        return Tick.from_body(told)
    except ValueError as error:
        name, _, message = str(error).partition(": ")
        raise _Wrong(f"{path}.{name.replace('/', '.')}", message) from None


# --- by their types -------------------------------------------------------------------------------


def _read(kind: Any, body: Any, path: str) -> Any:
    """Return what `body` says of this type: a dataclass by its fields. Raises _Wrong."""
    if is_dataclass(kind):
        return _dataclass(kind, body, path)
    if get_origin(kind) in {Union, UnionType}:
        return _either(get_args(kind), body, path)
    if get_origin(kind) in {tuple, Sequence}:
        inner = get_args(kind)[0]
        return tuple(_read(inner, one, f"{path}.{i}") for i, one in enumerate(_list(body, path)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _word(kind, body, path)
    return _plain(kind, body, path)


def _dataclass(kind: Any, body: Any, path: str) -> Any:
    hints = _hints(kind)
    needed = [one.name for one in fields(kind) if not _has_default(one)]
    told = _object(body, path, needed, others=[one.name for one in fields(kind)])
    read = {name: _read(hints[name], value, f"{path}.{name}") for name, value in told.items()}
    try:
        return kind(**read)
    except ValueError as error:
        raise _Wrong(path, str(error)) from None


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _has_default(field: Any) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _either(kinds: Sequence[Any], body: Any, path: str) -> Any:
    if body is None and NoneType in kinds:
        return None
    (kind,) = (one for one in kinds if one is not NoneType)
    return _read(kind, body, path)


def _word(kind: type[Enum], body: Any, path: str) -> Enum:
    try:
        return kind(body)
    except ValueError:
        known = ", ".join(str(one.value) for one in kind)
        raise _Wrong(path, f"{body!r} is not one of {known}") from None


_PLAIN = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def _plain(kind: Any, body: Any, path: str) -> Any:
    fits = isinstance(body, (int, float) if kind is float else kind)
    if kind is not bool and isinstance(body, bool):
        fits = False
    if not fits or (isinstance(body, float) and isnan(body)):
        raise _Wrong(path, f"{_short(body)} is not {_PLAIN[kind]}")
    return body


def _object(
    body: Any, path: str, needed: Sequence[str], *, others: Sequence[str] = ()
) -> Mapping[str, Any]:
    told = _mapping(body, path)
    for name in needed:
        if name not in told:
            raise _Wrong(f"{path}.{name}", "is missing")
    for name in told:
        if name not in needed and name not in others:
            raise _Wrong(f"{path}.{name}", "is not known here")
    return told


def _mapping(body: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise _Wrong(path, f"{_short(body)} is no object")
    return body


def _list(body: Any, path: str, *, long: int | None = None) -> Sequence[Any]:
    if not isinstance(body, list):
        raise _Wrong(path, f"{_short(body)} is no list")
    if long is not None and len(body) != long:
        raise _Wrong(path, f"a list of {long} is meant, not of {len(body)}")
    return body


def _short(body: Any) -> str:
    text = json.dumps(body, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"
