"""`/metrics` for Prometheus: everything that the processes of this host have counted.

It tells how much is going on, so it needs an admin token, unless SORTITION_METRICS_PUBLIC says
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response

from flagserver.domain.access import MEASURE
from flagserver.domain.stores import KINDS
from flagserver.measures import Board, Labels, Samples, Value
from flagserver.services import Services
from flagserver.services.snapshots import Snapshots

from .front import Front
from .routing import PUBLIC, Call, Routes

UP_SECONDS = 3.0
"""The store is up if it was heard so lately; it is asked every second."""


def routes(board: Board, *, public: bool) -> Routes:
    """Return the route. public: it needs no token."""
    made = Routes()

    @made.add(
        *("GET", "/metrics", PUBLIC if public else MEASURE),
        {200: ("Measures of this host, in Prometheus's form.", "text/plain")},
        open_query=True,
    )
    def metrics(call: Call) -> Any:
        """Tell Prometheus what was counted."""
        page = board.page(call.request.headers.get("Accept", ""))
        return Response(page.body, 200, content_type=page.content_type)

    return made


def of_front(front: Front) -> Samples:
    """Return what a process counted that serves."""
    measures, counts = front.measures, front.hub.counts
    requests: Mapping[Labels, Value] = {
        (who, str(status)): float(number)
        for (who, status), number in tuple(measures.requests.items())
    }
    durations: Mapping[Labels, Value] = {
        (who,): [*map(float, buckets), float(measures.seconds[who])]
        for who, buckets in tuple(measures.durations.items())
    }
    single = {
        "http_busy": measures.busy,
        "sse_clients": counts.open,
        "sse_opened": counts.opened,
        "sse_refused": counts.refused,
        "sse_dropped": counts.dropped,
        "sse_expelled": counts.expelled,
        "sse_messages": counts.sent,
    }
    return {
        "http_requests": requests,
        "http_request_duration_seconds": durations,
        **{name: {(): float(number)} for name, number in single.items()},
    }


def of_services(services: Services) -> Samples:
    """Return what a process knows of its store, and of what was reported to it."""
    outcomes, rows = services.outcomes.batches, services.outcomes.rows
    return {
        **of_snapshots(services.snapshots),
        **of_asked(services),
        "outcomes_batches": {(result,): float(number) for result, number in outcomes.items()},
        "outcomes_rows": {(result,): float(number) for result, number in rows.items()},
    }


def of_asked(services: Services) -> Samples:
    """Return what engines asked a process, and what events it heard."""
    answers, heard = tuple(services.hooks.answers.items()), tuple(services.pushes.heard.items())
    return {
        "hook_answers": {labels: float(number) for labels, number in answers},
        "pushed_events": {(result,): float(number) for result, number in heard},
    }


def of_snapshots(snapshots: Snapshots) -> Samples:
    """Return how the mirror and its store are doing."""
    trust, age = snapshots.trust, snapshots.age_seconds()
    versions = {name: view.snapshot.version for name, view in snapshots.views().items()}
    alarm = None if trust.alarm is None else trust.alarm.kind
    known: Samples = {} if trust.known is None else {"audit_entries": {(): float(trust.known.seq)}}
    heard: Samples = {} if age is None else {"redis_heard_seconds": {(): age}}
    return {
        "snapshot_version": {(name,): float(v.version) for name, v in versions.items()},
        "snapshot_epoch": {(name,): float(v.epoch) for name, v in versions.items()},
        "redis_up": {(): float(age is not None and age < UP_SECONDS)},
        "redis_interruptions": {(): float(snapshots.interruptions())},
        "store_alarm": {(kind,): float(kind == alarm) for kind in KINDS},
        "store_faults": {(): float(len(trust.faults))},
        "disk_copies_failing": {(): float(trust.unkept is not None)},
        **known,
        **heard,
    }
