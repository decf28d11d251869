"""What this process tells of rollouts: counts for `/metrics`, and traces where they are asked for.

Each thing is counted once, by the process that committed it. What stands at the moment is not
counted here but read from the store by whoever is asked (`http.metrics.of_rollouts`).
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from flagserver import measures
from flagserver.aws import AwsNotSet, AwsRefused, AwsThrottled
from flagserver.domain.documents import Fact
from flagserver.domain.guards import Action, Kind, Verdict
from flagserver.domain.rollout import By, Rollout
from flagserver.domain.states import State
from flagserver.domain.verbs import Turn
from flagserver.measures import Labels, Samples, Value
from flagserver.ports import UNTOLD, Clock, LookSpan
from flagserver.services.notices import Outcome

if TYPE_CHECKING:
    from flagserver.tracing import Traces

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

FAILED = "something was not counted or traced"

NONE, CONSOLE, OTLP = EXPORTERS = ("none", "console", "otlp")
"""Where traces may go, as OTEL_TRACES_EXPORTER names it."""

ENDS: tuple[tuple[str, str], ...] = (
    ("completed", "schedule"),
    *(("rolled_back", str(by)) for by in By),
    ("superseded", str(By.PERSON)),
    *(("failed", str(by)) for by in By),
)
"""(outcome, trigger) of `sortition_rollouts_total`: what may become of a rollout, and by what."""


class Tally:
    """What was counted. Any thread may count, and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, list[float]]] = {}
        self._held: dict[str, Rollout] = {}
        self._holds = False
        self._verdicts: dict[str, Sequence[Verdict]] = {}
        self._known: set[tuple[str, ...]] = set()

    def holds(self, rollouts: Collection[Rollout]) -> None:
        """Note which rollouts this process holds."""
        with self._lock:
            self._holds = True
            self._held = {rollout.id: rollout for rollout in rollouts}
            self._verdicts = {i: v for i, v in self._verdicts.items() if i in self._held}
            for rollout in rollouts:
                self._meet(rollout)

    def judged(self, rollout: Rollout, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts."""
        with self._lock:
            self._verdicts[rollout.id] = verdicts
            counts = self._counts.setdefault("guardrail_evaluations", {})
            for verdict in verdicts:
                key = (rollout.service, verdict.guard.name, str(verdict.kind))
                counts[key] = counts.get(key, 0.0) + 1

    def turned(self, turn: Turn) -> None:
        """Count what a turn ended."""
        with self._lock:
            self._meet(turn.after)
            for _ in range(_shares_set(turn)):
                self._add("flag_changes", (turn.after.environment, *measures.SET_BY_ROLLOUT))
            if turn.ends is not None:
                self._ended(turn.ends, "superseded", By.PERSON)
            before, after = turn.before, turn.after
            if before is None or before.state is after.state:
                return
            cause = after.rollback
            match after.state:
                case State.COMPLETED:
                    self._ended(after, "completed", "schedule")
                case State.ROLLED_BACK if cause is not None:
                    self._ended(after, "rolled_back", cause.by)
                    self._rolled_back(after)
                case State.ROLLBACK_FAILED if cause is not None:
                    key = (after.service, after.environment, "failed", str(cause.by))
                    self._add("rollouts", key)

    def changed(self, fact: Fact) -> None:
        """Count what somebody changed of a flag."""
        source, _, _ = fact.actor.partition(":")
        with self._lock:
            self._add("flag_changes", (fact.environment or "", fact.action, source))

    def asked(self, command: str, seconds: float) -> None:
        """Count a question to the store (`storage.redis.server.Told`)."""
        with self._lock:
            self._observe("redis_command_duration_seconds", (command,), seconds)

    def called(self, service: str, operation: str, outcome: str) -> None:
        """Count a call of a cloud."""
        with self._lock:
            self._add("cloud_calls", (service, operation, outcome))

    def notified(self, channel: str, outcome: Outcome) -> None:
        """Count a try to tell somebody."""
        with self._lock:
            self._add("notifications", (channel, str(outcome)))

    def will_notify(self, channels: Collection[str]) -> None:
        """Begin to count at nothing: what is first heard of as 1 did not increase."""
        with self._lock:
            for channel in channels:
                for outcome in Outcome:
                    self._add("notifications", (channel, str(outcome)), 0)

    def samples(self) -> Samples:
        """Return what Prometheus is told."""
        with self._lock:
            told: dict[str, Mapping[Labels, Value]] = {
                **{name: dict(values) for name, values in self._counts.items()},
                **{
                    name: {key: list(buckets) for key, buckets in values.items()}
                    for name, values in self._histograms.items()
                },
            }
            if self._holds:
                told["controller_rollouts"] = {(): float(len(self._held))}
                told["guardrail_used_ratio"] = dict(self._used())
                told["metrics_newest_point_timestamp_seconds"] = self._newest()
            return told

    # How; the lock is held

    def _ended(self, rollout: Rollout, outcome: str, trigger: str) -> None:
        self._add("rollouts", (rollout.service, rollout.environment, outcome, str(trigger)))
        if rollout.started is not None and rollout.ended is not None:
            seconds = rollout.ended - rollout.started
            self._observe("rollout_duration_seconds", (rollout.service, outcome), seconds)

    def _rolled_back(self, rollout: Rollout) -> None:
        cause = rollout.rollback
        if cause is None:
            return
        guard = "" if cause.verdict is None else str(cause.verdict["guard"])
        key = (rollout.service, rollout.environment, str(cause.by), guard)
        self._add("rollbacks", key)
        service = (rollout.service,)
        if cause.first_bad is not None:
            seconds = cause.detected - cause.first_bad
            self._observe("rollback_detection_seconds", service, seconds)
        if cause.confirmed is not None:
            seconds = cause.confirmed - cause.detected
            self._observe("rollback_duration_seconds", service, seconds)

    def _meet(self, rollout: Rollout) -> None:
        """Begin to count at nothing what a rollout may come to."""
        service, environment = rollout.service, rollout.environment
        guards = [guard.name for guard in rollout.guards]
        key = (service, environment, *guards)
        if key in self._known:
            return
        self._known.add(key)
        for outcome, trigger in ENDS:
            self._add("rollouts", (service, environment, outcome, trigger), 0)
        for outcome in ("completed", "rolled_back", "superseded"):
            self._observe("rollout_duration_seconds", (service, outcome))
        self._observe("rollback_detection_seconds", (service,))
        self._observe("rollback_duration_seconds", (service,))
        for by, guard in [(By.PERSON, ""), *((By.GUARD, guard) for guard in guards)]:
            self._add("rollbacks", (service, environment, str(by), guard), 0)
        for guard in guards:
            for kind in Kind:
                self._add("guardrail_evaluations", (service, guard, str(kind)), 0)

    def _add(self, name: str, key: Labels, number: float = 1) -> None:
        counts = self._counts.setdefault(name, {})
        counts[key] = counts.get(key, 0.0) + number

    def _observe(self, name: str, key: Labels, seconds: float | None = None) -> None:
        edges = measures.BY_NAME[name].edges
        buckets = self._histograms.setdefault(name, {}).setdefault(key, [0.0] * (len(edges) + 2))
        if seconds is not None:
            buckets[bisect_left(edges, seconds)] += 1
            buckets[-1] += seconds

    def _used(self) -> Iterator[tuple[Labels, float]]:
        """Yield how much of each limit is used: 1 is at the limit."""
        for id, verdicts in self._verdicts.items():
            rollout = self._held.get(id)
            if rollout is None:
                continue
            for verdict in verdicts:
                where = (rollout.service, rollout.environment, verdict.guard.name)
                used = verdict.used()
                if used is None:
                    continue
                yield (*where, "canary"), used
                if verdict.control is not None:
                    yield (*where, "stable"), verdict.control / verdict.guard.limit

    def _newest(self) -> dict[Labels, float]:
        newest: dict[Labels, float] = {}
        for verdict in (v for verdicts in self._verdicts.values() for v in verdicts):
            if verdict.newest is not None:
                source = (verdict.guard.signal.source,)
                newest[source] = max(verdict.newest, newest.get(source, 0.0))
        return newest


def _shares_set(turn: Turn) -> int:
    """Return of how many flags a turn set another share."""
    held = turn.ends if turn.before is None else turn.before
    before = {} if held is None else held.confirmed
    after = turn.after.confirmed
    return sum((after.get(f.id) or 0) != (before.get(f.id) or 0) for f in turn.after.flags)


def _harmless(act: Callable[P, None]) -> Callable[P, None]:
    """Let what goes wrong in telling stop nothing of what is told."""

    @wraps(act)
    def acting(*arguments: P.args, **named: P.kwargs) -> None:
        try:
            act(*arguments, **named)
        except Exception:
            log.exception(FAILED)

    return acting


class Telemetry:
    """`ports.Telemetry`: counts everything, and traces it where there is somebody to tell.

    traces: None, and then tracing costs nothing.
    """

    def __init__(self, traces: Traces | None = None) -> None:
        self.tally = Tally()
        self._traces = traces

    @_harmless
    def holds(self, rollouts: Collection[Rollout]) -> None:
        """Be told which rollouts this process holds."""
        self.tally.holds(rollouts)

    def look(self, rollout: Rollout) -> LookSpan:
        """Begin a look."""
        if self._traces is not None:
            try:
                return self._traces.look(rollout)
            except Exception:
                log.exception(FAILED)
        return UNTOLD

    @_harmless
    def judged(
        self, look: LookSpan, rollout: Rollout, action: Action, verdicts: Sequence[Verdict]
    ) -> None:
        """Count verdicts, and tell the look of them."""
        self.tally.judged(rollout, verdicts)
        if self._traces is not None:
            self._traces.judged(look, action, verdicts)

    @_harmless
    def turned(self, turn: Turn) -> None:
        """Count what was committed, and write what it ended."""
        self.tally.turned(turn)
        if self._traces is not None:
            self._traces.turned(turn)

    @_harmless
    def changed(self, fact: Fact) -> None:
        """Count what was committed of a flag."""
        self.tally.changed(fact)

    def within(self, looks: Sequence[LookSpan], act: Callable[P, T]) -> Callable[P, T]:
        """Return `act` so that what it calls belongs to these looks."""
        return act if self._traces is None else self._traces.within(looks, act)

    @contextmanager
    def call(self, service: str, operation: str) -> Iterator[None]:
        """Be around a call of AWS (`aws.Watch`)."""
        outcome = "unknown"
        try:
            if self._traces is None:
                yield
            else:
                with self._traces.call(service, operation):
                    yield
            outcome = "ok"
        except Exception as error:
            outcome = _outcome(error)
            raise
        finally:
            self.tally.called(service, operation, outcome)

    def close(self) -> None:
        """Send what waits to be sent, and do not wait long for it."""
        if self._traces is not None:
            self._traces.close()


def _outcome(error: Exception) -> str:
    """Return how a call ended: throttled, refused, not_set; unknown where it may have happened."""
    match error:
        case AwsThrottled():
            return "throttled"
        case AwsRefused():
            return "refused"
        case AwsNotSet():
            return "not_set"
        case _:
            return "unknown"


def read_exporters(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return whither OpenTelemetry's environment variables send traces; nothing: nowhere.

    Raises ValueError, whose words name the variable.
    """
    text = environ.get("OTEL_TRACES_EXPORTER", "")
    names = tuple(dict.fromkeys(text.lower().replace(",", " ").split()))
    unknown = [name for name in names if name not in EXPORTERS]
    if unknown:
        known = ", ".join(EXPORTERS)
        raise ValueError(f"OTEL_TRACES_EXPORTER names {unknown[0]!r}; known are: {known}.")
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    names = tuple(name for name in names if name != NONE)
    if OTLP in names:
        _check_protocol(environ)
    return names


def _check_protocol(environ: Mapping[str, str]) -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := environ.get(name):
            if protocol != "http/protobuf":
                raise ValueError(f"{name} is {protocol!r}; only http/protobuf is spoken here.")
            return


def telemetry_of(environ: Mapping[str, str], clock: Clock) -> Telemetry:
    """Return what counts, and traces as OpenTelemetry's environment variables say. Raises
    ValueError."""
    exporters = read_exporters(environ)
    if not exporters:
        return Telemetry()
    # The SDK takes 0.3 s to load, and 15 MB.
    from flagserver.tracing import open_traces  # noqa: PLC0415

    return Telemetry(open_traces(exporters, clock))
