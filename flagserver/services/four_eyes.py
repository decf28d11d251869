"""The gate before whatever enlarges: where two people are wanted, what one asks for is kept until
another approves (`approvals`)."""

from __future__ import annotations

from datetime import datetime

from flagserver.domain import approvals, documents
from flagserver.domain.approvals import Consent, Proposal, State, Wish
from flagserver.domain.documents import Change, Document, Idempotency, Principal, Write
from flagserver.domain.environments import Environment
from flagserver.domain.errors import AlreadyExists, ApprovalRequired, Conflict, StaleRevision
from flagserver.ports import Clock, Documents, Entropy

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
            kept = self._store.read_all(documents.APPROVALS)
            there = kept.get(proposal.id)
            known = None if there is None else Proposal.from_body(there.body)
            if known is not None and known.state(now) is State.OPEN:
                return known
            self._check_room(asked.environment, kept, now)
            try:
                self._keep(proposal, there, _old(kept, proposal.id, now), by)
            except (StaleRevision, AlreadyExists):
                continue
            return proposal
        raise Conflict("Approvals change too quickly. Try again.")

    def _keep(
        self, proposal: Proposal, there: Document | None, old: list[Document], by: Principal
    ) -> None:
        expected = 0 if there is None else there.revision
        change = Change(
            writes=(
                Write(documents.APPROVALS, proposal.id, expected, proposal.to_body()),
                *(Write(documents.APPROVALS, each.key, each.revision, None) for each in old),
            ),
            fact=approvals.fact(proposal, approvals.ASK, by, proposal.reason),
            notices=(approvals.wanted(proposal),),
        )
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))

    def _check_room(self, environment: str, kept: dict[str, Document], now: datetime) -> None:
        waiting = [Proposal.from_body(each.body) for each in kept.values()]
        here = [p for p in waiting if p.asked.environment == environment]
        if sum(p.state(now) is State.OPEN for p in here) >= approvals.MOST_OPEN:
            raise Conflict(
                f"{approvals.MOST_OPEN} things wait for approval in {environment} already. "
                "Withdraw what nobody wants any more."
            )


def _old(kept: dict[str, Document], but: str, now: datetime) -> list[Document]:
    """Return what ended long ago."""
    over = [
        each
        for each in kept.values()
        if each.key != but and Proposal.from_body(each.body).is_forgotten(now)
    ]
    return over[:MOST_FORGOTTEN]
