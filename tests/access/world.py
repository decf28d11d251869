"""One installation with everything that a request can be about, and one of each sort of caller."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from werkzeug.routing import Rule
from werkzeug.test import TestResponse

import admin
from admin.guard import csrf_token
from flagserver.domain import documents, people
from flagserver.domain.commands import NewToken, Reasoned
from flagserver.domain.documents import Change, Fact, Principal, Write
from flagserver.domain.people import NewPerson, PersonEdit
from flagserver.domain.rates import Rates
from flagserver.http.routing import Route
from flagserver.settings import Settings
from tests.http import routes
from tests.http.api import SOMEBODY, Answer, Api, Caller, an_api

HERE, THERE = "production", "staging"

OUR_PAGE = {"Sec-Fetch-Site": "same-origin"}

COOKIE = "sortition_session"

KEPT = (
    '{"share":5.0,"weights":[{"variant":"on","weight":100.0}],"conditions":[],"prerequisites":[]}'
)

A_ROLLOUT = {
    "environment": HERE,
    "service": "shop",
    "flags": "by-form",
    "replace": "yes",
    "relation": "lock_step",
    "guards": "none",
    "schedule": "5%:5m,100%",
    "reason": "a test",
    "confirm_environment": HERE,
}

TYPED: dict[str, dict[str, str]] = {
    "POST /theme": {"theme": "dark"},
    "POST /sign-in": {"login": "nobody", "password": "not a password"},
    "POST /flags/new": {"key": "typed", "kind": "temporary"},
    "POST /flags/<key>/edit": {"description": "words", "kind": "temporary"},
    "POST /flags/<key>/environments/<environment>/share": {"seen": KEPT, "share": "1"},
    "POST /flags/<key>/environments/<environment>/serving": {"seen": KEPT, "share": "2"},
    "POST /flags/<key>/environments/<environment>/undo": {"seen": KEPT},
    "POST /flags/<key>/environments/<environment>/unkill": {
        "reason": "a test",
        "confirm_environment": HERE,
    },
    "POST /flags/<key>/environments/<environment>/preview": {"variant": "on", "hours": "8"},
    "POST /rollouts/new": A_ROLLOUT,
    "POST /rollouts/start": A_ROLLOUT | {"once": "0123456789abcdef"},
    "POST /rollouts/<id>/<verb>": {"reason": "a test", "confirm_environment": HERE},
    "POST /rollouts/<id>/note": {"reason": "seen"},
    "POST /approvals/<id>/approve": {
        "hash": routes.WISH.fingerprint,
        "reason": "a test",
        "confirm_environment": HERE,
    },
    "POST /settings/environments": {"key": "typed"},
    "POST /settings/environments/<key>": {
        "description": "words",
        "critical": "yes",
        "default_schedule": "standard",
        "retention_days": "90",
    },
    "POST /settings/schedules": {"environment": HERE, "name": "typed", "schedule": "5%:5m,100%"},
    "POST /settings/tokens": {"scope": "sdk", "environment": HERE},
    "POST /settings/people": {"name": "Ben", "login": "ben", "role": "viewer"},
    "POST /settings/people/<id>": {"name": "Ana B.", "role": "viewer"},
    "POST /audit/acknowledge": {"reason": "the disk was full"},
}
"""What is typed into the forms, besides the revision that it is about."""


class Member(NamedTuple):
    """A person and their session."""

    id: str
    session: str


@dataclass
class World:
    """The server with its pages, and who calls it."""

    api: Api
    tokens: dict[str, Caller] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    spare: list[str] = field(default_factory=list)
    """Ids of tokens that may be revoked or rotated."""
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        pages = admin.blueprint(self.api.services, secure_cookies=False, say=lambda *_: None)
        self.api.app.register_blueprint(pages)
        routes.furnish(self.api)
        self.api.flag("by-form")
        for name in ("sdk", "deploy", "admin"):
            self.tokens[f"{name} here"] = self.api.caller(name, HERE)
            self.tokens[f"{name} there"] = self.api.caller(name, THERE)
        self.tokens["admin everywhere"] = self.api.admin
        for role in ("viewer", "responder", "editor", "releaser", "auditor", "admin"):
            self.sessions[role] = self.person(role).session
        self.sessions["admin here"] = self.person("viewer", **{HERE: "admin"}).session
        self.sessions["admin there"] = self.person("viewer", **{THERE: "admin"}).session
        self.spare = [self.a_token() for _ in range(4)]
        # A question is at home where it was asked first.
        self.ask(self.tokens["deploy here"], self.route("ask_codedeploy"))

    # Who calls

    def person(self, role: str, **roles: str) -> Member:
        """Return somebody new, signed in."""
        store, number = self.api.store, next(self._numbers)
        command = NewPerson.model_validate(
            {"name": f"Number {number}", "login": f"n{number}", "role": role, "roles": roles}
        )
        somebody = people.create(command, id=f"{number:08x}", at="t")
        write = Write(documents.PEOPLE, somebody.id, 0, somebody.to_body())
        fact = Fact("a test", "admin", "person:create", f"person/{somebody.id}")
        store.commit(Change((write,), fact), at=self.api.clock.now(), salt="5f")
        return Member(somebody.id, self.api.services.sessions.begin(somebody))

    def demote(self, id: str) -> None:
        """Make an admin a viewer."""
        revision = self.api.services.people.get(id).revision
        self.api.services.people.edit(id, PersonEdit(role="viewer"), revision, self.admin)

    @property
    def admin(self) -> Principal:
        """Who acts for a test itself."""
        return SOMEBODY

    def a_token(self, scope: str = "sdk") -> str:
        """Return the id of a new token here."""
        return (self.api.caller(scope, HERE).token or "").split("_")[2]

    def ended(self, scope: str, environment: str | None, how: str) -> Caller:
        """Return a caller whose token has expired, was revoked, or never was."""
        tokens, clock = self.api.services.tokens, self.api.clock
        made = tokens.create(NewToken(scope=scope, environment=environment), SOMEBODY)  # type: ignore[arg-type]
        text = str(made.text)
        if how == "revoked":
            tokens.revoke(made.token.id, Reasoned(), SOMEBODY)
        elif how == "unknown":
            text = f"srt_{scope}_{'f' * 12}_{'0' * 64}"
        elif how == "wrong secret":
            text = text[:-64] + "0" * 64
        else:
            expired = made.token.to_body() | {"expires": clock.now().isoformat()}
            write = Write(documents.TOKENS, made.token.id, 1, expired)
            fact = Fact("a test", "admin", "token:edit", f"token/{made.token.id}")
            self.api.store.commit(Change((write,), fact), at=clock.now(), salt="5f")
        self.api.follow()
        return Caller(self.api, text)

    # What they ask

    def route(self, view: str) -> Route:
        """Return a route by its view's name."""
        return next(route for route in self.api.routes if route.view.__name__ == view)

    def ask(self, caller: Caller, route: Route, **more: str) -> Answer:
        """Send a request that the route takes, about what is there."""
        headers = routes.headers(route) | more
        revision = self._revision(route.path) if route.revision else None
        if revision is not None:
            headers["If_Match"] = f'"{revision}"'
        path = routes.address(self.api, route).replace(routes.NAMES["id"], self.spare[0])
        if route.path.startswith("/api/v1/review/"):
            path = path.replace(self.spare[0], routes.ROLLOUT)
        answer = caller.send(route.method, path, routes.body(route), **headers)
        answer.response.close()
        return answer

    def open(self, session: str | None, method: str, rule: Rule, **headers: str) -> TestResponse:
        """Look at a page, or send its form, filled in."""
        client = self.api.app.test_client()
        form = None
        if session:
            client.set_cookie(COOKIE, session)
        if method == "POST":
            form = self._form(f"POST {plain(rule)}", self._names(rule.rule))
            form["csrf"] = csrf_token(session or "")
        path = self.path(rule)
        answer = client.open(path, method=method, data=form, headers={**OUR_PAGE, **headers})
        answer.close()
        return answer

    def path(self, rule: Rule) -> str:
        """Return the address of a page about what is there."""
        names = self._names(rule.rule)
        return re.sub(r"<(?:[^:<>]+:)?(\w+)>", lambda found: names[found[1]], rule.rule)

    def written(self) -> int:
        """Return how many entries the record has: everything that is changed adds one."""
        state = self.api.store.state()
        assert state is not None
        return state.seq

    def _form(self, of: str, names: Mapping[str, str]) -> dict[str, str]:
        revision = self._revision(of.split()[1].replace("<", "{").replace(">", "}"))
        form = dict(TYPED.get(of, {}))
        if of.endswith("/undo"):
            form["entry"] = str(self._entry())
        if revision is not None:
            form.setdefault("revision", str(revision))
        return form

    def _entry(self) -> int:
        """Return the oldest entry that tells what was served before."""
        found = self.api.services.flags.history(routes.NAMES["key"], environment=HERE, limit=20)
        told = [each for each in found if each["environment"] == HERE and each["before"]]
        return int(told[-1]["seq"])

    def _names(self, rule: str) -> dict[str, str]:
        key = HERE if rule.startswith("/settings/environments/") else routes.NAMES["key"]
        id = routes.ROLLOUT
        if rule.startswith("/settings/people/"):
            id = routes.NAMES["person"]
        if rule.startswith("/approvals/"):
            id = routes.APPROVAL
        if rule.startswith("/settings/tokens/"):
            id = self.spare[-1]
        return {
            "key": key,
            "environment": HERE,
            "id": id,
            "seq": "3",
            "verb": "resume",
            "name": "log" if "notifications" in rule else routes.NAMES["schedule"],
            "path": "how-to/ramp-a-flag",
            "page_path": "no-page",
            "hashed": "none",
            "secret": "0" * 64,
        }

    def _revision(self, path: str) -> int | None:
        """Return the revision of what a path is about, None where that has none."""
        services, key = self.api.services, routes.NAMES["key"]
        if "/environments/{environment}/" in path + "/" and "/flags/" in path:
            return services.flags.state(key, HERE).revision
        if "/flags/{key}" in path:
            return services.flags.get(key).revision
        if "/rollouts/{id}" in path:
            return services.rollouts.get(routes.ROLLOUT, SOMEBODY).revision
        if "/environments/{" in path:
            return services.environments.get(HERE).revision
        if "/people/{" in path:
            return services.people.get(routes.NAMES["person"]).revision
        if "/schedules/{" in path:
            kept = self.api.store.read(documents.schedules(HERE), routes.NAMES["schedule"])
            return 1 if kept is None else kept.revision
        return None


def a_world() -> World:
    """Return a fresh one, in which nobody asks too often: that is told in `test_rates.py`."""
    return World(an_api(settings=Settings(rates=Rates(sdk=0, deploy=0, admin=0, address=0))))


def plain(rule: Rule) -> str:
    """Return an address as the tables write it: without what a converter is told."""
    return re.sub(r"\([^)]*\)", "", re.sub(r"<any\([^)]*\):(\w+)>", r"<\1>", rule.rule))


def pages(api: Api) -> dict[tuple[str, str], Rule]:
    """Return (method, address) -> rule of everything that the pages answer."""
    rules: Iterable[Rule] = api.app.url_map.iter_rules()
    return {
        (method, plain(rule)): rule
        for rule in rules
        if rule.endpoint.startswith("admin.")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    }
