"""`sortition audit`: whether the record is whole, and proofs of it; offline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from sortition.record import export as exports
from sortition.record import proofs
from sortition.record.checkpoint import LOG_NAME
from sortition.record.export import Export
from sortition.record.note import NoteError, VerifierKey, parse_keys
from sortition.record.verify import ANCHOR_UNREACHABLE, WHOLE, Anchor, Verdict, verify

from . import exits
from .api import Failure
from .output import Noun, clean, say

NOTE_LIMIT = 64 * 1024
"""Bytes of an anchor at most; a checkpoint has some hundred."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

Command = TypeVar("Command", bound=Any)


@click.group(cls=Noun)
def audit() -> None:
    """The record: is it whole, and how is that proven; offline, to whoever has the public key."""


def _key_option(command: Command) -> Command:
    words = "The public keys, one on a line: <name>+<id>+<base64>."
    return click.option("--key", "key", type=FILE, required=True, help=words)(command)


# --- verify ---------------------------------------------------------------------------------------


@audit.command("verify")
@click.option("--export", "export", type=FILE, help="The record, as it was exported.")
@click.option("--proof", type=FILE, help="Check one proof instead, made by `audit prove`.")
@_key_option
@click.option(
    "--anchors",
    type=click.Path(path_type=Path),
    help="Folder with the checkpoints that are kept outside.",
)
@click.pass_context
def verify_command(
    context: click.Context,
    export: Path | None,
    proof: Path | None,
    key: Path,
    anchors: Path | None,
) -> None:
    """Tell whether a record is whole: 0 when it is, 9 when it is not.

    The kind is one of `whole`, `tampered` (with the first bad entry), `truncated`, `wrong_key`,
    `anchor_unreachable`. Nobody is asked: an export, the public keys and the anchors are enough.
    Without --anchors, an end that was cut off with its checkpoints cannot be seen.
    """
    if (export is None) == (proof is None):
        raise click.UsageError("Give --export, or --proof.")
    if proof is not None and anchors is not None:
        raise click.UsageError("--anchors belongs to --export: a proof brings its own checkpoint.")
    keys = _keys(key)
    if proof is not None:
        _tell(context, proofs.check(_json(proof), keys))
    elif export is not None:
        _tell(context, _verdict(exports.read(export.read_bytes()), keys, anchors))


def _verdict(export: Export, keys: Sequence[VerifierKey], folder: Path | None) -> Verdict:
    """Return what is found; first what is wrong inside, then whether the anchors can be read."""
    if folder is None:
        return verify(export, keys)
    try:
        return verify(export, keys, anchors_in(folder, export.log))
    except OSError as error:
        inside = verify(export, keys)
        return inside if inside.kind != WHOLE else _unreachable(inside, error)


def _unreachable(inside: Verdict, error: OSError) -> Verdict:
    words = f"the anchors cannot be read: {error.strerror or error}: {error.filename}"
    return Verdict(ANCHOR_UNREACHABLE, words, entries=inside.entries, signed=inside.signed)


def anchors_in(folder: Path, log: str) -> list[Anchor]:
    """Return the anchors of a log: FOLDER/<log>/<epoch>/<size>. Raises OSError."""
    if not LOG_NAME.fullmatch(log):
        return []
    # Listed one by one: a pattern would pass over what may not be read.
    epochs = sorted(path for path in (folder / log).iterdir() if path.name.isdigit())
    files = [path for epoch in epochs for path in sorted(epoch.iterdir()) if path.name.isdigit()]
    return [Anchor(str(path.relative_to(folder)), _note(path)) for path in files]


def _note(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(NOTE_LIMIT)


def _tell(context: click.Context, verdict: Verdict) -> None:
    mark = "✔" if verdict.kind == WHOLE else "✖"
    say(context, asdict(verdict), f"{mark} {verdict.kind}: {clean(verdict.words)}")
    if verdict.kind != WHOLE:
        context.exit(exits.CHECK_FAILED)


# --- prove ----------------------------------------------------------------------------------------


@audit.command("prove")
@click.argument("entry", type=int, required=False)
@click.option("--since", type=FILE, help="A checkpoint kept from before: prove that it only grew.")
@click.option("--export", "export", type=FILE, required=True, help="The record, as exported.")
@_key_option
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Else to stdout."
)
@click.pass_context
def prove_command(
    context: click.Context,
    entry: int | None,
    since: Path | None,
    export: Path,
    key: Path,
    output: Path | None,
) -> None:
    """Prove that ENTRY (its number) is in the record, or that the record only grew.

    The proof is a JSON object of a few hundred bytes; `audit verify --proof` checks it with the
    public key alone, without the record. What is not whole proves nothing: then this ends with 9.
    """
    if (entry is None) == (since is None):
        raise click.UsageError("Give ENTRY, or --since.")
    keys, read = _keys(key), exports.read(export.read_bytes())
    found = verify(read, keys)
    if found.kind != WHOLE:
        _tell(context, found)
    try:
        proof = _proof(read, entry, since, keys)
    except (NoteError, proofs.NotProvable) as error:
        raise Failure(str(error), code="not_provable") from None
    text = json.dumps(proof, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n")


def _proof(
    export: Export, entry: int | None, since: Path | None, keys: Sequence[VerifierKey]
) -> proofs.Proof:
    if since is not None:
        return proofs.prove_growth(export, since.read_bytes().decode(errors="replace"), keys)
    return proofs.prove_entry(export, entry or 0, keys)


# --- files ----------------------------------------------------------------------------------------


def _keys(path: Path) -> list[VerifierKey]:
    try:
        return parse_keys(path.read_text())
    except (NoteError, UnicodeError) as error:
        raise Failure(f"--key {path}: {error}", code="bad_key") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise Failure(f"--proof {path}: this is no JSON", code="bad_proof") from None
