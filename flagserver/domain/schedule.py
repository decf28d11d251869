"""Schedules: which share, for how long, one step after the other.

A schedule that cannot be run does not exist: building one raises Invalid, its field a pointer into
the schedule (`/steps/2/share`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from sortition.core.bucketing import WHOLE
from sortition.judgement.policy import Overtime

from .commands import percent_to_ppm, ppm_to_percent
from .documents import Body
from .errors import Invalid

MAX_STEPS = 100
"""Linear by one percent is the longest that anybody needs."""

LONGEST_HOLD = 7 * 24 * 3600
"""A week, in seconds: beyond that it is not a rollout but a state."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: give this share, and go on when all of the rest holds.

    share: parts per million.  hold: seconds; of the last step 0, see `Schedule.bake`.
    approval: somebody must approve of going on.
    minimum_sample: so many requests of the canary must have been seen in this step.
    """

    share: int
    hold: int = 0
    approval: bool = False
    minimum_sample: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps in order. bake: seconds to watch the last share before the rollout is complete.

    end: the share (parts per million) that the last step has. It is the whole unless somebody says
    otherwise, so that a forgotten last step is noticed.
    overtime: what follows when a step is not decided within three times its hold.
    keep: so much (parts per million) of the last share stays on the old version while it bakes, as
    a control: without one only limits can judge. It is given last of all.
    """

    name: str
    steps: tuple[Step, ...]
    bake: int = 0
    end: int = WHOLE
    overtime: Overtime = Overtime.PERSON
    keep: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def hold(self, step: int) -> int:
        """Return for how many seconds a step (from 0) is held; the last one bakes."""
        return self.bake if step == len(self.steps) - 1 else self.steps[step].hold

    @property
    def stages(self) -> tuple[Step, ...]:
        """The steps as they are carried out, each with its time: where a control is kept, the last
        share is reached in two."""
        *first, last = self.steps
        if not self.keep:
            return (*first, replace(last, hold=self.bake))
        bakes = replace(last, share=last.share - self.keep, hold=self.bake)
        return (*first, bakes, Step(last.share))

    def duration(self) -> int:
        """Return the seconds from the first share to the end when nothing intervenes."""
        return sum(self.hold(i) for i in range(len(self.steps)))

    @classmethod
    def from_body(cls, body: Body) -> Schedule:
        """Return the schedule that `to_body` wrote down."""
        steps = tuple(Step(**step) for step in body["steps"])
        overtime = Overtime(body.get("overtime", Overtime.PERSON))
        kept = body.get("keep", 0)
        return cls(body["name"], steps, body["bake"], body["end"], overtime, kept)

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it: shares in parts per million, times in seconds."""
        return {
            "name": self.name,
            "steps": [
                {
                    "share": step.share,
                    "hold": step.hold,
                    "approval": step.approval,
                    "minimum_sample": step.minimum_sample,
                }
                for step in self.steps
            ],
            "bake": self.bake,
            "end": self.end,
            "overtime": str(self.overtime),
            "keep": self.keep,
        }

    def text(self) -> str:
        """Return it as `parse` reads it: `5%:5m,25%:10m,50%:15m,100%`."""
        return ",".join(_step_text(self, i) for i in range(len(self.steps)))


def parse(text: str, templates: Mapping[str, Schedule] = MappingProxyType({})) -> Schedule:
    """Return the schedule that a text means. Raises Invalid, which says what can be written.

    A name of ours (`standard`) or of `templates`, one of CodeDeploy's predefined configurations, or
    steps: `5%:5m,25%:10m:approve:n=1000,100%:30m`. After the share come, in any order, the hold (a
    time at the last step is its bake), `approve`, `n=<minimum sample>`, and at the last step `end`
    when it is meant to stay below 100 %, `keep=1%` when so much is to stay on the old version while
    it bakes, and `overtime=person`, `roll_back` or `proceed`.
    """
    text = text.strip()
    named = {**templates, **NAMED}
    if text in named:
        return named[text]
    predefined = _PREDEFINED.fullmatch(text)
    if predefined:
        return _codedeploy(text, predefined)
    if "%" not in text:
        known = ", ".join(sorted(named))
        raise Invalid(
            f"{text!r} is no schedule. There are {known}; CodeDeploy's names, as "
            "CodeDeployDefault.ECSCanary10Percent5Minutes; or steps, as "
            "5%:5m,25%:10m,50%:15m,100%."
        )
    return _from_steps(text)


def duration_seconds(text: str) -> int:
    """Return the seconds that `90s`, `5m`, `1h30m` or `2d` mean. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise ValueError(f"{text!r} is no duration: write 90s, 5m, 1h30m or 2d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def duration_text(seconds: int) -> str:
    """Return seconds as `duration_seconds` reads them: `1h30m`; `0s` for none."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def percent_text(ppm: int) -> str:
    """Return a share for people: `5 %`, `0.25 %`."""
    return f"{ppm_to_percent(ppm):.10g} %"


# --- what cannot be run ---------------------------------------------------------------------------


def _check(schedule: Schedule) -> None:
    steps = schedule.steps
    if not steps:
        raise Invalid("A schedule needs at least one step.", field="/steps")
    if len(steps) > MAX_STEPS:
        raise Invalid(f"A schedule has at most {MAX_STEPS} steps.", field="/steps")
    for i in range(len(steps)):
        _check_share(schedule, i)
        _check_hold(schedule, i)
        _check_sample(steps[i], i)
    if not 0 <= schedule.bake <= LONGEST_HOLD:
        raise Invalid("The bake is from nothing to 7 days.", field="/bake")
    if steps[-1].share != schedule.end:
        raise Invalid(
            f"The last step gives {percent_text(steps[-1].share)}, but the schedule ends at "
            f"{percent_text(schedule.end)}. Add that step, or say that it ends lower (`end`).",
            field=f"/steps/{len(steps) - 1}/share",
        )
    _check_keep(schedule)


def _check_keep(schedule: Schedule) -> None:
    kept = percent_text(schedule.keep)
    if not schedule.keep:
        return
    if not schedule.bake:
        raise Invalid(
            f"{kept} is to be kept on the old version while it bakes, but it does not bake: give "
            "the last step a time.",
            field="/keep",
        )
    before = schedule.steps[-2].share if len(schedule.steps) > 1 else 0
    if not before < schedule.end - schedule.keep < schedule.end:
        raise Invalid(
            f"{kept} kept of {percent_text(schedule.end)} leaves no more than the step before "
            "gives.",
            field="/keep",
        )


def _check_share(schedule: Schedule, i: int) -> None:
    share, field = schedule.steps[i].share, f"/steps/{i}/share"
    if not 0 < share <= WHOLE:
        raise Invalid(
            f"Step {i + 1} gives {percent_text(share)}; a share is above 0 and at most 100 %.",
            field=field,
        )
    if i and share <= schedule.steps[i - 1].share:
        raise Invalid(
            f"Step {i + 1} gives {percent_text(share)} after "
            f"{percent_text(schedule.steps[i - 1].share)}: every step must give more than the one "
            "before it.",
            field=field,
        )


def _check_hold(schedule: Schedule, i: int) -> None:
    hold, field = schedule.steps[i].hold, f"/steps/{i}/hold"
    if i == len(schedule.steps) - 1:
        if hold != 0:
            raise Invalid(
                "The last step has no hold: how long its share is watched is the schedule's bake.",
                field=field,
            )
    elif not 0 < hold <= LONGEST_HOLD:
        raise Invalid(
            f"Step {i + 1} needs a hold above 0 and up to 7 days: without one nothing is watched "
            "before the next step.",
            field=field,
        )


def _check_sample(step: Step, i: int) -> None:
    if step.minimum_sample is not None and step.minimum_sample < 1:
        raise Invalid(
            f"Step {i + 1}: a minimum sample is at least 1.", field=f"/steps/{i}/minimum_sample"
        )


# --- from text ------------------------------------------------------------------------------------

_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)\s*%")
_SAMPLE = re.compile(r"n=(\d{1,9})")
_OVERTIME = re.compile(r":\s*overtime=(?P<word>[^:]*)")
_KEEP = re.compile(r":\s*keep=(?P<share>[^:]*)")


def _from_steps(text: str) -> Schedule:
    parts = text.split(",")
    steps: list[Step] = []
    bake, end = 0, WHOLE
    parts[-1], overtime = _read_overtime(parts[-1], len(parts) - 1)
    parts[-1], kept = _read_keep(parts[-1])
    for i, part in enumerate(parts):
        step, ends = _read_step(part, i)
        if i == len(parts) - 1:
            bake, step = step.hold, Step(step.share, 0, step.approval, step.minimum_sample)
            end = step.share if ends else WHOLE
        elif ends:
            raise Invalid(f"Step {i + 1} says `end`, but more follow.", field=f"/steps/{i}")
        steps.append(step)
    return Schedule(text, tuple(steps), bake, end, overtime, kept)


def _read_overtime(text: str, i: int) -> tuple[str, Overtime]:
    """Return the last step without its word on overtime, and that word."""
    found = _OVERTIME.search(text)
    if not found:
        return text, Overtime.PERSON
    try:
        said = Overtime(found["word"].strip())
    except ValueError:
        known = ", ".join(each.value for each in Overtime)
        raise Invalid(
            f"{found['word'].strip()!r} is no overtime; there are {known}.", field=f"/steps/{i}"
        ) from None
    return text[: found.start()] + text[found.end() :], said


def _read_keep(text: str) -> tuple[str, int]:
    """Return the last step without what it keeps, and that (parts per million)."""
    found = _KEEP.search(text)
    if not found:
        return text, 0
    share = _SHARE.fullmatch(found["share"].strip())
    if not share:
        raise Invalid(
            f"{found['share'].strip()!r} is no share to keep; write keep=1%.", field="/keep"
        )
    return text[: found.start()] + text[found.end() :], round(float(share.group(1)) * 10_000)


def _read_step(text: str, i: int) -> tuple[Step, bool]:
    """Return the step, its time as its hold, and whether the schedule is meant to end there."""
    written, *marks = (mark.strip() for mark in text.split(":"))
    share = _SHARE.fullmatch(written)
    if not share:
        raise Invalid(
            f"Step {i + 1}: {written!r} is no share; write 5% or 0.25%.", field=f"/steps/{i}/share"
        )
    hold, approval, ends, sample = 0, False, False, None
    for mark in marks:
        counted = _SAMPLE.fullmatch(mark)
        if mark == "approve":
            approval = True
        elif mark == "end":
            ends = True
        elif counted:
            sample = int(counted.group(1))
        else:
            hold = _read_hold(mark, i)
    # Above 100 % is a share that the schedule refuses in its own words.
    return Step(round(float(share.group(1)) * 10_000), hold, approval, sample), ends


def _read_hold(mark: str, i: int) -> int:
    try:
        return duration_seconds(mark)
    except ValueError as error:
        raise Invalid(f"Step {i + 1}: {error}.", field=f"/steps/{i}/hold") from None


def _step_text(schedule: Schedule, i: int) -> str:
    step, last = schedule.steps[i], i == len(schedule.steps) - 1
    seconds = schedule.hold(i)
    marks = [f"{ppm_to_percent(step.share):.10g}%"]
    if seconds:
        marks.append(duration_text(seconds))
    if step.approval:
        marks.append("approve")
    if step.minimum_sample is not None:
        marks.append(f"n={step.minimum_sample}")
    if last and schedule.end != WHOLE:
        marks.append("end")
    if last and schedule.keep:
        marks.append(f"keep={ppm_to_percent(schedule.keep):.10g}%")
    if last and schedule.overtime is not Overtime.PERSON:
        marks.append(f"overtime={schedule.overtime}")
    return ":".join(marks)


# --- by name --------------------------------------------------------------------------------------

STANDARD = Schedule(
    "standard",
    (
        Step(percent_to_ppm(5), 5 * 60),
        Step(percent_to_ppm(25), 10 * 60),
        Step(percent_to_ppm(50), 15 * 60),
        Step(WHOLE),
    ),
)
"""What the project itself rolls out by: 5, 25, 50, 100 % at T+0, 5, 15, 30 minutes."""

NAMED = {STANDARD.name: STANDARD}
"""Built-in schedules by name."""

CODEDEPLOY = (
    "CodeDeployDefault.ECSAllAtOnce",
    "CodeDeployDefault.ECSCanary10Percent5Minutes",
    "CodeDeployDefault.ECSCanary10Percent15Minutes",
    "CodeDeployDefault.ECSLinear10PercentEvery1Minutes",
    "CodeDeployDefault.ECSLinear10PercentEvery3Minutes",
)
"""What CodeDeploy brings for ECS (its user guide, "Deployment configurations"); `parse` reads more
names of this form."""

_PREDEFINED = re.compile(
    r"(?:CodeDeployDefault\.)?(?:ECS|Lambda)?"
    r"(?:Canary(?P<canary>\d{1,2})Percent(?P<after>\d{1,4})Minutes?"
    r"|Linear(?P<linear>\d{1,2})PercentEvery(?P<every>\d{1,4})Minutes?"
    r"|(?P<once>AllAtOnce))"
)
"""AWS CodeDeploy's predefined configurations for ECS and Lambda, and custom ones that are named
alike: a canary is two increments, a linear one equal increments at equal times."""


def _codedeploy(text: str, name: re.Match[str]) -> Schedule:
    if name["once"]:
        return Schedule(text, (Step(WHOLE),))
    percent = int(name["canary"] or name["linear"])
    hold = int(name["after"] or name["every"]) * 60
    if not percent:
        raise Invalid(f"{text} begins with 0 %; a share is above 0.", field="/steps/0/share")
    shares = [percent] if name["canary"] else range(percent, 100, percent)
    return Schedule(text, (*(Step(percent_to_ppm(s), hold) for s in shares), Step(WHOLE)))
