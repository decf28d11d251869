"""Designs and ticks as stories need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sortition.judgement.counts import Counts, Latencies, Tick
from sortition.judgement.design import (
    HTTP_ERRORS,
    Design,
    Latency,
    Rate,
    standard_latency,
    standard_rates,
)
from sortition.judgement.evidence import Judge
from sortition.judgement.policy import Outside

from flagserver.domain.outcomes import histogram_edges

EDGES = histogram_edges()


def a_design(**changes: Any) -> Design:
    """The standard guards on the standard schedule."""
    told: dict[str, Any] = {
        "rates": standard_rates(),
        "latency": standard_latency(),
        "edges": EDGES,
        "planned_seconds": 1800.0,
        "steps": 3,
    }
    return Design(**{**told, **changes})


def errors_alone(**changes: Any) -> Design:
    """HTTP errors and nothing else."""
    rate = Rate(HTTP_ERRORS, 0.01, 0.625, 0.375, **changes)
    return a_design(rates=(rate,), latency=None)


def errors_and_latency(warm_up: float = 0.0) -> Design:
    """HTTP errors and the latency."""
    rate = Rate(HTTP_ERRORS, 0.01, 0.3, 0.2)
    return a_design(rates=(rate,), latency=Latency(1.0, 0.4, 0.1, warm_up=warm_up))


def a_tick(
    number: int,
    *,
    canary: tuple[int, int] = (25, 0),
    control: tuple[int, int] = (475, 0),
    seconds: float = 5.0,
    step: int = 0,
    share: float = 0.05,
    latency: Sequence[Latencies] = (),
    others: Mapping[str, Sequence[Counts]] | None = None,
    assigned: tuple[int, int] | None = None,
) -> Tick:
    """The `number`th tick (from 1). canary, control: (requests, failed)."""
    counts = {HTTP_ERRORS: [Counts(*canary, *control)], **(others or {})}
    return Tick(number * seconds, seconds, step, share, counts, latency, assigned)


def fed(judge: Judge, ticks: int, **like: Any) -> Judge:
    """Feed a judge that has seen nothing so many equal ticks."""
    for number in range(1, ticks + 1):
        judge.take(a_tick(number, **like))
    return judge


def outside(**changes: Any) -> Outside:
    """In the midst of the first step."""
    told: dict[str, Any] = {"step": 0, "watched": 60.0, "passed": 60.0, "hold": 300.0}
    return Outside(**{**told, **changes})
