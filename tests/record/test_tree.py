"""The record's tree is RFC 6962's: the published vectors, and another implementation's answers."""

from __future__ import annotations

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.record.entry import leaf_hash
from sortition.record.tree import (
    EMPTY,
    Frontier,
    extends,
    includes,
    prove_consistency,
    prove_inclusion,
    root,
)

# --- the reference data of Certificate Transparency -----------------------------------------------

DATA = [
    bytes.fromhex(each)
    for each in (
        *("", "00", "10", "2021", "3031", "40414243"),
        *("5051525354555657", "606162636465666768696a6b6c6d6e6f"),
    )
]
LEAVES = [leaf_hash(data) for data in DATA]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


def hexes(path: list[bytes]) -> list[str]:
    return [node.hex() for node in path]


@pytest.mark.parametrize("size", range(9))
def test_the_published_roots(size: int):
    assert root(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_published_proofs_of_inclusion(index: int, size: int):
    assert hexes(prove_inclusion(LEAVES[:size], index)) == INCLUSION[index, size]


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_the_published_proofs_of_consistency(old: int, new: int):
    assert hexes(prove_consistency(LEAVES[:new], old)) == CONSISTENCY[old, new]


# --- another implementation -----------------------------------------------------------------------

MOST = 70


def some(size: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(size)]


@pytest.fixture(scope="module")
def oracle() -> pymerkle.InmemoryTree:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries(some(MOST))
    return tree


ALL = [leaf_hash(data) for data in some(MOST)]


def test_roots_are_the_oracles(oracle):
    frontier = Frontier()
    for size in range(1, MOST + 1):
        frontier = frontier.grown(ALL[size - 1 : size])
        assert frontier.root() == root(ALL[:size]) == oracle.get_root(size)


def test_every_proof_of_inclusion_is_the_oracles(oracle):
    for size in range(1, MOST + 1):
        for index in range(size):
            path = prove_inclusion(ALL[:size], index)
            # The oracle's path begins with the leaf itself.
            assert [ALL[index], *path] == oracle.prove_inclusion(index + 1, size).path
            assert includes(oracle.get_root(size), size, index, ALL[index], path)


def subproof(tree: pymerkle.InmemoryTree, old: int, start: int, end: int, whole: bool):
    """SUBPROOF of RFC 6962, section 2.1.2, word by word, over the oracle's hashes."""
    if old == end - start:
        return [] if whole else [tree._get_root(start, end)]
    k = next(2**i for i in range(8) if 2**i < end - start <= 2 ** (i + 1))
    if old <= k:
        return [*subproof(tree, old, start, start + k, whole), tree._get_root(start + k, end)]
    left = tree._get_root(start, start + k)
    return [*subproof(tree, old - k, start + k, end, False), left]


def test_every_proof_of_consistency_is_as_the_rfc_defines_it(oracle):
    for new in range(1, MOST + 1):
        for old in range(1, new + 1):
            proof = prove_consistency(ALL[:new], old)
            assert proof == subproof(oracle, old, 0, new, True)
            assert extends(oracle.get_root(old), old, oracle.get_root(new), new, proof)


# --- what proves nothing --------------------------------------------------------------------------

SIZES = st.integers(1, MOST)


@given(st.data())
def test_a_changed_proof_of_inclusion_proves_nothing(data: st.DataObject):
    size = data.draw(SIZES, "size")
    index = data.draw(st.integers(0, size - 1), "index")
    path = prove_inclusion(ALL[:size], index)
    top = root(ALL[:size])
    assert includes(top, size, index, ALL[index], path)

    for wrong in changed(path, data):
        assert not includes(top, size, index, ALL[index], wrong)
    for leaf in {EMPTY, top} - {ALL[index]}:
        assert not includes(top, size, index, leaf, path)
    for other in {*range(size)} - {index}:
        assert not includes(top, size, other, ALL[index], path)
    assert not includes(EMPTY, size, index, ALL[index], path)
    assert not includes(top, size, size, ALL[index], path)
    assert not includes(top, size, -1, ALL[index], path)


@given(st.data())
def test_a_changed_proof_of_consistency_proves_nothing(data: st.DataObject):
    new = data.draw(SIZES, "new")
    old = data.draw(st.integers(1, new), "old")
    proof = prove_consistency(ALL[:new], old)
    roots = root(ALL[:old]), root(ALL[:new])
    assert extends(roots[0], old, roots[1], new, proof)

    for wrong in changed(proof, data):
        assert not extends(roots[0], old, roots[1], new, wrong)
    assert not extends(EMPTY, old, roots[1], new, proof)
    assert not extends(roots[0], old, EMPTY, new, proof)
    if old < new:
        assert not extends(roots[1], new, roots[0], old, proof)
        assert not extends(roots[1], old, roots[0], new, proof)
        assert not extends(roots[0], old, roots[1], new, [])


def changed(path: list[bytes], data: st.DataObject) -> list[list[bytes]]:
    """Paths that are not this one: longer, shorter, a bit of it turned."""
    wrong = [[*path, EMPTY], [EMPTY, *path]]
    if path:
        at = data.draw(st.integers(0, len(path) - 1), "node")
        bit = data.draw(st.integers(0, 255), "bit")
        node = bytearray(path[at])
        node[bit // 8] ^= 1 << bit % 8
        wrong += [path[:-1], path[1:], [*path[:at], bytes(node), *path[at + 1 :]]]
    return wrong


@given(size=st.integers(0, MOST), cut=st.integers(0, MOST))
def test_a_tree_grows_from_its_frontier_alone(size: int, cut: int):
    half = Frontier().grown(ALL[: min(cut, size)])
    kept = Frontier(half.size, half.hashes)

    assert kept.grown(ALL[kept.size : size]).root() == root(ALL[:size])


def test_every_tree_begins_with_the_empty_one():
    assert prove_consistency(ALL, 0) == []
    assert extends(EMPTY, 0, root(ALL), MOST, [])
    assert not extends(ALL[0], 0, root(ALL), MOST, [])
    assert not extends(EMPTY, 0, root(ALL), MOST, [EMPTY])


@pytest.mark.parametrize("index", [-1, 3, 4])
def test_what_is_not_there_cannot_be_proven(index: int):
    with pytest.raises(ValueError, match=f"no leaf {index}"):
        prove_inclusion(ALL[:3], index)
    if index != 3:
        with pytest.raises(ValueError, match=f"begin with one of {index}"):
            prove_consistency(ALL[:3], index)


@pytest.mark.parametrize(("size", "hashes"), [(0, (EMPTY,)), (3, (EMPTY,)), (-1, (EMPTY,))])
def test_a_frontier_has_a_hash_for_each_whole_subtree(size: int, hashes: tuple[bytes, ...]):
    with pytest.raises(ValueError, match="no frontier"):
        Frontier(size, hashes)
