"""A request's body is read here, on the loop, before a thread has to do with it.

A slow sender holds its connection and nothing else. How long a body may be, and how long it may
take, is decided here; what that means for the sender is `body.py`'s to say, and only after it is
known who sends it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import RequestTimeout

READ_SECONDS = 10.0
"""How long the next octets may take."""

WHOLE_SECONDS = 30.0
"""How long all of them may take."""

LINGER_SECONDS = 0.5
LINGER_OCTETS = 256 * 1024
"""What is read of a body that is too large, so that its sender comes to read the answer."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Gone(Exception):
    """The sender went away before the body's end."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was read. octets: all of a body, or one more than there may be.

    length: octets that there are, or that were announced.  whole: nothing more comes.  late: it
    took too long.
    """

    octets: bytes = b""
    length: int = 0
    whole: bool = True
    late: bool = False

    def stream(self) -> io.IOBase:
        """Return it as WSGI's `wsgi.input`."""
        return _Late() if self.late else io.BytesIO(self.octets)


NOTHING = Taken()


class _Late(io.RawIOBase):
    """A body that did not come in time. Whoever reads it learns that."""

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> int:
        raise RequestTimeout("The body took too long.")


async def take(receive: Receive, limit: int, announced: int | None) -> Taken:
    """Read a body. announced: its Content-Length, None without one. Raises Gone."""
    if announced is not None and announced > limit:
        # Asking for it may tell the sender to go on (`Expect: 100-continue`).
        return Taken(b"", announced, whole=False)
    found = bytearray()
    try:
        async with asyncio.timeout(WHOLE_SECONDS):
            whole = await _fill(found, receive, limit)
    except TimeoutError:
        return Taken(b"", len(found), whole=False, late=True)
    if not whole:
        whole = await _linger(receive)
    return Taken(bytes(found), len(found), whole)


async def _fill(found: bytearray, receive: Receive, limit: int) -> bool:
    """Read until the end or one octet more than the limit; tell whether that was the end."""
    while True:
        async with asyncio.timeout(READ_SECONDS):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        found += message.get("body", b"")
        if len(found) > limit:
            del found[limit + 1 :]
            return not message.get("more_body", False)
        if not message.get("more_body", False):
            return True


async def _linger(receive: Receive) -> bool:
    """Read on for a little while; tell whether the end was reached."""
    left = LINGER_OCTETS
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        pass
    return False
