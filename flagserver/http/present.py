"""How things look on the wire. Shares and weights in percent, instants in RFC 3339."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortition.core.evaluate import Explanation

from flagserver.domain.commands import ppm_to_percent
from flagserver.domain.flags import State
from flagserver.domain.outcomes import Totals
from flagserver.services.environments import EnvironmentView
from flagserver.services.flags import FlagView, StateView
from flagserver.services.outcomes import Exposure


def flag(view: FlagView) -> dict[str, Any]:
    """Return a flag with its state in every environment."""
    return {
        **view.flag.to_body(),
        "revision": view.revision,
        "environments": {name: state(each) for name, each in view.states.items()},
    }


def state(view: StateView) -> dict[str, Any]:
    """Return a flag's state in one environment."""
    return {**state_fields(view.state), "revision": view.revision}


def state_fields(of: State) -> dict[str, Any]:
    """Return what a state says, without its revision."""
    return {
        **of.to_body(),
        "share": ppm_to_percent(of.share),
        "weights": [{"variant": v, "weight": ppm_to_percent(w)} for v, w in of.weights],
    }


def environment(view: EnvironmentView) -> dict[str, Any]:
    """Return an environment."""
    return {**view.environment.to_body(), "revision": view.revision}


def etag(revision: int) -> dict[str, str]:
    """Return the header that names a revision."""
    return {"ETag": f'"{revision}"'}


def explanation(of: Explanation) -> dict[str, Any]:
    """Return how an answer came about. The request id is not in it."""
    evaluation = of.evaluation
    return {
        "value": evaluation.value,
        "variant": evaluation.variant,
        "reason": str(evaluation.reason),
        "revision": evaluation.revision,
        "error": None if evaluation.error is None else str(evaluation.error),
        "point": of.point,
        "threshold": of.threshold,
        "because": of.because,
    }


def exposure(of: Exposure, edges: tuple[float, ...]) -> dict[str, Any]:
    """Return what a flag served within a window."""
    return {
        "since": of.since,
        "until": of.until,
        "share": None if of.share is None else round(of.share, 4),
        "assignments": of.assignments,
        "variants": {name: totals(each, edges) for name, each in of.variants.items()},
    }


def totals(of: Totals, edges: tuple[float, ...]) -> dict[str, Any]:
    """Return added-up outcomes; p95 in seconds, null where there is none (or off the scale)."""
    p95 = of.quantile(0.95, edges)
    metrics: Mapping[str, Any] = {
        name: {"total": total, "failed": failed} for name, (total, failed) in of.metrics.items()
    }
    return {
        "assignments": of.assignments,
        "requests": of.requests,
        "failures": of.failures,
        "p95": None if p95 is None or p95 == float("inf") else p95,
        "metrics": metrics,
    }
