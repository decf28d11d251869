"""Environments, schedules, tokens and whom notices go to."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.access import MANAGE
from flagserver.domain.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Refusal,
    RevisionRequired,
    StaleRevision,
)
from flagserver.domain.retention import LEAST_DAYS, MOST_DAYS
from flagserver.services.notifying import Tested

from ..forms import Typed, Unusable, read_reason, read_revision
from ..interface import Interface, may, now, principal
from ..settings_forms import read_edit, read_environment, read_template, read_token

PERSONAL = (Invalid, Conflict, AlreadyExists, NotFound, StaleRevision, RevisionRequired)
"""Refusals that belong beside the form that was sent."""


class Settings:
    """A page for each sort of setting, and its forms."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def first(self) -> AnyResponse:
        """The first of the pages."""
        return self._ui.go(url_for("admin.environments"))

    # Environments

    def environments(self) -> Response:
        """What environments there are, and a form for another one."""
        return self._environments(Typed())

    def create_environment(self) -> AnyResponse:
        """Make an environment."""
        return self._sent(
            lambda typed: self._services.environments.create(read_environment(typed), principal()),
            self._environments,
            there="admin.environments",
            word="made",
        )

    def environment(self, key: str) -> Response:
        """One environment, to be edited."""
        view = self._services.environments.get(key)
        kept = view.environment
        told = {
            "description": kept.description,
            "critical": "yes" if kept.critical else "",
            "uniform": "yes" if kept.uniform else "",
            "four_eyes": "yes" if kept.four_eyes else "",
            "default_schedule": kept.default_schedule,
            "retention_days": str(kept.retention_days),
            "revision": str(view.revision),
        }
        return self._environment(key, Typed(told))

    def edit_environment(self, key: str) -> AnyResponse:
        """Edit an environment."""

        def edit(typed: Typed) -> None:
            command, revision = read_edit(typed), read_revision(typed)
            self._services.environments.edit(key, command, revision, principal())

        return self._sent(
            edit,
            lambda typed, status=422: self._environment(key, typed, status),
            there="admin.environments",
            word="edited",
        )

    def _environments(self, typed: Typed, status: int = 200) -> Response:
        views = self._services.environments.all()
        return self._ui.page(
            "settings_environments.html",
            status=status,
            views=list(reversed(views)),
            tokens=self._token_counts() if may(MANAGE) else {},
            form=typed,
        )

    def _environment(self, key: str, typed: Typed, status: int = 200) -> Response:
        view = self._services.environments.get(key)
        return self._ui.page(
            "settings_environment.html",
            status=status,
            view=view,
            days=(LEAST_DAYS, MOST_DAYS),
            names=[each.template.name for each in self._services.schedules.all([key])],
            form=typed,
        )

    def _token_counts(self) -> dict[str | None, int]:
        good = [token for token in self._services.tokens.all() if token.good(now())]
        return {
            environment: sum(token.environment == environment for token in good)
            for environment in {token.environment for token in good}
        }

    # Schedules

    def schedules(self) -> Response:
        """What rollouts can go by."""
        environments = [each.environment for each in self._services.environments.all()]
        return self._ui.page(
            "settings_schedules.html",
            views=self._services.schedules.all([each.key for each in environments]),
            environments=environments,
        )

    def schedule_new(self) -> Response:
        """An empty form."""
        return self._schedule(Typed({"environment": request.args.get("environment", "")}))

    def schedule(self, environment: str, name: str) -> Response:
        """A template, to be edited."""
        view = self._services.schedules.get(environment, name)
        told = {
            "environment": environment,
            "name": name,
            "schedule": view.template.schedule.text(),
            "description": view.template.description,
            "revision": str(view.revision) if view.revision else "",
        }
        return self._schedule(Typed(told))

    def put_schedule(self) -> AnyResponse:
        """Keep a template, a new one or in place of the revision that the form was made from."""

        def put(typed: Typed) -> None:
            where, name, command = read_template(typed)
            revision = read_revision(typed) if typed.text("revision") else None
            self._services.schedules.put(where, name, command, revision, principal())

        return self._sent(put, self._schedule, there="admin.schedules", word="edited")

    def delete_schedule(self, environment: str, name: str) -> AnyResponse:
        """Take a template away."""

        def delete(typed: Typed) -> None:
            command, revision = read_reason(typed), read_revision(typed)
            self._services.schedules.delete(environment, name, command, revision, principal())

        def again(typed: Typed, status: int = 422) -> Response:
            kept = self._services.schedules.get(environment, name)
            told = {
                "environment": environment,
                "name": name,
                "schedule": kept.template.schedule.text(),
                "description": kept.template.description,
                "revision": str(kept.revision),
            }
            return self._schedule(Typed(told, typed.errors), status)

        return self._sent(delete, again, there="admin.schedules", word="gone")

    def _schedule(self, typed: Typed, status: int = 200) -> Response:
        return self._ui.page(
            "settings_schedule.html",
            status=status,
            form=typed,
            environments=[each.environment for each in self._services.environments.all()],
        )

    # Tokens

    def tokens(self) -> Response:
        """What tokens there are, and a form for another one."""
        return self._tokens(Typed())

    def create_token(self) -> Response:
        """Make a token, and show its text this once."""
        typed = Typed(request.form.to_dict())
        try:
            made = self._services.tokens.create(read_token(typed), principal())
        except Unusable:
            return self._tokens(typed, status=422)
        except PERSONAL as refusal:
            typed.refuse(refusal)
            return self._tokens(typed, status=refusal.status)
        return self._tokens(Typed(), status=201, text=made.text, made=made.token.id)

    def revoking(self, id: str) -> Response:
        """Say what revoking does."""
        return self._revoking(id, Typed())

    def revoke(self, id: str) -> AnyResponse:
        """End a token."""
        return self._sent(
            lambda typed: self._services.tokens.revoke(id, read_reason(typed), principal()),
            lambda typed, status=422: self._revoking(id, typed, status),
            there="admin.tokens",
            word="revoked",
        )

    def _tokens(
        self, typed: Typed, status: int = 200, text: str | None = None, made: str = ""
    ) -> Response:
        allowed = may(MANAGE)
        return self._ui.page(
            "settings_tokens.html",
            status=status,
            tokens=self._services.tokens.all() if allowed else [],
            used=self._services.tokens.uses.last() if allowed else {},
            environments=[each.environment.key for each in self._services.environments.all()],
            form=typed,
            text=text,
            made=made,
        )

    def _revoking(self, id: str, typed: Typed, status: int = 200) -> Response:
        if not may(MANAGE):
            raise Forbidden("Only admins see which tokens there are.")
        found = next((token for token in self._services.tokens.all() if token.id == id), None)
        if found is None:
            raise NotFound(f"There is no token {id!r}.")
        return self._ui.page("settings_revoke.html", status=status, token=found, form=typed)

    # Notifications

    def notifications(self) -> Response:
        """Whom notices are brought to, and how far each has got."""
        return self._notifications(None)

    def test_notification(self, name: str) -> Response:
        """Send a test message, and say whether it arrived."""
        return self._notifications(self._services.notifying.test(name, principal()))

    def _notifications(self, tested: Tested | None) -> Response:
        return self._ui.page(
            "settings_notifications.html",
            channels=self._services.notifying.channels(),
            tested=tested,
        )

    # How

    def _sent(
        self,
        act: Callable[[Typed], object],
        again: Callable[..., Response],
        *,
        there: str,
        word: str,
    ) -> AnyResponse:
        """Do what a form says, and go on; or show it again as it was typed, with what is wrong."""
        typed = Typed(request.form.to_dict())
        try:
            act(typed)
        except Unusable:
            return again(typed, status=422)
        except PERSONAL as refusal:
            typed.refuse(refusal)
            return again(typed, status=_status(refusal))
        return self._ui.go(url_for(there), word)


def _status(refusal: Refusal) -> int:
    return 422 if refusal.status == 404 else refusal.status


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the settings."""
    settings = Settings(ui)
    add = blueprint.add_url_rule
    here = "/settings"
    add(here, "settings", settings.first)
    add(f"{here}/environments", "environments", settings.environments)
    add(f"{here}/environments", "environment_create", settings.create_environment, methods=["POST"])
    add(f"{here}/environments/<key>", "environment", settings.environment)
    add(
        *(f"{here}/environments/<key>", "environment_edit", settings.edit_environment),
        methods=["POST"],
    )
    add(f"{here}/schedules", "schedules", settings.schedules)
    add(f"{here}/schedules/new", "schedule_new", settings.schedule_new)
    add(f"{here}/schedules", "schedule_put", settings.put_schedule, methods=["POST"])
    add(f"{here}/schedules/<environment>/<name>", "schedule", settings.schedule)
    add(
        *(f"{here}/schedules/<environment>/<name>/delete", "schedule_delete"),
        settings.delete_schedule,
        methods=["POST"],
    )
    add(f"{here}/tokens", "tokens", settings.tokens)
    add(f"{here}/tokens", "token_create", settings.create_token, methods=["POST"])
    add(f"{here}/tokens/<id>/revoke", "token_revoking", settings.revoking)
    add(f"{here}/tokens/<id>/revoke", "token_revoke", settings.revoke, methods=["POST"])
    add(f"{here}/notifications", "notifications", settings.notifications)
    add(
        *(f"{here}/notifications/<name>/test", "notification_test", settings.test_notification),
        methods=["POST"],
    )
