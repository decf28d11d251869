"""For the host's own tests: clients with fixed flags, without network or thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .client import Client
from .core.model import Flag, Snapshot, SnapshotVersion

PPM_PER_PERCENT = 10_000


def client_with(
    flags: Mapping[str, float | Mapping[str, Any]], resource: Mapping[str, str] | None = None
) -> Client:
    """Return a client that holds these flags.

    A number is the share (percent) of a boolean flag. A mapping may hold `share` (percent),
    `variants` (name -> value), `rest`, `weights` (name -> percent), `killed`.
    """
    client = Client("", snapshot="", resource=resource or {})
    client._put(snapshot_with(flags))
    return client


def snapshot_with(flags: Mapping[str, float | Mapping[str, Any]], version: int = 1) -> Snapshot:
    """Return a snapshot of such flags."""
    return Snapshot(
        version=SnapshotVersion("testing", 1, version),
        environment="testing",
        flush_seconds=5.0,
        histogram_edges=(0.01, 0.1, 1.0, 10.0),
        flags={key: _flag(key, given) for key, given in flags.items()},
    )


def _flag(key: str, given: float | Mapping[str, Any]) -> Flag:
    told: Mapping[str, Any] = given if isinstance(given, Mapping) else {"share": given}
    variants = dict(told.get("variants", {"on": True, "off": False}))
    rest = told.get("rest", "off" if "off" in variants else next(iter(variants)))
    first = next((name for name in variants if name != rest), rest)
    weights = told.get("weights", {first: 100})
    wire = {
        "revision": 1,
        "salt": key,
        "variants": variants,
        "rest": rest,
        "weights": [[name, round(part * PPM_PER_PERCENT)] for name, part in weights.items()],
        "share": round(told.get("share", 100) * PPM_PER_PERCENT),
        "conditions": [],
        "prerequisites": [],
        "killed": bool(told.get("killed", False)),
    }
    return Flag.parse(key, wire)
