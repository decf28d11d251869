"""Is a record whole? Decided from an export, the public keys and the anchors, and nothing else.

What an anchor covers (a checkpoint that is kept where the store's owner cannot change it) cannot
change unseen: not a byte of it, not its order, not its length. What is newer than the newest anchor
is held by the checkpoints inside the export, and what is newer than those by the chain alone, which
whoever can write to the store can build anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .checkpoint import Checkpoint, open_checkpoint
from .entry import GENESIS, Break, chain_hash, leaf_hash
from .export import Export, Kept
from .note import NoteError, UnknownKey, VerifierKey
from .tree import Frontier

WHOLE = "whole"
TAMPERED = "tampered"
TRUNCATED = "truncated"
ANCHOR_UNREACHABLE = "anchor_unreachable"
WRONG_KEY = "wrong_key"

CUT = "the file's end is missing, or it counts other than there is"

PRUNE = "record:body:prune"
"""Action of the entry that says which bodies are gone: `after` is {"pruned": [[first, last], …]},
those of earlier prunes too, so that the newest such entry says enough."""

ACCEPT = "store:accept"
"""Action of the entry that begins an epoch: `before` may quote, as {"checkpoint": note, "kept": n},
what was promised and how many entries of it are still what was signed. Its body is never pruned."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    kind: one of the five above.  seq: the first bad entry, or the first that is missing.  until:
    where only a root shows it, the bad entry is one of `seq` to `until`.  entries, pruned: how many
    there are, and how many of them without a body.  signed, anchored: how many the newest
    checkpoint and the newest anchor cover (None: no anchors were asked for).  lost: entries that
    were signed and are no more, or no more the same, as somebody acknowledged.
    """

    kind: str
    words: str
    seq: int | None = None
    until: int | None = None
    entries: int = 0
    pruned: int = 0
    signed: int = 0
    anchored: int | None = None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Anchor:
    """A checkpoint from outside. name: where it was read, for people."""

    name: str
    note: bytes


class _Found(Exception):
    """What ends the search: the verdict's kind, words and entry."""

    def __init__(
        self, kind: str, words: str, seq: int | None = None, until: int | None = None
    ) -> None:
        super().__init__(words)
        self.verdict = Verdict(kind, words, seq, until)


def verify(
    export: Export, keys: Sequence[VerifierKey], anchors: Sequence[Anchor] | None = None
) -> Verdict:
    """Return the first thing that is wrong with an export, or that it is whole.

    anchors: those of this log; None where nobody asks for them, and then a record whose end was cut
    off together with its checkpoints looks whole. Looked for in this order: entries that do not
    hang together, signatures, roots, prunes, what is missing, anchors.
    """
    try:
        return _whole(export, keys, anchors)
    except _Found as found:
        return replace(found.verdict, entries=len(export.entries))


def _whole(
    export: Export, keys: Sequence[VerifierKey], anchors: Sequence[Anchor] | None
) -> Verdict:
    bodies = _bodies(export)
    if export.cut and not (export.log and export.notes):
        raise _Found(TRUNCATED, CUT, len(export.entries) + 1)
    inside = [
        _opened(f"checkpoint {number}", note.encode(), export, keys)
        for number, note in enumerate(export.notes, 1)
    ]
    outside = [_opened(f"anchor {each.name}", each.note, export, keys) for each in anchors or ()]
    checkpoints = [*inside, *outside]
    if export.entries and not checkpoints:
        raise _Found(WRONG_KEY, "nothing in it is signed, and there is no anchor")
    epochs = _Epochs(_beginnings(bodies), len(export.entries))
    there, losses = _of_what_is_here(checkpoints, epochs, _acknowledged(bodies, keys))
    _compare_roots(export.entries, there)
    signed = max((each.size for each in there), default=0)
    # An entry that nobody signed may be anybody's: it excuses nothing.
    excuses = {number: body for number, body in bodies.items() if number <= signed}
    pruned = _look_at_prunes(export.entries, excuses)
    lost = _look_for_the_end(export, checkpoints, epochs, losses)
    if anchors is not None and not outside:
        raise _Found(ANCHOR_UNREACHABLE, f"there is no anchor of {export.log}")
    anchored = None if anchors is None else max((each.size for each in outside), default=0)
    count = len(export.entries)
    words = _words(count, signed, anchored, losses)
    return Verdict(WHOLE, words, None, None, count, pruned, signed, anchored, lost)


def _words(count: int, signed: int, anchored: int | None, losses: Mapping[int, _Loss]) -> str:
    told = [
        f"{it.size - it.kept} of epoch {epoch}"
        for epoch, it in sorted(losses.items())
        if it.size > it.kept
    ]
    held = f"{count} entries hang together, {signed} are signed"
    if told:
        held += f", {' and '.join(told)} are lost, as was acknowledged"
    if anchored is None:
        return f"{held}; no anchors were given, so an end that was cut off would not be seen"
    return f"{held}, {min(anchored, count)} are anchored"


# --- entries --------------------------------------------------------------------------------------


def _bodies(export: Export) -> Mapping[int, Mapping[str, Any]]:
    """Return the bodies that are there, by number. Raises _Found where the chain does not hold."""
    bodies: dict[int, Mapping[str, Any]] = {}
    chain = GENESIS
    for number, entry in enumerate(export.entries, 1):
        problem = _problem(entry, number, chain)
        if problem:
            raise _Found(TAMPERED, f"entry {number}: {problem}", number)
        if entry.body is not None:
            bodies[number] = _decoded(entry, number)
        chain = entry.chain
    if export.broken is not None:
        _raise_broken(export.broken)
    return bodies


def _problem(entry: Kept, number: int, previous: bytes) -> str | None:
    if entry.seq != number:
        return f"found entry {entry.seq} in its place"
    if entry.body is not None and leaf_hash(entry.body.encode()) != entry.leaf:
        return "the body does not match its leaf hash"
    if chain_hash(previous, entry.leaf) != entry.chain:
        return "the chain does not follow from the entry before"
    return None


def _decoded(entry: Kept, number: int) -> Mapping[str, Any]:
    try:
        body = json.loads(entry.body or "")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or body.get("seq") != number:
        raise _Found(TAMPERED, f"entry {number}: the body is not that of entry {number}", number)
    return body


def _raise_broken(broken: Break) -> None:
    raise _Found(TAMPERED, f"at entry {broken.seq}: {broken.problem}", broken.seq)


# --- checkpoints ----------------------------------------------------------------------------------


def _opened(what: str, note: bytes, export: Export, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Return a checkpoint. Raises _Found."""
    try:
        checkpoint = open_checkpoint(note, keys)
    except UnknownKey as error:
        raise _Found(WRONG_KEY, f"{what} is not signed by a key that was given: {error}") from None
    except NoteError as error:
        raise _Found(TAMPERED, f"{what}: {error}") from None
    if checkpoint.log != export.log:
        words = f"{what} is of the log {checkpoint.log}, and this export of {export.log}"
        raise _Found(TAMPERED, words)
    return checkpoint


def _compare_roots(entries: Sequence[Kept], checkpoints: Sequence[Checkpoint]) -> None:
    """Raise _Found where the entries are not those that were signed."""
    frontier = Frontier()
    for checkpoint in sorted(checkpoints, key=lambda each: each.size):
        last = frontier.size
        frontier = frontier.grown(each.leaf for each in entries[last : checkpoint.size])
        if frontier.root() != checkpoint.root:
            # One of those that came since the last root that fits.
            first, until = min(last + 1, checkpoint.size), checkpoint.size
            which = f"entry {first}" if first == until else f"one of the entries {first} to {until}"
            words = f"{which} is not what was signed: the root of {until} entries is another"
            raise _Found(TAMPERED, words, first, until)


# --- prunes, losses, the end ----------------------------------------------------------------------


def _look_at_prunes(entries: Sequence[Kept], excuses: Mapping[int, Mapping[str, Any]]) -> int:
    """Return how many bodies are gone. Raises _Found where no signed entry says so."""
    gone = [entry.seq for entry in entries if entry.body is None]
    told: set[int] = set()
    for number, body in excuses.items():
        if body.get("action") == PRUNE:
            told.update(named_by(body.get("after"), before=number))
    for seq in gone:
        if seq not in told:
            words = f"entry {seq}: its body is gone, and no signed entry says so"
            raise _Found(TAMPERED, words, seq)
    return len(gone)


def named_by(after: Any, *, before: int) -> Iterator[int]:
    """Yield the entries that a prune (its `after`) names; never itself or a later one."""
    ranges = after.get("pruned") if isinstance(after, dict) else None
    for each in ranges if isinstance(ranges, list) else ():
        if isinstance(each, list) and [type(edge) for edge in each] == [int, int]:
            yield from range(max(each[0], 1), min(each[1], before - 1) + 1)


@dataclass(frozen=True, slots=True)
class _Epochs:
    """Which entries were written in which epoch: (epoch, its first entry), rising; and how many."""

    begun: Sequence[tuple[int, int]]
    count: int

    def length(self, epoch: int) -> int:
        """Return how many entries the tree of an epoch can have here; -1 for one yet to come."""
        if self.begun and epoch > self.begun[-1][0]:
            return -1
        later = (seq for begun, seq in self.begun if begun > epoch)
        return next(later, self.count + 1) - 1


def _beginnings(bodies: Mapping[int, Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Return (epoch, its first entry), rising."""
    begun: list[tuple[int, int]] = []
    for number, body in bodies.items():
        epoch = body.get("epoch")
        if type(epoch) is int and (not begun or epoch > begun[-1][0]):
            begun.append((epoch, number))
    return begun


@dataclass(frozen=True, slots=True)
class _Loss:
    """A loss that an operator acknowledged. seq: the entry that does.  size: of the tree that is
    quoted as lost.  kept: how many entries of it were still what was signed."""

    seq: int
    size: int
    kept: int


def _acknowledged(
    bodies: Mapping[int, Mapping[str, Any]], keys: Sequence[VerifierKey]
) -> Mapping[int, _Loss]:
    """Return epoch -> the loss in it that an entry acknowledges, whether or not that is signed."""
    losses: dict[int, _Loss] = {}
    for number, body in bodies.items():
        before = body.get("before")
        note = before.get("checkpoint") if isinstance(before, dict) else None
        if body.get("action") != ACCEPT or not isinstance(note, str):
            continue
        try:
            quoted = open_checkpoint(note.encode(), keys)
        except NoteError:
            continue
        told = before.get("kept") if isinstance(before, dict) else None
        kept = told if type(told) is int and 0 <= told < number else number - 1
        losses[quoted.epoch] = _Loss(number, quoted.size, min(kept, quoted.size))
    return losses


def _of_what_is_here(
    checkpoints: Sequence[Checkpoint], epochs: _Epochs, losses: Mapping[int, _Loss]
) -> tuple[list[Checkpoint], Mapping[int, _Loss]]:
    """Return the checkpoints whose entries must be here, and the losses that count: those whose
    entry is signed by one of them."""
    while True:
        there = [
            each
            for each in checkpoints
            if each.size <= epochs.length(each.epoch) and not _is_lost(each, losses)
        ]
        signed = max((each.size for each in there), default=0)
        counted = {epoch: loss for epoch, loss in losses.items() if loss.seq <= signed}
        if len(counted) == len(losses):
            return there, losses
        losses = counted


def _is_lost(checkpoint: Checkpoint, losses: Mapping[int, _Loss]) -> bool:
    loss = losses.get(checkpoint.epoch)
    return loss is not None and loss.kept < checkpoint.size <= loss.size


def _look_for_the_end(
    export: Export,
    checkpoints: Sequence[Checkpoint],
    epochs: _Epochs,
    losses: Mapping[int, _Loss],
) -> int:
    """Return how many entries were lost and acknowledged. Raises _Found where some are missing."""
    for each in checkpoints:
        length = epochs.length(each.epoch)
        if each.size > length and not _is_lost(each, losses):
            there = max(length, 0)
            words = f"{each.size} entries of epoch {each.epoch} were signed, {there} are here"
            raise _Found(TRUNCATED, words, len(export.entries) + 1 if length < 0 else length + 1)
    if export.cut:
        raise _Found(TRUNCATED, CUT, len(export.entries) + 1)
    return sum(loss.size - loss.kept for loss in losses.values())
