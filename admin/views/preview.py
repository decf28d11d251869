"""A link by which a colleague sees a feature before anyone else: made here, shown once, revoked."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain import access
from flagserver.domain.errors import Conflict, Invalid, NotFound
from flagserver.domain.previews import LONGEST_HOURS, Link, NewPreview
from flagserver.services.previews import Made

from ..forms import Typed, Unusable, build, read_reason, reason
from ..interface import Interface, may, principal

HOURS = (1, 8, 24, 72, LONGEST_HOURS)


class Preview:
    """One form, what it made, and the links that are open."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def new(self, key: str, environment: str) -> Response:
        """An empty form."""
        return self._page(key, environment, Typed())

    def make(self, key: str, environment: str) -> Response:
        """Make a link, and show it this once."""
        typed = Typed(request.form.to_dict())
        hours = typed.text("hours")
        try:
            command = build(
                NewPreview,
                typed,
                variant=typed.text("variant"),
                hours=int(hours) if hours in {str(each) for each in HOURS} else 0,
                page=typed.text("page"),
                reason=reason(typed),
            )
            made = self._services.previews.make(key, environment, command, principal())
        except Unusable:
            return self._page(key, environment, typed, status=422)
        except (Invalid, Conflict) as refusal:
            typed.refuse(refusal)
            return self._page(key, environment, typed, status=refusal.status)
        return self._page(key, environment, Typed(), status=201, made=made)

    def revoke(self, key: str, environment: str, id: str) -> AnyResponse:
        """End a link."""
        typed = Typed(request.form.to_dict())
        try:
            command = read_reason(typed)
            self._services.previews.revoke(key, environment, id, command, principal())
        except Unusable:
            return self._page(key, environment, typed, status=422)
        except (NotFound, Conflict) as refusal:
            typed.refuse(refusal)
            return self._page(key, environment, typed, status=refusal.status)
        there = url_for("admin.preview_new", key=key, environment=environment)
        return self._ui.go(there, "linkrevoked")

    def _page(
        self,
        key: str,
        environment: str,
        typed: Typed,
        status: int = 200,
        made: Made | None = None,
    ) -> Response:
        return self._ui.page(
            "preview.html",
            status=status,
            flag=self._services.flags.get(key).flag,
            environment=self._services.environments.get(environment).environment,
            form=typed,
            hours=HOURS,
            made=made,
            links=self._open(key, environment),
            key=self._services.previews.public_key,
        )

    def _open(self, key: str, environment: str) -> Sequence[Link]:
        if not may(access.SHRINK, environment):
            return ()
        return self._services.previews.open(key, environment, principal())


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of previews."""
    preview = Preview(ui)
    here = "/flags/<key>/environments/<environment>/preview"
    blueprint.add_url_rule(here, "preview_new", preview.new)
    blueprint.add_url_rule(here, "preview_make", preview.make, methods=["POST"])
    revoke = f"{here}/<id>/revoke"
    blueprint.add_url_rule(revoke, "preview_revoke", preview.revoke, methods=["POST"])
