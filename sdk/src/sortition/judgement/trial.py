"""A rollout's looks in order, and their replay: the same series gives the same decisions.

    {"format": 1, "design": {...}, "targets": [{"target", "weight", "confounded_by", "design"}],
     "calibration": "...", "by_causes": true}     the last two only where they say something
    {"ticks": {target: [tick, ...]}, "outside": {...}, "decision": {...}}           for each look

What is kept are sufficient statistics: counts, and nothing about a request. A decision in a series
is what was decided then; replay does not read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .counts import Tick
from .design import Design
from .evidence import Judge
from .policy import Compared, Decision, Limit, Outside, Overtime, Seen, decide

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Subject:
    """A target whose own comparison is judged; see `policy.Compared`.

    design: where it is another than the trial's, as of a flag that fewer requests ask.
    """

    target: str
    weight: float = 1.0
    confounded_by: tuple[str, ...] = ()
    design: Design | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look took in: the new ticks of each target, and what is no count."""

    ticks: Mapping[str, Sequence[Tick]]
    outside: Outside

    def to_body(self, decision: Decision | None = None) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "ticks": {
                target: [tick.to_body() for tick in ticks] for target, ticks in self.ticks.items()
            },
            "outside": {**asdict(self.outside), "overtime": self.outside.overtime.value},
            "decision": None if decision is None else _told(decision),
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Look:
        """Return the look that `to_body` wrote down. Raises ValueError, TypeError or KeyError."""
        outside = body["outside"]
        return cls(
            {
                target: [Tick.from_body(tick) for tick in ticks]
                for target, ticks in body["ticks"].items()
            },
            Outside(
                **{
                    **outside,
                    "overtime": Overtime(outside["overtime"]),
                    "limits": tuple(Limit(**limit) for limit in outside["limits"]),
                    "missing": tuple(outside.get("missing", ())),
                    "undecided": tuple(outside.get("undecided", ())),
                }
            ),
        )


def _told(decision: Decision) -> dict[str, Any]:
    return {
        "does": decision.does.value,
        "rule": decision.rule,
        "sentence": decision.sentence,
        "targets": list(decision.targets),
        "guard": decision.guard,
        "evidence": decision.evidence,
    }


class Trial:
    """All comparisons of one rollout. Without subjects, thresholds alone decide."""

    def __init__(self, design: Design, subjects: Sequence[Subject]) -> None:
        """Raises ValueError when the subjects' weights are not together 1, or a design of their own
        has another alpha or beta."""
        if subjects and abs(sum(one.weight for one in subjects) - 1) > 1e-9:
            raise ValueError("weight: of all targets together 1, or alpha is not kept")
        for one in subjects:
            own = one.design or design
            if (own.alpha, own.beta) != (design.alpha, design.beta):
                raise ValueError(f"design of {one.target}: alpha and beta are the trial's")
        self.design = design
        self.subjects = tuple(subjects)
        self._judges = {one.target: Judge(one.design or design) for one in subjects}

    def look(self, look: Look) -> Decision:
        """Take in what a look brought and return what follows."""
        return decide(self.see(look))

    def see(self, look: Look) -> Seen:
        """Take in what a look brought and return how all stands.

        Raises ValueError for a target that nobody knows.
        """
        self.take(look)
        compared = tuple(
            Compared(one.target, one.weight, self._judges[one.target].assess(), one.confounded_by)
            for one in self.subjects
        )
        return Seen(self.design, compared, look.outside)

    def take(self, look: Look) -> None:
        """Take in what a look brought. Raises ValueError for a target that nobody knows."""
        for target, ticks in look.ticks.items():
            if target not in self._judges:
                known = ", ".join(self._judges) or "none"
                raise ValueError(f"ticks: no target {target!r}; there are: {known}")
            for tick in ticks:
                self._judges[target].take(tick)

    def head(self) -> dict[str, Any]:
        """Return what a series begins with."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "design": _plain(self.design),
            "targets": [_head_of(one) for one in self.subjects],
        }
        # Beside the design, whose members versions of format 1 take to be all they know.
        if self.design.calibration:
            body["calibration"] = self.design.calibration
        if self.design.by_causes:
            body["by_causes"] = True
        return body

    @classmethod
    def from_head(cls, body: Mapping[str, Any]) -> Trial:
        """Return the trial that a series begins. Raises ValueError for a form that is not known."""
        if body.get("format") != FORMAT:
            raise ValueError(f"format: {body.get('format')!r}; this reads {FORMAT}")
        said = str(body.get("calibration", "")), bool(body.get("by_causes", False))
        subjects = [
            Subject(
                one["target"],
                one["weight"],
                tuple(one["confounded_by"]),
                one["design"] and described(Design.from_body(one["design"]), *said),
            )
            for one in body["targets"]
        ]
        return cls(described(Design.from_body(body["design"]), *said), subjects)


def _head_of(subject: Subject) -> dict[str, Any]:
    return {
        "target": subject.target,
        "weight": subject.weight,
        "confounded_by": list(subject.confounded_by),
        "design": None if subject.design is None else _plain(subject.design),
    }


def _plain(design: Design) -> dict[str, Any]:
    return replace(design, calibration="", by_causes=False).to_body()


def described(design: Design, calibration: str, by_causes: bool) -> Design:
    """Return a head's design with what the head says of its noise and its backstop; where it says
    nothing, with what is in it."""
    return replace(
        design,
        calibration=calibration or design.calibration,
        by_causes=by_causes or design.by_causes,
    )


def replay(series: Iterable[Mapping[str, Any]]) -> Iterator[Decision]:
    """Yield what follows from each look of a recorded series, its head first."""
    entries = iter(series)
    trial = Trial.from_head(next(entries))
    for body in entries:
        yield trial.look(Look.from_body(body))
