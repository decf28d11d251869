"""Previews in a host: a colleague with a signed link sees a feature before anyone else, uncounted.

    Middleware(app, client, preview="<public key of the server's previews>")

The link carries the preview in the parameter `sortition_preview`; the middleware keeps it in a
cookie of that name until it ends, and takes it from the header `X-Sortition-Preview` too. Only a
preview that the server signed for this client's environment counts, until its time is over or it is
revoked, which comes with the flags. Killing a flag ends all previews of it. Hosts that give no key
import none of this.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

from .core.conditions import Resource
from .core.evaluate import Evaluation
from .core.model import Flag
from .core.reasons import Reason
from .errors import ConfigurationError
from .request_ids import Header

HEADER = "x-sortition-preview"
NAME = "sortition_preview"
"""Of the parameter and of the cookie."""

MOST_KNOWN = 256
"""Texts whose signature is not checked again."""

MOST_QUERY = 16 * 1024

TYPE_CHECKING = False  # see core.records
if TYPE_CHECKING:
    from .record.preview import Preview


class Shown:
    """What a request is shown. headers: what its answer is to carry besides."""

    __slots__ = ("headers", "variants")

    def __init__(self, variants: Mapping[str, str], set_cookie: str | None) -> None:
        self.variants = variants
        # What one is shown, nobody else is to get from a cache.
        self.headers = [("Cache-Control", "private, no-store")]
        if set_cookie is not None:
            self.headers.append(("Set-Cookie", set_cookie))


class Previews:
    """Finds the preview of each request.

    key: the public keys that are believed, one on a line, as `flagserver record-key` prints them.
    """

    def __init__(self, key: str, *, secure: bool) -> None:
        """Raises ConfigurationError."""
        try:
            from .record import note, preview  # noqa: PLC0415 (who has no previews needs neither)
        except ImportError:
            raise ConfigurationError("preview needs an extra: install sortition[preview]") from None
        try:
            self._keys = note.parse_keys(key)
        except note.NoteError as error:
            raise ConfigurationError(f"preview: {error}") from None
        self._read = preview.read
        self._refused = note.NoteError
        self._attributes = "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")
        self._known: dict[str, Preview | None] = {}

    def find(
        self, header: Header, query: str, environment: str, revoked: Sequence[str] = ()
    ) -> Shown | None:
        """Return what a request with these headers and this query is shown. Never raises.

        revoked: ids of previews that count no more."""
        try:
            linked = _linked(query)
            text = linked or header(HEADER).strip() or _kept(header("cookie"))
            preview = self._preview(text) if text else None
        except Exception:  # noqa: BLE001 (what cannot be read is no preview)
            return None
        if preview is None or preview.environment != environment or preview.id in revoked:
            return None
        left = int(preview.expires - time.time())
        if left <= 0:
            return None
        cookie = f"{NAME}={text}; Max-Age={left}; {self._attributes}" if linked else None
        return Shown(preview.variants, cookie)

    def _preview(self, text: str) -> Preview | None:
        if text in self._known:
            return self._known[text]
        found: Preview | None
        try:
            found = self._read(text, self._keys, time.time())
        except self._refused:
            found = None
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[text] = found
        return found


def previewed(flag: Flag, variant: str | None, resource: Resource) -> Evaluation | None:
    """Return what a preview shows of a flag, or None: it goes as it does for everybody.

    A kill goes before every preview, and so do conditions: where the code may not run it does not.
    """
    if variant is None or flag.killed or variant not in flag.variants:
        return None
    if not all(condition.holds(resource) for condition in flag.conditions):
        return None
    return Evaluation(flag.variants[variant], variant, Reason.STATIC, flag.revision)


def _linked(query: str) -> str:
    if NAME not in query or len(query) > MOST_QUERY:
        return ""
    return parse_qs(query, max_num_fields=100).get(NAME, [""])[0]


def _kept(cookies: str) -> str:
    found = SimpleCookie(cookies).get(NAME) if NAME in cookies else None
    return "" if found is None else found.value
