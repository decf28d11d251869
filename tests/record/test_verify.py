"""Whoever writes to the store cannot change what was anchored: each way of trying has its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.record import verify as verifying
from sortition.record.entry import leaf_hash
from sortition.record.export import Kept, read, written
from sortition.record.note import SigningKey
from sortition.record.verify import (
    ANCHOR_UNREACHABLE,
    TAMPERED,
    TRUNCATED,
    WHOLE,
    WRONG_KEY,
    Anchor,
    verify,
)

from tests.record.records import (
    FOREIGN,
    KEY,
    LOG,
    Record,
    a_record,
    an_entry,
    chained,
    kept,
    relinked,
)

COUNT, EVERY = 9, 3
PLACES = {"first": 1, "middle": 5, "last": COUNT}


# --- what is whole --------------------------------------------------------------------------------


def test_a_record_that_nobody_touched_is_whole():
    verdict = a_record().verdict()

    assert verdict.kind == WHOLE
    assert (verdict.entries, verdict.signed, verdict.anchored) == (9, 9, 9)
    assert verdict.words == "9 entries hang together, 9 are signed, 9 are anchored"


def test_entries_after_the_newest_checkpoint_are_named_as_not_signed_yet():
    verdict = a_record(8).verdict()

    assert (verdict.kind, verdict.entries, verdict.signed) == (WHOLE, 8, 6)


def test_without_anchors_it_says_what_cannot_be_seen():
    record = a_record()
    record.anchors = None

    verdict = record.verdict()

    assert (verdict.kind, verdict.anchored) == (WHOLE, None)
    assert "an end that was cut off would not be seen" in verdict.words


def test_an_empty_record_is_whole():
    assert Record([]).verdict().kind == WHOLE
    assert Record([]).sign(0).anchor(0).verdict().kind == WHOLE


def test_a_second_key_is_trusted_beside_the_first():
    """Keys are changed: the old one stays on the list of whoever checks."""
    record = a_record(6)
    record.sign(6, key=FOREIGN)

    assert record.verdict([KEY.verifier, FOREIGN.verifier]).kind == WHOLE


# --- the tamper matrix ----------------------------------------------------------------------------

Tamper = Callable[[Record, int], None]


def edit(record: Record, at: int, **changes: object) -> str:
    """The body of an entry, changed."""
    body = json.loads(record.links[at - 1].body or "")
    entry = an_entry(at, **{name: body[name] for name in ("before", "after", "salt")} | changes)
    return entry.canonical().decode()


def put_body(record: Record, at: int, body: str) -> None:
    record.links[at - 1] = replace(record.links[at - 1], body=body)


def put_body_and_leaf(record: Record, at: int, body: str) -> None:
    record.links[at - 1] = replace(record.links[at - 1], body=body, leaf=leaf_hash(body.encode()))


def flip_a_byte_of_the_body(record: Record, at: int) -> None:
    put_body(record, at, (record.links[at - 1].body or "").replace('"v":1', '"v":3'))


def flip_a_byte_of_the_leaf(record: Record, at: int) -> None:
    leaf = record.links[at - 1].leaf
    record.links[at - 1] = replace(record.links[at - 1], leaf=bytes([leaf[0] ^ 1]) + leaf[1:])


def flip_a_byte_of_the_chain(record: Record, at: int) -> None:
    chain = record.links[at - 1].chain
    record.links[at - 1] = replace(record.links[at - 1], chain=chain[:-1] + bytes([chain[-1] ^ 1]))


def swap(record: Record, at: int) -> None:
    other = min(at, COUNT - 1)
    record.links[other - 1 : other + 1] = record.links[other - 1 : other + 1][::-1]


def duplicate(record: Record, at: int) -> None:
    record.links.insert(at, record.links[at - 1])


def edit_before(record: Record, at: int) -> None:
    put_body(record, at, edit(record, at, before={"share": 0}))


def edit_after_with_its_leaf(record: Record, at: int) -> None:
    put_body_and_leaf(record, at, edit(record, at, after={"share": 1_000_000}))


def change_the_salt(record: Record, at: int) -> None:
    put_body(record, at, edit(record, at, salt="f" * 32))


def change_the_salt_with_its_leaf(record: Record, at: int) -> None:
    put_body_and_leaf(record, at, edit(record, at, salt="f" * 32))


def re_encode(record: Record, at: int) -> None:
    put_body(record, at, json.dumps(json.loads(record.links[at - 1].body or "")))


def re_encode_with_its_leaf(record: Record, at: int) -> None:
    put_body_and_leaf(record, at, json.dumps(json.loads(record.links[at - 1].body or "")))


def prune_without_record(record: Record, at: int) -> None:
    record.links[at - 1] = replace(record.links[at - 1], body=None)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "tamper",
    [
        flip_a_byte_of_the_body,
        flip_a_byte_of_the_leaf,
        flip_a_byte_of_the_chain,
        swap,
        duplicate,
        edit_before,
        edit_after_with_its_leaf,
        change_the_salt,
        change_the_salt_with_its_leaf,
        re_encode,
        re_encode_with_its_leaf,
        prune_without_record,
    ],
)
def test_what_breaks_the_chain_is_tampered_and_named(tamper: Tamper, place: str):
    record, at = a_record(), PLACES[place]

    tamper(record, at)

    verdict = record.verdict()
    others: dict[Tamper, int] = {swap: min(at, COUNT - 1), duplicate: at + 1}
    named = others.get(tamper, at)
    assert (verdict.kind, verdict.seq, verdict.until) == (TAMPERED, named, None)


@pytest.mark.parametrize("place", ["first", "middle"])
def test_a_dropped_entry_is_tampered_and_named(place: str):
    record, at = a_record(), PLACES[place]

    del record.links[at - 1]

    verdict = record.verdict()
    assert (verdict.kind, verdict.seq) == (TAMPERED, at)


def test_dropping_the_last_entry_is_cutting_the_end():
    record = a_record()

    del record.links[-1]

    verdict = record.verdict()
    assert (verdict.kind, verdict.seq) == (TRUNCATED, COUNT)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("checkpoints", ["stay", "go too"])
def test_a_tail_that_was_cut_is_truncated(place: str, checkpoints: str):
    """Also what an old dump that was put back looks like: entries and checkpoints of then."""
    record, left = a_record(), PLACES[place] - 1

    del record.links[left:]
    if checkpoints == "go too":
        record.notes = record.notes[: left // EVERY]

    verdict = record.verdict()
    assert (verdict.kind, verdict.seq) == (TRUNCATED, left + 1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", ["after", "salt", "spaces", "drop", "swap", "insert"])
@pytest.mark.parametrize("notes", ["stay", "go"])
def test_a_chain_that_was_built_anew_is_tampered(place: str, change: str, notes: str):
    """Everything hangs together again, and the root is another: the entry is one of those that
    came since the last root that fits."""
    record, at = a_record(), PLACES[place]
    rebuild(record, at, change)
    if notes == "go":
        record.notes = []

    verdict = record.verdict()

    cut = change == "drop" and place == "last"
    if cut:
        assert (verdict.kind, verdict.seq) == (TRUNCATED, COUNT)
    else:
        first = at - (1 if (change, place) == ("swap", "last") else 0)
        assert verdict.kind == TAMPERED
        assert verdict.seq is not None
        assert verdict.until is not None
        assert verdict.seq <= first <= verdict.until
        assert verdict.until - verdict.seq < EVERY


def rebuild(record: Record, at: int, change: str) -> None:
    """Change an entry, and build all that follows from it anew."""
    bodies = [each.body or "" for each in record.links]
    if change == "after":
        bodies[at - 1] = edit(record, at, after={"share": 1_000_000})
    elif change == "salt":
        bodies[at - 1] = edit(record, at, salt="f" * 32)
    elif change == "spaces":
        bodies[at - 1] = json.dumps(json.loads(bodies[at - 1]))
    elif change == "drop":
        del bodies[at - 1]
    elif change == "insert":
        bodies.insert(at - 1, edit(record, at, salt="f" * 32))
    else:
        other = min(at, COUNT - 1)
        bodies[other - 1 : other + 1] = bodies[other - 1 : other + 1][::-1]
    numbered = [{**json.loads(body), "seq": seq} for seq, body in enumerate(bodies, 1)]
    record.links = chained(
        body if json.loads(body) == content else an_entry(**content).canonical().decode()
        for body, content in zip(bodies, numbered, strict=True)
    )


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", [FOREIGN, SigningKey("evil.example/record", bytes(32))])
@pytest.mark.parametrize("anchors", ["stand", "are not asked for"])
def test_a_record_signed_anew_with_another_key_is_the_wrong_keys(
    place: str, key: SigningKey, anchors: str
):
    record = a_record()
    rebuild(record, PLACES[place], "after")
    record.notes = []
    record.sign(3, 6, 9, key=key)
    if anchors == "are not asked for":
        record.anchors = None

    assert record.verdict().kind == WRONG_KEY


def test_whoever_checks_with_another_key_is_told_so():
    assert a_record().verdict([FOREIGN.verifier]).kind == WRONG_KEY


def test_what_nobody_signed_is_not_whole():
    """A chain alone proves nothing: anybody can build one."""
    assert Record(a_record().links).verdict().kind == WRONG_KEY


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_checkpoint_that_was_written_over_is_tampered(number: int):
    record = a_record()
    record.notes[number] = record.notes[number].replace("record/1\n", "record/2\n")

    assert record.verdict().kind == TAMPERED


def test_a_checkpoint_of_another_log_is_tampered():
    other = b"".join(written("flags.example/other", a_record().links, a_record().notes))

    verdict = verify(read(other), [KEY.verifier])

    assert verdict.kind == TAMPERED
    assert "is of the log flags.example/record" in verdict.words


# --- anchors --------------------------------------------------------------------------------------


def test_anchors_that_are_not_there_are_unreachable():
    record = a_record()
    record.anchors = []

    assert record.verdict().kind == ANCHOR_UNREACHABLE


def test_what_is_wrong_besides_is_said_first():
    record = a_record()
    record.anchors = []
    edit_before(record, 5)

    assert record.verdict().kind == TAMPERED


def test_an_anchor_of_another_key_is_the_wrong_keys():
    assert a_record().anchor(9, key=FOREIGN).verdict().kind == WRONG_KEY


def test_an_anchor_that_does_not_hold_is_tampered():
    record = a_record()
    record.anchors = [Anchor("7", record.note(9).replace("\n9\n", "\n8\n").encode())]

    verdict = record.verdict()
    assert verdict.kind == TAMPERED
    assert verdict.words.startswith("anchor 7:")


# --- prunes ---------------------------------------------------------------------------------------


def pruned(*ranges: list[int], count: int = COUNT, gone: range = range(1, 5)) -> Record:
    """A record whose last entry says that bodies are gone; and they are."""
    prune = an_entry(count, action=verifying.PRUNE, after={"pruned": list(ranges)})
    record = Record(kept([*map(an_entry, range(1, count)), prune])).sign(3, 6, 9).anchor(3, 6, 9)
    for seq in gone:
        prune_without_record(record, seq)
    return record


def test_a_record_with_pruned_bodies_is_whole_where_an_entry_says_so():
    verdict = pruned([1, 4]).verdict()

    assert (verdict.kind, verdict.pruned) == (WHOLE, 4)


def test_a_body_that_may_be_gone_may_also_be_there():
    assert pruned([1, 4], gone=range(2, 4)).verdict().kind == WHOLE


@pytest.mark.parametrize(
    "told",
    [[1, 3], [2, 4], [4, 1], [0, 0], [5, 9], "1-4", [1], [1, 4, 5], [True, 4], None],
    ids=repr,
)
def test_only_what_it_names_may_be_gone(told: object):
    verdict = pruned(told).verdict()  # type: ignore[arg-type]  # that is the test

    assert verdict.kind == TAMPERED
    assert verdict.seq in {1, 4}


def test_an_entry_that_nobody_signed_excuses_nothing():
    """Whoever can write to the store can write such an entry at its end."""
    record = a_record()
    forged = an_entry(10, action=verifying.PRUNE, after={"pruned": [[1, 9]]})
    record.links = relinked([*record.links, *kept([forged])])
    prune_without_record(record, 5)

    verdict = record.verdict()
    assert (verdict.kind, verdict.seq) == (TAMPERED, 5)


def test_a_pruned_entry_is_still_held_by_its_leaf():
    record = pruned([1, 4])
    flip_a_byte_of_the_leaf(record, 2)
    record.links = relinked(record.links)

    verdict = record.verdict()
    assert (verdict.kind, verdict.seq, verdict.until) == (TAMPERED, 1, 3)


# --- losses ---------------------------------------------------------------------------------------


def after_a_loss(*, quoted: int | None, then: int = 3, signed: bool = True) -> Record:
    """Nine entries were anchored; four survived; an operator began epoch 2."""
    before = a_record()
    lost = {} if quoted is None else {"checkpoint": before.note(quoted)}
    accept = an_entry(5, epoch=2, action=verifying.ACCEPT, before=lost)
    later = [an_entry(seq, epoch=2) for seq in range(6, 5 + then)]
    record = Record(kept([*map(an_entry, range(1, 5)), accept, *later]), epoch=2)
    record.anchors, record.notes = before.anchors, before.notes
    return record.sign(4 + then).anchor(4 + then) if signed else record


def test_a_loss_that_an_operator_acknowledged_is_no_longer_one():
    verdict = after_a_loss(quoted=9).verdict()

    assert (verdict.kind, verdict.lost) == (WHOLE, 5)


@pytest.mark.parametrize("quoted", [None, 4, 6])
def test_a_loss_that_nobody_acknowledged_stays_one(quoted: int | None):
    verdict = after_a_loss(quoted=quoted).verdict()

    assert (verdict.kind, verdict.seq) == (TRUNCATED, 5)


def test_an_acknowledgement_that_nobody_signed_is_none():
    assert after_a_loss(quoted=9, signed=False).verdict().kind == TRUNCATED


def test_what_survived_a_loss_is_still_what_was_signed():
    record = after_a_loss(quoted=9)
    rebuilt = [each.body or "" for each in record.links]
    rebuilt[1] = edit(record, 2, after={"share": 1})
    record.links = chained(rebuilt)

    verdict = record.verdict()
    assert verdict.kind == TAMPERED
    assert (verdict.seq, verdict.until) == (1, 3)


def test_a_dump_of_before_the_loss_is_truncated():
    """Checkpoints of an epoch that the record has not come to: it went on elsewhere."""
    record = a_record(3)
    record.anchors = [*(record.anchors or []), *(after_a_loss(quoted=9).anchors or [])]

    assert record.verdict().kind == TRUNCATED


def test_a_dump_of_before_the_loss_that_went_on_is_truncated_too():
    """It is longer than the later epoch's tree; that tree is still not its."""
    record = a_record()
    later = [
        each for each in after_a_loss(quoted=9, then=1).anchors or [] if b"/2\n5\n" in each.note
    ]
    assert len(later) == 1
    record.anchors = [*(record.anchors or []), *later]

    assert record.verdict().kind == TRUNCATED


# --- any mutation at all --------------------------------------------------------------------------

WHOLE_RECORD = a_record()
FILE = WHOLE_RECORD.export()


def kind_of(data: bytes) -> str:
    return verify(read(data), [KEY.verifier], WHOLE_RECORD.anchors).kind


def test_the_file_is_whole():
    assert kind_of(FILE) == WHOLE


@given(at=st.integers(0, len(FILE) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_file_is_found(at: int, bit: int):
    changed = bytearray(FILE)
    changed[at] ^= 1 << bit

    assert kind_of(bytes(changed)) != WHOLE


@given(start=st.integers(0, len(FILE) - 1), length=st.integers(1, 600), put=st.binary(max_size=20))
def test_any_piece_that_is_cut_out_or_replaced_is_found(start: int, length: int, put: bytes):
    changed = FILE[:start] + put + FILE[start + length :]

    assert (kind_of(changed) != WHOLE) == (changed != FILE)


@given(end=st.integers(0, len(FILE) - 1))
def test_a_file_that_ends_early_is_truncated(end: int):
    """A download that was cut off, say: also where there is no anchor."""
    for anchors in (WHOLE_RECORD.anchors, None):
        assert verify(read(FILE[:end]), [KEY.verifier], anchors).kind == TRUNCATED


@given(data=st.data())
def test_any_single_mutation_of_what_is_anchored_is_found(data: st.DataObject):
    """Made by somebody who knows the form: one entry, and all that follows built anew, or not."""
    record = a_record()
    at = data.draw(st.integers(1, COUNT), "entry")
    name = data.draw(
        st.sampled_from(["actor", "action", "target", "reason", "ts", "salt"]), "field"
    )
    value = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), "value")
    entry = an_entry(at)
    if getattr(entry, name) == value:
        return
    change: dict[str, Any] = {name: value}
    body = replace(entry, **change).canonical().decode()
    how = data.draw(st.sampled_from(["body", "leaf", "rebuilt"]), "how")
    if how == "rebuilt":
        record.links = chained([*bodies(record)[: at - 1], body, *bodies(record)[at:]])
    else:
        (put_body if how == "body" else put_body_and_leaf)(record, at, body)

    verdict = record.verdict()

    assert verdict.kind == TAMPERED
    assert verdict.seq is not None
    assert verdict.seq <= at <= (verdict.until or verdict.seq)


def bodies(record: Record) -> list[str]:
    return [each.body or "" for each in record.links]


# --- the file -------------------------------------------------------------------------------------


def test_an_export_is_read_as_it_was_written():
    made = read(FILE)

    assert made.log == LOG
    assert list(made.entries) == WHOLE_RECORD.links
    assert list(made.notes) == WHOLE_RECORD.notes
    assert (made.broken, made.cut) == (None, False)


HEAD, FIRST = FILE.split(b"\n")[:2]
STRANGE = {
    "nothing": (b"\n", "line 1: this is no JSON"),
    "another file": (b"PK\x03\x04\n", "line 1: this is no JSON"),
    "no head": (FIRST + b"\n", "line 1: an export of a record has one head"),
    "two heads": (HEAD + b"\n" + HEAD + b"\n", "line 2: an export of a record has one head"),
    "newer": (HEAD.replace(b":1", b":2") + b"\n", "line 1: an export of format 2"),
    "true": (HEAD.replace(b":1", b":true") + b"\n", "line 1: an export of format True"),
    "spaces": (HEAD.replace(b":1", b": 1") + b"\n", "line 1: it is not written as"),
    "a second end": (FILE + FILE.splitlines(keepends=True)[-1], "something stands after the end"),
    "a list": (b"[]\n", "line 1: it is not written as"),
    "deep": (b"[" * 10**5 + b"\n", "line 1: this is no JSON"),
    "a lone surrogate": (HEAD.replace(LOG.encode(), b"\\ud800") + b"\n", "line 1: this is no JSON"),
    "a strange kind": (HEAD + b'\n{"kind":"else"}\n', "line 2: this is no line of an export"),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_a_line_that_is_none_of_ours_is_named(strange: str):
    data, words = STRANGE[strange]

    made = read(data)

    assert made.broken is not None
    assert words in made.broken.problem
    assert verify(made, [KEY.verifier]).kind == TAMPERED


def test_a_hash_is_written_in_one_way():
    entry = Kept(1, "{}", bytes([0xAB]) * 32, bytes(32))
    lines = list(written(LOG, [entry], []))
    lines[1] = lines[1].replace(b"abab", b"ABAB")

    made = read(b"".join(lines))

    assert made.broken is not None
    assert made.broken.problem == "line 2: a hash is 32 bytes in hex"
