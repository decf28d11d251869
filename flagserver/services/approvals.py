"""Approving of what waits for a second person, which carries it out; and withdrawing it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from flagserver.domain import access, approvals, documents, flags, people
from flagserver.domain.approvals import Approve, Consent, Proposal, State
from flagserver.domain.commands import Enlarging, Reasoned, StateEdit
from flagserver.domain.documents import Change, Principal, Write
from flagserver.domain.errors import (
    ApprovalLapsed,
    Conflict,
    NotFound,
    Refusal,
    StaleRevision,
)
from flagserver.domain.people import Person
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.times import rfc3339
from flagserver.ports import Clock, Documents, Entropy

from .environments import known_environment
from .flags import Flags
from .proposals import ProposalView, Standing
from .rollouts import Enlarge, Rollouts

ATTEMPTS = 3
"""How often carrying out is tried again because something else of the same commit moved."""


class Approvals:
    """Use cases around what waits for a second person."""

    def __init__(
        self, store: Documents, flags: Flags, rollouts: Rollouts, clock: Clock, entropy: Entropy
    ) -> None:
        self._store = store
        self._flags = flags
        self._rollouts = rollouts
        self._clock = clock
        self._entropy = entropy

    # Looking

    def all(
        self,
        by: Principal,
        environment: str | None = None,
        state: State | None = None,
        thing: str | None = None,
    ) -> list[ProposalView]:
        """Return what somebody may see, newest first. thing: only of this one, `flag/<key>`."""
        found = [
            view
            for view in Standing(self._store, self._now()).views().values()
            for asked in (view.proposal.asked,)
            if environment in (None, asked.environment)
            and thing in (None, asked.thing)
            and state in (None, view.state)
            and access.may(by, access.READ, asked.environment)
        ]
        return sorted(found, key=lambda view: (view.proposal.created, view.proposal.id))[::-1]

    def get(self, id: str, by: Principal) -> ProposalView:
        """Return one. Raises NotFound, and Forbidden for another environment's."""
        document = self._store.read(documents.APPROVALS, id)
        if document is None:
            raise NotFound(
                f"There is no approval {id!r}; of those that are over the last "
                f"{approvals.MOST_ENDED} are kept, for {approvals.KEPT.days} days."
            )
        view = Standing(self._store, self._now()).view(document)
        access.check(by, access.READ, view.proposal.asked.environment)
        return view

    # Deciding

    def approve(self, id: str, command: Approve, by: Principal) -> ProposalView:
        """Carry out what somebody else asked for, once.

        Raises Forbidden for whoever asked, by whatever sign-in, and for who may not do it
        themself; Conflict for what is over; ApprovalLapsed once what it is about has changed; and
        whatever doing it raises.
        """
        for _ in range(ATTEMPTS):
            view = self.get(id, by)
            where = known_environment(self._store, view.proposal.asked.environment)
            approvals.check_may_do(view.proposal, where, by)
            approvals.check_may_approve(view.proposal, by, self._now(), command.hash)
            self._check_is_another(view.proposal, by)
            flags.check_may_enlarge(where, command)
            if view.state is State.LAPSED:
                raise self._lapse(view, by)
            try:
                self._carry_out(view, self._consent(view, command, by), by)
            except ApprovalLapsed:
                raise self._lapse(view, by) from None
            except StaleRevision:
                # The proposal, what it is about, or something beside it moved: look again.
                continue
            return self._carried_out(id, by)
        raise Conflict(f"What {id} is about changes too quickly. Try again.")

    def withdraw(self, id: str, command: Reasoned, by: Principal) -> ProposalView:
        """Let something wait no longer: for who asked for it, and for whoever may shrink there.
        Raises NotFound, Forbidden, Conflict."""
        view = self.get(id, by)
        if not view.proposal.is_of(by):
            access.check(by, access.SHRINK, view.proposal.asked.environment)
        approvals.check_open(view.proposal, self._now())
        self._end(view, State.WITHDRAWN, approvals.WITHDRAW, by, command.reason)
        return self.get(id, by)

    # How

    def _check_is_another(self, proposal: Proposal, by: Principal) -> None:
        """Raise Forbidden unless somebody is another human than asked, as far as that is known."""
        behind = filter(None, map(self._person, (proposal.author, proposal.owner)))
        approvals.check_is_another(behind, self._person(by.id))

    def _person(self, actor: str | None) -> Person | None:
        """Return whom an id in the record means; None for a token, and for a link from the shell,
        of whom nobody is known."""
        kind, _, id = (actor or "").partition(":")
        document = self._store.read(documents.PEOPLE, id) if kind == people.SCOPE else None
        return None if document is None else Person.from_body(document.body)

    def _carry_out(self, view: ProposalView, consent: Consent, by: Principal) -> None:
        """Do it by the same way as who asks for it there where nobody else is wanted."""
        asked, once = view.proposal.asked, view.proposal.idempotency
        target, told = asked.thing.partition("/")[2], asked.command
        if asked.thing.startswith("service/"):
            self._rollouts.start(NewRollout.model_validate(told), by, once, consent)
            return
        revision = asked.base[0].revision
        if asked.action == "flag:share:change":
            here, edit = (target, asked.environment), StateEdit.model_validate(told)
            self._flags.change(*here, edit, revision, by, once, consent)
        elif asked.action == "flag:unkill":
            here, why = (target, asked.environment), Enlarging.model_validate(told)
            self._flags.unkill(*here, why, revision, by, once, consent)
        else:
            verb, why = self._verbs[asked.action], Enlarging.model_validate(told)
            verb(target, why, revision, by, once, consent=consent)

    @property
    def _verbs(self) -> Mapping[str, Enlarge]:
        return {
            "rollout:start": self._rollouts.begin,
            "rollout:resume": self._rollouts.resume,
            "rollout:step:advance": self._rollouts.advance,
            "rollout:step:approve": self._rollouts.approve,
        }

    def _carried_out(self, id: str, by: Principal) -> ProposalView:
        """Return it once it is done. What its author did meanwhile by the same idempotency key,
        where nobody else was wanted for a while, is done and was not approved of."""
        after = self.get(id, by)
        if after.proposal.kept is State.OPEN:
            raise self._lapse(after, by)
        return after

    def _consent(self, view: ProposalView, command: Approve, by: Principal) -> Consent:
        return Consent(
            proposal=view.proposal,
            revision=view.revision,
            by=by.id,
            role=by.role_in(view.proposal.asked.environment),
            reason=command.reason,
            at=rfc3339(self._now()),
        )

    def _lapse(self, view: ProposalView, by: Principal) -> Refusal:
        """Write down that it has lapsed; return what to raise."""
        self._end(view, State.LAPSED, approvals.LAPSE, by, None)
        words = approvals.ENDED[State.LAPSED]
        return ApprovalLapsed(f"{view.proposal.id} {words}")

    def _end(
        self, view: ProposalView, state: State, action: str, by: Principal, reason: str | None
    ) -> None:
        it, at = view.proposal, self._now()
        ended = approvals.end(it, state, by.id, rfc3339(at))
        write = Write(documents.APPROVALS, it.id, view.revision, ended.to_body())
        change = Change(writes=(write,), fact=approvals.fact(it, action, by, reason))
        try:
            self._store.commit(change, at=at, salt=self._entropy.hex(16))
        except StaleRevision:
            raise Conflict(f"Somebody else decided about {it.id} just now. Look again.") from None

    def _now(self) -> datetime:
        return self._clock.now()
