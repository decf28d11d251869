"""Every key there is. All that is authoritative shares one hash tag, so one script can change it."""

from __future__ import annotations

from urllib.parse import quote

TAG = "{sortition}"

META = f"{TAG}:meta"
VERSIONS = f"{TAG}:versions"
CLAIMS = f"{TAG}:claims"
RECORD = f"{TAG}:record"
FEED = f"{TAG}:feed"


def collection(name: str) -> str:
    """Return the hash of a collection's documents."""
    return f"{TAG}:documents:{name}"


def idempotency(key: str) -> str:
    """Return the string that remembers a used idempotency key."""
    return f"{TAG}:idempotency:{key}"


def secret(kind: str, digest: str) -> str:
    """Return the string of a session or a link."""
    return f"{TAG}:{kind}:{digest}"


def lease(name: str) -> str:
    """Return the string of a lease."""
    return f"{TAG}:lease:{name}"


def seen(environment: str, subject: str) -> str:
    """Return the hash of what was added about a subject; see `ticks`."""
    return f"{_spread(environment, subject)}:seen"


def ticks(environment: str, subject: str, minute: int) -> str:
    """Return the hash of a subject's ticks in one minute (unix time // 60)."""
    return f"{_spread(environment, subject)}:{minute}"


def sources(environment: str) -> str:
    """Return the hash of who reported to an environment."""
    return f"sortition:outcomes:{{{quote(environment, safe='')}}}:sources"


def _spread(environment: str, subject: str) -> str:
    # Quoted, for a subject is any text and a brace in it would move the key to another slot.
    return f"sortition:outcomes:{{{quote(environment, safe='')}/{quote(subject, safe='')}}}"
