"""Anchors in memory, which can be out of reach."""

from __future__ import annotations

from flagserver.ports import AnchorsUnavailable, AnchorTaken


class FakeAnchors:
    """`ports.Anchors`. away: whether nobody answers."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self.away = False

    def add(self, place: str, note: str) -> None:
        self._reach()
        if self.notes.setdefault(place, note) != note:
            raise AnchorTaken(f"Another checkpoint is anchored at {place}.")

    def newest(self, log: str) -> str | None:
        self._reach()
        ours = {
            (int(epoch), int(size)): note
            for (name, epoch, size), note in self._apart()
            if name == log
        }
        return ours[max(ours)] if ours else None

    def _apart(self) -> list[tuple[tuple[str, str, str], str]]:
        apart = [(place.rsplit("/", 2), note) for place, note in self.notes.items()]
        return [((log, epoch, size), note) for (log, epoch, size), note in apart]

    def _reach(self) -> None:
        if self.away:
            raise AnchorsUnavailable("The anchors cannot be reached: a test says so.")
