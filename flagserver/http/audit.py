"""`/api/v1/audit`: the record, for people and for those who check it."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from flagserver.domain.access import AUDIT, READ

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
    """Read the record as it is stored, oldest first, a page at a time."""
    page = call.services.audit.page(call.query["after"], call.query["limit"], call.principal)
    return {
        "entries": [
            {
                "seq": link.seq,
                "body": None if link.canonical is None else link.canonical.decode(),
                "leaf": link.leaf.hex(),
                "chain": link.chain.hex(),
            }
            for link in page.links
        ],
        "more": page.more,
    }
