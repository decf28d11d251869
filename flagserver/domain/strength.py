"""Is a key one that was drawn by lot? What nobody drew is guessed by whoever tries what people
type.

No look at a key can tell that it is good. These tell some that are not, and refuse none that was
drawn: of 24 random octets fewer than one key in 10^10 is refused, of 32 fewer than one in 10^13.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise

FEWEST_OCTETS = 16

PUBLISHED = frozenset(
    {
        # The example of the Standard Webhooks specification and its libraries.
        "f74e1720b76148810ffaeb4dc46a600cfa2fc3720e96da67a85a3dcb3f14c7a3",
        # The example of Go's signed notes, and of this project's tests of that form.
        "9bc35a95e9bdc69e6a60706d0ae381405e6495fd9bb32261e86171591ae670cd",
    }
)
"""SHA-256 of keys that stand in documents for everybody to read."""

_PRINTABLE = range(0x20, 0x7F)


def weakness(key: bytes) -> str | None:
    """Return why a key cannot have been drawn by lot, or is no secret; None when nothing says so.

    The words follow "it", and repeat nothing of the key.
    """
    if len(key) < FEWEST_OCTETS:
        return f"has fewer than {FEWEST_OCTETS} octets"
    if hashlib.sha256(key).hexdigest() in PUBLISHED:
        return "stands in a public document as an example"
    if len({(later - one) % 256 for one, later in pairwise(key)}) == 1:
        return "counts on from octet to octet"
    if len(set(key)) * 2 < len(key):
        return "is made of a few octets again and again"
    if all(octet in _PRINTABLE for octet in key):
        return "is text that somebody typed"
    return None
