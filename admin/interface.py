"""What every view holds: the services, and how a page is made of a template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Response, current_app, g, redirect, request, url_for
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain import access
from flagserver.domain.addresses import Network, client_of
from flagserver.domain.documents import Principal
from flagserver.domain.errors import StoreUnavailable, Unauthenticated
from flagserver.services import Services
from flagserver.services.listening import Say

from . import judged, notices, present, progress
from .assets import Assets
from .board import SHOWN_IN_STRIP, Board, Strip
from .doorbell import Doorbell
from .progress import Progress
from .snippets import snippets

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "sortition_theme"
YEAR_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at a page. secret: of the session; csrf: what each of its forms carries."""

    principal: Principal
    secret: str
    csrf: str


def visitor() -> Visitor | None:
    """Return who asks, once the guard has found out."""
    found: Visitor | None = g.get("admin_visitor")
    return found


def principal() -> Principal:
    """Return who acts."""
    return _visitor().principal


def session() -> str:
    """Return the secret of the session that asks."""
    return _visitor().secret


def _visitor() -> Visitor:
    """Return who asks, behind the guard, which lets nobody else get here."""
    found = visitor()
    if found is None:
        raise Unauthenticated("You are not signed in any more. Nothing was changed.")
    return found


def may(action: str, environment: str | None = None) -> bool:
    """Tell whether whoever looks at a page may do something there: what they may not is not
    offered. The services insist on it anyway."""
    who = visitor()
    if who is None:
        return False
    return access.may(who.principal, action, environment)


def now() -> datetime:
    """Return the present in UTC."""
    return datetime.now(UTC)


@dataclass
class Interface:
    """The services and what pages are made with."""

    services: Services
    secure_cookies: bool
    say: Say
    trusted_proxies: tuple[Network, ...] = ()
    assets: Assets = field(default_factory=Assets)
    doorbell: Doorbell = field(init=False)
    _templates: Environment = field(init=False)
    _last_seen: tuple[tuple[Progress, ...], datetime] = field(init=False)

    def __post_init__(self) -> None:
        self.doorbell = Doorbell(self.services, self.say)
        self._templates = _environment(self.assets)
        self._last_seen = ((), now())

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """Return a whole page."""
        notice = notices.words(request.cookies.get(notices.COOKIE, ""))
        response = _html(self._render(template, notice=notice, **context), status)
        if notices.COOKIE in request.cookies:
            self.drop_cookie(response, notices.COOKIE)
        return response

    def fragment(self, template: str, **context: Any) -> Response:
        """Return a part of a page, as htmx puts it in place of the old one."""
        return _html(self._render(template, **context), 200)

    def piece(self, template: str, **context: Any) -> Markup:
        """Return a part of a page that depends on nothing but its context, to be kept."""
        # The template has escaped what it was given.
        made = self._templates.get_template(template).render(context)
        return Markup(made)  # noqa: S704 (as said above)

    def go(
        self, there: str, word: str | None = None, environment: str = "", revision: int = 0
    ) -> AnyResponse:
        """Send the browser on after a form, with a notice (see `notices`) for the next page."""
        response = redirect(there, 303)
        if word is not None:
            value = notices.written(word, environment, revision)
            self.set_cookie(response, notices.COOKIE, value, max_age=notices.SECONDS)
        return response

    def address(self) -> str:
        """Return what tries to sign in are counted by: where this request comes from."""
        forwarded = ",".join(request.headers.getlist("X-Forwarded-For"))
        return client_of(request.remote_addr, forwarded, self.trusted_proxies)

    def set_cookie(
        self, response: AnyResponse, name: str, value: str, *, max_age: int | None = None
    ) -> None:
        """Set a cookie that only this site's own pages send, and no script reads."""
        response.set_cookie(
            name,
            value,
            max_age=max_age,
            secure=self.secure_cookies,
            httponly=True,
            samesite="Lax",
        )

    def drop_cookie(self, response: AnyResponse, name: str) -> None:
        """Forget a cookie."""
        self.set_cookie(response, name, "", max_age=0)

    def _render(self, template: str, **context: Any) -> str:
        frame = {
            "visitor": visitor(),
            "theme": theme(),
            "here": request.path,
            "server": request.host_url.rstrip("/"),
            "now": now(),
            "problems": self._problems,
            "strip": self._strip,
            "may": may,
            "name_of": self.name_of,
            # What is fetched into an open page must not take the focus from where it is.
            "first": "" if "HX-Request" in request.headers else Markup(" autofocus"),
        }
        return self._templates.get_template(template).render(frame | context)

    def name_of(self, actor: str) -> str | None:
        """Return what an actor of the record is called, for whoever looks; None: by its id. A page
        asks once for each."""
        known: dict[str, str | None] = g.setdefault("admin_names", {})
        if actor not in known:
            try:
                known[actor] = self.services.people.name(actor, principal())
            except StoreUnavailable:
                return None
        return known[actor]

    def _problems(self) -> tuple[str, ...]:
        try:
            return self.services.health().problems
        except StoreUnavailable as error:
            return (error.detail,)

    def _strip(self) -> Strip:
        """Return what runs. While the store does not answer, what ran when it last did."""
        since = None
        try:
            rows = tuple(Board(self.services, principal(), now()).under_way())
            self._last_seen = rows, now()
        except StoreUnavailable:
            rows, since = self._last_seen
            rows = tuple(row for row in rows if may(access.READ, row.environment.key))
        return Strip(rows[:SHOWN_IN_STRIP], max(0, len(rows) - SHOWN_IN_STRIP), since)


def theme() -> str:
    """Return the colours that this browser asked for."""
    chosen = request.cookies.get(THEME_COOKIE, "auto")
    return chosen if chosen in THEMES else "auto"


def harden(response: Response) -> Response:
    """Say on every answer what a page may do: load and send nothing but what is ours."""
    headers = response.headers
    headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    # Not `no-referrer`: with that, browsers send `Origin: null` with our own forms, and over
    # plain HTTP the Origin is all there is to tell them from those of others.
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers.setdefault("Cache-Control", "no-store")
    return response


def _html(body: str, status: int) -> Response:
    return Response(body, status, mimetype="text/html")


def _environment(assets: Assets) -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(_FILTERS)
    templates.globals.update(
        url=_url,
        known=_known,
        asset=lambda name: _asset(assets, name),
        status_of=present.status,
        share_status=present.share_status,
        tone=present.tone,
        chance=present.chance,
        the_bar=present.bar,
        the_pill=present.pill,
        the_time=present.when,
        snippets=snippets,
    )
    return templates


_FILTERS: dict[str, Callable[..., Any]] = {
    "percent": present.percent,
    "plain_percent": present.plain_percent,
    "measured": present.measured,
    "count": present.count,
    "seconds": present.seconds,
    "exact": present.exact,
    "moment": present.moment,
    "span": present.span,
    "ago": present.ago,
    "clock": present.clock,
    "detections": judged.detections,
    "instant": progress.instant,
    "hold": present.hold,
    "readable": present.readable,
    "short": present.short,
    "time": present.time,
    "day_time": present.day_time,
}


def _url(view: str, **parts: Any) -> str:
    return url_for(f"admin.{view}", **parts)


def _known(view: str) -> bool:
    """Tell whether there is a page of that name."""
    return f"admin.{view}" in current_app.view_functions


def _asset(assets: Assets, name: str) -> str | None:
    hashed = assets.hashed(name)
    return None if hashed is None else _url("asset", hashed=hashed)
