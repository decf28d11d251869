"""Anchors in a directory: a file is added once, and never written over (`ports.Anchors`).

    <directory>/<log>/<epoch>/<size, 20 digits>      the signed note

Where the directory is somebody else's (another machine, another user, a file system that only
appends), whoever rules the store cannot take back what was signed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flagserver.ports import AnchorsUnavailable, AnchorTaken

from .files import sync


class DiskAnchors:
    """`ports.Anchors` in a directory."""

    def __init__(self, directory: Path) -> None:
        """Nothing is made or read yet."""
        self._directory = directory

    def add(self, place: str, note: str) -> None:
        """Keep a note, synced, unless something stands there."""
        path = self._directory / place
        try:
            _make(path.parent, self._directory)
            self._put(path, note)
        except OSError as error:
            raise AnchorsUnavailable(_words(error)) from None

    def newest(self, log: str) -> str | None:
        """Return the newest note of a log, or None."""
        try:
            path = next(self._places(log), None)
            return None if path is None else path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise AnchorsUnavailable(_words(error)) from None

    def _put(self, path: Path, note: str) -> None:
        new = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            with new.open("w", encoding="utf-8") as file:
                file.write(note)
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: it does not replace what stands there.
            path.hardlink_to(new)
            sync(path.parent)
        except FileExistsError:
            if path.read_text() != note:
                raise AnchorTaken(f"Another checkpoint is anchored at {path}.") from None
        finally:
            with suppress(OSError):
                new.unlink()

    def _places(self, log: str) -> Iterator[Path]:
        """Yield the files of a log, the newest first."""
        root = self._directory / log
        if not root.exists():
            return
        epochs = [path for path in root.iterdir() if path.name.isdigit()]
        for epoch in sorted(epochs, key=lambda path: int(path.name), reverse=True):
            yield from sorted((it for it in epoch.iterdir() if it.name.isdigit()), reverse=True)


def _make(folder: Path, above: Path) -> None:
    """Make a folder and those it lies in, each synced in its own. Raises OSError."""
    if folder.exists():
        return
    if folder != above:
        _make(folder.parent, above)
    folder.mkdir(parents=folder == above, exist_ok=True)
    sync(folder.parent)


def _words(error: OSError | UnicodeDecodeError) -> str:
    why = getattr(error, "strerror", None) or "it is not text"
    return f"The anchors cannot be reached: {getattr(error, 'filename', None)}: {why}."
