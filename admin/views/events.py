"""The stream of doorbells, and the strip that says what is wrong with the server."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Blueprint, Response, request

from flagserver.domain.errors import StoreUnavailable

from ..doorbell import FLAGS, RECORD, Busy, Line
from ..interface import Interface, session

BEAT_SECONDS = 5.0
CALM_SECONDS = 0.1
"""The shortest time between rings, so that a burst of changes is a few fetches."""

LIFE_SECONDS = 15 * 60.0
"""A stream ends by itself then; the page opens the next one, and the guard looks again."""

RETRY_SECONDS = 5
MAX_WANTED = 5


class Events:
    """One stream for each open page."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui

    def stream(self) -> Response:
        """Ring for the topics that the page names, until it goes away."""
        wanted = [topic for topic in request.args.getlist("topic")[:MAX_WANTED] if _known(topic)]
        try:
            line = self._ui.doorbell.open(wanted)
        except Busy:
            headers = {"Retry-After": str(RETRY_SECONDS)}
            return Response("Too many pages listen.\n", 503, headers, mimetype="text/plain")
        response = Response(self._messages(line, session()), mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"
        response.call_on_close(lambda: self._ui.doorbell.close(line))
        return response

    def trouble(self) -> Response:
        """The strip with the server's problems, empty when there is none."""
        return self._ui.fragment("_trouble.html")

    def _messages(self, line: Line, secret: str) -> Iterator[str]:
        end = time.monotonic() + LIFE_SECONDS
        flush = self._flush_seconds()
        beat = tick = time.monotonic()
        trouble = self._trouble()
        while (at := time.monotonic()) < end:
            if at >= beat:
                if self._has_ended(secret):
                    return
                beat = at + BEAT_SECONDS
                yield message("beat")
            if at >= tick:
                tick = at + flush
                yield message("outcomes")
                if trouble != (trouble := self._trouble()):
                    yield message("changed", "health")
            rung = line.wait(min(beat, tick) - time.monotonic())
            for topic in rung:
                yield message("changed", topic)
            if rung:
                time.sleep(CALM_SECONDS)

    def _has_ended(self, secret: str) -> bool:
        try:
            return self._ui.services.sessions.principal(secret) is None
        except StoreUnavailable:
            return False

    def _trouble(self) -> bool:
        return bool(self._ui.services.health().problems)

    def _flush_seconds(self) -> float:
        views = self._ui.services.snapshots.views().values()
        return max(1.0, min((view.snapshot.flush_seconds for view in views), default=5.0))


def message(event: str, data: str = "-") -> str:
    """Return one message of a `text/event-stream`. Browsers drop messages without data."""
    return f"event: {event}\ndata: {data}\n\n"


def _known(topic: str) -> bool:
    return topic in (FLAGS, RECORD) or topic.startswith("flag/")


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the stream."""
    events = Events(ui)
    blueprint.add_url_rule("/ui/events", "events", events.stream)
    blueprint.add_url_rule("/ui/trouble", "trouble", events.trouble)
