"""The form that starts a rollout, read into the domain's command; and filled from an older one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from flagserver.domain.documents import Idempotency
from flagserver.domain.errors import Refusal
from flagserver.domain.rollout import Rollout
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.targets import FLAG, Target

from .forms import Typed, Unusable, build

FIELDS = (
    *("environment", "service", "version", "flags", "relation", "rule", "canary", "stable"),
    *("deployment", "schedule", "guards", "alarms", "requires", "start_at", "replace"),
    "requests_per_second",
)
"""What the form has, and what a preview carries along to the start."""

_NAMES = re.compile(r"[\s,]+")
_TOKEN = re.compile(r"[0-9a-f]{16,64}")


def read_rollout(typed: Typed) -> NewRollout:
    """Return the rollout that a form asks for. Raises Unusable."""
    text = {name: typed.text(name).strip() for name in FIELDS}
    targets = _targets(text)
    if not targets:
        typed.errors["flags"] = "Say what moves: a flag, a load balancer's rule, or a deployment."
        raise Unusable
    given: dict[str, Any] = {
        "environment": text["environment"],
        "service": text["service"],
        "version": text["version"] or None,
        "targets": targets,
        "relation": text["relation"] or "lock_step",
        "guards": text["guards"] or "standard",
        "alarms": [line.strip() for line in typed.text("alarms").splitlines() if line.strip()],
        "schedule": text["schedule"] or None,
        "requires": {"environment": text["requires"]} if text["requires"] else None,
        "start_at": text["start_at"] or None,
        "replace": text["replace"] == "yes",
        "requests_per_second": _rate(typed, text["requests_per_second"]),
        "reason": typed.text("reason").strip() or None,
        "confirm_environment": typed.text("confirm_environment").strip() or None,
    }
    try:
        return build(NewRollout, typed, **given)
    except Unusable:
        _move(typed, "targets", _field_of(targets, 0))
        raise


def _targets(text: Mapping[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if text["deployment"]:
        found.append({"kind": "codedeploy", "name": text["deployment"]})
    if text["rule"] or text["canary"] or text["stable"]:
        settings = {"canary": text["canary"], "stable": text["stable"]}
        found.append({"kind": "alb", "name": text["rule"], "settings": settings})
    keys = [key for key in _NAMES.split(text["flags"]) if key]
    found.extend({"kind": FLAG, "name": key} for key in keys)
    return found


def _rate(typed: Typed, text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError:
        typed.errors["requests_per_second"] = "Requests per second must be a number."
        raise Unusable from None


def refuse(typed: Typed, refusal: Refusal, targets: list[Target]) -> None:
    """Put a refusal beside the field of the form that it is about."""
    parts = (refusal.field or "").split("/")[1:]
    if not parts or parts[0] not in {*FIELDS, "targets", "reason", "confirm_environment"}:
        typed.errors[""] = refusal.detail
        return
    field = parts[0]
    if field == "targets":
        place = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
        kinds = [{"kind": target.kind} for target in targets]
        field = _field_of(kinds, place, parts[-1])
    typed.errors[field] = refusal.detail


def _field_of(targets: list[dict[str, Any]], place: int, inside: str = "") -> str:
    kind = targets[place]["kind"] if place < len(targets) else FLAG
    if kind == "alb":
        return inside if inside in {"canary", "stable"} else "rule"
    return {"codedeploy": "deployment"}.get(kind, "flags")


def _move(typed: Typed, field: str, to: str) -> None:
    if field in typed.errors:
        typed.errors.setdefault(to, typed.errors.pop(field))


def filled(rollout: Rollout) -> dict[str, str]:
    """Return the form for the same rollout once more."""
    rule = next((target for target in rollout.traffic if target.kind == "alb"), None)
    return {
        "environment": rollout.environment,
        "service": rollout.service,
        "version": rollout.version or "",
        "flags": " ".join(target.name for target in rollout.flags),
        "relation": str(rollout.relation),
        "rule": "" if rule is None else rule.name,
        "canary": "" if rule is None else str(rule.get("canary") or ""),
        "stable": "" if rule is None else str(rule.get("stable") or ""),
        "schedule": rollout.schedule.text(),
    }


def once(typed: Typed, by: str, command: NewRollout) -> Idempotency | None:
    """Return what makes a form that is sent twice one rollout; None where it carries no token."""
    token = typed.text("once")
    if not _TOKEN.fullmatch(token):
        return None
    body = json.dumps(command.model_dump(mode="json"), sort_keys=True)
    fingerprint = hashlib.sha256(f"admin rollout {body}".encode()).hexdigest()
    return Idempotency(f"{by}:form-{token}", fingerprint)
