"""`/api/v1/rollouts/{id}/sync`: engines and flags as a rollout left them."""

from __future__ import annotations

from typing import Any

# pydantic asks for this TypedDict below Python 3.12, and brings it.
from typing_extensions import TypedDict

from flagserver.domain import syncing
from flagserver.domain.access import SHRINK
from flagserver.domain.commands import Reasoned, ppm_to_percent
from flagserver.domain.syncing import Finding

from .query import Switch
from .rollouts import ROLLOUT
from .routing import Call, Routes

routes = Routes()


class FindingJson(TypedDict):
    """A target against what the rollout left. wanted, found: percent; found null: unknown."""

    target: str
    wanted: float
    found: float | None
    in_line: bool
    reason: str


class SyncedJson(TypedDict):
    """What came of it. over: false while the rollout is on its way; then there is nothing to do
    yet, and the controller does it.  in_line: everything is as the rollout left it."""

    id: str
    state: str
    over: bool
    in_line: bool
    targets: list[FindingJson]


@routes.add(
    *("POST", f"{ROLLOUT}/sync", SHRINK),
    {200: ("What was found and done.", SyncedJson)},
    model=Reasoned,
    optional_revision=True,
    query={"dry_run": Switch("only say what is found")},
)
def sync_rollout(call: Call, id: str) -> Any:
    """Bring engines and flags to where a rollout left them, as far as that exposes less."""
    asked = (id, call.body, call.principal, call.optional_revision())
    synced = call.services.syncing.sync(*asked, dry=call.query["dry_run"])
    rollout = synced.view.rollout
    return {
        "id": rollout.id,
        "state": str(rollout.state),
        "over": syncing.is_over(rollout),
        "in_line": synced.is_in_line,
        "targets": [_finding(finding) for finding in synced.findings],
    }


def _finding(finding: Finding) -> FindingJson:
    return {
        "target": finding.target.id,
        "wanted": ppm_to_percent(finding.wanted),
        "found": None if finding.found is None else ppm_to_percent(finding.found),
        "in_line": finding.is_in_line,
        "reason": finding.reason,
    }
