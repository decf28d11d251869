"""People: who signs in, by what, and in which role where.

A person is an opaque id everywhere else. Name and login stand in the person's own document alone,
never in the record, so that whoever is forgotten is forgotten, and the record goes on verifying.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import AfterValidator, Field, StringConstraints

from .commands import Command, Key, Reason
from .documents import EVERYWHERE, Body, Principal
from .errors import Conflict

SCOPE = "person"
"""What a person's principal has in place of a token's scope."""

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 128
"""Characters. NIST SP 800-63B, 3.1.1.2: length counts, and no rules of composition."""

Role = Literal["viewer", "responder", "editor", "releaser", "auditor", "admin"]


def _lower(text: str) -> str:
    return text.casefold()


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Login = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^\S+$"),
    AfterValidator(_lower),
]
Password = Annotated[str, Field(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]


class NewPerson(Command):
    """Somebody who is to sign in. login: an e-mail address, or any word that colleagues know."""

    name: Name
    login: Login
    role: Role = "viewer"
    roles: dict[Key, Role] = Field(default_factory=dict, max_length=100)
    reason: Reason | None = None


class PersonEdit(Command):
    """What an admin may change of a person. roles: all of them; EVERYWHERE's is `role`."""

    name: Name | None = None
    role: Role | None = None
    roles: dict[Key, Role] | None = Field(default=None, max_length=100)
    reason: Reason | None = None


class Source(StrEnum):
    """Who says that they are who they are."""

    LOCAL = "local"
    OIDC = "oidc"
    ALB = "alb"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who signs in.

    id: opaque, `5f2c91ab`.  roles: environment -> role, EVERYWHERE always among them.
    subject: what an identity provider knows them by.  password: as `ports.Passwords` keeps it.
    generation: raised by what ends every session that was begun before.
    ended: since when they may not sign in any more, None: they may.
    """

    id: str
    name: str
    login: str
    roles: Mapping[str, str]
    source: Source
    created: str
    changed: str
    subject: str | None = None
    password: str | None = None
    generation: int = 1
    ended: str | None = None

    @classmethod
    def from_body(cls, body: Body) -> Person:
        """Return the person that a document holds."""
        return cls(**{**body, "source": Source(body["source"])})

    def to_body(self) -> dict[str, Any]:
        """Return the document's body."""
        return {**asdict(self), "source": str(self.source)}

    def recorded(self) -> dict[str, Any]:
        """Return what the record may say: nothing that tells who it is."""
        return {
            "roles": dict(self.roles),
            "source": str(self.source),
            "has_password": self.password is not None,
            "ended": self.ended,
        }

    @property
    def principal(self) -> Principal:
        """Who acts when this person does."""
        role = self.roles[EVERYWHERE]
        return Principal(f"person:{self.id}", role, SCOPE, roles=dict(self.roles))

    @property
    def is_forgotten(self) -> bool:
        """Whether nothing is left that tells who they were."""
        return not self.login

    @property
    def is_admin(self) -> bool:
        """Whether they may run the installation."""
        return self.ended is None and self.roles[EVERYWHERE] == "admin"

    @property
    def claim(self) -> str:
        """The name under which nobody else may have this login, or is known by this provider."""
        return claim(self.source, self.subject or self.login)


def claim(source: Source, login: str) -> str:
    """Return the name of the claim to a login. A hash: claims stand outside of people's keys."""
    told = hashlib.sha256(f"{source}\n{login.casefold()}".encode()).hexdigest()
    return f"login:{told}"


def create(
    command: NewPerson, *, id: str, at: str, source: Source = Source.LOCAL, subject: str = ""
) -> Person:
    """Return somebody new, who cannot sign in before a password is set or a provider says so."""
    roles = {**command.roles, EVERYWHERE: command.role}
    known = subject or None
    return Person(id, command.name, command.login, roles, source, at, at, known)


def edit(person: Person, command: PersonEdit, *, at: str) -> Person:
    """Return the person as changed. Other roles end every session: the next one has them."""
    kept = {name: role for name, role in person.roles.items() if name != EVERYWHERE}
    roles = {
        **(kept if command.roles is None else command.roles),
        EVERYWHERE: command.role or person.roles[EVERYWHERE],
    }
    after = replace(person, name=command.name or person.name, roles=roles, changed=at)
    return _signed_out(after) if roles != person.roles else after


def refresh(person: Person, told: Outsider, roles: Mapping[str, str], *, at: str) -> Person:
    """Return the person as their provider tells of them now. Other roles end every session."""
    after = replace(person, name=told.name, login=told.login, roles=dict(roles))
    if after == person:
        return person
    after = replace(after, changed=at)
    return _signed_out(after) if after.roles != person.roles else after


def sign_out(person: Person, *, at: str) -> Person:
    """Return the person, whose every session has ended."""
    return _signed_out(replace(person, changed=at))


def set_password(person: Person, kept: str, *, at: str) -> Person:
    """Return the person with a password, as `ports.Passwords` keeps it; every session ends."""
    return _signed_out(replace(person, password=kept, changed=at))


def end(person: Person, *, at: str) -> Person:
    """Return the person, who may not sign in any more."""
    return _signed_out(replace(person, ended=person.ended or at, changed=at))


def forget(person: Person, *, at: str) -> Person:
    """Return what is left of somebody who is forgotten: an id that acted, in which roles."""
    ended = end(person, at=at)
    return replace(ended, name="", login="", subject=None, password=None)


def may_be_one(one: Person, other: Person) -> bool:
    """Tell whether two who sign in may be one human: the same subject of one provider, whoever
    tells of it, or the same login, however it is written. Who was forgotten may be anybody.

    No more is known of anybody: one human by two logins of two providers is not recognised.
    """
    if one.id == other.id or one.is_forgotten or other.is_forgotten:
        return True
    same_subject = one.subject is not None and one.subject == other.subject
    return same_subject or _same(one.login) == _same(other.login)


def _same(login: str) -> str:
    return unicodedata.normalize("NFKC", login).strip().casefold()


@dataclass(frozen=True, slots=True)
class Outsider:
    """Who an identity provider says that somebody is.

    subject: what they are known by for ever, with the provider's own name before it; an e-mail
    address can go to somebody else, and so is no more than what is shown.
    """

    source: Source
    subject: str
    name: str
    login: str
    groups: frozenset[str] = frozenset()


def claimed(value: object) -> str:
    """Return what a provider claims of somebody, "" for what is no text: JSON from outside can hold
    anything there, and half a surrogate, which nobody can write down."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        return ""
    return value.strip()


@dataclass(frozen=True, slots=True)
class GroupRole:
    """Whoever is in a group has a role, in one environment or EVERYWHERE."""

    group: str
    role: Role
    environment: str = EVERYWHERE


ANYBODY = "*"
"""In place of a group: whoever the provider lets in."""

_GROUP_ROLE = re.compile(r"(?P<group>[^,]+)=(?P<role>[a-z]+)(?:@(?P<environment>[a-z0-9-]+))?")


def read_group_roles(text: str) -> tuple[GroupRole, ...]:
    """Return what `group=role, group=role@environment` says. Raises ValueError."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _GROUP_ROLE.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not group=role or group=role@environment")
        if match["role"] not in get_args(Role):
            raise ValueError(f"{match['role']!r} is none of {', '.join(get_args(Role))}")
        where = match["environment"] or EVERYWHERE
        found.append(GroupRole(match["group"], cast(Role, match["role"]), where))
    return tuple(found)


def roles_of(groups: Iterable[str], mapping: Iterable[GroupRole]) -> dict[str, str]:
    """Return environment -> role, the first that fits; none when no group does. Who has a role in
    some environments only is a viewer in the others."""
    known = {*groups, ANYBODY}
    roles: dict[str, str] = {}
    for each in mapping:
        if each.group in known:
            roles.setdefault(each.environment, each.role)
    return {EVERYWHERE: "viewer", **roles} if roles else {}


def _signed_out(person: Person) -> Person:
    return replace(person, generation=person.generation + 1)


def check_an_admin_is_left(people: Iterable[Person], after: Person) -> None:
    """Raise Conflict when nobody could run the installation after a change to one of them."""
    before = list(people)
    left = [one for one in before if one.id != after.id and one.is_admin]
    was_one = any(one.id == after.id and one.is_admin for one in before)
    if was_one and not after.is_admin and not left:
        raise Conflict("This is the last admin. Make somebody else one first.")
