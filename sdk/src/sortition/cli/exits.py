"""Exit codes: one table from what a server answers to what a pipeline sees."""

from __future__ import annotations

DONE = 0
ERROR = 1
USAGE = 2
ROLLED_BACK = 3
HOLDING = 4
TIMED_OUT = 5
UNREACHABLE = 6
CONFLICT = 7
NOT_PERMITTED = 8
CHECK_FAILED = 9

MEANINGS = {
    DONE: "done",
    ERROR: "error",
    USAGE: "the command was used wrongly",
    ROLLED_BACK: "rolled back, or a rollback that could not be confirmed in time",
    HOLDING: "holding or paused, and `--fail-on-hold` was given",
    TIMED_OUT: "the time was up: watching (the rollout goes on, or is on hold with "
    "`--hold-if-lost`) or waiting for an approval (nothing was started)",
    UNREACHABLE: "the server, its store or a target cannot be reached: try again",
    CONFLICT: "conflict: it has changed meanwhile, or the state of things does not allow it; a "
    "rollout that was watched was replaced by a newer one",
    NOT_PERMITTED: "not permitted, not confirmed, or not approved by a second person",
    CHECK_FAILED: "a check failed; its kind is in `--json`",
}
"""Exit code -> meaning."""

OF_CODE = {
    "already_exists": CONFLICT,
    "approval_lapsed": CONFLICT,
    "approval_required": NOT_PERMITTED,
    "body_too_large": ERROR,
    "confirmation_required": NOT_PERMITTED,
    "conflict": CONFLICT,
    "forbidden": NOT_PERMITTED,
    "idempotency_mismatch": CONFLICT,
    "internal_error": ERROR,
    "invalid_field": ERROR,
    "locked": CONFLICT,
    "malformed_body": ERROR,
    "malformed_request": ERROR,
    "method_not_allowed": ERROR,
    "not_found": ERROR,
    "not_ready": UNREACHABLE,
    "reason_required": NOT_PERMITTED,
    "request_timeout": UNREACHABLE,
    "revision_required": ERROR,
    "stale_revision": CONFLICT,
    "store_unavailable": UNREACHABLE,
    "target_owned": CONFLICT,
    "record_in_doubt": CONFLICT,
    "target_unavailable": UNREACHABLE,
    "too_busy": UNREACHABLE,
    "too_many": UNREACHABLE,
    "too_many_streams": UNREACHABLE,
    "unauthenticated": NOT_PERMITTED,
    "unknown_field": ERROR,
    "unsupported_media_type": ERROR,
    "uri_too_long": ERROR,
}
"""Problem code -> exit code. A code that is not here is an ERROR."""

OPTIONS = {
    "/alarms": "--alarm",
    "/confirm_environment": "--confirm",
    "/conditions": "--condition",
    "/default_schedule": "--schedule",
    "/description": "--description",
    "/environment": "--env",
    "/expires": "--expires",
    "/guards": "--guards",
    "/hold_if_lost": "--lost-after",
    "/key": "KEY",
    "/kind": "--kind",
    "/owner": "--owner",
    "/prerequisites": "--require",
    "/reason": "--reason",
    "/relation": "--relation",
    "/replace": "--replace",
    "/request_id": "--id",
    "/requests_per_second": "--requests-per-second",
    "/rest": "--rest",
    "/schedule": "--schedule",
    "/scope": "--scope",
    "/service": "--service",
    "/share": "--share",
    "/start_at": "--at",
    "/targets": "--flag, --alb or --codedeploy",
    "/until": "--until",
    "/variants": "--variant",
    "/version": "--version",
    "/weights": "--weight",
}
"""Field of a request -> the option that it comes from."""


def of_problem(code: str) -> int:
    """Return the exit code for a problem's code."""
    return OF_CODE.get(code, ERROR)


def option_of(field: str) -> str | None:
    """Return the option that a field came from: `/weights/0/variant` -> `--weight`."""
    return OPTIONS.get("/" + field.lstrip("/").split("/")[0])
