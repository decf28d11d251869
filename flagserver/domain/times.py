"""How instants are written everywhere: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(at: datetime) -> str:
    """Return an instant as text: `2026-11-23T08:15:30.123Z`."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def unix(text: str) -> float:
    """Return an instant written by `rfc3339` as unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def moment(at: datetime) -> float:
    """Return an instant as unix seconds, to the millisecond that `rfc3339` keeps."""
    return unix(rfc3339(at))


def from_unix(seconds: float) -> str:
    """Return unix seconds as RFC 3339, to the nearest millisecond."""
    return rfc3339(datetime.fromtimestamp(round(seconds, 3), UTC))
