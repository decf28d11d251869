"""What waits for a second person, as pages tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flagserver.domain import approvals
from flagserver.domain.approvals import Proposal, State
from flagserver.domain.documents import Principal
from flagserver.domain.environments import Environment
from flagserver.domain.schedule import Schedule
from flagserver.domain.states import State as Stands
from flagserver.services import Services
from flagserver.services.proposals import ProposalView

from . import present, served
from .present import Status
from .served import Difference

STATUSES = {
    State.OPEN: Status("open", "…", "Waits", "warn"),
    State.APPROVED: Status("approved", "✔", "Approved", "ok"),
    State.WITHDRAWN: Status("withdrawn", "✖", "Withdrawn", "neutral"),
    State.LAPSED: Status("lapsed", "✖", "Lapsed", "neutral"),
    State.EXPIRED: Status("expired", "✖", "Expired", "neutral"),
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """One proposal. state: how it stands now."""

    proposal: Proposal
    state: State
    environment: Environment

    @property
    def summary(self) -> str:
        """What is asked for, in a few words: `Start a rollout of shop`."""
        words = approvals.summary(self.proposal.asked)
        return words[:1].upper() + words[1:]

    @property
    def status(self) -> Status:
        """Its state as a pill."""
        return STATUSES[self.state]

    @property
    def is_open(self) -> bool:
        """Whether somebody can still approve."""
        return self.state is State.OPEN

    def may_be_done_by(self, by: Principal) -> bool:
        """Whether somebody may do it themself, and so may approve of it."""
        return approvals.may_do(self.proposal, self.environment, by)

    @property
    def is_flag(self) -> bool:
        """Whether it is about what a flag serves."""
        return self.proposal.asked.action.startswith("flag:")

    @property
    def thing(self) -> tuple[str, str]:
        """What it is about, or what came of it, as kind and name."""
        kind, _, name = (self.proposal.outcome or self.proposal.asked.thing).partition("/")
        return kind, name

    @property
    def differences(self) -> list[Difference]:
        """What a flag serves before and after."""
        result = self.proposal.asked.result
        before, after = ({**result[name], "changed": None} for name in ("before", "after"))
        found = served.differences(served.of_body(before), served.of_body(after))
        state = Difference("State", [[_killed(each)] for each in (before, after)])
        return [*found, state] if state.differs else found

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What a rollout is to be, or where it would go on: label and words."""
        asked = self.proposal.asked
        if self.is_flag:
            return []
        if not asked.thing.startswith("service/"):
            stands = Stands(asked.result["state"]).shown.words
            return [("Rollout", asked.thing.partition("/")[2]), ("Then it is", stands)]
        return _of_start(asked.result, asked.command)


def gathered(services: Services, view: ProposalView) -> Waiting:
    """Return a proposal with its environment."""
    where = services.environments.get(view.proposal.asked.environment).environment
    return Waiting(view.proposal, view.state, where)


def waiting_for(services: Services, by: Principal, thing: str | None = None) -> list[Waiting]:
    """Return what waits for a second person, the oldest first. thing: only of this one."""
    found = services.approvals.all(by, state=State.OPEN, thing=thing)
    return [gathered(services, view) for view in reversed(found)]


def _killed(body: Mapping[str, Any]) -> str:
    return "killed" if body["killed"] else "served"


def _of_start(result: Mapping[str, Any], command: Mapping[str, Any]) -> list[tuple[str, str]]:
    told = [
        ("Service", result["service"]),
        ("Version", result["version"]),
        ("Goes by", Schedule.from_body(result["schedule"]).text()),
        ("Moves", ", ".join(present.short(each["name"]) for each in result["targets"])),
        ("Guards", ", ".join(each["name"] for each in result["guards"]) or "none"),
        ("Begins at", command.get("start_at")),
        ("In place of", result["supersedes"]),
        ("Until", result["until"]),
    ]
    return [(label, text) for label, text in told if text]
