"""What people are told, written down with the change it tells of and delivered afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How loud a notice is."""

    INFO = "info"
    WARNING = "warning"
    PAGE = "page"
    """Wake somebody: rollback failed, shared outage, no controller looks at a live rollout."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing worth telling. It holds nothing about a person, and no request id.

    id: unique; the same on every attempt to deliver it, so that a receiver can tell a repeat.
    kind: what happened, `rollout:started`, `rollout:step:reached`, `rollout:holding`, … as in the
    record.  at: RFC 3339.  subject: what it is about, `rollout/<id>`.
    incident: what belongs together for whoever is paged (trigger and resolve name the same).
    resolves: this notice ends the incident instead of raising it.
    title: one line that says everything.  facts: label -> text, in the order to be shown.
    by_hand: commands to run when we cannot.
    """

    id: str
    kind: str
    severity: Severity
    at: str
    environment: str | None
    service: str | None
    subject: str
    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    incident: str | None = None
    resolves: bool = False
    by_hand: tuple[str, ...] = ()

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Notice:
        """Return the notice that `to_body` wrote down."""
        return cls(
            **{
                **body,
                "severity": Severity(body["severity"]),
                "facts": dict(body["facts"]),
                "by_hand": tuple(body["by_hand"]),
            }
        )

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "severity": str(self.severity), "by_hand": list(self.by_hand)}
