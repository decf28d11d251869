"""Snapshots on disk: the last one known, written whole and checked; or one made by hand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from sortition.core.model import Snapshot
from sortition.core.reading import read_snapshot


def read(path: str | os.PathLike[str]) -> Snapshot:
    """Return the snapshot of a file. Raises OSError or ValueError (checksum, form).

    The file holds a snapshot's JSON, and on its first line, if we wrote it, `sha256:<hex>`.
    """
    content = Path(path).read_bytes()
    first, _, rest = content.partition(b"\n")
    if first.startswith(b"sha256:"):
        if hashlib.sha256(rest).hexdigest().encode() != first.removeprefix(b"sha256:").strip():
            raise ValueError("the snapshot's checksum is wrong")
        content = rest
    snapshot = read_snapshot(content.decode(), lambda version: False)
    assert snapshot is not None  # noqa: S101 (it is not known)
    return snapshot


def write(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Replace the file with this snapshot, whole or not at all. Raises OSError, ValueError."""
    body = b"".join(_pieces(snapshot))
    new = Path(f"{os.fspath(path)}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        with new.open("wb") as file:
            file.write(b"sha256:" + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def _pieces(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield a snapshot's JSON flag by flag: encoded as one, ten thousand of them would keep the
    host's other threads waiting for a tenth of a second."""
    head = Snapshot(
        *(snapshot.version, snapshot.environment, snapshot.flush_seconds),
        *(snapshot.histogram_edges, {}, snapshot.revoked_previews),
    )
    yield json.dumps(head.to_wire(), separators=(",", ":")).encode()[:-2]
    between = b""
    for key, flag in snapshot.flags.items():
        text = json.dumps({key: flag.to_wire()}, separators=(",", ":"))
        yield between + text.encode()[1:-1]
        between = b","
    yield b"}}"
