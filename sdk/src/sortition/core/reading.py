"""Snapshots as text, read flag by flag.

Decoded as one, ten thousand flags are fifteen megabytes of objects that are gone a moment later and
leave their holes behind, and a host's other threads wait meanwhile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from .model import Flag, InvalidSnapshot, Json, Snapshot, SnapshotVersion, check_prerequisites

Member = Callable[[str, int], int]
"""Given a name and the place of its value, reads that and returns the place after it."""

_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


class _Known(Exception):
    """There is nothing new in it."""


def read_snapshot(text: str, known: Callable[[SnapshotVersion], bool]) -> Snapshot | None:
    """Return the snapshot of a JSON text, or None if its version is one of those known.

    Raises InvalidSnapshot; ValueError or RecursionError for what is no JSON.
    """
    wire: dict[str, Json] = {}
    flags: dict[str, Flag] = {}

    def top(name: str, at: int) -> int:
        if name != "flags":
            wire[name], at = _decode(text, at)
            return at
        if {"store", "epoch", "version"} <= wire.keys() and known(SnapshotVersion.parse(wire)):
            raise _Known
        flags.clear()
        wire[name] = {}
        return _members(text, at, "flags", flag)

    def flag(key: str, at: int) -> int:
        decoded, at = _decode(text, at)
        flags[key] = Flag.parse(key, decoded, f"flags/{key}")
        return at

    try:
        end = _members(text, _space(text, 0), "", top)
    except _Known:
        return None
    if _space(text, end) != len(text):
        raise ValueError("there is more after the snapshot")
    if known(SnapshotVersion.parse(wire)):
        return None
    head = Snapshot.parse(wire)
    check_prerequisites(flags)
    return Snapshot(
        *(head.version, head.environment, head.flush_seconds, head.histogram_edges, flags),
        head.revoked_previews,
    )


def _members(text: str, at: int, path: str, member: Member) -> int:
    """Read an object member by member; return the place after it."""
    if text[at : at + 1] != "{":
        _decode(text, at)
        raise InvalidSnapshot(path, "must be an object")
    at = _space(text, at + 1)
    if text[at : at + 1] == "}":
        return at + 1
    while True:
        name, at = _decode(text, at)
        at = _space(text, at)
        if not isinstance(name, str) or text[at : at + 1] != ":":
            raise ValueError(f"no JSON at {at}")
        at = _space(text, member(name, _space(text, at + 1)))
        if text[at : at + 1] == "}":
            return at + 1
        if text[at : at + 1] != ",":
            raise ValueError(f"no JSON at {at}")
        at = _space(text, at + 1)


def _space(text: str, at: int) -> int:
    """Return the place of what comes after the white space at a place."""
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
