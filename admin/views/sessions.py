"""Signing in by a link or a password, signing out, and which colours a browser likes."""

from __future__ import annotations

import math
from time import monotonic
from urllib.parse import urlsplit

from flask import Blueprint, Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    StoreUnavailable,
    TooMany,
    Unauthenticated,
)
from flagserver.domain.people import LONGEST_PASSWORD, SHORTEST_PASSWORD
from flagserver.services.introductions import INTRODUCTION_SECONDS
from flagserver.services.sessions import SESSION_SECONDS

from ..guard import Guard
from ..interface import THEME_COOKIE, THEMES, YEAR_SECONDS, Interface, visitor

MAX_SECRET = 200
MAX_LOGIN = 200
ANYBODY_SECONDS = 5.0
"""For so long it is remembered whether anybody signs in by a password: everybody is read for it."""
ALB_HEADER = "X-Amzn-Oidc-Data"


class Sessions:
    """In and out."""

    def __init__(self, ui: Interface, guard: Guard) -> None:
        self._ui = ui
        self._guard = guard
        self._anybody = (False, -math.inf)

    def signed_out(self) -> Response:
        """Ask for name and password, where people have such, and say how to get a link."""
        return self._signed_out()

    def sign_in_by_password(self) -> AnyResponse:
        """Begin a session by name and password."""
        typed = request.form.to_dict()
        try:
            secret = self._ui.services.people.sign_in(
                typed.get("login", "")[:MAX_LOGIN], typed.get("password", ""), self._ui.address()
            )
        except (Unauthenticated, TooMany) as refusal:
            return self._signed_out(refusal.detail, refusal.status, typed.get("login", ""))
        return self._begun(secret)

    def sign_in_outside(self) -> AnyResponse:
        """Send the browser to the identity provider, with a cookie to know it by later."""
        try:
            begun = self._ui.services.introductions.begin(self._ui.address())
        except (NotFound, Unauthenticated, TooMany) as refusal:
            return self._signed_out(refusal.detail, refusal.status)
        there = self._ui.go(begun.there)
        self._ui.set_cookie(there, self._oidc_cookie, begun.browser, max_age=INTRODUCTION_SECONDS)
        return there

    def sign_in_by_header(self) -> AnyResponse:
        """Begin a session for whom the load balancer has signed in."""
        token = ",".join(request.headers.getlist(ALB_HEADER))
        try:
            return self._begun(self._ui.services.introductions.by_header(token, self._ui.address()))
        except (NotFound, Unauthenticated, Forbidden, Conflict, TooMany) as refusal:
            return self._signed_out(refusal.detail, refusal.status)

    def back_from_outside(self) -> AnyResponse:
        """Begin a session with what the identity provider says."""
        there = self._back_from_outside()
        self._ui.drop_cookie(there, self._oidc_cookie)
        return there

    def _back_from_outside(self) -> AnyResponse:
        told = {name: request.args.get(name, "") for name in ("state", "code", "error")}
        browser = request.cookies.get(self._oidc_cookie, "")
        if told["error"]:
            # Its words are not shown: anybody can write an address with words in it.
            return self._signed_out("The identity provider did not let you in. Try again.", 401)
        try:
            return self._begun(
                self._ui.services.introductions.finish(told["state"], browser, told["code"])
            )
        except (NotFound, Unauthenticated, Forbidden, Conflict) as refusal:
            return self._signed_out(refusal.detail, refusal.status)

    @property
    def _oidc_cookie(self) -> str:
        return "__Host-sortition_oidc" if self._ui.secure_cookies else "sortition_oidc"

    def invitation(self, secret: str) -> Response:
        """Ask for a password; the link is not spent by being looked at."""
        return self._invitation(secret[:MAX_SECRET])

    def accept_invitation(self, secret: str) -> AnyResponse:
        """Set the password, spend the link and begin a session."""
        secret, typed = secret[:MAX_SECRET], request.form.to_dict()
        password = typed.get("password", "")
        if password != typed.get("again", ""):
            return self._invitation(secret, "The two are not the same.", 422)
        try:
            session = self._ui.services.people.accept(secret, password)
            self._anybody = (True, monotonic() + ANYBODY_SECONDS)
            return self._begun(session)
        except Invalid as refusal:
            return self._invitation(secret, refusal.detail, refusal.status)
        except Unauthenticated as refusal:
            return self._signed_out(refusal.detail, refusal.status)

    def sign_in(self, secret: str) -> Response:
        """Show a button, so that whoever only previews the link does not spend it."""
        return self._ui.page("sign_in.html", secret=secret[:MAX_SECRET])

    def spend_link(self, secret: str) -> AnyResponse:
        """Spend the link and begin a session."""
        try:
            session = self._ui.services.sessions.sign_in(secret[:MAX_SECRET])
        except Unauthenticated as refusal:
            return self._signed_out(refusal.detail, refusal.status)
        return self._begun(session)

    def _begun(self, session: str) -> AnyResponse:
        """Hand a session to the browser, in place of any that it had."""
        self._end(request.cookies.get(self._guard.cookie, ""))
        there = self._ui.go(url_for("admin.overview"))
        self._ui.set_cookie(there, self._guard.cookie, session, max_age=SESSION_SECONDS)
        return there

    def _signed_out(
        self, problem: str | None = None, status: int = 200, login: str = ""
    ) -> Response:
        return self._ui.page(
            "signed_out.html",
            status=status,
            problem=problem,
            by_password=self._by_password(),
            provider=self._ui.services.introductions.name,
            by_header=self._ui.services.introductions.has_header,
            login=login[:MAX_LOGIN],
        )

    def _by_password(self) -> bool:
        found, until = self._anybody
        now = monotonic()
        if now < until:
            return found
        try:
            found = self._ui.services.people.anybody()
        except StoreUnavailable:
            return False
        self._anybody = (found, now + ANYBODY_SECONDS)
        return found

    def _invitation(self, secret: str, problem: str | None = None, status: int = 200) -> Response:
        try:
            person = self._ui.services.people.invited(secret)
        except Unauthenticated as refusal:
            return self._signed_out(refusal.detail, refusal.status)
        return self._ui.page(
            "invitation.html",
            status=status,
            secret=secret,
            person=person,
            problem=problem,
            shortest=SHORTEST_PASSWORD,
            longest=LONGEST_PASSWORD,
        )

    def sign_out(self) -> AnyResponse:
        """End the session here and in the store."""
        who = visitor()
        if who is not None:
            self._end(who.secret)
        there = self._ui.go(url_for("admin.signed_out"))
        self._ui.drop_cookie(there, self._guard.cookie)
        return there

    def _end(self, secret: str) -> None:
        if secret:
            self._guard.forget(secret)
            self._ui.services.sessions.sign_out(secret)

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
    blueprint.add_url_rule(
        "/sign-in", "sign_in_by_password", sessions.sign_in_by_password, methods=["POST"]
    )
    blueprint.add_url_rule("/invitation/<secret>", "invitation", sessions.invitation)
    blueprint.add_url_rule(
        *("/invitation/<secret>", "accept_invitation"),
        sessions.accept_invitation,
        methods=["POST"],
    )
    blueprint.add_url_rule("/sign-in/oidc", "sign_in_outside", sessions.sign_in_outside)
    blueprint.add_url_rule(
        "/sign-in/oidc/callback", "back_from_outside", sessions.back_from_outside
    )
    blueprint.add_url_rule("/sign-in/alb", "sign_in_by_header", sessions.sign_in_by_header)
    blueprint.add_url_rule("/sign-in/<secret>", "sign_in", sessions.sign_in)
    blueprint.add_url_rule("/sign-in/<secret>", "spend_link", sessions.spend_link, methods=["POST"])
    blueprint.add_url_rule("/sign-out", "sign_out", sessions.sign_out, methods=["POST"])
    blueprint.add_url_rule("/theme", "theme", sessions.choose_theme, methods=["POST"])
