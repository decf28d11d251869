"""What looks like a person: e-mail addresses and phone numbers have no place here."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"\w@\w")
_PHONE = re.compile(r"\+\s?\d(?:[\s().-]{0,2}\d){7,14}(?!\d)")


def looks_personal(text: str) -> bool:
    """Tell whether a text holds an `@` between words, or a `+` with 8 to 15 digits.

    Bare digits pass: request ids are often numbers.
    """
    return _ADDRESS.search(text) is not None or _PHONE.search(text) is not None
