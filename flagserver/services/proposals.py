"""What is kept of what waits for a second person, as it stands now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flagserver.domain import documents
from flagserver.domain.approvals import Base, Proposal, State
from flagserver.domain.documents import Document
from flagserver.ports import Documents


@dataclass(frozen=True, slots=True)
class ProposalView:
    """A proposal at a revision of its document. state: as it stands now; one whose thing has
    changed is `lapsed`, whether or not that was written down."""

    proposal: Proposal
    revision: int
    state: State


class Standing:
    """How proposals stand at one moment. What they are about is read once each, and only for those
    that could still be approved of."""

    def __init__(self, store: Documents, now: datetime) -> None:
        self._store = store
        self._now = now
        self._revisions: dict[tuple[str, str], int] = {}

    def of(self, proposal: Proposal) -> State:
        """Return how a proposal stands. Raises StoreUnavailable."""
        state = proposal.state(self._now)
        if state is State.OPEN and not all(map(self._holds, proposal.asked.base)):
            return State.LAPSED
        return state

    def view(self, document: Document) -> ProposalView:
        """Return a proposal as it is kept, and how it stands. Raises StoreUnavailable."""
        proposal = Proposal.from_body(document.body)
        return ProposalView(proposal, document.revision, self.of(proposal))

    def views(self) -> dict[str, ProposalView]:
        """Return all that are kept, by id. Raises StoreUnavailable."""
        kept = self._store.read_all(documents.APPROVALS)
        return {id: self.view(document) for id, document in kept.items()}

    def _holds(self, base: Base) -> bool:
        """Tell whether a document is as it was when somebody asked."""
        of = (base.collection, base.key)
        if of not in self._revisions:
            document = self._store.read(*of)
            self._revisions[of] = 0 if document is None else document.revision
        return self._revisions[of] == base.revision
