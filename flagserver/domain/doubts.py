"""When the record is not what was signed: nothing is enlarged until an admin acknowledges it.

A document says so, so that every process knows; an entry of the record and a notice tell of it.
Whoever shrinks or kills waits for nobody. See docs/adr/0020-retention-and-loss.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .documents import Document, Fact, Write
from .errors import RecordInDoubt
from .notices import Notice, Severity

COLLECTION, KEY = "record", "doubt"
"""Where it stands while there is one."""

RAISE, ACCEPT = "record:doubt:raise", "store:accept"
SUBJECT = "record"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why the record is not signed.

    kind: `truncated` or `tampered`, as `sortition audit verify` has them.  since: RFC 3339.
    epoch: of the store.  kept: entries that still are what was signed.  promised: the newest
    checkpoint that was anchored, which an acknowledgement quotes.
    """

    kind: str
    words: str
    since: str
    epoch: int
    kept: int
    promised: str

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Doubt:
        """Return the doubt that a document holds."""
        return cls(**body)

    def write(self) -> Write:
        """Return what makes it known."""
        return Write(COLLECTION, KEY, 0, asdict(self))

    def fact(self) -> Fact:
        """Return what the record says of it."""
        after = {"kind": self.kind, "epoch": self.epoch, "kept": self.kept}
        return Fact("controller", "controller", RAISE, SUBJECT, after=after, reason=self.words)

    def notice(self, store: str) -> Notice:
        """Return what people are told. store: its id, by which installations are told apart."""
        return Notice(
            id=f"{RAISE}:{self.since}",
            kind=RAISE,
            severity=Severity.PAGE,
            at=self.since,
            environment=None,
            service=None,
            subject=SUBJECT,
            title=f"The record is {self.kind}: {self.words}",
            facts={"What it means": "Nothing is enlarged until an admin acknowledges it."},
            incident=f"{SUBJECT}/{store}",
            by_hand=("sortition audit acknowledge",),
        )

    def ends(self, store: str, at: str) -> Notice:
        """Return what people are told once it is acknowledged. at: RFC 3339, now."""
        return Notice(
            id=f"{ACCEPT}:{at}",
            kind=ACCEPT,
            severity=Severity.INFO,
            at=at,
            environment=None,
            service=None,
            subject=SUBJECT,
            title="What the record lost is acknowledged; things may be enlarged again",
            facts={"Told at": self.since},
            incident=f"{SUBJECT}/{store}",
            resolves=True,
        )


def lifted(document: Document) -> Write:
    """Return what takes a doubt away."""
    return Write(COLLECTION, KEY, document.revision, None)


def check(document: Document | None) -> None:
    """Raise RecordInDoubt where there is a doubt: for whatever enlarges exposure."""
    if document is None:
        return
    doubt = Doubt.from_body(document.body)
    raise RecordInDoubt(
        f"The record is {doubt.kind}: {doubt.words} Nothing is enlarged until an admin "
        "acknowledges that (sortition audit acknowledge); shrinking and killing go on."
    )
