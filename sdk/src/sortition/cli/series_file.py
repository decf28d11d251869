"""Files that a rollout's series may lie in: its lines, an evidence export, or a zip of either."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from sortition.judgement import series
from sortition.judgement.series import BadSeries, Series

from . import exits
from .api import Failure

SERIES, EVIDENCE = "series.jsonl", "evidence.json"
"""What the zip of `rollouts evidence --out` holds."""

STDIN = Path("-")

MOST = 512 * 1024 * 1024
"""Octets of what a zip holds at most: 90 days of ticks are far less."""


def read(path: Path) -> Series:
    """Return the series that a file holds. Raises Failure, which names the line and the field."""
    text = _text(path)
    whole = _document(text)
    try:
        if whole is None:
            return series.read(text.splitlines())
        return series.of_bodies(enumerate(_series_of(path, whole), 1))
    except BadSeries as error:
        where = str(error) if whole is None else f"series, entry {str(error).removeprefix('line ')}"
        place = {"line": error.line, "field": error.field, "detail": error.message}
        raise Failure(f"{path}: {where}.", exits.USAGE, code="bad_file", **place) from None


def _text(path: Path) -> str:
    try:
        if path == STDIN:
            return sys.stdin.buffer.read().decode()
        if not zipfile.is_zipfile(path):
            return path.read_text("utf-8")
        with zipfile.ZipFile(path) as packed:
            return _unpacked(path, packed).decode()
    except (OSError, UnicodeError, zipfile.BadZipFile) as error:
        raise Failure(f"{path}: {error}.", exits.USAGE, code="bad_file") from None


def _unpacked(path: Path, packed: zipfile.ZipFile) -> bytes:
    for name in (SERIES, EVIDENCE):
        if name in packed.namelist():
            with packed.open(name) as file:
                data = file.read(MOST + 1)
            if len(data) > MOST:
                raise Failure(f"{path}: {name} is too large.", exits.USAGE, code="bad_file")
            return data
    raise Failure(f"{path}: holds no {SERIES}.", exits.USAGE, code="bad_file")


def _document(text: str) -> Any:
    """Return what the text is as one JSON document, None where it is lines."""
    first = text.lstrip().partition("\n")[0]
    try:
        head = json.loads(first)
    except (ValueError, RecursionError):
        head = None
    if isinstance(head, dict) and "series" not in head:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # Told by its lines, which says where.
        return None


def _series_of(path: Path, whole: Any) -> list[Any]:
    found = whole.get("series") if isinstance(whole, dict) else whole
    if not isinstance(found, list) or not found:
        message = "no series is in it: `sortition rollouts evidence ID --series` exports one"
        raise Failure(f"{path}: {message}.", exits.USAGE, code="bad_file")
    return found
