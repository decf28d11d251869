"""The SDK as a host holds it, following the server of SORTITION_URL; and the hash it stands on."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

KEY = "flag-100"
"""A boolean flag at 25 %, in the midst of the others."""


def floor() -> dict[str, Any]:
    """The hash alone."""
    import mmh3

    names = {"hash": mmh3.hash, "seed": 3141592653}
    return {
        "statement": "hash(i, seed, False)",
        "names": names,
        "exposed": "hash(i, seed, False) < 2**30",
        "version": f"mmh3 {version('mmh3')}",
    }


def client() -> Any:
    """Return a client that is ready and follows."""
    import sortition

    made = sortition.Client()
    if not made.wait_ready(10):
        raise SystemExit("the client did not become ready")
    return made


def case(statement: str, exposed: str | None = None) -> Callable[[], dict[str, Any]]:
    """Return a case over `client`, `flag` (a handle) and `key`."""

    def make() -> dict[str, Any]:
        made = client()
        return {
            "statement": statement,
            "names": {"client": made, "flag": made.flag(KEY), "_made": made},
            "exposed": exposed,
            "version": f"sortition {version('sortition')}",
        }

    return make


REQUEST = f"with client.request(i) as request: request.is_enabled('{KEY}')"

CASES = {
    "floor": floor,
    "is_enabled": case(f"client.is_enabled('{KEY}', i)", f"client.is_enabled('{KEY}', i)"),
    "handle": case("flag(i)", "flag(i)"),
    "settled": case("client.is_enabled('everybody', i)"),
    "unknown": case("client.is_enabled('nobody-knows-this', i)"),
    "variant": case("client.variant('three-ways', i)"),
    "value": case("client.value('three-ways', i)"),
    "prerequisite": case("client.is_enabled('stands-on', i)"),
    "request": case(REQUEST),
}
