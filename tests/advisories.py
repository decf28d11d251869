"""Asking pip-audit what is known to be wrong with the packages of a lock file.

pip-audit ends with "No known vulnerabilities found" and status 0 also when it could ask about none
of them: each is skipped then. Here what was skipped is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KNOWN_TO_BE_WRONG = "pyyaml==5.3"
"""A release with a vulnerability that was published in 2020 (CVE-2020-1747)."""

ASK_SECONDS = 5
AUDIT_SECONDS = 240


def audit(requirements: Path) -> dict[str, Any]:
    """Return pip-audit's report on a file of pinned requirements. Raises RuntimeError when there is
    none, subprocess.TimeoutExpired."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(requirements)),
        *("--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off"),
        *("--timeout", str(ASK_SECONDS)),
    ]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_SECONDS)
    try:
        # Its exit status says "a vulnerability" and "no answer" alike; its report does not.
        return dict(json.loads(asked.stdout))
    except ValueError:
        raise RuntimeError(f"pip-audit told nothing: {asked.stderr[-2000:]}") from None


def wrong(report: Mapping[str, Any]) -> list[str]:
    """Return what of a report must not be, a line for each package: what is known, and whatever was
    not asked about."""
    found = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            found.append(f"{package['name']} was not looked at: {package['skip_reason']}")
        for known in package.get("vulns", ()):
            fixed = ", ".join(known["fix_versions"]) or "no release yet"
            found.append(
                f"{package['name']} {package['version']}: {known['id']} (mended in {fixed})"
            )
    return found or ([] if report["dependencies"] else ["No package was looked at."])


def reached() -> str | None:
    """Return pip-audit's name where it can ask, and knows what everybody knows; else None."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "requirements.txt")
        asked.write_text(f"{KNOWN_TO_BE_WRONG}\n")
        try:
            report = audit(asked)
        except (RuntimeError, subprocess.TimeoutExpired):
            return None
    return "pip-audit" if any(package.get("vulns") for package in report["dependencies"]) else None
