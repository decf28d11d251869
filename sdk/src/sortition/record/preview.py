"""Preview links: which variants a colleague is shown before anyone else, for a while; signed.

A preview is the signed note of a few lines, in base64url without padding, so that it fits into an
address, a header or a cookie:

    sortition-preview/1
    <environment>
    <unix second at which it ends>
    <its id>
    <flag>=<variant>            one line for each

It holds nothing of a person. Whoever has the public key can check it, and nobody needs to be asked.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping

from sortition.core.records import dataclass

from .note import Malformed, NoteError, VerifierKey, open_note

TYPE_CHECKING = False  # see core.records
if TYPE_CHECKING:
    from typing import Protocol

    class Signer(Protocol):
        """Signs texts, as `note.SigningKey` does."""

        def sign(self, text: str) -> str:
            """Return the signed note of a text."""
            ...


FORMAT = "sortition-preview/1"
LONGEST = 4000
"""Characters of a preview's text: what a cookie can carry."""

MOST_FLAGS = 20

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{8,32}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


class Ended(NoteError):
    """It was good, and is over."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Who sees what. expires: unix seconds; variants: flag -> the variant that is shown."""

    id: str
    environment: str
    expires: int
    variants: Mapping[str, str]

    def text(self) -> str:
        """Return what is signed. Raises Malformed."""
        lines = [FORMAT, self.environment, str(self.expires), self.id]
        lines += [f"{flag}={variant}" for flag, variant in sorted(self.variants.items())]
        text = "".join(f"{line}\n" for line in lines)
        if parse(text) != self:
            raise Malformed("a preview of this cannot be written")
        return text


def parse(text: str) -> Preview:
    """Read what is signed. Raises Malformed."""
    head, *flags = [*text.split("\n")[:-1]] or [""]
    if head != FORMAT or not 4 <= len(flags) <= MOST_FLAGS + 3 or not text.endswith("\n"):
        raise Malformed("this is no preview")
    environment, expires, id, *pairs = flags
    split = [pair.partition("=") for pair in pairs]
    keys = [environment, *(flag for flag, _, _ in split), *(variant for _, _, variant in split)]
    good = all(_KEY.fullmatch(key) for key in keys) and _ID.fullmatch(id)
    if (
        not good
        or not _SECONDS.fullmatch(expires)
        or len({flag for flag, _, _ in split}) != len(split)
    ):
        raise Malformed("this preview cannot be read")
    return Preview(id, environment, int(expires), {flag: variant for flag, _, variant in split})


def write(preview: Preview, signer: Signer) -> str:
    """Return the text of a preview that stands in links. Raises Malformed."""
    note = signer.sign(preview.text()).encode()
    text = base64.urlsafe_b64encode(note).decode().rstrip("=")
    if len(text) > LONGEST:
        raise Malformed("a preview of so much fits into no link")
    return text


def read(text: str, keys: Iterable[VerifierKey], now: float) -> Preview:
    """Return the preview that a text stands for, which one of the keys signed. now: unix seconds.

    Raises Malformed, UnknownKey, BadSignature, Ended; all are NoteErrors.
    """
    if len(text) > LONGEST:
        raise Malformed("this is too long for a preview")
    try:
        note = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("this is no base64url") from None
    preview = parse(open_note(note, keys))
    if preview.expires <= now:
        raise Ended("this preview has ended")
    return preview
