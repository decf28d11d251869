"""What an environment's snapshot is made of."""

from __future__ import annotations

from collections.abc import Mapping

from sortition.core import model as core

from . import flags
from .documents import Document, EnvironmentContent
from .flags import Flag, State


def build_flag(document: Document, state: Document | None, environment: str) -> core.Flag | None:
    """Return what a snapshot carries of a flag, or None: archived flags are not in it."""
    flag = Flag.from_body(document.body)
    if flag.archived:
        return None
    if state is None:
        return flags.compiled_form(flag, flags.default_state(flag, environment), 0)
    return flags.compiled_form(flag, State.from_body(state.body), state.revision)


def build_flags(content: EnvironmentContent) -> dict[str, core.Flag]:
    """Return every live flag of an environment (or of the part that was read), by key."""
    built = {
        key: build_flag(document, content.states.get(key), content.environment)
        for key, document in sorted(content.flags.items())
    }
    return {key: flag for key, flag in built.items() if flag is not None}


def build_snapshot(
    content: EnvironmentContent, *, flush_seconds: float, edges: tuple[float, ...]
) -> core.Snapshot:
    """Return an environment's whole snapshot."""
    return core.Snapshot(
        version=core.SnapshotVersion(content.store, content.epoch, content.version),
        environment=content.environment,
        flush_seconds=flush_seconds,
        histogram_edges=edges,
        flags=build_flags(content),
        revoked_previews=tuple(sorted(content.revoked)),
    )


def difference(before: core.Snapshot, after: core.Snapshot) -> core.Change:
    """Return the change that leads from one snapshot to a later one of the same store."""
    revoked = after.revoked_previews
    changed: Mapping[str, core.Flag] = {
        key: flag
        for key, flag in after.flags.items()
        # Most are the same object still, which is seen at once.
        if before.flags.get(key) is not flag and before.flags.get(key) != flag
    }
    return core.Change(
        store=after.version.store,
        epoch=after.version.epoch,
        from_version=before.version.version,
        to_version=after.version.version,
        flags=changed,
        removed=tuple(key for key in before.flags if key not in after.flags),
        revoked_previews=None if before.revoked_previews == revoked else revoked,
    )
