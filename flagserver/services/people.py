"""People: inviting them, their passwords and roles, and signing them in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from flagserver.domain import access, attempts, documents, people
from flagserver.domain.attempts import WINDOW_SECONDS
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import Change, Document, Fact, Idempotency, Principal, Write
from flagserver.domain.errors import (
    AlreadyExists,
    ClaimTaken,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    StaleRevision,
    StoreUnavailable,
    TooMany,
    Unauthenticated,
)
from flagserver.domain.people import GroupRole, NewPerson, Outsider, Person, PersonEdit, Source
from flagserver.domain.times import rfc3339
from flagserver.domain.tokens import digest
from flagserver.ports import Attempts, Clock, Documents, Entropy, Passwords, StoreIdentity
from flagserver.ports import Sessions as Secrets

from .sessions import SECRET_OCTETS, Sessions

INVITATION = "invitation"
INVITATION_SECONDS = 72 * 60 * 60
ID_OCTETS = 4

NAMING = (access.MANAGE, access.AUDIT)
"""Whoever may one of these may know who an id in the record is."""

ATTEMPTS = 10
ROSTER = "people"

FORMER = "a former colleague"
"""What somebody is called who was forgotten."""

WRONG = "That name and password do not belong together."


@dataclass(frozen=True, slots=True)
class PersonView:
    """A person as they are kept, at a revision of their document."""

    person: Person
    revision: int


@dataclass(frozen=True, slots=True)
class Invited:
    """A person who was invited, and the secret of the link to be handed to them, shown once."""

    view: PersonView
    secret: str


class People:
    """Use cases around people."""

    def __init__(
        self,
        store: Documents,
        secrets: Secrets,
        tries: Attempts,
        passwords: Passwords,
        sessions: Sessions,
        clock: Clock,
        entropy: Entropy,
        identity: Callable[[], StoreIdentity | None],
    ) -> None:
        """identity: of the store, None before it has one; keyed hashes are made with it."""
        self._store = store
        self._secrets = secrets
        self._tries = tries
        self._passwords = passwords
        self._sessions = sessions
        self._clock = clock
        self._entropy = entropy
        self._identity = identity

    # Looking

    def all(self, by: Principal) -> list[PersonView]:
        """Return everybody, by name; who is forgotten comes last. Raises Forbidden."""
        access.check(by, access.MANAGE)
        found = [_view(one) for one in self._store.read_all(documents.PEOPLE).values()]
        return sorted(found, key=lambda view: (not view.person.name, view.person.name.casefold()))

    def get(self, id: str) -> PersonView:
        """Return a person. Raises NotFound."""
        document = self._store.read(documents.PEOPLE, id)
        if document is None:
            raise NotFound(f"There is no person {id!r}.")
        return _view(document)

    def name(self, actor: str, by: Principal) -> str | None:
        """Return what whoever acted under an id is called, for those who may know it: who runs the
        installation or reads the whole record, and everybody of themselves. None: not for them, or
        nobody's. The record has no names, so who was forgotten has none here either."""
        kind, _, id = actor.partition(":")
        if kind != people.SCOPE:
            return None
        if by.id != actor and not any(access.may(by, each) for each in NAMING):
            return None
        document = self._store.read(documents.PEOPLE, id)
        return None if document is None else _view(document).person.name or FORMER

    def anybody(self) -> bool:
        """Tell whether anybody signs in by a password."""
        found = self._store.read_all(documents.PEOPLE).values()
        return any(_view(one).person.password is not None for one in found)

    # Managing

    def invite(
        self, command: NewPerson, by: Principal, idempotency: Idempotency | None = None
    ) -> Invited:
        """Make somebody known and return the link by which they set their password.

        Raises Forbidden, NotFound for an environment that is not there, and AlreadyExists.
        """
        access.check(by, access.MANAGE)
        self._check_environments(command.roles)
        person = people.create(command, id=self._entropy.hex(ID_OCTETS), at=self._now())
        for _ in range(ATTEMPTS):
            try:
                roster = self._roster()
                self._keep(person, None, roster, "create", by, command.reason, idempotency)
            except ClaimTaken:
                words = "Somebody signs in by this name already."
                raise AlreadyExists(words, field="/login") from None
            except StaleRevision:
                continue
            return Invited(PersonView(person, 1), self._invitation(person))
        raise Conflict("People change too quickly. Try again.")

    def invite_again(self, id: str, command: Reasoned, by: Principal) -> Invited:
        """Return a new link for somebody, as for a password that was forgotten. The old password
        holds until a new one is set."""
        access.check(by, access.MANAGE)
        view = self.get(id)
        if view.person.ended is not None or view.person.source is not Source.LOCAL:
            raise Invalid("Only who signs in here by a password can be invited again.")
        self._note("person:invite", view.person, by, command.reason)
        return Invited(view, self._invitation(view.person))

    def edit(
        self,
        id: str,
        command: PersonEdit,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> PersonView:
        """Change a person's name or roles. Raises Conflict for the last admin."""
        access.check(by, access.MANAGE)
        self._check_environments(command.roles or {})
        return self._change(
            id,
            "edit",
            lambda person: people.edit(person, command, at=self._now()),
            by,
            command.reason,
            revision=revision,
            idempotency=idempotency,
        )

    def end(
        self,
        id: str,
        command: Reasoned,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> PersonView:
        """Let somebody sign in no more, from now on. Raises Conflict for the last admin."""
        access.check(by, access.MANAGE)
        return self._change(
            id,
            "end",
            lambda person: people.end(person, at=self._now()),
            by,
            command.reason,
            idempotency=idempotency,
        )

    def forget(
        self,
        id: str,
        command: Reasoned,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> PersonView:
        """Forget who somebody was. What they did stays in the record, under their id."""
        access.check(by, access.MANAGE)
        return self._change(
            id,
            "forget",
            lambda person: people.forget(person, at=self._now()),
            by,
            command.reason,
            idempotency=idempotency,
        )

    # Signing in

    def invited(self, secret: str) -> Person:
        """Return whom an invitation is for, without spending it. Raises Unauthenticated."""
        return self._of_invitation(self._secrets.get(INVITATION, digest(secret)))

    def accept(self, secret: str, password: str) -> str:
        """Spend an invitation: set the password and return the secret of a new session.

        Raises Unauthenticated, and Invalid for a password that is too short, before it is spent.
        """
        _check_password(password)
        person = self._of_invitation(self._secrets.take(INVITATION, digest(secret)))
        return self._sessions.begin(self._set_password(person, password))

    def sign_in(self, login: str, password: str, address: str) -> str:
        """Return the secret of a new session. address: where it comes from; it is not kept.

        Raises Unauthenticated, with the same words whoever it is, and TooMany.
        """
        self._count_try(login, address)
        person = self._by_login(login)
        kept = None if person is None else person.password
        right = self._passwords.is_right(password[: people.LONGEST_PASSWORD + 1], kept)
        if person is None or kept is None or not right:
            raise Unauthenticated(WRONG)
        if self._passwords.is_outdated(kept):
            person = self._keep_password(person, password)
        return self._sessions.begin(person)

    def sign_in_outside(self, told: Outsider, mapping: Sequence[GroupRole]) -> str:
        """Return the secret of a new session of somebody whom an identity provider knows, and make
        them known at the first. Their roles are what their groups say today.

        Raises Forbidden when no group has a role, or they were ended here; Conflict for the last
        admin whose groups no longer say so.
        """
        roles = people.roles_of(told.groups, mapping)
        for _ in range(ATTEMPTS):
            known = self._by_subject(told)
            if known is not None and known.ended is not None:
                raise Forbidden("You may not sign in here any more. Ask an admin.")
            if not roles:
                self._end_sessions(known)
                raise Forbidden("None of your groups has a role here. Ask an admin for one.")
            with suppress(ClaimTaken, StaleRevision):
                return self._sessions.begin(self._as_told(known, told, roles))
        raise Conflict("People change too quickly. Try again.")

    def count_outside(self, address: str) -> None:
        """Count one sign-in that begins at an identity provider. Raises TooMany."""
        self._count_tries(attempts.outside(self._key(), address))

    def change_password(self, by: Principal, old: str, new: str, address: str) -> str:
        """Set one's own password, given the old one, and return a new session's secret: every
        other ends. Raises Unauthenticated, Invalid, TooMany."""
        person = self.get(by.id.removeprefix("person:")).person
        self._count_try(person.login, address)
        if not self._passwords.is_right(old, person.password):
            raise Unauthenticated("That is not your password.")
        _check_password(new)
        return self._sessions.begin(self._set_password(person, new))

    # How

    def _as_told(self, known: Person | None, told: Outsider, roles: Mapping[str, str]) -> Person:
        """Return the person, kept as their provider tells of them. Raises ClaimTaken,
        StaleRevision, Conflict."""
        if known is None:
            return self._first_seen(told, roles)
        after = people.refresh(known, told, roles, at=self._now())
        if after == known:
            return known
        view = self._change(
            known.id,
            "edit",
            lambda found: people.refresh(found, told, roles, at=self._now()),
            after.principal,
            "as the identity provider says",
        )
        return view.person

    def _first_seen(self, told: Outsider, roles: Mapping[str, str]) -> Person:
        id, at = self._entropy.hex(ID_OCTETS), self._now()
        person = Person(
            *(id, told.name, told.login, dict(roles), told.source, at, at), subject=told.subject
        )
        why = "known to the identity provider"
        self._keep(person, None, self._roster(), "create", person.principal, why, None)
        return person

    def _end_sessions(self, known: Person | None) -> None:
        """End every session of somebody who has no group with a role any more."""
        if known is not None:
            self._change(
                known.id,
                "edit",
                lambda found: people.sign_out(found, at=self._now()),
                known.principal,
                "no group with a role",
            )

    def _by_subject(self, told: Outsider) -> Person | None:
        """Return whom a provider means, also one who was ended."""
        for document in self._store.read_all(documents.PEOPLE).values():
            person = _view(document).person
            if person.source is told.source and person.subject == told.subject:
                return person
        return None

    def _count_try(self, login: str, address: str) -> None:
        """Raise TooMany when it was tried too often. A try that is refused for the address counts
        towards nothing wider, so nobody's account is locked by it."""
        self._count_tries(attempts.limits(self._key(), login, address))

    def _key(self) -> str:
        """Return what keyed hashes are made with."""
        identity = self._identity()
        if identity is None:
            raise StoreUnavailable("The store holds nothing yet, so nobody can sign in.")
        return identity.store

    def _count_tries(self, limits: Iterable[attempts.Limit]) -> None:
        for limit in limits:
            [tries] = self._tries.tried([limit.name], window_seconds=WINDOW_SECONDS)
            if tries == limit.most + 1:
                fact = Fact("server", "server", "session:refuse", f"sign-in/{limit.name[:8]}")
                self._record(fact)
            if tries > limit.most:
                words = "Too many tries. Wait a quarter of an hour, or ask an admin for a new link."
                raise TooMany(words, retry_after=WINDOW_SECONDS)

    def _by_login(self, login: str) -> Person | None:
        wanted = people.claim(Source.LOCAL, login.strip())
        for document in self._store.read_all(documents.PEOPLE).values():
            person = _view(document).person
            if person.ended is None and person.claim == wanted:
                return person
        return None

    def _of_invitation(self, body: object) -> Person:
        known = body if isinstance(body, dict) else {}
        document = self._store.read(documents.PEOPLE, known["person"]) if known else None
        person = None if document is None else _view(document).person
        if person is None or person.ended or person.generation != known["generation"]:
            raise Unauthenticated("This link was used before or has ended. Ask for a new one.")
        return person

    def _invitation(self, person: Person) -> str:
        secret = self._entropy.hex(SECRET_OCTETS)
        body = {"person": person.id, "generation": person.generation}
        self._secrets.put(INVITATION, digest(secret), body, ttl_seconds=INVITATION_SECONDS)
        return secret

    def _set_password(self, person: Person, password: str) -> Person:
        kept = self._passwords.keep(password)
        view = self._change(
            person.id,
            "password",
            lambda found: people.set_password(found, kept, at=self._now()),
            person.principal,
        )
        return view.person

    def _keep_password(self, person: Person, password: str) -> Person:
        """Keep the same password by today's numbers. Nothing changes for anybody, so no session
        ends and nothing is recorded but the change itself."""
        kept = self._passwords.keep(password)
        view = self._change(
            person.id,
            "password",
            lambda found: replace(found, password=kept),
            person.principal,
            "kept by newer numbers",
        )
        return view.person

    def _change(
        self,
        id: str,
        verb: str,
        decide: Callable[[Person], Person],
        by: Principal,
        reason: str | None = None,
        *,
        revision: int | None = None,
        idempotency: Idempotency | None = None,
    ) -> PersonView:
        for _ in range(ATTEMPTS):
            roster = self._roster()
            view = self.get(id)
            if revision not in {None, view.revision}:
                words = f"person/{id} is at revision {view.revision} now."
                raise StaleRevision(words, revision=view.revision)
            after = decide(view.person)
            everybody = self._store.read_all(documents.PEOPLE).values()
            people.check_an_admin_is_left((_view(one).person for one in everybody), after)
            with suppress(StaleRevision):
                self._keep(after, view, roster, verb, by, reason, idempotency)
                return PersonView(after, view.revision + 1)
        raise Conflict("People change too quickly. Try again.")

    def _roster(self) -> int:
        """Return the revision of what every change of a person raises: that an admin is left was
        decided over all of them."""
        document = self._store.read(documents.ROSTER, ROSTER)
        return 0 if document is None else document.revision

    def _keep(
        self,
        person: Person,
        seen: PersonView | None,
        roster: int,
        verb: str,
        by: Principal,
        reason: str | None,
        idempotency: Idempotency | None,
    ) -> None:
        before = None if seen is None else seen.person
        expected = 0 if seen is None else seen.revision
        fact = Fact(
            actor=by.id,
            role=by.role_in(None),
            action=f"person:{verb}",
            target=f"person/{person.id}",
            before=None if before is None else before.recorded(),
            after=person.recorded(),
            reason=reason,
        )
        gone = before is not None and before.ended is None and person.ended is not None
        change = Change(
            writes=(
                Write(documents.PEOPLE, person.id, expected, person.to_body()),
                Write(documents.ROSTER, ROSTER, roster, {}),
            ),
            fact=fact,
            claims={person.claim: person.id} if before is None else {},
            releases={before.claim: person.id} if before is not None and gone else {},
            idempotency=idempotency,
        )
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))

    def _note(self, action: str, person: Person, by: Principal, reason: str | None) -> None:
        target = f"person/{person.id}"
        self._record(Fact(by.id, by.role_in(None), action, target, reason=reason))

    def _record(self, fact: Fact) -> None:
        change = Change(writes=(), fact=fact)
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))

    def _check_environments(self, roles: dict[str, people.Role]) -> None:
        for name in roles:
            if self._store.read(documents.ENVIRONMENTS, name) is None:
                raise Invalid(f"There is no environment {name!r}.", field=f"/roles/{name}")

    def _now(self) -> str:
        return rfc3339(self._clock.now())


def _check_password(password: str) -> None:
    if not people.SHORTEST_PASSWORD <= len(password) <= people.LONGEST_PASSWORD:
        words = (
            f"A password has {people.SHORTEST_PASSWORD} to {people.LONGEST_PASSWORD} characters."
        )
        raise Invalid(words, field="/password")


def _view(document: Document) -> PersonView:
    return PersonView(Person.from_body(document.body), document.revision)
