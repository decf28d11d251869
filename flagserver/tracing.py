"""One trace for each rollout, by the OpenTelemetry SDK. Loaded only where traces are asked for.

    rollout                     from its creation to its end
    ├── step                    from its intent until something ended it
    │   └── look                one controller's; verdicts, and what followed, are its events
    │       └── elbv2 modify_rule   a call of AWS
    └── rollback                from the decision to 0 %, confirmed; looks meanwhile are within it

The ids of the trace, of the rollout's span, its steps' and its rollback's follow from the rollout's
id. So whoever has a hand in it writes into the same trace and asks nobody, and a span that outlives
processes is written once, by whoever commits its end. A trace holds no request id, no person and no
text that a person wrote.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, Self, TypeVar

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from flagserver.domain.guards import Action, Verdict
from flagserver.domain.plan import NO_STEP
from flagserver.domain.rollout import Rollout
from flagserver.domain.states import State
from flagserver.domain.verbs import Turn
from flagserver.ports import Clock, LookSpan

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

SERVICE = "sortition"
"""The `service.name` of a server that was given none."""

CLOSE_SECONDS = 2.0
"""How long the end of a process waits for what was not sent yet."""

LINKS = 128
"""Most looks that a call is linked to (the SDK's own limit for a span)."""

GOING_BACK = frozenset({State.ROLLING_BACK, State.ROLLBACK_FAILED})

Attributes = Mapping[str, str | int | float | bool]


def _console() -> SpanExporter:
    # A line for each span, as a log has it.
    return ConsoleSpanExporter(out=sys.stdout, formatter=lambda s: s.to_json(indent=None) + "\n")


EXPORTERS: Mapping[str, Callable[[], SpanExporter]] = {
    "console": _console,
    "otlp": OTLPSpanExporter,
}
"""By their names in OTEL_TRACES_EXPORTER."""


def open_traces(names: Sequence[str], clock: Clock) -> Traces:
    """Return what hands traces to these exporters, each from a thread of its own.

    Their settings are OpenTelemetry's environment variables. What waits to be sent is bounded
    (OTEL_BSP_MAX_QUEUE_SIZE, 2048), and the oldest gives way.  Raises ValueError.
    """
    exporters = [EXPORTERS[name]() for name in names]
    provider = provide(BatchSpanProcessor(exporter) for exporter in exporters)
    return Traces(provider, clock, exporters)


def provide(processors: Iterable[SpanProcessor]) -> TracerProvider:
    """Return what makes spans and hands them to these."""
    named = {} if _has_name(os.environ) else {"service.name": SERVICE}
    provider = TracerProvider(
        resource=Resource.create(named), id_generator=_Ids(), shutdown_on_exit=False
    )
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def _has_name(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("OTEL_SERVICE_NAME")) or "service.name=" in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )


class Traces:
    """Writes the traces of rollouts. Nothing here waits or raises."""

    def __init__(
        self, provider: TracerProvider, clock: Clock, exporters: Sequence[SpanExporter] = ()
    ) -> None:
        """exporters: those of the provider, to be let go of at the end."""
        self._exporters = exporters
        self._provider = provider
        self._clock = clock
        self._tracer = provider.get_tracer("flagserver")
        self._looks: ContextVar[tuple[Look, ...]] = ContextVar("looks", default=())

    # Looks, and what is called within them

    def look(self, rollout: Rollout) -> Look:
        """Begin a look at a rollout."""
        span = self._tracer.start_span(
            "look",
            context=self._context(rollout, _place(rollout)),
            attributes=_standing(rollout),
            start_time=self._now(),
        )
        return Look(self, span)

    def judged(self, look: LookSpan, action: Action, verdicts: Sequence[Verdict]) -> None:
        """Tell a look how its guards stand, and what follows from that."""
        if not isinstance(look, Look) or not look.span.is_recording():
            return
        look.span.set_attribute("sortition.does", str(action.does))
        look.span.set_attribute("sortition.row", action.row)
        for verdict in verdicts:
            look.span.add_event("verdict", _judged(verdict), self._now())

    def within(self, looks: Sequence[LookSpan], act: Callable[P, T]) -> Callable[P, T]:
        """Return `act` so that what it calls, on whatever thread, belongs to these looks."""
        ours = tuple(
            look
            for look in dict.fromkeys(looks)
            if isinstance(look, Look) and look.span.is_recording()
        )

        @wraps(act)
        def acting(*arguments: P.args, **named: P.kwargs) -> T:
            token = self._looks.set(ours)
            try:
                return act(*arguments, **named)
            finally:
                self._looks.reset(token)

        return acting

    @contextmanager
    def call(self, service: str, operation: str) -> Iterator[None]:
        """Be around a call of AWS. One that several looks share is within the first of them, and
        linked to the others; one that belongs to no rollout is traced nowhere."""
        looks = self._looks.get()
        began = self._now()
        code = None
        try:
            yield
        except BaseException as error:
            # Never its words: AWS tells in them who was refused.
            code = str(getattr(error, "code", "") or type(error).__name__)
            raise
        finally:
            try:
                self._write_call(looks, service, operation, began, code)
            except Exception:
                # The call itself was made, and its answer matters more.
                log.exception("a call could not be traced")

    def _write_call(
        self, looks: Sequence[Look], service: str, operation: str, began: int, code: str | None
    ) -> None:
        if not looks:
            return
        first, *others = looks
        told = {"rpc.system": "aws-api", "rpc.service": service, "rpc.method": operation}
        span = self._tracer.start_span(
            f"{service} {operation}",
            context=set_span_in_context(first.span, Context()),
            kind=SpanKind.CLIENT,
            attributes=told,
            links=[Link(look.span.get_span_context()) for look in others[:LINKS]],
            start_time=began,
        )
        if code is not None:
            span.set_attribute("error.type", code)
            span.set_status(Status(StatusCode.ERROR, code))
        span.end(self._now())

    # What takes longer than a process may live

    def turned(self, turn: Turn) -> None:
        """Write what a turn that this process committed has ended."""
        for look in self._looks.get():
            look.span.add_event(turn.action, timestamp=self._now())
        before, after = turn.before, turn.after
        if before is not None and _left(before, after):
            self._write_step(before, after.changed)
        if after.state is State.ROLLED_BACK:
            self._write_rollback(after)
        if after.state.shown.terminal:
            self._write_rollout(after)
        if turn.ends is not None:
            self._write_step(turn.ends, turn.ends.changed)
            self._write_rollout(turn.ends)

    def _write_step(self, rollout: Rollout, until: float) -> None:
        if rollout.step == NO_STEP:
            return
        span = self._begin(rollout, "step", _place(rollout), rollout.step_began, _standing(rollout))
        span.set_attribute("sortition.share", rollout.plan[rollout.step].shown / 10_000)
        if rollout.step_confirmed_at is not None:
            span.add_event("confirmed", timestamp=_ns(rollout.step_confirmed_at))
        span.end(_ns(until))

    def _write_rollback(self, rollout: Rollout) -> None:
        cause = rollout.rollback
        if cause is None:
            return
        told = {"sortition.rollback.by": str(cause.by), "sortition.rollback.row": cause.row}
        if cause.verdict is not None:
            told["sortition.rollback.guard"] = cause.verdict["guard"]
        span = self._begin(rollout, "rollback", "rollback", cause.detected, told)
        for name in ("first_bad", "applied"):
            if (at := getattr(cause, name)) is not None:
                span.add_event(name, timestamp=_ns(at))
        span.end(_ns(cause.confirmed or rollout.changed))

    def _write_rollout(self, rollout: Rollout) -> None:
        span = self._begin(rollout, "rollout", "", rollout.created, _standing(rollout))
        span.set_attribute("sortition.steps", len(rollout.plan))
        if rollout.version is not None:
            span.set_attribute("service.version", rollout.version)
        if rollout.state is State.ROLLED_BACK:
            span.set_status(Status(StatusCode.ERROR, "rolled back"))
        span.end(_ns(rollout.ended or rollout.changed))

    def _begin(
        self, rollout: Rollout, name: str, place: str, at: float | None, told: Attributes
    ) -> Span:
        context = self._context(rollout, "") if place else Context()
        with _given(trace_id(rollout), span_id(rollout, place)):
            return self._tracer.start_span(
                name,
                context=context,
                attributes=told,
                start_time=_ns(rollout.created if at is None else at),
            )

    # How

    def _context(self, rollout: Rollout, place: str) -> Context:
        """Return the context of a span that is written when it ends, perhaps by another process.

        Whether a trace is sampled follows from its id, so all of them agree.
        """
        trace = trace_id(rollout)
        sampled = self._provider.sampler.should_sample(Context(), trace, "rollout")
        flags = TraceFlags.SAMPLED if sampled.decision is Decision.RECORD_AND_SAMPLE else 0
        parent = SpanContext(trace, span_id(rollout, place), True, TraceFlags(flags))
        return set_span_in_context(NonRecordingSpan(parent), Context())

    def _now(self) -> int:
        return round(self._clock.now().timestamp() * 1e6) * 1000

    def enter(self, look: Look) -> object:
        """Let what is called from now on belong to a look; `leave` takes what this returns."""
        return self._looks.set((look,))

    def leave(self, look: Look, token: object) -> None:
        """End a look."""
        self._looks.reset(token)  # type: ignore[arg-type]  # what `enter` returned
        look.span.end(self._now())

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what waits, for so long at most, and give the rest up. (The SDK waits 30 s.)"""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(seconds)
        if closing.is_alive():
            for exporter in self._exporters:
                exporter.shutdown()


class Look:
    """One look. Entered, it is what calls and turns belong to; left, it has ended."""

    __slots__ = ("_token", "_traces", "span")

    def __init__(self, traces: Traces, span: Span) -> None:
        self._traces = traces
        self._token: object = None
        self.span = span

    def __enter__(self) -> Self:
        self._token = self._traces.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._traces.leave(self, self._token)


# --- what is told ---------------------------------------------------------------------------------


def _standing(rollout: Rollout) -> dict[str, str | int]:
    told: dict[str, str | int] = {
        "sortition.rollout": rollout.id,
        "sortition.environment": rollout.environment,
        "sortition.service": rollout.service,
        "sortition.state": str(rollout.state),
    }
    if rollout.step != NO_STEP:
        told["sortition.step"] = rollout.step + 1
    return told


def _judged(verdict: Verdict) -> dict[str, str | int | float]:
    told: dict[str, str | int | float] = {
        "sortition.guard": verdict.guard.name,
        "sortition.verdict": str(verdict.kind),
        "sortition.limit": verdict.guard.limit,
    }
    numbers = {"value": verdict.value, "control": verdict.control, "sample": verdict.sample}
    told |= {f"sortition.{name}": n for name, n in numbers.items() if n is not None}
    return told


def _left(before: Rollout, after: Rollout) -> bool:
    """Tell whether a turn ended the step that a rollout was in."""
    if before.state in GOING_BACK:
        return False
    ended = after.state.shown.terminal or after.state in GOING_BACK
    return ended or before.step != after.step


def _place(rollout: Rollout) -> str:
    """Return what a look at a rollout belongs to: its rollback, its step, or "", all of it."""
    if rollout.state in GOING_BACK:
        return "rollback"
    return "" if rollout.step == NO_STEP else f"step/{rollout.step}"


# --- ids ------------------------------------------------------------------------------------------


def trace_id(rollout: Rollout) -> int:
    """Return the id of a rollout's trace, 128 bits."""
    return _drawn(rollout, "trace", 16)


def span_id(rollout: Rollout, place: str) -> int:
    """Return the id, 64 bits, of a rollout's own span (""), a step's or its rollback's."""
    return _drawn(rollout, place, 8)


def _drawn(rollout: Rollout, what: str, octets: int) -> int:
    # The time too: a backend may hold what several installations wrote.
    text = f"{rollout.name}/{_ns(rollout.created)}/{what}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:octets])


def _ns(at: float) -> int:
    """Return nanoseconds; instants are kept to the millisecond."""
    return round(at * 1000) * 1_000_000


class _Next(threading.local):
    trace: int | None = None
    span: int | None = None


_next = _Next()


@contextmanager
def _given(trace: int, span: int) -> Iterator[None]:
    """Let the span that is begun within have these ids."""
    _next.trace, _next.span = trace, span
    try:
        yield
    finally:
        _next.trace = _next.span = None


class _Ids(RandomIdGenerator):
    """Random ids, unless one is given."""

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if _next.trace is None else _next.trace

    def generate_span_id(self) -> int:
        return super().generate_span_id() if _next.span is None else _next.span
