"""Health checks of the shop's sides: `/health` is asked for, and so many answers in a row that say
otherwise change what a target's health is.

No answer counts for nothing: a side is being started then, by whoever deploys it.
"""

from __future__ import annotations

import http.client

CHECK_SECONDS = 0.5
CHECKS = 2
"""So many answers in a row, so far apart, change it."""


class Health:
    """What the health checks of a target come to."""

    def __init__(self) -> None:
        self.well = True
        self._against = 0

    def hear(self, well: bool) -> bool:
        """Take an answer in; tell whether the target's health changes with it."""
        self._against = 0 if well == self.well else self._against + 1
        if self._against < CHECKS:
            return False
        self.well, self._against = well, 0
        return True


def ask_health(port: int) -> bool | None:
    """Return whether a side says that it is well; None when it says nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
