"""What waits for a second person, as pages tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flagserver.domain import approvals
from flagserver.domain.approvals import Proposal, State
from flagserver.domain.documents import Principal
from flagserver.domain.environments import Environment
from flagserver.services import Services
from flagserver.services.proposals import ProposalView

from . import proposed, served
from .present import Status
from .proposed import ProposedStart
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
    def can_be_withdrawn(self) -> bool:
        """Whether it stands among what waits: what has lapsed does, until somebody ends it."""
        return self.proposal.kept is State.OPEN and self.state is not State.EXPIRED

    @property
    def start(self) -> ProposedStart | None:
        """The rollout that is to be started, None where something else is asked for."""
        asked = self.proposal.asked
        begins = asked.thing.startswith("service/")
        return proposed.start(asked.result, asked.command) if begins else None

    @property
    def facts(self) -> proposed.Facts:
        """Where a rollout stands, and where it goes on to."""
        asked = self.proposal.asked
        return proposed.verb(asked.thing, asked.action, asked.result)


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
