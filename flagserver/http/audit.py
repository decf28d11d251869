"""`/api/v1/audit`: the record, for people and for those who check it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import JsonValue
from typing_extensions import TypedDict

from flagserver.domain.access import AUDIT, MANAGE, READ
from flagserver.domain.commands import Acknowledgement

from . import present
from .query import Number, Words
from .routing import Call, Routes, visible

routes = Routes()

PATH = "/api/v1/audit"


class CheckpointsJson(TypedDict):
    """Signed notes, oldest first; none where nothing is signed."""

    checkpoints: list[str]


class StoredJson(TypedDict):
    """An entry as it is stored: the canonical text that its leaf is the hash of, null where it was
    pruned, and the chain."""

    seq: int
    body: str | None
    leaf: str
    chain: str


class ExportJson(TypedDict):
    """Consecutive entries, oldest first; more: ask again, after the last of them."""

    entries: list[StoredJson]
    more: bool


class StandingJson(TypedDict):
    """How the record stands, as far as its server can tell. kind: `whole`, `behind`, `unsigned`,
    `truncated`, `tampered`. enlarging: whether things may be enlarged. checkpoint: the newest."""

    kind: str
    words: str
    entries: int
    signed: int
    enlarging: bool
    checkpoint: str | None


class ThingsJson(TypedDict):
    """Flags (`flag/<key>`) and their states (`<environment>/flag/<key>`) as they are kept, as of
    the record's entry number `of`."""

    of: int
    things: dict[str, dict[str, JsonValue]]


class AcknowledgedJson(TypedDict):
    """What was decided: the store's new epoch, how many entries of before it are still what was
    signed, how many are lost (null where nobody knows), and flags that were killed."""

    store: str
    epoch: int
    kept: int
    lost: int | None
    killed: dict[str, list[str]]


class ProofJson(TypedDict):
    """That an entry is in the tree of the newest checkpoint; see `sortition.record.proofs`."""

    kind: str
    format: int
    seq: int
    body: str | None
    leaf: str
    path: list[str]
    checkpoint: str


@routes.add(
    *("GET", PATH, READ, {200: ("Newest first.", present.HistoryJson)}),
    query={
        "environment": Words("only what concerns this one"),
        "target": Words("only what was done to this, such as flag/new-search"),
        "before": Number("only entries before this number", 1, 10**15 - 1),
        "limit": Number("at most so many", 1, 500, 50),
    },
)
def read_log(call: Call) -> Any:
    """Read the record, newest first."""
    return present.history(
        call.services.audit.log(
            target=call.query["target"] or None,
            environment=visible(call.principal, call.query["environment"]),
            before=call.query["before"],
            limit=call.query["limit"],
        )
    )


@routes.add("GET", f"{PATH}/checkpoint", READ, {200: ("The newest 1,000.", CheckpointsJson)})
def read_checkpoints(call: Call) -> Any:
    """Read how far the record goes, as signed."""
    return {"checkpoints": call.services.audit.checkpoints()}


@routes.add(
    *("GET", f"{PATH}/export", AUDIT, {200: ("A page of it.", ExportJson)}),
    query={
        "after": Number("only entries after this number", 0, 10**15 - 1, 0),
        "limit": Number("at most so many", 1, 1000, 1000),
    },
)
def export_record(call: Call) -> Any:
    """Read the record as it is stored, oldest first, a page at a time. Whoever begins with its
    first entry is noted in it."""
    if call.query["after"] == 0:
        call.services.audit.note_export(call.principal)
    page = call.services.audit.page(call.query["after"], call.query["limit"], call.principal)
    return {
        "entries": [
            {
                "seq": link.seq,
                "body": link.text,
                "leaf": link.leaf.hex(),
                "chain": link.chain.hex(),
            }
            for link in page.links
        ],
        "more": page.more,
    }


@routes.add("GET", f"{PATH}/status", READ, {200: ("How it stands.", StandingJson)})
def read_standing(call: Call) -> Any:
    """Read how the record stands: whether it is signed, and whether anything is lost."""
    return asdict(call.services.audit.standing())


@routes.add("GET", f"{PATH}/state", AUDIT, {200: ("Of one moment.", ThingsJson)})
def read_things(call: Call) -> Any:
    """Read what flags are, to be compared with what the record says they are."""
    of, things = call.services.audit.things(call.principal)
    return {"of": of, "things": things}


@routes.add(
    *("GET", f"{PATH}/proof", AUDIT),
    {
        200: ("For `audit verify --proof`.", ProofJson),
        404: "The entry is not signed, or is none.",
        409: "Nothing of it is signed.",
    },
    query={"entry": Number("the entry; else the newest that is signed", 1, 10**15 - 1)},
)
def read_proof(call: Call) -> Any:
    """Read the proof that an entry is in the newest checkpoint's tree."""
    return call.services.audit.proof(call.query["entry"], call.principal)


@routes.add(
    *("POST", f"{PATH}/acknowledge", MANAGE, {200: ("A new epoch.", AcknowledgedJson)}),
    model=Acknowledgement,
)
def acknowledge_loss(call: Call) -> Any:
    """Take it that entries of the record are lost, so that things may be enlarged again."""
    done = call.services.losses.acknowledge(call.body, call.principal)
    return {
        "store": done.identity.store,
        "epoch": done.identity.epoch,
        "kept": done.kept,
        "lost": done.lost,
        "killed": {name: list(keys) for name, keys in done.killed.items()},
    }
