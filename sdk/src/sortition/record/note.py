"""Signed notes: a text, and under it who signed it (C2SP signed-note, Ed25519).

    <text, its lines ended>
    <an empty line>
    — <key's name> base64(key id || signature)

    key id = SHA-256(name || 0x0A || 0x01 || public key)[:4]

Keys are written as one line: `<name>+<key id>+base64(0x01 || public key)`, and the secret one as
`PRIVATE+KEY+<name>+<key id>+base64(0x01 || seed)`, as tools for transparency logs read them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MOST_SIGNATURES = 100
"""More signatures than anybody needs: such a note is refused unread."""

_ED25519 = b"\x01"
_DASH = "— "
_SECRET = "PRIVATE+KEY+"  # noqa: S105 (how every secret key begins)


class NoteError(ValueError):
    """Root of what is wrong with a note or a key."""


class Malformed(NoteError):
    """It has not the form."""


class UnknownKey(NoteError):
    """No key that is trusted has signed it."""


class BadSignature(NoteError):
    """It names a key that is trusted, and that key has not signed this text."""


# --- keys -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A key that is trusted: whose it is, and its 32 public bytes."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read `<name>+<key id>+<base64>`. Raises Malformed."""
        name, key_id, public = _fields(text.strip())
        key = cls(name, public)
        if key.id.hex() != key_id:
            raise Malformed("the key's id does not belong to its name and its bytes")
        return key

    @property
    def id(self) -> bytes:
        """The 4 bytes that name the key in a signature."""
        return _key_id(self.name, self.public)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_encoded(_ED25519 + self.public)}"

    def check(self, text: str, signature: bytes) -> None:
        """Raise BadSignature unless the key signed the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            raise BadSignature(f"the signature of {self.name} does not hold") from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs: whose it is, and its 32 secret bytes, which `repr` does not show."""

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.seed) != 32:
            raise Malformed("a key's seed has 32 bytes")

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Read `PRIVATE+KEY+<name>+<key id>+<base64>`. Raises Malformed, which tells no secret."""
        text = text.strip()
        if not text.startswith(_SECRET):
            raise Malformed(f"a signing key begins with {_SECRET}")
        name, key_id, seed = _fields(text[len(_SECRET) :])
        key = cls(name, seed)
        if key.verifier.id.hex() != key_id:
            raise Malformed("the key's id does not belong to its name and its bytes")
        return key

    @property
    def verifier(self) -> VerifierKey:
        """The public half, for whoever checks."""
        return VerifierKey(self.name, self._key().public_key().public_bytes_raw())

    def secret(self) -> str:
        """Return the key as its file holds it."""
        encoded = _encoded(_ED25519 + self.seed)
        return f"{_SECRET}{self.name}+{self.verifier.id.hex()}+{encoded}"

    def sign(self, text: str) -> str:
        """Return the note of a text. Raises Malformed for a text that no note can carry."""
        _check_text(text)
        signature = _encoded(self.verifier.id + self._key().sign(text.encode()))
        return f"{text}\n{_DASH}{self.name} {signature}\n"

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def parse_keys(text: str) -> list[VerifierKey]:
    """Return the public keys of a file: one on a line, empty lines and `#` lines left out.

    Raises Malformed, which names the line; and where there is no key.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            keys.append(VerifierKey.parse(line))
        except Malformed as error:
            raise Malformed(f"line {number}: {error}") from None
    if not keys:
        raise Malformed("there is no key in it")
    return keys


def _fields(text: str) -> tuple[str, str, bytes]:
    """Return name, key id in hex and the 32 bytes of a key's line."""
    name, key_id, encoded = [*text.split("+", 2), "", ""][:3]
    _check_name(name)
    key = _decoded(encoded)
    if key[:1] != _ED25519:
        raise Malformed("the key is of no kind that is known: only Ed25519 is")
    if len(key) != 33:
        raise Malformed("an Ed25519 key has 32 bytes")
    return name, key_id, key[1:]


def _check_name(name: str) -> None:
    if not name or "+" in name or any(each.isspace() for each in name):
        raise Malformed("a key's name is not empty and has no space and no +")


def _key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


# --- notes ----------------------------------------------------------------------------------------


def open_note(note: bytes, keys: Iterable[VerifierKey]) -> str:
    """Return the text of a note that one of the keys signed.

    Signatures of other keys are passed over, as the form demands. Raises Malformed, UnknownKey, and
    BadSignature where a trusted key's does not hold, whoever else signed.
    """
    text, signatures = _taken_apart(note)
    trusted = {(key.name, key.id): key for key in keys}
    known = [(trusted[name], signature) for name, signature in signatures if name in trusted]
    for key, signature in known:
        key.check(text, signature)
    if not known:
        names = ", ".join(sorted({f"{name}+{id.hex()}" for (name, id), _ in signatures}))
        raise UnknownKey(f"signed by {names} only")
    return text


_Signature = tuple[tuple[str, bytes], bytes]
"""(key's name, key id), signature."""


def _taken_apart(note: bytes) -> tuple[str, list[_Signature]]:
    try:
        decoded = note.decode()
    except UnicodeDecodeError:
        raise Malformed("a note is UTF-8") from None
    text, blank, signed = decoded.rpartition("\n\n")
    if not blank or not signed.endswith("\n"):
        raise Malformed("a note is a text, an empty line, and signatures, each on a line")
    _check_text(f"{text}\n")
    lines = signed[:-1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise Malformed(f"a note has at most {MOST_SIGNATURES} signatures")
    return f"{text}\n", [_signature(line) for line in lines]


def _signature(line: str) -> _Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise Malformed("a signature is a dash, a name and base64")
    _check_name(name)
    signature = _decoded(encoded)
    if len(signature) < 5:
        raise Malformed("a signature is longer than its key's id")
    return (name, signature[:4]), signature[4:]


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise Malformed("a note's text ends with its line")
    if any(each < " " and each != "\n" for each in text):
        raise Malformed("a note has no control characters")


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    """Return the bytes of base64 that is written in the one way it can be. Raises Malformed."""
    try:
        data = base64.b64decode(text.encode(), validate=True)
    except binascii.Error:
        raise Malformed("this is no base64") from None
    if _encoded(data) != text:
        raise Malformed("this base64 can be written otherwise")
    return data
