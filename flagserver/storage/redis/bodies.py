"""Bodies of the record that are kept no longer: out of the store, and out of its log on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from flagserver.domain.errors import Conflict, StoreUnavailable
from flagserver.domain.retention import Range

from . import keys
from .scripts import script
from .server import Call, Server

PART = 200
"""Entries that are copied at once: a few milliseconds of the store's time."""

UNKNOWN_COMMAND = "unknown command"

OWED, BEGUN = b"owed", b"begun"
"""How far the rewriting of the store's log is."""


class RedisBodies:
    """`ports.Bodies`."""

    _server: Server

    def drop_bodies(self, ranges: Sequence[Range]) -> None:
        """Write the record anew without them; see `ports.Bodies`."""
        self._server.write("DEL", keys.RECORD_COPY)
        copied = 0
        while True:
            answer = self._copy(copied, ranges)
            if answer[0] == b"done":
                return
            if int(answer[1]) <= copied:
                raise Conflict("Another process prunes the record. Nothing was taken away.")
            copied = int(answer[1])

    def rewrite_log(self) -> bool:
        """Have the log written anew where that is owed; see `ports.Bodies`."""
        owed = self._server.read("GET", keys.REWRITE)
        if owed is None:
            return True
        told = self._persistence()
        if told is None:
            return self._rewrite_unseen()
        if not told.get("aof_enabled"):
            # Without a log there is nothing to be written anew; dumps follow their own schedule.
            self._server.write("DEL", keys.REWRITE)
            return True
        if told.get("aof_rewrite_in_progress") or told.get("aof_rewrite_scheduled"):
            return False
        if owed == BEGUN and told.get("aof_last_bgrewrite_status") == "ok":
            self._server.write("DEL", keys.REWRITE)
            return True
        self._begin_to_rewrite()
        self._server.write("SET", keys.REWRITE, BEGUN)
        return False

    def _copy(self, copied: int, ranges: Sequence[Range]) -> list[Any]:
        """Copy the part of the record after an entry; return what the script says."""
        within = [
            str(edge)
            for first, last in ranges
            if last > copied and first <= copied + PART
            for edge in (first, last)
        ]
        names = [keys.RECORD, keys.RECORD_COPY, keys.REWRITE, keys.TARGETS]
        call = Call(script("prune"), names, [copied, PART, *within])
        answer: list[Any] = self._server.run(call)
        return answer

    def _persistence(self) -> Mapping[str, Any] | None:
        """Return what the store says of its log; None where it may not be asked."""
        try:
            told: Mapping[str, Any] = self._server.read("INFO", "persistence", key=keys.META)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, ResponseError):
                return None
            raise
        return told

    def _rewrite_unseen(self) -> bool:
        """Have the log written anew by a store that does not say how it goes on with it."""
        self._begin_to_rewrite()
        self._server.write("DEL", keys.REWRITE)
        return True

    def _begin_to_rewrite(self) -> None:
        try:
            self._server.write("BGREWRITEAOF", key=keys.META)
        except StoreUnavailable as error:
            refused = error.__cause__
            if not isinstance(refused, ResponseError):
                raise
            if UNKNOWN_COMMAND in str(refused).lower():
                # A store that is hosted and keeps no log does not know it.
                return
            words = "The store may not be told to write its log anew (BGREWRITEAOF)"
            raise StoreUnavailable(f"{words}: {refused}.") from error
