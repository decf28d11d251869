"""The admin UI: server-rendered pages over the services. They work without JavaScript."""

from __future__ import annotations

from flask import Blueprint

from flagserver.domain.addresses import Network
from flagserver.services import Services
from flagserver.services.listening import Say

from .guard import Guard
from .interface import Interface, harden
from .views import (
    approvals,
    assets,
    audit,
    errors,
    events,
    flag,
    flags,
    health,
    help,
    kill,
    neutrality,
    overview,
    people,
    preview,
    review,
    rollout,
    rollout_new,
    rollouts,
    sessions,
    settings,
)


def blueprint(
    services: Services,
    *,
    secure_cookies: bool,
    say: Say,
    trusted_proxies: tuple[Network, ...] = (),
) -> Blueprint:
    """Return the pages, to be registered at `/`. It authenticates its own endpoints (`admin.…`).

    secure_cookies: False only where people reach the server by plain HTTP on loopback.
    say: sends a message to the open pages that listen to a topic.
    trusted_proxies: whose word is taken for where a request comes from.
    """
    ui = Interface(services, secure_cookies, say, trusted_proxies)
    guard = Guard(ui)
    pages = Blueprint("admin", __name__)
    errors.routes(pages, ui)
    pages.before_request(guard.check)
    pages.after_request(harden)
    approvals.routes(pages, ui)
    assets.routes(pages, ui)
    audit.routes(pages, ui)
    events.routes(pages, ui)
    flag.routes(pages, ui)
    flags.routes(pages, ui)
    health.routes(pages, ui)
    help.routes(pages, ui)
    kill.routes(pages, ui)
    neutrality.routes(pages, ui)
    overview.routes(pages, ui)
    people.routes(pages, ui, guard)
    preview.routes(pages, ui)
    review.routes(pages, ui)
    rollout.routes(pages, ui)
    rollout_new.routes(pages, ui)
    rollouts.routes(pages, ui)
    sessions.routes(pages, ui, guard)
    settings.routes(pages, ui)
    return pages
