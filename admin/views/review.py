"""How rollouts went, and saying of one whether it was rightly taken back."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain import review
from flagserver.domain.review import Mark
from flagserver.services.reviewing import MarkBody

from ..forms import Typed, Unusable, build, reason
from ..interface import Interface, principal

PERIODS = (7, 30, 90)

MARKS = {
    Mark.RIGHT: "Right",
    Mark.FALSE: "False alarm",
    Mark.MISSED: "Missed",
}


class Reviews:
    """One page, and the marks on it."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def show(self) -> Response:
        """The figures of some days, what raises a review, and every rollout."""
        return self._page()

    def mark(self, id: str) -> AnyResponse:
        """Say something of a rollout; what was said before is taken back by saying it again."""
        typed = Typed(request.form.to_dict())
        mark = typed.text("mark") or None
        try:
            command = build(MarkBody, typed, mark=mark, reason=reason(typed))
        except Unusable:
            return self._page(typed, status=422)
        self._services.reviewing.mark(id, command, principal())
        there = url_for("admin.review", **_address(typed.text("env"), typed.text("days")))
        return self._ui.go(f"{there}#run-{id}", "marked" if mark else "unmarked")

    def _page(self, typed: Typed | None = None, status: int = 200) -> Response:
        keys = [each.environment.key for each in self._services.environments.all()]
        environment = request.args.get("env", "")
        environment = environment if environment in keys else ""
        days = request.args.get("days", 30, type=int)
        days = days if days in PERIODS else 30
        seen = self._services.reviewing.review(days, environment or None, principal())
        return self._ui.page(
            "review_page.html",
            status=status,
            review=seen.review,
            rollouts=seen.rollouts,
            days=days,
            environment=environment,
            environments=keys,
            periods=PERIODS,
            marks=MARKS,
            may_mark=review.may_mark,
            form=typed or Typed(),
        )


def _address(environment: str, days: str) -> dict[str, Any]:
    given = {"env": environment[:100], "days": days[:3]}
    return {name: value for name, value in given.items() if value}


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the review."""
    reviews = Reviews(ui)
    blueprint.add_url_rule("/review", "review", reviews.show)
    blueprint.add_url_rule("/review/<id>", "review_mark", reviews.mark, methods=["POST"])
