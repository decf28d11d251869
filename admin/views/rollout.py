"""One rollout: how it stands, and everything that may be done to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.errors import (
    ConfirmationRequired,
    Conflict,
    Invalid,
    ReasonRequired,
    StaleRevision,
)
from flagserver.services.rollouts import Enlarge

from .. import differences, judged, progress
from ..board import Board
from ..forms import Typed, Unusable, read_enlarging, read_reason, read_revision
from ..interface import Interface, now, principal
from ..moves import Move
from ..progress import Progress, Weight
from ..story import line
from ..waiting import waiting_for

EVENTS = 40
LOOKS = 400

WORDS = {
    "begin": "begun",
    "hold": "held",
    "resume": "resumed",
    "advance": "advanced",
    "approve": "approved",
}
"""Verb -> what the next page says of it; see `notices`."""


class Rollout:
    """The page of a rollout, and the forms that act on it."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    # How it stands

    def show(self, id: str) -> Response:
        """The whole page."""
        return self._page(id)

    def live(self, id: str) -> Response:
        """How it stands: its steps, its targets and its guards."""
        return self._ui.fragment("_rollout.html", **self._standing(self._board().one(id)))

    def story(self, id: str) -> Response:
        """What happened to it, and what it is."""
        return self._ui.fragment("_rollout_story.html", **self._told(self._board().one(id)))

    def charts(self, id: str) -> Response:
        """The charts."""
        found = self._board().one(id)
        return self._ui.fragment("_charts.html", progress=found, charts=self._drawn(found))

    def differences(self, id: str) -> Response:
        """How both versions of a split differ."""
        found = self._board().one(id)
        return self._ui.fragment("_differences.html", **self._compared(found))

    # What lets nothing grow: at once, to whatever it has become

    def ask(self, id: str) -> Response:
        """The page that *Roll back* leads to where a browser cannot ask in place."""
        return self._ask(id, Typed())

    def roll_back(self, id: str) -> AnyResponse:
        """Take it back. Why can be said later."""
        typed = Typed(request.form.to_dict())
        try:
            self._services.rollouts.roll_back(id, read_reason(typed), principal())
        except Unusable:
            return self._ask(id, typed, 422)
        except Conflict as refusal:
            typed.refuse(refusal)
            return self._ask(id, typed, 409)
        return self._done(id, "takenback")

    def hold(self, id: str) -> AnyResponse:
        """Stop the timer and every move up."""
        typed = Typed(request.form.to_dict())
        try:
            held = self._services.rollouts.hold(id, read_reason(typed), principal())
        except Unusable:
            return self._page(id, typed, 422)
        except Conflict as refusal:
            typed.refuse(refusal)
            return self._page(id, typed, 409)
        return self._done(id, "heldflags" if held.rollout.mirrors else "held")

    def note(self, id: str) -> AnyResponse:
        """Add words to its record."""
        typed = Typed(request.form.to_dict())
        try:
            self._services.rollouts.note(id, read_reason(typed), principal())
        except Unusable:
            return self._page(id, typed, 422)
        except Invalid as refusal:
            typed.refuse(refusal)
            return self._page(id, typed, 422)
        return self._done(id, "noted")

    # What lets exposure grow: reviewed where that is critical, at the revision that was seen

    def review(self, id: str, verb: str) -> AnyResponse:
        """Show what it does, and ask why."""
        return self._review(id, verb, Typed())

    def act(self, id: str, verb: str) -> AnyResponse:
        """Do it, if it is still the rollout that was looked at."""
        typed = Typed(request.form.to_dict())
        try:
            command, revision = read_enlarging(typed), read_revision(typed)
            self._verb(verb)(id, command, revision, principal())
        except Unusable:
            return self._review(id, verb, typed, 422)
        except (ReasonRequired, ConfirmationRequired) as refusal:
            typed.refuse(refusal)
            return self._review(id, verb, typed, 422)
        except StaleRevision:
            return self._review(id, verb, typed, 412)
        except Conflict as refusal:
            typed.refuse(refusal)
            return self._page(id, typed, 409)
        return self._done(id, WORDS[verb])

    def _verb(self, verb: str) -> Enlarge:
        verbs: Mapping[str, Enlarge] = {
            "begin": self._services.rollouts.begin,
            "resume": self._services.rollouts.resume,
            "advance": self._services.rollouts.advance,
            "approve": self._services.rollouts.approve,
        }
        return verbs[verb]

    # Pages

    def _review(self, id: str, verb: str, typed: Typed, status: int = 200) -> AnyResponse:
        before = self._board().one(id)
        try:
            command, revision = read_enlarging(Typed()), before.view.revision
            after = self._verb(verb)(id, command, revision, principal(), dry=True)
        except Conflict as refusal:
            typed.refuse(refusal)
            return self._page(id, typed, 409)
        if after.rollout == before.rollout:
            return self._done(id, "unchanged")
        return self._ui.page(
            "rollout_review.html",
            status=status,
            progress=before,
            move=Move(verb, before, replace(before, view=after)),
            form=typed,
            meanwhile=self._meanwhile(before, typed) if status == 412 else [],
        )

    def _meanwhile(self, found: Progress, typed: Typed) -> list[Any]:
        """Return what happened to a rollout since a form was made: a revision for each entry."""
        behind = found.view.revision - int(typed.text("revision"))
        history = self._services.rollouts.history(
            found.rollout.id, principal(), limit=max(1, min(behind, EVENTS))
        )
        return [line(entry) for entry in history]

    def _ask(self, id: str, typed: Typed, status: int = 200) -> Response:
        found = self._board().one(id)
        return self._ui.page("rollback.html", status=status, progress=found, form=typed)

    def _page(self, id: str, typed: Typed | None = None, status: int = 200) -> Response:
        found = self._board().one(id)
        return self._ui.page(
            "rollout.html",
            status=status,
            charts=self._drawn(found),
            form=typed or Typed(),
            waiting=waiting_for(self._services, principal(), found.rollout.name),
            **(self._standing(found) | self._compared(found) | self._told(found)),
        )

    def _standing(self, found: Progress) -> dict[str, Any]:
        judgement = self._services.rollouts.judgement(found.view)
        return {
            "progress": found,
            "judgement": judgement,
            "weights": [self._reached(found, each) for each in progress.weights(found)],
            "guards": judged.rows(found.rollout, found.look, judgement),
        }

    def _told(self, found: Progress) -> dict[str, Any]:
        history = self._services.rollouts.history(found.rollout.id, principal(), limit=EVENTS)
        # All of it is in one environment, which stands above.
        events = [replace(line(entry), environment=None) for entry in history]
        return {"progress": found, "events": events}

    def _compared(self, found: Progress) -> dict[str, Any]:
        shown = None
        if found.holds_split:
            grounds = self._services.grounds
            shown = differences.table(grounds.differences(found.rollout.id, principal()))
        return {"progress": found, "differences": shown}

    def _drawn(self, found: Progress) -> list[judged.Chart]:
        looks = self._services.rollouts.looks(found.rollout.id, principal(), limit=LOOKS)
        return judged.charts(found.rollout, looks)

    def _reached(self, found: Progress, weight: Weight) -> Weight:
        """Return a flag's share with what services really served of it, while it moves."""
        if not weight.target.is_flag or found.is_over:
            return weight
        exposure = self._services.outcomes.exposure(found.environment.key, weight.target.name)
        return replace(weight, reached=exposure.share, drawn=exposure.assignments)

    def _board(self) -> Board:
        return Board(self._services, principal(), now())

    def _done(self, id: str, word: str) -> AnyResponse:
        return self._ui.go(url_for("admin.rollout", id=id), word)


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of one rollout."""
    rollout = Rollout(ui)
    here, add = "/rollouts/<id>", blueprint.add_url_rule
    verb = f"{here}/<any({', '.join(progress.ENLARGING)}):verb>"
    add(here, "rollout", rollout.show)
    add("/ui/rollouts/<id>", "rollout_live", rollout.live)
    add("/ui/rollouts/<id>/story", "rollout_story", rollout.story)
    add("/ui/rollouts/<id>/differences", "rollout_differences", rollout.differences)
    add("/ui/rollouts/<id>/charts", "rollout_charts", rollout.charts)
    add(f"{here}/rollback", "rollout_rollback_ask", rollout.ask)
    add(f"{here}/rollback", "rollout_rollback", rollout.roll_back, methods=["POST"])
    add(f"{here}/hold", "rollout_hold", rollout.hold, methods=["POST"])
    add(f"{here}/note", "rollout_note", rollout.note, methods=["POST"])
    add(verb, "rollout_review", rollout.review)
    add(verb, "rollout_act", rollout.act, methods=["POST"])
