"""Guards as pages show them: a row of a table each, and both arms on one axis over time.

What controllers saw is read as the JSON it is kept as, of any age and of any version: whatever is
not there is shown as not known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flagserver.domain.guards import Guard, Kind, OnBreach
from flagserver.domain.power import Seen
from flagserver.domain.rollout import Rollout
from flagserver.domain.signals import Measure
from flagserver.domain.times import unix

from . import present

Body = Mapping[str, Any]

MOST_POINTS = 240
"""Of one chart: more than a screen of this width can show apart."""

DRAWN = frozenset({Measure.RATE, Measure.LATENCY, Measure.VALUE, Measure.HEALTHY_RATIO})


@dataclass(frozen=True, slots=True)
class Word:
    """A verdict in an icon, a word and the role of its colour."""

    icon: str
    words: str
    role: str


WORDS: dict[str, Word] = {
    Kind.PASS: Word("✔", "pass", "ok"),
    Kind.FAIL: Word("✖", "fail", "danger"),
    Kind.NOT_ENOUGH_DATA: Word("…", "not enough data", "warn"),
    Kind.NO_DATA: Word("?", "no data", "neutral"),
    Kind.ERROR: Word("‼", "error", "warn"),
}
NOT_YET = Word("◷", "not looked at yet", "neutral")
WORSE = Word("✖", "worse than stable", "danger")
"""Below its limit or above: the comparison of both arms has shown harm."""


@dataclass(frozen=True, slots=True)
class Row:
    """A guard as it stood at the last look. used: how much of its limit, in percent, None unknown.

    says: the verdict's sentence, where the word alone does not tell it all.
    between: in which interval the canary's and the stable's rates lie, "" where nothing says so.
    evidence: (what, how much) of what the judgement weighed.
    """

    name: str
    canary: str
    stable: str
    limit: str
    used: float | None
    sample: str
    word: Word
    says: str
    on_fail: str
    between: tuple[str, str] = ("", "")
    evidence: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A guard over time. times: unix seconds; canary, stable: in `unit`, None where unknown.

    limit: in `unit`.  marks: (unix second, words) at which a step began.
    """

    guard: str
    unit: str
    times: tuple[float, ...]
    canary: tuple[float | None, ...]
    stable: tuple[float | None, ...]
    limit: float
    marks: tuple[tuple[float, str], ...]

    @property
    def data(self) -> str:
        """What the script draws, as JSON."""
        return json.dumps(
            {
                "unit": self.unit,
                "times": self.times,
                "canary": self.canary,
                "stable": self.stable,
                "limit": self.limit,
                "marks": self.marks,
            },
            separators=(",", ":"),
        )

    @property
    def latest(self) -> tuple[float | None, float | None]:
        """The newest that is known of canary and stable."""
        return _newest(self.canary), _newest(self.stable)

    @property
    def summary(self) -> str:
        """What it shows, in words."""
        canary, stable = self.latest
        return (
            f"{self.guard}: canary {self.said(canary)}, stable {self.said(stable)}, limit "
            f"{self.said(self.limit)}"
        )

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """The same as a table: when, canary, stable; the newest first."""
        told = zip(self.times, self.canary, self.stable, strict=True)
        return [(_clock(at), self.said(c), self.said(s)) for at, c, s in reversed(list(told))]

    def said(self, value: float | None) -> str:
        """Return a value with its unit."""
        if value is None:
            return present.NOTHING
        digits = "4g" if self.unit == "ms" else "3g" if self.unit else "6g"
        return f"{value:.{digits}}" + (self.unit and present.THIN + self.unit)


def rows(rollout: Rollout, look: Body | None, judgement: Body | None = None) -> list[Row]:
    """Return every guard of a rollout as it stood at a look.

    judgement: how both arms compare, as `verdicts.told` has it.
    """
    found = {} if look is None else {it.get("guard"): it for it in look.get("guards", ())}
    compared = {} if judgement is None else _worst(judgement.get("guards", ()))
    return [_row(g, found.get(g.name), compared.get(g.name)) for g in rollout.guards]


def _worst(weighed: Iterable[Body]) -> dict[str, Body]:
    """Return of each guard the comparison that shows the most harm."""
    found: dict[str, Body] = {}
    for each in weighed:
        before = found.get(each["guard"])
        if before is None or each["evidence"] > before["evidence"]:
            found[each["guard"]] = each
    return found


def _row(guard: Guard, verdict: Body | None, compared: Body | None) -> Row:
    kind = None if verdict is None else str(verdict.get("kind"))
    value = _number(verdict, "value")
    sample = _number(verdict, "sample")
    return Row(
        name=guard.name,
        canary=_said(guard, value),
        stable=_said(guard, _number(verdict, "control")),
        limit=_limit(guard),
        used=_used(guard, value),
        sample=present.NOTHING if sample is None else present.count(int(sample)),
        word=_word(kind, compared),
        says=_says(guard, verdict),
        on_fail="rolls back" if guard.on_breach is OnBreach.ROLL_BACK else "holds",
        between=_between(guard, compared),
        evidence=tuple(_evidence(verdict, compared)),
    )


def _says(guard: Guard, verdict: Body | None) -> str:
    """Return the verdict's sentence without what its row says beside it."""
    if verdict is None or verdict.get("kind") == Kind.PASS:
        return ""
    sentence = str(verdict.get("sentence", "")).removeprefix(f"{guard.name}: ")
    word = WORDS.get(str(verdict.get("kind")))
    return "" if word is not None and sentence.rstrip(".") == word.words else sentence


def _word(kind: str | None, compared: Body | None) -> Word:
    harm, bound = _number(compared, "evidence"), _number(compared, "rolls_back_at")
    if kind != Kind.FAIL and harm is not None and bound is not None and harm >= bound:
        return WORSE
    return NOT_YET if kind is None else WORDS.get(kind, Word("?", kind, "neutral"))


def _between(guard: Guard, compared: Body | None) -> tuple[str, str]:
    if compared is None or guard.signal.measure is not Measure.RATE:
        return "", ""
    return _interval(compared["canary"]), _interval(compared["control"])


def _interval(arm: Body) -> str:
    if not arm["requests"]:
        return ""
    return f"{present.measured(100 * arm['low'])} to {present.measured(100 * arm['high'])}"


def _used(guard: Guard, value: float | None) -> float | None:
    if value is None or not guard.limit or guard.signal.measure.less_is_worse:
        return None
    return 100 * value / guard.limit


def _limit(guard: Guard) -> str:
    if guard.signal.measure is Measure.ALARM:
        return "firing"
    sign = "<" if guard.signal.measure.less_is_worse else ""
    factor = guard.baseline_factor
    more = "" if factor is None else f", {factor:g}{present.THIN}× stable"
    return f"{sign}{_said(guard, guard.limit)}{more}"


def _said(guard: Guard, value: float | None) -> str:
    """Return a value in its unit."""
    if value is None or not math.isfinite(value):
        return present.NOTHING
    match guard.signal.measure:
        case Measure.RATE | Measure.HEALTHY_RATIO:
            return present.measured(100 * value)
        case Measure.LATENCY:
            return present.seconds(value)
        case Measure.ALARM:
            return "firing" if value >= 1 else "well"
        case _:
            return f"{value:.6g}"


def _evidence(verdict: Body | None, compared: Body | None) -> Iterable[tuple[str, str]]:
    """Yield what the judgement weighed: of harm against no harm, and what takes it back."""
    if verdict is not None and verdict.get("proven"):
        yield "harm", "proven"
    weighed = compared or (verdict or {}).get("evidence") or {}
    harm, bound = _number(weighed, "evidence"), _number(weighed, "rolls_back_at")
    counted = compared is None or compared["canary"]["requests"] or compared["control"]["requests"]
    if harm is not None and bound is not None and counted:
        yield "evidence of harm", f"{_odds(harm)} of {_odds(bound)}"
    if compared is not None and compared.get("says"):
        yield str(compared["says"]), ""


def _odds(evidence: float) -> str:
    """Return how many times likelier harm is than none: `0.3`, `25`, `1 667`."""
    if evidence < 10:
        return f"{evidence:.2g}"
    return present.count(round(min(evidence, 10**9)))


def detections(shows: Iterable[Seen]) -> list[str]:
    """Return what a step shows, a phrase for each guard: of several comparisons the least."""
    least: dict[str, Seen] = {}
    for each in shows:
        before = least.setdefault(each.guard, each)
        if each.detects is None or (before.detects is not None and each.detects > before.detects):
            least[each.guard] = each
    return [_detection(each) for each in least.values()]


def _detection(seen: Seen) -> str:
    if seen.detects is None:
        return f"{seen.guard}: nothing can be seen"
    if seen.usual is None:
        return f"{seen.guard}: seen from {seen.detects:.2g}{present.THIN}× as slow on"
    usual = f"usually {present.measured(100 * seen.usual)}{', assumed' if seen.assumed else ''}"
    passes = "" if seen.certified else "; a pass says no more than that no harm was seen"
    return f"{seen.guard}: seen from {present.measured(100 * seen.detects)} on ({usual}){passes}"


# --- over time --------------------------------------------------------------------------------


def charts(rollout: Rollout, looks: Sequence[Body]) -> list[Chart]:
    """Return a chart of every guard of which at least two looks have a number. looks: oldest
    first."""
    marks = tuple(_marks(rollout, looks))
    drawn = (_chart(g, looks, marks) for g in rollout.guards if g.signal.measure in DRAWN)
    return [chart for chart in drawn if chart is not None]


def _chart(
    guard: Guard, looks: Sequence[Body], marks: tuple[tuple[float, str], ...]
) -> Chart | None:
    points: dict[float, tuple[float | None, float | None]] = {}
    for look in looks:
        verdict = next((v for v in look.get("guards", ()) if v.get("guard") == guard.name), None)
        canary, stable = _number(verdict, "value"), _number(verdict, "control")
        if verdict is not None:
            points[unix(look["at"])] = _drawn(guard, canary), _drawn(guard, stable)
    times = sorted(points)[-MOST_POINTS:]
    if sum(points[at] != (None, None) for at in times) < 2:
        return None
    return Chart(
        guard=guard.name,
        unit=_unit(guard),
        times=tuple(times),
        canary=tuple(points[at][0] for at in times),
        stable=tuple(points[at][1] for at in times),
        limit=_drawn(guard, guard.limit) or 0.0,
        marks=tuple((at, words) for at, words in marks if at >= times[0]),
    )


def _marks(rollout: Rollout, looks: Sequence[Body]) -> Iterable[tuple[float, str]]:
    """Yield when each step began, as far as looks tell."""
    before = None
    for look in looks:
        step = look.get("step")
        if step != before and isinstance(step, int) and 0 <= step < len(rollout.plan):
            yield unix(look["at"]), present.percent(rollout.plan[step].shown)
        before = step


def _unit(guard: Guard) -> str:
    match guard.signal.measure:
        case Measure.RATE | Measure.HEALTHY_RATIO:
            return "%"
        case Measure.LATENCY:
            return "ms"
        case _:
            return ""


def _drawn(guard: Guard, value: float | None) -> float | None:
    """Return a value in the unit of its chart, to the digits that it can show."""
    if value is None or not math.isfinite(value):
        return None
    scale = {"%": 100, "ms": 1000}.get(_unit(guard), 1)
    return float(f"{value * scale:.6g}")


def _number(verdict: Body | None, name: str) -> float | None:
    value = None if verdict is None else verdict.get(name)
    return float(value) if isinstance(value, (int, float)) else None


def _newest(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
