"""`sortition audit`: the record, whether it is whole, and proofs of it; the latter offline too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from sortition.record import export as exports
from sortition.record import proofs
from sortition.record.checkpoint import LOG_NAME
from sortition.record.export import Export, Kept
from sortition.record.note import NoteError, VerifierKey, parse_keys
from sortition.record.replay import Replayed, replay
from sortition.record.verify import ANCHOR_UNREACHABLE, WHOLE, Anchor, Verdict, verify

from . import exits, options
from .api import Api, Failure
from .output import Noun, clean, say, table

AUDIT = "/api/v1/audit"

NOTE_LIMIT = 64 * 1024
"""Bytes of an anchor at most; a checkpoint has some hundred."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

Command = TypeVar("Command", bound=Any)


@click.group(cls=Noun)
def audit() -> None:
    """The record: what was done, whether it is whole, and how that is proven to others."""


def _key_option(command: Command) -> Command:
    words = "The public keys, one on a line: <name>+<id>+<base64>."
    return click.option("--key", "key", type=FILE, required=True, help=words)(command)


# --- verify ---------------------------------------------------------------------------------------


@audit.command("verify")
@click.option("--export", "export", type=FILE, help="Offline: the record, as it was exported.")
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
    `anchor_unreachable`. With --export nobody is asked: it, the public keys and the anchors are
    enough; without it the server's record is read. Without --anchors, an end that was cut off with
    its checkpoints cannot be seen.
    """
    if export is not None and proof is not None:
        raise click.UsageError("Give --export or --proof, not both.")
    if proof is not None and anchors is not None:
        raise click.UsageError("--anchors belongs to --export: a proof brings its own checkpoint.")
    keys = _keys(key)
    if proof is not None:
        _tell(context, proofs.check(_json(proof), keys))
    else:
        data = b"".join(_exported(context)) if export is None else export.read_bytes()
        _tell(context, _verdict(exports.read(data), keys, anchors))


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


# --- log, export ----------------------------------------------------------------------------------


@audit.command("log")
@options.environment(help="Only what concerns this one.")
@click.option("--target", help="Only what was done to this, such as flag/new-search.")
@click.option("--limit", default=20, show_default=True, help="At most so many.")
@click.pass_context
def log_command(
    context: click.Context, environment: str | None, target: str | None, limit: int
) -> None:
    """Show what was done, newest first: when, where, to what, by whom, and why."""
    query = {"environment": environment, "target": target, "limit": limit}
    content = options.api(context).send("GET", AUDIT, query=query)[0]
    rows = [
        [
            *(str(entry["seq"]), entry["ts"], entry["environment"] or "–", entry["words"]),
            *(entry["target"], entry["actor"], entry["reason"] or ""),
        ]
        for entry in content["entries"]
    ]
    columns = ("No.>", "When", "Environment", "What", "On what", "Who", "Why")
    say(context, content, table(*columns, rows=rows))


@audit.command("export")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where to; a file that is there is replaced.",
)
@click.pass_context
def export_command(context: click.Context, output: Path) -> None:
    """Write the whole record to a file, for whoever is to verify it without the server."""
    count = 0
    try:
        with output.open("wb") as file:
            for line in _exported(context):
                file.write(line)
                count += line.startswith(b'{"body":')
    except OSError as error:
        raise Failure(f"{output}: {error.strerror}", code="cannot_write") from None
    say(context, {"entries": count, "file": str(output)}, f"✔ {count} entries in {output}.")


def _exported(context: click.Context) -> Iterator[bytes]:
    """Yield the lines of an export of the server's record. Raises Failure."""
    api = options.api(context)
    # First what was signed, then the entries: so none that was signed is missing.
    notes = api.get(f"{AUDIT}/checkpoint")["checkpoints"]
    return exports.written(_log_of(notes), _entries(api), notes)


def _log_of(notes: Sequence[str]) -> str:
    """Return the log's name, which the newest checkpoint's first line begins with."""
    return notes[-1].partition("\n")[0].rpartition("/")[0] if notes else ""


def _entries(api: Api) -> Iterator[Kept]:
    after, more = 0, True
    while more:
        page = api.get(f"{AUDIT}/export", after=after)
        for entry in page["entries"]:
            hashes = (bytes.fromhex(entry[name]) for name in ("leaf", "chain"))
            yield Kept(entry["seq"], entry["body"], *hashes)
            after = entry["seq"]
        more = page["more"]


# --- replay --------------------------------------------------------------------------------------


@audit.command("replay")
@click.option("--export", "export", type=FILE, help="The record, as it was exported just now.")
@click.pass_context
def replay_command(context: click.Context, export: Path | None) -> None:
    """Tell whether flags are what the record says they are: 0 when so, 9 when not.

    What was changed around the server has no entry. Verify the record too: this believes it.
    """
    api = options.api(context)
    state = api.get(f"{AUDIT}/state")
    entries = list(_entries(api)) if export is None else exports.read(export.read_bytes()).entries
    if len(entries) < state["of"]:
        words = f"The export ends at entry {len(entries)}, and flags are of entry {state['of']}."
        raise Failure(f"{words} Export the record again.", code="too_old")
    found = replay((entry.body for entry in entries[: state["of"]]), state["things"])
    say(context, {"kind": _kind(found), **asdict(found)}, _told(found))
    if found.findings:
        context.exit(exits.CHECK_FAILED)


def _kind(found: Replayed) -> str:
    return "around" if found.findings else "same"


def _told(found: Replayed) -> str:
    unknown = f", {len(found.unknown)} cannot be told" if found.unknown else ""
    if not found.findings:
        what = f"{found.things} things are what {found.entries} entries say{unknown}"
        return f"✔ same: {what}"
    lines = [f"✖ around: {len(found.findings)} changes were made around the record{unknown}"]
    lines += [f"  {clean(it.thing)}: {clean(it.words)}" for it in found.findings]
    return "\n".join(lines)


# --- acknowledge ----------------------------------------------------------------------------------


@audit.command("acknowledge")
@click.option("--reason", required=True, help="What became of them; it stands in the record.")
@click.pass_context
def acknowledge_command(context: click.Context, reason: str) -> None:
    """Take it that entries of the record are lost, so that things may be enlarged again.

    Until an admin does so nothing is enlarged. A new epoch begins, whose first entry quotes what
    was signed and is lost; `audit verify` goes on telling of it.
    """
    done, _ = options.api(context).send("POST", f"{AUDIT}/acknowledge", {"reason": reason})
    lost = "Entries" if done["lost"] is None else f"{done['lost']} entries"
    lines = [f"✔ epoch {done['epoch']} of store {done['store']} begins. {lost} are lost."]
    lines += [
        f"  {environment}: {', '.join(keys)} killed, for more were exposed than before"
        for environment, keys in done["killed"].items()
    ]
    say(context, done, "\n".join(lines))


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
