"""The form that starts a rollout, read into the domain's command; and filled from an older one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flagserver.domain import guards
from flagserver.domain.commands import percent_to_ppm
from flagserver.domain.documents import Idempotency
from flagserver.domain.errors import Invalid, Refusal
from flagserver.domain.guards import Guard
from flagserver.domain.rollout import Rollout
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.schedule import Schedule, duration_seconds, duration_text
from flagserver.domain.targets import FLAG, Target
from flagserver.domain.times import from_unix
from flagserver.domain.watchers import Watcher

from . import guard_form
from .forms import Typed, Unusable, build, number

FIELDS = (
    *("environment", "service", "version", "flags", "relation", "rule", "canary", "stable"),
    *("deployment", "schedule", "bake", "keep", "until", "guards", "alarms", "requires"),
    *("start_at", "hold_if_lost", "replace", "requests_per_second"),
)
"""What the form has, but for the rows of guards; a preview carries them along to the start."""

OWN = "own"
"""Guards as the form's rows describe them."""

Read = Callable[[str, str | None], Schedule]
"""(environment, text) -> the schedule that a text means there. Raises Invalid, NotFound."""

_NAMES = re.compile(r"[\s,]+")
_TOKEN = re.compile(r"[0-9a-f]{16,64}")


def carried(typed: Typed) -> dict[str, str]:
    """Return the fields that a preview carries along to the start."""
    kept = {name: typed.text(name) for name in FIELDS}
    return kept | guard_form.fields(guard_form.rows(typed))


def read_rollout(typed: Typed, read: Read) -> NewRollout:
    """Return the rollout that a form asks for. read: the schedules that there are. Raises Unusable,
    Refusal."""
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
        "guards": _guards(typed, text["guards"]),
        "alarms": [line.strip() for line in typed.text("alarms").splitlines() if line.strip()],
        "schedule": _schedule(typed, text, read),
        "until": text["until"] or None,
        "hold_if_lost": text["hold_if_lost"] or None,
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


def _guards(typed: Typed, chosen: str) -> Any:
    """Return the guards, as a command has them: a word, or each by itself."""
    if chosen != OWN:
        if guard_form.is_any(typed):
            typed.errors["guards"] = "To use the guards written below, choose “my own”."
            raise Unusable
        return chosen or "standard"
    found = guard_form.read_guards(typed)
    if not found:
        typed.errors["guards"] = "Write down at least one guard, or choose others."
        raise Unusable
    return found


def _schedule(typed: Typed, text: Mapping[str, str], read: Read) -> str | None:
    """Return the schedule's text; written out with what the form says of its last share."""
    if not text["bake"] and not text["keep"]:
        return text["schedule"] or None
    meant = read(text["environment"], text["schedule"] or None)
    try:
        bake = duration_seconds(text["bake"]) if text["bake"] else meant.bake
    except ValueError:
        typed.errors["bake"] = "Write how long as in 30m or 1h."
        raise Unusable from None
    keep = meant.keep
    if text["keep"]:
        keep = percent_to_ppm(number(typed, "keep", text["keep"], "What is kept"))
    try:
        return replace(meant, bake=bake, keep=keep).text()
    except Invalid as refusal:
        typed.errors["keep" if refusal.field == "/keep" else "bake"] = refusal.detail
        raise Unusable from None


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
    if field == "guards" and len(parts) > 1 and parts[1].isdigit():
        field = f"guards:{parts[1]}"
    if field == "targets":
        place = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
        kinds = [{"kind": target.kind} for target in targets]
        field = _field_of(kinds, place, parts[-1])
    typed.errors[field] = _sentence(refusal.detail)


def _sentence(words: str) -> str:
    """Return words that begin with what they say of a field as a sentence."""
    return f"It {words}" if words.startswith(("must ", "is ")) else words


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
    named = [guard for guard in rollout.guards if guard.named]
    own = [guard for guard in rollout.guards if not guard.named]
    chosen = _chosen(rollout)
    rule = next((target for target in rollout.traffic if target.kind == "alb"), None)
    followed = rollout.followed
    return {
        "environment": rollout.environment,
        "service": rollout.service,
        "version": rollout.version or "",
        "flags": " ".join(target.name for target in rollout.flags),
        "relation": str(rollout.relation),
        "deployment": "" if followed is None else followed.name,
        "rule": "" if rule is None else rule.name,
        "canary": "" if rule is None else str(rule.get("canary") or ""),
        "stable": "" if rule is None else str(rule.get("stable") or ""),
        "schedule": rollout.schedule.text(),
        "until": "" if rollout.until is None else from_unix(rollout.until),
        "hold_if_lost": "" if rollout.watcher is None else _watched(rollout.watcher),
        "guards": chosen,
        "alarms": "\n".join(str(name) for guard in named for name in _alarms(guard)),
        **(guard_form.fields(guard_form.filled(own)) if chosen == OWN else {}),
    }


def _chosen(rollout: Rollout) -> str:
    """Return which of the form's choices a rollout's guards are."""
    own = {guard for guard in rollout.guards if not guard.named}
    groups = {str(target.get("canary")) for target in rollout.traffic}
    hosts = {guard for group in groups for guard in guards.hosts(group)}
    if not own:
        return "none"
    standard = set(guards.standard())
    return "standard" if standard <= own <= standard | hosts else OWN


def _alarms(guard: Guard) -> tuple[str, ...]:
    names = guard.signal.get("alarms")
    return names if isinstance(names, tuple) else ()


def _watched(watcher: Watcher) -> str:
    return duration_text(watcher.lost_after)


def once(typed: Typed, by: str, command: NewRollout) -> Idempotency | None:
    """Return what makes a form that is sent twice one rollout; None where it carries no token."""
    token = typed.text("once")
    if not _TOKEN.fullmatch(token):
        return None
    body = json.dumps(command.model_dump(mode="json"), sort_keys=True)
    fingerprint = hashlib.sha256(f"admin rollout {body}".encode()).hexdigest()
    return Idempotency(f"{by}:form-{token}", fingerprint)
