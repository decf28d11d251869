"""No way of writing a path gets around who may see what, over a real connection: of the API, of the
pages, and of the measures, also of a controller by itself.

OpenFlagr (CVE-2026-0650, GHSA-rwp9-5g7q-73q3) let in whatever its list of open prefixes seemed to
name. Here nothing is open by its path: each endpoint says who may use it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from flagserver.domain.rates import Rates
from flagserver.http import alone
from flagserver.measures import Board
from flagserver.settings import Settings
from tests.access.world import COOKIE, World

from .api import an_api

OPEN = ("/healthz", "/openapi.json", "/sign-in", "/assets/none")
"""Addresses that are open, to hide behind."""

CLOSED: dict[str, str | None] = {
    "/api/v1/flags": "new-search",
    "/api/v1/tokens": '"scope"',
    "/api/v1/people": "5f2c91ab",
    "/api/v1/audit/export": "flag:create",
    "/metrics": None,
    "/flags": "new-search",
    "/settings/people": "5f2c91ab",
    "/audit": "somebody",
}
"""Path -> what only those who are let in there are told, where there is something to tell."""


def letters(path: str) -> str:
    """Return a path with each of its letters written as an escape."""
    return "".join(f"%{ord(each):02x}" if each.isalpha() else each for each in path)


TRICKS: dict[str, Callable[[str], str]] = {
    "as it is": lambda path: path,
    "two slashes": lambda path: f"/{path}",
    "two slashes within": lambda path: path.replace("/", "//"),
    "three slashes": lambda path: f"//{path}",
    "a slash behind": lambda path: f"{path}/",
    "an escaped slash behind": lambda path: f"{path}%2f",
    "escaped slashes": lambda path: "/" + path[1:].replace("/", "%2f"),
    "all slashes escaped": lambda path: path.replace("/", "%2f"),
    "escaped slashes, in capitals": lambda path: "/" + path[1:].replace("/", "%2F"),
    "slashes of overlong UTF-8": lambda path: "/" + path[1:].replace("/", "%c0%af"),
    "slashes of another width": lambda path: "/" + path[1:].replace("/", "%ef%bc%8f"),
    "backslashes": lambda path: path.replace("/", "\\"),
    "a backslash before": lambda path: f"/\\{path[1:]}",
    "escaped backslashes": lambda path: "/" + path[1:].replace("/", "%5c"),
    "a dot before": lambda path: f"/.{path}",
    "a dot behind": lambda path: f"{path}/.",
    "a dot at the end": lambda path: f"{path}.",
    "an escaped dot before": lambda path: f"/%2e{path}",
    "up and down": lambda path: f"{path}/x/..",
    "up over the root": lambda path: f"/../..{path}",
    "escaped, up over the root": lambda path: f"/%2e%2e/%2e%2e{path}",
    "a semicolon behind": lambda path: f"{path};",
    "a parameter behind": lambda path: f"{path};x=/healthz",
    "a style sheet's parameter": lambda path: f"{path};.css",
    "a parameter before": lambda path: f"/;x{path}",
    "dots with a parameter": lambda path: f"/x/..;{path}",
    "an escaped semicolon": lambda path: f"{path}%3b",
    "a name of a file": lambda path: f"{path}.json",
    "a file below": lambda path: f"{path}/x.css",
    "capitals": str.upper,
    "a capital": lambda path: path[:1] + path[1:2].upper() + path[2:],
    "zero behind": lambda path: f"{path}%00",
    "zero and a file": lambda path: f"{path}%00.css",
    "zero before": lambda path: f"/%00{path}",
    "a line's end behind": lambda path: f"{path}%0a",
    "a field behind": lambda path: f"{path}%0d%0aX-Evil:%20y",
    "a space behind": lambda path: f"{path}%20",
    "a tab before": lambda path: f"/%09{path[1:]}",
    "escaped letters": letters,
    "escapes, twice": lambda path: letters(path).replace("%", "%25"),
    "half an escape": lambda path: f"{path}%",
    "no escape": lambda path: f"{path}%zz",
    "an escaped question mark": lambda path: f"{path}%3f",
    "a question mark": lambda path: f"{path}?",
    "a fragment": lambda path: f"{path}#",
    "an escaped fragment": lambda path: f"{path}%23",
    "a soft hyphen": lambda path: f"{path}%c2%ad",
    "a whole address": lambda path: f"http://localhost{path}",
    "another's whole address": lambda path: f"http://elsewhere.example{path}",
    "an address without a scheme": lambda path: f"//elsewhere.example{path}",
} | {
    f"{how} {open_}": lambda path, open_=open_, between=between: f"{open_}{between}{path}"
    for open_ in OPEN
    for how, between in {
        "below": "",
        "up from": "/..",
        "escaped, up from": "/%2e%2e",
        "escaped whole, up from": "%2f..",
        "with a parameter, up from": "/..;",
        "as a parameter of": ";",
        "as a query of": "?x=",
        "as a fragment of": "#",
        "after a zero of": "%00",
        "as a backslash from": "\\..",
    }.items()
}


@dataclass(frozen=True)
class Answer:
    status: int
    place: str
    body: str


def ask(address: str, path: str, *fields: str) -> Answer:
    """Send a path as it is, and return what came back."""
    where = urlsplit(address)
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *fields, "", ""]
    octets = b""
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as wire:
        wire.sendall("\r\n".join(lines).encode())
        with suppress(ConnectionResetError):
            while more := wire.recv(65536):
                octets += more
    head, _, body = octets.decode().partition("\r\n\r\n")
    told = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    return Answer(int(head.split(" ")[1]), told.get("location", ""), body)


@dataclass(frozen=True)
class Site:
    """A server with pages, at an address; and a session and tokens."""

    address: str
    session: str
    admin: str
    sdk: str


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    world = World(an_api(settings=Settings(rates=Rates(sdk=0, address=0))))
    with world.api.served() as address:
        yield Site(
            address,
            f"Cookie: {COOKIE}={world.sessions['admin']}",
            f"Authorization: Bearer {world.api.admin_token}",
            f"Authorization: Bearer {world.tokens['sdk here'].token}",
        )


@pytest.mark.parametrize(("path", "told"), CLOSED.items(), ids=list(CLOSED))
def test_whoever_may_is_told(site: Site, path: str, told: str | None) -> None:
    """Or the tests below would see nothing anywhere."""
    answer = ask(site.address, path, site.session, site.admin)

    assert (answer.status, (told or "") in answer.body) == (200, True)


@pytest.mark.parametrize("path", CLOSED)
def test_no_trick_lets_anybody_in(site: Site, path: str) -> None:
    assert let_in(site.address, path) == {}


@pytest.mark.parametrize("path", [path for path in CLOSED if path.startswith(("/api", "/metrics"))])
def test_no_trick_lets_a_token_in_where_it_may_not(site: Site, path: str) -> None:
    assert let_in(site.address, path, site.sdk) == {}


def test_no_trick_lets_anybody_in_at_a_controllers_own_port() -> None:
    world = World(an_api(settings=Settings(rates=Rates(address=0))))
    app = alone.create_app(world.api.services, Board(), public=False)
    server = alone.serve_in_background(app, "127.0.0.1", 0)
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        token = f"Authorization: Bearer {world.api.admin_token}"
        assert ask(address, "/metrics", token).status == 200

        assert let_in(address, "/metrics") == {}
    finally:
        server.shutdown()
        server.server_close()


def let_in(address: str, path: str, *fields: str) -> dict[str, Answer]:
    """Return the tricks that were answered with more than a refusal, or with what is closed."""
    found = {}
    for how, trick in TRICKS.items():
        written = trick(path)
        answer = ask(address, written, *fields)
        refused = answer.status in (400, 401, 403, 404, 405, 414)
        to_sign_in = answer.status == 303 and answer.place == "/sign-in"
        # An open address with something behind it may answer for itself.
        itself = answer.status == 200 and written.startswith(OPEN)
        words = CLOSED[path]
        told = words is not None and words in answer.body and '"openapi"' not in answer.body
        if not (refused or to_sign_in or itself) or told:
            found[how] = answer
    return found
