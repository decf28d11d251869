"""Stylesheet, scripts and pictures, under names that carry their content's hash.

Ours lie in `static/`; those of others are put into `static/vendor/` when the package is built, with
a manifest. Without them pages work as they do without JavaScript.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
MIMETYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file in memory. packed: gzipped."""

    body: bytes
    packed: bytes
    mimetype: str


class Assets:
    """Every file that pages may ask for, by its hashed name."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._names: dict[str, str] = {}
        self._assets: dict[str, Asset] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix in MIMETYPES:
                body = path.read_bytes()
                digest = hashlib.sha256(body).hexdigest()[:12]
                self._add(path.name, f"{path.stem}.{digest}{path.suffix}", body)
        self._add_vendored(folder / "vendor")

    def hashed(self, name: str) -> str | None:
        """Return the hashed name of a file, or None when it was not built in."""
        return self._names.get(name)

    def get(self, hashed: str) -> Asset | None:
        """Return a file by its hashed name."""
        return self._assets.get(hashed)

    def _add(self, name: str, hashed: str, body: bytes) -> None:
        mimetype = MIMETYPES[Path(name).suffix]
        self._names[name] = hashed
        self._assets[hashed] = Asset(body, gzip.compress(body, mtime=0), mimetype)

    def _add_vendored(self, folder: Path) -> None:
        try:
            files = json.loads((folder / "manifest.json").read_text())["files"]
            for name, hashed in files.items():
                self._add(name, hashed, (folder / hashed).read_bytes())
        except (OSError, ValueError, KeyError) as problem:
            log.warning("admin: no vendored scripts (%s); pages work without JavaScript", problem)
