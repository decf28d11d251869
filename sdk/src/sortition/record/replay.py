"""What the record says that flags are now, beside what they are: finds changes made around the API.

    thing                                  what the record keeps of it
    flag/<key>                             the flag itself: variants, salt, archived, …
    <environment>/flag/<key>               its state there: share, weights, conditions, killed, …

Every entry that changes a thing tells it whole, before and after. Of a thing whose entries are
pruned, the newest prune tells a digest: what it was then, and every later entry says what it found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785

from .verify import ACCEPT, PRUNE

Body = Mapping[str, Any]

TIMES = frozenset({"changed"})
"""Left out of the comparing: it says when, and the entry says so itself."""

STATES = "states"
"""Where an entry's `after` tells of flags that changed beside what it is about:
environment -> flag -> {"before": …, "after": …}."""

APPROVAL = "approval"
"""Where an entry's `after` tells who else approved of it, and of which hash."""

OTHER, GONE, NEW, BETWEEN = "other", "gone", "new", "between"
KINDS = (OTHER, GONE, NEW, BETWEEN)
"""A thing is other than the record says; it is not there; the record tells of none; or it was
another, at an entry, than it was left by the one before."""

DIGITS = 16
"""Of a digest: enough to find a change, little enough to tell every day."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was changed around the record.

    seq: the entry that says otherwise; None where its digest in a prune does.
    """

    kind: str
    thing: str
    seq: int | None
    words: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it. things: how many were compared.  unknown: those of which the record tells
    nothing any more, because an operator filled the store from elsewhere."""

    findings: tuple[Finding, ...]
    things: int
    entries: int
    unknown: tuple[str, ...] = ()


def digest(body: Body) -> str:
    """Return what a prune tells of a thing."""
    return hashlib.sha256(rfc8785.dumps(_timeless(body))).hexdigest()[:DIGITS]


def replay(bodies: Iterable[str | None], live: Mapping[str, Body]) -> Replayed:
    """Return how what is live differs from what the record tells.

    bodies: the canonical texts of all entries up to what is live, in order, None where pruned.
    live: thing -> its body, without its revision.
    """
    told = _Told()
    for seq, text in enumerate(bodies, 1):
        told.take(seq, None if text is None else json.loads(text))
    return told.compared(live)


@dataclass(frozen=True, slots=True)
class _Change:
    """What one entry says of one thing. before: None where it made it."""

    seq: int
    before: Body | None
    after: Body


class _Told:
    """What the record has told so far."""

    def __init__(self) -> None:
        self._entries = 0
        self._pruned = False
        self._changes: dict[str, list[_Change]] = {}
        self._digests: Mapping[str, str] = {}
        self._digests_of = 0
        """The entry after which things were what the digests say."""
        self._filled = False
        self._killed: set[str] = set()
        """By an operator, of things of which nothing else is known."""
        self._findings: list[Finding] = []

    def take(self, seq: int, entry: Body | None) -> None:
        """Take the next entry."""
        self._entries = seq
        if entry is None:
            self._pruned = True
        elif entry["action"] == PRUNE:
            # Of several the newest counts: what an older one told is of before.
            after = entry["after"]
            self._digests, self._digests_of = dict(after.get("states") or {}), after.get("of") or 0
        elif entry["action"] == ACCEPT:
            self._take_accept(seq, entry["after"])
        else:
            for thing, before, after in _changes(entry):
                self._note(thing, _Change(seq, before, after))

    def compared(self, live: Mapping[str, Body]) -> Replayed:
        """Return the findings, with those that come of what is live."""
        things = sorted({*live, *self._changes, *self._digests})
        unknown = [thing for thing in things if self._is_unknown(thing)]
        for thing in things:
            finding = None if thing in unknown else self._compare(thing, live.get(thing))
            if finding is not None:
                self._findings.append(finding)
        compared = len(things) - len(unknown)
        return Replayed(tuple(self._findings), compared, self._entries, tuple(unknown))

    def _take_accept(self, seq: int, after: Body) -> None:
        if after.get("filled"):
            # An operator put there what a server had served; the entry only counts it.
            self._filled, self._changes, self._digests = True, {}, {}
        for environment, keys in (after.get("killed") or {}).items():
            for key in keys:
                thing = f"{environment}/flag/{key}"
                known = self._changes.get(thing)
                if known:
                    last = known[-1].after
                    known.append(_Change(seq, last, {**last, "killed": True}))
                else:
                    self._killed.add(thing)

    def _note(self, thing: str, change: _Change) -> None:
        known = self._changes.setdefault(thing, [])
        if known and change.before is not None and _different(known[-1].after, change.before):
            words = f"entry {change.seq} found it other than entry {known[-1].seq} had left it"
            self._findings.append(Finding(BETWEEN, thing, change.seq, words))
        if not known and not self._pruned and not self._filled and _exposes(change.before):
            words = f"entry {change.seq} found it exposed, and no entry had done that"
            self._findings.append(Finding(BETWEEN, thing, change.seq, words))
        known.append(change)

    def _is_unknown(self, thing: str) -> bool:
        return thing not in self._changes and (self._filled or thing in self._killed)

    def _compare(self, thing: str, live: Body | None) -> Finding | None:
        known, pruned = self._changes.get(thing), self._digests.get(thing)
        last = known[-1] if known else None
        if live is None:
            words = "the record tells of it, and it is not there"
            return Finding(GONE, thing, last.seq if last else None, words)
        if last is None and pruned is None:
            return Finding(NEW, thing, None, "it is there, and no entry tells of it")
        if last is not None and (names := _different(last.after, live)):
            words = f"entry {last.seq} left it with another {', '.join(names)}"
            return Finding(OTHER, thing, last.seq, words)
        if pruned is not None and digest(self._then(thing, live)) != pruned:
            words = f"it is not what it was at entry {self._digests_of}, as the newest prune tells"
            return Finding(OTHER if last is None else BETWEEN, thing, None, words)
        return None

    def _then(self, thing: str, live: Body) -> Body:
        """Return what a thing was when the newest prune told of it, as later entries found it."""
        changes = self._changes.get(thing, [])
        earlier = [each for each in changes if each.seq <= self._digests_of]
        if earlier:
            return earlier[-1].after
        return (changes[0].before or {}) if changes else live


def _changes(entry: Body) -> Iterable[tuple[str, Body | None, Body]]:
    """Yield (thing, before, after) of what an entry changed."""
    target, before, after = str(entry["target"]), entry["before"], entry["after"]
    environment = entry["environment"]
    if not isinstance(after, dict):
        return
    if str(entry["action"]).startswith("flag:"):
        thing = target if environment is None else f"{environment}/{target}"
        yield thing, None if before is None else _alone(before), _alone(after)
    # Beside what an entry is about, flags in environments may change with it.
    yield from _states(after.get(STATES) or {})


def _states(told: Mapping[str, Any]) -> Iterable[tuple[str, Body | None, Body]]:
    """Yield what environment -> flag -> {"before", "after"} says."""
    for environment, flags in told.items():
        for key, change in flags.items():
            yield f"{environment}/flag/{key}", change.get("before"), change["after"]


def _alone(body: Body) -> Body:
    return {name: value for name, value in body.items() if name not in {STATES, APPROVAL}}


def _exposes(before: Body | None) -> bool:
    return before is not None and bool(before.get("share") or before.get("killed"))


def _timeless(body: Body) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in TIMES}


def _different(one: Body, other: Body) -> list[str]:
    """Return the names of fields that are not the same; a number is one however it is written."""
    left, right = _timeless(one), _timeless(other)
    return sorted(name for name in {*left, *right} if left.get(name) != right.get(name))
