"""What a stream is, in the words of whoever lets its request in.

A view decides who may listen to what, and leaves a `Listening` in the request's environment; the
hub of the process carries it out on the connection. So a stream passes the same guards as any other
request, and costs no thread while it lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from sortition.core.model import SnapshotVersion

ENVIRON = "sortition.listening"
"""Where a view leaves it. No header can put anything there: theirs begin with HTTP_."""

Say = Callable[[str, bytes], None]
"""Sends one message of a `text/event-stream` to whoever listens to a topic; from any thread."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a stream is sent at once.

    known: the version that it tells of; messages up to it are not for this stream.
    """

    messages: Sequence[bytes]
    known: SnapshotVersion | None = None


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Listening:
    """One stream. All functions are called on the loop: they look into memory and nowhere else.

    topics: what it hears of.  begin: what it is sent at once, made when it is sure to miss nothing.
    beat: what keeps it from falling silent, None where others see to that.  permit: equal for those
    who are let in by the same token or session.  allowed: whether that is still good.
    life_seconds: it ends by itself then.  ended: told when it is over, once, if it ever began.
    """

    topics: frozenset[str]
    begin: Callable[[], Beginning]
    permit: Hashable
    allowed: Callable[[], bool]
    beat: Callable[[], bytes] | None = None
    life_seconds: float = math.inf
    ended: Callable[[], None] = _nothing
