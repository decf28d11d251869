"""Signed notes and checkpoints are what the reference tools write and read."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.record.checkpoint import Checkpoint, open_checkpoint
from sortition.record.note import (
    MOST_SIGNATURES,
    BadSignature,
    Malformed,
    NoteError,
    SigningKey,
    UnknownKey,
    VerifierKey,
    open_note,
    parse_keys,
)
from sortition.record.tree import EMPTY, root

# --- the vectors of golang.org/x/mod/sumdb/note, the form's first implementation ------------------

PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
SIGNED_BY_PETER = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
SIGNED_BY_ENOCH = (
    "— EnochRoot "
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)

peter, enoch = VerifierKey.parse(PETER), VerifierKey.parse(ENOCH)


def note(*signatures: str, text: str = TEXT) -> bytes:
    return "".join([text, "\n", *signatures]).encode()


def test_a_note_is_signed_as_the_reference_signs_it():
    assert SigningKey.parse(PETER_SECRET).sign(TEXT).encode() == note(SIGNED_BY_PETER)


def test_keys_are_written_as_they_are_read():
    secret = SigningKey.parse(PETER_SECRET)

    assert str(secret.verifier) == PETER == str(peter)
    assert secret.secret() == PETER_SECRET
    assert "c74f20a3" not in repr(secret)
    assert repr(secret) == "SigningKey(name='PeterNeumann')"


@pytest.mark.parametrize("keys", [[peter], [enoch], [peter, enoch]])
def test_one_trusted_signature_is_enough(keys: list[VerifierKey]):
    assert open_note(note(SIGNED_BY_PETER, SIGNED_BY_ENOCH), keys) == TEXT


def test_a_note_that_nobody_known_signed_is_refused():
    with pytest.raises(UnknownKey, match=r"EnochRoot\+af0cfe78, PeterNeumann\+c74f20a3 only"):
        open_note(note(SIGNED_BY_PETER, SIGNED_BY_ENOCH), [])
    with pytest.raises(UnknownKey):
        open_note(note(SIGNED_BY_PETER), [enoch])


def test_a_trusted_key_that_did_not_sign_refuses_the_whole_note():
    """Whoever else signed it: somebody wrote over it."""
    for text in (TEXT.replace("you", "we", 1), "x" + TEXT, TEXT + "x\n"):
        with pytest.raises(BadSignature):
            open_note(note(SIGNED_BY_PETER, text=text), [peter, enoch])
    turned = SIGNED_BY_PETER.replace("ZJku", "ZJkv")
    with pytest.raises(BadSignature):
        open_note(note(turned, SIGNED_BY_ENOCH), [peter, enoch])
    longer = SIGNED_BY_PETER[:60] + "ABCD" + SIGNED_BY_PETER[60:]
    with pytest.raises(BadSignature):
        open_note(note(longer), [peter])


BAD_NOTES = {
    "no signature": TEXT.encode(),
    "no line under it": TEXT.encode() + b"\n",
    "cut": note(SIGNED_BY_PETER)[:-1],
    "a control character": b"\x01" + note(SIGNED_BY_PETER),
    "a carriage return": note(SIGNED_BY_PETER).replace(b"\n", b"\r\n"),
    "no UTF-8": b"\xff" + note(SIGNED_BY_PETER),
    "a name with a space": note("— Bad Name x08go/ZJkuBS\n"),
    "another line": note(SIGNED_BY_PETER, "Unexpected line.\n"),
    "too many": note(*[SIGNED_BY_PETER] * (MOST_SIGNATURES + 1)),
    "a signature of nothing": note("— PeterNeumann x08gow==\n"),
    "base64 with a rest": note(SIGNED_BY_PETER.replace("nAM=", "nAN=")),
    "base64 over two": note(SIGNED_BY_PETER.replace("ZJku", "ZJ ku")),
    "another dash": note(SIGNED_BY_PETER.replace("—", "-")),
    "empty": b"",
}


@pytest.mark.parametrize("bad", BAD_NOTES)
def test_what_is_no_note(bad: str):
    with pytest.raises(Malformed):
        open_note(BAD_NOTES[bad], [peter])


def test_no_part_of_a_key_is_a_key():
    for start in range(len(PETER)):
        for end in range(start + 1, len(PETER) + 1):
            if (start, end) != (0, len(PETER)):
                with pytest.raises(Malformed):
                    VerifierKey.parse(PETER[start:end])


@pytest.mark.parametrize("place", range(len(PETER)))
def test_no_changed_key_is_a_key(place: int):
    other = PETER[:place] + chr(ord(PETER[place]) + 1) + PETER[place + 1 :]

    with pytest.raises(Malformed):
        VerifierKey.parse(other)


@pytest.mark.parametrize("place", range(len(PETER_SECRET)))
def test_no_changed_secret_is_a_key_and_none_is_told(place: int):
    other = PETER_SECRET[:place] + chr(ord(PETER_SECRET[place]) + 1) + PETER_SECRET[place + 1 :]

    with pytest.raises(Malformed) as refused:
        SigningKey.parse(other)
    assert PETER_SECRET[-20:] not in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        # Each with the id that belongs to its bytes.
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
    ids=["too long", "of another kind"],
)
def test_a_key_of_another_kind_is_refused(key: str):
    with pytest.raises(Malformed):
        VerifierKey.parse(key)


def test_a_file_of_keys():
    assert parse_keys(f"# rotated in May\n{PETER}\n\n{ENOCH}\n") == [peter, enoch]
    with pytest.raises(Malformed, match="line 2"):
        parse_keys(f"{PETER}\n{ENOCH}x\n")
    with pytest.raises(Malformed, match="no key"):
        parse_keys("# nothing\n")


# --- checkpoints ----------------------------------------------------------------------------------

SOFA = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""
"""The text of the form's own example; its log has no epochs."""

KEY = SigningKey("flags.example/record", bytes(range(32)))
AT_TEN = Checkpoint("flags.example/record", 3, 10, root([bytes(32)] * 10))


def test_a_checkpoint_has_the_published_form():
    text = SOFA.replace("behind-the-sofa", "behind-the-sofa/7")

    read = Checkpoint.parse(text)

    assert (read.log, read.epoch, read.size) == ("example.com/behind-the-sofa", 7, 20852163)
    assert base64.b64encode(read.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert read.text() == text


def test_a_checkpoint_is_a_note_that_comes_back():
    signed = AT_TEN.signed(KEY).encode()

    assert signed.startswith(b"flags.example/record/3\n10\n")
    assert open_checkpoint(signed, [KEY.verifier]) == AT_TEN


@pytest.mark.parametrize(
    "text",
    [
        SOFA,
        AT_TEN.text().replace("\n10\n", "\n010\n"),
        AT_TEN.text().replace("\n10\n", "\n+10\n"),
        AT_TEN.text().replace("\n10\n", "\n١٠\n"),
        AT_TEN.text().replace("\n10\n", f"\n{10**30}\n"),
        AT_TEN.text().replace("/3\n", "/03\n"),
        AT_TEN.text().replace("flags.example/record", ""),
        AT_TEN.text() + "more\n",
        AT_TEN.text().replace("=", ""),
        replace(AT_TEN, root=EMPTY[:-1]).text(),
        "",
    ],
)
def test_what_is_no_checkpoint(text: str):
    with pytest.raises(Malformed):
        Checkpoint.parse(text)


@given(at=st.integers(0, 10**4), bit=st.integers(0, 7))
def test_no_changed_note_is_a_checkpoint(at: int, bit: int):
    signed = bytearray(AT_TEN.signed(KEY).encode())
    signed[at % len(signed)] ^= 1 << bit

    with pytest.raises(NoteError):
        open_checkpoint(bytes(signed), [KEY.verifier])
