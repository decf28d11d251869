"""The door of the admin UI: default deny. Whoever is not signed in sees how to sign in.

A POST passes two checks: the browser says that one of our own pages sent it, and the form carries a
token that is made from the session's secret.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from flask import Response, abort, g, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.documents import Principal
from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.tokens import digest

from .interface import Interface, Visitor

PUBLIC = frozenset(
    {
        *("admin.asset", "admin.signed_out", "admin.sign_in", "admin.spend_link"),
        *("admin.sign_in_by_password", "admin.invitation", "admin.accept_invitation"),
        *("admin.sign_in_outside", "admin.back_from_outside", "admin.sign_in_by_header"),
    }
)
"""The only endpoints that need no session."""

UNCOUNTED = frozenset({"admin.asset"})
"""Of those, what a page is made of: many with each, and none of them asks the store."""

MAX_FORM_BYTES = 64 * 1024

REMEMBER_SECONDS = 15 * 60
"""How long a session that was good is still let in to look while the store does not answer."""

MAX_REMEMBERED = 1000


class Guard:
    """Finds out who asks, before any view runs."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._remembered: dict[str, tuple[Principal, float]] = {}

    @property
    def cookie(self) -> str:
        """The session cookie's name. `__Host-`: no other host or path can set it."""
        return "__Host-sortition_session" if self._ui.secure_cookies else "sortition_session"

    def check(self) -> AnyResponse | None:
        """Let a request pass (None), or answer it. Runs before every view of the blueprint."""
        request.max_content_length = MAX_FORM_BYTES
        changes = request.method not in ("GET", "HEAD", "OPTIONS")
        if changes and not _from_our_own_page():
            abort(403, "This form was sent by another site. Nothing was changed.")
        if request.endpoint in PUBLIC:
            if request.endpoint not in UNCOUNTED:
                self._count_stranger(request.cookies.get(self.cookie, ""))
            return None
        g.admin_visitor = self._visitor()
        if g.admin_visitor is None:
            return self._turn_away(changes)
        if changes and not _same(request.form.get("csrf", ""), g.admin_visitor.csrf):
            abort(403, "The form belongs to another session. Open the page again.")
        return None

    def forget(self, secret: str) -> None:
        """Remember a session no longer."""
        self._remembered.pop(digest(secret), None)

    def _turn_away(self, changes: bool) -> AnyResponse:
        if changes:
            abort(401, "You are not signed in any more. Nothing was changed.")
        if request.path.startswith("/ui/"):
            return Response("Not signed in.\n", 401, mimetype="text/plain")
        return redirect("/sign-in", 303)

    def _visitor(self) -> Visitor | None:
        secret = request.cookies.get(self.cookie)
        if not secret:
            return None
        self._count_stranger(secret)
        who = self._principal(secret)
        return None if who is None else Visitor(who, secret, csrf_token(secret))

    def _count_stranger(self, secret: str) -> None:
        """Count whoever had no good session here lately, before the store is asked. Raises
        TooMany."""
        if digest(secret) in self._remembered:
            return
        forwarded = ",".join(request.headers.getlist("X-Forwarded-For"))
        rates = self._ui.services.rates
        rates.count_stranger(request.remote_addr, forwarded, lacks="session")

    def _principal(self, secret: str) -> Principal | None:
        try:
            found = self._ui.services.sessions.principal(secret)
        except StoreUnavailable:
            return self._recall(secret)
        if found is None:
            self.forget(secret)
        else:
            self._remember(secret, found)
        return found

    def _remember(self, secret: str, found: Principal) -> None:
        self._remembered.pop(digest(secret), None)
        while len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)), None)
        self._remembered[digest(secret)] = (found, time.monotonic())

    def _recall(self, secret: str) -> Principal | None:
        """Return who had this session lately. They can look; to change anything needs the store."""
        found, at = self._remembered.get(digest(secret), (None, 0.0))
        if found is None or time.monotonic() - at > REMEMBER_SECONDS:
            raise StoreUnavailable("The store is not answering, so nobody can be let in.")
        return found


def csrf_token(secret: str) -> str:
    """Return the token of a session's forms; it tells nothing about the session's secret."""
    return hmac.new(secret.encode(), b"sortition admin form", hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _from_our_own_page() -> bool:
    """Tell whether a browser says so. `Sec-Fetch-Site` decides where there is one."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    # Of either scheme: who ends TLS before us hands on http.
    return request.headers.get("Origin") in (f"http://{request.host}", f"https://{request.host}")
