"""Killing a flag in an environment, which waits for nobody, and taking that back."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.errors import ConfirmationRequired, ReasonRequired, StaleRevision

from ..forms import Typed, Unusable, read_enlarging, read_reason, read_revision
from ..interface import Interface, principal
from ..review import Review, extra_per_hour


class Kill:
    """Two pages with one button each."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def ask(self, key: str, environment: str) -> Response:
        """The page that the kill button leads to where a browser cannot show it in place."""
        return self._ask(key, environment, Typed())

    def kill(self, key: str, environment: str) -> AnyResponse:
        """Kill, whatever the revision."""
        typed = Typed(request.form.to_dict())
        try:
            command = read_reason(typed)
        except Unusable:
            return self._ask(key, environment, typed, status=422)
        after = self._services.flags.kill(key, environment, command, principal())
        return self._done(key, "killed", environment, after.revision)

    def review(self, key: str, environment: str) -> AnyResponse:
        """Show what taking a kill back does."""
        return self._review(key, environment, Typed())

    def unkill(self, key: str, environment: str) -> AnyResponse:
        """Take a kill back: that enlarges, so it is reviewed and meant for one revision."""
        typed = Typed(request.form.to_dict())
        try:
            command, revision = read_enlarging(typed), read_revision(typed)
            after = self._services.flags.unkill(key, environment, command, revision, principal())
        except Unusable:
            return self._review(key, environment, typed, status=422)
        except (ReasonRequired, ConfirmationRequired) as refusal:
            typed.refuse(refusal)
            return self._review(key, environment, typed, status=422)
        except StaleRevision:
            typed.errors[""] = "It has changed since you looked. This is how it stands now."
            return self._review(key, environment, typed, status=412)
        return self._done(key, "unkilled", environment, after.revision)

    def _ask(self, key: str, environment: str, typed: Typed, status: int = 200) -> Response:
        return self._ui.page(
            "kill.html",
            status=status,
            flag=self._services.flags.get(key).flag,
            environment=self._services.environments.get(environment).environment,
            view=self._services.flags.state(key, environment),
            form=typed,
        )

    def _review(self, key: str, environment: str, typed: Typed, status: int = 200) -> AnyResponse:
        view = self._services.flags.state(key, environment)
        if not view.state.killed:
            return self._done(key, "same", environment)
        after = replace(view.state, killed=False)
        exposure = self._services.outcomes.exposure(environment, key)
        review = Review(
            flag=self._services.flags.get(key).flag,
            environment=self._services.environments.get(environment).environment,
            before=view.state,
            revision=view.revision,
            after=after,
            more=extra_per_hour(view.state, after, exposure),
        )
        there = url_for("admin.flag_unkill", key=key, environment=environment)
        return self._ui.page("review.html", status=status, review=review, form=typed, action=there)

    def _done(self, key: str, word: str, environment: str, revision: int = 0) -> AnyResponse:
        there = url_for("admin.flag", key=key, _anchor=f"in-{environment}")
        return self._ui.go(there, word, environment, revision)


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses around killing."""
    kill = Kill(ui)
    here = "/flags/<key>/environments/<environment>"
    blueprint.add_url_rule(f"{here}/kill", "flag_kill_ask", kill.ask)
    blueprint.add_url_rule(f"{here}/kill", "flag_kill", kill.kill, methods=["POST"])
    blueprint.add_url_rule(f"{here}/unkill", "flag_unkill_ask", kill.review)
    blueprint.add_url_rule(f"{here}/unkill", "flag_unkill", kill.unkill, methods=["POST"])
