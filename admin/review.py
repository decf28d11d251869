"""What a change that enlarges exposure would do, before it is done."""

from __future__ import annotations

from dataclasses import dataclass

from sortition.core.bucketing import WHOLE

from flagserver.domain.environments import Environment
from flagserver.domain.flags import Flag, State
from flagserver.services.outcomes import Exposure

from . import present, served
from .served import Difference


@dataclass(frozen=True, slots=True)
class Review:
    """Now and after. more: further evaluations an hour that would get an exposed variant."""

    flag: Flag
    environment: Environment
    before: State
    revision: int
    after: State
    more: int | None

    @property
    def tone(self) -> str:
        """Which colours the environment's band has."""
        return present.tone(self.environment)

    @property
    def points(self) -> str:
        """By how much more traffic is exposed: `+25 points`."""
        return f"+{present.plain_percent(_exposed(self.after) - _exposed(self.before))} points"

    @property
    def differences(self) -> list[Difference]:
        """What is served now and after."""
        return served.differences(served.of_state(self.before), served.of_state(self.after))

    @property
    def seen(self) -> str:
        """What is served now, as a form carries it."""
        return served.written(served.of_state(self.before))

    @property
    def deed(self) -> str:
        """What the button does."""
        share = present.percent(self.after.share)
        if self.before.killed and not self.after.killed:
            return f"Serve {share} again"
        return f"Apply {share}" if self.after.share != self.before.share else "Apply the change"


def extra_per_hour(before: State, after: State, exposure: Exposure) -> int | None:
    """Return how many more evaluations an hour a change exposes, at the present rate."""
    seconds = exposure.until - exposure.since
    more = _exposed(after) - _exposed(before)
    if exposure.assignments == 0 or seconds <= 0 or more <= 0:
        return None
    return round(exposure.assignments * 3600 / seconds * more / WHOLE)


def _exposed(state: State) -> int:
    return 0 if state.killed else state.share
