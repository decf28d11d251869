"""Everything that the record can say happened: one table for API, pages, command and messages.

A kind is what a `Fact` calls its action, subject:object:verb. Whoever records a new one gives it
its words here (`tests/unit/test_events.py` looks for those that have none).
"""

from __future__ import annotations

from dataclasses import dataclass

from .notices import Severity


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event. words: what happened, of the thing that it happened to.

    severity: how loud people are told of it; None: it stands in the record, and nobody is told.
    """

    words: str
    severity: Severity | None = None


INFO, WARNING, PAGE = Severity.INFO, Severity.WARNING, Severity.PAGE

KINDS: dict[str, Kind] = {
    # Rollouts, by people
    "rollout:create": Kind("created"),
    "rollout:supersede": Kind("created, taking over from an older one", INFO),
    "rollout:start": Kind("started", INFO),
    "rollout:hold": Kind("held by somebody", INFO),
    "rollout:resume": Kind("resumed", INFO),
    "rollout:step:advance": Kind("rest of the wait skipped"),
    "rollout:step:approve": Kind("step approved"),
    "rollout:note": Kind("a note on it"),
    "rollout:watch:begin": Kind("watched from now on"),
    "rollout:drill:begin": Kind("made to fail on purpose, as a drill"),
    "rollout:mark": Kind("marked as right, false or missed"),
    "rollout:sync": Kind("engines brought in line with how it ended"),
    # Rollouts, by controllers
    "rollout:step:begin": Kind("next step begun"),
    "rollout:step:confirm": Kind("shares confirmed", INFO),
    "rollout:step:follow": Kind("followed where the engine went", INFO),
    "rollout:engine:note": Kind("told something by the engine"),
    "rollout:wait:begin": Kind("holds", WARNING),
    "rollout:wait:change": Kind("holds for another reason", WARNING),
    "rollout:wait:end": Kind("goes on", INFO),
    "rollout:gap:record": Kind("unwatched for a while, which does not count"),
    "rollout:late:correct": Kind("late write of another controller set right", WARNING),
    "rollout:rollback:begin": Kind("going back", WARNING),
    "rollout:rollback:fail": Kind("rollback cannot be confirmed", PAGE),
    "rollout:rollback:confirm": Kind("back at 0 %", INFO),
    "rollout:complete": Kind("complete", INFO),
    "rollout:forget": Kind("old rollouts forgotten"),
    # That nobody moves them, by whoever serves
    "controllers:silence:begin": Kind("no controller looks at rollouts", PAGE),
    "controllers:silence:end": Kind("rollouts are looked at again", INFO),
    # Engines that ask
    "hook:codedeploy:allow": Kind("let go on"),
    "hook:codedeploy:deny": Kind("refused to go on"),
    "hook:codedeploy:wait": Kind("kept waiting for an answer"),
    "hook:codedeploy:report": Kind("answer brought to the engine"),
    "hook:codedeploy:drop": Kind("question dropped: nobody asks it any more"),
    # Flags
    "flag:create": Kind("flag created"),
    "flag:edit": Kind("flag edited"),
    "flag:archive": Kind("flag archived"),
    "flag:unarchive": Kind("flag brought back"),
    "flag:share:change": Kind("what is served changed"),
    "flag:kill": Kind("killed"),
    "flag:unkill": Kind("no longer killed"),
    "preview:make": Kind("preview link made"),
    "preview:revoke": Kind("preview link revoked"),
    # What waits for a second person
    "approval:ask": Kind("approval wanted", INFO),
    "approval:withdraw": Kind("withdrawn"),
    "approval:lapse": Kind("lapsed, as what it was about has changed"),
    # Settings
    "environment:create": Kind("environment created"),
    "environment:edit": Kind("environment edited"),
    "environment:loosen": Kind("enlarging there waits for nobody any more", WARNING),
    "schedule:create": Kind("schedule created"),
    "schedule:edit": Kind("schedule edited"),
    "schedule:delete": Kind("schedule deleted"),
    "token:create": Kind("token made"),
    "token:adopt": Kind("token adopted"),
    "token:rotate": Kind("another token took its place"),
    "token:revoke": Kind("token revoked"),
    "person:create": Kind("somebody invited"),
    "person:invite": Kind("invited anew"),
    "person:edit": Kind("roles or name changed"),
    "person:password": Kind("password set"),
    "person:end": Kind("may not sign in any more"),
    "person:forget": Kind("forgotten"),
    "notification:test": Kind("test message sent"),
    "session:begin": Kind("signed in"),
    "session:refuse": Kind("tries to sign in refused"),
    "store:accept": Kind("store accepted", INFO),
    "record:silence:note": Kind("an hour without an entry"),
    "record:doubt:raise": Kind("not what was signed, so nothing is enlarged", PAGE),
    "record:export:begin": Kind("read whole, by somebody who may"),
    "record:body:prune": Kind("bodies kept long enough taken out"),
}
"""Kind of event -> how it is told."""


def words(kind: str) -> str:
    """Return a kind in words; one that a newer server recorded as it is named."""
    known = KINDS.get(kind)
    return kind.replace(":", " ") if known is None else known.words


def severity(kind: str) -> Severity | None:
    """Return how loud people are told of a kind; None: they are not."""
    known = KINDS.get(kind)
    return None if known is None else known.severity
