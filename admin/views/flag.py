"""One flag: its card in every environment, its history, and changing its share."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.commands import StateEdit
from flagserver.domain.errors import (
    ConfirmationRequired,
    Invalid,
    ReasonRequired,
    StaleRevision,
)
from flagserver.domain.flags import same

from ..cards import Desk
from ..forms import Typed, Unusable, read_revision, read_share
from ..interface import Interface, now, principal
from ..review import Review, extra_per_hour
from ..story import line

HISTORY = 30

Forms = Mapping[str, Typed]
"""Environment -> what was typed into its form and could not be used."""


class Flag:
    """The page of a flag, and the form that changes its share."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def show(self, key: str) -> Response:
        """The whole page."""
        return self._page(key)

    def live(self, key: str) -> Response:
        """The cards and the history."""
        return self._ui.fragment("_flag.html", **self._content(key, {}))

    def share(self, key: str, environment: str) -> AnyResponse:
        """Change the share: at once when nothing is enlarged, else after a review."""
        typed = Typed(request.form.to_dict())
        try:
            return self._change(key, environment, typed)
        except Unusable:
            return self._again(key, environment, typed)
        except Invalid as refusal:
            typed.refuse(refusal)
            return self._again(key, environment, typed)

    def _change(self, key: str, environment: str, typed: Typed) -> AnyResponse:
        command, revision = read_share(typed), read_revision(typed)
        plan = self._services.flags.plan(key, environment, command)
        if same(plan.before.state, plan.after):
            return self._done(key, "same", environment)
        if revision != plan.before.revision:
            return self._stale(key, environment, typed)
        if plan.enlarges and "reviewed" not in typed.values:
            return self._review(key, environment, command, typed)
        try:
            after = self._services.flags.change(key, environment, command, revision, principal())
        except (ReasonRequired, ConfirmationRequired) as refusal:
            typed.refuse(refusal)
            return self._review(key, environment, command, typed, status=422)
        except StaleRevision:
            return self._stale(key, environment, typed)
        return self._done(key, "saved", environment, after.revision)

    def _again(self, key: str, environment: str, typed: Typed) -> Response:
        """Show the form that was sent, as it was typed: the review's, or the card's."""
        if "reviewed" in typed.values and "share" not in typed.errors:
            only_share = read_share(Typed({"share": typed.text("share")}))
            return self._review(key, environment, only_share, typed, status=422)
        return self._page(key, {environment: typed}, status=422)

    def _done(self, key: str, word: str, environment: str, revision: int = 0) -> AnyResponse:
        there = url_for("admin.flag", key=key, _anchor=f"in-{environment}")
        return self._ui.go(there, word, environment, revision)

    def _review(
        self, key: str, environment: str, command: StateEdit, typed: Typed, status: int = 200
    ) -> Response:
        plan = self._services.flags.plan(key, environment, command)
        exposure = self._services.outcomes.exposure(environment, key)
        review = Review(
            flag=self._services.flags.get(key).flag,
            environment=self._services.environments.get(environment).environment,
            before=plan.before.state,
            revision=plan.before.revision,
            after=plan.after,
            more=extra_per_hour(plan.before.state, plan.after, exposure),
        )
        there = url_for("admin.flag_share", key=key, environment=environment)
        return self._ui.page("review.html", status=status, review=review, form=typed, action=there)

    def _stale(self, key: str, environment: str, typed: Typed) -> Response:
        latest = self._services.flags.history(key, environment=environment, limit=1)
        return self._ui.page(
            "stale.html",
            status=412,
            flag=self._services.flags.get(key).flag,
            environment=self._services.environments.get(environment).environment,
            view=self._services.flags.state(key, environment),
            form=typed,
            latest=line(latest[0]) if latest else None,
        )

    def _page(self, key: str, forms: Forms | None = None, status: int = 200) -> Response:
        return self._ui.page("flag.html", status=status, **self._content(key, forms or {}))

    def _content(self, key: str, forms: Forms) -> dict[str, object]:
        view = self._services.flags.get(key)
        history = self._services.flags.history(key, limit=HISTORY)
        desk = Desk(self._services, now())
        return {
            "flag": view.flag,
            "cards": desk.cards(view, detail=True),
            "forms": forms,
            "no_form": Typed(),
            "history": [line(entry) for entry in history],
        }


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of one flag."""
    flag = Flag(ui)
    blueprint.add_url_rule("/flags/<key>", "flag", flag.show)
    blueprint.add_url_rule("/ui/flags/<key>", "flag_live", flag.live)
    blueprint.add_url_rule(
        "/flags/<key>/environments/<environment>/share",
        "flag_share",
        flag.share,
        methods=["POST"],
    )
