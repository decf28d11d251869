"""The gate before whatever enlarges: where two people are wanted, what one asks for is kept until
another approves (`approvals`)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from flagserver.domain import approvals, documents
from flagserver.domain.approvals import Consent, Proposal, State, Wish
from flagserver.domain.documents import Change, Idempotency, Principal, Write
from flagserver.domain.environments import Environment
from flagserver.domain.errors import AlreadyExists, ApprovalRequired, Conflict, StaleRevision
from flagserver.ports import Clock, Documents, Entropy

from .proposals import ProposalView, Standing

ATTEMPTS = 5
"""How often a proposal is tried again because the same one was asked for at the same time."""

MOST_FORGOTTEN = 50
"""So many old proposals are taken away with a new one, so that a commit stays small."""


class FourEyes:
    """Lets pass what needs nobody else, and what was approved of; keeps the rest."""

    def __init__(self, store: Documents, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy

    def check(
        self,
        where: Environment,
        asked: Wish,
        by: Principal,
        idempotency: Idempotency | None,
        consent: Consent | None,
    ) -> None:
        """Return if it may be done now.

        Raises ApprovalRequired once it waits for a second person, ApprovalLapsed when `consent` was
        for something else.
        """
        if consent is not None:
            consent.check(asked)
        elif where.four_eyes:
            waiting = self._propose(asked, by, idempotency)
            raise ApprovalRequired(
                f"{where.key} needs a second person for this. {waiting.id} waits until "
                f"{waiting.expires} for somebody else to approve, at /approvals/{waiting.id}; "
                "nothing was changed.",
                approval=waiting.id,
            )

    def _propose(self, asked: Wish, by: Principal, idempotency: Idempotency | None) -> Proposal:
        """Return what waits, kept now or before: the same twice waits once. Raises Conflict where
        too much waits already."""
        now = self._clock.now()
        proposal = approvals.propose(asked, by, now, idempotency)
        for _ in range(ATTEMPTS):
            views = Standing(self._store, now).views()
            there = views.pop(proposal.id, None)
            if there is not None and there.state is State.OPEN:
                return there.proposal
            waiting = [v.proposal for v in views.values() if v.state is State.OPEN]
            approvals.check_room(waiting, proposal)
            try:
                self._keep(proposal, there, _old(views.values(), now), by)
            except (StaleRevision, AlreadyExists):
                continue
            return proposal
        raise Conflict("Approvals change too quickly. Try again.")

    def _keep(
        self, proposal: Proposal, there: ProposalView | None, old: list[ProposalView], by: Principal
    ) -> None:
        expected = 0 if there is None else there.revision
        change = Change(
            writes=(
                Write(documents.APPROVALS, proposal.id, expected, proposal.to_body()),
                *(Write(documents.APPROVALS, v.proposal.id, v.revision, None) for v in old),
            ),
            fact=approvals.fact(proposal, approvals.ASK, by, proposal.reason),
            notices=(approvals.wanted(proposal),),
        )
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))


def _old(others: Iterable[ProposalView], now: datetime) -> list[ProposalView]:
    """Return what is over and need not be kept, the oldest first."""
    over = [view for view in others if view.state is not State.OPEN]
    over.sort(key=lambda view: view.proposal.ended or view.proposal.created)
    beyond = len(over) - approvals.MOST_ENDED
    old = [
        view for place, view in enumerate(over) if place < beyond or view.proposal.is_forgotten(now)
    ]
    return old[:MOST_FORGOTTEN]
