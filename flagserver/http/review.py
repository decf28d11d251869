"""`/api/v1/review`: how rollouts went against what they are meant to be, and what people say."""

from __future__ import annotations

from typing import Any

# pydantic asks for this TypedDict below Python 3.12, and brings it.
from typing_extensions import TypedDict

from flagserver.domain.access import READ, SHRINK
from flagserver.domain.review import Marked, Review, Spread
from flagserver.domain.times import from_unix
from flagserver.services.reviewing import MarkBody

from .query import Number, Words
from .routing import Call, Routes, visible

routes = Routes()

REVIEW = "/api/v1/review"

MOST_DAYS = 90


class SpreadJson(TypedDict):
    """Durations in seconds. within: how many kept to their limit."""

    count: int
    median: float | None
    longest: float | None
    within: int


class ConcernJson(TypedDict):
    """What raises a review. kind: burst, false, missed, long, detection, restore, success."""

    kind: str
    words: str
    rollouts: list[str]


class ReviewedJson(TypedDict):
    """A rollout, and what people said of it: right, false, missed or null. detection, restore,
    took: seconds."""

    id: str
    environment: str
    service: str
    version: str | None
    state: str
    automatic: bool
    reason: str | None
    started: str | None
    ended: str | None
    took: float
    detection: float | None
    restore: float | None
    mark: str | None


class ReviewJson(TypedDict):
    """How rollouts went. success, false_part: parts of 1, null where nothing counts."""

    since: str
    until: str
    environment: str | None
    success: float | None
    completed: int
    rolled_back: int
    automatic: int
    superseded: int
    false: list[str]
    false_part: float | None
    missed: list[str]
    unmarked: int
    long: list[str]
    detection: SpreadJson
    restore: SpreadJson
    concerns: list[ConcernJson]
    rollouts: list[ReviewedJson]


@routes.add(
    *("GET", REVIEW, READ, {200: ("How it went.", ReviewJson)}),
    query={
        "environment": Words("only rollouts of this one"),
        "days": Number("of those that ended in the last so many days", 1, MOST_DAYS, 30),
    },
)
def read_review(call: Call) -> Any:
    """Read how rollouts went: success, detection, restore; false and missed ones."""
    environment = visible(call.principal, call.query["environment"])
    seen = call.services.reviewing.review(call.query["days"], environment, call.principal)
    it = seen.review
    return {
        "since": from_unix(it.since),
        "until": from_unix(it.until),
        "environment": environment,
        **_figures(it),
        "rollouts": [_reviewed(each, it.until) for each in seen.rollouts],
    }


@routes.add(
    *("PUT", f"{REVIEW}/{{id}}", SHRINK, {200: ("It is in the record.", ReviewedJson)}),
    model=MarkBody,
)
def mark_rollout(call: Call, id: str) -> Any:
    """Say of a rollout that it ended rightly, or was a false or a missed one."""
    by = call.principal
    marked = call.services.reviewing.mark(id, call.body, by, call.idempotency)
    return _reviewed(marked, marked.run.ended or 0.0)


def _figures(it: Review) -> dict[str, Any]:
    return {
        "success": it.success,
        "completed": it.completed,
        "rolled_back": it.rolled_back,
        "automatic": it.automatic,
        "superseded": it.superseded,
        "false": list(it.false),
        "false_part": it.false_part,
        "missed": list(it.missed),
        "unmarked": it.unmarked,
        "long": list(it.long),
        "detection": _spread(it.detection),
        "restore": _spread(it.restore),
        "concerns": [
            {"kind": each.kind, "words": each.words, "rollouts": list(each.rollouts)}
            for each in it.concerns
        ],
    }


def _spread(it: Spread) -> SpreadJson:
    return {"count": it.count, "median": it.median, "longest": it.longest, "within": it.within}


def _reviewed(marked: Marked, until: float) -> ReviewedJson:
    run = marked.run
    return {
        "id": run.id,
        "environment": run.environment,
        "service": run.service,
        "version": run.version,
        "state": str(run.state),
        "automatic": run.automatic,
        "reason": run.reason,
        "started": None if run.started is None else from_unix(run.started),
        "ended": None if run.ended is None else from_unix(run.ended),
        "took": run.took(until),
        "detection": run.detection,
        "restore": run.restore,
        "mark": None if marked.mark is None else str(marked.mark),
    }
