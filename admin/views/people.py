"""People and their roles; and what somebody may change of themselves."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.access import ACTIONS, MANAGE, ROLES, SERVE
from flagserver.domain.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    StaleRevision,
    TooMany,
    Unauthenticated,
)
from flagserver.domain.people import LONGEST_PASSWORD, SCOPE, SHORTEST_PASSWORD
from flagserver.services.people import Invited, PersonView
from flagserver.services.sessions import SESSION_SECONDS

from ..forms import Typed, Unusable, read_reason, read_revision
from ..guard import Guard
from ..interface import Interface, may, principal
from ..people_forms import read_edit, read_person, told_of

BESIDE = (Invalid, Conflict, AlreadyExists, StaleRevision)
"""Refusals that belong beside the form that was sent."""

OLD = "old"


class People:
    """Everybody, one of them, and oneself."""

    def __init__(self, ui: Interface, guard: Guard) -> None:
        self._ui = ui
        self._guard = guard
        self._people = ui.services.people

    # Everybody

    def everybody(self) -> Response:
        """Who there is, what the roles may, and a form to invite somebody."""
        return self._everybody(Typed())

    def invite(self) -> AnyResponse:
        """Invite somebody and show their link, this once."""

        def act(typed: Typed) -> AnyResponse:
            command = read_person(typed, self._environments())
            return self._shown(self._people.invite(command, principal()))

        return self._sent(act, self._everybody)

    def _everybody(
        self, typed: Typed, status: int = 200, invited: Invited | None = None
    ) -> Response:
        return self._ui.page(
            "settings_people.html",
            status=status,
            views=self._people.all(principal()) if may(MANAGE) else [],
            roles=ROLES,
            actions={action: words for action, words in ACTIONS.items() if action != SERVE},
            environments=self._environments(),
            link=None if invited is None else self._link(invited),
            invited=invited,
            form=typed,
        )

    def _shown(self, invited: Invited) -> Response:
        return self._everybody(Typed(), status=201, invited=invited)

    def _link(self, invited: Invited) -> str:
        path = url_for("admin.invitation", secret=invited.secret)
        return request.host_url.rstrip("/") + path

    # One of them

    def person(self, id: str) -> Response:
        """One person, to be edited."""
        view = self._known(id)
        return self._person(id, Typed(told_of(view.person, view.revision)))

    def edit(self, id: str) -> AnyResponse:
        """Change name or roles."""

        def act(typed: Typed) -> AnyResponse:
            command = read_edit(typed, self._environments())
            self._people.edit(id, command, read_revision(typed), principal())
            return self._done("edited")

        return self._sent_of(id, act)

    def end(self, id: str) -> AnyResponse:
        """Let somebody sign in no more."""

        def act(typed: Typed) -> AnyResponse:
            self._people.end(id, read_reason(typed), principal())
            return self._done("ended")

        return self._sent_of(id, act)

    def forget(self, id: str) -> AnyResponse:
        """Forget who somebody was."""

        def act(typed: Typed) -> AnyResponse:
            self._people.forget(id, read_reason(typed), principal())
            return self._done("forgotten")

        return self._sent_of(id, act)

    def invite_again(self, id: str) -> AnyResponse:
        """Show a new link for somebody, this once."""

        def act(typed: Typed) -> AnyResponse:
            return self._shown(self._people.invite_again(id, read_reason(typed), principal()))

        return self._sent_of(id, act)

    def _person(self, id: str, typed: Typed, status: int = 200) -> Response:
        return self._ui.page(
            "settings_person.html",
            status=status,
            view=self._known(id),
            roles=ROLES,
            environments=self._environments(),
            form=typed,
        )

    def _known(self, id: str) -> PersonView:
        if not may(MANAGE):
            raise Forbidden("Only admins see who others are.")
        return self._people.get(id)

    # Oneself

    def account(self) -> Response:
        """Who one is here, and a form for another password."""
        return self._account(Typed())

    def change_password(self) -> AnyResponse:
        """Set one's own password; every other session ends."""

        def act(typed: Typed) -> AnyResponse:
            new = typed.text("password")
            if new != typed.text("again"):
                typed.errors["again"] = "The two are not the same."
                raise Unusable
            try:
                session = self._people.change_password(
                    principal(), typed.text(OLD), new, self._ui.address()
                )
            except Unauthenticated as refusal:
                typed.errors[OLD] = refusal.detail
                raise Unusable from None
            there = self._ui.go(url_for("admin.account"), "password")
            self._ui.set_cookie(there, self._guard.cookie, session, max_age=SESSION_SECONDS)
            return there

        return self._sent(act, self._account)

    def _account(self, typed: Typed, status: int = 200) -> Response:
        who, person = principal(), None
        if who.scope == SCOPE:
            person = self._people.get(who.id.removeprefix("person:")).person
        return self._ui.page(
            "account.html",
            status=status,
            person=person,
            actions=ACTIONS,
            form=typed,
            shortest=SHORTEST_PASSWORD,
            longest=LONGEST_PASSWORD,
        )

    # How

    def _sent_of(self, id: str, act: Callable[[Typed], AnyResponse]) -> AnyResponse:
        return self._sent(act, lambda typed, status: self._person(id, typed, status))

    def _sent(
        self,
        act: Callable[[Typed], AnyResponse],
        again: Callable[[Typed, int], Response],
    ) -> AnyResponse:
        """Do what a form says; or show it again as it was typed, with what is wrong."""
        typed = Typed(request.form.to_dict())
        status = 422
        try:
            return act(typed)
        except Unusable:
            pass
        except (*BESIDE, TooMany) as refusal:
            typed.refuse(refusal)
            status = refusal.status
        return again(typed, status)

    def _done(self, word: str) -> AnyResponse:
        return self._ui.go(url_for("admin.people"), word)

    def _environments(self) -> list[str]:
        return [view.environment.key for view in self._ui.services.environments.all()]


def routes(blueprint: Blueprint, ui: Interface, guard: Guard) -> None:
    """Add the addresses around people."""
    people = People(ui, guard)
    add, here = blueprint.add_url_rule, "/settings/people"
    add(here, "people", people.everybody)
    add(here, "person_invite", people.invite, methods=["POST"])
    add(f"{here}/<id>", "person", people.person)
    add(f"{here}/<id>", "person_edit", people.edit, methods=["POST"])
    add(f"{here}/<id>/end", "person_end", people.end, methods=["POST"])
    add(f"{here}/<id>/forget", "person_forget", people.forget, methods=["POST"])
    add(f"{here}/<id>/invite", "person_invite_again", people.invite_again, methods=["POST"])
    add("/account", "account", people.account)
    add("/account", "password_change", people.change_password, methods=["POST"])
