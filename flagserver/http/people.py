"""`/api/v1/people`: who signs in, and in which roles."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from flagserver.domain.access import MANAGE
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import EVERYWHERE
from flagserver.domain.people import NewPerson, PersonEdit
from flagserver.services.people import Invited, PersonView

from . import present
from .routing import Call, Routes

routes = Routes()

PEOPLE = "/api/v1/people"
PERSON = f"{PEOPLE}/{{person}}"


class PersonJson(TypedDict):
    """role: where `roles` says nothing else. name and login are empty once forgotten."""

    id: str
    name: str
    login: str
    role: str
    roles: dict[str, str]
    source: str
    has_password: bool
    created: str
    ended: str | None
    revision: int


class PeopleJson(TypedDict):
    """By name; who is forgotten comes last."""

    people: list[PersonJson]


class InvitedJson(TypedDict):
    """path: of the page where they choose a password; it works once, for three days, and is shown
    now or never."""

    person: PersonJson
    path: str


@routes.add("GET", PEOPLE, MANAGE, {200: ("Everybody.", PeopleJson)})
def list_people(call: Call) -> Any:
    """List people."""
    return {"people": [_told(view) for view in call.services.people.all(call.principal)]}


@routes.add(
    *("POST", PEOPLE, MANAGE, {201: ("`path` is shown once.", InvitedJson)}), model=NewPerson
)
def invite_person(call: Call) -> Any:
    """Invite somebody; hand them the link."""
    return _invited(call.services.people.invite(call.body, call.principal, call.idempotency))


@routes.add("GET", PERSON, MANAGE, {200: ("The person.", PersonJson)})
def read_person(call: Call, person: str) -> Any:
    """Read a person."""
    return _person(call.services.people.get(person))


@routes.add(
    *("PATCH", PERSON, MANAGE, {200: ("As they are now.", PersonJson)}),
    model=PersonEdit,
    revision=True,
)
def edit_person(call: Call, person: str) -> Any:
    """Change a person's name or roles. Another role ends their sessions."""
    edit = call.services.people.edit
    return _person(edit(person, call.body, call.revision(), call.principal, call.idempotency))


@routes.add(
    *("POST", f"{PERSON}/invite", MANAGE, {201: ("`path` is shown once.", InvitedJson)}),
    model=Reasoned,
)
def invite_person_again(call: Call, person: str) -> Any:
    """Make a new link by which a person chooses another password."""
    return _invited(call.services.people.invite_again(person, call.body, call.principal))


@routes.add(
    *("POST", f"{PERSON}/end", MANAGE, {200: ("As they are now.", PersonJson)}), model=Reasoned
)
def end_person(call: Call, person: str) -> Any:
    """Let a person sign in no more, from now on."""
    return _person(call.services.people.end(person, call.body, call.principal, call.idempotency))


@routes.add(
    *("POST", f"{PERSON}/forget", MANAGE, {200: ("What is left.", PersonJson)}), model=Reasoned
)
def forget_person(call: Call, person: str) -> Any:
    """Forget who a person was; what they did stays in the record, under the id."""
    return _person(call.services.people.forget(person, call.body, call.principal, call.idempotency))


def _told(view: PersonView) -> PersonJson:
    person = view.person
    return {
        "id": person.id,
        "name": person.name,
        "login": person.login,
        "role": person.roles[EVERYWHERE],
        "roles": {name: role for name, role in person.roles.items() if name != EVERYWHERE},
        "source": str(person.source),
        "has_password": person.password is not None,
        "created": person.created,
        "ended": person.ended,
        "revision": view.revision,
    }


def _person(view: PersonView) -> Any:
    return _told(view), 200, present.etag(view.revision)


def _invited(invited: Invited) -> Any:
    body = {"person": _told(invited.view), "path": f"/invitation/{invited.secret}"}
    return body, 201, present.etag(invited.view.revision)
