"""The stream of doorbells, and the strip that says what is wrong with the server."""

from __future__ import annotations

from flask import Blueprint, Response, request

from flagserver.services.listening import ENVIRON, Beginning, Listening

from ..doorbell import FLAGS, RECORD, ROLLOUTS, Busy, Doorbell, Line, message
from ..interface import Interface, session

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
        doorbell = self._ui.doorbell
        try:
            doorbell.check_room()
        except Busy:
            headers = {"Retry-After": str(RETRY_SECONDS)}
            return Response("Too many pages listen.\n", 503, headers, mimetype="text/plain")
        response = Response(_FIRST, mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"
        if request.method == "GET":
            request.environ[ENVIRON] = listening(doorbell, Line(wanted, session()))
        return response

    def strip(self) -> Response:
        """The strip with what runs, empty when nothing does."""
        return self._ui.fragment("_strip.html")

    def trouble(self) -> Response:
        """The strip with the server's problems, empty when there is none."""
        return self._ui.fragment("_trouble.html")


def listening(doorbell: Doorbell, line: Line) -> Listening:
    """Return the stream of a page. The doorbell sees to its beats, and whose session is over."""

    def begin() -> Beginning:
        doorbell.open(line)
        return Beginning((_FIRST,))

    return Listening(
        topics=line.topics,
        begin=begin,
        permit=line,
        allowed=lambda: line.good,
        life_seconds=LIFE_SECONDS,
        ended=lambda: doorbell.close(line),
    )


_FIRST = message("beat") + message("outcomes")


def _known(topic: str) -> bool:
    return topic in (FLAGS, RECORD, ROLLOUTS) or topic.startswith(("flag/", "rollout/"))


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the stream."""
    events = Events(ui)
    blueprint.add_url_rule("/ui/events", "events", events.stream)
    blueprint.add_url_rule("/ui/strip", "strip", events.strip)
    blueprint.add_url_rule("/ui/trouble", "trouble", events.trouble)
