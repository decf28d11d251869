"""The Merkle tree over the record's leaf hashes: its root, and proofs that fit on a page.

    node(l, r)  = SHA-256(0x01 || l || r)
    root(n)     = node(root of the first k leaves, root of the rest), k = the largest 2^i < n

As in RFC 6962, section 2.1; proofs are checked as in RFC 9162, sections 2.1.3.2 and 2.1.4.2. Leaves
are counted from 0 here: entry n of the record is leaf n - 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

EMPTY = hashlib.sha256(b"").digest()
"""The root of no leaves."""

_NODE = b"\x01"


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node."""
    return hashlib.sha256(_NODE + left + right).digest()


# --- the root, as the tree grows ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frontier:
    """All of a tree that is needed to make it grow: the roots of its whole subtrees.

    size: number of leaves.  hashes: a root per one-bit of `size`, the largest subtree first.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"{len(self.hashes)} hashes are no frontier of {self.size} leaves")

    def grown(self, leaves: Iterable[bytes]) -> Frontier:
        """Return the frontier with more leaves."""
        size, hashes = self.size, list(self.hashes)
        for leaf in leaves:
            node, height = leaf, size
            while height & 1:
                node, height = node_hash(hashes.pop(), node), height >> 1
            hashes.append(node)
            size += 1
        return Frontier(size, tuple(hashes))

    def root(self) -> bytes:
        """Return the tree's root."""
        if not self.hashes:
            return EMPTY
        node = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            node = node_hash(left, node)
        return node


def root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over these leaf hashes."""
    return Frontier().grown(leaves).root()


# --- proofs ---------------------------------------------------------------------------------------


def prove_inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the path from a leaf to the root over all `leaves`, the leaf's sibling first.

    index: from 0. Raises ValueError where there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"there is no leaf {index} in a tree of {len(leaves)}")
    path: list[bytes] = []
    start, end = 0, len(leaves)
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(root(leaves[middle:end]))
            end = middle
        else:
            path.append(root(leaves[start:middle]))
            start = middle
    return path[::-1]


def prove_consistency(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """Return the proof that the tree over all `leaves` begins with the tree of `old` leaves.

    Raises ValueError unless 0 <= old <= len(leaves).
    """
    if not 0 <= old <= len(leaves):
        raise ValueError(f"a tree of {len(leaves)} leaves does not begin with one of {old}")
    if old in {0, len(leaves)}:
        return []
    proof: list[bytes] = []
    start, end = 0, len(leaves)
    # Down to the largest subtree that both trees have: where the old one ends.
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(root(leaves[middle:end]))
            end = middle
        else:
            proof.append(root(leaves[start:middle]))
            start = middle
    # Whoever checks has the old root: it need not be said where it is that very subtree.
    return ([root(leaves[start:end])] if start else []) + proof[::-1]


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size` (at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def includes(root: bytes, size: int, index: int, leaf: bytes, path: Sequence[bytes]) -> bool:
    """Tell whether a path proves that the tree of this root and size has this leaf at `index`."""
    if not 0 <= index < size:
        return False
    node, at, last = leaf, index, size - 1
    for sibling in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            node = node_hash(sibling, node)
            # At the right edge a lone node rises without a sibling.
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and node == root


def extends(old_root: bytes, old: int, new_root: bytes, new: int, proof: Sequence[bytes]) -> bool:
    """Tell whether a proof shows that the new tree begins with the old one."""
    if not 0 <= old <= new:
        return False
    if old in {0, new}:
        whole = old_root == (EMPTY if old == 0 else new_root)
        return whole and not proof
    nodes = _with_old_root(old_root, old, proof)
    first = next(nodes, None)
    if first is None:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    of_old = of_new = first
    for node in nodes:
        if last == 0:
            return False
        if at & 1 or at == last:
            of_old, of_new = node_hash(node, of_old), node_hash(node, of_new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            of_new = node_hash(of_new, node)
        at, last = at >> 1, last >> 1
    return last == 0 and of_old == old_root and of_new == new_root


def _with_old_root(old_root: bytes, old: int, proof: Sequence[bytes]) -> Iterator[bytes]:
    """Yield a proof's nodes, the old root before them where the proof leaves it out."""
    if old & (old - 1) == 0 and proof:
        yield old_root
    yield from proof
