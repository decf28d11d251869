"""One flag: its card in every environment, its history, and changing what it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flask import Blueprint, Response, request, url_for
from sortition.core.conditions import OPERATORS
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.commands import Reasoned, StateEdit
from flagserver.domain.errors import Conflict, Invalid, Locked, NotFound, StaleRevision
from flagserver.domain.flags import State
from flagserver.domain.staleness import Asked, stale

from .. import served
from ..cards import Desk
from ..changing import Changing, read_change, seen
from ..forms import (
    Typed,
    Unusable,
    build_edit,
    read_flag_edit,
    read_reason,
    read_revision,
    read_share,
)
from ..interface import Interface, now, principal
from ..serving_form import ATTRIBUTES, read_serving, sheet_of, sheet_typed
from ..story import line
from ..waiting import waiting_for

HISTORY = 30

Forms = Mapping[str, Typed]
"""Environment -> what was typed into its form and could not be used."""


class Flag:
    """The page of a flag, and the forms that change it."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services
        self._changing = Changing(ui)

    def show(self, key: str) -> Response:
        """The whole page."""
        return self._page(key)

    def live(self, key: str) -> Response:
        """The cards and the history."""
        return self._ui.fragment("_flag.html", **self._content(key, {}))

    # What it serves in an environment

    def share(self, key: str, environment: str) -> AnyResponse:
        """Change the share, or whatever a review was about."""
        typed = Typed(request.form.to_dict())
        carried: StateEdit | None = None
        try:
            carried = read_change(typed) if "change" in typed.values else None
            command = carried or read_share(typed)
            return self._changing.change(key, environment, command, typed)
        except Unusable:
            return self._again(key, environment, typed, 422)
        except (Invalid, Locked) as refusal:
            typed.refuse(refusal)
            return self._page(key, {environment: typed}, status=refusal.status)

    def serving(self, key: str, environment: str) -> AnyResponse:
        """The form for share, variants, conditions and prerequisites."""
        return self._sheet(key, environment, Typed())

    def serve(self, key: str, environment: str) -> AnyResponse:
        """Change whatever of it was changed in the form."""
        typed = Typed(request.form.to_dict())
        flag = self._services.flags.get(key).flag
        try:
            wanted = read_serving(flag, typed)
            command = build_edit(typed, served.changed(seen(typed), wanted))
            return self._changing.change(key, environment, command, typed)
        except Unusable:
            return self._sheet(key, environment, typed, status=422)
        except (Invalid, Locked) as refusal:
            typed.refuse(refusal)
            return self._sheet(key, environment, typed, status=refusal.status)

    def undo(self, key: str, environment: str) -> AnyResponse:
        """Serve again what was served before an entry of the record: a new revision, as any other
        change."""
        typed = Typed(request.form.to_dict())
        try:
            fields = self._before(key, environment, typed)
            command = build_edit(typed, fields)
            return self._changing.change(key, environment, command, typed)
        except Unusable:
            return self._page(key, {environment: typed}, status=422)
        except (Invalid, Locked) as refusal:
            typed.refuse(refusal)
            return self._page(key, {environment: typed}, status=refusal.status)

    def _before(self, key: str, environment: str, typed: Typed) -> dict[str, object]:
        entry = typed.text("entry")
        seq = int(entry) if entry.isascii() and entry.isdigit() and len(entry) < 16 else 0
        found = self._services.flags.history(key, environment=environment, before=seq + 1, limit=1)
        # The history of an environment has entries of the flag itself too: they tell of no serving.
        here = [each for each in found if each["seq"] == seq and each["environment"] == environment]
        if not here or not here[0].get("before"):
            raise NotFound("The record has no such entry of this flag.")
        return served.of_body(here[0]["before"])

    def _again(self, key: str, environment: str, typed: Typed, status: int) -> Response:
        """Show the form that was sent, as it was typed: the review's, or the card's."""
        if "reviewed" in typed.values and "" not in typed.errors:
            only = Typed({"change": typed.text("change")})
            return self._changing.review(key, environment, read_change(only), typed, status=status)
        return self._page(key, {environment: typed}, status=status)

    def _sheet(self, key: str, environment: str, typed: Typed, status: int = 200) -> AnyResponse:
        flag = self._services.flags.get(key).flag
        if flag.archived:
            raise Conflict(f"{key} is archived. Unarchive it before changing it.")
        view = self._services.flags.state(key, environment)
        fields = served.of_state(view.state)
        others = [v.flag for v in self._services.flags.all() if v.flag.key != key]
        return self._ui.page(
            "serving.html",
            status=status,
            flag=flag,
            environment=self._services.environments.get(environment).environment,
            view=view,
            form=typed,
            sheet=sheet_typed(flag, typed) if typed.values else sheet_of(flag, fields),
            revision=typed.text("revision", str(view.revision)),
            seen=typed.text("seen", served.written(fields)),
            operators=list(OPERATORS),
            attributes=ATTRIBUTES,
            others=others,
        )

    # The flag itself

    def editing(self, key: str) -> Response:
        """The form for description, owner and kind."""
        flag = self._services.flags.get(key)
        told = {name: getattr(flag.flag, name) for name in ("description", "owner", "kind")}
        return self._edit_page(key, Typed({**told, "revision": str(flag.revision)}))

    def edit(self, key: str) -> AnyResponse:
        """Change description, owner or kind."""
        typed = Typed(request.form.to_dict())
        try:
            command, revision = read_flag_edit(typed), read_revision(typed)
            self._services.flags.edit(key, command, revision, principal())
        except Unusable:
            return self._edit_page(key, typed, status=422)
        except StaleRevision:
            now_there = self._services.flags.get(key)
            typed.errors[""] = (
                "Somebody else edited it meanwhile. Below each field is what it says now; send the "
                "form again to replace that."
            )
            fresh = {**typed.values, "revision": str(now_there.revision)}
            return self._edit_page(key, Typed(fresh, typed.errors), status=412)
        return self._ui.go(url_for("admin.flag", key=key), "edited")

    def _edit_page(self, key: str, typed: Typed, status: int = 200) -> Response:
        flag = self._services.flags.get(key).flag
        return self._ui.page("flag_edit.html", status=status, flag=flag, form=typed)

    def archiving(self, key: str) -> Response:
        """Say what archiving does, or bringing back."""
        view = self._services.flags.get(key)
        return self._archive_page(key, Typed({"revision": str(view.revision)}))

    def archive(self, key: str) -> AnyResponse:
        """Archive a flag, or bring one back that is archived."""
        typed = Typed(request.form.to_dict())
        flags = self._services.flags
        act = flags.unarchive if flags.get(key).flag.archived else flags.archive
        try:
            command: Reasoned = read_reason(typed)
            act(key, command, read_revision(typed), principal())
        except Unusable:
            return self._archive_page(key, typed, status=422)
        except (StaleRevision, Conflict, Locked) as refusal:
            typed.errors[""] = refusal.detail
            fresh = {**typed.values, "revision": str(flags.get(key).revision)}
            return self._archive_page(key, Typed(fresh, typed.errors), status=refusal.status)
        return self._ui.go(
            url_for("admin.flag", key=key), "archived" if act == flags.archive else "back"
        )

    def _archive_page(self, key: str, typed: Typed, status: int = 200) -> Response:
        view = self._services.flags.get(key)
        return self._ui.page("flag_archive.html", status=status, flag=view.flag, form=typed)

    # How it is shown

    def _page(self, key: str, forms: Forms | None = None, status: int = 200) -> Response:
        return self._ui.page("flag.html", status=status, **self._content(key, forms or {}))

    def _content(self, key: str, forms: Forms) -> dict[str, object]:
        view = self._services.flags.get(key)
        before = request.args.get("before", None, type=int)
        history = self._services.flags.history(key, before=before, limit=HISTORY + 1)
        desk = Desk(self._services, now())
        critical = [each.key for each in desk.environments if each.critical]
        counted = [
            view.states[name].state for name in critical or view.states if name in view.states
        ]
        return {
            "flag": view.flag,
            "cards": desk.cards(view, detail=True),
            "waiting": waiting_for(self._services, principal(), f"flag/{key}"),
            "stale": stale(view.flag, counted, self._last_asked(counted), now()),
            "forms": forms,
            "no_form": Typed(),
            "history": [line(entry) for entry in history[:HISTORY]],
            "before": before,
            "older": history[HISTORY - 1]["seq"] if len(history) > HISTORY else None,
            "revisions": {name: state.revision for name, state in view.states.items()},
            "seen": {
                name: served.written(served.of_state(state.state))
                for name, state in view.states.items()
            },
        }

    def _last_asked(self, states: Sequence[State]) -> dict[str, Asked]:
        last = self._services.outcomes.asking.last
        return {state.environment: last(state.environment) for state in states}


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of one flag."""
    flag = Flag(ui)
    here = "/flags/<key>/environments/<environment>"
    add = blueprint.add_url_rule
    add("/flags/<key>", "flag", flag.show)
    add("/ui/flags/<key>", "flag_live", flag.live)
    add("/flags/<key>/edit", "flag_editing", flag.editing)
    add("/flags/<key>/edit", "flag_edit", flag.edit, methods=["POST"])
    add("/flags/<key>/archive", "flag_archiving", flag.archiving)
    add("/flags/<key>/archive", "flag_archive", flag.archive, methods=["POST"])
    add(f"{here}/share", "flag_share", flag.share, methods=["POST"])
    add(f"{here}/serving", "flag_serving", flag.serving)
    add(f"{here}/serving", "flag_serve", flag.serve, methods=["POST"])
    add(f"{here}/undo", "flag_undo", flag.undo, methods=["POST"])
