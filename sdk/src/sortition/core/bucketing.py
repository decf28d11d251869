"""How a lot is drawn. Frozen: `spec/bucketing.json` holds the golden cases for any language.

    seed      = murmur3_x86_32(utf8(salt), 0)             one per flag
    point     = murmur3_x86_32(utf8(request_id), seed)    in [0, 2**32)
    threshold = share_ppm * 2**32 // 10**6
    exposed   = point < threshold

The whole 32-bit range and no modulo, so 0 % is never, 100 % is always, and a larger share only
ever adds requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

import mmh3

POINTS = 2**32
"""How many points there are: a point is in [0, POINTS)."""

WHOLE = 1_000_000
"""The whole, in parts per million: shares and weights are counted in it."""


def seed(salt: str) -> int:
    """Return the unsigned 32-bit seed of a flag's lot for its salt."""
    return _murmur3(salt, 0)


def variant_seed(salt: str) -> int:
    """Return the seed of the second lot, which draws the variant among the exposed.

    It differs from `seed`, for with the same one every exposed request of a small share would
    get the first variant.
    """
    return _murmur3(salt + "/variant", 0)


def point(request_id: str, seed: int) -> int:
    """Return the request id's place in [0, 2**32). Raises UnicodeEncodeError on lone surrogates."""
    return _murmur3(request_id, seed)


def points(request_ids: Iterable[bytes], seed: int) -> Iterator[int]:
    """Return the places of many request ids, which are UTF-8 already: for whoever checks a lot."""
    return map(mmh3.mmh3_32_uintdigest, request_ids, repeat(seed))


def threshold(share_ppm: int) -> int:
    """Return the first point that is not exposed at a share in parts per million (0..10**6)."""
    if not 0 <= share_ppm <= WHOLE:
        raise ValueError(f"a share is between 0 and {WHOLE} parts per million")
    return share_ppm * POINTS // WHOLE


def cumulative_thresholds(weights_ppm: Iterable[int]) -> tuple[int, ...]:
    """Return the running thresholds of ordered weights; the last is 2**32 when they are whole."""
    total = 0
    edges = []
    for weight in weights_ppm:
        total += weight
        edges.append(threshold(total))
    return tuple(edges)


def _murmur3(text: str, seed: int) -> int:
    # Encoded here, for `mmh3.hash` (5.3.1) takes text as well, but ends the whole process with a
    # segmentation fault when UTF-8 cannot carry it: a lone surrogate in a request id would do.
    return mmh3.mmh3_32_uintdigest(text.encode(), seed)
