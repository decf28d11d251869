"""`/api/v1/metrics`: custom metrics and business KPIs that others post, for guards to watch."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from flagserver.domain.access import CHANGE
from flagserver.domain.metrics import PostedMetrics

from .routing import Call, Routes

POSTED_LIMIT = 256 * 1024

routes = Routes()


class PostedJson(TypedDict):
    """accepted: points that were kept.  dropped: those that found no room in their minute."""

    accepted: int
    dropped: int


@routes.add(
    *("POST", "/api/v1/metrics", CHANGE, {202: ("Kept for two hours.", PostedJson)}),
    model=PostedMetrics,
    limit=POSTED_LIMIT,
)
def post_metrics(call: Call) -> Any:
    """Post numerators and denominators; the same point again replaces what was there."""
    taken = call.services.metrics.post(call.body, call.principal)
    return {"accepted": taken.accepted, "dropped": taken.dropped}, 202
