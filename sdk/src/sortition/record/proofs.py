"""Proofs for people who have not the record: that an entry is in it, or that it only grew.

Each is one JSON object, checked with the public key alone:

    {"kind": "inclusion", "format": 1, "seq": 5, "body": "{…}", "leaf": "<hex>",
     "path": ["<hex>", …], "checkpoint": "<signed note>"}              body null where it was pruned
    {"kind": "consistency", "format": 1, "from": "<signed note>", "to": "<signed note>",
     "path": ["<hex>", …]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .checkpoint import Checkpoint, open_checkpoint
from .entry import leaf_hash
from .export import Export, Kept
from .note import NoteError, UnknownKey, VerifierKey
from .tree import extends, includes, prove_consistency, prove_inclusion
from .verify import TAMPERED, WHOLE, WRONG_KEY, Verdict

FORMAT = 1

Proof = Mapping[str, Any]


class NotProvable(ValueError):
    """The record does not hold what is to be proven."""


def prove_entry(export: Export, seq: int, keys: Sequence[VerifierKey]) -> Proof:
    """Return the proof that entry `seq` is in the tree of the export's newest checkpoint.

    The export must be whole (`verify`). Raises NotProvable.
    """
    note, checkpoint = _newest(export, keys)
    if not 1 <= seq <= checkpoint.size:
        raise NotProvable(f"entries 1 to {checkpoint.size} are signed, entry {seq} is not")
    leaves = [each.leaf for each in export.entries[: checkpoint.size]]
    return inclusion(leaves, export.entries[seq - 1], note)


def inclusion(leaves: Sequence[bytes], entry: Kept, note: str) -> Proof:
    """Return the proof that an entry is in the tree of these leaves, which the note signs."""
    seq = entry.seq
    return {
        "kind": "inclusion",
        "format": FORMAT,
        "seq": seq,
        "body": entry.body,
        "leaf": entry.leaf.hex(),
        "path": [node.hex() for node in prove_inclusion(leaves, seq - 1)],
        "checkpoint": note,
    }


def prove_growth(export: Export, since: str, keys: Sequence[VerifierKey]) -> Proof:
    """Return the proof that the newest checkpoint's record begins with that of `since`, a note that
    was kept from before. The export must be whole. Raises NotProvable, NoteError."""
    old = open_checkpoint(since.encode(), keys)
    note, new = _newest(export, keys)
    if old.log != new.log or not old.size <= new.size:
        raise NotProvable(f"the newest checkpoint is {new.origin}, {new.size}: it comes before")
    leaves = [each.leaf for each in export.entries[: new.size]]
    path = [node.hex() for node in prove_consistency(leaves, old.size)]
    return {"kind": "consistency", "format": FORMAT, "from": since, "to": note, "path": path}


def _newest(export: Export, keys: Sequence[VerifierKey]) -> tuple[str, Checkpoint]:
    opened = [(note, open_checkpoint(note.encode(), keys)) for note in export.notes]
    if not opened:
        raise NotProvable("there is no checkpoint in the export")
    return max(opened, key=lambda each: (each[1].epoch, each[1].size))


def check(proof: Any, keys: Sequence[VerifierKey]) -> Verdict:
    """Return whether a proof, as JSON was read, proves what it says: whole, tampered, wrong_key."""
    try:
        return _checked(proof, keys)
    except UnknownKey as error:
        return Verdict(WRONG_KEY, str(error))
    except NoteError as error:
        return Verdict(TAMPERED, f"its checkpoint: {error}")
    except (KeyError, TypeError, ValueError, AttributeError):
        return Verdict(TAMPERED, "this is no proof of a form that is known")


def _checked(proof: Any, keys: Sequence[VerifierKey]) -> Verdict:
    path = [bytes.fromhex(node) for node in proof["path"]]
    if (proof["kind"], proof["format"]) == ("inclusion", FORMAT):
        return _inclusion(proof, path, open_checkpoint(proof["checkpoint"].encode(), keys))
    if (proof["kind"], proof["format"]) == ("consistency", FORMAT):
        old, new = (open_checkpoint(proof[name].encode(), keys) for name in ("from", "to"))
        return _consistency(path, old, new)
    raise ValueError(proof["kind"])


def _inclusion(proof: Proof, path: Sequence[bytes], signed: Checkpoint) -> Verdict:
    seq, body, leaf = proof["seq"], proof["body"], bytes.fromhex(proof["leaf"])
    if body is not None and leaf_hash(body.encode()) != leaf:
        return Verdict(TAMPERED, f"entry {seq}: the body does not match its leaf hash", seq)
    if not includes(signed.root, signed.size, seq - 1, leaf, path):
        words = f"entry {seq} is not in the record of {signed.size} entries that was signed"
        return Verdict(TAMPERED, words, seq)
    words = f"this is entry {seq} of {signed.origin}, as signed with {signed.size} entries"
    return Verdict(WHOLE, words, seq, entries=1, signed=signed.size)


def _consistency(path: Sequence[bytes], old: Checkpoint, new: Checkpoint) -> Verdict:
    same = old.log == new.log
    if not same or not extends(old.root, old.size, new.root, new.size, path):
        words = f"{new.origin} with {new.size} entries does not begin with the {old.size} of before"
        return Verdict(TAMPERED, words)
    words = f"{new.origin} only grew, from {old.size} to {new.size} entries"
    return Verdict(WHOLE, words, signed=new.size)
