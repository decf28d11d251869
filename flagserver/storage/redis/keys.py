"""Every key there is, in one place; `docs/reference/storage.md` says what is under each.

Whatever one script must change together shares the hash tag `{sortition}`, so it lies in one slot
of a Cluster. Outcomes are many and owe each other nothing, so each subject has a slot of its own.
"""

from __future__ import annotations

from urllib.parse import quote

META = "{sortition}:meta"
VERSIONS = "{sortition}:versions"
RECORD = "{sortition}:record"
FEED = "{sortition}:feed"
CLAIMS = "{sortition}:claims"
OUTBOX = "{sortition}:outbox"
DELIVERED = "{sortition}:outbox:delivered"
FENCES = "{sortition}:fences"
NO_ONCE = "{sortition}:once:"
"""Named to the script in place of an idempotency key when there is none; never written."""


RECORD_COPY = "{sortition}:record:copy"
"""The record while it is written anew without bodies that are kept no longer."""

REWRITE = "{sortition}:record:rewrite"
"""There while the store's log on disk still has such bodies."""

TARGETS = "{sortition}:record:targets"
"""Which entries of the record are about what: an index, and no part of the record."""

CHECKPOINTS = "{sortition}:checkpoints"
"""Signed checkpoints of the record, the newest last."""

NUDGES = "{sortition}:nudges"
"""How often word from outside was passed on."""


def nudge(digest: str) -> str:
    """Return the key that is there while an event is known again; digest: of its id."""
    return f"{{sortition}}:nudge:{digest}"


def documents(collection: str) -> str:
    """Return the hash of a collection."""
    return f"{{sortition}}:documents:{_escaped(collection)}"


def once(digest: str) -> str:
    """Return the hash of the answer to an idempotency key; digest: of the caller's key."""
    return f"{NO_ONCE}{digest}"


def attempts(name: str) -> str:
    """Return where tries under a name are counted."""
    return f"{{sortition}}:attempts:{_escaped(name)}"


def asked(environment: str) -> str:
    """Return the hash of when flags were last asked for in an environment."""
    return f"{{sortition}}:flags:asked:{_escaped(environment)}"


def uses() -> str:
    """Return the hash of when tokens were last used."""
    return "{sortition}:tokens:used"


def secret(kind: str, digest: str) -> str:
    """Return the key of a session or one-time link."""
    return f"{{sortition}}:secret:{_escaped(kind)}:{_escaped(digest)}"


def lease(name: str) -> str:
    """Return the hash of a lease."""
    return f"{{sortition}}:lease:{_escaped(name)}"


def ticks(environment: str, subject: str, minute: int) -> str:
    """Return the hash of one subject's counts in one minute (unix time // 60)."""
    return f"{_subject(environment, subject)}:ticks:{minute}"


def sums(environment: str, subject: str, end: int) -> str:
    """Return the hash of one subject's sums over the minute that ended then (unix seconds)."""
    return f"{_subject(environment, subject)}:sums:{end // 60}"


def points(environment: str, subject: str, hour: int) -> str:
    """Return the hash of a flag's sampled points in one hour (unix time // 3600)."""
    return f"{_subject(environment, subject)}:points:{hour}"


def taken(environment: str, subject: str, period: int) -> str:
    """Return the hash of the batches that a subject took in within a period (an hour)."""
    return f"{_subject(environment, subject)}:taken:{period}"


def halves(environment: str, service: str, day: int) -> str:
    """Return the hash of a service's A/A history of one day (unix time // 86400)."""
    return f"sortition:halves:{{{_escaped(environment, '')}/{_escaped(service)}}}:{day}"


def known(environment: str) -> str:
    """Return the sorted set of an environment's services that have A/A history."""
    return f"sortition:known:{{{_escaped(environment, '')}}}"


def looks(rollout: str) -> str:
    """Return the stream of looks at one rollout."""
    return f"sortition:looks:{{{_escaped(rollout, '')}}}"


def evidence(rollout: str) -> str:
    """Return the list of what one rollout is judged by."""
    return f"sortition:evidence:{{{_escaped(rollout, '')}}}"


def standing(rollout: str) -> str:
    """Return the string that says how one rollout's judgement stands."""
    return f"sortition:standing:{{{_escaped(rollout, '')}}}"


LOOKED = "sortition:looked"
"""The sorted set of when each rollout was looked at last."""


def sources(environment: str) -> str:
    """Return the hash of who reported."""
    return f"sortition:outcomes:{{{_escaped(environment)}}}:sources"


def sources_seen(environment: str) -> str:
    """Return the sorted set of when each reported last."""
    return f"sortition:outcomes:{{{_escaped(environment)}}}:seen"


def metrics(environment: str, minute: int) -> str:
    """Return the hash of what was posted of one minute (unix time // 60)."""
    return f"sortition:metrics:{{{_escaped(environment)}}}:{minute}"


def _subject(environment: str, subject: str) -> str:
    # An escaped environment has no slash, so the first one ends it: no two pairs share a key.
    return f"sortition:outcomes:{{{_escaped(environment, '')}/{_escaped(subject)}}}"


def _escaped(text: str, safe: str = "/") -> str:
    """Return text without braces, colons or anything else that means something in a key."""
    return quote(text, safe=safe, errors="surrogatepass")
