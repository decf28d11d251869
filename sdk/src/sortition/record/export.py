"""The record as a file: what a verifier needs, one JSON object on a line.

    {"format":1,"kind":"export","log":"flags.example/record"}
    {"body":"{…}","chain":"<hex>","kind":"entry","leaf":"<hex>","seq":1}     body null: pruned
    {"kind":"checkpoint","note":"<signed note>"}
    {"checkpoints":2,"entries":1,"kind":"end"}

Head, entries in their order, checkpoints, end. Every line is written in one way only (keys sorted,
no spaces, UTF-8), so that no byte of the file can change unseen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .entry import Break

FORMAT = 1

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of an entry. body: its canonical text, or None where it was pruned."""

    seq: int
    body: str | None
    leaf: bytes
    chain: bytes


@dataclass(frozen=True, slots=True)
class Export:
    """What a file says, as far as it can be read.

    notes: checkpoints, signed.  broken: the first line that is none of ours, with the entry that
    was expected there or after.  cut: the file's end is missing, or counts other than there is.
    """

    log: str = ""
    entries: Sequence[Kept] = ()
    notes: Sequence[str] = ()
    broken: Break | None = None
    cut: bool = False


# --- writing --------------------------------------------------------------------------------------


def written(log: str, entries: Iterable[Kept], notes: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines of an export."""
    yield _line({"kind": "export", "format": FORMAT, "log": log})
    count = checkpoints = 0
    for entry in entries:
        yield _line(_entry(entry))
        count += 1
    for note in notes:
        yield _line({"kind": "checkpoint", "note": note})
        checkpoints += 1
    yield _line({"kind": "end", "entries": count, "checkpoints": checkpoints})


def _entry(entry: Kept) -> dict[str, Any]:
    hashes = {"leaf": entry.leaf.hex(), "chain": entry.chain.hex()}
    return {"kind": "entry", "seq": entry.seq, "body": entry.body, **hashes}


def _line(content: Mapping[str, Any]) -> bytes:
    return f"{_ENCODER.encode(content)}\n".encode()


# --- reading --------------------------------------------------------------------------------------


class _Strange(ValueError):
    """A line that is none of ours."""


def read(data: bytes) -> Export:
    """Return what a file says, up to the first line that is none of ours. Raises nothing."""
    *lines, rest = data.split(b"\n")
    reader = _Reader()
    try:
        for line in lines:
            reader.take(line)
    except _Strange as error:
        problem = f"line {reader.taken + 1}: {error}"
        return reader.export(broken=Break(len(reader.entries) + 1, problem))
    return reader.export(unfinished=rest != b"")


class _Reader:
    """Takes line after line, each where it may stand."""

    def __init__(self) -> None:
        self.taken = 0
        self.entries: list[Kept] = []
        self._log: str | None = None
        self._notes: list[str] = []
        self._end: Mapping[str, Any] | None = None

    def take(self, line: bytes) -> None:
        """Take the next line. Raises _Strange: it is none of ours, or not in its place."""
        content = _parsed(line)
        kind = content.get("kind")
        if self._end is not None:
            raise _Strange("something stands after the end")
        if (kind == "export") != (self._log is None):
            raise _Strange("an export of a record has one head, and begins with it")
        if kind == "export":
            self._log = _head(content)
        elif kind == "entry" and not self._notes:
            self.entries.append(_kept(content))
        elif kind == "checkpoint":
            self._notes.append(_text(content, "note", others=1))
        elif kind == "end":
            self._end = _with_fields(content, "entries", "checkpoints")
        else:
            raise _Strange("this is no line of an export")
        self.taken += 1

    def export(self, *, broken: Break | None = None, unfinished: bool = False) -> Export:
        """Return what was taken."""
        counted = (len(self.entries), len(self._notes))
        end = self._end or {}
        cut = unfinished or counted != (end.get("entries"), end.get("checkpoints"))
        return Export(self._log or "", self.entries, self._notes, broken, cut)


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(line.decode())
        ours = isinstance(content, dict) and _line(content) == line + b"\n"
    except (ValueError, RecursionError):
        raise _Strange("this is no JSON") from None
    if not ours:
        raise _Strange("it is not written as an export writes it")
    return dict(content)


def _with_fields(content: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    if set(content) != {"kind", *names}:
        raise _Strange(f"it has not the fields {', '.join(names)}")
    return content


def _head(content: Mapping[str, Any]) -> str:
    _with_fields(content, "format", "log")
    if type(content["format"]) is not int or content["format"] != FORMAT:
        raise _Strange(f"an export of format {content['format']!r}; this program reads {FORMAT}")
    return _text(content, "log", others=2)


def _text(content: Mapping[str, Any], name: str, *, others: int) -> str:
    value = content.get(name)
    if not isinstance(value, str) or len(content) != others + 1:
        raise _Strange(f"its {name} is a text")
    return value


def _kept(content: Mapping[str, Any]) -> Kept:
    _with_fields(content, "seq", "body", "leaf", "chain")
    seq, body = content["seq"], content["body"]
    if type(seq) is not int or not isinstance(body, str | None):
        raise _Strange("an entry has a number and a body")
    return Kept(seq, body, _hash(content["leaf"]), _hash(content["chain"]))


def _hash(value: object) -> bytes:
    try:
        hash = bytes.fromhex(value if isinstance(value, str) else "")
    except ValueError:
        hash = b""
    if len(hash) != 32 or hash.hex() != value:
        raise _Strange("a hash is 32 bytes in hex")
    return hash
