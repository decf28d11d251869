"""What a machine's controllers hold, on its disk: see `ports.Journal`.

In `journal/rollouts/` of the data directory, one file for each rollout:

    <id>.held       the rollout as this controller knew it last
    <id>.lowered    why its traffic is taken back without the store, and when that was done
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from flagserver.domain.errors import Refusal
from flagserver.domain.rollout import Rollback, Rollout

from .files import read_checked, write_checked

log = logging.getLogger(__name__)

HELD, LOWERED = ".held", ".lowered"

T = TypeVar("T")


class DiskJournal:
    """`ports.Journal` in a directory that the controllers of one machine share."""

    def __init__(self, directory: Path) -> None:
        """Nothing is made or read yet."""
        self._directory = directory
        self._written: dict[str, Rollout] = {}

    def keep(self, rollout: Rollout) -> None:
        """Keep a rollout as it is now; costs nothing when that is there already."""
        if self._written.get(rollout.id) != rollout:
            self._write(rollout.id + HELD, rollout.to_body())
            self._written[rollout.id] = rollout

    def kept(self) -> list[Rollout]:
        """Return the rollouts that are kept and were not taken back."""
        lowered = {id for id, cause in self.all_lowered() if cause.applied is not None}
        return [held for id, held in self._read(HELD, Rollout.from_body) if id not in lowered]

    def lowered(self, id: str, cause: Rollback) -> None:
        """Keep that a rollout's traffic is or was taken back, and why."""
        self._write(id + LOWERED, cause.to_body())

    def all_lowered(self) -> list[tuple[str, Rollback]]:
        """Return what is or was taken back without the store."""
        return self._read(LOWERED, Rollback.from_body)

    def forget(self, id: str) -> None:
        """Forget a rollout."""
        self._written.pop(id, None)
        for ending in (HELD, LOWERED):
            (self._directory / (id + ending)).unlink(missing_ok=True)

    def keep_only(self, live: Collection[str]) -> None:
        """Forget every rollout but these; what was taken back stays until the store knows."""
        lowered = {path.stem for path in self._files(LOWERED)}
        for path in self._files(HELD):
            if path.stem not in live and path.stem not in lowered:
                self.forget(path.stem)

    def _write(self, name: str, body: dict[str, Any]) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_checked(self._directory / name, json.dumps(body).encode())

    def _files(self, ending: str) -> Iterator[Path]:
        if self._directory.is_dir():
            yield from sorted(self._directory.glob(f"*{ending}"))

    def _read(self, ending: str, of: Callable[[dict[str, Any]], T]) -> list[tuple[str, T]]:
        """Return what can be read. A file that is torn, or that another version wrote, hides no
        other."""
        found = []
        for path in self._files(ending):
            try:
                found.append((path.stem, of(json.loads(read_checked(path)[1]))))
            except (OSError, ValueError, TypeError, KeyError, Refusal) as error:
                log.error("%s in the journal cannot be used: %r", path.name, error)  # noqa: TRY400
        return found
