"""What waits for a second person: the list, and the page on which somebody approves."""

from __future__ import annotations

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.approvals import Approve
from flagserver.domain.errors import (
    ApprovalRequired,
    ConfirmationRequired,
    Conflict,
    Forbidden,
    Invalid,
    ReasonRequired,
    TargetUnavailable,
)
from flagserver.services.proposals import ProposalView

from .. import guard_form, proposed
from ..forms import Typed, Unusable, build, read_enlarging, read_reason
from ..interface import Interface, principal
from ..waiting import Waiting, gathered

REFUSED = (Conflict, Invalid, ReasonRequired, ConfirmationRequired, TargetUnavailable, Forbidden)
"""What is said on the page of what waits. A store that is away has a page of its own."""


class Approvals:
    """Two pages, and the forms of the second."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def list(self) -> Response:
        """What waits, and what has waited lately."""
        found = [self._waiting(view) for view in self._services.approvals.all(principal())]
        return self._ui.page("approvals.html", waiting=found)

    def show(self, id: str) -> Response:
        """What somebody asked for."""
        return self._page(id, Typed())

    def approve(self, id: str) -> AnyResponse:
        """Approve, which carries it out."""
        typed = Typed(request.form.to_dict())
        try:
            why = read_enlarging(typed).model_dump()
            command = build(Approve, typed, hash=typed.text("hash"), **why)
            done = self._services.approvals.approve(id, command, principal())
        except Unusable:
            return self._page(id, typed, 422)
        except REFUSED as refusal:
            typed.refuse(refusal)
            return self._page(id, typed, refusal.status)
        return self._ui.go(self._outcome(done), "carriedout")

    def withdraw(self, id: str) -> AnyResponse:
        """Let it wait no longer."""
        typed = Typed(request.form.to_dict())
        try:
            self._services.approvals.withdraw(id, read_reason(typed), principal())
        except Unusable:
            return self._page(id, typed, 422)
        except REFUSED as refusal:
            typed.refuse(refusal)
            return self._page(id, typed, refusal.status)
        return self._ui.go(url_for("admin.approval", id=id), "withdrawn")

    def wanted(self, refusal: ApprovalRequired) -> AnyResponse:
        """Go to the page of what waits now, whatever form asked for it."""
        return self._ui.go(url_for("admin.approval", id=refusal.approval), "asked")

    def _outcome(self, view: ProposalView) -> str:
        kind, _, name = (view.proposal.outcome or "").partition("/")
        if kind == "rollout":
            return url_for("admin.rollout", id=name)
        here = f"in-{view.proposal.asked.environment}"
        return url_for("admin.flag", key=name, _anchor=here)

    def _page(self, id: str, typed: Typed, status: int = 200) -> Response:
        view = self._services.approvals.get(id, principal())
        return self._ui.page(
            "approval.html",
            status=status,
            it=self._waiting(view),
            view=view,
            form=typed,
            limit_told=guard_form.limit_told,
            watches=guard_form.watches,
            settings=proposed.settings,
        )

    def _waiting(self, view: ProposalView) -> Waiting:
        return gathered(self._services, view)


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of what waits."""
    pages = Approvals(ui)
    here, add = "/approvals/<id>", blueprint.add_url_rule
    add("/approvals", "approvals", pages.list)
    add(here, "approval", pages.show)
    add(f"{here}/approve", "approval_approve", pages.approve, methods=["POST"])
    add(f"{here}/withdraw", "approval_withdraw", pages.withdraw, methods=["POST"])
    blueprint.register_error_handler(ApprovalRequired, pages.wanted)
