"""Schedules as they are written, read without a server: `5%:5m,25%:10m:approve,100%:10m`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STEP = re.compile(r"\s*(\d{1,3}(?:\.\d{1,4})?)\s*%\s*((?::\s*[^:,]+)*)\s*")
_DURATION = re.compile(r"(?=\d)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_KEEP = re.compile(r"keep=(\d{1,3}(?:\.\d{1,4})?)\s*%")
_MORE = re.compile(r"approve|end|n=[1-9]\d{0,8}|overtime=(?:person|roll_back|proceed)")

NAMED = {"standard": "5%:5m,25%:10m,50%:15m,100%"}
"""What is built in."""


@dataclass(frozen=True)
class WrittenStep:
    """One step. share: percent.  hold: seconds, of the last one its bake; 0 where none is
    written.  kept: percent that stay on the old version while it bakes."""

    share: float
    hold: int
    kept: float = 0.0


def read(text: str) -> list[WrittenStep]:
    """Return the steps that a text means. Raises ValueError, which says what is wrong."""
    steps: list[WrittenStep] = []
    for part in text.split(","):
        step, last = _step(part), steps[-1] if steps else WrittenStep(0.0, 0)
        if not last.share < step.share <= 100:
            raise ValueError(
                f"{step.share:g} % must be more than {last.share:g} % and at most 100 %"
            )
        if last.kept:
            raise ValueError(f"keep={last.kept:g}% is for the last step, while it bakes")
        if step.kept and not (step.hold and last.share < step.share - step.kept):
            raise ValueError(
                f"keep={step.kept:g}% needs a time in which the last step bakes, as in "
                "100%:10m:keep=1%, and leaves more than the step before"
            )
        steps.append(step)
    return steps


def _step(part: str) -> WrittenStep:
    match = _STEP.fullmatch(part)
    if match is None:
        raise ValueError(
            f"{part.strip()!r} is no step: write 5%:5m, 25%:10m:approve or 50%:15m:n=1000"
        )
    hold, kept = 0, 0.0
    for more in filter(None, (each.strip() for each in match.group(2).split(":"))):
        time, keeps = _DURATION.fullmatch(more), _KEEP.fullmatch(more)
        if time:
            hold = _seconds(time)
        elif keeps:
            kept = float(keeps.group(1))
        elif not _MORE.fullmatch(more):
            raise ValueError(
                f"{more!r} in {part.strip()!r} is neither a time (5m), approve nor n=1000"
            )
    return WrittenStep(float(match.group(1)), hold, kept)


def _seconds(time: re.Match[str]) -> int:
    days, hours, minutes, seconds = (int(part or 0) for part in time.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
