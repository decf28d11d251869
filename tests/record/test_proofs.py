"""A proof of some hundred bytes convinces whoever has the public key, and no other one does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.record.export import Export, read
from sortition.record.note import UnknownKey
from sortition.record.proofs import NotProvable, check, prove_entry, prove_growth
from sortition.record.verify import TAMPERED, WHOLE, WRONG_KEY

from tests.record.records import FOREIGN, KEY, LOG, Record, a_record, an_entry, kept

KEYS = [KEY.verifier]
RECORD = a_record(11)


def exported(record: Record = RECORD) -> Export:
    return read(record.export())


def proof_of(seq: int) -> dict[str, Any]:
    return json.loads(json.dumps(prove_entry(exported(), seq, KEYS)))


@pytest.mark.parametrize("seq", range(1, 10))
def test_every_signed_entry_can_be_proven(seq: int):
    verdict = check(proof_of(seq), KEYS)

    assert (verdict.kind, verdict.seq, verdict.signed) == (WHOLE, seq, 9)
    assert verdict.words == f"this is entry {seq} of {LOG}/1, as signed with 9 entries"


@pytest.mark.parametrize("seq", [-1, 0, 10, 11, 12])
def test_what_nobody_signed_cannot_be_proven(seq: int):
    with pytest.raises(NotProvable, match=f"entries 1 to 9 are signed, entry {seq} is not"):
        prove_entry(exported(), seq, KEYS)


def test_a_pruned_entry_can_still_be_proven():
    record = a_record()
    leaf = record.links[4].leaf
    record.links[4] = type(record.links[4])(5, None, leaf, record.links[4].chain)

    proof = prove_entry(exported(record), 5, KEYS)

    assert (proof["body"], check(proof, KEYS).kind) == (None, WHOLE)


CHANGES: dict[str, dict[str, Any]] = {
    "another body": {"body": an_entry(4, after={"share": 1}).canonical().decode()},
    "another number": {"seq": 5},
    "a number of nothing": {"seq": 0},
    "a leaf of another": {"leaf": RECORD.links[6].leaf.hex(), "body": None},
    "no path": {"path": []},
    "a longer path": {"path": [*proof_of(4)["path"], "00" * 32]},
    "an older checkpoint": {"checkpoint": RECORD.notes[1]},
    "a checkpoint written over": {"checkpoint": RECORD.notes[2].replace("\n9\n", "\n8\n")},
    "no hex": {"path": ["x"]},
    "another kind": {"kind": "consistency"},
    "another format": {"format": 2},
    "no path at all": {"path": None},
    "a text": {"seq": "4"},
    "no note": {"checkpoint": 7},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_proof_proves_nothing(change: str):
    assert check({**proof_of(4), **CHANGES[change]}, KEYS).kind == TAMPERED


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_anything_else_proves_nothing(something: Any):
    assert check(something, KEYS).kind == TAMPERED


def test_a_proof_of_another_key_is_the_wrong_keys():
    assert check(proof_of(4), [FOREIGN.verifier]).kind == WRONG_KEY


# --- it only grew ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 3, 4, 6, 8, 9])
def test_that_it_only_grew_can_be_proven_to_whoever_kept_a_checkpoint(size: int):
    proof = prove_growth(exported(), RECORD.note(size), KEYS)

    verdict = check(json.loads(json.dumps(proof)), KEYS)
    assert verdict.kind == WHOLE
    assert verdict.words == f"flags.example/record/1 only grew, from {size} to 9 entries"


def test_a_record_of_another_past_cannot_be_proven_to_have_grown():
    """Both are signed by us, and the one does not begin with the other: that is a fork."""
    other = Record(kept(an_entry(seq, salt="f" * 32) for seq in range(1, 8)))

    proof = prove_growth(exported(), other.note(6), KEYS)

    verdict = check(proof, KEYS)
    assert verdict.kind == TAMPERED
    assert "with 9 entries does not begin with the 6 of before" in verdict.words


def test_growth_needs_an_older_checkpoint_of_ours():
    with pytest.raises(NotProvable, match="comes before"):
        prove_growth(exported(), RECORD.note(11), KEYS)
    with pytest.raises(UnknownKey):
        prove_growth(exported(), RECORD.note(3, FOREIGN), KEYS)
    with pytest.raises(NotProvable, match="no checkpoint"):
        prove_entry(read(Record(RECORD.links).export()), 1, KEYS)
