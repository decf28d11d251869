"""What a page says once, after a form was sent and the browser was sent on: from a fixed list."""

from __future__ import annotations

import re

COOKIE = "sortition_notice"
SECONDS = 60

_FORM = re.compile(r"([a-z]+)(?::([a-z0-9][a-z0-9._-]{0,99}):([0-9]{1,15}))?")

WORDS = {
    "created": "Flag created. It exposes nobody until you give it a share.",
    "saved": "Saved in {environment} as revision {revision}.",
    "same": "Nothing to change in {environment}: it is like that already.",
    "killed": "Killed in {environment}, revision {revision}. Every request gets the rest variant.",
    "whole": "Checked: every entry follows from the one before.",
    "broken": "Checked: the record is broken. See below.",
    "marked": "Noted, and it stands in the record.",
    "unmarked": "Taken back.",
    "edited": "Saved.",
    "made": "Made. Every flag exposes nobody in it.",
    "gone": "Deleted. Rollouts that go by it keep their steps.",
    "ended": "They may not sign in any more. Their sessions have ended.",
    "forgotten": "Forgotten. What they did stays in the record, under an id.",
    "password": "Your password is changed. Every other session of yours has ended.",
    "acknowledged": "A new epoch of the record has begun. Things may be enlarged again.",
    "revoked": "Revoked. Whoever shows this token is refused from now on.",
    "linkrevoked": "Revoked. Services stop showing it as soon as they have heard, within seconds.",
    "archived": "Archived. Services do not get this flag any more; its history stays.",
    "back": "Brought back. It exposes nobody until you say so.",
    "begun": "Started. Its first step is taken at the controller's next look.",
    "held": "Held. Nothing goes up until somebody resumes; guards still watch.",
    "heldflags": "Held: its flags stay. An engine that is followed cannot be made to wait.",
    "resumed": "Resumed. The timer counts on.",
    "advanced": "The rest of the wait is skipped. It goes on as soon as no guard fails.",
    "approved": "Approved.",
    "takenback": "Rolling back: flags at once, traffic at the controller's next look.",
    "noted": "Added to the record.",
    "asked": "Nothing was changed yet: it waits for a second person. Send them this page.",
    "carriedout": "Approved, and done.",
    "withdrawn": "It waits no longer. Nothing was changed.",
    "unchanged": "Nothing to change: it is like that already.",
    "started": "Rollout started.",
    "unkilled": "No longer killed in {environment}, revision {revision}.",
}


def written(word: str, environment: str = "", revision: int = 0) -> str:
    """Return a notice as its cookie carries it."""
    return f"{word}:{environment}:{revision}" if environment else word


def words(cookie: str) -> str | None:
    """Return what a notice's cookie says, or None for anything that we did not write."""
    match = _FORM.fullmatch(cookie)
    if match is None or match[1] not in WORDS:
        return None
    return WORDS[match[1]].format(environment=match[2], revision=match[3])
