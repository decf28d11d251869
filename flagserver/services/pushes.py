"""Push signals: word that something happened outside hastens a controller's next look.

Nothing else follows from it. An event that is lost costs a few seconds, one that is made up costs
one look, and one that comes again costs nothing.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from typing import Literal

from pydantic import ValidationError

from flagserver.domain import pushed
from flagserver.domain.hook_commands import EventBridgeEvent
from flagserver.domain.times import moment
from flagserver.ports import Clock, Documents, Entropy, Mailbox, Nudges

from .background import Background
from .turns import Turns

log = logging.getLogger(__name__)

Heard = Literal["hastens", "repeated", "late", "unconcerned", "unknown"]
"""What became of an event: a controller looks at once; it was here before; it is too old; no live
rollout is concerned; it is of no kind that is known."""

REMEMBERED_SECONDS = 900.0
"""How long an event is known again. Older ones are late anyway."""

PAUSE_SECONDS, LONGEST_SECONDS = 1.0, 30.0
"""After a failure the queue is asked again after a pause from 0 to a bound that doubles."""


class Pushes:
    """Hears events."""

    def __init__(self, store: Documents, nudges: Nudges, clock: Clock, entropy: Entropy) -> None:
        self._nudges = nudges
        self._clock = clock
        self._turns = Turns(store, clock, entropy)
        self.heard: Counter[str] = Counter()
        """What became of events, of this process."""

    def hear(self, event: EventBridgeEvent, environment: str | None = None) -> Heard:
        """Hasten the next look if an event may concern a live rollout (of this environment). Raises
        StoreUnavailable."""
        result = self._hear(event, environment)
        self.heard[result] += 1
        return result

    def _hear(self, event: EventBridgeEvent, environment: str | None) -> Heard:
        told = event.pushed()
        if told is None:
            return "unknown"
        if not pushed.is_fresh(told, moment(self._clock.now())):
            return "late"
        rollouts = (view.rollout for view in self._turns.live().values())
        if not any(
            environment in (None, rollout.environment) and pushed.concerns(told, rollout)
            for rollout in rollouts
        ):
            return "unconcerned"
        first = self._nudges.nudge(told.id, ttl_seconds=REMEMBERED_SECONDS)
        return "hastens" if first else "repeated"


class Postman(Background):
    """Fetches events from a queue, in a thread of its own, for servers that AWS cannot reach."""

    def __init__(self, mailbox: Mailbox, pushes: Pushes, chance: Callable[[], float]) -> None:
        """chance: from 0 to 1."""
        super().__init__("sortition-postman", "events wait in the queue")
        self._mailbox = mailbox
        self._pushes = pushes
        self._chance = chance
        self._bound = PAUSE_SECONDS

    def look(self) -> None:
        """Fetch what is there."""
        self.fetch()

    def pause(self, well: bool) -> float:
        """Ask again at once, for the queue itself waits for events; after a failure, later."""
        if well:
            self._bound = PAUSE_SECONDS
            return 0.0
        bound, self._bound = self._bound, min(2 * self._bound, LONGEST_SECONDS)
        return bound * self._chance()

    def fetch(self) -> int:
        """Hear what is there, and take it out of the queue; return how many there were. What cannot
        be read is taken out too. Raises TargetUnavailable, StoreUnavailable."""
        letters = self._mailbox.receive()
        for letter in letters:
            event = _event(letter.text)
            if event is None:
                log.warning("an event in the queue cannot be read")
            else:
                self._pushes.hear(event)
        if letters:
            self._mailbox.take_out(letters)
        return len(letters)


def _event(text: str) -> EventBridgeEvent | None:
    try:
        return EventBridgeEvent.model_validate(json.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return None
