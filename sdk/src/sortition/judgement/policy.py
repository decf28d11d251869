"""What follows from all that is seen of a rollout. `RULES`, read from the top, is who may do what.

One pure function, `decide`: the first rule that applies. Each look gives one decision, in a
sentence that says why. What is proven, or dead, comes first: missing data never hides it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from . import words
from .design import Design, Latency
from .evidence import Assessment, Standing
from .mismatch import ALPHA as MISMATCH_ALPHA

TOLD_APART = 20.0
"""Whose contribution is this much smaller than the largest is not blamed for it."""

OVERTIME = 3.0
"""So many times the hold, and somebody decides."""

STALE_TICKS = 3
STALE_SLACK_SECONDS = 5.0
"""Data is missing when the newest tick is older than three ticks and what a merge takes."""


class _Word(str, Enum):
    def __str__(self) -> str:
        return str(self.value)


class Does(_Word):
    """What a look leads to."""

    ROLL_BACK = "roll_back"
    PAGE = "page"
    """Hold, and wake somebody."""
    HOLD = "hold"
    STAY = "stay"
    """The hold is not over, or what is still missing comes with time."""
    ADVANCE = "advance"


class Overtime(_Word):
    """What follows when a step is not decided by three times its hold. Never silently."""

    PERSON = "person"
    ROLL_BACK = "roll_back"
    PROCEED = "proceed"


class Kind(_Word):
    """A verdict. Only `pass` advances."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_ENOUGH_DATA = "not_enough_data"
    NO_DATA = "no_data"


class Pass(_Word):
    """What a `pass` says."""

    CERTIFIED = "certified good"
    NO_HARM_SEEN = "no harm seen, minimum sample met"
    NOT_COUNTED = "counted by nobody"


@dataclass(frozen=True, slots=True)
class Compared:
    """How one target stands.

    target: its id.  weight: of its evidence in the rollout's; together 1.
    confounded_by: targets whose harm would show in this comparison too.
    """

    target: str
    weight: float
    assessment: Assessment
    confounded_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that is broken by what is not in the ticks, or a limit that fires.

    sentence: what is said of it.  control_breaks: None where there is no second arm.
    named: an alarm that the operator named for this rollout.  holds: it may only hold.
    backstop: above 5 % and twice the control's, on 2 of 2 points.
    guard: its name.
    """

    sentence: str
    control_breaks: bool | None = None
    named: bool = False
    holds: bool = False
    backstop: bool = False
    guard: str | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """What one look brought besides counts.

    watched: seconds of this step's hold that were watched.  passed: seconds since the step began.
    hold: seconds, as the schedule has it.  step: from 0.
    data_age: seconds since the newest tick ended, None before the first.  tick: seconds of one.
    hosts: what is said of unhealthy canary hosts (two probes).
    engine, responder: why an engine went back by itself, or a person did.
    over: whether the hold is over, where that is not said by the time watched: an engine decides,
    or a person skipped the rest.  waived: that person answers for data that is not there yet, or
    was not drawn as it should.
    missing: of guards that are not compared, what they lack and wait for.  lost: of one whose
    silence is meant to roll back.  undecided: what else must be there before going on.
    """

    step: int
    watched: float
    passed: float
    hold: float
    tick: float = 5.0
    data_age: float | None = 0.0
    overtime: Overtime = Overtime.PERSON
    hosts: str | None = None
    engine: str | None = None
    responder: str | None = None
    limits: tuple[Limit, ...] = ()
    over: bool | None = None
    waived: bool = False
    missing: tuple[str, ...] = ()
    lost: str | None = None
    undecided: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Tell whether it is time to go on."""
        return self.watched >= self.hold if self.over is None else self.over

    @property
    def asks_for_data(self) -> bool:
        """Tell whether going on needs data: not where somebody answers for what is missing, nor in
        a step that is not held."""
        return not self.waived and self.hold > 0


@dataclass(frozen=True, slots=True)
class Seen:
    """All that one look goes by.

    design: of the rollout, whose alpha and beta hold for all.  compared: each target, by a design
    that may be its own; empty for a rollout without outcomes.
    """

    design: Design
    compared: tuple[Compared, ...]
    outside: Outside

    @property
    def evidence(self) -> float:
        """The weighted evidence of all targets."""
        return sum(one.weight * one.assessment.evidence for one in self.compared)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one guard of one target stands, what its `pass` says, and whether going on needs it."""

    target: str
    name: str
    kind: Kind
    label: Pass | None
    sentence: str
    critical: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows, why in a sentence, by which rule, and what goes back.

    targets: those that go back; all when the reason is not in a comparison.
    guard: what the reason rests on.  evidence: the weighted sum.
    """

    does: Does
    rule: str
    sentence: str
    targets: tuple[str, ...] = ()
    guard: str | None = None
    evidence: float = 1.0


# --- how one guard stands -------------------------------------------------------------------------


def verdict_of(seen: Seen, one: Compared, standing: Standing) -> Verdict:
    """Return how one guard stands."""
    watched, design = standing.watched, seen.design
    kind, label = _kind(seen, standing)
    sentence = words.standing(standing, design, kind.value if label is None else label.value)
    return Verdict(one.target, watched.name, kind, label, sentence, watched.critical)


def _kind(seen: Seen, standing: Standing) -> tuple[Kind, Pass | None]:
    watched, design = standing.watched, seen.design
    if watched.weight * standing.harm >= design.bound:
        return Kind.FAIL, None
    if watched.optional and not standing.whole.canary and not standing.whole.control:
        return Kind.PASS, Pass.NOT_COUNTED
    if not standing.sample:
        return Kind.NO_DATA, None
    if standing.canary_breaks or standing.harm >= design.hold_line:
        return Kind.FAIL, None
    if standing.acceptable >= 1 / design.beta:
        return Kind.PASS, Pass.CERTIFIED
    if standing.sample < watched.minimum_sample or seen.outside.step in watched.certified:
        return Kind.NOT_ENOUGH_DATA, None
    return Kind.PASS, Pass.NO_HARM_SEEN


def verdicts(seen: Seen) -> tuple[Verdict, ...]:
    """Return how every guard of every target stands."""
    return tuple(
        verdict_of(seen, one, standing)
        for one in seen.compared
        for standing in one.assessment.standings
    )


# --- the rules ------------------------------------------------------------------------------------

Rule = Callable[[Seen], "Decision | None"]


def _responder(seen: Seen) -> Decision | None:
    reason = seen.outside.responder
    return None if reason is None else Decision(Does.ROLL_BACK, "responder", reason)


def _engine(seen: Seen) -> Decision | None:
    reason = seen.outside.engine
    return None if reason is None else Decision(Does.ROLL_BACK, "engine", reason)


def _harm_proven(seen: Seen) -> Decision | None:
    if not seen.compared or seen.evidence < seen.design.bound:
        return None
    worst = max(seen.compared, key=lambda one: one.weight * one.assessment.evidence)
    largest = worst.assessment.largest
    sentence = words.proven(worst.target, largest, worst.weight, seen.evidence, seen.design)
    return Decision(
        Does.ROLL_BACK, "harm proven", sentence, culprits(seen), largest.watched.name, seen.evidence
    )


def culprits(seen: Seen) -> tuple[str, ...]:
    """Return which targets go back: whose own comparison shows the harm; and what shows in such a
    comparison too, as long as its own has not certified it (they cannot be told apart)."""
    shown = {one.target: one.weight * one.assessment.evidence for one in seen.compared}
    largest = max(shown.values())
    guilty = {target for target, evidence in shown.items() if evidence * TOLD_APART >= largest}
    by_name = {one.target: one for one in seen.compared}
    for target in tuple(guilty):
        for other in by_name[target].confounded_by:
            if other in by_name and not _cleared(by_name[other], seen.design):
                guilty.add(other)
    return tuple(target for target in shown if target in guilty)


def _cleared(one: Compared, design: Design) -> bool:
    return all(
        standing.acceptable >= 1 / design.beta
        for standing in one.assessment.standings
        if standing.watched.critical and not standing.watched.optional
    )


def _dead_hosts(seen: Seen) -> Decision | None:
    said = seen.outside.hosts
    return None if said is None else Decision(Does.ROLL_BACK, "dead hosts", said)


def _named_alarm(seen: Seen) -> Decision | None:
    return _limit(
        seen,
        lambda limit: limit.named and not limit.holds,
        Does.ROLL_BACK,
        "named alarm",
        "It was named for this rollout.",
    )


def _backstop(seen: Seen) -> Decision | None:
    for one in seen.compared:
        name = one.assessment.backstop
        if name is not None:
            said = words.backstop(one.target, _standing(one, name))
            return Decision(Does.ROLL_BACK, "backstop", said, (one.target,), name, seen.evidence)
    why = "Above 5 % and more than twice the stable side's: no further evidence is needed."
    return _limit(
        seen, lambda limit: limit.backstop and not limit.holds, Does.ROLL_BACK, "backstop", why
    )


def _standing(one: Compared, name: str) -> Standing:
    return next(each for each in one.assessment.standings if each.watched.name == name)


def _lost(seen: Seen) -> Decision | None:
    said = seen.outside.lost
    if said is None:
        return None
    return Decision(Does.ROLL_BACK, "no data, meant to roll back", said)


def _limit_alone(seen: Seen) -> Decision | None:
    return _limit(
        seen,
        lambda limit: not limit.named and not limit.holds and limit.control_breaks is None,
        Does.ROLL_BACK,
        "limit broken, alone",
        "There is no second arm to compare with: the limit is all there is to go by.",
    )


def _limit(
    seen: Seen, applies: Callable[[Limit], bool], does: Does, rule: str, why: str
) -> Decision | None:
    limit = next((limit for limit in seen.outside.limits if applies(limit)), None)
    if limit is None:
        return None
    return Decision(does, rule, f"{limit.sentence} {why}", guard=limit.guard)


def _mismatch(seen: Seen) -> Decision | None:
    if seen.outside.waived:
        return None
    for one in seen.compared:
        if one.assessment.mismatch >= 1 / MISMATCH_ALPHA:
            said = words.mismatch(one.target, one.assessment)
            return Decision(Does.HOLD, "sample-ratio mismatch", said, guard="assignments")
    return None


def _missing(seen: Seen) -> Decision | None:
    outside = seen.outside
    if outside.missing:
        return Decision(Does.HOLD, "missing data", outside.missing[0])
    if not seen.compared or outside.waived:
        return None
    oldest = STALE_TICKS * outside.tick + STALE_SLACK_SECONDS
    if outside.data_age is None or outside.data_age > oldest:
        age = (
            "none yet"
            if outside.data_age is None
            else f"the newest is {outside.data_age:.0f} s old"
        )
        return Decision(Does.HOLD, "missing data", f"Holding: no outcomes come in ({age}).")
    for one in seen.compared:
        if one.assessment.exposed and one.assessment.silent:
            arms = " and ".join(one.assessment.silent)
            said = f"Holding: {one.target}: the {arms} should have reported requests and did not."
            return Decision(Does.HOLD, "missing data", said)
    return None


def _shared_outage(seen: Seen) -> Decision | None:
    for one in seen.compared:
        for standing in one.assessment.standings:
            if standing.both_breaks:
                said = words.shared_outage(one.target, standing)
                return Decision(Does.PAGE, "shared outage", said, guard=standing.watched.name)
    return _limit(
        seen,
        lambda limit: limit.control_breaks is True,
        Does.PAGE,
        "shared outage",
        "The stable side breaks the limit too: a shared outage, which going back would not end.",
    )


def _limit_holds(seen: Seen) -> Decision | None:
    return _limit(
        seen, lambda limit: limit.holds, Does.HOLD, "limit that only holds", "It may only hold."
    )


def _limit_compared(seen: Seen) -> Decision | None:
    for one in seen.compared:
        for standing in one.assessment.standings:
            if standing.canary_breaks:
                said = words.limit_broken(one.target, standing)
                return Decision(
                    Does.HOLD, "limit broken, compared", said, guard=standing.watched.name
                )
    return _limit(
        seen,
        lambda limit: True,
        Does.HOLD,
        "limit broken, compared",
        "The stable side is well, but the evidence is not there yet.",
    )


def _slower(seen: Seen) -> Decision | None:
    for one in seen.compared:
        for standing in one.assessment.standings:
            latency = standing.watched
            if isinstance(latency, Latency) and (
                latency.weight * standing.noticed >= seen.design.bound
            ):
                said = words.slower(one.target, latency)
                return Decision(Does.HOLD, "slower, tolerable", said, guard=latency.name)
    return None


def _advance(seen: Seen) -> Decision | None:
    outside = seen.outside
    if not outside.is_over or outside.undecided or _waiting(seen):
        return None
    labels = sorted({verdict.label.value for verdict in verdicts(seen) if verdict.label})
    said = "; ".join(labels) if labels else "no outcomes: by thresholds alone"
    return Decision(
        Does.ADVANCE, "every guard passes", f"The hold is over and every guard passes ({said})."
    )


def _waiting(seen: Seen) -> list[Verdict]:
    """Return the verdicts that going on waits for. Of a target that nobody sees in this step there
    is nothing to wait for."""
    asked = seen.outside.asks_for_data
    exposed = {one.target for one in seen.compared if one.assessment.exposed}
    return [
        verdict
        for verdict in verdicts(seen)
        if verdict.critical
        and verdict.target in exposed
        and verdict.kind is not Kind.PASS
        and (asked or verdict.kind is Kind.FAIL)
    ]


def _awaited(seen: Seen) -> tuple[str, str | None, bool]:
    """Return what going on waits for first: its sentence and guard, and whether it fails."""
    if seen.outside.undecided:
        return seen.outside.undecided[0], None, False
    first = next(iter(_waiting(seen)), None)
    return ("", None, False) if first is None else (first.sentence, first.name, _fails(first))


def _fails(verdict: Verdict) -> bool:
    return verdict.kind is Kind.FAIL


def _overtime(seen: Seen) -> Decision | None:
    outside = seen.outside
    # A hold that waited for something and is well now goes on: it asks nobody.
    if not outside.is_over or not _overdue(outside):
        return None
    sentence, name, fails = _awaited(seen)
    said = f"{OVERTIME:g} times the hold has passed without a decision. {sentence}".rstrip()
    match outside.overtime:
        case Overtime.ROLL_BACK:
            return Decision(
                Does.ROLL_BACK, "overtime", f"{said} The schedule says to go back.", guard=name
            )
        case Overtime.PROCEED if not fails:
            return Decision(
                Does.ADVANCE, "overtime", f"{said} The schedule says to go on.", guard=name
            )
        case _:
            return Decision(Does.PAGE, "overtime", f"{said} A person decides.", guard=name)


def _overdue(outside: Outside) -> bool:
    return outside.hold > 0 and outside.passed >= OVERTIME * outside.hold


def _stay(seen: Seen) -> Decision:
    outside = seen.outside
    if not outside.is_over:
        left = max(0.0, outside.hold - outside.watched)
        said = f"No harm seen; {left:.0f} s of the hold are left."
        return Decision(Does.STAY, "well", said)
    sentence, name, _ = _awaited(seen)
    return Decision(Does.STAY, "waiting", f"The hold is over. {sentence}", guard=name)


RULES: tuple[tuple[Rule, str], ...] = (
    (_responder, "a person goes back"),
    (_engine, "the engine went back by itself"),
    (_harm_proven, "weighted evidence of harm >= 1/alpha"),
    (_dead_hosts, "unhealthy canary hosts on two probes"),
    (_named_alarm, "an alarm that was named for this rollout"),
    (_backstop, "above 5 % and twice the control's, on 2 of 2 minutes"),
    (_limit_alone, "a limit broken, no second arm"),
    (_lost, "no data, of what is meant to roll back then"),
    (_mismatch, "the arms are not as large as they were drawn"),
    (_missing, "missing data"),
    (_shared_outage, "a limit broken by both arms alike"),
    (_limit_holds, "a limit broken that may only hold"),
    (_limit_compared, "a limit broken, the evidence not there yet"),
    (_slower, "slower, but tolerable"),
    (_advance, "hold over and every critical guard passes"),
    (_overtime, "three times the hold"),
)
"""Who may do what, the first that applies."""


def decide(seen: Seen) -> Decision:
    """Return what follows from one look. A hold that lasts three times the step's wakes
    somebody."""
    found = next((decision for rule, _ in RULES if (decision := rule(seen)) is not None), None)
    decision = _stay(seen) if found is None else found
    if decision.does is Does.HOLD and _overdue(seen.outside):
        said = f"{decision.sentence} This has lasted {OVERTIME:g} times the hold: a person decides."
        decision = replace(decision, does=Does.PAGE, sentence=said)
    if decision.does is Does.ROLL_BACK and not decision.targets:
        decision = replace(decision, targets=tuple(one.target for one in seen.compared))
    return replace(decision, evidence=seen.evidence if seen.compared else 1.0)
