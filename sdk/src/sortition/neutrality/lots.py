"""Ways to draw: ours, and three that others have shipped and that a proof must find unfair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from zlib import crc32

from sortition.core import bucketing

from .ids import Ids

Draw = Callable[[Ids, str], Iterator[int]]
"""(ids, a flag's salt) -> a point in [0, 2**32) for each id."""

BUCKETS = 100
"""Of the hash with a modulo: as many as several flag systems have."""


@dataclass(frozen=True)
class Lot:
    """A way to draw.

    first, second: whether exposed; which variant.  follows: the balancer's split is drawn by the
    flag's own hash.  must_fail: what has to find it, on each shape of ids; nothing of ours.
    """

    name: str
    words: str
    first: Draw
    second: Draw
    follows: bool = False
    must_fail: tuple[str, ...] = ()


def _first(ids: Ids, salt: str) -> Iterator[int]:
    return bucketing.points(ids, bucketing.seed(salt))


def _second(ids: Ids, salt: str) -> Iterator[int]:
    return bucketing.points(ids, bucketing.variant_seed(salt))


def _modulo(ids: Ids, salt: str) -> Iterator[int]:
    wide = bucketing.POINTS // BUCKETS
    # CRC-32 goes on from where it was: this is crc32(salt + id).
    return (hashed % BUCKETS * wide for hashed in map(crc32, ids, repeat(crc32(salt.encode()))))


def _unsalted(ids: Ids, salt: str) -> Iterator[int]:
    return bucketing.points(ids, 0)


OURS = Lot("ours", "murmur3 of the id, seeded by the flag's salt; all 32 bits", _first, _second)

CONTROLS = (
    Lot(
        "modulo",
        "crc32(salt + id) % 100: a hundred places, and a hash that is linear",
        _modulo,
        _second,
        must_fail=("uniform", "distance", "shares", "avalanche"),
    ),
    Lot(
        "unsalted",
        "the id's hash without the flag's salt: one draw for all flags",
        _unsalted,
        _second,
        must_fail=("pairs",),
    ),
    Lot(
        "reused",
        "one draw for exposure, variant and load balancer",
        _first,
        _first,
        follows=True,
        must_fail=("variants", "balancer"),
    ),
)
"""Known to be unfair: a proof that finds nothing in one of these proves nothing."""
