"""Signing in by a one-time link, signing out, and which colours a browser likes."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.errors import Unauthenticated
from flagserver.services.sessions import SESSION_SECONDS

from ..guard import Guard
from ..interface import THEME_COOKIE, THEMES, YEAR_SECONDS, Interface, visitor

MAX_SECRET = 200


class Sessions:
    """In and out."""

    def __init__(self, ui: Interface, guard: Guard) -> None:
        self._ui = ui
        self._guard = guard

    def signed_out(self) -> Response:
        """Say how to get a link."""
        return self._ui.page("signed_out.html", problem=None)

    def sign_in(self, secret: str) -> Response:
        """Show a button, so that whoever only previews the link does not spend it."""
        return self._ui.page("sign_in.html", secret=secret[:MAX_SECRET])

    def spend_link(self, secret: str) -> AnyResponse:
        """Spend the link and begin a session."""
        try:
            session = self._ui.services.sessions.sign_in(secret[:MAX_SECRET])
        except Unauthenticated as refusal:
            return self._ui.page("signed_out.html", status=401, problem=refusal.detail)
        there = self._ui.go(url_for("admin.overview"))
        self._ui.set_cookie(there, self._guard.cookie, session, max_age=SESSION_SECONDS)
        return there

    def sign_out(self) -> AnyResponse:
        """End the session here and in the store."""
        who = visitor()
        if who is not None:
            self._guard.forget(who.secret)
            self._ui.services.sessions.sign_out(who.secret)
        there = self._ui.go(url_for("admin.signed_out"))
        self._ui.drop_cookie(there, self._guard.cookie)
        return there

    def choose_theme(self) -> AnyResponse:
        """Remember the colours and go back to where the button was."""
        chosen = request.form.get("theme", "auto")
        there = self._ui.go(_back())
        if chosen in THEMES:
            self._ui.set_cookie(there, THEME_COOKIE, chosen, max_age=YEAR_SECONDS)
        return there


def _back() -> str:
    """Return the path of the page that a form was on, or the overview's; never another host."""
    back = urlsplit(request.form.get("back", ""))
    local = back.path.startswith("/") and not back.path.startswith("//") and "\\" not in back.path
    if back.scheme or back.netloc or not local:
        return url_for("admin.overview")
    return back.path + (f"?{back.query}" if back.query else "")


def routes(blueprint: Blueprint, ui: Interface, guard: Guard) -> None:
    """Add the addresses around sessions."""
    sessions = Sessions(ui, guard)
    blueprint.add_url_rule("/sign-in", "signed_out", sessions.signed_out)
    blueprint.add_url_rule("/sign-in/<secret>", "sign_in", sessions.sign_in)
    blueprint.add_url_rule("/sign-in/<secret>", "spend_link", sessions.spend_link, methods=["POST"])
    blueprint.add_url_rule("/sign-out", "sign_out", sessions.sign_out, methods=["POST"])
    blueprint.add_url_rule("/theme", "theme", sessions.choose_theme, methods=["POST"])
