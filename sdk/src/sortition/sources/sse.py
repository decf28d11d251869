"""Server-sent events, read exactly (WHATWG HTML, section 9.2): bytes in, messages out, no I/O."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from sortition.core.records import dataclass

_CARRIAGE_RETURN = re.compile("\r\n?")
_RETRY = re.compile(r"[0-9]{1,12}", re.ASCII)
"""More digits than these are a wait that nobody means."""


class TooLong(ValueError):
    """A line or message is longer than allowed."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event. data: its lines joined by line feeds."""

    event: str
    data: str
    id: str


class Parser:
    """Feed it bytes however they were cut; an event that never ends is never given out.

    limit: characters that one message may hold.  retry_ms: what the server asked for, or None.
    """

    def __init__(self, limit: int = 64 * 1024 * 1024) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._limit = limit
        self._pending: list[str] = []
        self._pending_size = 0
        self._first = True
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []
        self._size = 0
        self._id = ""
        self.retry_ms: int | None = None

    def feed(self, octets: bytes) -> Iterator[Message]:
        """Yield the messages that these bytes complete. Raises TooLong."""
        text = self._decoder.decode(octets)
        if self._first and text:
            self._first = False
            text = text.removeprefix("\ufeff")
        if self._after_cr and text:
            self._after_cr = False
            text = text.removeprefix("\n")
        # A carriage return at the very end may be half of a pair.
        self._after_cr = text.endswith("\r")
        if "\r" in text:
            text = _CARRIAGE_RETURN.sub("\n", text)
        *lines, rest = text.split("\n")
        for line in lines:
            yield from self._line(line)
        self._keep(rest)

    def _keep(self, rest: str) -> None:
        if rest:
            self._pending.append(rest)
            self._pending_size += len(rest)
            if self._pending_size + self._size > self._limit:
                raise TooLong

    def _line(self, end: str) -> Iterator[Message]:
        line = end
        if self._pending:
            line = "".join([*self._pending, end])
            self._pending, self._pending_size = [], 0
        if not line:
            yield from self._dispatch()
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value) + 1
            if self._size > self._limit:
                raise TooLong
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and _RETRY.fullmatch(value):
            self.retry_ms = int(value)

    def _dispatch(self) -> Iterator[Message]:
        event, data = self._event or "message", self._data
        self._event, self._data, self._size = "", [], 0
        if data:
            yield Message(event, "\n".join(data), self._id)
