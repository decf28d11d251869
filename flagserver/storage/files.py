"""Files of this server's own: private, checked, and replaced whole or not at all."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path


def read_checked(path: Path) -> tuple[str, bytes]:
    """Return what follows the checksum on a file's first line, and the rest of the file.

    Raises OSError, and ValueError when the checksum is wrong.
    """
    head, separator, body = path.read_bytes().partition(b"\n")
    checksum, _, mark = head.partition(b" ")
    if not separator or checksum != digest(body):
        raise ValueError("its checksum is wrong")
    return mark.decode(), body


def write_checked(path: Path, body: bytes, mark: str = "") -> None:
    """Replace a file whole: `sha256:<hex> <mark>` on its first line, then the body. Raises OSError,
    and then leaves what was there."""
    head = digest(body) + (f" {mark}".encode() if mark else b"")
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with open(new, "wb", opener=_private) as file:
            file.write(head + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync(path.parent)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise


def sync(directory: Path) -> None:
    """Make a directory's new and removed names last. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(body: bytes) -> bytes:
    """Return the checksum as a first line begins with it."""
    return b"sha256:" + hashlib.sha256(body).hexdigest().encode()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
