"""Notices to the server's own log: always there, for whoever has nothing else."""

from __future__ import annotations

import logging

from flagserver.domain.notices import Notice, Severity

log = logging.getLogger("flagserver.notices")

LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.PAGE: logging.ERROR,
}


class Log:
    """Tells every notice, on one line."""

    name = "log"

    def send(self, notice: Notice) -> None:
        """Write it down."""
        said = [notice.title, *(f"{label}: {fact}" for label, fact in notice.facts.items())]
        said += [f"by hand: {command}" for command in notice.by_hand]
        level = logging.INFO if notice.resolves else LEVELS[notice.severity]
        log.log(level, "%s", _on_one_line(" | ".join([*said, notice.subject, notice.id])))


def _on_one_line(text: str) -> str:
    """Return text in which nothing looks like the next line of the log."""
    return "".join(each if each.isprintable() else " " for each in text)
