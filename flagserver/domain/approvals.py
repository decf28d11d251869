"""Four eyes: what enlarges exposure where two people are wanted, until a second one approves.

What somebody asks for is kept as a `Proposal` that names its `fingerprint`: a hash over what is to
be done, to which revision of which thing, and what becomes of it. Whoever approves names the same
hash, and it is made anew when the thing is done: if anything of it is another by then, the approval
was for something else, and nothing is done. See docs/adr/0025-four-eyes.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import rfc8785
from pydantic import StringConstraints
from sortition.record.replay import APPROVAL

from . import access
from .commands import Enlarging
from .documents import APPROVALS, Body, Fact, Idempotency, Principal, Write
from .environments import Environment
from .errors import ApprovalLapsed, Conflict, Forbidden, Invalid
from .notices import Notice, Severity
from .people import Person, may_be_one
from .schedule import percent_text
from .times import rfc3339

VERSION = 1
"""Of what is hashed."""

LASTS = timedelta(hours=24)
"""So long it can be approved of: whoever asked still knows why."""

KEPT = timedelta(days=30)
"""So long a proposal is kept that has ended; the record keeps its entries."""

MOST_ENDED = 500
"""So many are kept that have ended: every look at what waits reads them too."""

MOST_OPEN = 100
"""So many may wait in one environment."""

MOST_OPEN_OF_ONE = 20
"""So many of them may one author have: nobody alone keeps others from asking."""

ID_DIGITS = 12

ASK, WITHDRAW, LAPSE = "approval:ask", "approval:withdraw", "approval:lapse"


class State(StrEnum):
    """How a proposal stands."""

    OPEN = "open"
    APPROVED = "approved"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    """What it was about has changed meanwhile."""
    EXPIRED = "expired"
    """Nobody approved in time. Never kept: it follows from the clock."""


@dataclass(frozen=True, slots=True)
class Base:
    """A document that a proposal is about, at the revision that it was made for (0: none yet)."""

    collection: str
    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants done.

    thing: as the record names it, `flag/new-search`; a rollout that is not there yet goes by its
    service, `service/shop`.  action: as the record will name it.
    command: the request's body.  result: what becomes of it, as far as the command does not say it.
    """

    environment: str
    thing: str
    action: str
    base: tuple[Base, ...]
    command: Body
    result: Body

    @property
    def fingerprint(self) -> str:
        """The SHA-256 over all of it, in hex. Raises Invalid for numbers that JSON cannot carry
        exactly."""
        told: dict[str, Any] = {
            "v": VERSION,
            "environment": self.environment,
            "thing": self.thing,
            "action": self.action,
            "base": [asdict(each) for each in self.base],
            "command": dict(self.command),
            "result": dict(self.result),
        }
        try:
            return hashlib.sha256(rfc8785.dumps(told)).hexdigest()
        except rfc8785.CanonicalizationError as error:
            raise Invalid(f"It cannot be written down exactly: {error}.") from None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something asked for, and what became of it.

    owner: who stands behind an author that is a token, None where nobody is known.
    idempotency: of the author's request; carried out by it, so that sending it again finds it done.
    by: who ended it.  outcome: the thing that it was done to, `rollout/r-…` for a new one.
    """

    id: str
    asked: Wish
    fingerprint: str
    author: str
    role: str
    owner: str | None
    created: str
    expires: str
    idempotency: Idempotency | None = None
    kept: State = State.OPEN
    by: str | None = None
    ended: str | None = None
    outcome: str | None = None

    @classmethod
    def from_body(cls, body: Body) -> Proposal:
        """Return the proposal that a document holds."""
        asked, once = body["asked"], body["idempotency"]
        base = tuple(Base(**each) for each in asked["base"])
        return cls(
            **{
                **body,
                "asked": Wish(**{**asked, "base": base}),
                "idempotency": None if once is None else Idempotency(**once),
                "kept": State(body["kept"]),
            }
        )

    def to_body(self) -> dict[str, Any]:
        """Return the document's body."""
        return {**asdict(self), "kept": str(self.kept)}

    @property
    def name(self) -> str:
        """What the record calls it."""
        return f"approval/{self.id}"

    @property
    def reason(self) -> str | None:
        """Why its author wants it."""
        return self.asked.command.get("reason")

    def state(self, now: datetime) -> State:
        """Return how it stands."""
        late = datetime.fromisoformat(self.expires) <= now
        return State.EXPIRED if self.kept is State.OPEN and late else self.kept

    def is_of(self, by: Principal) -> bool:
        """Tell whether somebody asked for it, themself or by a token of theirs."""
        return bool({self.author, self.owner} & {by.id, by.owner} - {None})

    def is_forgotten(self, now: datetime) -> bool:
        """Tell whether it has been over for so long that it need not be kept."""
        return datetime.fromisoformat(self.ended or self.expires) + KEPT <= now


class Approve(Enlarging):
    """That somebody approves. hash: of what they looked at."""

    hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def propose(
    asked: Wish, by: Principal, now: datetime, idempotency: Idempotency | None = None
) -> Proposal:
    """Return what somebody asks for. The same again by the same principal has the same id."""
    fingerprint = asked.fingerprint
    who = hashlib.sha256(f"{by.id}\n{fingerprint}".encode()).hexdigest()
    return Proposal(
        id=f"a-{who[:ID_DIGITS]}",
        asked=asked,
        fingerprint=fingerprint,
        author=by.id,
        role=by.role_in(asked.environment),
        owner=by.owner,
        created=rfc3339(now),
        expires=rfc3339(now + LASTS),
        idempotency=idempotency,
    )


def check_room(waiting: Iterable[Proposal], new: Proposal) -> None:
    """Raise Conflict where too much waits already for another to wait too. waiting: what can still
    be approved of, and only that."""
    where = new.asked.environment
    here = [each for each in waiting if each.asked.environment == where]
    if sum(each.author == new.author for each in here) >= MOST_OPEN_OF_ONE:
        raise Conflict(
            f"{MOST_OPEN_OF_ONE} things that you asked for wait for approval in {where} already. "
            "Withdraw what nobody wants any more, or let somebody approve."
        )
    if len(here) >= MOST_OPEN:
        raise Conflict(
            f"{MOST_OPEN} things wait for approval in {where} already. "
            "Withdraw what nobody wants any more."
        )


def check_may_approve(proposal: Proposal, by: Principal, now: datetime, seen: str) -> None:
    """Raise Forbidden unless somebody is a second person, and Conflict unless there is still that
    to approve of which they looked at. seen: the hash of it."""
    if by.roles is None:
        raise Forbidden(
            "Only a person who signed in under their own name approves: no token, and no link from "
            "the server's shell."
        )
    if proposal.is_of(by):
        raise Forbidden("You asked for this, or a token of yours did: somebody else approves.")
    check_open(proposal, now)
    if seen != proposal.fingerprint:
        raise ApprovalLapsed("It is not what you looked at. Open the page again.")


def check_is_another(behind: Iterable[Person], approver: Person | None) -> None:
    """Raise Forbidden where a second person may be the first, signed in another way.

    behind: whoever is known of the author and of the owner of its token.
    """
    for person in behind:
        if person.is_forgotten:
            raise Forbidden(
                "Whoever asked for this was forgotten, so nobody can tell whether it was somebody "
                "else. Let it be asked for again."
            )
        if approver is not None and may_be_one(person, approver):
            raise Forbidden(
                "You asked for this under another sign-in of yours, or a token did that you own "
                "there: somebody else approves."
            )


def check_may_do(proposal: Proposal, where: Environment, by: Principal) -> None:
    """Raise Forbidden unless somebody may do themself what is asked for. where: it is asked for."""
    if not proposal.asked.action.startswith("flag:"):
        access.check(by, access.ROLL_OUT, where.key)
        return
    access.check(by, access.CHANGE, where.key)
    if where.critical:
        access.check(by, access.ENLARGE, where.key)


def may_do(proposal: Proposal, where: Environment, by: Principal) -> bool:
    """Tell whether `check_may_do` lets it pass."""
    try:
        check_may_do(proposal, where, by)
    except Forbidden:
        return False
    return True


def check_open(proposal: Proposal, now: datetime) -> None:
    """Raise Conflict unless a proposal waits for somebody."""
    state = proposal.state(now)
    if state is not State.OPEN:
        raise Conflict(f"{proposal.id} {ENDED[state]}")


ENDED = {
    State.APPROVED: "was approved and carried out before.",
    State.WITHDRAWN: "was withdrawn.",
    State.LAPSED: "has lapsed: what it was about has changed. Ask for it again.",
    State.EXPIRED: "has expired: nobody approved within 24 hours. Ask for it again.",
}
"""State -> what is said of a proposal that waits for nobody any more."""


@dataclass(frozen=True, slots=True)
class Consent:
    """A second person's yes, on its way to being carried out with what it is to.

    revision: of the proposal's document.  role: what lets the approver do it.
    """

    proposal: Proposal
    revision: int
    by: str
    role: str
    reason: str | None
    at: str

    @property
    def author(self) -> Principal:
        """Whose change it is, as the record names them."""
        it = self.proposal
        return Principal(it.author, it.role, "author", owner=it.owner)

    def check(self, asked: Wish) -> None:
        """Raise ApprovalLapsed unless this is what was approved of."""
        if asked.fingerprint != self.proposal.fingerprint:
            raise ApprovalLapsed(f"{self.proposal.id} {ENDED[State.LAPSED]}")

    def write(self, outcome: str) -> Write:
        """Return what ends the proposal in the commit that carries it out. outcome: the thing."""
        ended = end(self.proposal, State.APPROVED, self.by, self.at)
        body = replace(ended, outcome=outcome).to_body()
        return Write(APPROVALS, self.proposal.id, self.revision, body)

    def told(self, fact: Fact) -> Fact:
        """Return the entry with both names: the author's act, and who approved of which hash."""
        approval = {
            "id": self.proposal.id,
            "hash": self.proposal.fingerprint,
            "by": self.by,
            "role": self.role,
            "reason": self.reason,
        }
        return replace(
            fact,
            actor=self.author.id,
            role=self.author.role,
            after={**fact.after, APPROVAL: approval},
        )


def end(proposal: Proposal, state: State, by: str, at: str) -> Proposal:
    """Return a proposal that waits no longer. by: who ended it; at: RFC 3339."""
    return replace(proposal, kept=state, by=by, ended=at)


def fact(proposal: Proposal, action: str, by: Principal, reason: str | None) -> Fact:
    """Return what the record says of a proposal that begins, or ends without being carried out."""
    asked = proposal.asked
    return Fact(
        actor=by.id,
        role=by.role_in(asked.environment),
        action=action,
        target=proposal.name,
        environment=asked.environment,
        after={
            "thing": asked.thing,
            "action": asked.action,
            "hash": proposal.fingerprint,
            "expires": proposal.expires,
            "author": proposal.author,
        },
        reason=reason,
    )


def wanted(proposal: Proposal) -> Notice:
    """Return what people are told: that somebody has to look."""
    asked = proposal.asked
    return Notice(
        id=f"{ASK}:{proposal.id}:{proposal.created}",
        kind=ASK,
        severity=Severity.INFO,
        at=proposal.created,
        environment=asked.environment,
        service=None,
        subject=proposal.name,
        title=f"Approval wanted: {summary(asked)} in {asked.environment}",
        facts={"Why": proposal.reason or "not said", "Until": proposal.expires},
    )


VERBS = {
    "flag:share:change": "change what is served of {}",
    "flag:unkill": "serve {} again",
    "rollout:create": "start a rollout of {}",
    "rollout:supersede": "start a rollout of {} in place of {other}",
    "rollout:start": "start {} now",
    "rollout:resume": "resume {}",
    "rollout:step:advance": "skip the rest of the wait of {}",
    "rollout:step:approve": "approve of the next step of {}",
}
"""What is asked for -> how it is said; {} is the thing, {other} the rollout that ends."""


def summary(asked: Wish) -> str:
    """Return what is asked for, in a few words."""
    if asked.action == "flag:share:change":
        before, after = (asked.result[name]["share"] for name in ("before", "after"))
        if before != after:
            key = asked.thing.partition("/")[2]
            return f"take {key} from {percent_text(before)} to {percent_text(after)}"
    thing, other = asked.thing.partition("/")[2], asked.result.get("supersedes")
    return VERBS[asked.action].format(thing, other=other)
