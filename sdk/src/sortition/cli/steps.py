"""Schedules as they are written, read without a server: `5%:5m,25%:10m:approve,100%:10m`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STEP = re.compile(r"\s*(\d{1,3}(?:\.\d{1,4})?)\s*%\s*((?::\s*[^:,]+)*)\s*")
_DURATION = re.compile(r"(?=\d)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_MORE = re.compile(r"approve|end|n=[1-9]\d{0,8}")

NAMED = {"standard": "5%:5m,25%:10m,50%:15m,100%"}
"""What is built in."""


@dataclass(frozen=True)
class WrittenStep:
    """One step. share: percent.  hold: seconds, of the last one its bake; 0 where none is
    written."""

    share: float
    hold: int


def read(text: str) -> list[WrittenStep]:
    """Return the steps that a text means. Raises ValueError, which says what is wrong."""
    steps: list[WrittenStep] = []
    for part in text.split(","):
        match = _STEP.fullmatch(part)
        if match is None:
            raise ValueError(
                f"{part.strip()!r} is no step: write 5%:5m, 25%:10m:approve or 50%:15m:n=1000"
            )
        hold = 0
        for more in filter(None, (each.strip() for each in match.group(2).split(":"))):
            time = _DURATION.fullmatch(more)
            if time:
                hold = _seconds(time)
            elif not _MORE.fullmatch(more):
                raise ValueError(
                    f"{more!r} in {part.strip()!r} is neither a time (5m), approve nor n=1000"
                )
        share, last = float(match.group(1)), steps[-1].share if steps else 0.0
        if not last < share <= 100:
            raise ValueError(f"{share:g} % must be more than {last:g} % and at most 100 %")
        steps.append(WrittenStep(share, hold))
    return steps


def _seconds(time: re.Match[str]) -> int:
    days, hours, minutes, seconds = (int(part or 0) for part in time.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
