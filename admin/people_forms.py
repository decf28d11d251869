"""Forms around people, read into the domain's commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flagserver.domain.documents import EVERYWHERE
from flagserver.domain.people import NewPerson, Person, PersonEdit

from .forms import Typed, build, reason

ROLE_IN = "role:"
"""What the name of a field begins with that gives a role in one environment; "" is as elsewhere."""


def read_person(typed: Typed, environments: Iterable[str]) -> NewPerson:
    """Return whom a form invites. Raises Unusable."""
    names = {name: typed.text(name).strip() for name in ("name", "login")}
    return build(NewPerson, typed, **names, **_roles(typed, environments), reason=reason(typed))


def read_edit(typed: Typed, environments: Iterable[str]) -> PersonEdit:
    """Return what a form changes about a person. Raises Unusable."""
    name = typed.text("name").strip()
    return build(PersonEdit, typed, name=name, **_roles(typed, environments), reason=reason(typed))


def told_of(person: Person, revision: int) -> Mapping[str, str]:
    """Return a person as the form has them."""
    elsewhere = {
        f"{ROLE_IN}{name}": role for name, role in person.roles.items() if name != EVERYWHERE
    }
    told = {"name": person.name, "login": person.login, "role": person.roles[EVERYWHERE]}
    return {**told, **elsewhere, "revision": str(revision)}


def _roles(typed: Typed, environments: Iterable[str]) -> dict[str, Any]:
    given = {name: typed.text(f"{ROLE_IN}{name}") for name in environments}
    return {
        "role": typed.text("role", "viewer"),
        "roles": {name: role for name, role in given.items() if role},
    }
