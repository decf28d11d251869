"""Guards: what is measured, judged against its limit, and what may follow from that.

`judge` says how one guard stands by its limit; `act` is the table of who may roll back, in one
place: whoever wants to know why a rollout went back, waits or goes on reads `ROWS`. The table is
the judgement's own, so that a recorded rollout is replayed by what decided it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from sortition.judgement import policy
from sortition.judgement.design import Design, Rate
from sortition.judgement.evidence import BACKSTOP_SAMPLE, Standing
from sortition.judgement.policy import Limit, Outside, Overtime

from .documents import Body
from .errors import Invalid
from .signals import Ask, Measure, Measured, Point, Signal

PATIENCE_SECONDS = 180
"""How long a guard may be without data in the midst of a step before the timer stops: two minutes'
points and the minute or so that a cloud takes to publish them."""

BACKSTOP_RATE = 0.05
BACKSTOP_TIMES = 2.0
BACKSTOP_POINTS = 2
"""An error rate above 5 % and more than twice the control's, on 2 of 2 points of at least 20
requests each, needs no further evidence. Of all requests only: of what a service counts a few times
a minute that happens by chance."""


class NoData(StrEnum):
    """What it means when a guard has nothing to go by."""

    HOLD = "hold"
    PASS = "pass"  # noqa: S105 - no password
    ROLL_BACK = "roll_back"


class OnBreach(StrEnum):
    """What a guard may do when its limit is broken."""

    ROLL_BACK = "roll_back"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Guard:
    """One rollback signal with its limit.

    limit: in the measure's own unit (a fraction, SECONDS, hosts). A rate, a latency or a value must
    be above it to break it; hosts and alarms must reach it; a healthy ratio must be below it.
    points, of: so many of the newest `of` data points break it.
    period: seconds of one data point.
    minimum_sample: fewer requests than that in the window say nothing, neither good nor bad.
    baseline_factor: more than so many times the control's value at the same time breaks the limit
    too ("double the baseline").
    named: an alarm that an operator named for this rollout, who answers for it: it needs no second
    arm.
    """

    name: str
    signal: Signal
    limit: float
    points: int = 2
    of: int = 2
    period: int = 60
    minimum_sample: int | None = None
    no_data: NoData = NoData.HOLD
    on_breach: OnBreach = OnBreach.ROLL_BACK
    baseline_factor: float | None = None
    named: bool = False

    def __post_init__(self) -> None:
        _check(self)

    @property
    def window(self) -> int:
        """Return how many seconds its data points cover."""
        return self.of * self.period

    @property
    def counts_all_requests(self) -> bool:
        """Tell whether it is a rate of all requests, and not of a metric of somebody's own."""
        told = {name for name, _ in self.signal.settings}
        return self.signal.measure is Measure.RATE and not told & {"metric", "namespace"}

    def ask(
        self, environment: str, service: str, version: str | None, flag: str | None = None
    ) -> Ask:
        """Return what to ask its source: two periods more than it looks at, so that points which
        are published late do not leave it without."""
        window = self.window + 2 * self.period
        return Ask(self.signal, environment, service, version, window, self.period, flag)

    @classmethod
    def from_body(cls, body: Body) -> Guard:
        """Return the guard that `to_body` wrote down."""
        return cls(
            **{
                **body,
                "signal": Signal.from_body(body["signal"]),
                "no_data": NoData(body["no_data"]),
                "on_breach": OnBreach(body["on_breach"]),
            }
        )

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            **asdict(self),
            "signal": self.signal.to_body(),
            "no_data": str(self.no_data),
            "on_breach": str(self.on_breach),
        }


def _check(guard: Guard) -> None:
    measure = guard.signal.measure
    if not math.isfinite(guard.limit) or guard.limit < 0:
        raise Invalid(f"{guard.name}: a limit is a number from 0.", field="/limit")
    if measure in {Measure.RATE, Measure.HEALTHY_RATIO} and guard.limit > 1:
        raise Invalid(
            f"{guard.name}: the limit of a {measure} is a fraction, 0.01 for 1 %.", field="/limit"
        )
    if measure in {Measure.UNHEALTHY_HOSTS, Measure.ALARM} and guard.limit == 0:
        raise Invalid(f"{guard.name}: a limit of 0 is always reached.", field="/limit")
    if not 1 <= guard.points <= guard.of <= 60:
        raise Invalid(
            f"{guard.name}: {guard.points} of {guard.of} data points; at least 1, at most all, and "
            "all are up to 60.",
            field="/points",
        )
    if not 1 <= guard.period <= 3600:
        raise Invalid(f"{guard.name}: a period is 1 s to an hour.", field="/period")
    if guard.minimum_sample is not None and guard.minimum_sample < 1:
        raise Invalid(f"{guard.name}: a minimum sample is at least 1.", field="/minimum_sample")
    if guard.baseline_factor is not None and not 1 < guard.baseline_factor <= 1000:
        raise Invalid(
            f"{guard.name}: a baseline factor is above 1 and up to 1000.", field="/baseline_factor"
        )


# --- how one guard stands -------------------------------------------------------------------------


class Kind(StrEnum):
    """A verdict. Only `pass` advances."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_ENOUGH_DATA = "not_enough_data"
    NO_DATA = "no_data"
    ERROR = "error"

    @property
    def blind(self) -> bool:
        """Tell whether there was nothing to see."""
        return self in {Kind.NO_DATA, Kind.ERROR}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a guard stands, in a sentence and with the numbers behind it.

    value: of the newest point, or of the worst that breaks the limit.  control: the other arm's.
    breaking, seen: how many of the newest points break the limit, of how many that have data.
    sample, failures: over those points, None where the source does not count.
    first_bad: unix second at which the first of the breaking points ended.
    newest: at which the newest point with data ended, None without any.
    compared: whether a second arm reported too.
    control_breaks: it breaks the limit as well.
    backstop: the canary's error rate is bad enough to need no further evidence.
    proven: weighted evidence of harm has passed its bound (both arms reporting).
    """

    guard: Guard
    kind: Kind
    sentence: str
    value: float | None = None
    control: float | None = None
    breaking: int = 0
    seen: int = 0
    sample: int | None = None
    failures: int | None = None
    first_bad: float | None = None
    newest: float | None = None
    compared: bool = False
    control_breaks: bool = False
    backstop: bool = False
    proven: bool = False

    def used(self) -> float | None:
        """Return how much of the limit is used, 1 at the limit; None without data or limit."""
        if self.value is None or not self.guard.limit or self.guard.signal.measure.less_is_worse:
            return None
        return self.value / self.guard.limit

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it, the guard by its name and limit."""
        rest = {
            name: getattr(self, name) for name in self.__slots__ if name not in {"guard", "kind"}
        }
        return {
            "guard": self.guard.name,
            "signal": self.guard.signal.to_body(),
            "limit": self.guard.limit,
            "kind": str(self.kind),
            **rest,
        }


def judge(
    guard: Guard,
    measured: Measured,
    now: float,
    *,
    since: float = -math.inf,
    last_seen: float | None = None,
) -> Verdict:
    """Return how a guard stands.

    since: unix second at which the rollout began; points that ended before tell of something else.
    last_seen: `newest` of an earlier verdict, so that one failed question is no long blindness.
    """
    if measured.error is not None:
        said = f"{guard.name} could not be measured: {measured.error}"
        return Verdict(guard, Kind.ERROR, said, newest=last_seen)
    oldest = max(now - guard.window - 2 * guard.period, since)
    canary = _newest(guard, measured.canary, oldest, now)
    other = () if measured.pooled else _newest(guard, measured.control, oldest, now)
    if not canary:
        return Verdict(
            guard,
            Kind.NO_DATA,
            f"{guard.name}: no data.",
            compared=bool(other),
            newest=_last_seen(measured.canary, since, now) or last_seen,
        )
    return _compared(guard, canary, other)


def _newest(guard: Guard, points: Sequence[Point], oldest: float, now: float) -> tuple[Point, ...]:
    """Return the newest `of` points with data, oldest first; one for each time."""
    good = {p.at: p for p in points if oldest < p.at <= now and _has_data(p)}
    return tuple(good[at] for at in sorted(good)[-guard.of :])


def _has_data(point: Point) -> bool:
    return point.value is not None and math.isfinite(point.value)


def _last_seen(points: Sequence[Point], since: float, now: float) -> float | None:
    return max((p.at for p in points if since < p.at <= now and _has_data(p)), default=None)


def _compared(guard: Guard, canary: tuple[Point, ...], other: tuple[Point, ...]) -> Verdict:
    baseline = {point.at: point.value for point in other}
    bad = [point for point in canary if _breaks(guard, point, baseline.get(point.at))]
    sample = _sum(point.sample for point in canary)
    told = max(bad, key=lambda p: _badness(guard, p)) if bad else canary[-1]
    control = baseline.get(told.at, other[-1].value if other else None)
    kind = _kind(guard, len(canary), len(bad), sample, newest_breaks=canary[-1] in bad)
    verdict = Verdict(
        guard,
        kind,
        "",
        value=told.value,
        control=control,
        breaking=len(bad),
        seen=len(canary),
        sample=sample,
        failures=_sum(point.failures for point in canary),
        first_bad=bad[0].at if bad else None,
        newest=canary[-1].at,
        compared=bool(other),
        control_breaks=sum(_over(guard, p.value) for p in other) >= guard.points,
        backstop=kind is Kind.FAIL and _backstop(guard, canary, baseline),
    )
    return replace(verdict, sentence=_sentence(verdict))


def _kind(
    guard: Guard, seen: int, breaking: int, sample: int | None, *, newest_breaks: bool
) -> Kind:
    if _is_small(guard, sample):
        return Kind.NOT_ENOUGH_DATA
    if breaking >= guard.points:
        return Kind.FAIL
    # A bad newest point may be the first of several: no step goes up before the next tells.
    if seen < guard.points or newest_breaks:
        return Kind.NOT_ENOUGH_DATA
    return Kind.PASS


def _is_small(guard: Guard, sample: int | None) -> bool:
    wanted = guard.minimum_sample
    return wanted is not None and sample is not None and sample < wanted


def _breaks(guard: Guard, point: Point, baseline: float | None) -> bool:
    if _over(guard, point.value):
        return True
    factor = guard.baseline_factor
    return (
        factor is not None
        and point.value is not None
        and baseline is not None
        and math.isfinite(baseline)
        and point.value > factor * baseline
    )


def _over(guard: Guard, value: float | None) -> bool:
    if value is None:
        return False
    match guard.signal.measure:
        case Measure.UNHEALTHY_HOSTS | Measure.ALARM:
            return value >= guard.limit
        case Measure.HEALTHY_RATIO:
            return value < guard.limit
        case _:
            return value > guard.limit


def _badness(guard: Guard, point: Point) -> float:
    value = point.value or 0.0
    return -value if guard.signal.measure.less_is_worse else value


def _backstop(guard: Guard, canary: tuple[Point, ...], baseline: dict[float, float | None]) -> bool:
    newest = canary[-BACKSTOP_POINTS:]
    return (
        guard.counts_all_requests
        and len(newest) == BACKSTOP_POINTS
        and all(_far_worse(point, baseline.get(point.at)) for point in newest)
    )


def _far_worse(point: Point, baseline: float | None) -> bool:
    value = point.value or 0.0
    if point.sample is not None and point.sample < BACKSTOP_SAMPLE:
        return False
    return baseline is not None and value > BACKSTOP_RATE and value > BACKSTOP_TIMES * baseline


def _sum(counts: Any) -> int | None:
    """Return the sum of what was counted, None when nothing was."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _sentence(verdict: Verdict) -> str:
    guard, value = verdict.guard, _said(verdict.guard, verdict.value)
    sample = "" if verdict.sample is None else f", n = {verdict.sample:,}"
    match verdict.kind:
        case Kind.NOT_ENOUGH_DATA if verdict.seen < guard.points:
            return f"{guard.name} {value}, but {verdict.seen} of {guard.points} data points needed."
        case Kind.NOT_ENOUGH_DATA if _is_small(guard, verdict.sample):
            return (
                f"{guard.name} {value}, but n = {verdict.sample} of {guard.minimum_sample} needed."
            )
        case Kind.NOT_ENOUGH_DATA:
            points = f"{verdict.breaking} of {guard.points} points{sample}"
            said = f"{guard.name} {value} {_against(verdict)} ({points})"
            return f"{said}: the next point is waited for."
        case Kind.FAIL if guard.signal.measure is Measure.ALARM:
            return f"{guard.name} is firing."
        case Kind.FAIL:
            points = f"{verdict.breaking} of {verdict.seen} points{sample}"
            return f"{guard.name} {value} {_against(verdict)} ({points})."
        case _ if guard.signal.measure is Measure.ALARM:
            return f"{guard.name} is well."
        case _:
            return f"{guard.name} {value}, limit {_said(guard, guard.limit)}{sample}."


def _against(verdict: Verdict) -> str:
    """Return what its value breaks: the limit, or the multiple of the baseline."""
    guard = verdict.guard
    if _over(guard, verdict.value):
        return _limit_said(guard)
    return f"> {guard.baseline_factor:g} × {_said(guard, verdict.control)} of stable"


def _limit_said(guard: Guard) -> str:
    sign = {Measure.UNHEALTHY_HOSTS: "≥", Measure.ALARM: "≥", Measure.HEALTHY_RATIO: "<"}
    return f"{sign.get(guard.signal.measure, '>')} {_said(guard, guard.limit)}"


def _said(guard: Guard, value: float | None) -> str:
    """Return a value in its unit, for people."""
    if value is None:
        return "—"
    match guard.signal.measure:
        case Measure.RATE | Measure.HEALTHY_RATIO:
            return f"{value * 100:.4g} %"
        case Measure.LATENCY:
            return f"{value * 1000:,.0f} ms"
        case _:
            return f"{value:,.6g}"


# --- what may follow: who may roll back -----------------------------------------------------------


class Does(StrEnum):
    """What a look leads to, the later the graver."""

    STAY = "stay"
    HOLD = "hold"
    PAGE = "page"
    """Hold, and wake somebody."""
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class Context:
    """What one look at a rollout brought besides verdicts.

    now, since: unix seconds; since when this step's share is confirmed.
    exposed: whether anybody is (before the first step nobody is, and there is nothing to see).
    hold_over: the step's hold is over: what is still missing must be waited for.
    waived: somebody skipped the wait, and answers for data that is not there yet.
    engine: the reason for which an engine took its deployment back by itself.
    responder: the reason that a person gave for going back.
    step: from 0.  watched, hold: seconds of the hold that count, and as the schedule has it.
    passed: seconds of this step in which nobody decided.  overtime: what three times the hold does.
    compares: names of the guards that a comparison of both arms answers for.
    whole: the step leaves no second arm to compare with.
    data_age: seconds since the newest tick that was judged ended.  tick: seconds of one.
    undecided: what else this step needs, in sentences.
    """

    now: float
    since: float
    exposed: bool = True
    hold_over: bool = False
    waived: bool = False
    engine: str | None = None
    responder: str | None = None
    step: int = 0
    watched: float = 0.0
    hold: float = 300.0
    passed: float = 0.0
    overtime: Overtime = Overtime.PERSON
    compares: frozenset[str] = frozenset()
    whole: bool = False
    data_age: float | None = 0.0
    tick: float = 5.0
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What follows, why, by which row of the table, and on which verdict it rests.

    advances: nothing stands against the next step: every guard passes, or is meant to be passed
    over when it has no data, or somebody answers for what is missing.
    culprits: the subjects whose own comparison shows the harm; empty where no comparison did.
    decision, seen: as the policy took it, and what it went by.
    """

    does: Does
    reason: str
    row: str
    verdict: Verdict | None = None
    advances: bool = False
    culprits: tuple[str, ...] = ()
    decision: policy.Decision | None = None
    seen: policy.Seen | None = None


See = Callable[[Outside], policy.Seen]
"""Adds the comparisons of a rollout to what else was seen."""

ROWS = policy.RULES
"""Who may roll back: the first row that applies. Proven harm and dead hosts come before missing
data, which therefore never hides them."""

THRESHOLDS = Design((Rate("thresholds", 0.5, 1.0, 0.0),), None, (), 1.0, 1)
"""Of a rollout that compares nothing: its limits alone decide."""


def alone(outside: Outside) -> policy.Seen:
    """Return what is seen of a rollout without outcomes."""
    return policy.Seen(THRESHOLDS, (), outside)


def act(verdicts: Sequence[Verdict], context: Context, see: See = alone) -> Action:
    """Return what follows from one look at a rollout, by the one policy that there is
    (`policy.decide`): limits, and where both arms report, the evidence."""
    seen = see(outside_of(verdicts, context))
    decision = policy.decide(seen)
    goes_on = decision.does is policy.Does.ADVANCE
    does = Does.STAY if goes_on else Does(decision.does.value)
    bare = not verdicts and not seen.compared and decision.rule in {"well", "every guard passes"}
    return Action(
        does,
        "There are no guards." if bare else decision.sentence,
        decision.rule,
        _verdict_of(decision, seen, verdicts, context),
        advances=goes_on,
        culprits=decision.targets if decision.rule in _OF_EVIDENCE else (),
        decision=decision,
        seen=seen,
    )


# --- what a guard says to the policy --------------------------------------------------------------


def outside_of(verdicts: Sequence[Verdict], context: Context) -> Outside:
    """Return what the policy goes by besides comparisons. A guard that is compared speaks by its
    limit only where the other arm does not report."""
    own = [verdict for verdict in verdicts if not _is_compared(verdict, context)]
    dead = _first(own, lambda v: _fails(v) and _of_hosts(v) and not _only_holds(v))
    lost = _first(verdicts, lambda v: _waits(v, context, NoData.ROLL_BACK))
    return Outside(
        step=context.step,
        watched=context.watched,
        passed=context.passed,
        hold=context.hold,
        tick=context.tick,
        data_age=context.data_age,
        overtime=context.overtime,
        hosts=None if dead is None else dead.sentence,
        engine=context.engine,
        responder=context.responder,
        limits=tuple(_limit(v, context) for v in own if _fails(v) and v is not dead),
        over=context.hold_over,
        waived=context.waived,
        missing=tuple(
            f"{v.sentence} Missing data holds." for v in own if _waits(v, context, NoData.HOLD)
        ),
        lost=None if lost is None else f"{lost.sentence} No data is meant to roll back.",
        undecided=(
            *(v.sentence for v in own if not _fails(v) and not _may_pass(v, context)),
            *(() if context.waived else context.undecided),
        ),
    )


def _is_compared(verdict: Verdict, context: Context) -> bool:
    """Tell whether a comparison answers for this guard. A broken limit does where the other arm
    does not report, or has nobody left."""
    if verdict.guard.name not in context.compares:
        return False
    return not _fails(verdict) or _has_control(verdict, context)


def _has_control(verdict: Verdict, context: Context) -> bool:
    return verdict.compared and not context.whole


def _limit(verdict: Verdict, context: Context) -> Limit:
    guard = verdict.guard
    compared = _has_control(verdict, context)
    return Limit(
        verdict.sentence,
        control_breaks=verdict.control_breaks if compared else None,
        named=guard.named,
        holds=_only_holds(verdict),
        backstop=compared and verdict.backstop,
        guard=guard.name,
    )


def _first(verdicts: Sequence[Verdict], applies: Callable[[Verdict], bool]) -> Verdict | None:
    return next((verdict for verdict in verdicts if applies(verdict)), None)


def _fails(verdict: Verdict) -> bool:
    return verdict.kind is Kind.FAIL


def _of_hosts(verdict: Verdict) -> bool:
    return verdict.guard.signal.measure in {Measure.UNHEALTHY_HOSTS, Measure.HEALTHY_RATIO}


def _only_holds(verdict: Verdict) -> bool:
    return verdict.guard.on_breach is OnBreach.HOLD


def _waits(verdict: Verdict, context: Context, no_data: NoData) -> bool:
    """Tell whether a verdict's data must be waited for, and is meant to do this meanwhile."""
    # Too small a sample is no missing data: it is never passed over, and never rolls back.
    treated = verdict.guard.no_data if verdict.kind.blind else NoData.HOLD
    if treated is NoData.ROLL_BACK and _only_holds(verdict):
        treated = NoData.HOLD
    return treated is no_data and _missing(verdict, context)


def _missing(verdict: Verdict, context: Context) -> bool:
    """Tell whether data that is not there must be waited for: at once when the hold is over, in the
    midst of a step after a while, and never while nobody is exposed or somebody answers for it."""
    if not context.exposed or context.waived:
        return False
    if verdict.kind is Kind.NOT_ENOUGH_DATA:
        return context.hold_over
    blind = verdict.kind.blind
    return blind and (context.hold_over or _blind_for(verdict, context) > PATIENCE_SECONDS)


def _blind_for(verdict: Verdict, context: Context) -> float:
    return context.now - max(verdict.newest or -math.inf, context.since)


def _may_pass(verdict: Verdict, context: Context) -> bool:
    if verdict.kind is Kind.PASS:
        return True
    passed_over = verdict.kind.blind and verdict.guard.no_data is NoData.PASS
    return passed_over or context.waived


# --- which verdict a decision rests on ------------------------------------------------------------

_OF_EVIDENCE = frozenset({"harm proven", "backstop"})


def _verdict_of(
    decision: policy.Decision, seen: policy.Seen, verdicts: Sequence[Verdict], context: Context
) -> Verdict | None:
    match decision.rule:
        case "dead hosts":
            return _first(verdicts, lambda v: _fails(v) and _of_hosts(v))
        case "missing data":
            return _first(verdicts, lambda v: _waits(v, context, NoData.HOLD))
        case "no data, meant to roll back":
            return _first(verdicts, lambda v: _waits(v, context, NoData.ROLL_BACK))
    named = _first(verdicts, lambda v: v.guard.name == decision.guard)
    standing = _standing_of(decision, seen)
    return named if named is None or standing is None else _proven(named, standing, decision)


def _standing_of(decision: policy.Decision, seen: policy.Seen) -> Standing | None:
    """Return how what a decision blames stands in the comparison that shows it most."""
    if decision.rule not in _OF_EVIDENCE:
        return None
    found = [
        standing
        for one in seen.compared
        if one.target in decision.targets
        for standing in one.assessment.standings
        if standing.watched.name == decision.guard
    ]
    return max(found, key=lambda each: each.harm, default=None)


def _proven(verdict: Verdict, standing: Standing, decision: policy.Decision) -> Verdict:
    """Return a guard's verdict with the numbers of the comparison that went against it."""
    n_t, x_t, n_c, x_c = standing.whole
    rates = verdict.guard.signal.measure is Measure.RATE
    return replace(
        verdict,
        kind=Kind.FAIL,
        sentence=decision.sentence,
        value=x_t / n_t if rates and n_t else verdict.value,
        control=x_c / n_c if rates and n_c else verdict.control,
        sample=n_t,
        failures=x_t,
        compared=True,
        backstop=decision.rule == "backstop",
        proven=decision.rule == "harm proven",
    )


# --- the project's own ----------------------------------------------------------------------------

ERRORS, LATENCY = "http errors", "p95 latency"

USER_SESSION, CRITICAL_PATH, DATABASE = "session_error", "critical_path", "db_connection"
"""The names under which services count these with the SDK (`request.count`)."""


def standard() -> tuple[Guard, ...]:
    """Return the standard guards over what SDKs report.

    A service that never counts sessions, critical paths or connections is not held up by that;
    whoever counts them may say `hold`.
    """
    return (
        Guard(ERRORS, Signal.of("outcomes", Measure.RATE), 0.01, minimum_sample=20),
        Guard(
            LATENCY,
            Signal.of("outcomes", Measure.LATENCY, quantile=0.95),
            1.0,
            points=3,
            of=3,
            minimum_sample=20,
            baseline_factor=2.0,
        ),
        _counted("user session errors", USER_SESSION, 0.005),
        _counted("critical path failures", CRITICAL_PATH, 0.001),
        _counted("database connection errors", DATABASE, 0.05),
    )


def standard_alb(load_balancer: str, canary: str, stable: str) -> tuple[Guard, ...]:
    """Return the standard guards over what the load balancer and CloudWatch know of two target
    groups.

    load_balancer: an ARN of it, or of a listener or rule of it.  canary, stable: the groups' ARNs.
    """
    where = {"load_balancer": load_balancer, "canary": canary, "stable": stable}
    return (
        Guard(ERRORS, Signal.of("cloudwatch", Measure.RATE, **where), 0.01, minimum_sample=20),
        Guard(
            LATENCY,
            Signal.of("cloudwatch", Measure.LATENCY, quantile=0.95, **where),
            1.0,
            points=3,
            of=3,
            minimum_sample=20,
            baseline_factor=2.0,
        ),
        *hosts(canary),
    )


PROBE_SECONDS = 10
"""How far apart two probes of hosts lie: two looks of a controller."""


def hosts(canary: str) -> tuple[Guard, ...]:
    """Return the standard guards over the hosts of one target group: two probes tell.

    canary: its ARN.
    """
    _, _, rest = canary.rpartition("targetgroup/")
    name = rest.partition("/")[0]
    unhealthy = Signal.of("hosts", Measure.UNHEALTHY_HOSTS, canary=canary)
    ratio = Signal.of("hosts", Measure.HEALTHY_RATIO, canary=canary)
    return (
        Guard(f"unhealthy hosts of {name}", unhealthy, 1.0, period=PROBE_SECONDS),
        Guard(f"healthy ratio of {name}", ratio, 0.95, period=PROBE_SECONDS),
    )


def alarm(
    *names: str, source: str = "cloudwatch", on_breach: OnBreach = OnBreach.ROLL_BACK
) -> Guard:
    """Return a guard over alarms that an operator names: one look at which it fires suffices."""
    signal = Signal.of(source, Measure.ALARM, alarms=names)
    return Guard(f"alarm {', '.join(names)}", signal, 1.0, 1, 1, on_breach=on_breach, named=True)


def _counted(name: str, metric: str, limit: float) -> Guard:
    signal = Signal.of("outcomes", Measure.RATE, metric=metric)
    return Guard(name, signal, limit, minimum_sample=20, no_data=NoData.PASS)
