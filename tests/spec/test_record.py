"""The record's form is final: a known chain stays as it is, and no single mutation goes unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sortition.record.entry import (
    GENESIS,
    VERSION,
    Break,
    Entry,
    Link,
    chain_hash,
    find_break,
    leaf_hash,
    link,
)

FIRST = Entry(
    seq=1,
    epoch=1,
    ts="2026-11-23T08:15:30.123Z",
    actor="token:ab12cd",
    role="deploy",
    action="flag:share:change",
    target="flag/new-search",
    environment="production",
    before={"share": 50000, "killed": False},
    after={"share": 250000, "killed": False},
    reason='Grüße \u2028 "5 %" → 25 %',
    salt="00112233445566778899aabbccddeeff",
)
SECOND = Entry(
    seq=2,
    epoch=1,
    ts="2026-11-23T08:15:31.000Z",
    actor="controller",
    role="controller",
    action="session:begin",
    target="person:1",
    environment=None,
    before=None,
    after=[1.5, 1e21, -0.0, {"b": 1, "a": None}],
    reason=None,
    salt="ffeeddccbbaa99887766554433221100",
)

CANONICAL = (
    '{"action":"flag:share:change","actor":"token:ab12cd",'
    '"after":{"killed":false,"share":250000},"before":{"killed":false,"share":50000},'
    '"environment":"production","epoch":1,"reason":"Grüße \u2028 \\"5 %\\" → 25 %",'
    '"role":"deploy","salt":"00112233445566778899aabbccddeeff","seq":1,'
    '"target":"flag/new-search","ts":"2026-11-23T08:15:30.123Z","v":1}'
)


def chain(*entries: Entry) -> list[Link]:
    links: list[Link] = []
    for entry in entries:
        links.append(link(entry, links[-1].chain if links else GENESIS))
    return links


# --- known values ---------------------------------------------------------------------------------


def test_the_canonical_form_is_rfc_8785():
    assert FIRST.canonical().decode() == CANONICAL
    assert b'"after":[1.5,1e+21,0,{"a":null,"b":1}]' in SECOND.canonical()
    assert VERSION == 1


def test_the_hashes_of_a_known_chain():
    """Worked out here by hand, from the formulas alone, and pinned."""
    leaf_1 = hashlib.sha256(b"\x00" + CANONICAL.encode()).digest()
    chain_1 = hashlib.sha256(b"\x02" + b"\x00" * 32 + leaf_1).digest()
    leaf_2 = hashlib.sha256(b"\x00" + SECOND.canonical()).digest()
    chain_2 = hashlib.sha256(b"\x02" + chain_1 + leaf_2).digest()

    first, second = chain(FIRST, SECOND)

    assert (first.leaf, first.chain) == (leaf_1, chain_1)
    assert (second.leaf, second.chain) == (leaf_2, chain_2)
    assert first.chain.hex() == PINNED[0]
    assert second.chain.hex() == PINNED[1]


PINNED = (
    "a756d8e20700a0762288d30952d5bb6445606c41ccaab67cb0ea903cf7aaadd2",
    "818a5fc0b6ac23b499e697d67a4ca44bbdce9c75313de403868cba9077e1c779",
)


def test_the_domains_are_apart():
    data = bytes(range(64))

    assert leaf_hash(data) != chain_hash(data[:32], data[32:]) != hashlib.sha256(data).digest()


# --- what is whole, and what is not ---------------------------------------------------------------


def body(at: Link) -> bytes:
    assert at.canonical is not None
    return at.canonical


MUTATIONS: dict[str, Callable[[Link], Link]] = {
    "body": lambda at: replace(at, canonical=body(at).replace(b'"v":1', b'"v":2')),
    "whitespace": lambda at: replace(at, canonical=body(at).replace(b":1,", b": 1,", 1)),
    "re-encoded": lambda at: replace(at, canonical=json.dumps(json.loads(body(at))).encode()),
    "leaf": lambda at: replace(at, leaf=bytes([at.leaf[0] ^ 1]) + at.leaf[1:]),
    "chain": lambda at: replace(at, chain=at.chain[:-1] + bytes([at.chain[-1] ^ 128])),
    "seq": lambda at: replace(at, seq=at.seq + 1),
    "body and leaf": lambda at: replace(at, canonical=b"{}", leaf=leaf_hash(b"{}")),
}


def ten() -> list[Link]:
    return chain(*(replace(FIRST, seq=seq, salt=f"{seq:032x}") for seq in range(1, 11)))


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_mutation_is_found_where_it_is(mutation: str, place: int):
    links = ten()
    links[place] = MUTATIONS[mutation](links[place])

    broken = find_break(links)

    assert broken is not None
    assert broken.seq == place + 1


def test_a_whole_chain_has_no_break_from_wherever_it_is_followed():
    links = ten()

    assert find_break([]) is None
    for start in range(1, 10):
        assert find_break(links[start:], links[start - 1].chain, start) is None


def test_dropped_doubled_and_swapped_entries_are_found():
    links = ten()

    assert find_break(links[1:]) == Break(1, "expected entry 1, found 2")
    assert find_break(links[:4] + links[5:]) == Break(5, "expected entry 5, found 6")
    assert find_break([*links[:4], links[3], *links[4:]]) == Break(5, "expected entry 5, found 4")
    assert find_break([links[0], links[2], links[1], *links[3:]]) is not None


def test_a_rewritten_entry_breaks_the_next_one():
    links = ten()
    forged = replace(FIRST, seq=5, after={"share": 1_000_000})
    links[4] = link(forged, links[3].chain)

    broken = find_break(links)

    assert broken is not None
    assert broken.seq == 6


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    # Beyond, RFC 8785 writes whole floats like integers, which parse back as what it refuses.
    | st.floats(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inside, max_size=3)
    ),
    max_leaves=8,
)


@given(before=JSON, after=JSON, salt=st.binary(min_size=16, max_size=16).map(bytes.hex))
@settings(max_examples=100, deadline=None)
def test_any_json_has_one_form_that_parses_back(before: object, after: object, salt: str):
    entry = replace(FIRST, before=before, after=after, salt=salt)

    canonical = entry.canonical()

    assert json.loads(canonical) == asdict(entry)
    assert replace(FIRST, **json.loads(canonical)).canonical() == canonical


@given(
    place=st.integers(0, 9),
    bit=st.integers(0, 10**6),
    part=st.sampled_from(["canonical", "leaf", "chain"]),
)
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_is_found(place: int, bit: int, part: str):
    links = ten()
    value = bytearray(getattr(links[place], part))
    value[bit // 8 % len(value)] ^= 1 << bit % 8
    mutated: dict[str, Any] = {part: bytes(value)}
    links[place] = replace(links[place], **mutated)

    broken = find_break(links)

    assert broken is not None
    assert broken.seq == place + 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, "\ud800"], ids=repr)
def test_what_json_cannot_carry_exactly_is_refused(value: object):
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        replace(FIRST, after=value).canonical()
