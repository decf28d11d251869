"""Following a rollout: what has happened between two looks, until it is over.

`happened` is pure: it compares a rollout with how it was. `Watch` asks the server again and again,
outlives its absence, and says with which exit code it all ends. Where it is shown is a `Screen`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from . import exits
from . import rollout_words as words
from .api import Api, Failure
from .heartbeat import Heartbeat
from .output import duration, percent

POLL_SECONDS = 1.5
PROGRESS_SECONDS = 60.0
MARGIN_SECONDS = 15 * 60.0
"""A watch ends so long after its schedule could be over."""

ANSWER_SECONDS = 5.0
"""A watch asks again soon enough: it waits for one answer no longer than this."""

DETACHED = 130
"""Exit code after Ctrl-C, as shells have it."""

Rollout = Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """Something that happened. kind: one word for programs; words: the same for people.

    rollout: as it was seen then, None if it never was.  exit_code: of the event that ends a watch.
    """

    kind: str
    words: str
    rollout: Rollout | None = None
    exit_code: int | None = None


class Screen(Protocol):
    """Where a watch is shown."""

    def tell(self, event: Event) -> None:
        """Show that something happened."""

    def draw(self, rollout: Rollout | None, age: float, trouble: str | None) -> None:
        """Show how it stands. age: seconds since it was read; trouble: why it cannot be read."""


# --- what has happened ----------------------------------------------------------------------------


def happened(before: Rollout | None, after: Rollout) -> list[Event]:
    """Return what has happened since, in order; without a before, how it stands."""
    if before is None:
        return [Event("watching", standing(after))]
    events = []
    if (after["state"], _waits_for(after)) != (before["state"], _waits_for(before)):
        events.append(_entered(before, after))
    given = len(after["approvals"]) - len(before["approvals"])
    if given > 0:
        approval = after["approvals"][-1]
        events.append(
            Event("approved", f"step {approval['step']} was approved by {approval['by']}")
        )
    events += _of_the_engine(before, after)
    reached = (after["step"], words.is_settled(after))
    if reached != (before["step"], words.is_settled(before)) and _is_reached(after):
        events.append(Event("step", _step_reached(after)))
    return events


def _of_the_engine(before: Rollout, after: Rollout) -> list[Event]:
    """Return what the engine that is followed did, one event for each line of its lane."""
    told = set(words.lane_events(before))
    events = [Event("engine", line) for line in words.lane_events(after) if line not in told]
    now = words.lane(after)
    return [*events, Event("engine", now)] if now and now != words.lane(before) else events


def standing(it: Rollout) -> str:
    """Return how a rollout stands, on one line."""
    if it["terminal"] or it["state"] != "running":
        return _entered(None, it).words
    being_set = it["step"] and not words.is_settled(it)
    left = "is being set" if being_set else words.time_left(it)
    return "  ".join(part for part in (words.step(it), left, words.guards_short(it)) if part)


def _waits_for(it: Rollout) -> str | None:
    return None if it["waiting"] is None else str(it["waiting"]["why"])


def _is_reached(it: Rollout) -> bool:
    return it["state"] in {"running", *words.STANDING_STILL} and words.is_settled(it)


def _step_reached(it: Rollout) -> str:
    step = it["steps"][it["step"] - 1]
    waits = f"held {duration(step['hold'])}" if step["hold"] else "the last step"
    approval = "needs an approval" if step["approval"] else ""
    parts = [words.step(it), "reached", waits, approval, words.guards_short(it)]
    return "  ".join(part for part in parts if part)


def _entered(before: Rollout | None, it: Rollout) -> Event:
    """Return the event of having come into a state."""
    if it["state"] == "running":
        kind = _RUNS_AFTER.get(before["state"] if before is not None else "pending", "resumed")
        return Event(kind, f"{kind.replace('_', ' ')}  {words.step(it)}")
    said = _ENTERED.get(it["state"])
    return Event(it["state"], said(it) if said is not None else words.state(it))


_RUNS_AFTER = {"pending": "started", "unknown": "looked_at_again"}


def _holding(it: Rollout) -> str:
    waits = f"HOLDING  {words.step(it)}: {words.reason(it)}"
    asks = _waits_for(it) == "approval"
    return f"{waits} (sortition rollouts approve {it['id']})" if asks else waits


def _unknown(it: Rollout) -> str:
    since = f" since {words.clock(it['looked'])}" if it["looked"] else ""
    return f"UNKNOWN  no controller has looked at it{since}"


_ENTERED: dict[str, Callable[[Rollout], str]] = {
    "pending": lambda it: f"waits to start{_start_time(it)}",
    "holding": _holding,
    "paused": lambda it: f"PAUSED  {words.step(it)}: somebody stopped it",
    "rolling_back": lambda it: f"ROLLING BACK  from {_from(it)}: {words.reason(it)}",
    "rolled_back": lambda it: (
        f"ROLLED BACK  from {_from(it)}: {words.reason(it)} {words.rollback_times(it)}"
    ),
    "rollback_failed": lambda it: f"ROLLBACK FAILED, tried again  {words.reason(it)}",
    "completed": lambda it: f"COMPLETE  at {percent(words.share(it))}",
    "superseded": lambda it: f"REPLACED  by the newer rollout {it['superseded_by']}",
    "unknown": _unknown,
}
"""State -> what is said when it is come into."""


def _from(it: Rollout) -> str:
    number = it["rollback"]["step"] if it["rollback"] else it["step"]
    if not number:
        return "before the first step"
    return f"step {number}/{len(it['steps'])} at {percent(it['steps'][number - 1]['share'])}"


def _start_time(it: Rollout) -> str:
    return f" at {it['start_at']}" if it["start_at"] else ""


# --- following it ---------------------------------------------------------------------------------


class Watch:
    """One rollout, followed until it ends, its time is up, or somebody has had enough."""

    def __init__(
        self,
        api: Api,
        id: str,
        screen: Screen,
        *,
        seconds: float | None = None,
        fail_on_hold: bool = False,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        """Follow a rollout. seconds: for how long; None: its schedule, what an engine waits
        besides, and 15 minutes.

        heartbeat: where it is not to run on unseen.
        """
        # The watch itself asks again: a call need not.
        self._api = replace(api, attempts=1, timeout=min(api.timeout, ANSWER_SECONDS))
        self._id = id
        self._screen = screen
        self._seconds = MARGIN_SECONDS if seconds is None else seconds
        self._is_asked = seconds is not None
        self._began = 0.0
        self._fail_on_hold = fail_on_hold
        self._heartbeat = heartbeat
        self._seen: Rollout | None = None
        self._read_at = 0.0
        self._trouble: str | None = None

    def run(self) -> Event:
        """Follow it; return the event that ended it, told already. Raises Failure for what no
        waiting helps against."""
        self._began = self._api.monotonic()
        next_line = self._began + PROGRESS_SECONDS
        while True:
            if self._heartbeat is not None:
                self._heartbeat.beat()
            told = self._look()
            now = self._api.monotonic()
            ending = self._ending(now - self._began)
            if ending is not None:
                return self._tell(self._left_behind(ending))
            if told:
                next_line = now + PROGRESS_SECONDS
            elif now >= next_line:
                next_line += PROGRESS_SECONDS
                self._tell(self._progress())
            self._screen.draw(self._seen, now - self._read_at, self._trouble)
            self._api.sleep(max(0.0, min(POLL_SECONDS, self._began + self._seconds - now)))

    def leave(self) -> Event:
        """End the watching; return the event that says so. The rollout goes on."""
        again = f"`sortition rollouts watch {self._id}` follows it again"
        said = f"detached; the rollout goes on ({again})"
        return self._tell(Event("detached", said, exit_code=DETACHED))

    def stop(self, signal: str, exit_code: int) -> Event:
        """End the watching because somebody stopped it; return the event that says so."""
        assert self._heartbeat is not None  # noqa: S101 (without one nobody asks)
        came = self._hold(self._heartbeat, f"Whoever watched it was stopped ({signal}).")
        return self._tell(Event("stopped", f"STOPPED  by {signal}; {came}", exit_code=exit_code))

    def _left_behind(self, ending: Event) -> Event:
        """Return the ending, after a rollout that has not ended was put on hold."""
        over = self._seen is not None and self._seen["terminal"]
        if self._heartbeat is None or over:
            return ending
        came = self._hold(self._heartbeat, "Whoever watched it does so no longer.")
        said = ending.words.removesuffix("; the rollout goes on")
        return replace(ending, words=f"{said}; {came}")

    def _hold(self, heartbeat: Heartbeat, reason: str) -> str:
        came, held = heartbeat.hold(reason)
        self._seen = held or self._seen
        return came

    def _tell(self, event: Event) -> Event:
        event = replace(event, rollout=self._seen)
        self._screen.tell(event)
        return event

    # One look

    def _look(self) -> bool:
        """Look once and tell what is new; return whether anything was."""
        try:
            found = self._api.get(f"/api/v1/rollouts/{self._id}")
        except Failure as failure:
            if not failure.passes:
                raise
            return self._miss(failure)
        events = happened(self._seen, found)
        if self._trouble is not None:
            events.insert(0, Event("reachable", "the server answers again"))
        first = self._seen is None
        self._seen, self._trouble, self._read_at = found, None, self._api.monotonic()
        if first:
            self._set_limit(found)
            most = f"watched for {duration(self._seconds)} at most (--timeout)"
            events.append(Event("limit", most))
        if self._over() is not None:
            # Its last event is told with the exit code.
            events = [event for event in events if event.kind not in {found["state"], "watching"}]
        for event in events:
            self._tell(event)
        return bool(events)

    def _miss(self, failure: Failure) -> bool:
        first = self._trouble is None
        # What to do about it is nothing: only what happened is said.
        self._trouble = failure.message.split(". ")[0].rstrip(".")
        if first:
            said = f"UNREACHABLE  {self._trouble}; the rollout goes on, and so does watching"
            self._tell(Event("unreachable", said))
        return first

    def _progress(self) -> Event:
        if self._trouble is not None:
            return Event("progress", f"still: {self._trouble}")
        assert self._seen is not None  # noqa: S101 (no trouble, so it was read)
        return Event("progress", standing(self._seen))

    # The end

    def _set_limit(self, it: Rollout) -> None:
        """Settle when it has taken too long, counted from this first look, unless somebody said
        so."""
        if not self._is_asked:
            lost = self._read_at - self._began
            self._seconds = lost + _seconds_needed(it, self._api.now()) + MARGIN_SECONDS

    def _ending(self, elapsed: float) -> Event | None:
        over = self._over()
        if over is not None:
            return over
        if elapsed < self._seconds:
            return None
        if self._seen is None:
            never = f"TIMED OUT  after {duration(elapsed)} without any answer: {self._trouble}"
            return Event("timed_out", never, exit_code=exits.UNREACHABLE)
        return _timed_out(self._seen, elapsed, self._trouble)

    def _over(self) -> Event | None:
        """Return the ending that the rollout's own state is."""
        it = self._seen
        if it is None or self._trouble is not None:
            return None
        if it["terminal"]:
            # A state that this command does not know is no success.
            code = AT_THE_END.get(it["state"], exits.ERROR)
            return replace(_entered(None, it), exit_code=code)
        if self._fail_on_hold and it["state"] in words.STANDING_STILL:
            return replace(_entered(None, it), exit_code=exits.HOLDING)
        return None


AT_THE_END = {
    "completed": exits.DONE,
    "rolled_back": exits.ROLLED_BACK,
    # Nothing is broken, but this version never got to everybody: what a pipeline does after a
    # complete rollout must not be done.
    "superseded": exits.CONFLICT,
}
"""State of an ended rollout -> exit code."""


def _seconds_needed(it: Rollout, now: float) -> float:
    """Return how long a rollout takes from its beginning when nothing intervenes, and until then if
    it has not begun; with what an engine that it follows waits besides. now: unix seconds."""
    waits = it["state"] == "pending" and it["start_at"]
    until = max(0.0, words.unix(it["start_at"]) - now) if waits else 0.0
    waits = sum(float(target["settings"].get("waits", 0)) for target in it["targets"])
    return until + float(it["duration"]) + waits


def _timed_out(it: Rollout, elapsed: float, trouble: str | None) -> Event:
    after = f"TIMED OUT  after {duration(elapsed)}"
    if it["state"] in {"rolling_back", "rollback_failed"}:
        said = f"{after}: the rollback is not confirmed yet. {words.reason(it)}"
        return Event("timed_out", said, exit_code=exits.ROLLED_BACK)
    seen = f"{words.state(it)}, {words.step(it)}"
    lost = f"last seen {seen} ({trouble})" if trouble is not None else seen
    return Event("timed_out", f"{after}: {lost}; the rollout goes on", exit_code=exits.TIMED_OUT)
