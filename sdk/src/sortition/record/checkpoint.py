"""Checkpoints: what the record was at one size, signed (C2SP tlog-checkpoint).

    <origin>                 <log's name>/<epoch>
    <size>                   number of entries, decimal
    <root>                   base64 of the tree's root
                             and signatures, see note.py

An epoch is a log of its own: it begins anew where a store lost what it had promised, and a log must
never sign two trees of which one does not begin with the other.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .note import Malformed, SigningKey, VerifierKey, open_note

_PART = "[A-Za-z0-9][A-Za-z0-9._-]*"
LOG_NAME = re.compile(f"{_PART}(/{_PART})*")
"""What a log may be called: like an address without its scheme, fit for a path."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The record at one size.

    log: the installation's name for its record.  size: number of entries.  root: 32 bytes.
    """

    log: str
    epoch: int
    size: int
    root: bytes

    @property
    def origin(self) -> str:
        """What a checkpoint's first line says."""
        return f"{self.log}/{self.epoch}"

    @property
    def place(self) -> str:
        """Where its anchor is kept: a path of its own, in the order of sizes."""
        return f"{self.origin}/{self.size:020d}"

    def text(self) -> str:
        """Return what is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def signed(self, key: SigningKey) -> str:
        """Return the signed note."""
        return key.sign(self.text())

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read what is signed. Raises Malformed; of two ways to write one, only ours is read."""
        lines = text.split("\n")
        if len(lines) != 4:
            raise Malformed("a checkpoint has three lines: origin, size, root")
        log, _, epoch = lines[0].rpartition("/")
        read = cls(log, _number(epoch), _number(lines[1]), _root(lines[2]))
        if not LOG_NAME.fullmatch(log) or read.text() != text:
            raise Malformed("a checkpoint's origin is the log's name, / and the epoch")
        return read


def open_checkpoint(note: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return the checkpoint of a note that one of the keys signed. Raises NoteError."""
    return Checkpoint.parse(open_note(note, keys))


def read_text(note: str) -> Checkpoint:
    """Return what a note says, whoever signed it: for those who only show it. Raises Malformed."""
    text, _, _ = note.partition("\n\n")
    return Checkpoint.parse(f"{text}\n")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise Malformed(f"this is no number: {text[:40]!r}")
    return int(text)


def _root(text: str) -> bytes:
    try:
        root = base64.b64decode(text.encode(), validate=True)
    except binascii.Error:
        raise Malformed("the root is no base64") from None
    if len(root) != 32:
        raise Malformed("a root has 32 bytes")
    return root
