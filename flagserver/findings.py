"""What a check found: how it is, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

OK, WARNING, FAILED = "ok", "warning", "failed"
MARKS = {OK: "✔", WARNING: "!", FAILED: "✖"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how it is, and what to do if it is not well."""

    check: str
    state: str
    detail: str
    advice: str = ""


def all_well(findings: Sequence[Finding]) -> bool:
    """Tell whether nothing failed; a warning is no failure."""
    return all(finding.state != FAILED for finding in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings as one JSON object."""
    return json.dumps({"ok": all_well(findings), "checks": [asdict(each) for each in findings]})


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings for people, one a line."""
    width = max((len(finding.check) for finding in findings), default=0)
    width = max(width, 9)
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.state]} {finding.check:<{width}} {finding.detail}")
        if finding.advice:
            lines.append(f"  {'':<{width}} {finding.advice}")
    return "\n".join(lines)
