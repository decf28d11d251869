"""What callers may ask of schedules, checked field by field; shares in percent, holds as `5m`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from sortition.judgement.policy import Overtime

from . import schedule
from .commands import Command, Percent, Reason, Text, percent_to_ppm
from .errors import Invalid, under
from .schedule import Schedule, Step

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Duration = Annotated[str, StringConstraints(max_length=40), Field(examples=["5m"])]
ScheduleText = Annotated[str, StringConstraints(max_length=2000)]


class StepBody(Command):
    """One step: this share, held so long."""

    share: Percent
    hold: Duration = "0s"
    approval: bool = False
    minimum_sample: int | None = Field(default=None, ge=1, le=10**9)


class ScheduleBody(Command):
    """A schedule step by step. bake: how long the last share is watched; end: what it is to be;
    keep: so much of it stays on the old version meanwhile, as a control; overtime: what follows
    when a step is not decided within three times its hold."""

    steps: list[StepBody] = Field(min_length=1, max_length=schedule.MAX_STEPS)
    bake: Duration = "0s"
    end: Percent = 100.0
    keep: Percent = 0.0
    overtime: Literal["person", "roll_back", "proceed"] = "person"
    name: Name = "custom"

    def schedule(self) -> Schedule:
        """Return it as the engine knows it. Raises Invalid."""
        steps = tuple(
            Step(
                percent_to_ppm(step.share),
                seconds_of(step.hold, f"/steps/{i}/hold"),
                step.approval,
                step.minimum_sample,
            )
            for i, step in enumerate(self.steps)
        )
        return Schedule(
            self.name,
            steps,
            seconds_of(self.bake, "/bake"),
            percent_to_ppm(self.end),
            Overtime(self.overtime),
            percent_to_ppm(self.keep),
        )


class TemplateBody(Command):
    """A schedule to be kept under a name. schedule: as of a rollout."""

    schedule: ScheduleText | ScheduleBody
    description: Text = ""
    reason: Reason | None = None

    def the_schedule(self) -> Schedule:
        """Return the schedule that is meant. Raises Invalid, naming the field."""
        with under("/schedule"):
            if isinstance(self.schedule, ScheduleBody):
                return self.schedule.schedule()
            return schedule.parse(self.schedule)


def seconds_of(text: str, field: str) -> int:
    """Return the seconds that a duration means. Raises Invalid, naming the field."""
    try:
        return schedule.duration_seconds(text)
    except ValueError as error:
        raise Invalid(f"{error}.", field=field) from None
