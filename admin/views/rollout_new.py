"""Starting a rollout: the form, what it would really do, and the start."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain import access
from flagserver.domain.environments import Environment
from flagserver.domain.errors import ApprovalRequired, Refusal, StoreUnavailable, under
from flagserver.domain.schedule import Schedule
from flagserver.services.starting import Planned

from .. import guard_form
from ..board import Board
from ..forms import Typed, Unusable
from ..interface import Interface, may, now, principal
from ..rollout_form import carried, filled, once, read_rollout, refuse


@dataclass(frozen=True, slots=True)
class Preview:
    """What a form asks for, as it would be. environment: where."""

    planned: Planned
    environment: Environment


class NewRolloutPage:
    """One page: the form, and below it what it would do."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def form(self) -> Response:
        """The form: empty, for a flag, or as an older rollout was started."""
        return self._page(Typed(self._first_values()))

    def plan(self) -> Response:
        """What it would do; nothing is changed."""
        typed = Typed(request.form.to_dict())
        preview = self._preview(typed)
        return self._page(typed, preview, 200 if preview else 422)

    def start(self) -> AnyResponse:
        """Start what was previewed. Sent twice, it is one rollout."""
        typed = Typed(request.form.to_dict())
        try:
            command = read_rollout(typed, self._read)
        except Unusable:
            return self._page(typed, self._preview(typed), 422)
        except StoreUnavailable:
            raise
        except Refusal as refusal:
            refuse(typed, refusal, [])
            return self._page(typed, None, refusal.status)
        again = once(typed, principal().id, command)
        try:
            started = self._services.rollouts.start(command, principal(), again)
        except (StoreUnavailable, ApprovalRequired):
            raise
        except Refusal as refusal:
            refuse(typed, refusal, list(command.the_targets()))
            return self._page(typed, self._preview(typed), refusal.status)
        return self._ui.go(url_for("admin.rollout", id=started.rollout.id), "started")

    def _preview(self, typed: Typed) -> Preview | None:
        """Return what a form would do, or None and what is wrong with it."""
        errors = dict(typed.errors)
        # Why and the typed name are asked for below the preview: they cannot stop it.
        plain = Typed(carried(typed))
        try:
            command = read_rollout(plain, self._read)
        except Unusable:
            typed.errors.update(plain.errors)
            return None
        except StoreUnavailable:
            raise
        except Refusal as refusal:
            refuse(typed, refusal, [])
            return None
        try:
            planned = self._services.rollouts.plan(command, principal())
            environment = self._services.environments.get(command.environment).environment
        except StoreUnavailable:
            raise
        except Refusal as refusal:
            refuse(typed, refusal, list(command.the_targets()))
            return None
        typed.errors.update(errors)
        return Preview(planned, environment)

    def _page(self, typed: Typed, preview: Preview | None = None, status: int = 200) -> Response:
        gathered = Board(self._services, principal(), now())
        places = [e for e in gathered.environments if may(access.ROLL_OUT, e.key)]
        names = {view.template.name: view.template.schedule.text() for view in self._schedules()}
        return self._ui.page(
            "rollout_new.html",
            status=status,
            form=typed,
            preview=preview,
            environments=places,
            services=self._reporting(places),
            schedules=names,
            carried=carried(typed),
            guard_rows=guard_form.rows(typed),
            measures=guard_form.MEASURES,
            sources=[(name, name) for name in guard_form.SOURCES],
            limit_told=guard_form.limit_told,
            watches=guard_form.watches,
            once=typed.text("once") or secrets.token_hex(16),
        )

    def _read(self, environment: str, text: str | None) -> Schedule:
        """Return the schedule that a text means in an environment. Raises NotFound, Invalid."""
        known = self._services.environments.get(environment).environment
        with under("/schedule"):
            return self._services.schedules.read(known, text)

    def _schedules(self) -> Any:
        return self._services.schedules.all([e.environment.key for e in self._environments()])

    def _environments(self) -> Any:
        return self._services.environments.all()

    def _reporting(self, places: list[Environment]) -> list[str]:
        """Return the services that report in any of these environments."""
        found = {
            source["service.name"]
            for place in places
            for source in self._services.outcomes.sources(place.key)
        }
        return sorted(found)

    def _first_values(self) -> dict[str, str]:
        again = request.args.get("again")
        if again:
            return filled(self._services.rollouts.get(again, principal()).rollout)
        reporting = self._reporting([each.environment for each in self._environments()])
        return {
            "environment": request.args.get("environment", "")[:100],
            "flags": request.args.get("flag", "")[:100],
            # Where one service reports, whoever starts a rollout means that one.
            "service": reporting[0] if len(reporting) == 1 else "",
        }


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the form."""
    page = NewRolloutPage(ui)
    blueprint.add_url_rule("/rollouts/new", "rollout_new", page.form)
    blueprint.add_url_rule("/rollouts/new", "rollout_plan", page.plan, methods=["POST"])
    blueprint.add_url_rule("/rollouts/start", "rollout_start", page.start, methods=["POST"])
