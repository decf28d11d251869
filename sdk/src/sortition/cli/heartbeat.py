"""A watcher without whom a rollout is not to run on: `--hold-if-lost`.

While he lives he says so; the server holds the rollout when nothing was heard of him for too long.
When he is stopped, or has no more time, he puts it on hold himself. Nothing here takes it back.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from . import exits
from .api import Api, Failure
from .output import duration

LOST_AFTER = 120.0
"""Seconds of silence after which the server holds a rollout, unless it is told otherwise."""

MOST_BETWEEN = 15.0
"""Seconds between two signs of life at most; a fourth of `lost_after` where that is less."""

HOLD_SECONDS = 6.0
"""For so long it is tried to hold a rollout on the way out: a runner that cancels a job kills the
process 7.5 s after its first signal."""

ANSWER_SECONDS = 2.0
AGAIN_SECONDS = 0.5

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Somebody stopped the command. number: the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        """The signal's name."""
        return signal.Signals(self.number).name


@contextmanager
def stoppable() -> Iterator[None]:
    """Let a signal that stops the command raise Stopped, once; those that follow are not heard, so
    that what has to be done on the way out is done."""

    def stop(number: int, _: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)


class Heartbeat:
    """The signs of life of one watcher of one rollout."""

    def __init__(self, api: Api, id: str, lost_after: float = LOST_AFTER) -> None:
        # Asked again soon enough; and on the way out there is little time.
        self._api = replace(api, attempts=1, timeout=min(api.timeout, ANSWER_SECONDS))
        self._path = f"/api/v1/rollouts/{id}"
        self._lost_after = lost_after
        self._between = min(MOST_BETWEEN, lost_after / 4)
        self._next = api.monotonic()

    def beat(self) -> None:
        """Say that somebody watches, when it is time to. A server that is away is passed over.
        Raises Failure for what no waiting helps against."""
        if self._api.monotonic() < self._next:
            return
        body = {"hold_if_lost": f"{self._lost_after:.0f}s"}
        try:
            self._api.send("POST", f"{self._path}/heartbeat", body)
        except Failure as failure:
            if not failure.passes:
                raise
            return
        self._next = self._api.monotonic() + self._between

    def hold(self, reason: str) -> tuple[str, Mapping[str, Any] | None]:
        """Put the rollout on hold; return what came of it, for people, and the rollout, None when
        it was not held. Takes a few seconds at most."""
        until = self._api.monotonic() + HOLD_SECONDS
        while True:
            held = self._try_to_hold(reason)
            if not isinstance(held, Failure):
                return "it is on hold until somebody resumes it", held
            again = held.passes or self._has_not_begun(held)
            if not again or self._api.monotonic() + AGAIN_SECONDS >= until:
                return self._not_held(held), None
            self._api.sleep(AGAIN_SECONDS)

    def _try_to_hold(self, reason: str) -> Mapping[str, Any] | Failure:
        try:
            return dict(self._api.send("POST", f"{self._path}/hold", {"reason": reason})[0])
        except Failure as failure:
            return failure

    def _has_not_begun(self, failure: Failure) -> bool:
        """Tell whether it cannot be held because its first look is still to come."""
        if failure.exit_code != exits.CONFLICT:
            return False
        try:
            it: Any = self._api.get(self._path)
        except Failure:
            return True
        return bool(it["state"] == "pending")

    def _not_held(self, failure: Failure) -> str:
        if failure.exit_code == exits.CONFLICT:
            return f"it was not put on hold: {failure.message}"
        after = duration(self._lost_after)
        return (
            f"it could not be put on hold: {failure.message} The server holds it by itself when it "
            f"has heard nothing for {after}."
        )
