"""What an act that lets a rollout go on would do, before it is done."""

from __future__ import annotations

from dataclasses import dataclass

from . import present
from .progress import Progress

DEEDS = {
    "begin": "Start now",
    "resume": "Resume",
    "advance": "Advance",
    "approve": "Approve",
}


@dataclass(frozen=True, slots=True)
class Move:
    """One verb: the rollout before and after it."""

    verb: str
    before: Progress
    after: Progress

    @property
    def deed(self) -> str:
        """What the button does: `Advance to 50 %`."""
        towards = self.before.towards
        match self.verb:
            case "begin":
                return "Start now"
            case "resume":
                return f"Resume at {self._here}"
            case "approve" if towards == "the end":
                return "Approve the end"
            case "advance" if towards == "the end":
                return "End the wait"
        return f"{DEEDS[self.verb]} {'to' if self.verb == 'advance' else 'going on to'} {towards}"

    @property
    def differences(self) -> list[tuple[str, str, str]]:
        """Label, now, after."""
        return [
            ("State", self.before.shown.words, self.after.rollout.state.shown.words),
            ("Share", self._now, self._share_after),
            ("Wait", _wait(self.before), self._wait_after),
        ]

    @property
    def _here(self) -> str:
        plan, step = self.before.rollout.plan, self.before.rollout.step
        return present.percent(plan[step].shown if step >= 0 else 0)

    @property
    def _now(self) -> str:
        share = self.before.share
        return self._here if share is None else present.percent(share)

    @property
    def _share_after(self) -> str:
        towards = self.before.towards
        match self.verb:
            case "begin":
                return f"{towards} at the controller's next look"
            case "resume":
                return self._here
            case "approve":
                return f"{self._here}, and {towards} when its wait is over and all guards pass"
        if towards == "the end":
            return f"{self._here}, and complete as soon as all guards pass"
        return f"{towards} as soon as no guard fails"

    @property
    def _wait_after(self) -> str:
        match self.verb:
            case "resume":
                return "its timer counts on"
            case "advance":
                return "the rest of it is skipped"
            case "approve":
                return _wait(self.before)
        return "the first step's"


def _wait(progress: Progress) -> str:
    rollout = progress.rollout
    if progress.left is not None:
        return f"{present.clock(progress.left)} of it left"
    if rollout.step < 0:
        return present.NOTHING
    hold = rollout.plan[rollout.step].hold
    return f"stopped, {present.clock(max(0.0, hold - progress.standing.elapsed))} of it left"
