"""Who may do what, as a person in a role and as a token of a scope."""

from __future__ import annotations

import pytest

from flagserver.domain import access
from flagserver.domain.access import ROLES, may
from flagserver.domain.documents import EVERYWHERE, Principal
from flagserver.domain.errors import Forbidden


def a_person(everywhere: str = "viewer", **elsewhere: str) -> Principal:
    return Principal(
        "person:5f2c91ab", everywhere, "person", roles={EVERYWHERE: everywhere} | elsewhere
    )


MATRIX = {
    #                     read   shrink change enlarge roll   define preview audit  manage measure
    "viewer":    "yes    no     no     no     no     no     no     no     no     no",
    "responder": "yes    yes    no     no     no     no     no     no     no     no",
    "editor":    "yes    yes    yes    no     no     yes    yes    no     no     no",
    "releaser":  "yes    yes    yes    yes    yes    yes    yes    no     no     no",
    "auditor":   "yes    no     no     no     no     no     no     yes    no     no",
    "admin":     "yes    yes    yes    yes    yes    yes    yes    yes    yes    yes",
}  # fmt: skip

COLUMNS = (
    *(access.READ, access.SHRINK, access.CHANGE, access.ENLARGE, access.ROLL_OUT),
    *(access.DEFINE, access.PREVIEW, access.AUDIT, access.MANAGE, access.MEASURE),
)


@pytest.mark.parametrize("role", MATRIX)
def test_the_matrix(role: str) -> None:
    found = {action: may(a_person(role), action, "production") for action in COLUMNS}

    assert found == dict(zip(COLUMNS, (w == "yes" for w in MATRIX[role].split()), strict=True))


def test_every_role_and_every_action_is_in_the_matrix() -> None:
    told_elsewhere = {access.SERVE, access.SIGN_IN, access.KNOW_ONESELF}

    assert set(MATRIX) == set(ROLES)
    assert set(COLUMNS) | told_elsewhere == set(access.ACTIONS)


def test_a_role_of_an_environment_holds_there_and_nowhere_else() -> None:
    ana = a_person("viewer", production="responder", staging="releaser")

    assert may(ana, access.SHRINK, "production")
    assert not may(ana, access.ROLL_OUT, "production")
    assert may(ana, access.ROLL_OUT, "staging")
    assert not may(ana, access.SHRINK, "development")
    assert [ana.role_in(name) for name in ("production", "staging", "development", None)] == [
        *("responder", "releaser", "viewer", "viewer")
    ]


def test_a_role_in_an_environment_does_not_reach_what_all_share() -> None:
    ben = a_person("viewer", production="admin")

    assert may(ben, access.MANAGE, "production")
    assert not may(ben, access.MANAGE)
    assert not may(ben, access.DEFINE)


def test_a_refusal_says_which_role_and_what_it_may_not() -> None:
    with pytest.raises(Forbidden, match="Your role in production is viewer: it may not hold, roll"):
        access.check(a_person(), access.SHRINK, "production")


def test_whoever_may_enlarge_may_shrink() -> None:
    enlarging = {access.CHANGE, access.ENLARGE, access.ROLL_OUT}

    assert all(access.SHRINK in actions for actions in ROLES.values() if actions & enlarging)


def test_an_unknown_role_may_nothing() -> None:
    assert not any(may(a_person("root"), action) for action in access.ACTIONS)
